"""The queue: what takes mail in, and delivers it."""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import anyio

import ehlo
from ehlo.mta import dns
from ehlo.mta._channel import Limits
from ehlo.mta._clock import NEVER, Clock, SystemClock
from ehlo.mta._delivery import Delivery
from ehlo.mta._events import Counters, LogLine, log
from ehlo.mta._model import Message, Outcome, Recipient, Stage
from ehlo.mta._notices import Notifier
from ehlo.mta._retry import RetrySchedule
from ehlo.mta._routing import RouteFunction, Router, TlsFunction
from ehlo.mta._spool import Changed, Selection, Spool, SpoolError, Suspension
from ehlo.mta._tls_policy import TlsLevel, TlsPolicy
from ehlo.mta.delivery_status import DeliveryStatus, explain

__all__ = ["Queue", "RouteState"]

# RFC 5321 6.3: "a large rejection threshold, normally at least 100".
_HOPS: Final = 100
_LOOP: Final = ehlo.Reply(554, "5.4.6", "Too many hops: this message goes round in circles")
_NO_ROOM: Final = ehlo.Reply(452, "4.3.1", "Insufficient system storage, try again later")
_FAILED: Final = ehlo.Reply(451, "4.3.0", "The message could not be stored, try again later")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Recipients that the line about an accepted message names. Each delivery has a line of its own.
_NAMED: Final = 50
# Octets of a streamed message in which the end of the header section is looked for.
_HEADER: Final = 262144
_PAGE: Final = 100

SubmitEnvelope: TypeAlias = "ehlo.Envelope | tuple[str | ehlo.Sender, Sequence[str | ehlo.Recipient]]"
"""An envelope: that of a handler, or sender and recipients."""

