"""A pool of clients on asyncio: :class:`Pool`."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Unpack

from ehlo._client.options import PoolOptions
from ehlo._client.pool import BasePool
from ehlo.asyncio._client import Client, connect

__all__ = ["Pool"]


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
        **options: Unpack[PoolOptions],
    ) -> None:
        opening = connect(host, port, **options)
        super().__init__(opening, monotonic, max_connections, max_messages, idle, check_after)
        self._sweeper: asyncio.Task[None] | None = None

    def _start_sweeping(self) -> bool:
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return True

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
