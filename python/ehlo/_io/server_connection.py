"""Reads, writes and deadline of one connection over a transport: the backend of :mod:`ehlo._server.connection`.

No protocol decision is made here. The usual path is short: the watch of the loop's sockets lets the
engines answer by themselves, for all connections in one call (:class:`ehlo.Exchange`). With another transport a
wake-up is one ``receive_from``, one ``next_event``, one ``data_to_send`` and one ``transport.write``. There is a task
only while a handler really waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from ehlo._io.loop import Loop, Timer
from ehlo._io.shared import Shared
from ehlo._io.span import Span, disarm
from ehlo._io.transport import SocketTransport, Transport
from ehlo._server.connection import WRITING, Connection
from ehlo._server.owner import Owner

__all__ = ["LoopOwner", "ServerStream"]

# One more reason to pause reading, beside those of ehlo._server.connection: it is the turn of other connections.
_TURN: Final = 4
# The number of full reads before other connections have their turn.
_READS: Final = 4


class LoopOwner(Owner, Protocol):
    """The server that a connection belongs to, with the objects of its event loop.

    Attributes:
        _loop: the running loop.
        _view: the buffer that all connections read into.
        _full_read: octets of a read after which more is likely to wait; ``None`` where the loop is fair by itself.
        _shared: what the connections of the loop share.
    """

    @property
    def _loop(self) -> Loop: ...

    _view: memoryview
    _full_read: int | None
    _shared: Shared


class ServerStream(Connection):
    """One connection over a transport. An adapter's class inherits from it and has the tasks of handlers."""

    __slots__ = ("_buffer", "_peername", "_reads", "_span", "_timer", "_transport", "_view", "_write")

    _server: LoopOwner
    _transport: Transport
    _write: Callable[[bytes], object]

    def __init__(self, server: LoopOwner, peername: Any = None) -> None:
        super().__init__(server)
        self._peername = peername
        self._buffer = server._buffer
        self._view = server._view
        self._reads = 0
        self._timer: Timer | None = None
        self._span: Span | None = None  # in place of a timer

    # ---- the transport's side --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._write = self._transport.write
        server = self._server
        refusal = server._admit(self)
        if refusal is not None:
            self._closing = self._lost = True
            self._write(refusal)
            self._transport.close()
            return
        self._open()
        if isinstance(transport, SocketTransport):
            transport.exchange_for(self._conn)
        else:
            self._opened()
        self._arm_span()
        self._advance()

    def _opened(self) -> None:
        """The session has begun over a transport of the loop's own, and nothing was said yet."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self._octets += nbytes
        if nbytes == self._server._full_read:
            self._give_way()
        if self._tls is not None:
            self._receive_tls(self._view[:nbytes])
            return
        self._seen = self._server._now()
        conn = self._conn
        conn.receive_from(self._buffer, nbytes)
        event = None
        if not self._driver.blocked:
            event = conn.next_event()
            if event is None:
                # The usual path: the engine has answered all. This is _advance without the steps that cannot be needed:
                # the end of a session would be an event.
                out = conn.data_to_send()
                if out:
                    self._write(out)
                return
        self._advance(event)

    def exchanged(self) -> None:
        if not self._closing:
            self._advance()

    def _give_way(self) -> None:
        self._reads += 1
        if self._reads == _READS:
            self._reads = 0
            self._pause(_TURN)
            self._server._loop.call_soon(self._resume, _TURN)

    def eof_received(self) -> bool:
        if self._closing:
            return False
        self._end_of_input()
        return True  # it is for us to close

    def pause_writing(self) -> None:
        self._pause(WRITING)

    def resume_writing(self) -> None:
        self._resume(WRITING)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:  # it was refused
            return
        self._disarm()
        self._gone("the client's connection was lost" if exc is None else f"connection lost: {exc}")
        if self._driver.busy:
            self._watch_rest()

    # ---- for Connection --------------------------------------------------------------------------

    def _name(self, end: str) -> Any:
        if end == "peername" and self._peername is not None:  # as it was when the connection was accepted
            return self._peername
        return self._transport.get_extra_info(end)

    def _dispose(self) -> None:
        super()._dispose()
        if self._timer is not None and self._lost and not self._driver.busy:
            self._disarm()

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

    def _arm_span(self) -> None:
        """Look at the limits after the time that all connections have. Nothing is armed before."""
        self._span = span = self._server._shared.span(self._server._tick)
        span.add(self._server._loop, self)

    def _arm(self, seconds: float) -> None:
        """Look at the limits after a time of this connection alone."""
        self._disarm()
        self._timer = self._server._loop.call_later(seconds, self.on_time)

    _disarm = disarm

    def _watch_rest(self) -> None:
        left = self._judge_rest(self._server._now())
        if left is not None:
            self._arm(left)

    def on_time(self) -> None:
        if self._lost:
            self._watch_rest()
            return
        if self._closing:  # lingered long enough, or the peer does not take what we wrote
            self._transport.abort()
            return
        seconds = self._judge(self._server._now())
        if seconds >= self._server._tick:
            self._disarm()
            self._arm_span()
        else:
            self._arm(seconds)
        self._advance()
