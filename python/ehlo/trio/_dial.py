"""A connected TCP socket on trio: the way to a name with several addresses."""

from __future__ import annotations

import socket
from math import inf
from typing import Any

import trio

from ehlo._sockets import begin, numeric

__all__ = ["connected", "plain"]


def plain(stream: trio.SocketStream) -> socket.socket:
    """The system's socket of a stream, which is given up.

    Example::

        sock = plain(await trio.open_unix_socket(path))
    """
    return socket.socket(fileno=stream.socket.detach())


async def connected(host: str, port: int, source: tuple[str, int] | None, seconds: float = inf) -> socket.socket:
    """A socket that does not block, connected to the first address of ``host`` that answers (RFC 8305).

    Arguments:
        host, port: of the server.
        source: the address and port to connect from.
        seconds: it may take so long; :data:`math.inf`: as long as the system tries.

    Raises:
        trio.TooSlowError: they are over.
        OSError: no address answers.

    Example::

        sock = await connected("mx.example", 25, None, 30.0)
    """
    found = numeric(host, port)
    if len(found) == 1:
        sock, done = begin(found[0], source)
        if not done:
            with trio.fail_after(seconds):
                await _finish(sock, found[0][4])
        return sock
    address, own_port = source or (None, 0)
    with trio.fail_after(seconds):
        if own_port:
            sock = await _from_port(host, port, source)
        else:
            sock = plain(await trio.open_tcp_stream(host, port, local_address=address))
    sock.setblocking(False)
    return sock


async def _finish(sock: socket.socket, address: Any) -> None:
    """Outside Linux this is where the connect begins."""
    try:
        await trio.socket.from_stdlib_socket(sock).connect(address)
    except BaseException:
        sock.close()
        raise


async def _from_port(host: str, port: int, source: tuple[str, int] | None) -> socket.socket:
    """``open_tcp_stream`` knows no port of ours."""
    missing: OSError | None = None
    for family, kind, proto, _, address in await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = trio.socket.socket(family, kind, proto)
        try:
            await sock.bind(source)
            await sock.connect(address)
            return socket.socket(fileno=sock.detach())
        except OSError as exc:
            missing = exc
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise missing or OSError(f"{host!r} has no address")
