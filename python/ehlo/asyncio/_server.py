"""Listening sockets, reads, writes, one timer and tasks for :class:`ehlo._driver.ServerDriver`, on asyncio.

No protocol decision is made here. What costs is kept off the usual path: a wake-up is one ``receive_from``, one
``step``, one ``data_to_send`` and one ``transport.write``; a task exists only while a handler really waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from ehlo._core import ReceiveBuffer, Reply, ServerConfig, ServerConnection
from ehlo._driver import Call, ServerDriver
from ehlo._errors import LocalProtocolError
from ehlo._handler import Plan, plan_of
from ehlo._limits import Limits, Statistics
from ehlo._types import ServerEvent

__all__ = ["Server", "serve"]

# The timer of a connection fires at least this often, in seconds: the time that a limit may act too late.
_TICK: Final = 30.0
# With this much unread by the engine, and a handler that keeps the session waiting, reading stops. In octets.
_QUEUE: Final = 65536
# Reasons (ehlo.Disconnect) after which the peer is not in the middle of sending: close without lingering.
_CLEAN: Final = frozenset(("quit", "eof", "shutdown"))
# Why reading is paused; bits of ServerProtocol._pauses.
_WRITING, _HANDLER = 1, 2

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, ReceiveBuffer] = WeakKeyDictionary()


def _spawn(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task; where Python can (3.12), it runs at once up to its first real wait. A task factory is respected."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(coro, loop=loop, eager_start=True)
    return loop.create_task(coro)


class ServerProtocol(asyncio.BufferedProtocol):
    """One connection. Private: a :class:`Server` makes them."""

    __slots__ = (
        "_advancing",
        "_born",
        "_buffer",
        "_closing",
        "_conn",
        "_content_base",
        "_content_mark",
        "_content_since",
        "_driver",
        "_expired",
        "_held_since",
        "_lost",
        "_network",
        "_octets",
        "_pauses",
        "_seen",
        "_server",
        "_timer",
        "_transport",
        "_view",
    )

    _transport: asyncio.Transport
    _conn: ServerConnection
    _driver: ServerDriver

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = server._buffer
        self._view = server._view
        self._advancing = False
        self._closing = False
        self._expired = False
        self._lost = False
        self._octets = 0
        self._pauses = 0
        self._held_since = 0.0
        self._content_since = 0.0
        self._content_base = 0
        self._content_mark = -1
        self._network: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        server = self._server
        refusal = server._admit(self)
        if refusal is not None:
            self._closing = True
            self._transport.write(refusal)
            self._transport.close()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._conn = ServerConnection(server._config)
        self._driver = ServerDriver(self._conn, server._plan, self)
        self._seen = self._born = monotonic()
        self._timer = server._loop.call_later(server._tick, self._on_timer)
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
                    self._transport.write(out)
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
        self._pause(_WRITING)

    def resume_writing(self) -> None:
        self._resume(_WRITING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._server._forget(self)
            for call in self._driver.lost():
                if call.cancel is not None:
                    call.cancel("the client's connection was lost" if exc is None else f"connection lost: {exc}")
            self._advance()
            self._dispose()

    # ---- the driver's side -----------------------------------------------------------------------

    def peer(self) -> tuple[str, int] | None:
        name = self._transport.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

    def local(self) -> tuple[str, int] | str | None:
        name = self._transport.get_extra_info("sockname")
        if isinstance(name, tuple):
            return (str(name[0]), int(name[1]))
        return os.fsdecode(name) if name else None

    def make_event(self) -> asyncio.Event:
        return asyncio.Event()

    def wake(self) -> None:
        self._held_since = monotonic()  # the handler did something: its time begins anew
        self._advance()

    # ---- one wake-up -----------------------------------------------------------------------------

    def _advance(self, event: ServerEvent | None = None) -> None:
        """Handle all that can be handled now, then write once."""
        if self._advancing:  # a handler that ended while it was being started: the loop below goes on
            return
        driver = self._driver
        self._advancing = True
        try:
            while (call := driver.step(event)) is not None:
                event = None
                self._start(call)
        finally:
            self._advancing = False
        if self._lost:
            return
        conn = self._conn
        out = conn.data_to_send()
        if out:
            self._transport.write(out)
        if driver.blocked:
            if self._held_since == 0.0:
                self._held_since = monotonic()
            if conn.buffered >= _QUEUE:
                self._pause(_HANDLER)
        elif self._held_since != 0.0:
            # The time that the program took is not the client's (S-SES-41).
            self._held_since = 0.0
            self._seen = monotonic()
            if self._pauses & _HANDLER:
                self._resume(_HANDLER)
        if conn.closed:
            self._finish()

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
        if not self._advancing:
            self._advance()
            self._dispose()

    def _ended(self, call: Call, task: asyncio.Task[None]) -> None:
        self._server._tasks.discard(task)
        if task.cancelled():  # before it ran at all, so that _run could not say it
            if isinstance(call.awaitable, Coroutine):
                call.awaitable.close()
            call.fail(asyncio.CancelledError())
            self._advance()
            self._dispose()

    def _dispose(self) -> None:
        """After the last call of a lost connection: no reference cycle is left for the collector."""
        if self._lost and not self._driver.busy:
            self._driver.detach()

    def _pause(self, why: int) -> None:
        if not self._pauses and not self._closing:
            self._transport.pause_reading()
        self._pauses |= why

    def _resume(self, why: int) -> None:
        if self._pauses & why:
            self._pauses &= ~why
            if not self._pauses and not self._lost:
                self._transport.resume_reading()

    def _finish(self) -> None:
        """The engine is done: close. After a 421 that the peer may not expect, read on for a moment, so that what it
        is still sending does not make its kernel throw the reply away."""
        if self._closing:
            return
        self._closing = True
        transport = self._transport
        linger = self._server._limits.linger_seconds
        if self._driver.reason in _CLEAN or linger <= 0 or not transport.can_write_eof():
            transport.close()
            return
        with contextlib.suppress(OSError, RuntimeError):
            transport.write_eof()
        if self._pauses:
            self._pauses = 0
            transport.resume_reading()
        self._rearm(linger)

    def _rearm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._server._loop.call_later(seconds, self._on_timer)

    # ---- time ------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        """Judge every limit that has to do with time, then arm again. Nothing on the usual path touches the timer:
        it never sleeps longer than the shortest span that might begin meanwhile (``Server._tick``)."""
        if self._lost:
            return
        if self._closing:  # lingered long enough, or the peer does not take what we wrote
            self._transport.abort()
            return
        server, limits, driver, conn = self._server, self._server._limits, self._driver, self._conn
        now = monotonic()
        wait = server._tick
        if driver.blocked:
            call = driver.waiting_for
            if limits.handler_seconds is not None and call is not None:
                left = self._held_since + limits.handler_seconds - now
                if left <= 0:
                    self._handler_late(call, limits.handler_seconds)
                else:
                    wait = min(wait, left)
            self._content_mark = -1
        else:
            timeout = conn.timeout
            if timeout is not None:
                left = self._seen + timeout - now
                if left <= 0:
                    server._totals.idle_timeouts += 1
                    conn.receive_timeout()
                else:
                    wait = min(wait, left)
            if conn.in_content and not conn.closed:
                wait = min(wait, self._judge_content(now))
        if limits.session_seconds is not None and not conn.closed:
            left = self._born + limits.session_seconds - now
            if left > 0:
                wait = min(wait, left)
            elif not self._expired:
                self._expired = True
                server._totals.session_timeouts += 1
                conn.shutdown(Reply(421, "4.7.0", f"{server._config.hostname} Session lasted too long"))
            elif left <= -server._config.command_timeout and not driver.blocked:
                conn.receive_timeout()  # it had its time to end the transaction
        self._timer = server._loop.call_later(max(wait, 0.001), self._on_timer)
        self._advance()

    def _judge_content(self, now: float) -> float:
        """End a session whose content comes too slowly. Returns the seconds after which to look again."""
        limits, conn = self._server._limits, self._conn
        mark = conn.commands
        octets = conn.content_octets
        if mark != self._content_mark or octets < self._content_base:
            # First seen now: it began at most one tick ago, and gets that tick for nothing.
            self._content_mark, self._content_since, self._content_base = mark, now, octets
            elapsed = 0.0
        else:
            elapsed = now - self._content_since
        late = limits.content_seconds is not None and elapsed >= limits.content_seconds
        slow = (
            limits.content_rate is not None
            and elapsed > 0
            and elapsed >= limits.content_grace_seconds
            and octets - self._content_base < limits.content_rate * elapsed
        )
        if late or slow:
            self._server._totals.content_timeouts += 1
            conn.receive_timeout()
        return min(
            (limits.content_seconds if limits.content_seconds is not None else _TICK) - elapsed,
            max(limits.content_grace_seconds - elapsed, 1.0),
            _TICK,
        )

    def _handler_late(self, call: Call, seconds: float) -> None:
        self._server._totals.handler_timeouts += 1
        call.fail(TimeoutError(f"the handler kept the session waiting for more than {seconds:g} s"))
        if call.cancel is not None:
            call.cancel("the handler took too long")

    # ---- the server's side -----------------------------------------------------------------------

    def shutdown(self) -> None:
        """421 now or after the transaction (RFC 5321 3.8)."""
        if not self._closing:
            self._conn.shutdown()
            self._advance()
        elif not self._lost:
            self._transport.close()

    def cut(self) -> bool:
        """Abort. True if a session was still going on."""
        going_on = not self._closing
        self._closing = True
        self._transport.abort()
        return going_on


class Server:
    """What :func:`serve` returns: a listening server. ``async with`` closes it.

    Example::

        async with await serve(handler, port=2525) as server:
            await server.serve_forever()
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: Plan, config: ServerConfig, limits: Limits) -> None:
        self._loop = loop
        self._plan = plan
        self._config = config
        self._limits = limits
        buffer = _buffers.get(loop)
        if buffer is None:
            _buffers[loop] = buffer = ReceiveBuffer()
        self._buffer = buffer
        self._view = buffer.view
        spans = (limits.handler_seconds, limits.content_seconds, limits.session_seconds)
        self._tick = min(_TICK, config.command_timeout, config.content_timeout, *(s for s in spans if s is not None))
        self._live: set[ServerProtocol] = set()
        self._networks: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._totals = Statistics()
        self._listeners: list[asyncio.Server] = []
        self._addresses: tuple[tuple[str, int] | str, ...] = ()
        self._path: str | None = None
        self._full: bytes | None = None
        self._crowded: bytes | None = None
        self._accepting = True
        self._cut_at = 0.0
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._closer: asyncio.Task[int] | None = None

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def addresses(self) -> tuple[tuple[str, int] | str, ...]:
        """Where it listens: ``(address, port)`` for TCP, the path for a Unix socket."""
        return self._addresses

    @property
    def port(self) -> int:
        """The TCP port of the first listening socket.

        Raises:
            LocalProtocolError: it listens on a Unix socket only.

        Example::

            server = await serve(handler)     # port=0: the system chooses
            smtplib.SMTP("127.0.0.1", server.port)
        """
        for address in self._addresses:
            if isinstance(address, tuple):
                return address[1]
        raise LocalProtocolError("this server listens on a Unix socket: it has addresses, but no port")

    @property
    def connections(self) -> int:
        """Sessions open now."""
        return len(self._live)

    @property
    def config(self) -> ServerConfig:
        """The config that sessions run with, completed by the handler's decisions."""
        return self._config

    @property
    def limits(self) -> Limits:
        """The limits it was given."""
        return self._limits

    @property
    def statistics(self) -> Statistics:
        """What it has done so far, open sessions included; a new object each time."""
        total = self._totals + Statistics(handler_failures=self._plan.failures)
        for protocol in self._live:
            _count(total, protocol)
        return total

    # ---- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(0.0 if exc is not None and not isinstance(exc, Exception) else 30.0)

    async def serve_forever(self) -> None:
        """Wait until :meth:`close` was called and is done. Cancelling it closes nothing by itself.

        Example::

            async with await serve(handler, port=2525) as server:
                await server.serve_forever()
        """
        await self._closed.wait()

    async def close(self, deadline: float = 30.0) -> int:
        """Stop: accept no more, tell the idle ``421 4.3.2``, let open transactions end, then abort (RFC 5321 3.8).

        Safe to call again and from several tasks; a later call with a shorter deadline makes it end sooner.

        Arguments:
            deadline: seconds that open transactions have to end.

        Returns:
            The number of sessions that were aborted in the end.

        Example::

            cut = await server.close(deadline=5)
        """
        cut_at = self._loop.time() + deadline
        if self._closer is None:
            self._cut_at = cut_at
            self._closer = self._loop.create_task(self._close())
        elif cut_at < self._cut_at:
            self._cut_at = cut_at
            self._changed.set()
        return await asyncio.shield(self._closer)

    async def _close(self) -> int:
        self._accepting = False
        for listener in self._listeners:
            listener.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        for protocol in tuple(self._live):
            protocol.shutdown()
        while self._live and (left := self._cut_at - self._loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
        cut = sum([protocol.cut() for protocol in tuple(self._live)])
        self._totals.cut += cut
        while self._live:  # abort() ends them in the next turns of the loop
            self._changed.clear()
            await self._changed.wait()
        if self._tasks:  # on_disconnect, and handlers that were cancelled
            _, late = await asyncio.wait(tuple(self._tasks), timeout=max(1.0, self._cut_at - self._loop.time()))
            for task in late:
                task.cancel("the server is closed")
        self._closed.set()
        return cut

    # ---- called by connections -------------------------------------------------------------------

    def _admit(self, protocol: ServerProtocol) -> bytes | None:
        """Count a new connection in, or say the octets that refuse it (RFC 5321 3.1, 3.8)."""
        limits = self._limits
        if not self._accepting or (limits.max_connections is not None and len(self._live) >= limits.max_connections):
            self._totals.refused += 1
            if self._full is None:
                text = f"{self._config.hostname} Too many connections, try again later"
                self._full = Reply(421, "4.3.2", text).to_bytes()
            return self._full
        if limits.max_connections_per_network is not None:
            peer = protocol.peer()
            network = None if peer is None else limits.network_of(peer[0])
            if network is not None:
                count = self._networks.get(network, 0)
                if count >= limits.max_connections_per_network:
                    self._totals.refused_network += 1
                    if self._crowded is None:
                        text = f"{self._config.hostname} Too many connections from your network"
                        self._crowded = Reply(421, "4.7.0", text).to_bytes()
                    return self._crowded
                self._networks[network] = count + 1
                protocol._network = network
        self._totals.connections += 1
        self._live.add(protocol)
        return None

    def _forget(self, protocol: ServerProtocol) -> None:
        self._live.discard(protocol)
        _count(self._totals, protocol)
        network = protocol._network
        if network is not None:
            count = self._networks[network] - 1
            if count:
                self._networks[network] = count
            else:
                del self._networks[network]
        if self._closer is not None:
            self._changed.set()


def _count(total: Statistics, protocol: ServerProtocol) -> None:
    conn = protocol._conn
    total.messages += conn.messages
    total.commands += conn.commands
    total.errors += conn.errors
    total.octets += protocol._octets


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
    plan = plan_of(handler)
    config = ServerConfig() if config is None else config
    config = config.replace(decisions=plan.decisions, content=plan.content)
    plan.hostname = config.hostname
    socks = None if sockets is None else list(sockets)
    if socks is not None and path is not None:
        raise LocalProtocolError("serve: give sockets or path, not both")
    if socks == []:
        raise LocalProtocolError("serve: sockets is empty; give at least one, or host and port")
    # B-LMT-10, RFC 2033 5
    if config.lmtp and path is None and 25 in ([port] if socks is None else [_port(sock) for sock in socks]):
        raise LocalProtocolError("serve: LMTP must not be served on port 25 (RFC 2033 5); choose another port, as 24")

    loop = asyncio.get_running_loop()
    server = Server(loop, plan, config, limits if limits is not None else Limits())

    def factory() -> ServerProtocol:
        return ServerProtocol(server)

    try:
        if path is not None:
            name = os.fspath(path)
            listener = await loop.create_unix_server(factory, name, backlog=backlog)
            server._listeners.append(listener)
            server._path = name
        elif socks is not None:
            for sock in socks:
                server._listeners.append(await loop.create_server(factory, sock=sock, backlog=backlog))
        else:
            # None, not False: some systems have no such option.
            reuse = reuse_port or None
            server._listeners.append(await loop.create_server(factory, host, port, reuse_port=reuse, backlog=backlog))
    except BaseException:
        for listener in server._listeners:
            listener.close()
        raise
    server._addresses = tuple(_name(sock) for listener in server._listeners for sock in listener.sockets)
    return server


def _port(sock: socket.socket) -> int | None:
    name = sock.getsockname()
    return name[1] if isinstance(name, tuple) else None


def _name(sock: Any) -> tuple[str, int] | str:
    name = sock.getsockname()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else os.fsdecode(name)
