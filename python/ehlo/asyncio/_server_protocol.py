"""The tasks of one connection of a server, on asyncio, and TLS of the loop's own transports. All else is
:mod:`ehlo._io.server_connection`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from ehlo._core import ServerConfig
from ehlo._hooks import by_signal, is_torn_down
from ehlo._io.server_connection import LoopOwner, ServerStream
from ehlo._io.transport import SocketTransport
from ehlo._server.answers import Call
from ehlo.asyncio._loop import spawn

__all__ = ["AsyncioOwner", "ServerProtocol"]


class AsyncioOwner(LoopOwner, Protocol):
    """The server that a connection belongs to, with the tasks of its event loop.

    Attributes:
        _loop: the running loop.
        _tasks: the tasks that await handlers, so that the loop's weak references are not their only ones.
    """

    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...

    _tasks: set[asyncio.Task[None]]


class ServerProtocol(ServerStream, asyncio.BufferedProtocol):
    """One connection. Private: a :class:`Server` makes them."""

    __slots__ = ()

    _server: AsyncioOwner

    @property
    def _transport_tls(self) -> Any:
        """The TLS of the transport itself, where ``loop.create_server`` has it (``ssl=``); ``None`` without."""
        if type(self._transport) is SocketTransport:
            return None
        found = self._transport.get_extra_info("ssl_object")
        return found if isinstance(found, ssl.SSLObject | ssl.SSLSocket) else None

    def _opened(self) -> None:
        if self._transport_tls is not None:
            self._driver.tls_established(self._transport_tls)

    def _config_of_session(self) -> ServerConfig:
        config = self._server._config
        if self._transport_tls is not None and config.tls != "implicit":
            return config.replace(tls="implicit")
        return config

    def _start(self, call: Call) -> None:
        task = spawn(self._server._loop, self._run(call))
        if not task.done():
            call.cancel = task.cancel
            self._server._tasks.add(task)
            task.add_done_callback(partial(self._ended, call))

    async def _run(self, call: Call) -> None:
        try:
            result = await call.awaitable
        except BaseException as exc:
            if is_torn_down(exc):
                raise
            if by_signal(exc):
                self._interrupt()
                call.fail(exc)
                if self._lost:  # else connection_lost is still to come
                    self._called()
                raise
            call.fail(exc)
        else:
            call.resume(result)
        self._called()

    def _ended(self, call: Call, task: asyncio.Task[None]) -> None:
        self._server._tasks.discard(task)
        if task.cancelled():  # before it ran at all, so that _run could not say it
            if isinstance(call.awaitable, Coroutine):
                call.awaitable.close()
            call.fail(asyncio.CancelledError())
            self._called()
        else:
            task.exception()  # of a signal: the loop has raised it, and need not log it
