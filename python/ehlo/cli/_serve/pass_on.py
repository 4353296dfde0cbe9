"""Without a queue: mail goes on while the client waits. Each RCPT is asked of the next hop, and its reply passed on.

SMTP has one reply for all recipients after the end of the content (RFC 5321 4.1.1.4). So recipients whose fates may
differ never share a transaction: the second one is told 452 4.5.3, and the client sends to it again at once. LMTP has a
reply for each recipient (RFC 2033 4.2), and there they may share one.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import ehlo
from ehlo.cli._log import ERROR, WARNING
from ehlo.cli._receive import TIMERS, new_ident, received_by
from ehlo.cli._serve.routes import Hop, Way
from ehlo.cli._serve.site import Target
from ehlo.cli._serve.trail import Trail, path_words, reply_words
from ehlo.store import Maildir, Mbox, Store, failure_reply

__all__ = ["PassOn", "open_store", "pool_options"]

log: Final = logging.getLogger("ehlo")

_LATER: Final = ehlo.Reply(451, "4.3.0", "The next hop did not take it; try again later")
_UNREACHABLE: Final = ehlo.Reply(451, "4.4.1", "The next hop cannot be reached; try again later")
_UNKNOWN: Final = ehlo.Reply(451, "4.4.2", "The connection to the next hop broke; try again later")
_TOO_LARGE: Final = ehlo.Reply(552, "5.3.4", "The next hop does not take a message of this size")
_CANNOT: Final = ehlo.Reply(554, "5.6.1", "The next hop lacks what this message needs")
_BARE: Final = ehlo.Reply(554, "5.6.0", "The next hop does not take content with a bare CR or LF")
_ALONE: Final = ehlo.Reply(452, "4.5.3", "This recipient goes another way; send to it in a transaction of its own")
_DONE: Final = ehlo.Reply(250, "2.0.0", "Message accepted")
_LOOP: Final = ehlo.Reply(554, "5.4.6", "Routing loop: too many Received fields")
_HOPS: Final = 100  # RFC 5321 6.3
_BARE_NEWLINE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# A handler of submission has 110 s (RFC 6409 5.3). The hop must have said before that whether it has the message:
# all waits from the end of the content here to that reply take less, together.
_HOP_SECONDS: Final = {"reset": 5.0, "data": 10.0, "content": 20.0, "end_of_data": 70.0}
_HOP_STEP: Final = 20.0
_STORES: Final = 1000  # that are kept open


def pool_options(way: Way, hostname: str) -> dict[str, Any]:
    """How a next hop is connected to: arguments of :class:`ehlo.asyncio.Pool`."""
    address, level = way.address, way.tls
    config = ehlo.ClientConfig(hostname, lmtp=way.kind == "lmtp", drop_dsn=True, newlines="auto")
    times = {f"{step}_timeout": _HOP_SECONDS.get(step, _HOP_STEP) for step in TIMERS}
    options: dict[str, Any] = {
        "config": config.replace(**times),
        "tls": "required" if level == "verified" else level,
        "connect_timeout": _HOP_STEP,
        "handshake_timeout": _HOP_STEP,
        "auth": way.auth,
    }
    if level == "required":  # any certificate will do, as everywhere in ehlo.mta
        options["ssl_context"] = ehlo.unverified_context()
    if address.path is not None:
        return options | {"path": address.path}
    return options | {"host": address.host, "port": address.port}


@dataclass(slots=True, eq=False)
class Leg:
    """The part of a transaction that goes one way.

    Attributes:
        way: where.
        place: of the mailbox, where it ends in one.
        recipients: those that were accepted.
        transaction: with the next hop.
        broken: why nothing can go this way any more.
    """

    way: Way
    place: str = ""
    recipients: list[ehlo.Recipient] = field(default_factory=list)
    transaction: Any = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    broken: ehlo.Reply | None = None


@dataclass(slots=True, eq=False)
class Passing:
    """One transaction of a client.

    Attributes:
        sender: its reverse-path.
        ident: of the message: the same in Received, in the reply and in the log.
        legs: by way and mailbox.
        parts: for each accepted recipient of the client: its leg, and its place among the recipients of the leg.
    """

    sender: ehlo.Sender
    ident: str = field(default_factory=new_ident)
    legs: dict[Hashable, Leg] = field(default_factory=dict)
    parts: list[tuple[Leg, int]] = field(default_factory=list)

    def takes(self, way: Way, leg: Leg | None, is_lmtp: bool) -> bool:
        """Whether one more recipient that goes ``way``, by ``leg`` if there is one, can have its true reply at the end.

        In LMTP every recipient has its own. But time is limited: when a second next hop took too long, there would be
        one reply for all, and the first one has the message. So there is one next hop at most.
        """
        others = [other for other in self.legs.values() if other.recipients and other is not leg]
        if is_lmtp:
            return not (way.is_hop and any(other.way.is_hop for other in others))
        return not others and not (way.kind == "lmtp" and leg is not None and leg.recipients)


class PassOn:
    """Hands mail to the next hop, or puts it into a mailbox, while the client waits.

    Arguments:
        pools: of connections, for each way to a next hop.
        in_thread: calls a function that blocks, with arguments.
        trail: is told of each recipient.
    """

    def __init__(self, pools: dict[Hop, Any], in_thread: Callable[..., Awaitable[Any]], trail: Trail) -> None:
        self._pools = pools
        self._in_thread = in_thread
        self._trail = trail
        self._stores: dict[str, Store] = {}

    # ---- steps of a transaction ------------------------------------------------------------------

    async def begin(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
        """MAIL came."""
        await self.drop(session)
        session.state[_STATE] = Passing(sender)

    async def rcpt(self, session: ehlo.Session, targets: list[Target]) -> ehlo.Reply | None:
        """Ask whether a recipient can be taken in this transaction; gives the refusal."""
        passing = _passing(session)
        (target,) = targets  # without a queue an alias has one target
        way = target.way
        place = way.mailbox(target.recipient.path, target.domain) if way.is_store else ""
        key = (way, place)
        leg = passing.legs.get(key)
        if not passing.takes(way, leg, _is_lmtp(session)):
            return _ALONE
        if leg is None:
            leg = passing.legs[key] = Leg(way, place)
        if way.is_hop:
            refusal = await self._ask(passing, leg, target.recipient)
            if refusal is not None:
                return refusal
        passing.parts.append((leg, len(leg.recipients)))
        leg.recipients.append(target.recipient)
        return None

    async def message(
        self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes
    ) -> ehlo.Reply | list[ehlo.Reply]:
        """Hand the content over; gives the reply, in LMTP one for each recipient."""
        passing = _passing(session)
        try:
            if len(passing.parts) != len(envelope.recipients):  # a rule in front accepted for us
                return _LATER
            if ehlo.count_received(content) >= _HOPS:
                return _LOOP
            ident = passing.ident
            fields = received_by(session, envelope, datetime.now().astimezone(), ident)
            content = ehlo.prepend_fields(fields, content)
            for leg in passing.legs.values():
                if not leg.recipients:
                    await self._close(leg)
            legs = sorted(passing.legs.values(), key=lambda leg: not leg.way.is_hop)  # what can take long comes first
            replies = {leg: await self._safely(leg, passing, content) for leg in legs}
            answers = [_with_ident(replies[leg][number], ident) for leg, number in passing.parts]
            if any(one.is_positive for one in answers):
                self._trail.accepted(session, envelope, ident, len(content))
        finally:
            await self.drop(session)
        return answers if _is_lmtp(session) else max(answers, key=lambda reply: reply.code // 100)

    async def drop(self, session: ehlo.Session) -> None:
        """End what the client's transaction has open."""
        passing: Passing | None = session.state.pop(_STATE, None)
        if passing is not None:
            for leg in passing.legs.values():
                await self._close(leg)

    def refusal(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Reply | None:
        """The reply to DATA where the content can go nowhere; ``None`` where it can."""
        broken = [leg.broken for leg, _ in _passing(session).parts]
        return broken[0] if broken and None not in broken else None

    # ---- next hops -------------------------------------------------------------------------------

    async def _ask(self, passing: Passing, leg: Leg, recipient: ehlo.Recipient) -> ehlo.Reply | None:
        if leg.broken is not None:
            return leg.broken
        onward = ehlo.Recipient(recipient.path, notify=recipient.notify, orcpt=recipient.orcpt)
        sender = passing.sender
        try:
            if leg.transaction is None:
                leg.transaction = await leg.stack.enter_async_context(
                    self._pools[leg.way.hop].transaction(
                        _onward(sender),
                        size=sender.size,
                        eight_bit=False if sender.body == "7BIT" else None,
                        utf8_header=sender.smtputf8,
                    )
                )
            reply: ehlo.Reply = await leg.transaction.rcpt(onward)
        except ehlo.SMTPException as exc:
            return self._break(leg, self._reply_of(leg, exc))
        except ehlo.LocalProtocolError as exc:  # what we took, our client does not send
            self._tell_hop(leg, f"a recipient cannot go there: {exc}")
            return self._break(leg, _CANNOT)
        return None if reply.is_positive else _passed_back(reply)

    @staticmethod
    def _break(leg: Leg, reply: ehlo.Reply) -> ehlo.Reply:
        """The transaction with the hop is over. A reason of this recipient's is none against those before it."""
        leg.broken = _LATER if leg.recipients and reply.is_permanent else reply
        return reply

    async def _send(self, leg: Leg, content: bytes) -> list[ehlo.Reply]:
        count = len(leg.recipients)
        if leg.broken is not None:
            return [leg.broken] * count
        offer: ehlo.Capabilities = leg.transaction.capabilities
        if offer.size and len(content) > offer.size:
            return [_TOO_LARGE] * count
        if leg.way.table.bare_newlines == "refuse" and "CHUNKING" not in offer and _BARE_NEWLINE.search(content):
            return [_BARE] * count
        try:
            result = await leg.transaction.send(content, check=False)
        except ehlo.SMTPException as exc:
            reply = self._reply_of(leg, exc)
            if exc.result is None:
                return [reply] * count
            result = exc.result
        except ehlo.LocalProtocolError as exc:
            self._tell_hop(leg, f"a message cannot go there: {exc}")
            return [_CANNOT] * count
        # The hop knows those that it refused at RCPT, too: they are not among ours.
        named = [one for one in result.recipients if one.rcpt is None or one.rcpt.is_positive]
        return [_answer(one, result) for one in named]

    def _reply_of(self, leg: Leg, exc: ehlo.SMTPException) -> ehlo.Reply:
        self._tell_hop(leg, str(exc))
        if isinstance(exc, ehlo.SMTPSenderRefused) and exc.reply is not None:
            return _passed_back(exc.reply)
        match exc:
            case ehlo.SMTPNotSupportedError():
                return _CANNOT
            case ehlo.SMTPConnectError():
                return _UNREACHABLE
            case ehlo.OutcomeUnknown() | ehlo.SMTPServerDisconnected() | ehlo.SMTPTimeoutError():
                return _UNKNOWN
            case _:
                return _LATER

    async def _close(self, leg: Leg) -> None:
        """Give the connection back. What fails here changes nothing for the message."""
        try:
            await leg.stack.aclose()
        except ehlo.EhloError as exc:
            self._tell_hop(leg, str(exc))

    def _tell_hop(self, leg: Leg, text: str) -> None:
        self._trail.tell("hop-failed", WARNING, route=leg.way.where, host=str(leg.way.address), reason=text)

    # ---- mailboxes -------------------------------------------------------------------------------

    async def _safely(self, leg: Leg, passing: Passing, content: bytes) -> list[ehlo.Reply]:
        """What goes wrong on one way must not change the replies to those who have the message by another."""
        began = time.monotonic()
        try:
            replies = await self._finish(leg, passing.sender, content)
        except Exception:
            log.exception("%s: a message could not be handed over", leg.way.where)
            replies = [_LATER] * len(leg.recipients)
        for recipient, reply in zip(leg.recipients, replies, strict=True):
            self._trail.tell(
                _result(leg.way, reply),
                id=passing.ident,
                to=[path_words(recipient.path)],
                route=leg.way.where,
                host=str(leg.way.address) if leg.way.is_hop else leg.place or None,
                reply=reply_words(reply),
                seconds=round(time.monotonic() - began, 3),
            )
        return replies

    async def _finish(self, leg: Leg, sender: ehlo.Sender, content: bytes) -> list[ehlo.Reply]:
        if not leg.recipients or leg.way.kind == "discard":
            return [_DONE] * len(leg.recipients)
        if leg.way.is_hop:
            return await self._send(leg, content)
        envelope = ehlo.Envelope(sender, leg.recipients)
        try:
            await self._in_thread(partial(self._keep, leg, envelope, content))
        except OSError as exc:
            self._trail.tell("not-kept", ERROR, route=leg.way.where, place=leg.place, reason=str(exc))
            return [failure_reply(exc)] * len(leg.recipients)
        return [_DONE] * len(leg.recipients)

    def _keep(self, leg: Leg, envelope: ehlo.Envelope, content: bytes) -> None:
        store = self._stores.get(leg.place)
        if store is None:
            if len(self._stores) >= _STORES:
                self._stores.clear()
            store = self._stores[leg.place] = open_store(leg.way, leg.place)
        store.deliver(envelope, content)


def open_store(way: Way, place: str) -> Store:
    """The mailbox of a route.

    Raises:
        OSError: it cannot be written to.
    """
    if way.kind == "maildir":
        return Maildir(place, parents=True, **way.mailbox_options)
    os.makedirs(os.path.dirname(place) or ".", 0o700, exist_ok=True)
    return Mbox(place, **way.mailbox_options)


_STATE: Final = "ehlo serve: passing on"


def _passing(session: ehlo.Session) -> Passing:
    passing: Passing = session.state[_STATE]
    return passing


def _result(way: Way, reply: ehlo.Reply) -> str:
    """The word of ehlo.mta for what became of a recipient."""
    if reply.is_positive:
        return "relayed" if way.is_hop else "delivered"
    return "failed" if reply.is_permanent else "deferred"


def _with_ident(reply: ehlo.Reply, ident: str) -> ehlo.Reply:
    """A positive reply names the message as Received does, and the log. What the next hop said stays behind it."""
    if not reply.is_positive:
        return reply
    said = " ".join(reply.text.split()).encode("ascii", "backslashreplace").decode()
    return ehlo.Reply(250, "2.0.0", f"Taken as {ident}: {said}"[:400])


def _is_lmtp(session: ehlo.Session) -> bool:
    return session.protocol.removeprefix("UTF8").startswith("LMTP")


def _onward(sender: ehlo.Sender) -> ehlo.Sender:
    """The reverse-path for the next hop, with what is end to end. AUTH= is not: whom we believe, it need not."""
    return ehlo.Sender(
        sender.path,
        # 8BITMIME follows from the content, and from what the hop offers.
        body="BINARYMIME" if sender.body == "BINARYMIME" else None,
        smtputf8=sender.smtputf8,
        ret=sender.ret,
        envid=sender.envid,
        mt_priority=sender.mt_priority,
        requiretls=sender.requiretls,
    )


def _passed_back(reply: ehlo.Reply) -> ehlo.Reply:
    """A refusal of the next hop, for our client. 421 would end our own session, and what the hop says of AUTH and TLS
    is between us and it (RFC 4954 6, RFC 3207 4)."""
    return _LATER if reply.code == 421 or 530 <= reply.code < 540 else reply


def _answer(one: ehlo.RecipientResult, result: ehlo.SendResult) -> ehlo.Reply:
    if one.reply is not None:
        return one.reply if one.reply.is_positive else _passed_back(one.reply)
    match result.failure:
        case "lost" | "unknown" | "mailmax" | "aborted" | None:
            return _UNKNOWN
        case _:
            return _CANNOT
