"""The delivered journal: attempts that began, and recipients that a next hop took and whose commit is still to come.

An entry is written when an attempt begins, and when it ends, without a flush: the kernel has it then, so that it
outlives the process. It is read at the next start. So a killed process repeats fewer deliveries, and a message that
kills the process is known.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from ehlo.mta._spool import SpoolError

__all__ = ["Journal", "alone"]

# Message and recipient. An attempt began: the message's id is negative. It ended without delivery, or the spool knows
# how it ended: both are.
_ENTRY: Final = struct.Struct("<qq")
_LONG: Final = 1048576


class _TakenError(SpoolError):
    """Another process has the file, or has just taken it away."""


@contextmanager
def alone(folder: Path, *, seconds: float = 0.0) -> Iterator[bool]:
    """One process of a machine at a time learns from the journals of the dead. Gives whether it is this one.

    The lock of a journal does not show whether its owner writes it, or still reads what a dead process wrote. While one
    process reads, no other takes over recipients: it would deliver again what the dead process had delivered.

    Arguments:
        folder: of the journals. It is made where it is missing.
        seconds: to wait for the other process. It may be stopped, so nobody waits for it for ever.

    Raises:
        SpoolError: the folder cannot be written, or its disk knows no locks.

    Example::

        with alone(folder) as is_alone: ...
    """
    descriptor = -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "learning", os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + seconds
        while not (is_alone := _locks(descriptor)) and time.monotonic() < end:
            time.sleep(0.01)
    except OSError as exc:
        if descriptor >= 0:
            os.close(descriptor)
        raise SpoolError(f"the folder of the delivered journal {folder} cannot be written: {exc.strerror}") from exc
    try:
        yield is_alone
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Journal:
    """One file of entries. A process locks it.

    Arguments:
        path: of the file. It is made where it is missing.

    Raises:
        SpoolError: it cannot be written, or another process has it.

    Example::

        journal = Journal(Path("spool/delivered"))
        delivered, broken_off = journal.entries()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun: set[tuple[int, int]] = set()
        self._delivered: set[tuple[int, int]] = set()
        self._left: list[Journal] = []
        try:
            self._descriptor = _open_locked(path)
        except _TakenError:
            raise
        except OSError as exc:
            raise SpoolError(f"the delivered journal {path} cannot be written: {exc.strerror}") from exc
        self._octets = os.fstat(self._descriptor).st_size

    @classmethod
    def in_folder(cls, folder: Path) -> Journal:
        """One of the files of a folder that the processes of a machine share. It stands for the files of processes
        that are gone, too, and locks them until :meth:`clear`. Until then the process must be :func:`alone`.

        Raises:
            SpoolError: the folder cannot be written.
        """
        found: list[Journal] = []
        try:
            for path in _files(folder):
                with suppress(_TakenError):
                    found.append(cls(path))
            for number in count(1):
                if found:
                    own, *own._left = found
                    return own
                path = folder / f"delivered-{number}"
                if not path.exists():
                    with suppress(_TakenError):  # another process was faster
                        found.append(cls(path))
        except BaseException:
            for each in found:
                each.close()
            raise
        raise AssertionError  # count() has no end

    @classmethod
    def of_the_dead(cls, folder: Path) -> Iterator[Journal]:
        """The files that processes of this machine left behind, one after the other. Each is locked until the next one
        is asked for. The process must be :func:`alone`.

        Example::

            for journal in Journal.of_the_dead(folder): learn(journal.entries())
        """
        for path in _files(folder):
            with suppress(_TakenError):
                journal = cls(path)
                try:
                    yield journal
                finally:
                    journal.close()

    def entries(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What an earlier process wrote: recipients that were delivered, and those whose attempt did not end. Half an
        entry at the end is no entry.
        """
        delivered: dict[tuple[int, int], None] = {}
        begun: dict[tuple[int, int], None] = {}
        for path in (self._path, *(each._path for each in self._left)):
            octets = path.read_bytes()
            for message, recipient in _ENTRY.iter_unpack(octets[: len(octets) // _ENTRY.size * _ENTRY.size]):
                key = (abs(message), abs(recipient))
                if message < 0 < recipient:
                    begun[key] = None
                else:
                    begun.pop(key, None)
                    if message > 0:
                        delivered[key] = None
        return list(delivered), list(begun)

    def clear(self) -> None:
        """Forget what is written: the spool knows it."""
        os.ftruncate(self._descriptor, 0)
        self._octets = 0
        for each in self._left:
            each._path.unlink(missing_ok=True)
            each.close()
        self._left.clear()

    def begin(self, message: int, recipients: Sequence[int]) -> None:
        """An attempt begins."""
        self._begun.update((message, one) for one in recipients)
        self._write((-message, one) for one in recipients)

    def end(self, message: int, delivered: Sequence[int], others: Sequence[int]) -> None:
        """An attempt ended: a next hop took the message for some of its recipients. A disk that is full costs only
        these entries.
        """
        self._begun.difference_update((message, one) for one in (*delivered, *others))
        self._delivered.update((message, one) for one in delivered)
        self._write([(message, one) for one in delivered] + [(-message, -one) for one in others])

    def remove(self, message: int, recipients: Iterable[int]) -> None:
        """The spool knows that they are delivered. A long file is begun anew, with the entries that are still open."""
        self._delivered.difference_update((message, one) for one in recipients)
        if self._octets > _LONG:
            with suppress(OSError):
                self._begin_anew()

    def close(self) -> None:
        """Leave the files as they are."""
        os.close(self._descriptor)
        for each in self._left:
            each.close()

    def _write(self, entries: Iterable[tuple[int, int]]) -> None:
        octets = b"".join([_ENTRY.pack(*entry) for entry in entries])
        with suppress(OSError):
            written = os.write(self._descriptor, octets)
            if written == len(octets):
                self._octets += written
            else:  # a part of an entry would shift all that follow
                os.ftruncate(self._descriptor, self._octets)

    def _begin_anew(self) -> None:
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        octets = b"".join([_ENTRY.pack(*entry) for entry in self._delivered])
        octets += b"".join([_ENTRY.pack(-message, recipient) for message, recipient in self._begun])
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._octets = os.write(descriptor, octets)
            os.rename(new, self._path)
        except OSError:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor


def _files(folder: Path) -> list[Path]:
    """Those of all processes."""
    return sorted(folder.glob("delivered-*[0-9]"))


def _open_locked(path: Path) -> int:
    """A descriptor of the file, which this process holds alone. It is made where it is missing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Before the lock, its last owner may have removed the file or put a new one there.
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise _TakenError("the delivered journal is another file now")
    except (BlockingIOError, FileNotFoundError) as exc:
        os.close(descriptor)
        raise _TakenError(f"the delivered journal {path} belongs to another process") from exc
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
