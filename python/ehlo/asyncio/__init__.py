"""The asyncio adapter (uvloop works as well): :func:`serve`.

Example::

    async with await ehlo.asyncio.serve(handler, port=2525) as server:
        await server.serve_forever()
"""

from __future__ import annotations

from ehlo.asyncio._server import Server, serve

__all__ = ["Server", "serve"]
