"""The figures of a running server: what it has done in the last hour, what is queued, and why a message waits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, TypeAlias

import anyio

import ehlo
import ehlo.mta
from ehlo.cli._queue_text import reasons, span
from ehlo.mta.metrics import QueueCollector

__all__ = [
    "KINDS",
    "MINUTES",
    "Fact",
    "Figures",
    "Hour",
    "Kind",
    "Part",
    "RouteFigures",
    "Snapshot",
    "counts_by_minute",
    "parse_ident",
    "refusals_by_command",
    "span",
]

MINUTES: Final = 60
Kind: TypeAlias = Literal["accepted", "delivered", "deferred", "failed", "refused"]
KINDS: Final[tuple[Kind, ...]] = ("accepted", "delivered", "deferred", "failed", "refused")
Minutes: TypeAlias = Mapping[int, Mapping[str, int]]
"""The minute since 1970, and what happened in it."""
# Events of the trail that are counted, by what they are counted as.
_COUNTED: Final[dict[str, Kind]] = {
    "accepted": "accepted",
    "relayed": "delivered",
    "delivered": "delivered",
    "deferred": "deferred",
    "failed": "failed",
    "refused": "refused",
    "turned-away": "refused",
}
_CONTENT: Final = ("DATA", "BDAT")
# Seconds for which a snapshot is good: a reader who asks again and again costs the loop no more.
_GOOD: Final = 1.0
# Recipients of one message that are explained.
_EXPLAINED: Final = 100
_IDENT: Final = re.compile(r"[0-9a-fA-F]{16}")


class Hour:
    """Counts of events for each of the last sixty minutes. It is what the trail's ``watch`` calls.

    Arguments:
        clock: gives seconds of the Unix epoch.

    Example::

        trail.watch = Hour(time.time)
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._minutes: dict[int, Counter[str]] = {}

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """An event happened."""
        kind = _COUNTED.get(event)
        if kind is None:
            return
        now = int(self._clock() // 60)
        minute = self._minutes.get(now)
        if minute is None:
            minute = self._minutes[now] = Counter()
            for old in [one for one in self._minutes if one <= now - MINUTES]:
                del self._minutes[old]
        minute[kind] += 1
        if kind == "refused":
            minute["refused " + _reason(event, fields)] += 1

    @property
    def minutes(self) -> Minutes:
        """The counts of each minute since 1970 that had events."""
        return self._minutes


def counts_by_minute(minutes: Minutes, at: float) -> dict[Kind, list[int]]:
    """Each kind by minute, the oldest first. The last minute is that of ``at``, and not over."""
    now = int(at // 60)
    span = range(now - MINUTES + 1, now + 1)
    return {kind: [minutes.get(minute, {}).get(kind, 0) for minute in span] for kind in KINDS}


def refusals_by_command(minutes: Minutes, at: float) -> dict[str, int]:
    """Refusals of the hour before ``at`` by the command, the most frequent first."""
    first = int(at // 60) - MINUTES + 1
    total: Counter[str] = Counter()
    for minute, counts in minutes.items():
        if minute >= first:
            total.update({key[8:]: count for key, count in counts.items() if key.startswith("refused ")})
    return dict(total.most_common())


@dataclass(frozen=True, slots=True)
class Part:
    """What one process adds to the figures.

    Attributes:
        statistics: of its listeners together.
        open: its connections at this moment.
        minutes: see :attr:`Hour.minutes`.
        lines_dropped: of its log.
    """

    statistics: ehlo.Statistics
    open: int
    minutes: Minutes
    lines_dropped: int

    def __add__(self, other: Part) -> Part:
        minutes = {minute: Counter(counts) for minute, counts in self.minutes.items()}
        for minute, counts in other.minutes.items():
            minutes.setdefault(minute, Counter()).update(counts)
        return Part(
            self.statistics + other.statistics,
            self.open + other.open,
            minutes,
            self.lines_dropped + other.lines_dropped,
        )

    def ended(self, at: float) -> Part:
        """What counts on when its process is gone: no connection, and nothing that is older than an hour."""
        first = int(at // 60) - MINUTES + 1
        return replace(self, open=0, minutes={minute: one for minute, one in self.minutes.items() if minute >= first})

    def words(self) -> dict[str, Any]:
        """For :class:`ehlo.cli._serve.board.Board`."""
        statistics = {one.name: getattr(self.statistics, one.name) for one in fields(self.statistics)}
        return {
            "statistics": statistics,
            "open": self.open,
            "minutes": list(self.minutes.items()),
            "dropped": self.lines_dropped,
        }

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Part:
        """From :meth:`words`."""
        return cls(ehlo.Statistics(**words["statistics"]), words["open"], dict(words["minutes"]), words["dropped"])


def _reason(event: str, fields: Mapping[str, Any]) -> str:
    if event == "turned-away":
        return "connection"
    command = fields.get("command")
    return "content" if command in _CONTENT else "not a command" if command == "none" else str(command)


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """A route and what waits for it.

    Attributes:
        name: of the route; empty for recipients that were not tried yet.
        recipients, octets: that are queued.
        oldest: when the first of their messages arrived; ``None``: nothing is queued.
        busy, connections, limit: transactions and connections of this process, and how many connections there may be.
        suspended_until: seconds of the Unix epoch; 0: it is not suspended.
        reason: why it is suspended.
    """

    name: str
    recipients: int = 0
    octets: int = 0
    oldest: float | None = None
    busy: int = 0
    connections: int = 0
    limit: int = 0
    suspended_until: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All figures at one moment.

    Attributes:
        at, since: of the snapshot, and of the start of the server, in seconds of the Unix epoch.
        statistics: of all listeners together.
        open: connections at this moment.
        minutes: see :meth:`Hour.counts`.
        refusals: of the last hour, by command.
        totals: what is queued; ``None`` without a queue.
        routes: those with the most recipients first. Their connections are those of this process.
        lines_dropped: of the log.
    """

    at: float
    since: float
    hostname: str
    statistics: ehlo.Statistics
    open: int
    minutes: Mapping[Kind, Sequence[int]]
    refusals: Mapping[str, int]
    totals: ehlo.mta.Totals | None
    routes: tuple[RouteFigures, ...]
    lines_dropped: int


@dataclass(frozen=True, slots=True)
class Fact:
    """Why one recipient waits.

    Attributes:
        recipient: its path.
        facts: pairs of a name and a text.
        why: sentences.
    """

    recipient: str
    facts: tuple[tuple[str, str], ...]
    why: tuple[str, ...]


class Figures:
    """Collects snapshots. Its methods belong to the event loop of the server.

    Arguments:
        hostname: of this server.
        queue: ``None`` where mail is passed on while the client waits.
        servers: gives the statistics and the open connections of all listeners.
        hour: what was counted.
        lines_dropped: gives the lines that the log lost.
        clock: gives seconds of the Unix epoch.
        others: what other processes add.
    """

    def __init__(
        self,
        hostname: str,
        queue: ehlo.mta.Queue | None,
        servers: Callable[[], tuple[ehlo.Statistics, int]],
        hour: Hour,
        lines_dropped: Callable[[], int],
        clock: Callable[[], float],
        others: Callable[[], Iterable[Part]] = tuple,
    ) -> None:
        self._others = others
        self.hostname = hostname
        self.collector = None if queue is None else QueueCollector(queue)
        self._queue = queue
        self._servers = servers
        self._hour = hour
        self._lines_dropped = lines_dropped
        self._clock = clock
        self._since = clock()
        self._last: Snapshot | None = None
        self._lock = anyio.Lock()

    async def snapshot(self) -> Snapshot:
        """The figures now, or those of a second ago."""
        async with self._lock:
            last = self._last
            if last is None or not 0 <= self._clock() - last.at < _GOOD:
                self._last = last = await self._collect()
            return last

    async def _collect(self) -> Snapshot:
        totals = None if self.collector is None else await self.collector.refresh()
        routes = () if self._queue is None else await self._routes(self._queue)
        now, all_of_them = self._clock(), sum(self._others(), self.part())
        return Snapshot(
            now,
            self._since,
            self.hostname,
            all_of_them.statistics,
            all_of_them.open,
            counts_by_minute(all_of_them.minutes, now),
            refusals_by_command(all_of_them.minutes, now),
            totals,
            routes,
            all_of_them.lines_dropped,
        )

    def part(self) -> Part:
        """What this process adds."""
        return Part(*self._servers(), self._hour.minutes, self._lines_dropped())

    async def _routes(self, queue: ehlo.mta.Queue) -> tuple[RouteFigures, ...]:
        now = self._clock()
        groups = {one.key: one for one in await queue.spool.summary("route", now, ehlo.mta.Selection())}
        away = {one.route: (one.until, one.reason) for one in await queue.spool.dead_routes()}
        for rule in await queue.spool.suspensions():
            away[rule.route] = max((rule.until, rule.reason), away.get(rule.route, (now, "")))
        states = {one.name: one for one in queue.routes}
        found = []
        for name in dict.fromkeys([*groups, *away, *states]):
            group, state = groups.get(name), states.get(name)
            until, reason = away.get(name, (0.0, ""))
            if state is not None and now + state.suspended_for > max(until, now):
                until, reason = now + state.suspended_for, state.reason
            if until <= now:
                until = 0.0
            row = RouteFigures(
                name,
                recipients=0 if group is None else group.recipients,
                octets=0 if group is None else group.octets,
                oldest=None if group is None else group.oldest,
                busy=0 if state is None else state.busy,
                connections=0 if state is None else state.connections,
                limit=0 if state is None else state.limit,
                suspended_until=until,
                reason=reason,
            )
            if row.recipients or row.busy or row.connections or row.suspended_until:
                found.append(row)
        return tuple(sorted(found, key=lambda row: -row.recipients))

    async def why(self, number: int) -> list[Fact]:
        """Why the recipients of a message wait, as ``ehlo queue why`` says it; empty where the queue does not have it.

        Arguments:
            number: see :func:`parse_ident`.
        """
        if self._queue is None:
            return []
        spool = self._queue.spool
        entries = await spool.entries(ehlo.mta.Selection(messages=[number]), _EXPLAINED)
        if not entries:
            return []
        nodes, rules, dead = await spool.nodes(), await spool.suspensions(), await spool.dead_routes()
        now = self._clock()
        return [_fact(entry, reasons(entry, nodes, rules, dead, now), now) for entry in entries]


def _fact(entry: ehlo.mta.Entry, why: list[str], now: float) -> Fact:
    message = entry.message
    facts = [("From", f"<{message.sender}>"), ("Arrived", f"{span(now - message.arrived)} ago"), ("State", entry.state)]
    if entry.route is not None:
        facts.append(("Route", entry.route))
    return Fact(f"<{entry.recipient.path}>", tuple(facts), tuple(why))


def parse_ident(text: str) -> int | None:
    """The number of a queue id; ``None`` where it is none.

    Example::

        >>> parse_ident(" 0192f3c2d4e5a6b7 ")
        113284553911969463
    """
    found = _IDENT.fullmatch(text.strip())
    number = 0 if found is None else int(found[0], 16)
    return number if 0 < number < 1 << 63 else None
