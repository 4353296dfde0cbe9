"""The next hop of a domain, by the DNS (RFC 5321 5.1). The lookups are dnspython's, on asyncio and on trio.

Example::

    hop = await ehlo.mta.dns.next_hop("example.org", hostname="mx.example.net")
    for host in hop.hosts: print(host.name, host.addresses)
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any, Final, Protocol

import anyio
import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import idna

from ehlo import EhloError, Reply
from ehlo.mta._loop import library

__all__ = ["NULL_MX_RECIPIENT", "NULL_MX_SENDER", "Host", "NextHop", "NoRoute", "Resolver", "next_hop", "to_a_labels"]

NULL_MX_RECIPIENT: Final = Reply(556, "5.1.10", "The recipient's domain takes no mail (null MX)")
"""The reply for a recipient whose domain has a null MX (B-OTH-01, RFC 7505 4.1)."""

NULL_MX_SENDER: Final = Reply(550, "5.7.27", "The sender's domain takes no mail (null MX)")
"""The reply for a sender whose domain has a null MX (B-OTH-01, RFC 7505 4.1)."""

# Hosts beyond these are not tried: a domain with more of them is a mistake or an attack.
_MAX_HOSTS: Final = 20
_MAX_ADDRESSES: Final = 8
_SHORTEST: Final = 30.0
_LONGEST: Final = 86400.0


class NoRoute(EhloError):  # noqa: N818
    """There is no way to the domain, now or at any time.

    Attributes:
        reply: the reply with the reason: 4yz if a later lookup may help, otherwise 5yz.

    Example::

        except ehlo.mta.dns.NoRoute as exc: print(exc.reply)
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply

    @property
    def is_temporary(self) -> bool:
        """Whether a later lookup may find a way."""
        return self.reply.is_temporary


@dataclass(frozen=True, slots=True)
class Host:
    """One server that takes mail for a domain.

    Attributes:
        name: its name in A-labels without the last dot, or an address literal.
        addresses: its IP addresses as text, in the order to try them.
        preference: of its MX record; the lowest is tried first (RFC 5321 5.1).

    Example::

        Host("mx.example.org", ("192.0.2.1",), 10)
    """

    name: str
    addresses: tuple[str, ...]
    preference: int = 0


