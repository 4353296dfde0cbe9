"""Which sockets are ready, to the microsecond: epoll where it is, else what ``selectors`` has."""

from __future__ import annotations

import select
import selectors
import sys
from typing import Final, Protocol

__all__ = ["READ", "WRITE", "Poller", "make_poller"]

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


class Poller(Protocol):
    """What a load run waits with. Masks are made of :data:`READ` and :data:`WRITE`; an error makes both ready."""

    def add(self, fd: int, mask: int) -> None:
        """Begin to watch."""

    def change(self, fd: int, mask: int) -> None:
        """Watch for something else."""

    def remove(self, fd: int) -> None:
        """Watch no more."""

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """What is ready, after at most so long."""

    def close(self) -> None:
        """Give the system's resources back."""


class _Selector:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, fd: int, mask: int) -> None:
        self._selector.register(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        self._selector.modify(fd, mask)

    def remove(self, fd: int) -> None:
        self._selector.unregister(fd)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        return [(key.fd, mask) for key, mask in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


if sys.platform == "linux":
    # EPOLLIN is 1 and EPOLLOUT is 4 in Linux' interface; selectors' WRITE is 2.
    _READ_BITS: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
    _WRITE_BITS: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

    class _Epoll:
        """One list a wake-up, and no object for each descriptor."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._fd = self._epoll.fileno()
            # A run that waits for input alone gets the mask of epoll as it is, and pays nothing for its translation.
            self._masks = {
                bits: (READ if bits & _READ_BITS else 0) | (WRITE if bits & _WRITE_BITS else 0) for bits in range(64)
            }

        def add(self, fd: int, mask: int) -> None:
            self._epoll.register(fd, self._bits(mask))

        def change(self, fd: int, mask: int) -> None:
            self._epoll.modify(fd, self._bits(mask))

        def remove(self, fd: int) -> None:
            self._epoll.unregister(fd)

        def wait(self, seconds: float) -> list[tuple[int, int]]:
            # epoll counts in whole milliseconds, rounded up, which is much too coarse for an intended start. So it
            # wakes too early, and the rest is waited for with select, which counts in microseconds.
            if seconds > 0.002:
                seconds -= 0.001
            elif seconds > 0:
                select.select([self._fd], (), (), seconds)
                seconds = 0
            ready = self._epoll.poll(seconds)
            masks = self._masks
            return [(fd, masks.get(bits, READ | WRITE)) for fd, bits in ready]

        def close(self) -> None:
            self._epoll.close()

        @staticmethod
        def _bits(mask: int) -> int:
            return (select.EPOLLIN if mask & READ else 0) | (select.EPOLLOUT if mask & WRITE else 0)


def make_poller() -> Poller:
    """The best that this system has.

    Example::

        poller = make_poller()
    """
    return _Epoll() if sys.platform == "linux" else _Selector()
