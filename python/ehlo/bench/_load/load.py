"""The load of one process: many :class:`ehlo.ClientConnection` over plain non-blocking sockets and one poller.

No event loop, no task and no timer stands between a reply and the command behind it: a wake-up is one ``recv_into``,
the engine, and one ``send``. That costs as much as uvloop and a quarter less than asyncio, and knows the time to the
microsecond, which an event loop on epoll does not.
"""

from __future__ import annotations

import heapq
import itertools
import random
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from math import inf
from time import perf_counter_ns, process_time
from typing import Final

from ehlo._core import (
    ClientConfig,
    ReceiveBuffer,
    Recipient,
    Sender,
    SendResult,
)
from ehlo._errors import LocalProtocolError
from ehlo._tls import unverified_context
from ehlo._words import counted
from ehlo.bench._load.histogram import coarse, merge, quantise, since
from ehlo.bench._load.phases import PHASES, Phase
from ehlo.bench._load.plan import LoadPlan
from ehlo.bench._load.slot import Slot
from ehlo.bench._load.tally import Tally, empty_row
from ehlo.bench._poller import make_poller

__all__ = ["Load"]

_TICK: Final = 250_000_000  # nanoseconds between two looks at deadlines, and at how far the run is
_OF_A_MESSAGE: Final = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.ENVELOPE, Phase.CONTENT, Phase.RSET)
_LATENCY_SECONDS: Final = 3600  # of a run whose latency over time is told
_SAMPLE: Final = 200  # characters of a reply kept beside the count of its kind


