"""A connected TCP socket on asyncio: the way to a name with several addresses.

``loop.create_connection`` has no happy eyeballs on uvloop, stumbles over eager tasks (3.12, 3.13.0), and when it is
cancelled it forgets a socket that is connected already: the server would keep a session until the collector comes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from typing import Any, Final

from ehlo._sockets import NEXT_ADDRESS, first_reason, in_turn

__all__ = ["connected"]

# What a connect that needs time says.
_BEGUN: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK))


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
    addresses = in_turn(found, source)
    if len(addresses) == 1:
        return await _attempt(addresses[0], source)
    # A port of ours cannot be used twice at once.
    patience = NEXT_ADDRESS if source is None or not source[1] else None
    left = iter(addresses)
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
                raise first_reason([exc for one in tries if (exc := one.exception()) is not None])
    finally:
        for one in tries:
            if one is not winner and not one.cancel() and one.exception() is None:
                one.result().close()


async def _attempt(info: Any, source: tuple[str, int] | None) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        if not _connects_at_once(sock, address):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _connects_at_once(sock: socket.socket, address: Any) -> bool:
    """Begin to connect. True if the connection is there already: to this machine it needs no wait, and a wait takes
    two turns of the loop. Linux tells so when it is asked a second time.

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
