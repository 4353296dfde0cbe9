"""The transport, the future and the timer of one connection of a client, on asyncio.

No protocol decision is made here. What costs is kept off the usual path: a wake-up is one ``receive_from``, the events,
one ``data_to_send`` and one ``transport.write``; a send waits on one future at a time; connections
that wait equally long share a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from ehlo._client.driver import ClientDriver
from ehlo._client.options import Opening
from ehlo.asyncio._loop import shared_of
from ehlo.asyncio._span import Span
from ehlo.asyncio._transport import SocketTransport

__all__ = ["ClientProtocol"]


class _Done:
    """Awaitable without a wait."""

    def __await__(self) -> Iterator[None]:
        return iter(())


_DONE: Final[Any] = _Done()


class ClientProtocol(ClientDriver, asyncio.BufferedProtocol):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = (
        "_backlog",
        "_closed",
        "_hurried",
        "_loop",
        "_shared",
        "_span",
        "_timer",
        "_transport",
        "_view",
        "_waiter",
        "write",
    )

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        shared = shared_of(loop)
        super().__init__(opening, shared.buffer, monotonic)
        self._shared = shared
        self._loop = loop
        self._view = self.buffer.view
        self._backlog = 0
        self._hurried = False  # the timer fires no later than quit_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._span: Span | None = None  # in place of a timer
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None  # for those who wait for it

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.write = self._transport.write
        self.start(partial(transport.get_extra_info, "sockname"))
        self._arm_span(self.opening.tick)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.seen = monotonic()
        if self.tls is None:
            self.conn.receive_from(self.buffer, nbytes)
        else:
            self.receive_tls(self._view[:nbytes])
        self.advance()

    def eof_received(self) -> bool:
        self.receive_end()
        return False

    def pause_writing(self) -> None:
        self.held = True

    def resume_writing(self) -> None:
        self.held = False
        self.seen = monotonic()
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.held = True
        if exc is not None:
            self._read_rest()
        self._disarm()
        self.gone()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _read_rest(self) -> None:
        """A write failed, and asyncio reads no more. What the server said before it went, a 421 above all, is still
        there (RFC 5321 3.8).
        """
        with contextlib.suppress(OSError), self._transport.get_extra_info("socket").dup() as sock:
            while count := sock.recv_into(self._view):
                self.buffer_updated(count)

    # ---- for ClientDriver ------------------------------------------------------------------------

    def writelines(self, pieces: Sequence[bytes]) -> None:
        if isinstance(self._transport, SocketTransport) or not isinstance(self._loop, asyncio.BaseEventLoop):
            self._transport.writelines(pieces)
            return
        for piece in pieces:  # asyncio's own joins them (3.11), or forgets to pause us (3.12)
            self._transport.write(piece)

    def refuses(self) -> bool:
        return self._transport.is_closing()

    def progress(self) -> Awaitable[None]:
        self.advance()
        if self.news:
            self.news = False
            # A content that is always there must not keep the loop from reading: the server may have had enough.
            return asyncio.sleep(0) if self.sources else _DONE
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def notify(self) -> None:
        if (waiter := self._waiter) is not None:
            self.news = False
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        self.news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hurry(self) -> None:
        self._hurried = True
        self._arm_span(min(self.opening.tick, self.opening.config.quit_timeout))

    def close(self) -> None:
        self._transport.close()
        if not (self.lost or self._hurried):
            self.hurry()  # to take what is left

    def drop(self) -> None:
        self._transport.abort()

    async def wait_closed(self) -> None:
        if self.lost:
            return
        if self._closed is None:
            self._closed = self._loop.create_future()
        await asyncio.shield(self._closed)

    # ---- time ------------------------------------------------------------------------------------

    def _arm_span(self, seconds: float) -> None:
        """Look at the clock after a time that many connections have."""
        self._disarm()
        self._span = self._shared.span(seconds)
        self._span.add(self._loop, self)

    def _arm(self, seconds: float) -> None:
        """Look at the clock after a time of this connection alone."""
        self._disarm()
        self._timer = self._loop.call_later(max(seconds, 0.001), self.on_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._span is not None:
            self._span.discard(self)
            self._span = None

    def on_time(self) -> None:
        """Nothing on the usual path touches the timer: it never sleeps longer than the shortest span that might begin
        meanwhile (:attr:`ehlo._client.options.Opening.tick`).
        """
        # Octets that the transport still holds, and that become fewer, are progress, too (C-CLI-32).
        backlog = self._transport.get_write_buffer_size()
        if backlog != self._backlog:
            self._backlog = backlog
            self.seen = monotonic()
        left = self.seen + self.opening.config.quit_timeout - monotonic() if self.closing else self.left()
        if left is not None and left <= 0:  # or the server does not take what is left
            self.time_is_up()
            self._transport.abort()
            return
        if left is None or left >= self.opening.tick:
            self._arm_span(self.opening.tick)
        else:
            self._arm(left)
