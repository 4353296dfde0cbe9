"""A file system that is really full, memory that stays bounded, a clock that jumps, and large groups."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import ehlo
from ehlo.mta._clock import SystemClock
from ehlo.mta._ids import IdMaker
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._spool import Selection, SpoolError
from ehlo.mta._sqlite_spool import SqliteSpool
from ehlo.mta._sqlite_store import SqliteStore
from ehlo.mta._store import Accept, Finish
from loops import run

NOW = 1_700_000_000.0
OK = ehlo.Reply(250, "2.0.0", "ok")


async def finish(spool: Any, about: Message, outcomes: list[Outcome]) -> None:
    event, errors = anyio.Event(), []

    def done(error: BaseException | None) -> None:
        errors.append(error)
        event.set()

    spool.finish(about, outcomes, [], done)
    await event.wait()
    assert errors == [None]


@contextmanager
def file_system(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with file_system(tmp_path / "small", "4m") as folder:
        yield folder


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="root mounts a small file system")
@pytest.mark.parametrize("octets", [4000, 200_000, 400_000])
def test_a_full_file_system_loses_nothing_and_empties(loop: str, small: Path, octets: int) -> None:
    async def main() -> None:
        accepted: set[int] = set()
        async with SqliteSpool(small / "spool", reserve=0) as spool:
            error: OSError | None = None
            while error is None:
                about = Message(spool.new_id(), "a@b.example", NOW, octets)
                try:
                    await spool.accept(about, [Recipient(spool.new_id(), "c@d.example", due=NOW)], b"x" * octets, False)
                except OSError as exc:
                    error = exc
                else:
                    accepted.add(about.id)
            # Either is 452 to the client.
            assert (isinstance(error, SpoolError) and error.reply.code == 452) or error.errno == 28
            assert accepted
        async with SqliteSpool(small / "spool", reserve=0) as spool:
            assert {one.message.id for one in await spool.entries(Selection(), 10_000)} == accepted
            assert [one for one in await spool.verify(repair=False) if one.kind != "orphaned content"] == []

    run(loop, main)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="root mounts a small file system")
def test_a_full_disk_is_named_when_the_spool_cannot_be_opened(small: Path) -> None:
    async def main() -> None:
        async with SqliteSpool(small / "spool"):
            pass
        with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(65536)):
                pass
        with pytest.raises(SpoolError, match=r"cannot be opened: .*; its disk is full"):
            await SqliteSpool(small / "spool").open()
        (small / "filler").unlink()
        async with SqliteSpool(small / "spool"):
            pass

    run("asyncio", main)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="root mounts a small file system")
@pytest.mark.parametrize("octets", [100_000, 300_000])  # in a row, whose place in the database is used again; in a file
def test_what_ends_makes_room_on_a_full_file_system(loop: str, tmp_path: Path, octets: int) -> None:
    async def main(folder: Path) -> None:
        async with SqliteSpool(folder, reserve=24_000_000) as spool:
            number = 0
            while spool.refusal(octets) is None:
                about = Message(spool.new_id(), "a@b.example", NOW, octets)
                row = Recipient(spool.new_id(), "c@d.example", due=NOW)
                await spool.accept(about, [row], b"x" * octets, False)
                spool._seen = (float("-inf"), 0)  # look at the disk again
                number += 1
            assert number >= 50
            for message, rows in await spool.claim(NOW, 1000):
                await finish(spool, message, [Outcome(row, "relayed", OK) for row in rows])
            spool._seen = (float("-inf"), 0)
            assert spool.refusal(octets) is None

    with file_system(tmp_path / "small", "56m") as folder:
        run(loop, lambda: main(folder / "spool"))


def test_a_large_content_streams_in_and_out_in_little_memory(loop: str, make: Callable[[], Any]) -> None:
    """Ten times the content, and the same memory."""

    async def main() -> None:
        peaks = []
        async with make() as spool:
            for octets in (2_000_000, 20_000_000):
                tracemalloc.start()
                stage = await spool.stage()
                for _ in range(octets // 50_000):
                    await stage.write(b"x" * 50_000)
                about = Message(spool.new_id(), "a@b.example", NOW, octets)
                row = Recipient(spool.new_id(), "c@d.example", due=NOW)
                await spool.accept(about, [row], stage, True)
                content = await spool.read(about)
                assert not isinstance(content, bytes)
                read = 0
                async for chunk in content():
                    read += len(chunk)
                assert read == octets
                await finish(spool, about, [Outcome(row, "relayed", OK)])
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        assert peaks[1] < peaks[0] + 1_000_000
        assert peaks[1] < 5_000_000

    run(loop, main)


class JumpingClock:
    now = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return 0.0

    async def wait(self, event: Any, seconds: float) -> bool:
        raise NotImplementedError


def test_ids_go_forward_where_the_clock_goes_back(tmp_path: Path) -> None:
    clock = JumpingClock()

    async def main() -> None:
        ids = []
        for jump in (0, -86400, 864000, -5 * 86400):
            clock.now += jump
            async with SqliteSpool(tmp_path, reserve=0, clock=clock) as spool:
                for _ in range(3):
                    about = Message(spool.new_id(), "a@b.example", clock.now, 1)
                    ids.append(about.id)
                    row = Recipient(spool.new_id(), "c@d.example", due=clock.now)
                    await spool.accept(about, [row], b"x", False)
        assert ids == sorted(set(ids))
        async with SqliteSpool(tmp_path, reserve=0, clock=clock) as spool:
            # What arrived in the future waits until the clock is there; the rest is due.
            assert len(await spool.claim(clock.now, 100)) == 9
            assert len(await spool.claim(NOW + 10 * 86400, 100)) == 3

    run("asyncio", main)


def test_ids_of_two_slots_differ() -> None:
    clock = JumpingClock()
    first, second = IdMaker(clock.time, 1), IdMaker(clock.time, 2)
    made = {maker() for maker in (first, second) for _ in range(5000)}
    assert len(made) == 10_000


def test_a_group_takes_few_statements(tmp_path: Path) -> None:
    # each step of a statement gives the interpreter's lock away
    store = SqliteStore(tmp_path / "queue.db", SystemClock(), lambda names: None, False)
    store.open()
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    messages = [Message(1 + number, "a@b.example", NOW, 4) for number in range(120)]
    recipients = [Recipient(1, "c@d.example"), Recipient(2, "e@d.example")]
    for one in messages:
        one.recipients = 2
    store.write([Accept(one, recipients, b"text", True, NOW, lambda *_: None) for one in messages], False)
    assert len(statements) < 20
    assert store._connection.execute("SELECT count(*), sum(owner) FROM recipient").fetchall() == [(240, 240)]
    assert store.body(120) == b"text"
    statements.clear()
    outcomes = [Outcome(one, "relayed", OK) for one in recipients]
    store.write([Finish(one, outcomes, [], NOW, lambda *_: None) for one in messages], False)
    assert len(statements) < 20
    for table in ("message", "recipient", "body"):
        assert store._connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    store.close()
