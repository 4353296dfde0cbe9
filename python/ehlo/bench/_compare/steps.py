"""How far a comparison is, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ehlo._words import counted

__all__ = ["Steps"]


class Steps:
    """Counts measurements.

    Arguments:
        say: called with a line for each that is done; ``None`` for nobody. now: seconds of a clock.

    Example::

        steps = Steps(print)
        steps.total = 285
        steps.done("server ehlo")  # "17 of 285, 4 minutes left  server ehlo"
    """

    def __init__(self, say: Callable[[str], None] | None, now: Callable[[], float] = monotonic) -> None:
        self.total = 0
        self._say = say
        self._now = now
        self._began = now()
        self._count = 0

    def done(self, line: str) -> None:
        """One is done, and ``line`` tells its outcome.

        Example::

            steps.done("server ehlo 27 us")
        """
        self._count += 1
        if self._say is not None:
            left = (self._now() - self._began) / self._count * max(0, self.total - self._count)
            self._say(f"{self._count} of {self.total}, {_rough(left)} left  {line}")

    def skipped(self) -> None:
        """One failed; a warning tells why.

        Example::

            steps.skipped()
        """
        self._count += 1


def _rough(seconds: float) -> str:
    if seconds < 90:
        return counted(seconds, "second", ".0f")
    return counted(seconds / 60, "minute", ".0f")
