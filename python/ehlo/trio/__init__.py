"""The trio adapter: :func:`serve` and :func:`connect`.

Example::

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, port=2525))
        async with ehlo.trio.connect("127.0.0.1", server.port) as client:
            await client.send(octets, sender="a@b.example", recipients=["c@d.example"])
"""

from __future__ import annotations

from ehlo._client.transaction import Transaction
from ehlo.trio._client import Client, connect
from ehlo.trio._pool import Pool
from ehlo.trio._server import Server, serve

__all__ = ["Client", "Pool", "Server", "Transaction", "connect", "serve"]
