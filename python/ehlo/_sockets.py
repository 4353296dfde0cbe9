"""What a socket is and how octets leave it: the few helpers over :mod:`socket` that servers and clients share."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["NEXT_ADDRESS", "address_of", "first_reason", "in_turn", "is_unix", "no_delay", "send_lines"]

NEXT_ADDRESS: Final = 0.25
"""Seconds after which a client tries the next address of a host beside the others (RFC 8305 8)."""

# There is no way to such an address from here: of little interest where there is to another.
_NO_WAY: Final = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))


def in_turn(found: list[Any], source: tuple[str, int] | None) -> list[Any]:
    """What ``getaddrinfo`` gave, in the order in which a client tries it: the families in turn, each in the order that
    the resolver gave (RFC 8305 4).

    Arguments:
        found: the list of ``getaddrinfo``.
        source: the address and port to connect from: only its family is of use.

    Example::

        for family, kind, proto, _, address in in_turn(found, None): ...
    """
    if source is not None:
        family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
        found = [info for info in found if info[0] == family] or found
    families: dict[int, list[Any]] = {}
    for info in found:
        families.setdefault(info[0], []).append(info)
    return [info for row in itertools.zip_longest(*families.values()) for info in row if info is not None]


def first_reason(errors: Sequence[BaseException]) -> BaseException:
    """Of the errors of all addresses: the first of an address that there is a way to.

    Example::

        raise first_reason(errors)
    """
    return next((exc for exc in errors if getattr(exc, "errno", None) not in _NO_WAY), errors[0])


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
