"""[metrics]: from the settings to the small HTTP server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import ehlo
from ehlo.cli._receive import cannot_listen, first_line
from ehlo.cli._serve.figures import Figures, Hour
from ehlo.cli._serve.gate import WayOut
from ehlo.cli._serve.into_queue import IntoQueue
from ehlo.cli._serve.settings import Settings, parse_address
from ehlo.cli._serve.trail import Trail
from ehlo.cli._serve.web import open_web

__all__ = ["open_figures"]

_PORT: Final = 9925


@asynccontextmanager
async def open_figures(
    settings: Settings, out: WayOut, trail: Trail, servers: Callable[[], tuple[ehlo.Statistics, int]]
) -> AsyncIterator[tuple[str, int]]:
    """Show the figures of a server as long as it is open. Gives the address.

    Arguments:
        out: the queue's figures are shown if this is the queue.
        trail: whose events of the last hour are counted.
        servers: gives the statistics and the open connections of all listeners.

    Raises:
        UsageError: it cannot listen there, or may not.
    """
    table = settings.metrics
    address = parse_address(table.listen or "", "metrics.listen", _PORT)
    if address.path is not None:
        raise settings.error("metrics.listen", "is HOST:PORT; a browser cannot read a Unix socket")
    token = None if table.token_file is None else first_line(table.token_file, "metrics.token_file").strip()
    queue = out.queue if isinstance(out, IntoQueue) else None
    hour = Hour(time.time)
    figures = Figures(settings.hostname, queue, servers, hour, lambda: trail.dropped, time.time)
    trail.watch = hour
    async with AsyncExitStack() as stack:
        try:
            where = await stack.enter_async_context(open_web(address.host, address.port, figures, token))
        except OSError as exc:
            raise cannot_listen(exc, address.host, address.port, None, ("metrics.listen",) * 3) from None
        yield where
