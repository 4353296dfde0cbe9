"""Which sockets are ready, to the microsecond: epoll where it is, else what ``selectors`` has."""

from __future__ import annotations

import select
import selectors
import sys
from typing import Final, Protocol

__all__ = ["READ", "WRITE", "Poller", "make_poller"]

# Linux' own bits, so that nothing has to be translated there. Any bit but WRITE means: read, and see.
READ: Final = 1
WRITE: Final = 4


class Poller(Protocol):
    """What a load run waits with. Masks are made of :data:`READ` and :data:`WRITE`; errors come as other bits."""

    def add(self, fd: int, mask: int) -> None:
        """Begin to watch."""

    def change(self, fd: int, mask: int) -> None:
        """Watch for something else."""

    def remove(self, fd: int) -> None:
        """Watch no more."""

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """What is ready, after at most so long."""

    def doze(self, seconds: float) -> list[tuple[int, int]]:
        """The same, to the millisecond and with less to pay."""

    def close(self) -> None:
        """Give the system's resources back."""


class _Selector:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._idle: set[int] = set()  # watched for nothing, which selectors do not know

    def add(self, fd: int, mask: int) -> None:
        self._selector.register(fd, self._events(mask))

    def change(self, fd: int, mask: int) -> None:
        if not mask:
            if fd not in self._idle:
                self._idle.add(fd)
                self._selector.unregister(fd)
        elif fd in self._idle:
            self._idle.discard(fd)
            self.add(fd, mask)
        else:
            self._selector.modify(fd, self._events(mask))

    def remove(self, fd: int) -> None:
        if fd in self._idle:
            self._idle.discard(fd)
        else:
            self._selector.unregister(fd)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in self._selector.select(seconds)
        ]

    doze = wait

    def close(self) -> None:
        self._selector.close()

    @staticmethod
    def _events(mask: int) -> int:
        return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


if sys.platform == "linux":

    class _Epoll:
        """One list a wake-up, and no object for each descriptor."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._fd = self._epoll.fileno()
            self.add = self._epoll.register
            self.change = self._epoll.modify
            self.remove = self._epoll.unregister
            self.doze = self._epoll.poll
            self.close = self._epoll.close

        def wait(self, seconds: float) -> list[tuple[int, int]]:
            # epoll counts in whole milliseconds, rounded up, which is much too coarse for an intended start. So it
            # wakes too early, and the rest is waited for with select, which counts in microseconds.
            if seconds > 0.002:
                seconds -= 0.001
            elif seconds > 0:
                select.select([self._fd], (), (), seconds)
                seconds = 0
            return self._epoll.poll(seconds)


def make_poller() -> Poller:
    """The best that this system has.

    Example::

        poller = make_poller()
    """
    return _Epoll() if sys.platform == "linux" else _Selector()
