"""A queue that is killed at each of its calls of the system in turn, and started again.

A test runs this file as a program of its own, because it forks.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anyio

import ehlo
from ehlo.mta import Maildir, SqliteSpool, open_queue
from killing import killed

CONTENT = b"From: a@b.example\r\nSubject: hi\r\n\r\n" + b"text\r\n" * 1000
NAMES = ("jane", "joe")


async def run(folder: Path, accepts: bool) -> None:
    """A life of the queue: until all that it has is delivered."""

    def route(recipient: ehlo.Recipient) -> Maildir:
        return Maildir(folder / "mail/{local_part}")

    spool = SqliteSpool(folder / "spool", reserve=0)
    with anyio.fail_after(120):
        async with open_queue(spool, hostname="mx.example", route=route) as queue, anyio.create_task_group() as group:
            group.start_soon(queue.run)
            if accepts:
                await queue.submit(("a@b.example", [f"{name}@d.example" for name in NAMES]), CONTENT)
                (folder / "acknowledged").touch()
            while (totals := await queue.spool.totals()).ready + totals.owned:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            assert not totals.held
            group.cancel_scope.cancel()


def read(folder: Path) -> None:
    """A reader takes what is new, and puts its flags behind the names."""
    for path in folder.glob("mail/*/new/*"):
        path.rename(path.parents[1] / "cur" / f"{path.name}:2,S")


def check(folder: Path, at: tuple[int, ...]) -> None:
    for name in NAMES:
        found = [*folder.glob(f"mail/{name}/new/*"), *folder.glob(f"mail/{name}/cur/*")]
        assert len(found) <= 1, (at, found)
        assert found or not (folder / "acknowledged").exists(), at
        assert all(path.read_bytes().endswith(b"\n\n" + b"text\n" * 1000) for path in found), at


def main(folder: Path, reads: bool, step: int) -> None:
    def life(at: int, accepts: bool) -> bool:
        is_killed = killed(lambda: anyio.run(run, round_, accepts), at)
        if reads:
            read(round_)
        return is_killed

    first, round_ = folder / "first", folder / "round"
    first.mkdir()
    killed(lambda: anyio.run(run, first, False), 0)
    kills = 0
    at = again = 1
    while True:
        shutil.rmtree(round_, ignore_errors=True)
        shutil.copytree(first, round_, ignore=shutil.ignore_patterns("changed"))  # a pipe
        if not life(at, accepts=True):
            break
        if life(again, accepts=False):  # the second life is killed, too, somewhere else each time
            again += 7
        else:
            again = 1
        life(0, accepts=False)
        check(round_, (at, again))
        kills += 1
        at += step
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "reader", int(sys.argv[3]))
