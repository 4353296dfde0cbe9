"""Connected sockets, watched by tasks of trio, where the system has no epoll: :class:`TaskWatch`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Any, Final

import trio
from trio.lowlevel import spawn_system_task, wait_readable, wait_writable

from ehlo._io.watch import READ, WRITE, Engine

__all__ = ["TaskWatch"]

_WAITS: Final[dict[int, Callable[[int], Awaitable[None]]]] = {READ: wait_readable, WRITE: wait_writable}


class TaskWatch:
    """A :class:`ehlo._io.watch.Watch` with a system task for each socket and direction.

    Arguments:
        guard: calls a function, and lets nothing that it raises out.
    """

    def __init__(self, guard: Callable[..., object]) -> None:
        self._guard = guard
        self._calls: dict[int, tuple[Context, Callable[[Any], object]]] = {}
        self._scopes: dict[tuple[int, int], trio.CancelScope] = {}

    def add(self, fd: int, events: int, call: Callable[[Any], object], conn: Engine | None = None) -> None:
        self._calls[fd] = copy_context(), call
        self.change(fd, events)

    def change(self, fd: int, events: int, conn: Engine | None = None) -> None:
        for event in (READ, WRITE):
            scope = self._scopes.get((fd, event))
            if events & event and scope is None:
                self._scopes[fd, event] = scope = trio.CancelScope()
                context, call = self._calls[fd]
                spawn_system_task(self._serve, fd, event, scope, context, call, name="ehlo: a socket")
            elif scope is not None and not events & event:
                del self._scopes[fd, event]
                scope.cancel()

    def remove(self, fd: int) -> None:
        self.change(fd, 0)
        del self._calls[fd]

    async def _serve(
        self, fd: int, event: int, scope: trio.CancelScope, context: Context, call: Callable[[Any], object]
    ) -> None:
        with scope:
            while not scope.cancel_called:
                try:
                    await _WAITS[event](fd)
                except trio.ClosedResourceError:  # by a client that was to stop reading: it wakes all that wait
                    continue
                if not scope.cancel_called:
                    self._guard(context.run, call, event)
