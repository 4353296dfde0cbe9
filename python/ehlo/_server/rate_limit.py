"""So many events in a sliding period, for each key, in bounded memory. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import accumulate
from math import inf

from ehlo._errors import LocalProtocolError

__all__ = ["RateLimit"]


class RateLimit:
    """At most ``limit`` events of each key in any period of ``seconds``.

    The period slides in 60 steps. So the limit is never exceeded, and an event counts up to one step longer than the
    period. Each key needs some hundred octets of memory. If there are more than ``keys`` keys, the one that was unused
    longest is forgotten. Use it in one thread only.

    Arguments:
        limit: events; 0 allows none.
        seconds: the length of the period.
        keys: the most keys that are remembered.
        clock: seconds since any moment. With the default, times mean the same after a restart.

    Raises:
        LocalProtocolError: ``limit`` is less than 0, ``seconds`` is not above 0, or ``keys`` is less than 1.

    Example::

        rates = ehlo.RateLimit(100)
        def on_mail(self, session, sender):
            return None if not rates.take(session.identity) else "451 4.7.1 too many messages in this hour"
    """

    _STEPS = 60

    def __init__(
        self, limit: int, seconds: float = 3600.0, *, keys: int = 50_000, clock: Callable[[], float] = time.time
    ) -> None:
        if limit < 0 or seconds <= 0 or keys < 1:
            raise LocalProtocolError(f"no such RateLimit: limit {limit}, seconds {seconds}, keys {keys}")
        self.limit = limit
        self.seconds = seconds
        self._width = seconds / self._STEPS
        self._most = keys
        self._clock = clock
        # The steps of each key with their counts, the oldest first. The key that was used last is the last.
        self._keys: OrderedDict[str, deque[list[int]]] = OrderedDict()

    def __len__(self) -> int:
        """The keys that are remembered."""
        return len(self._keys)

    def take(self, key: str, count: int = 1) -> float:
        """Count events, unless the limit would be exceeded.

        Arguments:
            key: whose events they are.
            count: how many.

        Returns:
            0.0 if the events were counted. Otherwise nothing was counted, and the value is the seconds to wait; it is
            infinite if ``count`` is above the limit.

        Example::

            wait = rates.take("192.0.2.0/24", len(envelope.recipients))
        """
        now = self._clock()
        steps = self._steps(key, int(now // self._width))
        over = sum(step[1] for step in steps) + count - self.limit
        if over <= 0:
            if steps and steps[-1][0] == int(now // self._width):
                steps[-1][1] += count
            else:
                steps.append([int(now // self._width), count])
            self._keys[key] = steps
            self._keys.move_to_end(key)
            if len(self._keys) > self._most:
                self._keys.popitem(last=False)
            return 0.0
        if count > self.limit:
            return inf
        ended = accumulate(taken for _, taken in steps)  # what counts no more when a step has gone
        last = next(step for (step, _), gone in zip(steps, ended, strict=True) if gone >= over)
        return (last + self._STEPS + 1) * self._width - now

    def used(self, key: str) -> int:
        """The events of a key that count now.

        Example::

            print(rates.used("jane"), "of", rates.limit)
        """
        return sum(step[1] for step in self._steps(key, int(self._clock() // self._width)))

    def restore(self, key: str, events: Iterable[tuple[float, int]]) -> None:
        """Replace the events of a key: after a restart, or if other processes count, too.

        Arguments:
            key: whose events they are.
            events: the time of each in seconds, by the same clock, and how many they were.

        Example::

            rates.restore("jane", [(time.time() - 60, 3)])
        """
        counts: dict[int, int] = {}
        for when, count in events:
            step = int(when // self._width)
            counts[step] = counts.get(step, 0) + count
        self._keys.pop(key, None)
        if counts:
            self._keys[key] = deque([step, count] for step, count in sorted(counts.items()))
            if len(self._keys) > self._most:
                self._keys.popitem(last=False)

    def _steps(self, key: str, current: int) -> deque[list[int]]:
        """The steps of a key that still count. What seems to lie in the future happened now: the clock was put back."""
        steps = self._keys.get(key)
        if steps is None:
            return deque()
        while steps and steps[0][0] < current - self._STEPS:
            steps.popleft()
        late = 0
        while steps and steps[-1][0] > current:
            late += steps.pop()[1]
        if late:
            if steps and steps[-1][0] == current:
                steps[-1][1] += late
            else:
                steps.append([current, late])
        return steps
