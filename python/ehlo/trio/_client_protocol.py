"""The waits of one connection of a client, on trio. All else is :mod:`ehlo._io.client_connection`.

If many connections wait, each parks its task, and the system task of the run serves the sockets. If one connection
waits alone, its task waits for the socket itself: one task less must be woken up. The same happens at the end of the
run: the system task has ended, and a shielded task may still say QUIT.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from typing import Final

import trio
from outcome import Error
from trio.lowlevel import (
    Abort,
    Task,
    checkpoint,
    current_task,
    enable_ki_protection,
    notify_closing,
    reschedule,
    wait_readable,
    wait_task_rescheduled,
)

from ehlo._client.options import Opening
from ehlo._hooks import by_signal
from ehlo._io.client_connection import DONE, ClientStream
from ehlo._io.client_transport import ClientTransport
from ehlo.trio._loop import TrioLoop, Waiting

__all__ = ["ClientProtocol"]

# After so many waits without another waiting connection, a task waits for its socket itself.
_ALONE: Final = 8


class ClientProtocol(ClientStream, Waiting):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_alone", "_closed", "_quiet", "_raised", "_task")

    _loop: TrioLoop
    _transport: ClientTransport

    def __init__(self, loop: TrioLoop, sock: socket.socket, opening: Opening) -> None:
        super().__init__(loop, loop.shared, opening, loop.now)
        self._alone = False  # its task waits for the socket
        self._closed: trio.Event | None = None  # for those who wait for it
        self._quiet = _ALONE  # the last waits that found no other connection waiting
        self._raised: BaseException | None = None  # to be raised by the task that waits
        self._task: Task | None = None  # parked
        self.connection_made(ClientTransport(loop, loop.watch, sock, self))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.notify()
        if self._closed is not None:
            self._closed.set()

    # ---- for ClientDriver ------------------------------------------------------------------------

    def progress(self) -> Awaitable[None]:
        self.advance()
        if self.news:
            self.news = False
            # A content that is always there must not keep the run from reading: the server may have had enough.
            return self._give_way() if self.sources else DONE
        if self.lost:
            return DONE
        loop = self._loop
        waiting = loop.waiting
        if loop.ended:
            return self._wait_in_time(waiting)
        self._quiet = 0 if waiting else self._quiet + 1
        if self._quiet > _ALONE and not self._transport.is_closing():
            return self._wait_alone(waiting)
        return self._park(waiting)

    async def _give_way(self) -> None:
        await checkpoint()
        self.look()  # while the system takes all that is sent, nothing else would read (C-CLI-33)
        self.news = False

    @enable_ki_protection  # else Ctrl-C could leave a task that is woken up, and does not sleep
    async def _park(self, waiting: dict[Task, Waiting]) -> None:
        self._transport.resume_reading()
        self._task = task = current_task()
        waiting[task] = self
        try:
            await wait_task_rescheduled(self._unpark)
        finally:
            del waiting[task]
        self._woken()

    def _unpark(self, raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    @enable_ki_protection
    async def _wait_alone(self, waiting: dict[Task, Waiting]) -> None:
        transport = self._transport
        transport.pause_reading()
        sock, task = transport.get_extra_info("socket"), current_task()
        waiting[task] = self
        try:
            while not (self.news or self.lost):
                self._alone = True
                await wait_readable(sock)
                self._alone = False
                transport.read_now()
        except trio.ClosedResourceError:  # there is news, and it did not come by this wait
            pass
        finally:
            self._alone = False
            del waiting[task]
        self._woken()

    def _woken(self) -> None:
        """The wait is over: raise what was left for this task."""
        self.news = False
        if (raised := self._raised) is not None:
            self._raised = None
            raise raised

    async def _wait_in_time(self, waiting: dict[Task, Waiting]) -> None:
        """Nobody else looks at the clock."""
        left, tick = self.left(), self.opening.tick
        with trio.move_on_after(tick if left is None else max(min(left, tick), 0.0)):
            await self._wait_alone(waiting)
            return
        self.on_time()

    def notify(self) -> None:
        if (task := self._task) is not None:
            self._task = None
            reschedule(task)
        elif self._alone:
            self._alone = False
            notify_closing(self._transport.get_extra_info("socket"))

    def wake(self) -> None:
        self.news = True
        self.notify()

    def tell(self) -> None:
        """The system task may call a trace. An exception of the trace still comes out of the waiting call."""
        try:
            super().tell()
        except BaseException as exc:
            if by_signal(exc) or self not in self._loop.waiting.values():
                raise
            self._raised = exc
            self.news = True

    def _crash(self, exc: BaseException) -> bool:
        """Raise it in the task that waits. False if none does."""
        if (task := self._task) is not None:
            self._task = None
            reschedule(task, Error(exc))
        elif self._alone:
            self._raised = exc
            self.wake()
        else:
            return False
        return True

    def look(self) -> None:
        if not self.lost:
            self._transport.read_now()
            self.advance()

    def close(self) -> None:
        self._loop.turn(super().close)

    def drop(self) -> None:
        self._loop.turn(super().drop)

    async def wait_closed(self) -> None:
        try:
            if not (self.lost or self._loop.ended) and self._transport.get_write_buffer_size():
                self._closed = trio.Event()
                await self._closed.wait()
        finally:
            self.drop()
