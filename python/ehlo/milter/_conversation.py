"""One session with one filter: what it is told, what it answered, and what becomes of the client if it is down."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
from ehlo.milter._client import MilterClient
from ehlo.milter._events import Decision
from ehlo.milter._link import Ask, FilterDownError, Link, Milter, Pool
from ehlo.milter._message import Changes, Field, MessageInHand
from ehlo.milter._words import Command, Verdict

__all__ = ["DISCARD", "Conversation", "Discard", "Outcome"]

log: Final = logging.getLogger("ehlo.milter")


class Discard:
    """The message is accepted, and delivered to nobody."""


DISCARD: Final = Discard()
Outcome = Reply | Discard | None
"""What a step comes to: a refusal, the end of the message, or ``None`` to go on."""

DOWN: Final = Reply(451, "4.7.1", "Service unavailable, try again later")
_REJECT: Final = Reply(550, "5.7.1", "Command rejected")
_TEMPFAIL: Final = Reply(451, "4.7.1", "Service unavailable, try again later")
_SHUTDOWN: Final = Reply(421, "4.3.2", "Service not available, closing the connection")
PIECE: Final = 65535
_REPEATED: Final = 8


class Conversation:
    """One session with one filter.

    Attributes:
        link: the connection; ``None`` before the session and when the filter is down.
        refusal: what every command of the session is answered, since the filter refused the session or is down.
    """

    __slots__ = ("_pool", "_unproven", "link", "refusal")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # The steps since the session began on a connection that had waited, until it answers one of them.
        self._unproven: list[Ask] | None = None
        self.link: Link | None = None
        self.refusal: Reply | None = None

    async def connect(self, ask: Ask) -> Outcome:
        """Get a connection, and tell the filter of the client."""
        try:
            self.link = link = await self._pool.take()
        except FilterDownError as exc:
            return await self._down(exc)
        self._unproven = [] if link.used else None
        return await self._ask([ask])

    @property
    def milter(self) -> Milter:
        """The filter."""
        return self._pool.milter

    @property
    def reusable(self) -> bool:
        """Whether another session may follow on the connection."""
        return self.link is not None and self.link.client.reusable

    def wants(self, command: Command) -> bool:
        """Whether :meth:`ask` would do anything for such a step."""
        return self.refusal is not None or (self.link is not None and self.link.client.wants(command))

    async def ask(self, *steps: Ask) -> Outcome:
        """Some steps, up to the first that is refused. Nothing is sent of one that the filter left out, or that comes
        after its last word."""
        if self.refusal is not None:
            return self.refusal
        return None if self.link is None else await self._ask(steps)

    async def content(self, fields: Sequence[Field] | None, piece: bytes, macros: Mapping[str, str]) -> Outcome:
        """The header section and its end, if ``fields`` are given, and a piece of the body."""
        steps: list[Ask] = []
        if fields is not None:
            steps += [partial(MilterClient.header, name=name, value=value) for name, _, value in fields]
            steps.append(partial(MilterClient.end_of_headers, macros=macros))
        if piece and self.wants(Command.BODY):
            steps += [partial(MilterClient.body, chunk=piece[at : at + PIECE]) for at in range(0, len(piece), PIECE)]
        return await self.ask(*steps) if steps else None

    async def end(self, message: MessageInHand, macros: Mapping[str, str]) -> Outcome:
        """The end of the message. What the filter wants changed is changed if it goes on with the message."""
        link = self.link
        if self.refusal is not None or link is None:
            return self.refusal
        changes = Changes(message)
        try:
            decision = await link.run([partial(MilterClient.end, macros=macros)], changes.add)
            outcome = self._judge(decision)
            if outcome is None and decision is not None:
                changes.apply()
            return outcome
        except FilterDownError as exc:
            return await self._down(exc)
        finally:
            changes.drop()

    async def abort(self) -> None:
        """The transaction is over."""
        if self.link is None:
            return
        client = self.link.client
        if client.closed:
            if self._unproven is None:
                await self._down(FilterDownError("it closed the connection"))
            # else the next step finds it out, and says all again on a new connection
        elif client.awaiting is None:
            client.abort()
        else:  # the call that waited for an answer was cancelled; mail must not go past the filter for that
            await self._down(FilterDownError("its answer was not waited for"))

    async def leave(self) -> None:
        """The session is over."""
        link, self.link = self.link, None
        if link is not None:
            await self._pool.give(link)

    async def _ask(self, steps: Sequence[Ask]) -> Outcome:
        if self._unproven is not None and len(steps) > 1:  # nobody knows how many of them would have to be repeated
            for step in steps:
                if (outcome := await self.ask(step)) is not None:
                    return outcome
            return None
        assert self.link is not None
        if self._unproven is not None:
            self._unproven = [*self._unproven, *steps] if len(self._unproven) < _REPEATED else None
        try:
            decision = await self.link.run(steps)
        except (FilterDownError, LocalProtocolError) as exc:
            asked, self._unproven = self._unproven, None
            return await self._down(exc) if asked is None else await self._repeat(asked)
        if decision is not None:
            self._unproven = None
        return self._judge(decision)

    async def _repeat(self, asked: Sequence[Ask]) -> Outcome:
        """A connection that had waited turned out to be dead before it answered: all again, by a new one."""
        try:
            await self._drop()
            self.link = await self._pool.take(new=True)
        except FilterDownError as exc:
            return await self._down(exc)
        except BaseException:  # it was cancelled; mail must not go past the filter for that
            self._mark_down()
            raise
        for ask in asked:
            outcome = await self.ask(ask)
            if outcome is not None:
                return outcome
        return None

    async def _down(self, exc: Exception) -> Outcome:
        milter = self._pool.milter
        log.warning("filter %s is down (%s): %s", milter, milter.when_down, exc)
        self._mark_down()  # first, since what follows may be cancelled
        await self._drop()
        return self.refusal

    def _mark_down(self) -> None:
        if self._pool.milter.when_down == "tempfail":
            self.refusal = DOWN

    async def _drop(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            await link.close()

    def _judge(self, decision: Decision | None) -> Outcome:
        if decision is None:
            return None
        outcome = _outcome(decision)
        session = decision.command in (Command.CONNECT, Command.HELLO)
        closes = decision.verdict in (Verdict.SHUTDOWN, Verdict.CONNECTION_FAILURE)
        if isinstance(outcome, Reply) and (session or closes):
            self.refusal = outcome
        return outcome


def _outcome(decision: Decision) -> Outcome:
    match decision.verdict:
        case Verdict.REJECT:
            return _REJECT
        case Verdict.TEMPFAIL:
            return _TEMPFAIL
        case Verdict.REPLY:
            return decision.reply
        case Verdict.SHUTDOWN | Verdict.CONNECTION_FAILURE:
            return _SHUTDOWN
        case Verdict.DISCARD:
            return DISCARD
    return None
