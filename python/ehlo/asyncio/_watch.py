"""Connected sockets, watched for an event loop: :func:`watch_of_loop` makes a :class:`Watch`.

Linux has epoll: the loop watches one of our own, and that watches the sockets. ``loop.add_reader`` and
``remove_reader`` take longer than the system needs for a whole connection, and each event costs a handle. With an epoll
a socket is two system calls, and an event is one call. It also tells on uvloop that the peer has reset the connection;
``add_reader`` says nothing there.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

__all__ = ["READ", "WRITE", "LoopWatch", "Watch", "watch_of_loop"]

READ: Final = 1
"""The socket can be read from, or is broken (EPOLLIN)."""

WRITE: Final = 4
"""It can be written to, or is broken (EPOLLOUT)."""

# Sockets that have their turn in one turn of the loop. The others have theirs in the next one.
_MOST: Final = 256


class Watch(Protocol):
    """Calls back for sockets. It belongs to one event loop, and lasts as long.

    Example::

        watch.add(sock.fileno(), READ, on_events)
    """

    def add(self, fd: int, events: int, call: Callable[[int], object]) -> None:
        """Watch a socket that is not watched. ``call`` gets the events, in the context of now.

        Arguments:
            events: of :data:`READ` and :data:`WRITE`. ``call`` may get others beside them.
        """

    def change(self, fd: int, events: int) -> None:
        """Watch for other events."""

    def remove(self, fd: int) -> None:
        """Watch it no more. It must still be open."""


def watch_of_loop(loop: asyncio.AbstractEventLoop) -> Watch | None:
    """A new watch; ``None`` for a loop that cannot watch sockets (Windows).

    Example::

        watch = watch_of_loop(asyncio.get_running_loop())
    """
    if hasattr(select, "epoll"):
        return _EpollWatch(loop)
    return LoopWatch(loop) if isinstance(loop, asyncio.SelectorEventLoop) else None


class _EpollWatch:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, tuple[Callable[..., object], Callable[[int], object]]] = {}
        # Not in the context of whoever comes first.
        Context().run(loop.add_reader, self._epoll.fileno(), self._turn)

    def add(self, fd: int, events: int, call: Callable[[int], object]) -> None:
        self._epoll.register(fd, events)
        self._calls[fd] = copy_context().run, call

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._calls[fd]

    def _turn(self) -> None:
        calls = self._calls
        for fd, events in self._epoll.poll(0, _MOST):
            # A call may end another connection, and one may begin with the same number: that finds nothing to read.
            if (found := calls.get(fd)) is not None:
                run, call = found
                run(call, events)


class LoopWatch:
    """The same by ``loop.add_reader`` and ``add_writer``, where there is no epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._watched: dict[int, tuple[int, Callable[[int], object]]] = {}

    def add(self, fd: int, events: int, call: Callable[[int], object]) -> None:
        self._watched[fd] = 0, call
        self.change(fd, events)

    def change(self, fd: int, events: int) -> None:
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
