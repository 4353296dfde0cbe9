"""Listening sockets, reads, writes, one timer and tasks for :mod:`ehlo._connection`, on asyncio.

No protocol decision is made here. What costs is kept off the usual path: a wake-up is one ``receive_from``, one
``next_event``, one ``data_to_send`` and one ``transport.write``; a task exists only while a handler really waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from ehlo._connection import WRITING, Connection
from ehlo._core import ReceiveBuffer, ServerConfig
from ehlo._driver import Call, Event
from ehlo._handler import Plan
from ehlo._limits import Limits
from ehlo._listener import Listener, address_of, bind, no_delay, prepare

__all__ = ["Server", "serve"]

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, ReceiveBuffer] = WeakKeyDictionary()


def _spawn(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task; where Python can (3.12), it runs at once up to its first real wait. A task factory is respected."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(coro, loop=loop, eager_start=True)
    return loop.create_task(coro)


class ServerProtocol(Connection, asyncio.BufferedProtocol):
    """One connection. Private: a :class:`Server` makes them."""

    __slots__ = ("_buffer", "_timer", "_transport", "_view", "_write")

    _server: Server
    _transport: asyncio.Transport
    _write: Callable[[bytes], object]

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._buffer = server._buffer
        self._view = server._view
        self._timer: asyncio.TimerHandle | None = None

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._write = self._transport.write
        server = self._server
        refusal = server._admit(self)
        if refusal is not None:
            self._closing = True
            self._write(refusal)
            self._transport.close()
            return
        no_delay(transport.get_extra_info("socket"))
        self._open()
        self._arm(server._tick)
        self._advance()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self._octets += nbytes
        self._seen = monotonic()
        conn = self._conn
        conn.receive_from(self._buffer, nbytes)
        event = None
        if not self._driver.blocked:
            event = conn.next_event()
            if event is None:
                # The usual path: all was answered by the engine. It is _advance without what cannot have happened,
                # since the end of a session is an event, too.
                out = conn.data_to_send()
                if out:
                    self._write(out)
                return
        self._advance(event)

    def eof_received(self) -> bool:
        if self._closing:
            return False
        self._seen = monotonic()
        self._conn.receive_eof()
        self._advance()
        return True  # what a handler has still to answer is sent first; then we close

    def pause_writing(self) -> None:
        self._pause(WRITING)

    def resume_writing(self) -> None:
        self._resume(WRITING)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is None:  # it was refused
            return
        self._timer.cancel()
        self._timer = None
        self._gone("the client's connection was lost" if exc is None else f"connection lost: {exc}")

    # ---- for Connection --------------------------------------------------------------------------

    def peer(self) -> tuple[str, int] | None:
        name = self._transport.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

    def local(self) -> tuple[str, int] | str | None:
        return address_of(self._transport.get_extra_info("sockname")) or None

    def make_event(self) -> asyncio.Event:
        return asyncio.Event()

    def _start(self, call: Call) -> None:
        task = _spawn(self._server._loop, self._run(call))
        if not task.done():
            call.cancel = task.cancel
            self._server._tasks.add(task)
            task.add_done_callback(partial(self._ended, call))

    async def _run(self, call: Call) -> None:
        try:
            result = await call.awaitable
        except (Exception, asyncio.CancelledError) as exc:
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

    def _stop_reading(self) -> None:
        self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        self._transport.resume_reading()

    def _close(self, linger: float) -> None:
        transport = self._transport
        if linger <= 0 or not transport.can_write_eof():
            transport.close()
            return
        with contextlib.suppress(OSError, RuntimeError):
            transport.write_eof()
        if self._pauses:
            self._pauses = 0
            transport.resume_reading()
        self._arm(linger)

    def _abort(self) -> None:
        self._transport.abort()

    # ---- time ------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        if self._closing:  # lingered long enough, or the peer does not take what we wrote
            self._transport.abort()
            return
        self._arm(self._judge(monotonic()))
        self._advance()


class Server(Listener[ServerProtocol]):
    """What :func:`serve` returns: a listening server. ``async with`` closes it.

    Example::

        async with await serve(handler, port=2525) as server:
            await server.serve_forever()
    """

    def __init__(self, plan: Plan, config: ServerConfig, limits: Limits) -> None:
        super().__init__(plan, config, limits, monotonic)
        self._loop = loop = asyncio.get_running_loop()
        buffer = _buffers.get(loop)
        if buffer is None:
            _buffers[loop] = buffer = ReceiveBuffer()
        self._buffer = buffer
        self._view = buffer.view
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._closer: asyncio.Task[None] | None = None

    def _make_event(self) -> asyncio.Event:
        return asyncio.Event()

    async def _wait(self, event: Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await event.wait()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _begin_to_close(self) -> None:
        self._closer = self._loop.create_task(self._close())

    async def _close(self) -> None:
        try:
            await self._drain()
            if self._tasks:  # on_disconnect, and handlers that were cancelled
                _, late = await asyncio.wait(tuple(self._tasks), timeout=max(1.0, self._cut_at - self._now()))
                for task in late:
                    task.cancel("the server is closed")
        finally:
            self._closed.set()

    async def _listen(self, sock: socket.socket, backlog: int) -> None:
        unix = sock.family == getattr(socket, "AF_UNIX", None)
        create = self._loop.create_unix_server if unix else self._loop.create_server
        listener = await create(partial(ServerProtocol, self), sock=sock, backlog=backlog)
        self._listeners.append(listener)


async def serve(
    handler: object,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int = 0,
    *,
    config: ServerConfig | None = None,
    limits: Limits | None = None,
    sockets: Iterable[socket.socket] | None = None,
    path: str | os.PathLike[str] | None = None,
    reuse_port: bool = False,
    backlog: int = 1024,
) -> Server:
    """Listen, and serve SMTP (or LMTP, by the config) with ``handler`` in the running loop.

    Arguments:
        handler: an :class:`ehlo.Handler`, or any object with some of its methods. What it overrides completes
            ``config`` (its ``decisions`` and ``content``).
        host: address, name, or several of them; ``None`` for all interfaces.
        port: TCP port; 0 lets the system choose, see :attr:`Server.port`.
        config: what the engine offers and bears.
        limits: what the adapter bears, see :class:`ehlo.Limits`.
        sockets: listening or bound stream sockets to use instead of ``host`` and ``port``.
        path: a Unix socket to listen on instead.
        reuse_port: set SO_REUSEPORT, so that several processes share the port.
        backlog: connections that the system queues before they are accepted.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense; LMTP on port 25 (RFC 2033 5).
        OSError: the address is taken, not ours or not allowed.

    Example::

        async with await ehlo.asyncio.serve(Mine(), "0.0.0.0", 25) as server:
            await server.serve_forever()
    """
    plan, config, given = prepare(handler, port, config, sockets, path)
    server = Server(plan, config, limits if limits is not None else Limits())
    socks = given if given is not None else await bind(server._loop.getaddrinfo, host, port, path, reuse_port)
    server._path = None if path is None else os.fspath(path)
    try:
        for sock in socks:
            await server._listen(sock, backlog)
    except BaseException:
        server._stop_listening()
        server._unlink()
        for sock in socks if given is None else ():
            sock.close()
        raise
    server._addresses = tuple(address_of(sock.getsockname()) for sock in socks)
    return server
