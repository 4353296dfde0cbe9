"""Who watches the sockets of an event loop of asyncio: :func:`watch_of_loop`."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any

from ehlo._io.watch import READ, WRITE, Engine, EpollWatch, Watch

__all__ = ["LoopWatch", "watch_of_loop"]


def watch_of_loop(loop: asyncio.AbstractEventLoop) -> Watch | None:
    """A new watch; ``None`` for a loop that cannot watch sockets (Windows).

    Example::

        watch = watch_of_loop(asyncio.get_running_loop())
    """
    if hasattr(select, "epoll"):
        watch = EpollWatch(monotonic)
        Context().run(loop.add_reader, watch.fileno(), watch.turn, loop)  # not in the context of whoever comes first
        return watch
    return LoopWatch(loop) if isinstance(loop, asyncio.SelectorEventLoop) else None


class LoopWatch:
    """The same by ``loop.add_reader`` and ``add_writer``, where there is no epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._watched: dict[int, tuple[int, Callable[[Any], object]]] = {}

    def add(self, fd: int, events: int, call: Callable[[Any], object], conn: Engine | None = None) -> None:
        self._watched[fd] = 0, call
        self.change(fd, events)

    def change(self, fd: int, events: int, conn: Engine | None = None) -> None:
        loop: Any = self._loop()
        before, call = self._watched[fd]
        self._watched[fd] = events, call
        if events & ~before & READ:
            loop.add_reader(fd, call, READ)
        if events & ~before & WRITE:
            loop.add_writer(fd, call, WRITE)
        if before & ~events & READ:
            loop.remove_reader(fd)
        if before & ~events & WRITE:
            loop.remove_writer(fd)

    def remove(self, fd: int) -> None:
        self.change(fd, 0)
        del self._watched[fd]