@dataclass(frozen=True, slots=True)
class NextHop:
    """The servers of one domain.

    Attributes:
        domain: in A-labels, or an address literal.
        hosts: in the order to try them. Hosts of one preference are shuffled.
        seconds: the time for which this may be kept, by the TTL of the records.
        is_implicit: there is no MX record, and the domain's own addresses are used.

    Example::

        hop.key  # ("mx1.example.org", "mx2.example.org")
    """

    domain: str
    hosts: tuple[Host, ...]
    seconds: float = _SHORTEST
    is_implicit: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the hosts in alphabetical order: domains at one provider have the same."""
        return tuple(sorted(host.name for host in self.hosts))


class Resolver(Protocol):
    """What is asked: :class:`dns.asyncresolver.Resolver` is one."""

    async def resolve(
        self,
        qname: dns.name.Name | str,
        rdtype: dns.rdatatype.RdataType | str = ...,
        *,
        raise_on_no_answer: bool = ...,
        search: bool | None = ...,
        backend: Any = ...,
    ) -> dns.resolver.Answer:
        """See :meth:`dns.asyncresolver.Resolver.resolve`."""


def system_resolver() -> Resolver:
    """A resolver by the system's configuration, with a cache.

    Raises:
        NoRoute: the system has no such configuration (temporary).
    """
    try:
        resolver = dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration as exc:
        raise NoRoute(Reply(451, "4.4.3", "This system has no resolver configured")) from exc
    resolver.cache = dns.resolver.LRUCache(10000)
    return resolver


def to_a_labels(domain: str) -> str:
    """The domain in lower case and in A-labels, by IDNA 2008 (RFC 5891), without a last dot.

    Raises:
        NoRoute: it is no domain (550 5.1.2).

    Example::

        to_a_labels("Bücher.example")  # "xn--bcher-kva.example"
    """
    name = domain.rstrip(".").lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as exc:
            raise NoRoute(Reply(550, "5.1.2", "The domain is not valid by IDNA 2008")) from exc
    return name


async def next_hop(
    domain: str,
    *,
    resolver: Resolver | None = None,
    hostname: str | None = None,
    own_addresses: Collection[str] = (),
    shuffle: Callable[[list[Host]], object] = random.shuffle,
) -> NextHop:
    """The servers to which mail for a domain goes, by RFC 5321 5.1.

    Arguments:
        domain: a domain in any script, or an address literal in brackets.
        resolver: what is asked; by default dnspython's, by the system's configuration.
        hostname: this server's own name. A host of that name, and all hosts of the same and of worse preference, are
            left out: their mail would come back.
        own_addresses: this server's own addresses; a host with one of them counts as this server.
        shuffle: brings hosts of one preference into an order, so that they share the load.

    Raises:
        NoRoute: the domain does not exist (550 5.1.2), takes no mail (556 5.1.10), has no server that can be used
            (550 5.4.4), this server is its best one (554 5.4.6); or the DNS does not answer (451 4.4.3).

    Example::

        hop = await next_hop("example.org", hostname="mx.example.net")
    """
    if domain.startswith("["):
        return NextHop(domain, (_literal_host(domain),), _LONGEST)
    name = to_a_labels(domain)
    lookups = _Lookups(system_resolver() if resolver is None else resolver)
    records = await lookups.mx(name)
    if records is None:
        host = Host(name, await lookups.addresses(lookups.canonical))
        if not host.addresses:
            raise NoRoute(Reply(550, "5.4.4", f"{name} has neither a mail server nor an address"))
        if _is_own(host, hostname, own_addresses):
            raise _loop(name)
        return NextHop(name, (host,), lookups.seconds, is_implicit=True)
    if records == [(0, "")]:  # RFC 7505 3
        raise NoRoute(NULL_MX_RECIPIENT)
    hosts = await lookups.hosts([(preference, target) for preference, target in records if target][:_MAX_HOSTS])
    own = [host.preference for host in hosts if _is_own(host, hostname, own_addresses)]
    usable = [host for host in hosts if host.addresses and (not own or host.preference < min(own))]
    if not usable:
        if own:
            raise _loop(name)
        if lookups.failure is not None:
            raise lookups.failure
        raise NoRoute(Reply(550, "5.4.4", f"None of the mail servers of {name} has an address"))
    ordered: list[Host] = []
    for _, group in groupby(usable, key=lambda host: host.preference):
        equals = list(group)
        shuffle(equals)
        ordered += equals
    return NextHop(name, tuple(ordered), lookups.seconds)


@dataclass(slots=True)
class _Lookups:
    """The lookups for one domain, and what they have in common.

    Attributes:
        seconds: the shortest TTL so far.
        failure: that of an address that could not be looked up.
        canonical: the domain's name behind CNAME records.
    """

    resolver: Resolver
    seconds: float = _LONGEST
    failure: NoRoute | None = None
    canonical: dns.name.Name = field(default_factory=lambda: dns.name.root)

    async def mx(self, name: str) -> list[tuple[int, str]] | None:
        """Preference and host of each MX record, by preference; ``None`` where the domain exists and has none."""
        try:
            absolute = dns.name.from_text(name + ".")
        except (dns.exception.DNSException, ValueError) as exc:
            raise NoRoute(Reply(550, "5.1.2", "The domain is no name that the DNS knows")) from exc
        answer = await self._ask(absolute, dns.rdatatype.MX)
        if answer is None:
            raise NoRoute(Reply(550, "5.1.2", f"The domain {name} does not exist"))
        self.canonical = answer.canonical_name
        if answer.rrset is None:
            return None
        return sorted(
            (
                record.preference,
                record.exchange.to_text(omit_final_dot=True).lower() if len(record.exchange) > 1 else "",
            )
            for record in answer.rrset
        )

    async def hosts(self, records: list[tuple[int, str]]) -> list[Host]:
        """The hosts with their addresses, all looked up at once."""
        found: dict[str, tuple[str, ...]] = {}

        async def look_up(target: str) -> None:
            try:
                found[target] = await self.addresses(dns.name.from_text(target + "."))
            except NoRoute as exc:
                self.failure, found[target] = exc, ()

        async with anyio.create_task_group() as group:
            for target in {target for _, target in records}:
                group.start_soon(look_up, target)
        return [Host(target, found[target], preference) for preference, target in records]

    async def addresses(self, name: dns.name.Name) -> tuple[str, ...]:
        """IPv6 and IPv4 addresses in turn. The failure of one family counts only where the other has none."""
        found: dict[dns.rdatatype.RdataType, list[str]] = {dns.rdatatype.AAAA: [], dns.rdatatype.A: []}
        failures: list[NoRoute] = []

        async def look_up(kind: dns.rdatatype.RdataType) -> None:
            try:
                answer = await self._ask(name, kind)
            except NoRoute as exc:
                failures.append(exc)
                return
            if answer is not None and answer.rrset is not None:
                found[kind] = [record.address for record in answer.rrset]

        async with anyio.create_task_group() as group:
            for kind in found:
                group.start_soon(look_up, kind)
        pairs = zip_longest(*found.values())
        addresses = tuple(address for pair in pairs for address in pair if address is not None)[:_MAX_ADDRESSES]
        if not addresses and failures:
            raise failures[0]
        return addresses

    async def _ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        """The answer; ``None`` where the name does not exist."""
        backend = dns.asyncbackend.get_backend(library())  # dnspython keeps the first it saw
        try:
            answer = await self.resolver.resolve(name, kind, raise_on_no_answer=False, search=False, backend=backend)
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError) as exc:
            text = f"The DNS gives no answer about {name.to_text(omit_final_dot=True)}"
            raise NoRoute(Reply(451, "4.4.3", text)) from exc
        if answer.rrset is not None:
            self.seconds = max(_SHORTEST, min(self.seconds, float(answer.rrset.ttl)))
        return answer


def _literal_host(literal: str) -> Host:
    """The host of an address literal (RFC 5321 4.1.3, 5.1)."""
    inner = literal[1:-1] if literal.endswith("]") else ""
    try:
        address = str(ipaddress.ip_address(inner[5:] if inner[:5].lower() == "ipv6:" else inner))
    except ValueError:
        raise NoRoute(Reply(550, "5.1.2", "The address literal is none that can be reached")) from None
    return Host(literal, (address,))


def _is_own(host: Host, hostname: str | None, own_addresses: Collection[str]) -> bool:
    return (hostname is not None and host.name == hostname.rstrip(".").lower()) or any(
        address in own_addresses for address in host.addresses
    )


def _loop(name: str) -> NoRoute:
    return NoRoute(Reply(554, "5.4.6", f"Mail for {name} would come back to this server"))
