"""The trio adapter: :func:`serve`.

Example::

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, port=2525))
"""

from __future__ import annotations

from ehlo.trio._server import Server, serve

__all__ = ["Server", "serve"]
