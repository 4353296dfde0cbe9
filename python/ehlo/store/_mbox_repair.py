"""The end of an mbox file after a crash: what is torn is cut off where that is safe, or ended with a line end."""

from __future__ import annotations

import os
import re
import socket
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = [
    "LONGEST_JOURNAL",
    "Journal",
    "Places",
    "journal_for",
    "journal_of",
    "missing_line_ends",
    "places_of",
    "undo",
]

Places: TypeAlias = tuple[str, ...]
"""Each place of an append where ``From `` stands: checksums of the octets that follow, for each length in turn."""

_MARK: Final = "ehlo-mbox-2"
_FROM: Final = b"From "
_PIECE: Final = 256 * 1024
# Each is the length of a text behind "From " that has a checksum. The shortest separator is longer than the first.
_LENGTHS: Final = (16, 32, 64, 128)
_DIGITS: Final = 8
_NUMBER: Final = re.compile("[0-9]{1,20}")  # 64 bits
# A message with more places is not cut off.
_MOST_PLACES: Final = 200
LONGEST_JOURNAL: Final = 1024 + _MOST_PLACES * (_DIGITS * len(_LENGTHS) + 1)


@dataclass(frozen=True, slots=True)
class Journal:
    """Where an append began. It stands in the dot lock, so that whoever finds the lock of a dead process can undo it.

    Attributes:
        host: the name of the host.
        boot: the id of this run of its kernel, ``-`` if that is not known.
        device, inode: the mbox file.
        size: its length in octets before the append.
        places: see :data:`Places`; none when there are too many.
    """

    host: str
    boot: str
    device: int
    inode: int
    size: int
    places: Places = ()

    def to_octets(self) -> bytes:
        """The content of the lock: the process id alone in the first line, as other programs write it."""
        numbers = (str(self.device), str(self.inode), str(self.size))
        fields = (_MARK, self.host, self.boot, *numbers, ",".join(self.places) or "-")
        return f"{os.getpid()}\n{' '.join(fields)}\n".encode("utf-8", "backslashreplace")

    @property
    def is_of_this_host(self) -> bool:
        """Whether the lock was made here. Whether its owner lives can be told on its own host only."""
        return self.host == _host()


def journal_for(fd: int, places: Places = ()) -> Journal:
    """The journal of an append to the file that is open as ``fd``."""
    found = os.fstat(fd)
    return Journal(_host(), _boot(), found.st_dev, found.st_ino, found.st_size, places)


def journal_of(octets: bytes) -> Journal | None:
    """The journal in a lock; ``None`` when another program has written it."""
    words = octets.decode("utf-8", "replace").partition("\n")[2].rstrip("\n").split(" ")
    if len(words) != 7 or words[0] != _MARK or not all(map(_NUMBER.fullmatch, words[3:6])):
        return None
    places = () if words[6] == "-" else tuple(words[6].split(","))
    return Journal(words[1], words[2], int(words[3]), int(words[4]), int(words[5]), places)


def places_of(message: Iterable[bytes]) -> Places:
    """The places of a message that is about to be appended; none when there are too many.

    Arguments:
        message: its octets, in pieces, from its separator on.
    """
    places: list[str] = []
    for offset, text in _froms(message):
        if len(places) == _MOST_PLACES:
            return ()
        places.append(_checksums(offset, text))
    return tuple(places)


def undo(journal: Journal, fd: int) -> None:
    """Cut off the message of a process that died inside its append to the file that is open as ``fd``. The message was
    not acknowledged, because the lock was still there.

    After a restart of the machine that is not sure: the lock may reappear from an old state of the directory. So
    nothing is cut off then. Nothing is cut off either when a ``From `` stands there that the append did not have, even
    in the middle of a line: it may be the message of a program that does not look at the lock.
    """
    now = journal_for(fd)
    same = (journal.host, journal.boot, journal.device, journal.inode) == (now.host, now.boot, now.device, now.inode)
    if same and now.boot != "-" and journal.size < now.size and _is_ours(fd, journal.size, journal.places):
        os.ftruncate(fd, journal.size)


def _is_ours(fd: int, at: int, places: Places) -> bool:
    """Whether from ``at`` to the end of the file there is nothing but the beginning of the append."""
    line_ends = os.pread(fd, 2, at)
    at += len(line_ends) - len(line_ends.lstrip(b"\n"))  # the append began with them
    if not _FROM.startswith(os.pread(fd, len(_FROM), at)):
        return False
    for number, (offset, text) in enumerate(_froms(_read(fd, at))):
        if len(text) < _LENGTHS[0]:  # too short for the separator of anybody
            continue
        if number >= len(places):
            return False
        now, before = _checksums(offset, text), places[number]
        common = min(len(now), len(before))
        if not common or now[common - _DIGITS : common] != before[common - _DIGITS : common]:
            return False
    return True


def _checksums(offset: int, text: bytes) -> str:
    """Of each length that the text has."""
    sums = [zlib.crc32(b"%d %s" % (offset, text[:length])) for length in _LENGTHS if length <= len(text)]
    return "".join(f"{one:0{_DIGITS}x}" for one in sums)


def _froms(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each ``From ``, wherever it stands: its offset, and as much as there is of the text behind it, up to the greatest
    length."""
    octets, start, at = b"", 0, 0  # the octets begin at the offset ``start``; ``at`` is the next to look at
    for piece in pieces:
        octets = octets[at:] + piece
        start, at = start + at, 0
        enough = len(octets) - len(_FROM) - _LENGTHS[-1]
        while 0 <= (found := octets.find(_FROM, at)) <= enough:
            at = found + len(_FROM)
            yield start + found, octets[at : at + _LENGTHS[-1]]
        at = max(at, enough + 1)
    while (found := octets.find(_FROM, at)) >= 0:
        at = found + len(_FROM)
        yield start + found, octets[at : at + _LENGTHS[-1]]


def _read(fd: int, at: int) -> Iterator[bytes]:
    while piece := os.pread(fd, _PIECE, at):
        at += len(piece)
        yield piece


def missing_line_ends(fd: int, size: int) -> bytes:
    """What ends the message before, when a crash or another program did not: a line end, and an empty line.

    Arguments:
        fd: the mbox file.
        size: its length in octets.
    """
    if size == 0:
        return b""
    last = os.pread(fd, 2, max(0, size - 2))
    return b"" if last == b"\n\n" else b"\n" if last.endswith(b"\n") else b"\n\n"


def _host() -> str:
    return "".join(char if char.isprintable() and not char.isspace() else "_" for char in socket.gethostname()) or "-"


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or "-"
    except (OSError, UnicodeDecodeError):
        return "-"
