"""A message by the engine over a blocking socket, for :mod:`ehlo.compat.smtplib`."""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable
from socket import socket
from typing import Final

from ehlo.compat._courier import Courier

__all__ = ["carry"]

# Octets that are read at once.
_READ: Final = 65536


def carry(courier: Courier, sock: socket, came: bytes, tell: Callable[[str, bytes], object] | None) -> None:
    """Send the message that was queued, and wait for its result.

    Arguments:
        courier: has the message.
        sock: of the session; its timeout is the limit of each wait.
        came: octets that were read already.
        tell: called with ``"send"`` or ``"reply"`` and the octets.

    Raises:
        OSError: the connection failed, or the time is up.

    Example::

        carry(courier, sock, b"", None)
        result = courier.result()
    """
    if came:
        courier.receive(came)
    much = False
    while not courier.is_done:
        if not (much and _is_readable(sock)) and (out := courier.data_to_send()):
            if tell is not None:
                tell("send", out)
            sock.sendall(out)
            much = len(out) > _READ  # a refusal that comes before the end stops the content (C-CLI-33)
            continue
        octets = sock.recv(_READ)
        much = False
        if tell is not None:
            tell("reply", octets)
        courier.receive(octets)


def _is_readable(sock: socket) -> bool:
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select((sock,), (), (), 0)[0])
