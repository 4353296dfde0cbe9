"""Whether mail can be kept in a place: tried, without leaving anything there."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from typing import Literal

from ehlo.cli._receive import UsageError

__all__ = ["check_place"]


def check_place(kind: Literal["maildir", "mbox"], path: str, *, follow_symlink: bool) -> None:
    """Try to write where a store will write. What is not there yet is not made.

    Arguments:
        kind: what the store is.
        path: its directory or file.
        follow_symlink: whether ``path`` may be a symbolic link.

    Raises:
        UsageError: mail cannot be kept there.
    """
    if os.path.islink(path) and not follow_symlink:
        raise UsageError(f"{kind} {path}: is a symbolic link; set deliver.follow_symlink to allow it")
    try:
        if kind == "mbox" and os.path.exists(path):
            _open_file(path)
        else:
            inside = os.path.join(path, "tmp")
            places = (inside, path) if kind == "maildir" else ()
            there = next((place for place in places if os.path.exists(place)), os.path.dirname(os.path.abspath(path)))
            with tempfile.TemporaryDirectory(prefix=".ehlo-check-", dir=there):
                pass
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(f"{kind} {path}: cannot be written to ({reason}); name a place that can be") from None


def _open_file(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
    finally:
        os.close(fd)
