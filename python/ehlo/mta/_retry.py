"""When a recipient that was deferred is tried again, and when it is given up (RFC 5321 4.5.4.1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RetrySchedule"]

_HOUR = 3600.0
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """When to try again. All times are seconds.

    Attributes:
        intervals: the time from the first attempt to the second, and so on. The last one is repeated.
        lifetime: the time after which a message is returned to its sender; at least four to five days (RFC 5321
            4.5.4.1).
        null_lifetime: the same for messages of the null sender: bounces.
        warn_after: the time after which the sender is told once of the delay; ``None``: never.
        jitter: each interval becomes longer or shorter by up to this part, at random; less than 1.

    Raises:
        ValueError: a number is negative, or there is no interval.

    Example::

        schedule = RetrySchedule(intervals=(60, 300, 3600), lifetime=2 * 86400)
        schedule.next_attempt(1, now=1000, arrived=1000, null_sender=False)  # 1060, six seconds more or less
    """

    intervals: tuple[float, ...] = (300, 600, 1200, 2400, _HOUR, 2 * _HOUR, 3 * _HOUR, 4 * _HOUR)
    lifetime: float = 5 * _DAY
    null_lifetime: float = _DAY
    warn_after: float | None = 4 * _HOUR
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not self.intervals or min(*self.intervals, self.lifetime, self.null_lifetime, self.jitter) < 0:
            raise ValueError("a retry schedule needs intervals, and no number below zero")
        if self.jitter >= 1:
            raise ValueError("jitter is a part of an interval: less than 1")

    def expires(self, arrived: float, *, null_sender: bool) -> float:
        """When a message that arrived then is given up.

        Example::

            schedule.expires(message.arrived, null_sender=False)
        """
        return arrived + (self.null_lifetime if null_sender else self.lifetime)

    def next_attempt(
        self,
        attempts: int,
        *,
        now: float,
        arrived: float,
        null_sender: bool,
        random: Callable[[], float] = random.random,
    ) -> float | None:
        """When the next attempt is due; ``None`` if the message's time is over. The last attempt is at its end.

        Arguments:
            attempts: the number of attempts so far.
            now: the time of the last attempt, in seconds of the Unix epoch.
            arrived: when the message arrived, in seconds of the Unix epoch.
            null_sender: the message is from the null sender.
            random: a function that gives a number from 0 to 1.

        Example::

            due = schedule.next_attempt(3, now=now, arrived=arrived, null_sender=False)
        """
        end = self.expires(arrived, null_sender=null_sender)
        if now >= end:
            return None
        interval = self.intervals[min(max(attempts, 1), len(self.intervals)) - 1]
        return min(now + interval * (1 + self.jitter * (2 * random() - 1)), end)
