"""Clients on trio: :func:`connect`."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, Unpack

import trio

from ehlo._client import BaseClient
from ehlo._connect import Connecting, ConnectOptions, Opening
from ehlo._errors import LocalProtocolError
from ehlo._link import ClientDriver
from ehlo._listener import no_delay
from ehlo.trio._link import ClientSocket
from ehlo.trio._nursed import Nursed

__all__ = ["Client", "connect", "dial"]


class Client(Nursed, BaseClient):
    __doc__ = BaseClient.__doc__

    def __init__(self, open_link: Callable[[], Awaitable[ClientDriver]] | None, link: ClientDriver) -> None:
        super().__init__(open_link, link)
        self._nursery = None

    _make_event = trio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        if self._nursery is None:
            raise LocalProtocolError(
                "on trio, send_many takes from an async iterable in the nursery of the client, which is there inside "
                "`async with client`"
            )
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self._nursery.start_soon(run)
        return scope.cancel


async def dial(opening: Opening) -> ClientSocket:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = await dial(Opening("127.0.0.1", 2525))
    """
    await opening.learn_own_name(trio.to_thread.run_sync)
    try:
        with trio.fail_after(inf if opening.connect_timeout is None else opening.connect_timeout):
            sock = opening.sock if opening.sock is not None else await _connected(opening)
    except (trio.TooSlowError, OSError) as exc:
        opening.failed(exc)
    sock.setblocking(False)
    no_delay(sock)
    return ClientSocket(sock, opening)


async def _connected(opening: Opening) -> socket.socket:
    """trio's own means find the way; the socket itself is the system's."""
    if opening.path is not None:
        stream = await trio.open_unix_socket(opening.path)
    else:
        assert opening.host is not None
        address, port = opening.source_address or (None, 0)
        if port:
            return await _from_port(opening.host, opening.port, opening.source_address)
        stream = await trio.open_tcp_stream(opening.host, opening.port, local_address=address)
    return socket.socket(fileno=stream.socket.detach())


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


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Connecting[Client]:
    """Connect to a server by SMTP, or LMTP by the config, and say hello. ``await`` it, or use ``async with``, which
    says QUIT in the end. No task is left behind: the octets move while the program waits for the server.

    Arguments:
        host, port: as :func:`ehlo.asyncio.connect` has them.
        options: likewise, each of them.

    Raises:
        SMTPException, LocalProtocolError: as :func:`ehlo.asyncio.connect`; SMTP's own are of RFC 5321 3.1 and 4.2.

    Example::

        async with ehlo.trio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
