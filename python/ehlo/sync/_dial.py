"""A connected socket without an event loop: the way to a name with several addresses, in limited time."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

from ehlo._sockets import NEXT_ADDRESS, first_reason, in_turn, numeric
from ehlo.sync._run import in_thread

__all__ = ["connected", "connected_unix", "left"]


def left(limit: float | None) -> float | None:
    """Seconds until ``limit`` on the monotonic clock, ``None`` without one.

    Raises:
        TimeoutError: none are left.

    Example::

        sock.settimeout(left(limit))
    """
    if limit is None:
        return None
    seconds = limit - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def connected_unix(path: str, limit: float | None) -> socket.socket:
    """A socket that is connected to a Unix socket.

    Raises:
        OSError: nobody listens there, or the time is up.

    Example::

        sock = connected_unix("/run/lmtp", None)
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(left(limit))
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def connected(host: str, port: int, source: tuple[str, int] | None, limit: float | None) -> socket.socket:
    """A socket that is connected to the first address of ``host`` that answers (RFC 8305).

    Arguments:
        host, port: of the server.
        source: the address and port to connect from.
        limit: until when, on the monotonic clock; ``None``: as long as the system tries.

    Raises:
        TimeoutError: the time is up.
        OSError: no address answers: why the first did not that there is a way to.

    Example::

        sock = connected("mx.example", 25, None, monotonic() + 30)
    """
    addresses = in_turn(_addresses(host, port, limit), source)
    if len(addresses) == 1:
        return _connected_to(addresses[0], source, limit)
    if source is not None and source[1]:  # a port of ours cannot be used twice at once
        return _one_after_another(addresses, source, limit)
    with selectors.DefaultSelector() as selector:
        try:
            return _first_of(addresses, source, limit, selector)
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


def _addresses(host: str, port: int, limit: float | None) -> list[Any]:
    if found := numeric(host, port):
        return found

    def look_up() -> list[Any]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    seconds = left(limit)
    return look_up() if seconds is None else in_thread(look_up, seconds)


def _bound(info: Any, source: tuple[str, int] | None) -> socket.socket:
    family, kind, proto, _, _ = info
    sock = socket.socket(family, kind, proto)
    try:
        if source is not None:
            sock.bind(source)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected_to(info: Any, source: tuple[str, int] | None, limit: float | None) -> socket.socket:
    sock = _bound(info, source)
    try:
        sock.settimeout(left(limit))
        sock.connect(info[4])
    except BaseException:
        sock.close()
        raise
    return sock


def _one_after_another(addresses: list[Any], source: tuple[str, int], limit: float | None) -> socket.socket:
    errors: list[OSError] = []
    for info in addresses:
        try:
            return _connected_to(info, source, limit)
        except OSError as exc:
            if limit is not None and limit <= monotonic():
                raise
            errors.append(exc)
    raise first_reason(errors)


def _first_of(
    addresses: list[Any], source: tuple[str, int] | None, limit: float | None, selector: selectors.BaseSelector
) -> socket.socket:
    """Try one address after the other, and each beside those that have not answered yet."""
    errors: list[BaseException] = []
    waiting: Iterator[Any] = iter(addresses)
    info = next(waiting, None)
    while info is not None or selector.get_map():
        if info is not None:
            try:
                _begin(info, source, selector)
            except OSError as exc:
                errors.append(exc)
            info = next(waiting, None)
        if not selector.get_map():
            continue
        seconds = left(limit)
        if info is not None:
            seconds = NEXT_ADDRESS if seconds is None else min(seconds, NEXT_ADDRESS)
        for key, _ in selector.select(seconds):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return sock
            sock.close()
            errors.append(OSError(code, os.strerror(code)))
    raise first_reason(errors)


def _begin(info: Any, source: tuple[str, int] | None, selector: selectors.BaseSelector) -> None:
    sock = _bound(info, source)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(info[4])
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise OSError(code, os.strerror(code))
        selector.register(sock, selectors.EVENT_WRITE)
    except BaseException:
        sock.close()
        raise