# Parameters of MAIL that have an attribute in Message, or follow from the content.
_KNOWN: Final = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "MT-PRIORITY", "REQUIRETLS"})
_KNOWN_RCPT: Final = frozenset({"NOTIFY", "ORCPT"})


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route as this process uses it now.

    Attributes:
        name: as an administrator names it.
        waiting: transactions that wait in memory.
        busy: transactions that go on.
        connections, limit: open connections, and how many there may be.
        suspended_for: seconds until the next attempt; 0: it is not suspended.
        reason: why it is suspended.

    Example::

        [route.name for route in queue.routes if route.suspended_for]
    """

    name: str
    waiting: int
    busy: int
    connections: int
    limit: int
    suspended_for: float
    reason: str


class Queue:
    """A durable queue: :func:`ehlo.mta.open_queue` makes one, and needs ``hostname`` and ``route``.

    - ``route(recipient)`` is your function: it gives the way of a recipient, such as ``ehlo.mta.Mx()``.
    - ``submit`` puts a message in. A server does so by :class:`ehlo.mta.QueueHandler`, with ``server_config()``.
    - ``run`` delivers until it is cancelled, or until ``drain`` has ended it.
    - ``retry``, ``fail``, ``suspend`` and ``resume`` are for administrators; ``ehlo queue`` does the same.

    docs/mta.md has a table of the settings.

    Attributes:
        hostname: of this server.
        counters: what it has done.
        spool: where it keeps mail: what an administrator looks at and changes.

    Example::

        async with ehlo.mta.open_queue("spool", hostname="mx.example.org", route=route) as queue:
            await queue.submit(("a@b.example", ["c@d.example"]), content)
            await queue.run()
    """

    def __init__(
        self,
        spool: Spool,
        *,
        hostname: str,
        route: RouteFunction,
        tls: TlsFunction | TlsPolicy | TlsLevel = "opportunistic",
        schedule: RetrySchedule | None = None,
        limits: Limits | None = None,
        resolver: dns.Resolver | None = None,
        own_addresses: Collection[str] = (),
        route_limits: Callable[[str], Limits | None] = lambda name: None,
        postmaster: str | None = None,
        notice_text: Callable[[DeliveryStatus], str] = explain,
        notice_recipients: Callable[[str], Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.hostname = hostname
        self.counters: Counters = Counters()
        self.spool = spool
        self._clock: Clock = SystemClock() if clock is None else clock
        limits = Limits() if limits is None else limits
        router = Router(
            route,
            hostname=hostname,
            clock=self._clock,
            counters=self.counters,
            limits=limits,
            tls=tls,
            resolver=resolver,
            own_addresses=own_addresses,
        )
        self._delivery = Delivery(
            spool,
            router,
            RetrySchedule() if schedule is None else schedule,
            Notifier(hostname, notice_text, notice_recipients),
            self._clock,
            self.counters,
            limits,
            postmaster,
            route_limits,
        )

    # ---- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled, or until :meth:`drain` ends it.

        Raises:
            LocalProtocolError: it runs already.

        Example::

            await queue.run()
        """
        await self._delivery.run()

    async def drain(self, deadline: float = 30.0) -> bool:
        """Begin no new deliveries, let the running ones end, and then end :meth:`run`.

        Arguments:
            deadline: seconds after which the rest is cut off. Such deliveries are tried again at the next start.

        Returns:
            Whether all ended in time.

        Example::

            await queue.drain(10)
        """
        return await self._delivery.drain(deadline)

    # ---- mail in ---------------------------------------------------------------------------------

    def server_config(self, **changes: Any) -> ehlo.ServerConfig:
        """A config for servers that take mail into this queue: it announces DSN, since the queue does it (RFC 3461),
        and REQUIRETLS inside TLS (RFC 8689); no BINARYMIME, since the queue cannot convert (RFC 3030 3).

        Arguments:
            changes: other settings of :class:`ehlo.ServerConfig`.

        Example::

            config = queue.server_config(max_message_size=10_000_000)
        """
        settings: dict[str, Any] = {"hostname": self.hostname, "dsn": True, "binarymime": False}
        settings["requiretls"] = changes.get("tls", "off") != "off"
        return ehlo.ServerConfig(**{**settings, **changes})

    def refusal(self, octets: int = 0) -> ehlo.Reply | None:
        """Return the reply to a client if a message of ``octets`` octets cannot be taken now; ``None`` if it can.

        Example::

            def on_mail(self, session, sender): return queue.refusal(sender.size or 0)
        """
        reply = self.spool.refusal(octets)
        if reply is not None:
            self.counters.refused += 1
        return reply

    async def submit(self, envelope: SubmitEnvelope, content: bytes) -> str:
        """Queue a message of this program. It is durable when this returns.

        Arguments:
            envelope: an :class:`ehlo.Envelope`, or sender and recipients: ``("a@b.example", ["c@d.example"])``. The
                null sender is ``""``. :class:`ehlo.Sender` and :class:`ehlo.Recipient` have parameters.
            content: the message, its lines with CRLF. Nothing is added to it.

        Returns:
            The queue id.

        Raises:
            LocalProtocolError: a path is wrong, or there is no recipient.
            OSError: it could not be stored.

        Example::

            ident = await queue.submit(("a@b.example", ["c@d.example"]), content)
        """
        if isinstance(envelope, ehlo.Envelope):
            sender, recipients = envelope.sender, list(envelope.recipients)
        else:
            given, listed = envelope
            sender = given if isinstance(given, ehlo.Sender) else ehlo.Sender(given)
            recipients = [one if isinstance(one, ehlo.Recipient) else ehlo.Recipient(one) for one in listed]
        if not recipients:
            raise ehlo.LocalProtocolError("no recipients: give at least one (RFC 5321 3.3)")
        message = self._message(sender)
        rows = [self._recipient(one, message) for one in recipients]
        _measure(message, content)
        await self._accept(message, rows, content, None)
        return message.ident

    async def receive(
        self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes, *, hold: str | None = None
    ) -> ehlo.Reply:
        """Queue a message that came in a session, with Received on top; gives the reply to it. What
        :class:`ehlo.mta.QueueHandler` calls.

        Arguments:
            hold: why the message waits until an administrator releases it; ``None``: it is delivered at once.

        Example::

            def on_message(self, session, envelope, content): return queue.receive(session, envelope, content)
        """
        if ehlo.count_received(content) >= _HOPS:
            return _LOOP
        message = self._message(envelope.sender, session)
        rows = [self._recipient(one, message) for one in envelope.recipients]
        content = session.received(envelope, ident=message.ident, now=_moment(message)) + content
        _measure(message, content)
        return await self._answer(message, rows, content, session, hold)

    async def receive_body(
        self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes], *, hold: str | None = None
    ) -> ehlo.Reply:
        """The same for a content that comes in pieces. What :class:`ehlo.mta.StreamingQueueHandler` calls.

        Example::

            def on_body(self, session, envelope, body): return queue.receive_body(session, envelope, body)
        """
        message = self._message(envelope.sender, session)
        rows = [self._recipient(one, message) for one in envelope.recipients]
        try:
            stage = await self.spool.stage()
        except OSError as exc:
            return self._not_stored(message, exc)
        try:
            header = session.received(envelope, ident=message.ident, now=_moment(message))
            await self._write(stage, message, header)
            in_header = True
            async for chunk in body:
                if in_header:
                    header += chunk
                    end = header.find(b"\r\n\r\n")
                    in_header = end < 0 and len(header) < _HEADER
                    message.utf8_header = not (header if end < 0 else header[:end]).isascii()
                await self._write(stage, message, chunk)
            if ehlo.count_received(header) > _HOPS:  # ours is one of them
                await stage.discard()
                return _LOOP
        except OSError as exc:
            await stage.discard()
            return self._not_stored(message, exc)
        except BaseException:
            await stage.discard()
            raise
        return await self._answer(message, rows, stage, session, hold)

    async def _write(self, stage: Stage, message: Message, octets: bytes) -> None:
        message.size += len(octets)
        message.eight_bit = message.eight_bit or not octets.isascii()
        await stage.write(octets)

    async def _answer(
        self,
        message: Message,
        rows: list[Recipient],
        stored: bytes | Stage,
        session: ehlo.Session,
        hold: str | None,
    ) -> ehlo.Reply:
        began = self._clock.monotonic()
        try:
            if hold is None:
                await self._accept(message, rows, stored, session)
            else:
                await self._accept_held(message, rows, stored, session, hold)
        except OSError as exc:
            return self._not_stored(message, exc)
        self.counters.commit_seconds.add(self._clock.monotonic() - began)
        return ehlo.Reply(250, "2.0.0", f"queued as {message.ident}")

    def _not_stored(self, message: Message, exc: OSError) -> ehlo.Reply:
        """The reply where the spool failed: the client keeps the message (RFC 5321 4.2.3)."""
        self.counters.refused += 1
        log.error(LogLine("not-accepted", message.ident, error=exc))
        if isinstance(exc, SpoolError):
            return exc.reply
        return _NO_ROOM if exc.errno in _FULL else _FAILED

    async def _accept(
        self, message: Message, rows: list[Recipient], stored: bytes | Stage, session: ehlo.Session | None
    ) -> None:
        owned = not self._delivery.is_full
        await self.spool.accept(message, rows, stored, owned)
        self._note_accepted(message, rows, session)
        if owned:
            self._delivery.begin(message, rows, stored if isinstance(stored, bytes) else None)
        else:
            self._delivery.wake()

    async def _accept_held(
        self, message: Message, rows: list[Recipient], stored: bytes | Stage, session: ehlo.Session, reason: str
    ) -> None:
        """Two steps. Between them the recipients are due so late that nobody tries them, even after a crash."""
        for row in rows:
            row.due = NEVER
        await self.spool.accept(message, rows, stored, False)
        self._note_accepted(message, rows, session)
        try:
            await self.spool.hold(Selection(messages=[message.id]), reason)
        except OSError as exc:  # it is stored, and nobody will try it: the client must not send it again
            log.error(LogLine("not-held", message.ident, error=exc))
        else:
            log.info(LogLine("held", message.ident, to=[one.path for one in rows[:_NAMED]], reason=reason))

    def _note_accepted(self, message: Message, rows: list[Recipient], session: ehlo.Session | None) -> None:
        self.counters.accepted += 1
        self.counters.octets += message.size
        if log.isEnabledFor(logging.INFO):
            log.info(
                LogLine(
                    "accepted",
                    message.ident,
                    sender=message.sender,
                    to=[one.path for one in rows[:_NAMED]],
                    recipients=len(rows),
                    size=message.size,
                    **({} if session is None else _facts(session)),
                )
            )

    # ---- administration --------------------------------------------------------------------------

    @property
    def routes(self) -> list[RouteState]:
        """The routes that this process uses now, those with the most waiting first.

        Example::

            for route in queue.routes: print(route.name, route.waiting, route.suspended_for)
        """
        now = self._clock.monotonic()
        states = [
            RouteState(
                channel.name,
                len(channel),
                channel.busy,
                channel.workers,
                int(channel.limit),
                max(0.0, channel.suspended_until - now),
                channel.reason if channel.suspended_until else "",
            )
            for channel in self._delivery.channels.values()
        ]
        return sorted(states, key=lambda state: -state.waiting)

    async def suspend(self, route: str, seconds: float, reason: str) -> None:
        """Make no attempt for a route, on any node, for so many seconds. The pause does not count as attempts.

        Arguments:
            route: its name, as :attr:`routes` and the spool have it.

        Example::

            await queue.suspend("mx:mx.example.org", 3600, "asked by its owner")
        """
        now = self._clock.time()
        await self.spool.suspend(Suspension(route, now + seconds, reason, now))
        self._delivery.suspend(route, seconds, reason)

    async def resume(self, route: str) -> bool:
        """End the suspension of a route. Returns whether there was one.

        Example::

            await queue.resume("mx:mx.example.org")
        """
        was_stored = await self.spool.resume(route)
        return self._delivery.resume(route) or was_stored

    async def retry(self, selection: Selection) -> Changed:
        """Make recipients that wait due at once.

        Example::

            await queue.retry(Selection(domain="example.org"))
        """
        changed = await self.spool.retry(selection, self._clock.time())
        self._delivery.wake()
        return changed

    async def fail(
        self,
        selection: Selection,
        reply: ehlo.Reply,
        limit: int = 1000,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """End recipients that wait or are held, as if a next hop had refused them: their senders get a bounce.

        Arguments:
            reply: the reason, a 5yz reply.
            limit: the most recipients to look at.
            progress: a function that gets the number of ended recipients so far.

        Returns:
            The number of ended recipients. Recipients that a node delivers at this moment are left out.

        Raises:
            LocalProtocolError: ``reply`` is not 5yz.

        Example::

            await queue.fail(Selection(domain="gone.example"), ehlo.Reply(550, "5.1.2", "this domain is gone"))
        """
        if not reply.is_permanent:
            raise ehlo.LocalProtocolError(f"fail: a reply of 5yz, not {reply}")
        ended = 0
        limit = limit if selection.limit is None else min(limit, selection.limit)

        async def settle(message: Message, recipients: list[Recipient]) -> None:
            nonlocal ended
            if await self._delivery.settle(message, [Outcome(one, "failed", reply) for one in recipients]):
                ended += len(recipients)

        after = (0, 0)
        left = limit
        while left > 0:
            page = await self.spool.entries(selection, min(left, _PAGE), after)
            together: dict[int, tuple[Message, list[Recipient]]] = {}
            for one in page:
                if one.state != "owned":
                    together.setdefault(one.message.id, (one.message, []))[1].append(one.recipient)
            async with anyio.create_task_group() as group:
                for message, recipients in together.values():
                    group.start_soon(settle, message, recipients)
            if progress is not None:
                progress(ended)
            if len(page) < min(left, _PAGE):
                break
            left -= len(page)
            after = (page[-1].message.id, page[-1].recipient.id)
        return ended

    # ---- what is stored --------------------------------------------------------------------------

    def _message(self, sender: ehlo.Sender, session: ehlo.Session | None = None) -> Message:
        path = sender.path
        message = Message(
            self.spool.new_id(),
            path.mailbox if isinstance(path, ehlo.Address) else "",
            self._clock.time(),
            body=sender.body,
            smtputf8=sender.smtputf8,
            ret=sender.ret,
            envid=sender.envid,
            priority=sender.mt_priority or 0,
            requiretls=sender.requiretls,
            parameters=_others(sender.parameters, _KNOWN),
        )
        if session is not None:
            hello, peer = session.hello, session.peer
            message.hello = None if hello is None else hello[1]
            message.peer = None if peer is None else peer[0]
        return message

    def _recipient(self, recipient: ehlo.Recipient, message: Message) -> Recipient:
        path = recipient.path
        # <Postmaster> without a domain is this server's own (RFC 5321 4.5.1).
        mailbox = path.mailbox if isinstance(path, ehlo.Address) else f"postmaster@{self.hostname}"
        return Recipient(
            self.spool.new_id(),
            mailbox,
            recipient.notify,
            recipient.orcpt,
            due=message.arrived,
            parameters=_others(recipient.parameters, _KNOWN_RCPT),
        )


def _moment(message: Message) -> datetime:
    return datetime.fromtimestamp(int(message.arrived), UTC)


def _facts(session: ehlo.Session) -> dict[str, Any]:
    """Who sent a message, for the log."""
    peer, hello = session.peer, session.hello
    return {
        "client": "unix" if peer is None else peer[0],
        "port": None if peer is None else peer[1],
        "hello": None if hello is None else hello[1],
        "user": session.identity,
        "tls": session.cipher_suite,
        "protocol": session.protocol,
    }


def _measure(message: Message, content: bytes) -> None:
    """Note what a next hop must be able to take."""
    message.size = len(content)
    if not content.isascii():
        message.eight_bit = True
        message.utf8_header = not content.partition(b"\r\n\r\n")[0].isascii()


def _others(
    parameters: tuple[tuple[str, str | None], ...], known: frozenset[str]
) -> tuple[tuple[str, str | None], ...]:
    return tuple(pair for pair in parameters if pair[0].upper() not in known) if parameters else ()
