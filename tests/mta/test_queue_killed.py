"""A queue before a Maildir that is killed at each of its calls, and started again: nothing is lost, nothing is there
twice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit import CONTENT, FakeClock, until

from ehlo.mta import Maildir, Selection, SmartHost, SqliteSpool, open_queue
from ehlo.mta._model import Message, Recipient
from killing import run_alone
from loops import run
from programs import program

PROGRAM = Path(__file__).with_name("queue_kills.py")
STEP = int(os.environ.get("EHLO_KILL_STEP", "3"))  # of the slow test; 1: each call


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reader", ["reader", "nobody"])
def test_a_maildir_behind_a_queue_has_each_message_once(tmp_path: Path, reader: str) -> None:
    (kills,) = run_alone(PROGRAM, tmp_path, reader, STEP)
    print(kills, "kills")
    assert kills > 100 // STEP


@pytest.mark.parametrize("reader", ["reader", "nobody"])
def test_some_of_these_kills(tmp_path: Path, reader: str) -> None:
    (kills,) = run_alone(PROGRAM, tmp_path, reader, 23)
    assert kills > 5


def test_what_was_on_its_way_is_delivered_at_once_after_a_restart(loop: str, tmp_path: Path) -> None:
    """The clock stands still: what a killed process owned is due, whether or not its attempt had begun."""

    async def main() -> None:
        clock, killed, last = FakeClock(), tmp_path / "killed", 81

        async def first_life() -> None:
            async with SqliteSpool(tmp_path / "spool", reserve=0, clock=clock) as spool:
                for number in range(last):
                    about = Message(spool.new_id(), "a@b.example", clock.time(), len(CONTENT))
                    to = Recipient(spool.new_id(), f"{number}@d.example", due=clock.time())
                    await spool.accept(about, [to], CONTENT, owned=True)
                    if number % 2:
                        spool.begun(about, [to])
                shutil.copytree(tmp_path / "spool", killed, ignore=shutil.ignore_patterns("changed"))

        await first_life()
        route = Maildir(tmp_path / "mail")
        spool = SqliteSpool(killed, reserve=0, clock=clock)
        settings: dict[str, Any] = {"hostname": "mx.example", "route": lambda to: route, "clock": clock}
        async with open_queue(spool, **settings) as queue, anyio.create_task_group() as group:
            group.start_soon(queue.run)
            await until(lambda: queue.counters.attempts["delivered"] == last)
            group.cancel_scope.cancel()
        assert len(list((tmp_path / "mail/new").iterdir())) == last

    run(loop, main)


KILLER = """
import os, signal, sys, anyio
import ehlo, ehlo.store
from ehlo.mta import Maildir, open_queue

where, mail, journal, first = sys.argv[1:]

def die(*_, **options):
    print("killed", options["again"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    spool = where
    if where.startswith("postgresql:"):
        from ehlo.mta._postgres_spool import PostgresSpool
        spool = PostgresSpool(where, journal=journal or None)
    async with open_queue(spool, hostname="mx.example", route=lambda to: Maildir(mail)) as queue:
        if first:
            await queue.submit(("a@b.example", ["c@d.example"]), b"text")
        ehlo.store.Maildir.begin = die
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run)
            while (await queue.spool.totals()).held < 1:
                await anyio.sleep(0.01)
            print("held", flush=True)
            group.cancel_scope.cancel()

anyio.run(main)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "postgres-alone"])
def test_a_message_that_kills_its_process_is_held(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    where = str(tmp_path / "spool") if kind == "sqlite" else request.getfixturevalue("fresh")
    journal = str(tmp_path / "journal") if kind == "postgres" else ""
    said = []
    for life in range(5):
        command = [sys.executable, "-c", KILLER, where, str(tmp_path / "mail"), journal, "first" if life == 0 else ""]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        said.append(done.stdout)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert said == ["killed False\n", "killed True\n", "killed True\n", "held\n"]


def test_a_message_is_not_held_because_its_queue_ends_within_attempts(loop: str, make: Callable[[], Any]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = SmartHost("127.0.0.1", silent.getsockname()[1])
            for life in range(4):
                async with (
                    open_queue(make(), hostname="mx.example", route=lambda to: host) as queue,
                    anyio.create_task_group() as group,
                ):
                    if life == 0:
                        await queue.submit(("a@b.example", ["c@d.example"]), b"text")
                    group.start_soon(queue.run)
                    connection, _ = await anyio.to_thread.run_sync(silent.accept)
                    group.cancel_scope.cancel()
                connection.close()
        async with make() as spool:
            [entry] = await spool.entries(Selection())
            assert (entry.state, entry.recipient.crashes, entry.recipient.attempts) == ("ready", 0, 4)

    run(loop, main)


CLAIM = """
import sys, anyio
from ehlo.mta import SqliteSpool
from ehlo.mta._model import Message, Recipient

async def main():
    async with SqliteSpool(sys.argv[1], reserve=0) as spool:
        async def accept():
            about = Message(spool.new_id(), "a@b.example", 0.0, 4)
            await spool.accept(about, [Recipient(spool.new_id(), "c@d.example")], b"text", owned=False)
        for _ in range(3):
            await accept()
        print("claims", file=sys.stderr, flush=True)
        for _ in range(3):
            assert len(await spool.claim(1.0, 1)) == 1
        print("an accept", file=sys.stderr, flush=True)
        await accept()
        print("end", file=sys.stderr, flush=True)

anyio.run(main)
"""


def test_a_claim_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """An accept does. What is owned is ready again after a power cut, so a claim needs no flush."""
    strace = program("strace")
    command = [strace, "-f", "-e", "trace=write,fsync,fdatasync", "-e", "signal=none", "-o", str(tmp_path / "trace")]
    done = subprocess.run([*command, sys.executable, "-c", CLAIM, tmp_path / "spool"], capture_output=True, check=False)
    if b"ptrace" in done.stderr.lower():
        pytest.skip("no process can be traced here")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "trace").read_text().splitlines()
    marks = [next(at for at, line in enumerate(lines) if mark in line) for mark in ('"claims', '"an accept', '"end')]
    claims, accept = lines[marks[0] : marks[1]], lines[marks[1] : marks[2]]
    assert [line for line in claims if "sync(" in line] == []
    assert [line for line in accept if "sync(" in line]
