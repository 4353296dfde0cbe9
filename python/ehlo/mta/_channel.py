"""One route's queue in memory: whose turn it is, how many connections there may be, and whether the route is dead."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ehlo.mta._model import Content, Message, Recipient

__all__ = ["Channel", "Job", "Limits"]

LARGE: Final = 1048576
"""Octets from which a message counts as large: such messages hold at most a quarter of a route's connections."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What delivery may use at most.

    Attributes:
        connections: in all.
        first: connections of a route at its start. Each success adds a little, each failure takes it away.
        most: connections of a route.
        messages: over one connection.
        recipients: of one transaction (RFC 5321 4.5.3.1.8).
        linger: seconds that a connection waits for more mail.
        connect: seconds until a connection must be there.
        suspend_first, suspend_most: seconds for which a dead route is left alone, at first and at most.
        active: recipients that are in memory at once; the others wait in the spool.
        octets: of contents that are in memory at once.
        backlog: recipients that wait in memory for a suspended route; the others go back to the spool.
        crashes: attempts that may end by an error of the program before a recipient is held.
        message_rate: transactions of a route that may begin in a second, evenly; 0: as many as there are.
        connection_rate: connections of a route that may be opened in a second, evenly; 0: as many as there are.

    Example::

        ehlo.mta.open_queue("spool", limits=ehlo.mta.DeliveryLimits(connections=50), ...)
    """

    connections: int = 200
    first: float = 5.0
    most: float = 20.0
    messages: int = 100
    recipients: int = 100
    linger: float = 2.0
    connect: float = 30.0
    suspend_first: float = 60.0
    suspend_most: float = 3600.0
    active: int = 10000
    octets: int = 64 * 1048576
    backlog: int = 10
    crashes: int = 3
    message_rate: float = 0.0
    connection_rate: float = 0.0


@dataclass(slots=True, eq=False)
class Job:
    """A message for the recipients of one route: one transaction.

    Attributes:
        message, recipients: what, and for whom.
        content: ``None``: still to be read from the spool.
        is_retry: it was deferred before.
    """

    message: Message
    recipients: list[Recipient]
    content: Content | None
    is_retry: bool = False

    @property
    def is_large(self) -> bool:
        """See :data:`LARGE`."""
        return self.message.size >= LARGE


@dataclass(slots=True, eq=False)
class Channel:
    """One route: recipients whose next hop is the same share it.

    Attributes:
        key: what makes routes the same.
        name: the same for people; an administrator suspends a route by it.
        means: how it is reached.
        limits: the queue's.
        limit: connections that it may have now.
        workers: tasks that it has now.
        busy: of these, those that deliver.
        idle: those that wait for a job, the last one at the end.
        octets: delivered so far: the route with the fewest comes first.
        failures: connections that failed, in a row.
        suspended_until: seconds of the monotonic clock; 0 if it is not suspended.
        reason: why it is suspended.
        probing: one attempt finds out whether it lives again.
        next_message, next_connection: seconds of the monotonic clock from which on the rates allow one more.
    """

    key: Hashable
    name: str
    means: Any
    limits: Limits
    limit: float = 0.0
    workers: int = 0
    busy: int = 0
    idle: list[Any] = field(default_factory=list)
    octets: int = 0
    failures: int = 0
    suspended_until: float = 0.0
    suspended_for: float = 0.0
    reason: str = ""
    probing: bool = False
    next_message: float = 0.0
    next_connection: float = 0.0
    _fresh: deque[Job] = field(default_factory=deque)
    _retries: deque[Job] = field(default_factory=deque)
    _large: deque[Job] = field(default_factory=deque)
    _turn: int = 0
    _busy_retries: int = 0
    _busy_large: int = 0

    def __post_init__(self) -> None:
        self.limit = self.limits.first

    # ---- jobs ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._fresh) + len(self._retries) + len(self._large)

    def put(self, job: Job) -> None:
        """Add a job; one of a higher MT-PRIORITY goes before others (RFC 6710 5)."""
        lane = self._large if job.is_large else self._retries if job.is_retry else self._fresh
        priority = job.message.priority
        at = len(lane)
        while at and lane[at - 1].message.priority < priority:
            at -= 1
        if at == len(lane):
            lane.append(job)
        else:
            lane.insert(at, job)

    def take(self, now: float) -> Job | None:
        """The next job, if one may begin. :meth:`done` must follow."""
        if self.suspended_until and (self.probing or now < self.suspended_until):
            return None
        if now < self.next_message:
            return None
        job = self._next()
        if job is not None:
            self.probing = bool(self.suspended_until)
            self.begin(job, now)
        return job

    def begin(self, job: Job, now: float) -> None:
        """A job is being delivered."""
        if self.limits.message_rate:
            self.next_message = now + 1 / self.limits.message_rate
        self.busy += 1
        self._busy_retries += job.is_retry
        self._busy_large += job.is_large

    def done(self, job: Job) -> None:
        """A job's attempt is over."""
        self.busy -= 1
        self._busy_retries -= job.is_retry
        self._busy_large -= job.is_large
        self.octets += job.message.size
        self.probing = False

    @property
    def is_ready(self) -> bool:
        """Whether some job may begin, but for a suspension."""
        return any(lane and may for lane, may in self._lanes())

    def _lanes(self) -> Iterator[tuple[deque[Job], bool]]:
        """Each lane, and whether one of its jobs may begin."""
        slots = int(self.limit)
        yield self._fresh, True
        # New mail has at least half of the connections.
        yield self._retries, not self._fresh or self._busy_retries < max(1, slots // 2)
        yield self._large, self._busy_large < max(1, slots // 4)

    def _next(self) -> Job | None:
        if not self._retries and not self._large:
            return self._fresh.popleft() if self._fresh else None
        lanes = list(self._lanes())
        for step in range(3):
            at = (self._turn + step) % 3
            lane, may = lanes[at]
            if lane and may:
                self._turn = (at + 1) % 3
                return lane.popleft()
        return None

    def give_back(self, keep: int) -> list[Job]:
        """Take out all jobs but some: they go back to the spool."""
        out: list[Job] = []
        for lane in (self._large, self._retries, self._fresh):
            while lane and len(self) > keep:
                out.append(lane.pop())
        return out

    # ---- connections -----------------------------------------------------------------------------

    @property
    def may_open(self) -> bool:
        """Whether there may be one more connection."""
        return self.workers < (1 if self.suspended_until else int(self.limit))

    def opened(self, now: float) -> None:
        """One more connection is opened."""
        self.workers += 1
        if self.limits.connection_rate:
            self.next_connection = now + 1 / self.limits.connection_rate

    def waits(self, now: float) -> float:
        """Seconds until the rates allow what waits; 0 if they allow it now."""
        return max(self.next_message, 0.0 if self.idle else self.next_connection) - now if len(self) else 0.0

    def succeeded(self) -> None:
        """A next hop took a connection: a little more is allowed."""
        self.failures = 0
        self.suspended_until = self.suspended_for = 0.0
        if self.limit < self.limits.most:
            self.limit = min(self.limits.most, self.limit + 1 / self.limit)

    def failed(self, now: float, reason: str) -> bool:
        """No server of the route took a connection. Gives whether the route was suspended by this: after as many
        failures in a row as there may be connections, or at once after a probe.
        """
        if now < self.suspended_until:  # an attempt that had begun before
            return False
        self.failures += 1
        cohort = int(self.limit)
        self.limit = max(1.0, self.limit - 1 / self.limit)
        if not self.suspended_until and self.failures < cohort:
            return False
        seconds = self.suspended_for * 2 if self.suspended_for else self.limits.suspend_first
        self.suspend(now, min(seconds, self.limits.suspend_most), reason)
        return True

    def suspend(self, now: float, seconds: float, reason: str) -> None:
        """No attempt for so many seconds; then one, as a probe."""
        self.suspended_for = seconds
        self.suspended_until = now + seconds
        self.reason = reason
        self.limit = self.limits.first

    def resume(self) -> None:
        """End a suspension."""
        self.suspended_until = self.suspended_for = 0.0
        self.failures = 0
