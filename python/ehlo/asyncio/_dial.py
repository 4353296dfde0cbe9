"""A connected TCP socket on asyncio: the way to a name with several addresses.

``loop.create_connection`` has no happy eyeballs on uvloop, stumbles over eager tasks (3.12, 3.13.0), and when it is
cancelled it forgets a socket that is connected already: the server would keep a session until the collector comes.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ehlo._sockets import NEXT_ADDRESS, begin, first_reason, in_turn, numeric

__all__ = ["connected"]


async def connected(
    host: str, port: int, source: tuple[str, int] | None, seconds: float | None = None
) -> socket.socket:
    """A socket that does not block, connected to the first address of ``host`` that answers (RFC 8305).

    Arguments:
        host, port: of the server.
        source: the address and port to connect from.
        seconds: it may take so long; ``None``: as long as the system tries.

    Raises:
        TimeoutError: they are over.
        OSError: no address answers: why the first did not that there is a way to.

    Example::

        sock = await connected("mx.example", 25, None, 30.0)
    """
    addresses = in_turn(numeric(host, port), source)
    if len(addresses) == 1:
        begun, done = begin(addresses[0], source)
        if done:  # the usual case on this machine: no timer, no turn of the loop
            return begun
        async with asyncio.timeout(seconds):
            return await _finish(begun, addresses[0])
    async with asyncio.timeout(seconds):
        if not addresses:  # a name: that takes a thread, and time
            loop = asyncio.get_running_loop()
            addresses = in_turn(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), source)
        return await _first_of(addresses, source)


async def _first_of(addresses: list[Any], source: tuple[str, int] | None) -> socket.socket:
    if len(addresses) == 1:
        return await _attempt(addresses[0], source)
    loop = asyncio.get_running_loop()
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
    sock, done = begin(info, source)
    return sock if done else await _finish(sock, info)


async def _finish(sock: socket.socket, info: Any) -> socket.socket:
    try:
        await asyncio.get_running_loop().sock_connect(sock, info[4])
    except BaseException:
        sock.close()
        raise
    return sock
