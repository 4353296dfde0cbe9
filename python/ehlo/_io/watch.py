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
from typing import Final, Protocol

__all__ = ["READ", "WRITE", "EpollWatch", "Watch"]

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


class EpollWatch:
    """A :class:`Watch` by an epoll of its own. Whoever watches that calls :meth:`turn` when it can be read from.

    Example::

        watch = EpollWatch()
        loop.add_reader(watch.fileno(), watch.turn)
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, tuple[Callable[..., object], Callable[[int], object]]] = {}
        self.fileno = self._epoll.fileno

    def close(self) -> None:
        """The loop has ended. A socket that is still watched is to be closed by its program, which needs the epoll."""
        if not self._calls:
            self._epoll.close()

    def add(self, fd: int, events: int, call: Callable[[int], object]) -> None:
        self._epoll.register(fd, events)
        self._calls[fd] = copy_context().run, call

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._calls[fd]

    def turn(self) -> int:
        """Call back for the sockets that something has happened to. Gives their number."""
        calls = self._calls
        happened = self._epoll.poll(0, _MOST)
        for fd, events in happened:
            # A call may end another connection, and one may begin with the same number: that finds nothing to read.
            if (found := calls.get(fd)) is not None:
                run, call = found
                run(call, events)
        return len(happened)
