"""mbox: all messages in one file (RFC 4155)."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import random
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import IO, Final, Self

from ehlo._core import Envelope
from ehlo._words import counted
from ehlo.store._content import MboxContent, final_fields, mbox_sender
from ehlo.store._files import checked_mode, link_refused, make_directory, set_mode, sync_directory, write_all
from ehlo.store._mbox_locks import DotLock, can_lock, lock_record, turn_of
from ehlo.store._mbox_repair import Places, missing_line_ends, places_of
from ehlo.store._store import RecipientField

__all__ = ["Mbox"]

log: Final = logging.getLogger("ehlo")

_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not keep us waiting
    | getattr(os, "O_NOCTTY", 0)
)
_IN_MEMORY: Final = 1024 * 1024  # octets of a message in pieces; more waits in a temporary file
_PIECE: Final = 256 * 1024


class Mbox:
    """An mbox file. See :class:`Store` for the promise that it keeps.

    A message begins with a separator line ``From SENDER DATE`` and ends with an empty line. A line ``From …`` inside it
    gets a ``>``, and so does ``>From …`` ("mboxrd").

    The file is opened by its name for each message: it may be renamed, removed or replaced while the store lives. Two
    locks are held meanwhile, as Debian Policy 11.6 says: the record lock of ``fcntl``, then the file ``NAME.lock``.
    Both end with their owner. A ``NAME.lock`` of another program is removed when it is 500 seconds old. If no file can
    be made in the directory, the record lock is the only one.

    If a process died inside an append, the next delivery cuts off the half message, if it can prove that nothing else
    stands there. Otherwise it begins on a new line, so that its own message can be read.

    Arguments:
        path: the file; made if it is not there, also when it is removed later.
        mode: permissions of a new file, whatever the umask: ``0o600``, or ``0o660`` for a group.
        recipient_field: the header field that names each recipient, ``None`` for none.
        parents: make the directories above ``path``, too.
        follow_symlink: ``path`` may be a symbolic link. By default it is refused.
        lock_timeout: seconds to wait for the locks.

    Raises:
        OSError: it cannot be made or written to, is no regular file, or is a symbolic link.
        LocalProtocolError: ``mode`` makes no sense.

    Example::

        store = ehlo.store.Mbox("inbox.mbox", recipient_field="Delivered-To")
        store.deliver(envelope, content, fields=received_field)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        recipient_field: RecipientField | None = None,
        parents: bool = False,
        follow_symlink: bool = False,
        lock_timeout: float = 30.0,
    ) -> None:
        if not can_lock():
            raise OSError(errno.ENOTSUP, "an mbox needs POSIX record locks", os.fspath(path))
        self._path = os.path.abspath(os.fspath(path))
        self._mode = checked_mode(mode)
        self._recipient_field = recipient_field
        self._parents = parents
        self._follow = follow_symlink
        self._lock_timeout = lock_timeout
        self._told: str | None = None
        above, name = os.path.split(self._path)
        self._turn = turn_of(os.path.join(os.path.realpath(above), name))
        with self._my_turn(time.monotonic() + lock_timeout):
            os.close(self._open(self._real()))

    def deliver(
        self,
        envelope: Envelope,
        content: bytes | Iterable[bytes],
        *,
        fields: bytes = b"",
        now: datetime | None = None,
    ) -> str:
        """See :meth:`Store.deliver`."""
        whole = isinstance(content, bytes)
        with self._begin(io.BytesIO() if whole else _spool(), envelope, fields, now) as delivery:
            for chunk in (content,) if isinstance(content, bytes) else content:
                delivery.write(chunk)
            return delivery.commit()

    def begin(self, envelope: Envelope, *, fields: bytes = b"", now: datetime | None = None) -> MboxDelivery:
        """See :meth:`Store.begin`. What is written waits outside the mbox, so that nobody waits for a slow client."""
        return self._begin(_spool(), envelope, fields, now)

    def close(self) -> None:
        """See :meth:`Store.close`."""

    def _begin(self, spool: IO[bytes], envelope: Envelope, fields: bytes, now: datetime | None) -> MboxDelivery:
        seconds = time.gmtime() if now is None else now.utctimetuple()
        spool.write(b"From " + mbox_sender(envelope) + b" " + time.asctime(seconds).encode("ascii") + b"\n")
        return MboxDelivery(self, spool, MboxContent(final_fields(envelope, fields, self._recipient_field)))

    # ---- the file --------------------------------------------------------------------------------

    def _append(self, spool: IO[bytes]) -> str:
        """Append what the spool holds, and return when it is on the disk."""
        give_up = time.monotonic() + self._lock_timeout
        places = places_of(_pieces(spool))
        with self._my_turn(give_up):
            while True:
                path = self._real()
                with self._locked(path, places, give_up) as fd:
                    size = os.fstat(fd).st_size
                    try:
                        write_all(fd, missing_line_ends(fd, size))
                        for piece in _pieces(spool):
                            write_all(fd, piece)
                        os.fsync(fd)
                        if size == 0:  # it may be new
                            sync_directory(os.path.dirname(path))
                    except BaseException:
                        os.ftruncate(fd, size)  # what is refused is not to be read later
                        raise
                    if os.fstat(fd).st_nlink:
                        return path
                # It was removed by somebody who takes no lock, under our hands: again, into a new one.

    @contextlib.contextmanager
    def _my_turn(self, give_up: float) -> Iterator[None]:
        if not self._turn.lock.acquire(timeout=max(0.0, give_up - time.monotonic())):
            raise self._timed_out()
        try:
            yield
        finally:
            self._turn.lock.release()

    @contextlib.contextmanager
    def _locked(self, path: str, places: Places, give_up: float) -> Iterator[int]:
        """The file, open and locked."""
        wait = 0.002
        while True:
            dot = DotLock(path, places)
            with contextlib.closing(_File(self._open(path))) as file:
                if lock_record(file.fd) and dot.take(file.fd):
                    try:
                        if _is_at(path, file.fd):
                            self._told = None
                            yield file.fd
                            return
                    finally:
                        dot.release()
                    continue  # renamed or removed before the lock was ours
            if time.monotonic() > give_up:
                self._tell(dot.why_taken())
                raise self._timed_out()
            time.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 1.5, 0.1)

    def _tell(self, why: str | None) -> None:
        """Log why the lock cannot be had, once until it can: somebody must remove what is in the way."""
        if why is not None and why != self._told:
            log.warning("no mail can be delivered into the mbox %s: %s", self._path, why)
            self._told = why

    def _timed_out(self) -> TimeoutError:
        text = f"is locked by another program; waited {counted(self._lock_timeout, 'second', 'g')}"
        return TimeoutError(errno.ETIMEDOUT, text, self._path)

    def _real(self) -> str:
        return os.path.realpath(self._path) if self._follow else self._path

    def _open(self, path: str) -> int:
        """Open the file by its name; make it if it is not there."""
        while True:
            try:
                return self._checked(path, os.open(path, _FLAGS))
            except FileNotFoundError:
                if self._parents:
                    make_directory(os.path.dirname(path), self._mode, parents=True)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK):
                    raise link_refused(path) from None
                raise
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, self._mode)
                try:
                    set_mode(fd, self._mode)
                except BaseException:
                    os.close(fd)
                    raise
                return fd

    def _checked(self, path: str, fd: int) -> int:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "is no regular file", path)
        return fd


class MboxDelivery:
    """One message on its way into an mbox: see :class:`Delivery`."""

    def __init__(self, mbox: Mbox, spool: IO[bytes], content: MboxContent) -> None:
        self._mbox = mbox
        self._spool = spool
        self._content = content

    def write(self, chunk: bytes) -> None:
        """See :meth:`Delivery.write`."""
        self._spool.write(self._content.feed(chunk))

    def commit(self) -> str:
        """See :meth:`Delivery.commit`."""
        try:
            self._spool.write(self._content.finish())
            return self._mbox._append(self._spool)
        finally:
            self._spool.close()

    def abort(self) -> None:
        """See :meth:`Delivery.abort`."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.abort()


class _File:
    """A descriptor that is closed once."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    spool.seek(0)
    while piece := spool.read(_PIECE):
        yield piece


def _is_at(path: str, fd: int) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
