"""A pool of clients on asyncio: :class:`Pool`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from time import monotonic
from typing import TYPE_CHECKING

from ehlo._client import Wakeable
from ehlo._core import ClientConfig
from ehlo._pool import BasePool
from ehlo.asyncio._client import Client, connect

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Pool"]


class Pool(BasePool[Client]):
    """Connections to one server, kept and shared by any number of tasks.

    Sends get connections in the order in which they asked. A connection is made when it is first needed.

    Arguments:
        host, port, config, hostname, path, source_address, tls, connect_timeout: as for
            :func:`ehlo.asyncio.connect`.
        max_connections: connections at once.
        max_messages: messages after which a connection is replaced; ``None``: never. Where the server says LIMITS
            MAILMAX, that is kept, too (RFC 9422).
        idle: seconds after which a connection that nobody uses is closed; ``None``: never.
        check_after: seconds after which a kept connection is asked with NOOP before it is used; ``None``: never.

    Example::

        async with ehlo.asyncio.Pool("mx.example", 25, max_connections=4) as pool:
            await pool.send(octets, sender="a@b.example", recipients=["c@d.example"])
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        max_connections: int = 10,
        max_messages: int | None = 1000,
        idle: float | None = 60.0,
        check_after: float | None = 20.0,
        config: ClientConfig | None = None,
        hostname: str | None = None,
        path: str | os.PathLike[str] | None = None,
        source_address: str | tuple[str, int] | None = None,
        tls: SSLContext | None = None,
        connect_timeout: float | None = 30.0,
    ) -> None:
        super().__init__(max_connections, max_messages, idle, check_after)
        self._opening = connect(
            host,
            port,
            config=config,
            hostname=hostname,
            path=path,
            source_address=source_address,
            tls=tls,
            connect_timeout=connect_timeout,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def _make_event(self) -> Wakeable:
        return asyncio.Event()

    def _now(self) -> float:
        return monotonic()

    async def _connect(self) -> Client:
        return await self._opening

    def _watch(self) -> None:
        if self._timer is None and self._idle_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for client in self._reap():
            task = asyncio.get_running_loop().create_task(self._farewell(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle:
            self._watch()

    async def _farewell(self, client: Client) -> None:
        with contextlib.suppress(OSError):
            await client.close()

    async def close(self) -> None:
        await super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closing:
            await asyncio.wait(self._closing)

    close.__doc__ = BasePool.close.__doc__
