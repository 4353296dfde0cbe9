"""From a recipient to the way it goes: the program's ``route``, the DNS, and the policy for TLS."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import ehlo
from ehlo._hooks import await_hook, call_hook
from ehlo.mta import dns
from ehlo.mta._channel import Limits
from ehlo.mta._clock import Clock
from ehlo.mta._events import Counters
from ehlo.mta._link import Target
from ehlo.mta._means import Means, OverSmtp, ToMailbox
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._routes import Fail, Hold, Lmtp, Maildir, Mbox, Mx, Route, SmartHost
from ehlo.mta._tls_policy import TlsLevel, TlsPolicy

__all__ = ["Destination", "RouteFunction", "Router", "TlsFunction"]

RouteFunction: TypeAlias = Callable[[ehlo.Recipient], Route | Awaitable[Route]]
"""A program's ``route(recipient)``, plain or async: which way a recipient goes."""

TlsFunction: TypeAlias = Callable[[str], TlsPolicy | TlsLevel | Awaitable[TlsPolicy | TlsLevel]]
"""A program's ``tls(domain)``, plain or async: the policy for mail to a domain by MX."""

# Seconds for which it is remembered that the DNS knows no way.
_REFUSED: Final = 60.0
_KEPT: Final = 50000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a recipient goes.

    Attributes:
        key: the same for all recipients that share connections and limits.
        name: of the route, for people.
        means: how it is reached.
    """

    key: Hashable
    name: str
    means: Means


class Router:
    """Finds the way of a recipient.

    Arguments:
        route: the program's.
        tls: the policy for destinations by MX, or what gives it.
        hostname: of this server.
        resolver: asked for MX records; ``None``: by the system's configuration.
        own_addresses: of this server, so that mail does not come back.
        clock, counters, limits: see their classes.
    """

    def __init__(
        self,
        route: RouteFunction,
        *,
        hostname: str,
        clock: Clock,
        counters: Counters,
        limits: Limits,
        tls: TlsFunction | TlsPolicy | TlsLevel = "opportunistic",
        resolver: dns.Resolver | None = None,
        own_addresses: Collection[str] = (),
    ) -> None:
        self._route = route
        self._is_async = inspect.iscoroutinefunction(route)
        self._tls = tls
        self._hostname = hostname
        self._clock = clock
        self._counters = counters
        self._limits = limits
        self._resolver = resolver
        self._own_addresses = own_addresses
        # Content that came by BDAT goes on by BDAT as it is: a signature must stay good (RFC 3030 3).
        self._config = ehlo.ClientConfig(hostname, drop_dsn=True, newlines="auto", max_recipients=limits.recipients)
        self._lmtp_config = self._config.replace(lmtp=True)
        self._fixed: dict[Hashable, Destination] = {}
        self._by_domain: dict[Hashable, tuple[float, Destination | ehlo.Reply]] = {}

    def at_once(self, message: Message, recipient: Recipient) -> Destination | Outcome | None:
        """The way, if it is known without waiting; else ``None``."""
        if self._is_async:
            return None
        envelope = ehlo.Recipient(recipient.path)
        route = call_hook(self._route, envelope)
        if hasattr(route, "__await__"):
            self._is_async = True
            if inspect.iscoroutine(route):
                route.close()
            return None
        assert not isinstance(route, Awaitable)
        return self._known(message, recipient, envelope, route)

    async def find(self, message: Message, recipient: Recipient) -> Destination | Outcome:
        """The way.

        Raises:
            Exception: what the program's functions raise.
        """
        envelope = ehlo.Recipient(recipient.path)
        given = call_hook(self._route, envelope)
        route = await await_hook(given) if isinstance(given, Awaitable) else given
        known = self._known(message, recipient, envelope, route)
        if known is not None:
            return known
        assert isinstance(route, Mx)
        domain = route.domain or envelope.domain or ""
        key = (domain, route, message.requiretls)
        found = await self._look_up(message, route, domain)
        if len(self._by_domain) >= _KEPT:
            self._by_domain.clear()
        seconds, entry = found
        self._by_domain[key] = (self._clock.monotonic() + seconds, entry)
        return _refused(recipient, entry) if isinstance(entry, ehlo.Reply) else entry

    def _known(
        self, message: Message, recipient: Recipient, envelope: ehlo.Recipient, route: Route
    ) -> Destination | Outcome | None:
        match route:
            case Mx():
                key = (route.domain or envelope.domain or "", route, message.requiretls)
                until, entry = self._by_domain.get(key, (0.0, None))
                if entry is None or until <= self._clock.monotonic():
                    return None
                return _refused(recipient, entry) if isinstance(entry, ehlo.Reply) else entry
            case Fail():
                return Outcome(recipient, "failed", route.status)
            case Hold():
                return Outcome(recipient, "held", ehlo.Reply(450, "4.7.1", f"Held: {route.reason}"))
            case SmartHost() | Lmtp() | Maildir() | Mbox():
                fixed = (route, message.requiretls)
                destination = self._fixed.get(fixed)
                if destination is None:
                    destination = Destination(fixed, route.key, self._means(route, message.requiretls))
                    self._fixed[fixed] = destination
                return destination
        raise TypeError(f"route() must return a route of ehlo.mta, not {type(route).__name__}")

    def _means(self, route: SmartHost | Lmtp | Maildir | Mbox, requiretls: bool) -> Means:
        if isinstance(route, Maildir | Mbox):
            return ToMailbox(route)
        if isinstance(route, SmartHost):
            target = Target(route.host, None if route.path is not None else route.host, route.port, route.path)
            return self._over(
                (target,), route.policy, requiretls, self._config, auth=route.auth, source_address=route.source_address
            )
        if route.path is not None:
            target = Target("localhost", path=route.path)
        else:
            target = Target(route.address[0], *route.address)
        return self._over((target,), route.policy, False, self._lmtp_config, auth=route.auth)

    def _over(
        self, targets: tuple[Target, ...], policy: TlsPolicy, requiretls: bool, config: ehlo.ClientConfig, **how: Any
    ) -> OverSmtp:
        return OverSmtp(
            targets,
            policy.with_requiretls() if requiretls else policy,
            config,
            connect_timeout=self._limits.connect,
            opened=self._count,
            **how,
        )

    def _count(self) -> None:
        self._counters.connections += 1

    async def _look_up(self, message: Message, route: Mx, domain: str) -> tuple[float, Destination | ehlo.Reply]:
        """What the DNS and the policy say of a domain, and for how many seconds that holds."""
        if not domain:
            return _REFUSED, ehlo.Reply(550, "5.1.2", "An address without a domain has no servers")
        try:
            hop = await dns.next_hop(
                domain, resolver=self._resolver, hostname=self._hostname, own_addresses=self._own_addresses
            )
        except dns.NoRoute as exc:
            return _REFUSED, exc.reply
        policy = await self._policy(route, hop.domain)
        hosts = [host for host in hop.hosts if policy.permits(host.name)]
        if not hosts:
            return _REFUSED, ehlo.Reply(451, "4.7.5", f"The TLS policy of {hop.domain} permits none of its servers")
        targets = tuple(Target(host.name, address, route.port) for host in hosts for address in host.addresses)
        names = tuple(sorted({host.name for host in hosts}))
        policy = policy.with_requiretls() if message.requiretls else policy
        key = ("mx", names, policy, route.port, route.source_address)
        means = self._over(targets, policy, message.requiretls, self._config, source_address=route.source_address)
        return hop.seconds, Destination(key, f"mx:{','.join(names)}", means)

    async def _policy(self, route: Mx, domain: str) -> TlsPolicy:
        if route.tls is not None:
            return route.tls if isinstance(route.tls, TlsPolicy) else TlsPolicy(route.tls)
        asked = call_hook(self._tls, domain) if callable(self._tls) else self._tls
        given = await await_hook(asked) if isinstance(asked, Awaitable) else asked
        return given if isinstance(given, TlsPolicy) else TlsPolicy(given)


def _refused(recipient: Recipient, reply: ehlo.Reply) -> Outcome:
    return Outcome(recipient, "failed" if reply.is_permanent else "deferred", reply)
