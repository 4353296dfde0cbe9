"""What a socket is and how octets leave it: the few helpers over :mod:`socket` that servers and clients share."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "NEXT_ADDRESS",
    "acceptor",
    "address_of",
    "begin",
    "duplicate",
    "first_reason",
    "in_turn",
    "is_unix",
    "no_delay",
    "no_signal",
    "numeric",
    "send_lines",
]

NEXT_ADDRESS: Final = 0.25
"""Seconds after which a client tries the next address of a host beside the others (RFC 8305 8)."""

# Of Apple's <sys/socket.h>: Python has no name for it.
_SO_NOSIGPIPE: Final = 0x1022
# What a connect that needs time says.
_BEGUN: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK))
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
    if len(found) == 1:
        return found
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


def begin(info: Any, source: tuple[str, int] | None) -> tuple[socket.socket, bool]:
    """Begin to connect by a socket that does not block. Gives the socket, and whether it is connected already.

    Arguments:
        info: an element of what ``getaddrinfo`` gives.
        source: the address and port to connect from.

    Raises:
        OSError: nobody listens there, or there is no way to it.

    Example::

        sock, done = begin(numeric("192.0.2.1", 25)[0], None)
    """
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        return sock, _connects_at_once(sock, address)
    except BaseException:
        sock.close()
        raise


def _connects_at_once(sock: socket.socket, address: Any) -> bool:
    """True if the connection is there already: to this machine it needs no wait, and a wait takes turns of the loop.
    Linux tells so when it is asked a second time.

    Raises:
        OSError: nobody listens there, or there is no way to it.
    """
    if sys.platform != "linux":  # elsewhere a second question is an error
        return False
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        code = sock.connect_ex(address)
    if code in _BEGUN:
        return False
    if code:
        raise OSError(code, os.strerror(code))
    return True


def duplicate(sock: socket.socket) -> socket.socket:
    """A socket of ours, which does not block, for the connection of ``sock``. The program may close its own at any
    time. Its number may then be that of another, but ours keeps its number.

    Raises:
        OSError: it is closed already, or there is no descriptor.

    Example::

        ours = duplicate(sock)
    """
    ours = socket.fromfd(sock.fileno(), sock.family, sock.type, sock.proto)
    ours.setblocking(False)
    return ours


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

    A socket that knows no such option, such as a Unix socket, stays as it is. On Linux each connection has the option
    from the listening socket that it came to.

    Example::

        no_delay(transport.get_extra_info("socket"))
    """
    if sock is not None:
        try:  # noqa: SIM105 - suppress() costs as much again, and to ask for the family first five times as much
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass


def no_signal(sock: Any) -> None:
    """A write to a peer that is gone fails, and sends this process no SIGPIPE, where a program wants that signal. Never
    raises.

    The binding asks for this with each write (MSG_NOSIGNAL). Apple's systems know it only as an option of a socket.

    Example::

        no_signal(sock)
    """
    if sys.platform == "darwin":
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)


def acceptor(listener: socket.socket) -> Callable[[], tuple[socket.socket, Any]]:
    """What accepts the next connection of a listening socket, which does not block. It gives the socket and the name of
    its peer.

    ``socket.accept`` makes the same, but asks each time for family, type and protocol, and as members of enums: that
    takes longer than the system does.

    Raises:
        OSError: as ``socket.accept`` does. The function that it gives raises it.

    Example::

        accept = acceptor(listener)
        sock, peername = accept()
    """
    plain: Any = super(socket.socket, listener)  # its numbers are no members of enums
    take, family, kind, proto = plain._accept, plain.family, plain.type, plain.proto

    def accept() -> tuple[socket.socket, Any]:
        descriptor, peername = take()
        sock = socket.socket(family, kind, proto, descriptor)
        sock.setblocking(False)
        if sys.platform != "linux":
            no_delay(sock)
        return sock, peername

    return accept


@lru_cache(maxsize=256)
def _numeric(host: str, port: int) -> list[Any]:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def numeric(host: str, port: int) -> list[Any]:
    """What ``getaddrinfo`` gives for an address as text, without asking anybody; nothing for a name.

    Example::

        found = numeric("192.0.2.1", 25) or socket.getaddrinfo("192.0.2.1", 25)
    """
    try:
        # The number of an interface, behind a "%", may change.
        return _numeric(host, port) if "%" not in host else _numeric.__wrapped__(host, port)
    except socket.gaierror:
        return []
