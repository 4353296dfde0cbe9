"""What connections of one run of trio share: :func:`loop_of_run` gives its :class:`TrioLoop`.

One system task waits for the sockets of all connections and for their timers. A connection has no task of its own: it
is called when something has happened to its socket.
"""

from __future__ import annotations

import logging
import select
import signal
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import Any, Final

import trio
from trio.lowlevel import RunVar, Task, current_clock, enable_ki_protection, spawn_system_task, wait_readable

from ehlo._hooks import by_signal
from ehlo._io.shared import Shared
from ehlo._io.watch import EpollWatch, Watch
from ehlo.trio._watch import TaskWatch

__all__ = ["Place", "TrioLoop", "Waiting", "loop_of_run"]

log: Final = logging.getLogger("ehlo")

# The number of sockets that are served before the tasks of the run have their turn.
_MOST: Final = 256
# Real seconds after which the tasks have their turn, too. The turns of a client that floods the server are long.
_LONG: Final = 0.001


class _Timer:
    """A call that comes later."""

    __slots__ = ("call", "context", "loop")

    def __init__(self, loop: TrioLoop, call: Callable[[], object], context: Context) -> None:
        self.loop = loop
        self.call: Callable[[], object] | None = call
        self.context = context

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self.loop.forget_timer()


class Place:
    """A server or a connection, as the place where something was raised."""

    __slots__ = ()

    def _crash(self, exc: BaseException) -> bool:
        """Raise it where the program waits for it. False if it cannot be."""
        raise NotImplementedError


class Waiting(Place):
    """A connection of a client that a task waits for."""

    __slots__ = ()

    def wake(self) -> None:
        """Let the task look again."""
        raise NotImplementedError


class TrioLoop:
    """The :class:`ehlo._io.loop.Loop` of a run of trio. To be made by :func:`loop_of_run`.

    Attributes:
        now: the clock of the run, in seconds.
        shared: what its connections share.
        ended: the run ends, and nobody serves the sockets.
        servers: those that listen.
        waiting: the connections of clients that a task waits for.
    """

    def __init__(self) -> None:
        self.now = current_clock().current_time
        self._epoll: EpollWatch | None = EpollWatch(self.now) if hasattr(select, "epoll") else None
        self.watch: Watch = TaskWatch(self.guard) if self._epoll is None else self._epoll
        self.shared = Shared(self.watch, self.now)
        self.servers: dict[Place, None] = {}  # in this order
        self.waiting: dict[Task, Waiting] = {}
        self.ended = False
        self._soon: deque[tuple[Context, Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()
        self._cancelled = 0  # timers
        self._scope: trio.CancelScope | None = None  # of the wait for sockets
        self._turning = False  # calls that are due soon are made before the next wait

    # ---- as asyncio's loops have it --------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        self._soon.append((copy_context() if context is None else context, callback, args))
        if self.ended:
            self.settle()
        elif not self._turning and self._scope is not None:
            self._scope.cancel()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> _Timer:
        moment = self.now() + delay
        timer = _Timer(self, lambda: callback(*args), copy_context())
        heappush(self._timers, (moment, next(self._numbers), timer))
        if self._scope is not None and moment < self._scope.deadline:
            self._scope.deadline = moment
        return timer

    def forget_timer(self) -> None:
        """A timer was cancelled. Many cancelled timers are removed before their time."""
        self._cancelled += 1
        if self._cancelled * 2 > len(self._timers):
            self._timers = [one for one in self._timers if one[2].call is not None]
            heapify(self._timers)
            self._cancelled = 0

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        log.error("a session ended by a fault of ehlo: %s", context["message"], exc_info=context["exception"])

    # ---- turns -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make the calls that are due soon."""
        soon = self._soon
        while soon:
            context, callback, args = soon.popleft()
            self.guard(context.run, callback, *args)

    @enable_ki_protection
    def turn(self, function: Callable[[], object]) -> None:
        """Call it, and then all calls that it made due soon."""
        turning, self._turning = self._turning, True
        try:
            function()
            if not turning:
                self.settle()
        finally:
            self._turning = turning

    def guard(self, function: Callable[..., object], *args: Any) -> None:
        """Call it. An exception does not end the system task: it goes to the connection in which it was raised."""
        try:
            function(*args)
        except Exception as exc:
            self.call_exception_handler({"message": "a callback failed", "exception": exc})
        except BaseException as exc:
            place = _place_of(exc)
            if place is not None and place._crash(exc):
                return
            if not by_signal(exc):  # a trace did, while nobody waited for its connection
                self.call_exception_handler({"message": "a callback failed", "exception": exc})
            elif not self._crash_anywhere(exc):
                if not isinstance(exc, KeyboardInterrupt):
                    raise
                signal.raise_signal(signal.SIGINT)  # here trio gives it to the main task

    def _crash_anywhere(self, exc: BaseException) -> bool:
        """A signal concerns the whole program. Raise the exception of its handler in any server, or any client."""
        return any(one._crash(exc) for one in (*self.servers, *self.waiting.values()))

    async def run(self) -> None:
        """The system task: it ends with the run."""
        try:
            while True:
                self._turning = True
                self._call_due()
                self.settle()
                self._turning = False
                with trio.CancelScope(deadline=self._timers[0][0] if self._timers else inf) as self._scope:
                    await self._wait()
        finally:
            self.ended = True
            self.settle()
            self._timers.clear()
            for one in tuple(self.waiting.values()):  # a task that is shielded waits by itself from now on
                one.wake()
            if self._epoll is not None:
                self._epoll.close()

    async def _wait(self) -> None:
        """Serve the sockets until a timer is due, or something is to come soon."""
        epoll = self._epoll
        if epoll is None:
            await trio.sleep_forever()
        descriptor, soon, guard, serve = epoll.fileno(), self._soon, self.guard, self._serve
        while True:
            await wait_readable(descriptor)
            self._turning = True
            guard(serve, epoll)
            if soon:
                self.settle()
            self._turning = False

    def _serve(self, epoll: EpollWatch) -> None:
        """While there is work, the tasks of the run wait, but not for long. A turn of trio costs more than that of a
        connection.
        """
        left, end = _MOST, monotonic() + _LONG
        while left > 0 and (served := epoll.turn(self)) and monotonic() < end:
            left -= served

    def _call_due(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                self.guard(timer.context.run, call)


def _place_of(exc: BaseException) -> Place | None:
    """The connection or the server whose call raised it.

    The traceback knows it at no cost for the calls that raise nothing. trio knows only that the system task has raised
    it, and a context variable would have to be set for each call. Whatever a signal's handler raises may come out of
    any frame, so no method of ours could catch it everywhere.
    """
    traceback = exc.__traceback__
    while traceback is not None:
        place = traceback.tb_frame.f_locals.get("self")
        if isinstance(place, Place):
            return place
        traceback = traceback.tb_next
    return None


_loop: Final[RunVar[TrioLoop]] = RunVar("ehlo loop")


def loop_of_run() -> TrioLoop:
    """What the connections of the present run of trio share, clients and servers alike."""
    try:
        return _loop.get()
    except LookupError:
        _loop.set(loop := TrioLoop())
        spawn_system_task(loop.run, name="ehlo: sockets")
        return loop
