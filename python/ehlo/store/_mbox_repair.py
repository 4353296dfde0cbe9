"""The end of an mbox file after a crash: what is torn is cut off where that is safe, or ended with a line end."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from typing import Final

__all__ = ["Journal", "journal_for", "journal_of", "missing_line_ends", "undo"]

_MARK: Final = "ehlo-mbox-1"
_FROM: Final = b"From "
# A separator wherever it stands: "From SENDER Tue Nov 24 03:00:00 2026".
_SEPARATOR: Final = re.compile(rb"From [^\n]*\d\d:\d\d[^\n]* \d{4}")
_PIECE: Final = 256 * 1024
_LONGEST_SEPARATOR: Final = 1024


@dataclass(frozen=True, slots=True)
class Journal:
    """Where an append began. It stands in the dot lock, so that whoever finds the lock of a dead process can undo it.

    Attributes:
        host: the name of the host.
        boot: the id of this run of its kernel, ``-`` if that is not known.
        device, inode: the mbox file.
        size: its length in octets before the append.
    """

    host: str
    boot: str
    device: int
    inode: int
    size: int

    def to_octets(self) -> bytes:
        """The content of the lock: the process id alone in the first line, as other programs write it."""
        fields = (_MARK, self.host, self.boot, str(self.device), str(self.inode), str(self.size))
        return f"{os.getpid()}\n{' '.join(fields)}\n".encode("utf-8", "backslashreplace")

    @property
    def is_of_this_host(self) -> bool:
        """Whether the lock was made here. Whether its owner lives can be told on its own host only."""
        return self.host == _host()


def journal_for(fd: int) -> Journal:
    """The journal of an append to the file that is open as ``fd``."""
    found = os.fstat(fd)
    return Journal(_host(), _boot(), found.st_dev, found.st_ino, found.st_size)


def journal_of(octets: bytes) -> Journal | None:
    """The journal in a lock; ``None`` when another program has written it."""
    words = octets.decode("utf-8", "replace").partition("\n")[2].rstrip("\n").split(" ")
    if len(words) != 6 or words[0] != _MARK or not all(word.isdecimal() and word.isascii() for word in words[3:]):
        return None
    return Journal(words[1], words[2], int(words[3]), int(words[4]), int(words[5]))


def undo(journal: Journal, fd: int) -> None:
    """Cut off the message of a process that died inside its append to the file that is open as ``fd``. The message was
    not acknowledged, because the lock was still there.

    After a restart of the machine that is not sure: the lock may reappear from an old state of the directory. So
    nothing is cut off then. Nothing is cut off either when another separator stands behind the beginning of the append,
    even in the middle of a line, where a program that does not look has put it.
    """
    now = journal_for(fd)
    same = (journal.host, journal.boot, journal.device, journal.inode) == (now.host, now.boot, now.device, now.inode)
    if same and now.boot != "-" and journal.size < now.size and _is_one_message(fd, journal.size):
        os.ftruncate(fd, journal.size)


def _is_one_message(fd: int, at: int) -> bool:
    """Whether from ``at`` to the end of the file there is one message, or the beginning of one."""
    octets = os.pread(fd, _PIECE, at)
    at += len(octets)
    octets = octets.lstrip(b"\n")  # line ends that the append began with
    if not octets.startswith(_FROM[: len(octets)]):
        return False
    octets = octets[len(_FROM) :]
    while octets:
        if _SEPARATOR.search(octets):
            return False
        line = octets[octets.rfind(b"\n") + 1 :][-_LONGEST_SEPARATOR:]
        piece = os.pread(fd, _PIECE, at)
        at += len(piece)
        octets = line + piece if piece else b""
    return True


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
