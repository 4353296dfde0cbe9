"""Delivery: from recipients to routes, from routes to connections, from replies to the spool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import anyio

import ehlo
from ehlo._hooks import await_hook, call_hook
from ehlo.mta._channel import Channel, Job, Limits
from ehlo.mta._clock import NEVER, Clock
from ehlo.mta._events import Counters, LogLine, log
from ehlo.mta._loop import Tasks, event_class, open_tasks
from ehlo.mta._means import Handed
from ehlo.mta._model import Content, Message, Outcome, Recipient
from ehlo.mta._notices import Notifier
from ehlo.mta._retry import RetrySchedule
from ehlo.mta._routing import Destination, Router
from ehlo.mta._settler import Settler
from ehlo.mta._spool import Selection, Spool

__all__ = ["Delivery"]

# Seconds between two looks at the spool where nothing else calls for one.
_LOOK: Final = 30.0
_CLAIM: Final = 500
# Seconds by which the clock may be set back, before what waits is tried early. Less than that delays mail no more than
# one more attempt that is refused.
_STEP: Final = 600.0
# While a route is dead, claims have one part of the time, and new mail so many.
_YIELD: Final = 4


@dataclass(slots=True, eq=False)
class _Worker:
    """One task with one connection."""

    event: Any = None
    job: Job | None = None
    since: float = 0.0
    link: Any = None


class Delivery:
    """Delivers what it is given, and what is due in the spool.

    Arguments:
        spool: where outcomes go, and what is due comes from.
        router: finds the way of a recipient.
        schedule: when to try again.
        notifier: makes notifications.
        clock, counters, limits: see their classes.
        route_limits: gives other limits for a route, by its name.
        postmaster: who gets the notifications that the null sender cannot get; ``None``: nobody.
    """

    def __init__(
        self,
        spool: Spool,
        router: Router,
        schedule: RetrySchedule,
        notifier: Notifier,
        clock: Clock,
        counters: Counters,
        limits: Limits,
        postmaster: str | None = None,
        route_limits: Callable[[str], Limits | None] = lambda name: None,
    ) -> None:
        self._spool = spool
        self._router = router
        self._clock = clock
        self._counters = counters
        self._limits = limits
        self._limits_of = route_limits
        self.channels: dict[Any, Channel] = {}
        self.suspended: dict[str, tuple[float, str]] = {}
        self.active = 0
        self.octets = 0
        self._workers = 0
        self._hungry: set[Channel] = set()
        self._tasks: Tasks | None = None
        self._make_event: Callable[[], Any] = anyio.Event
        self._wake: Any = None
        self._planned = 0.0
        self._offset = clock.time() - clock.monotonic()
        self._draining = False
        self._settled: Any = None
        self._is_news = True
        self._early: list[tuple[Message, list[Recipient], Content | None, bool]] = []
        self._settler = Settler(
            spool,
            schedule,
            notifier,
            clock,
            counters,
            limits,
            postmaster,
            begin=self.begin,
            left=self._leave,
            calm=self._calm,
        )
        self.settle: Callable[[Message, list[Outcome]], Awaitable[bool]] = self._settler.settle
        spool.on_news = self._hear

    # ---- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled, or until :meth:`drain` is done."""
        if self._tasks is not None:
            raise ehlo.LocalProtocolError("this queue runs already")
        self._make_event = event_class()
        self._draining = False
        # The clock may have been set back since an earlier process stored when recipients are due.
        self._offset = max(self._offset, self._spool.last_write - self._clock.monotonic())
        async with open_tasks() as tasks:
            self._tasks = tasks
            try:
                early, self._early = self._early, []
                for item in early:
                    self.begin(*item)
                for channel in list(self.channels.values()):
                    self._open(channel)
                await self._tend()
            finally:
                self._tasks = None  # tasks that end start no others
                tasks.cancel()

    async def drain(self, seconds: float) -> bool:
        """Begin no more attempts, let those that go on end, no longer than so many seconds, and end :meth:`run`. Gives
        whether all ended.
        """
        self._draining = True
        end = self._clock.monotonic() + seconds
        while self._is_busy and (left := end - self._clock.monotonic()) > 0:
            self._settled = anyio.Event()
            await self._clock.wait(self._settled, left)
        ended = not self._is_busy
        self.wake()
        return ended

    @property
    def _is_busy(self) -> bool:
        return bool(self._settler.unfinished) or any(channel.busy for channel in self.channels.values())

    def _leave(self, recipients: int) -> None:
        self.active -= recipients

    def _calm(self) -> None:
        """An outcome is stored."""
        if self._settled is not None and not self._is_busy:
            self._settled.set()

    def _hear(self) -> None:
        """Another process changed the spool."""
        self._is_news = True
        self.wake()

    def wake(self) -> None:
        """Something in the spool became due, or a setting changed."""
        if self._wake is not None:
            self._wake.set()

    async def _tend(self) -> None:
        """Take what is due, close connections that nobody needs, probe dead routes."""
        while not self._draining:
            self._wake = self._make_event()
            room = min(_CLAIM, self._limits.active - self.active)
            claimed: list[tuple[Message, list[Recipient]]] = []
            spent = 0.0
            try:
                if self._is_news:
                    await self._learn_suspensions()
                await self._heed_clock()
                began = self._clock.monotonic()
                if room > 0:
                    claimed = await self._spool.claim(self._clock.time(), room)
                spent = self._clock.monotonic() - began
            except OSError as exc:  # what is queued waits
                log.error(LogLine("spool-failed", error=exc))
            for message, recipients in claimed:
                self.begin(message, recipients, None, recipients[0].attempts > 0)
            self._settler.finish_again()
            now = self._clock.monotonic()
            self._dismiss_idle(now)
            for channel in list(self.channels.values()):
                if channel.suspended_until and now >= channel.suspended_until:
                    self._open(channel)
                elif (channel.next_message or channel.next_connection) and len(channel):
                    self._pump(channel)
            if claimed and spent and any(channel.suspended_until for channel in list(self.channels.values())):
                # What is due for a dead route goes back to the spool. It must not keep the storage from new mail.
                await self._clock.wait(self._make_event(), min(1.0, _YIELD * spent))
            if len(claimed) < room or room <= 0:
                seconds = await self._seconds(now)
                self._planned = self._clock.time() + seconds
                await self._clock.wait(self._wake, seconds)
                self._planned = 0.0

    async def _heed_clock(self) -> None:
        """What was deferred while the clock was ahead would wait until the clock is there again: try it now."""
        now = self._clock.time()
        offset = now - self._clock.monotonic()
        back = self._offset - offset
        if back > _STEP:
            log.warning("the clock was set back by %d s: all that waits is tried now", back)
            await self._spool.retry(Selection(due_before=NEVER), now)
        self._offset = offset

    async def _seconds(self, now: float) -> float:
        """Until there is something to do."""
        seconds = _LOOK
        try:
            due = await self._spool.next_due()
        except OSError:
            due = None
        if due is not None and self.active < self._limits.active:
            seconds = min(seconds, due - self._clock.time())
        for channel in self.channels.values():
            if channel.suspended_until and len(channel) and not channel.probing:
                seconds = min(seconds, channel.suspended_until - now)
            if (waits := channel.waits(now)) > 0:
                seconds = min(seconds, waits)
            if channel.idle:
                seconds = min(seconds, channel.idle[0].since + self._limits.linger - now)
        return max(seconds, 0.01)

    # ---- from recipients to routes ---------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as many recipients are in memory as may be: further ones wait in the spool."""
        return self.active >= self._limits.active

    def begin(
        self, message: Message, recipients: list[Recipient], content: Content | None, is_retry: bool = False
    ) -> None:
        """Deliver a message that is in the spool, and owned by this process. Returns at once.

        Arguments:
            content: its octets, if they are at hand.
            is_retry: it was tried before.
        """
        tasks = self._tasks
        if tasks is None:
            self._early.append((message, recipients, content, is_retry))
            return
        self.active += len(recipients)
        if content is not None and self.octets + message.size > self._limits.octets:
            content = None
        if len(recipients) == 1:
            try:
                decided = self._settler.suspect(recipients[0]) or self._router.at_once(message, recipients[0])
            except Exception as exc:
                decided = self._settler.crashed(message, recipients[0], exc)
            if isinstance(decided, Destination):
                self._put(self._channel(decided), Job(message, recipients, content, is_retry))
                return
            if decided is not None:
                tasks.start(self._settler.judge, message, [decided], content)
                return
        tasks.start(self._begin_slowly, message, recipients, content, is_retry)

    async def _begin_slowly(
        self, message: Message, recipients: list[Recipient], content: Content | None, is_retry: bool
    ) -> None:
        together: dict[Channel, list[Recipient]] = {}
        decided: list[Outcome] = []
        for recipient in recipients:
            try:
                found = self._settler.suspect(recipient) or await self._router.find(message, recipient)
            except Exception as exc:
                found = self._settler.crashed(message, recipient, exc)
            if isinstance(found, Outcome):
                decided.append(found)
            else:
                together.setdefault(self._channel(found), []).append(recipient)
        for channel, chosen in together.items():
            for at in range(0, len(chosen), self._limits.recipients):
                self._put(channel, Job(message, chosen[at : at + self._limits.recipients], content, is_retry))
        if decided:
            await self._settler.judge(message, decided, content)

    def _channel(self, found: Destination) -> Channel:
        channel = self.channels.get(found.key)
        if channel is None:
            limits = self._limits_for(found.name)
            busiest = [one.octets for one in self.channels.values() if one.workers]
            self.channels[found.key] = channel = Channel(found.key, found.name, found.means, limits)
            channel.octets = min(busiest, default=0)
            until, reason = self.suspended.get(found.name, (0.0, ""))
            if until > self._clock.monotonic():
                channel.suspend(self._clock.monotonic(), until - self._clock.monotonic(), reason)
        else:
            channel.means = found.means
        return channel

    def _limits_for(self, name: str) -> Limits:
        try:
            return call_hook(self._limits_of, name) or self._limits
        except Exception as exc:  # mail goes on with the limits of all routes
            self._counters.crashes += 1
            log.error(LogLine("crashed", route=name), exc_info=exc)
            return self._limits

    # ---- from routes to connections --------------------------------------------------------------

    def _put(self, channel: Channel, job: Job) -> None:
        for recipient in job.recipients:
            recipient.route = channel.name
        if type(job.content) is bytes:
            self.octets += job.message.size
        if channel.suspended_until and len(channel) >= max(1, self._limits.backlog):  # one is the probe
            self._postpone(channel, job)
        elif channel.idle and not len(channel) and not channel.suspended_until and not self._draining:
            now = self._clock.monotonic()
            if now < channel.next_message:
                channel.put(job)
                self._plan(channel, now)
            else:
                worker = channel.idle.pop()
                worker.job = job
                channel.begin(job, now)
                worker.event.set()
        else:
            channel.put(job)
            self._open(channel)

    def _plan(self, channel: Channel, now: float) -> None:
        """A rate keeps a job waiting: look again in time."""
        if self._planned > self._clock.time() + channel.waits(now):
            self.wake()

    def _pump(self, channel: Channel) -> None:
        """A rate may allow one more."""
        while channel.idle and (job := self._take(channel)) is not None:
            worker = channel.idle.pop()
            worker.job = job
            worker.event.set()
        self._open(channel)

    def _open(self, channel: Channel) -> None:
        """One more worker, if there is something for it to do, and it may be."""
        if self._tasks is None or self._draining or not channel.may_open or not channel.is_ready:
            return
        now = self._clock.monotonic()
        if channel.suspended_until and now < channel.suspended_until:
            return
        if channel.waits(now) > 0:
            self._plan(channel, now)
            return
        if self._workers >= self._limits.connections:
            self._hungry.add(channel)
            for other in self.channels.values():
                if other.idle:
                    other.idle.pop(0).event.set()  # it closes, and the next in turn opens
                    break
            return
        channel.opened(now)
        self._workers += 1
        self._tasks.start(self._work, channel)

    async def _work(self, channel: Channel) -> None:
        worker = _Worker()
        try:
            job = self._take(channel)
            while job is not None:
                await self._deliver(worker, channel, job)
                if channel.limits.connection_rate and self._is_used_up(worker.link):
                    break  # the next connection has to wait for its turn
                job = self._take(channel)
                if job is None and self._may_stay(channel):
                    job = await self._idle(worker, channel)
            if worker.link is not None:
                await worker.link.client.close()
        finally:
            if worker.link is not None:
                worker.link.client.abort()
            channel.workers -= 1
            self._workers -= 1
            self._feed(channel)

    def _is_used_up(self, link: Any) -> bool:
        return link is None or link.client.is_closed or link.messages >= self._limits.messages

    def _take(self, channel: Channel) -> Job | None:
        if self._draining or channel.workers > max(1, int(channel.limit)):
            return None
        if self._hungry and channel.workers > 1 and channel.octets > min(one.octets for one in self._hungry):
            return None  # another route's turn
        return channel.take(self._clock.monotonic())

    def _may_stay(self, channel: Channel) -> bool:
        if self._hungry or self._draining or channel.suspended_until:
            return False
        return not channel.is_ready or self._clock.monotonic() < channel.next_message

    async def _idle(self, worker: _Worker, channel: Channel) -> Job | None:
        """Wait for a job; ``None``: close."""
        worker.event = event = self._make_event()
        worker.job = None
        worker.since = self._clock.monotonic()
        channel.idle.append(worker)
        if len(channel.idle) == 1 and self._planned > self._clock.time() + self._limits.linger:
            self.wake()
        try:
            await event.wait()
        finally:
            if worker in channel.idle:
                channel.idle.remove(worker)
        return worker.job

    def _dismiss_idle(self, now: float) -> None:
        for channel in list(self.channels.values()):
            while channel.idle and now - channel.idle[0].since >= self._limits.linger:
                channel.idle.pop(0).event.set()

    def _feed(self, channel: Channel) -> None:
        """A worker is gone: the route with the fewest octets gets the next one."""
        self._hungry = {one for one in self._hungry if len(one) and one.may_open}
        if self._hungry:
            self._open(min(self._hungry, key=lambda one: one.octets))
        else:
            self._open(channel)
        if not channel.workers and not len(channel) and not channel.suspended_until and len(self.channels) > 1000:
            self.channels.pop(channel.key, None)

    async def _deliver(self, worker: _Worker, channel: Channel, job: Job) -> None:
        """One attempt, and what follows from it."""
        if not self._spool.owns(job.message):
            self._forget(channel, job)
            return
        link = worker.link
        if link is not None and self._is_used_up(link):
            await link.client.close()
            link = None
        content, began = job.content, self._clock.monotonic()
        is_begun = False
        try:
            if content is None:
                content = await self._spool.read(job.message)
            is_begun = True
            counted = self._spool.begun(job.message, job.recipients)
            if counted is not None:
                await counted
            now = self._clock.monotonic()
            # A login's token comes from a function of the program, and this call may ask for one.
            handed = await await_hook(channel.means.hand_over(job.message, job.recipients, content, link, now))
        except Exception as exc:
            if link is not None:
                link.client.abort()
            handed = Handed([self._settler.crashed(job.message, one, exc) for one in job.recipients])
        except BaseException:
            if is_begun:
                self._settler.cut_off(job.message, job.recipients)
            raise
        seconds = self._clock.monotonic() - began
        for outcome in handed.outcomes:
            outcome.seconds = seconds
        worker.link = handed.link
        channel.done(job)
        self._let_go(job)
        if handed.is_alive:
            if channel.suspended_until:
                log.info(LogLine("resumed", route=channel.name))
                self._spool.note_route(channel.name, 0.0, "")
            channel.succeeded()
        else:
            self._route_failed(channel, handed.outcomes[-1].reply)
        for _ in range(int(channel.limit) - channel.workers if len(channel) else 0):
            self._open(channel)
        if len(handed.outcomes) == 1 and handed.outcomes[0].result == "relayed" and job.recipients[0].notify is None:
            self._settler.store(job.message, handed.outcomes, [])
        else:
            await self._settler.judge(job.message, handed.outcomes, content)

    def _let_go(self, job: Job) -> None:
        """The octets of a job are not in memory any more."""
        if type(job.content) is bytes:
            self.octets -= job.message.size

    def _forget(self, channel: Channel, job: Job) -> None:
        """Another node has it now, or will have it."""
        channel.done(job)
        self._let_go(job)
        self.active -= len(job.recipients)
        log.warning(LogLine("not-owned", job.message.ident, recipients=len(job.recipients)))

    # ---- suspension ------------------------------------------------------------------------------

    def suspend(self, name: str, seconds: float, reason: str) -> None:
        """No attempt for routes of this name, for so many seconds."""
        now = self._clock.monotonic()
        self.suspended[name] = (now + seconds, reason)
        for channel in self._named(name):
            channel.suspend(now, seconds, reason)
            self.return_backlog(channel)

    def resume(self, name: str) -> bool:
        """End a suspension. Gives whether there was one."""
        there = self.suspended.pop(name, None) is not None
        for channel in self._named(name):
            if channel.suspended_until:
                there = True
                self._spool.note_route(name, 0.0, "")
            channel.resume()
            self._open(channel)
        self.wake()
        return there

    def _named(self, name: str) -> list[Channel]:
        return [channel for channel in self.channels.values() if channel.name == name]

    async def _learn_suspensions(self) -> None:
        """What administrators decided, on this node or on another."""
        now = self._clock.time()
        self._is_news = False  # what comes while the spool is asked is news again
        try:
            rules = await self._spool.suspensions()
        except OSError:
            self._is_news = True
            raise
        stored = {one.route: one for one in rules if one.until > now}
        for name in [name for name in self.suspended if name not in stored]:
            self.resume(name)
        for name, one in stored.items():
            if name not in self.suspended:
                self.suspend(name, one.until - now, one.reason)

    def _route_failed(self, channel: Channel, reply: ehlo.Reply) -> None:
        now = self._clock.monotonic()
        if channel.failed(now, str(reply)):
            self._counters.suspensions += 1
            seconds = channel.suspended_until - now
            log.warning(LogLine("suspended", route=channel.name, seconds=round(seconds), reason=channel.reason))
            self._spool.note_route(channel.name, self._clock.time() + seconds, channel.reason)
            self.return_backlog(channel)

    def return_backlog(self, channel: Channel) -> None:
        """Give what waits for a suspended route back to the spool, but for a few."""
        for job in channel.give_back(max(1, self._limits.backlog)):
            self._postpone(channel, job)
        self.wake()

    def _postpone(self, channel: Channel, job: Job) -> None:
        """No attempt, since the route is suspended; none is counted. What is too old by then fails."""
        self._let_go(job)
        now = self._clock.time()
        due = now + max(0.0, channel.suspended_until - self._clock.monotonic())
        end = self._settler.schedule.expires(job.message.arrived, null_sender=not job.message.sender)
        reply = ehlo.Reply(451, "4.4.1", f"The route {channel.name} is suspended: {channel.reason}"[:400])
        if now >= end and self._tasks is not None:
            late = [Outcome(one, "deferred", reply) for one in job.recipients]
            self._tasks.start(self._settler.judge, job.message, late, job.content)
            return
        outcomes = [Outcome(one, "postponed", reply, due=min(due, max(end, now))) for one in job.recipients]
        self._settler.store(job.message, outcomes, [])
