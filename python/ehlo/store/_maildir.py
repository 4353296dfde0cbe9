"""Maildir: one file a message (https://cr.yp.to/proto/maildir.html)."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from ehlo._core import Envelope
from ehlo._errors import LocalProtocolError
from ehlo.store._content import FileContent, final_fields
from ehlo.store._files import checked_mode, make_directory, open_directory, set_mode, sync_names, write_all
from ehlo.store._store import RecipientField

__all__ = ["Maildir"]

_TMP_SECONDS: Final = 36 * 3600.0  # as the Maildir text says
_CLEAN_SECONDS: Final = 3600.0
_PARTS: Final = ("tmp", "new", "cur")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PIECE: Final = 256 * 1024
_NAME: Final = re.compile("[0-9]+[.][A-Za-z0-9_]{1,100}")
_counter: Final = itertools.count(1)  # next() is atomic


class Maildir:
    """A Maildir. See :class:`Store` for the promise that it keeps.

    A message is written to a file in ``tmp``, synced, moved into ``new``, and ``new`` is synced. A file that a crash
    leaves in ``tmp`` is harmless. When nobody has touched it for 36 hours, it is removed: when the store is made, and
    then at most once an hour.

    Arguments:
        path: the directory. It and its ``tmp``, ``new`` and ``cur`` are made if they are not there, also when they are
            removed later.
        mode: permissions of the files, whatever the umask: ``0o600``, or ``0o660`` for a group. Directories get the
            same, with the right to enter.
        recipient_field: the header field that names each recipient, ``None`` for none.
        parents: make the directories above ``path``, too.
        follow_symlink: ``path``, ``tmp``, ``new`` and ``cur`` may be symbolic links. By default they are refused.

    Raises:
        OSError: it cannot be made or written to, is no directory, or is a symbolic link.
        LocalProtocolError: ``mode`` makes no sense.

    Example::

        store = ehlo.store.Maildir("/var/mail/jane", recipient_field="Delivered-To")
        path = store.deliver(envelope, content, fields=received_field)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        recipient_field: RecipientField | None = None,
        parents: bool = False,
        follow_symlink: bool = False,
    ) -> None:
        self._path = os.path.abspath(os.fspath(path))
        self._mode = checked_mode(mode)
        self._recipient_field = recipient_field
        self._parents = parents
        self._follow = follow_symlink
        self._host = _host_part()
        with self._open() as folders:
            for part in ("tmp", "new"):
                if not os.access(part, os.W_OK | os.X_OK, dir_fd=folders.root):
                    raise PermissionError(13, "not writable", os.path.join(self._path, part))
        self._cleaned = time.monotonic()
        self.clean()

    def deliver(
        self,
        envelope: Envelope,
        content: bytes | Iterable[bytes],
        *,
        fields: bytes = b"",
        now: datetime | None = None,
    ) -> str:
        """See :meth:`Store.deliver`."""
        try:
            return self._deliver(envelope, content, fields)
        except FileNotFoundError:
            # The directory was removed under our hands. Content that is whole can be written again.
            if not isinstance(content, bytes):
                raise
            return self._deliver(envelope, content, fields)

    def _deliver(self, envelope: Envelope, content: bytes | Iterable[bytes], fields: bytes) -> str:
        with self.begin(envelope, fields=fields) as delivery:
            for chunk in (content,) if isinstance(content, bytes) else content:
                delivery.write(chunk)
            return delivery.commit()

    def begin(
        self,
        envelope: Envelope,
        *,
        fields: bytes = b"",
        now: datetime | None = None,
        name: str | None = None,
        again: bool = False,
    ) -> MaildirDelivery:
        """See :meth:`Store.begin`. A queue that repeats a delivery after a crash gives two more arguments.

        Arguments:
            name: the name of the file without the host: ``SECONDS.UNIQUE``. It is the same for each attempt of one
                delivery, and belongs to nothing else. When a file of this name with the same octets is in ``new``
                already, ``commit`` keeps that one, and gives its path.
            again: an attempt before this one may have delivered the message. A reader may have moved it, and the host
                may have had another name: ``commit`` looks into ``cur``, too, and at files of all hosts. That reads all
                names there.

        Raises:
            OSError: see :meth:`Store.begin`.
            LocalProtocolError: ``name`` has another form.

        Example::

            with store.begin(envelope, name="1700000000.M7R8", again=True) as delivery: ...
        """
        if name is not None and not _NAME.fullmatch(name):
            raise LocalProtocolError(f"name must be SECONDS.UNIQUE, with letters, digits and _, not {name!r}")
        if time.monotonic() - self._cleaned > _CLEAN_SECONDS:
            self._cleaned = time.monotonic()
            self.clean()
        content = FileContent(final_fields(envelope, fields, self._recipient_field))
        with contextlib.ExitStack() as stack:
            folders = stack.enter_context(self._open())
            own = self._name()
            fd = os.open(own, _FLAGS, self._mode, dir_fd=folders.tmp)
            stack.callback(os.close, fd)
            set_mode(fd, self._mode)
            return MaildirDelivery(self._path, folders, own, fd, content, stack.pop_all(), name, self._host, again)

    def clean(self) -> int:
        """Remove files in ``tmp`` that nobody has read or written for 36 hours; give their number.

        Example::

            store.clean()
        """
        removed = 0
        before = time.time() - _TMP_SECONDS
        with self._open() as folders:
            for name in os.listdir(folders.tmp):
                # Another process may be faster, or the file may be somebody else's: neither is a reason to refuse mail.
                with contextlib.suppress(OSError):
                    found = os.stat(name, dir_fd=folders.tmp, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and max(found.st_atime, found.st_mtime) < before:
                        os.unlink(name, dir_fd=folders.tmp)
                        removed += 1
        return removed

    def close(self) -> None:
        """See :meth:`Store.close`."""

    def _open(self) -> _Folders:
        """The directories, made again if somebody removed them."""
        for _ in range(3):
            try:
                return _Folders(self._path, self._follow)
            except FileNotFoundError:
                make_directory(self._path, self._mode, parents=self._parents)
                with contextlib.suppress(FileNotFoundError):  # removed once more: the next turn makes it again
                    root = open_directory(self._path, follow_symlink=self._follow)
                    try:
                        for part in _PARTS:
                            make_directory(part, self._mode, parents=False, dir_fd=root)
                    finally:
                        os.close(root)
        return _Folders(self._path, self._follow)

    def _name(self) -> str:
        """A name that no other host, process, thread or moment has."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        unique = f"M{nanoseconds // 1000:06}P{os.getpid()}Q{next(_counter)}R{secrets.token_hex(8)}"
        return f"{seconds}.{unique}.{self._host}"


class MaildirDelivery:
    """One message on its way into a Maildir: see :class:`Delivery`."""

    def __init__(
        self,
        path: str,
        folders: _Folders,
        name: str,
        fd: int,
        content: FileContent,
        stack: contextlib.ExitStack,
        delivery_name: str | None,
        host: str,
        again: bool,
    ) -> None:
        self._path = path
        self._folders = folders
        self._name = name
        self._fd = fd
        self._content = content
        self._stack = stack
        self._delivery_name = delivery_name
        self._host = host
        self._again = again
        self._open = True

    def write(self, chunk: bytes) -> None:
        """See :meth:`Delivery.write`."""
        write_all(self._fd, self._content.feed(chunk))

    def commit(self) -> str:
        """See :meth:`Delivery.commit`."""
        tmp, new, name = self._folders.tmp, self._folders.new, self._name
        try:
            write_all(self._fd, self._content.finish())
            if self._delivery_name is not None:
                begin = f"{self._delivery_name}."
                if (found := self._delivered_before(begin)) is not None:
                    self.abort()
                    return found
                if _size(new, begin + self._host) is None:  # else it is another message: nothing is put in its place
                    name = begin + self._host
            os.fsync(self._fd)
            os.rename(self._name, name, src_dir_fd=tmp, dst_dir_fd=new)
            try:
                sync_names(new)
            except BaseException:
                os.unlink(name, dir_fd=new)
                raise
        except BaseException:
            self.abort()
            raise
        self._open = False
        self._stack.close()
        return os.path.join(self._path, "new", name)

    def _delivered_before(self, begin: str) -> str | None:
        """The path of the file that an earlier attempt has made; ``None`` without one. Its name is on the disk then.

        Arguments:
            begin: of its name, up to the host.
        """
        name = begin + self._host
        if self._is_in(self._folders.new, name):
            return os.path.join(self._path, "new", name)
        if not self._again:
            return None
        with self._folders.open_cur() as cur:
            # A reader moves mail from new to cur: so cur is read last.
            for part, folder in (("new", self._folders.new), ("cur", cur)):
                for one in os.listdir(folder):
                    if one.startswith(begin) and self._is_in(folder, one):
                        return os.path.join(self._path, part, one)
        return None

    def _is_in(self, folder: int, name: str) -> bool:
        """Whether this file holds the message. Its name is on the disk then."""
        if _size(folder, name) != os.fstat(self._fd).st_size or not _is_same(self._fd, folder, name):
            return False
        sync_names(folder)
        return True

    def abort(self) -> None:
        """See :meth:`Delivery.abort`."""
        if self._open:
            self._open = False
            with self._stack, contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folders.tmp)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.abort()


class _Folders:
    """The open directories of a Maildir. What is named in them by descriptor cannot be turned into something else by a
    symbolic link in between."""

    def __init__(self, path: str, follow_symlink: bool) -> None:
        with contextlib.ExitStack() as stack:
            self.root: int = open_directory(path, follow_symlink=follow_symlink)
            stack.callback(os.close, self.root)
            self.tmp: int = open_directory("tmp", follow_symlink=follow_symlink, dir_fd=self.root)
            stack.callback(os.close, self.tmp)
            self.new: int = open_directory("new", follow_symlink=follow_symlink, dir_fd=self.root)
            stack.callback(os.close, self.new)
            self._follow = follow_symlink
            with self.open_cur():  # readers move mail there; a Maildir without it is not whole
                pass
            self._stack = stack.pop_all()

    @contextlib.contextmanager
    def open_cur(self) -> Iterator[int]:
        """The directory ``cur``, open meanwhile."""
        fd = open_directory("cur", follow_symlink=self._follow, dir_fd=self.root)
        try:
            yield fd
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _size(folder: int, name: str) -> int | None:
    """Of a file in an open directory; ``None`` without one."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def _is_same(fd: int, folder: int, name: str) -> bool:
    """Whether a file in an open directory has the octets of an open file, which has the same size."""
    try:
        other = os.open(name, _READ, dir_fd=folder)
    except OSError:  # nothing is proved by a file that cannot be read: the message arrives
        return False
    try:
        at = 0
        while piece := os.pread(fd, _PIECE, at):
            if piece != os.pread(other, _PIECE, at):
                return False
            at += len(piece)
        return True
    finally:
        os.close(other)


def _host_part() -> str:
    """The host's name as a file name may have it: the Maildir text replaces ``/`` and ``:``."""
    name = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    return re.sub(r"[^!-~]", "_", name)[:64] or "localhost"
