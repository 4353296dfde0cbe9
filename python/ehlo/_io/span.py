"""One timer for all that wait equally long: :class:`Span`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Protocol

from ehlo._io.loop import Loop, Timer

__all__ = ["Armed", "Span", "Timed", "disarm"]


class Timed(Protocol):
    """What a span calls back."""

    def on_time(self) -> None: ...


class Armed(Timed, Protocol):
    """What is called back by a timer of its own, or by a span in its place."""

    _timer: Timer | None
    _span: Span | None


def disarm(timed: Armed) -> None:
    """Cancel the timer, and leave the span. Classes use it as their method."""
    if timed._timer is not None:
        timed._timer.cancel()
        timed._timer = None
    if timed._span is not None:
        timed._span.discard(timed)
        timed._span = None


class Span:
    """Calls ``on_time`` of each object ``seconds`` after it was added. The first that is added is due first, so one
    timer of the loop serves all. Adding and discarding cost little, and most connections end before they are due.

    Arguments:
        seconds: how long all of them wait.
        now: the clock of the loop, in seconds.
        spans: the dictionary that keeps it, by seconds. It leaves the dictionary when its timer finds nobody: a
            program may give each connection another time.

    Example::

        span.add(loop, connection)
    """

    __slots__ = ("_due", "_now", "_runs", "_spans", "seconds")

    def __init__(self, seconds: float, now: Callable[[], float], spans: dict[float, Span] | None = None) -> None:
        self.seconds: float = seconds
        self._now = now
        self._spans = {} if spans is None else spans
        self._due: dict[Timed, tuple[float, Context]] = {}  # in this order
        self._runs = False

    def add(self, loop: Loop, timed: Timed) -> None:
        """Call ``timed.on_time()`` in the present context, unless it is discarded before."""
        self._due.pop(timed, None)
        self._due[timed] = self._now() + self.seconds, copy_context()
        if not self._runs:
            self._wait(loop, self.seconds)

    def discard(self, timed: Timed) -> None:
        """Do not call it. An object that was never added is allowed."""
        self._due.pop(timed, None)

    def _wait(self, loop: Loop, seconds: float) -> None:
        self._runs = True
        later: Callable[..., object] = loop.call_later
        Context().run(later, seconds, self._look, loop)  # not in the context of whoever comes first

    def _look(self, loop: Loop) -> None:
        self._runs = False
        now = self._now()
        while self._due:
            timed = next(iter(self._due))
            moment, context = self._due[timed]
            if moment > now:
                self._wait(loop, moment - now)
                return
            del self._due[timed]
            loop.call_soon(timed.on_time, context=context)
        self._spans.pop(self.seconds, None)
