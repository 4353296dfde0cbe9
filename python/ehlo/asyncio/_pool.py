"""A pool of clients on asyncio: :class:`Pool`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar, Unpack

from ehlo._client.options import PoolOptions
from ehlo._client.pool import BasePool
from ehlo.asyncio._client import Client, connect

__all__ = ["Pool"]

T = TypeVar("T")


class Pool(BasePool[Client]):
    __doc__ = BasePool.__doc__

    _make_event = asyncio.Event
    _sleep = staticmethod(asyncio.sleep)

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
        super().__init__(opening, monotonic, max_connections, max_messages, idle, check_after, check_seconds)
        self._sweeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def _within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(seconds):
                return await function()
        except TimeoutError:
            return None

    def _run_beside(self, function: Callable[[Client], Coroutine[Any, Any, None]], client: Client) -> bool:
        task = asyncio.get_running_loop().create_task(function(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _start_sweeping(self) -> bool:
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return True

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
