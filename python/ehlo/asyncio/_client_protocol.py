"""The waits of one connection of a client, on asyncio: one future at a time. All else is
:mod:`ehlo._io.client_connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from time import monotonic

from ehlo._client.options import Opening
from ehlo._io.client_connection import DONE, ClientStream
from ehlo._io.transport import SocketTransport
from ehlo.asyncio._loop import shared_of

__all__ = ["ClientProtocol"]


class ClientProtocol(ClientStream, asyncio.BufferedProtocol):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_closed", "_waiter")

    _loop: asyncio.AbstractEventLoop

    def __init__(self, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        super().__init__(loop, shared_of(loop), opening, monotonic)
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None  # for those who wait for it

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        if isinstance(self._transport, SocketTransport) or not isinstance(self._loop, asyncio.BaseEventLoop):
            self._transport.writelines(pieces)
            return
        for piece in pieces:  # asyncio's own joins them (3.11), or forgets to pause us (3.12)
            self._transport.write(piece)

    def progress(self) -> Awaitable[None]:
        self.advance()
        if self.news:
            self.news = False
            # A content that is always there must not keep the loop from reading: the server may have had enough.
            return asyncio.sleep(0) if self.sources else DONE
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def notify(self) -> None:
        waiter = self._waiter
        if waiter is None:
            return
        if self.closing and not self.lost and not self._transport.get_write_buffer_size():
            return  # connection_lost is next: a task that finds the connection closed need not wait for that, too
        self.news = False
        self._waiter = None
        if waiter.done():
            return
        # The name is private to asyncio: without it, the task goes on in the next turn.
        callbacks = getattr(waiter, "_callbacks", None) if self._called else None
        if not callbacks:
            waiter.set_result(None)
            return
        # The loop called, and no task runs: the one that waits goes on at once. A turn of the loop between costs as
        # much as the system takes to move a small message.
        self._called = False
        wakeup, context = callbacks[0]
        waiter.remove_done_callback(wakeup)
        waiter.set_result(None)
        context.run(wakeup, waiter)

    def wake(self) -> None:
        self.news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_closed(self) -> None:
        if self.lost:
            return
        if self._closed is None:
            self._closed = self._loop.create_future()
        await asyncio.shield(self._closed)
