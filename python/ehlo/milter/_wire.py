"""The octets between us and a filter, on asyncio and trio.

A message needs about ten answers of a filter, so an answer must be cheap. On asyncio the next step goes out in the
callback that brought the answer to the one before, and the task that waits is woken once, at the end. One timer of the
connection watches over all of it. It is not moved for each step: when it fires too early, it waits for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

if TYPE_CHECKING:
    import trio

__all__ = ["Talk", "Wire", "open_wire"]

_BUFFER: Final = 16384
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Talk(Protocol):
    """What is said on a connection. None of the methods waits, and none raises.

    Attributes:
        done: there is nothing more to wait for.
        deadline: the moment of the wire's clock at which the present answer is late.
    """

    done: bool
    deadline: float

    def data_to_send(self) -> bytes: ...
    def receive_data(self, octets: bytes | bytearray | memoryview) -> None: ...
    def receive_eof(self) -> None: ...


class Wire(Protocol):
    """One connection. One task uses it at a time."""

    def now(self) -> float:
        """The clock of deadlines, in seconds."""

    async def send(self, deadline: float) -> None:
        """Send what the talk has, and wait for no answer. ``deadline`` is a moment of the clock.

        Raises:
            TimeoutError: the deadline came first.
            OSError: the connection is broken.
        """

    async def converse(self) -> None:
        """Send what the talk has and give it what comes, until it is done.

        Raises:
            TimeoutError: its deadline came first.
            OSError: the connection is broken.
        """

    def close(self) -> None:
        """Close it now. Never raises."""


async def open_wire(where: str | tuple[str, int], talk: Talk) -> Wire:
    """Connect to the path of a Unix socket, or to host and port.

    Raises:
        OSError: nobody listens there.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return await _open_on_trio(where, talk)
    loop = asyncio.get_running_loop()
    wire = _AsyncioWire(loop, talk)
    if isinstance(where, str):
        await loop.create_unix_connection(lambda: wire, where)
    else:
        await loop.create_connection(lambda: wire, *where)
    return wire


def _internet(sock: Any) -> Any:
    """The socket, if it is one of TCP."""
    return sock if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6) else None


def _answer_at_once(sock: Any) -> None:
    """A filter writes an answer in two parts. The second waits until the first is acknowledged, which the system does
    40 ms late, unless it is told each time not to wait."""
    if _QUICKACK is not None:
        with contextlib.suppress(OSError, NotImplementedError):
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


# ---- asyncio -------------------------------------------------------------------------------------


class _AsyncioWire(asyncio.BufferedProtocol):
    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, talk: Talk) -> None:
        self._loop = loop
        self._talk = talk
        self._view = memoryview(bytearray(_BUFFER))
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None  # of a sending; that of the talk counts without one
        self._blocked = False
        self._lost: Exception | None = None
        self._sock: Any = None

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._sock = _internet(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        talk = self._talk
        talk.receive_data(self._view[:nbytes])
        if talk.done:
            self._wake()
            return
        if octets := talk.data_to_send():
            self._transport.write(octets)
        if self._sock is not None:
            _answer_at_once(self._sock)

    def eof_received(self) -> None:
        self._talk.receive_eof()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionResetError("the connection is closed")
        self._talk.receive_eof()
        self._wake()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._deadline is not None:
            self._wake()

    # ---- for Link ----

    def now(self) -> float:
        return self._loop.time()

    async def send(self, deadline: float) -> None:
        self._write()
        self._deadline = deadline
        try:
            while self._blocked and self._lost is None:
                await self._wait(deadline)
        finally:
            self._deadline = None
        if self._lost is not None:
            raise self._lost

    async def converse(self) -> None:
        self._write()
        talk = self._talk
        if self._sock is not None:
            _answer_at_once(self._sock)
        while not talk.done:
            if self._lost is not None:
                raise self._lost
            await self._wait(talk.deadline)

    def close(self) -> None:
        transport = self._transport
        if transport.get_write_buffer_size():  # uvloop sends in its next turn; a filter that reads nothing has a second
            transport.close()
            self._loop.call_later(1, transport.abort)
        else:
            transport.abort()

    # ---- waits ----

    def _write(self) -> None:
        octets = self._talk.data_to_send()
        if octets and self._lost is None:
            self._transport.write(octets)

    async def _wait(self, deadline: float) -> None:
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._ring)
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _ring(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        deadline = self._talk.deadline if self._deadline is None else self._deadline
        if self._loop.time() < deadline:
            self._timer = self._loop.call_at(deadline, self._ring)
        else:
            waiter.set_exception(TimeoutError())


# ---- trio ----------------------------------------------------------------------------------------


async def _open_on_trio(where: str | tuple[str, int], talk: Talk) -> Wire:
    import trio

    if isinstance(where, str):
        stream = await trio.open_unix_socket(where)
    else:
        stream = await trio.open_tcp_stream(*where)
    return _TrioWire(stream.socket, talk)


class _TrioWire:
    def __init__(self, sock: trio.socket.SocketType, talk: Talk) -> None:
        self._sock = sock
        self._talk = talk
        self._tcp = _internet(sock)

    def now(self) -> float:
        return anyio.current_time()

    async def send(self, deadline: float) -> None:
        import trio

        octets = self._talk.data_to_send()
        if not octets:
            return
        with trio.move_on_at(deadline) as scope, memoryview(octets) as view:
            at = 0
            while at < len(view):
                at += await self._sock.send(view[at:])
        if scope.cancelled_caught:
            raise TimeoutError

    async def converse(self) -> None:
        import trio

        talk, sock = self._talk, self._sock
        while True:
            await self.send(talk.deadline)
            if self._tcp is not None:
                _answer_at_once(self._tcp)
            with trio.move_on_at(talk.deadline) as scope:
                octets = await sock.recv(_BUFFER)
            if scope.cancelled_caught:
                raise TimeoutError
            if octets:
                talk.receive_data(octets)
            else:
                talk.receive_eof()
            if talk.done:
                return

    def close(self) -> None:
        self._sock.close()
