"""With a queue: mail is stored, and answered with 250 when it is durable. Members of aliases become recipients."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
import dns.asyncresolver
import dns.resolver

import ehlo
import ehlo.mta
from ehlo.cli._receive import new_ident
from ehlo.cli._serve.milters import HELD
from ehlo.cli._serve.routes import Hop, Way, domain_key, find_queued_way
from ehlo.cli._serve.settings import parse_address
from ehlo.cli._serve.site import Site, Target
from ehlo.cli._serve.trail import Trail

__all__ = ["IntoQueue", "open_out"]

log: Final = logging.getLogger("ehlo.serve")

_LATER: Final = ehlo.Reply(451, "4.3.0", "The message could not be taken; try again later")
_NOT_ASKED: Final = ehlo.Reply(450, "4.1.1", "The recipient cannot be checked now; try again later")
_STATE: Final = "ehlo serve: targets"
# A next hop's word that a recipient exists is believed for so long, in seconds; of so many recipients.
_BELIEVED: Final = 3600.0
_KEPT: Final = 50000


class IntoQueue:
    """Puts mail into the queue.

    Arguments:
        queue: the queue.
        verify: asks the next hop of a way for a recipient.
        clock: gives seconds.
        trail: is told of what no queue sees.

    Attributes:
        queue: as the argument.
    """

    def __init__(
        self,
        queue: ehlo.mta.Queue,
        verify: Callable[[Way, ehlo.Recipient], Awaitable[ehlo.Reply]],
        clock: Callable[[], float],
        trail: Trail,
    ) -> None:
        self.queue = queue
        self._trail = trail
        self._verify = verify
        self._clock = clock
        self._known: dict[tuple[Way, str], float] = {}

    def begin(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
        """MAIL came."""
        session.state[_STATE] = []

    def rcpt(self, session: ehlo.Session, targets: list[Target]) -> ehlo.Result:
        """Ask the next hop where the route says so; gives the refusal."""
        if any(target.way.table.ask for target in targets):
            return self._after_asking(session, targets)
        session.state[_STATE].append(targets)
        return None

    async def _after_asking(self, session: ehlo.Session, targets: list[Target]) -> ehlo.Reply | None:
        for target in targets:
            if target.way.table.ask:
                refusal = await self._ask(target)
                if refusal is not None:
                    return refusal
        session.state[_STATE].append(targets)
        return None

    async def _ask(self, target: Target) -> ehlo.Reply | None:
        way, now = target.way, self._clock()
        key = (way, str(target.recipient.path))
        if self._known.get(key, 0.0) > now:
            return None
        try:
            reply = await self._verify(way, ehlo.Recipient(target.recipient.path))
        except (ehlo.SMTPException, ehlo.LocalProtocolError) as exc:
            log.warning("%s: %s cannot be asked for a recipient: %s", way.where, way.address, exc)
            return _NOT_ASKED
        if reply.is_positive:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = now + _BELIEVED
            return None
        return _NOT_ASKED if reply.code == 421 or 530 <= reply.code < 540 else reply

    def refusal(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Reply | None:
        """Whether there is room."""
        return self.queue.refusal(envelope.sender.size or 0)

    async def message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Reply:
        """Queue it for all targets."""
        accepted: list[list[Target]] = session.state.pop(_STATE)
        if len(accepted) != len(envelope.recipients):  # a rule in front accepted for us
            return _LATER
        targets = [one for targets in accepted for one in targets if one.way.kind != "discard"]
        if not targets:
            ident = new_ident()
            self._trail.accepted(session, envelope, ident, len(content))
            return ehlo.Reply(250, "2.0.0", f"Taken as {ident}, and thrown away")
        # Who is named twice, by two aliases perhaps, gets one copy.
        recipients = list({str(one.recipient.path): one.recipient for one in reversed(targets)}.values())[::-1]
        hold = session.state.get(HELD)
        return await self.queue.receive(session, ehlo.Envelope(envelope.sender, recipients), content, hold=hold)

    def drop(self, session: ehlo.Session) -> None:
        """The transaction is over."""
        session.state.pop(_STATE, None)


@asynccontextmanager
async def open_out(
    site: Site, pools: dict[Hop, Any], clock: Callable[[], float], trail: Trail
) -> AsyncIterator[IntoQueue]:
    """Open the queue of [queue], and deliver as long as it is open.

    Arguments:
        pools: of connections to ask next hops with.
        clock: gives seconds.

    Raises:
        UsageError: the queue cannot be opened.
    """

    async def verify(way: Way, recipient: ehlo.Recipient) -> ehlo.Reply:
        async with pools[way.hop].transaction("", eight_bit=False) as transaction:
            reply: ehlo.Reply = await transaction.rcpt(recipient)
            return reply

    table = site.settings.queue
    assert table is not None
    async with AsyncExitStack() as stack:
        try:
            opened = ehlo.mta.open_queue(table.url or table.path or "", **queue_options(site))
            queue = await stack.enter_async_context(opened)
        except (ehlo.mta.SpoolError, ImportError) as exc:
            raise site.settings.error("queue", f"cannot be opened: {exc}") from None
        error: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run)
            try:
                yield IntoQueue(queue, verify, clock, trail)
                await queue.drain(site.settings.deadline)
            except Exception as exc:  # the group would wrap it, and nobody would know it again
                error = exc
            group.cancel_scope.cancel()
        if error is not None:
            raise error


def queue_route(site: Site) -> Callable[[ehlo.Recipient], ehlo.mta.Route]:
    """The ``route`` of the queue: the first route for the domain."""
    made: dict[Way, ehlo.mta.Route] = {}

    def route(recipient: ehlo.Recipient) -> ehlo.mta.Route:
        domain = domain_key(recipient.domain or site.settings.hostname)
        way = find_queued_way(site.ways, domain)
        if way is None:  # a notification of ours: its recipient is anywhere
            return ehlo.mta.Mx()
        if way not in made:
            for old in made.keys() - set(site.ways):  # they were read again
                del made[old]
            made[way] = _route_of(way)
        return made[way]

    return route


def _route_of(way: Way) -> ehlo.mta.Route:
    table, address = way.table, way.address
    tls: Any = table.tls if way.kind == "mx" else way.tls
    match way.kind:
        case "maildir":
            return ehlo.mta.Maildir(way.place, **way.mailbox_options)
        case "mbox":
            return ehlo.mta.Mbox(way.place, **way.mailbox_options)
        case "lmtp":
            return ehlo.mta.Lmtp(str(address), tls=tls, auth=way.auth)
        case "smtp":
            return ehlo.mta.SmartHost(address.host, address.port, tls=tls, auth=way.auth, path=address.path)
        case "hold":
            return ehlo.mta.Hold(f"by {way.where} of the settings")
        case "discard":  # the message was queued by other settings, or redirected: it must not go out by MX
            return ehlo.mta.Hold(f"{way.where} of the settings throws new mail away; ehlo queue drop forgets this, too")
        case "fail":
            assert way.reply is not None
            return ehlo.mta.Fail(way.reply)
        case _:
            return ehlo.mta.Mx(port=table.port, tls=tls)


def queue_options(site: Site) -> dict[str, Any]:
    """[queue] as arguments of :func:`ehlo.mta.open_queue`."""
    table = site.settings.queue
    assert table is not None
    options: dict[str, Any] = {
        "hostname": site.settings.hostname,
        "route": queue_route(site),
        "tls": table.tls,
        "postmaster": table.postmaster,
        "notice_recipients": site.notice_recipients,
        "schedule": ehlo.mta.RetrySchedule(
            lifetime=table.lifetime_days * 86400.0,
            null_lifetime=min(table.lifetime_days, 1.0) * 86400.0,
            warn_after=table.warn_hours * 3600.0 or None,
        ),
        "limits": ehlo.mta.DeliveryLimits(
            connections=table.connections,
            first=float(min(5, table.connections_per_route)),
            most=float(table.connections_per_route),
        ),
    }
    if table.nameserver is not None:
        address = parse_address(table.nameserver, "queue.nameserver", 53)
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [address.host], address.port
        resolver.cache = dns.resolver.LRUCache()
        options["resolver"] = resolver
    return options
