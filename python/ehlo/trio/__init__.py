"""The trio adapter: :func:`serve` and :func:`connect`.

Example::

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, port=2525))
        async with ehlo.trio.connect("127.0.0.1", server.port) as client:
            await client.send(octets, sender="a@b.example", recipients=["c@d.example"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ehlo._lazy import lazy

import_module("trio")  # where it is missing, this import says so, and not the first use of a name

if TYPE_CHECKING:
    from ehlo._client.transaction import Transaction
    from ehlo.trio._authenticator import Authenticator
    from ehlo.trio._client import Client, connect
    from ehlo.trio._pool import Pool
    from ehlo.trio._server import Server, serve

__all__ = ["Authenticator", "Client", "Pool", "Server", "Transaction", "connect", "serve"]

if not TYPE_CHECKING:  # for a type checker any name would be there
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Authenticator": "ehlo.trio._authenticator",
            "Client": "ehlo.trio._client",
            "Pool": "ehlo.trio._pool",
            "Server": "ehlo.trio._server",
            "Transaction": "ehlo._client.transaction",
            "connect": "ehlo.trio._client",
            "serve": "ehlo.trio._server",
        },
    )
