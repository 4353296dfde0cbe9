"""Sockets that are bound and do not listen yet, for the servers of all event loops."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable
from typing import Any

from ehlo._sockets import is_unix

__all__ = ["bind_all", "bind_path", "inode_of"]


def bind_all(infos: Iterable[tuple[int, int, Any]], reuse_port: bool) -> list[socket.socket]:
    """A bound socket for each address.

    Arguments:
        infos: family, protocol and address of each, as ``getaddrinfo`` has them.
        reuse_port: set SO_REUSEPORT.

    Raises:
        OSError: an address is taken or not allowed, or none of them is this machine's.

    Example::

        bind_all([(socket.AF_INET, 0, ("127.0.0.1", 0))], False)
    """
    socks: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    try:
        for family, proto, address in infos:
            try:
                socks.append(_bound(family, proto, address, reuse_port))
            except OSError as exc:  # a machine whose resolver knows IPv6, and whose kernel does not
                if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = exc
        if not socks:
            raise missing
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks


def bind_path(path: str) -> socket.socket:
    """A Unix socket bound to a path. A socket there that nobody answers is replaced.

    Raises:
        OSError: another server listens there, or the path cannot be bound.

    Example::

        bind_path("/run/ehlo/lmtp")
    """
    with contextlib.suppress(FileNotFoundError):
        # What a server left behind that had no time to remove it. Anything but a socket stays, and is an error.
        if path[:1] != "\0" and stat.S_ISSOCK(os.stat(path).st_mode):
            if _is_answered(path):
                raise OSError(errno.EADDRINUSE, f"cannot listen on {path!r}: another server listens there")
            os.unlink(path)
    return _bound(socket.AF_UNIX, 0, path, False)


def _is_answered(path: str) -> bool:
    """Whether somebody listens on a Unix socket. It is found by a connection that ends at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except BlockingIOError:  # its queue is full, so there is one
            return True
        except OSError:
            return False
    return True


def inode_of(path: str) -> tuple[int, int] | None:
    """The numbers that tell a file from another that has its name later; ``None`` where there is no file.

    Example::

        inode_of("/run/ehlo/lmtp")
    """
    try:
        found = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):  # it is gone, or it is an abstract name
        return None
    return found.st_dev, found.st_ino


def _bound(family: int, proto: int, address: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        sock.setblocking(False)
        if not is_unix(sock):
            if os.name == "posix":  # elsewhere this option lets two programs have the same port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot listen on {address!r}: {exc.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock
