"""A pool of clients on trio: :class:`Pool`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, Unpack

import trio

from ehlo._client.options import PoolOptions
from ehlo._client.pool import BasePool
from ehlo.trio._client import Client, connect
from ehlo.trio._nursed import Nursed

__all__ = ["Pool"]

T = TypeVar("T")


class Pool(Nursed, BasePool[Client]):
    __doc__ = (BasePool.__doc__ or "").replace("ehlo.asyncio", "ehlo.trio")

    _make_event = trio.Event
    _sleep = staticmethod(trio.sleep)

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        max_connections: int = 10,
        max_messages: int | None = 1000,
        idle: float | None = 60.0,
        check_after: float | None = 20.0,
        check_seconds: float = 3.0,
        **options: Unpack[PoolOptions],
    ) -> None:
        opening = connect(host, port, **options)
        super().__init__(opening, trio.current_time, max_connections, max_messages, idle, check_after, check_seconds)
        self._nursery = None

    async def _within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T | None:
        with trio.move_on_after(seconds):
            return await function()
        return None

    def _run_beside(self, function: Callable[[Client], Coroutine[Any, Any, None]], client: Client) -> bool:
        if self._nursery is None:
            return False
        self._nursery.start_soon(function, client)
        return True

    def _start_sweeping(self) -> bool:
        # Without ``async with`` there is nowhere to run it: then the idle are closed when a connection is next asked
        # for.
        if self._nursery is None or self._closed:
            return False
        self._nursery.start_soon(self._sweep)
        return True

    def _stop_sweeping(self) -> None:
        """It ends with the nursery, and by itself when none is idle."""
