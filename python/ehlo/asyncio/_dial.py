"""A connected TCP socket on asyncio: the way to a name with several addresses.

``loop.create_connection`` has no happy eyeballs on uvloop, stumbles over eager tasks (3.12, 3.13.0), and when it is
cancelled it forgets a socket that is connected already: the server would keep a session until the collector comes.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["connected"]

# There is no way to such an address from here: of little interest where there is to another.
_NO_WAY: Final = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))
# Seconds after which the next address is tried beside the others (RFC 8305 8).
_DELAY: Final = 0.25


async def connected(host: str, port: int, source: tuple[str, int] | None) -> socket.socket:
    """A socket that is connected to the first address of ``host`` that answers (RFC 8305).

    Raises:
        OSError: none does: why the first did not that there is a way to.

    Example::

        sock = await connected("mx.example", 25, None)
    """
    loop = asyncio.get_running_loop()
    try:
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:  # a name: that takes a thread, and time
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if source is not None:
        family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
        found = [info for info in found if info[0] == family] or found
    if len(found) == 1:
        return await _attempt(found[0], source)
    # A port of ours cannot be used twice at once.
    patience = _DELAY if source is None or not source[1] else None
    left = _in_turn(found)
    tries: list[asyncio.Task[socket.socket]] = []
    winner = None
    try:
        while True:
            if (info := next(left, None)) is not None:
                tries.append(loop.create_task(_attempt(info, source)))
            if pending := [one for one in tries if not one.done()]:
                timeout = None if info is None else patience
                await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            done = [one for one in tries if one.done()]
            winner = next((one for one in done if one.exception() is None), None)
            if winner is not None:
                return winner.result()
            if info is None and len(done) == len(tries):
                errors = [exc for one in tries if (exc := one.exception()) is not None]
                raise next((exc for exc in errors if getattr(exc, "errno", None) not in _NO_WAY), errors[0])
    finally:
        for one in tries:
            if one is not winner and not one.cancel() and one.exception() is None:
                one.result().close()


def _in_turn(found: list[Any]) -> Iterator[Any]:
    """The families in turn, in the order that the resolver gave (RFC 8305 4)."""
    families: dict[int, list[Any]] = {}
    for info in found:
        families.setdefault(info[0], []).append(info)
    return (info for row in itertools.zip_longest(*families.values()) for info in row if info is not None)


async def _attempt(info: Any, source: tuple[str, int] | None) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
