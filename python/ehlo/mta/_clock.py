"""The time, as the kit asks for it: a test gives another clock."""

from __future__ import annotations

from time import monotonic, time
from typing import Final, Protocol

import anyio

__all__ = ["NEVER", "Clock", "SystemClock", "Waitable"]

NEVER: Final = 32_503_680_000.0
"""The year 3000: what is due then waits for no attempt, since it is about to be held."""


class Waitable(Protocol):
    """An event of either loop."""

    async def wait(self) -> object:
        """Wait until it is set."""

    def is_set(self) -> bool:
        """Whether it is set."""


class Clock(Protocol):
    """What the kit asks of a clock.

    Example::

        queue = ehlo.mta.open_queue("spool", clock=SystemClock(), ...)
    """

    def time(self) -> float:
        """Seconds of the Unix epoch. What is stored is in it, so it may jump."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    async def wait(self, event: Waitable, seconds: float) -> bool:
        """Wait for the event, no longer than so many seconds. Gives whether it was set."""


class SystemClock:
    """The system's clock."""

    def time(self) -> float:
        """See :meth:`Clock.time`."""
        return time()

    def monotonic(self) -> float:
        """See :meth:`Clock.monotonic`."""
        return monotonic()

    async def wait(self, event: Waitable, seconds: float) -> bool:
        """See :meth:`Clock.wait`."""
        with anyio.move_on_after(seconds):
            await event.wait()
        return event.is_set()
