"""From replies to the spool: outcomes are judged, their notifications are made, and both are stored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import anyio

import ehlo
from ehlo.mta._channel import Limits
from ehlo.mta._clock import Clock
from ehlo.mta._events import Counters, LogLine, log
from ehlo.mta._model import Content, Message, NewMessage, Outcome, Recipient, Result
from ehlo.mta._notices import Notice, Notifier, notices_of
from ehlo.mta._retry import RetrySchedule
from ehlo.mta._spool import NotOwned, Spool, SpoolError
from ehlo.mta.delivery_status import MAX_RETURNED

__all__ = ["Settler"]

Then: TypeAlias = "Callable[[BaseException | None], None]"


class Settler:
    """Ends attempts.

    Arguments:
        spool: where outcomes go.
        schedule: when to try again.
        notifier: makes notifications.
        clock, counters, limits: see their classes.
        postmaster: who gets the notifications that the null sender cannot get; ``None``: nobody.
        begin: delivers a notification that is stored.
        left: called with the number of recipients that are not in memory any more.
        calm: called when an outcome is stored.

    Attributes:
        unfinished: transactions whose outcome is not stored yet.
    """

    def __init__(
        self,
        spool: Spool,
        schedule: RetrySchedule,
        notifier: Notifier,
        clock: Clock,
        counters: Counters,
        limits: Limits,
        postmaster: str | None,
        *,
        begin: Callable[[Message, list[Recipient], bytes], None],
        left: Callable[[int], None],
        calm: Callable[[], None],
    ) -> None:
        self._spool = spool
        self.schedule = schedule
        self._notifier = notifier
        self._clock = clock
        self._counters = counters
        self._limits = limits
        self._postmaster = postmaster
        self._begin = begin
        self._left = left
        self._calm = calm
        self.unfinished = 0
        self._failed_finishes: list[tuple[Message, list[Outcome], list[NewMessage]]] = []

    def crashed(self, message: Message, recipient: Recipient, exc: Exception) -> Outcome:
        """The program failed, not the next hop: three times, then the recipient is held."""
        self._counters.crashes += 1
        log.error(LogLine("crashed", message.ident, to=recipient.path), exc_info=exc)
        recipient.crashes += 1
        reply = ehlo.Reply(451, "4.3.0", f"Delivery failed by an error of the program: {type(exc).__name__}")
        result: Result = "deferred" if recipient.crashes < self._limits.crashes else "held"
        return Outcome(recipient, result, reply, is_crash=True)

    def cut_off(self, message: Message, recipients: list[Recipient]) -> None:
        """This queue ends within an attempt. The message is not to blame: it is tried again, as one that may have been
        delivered.
        """
        now = self._clock.time()
        reply = ehlo.Reply(451, "4.3.2", "The queue ended within the attempt")
        with suppress(SpoolError):  # it is closed already
            self.store(message, [Outcome(one, "deferred", reply, due=now, is_crash=True) for one in recipients], [])

    def suspect(self, recipient: Recipient) -> Outcome | None:
        """The outcome for a recipient in whose attempts the process died again and again."""
        if recipient.crashes < self._limits.crashes:
            return None
        often = "once" if recipient.crashes == 1 else f"{recipient.crashes} times"
        text = f"The process ended {often} while it delivered this message"
        return Outcome(recipient, "held", ehlo.Reply(451, "4.3.0", text), is_crash=True)

    async def settle(self, message: Message, outcomes: list[Outcome]) -> bool:
        """End recipients that nobody owns. Gives whether that is stored: by then somebody may own them."""
        self._left(-len(outcomes))
        stored = anyio.Event()
        errors: list[BaseException] = []

        def then(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            stored.set()

        await self.judge(message, outcomes, None, then)
        await stored.wait()
        if errors and not isinstance(errors[0], NotOwned):
            raise errors[0]
        return not errors

    async def judge(
        self, message: Message, outcomes: list[Outcome], content: Content | None, then: Then | None = None
    ) -> None:
        """Judge outcomes by the clock, make the notifications, store both."""
        now = self._clock.time()
        delayed = [one for one in outcomes if self._is_late(message, one, now)]
        made: list[NewMessage | None] = []
        try:
            for notice in notices_of(message, outcomes, delayed):
                made.append(await self._make(message, notice, content, now))
        except Exception as exc:  # what cannot be told is held, so that nothing is lost
            self._counters.crashes += 1
            log.error(LogLine("crashed", message.ident), exc_info=exc)
            made = []
            for one in outcomes:
                if one.result == "failed":
                    one.result = "held"
        self.store(message, outcomes, [one for one in made if one is not None], then)

    def _is_late(self, message: Message, one: Outcome, now: float) -> bool:
        """Give a deferred recipient its next time; or fail it, where the message's time is over. Gives whether its
        sender is to be told of the delay.
        """
        if one.result != "deferred":
            return False
        recipient = one.recipient
        due = self.schedule.next_attempt(
            recipient.attempts + 1, now=now, arrived=message.arrived, null_sender=not message.sender
        )
        if due is None:
            one.result = "failed"
            text = f"It could not be delivered in time. The last reply: {' '.join(str(one.reply).split())}"
            one.reply = ehlo.Reply(554, "5.4.7", text[:900])
            return False
        one.due = due
        after = self.schedule.warn_after
        if after is None or recipient.warned or now - message.arrived < after:
            return False
        recipient.warned = True
        return True

    async def _make(self, message: Message, notice: Notice, content: Content | None, now: float) -> NewMessage | None:
        """The notification as a message of its own; ``None`` where nobody is to get it."""
        to = message.sender
        if not to:  # never to the null sender (RFC 5321 4.5.5, RFC 3464 2)
            if notice.action != "failed":
                return None
            self._counters.double_bounces += 1
            for one in notice.outcomes:
                log.warning(LogLine("double-bounce", message.ident, to=one.recipient.path, reply=one.reply))
            if self._postmaster is None or any(o.recipient.path == self._postmaster for o in notice.outcomes):
                return None
            to = self._postmaster
        readers = self._notifier.recipients(to)
        if not readers:
            self._counters.double_bounces += 1
            log.warning(LogLine("double-bounce", message.ident, to=to, reason="nobody here has this address"))
            return None
        if isinstance(content, bytes):
            original = content
        else:
            original = await self._spool.head(message, MAX_RETURNED)
        until = self.schedule.expires(message.arrived, null_sender=not message.sender)
        octets = self._notifier.build(message, notice, original, now=now, until=until, to=to)
        self._counters.notices[notice.action] += 1
        number = self._spool.new_id()
        head, _, _ = octets.partition(b"\r\n\r\n")
        report = Message(
            number,
            "",
            now,
            len(octets),
            eight_bit=not octets.isascii(),
            utf8_header=not head.isascii(),
            smtputf8=not (to.isascii() and head.isascii()),
        )
        log.info(LogLine("notified", message.ident, kind=notice.action, to=to, notice=report.ident))
        return report, [Recipient(self._spool.new_id(), one, due=now) for one in readers], octets

    def store(
        self, message: Message, outcomes: list[Outcome], notices: list[NewMessage], then: Then | None = None
    ) -> None:
        """Log, count, and store. What is new is delivered when it is durable.

        Arguments:
            then: called with the error or ``None``. Without it, what the spool did not take is tried again.
        """
        for one in outcomes:
            self._tell(message, one)
        self._left(len(outcomes))
        self._finish(message, outcomes, notices, then)

    def _finish(
        self, message: Message, outcomes: list[Outcome], notices: list[NewMessage], then: Then | None = None
    ) -> None:
        self.unfinished += 1

        def done(error: BaseException | None) -> None:
            self.unfinished -= 1
            if then is not None:
                then(error)
            if isinstance(error, NotOwned):
                log.warning(LogLine("not-owned", message.ident, recipients=len(outcomes)))
            elif error is not None and then is None:
                log.error(LogLine("not-stored", message.ident, error=error))
                self._failed_finishes.append((message, outcomes, notices))
            elif notices and error is None and notices[0][0].owner:
                for report, recipients, octets in notices:
                    self._begin(report, recipients, octets)
            self._calm()

        self._spool.finish(message, outcomes, notices, done)

    def finish_again(self) -> None:
        """What the spool did not take is not forgotten."""
        failed, self._failed_finishes = self._failed_finishes, []
        for item in failed:
            self._finish(*item)

    def _tell(self, message: Message, one: Outcome) -> None:
        recipient, counters = one.recipient, self._counters
        counters.attempts[one.result] += 1
        if one.result != "postponed":
            recipient.attempts += 1
            if not one.is_crash:
                recipient.crashes = 0
        if one.is_unknown:
            counters.doubles_possible += 1
        if one.result in ("relayed", "delivered"):
            seconds = max(0.0, self._clock.time() - message.arrived)
            counters.delivery_seconds.add(seconds)
        if log.isEnabledFor(logging.INFO):
            log.info(
                LogLine(
                    one.result,
                    message.ident,
                    to=recipient.path,
                    host=one.host or one.mailbox,
                    reply=one.reply,
                    attempts=recipient.attempts,
                    seconds=None if one.seconds is None else round(one.seconds, 3),
                    age=round(self._clock.time() - message.arrived, 3),
                )
            )
