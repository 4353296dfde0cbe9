"""A connected TCP socket on trio: the way to a name with several addresses."""

from __future__ import annotations

import socket

import trio

__all__ = ["connected", "plain"]


def plain(stream: trio.SocketStream) -> socket.socket:
    """The system's socket of a stream, which is given up.

    Example::

        sock = plain(await trio.open_unix_socket(path))
    """
    return socket.socket(fileno=stream.socket.detach())


async def connected(host: str, port: int, source: tuple[str, int] | None) -> socket.socket:
    """A socket that is connected to the first address of ``host`` that answers (RFC 8305).

    Raises:
        OSError: none does.

    Example::

        sock = await connected("mx.example", 25, None)
    """
    address, own_port = source or (None, 0)
    if own_port:
        return await _from_port(host, port, source)
    return plain(await trio.open_tcp_stream(host, port, local_address=address))


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
