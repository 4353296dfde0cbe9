"""The transport and the timer of one connection of a client.

No protocol decision is made here. The usual path is short: after one ``receive_from``, ``flush`` of the engine gives
the events and sends the output. Only the rest of the output goes by the transport. Connections that wait
equally long share a timer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any, Final

from ehlo._client.driver import ClientDriver
from ehlo._client.options import Opening
from ehlo._io.loop import Loop, Timer
from ehlo._io.shared import Shared
from ehlo._io.span import Span, disarm
from ehlo._io.transport import SocketTransport, Transport

__all__ = ["DONE", "ClientStream"]


class _Done:
    def __await__(self) -> Generator[Any, Any, None]:
        iterator: Any = iter(())  # a generator would cost more
        return iterator  # type: ignore[no-any-return]


DONE: Final[Awaitable[None]] = _Done()
"""Awaitable without a wait."""


def _none() -> int:
    """The descriptor, where a transport of the loop's own has the socket."""
    return -1


class ClientStream(ClientDriver):
    """One connection over a transport. An adapter's class inherits from it and has the waits."""

    __slots__ = (
        "_backlog",
        "_called",
        "_hurried",
        "_loop",
        "_shared",
        "_span",
        "_timer",
        "_transport",
        "_view",
        "fileno",
        "write",
    )

    _transport: Transport

    def __init__(self, loop: Loop, shared: Shared, opening: Opening, now: Callable[[], float]) -> None:
        super().__init__(opening, shared.buffer, now)
        self._shared = shared
        self._loop = loop
        self._view = self.buffer.view
        self._backlog = 0
        self._called = False  # the loop called, and no task runs meanwhile
        self._hurried = False  # the timer fires no later than quit_timeout
        self._timer: Timer | None = None
        self._span: Span | None = None  # in place of a timer

    # ---- the transport's side ----------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.write = transport.write
        if isinstance(transport, SocketTransport):
            self.fileno = transport.get_extra_info("socket").fileno
        else:
            self.fileno = _none
        self.start(partial(transport.get_extra_info, "sockname"))
        # TLS and a trace get what comes before anything is said.
        if self.direct and self.trace is None:
            transport.exchange_for(self.conn)
        self._arm_span(self.opening.tick)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.seen = self.now()
        if self.tls is None:
            self.conn.receive_from(self.buffer, nbytes)
        else:
            self.receive_tls(self._view[:nbytes])
        self._called = True
        try:
            self.advance()
        finally:
            self._called = False

    def exchanged(self) -> None:
        """The watch has received for the engine, and that has something to tell."""
        self._called = True
        try:
            self.advance()
        finally:
            self._called = False

    def received(self, what: Any) -> None:
        """The engine has received in a call of its own, and has said or sent this."""
        self.seen = self.now()
        self._called = True
        try:
            self.advance(what)
        finally:
            self._called = False

    def eof_received(self) -> bool:
        self.receive_end()
        return False

    def pause_writing(self) -> None:
        self.held = True

    def resume_writing(self) -> None:
        self.held = False
        self.seen = self.now()
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.held = True
        self.direct = False
        if self.opening.sock is not None:  # the same connection: without this it would not end
            self.opening.sock.close()
        if exc is not None:
            self._read_rest()
        self._disarm()
        self._called = True
        try:
            self.gone()
        finally:
            self._called = False

    def _read_rest(self) -> None:
        """A write failed, and the transport reads no more. The last words of the server, usually a 421, can still be
        read (RFC 5321 3.8).
        """
        with contextlib.suppress(OSError), self._transport.get_extra_info("socket").dup() as sock:
            while count := sock.recv_into(self._view):
                self.buffer_updated(count)

    # ---- for ClientDriver ------------------------------------------------------------------------

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self._transport.writelines(pieces)

    def is_free(self) -> bool:
        return self.fileno is not _none and not self._transport.get_write_buffer_size()

    def refuses(self) -> bool:
        return self._transport.is_closing()

    def hurry(self) -> None:
        self._hurried = True
        self._arm_span(min(self.opening.tick, self.opening.config.quit_timeout))

    def close(self) -> None:
        self._transport.close()
        if not (self.lost or self._hurried):
            self.hurry()  # time for the rest of the output

    def drop(self) -> None:
        self._transport.abort()

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

    _disarm = disarm

    def left(self) -> float | None:
        self.seen = max(self.seen, self.conn.exchanged_at)
        return super().left()

    def on_time(self) -> None:
        """The usual path never sets the timer. So the timer never sleeps longer than the shortest timeout that might
        begin meanwhile (:attr:`ehlo._client.options.Opening.tick`).
        """
        # If the transport holds fewer octets than before, that is progress, too (C-CLI-32).
        backlog = self._transport.get_write_buffer_size()
        if backlog != self._backlog:
            self._backlog = backlog
            self.seen = self.now()
        if self.is_taken_away:
            self.end_taken_away()
            return
        left = self.left()
        if self.closing:
            left = self.seen + self.opening.config.quit_timeout - self.now()
        if left is not None and left <= 0:  # or the server does not take what is left
            self.time_is_up()
            self._transport.abort()
            return
        if left is None or left >= self.opening.tick:
            self._arm_span(self.opening.tick)
        else:
            self._arm(left)
