"""A protocol for each connection of a listening socket that is not ours: :func:`server_protocol`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from ehlo._core import ServerConfig
from ehlo._server.limits import Limits
from ehlo._server.listener import make_server
from ehlo.asyncio._server import Server
from ehlo.asyncio._server_protocol import ServerProtocol

__all__ = ["ProtocolFactory", "server_protocol"]


class ProtocolFactory:
    """What :func:`server_protocol` returns. Calling it makes the protocol of one connection.

    Attributes:
        server: the :class:`Server` that the connections belong to: its ``connections``, its ``statistics``, and its
            ``close``, which ends the sessions. It has no listening socket.

    Example::

        listener = await loop.create_server(factory, "127.0.0.1", 2525)
        listener.close(); await factory.server.close()
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self) -> asyncio.BufferedProtocol:
        return ServerProtocol(self.server)


def server_protocol(
    handler: object,
    *,
    config: ServerConfig | None = None,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    trusted: Iterable[str] = (),
) -> ProtocolFactory:
    """Make a factory of protocols, one for each connection, for ``loop.create_server`` and similar functions. Call it
    in the running loop.

    Arguments:
        handler, config, limits, trusted: as for :func:`serve`.
        tls: the context of STARTTLS, or of TLS before the greeting with ``ServerConfig(tls="implicit")``. If
            the transport has TLS itself (``loop.create_server(…, ssl=…)``), leave it out: the session sees that TLS.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense.

    Example::

        factory = ehlo.asyncio.server_protocol(Mine(), config=ehlo.ServerConfig("mx.example"))
        listener = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 2525)
    """
    return ProtocolFactory(make_server(Server, handler, config, limits, tls, trusted, only_unix=False, own_tls=False))
