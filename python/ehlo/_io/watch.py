"""Connected sockets, watched for an event loop: :class:`Watch`, and where the system has epoll :class:`EpollWatch`.

The loop watches one epoll of ours, and that watches the sockets. ``loop.add_reader`` and ``remove_reader`` take longer
than the system needs for a whole connection, and each event costs a handle; trio's ``wait_readable`` costs a task that
wakes up. With an epoll a socket is two system calls, and an event is one call. It also tells on uvloop that the peer
has reset the connection; ``add_reader`` says nothing there.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, Protocol, TypeAlias

from ehlo._core import ClientConnection, Exchange, ServerConnection
from ehlo._io.loop import Loop

__all__ = ["READ", "WRITE", "Engine", "EpollWatch", "Watch"]

READ: Final = 1
"""The socket can be read from, or is broken (EPOLLIN)."""

WRITE: Final = 4
"""It can be written to, or is broken (EPOLLOUT)."""


Engine: TypeAlias = ServerConnection | ClientConnection
"""What a watch may read and write for by itself."""


class Watch(Protocol):
    """Calls back for sockets. It belongs to one event loop, and lives as long as the loop.

    Example::

        watch.add(sock.fileno(), READ, on_events)
    """

    def add(self, fd: int, events: int, call: Callable[[Any], object], conn: Engine | None = None) -> None:
        """Watch a socket that is not watched. ``call`` gets the events, in the context of now.

        Arguments:
            events: of :data:`READ` and :data:`WRITE`. ``call`` may get others beside them.
            conn: an engine for which the watch may read and write by itself. Then ``call`` is called for what is left
                to do, as :meth:`ehlo.Exchange.turn` tells it.
        """

    def change(self, fd: int, events: int, conn: Engine | None = None) -> None:
        """Watch for other events, and read and write by itself for this engine or for none."""

    def remove(self, fd: int) -> None:
        """Stop watching it. It must still be open."""


# How to call back, the call itself, and the engine for which the watch reads and writes.
_Watched: TypeAlias = tuple[Callable[..., object], Callable[[Any], object], Engine | None]


class _Closed:
    """Where an epoll was. Nobody looks there."""

    def register(self, fd: int, eventmask: int) -> None:
        pass

    def modify(self, fd: int, eventmask: int) -> None:
        pass

    def unregister(self, fd: int) -> None:
        pass

    def close(self) -> None:
        pass


class EpollWatch:
    """A :class:`Watch` with its own epoll. The owner watches this epoll, and calls :meth:`turn` when it is readable.

    Arguments:
        now: the clock of the loop, in seconds.

    Example::

        watch = EpollWatch(monotonic)
        loop.add_reader(watch.fileno(), watch.turn, loop)
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._epoll: select.epoll | _Closed = select.epoll()
        self._number: int | None = self._epoll.fileno()
        self._serve = Exchange().turn_epoll
        self._watched: dict[int, _Watched] = {}
        self.fileno = self._epoll.fileno

    def close(self) -> None:
        """The loop has ended. The program must close the sockets that are still watched."""
        self._epoll.close()
        self._epoll, self._number = _Closed(), None

    def add(self, fd: int, events: int, call: Callable[[Any], object], conn: Engine | None = None) -> None:
        self._epoll.register(fd, events)
        self._watched[fd] = copy_context().run, call, conn

    def change(self, fd: int, events: int, conn: Engine | None = None) -> None:
        self._epoll.modify(fd, events)
        run, call, before = self._watched[fd]
        if conn is not before:
            self._watched[fd] = run, call, conn

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._watched[fd]

    def turn(self, loop: Loop) -> int:
        """Read and write, and call back for sockets with other events. Returns the number of all sockets with
        events. The others have their turn in the next call, if there are many."""
        if self._number is None:
            return 0
        count, left = self._serve(self._number, self._watched, self._now())
        if left:
            self._go_on(loop, left)
        return count

    def _go_on(self, loop: Loop, left: list[tuple[_Watched, Any]]) -> None:
        try:
            while left:
                (run, call, _), what = left.pop()
                run(call, what)
        finally:
            if left:  # a call was interrupted (KeyboardInterrupt): what was read for the others must not be lost
                loop.call_soon(self._go_on, loop, left)
