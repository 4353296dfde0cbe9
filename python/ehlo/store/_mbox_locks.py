"""Locks of an mbox file: the record lock that dies with its process, and the dot lock that other programs expect."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import threading
import time
import weakref
from typing import Final

from ehlo.store._files import write_all
from ehlo.store._mbox_repair import LONGEST_JOURNAL, Places, journal_for, journal_of, undo

try:
    import fcntl
except ImportError:  # a system without POSIX locks; an Mbox says so
    fcntl = None  # type: ignore[assignment]

__all__ = ["DotLock", "can_lock", "lock_record", "turn_of"]

_STALE_SECONDS: Final = 500.0  # as Postfix has it
_LONGEST_PID: Final = 20  # digits
_BUSY: Final = (errno.EACCES, errno.EAGAIN)
# A directory that is not ours to write to, or a file system without hard links.
_NO_DOT_LOCK: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.ENOSYS)
_turns: weakref.WeakValueDictionary[str, _Turn] = weakref.WeakValueDictionary()
_turns_lock: Final = threading.Lock()


class _Turn:
    """Whose turn it is among the threads of this process: they need not ask the file system again and again."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


def can_lock() -> bool:
    """Whether this system has POSIX record locks."""
    return fcntl is not None


def turn_of(path: str) -> _Turn:
    """The turn that all stores of this process share for one file."""
    with _turns_lock:
        return _turns.setdefault(path, _Turn())


def lock_record(fd: int) -> bool:
    """Try to lock an open file for writing, as ``fcntl`` does it. The lock goes when the file is closed, or with the
    process. ``False``: somebody else holds it.

    Where the system has them, the lock belongs to the open file and not to the process: so two threads exclude each
    other, and closing the same file elsewhere in this process does not take the lock away.
    """
    command = getattr(fcntl, "F_OFD_SETLK", None)
    try:
        if command is not None:
            try:
                fcntl.fcntl(fd, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
                return True
            except OSError as error:
                if error.errno != errno.EINVAL:  # an old kernel, or a file system that has no such locks
                    raise
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


class DotLock:
    """The file ``NAME.lock`` beside an mbox, for programs that look at nothing else. To be taken by who holds the
    record lock of the mbox, and without waiting (Debian Policy 11.6): so nobody waits while holding one of the two.

    Its owner holds a record lock on the lock file itself. So a lock of ours whose record lock is free belonged to a
    process that is dead: its append is undone, and the lock is taken away at once. The lock of another program, or of
    another host, is taken away when it is 500 seconds old.

    Arguments:
        path: the mbox file; not a symbolic link.
        places: of the message that is to be appended.
    """

    __slots__ = ("_fd", "_name", "_places")

    def __init__(self, path: str, places: Places) -> None:
        self._places = places
        self._name = path + ".lock"
        self._fd: int | None = None

    def take(self, mbox: int) -> bool:
        """Try to get the lock for the file that is open as ``mbox``. ``False``: somebody else holds it.

        A directory where no file can be made has no dot lock: then the record lock is all there is.
        """
        try:
            return self._make(mbox) or (self._remove_dead(mbox) and self._make(mbox))
        except OSError as error:
            if error.errno in _NO_DOT_LOCK:
                return True
            raise

    def release(self) -> None:
        """Remove the lock if it is still ours."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.lstat(self._name)):
                    os.unlink(self._name)
        finally:
            os.close(fd)

    def why_taken(self) -> str | None:
        """Who has the lock, and what helps; ``None`` if nobody has it, or a process of ours."""
        try:
            found = os.lstat(self._name)
        except OSError:
            return None
        if stat.S_ISDIR(found.st_mode):
            return f"{self._name} is a directory and no lock: remove it"
        fd = self._open_found(found)
        octets = b""
        if fd is not None:
            try:
                octets = os.read(fd, LONGEST_JOURNAL)
            finally:
                os.close(fd)
        journal = journal_of(octets)
        if journal is not None and journal.is_of_this_host:
            return None
        first = octets.partition(b"\n")[0].strip()
        process = f" (process {first.decode()})" if first.isdigit() and len(first) < _LONGEST_PID else ""
        return (
            f"{self._name} is a lock of another program{process}, or of ehlo 0.1: remove it if that program has ended. "
            f"It is removed {_STALE_SECONDS:.0f} seconds after it was made"
        )

    def _make(self, mbox: int) -> bool:
        """Make the lock under another name first, then link it: so it appears whole, locked and with its journal."""
        journal = journal_for(mbox, self._places)
        before = self._name + ".ehlo"
        with contextlib.suppress(FileNotFoundError):  # of a process that died here; we hold the record lock of the mbox
            os.unlink(before)
        with contextlib.ExitStack() as stack:
            try:
                fd = os.open(before, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
                stack.callback(os.close, fd)
                try:
                    lock_record(fd)
                    write_all(fd, journal.to_octets())
                    os.link(before, self._name)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(before)
            except FileExistsError:
                return False
            stack.pop_all()
            self._fd = fd
        if os.fstat(mbox).st_size == journal.size and os.path.samestat(os.fstat(fd), os.lstat(self._name)):
            return True
        self.release()  # somebody appended before the lock was ours: the journal is not right
        return False

    def _remove_dead(self, mbox: int) -> bool:
        """Take away the lock that is there if its owner is dead. Gives whether the way is free."""
        try:
            found = os.lstat(self._name)
        except FileNotFoundError:
            return True
        fd = self._open_found(found)
        try:
            journal = None if fd is None else journal_of(os.read(fd, LONGEST_JOURNAL))
            if fd is not None and journal is not None and journal.is_of_this_host:
                if not lock_record(fd):
                    return False
                undo(journal, mbox)  # while the journal is there: we may die, too
            elif stat.S_ISDIR(found.st_mode) or time.time() - found.st_mtime < _STALE_SECONDS:
                return False
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(found, os.lstat(self._name)):
                    os.unlink(self._name)
            return True
        finally:
            if fd is not None:
                os.close(fd)

    def _open_found(self, found: os.stat_result) -> int | None:
        """Open the lock that is there; ``None`` when it cannot be read: so is the empty one of Postfix."""
        if not stat.S_ISREG(found.st_mode):
            return None
        try:
            fd = os.open(self._name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        if os.path.samestat(found, os.fstat(fd)):
            return fd
        os.close(fd)
        return None
