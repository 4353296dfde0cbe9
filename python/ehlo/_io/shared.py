"""What the connections of one event loop share: :class:`Shared`."""

from __future__ import annotations

from collections.abc import Callable

from ehlo._core import ReceiveBuffer
from ehlo._io.span import Span
from ehlo._io.watch import Watch

__all__ = ["Shared"]


class Shared:
    """What all connections of a loop share.

    Arguments:
        watch: watches the sockets of our own transports; ``None`` where the loop has to make transports.
        now: the clock of the loop, in seconds.

    Attributes:
        buffer: all transports read into it. Each hands over its octets before another reads.

    Example::

        shared = Shared(watch, monotonic)
    """

    __slots__ = ("_now", "_spans", "buffer", "watch")

    def __init__(self, watch: Watch | None, now: Callable[[], float]) -> None:
        self.buffer: ReceiveBuffer = ReceiveBuffer()
        self.watch: Watch | None = watch
        self._now = now
        self._spans: dict[float, Span] = {}

    def span(self, seconds: float) -> Span:
        """The timer of all that wait for so many seconds. Ask for it anew at the begin of each wait."""
        span = self._spans.get(seconds)
        if span is None:
            self._spans[seconds] = span = Span(seconds, self._now, self._spans)
        return span