class Load:
    """One process' part of a load run.

    Arguments:
        plan: what to do; ``workers`` is not looked at.
        address: where to, already resolved.
        contents: the contents of the messages, taken in turns.
        on_tick: called four times a second with this object; whatever it does delays the run.

    Example::

        tally = Load(plan, ("127.0.0.1", 2525), [b"Subject: x\\r\\n\\r\\nx\\r\\n"]).run()
    """

    def __init__(
        self,
        plan: LoadPlan,
        address: tuple[str, int],
        contents: list[bytes],
        on_tick: Callable[[Load], None] | None = None,
    ) -> None:
        self.plan = plan
        self.address = address
        self.family: int = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.tally = Tally()
        self.buffer = ReceiveBuffer(262144)
        self.view = self.buffer.view
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.counts: list[defaultdict[int, int]] = [defaultdict(int) for _ in PHASES]
        self.latencies = self.counts[Phase.MESSAGE]
        self.row = empty_row()
        self.now = 0  # when the poller last woke us
        self.last = 0  # when the last result came
        self.begin: int | None = None  # when the measured part began
        self.sources: Iterator[str] | None = itertools.cycle(plan.sources) if plan.sources else None
        self.config = _config(plan)
        self.context = _context(plan)
        self._on_tick = on_tick
        self._sender = Sender(plan.sender)
        self._recipients = [Recipient(plan.recipient.replace("{n}", str(n))) for n in range(plan.recipients)]
        self._next_content = itertools.cycle(contents).__next__
        self._random = random.Random(plan.seed)
        self._closed_loop = plan.rate is None
        self._gap = 0 if plan.rate is None else max(1, round(1e9 / plan.rate))
        self._budget: float = plan.messages if plan.messages is not None else inf
        self._end: float = inf
        self._next_start = 0
        self._backlog: deque[int] = deque()
        self._free: deque[Slot] = deque()
        self._shut: list[Slot] = []  # open loop: slots that are connected when there is work for them
        self._delayed: list[tuple[int, int, Slot]] = []  # when to try again, a number that breaks ties, which
        self._tries = itertools.count()
        self._open = 0  # slots with a connection, or in wait for one
        self._barren = 0  # connections in a row that led to nothing
        self._patience = max(10, 2 * plan.connections)
        self._stopped = False
        self._cpu = 0.0
        self._second = 0
        self._seen: dict[int, int] = {}  # the latencies that the seconds before this one have had

    def stop(self) -> None:
        """End the run now; may be called by a signal handler. What is under way counts for nothing."""
        self._stopped = True
        self.tally.interrupted = True

    def run(self) -> Tally:
        """Do it, and tell what came of it."""
        slots = [Slot(self) for _ in range(self.plan.connections)]
        started = perf_counter_ns()
        self._cpu = process_time()
        warm = started + int(self.plan.warmup * 1e9)
        if self.plan.warmup <= 0:
            self._start_measuring(started)
        self._next_start = started
        early = self._closed_loop or (self.plan.messages_per_connection or 2) > 1
        for slot in slots:
            if early:
                self._connect(slot)
            else:
                self._shut.append(slot)
        limit = int(self.plan.timeout * 1e9)
        tick = started + _TICK
        handlers = self.handlers
        closed_loop = self._closed_loop
        wait = self.poller.doze if closed_loop else self.poller.wait
        seconds = 0.1 if closed_loop else 0.0
        try:
            while not self._stopped:
                ready = wait(seconds)
                now = self.now = perf_counter_ns()
                for fd, mask in ready:
                    try:
                        handler = handlers[fd]
                    except KeyError:  # closed by one that came before it
                        continue
                    handler(mask)
                if now >= tick:
                    tick = max(tick + _TICK, now + _TICK // 2)
                    self._tick(now, warm, limit, slots)
                if closed_loop:
                    if not self._open:
                        break
                else:
                    now = perf_counter_ns()
                    if self._arrive(now, limit):
                        break
                    due = min(self._next_start if self._arriving(now) else tick, tick)
                    seconds = max(0.0, (due - perf_counter_ns()) / 1e9)
        finally:
            self._finish(slots)
        return self.tally

    # ---- what the slots ask ----------------------------------------------------------------------

    def next(self, slot: Slot, now: int) -> None:
        """Give a connection that has room for one its next message, or let it end."""
        if self._closed_loop:
            if slot.left > 0 and self._budget > 0 and now < self._end:
                if not slot.quitting and not slot.over:
                    self._hand(slot, None if self.begin is None else now)
            else:
                slot.quit()
        elif slot.quitting or slot.over:
            return
        elif slot.left <= 0:
            if not slot.starts:
                slot.quit()
        elif self._backlog:
            self._hand_late(slot)
        elif not slot.free:
            slot.free = True
            self._free.append(slot)

    def _hand(self, slot: Slot, start: int | None) -> None:
        content = self._next_content()
        try:
            number = slot.conn.send_message(self._sender, self._recipients, content)
        except LocalProtocolError:  # the session is over; the event that says so is on its way
            return
        if start is not None and self._closed_loop:
            self._budget -= 1
        slot.left -= 1
        slot.starts[number] = (start, len(content))

    def _hand_late(self, slot: Slot) -> None:
        start = self._backlog.popleft()
        before = len(slot.starts)
        self._hand(slot, start if self.begin is not None and start >= self.begin else None)
        if len(slot.starts) == before:
            self._backlog.appendleft(start)

    def not_accepted(self, slot: Slot, result: SendResult, start: int | None) -> None:
        """A message that not every recipient got."""
        tally = self.tally
        accepted = len(result.accepted)
        for one in result.refused:
            reply = one.reply
            if reply is not None:
                self.error(f"{one.stage} {reply.code}", str(reply))
            else:
                self.error(f"{slot.waits_for} {result.failure}", result.explanation or "")
        if any(one.reply is not None for one in result.recipients):
            self._barren = 0
        if start is None:
            return
        tally.recipients_accepted += accepted
        tally.recipients_refused += len(result.recipients) - accepted
        self.row[2] += 1
        if accepted:
            tally.partly += 1
        elif result.failure is None:
            tally.refused += 1
        else:
            tally.failed += 1

    def lost(self, start: int | None) -> None:
        """A message whose connection broke before the engine could say anything."""
        if start is not None:
            self.tally.failed += 1
            self.tally.recipients_refused += self.plan.recipients
            self.row[2] += 1

    def error(self, kind: str, said: str) -> None:
        """Count what went wrong, and keep the first text of each kind."""
        self.tally.errors[kind] += 1
        self.tally.samples.setdefault(kind, said[:_SAMPLE])

    def failed(self, slot: Slot, what: str, said: str) -> None:
        """A connection was not made."""
        self.error(f"connection {slot.waits_for} {what}", said)
        self._after(slot, perf_counter_ns(), well=False)

    def ended(self, slot: Slot, now: int) -> None:
        """A connection is over."""
        starts, slot.starts = slot.starts, {}
        for start, _ in starts.values():
            self.lost(start)
        self._after(slot, now, well=slot.accepted > 0 or (slot.ready and slot.quitting))

    def _after(self, slot: Slot, now: int, *, well: bool) -> None:
        self._open -= 1
        if well:
            self._barren = 0
            slot.failures = 0
        else:
            if not slot.ready:
                self.tally.connections_failed += 1
            self._barren += 1
            slot.failures += 1
            if self._barren >= self._patience and not self._stopped:
                self.tally.gave_up = f"{counted(self._barren, 'connection')} in a row led to nothing"
                self._stopped = True
                return
        if not self._wants_more(now):
            return
        if slot.failures:
            self._open += 1
            delay = min(1.0, 0.02 * 2**slot.failures)
            heapq.heappush(self._delayed, (now + int(delay * 1e9), next(self._tries), slot))
        elif self._closed_loop or (self.plan.messages_per_connection or 2) > 1:
            self._connect(slot)
        else:
            self._shut.append(slot)

    def _wants_more(self, now: int) -> bool:
        if self._closed_loop:
            return self._budget > 0 and now < self._end
        return bool(self._backlog) or self._arriving(now)

    def _connect(self, slot: Slot) -> None:
        self._open += 1
        slot.open()

    # ---- time --------------------------------------------------------------------------------

    def _start_measuring(self, now: int) -> None:
        self.begin = now
        self._cpu = process_time()
        for phase in _OF_A_MESSAGE:
            self.counts[phase].clear()
        self.counts[Phase.LAG].clear()
        if self.plan.duration is not None:
            self._end = now + int(self.plan.duration * 1e9)
        self.row = self.tally.series.setdefault(0, empty_row())

    def _tick(self, now: int, warm: int, limit: int, slots: list[Slot]) -> None:
        if self.begin is None and now >= warm:
            self._start_measuring(now)
        if self.begin is not None:
            self._turn_to((now - self.begin) // 1_000_000_000)
        while self._delayed and self._delayed[0][0] <= now:
            slot = heapq.heappop(self._delayed)[2]
            if self._wants_more(now):
                slot.open()
            else:
                self._open -= 1
        for slot in slots:
            slot.check(now, limit)
        if self._on_tick is not None:
            self.settle(now)
            self._on_tick(self)

    def _turn_to(self, second: int) -> None:
        """Count for another second of the run, and keep the latencies of the one before."""
        if second == self._second:
            return
        self._keep_latencies()
        self._second = second
        self.row = self.tally.series.setdefault(second, empty_row())

    def _keep_latencies(self) -> None:
        # The difference of two looks costs a message nothing. The last second takes what comes after an hour.
        place = min(self._second, _LATENCY_SECONDS - 1)
        known = self.tally.latencies.get(place, {})
        self.tally.latencies[place] = merge([known, coarse(since(self._seen, self.latencies))])
        self._seen = dict(self.latencies)

    def settle(self, now: int) -> None:
        """Bring the tally up to date."""
        tally = self.tally
        rows = tally.series.values()
        tally.accepted = sum(row[0] for row in rows)
        tally.octets = sum(row[1] for row in rows)
        tally.phases = {name: dict(counts) for name, counts in zip(PHASES, self.counts, strict=True) if counts}
        if self.begin is not None:
            tally.seconds = max(now - self.begin, 1) / 1e9
            tally.cpu = process_time() - self._cpu

    def _arriving(self, now: int) -> bool:
        """Whether the open loop still has messages to start."""
        return self._budget > 0 and self._next_start < self._end

    def _arrive(self, now: int, limit: int) -> bool:
        """Start what is due in the open loop; True when the run is over."""
        backlog = self._backlog
        while self._next_start <= now and self._budget > 0 and self._next_start < self._end:
            backlog.append(self._next_start)
            self.counts[Phase.LAG][quantise((now - self._next_start) // 1000)] += 1
            if self.begin is not None and self._next_start >= self.begin:
                self._budget -= 1
                self.row[3] += 1
            self._next_start += (
                self._gap if self.plan.arrivals == "constant" else int(self._random.expovariate(1 / self._gap))
            )
        free = self._free
        while backlog and free:
            slot = free.popleft()
            if not slot.free or not slot.alive:
                continue
            slot.free = False
            self._hand_late(slot)
            slot.seen = now
            if slot.left > 0 and len(slot.starts) < self.plan.depth:
                slot.free = True
                free.append(slot)
            slot.pump(now)
        while len(backlog) > self._open - len(free) and self._shut:
            self._connect(self._shut.pop())
        if self._arriving(now) or (backlog and now < min(self._end, self._next_start) + limit):
            return False
        if backlog and not self.tally.unsent:
            self.tally.unsent += sum(1 for start in backlog if start >= (self.begin or 0))
            backlog.clear()
        while free:
            slot = free.popleft()
            if slot.alive and slot.free:
                slot.free = False
                slot.quit()
                slot.pump(now)
        return not self._open

    def _finish(self, slots: list[Slot]) -> None:
        for slot in slots:
            slot.close()
        self.poller.close()
        self._keep_latencies()
        tally = self.tally
        self.settle(max(self.last, self.begin or 0) if not self._stopped else perf_counter_ns())
        tally.recipients_accepted += tally.accepted * self.plan.recipients
        tally.unsent += sum(1 for start in self._backlog if start >= (self.begin or 0))
        if self.plan.messages is not None:
            tally.unsent = max(0, self.plan.messages - tally.attempted)


def _config(plan: LoadPlan) -> ClientConfig:
    patience = plan.timeout
    return ClientConfig(
        plan.hostname,
        lmtp=plan.lmtp,
        tls="required" if plan.tls == "starttls" else "off",
        pipelining=plan.pipelining,
        chunking=plan.chunking,
        newlines="normalize",
        max_recipients=max(100, plan.recipients),
        greeting_timeout=patience,
        hello_timeout=patience,
        mail_timeout=patience,
        rcpt_timeout=patience,
        data_timeout=patience,
        content_timeout=patience,
        end_of_data_timeout=patience,
        reset_timeout=patience,
        quit_timeout=min(5.0, patience),
        other_timeout=patience,
    )


def _context(plan: LoadPlan) -> ssl.SSLContext | None:
    if plan.tls == "off":
        return None
    return ssl.create_default_context() if plan.verify else unverified_context()
