"""Files and directories as the stores need them: synced, with exact modes, never through a symbolic link by chance."""

from __future__ import annotations

import errno
import os
from typing import Final

from ehlo._errors import LocalProtocolError

__all__ = [
    "checked_mode",
    "link_refused",
    "make_directory",
    "open_directory",
    "set_mode",
    "sync_directory",
    "sync_names",
    "write_all",
]

_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)


def checked_mode(mode: int) -> int:
    """The permission bits for files of a store, as they were given.

    Raises:
        LocalProtocolError: the owner could not read and write, or the bits are no permissions for a file of mail.
    """
    if mode & 0o600 != 0o600 or mode & ~0o664:
        raise LocalProtocolError(f"mode must be 0o600, or 0o660 for a group, not {mode:#o}")
    return mode


def set_mode(fd: int, mode: int) -> None:
    """Give an open file its permissions whatever the umask took away; setgid of a directory stays."""
    now = os.fstat(fd).st_mode & 0o7777
    wanted = now & 0o7000 | mode
    if now != wanted:
        os.fchmod(fd, wanted)


def _directory_mode(mode: int) -> int:
    """For a directory: who may read a file may enter."""
    return mode | (mode & 0o444) >> 2


def open_directory(path: str, *, follow_symlink: bool, dir_fd: int | None = None) -> int:
    """Open a directory, to name files in it; gives the descriptor.

    Raises:
        OSError: it is absent, is no directory, or is a symbolic link and ``follow_symlink`` is false.
    """
    flags = os.O_RDONLY | _CLOEXEC | _DIRECTORY
    try:
        return os.open(path, flags if follow_symlink else flags | _NOFOLLOW, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR) and _is_link(path, dir_fd):
            raise link_refused(path) from None
        raise


def link_refused(path: str) -> OSError:
    """The error for a symbolic link that nobody asked for."""
    return OSError(errno.ELOOP, "is a symbolic link; follow_symlink must be set to allow it", path)


def _is_link(path: str, dir_fd: int | None) -> bool:
    try:
        os.readlink(path, dir_fd=dir_fd)
    except OSError:
        return False
    return True


def make_directory(path: str, mode: int, *, parents: bool, dir_fd: int | None = None) -> None:
    """Make a directory and sync the one above it; with ``parents`` those above, too. One that is there is left alone.

    Raises:
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, _directory_mode(mode), dir_fd=dir_fd)
    except FileExistsError:
        return
    except FileNotFoundError:
        above = os.path.dirname(os.path.abspath(path))
        if not parents or dir_fd is not None or above == os.path.abspath(path):
            raise
        make_directory(above, mode, parents=True)
        make_directory(path, mode, parents=False)
        return
    fd = open_directory(path, follow_symlink=False, dir_fd=dir_fd)
    try:
        set_mode(fd, _directory_mode(mode))
    finally:
        os.close(fd)
    if dir_fd is None:
        sync_directory(os.path.dirname(os.path.abspath(path)))
    else:
        sync_names(dir_fd)


def sync_directory(path: str) -> None:
    """Write the names in a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | _CLOEXEC | _DIRECTORY)
    try:
        sync_names(fd)
    finally:
        os.close(fd)


def sync_names(fd: int) -> None:
    """Write the names in an open directory to the disk."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise


def write_all(fd: int, octets: bytes) -> None:
    """Write all of ``octets``; the system may take less at a time."""
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view) :]
