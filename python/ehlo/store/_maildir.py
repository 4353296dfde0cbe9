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
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from ehlo._core import Envelope
from ehlo.store._content import FileContent, final_fields
from ehlo.store._files import checked_mode, make_directory, open_directory, set_mode, sync_names, write_all
from ehlo.store._store import RecipientField

__all__ = ["Maildir"]

_TMP_SECONDS: Final = 36 * 3600.0  # as the Maildir text says
_CLEAN_SECONDS: Final = 3600.0
_PARTS: Final = ("tmp", "new", "cur")
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
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

    def begin(self, envelope: Envelope, *, fields: bytes = b"", now: datetime | None = None) -> MaildirDelivery:
        """See :meth:`Store.begin`."""
        if time.monotonic() - self._cleaned > _CLEAN_SECONDS:
            self._cleaned = time.monotonic()
            self.clean()
        content = FileContent(final_fields(envelope, fields, self._recipient_field))
        with contextlib.ExitStack() as stack:
            folders = stack.enter_context(self._open())
            name = self._name()
            fd = os.open(name, _FLAGS, self._mode, dir_fd=folders.tmp)
            stack.callback(os.close, fd)
            set_mode(fd, self._mode)
            return MaildirDelivery(self._path, folders, name, fd, content, stack.pop_all())

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
        self, path: str, folders: _Folders, name: str, fd: int, content: FileContent, stack: contextlib.ExitStack
    ) -> None:
        self._path = path
        self._folders = folders
        self._name = name
        self._fd = fd
        self._content = content
        self._stack = stack
        self._open = True

    def write(self, chunk: bytes) -> None:
        """See :meth:`Delivery.write`."""
        write_all(self._fd, self._content.feed(chunk))

    def commit(self) -> str:
        """See :meth:`Delivery.commit`."""
        tmp, new, name = self._folders.tmp, self._folders.new, self._name
        try:
            write_all(self._fd, self._content.finish())
            os.fsync(self._fd)
            os.rename(name, name, src_dir_fd=tmp, dst_dir_fd=new)
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
            # Readers move mail into cur; a Maildir without it is not whole.
            os.close(open_directory("cur", follow_symlink=follow_symlink, dir_fd=self.root))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _host_part() -> str:
    """The host's name as a file name may have it: the Maildir text replaces ``/`` and ``:``."""
    name = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    return re.sub(r"[^!-~]", "_", name)[:64] or "localhost"
