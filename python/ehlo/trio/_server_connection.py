"""Reads, writes, one deadline and the tasks of one connection, on trio: the backend of :mod:`ehlo._server.connection`.

No protocol decision is made here. A turn is one ``wait_readable``, which is its checkpoint, one ``recv_into`` and at
most one ``send``. Neither of these two blocks, so all connections share one buffer: nothing is awaited between the
filling and the emptying. One cancel scope, whose deadline is the next look at the limits, wakes the connection for
anything else than octets.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any, Final, Protocol

import trio
from trio.lowlevel import current_task, wait_readable, wait_writable

from ehlo._hooks import by_signal, is_torn_down
from ehlo._server.answers import Call
from ehlo._server.connection import WRITING, Connection
from ehlo._server.owner import Owner

__all__ = ["ServerTask", "TrioOwner"]

log: Final = logging.getLogger("ehlo")

# Why reading is paused, beside WRITING and HANDLER of ehlo._server.connection.
_EOF, _BROKEN = 4, 8


_OUR_FAULT: Final = "a session ended by a fault of ehlo"


class TrioOwner(Owner, Protocol):
    """The server that a connection belongs to, with the tasks of its event loop.

    Attributes:
        _nursery: of the connections, and of the calls of handlers that wait.
    """

    _nursery: trio.Nursery


class ServerTask(Connection):
    """One connection: a task that reads, and one for each call of its handler that waits. Private."""

    __slots__ = ("_linger", "_peername", "_scope", "_socket", "_task", "_unsent")

    _server: TrioOwner

    def __init__(self, server: TrioOwner, sock: socket.socket, peername: Any) -> None:
        super().__init__(server)
        self._advancing = True  # nothing moves before its task runs
        self._linger = 0.0
        self._peername = peername  # the socket of a client that has reset it knows no more whose it was
        self._scope: trio.CancelScope | None = None  # of the wait that goes on
        self._socket = sock
        self._task: trio.lowlevel.Task | None = None
        self._unsent = b""

    async def run(self) -> None:
        """The whole life of an admitted connection. Handler calls live in the server's nursery."""
        self._task = current_task()
        try:
            try:
                self._advancing = False
                self._advance()
                await self._converse()
                await self._say_farewell()
            except trio.Cancelled:
                self._cancelled()
                raise
            finally:
                if not self._lost:
                    self._gone("the client's connection was lost")
                self._socket.close()
            while (left := self._judge_rest(now := self._server._now())) is not None:
                with trio.CancelScope(deadline=now + left) as self._scope:
                    await trio.sleep_forever()
        except Exception:
            log.exception(_OUR_FAULT)

    # ---- octets ----------------------------------------------------------------------------------

    async def _converse(self) -> None:
        """Until the engine is done, or the client is gone."""
        now = self._server._now
        look = now() + self._server._tick
        while not (self._closing or self._lost or self._pauses & _BROKEN):
            with trio.CancelScope(deadline=look) as self._scope:
                if self._unsent:
                    await wait_writable(self._socket)
                    self._flush()
                elif self._pauses:
                    await trio.sleep_forever()
                else:
                    await self._read()
            if (moment := now()) >= look and not self._lost:
                look = moment + self._judge(moment)
                self._advance()

    async def _read(self) -> None:
        """Turn by turn, while there is nothing to do but reading."""
        conn, driver, buffer, now = self._conn, self._driver, self._server._buffer, self._server._now
        recv_into, view, descriptor = self._socket.recv_into, buffer.view, self._socket.fileno()
        while True:
            await wait_readable(descriptor)
            try:
                count = recv_into(view)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                self._pauses |= _BROKEN
                return
            if not count:
                self._pauses |= _EOF
                self._end_of_input()
                return
            self._octets += count
            if self._tls is not None:
                self._receive_tls(view[:count])
                if self._pauses or self._closing:
                    return
                continue
            self._seen = now()
            conn.receive_from(buffer, count)
            event = None
            if not driver.blocked:
                event = conn.next_event()
                if event is None:
                    # The usual path: all was answered by the engine, which has not ended the session.
                    out = conn.data_to_send()
                    if out:
                        self._write(out)
                        if self._pauses:
                            return
                    continue
            self._advance(event)
            if self._pauses or self._closing:
                return

    def _write(self, octets: bytes) -> None:
        if not self._unsent:
            try:
                sent = self._socket.send(octets)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._pauses |= _BROKEN
                self._poke()
                return
            if sent == len(octets):
                return
            octets = octets[sent:]
        self._unsent += octets
        self._pause(WRITING)

    def _flush(self) -> None:
        octets, self._unsent = self._unsent, b""
        self._write(octets)
        if not self._unsent:
            self._resume(WRITING)

    async def _say_farewell(self) -> None:
        """Send what is left; then, with something to linger for, FIN, and read until the client's."""
        if self._unsent:
            with trio.CancelScope(deadline=self._server._now() + self._server._tick) as self._scope:
                while self._unsent and not (self._lost or self._pauses & _BROKEN):
                    await wait_writable(self._socket)
                    self._flush()
        if self._unsent or self._linger <= 0 or self._lost or self._pauses & _BROKEN:
            return
        with contextlib.suppress(OSError), trio.CancelScope(deadline=self._server._now() + self._linger) as self._scope:
            self._socket.shutdown(socket.SHUT_WR)
            count = 1
            while count:
                await wait_readable(self._socket)
                count = self._socket.recv_into(self._server._buffer.view)

    # ---- for Connection --------------------------------------------------------------------------

    def _name(self, end: str) -> Any:
        if end == "peername":
            return self._peername
        with contextlib.suppress(OSError):
            return self._socket.getsockname()

    def _start(self, call: Call) -> None:
        scope = trio.CancelScope()
        call.cancel = lambda reason: scope.cancel()
        self._server._nursery.start_soon(self._run, call, scope)

    async def _run(self, call: Call, scope: trio.CancelScope) -> None:
        try:
            with scope:
                try:
                    result = await call.awaitable
                except BaseException as exc:
                    goes_on = _what_goes_on(exc)
                    if goes_on is not None and not scope.cancel_called:  # it comes from further out
                        self._cancelled()
                    call.fail(exc)
                    if goes_on is not None:
                        raise goes_on from exc.__cause__
                else:
                    call.resume(result)
        finally:
            try:
                self._called()
            except Exception:
                log.exception(_OUR_FAULT)

    def _cancelled(self) -> None:
        if not self._lost:
            self._server._totals.cut += self.cut()

    def _called(self) -> None:
        super()._called()
        if self._lost:
            self._poke()

    def _poke(self) -> None:
        """Whatever the connection's task waits for, it is to look around."""
        if self._scope is not None and current_task() is not self._task:
            self._scope.cancel()

    def _stop_reading(self) -> None:
        self._poke()

    def _go_on_reading(self) -> None:
        self._poke()

    def _close(self, linger: float) -> None:
        self._linger = linger
        if not self._unsent:
            self._poke()

    def _abort(self) -> None:
        self._gone("the server cut the connection")
        self._poke()


def _what_goes_on(exc: BaseException) -> BaseException | None:
    """What of a handler's exception is not the handler's failure alone: a cancellation, or the work of a signal."""
    if by_signal(exc) or is_torn_down(exc):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(trio.Cancelled)
    return exc if isinstance(exc, trio.Cancelled) else None
