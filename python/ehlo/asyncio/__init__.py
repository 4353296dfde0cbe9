"""The asyncio adapter (uvloop works as well): :func:`serve` and :func:`connect`.

Example::

    async with await ehlo.asyncio.serve(handler, port=2525) as server:
        async with ehlo.asyncio.connect("127.0.0.1", server.port) as client:
            await client.send(octets, sender="a@b.example", recipients=["c@d.example"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehlo._lazy import lazy

if TYPE_CHECKING:
    from ehlo._client.transaction import Transaction
    from ehlo.asyncio._authenticator import Authenticator
    from ehlo.asyncio._client import Client, connect
    from ehlo.asyncio._pool import Pool
    from ehlo.asyncio._protocol import ProtocolFactory, server_protocol
    from ehlo.asyncio._server import Server, serve

__all__ = [
    "Authenticator",
    "Client",
    "Pool",
    "ProtocolFactory",
    "Server",
    "Transaction",
    "connect",
    "serve",
    "server_protocol",
]

if not TYPE_CHECKING:  # for a type checker any name would be there
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Authenticator": "ehlo.asyncio._authenticator",
            "Client": "ehlo.asyncio._client",
            "Pool": "ehlo.asyncio._pool",
            "ProtocolFactory": "ehlo.asyncio._protocol",
            "Server": "ehlo.asyncio._server",
            "Transaction": "ehlo._client.transaction",
            "connect": "ehlo.asyncio._client",
            "serve": "ehlo.asyncio._server",
            "server_protocol": "ehlo.asyncio._protocol",
        },
    )
