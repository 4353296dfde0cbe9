"""[metrics]: from the settings to the small HTTP server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import ehlo
from ehlo.cli._receive import cannot_listen, first_line
from ehlo.cli._serve.board import Board
from ehlo.cli._serve.figures import Figures, Hour, Part
from ehlo.cli._serve.gate import WayOut
from ehlo.cli._serve.into_queue import IntoQueue
from ehlo.cli._serve.settings import Address, Settings, parse_address
from ehlo.cli._serve.sockets import Place
from ehlo.cli._serve.trail import Trail
from ehlo.cli._serve.web import check_listen, open_web

__all__ = ["open_figures", "place_of_figures"]

_PORT: Final = 9925


@dataclass(frozen=True, slots=True)
class Shown:
    """Figures that are shown.

    Attributes:
        where: the address; ``None`` in all workers but the first.
        publish: tells the other workers; to be called again and again. ``None``: there is one process.
    """

    where: tuple[str, int] | None
    publish: Callable[[], None] | None


def _listen(settings: Settings) -> tuple[Address, str | None]:
    """The address and the token of [metrics]."""
    table = settings.metrics
    address = parse_address(table.listen or "", "metrics.listen", _PORT)
    if address.path is not None:
        raise settings.error("metrics.listen", "is HOST:PORT; a browser cannot read a Unix socket")
    token = None if table.token_file is None else first_line(table.token_file, "metrics.token_file").strip()
    return address, token


def place_of_figures(settings: Settings) -> Place:
    """Where the figures would be shown.

    Raises:
        UsageError: they may not be shown there.

    Example::

        place = place_of_figures(settings)
    """
    address, token = _listen(settings)
    check_listen(address.host, token)
    return Place("metrics", "metrics.listen", address.host, address.port)


@asynccontextmanager
async def open_figures(
    settings: Settings,
    out: WayOut,
    trail: Trail,
    servers: Callable[[], tuple[ehlo.Statistics, int]],
    board: Board | None = None,
    number: int = 0,
) -> AsyncIterator[Shown]:
    """Show the figures of a server as long as it is open. Of several workers the first one shows those of all.

    Arguments:
        out: the queue's figures are shown if this is the queue.
        trail: whose events of the last hour are counted.
        servers: gives the statistics and the open connections of all listeners.
        board: of all workers; ``None``: there is one process.
        number: of this worker.

    Raises:
        UsageError: it cannot listen there, or may not.
    """
    address, token = _listen(settings)
    queue = out.queue if isinstance(out, IntoQueue) else None
    hour = Hour(time.time)
    before: list[Part] = []  # of the worker in whose place this one was started: counters do not go back
    if board is not None and (words := board.read(number)) is not None:
        before.append(Part.of(words).ended(time.time()))

    def others() -> list[Part]:
        assert board is not None
        publish()  # what a reader has seen must count on when this worker dies
        found = [board.read(one) for one in range(board.workers) if one != number]
        return before + [Part.of(words) for words in found if words is not None]

    def publish() -> None:
        assert board is not None
        board.write(number, sum(before, figures.part()).words())

    figures = Figures(
        settings.hostname, queue, servers, hour, lambda: trail.dropped, time.time, tuple if board is None else others
    )
    trail.watch = hour
    if number:
        yield Shown(None, publish)
        return
    async with AsyncExitStack() as stack:
        try:
            where = await stack.enter_async_context(open_web(address.host, address.port, figures, token))
        except OSError as exc:
            raise cannot_listen(exc, address.host, address.port, None, ("metrics.listen",) * 3) from None
        yield Shown(where, publish if board is not None else None)
