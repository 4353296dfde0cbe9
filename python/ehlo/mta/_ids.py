"""Ids of messages, recipients and contents: 64 bits, made by the program that uses them, ordered by time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["SLOTS", "IdMaker"]

SLOTS: Final = 1024
"""How many programs may make ids for one spool at the same time."""

# 42 bits of milliseconds (until the year 2109), 10 of the slot, 11 that count: positive in 64 bits with a sign.
_COUNT: Final = 2048
_MILLISECOND: Final = SLOTS * _COUNT


class IdMaker:
    """Makes ids.

    Arguments:
        time: gives seconds of the Unix epoch.
        slot: another one for each program that uses the spool at this time.
        after: all ids are greater than this one: those that the spool has already.

    Example::

        IdMaker(time.time, slot=0)()
    """

    __slots__ = ("_count", "_millisecond", "_slot", "_time")

    def __init__(self, time: Callable[[], float], slot: int = 0, after: int = 0) -> None:
        self._time = time
        self._slot = slot % SLOTS * _COUNT
        self._millisecond = after // _MILLISECOND
        self._count = _COUNT if after else 0

    def move(self, slot: int) -> None:
        """Make ids of another slot from now on."""
        self._slot = slot % SLOTS * _COUNT

    def __call__(self) -> int:
        """The next id. Where the clock goes back, it counts on from where it was."""
        now = int(self._time() * 1000)
        if now > self._millisecond:
            self._millisecond = now
            self._count = 0
        elif self._count >= _COUNT:
            self._millisecond += 1
            self._count = 0
        number = self._millisecond * _MILLISECOND + self._slot + self._count
        self._count += 1
        return number
