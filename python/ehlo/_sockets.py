"""What a socket is and how octets leave it: the few helpers over :mod:`socket` that servers and clients share."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["address_of", "is_unix", "no_delay", "send_lines"]


def address_of(name: Any) -> tuple[str, int] | str:
    """The name of a socket as the program sees it: ``(address, port)``, or the path of a Unix socket.

    Example::

        address_of(sock.getsockname())
    """
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else os.fsdecode(name or "")


def is_unix(sock: socket.socket) -> bool:
    return sock.family == getattr(socket, "AF_UNIX", None)


def send_lines(sock: socket.socket, pieces: Sequence[bytes]) -> int:
    """Send several in one call, without a copy where the system can (``sendmsg`` is not everywhere); how many octets
    it took.

    Example::

        send_lines(sock, (envelope, content))
    """
    if len(pieces) == 1:
        return sock.send(pieces[0])
    return sock.sendmsg(pieces) if hasattr(sock, "sendmsg") else sock.send(b"".join(pieces))


def no_delay(sock: Any) -> None:
    """Replies leave at once: each write is whole, there is nothing to wait for (TCP_NODELAY). Never raises.

    Example::

        no_delay(transport.get_extra_info("socket"))
    """
    if sock is not None and not is_unix(sock):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
