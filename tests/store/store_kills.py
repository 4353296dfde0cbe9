"""A process that is killed at each of its system calls in turn, for the tests of what a kill leaves behind.

A test runs this file as a program of its own, because it forks.
"""

from __future__ import annotations

import mailbox
import os
import shutil
import sys
from pathlib import Path

from boxes import NOW, envelope, in_maildir

from ehlo.store import Maildir, Mbox
from killing import killed

SEPARATOR = b"From x@y Tue Nov 24 03:00:00 2026"
# What a reader may take for the beginning of a message, in the middle of one: quoted, twice quoted, inside a line.
LINES = (b"first", SEPARATOR, b">" + SEPARATOR, b"a letter From him at 10:30 in 2024", b"From here", b">", b"last")


def message(subject: str, pad: int = 1) -> bytes:
    return b"Subject: %s\r\n\r\n%s\r\n" % (subject.encode(), b"\r\n".join([*LINES, b"x" * pad]))


def read(kind: type[Maildir] | type[Mbox], box: Path) -> list[bytes]:
    """All messages, with the line ends and without the quoting of the files."""
    if kind is Maildir:
        return in_maildir(box)
    opened = mailbox.mbox(box, create=False)
    try:
        return [octets.rstrip(b"\n") + b"\n" for octets in map(opened.get_bytes, opened.keys())]
    finally:
        opened.close()


def subjects(kind: type[Maildir] | type[Mbox], box: Path, pad: int) -> list[str]:
    """The subjects of all messages. Each of them is whole."""
    found = []
    for octets in read(kind, box):
        head, _, body = octets.partition(b"\n\n")
        subject = head.rpartition(b"Subject: ")[2].decode()
        whole = message(subject, pad).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
        if kind is Mbox:
            whole = b"".join(b">" * (line.lstrip(b">").startswith(b"From ")) + line for line in whole.splitlines(True))
        assert body == whole, octets
        found.append(subject)
    return found


def each_call(kind: type[Maildir] | type[Mbox], folder: Path, pad: int, *, twice: bool) -> None:
    """Kill a delivery at each call; with ``twice`` kill the next delivery, too, which repairs, at each of its calls."""
    box, acknowledged = folder / "box", folder / "acknowledged"

    def deliver(subject: str) -> None:
        kind(box).deliver(envelope_, message(subject, pad), now=NOW)
        acknowledged.touch()  # with a call that is not counted

    def begin() -> None:
        acknowledged.unlink(missing_ok=True)
        if box.is_dir():
            shutil.rmtree(box)
        for left in folder.iterdir():
            left.unlink()
        kind(box).deliver(envelope_, message("1", pad), now=NOW)

    def check(at: tuple[int, ...], acknowledged: list[str]) -> None:
        """All that was acknowledged is there, and nothing is there twice. What was not may be there, too."""
        found = subjects(kind, box, pad)
        assert len(set(found)) == len(found), (at, found)
        assert set(acknowledged) <= set(found), (at, found)

    envelope_ = envelope()
    points = pairs = 0
    while True:
        points += 1
        begin()
        if not killed(lambda: deliver("2"), points):
            break
        wanted = ["1", "2"] if acknowledged.exists() else ["1"]
        again = 0
        while twice:
            again += 1
            begin()
            killed(lambda: deliver("2"), points)
            acknowledged.unlink(missing_ok=True)
            if not killed(lambda: deliver("3"), again):
                break
            there = [*wanted, "3"] if acknowledged.exists() else wanted
            deliver("4")
            check((points, again), [*there, "4"])
            pairs += 1
        if not twice:
            deliver("3")
        check((points,), [*wanted, "3"])
        if kind is Mbox:
            assert os.listdir(folder) == ["box"] or sorted(os.listdir(folder)) == ["acknowledged", "box"]
    print(points - 1, pairs)


def each_octet(folder: Path, stranger: bytes, step: int) -> None:
    """Tear the write of a message behind each of its octets. Then a program appends that looks at no lock."""
    box = folder / "box"
    envelope_ = envelope()
    Mbox(box).deliver(envelope_, message("1"), now=NOW)
    first = box.read_bytes()
    for tear in range(0, len(first), step):
        for left in folder.iterdir():
            left.unlink()
        box.write_bytes(first)
        assert killed(lambda: Mbox(box).deliver(envelope_, message("2"), now=NOW), 0, tear=tear, begins=b"From ")
        with box.open("ab") as file:
            file.write(stranger)
        torn = box.read_bytes()
        assert len(torn) == len(first) + tear + len(stranger)
        Mbox(box).deliver(envelope_, message("3"), now=NOW)
        if not stranger:
            assert subjects(Mbox, box, 1) == ["1", "3"], tear
        else:
            assert box.read_bytes().startswith(torn), tear
    print(len(first))


if __name__ == "__main__":
    _, test, place, *rest = sys.argv
    if test == "each_call":
        each_call({"Maildir": Maildir, "Mbox": Mbox}[rest[0]], Path(place), int(rest[1]), twice=rest[2] == "twice")
    else:
        each_octet(Path(place), bytes.fromhex(rest[0]), int(rest[1]))
