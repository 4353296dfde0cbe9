"""[[route]]: where each recipient goes. The first route that matches counts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import ehlo
from ehlo.cli._receive import UsageError, first_line
from ehlo.cli._serve import settings as tables
from ehlo.cli._serve.settings import Address, Settings, parse_address
from ehlo.store import expand

__all__ = [
    "Hop",
    "Kind",
    "Way",
    "check_routes",
    "domain_key",
    "find_queued_way",
    "find_way",
    "is_client_of",
    "local_key",
    "networks_of",
    "read_ways",
]

Kind: TypeAlias = Literal["maildir", "mbox", "lmtp", "smtp", "mx", "discard", "hold", "fail"]

Hop: TypeAlias = tuple[object, ...]
"""A next hop, so that two of them can be compared."""

_WITH_PLACE: Final = ("maildir", "mbox", "lmtp", "smtp", "fail")
_ALONE: Final = ("mx", "discard", "hold")
_STORES: Final = ("maildir", "mbox")
_HOPS: Final = ("lmtp", "smtp")
# Keys that only some kinds of ways have.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "ask": _HOPS,
    "tls": (*_HOPS, "mx"),
    "user": ("smtp", "lmtp"),
    "password_file": ("smtp", "lmtp"),
    "connections": _HOPS,
    "port": ("mx",),
    "bare_newlines": (*_HOPS, "mx"),
    "mode": _STORES,
    "follow_symlink": _STORES,
    "recipient_field": _STORES,
    "recipients": (*_STORES, *_HOPS, "discard", "hold"),
}


def domain_key(domain: str) -> str:
    """A domain in the one form that is compared: A-labels, lower case."""
    return (ehlo.domain_to_ascii(domain) or domain).lower()


def local_key(local_part: str) -> str:
    """A local part of a file in the one form that is compared: without its quotes (RFC 5321 4.1.2), lower case."""
    if local_part.startswith('"'):
        try:
            path = ehlo.Recipient(f"{local_part}@localhost").path
        except ehlo.EhloError:  # it is none, and matches nothing
            return local_part.lower()
        if isinstance(path, ehlo.Address):
            return path.local_part.lower()
    return local_part.lower()


@dataclass(slots=True, eq=False)
class Way:
    """One route, ready for use.

    Attributes:
        table: its settings.
        kind: of the way.
        place: of a mailbox, perhaps with ``{domain}`` and ``{local_part}``.
        address: of the next hop.
        reply: of a route that fails.
        domains: those it is for, as :func:`domain_key` gives them; ``None``: every domain.
        below: for all domains below these.
        networks: whose clients may send there.
        recipients: those that exist; ``None``: all.
    """

    table: tables.Route
    kind: Kind
    place: str = ""
    address: Address = field(default_factory=Address)
    reply: ehlo.Reply | None = None
    auth: ehlo.Login | None = None
    domains: frozenset[str] | None = None
    below: tuple[str, ...] = ()
    networks: tuple[Any, ...] = ()
    recipients: frozenset[str] | None = None

    @property
    def where(self) -> str:
        """Its name in errors."""
        return self.table.where

    @property
    def is_store(self) -> bool:
        """Whether mail ends in a mailbox here."""
        return self.kind in _STORES

    @property
    def is_hop(self) -> bool:
        """Whether mail goes on to another server that the route names."""
        return self.kind in _HOPS

    @property
    def hop(self) -> Hop:
        """The next hop, and all that a pool of connections to it is made of."""
        auth = self.auth
        secret = None if auth is None else (self.table.user, auth.password)
        return (self.kind, str(self.address), self.table.tls, secret, self.table.connections)

    @property
    def is_open(self) -> bool:
        """Whether everybody may send there."""
        return self.table.from_ is None or self.table.from_ == ("anybody",)

    @property
    def takes_all(self) -> bool:
        """Whether everybody may send there, or every client of IPv4 or of IPv6."""
        ranges = (ipaddress.collapse_addresses(n for n in self.networks if n.version == version) for version in (4, 6))
        return self.is_open or any(network.prefixlen == 0 for range_ in ranges for network in range_)

    @property
    def for_users(self) -> bool:
        """Whether users may send there."""
        return self.is_open or "users" in (self.table.from_ or ())

    @property
    def tls(self) -> str:
        """How much TLS there is to the next hop."""
        if self.table.tls is not None:
            return self.table.tls
        if self.address.path is not None or (self.kind == "lmtp" and self.auth is None):
            return "off"
        return "opportunistic" if self.auth is None else "verified"

    def is_for(self, domain: str) -> bool:
        """Whether the domain is one of the route's."""
        if self.domains is None:
            return True
        return domain in self.domains or domain.endswith(self.below or "\0")

    def permits(self, session: ehlo.Session) -> bool:
        """Whether this client may send there."""
        if self.is_open:
            return True
        if session.identity is not None and self.for_users:
            return True
        return is_client_of(session, self.networks)

    def has(self, local_part: str, domain: str) -> bool:
        """Whether the recipient exists, as far as the file of recipients says. Postmaster does (RFC 5321 4.5.1)."""
        if self.recipients is None or local_part.lower() == "postmaster":
            return True
        local = local_part.lower()
        return not self.recipients.isdisjoint((f"{local}@{domain}", local, f"@{domain}"))

    @property
    def mailbox_options(self) -> dict[str, Any]:
        """What the keys for mailboxes say, as options of :class:`ehlo.store.Maildir` and :class:`ehlo.mta.Maildir`, and
        of both kinds of mbox."""
        table = self.table
        return {
            "mode": int(table.mode, 8),
            "recipient_field": None if table.recipient_field == "none" else table.recipient_field,
            "follow_symlink": table.follow_symlink,
        }

    def mailbox(self, path: ehlo.ForwardPath, domain: str) -> str:
        """The place of a recipient's mailbox."""
        return expand(self.place, path, domain=domain)


def is_client_of(session: ehlo.Session, networks: Iterable[Any]) -> bool:
    """Whether the client's address is in one of the networks."""
    if session.peer is None:
        return False
    try:
        address = ipaddress.ip_address(session.peer[0].partition("%")[0])
    except ValueError:  # XCLIENT may name a client without an address
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def networks_of(senders: Iterable[str] | None) -> tuple[Any, ...]:
    """The networks among the senders that a table names."""
    return tuple(ipaddress.ip_network(one, strict=False) for one in senders or () if one not in ("users", "anybody"))


def find_way(ways: Iterable[Way], domain: str, session: ehlo.Session | None) -> Way | None:
    """The first route for a domain.

    Arguments:
        session: the client who wants to send there; ``None``: this server itself, which no route refuses that fails
            for some clients.
    """
    for way in ways:
        if way.is_for(domain) and ((way.is_open or way.kind != "fail") if session is None else way.permits(session)):
            return way
    return None


def find_queued_way(ways: Iterable[Way], domain: str) -> Way | None:
    """The first route for mail that is in the queue, which does not know the client any more.

    A route that fails counts if it refuses its domains for everybody. Another one is about new mail: it must not end
    what was taken before, or the notifications to senders anywhere.
    """
    return find_way((way for way in ways if way.kind != "fail" or way.domains is not None), domain, None)


# ---- reading -------------------------------------------------------------------------------------


def read_ways(settings: Settings) -> tuple[Way, ...]:
    """The routes of the file, with the files that they name.

    Raises:
        UsageError: one is wrong.
    """
    return tuple(_read(route, settings) for route in settings.route)


def _read(route: tables.Route, settings: Settings) -> Way:
    where = route.where
    name, colon, rest = route.to.partition(":")
    if name not in (_WITH_PLACE if colon else _ALONE) or (colon and not rest.strip()):
        raise settings.error(
            f"{where}: to",
            f"is maildir:PATH, mbox:PATH, lmtp:unix:PATH, lmtp:HOST:PORT, smtp:HOST:PORT, mx, discard, hold or "
            f'"fail:550 5.1.1 TEXT", not {route.to!r}',
        )
    kind: Any = name
    default = tables.Route()
    for key, kinds in _KEYS.items():
        if kind not in kinds and getattr(route, key) != getattr(default, key):
            raise settings.error(f"{where}: {key}", f"has no meaning with to = {route.to!r}")
    way = Way(route, kind)
    _read_place(way, rest, settings)
    _read_domains(way, settings)
    way.networks = networks_of(route.from_)
    if (route.user is None) != (route.password_file is None):
        raise settings.error(f"{where}: user", "and password_file go together")
    if route.user is not None and route.password_file is not None:
        password = first_line(route.password_file, f"{where}: password_file")
        # In clear only where the file says so, or where nobody can listen.
        in_clear = route.tls == "off" or way.address.path is not None
        way.auth = ehlo.Login(route.user, password, allow_clear=in_clear)
    if route.recipients is not None:
        way.recipients = _read_recipients(route.recipients, where)
    return way


def _read_place(way: Way, rest: str, settings: Settings) -> None:
    where = f"{way.where}: to"
    if way.is_store:
        way.place = settings.source.path(rest)
        try:
            way.mailbox(ehlo.Recipient("jane@example.org").path, "example.org")
        except ehlo.LocalProtocolError as exc:
            raise settings.error(where, f"{rest!r}: {exc}") from None
    elif way.is_hop:
        address = parse_address(rest, where, 25 if way.kind == "smtp" else 24)
        if address.path is None and address.port == 0:
            raise settings.error(where, f"{rest!r}: there is no port 0 to send to")
        way.address = address if address.path is None else Address(path=settings.source.path(address.path))
    elif way.kind == "fail":
        try:
            way.reply = ehlo.Reply.parse(rest)
        except (ehlo.EhloError, ValueError):
            way.reply = None
        if way.reply is None or not way.reply.is_permanent:
            raise settings.error(where, f'is like "fail:550 5.1.1 No such user", not {rest!r}')


def _read_domains(way: Way, settings: Settings) -> None:
    if way.table.domains is None:
        return
    exact, below = set(), []
    for domain in way.table.domains:
        name = domain.removeprefix(".")
        try:
            ehlo.Address(f"x@{name}")
        except ehlo.EhloError:
            raise settings.error(f"{way.where}: domains", f"has {domain!r}, which is no domain") from None
        if domain.startswith("."):
            below.append("." + domain_key(name))
        else:
            exact.add(domain_key(name))
    way.domains, way.below = frozenset(exact), tuple(below)


def _read_recipients(path: str, where: str) -> frozenset[str]:
    """Lines with an address, a local part, or ``@domain`` for all of a domain."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"{where}: recipients {path}: {getattr(exc, 'strerror', None) or exc}; name a file that can be read"
        ) from None
    found = set()
    for line in lines:
        name = line.strip()
        if name and not name.startswith("#"):
            local, at, domain = name.rpartition("@")
            found.add(f"{local_key(local)}@{domain_key(domain)}" if at else local_key(name))
    return frozenset(found)


# ---- settings that would lose mail, or open the server to all ------------------------------------


def check_routes(ways: Sequence[Way], settings: Settings) -> None:
    """Refuse routes by which mail would be lost or taken for everybody.

    Raises:
        UsageError: says which, and how to mend it.
    """
    if not ways:
        raise settings.error("route", 'is missing; write [[route]] with to = "maildir:mail", or give --maildir DIR')
    has_users = any(listener.protocol in ("submission", "submissions") for listener in settings.listener)
    strangers = [one for one in settings.listener if one.protocol in ("smtp", "lmtp") and one.path is None]
    for way in ways:
        _check_way(way, settings, bool(strangers))
    _check_order(ways, settings)
    if not has_users:
        return
    rest = next((way for way in ways if way.domains is None and way.for_users), None)
    if rest is None:
        raise settings.error(
            "route:",
            "none takes the mail of users to other domains; add a last [[route]] with "
            'from = "users" and to = "mx" (or "smtp:HOST:PORT", or "fail:550 5.7.1 Only local mail")',
        )
    if rest.is_store:
        raise settings.error(
            rest.where,
            "would keep the mail of users: their mail to other domains would stay in a mailbox here; "
            'give it domains, and add a last [[route]] with from = "users" and to = "mx"',
        )


def _check_way(way: Way, settings: Settings, strangers: bool) -> None:
    if settings.queue is None and way.kind in ("mx", "hold"):
        raise settings.error(f"{way.where}: to", f"{way.kind!r} needs a queue: add [queue] with path")
    if settings.queue is not None and way.table.bare_newlines != "normalize":
        raise settings.error(f"{way.where}: bare_newlines", "has no meaning with a queue, which normalizes")
    if way.kind in ("smtp", "mx") and way.domains is None and way.takes_all and strangers:
        raise settings.error(
            way.where,
            "would relay for everybody; name the domains that you take mail for (domains, or --domain), or the "
            'clients that may use it: from = "users"',
        )


def _check_order(ways: Sequence[Way], settings: Settings) -> None:
    """A route behind one that takes all of its mail is a mistake; so are, with a queue, two ways for one domain: the
    queue knows the recipient, and no more the client."""
    for number, way in enumerate(ways):
        for before in ways[:number]:
            if before.domains is not None and way.domains is None:
                continue
            if before.is_open and _covers(before, way):
                raise settings.error(way.where, f"is never reached: {before.where} takes all of its mail")
            mixed = "fail" not in (way.kind, before.kind) and not before.is_open and way.table.to != before.table.to
            if settings.queue is not None and mixed and _meets(before, way):
                raise settings.error(
                    way.where,
                    f"and {before.where} differ only in from, but the queue does not know the client; "
                    "put the route with domains first, or give both the same to",
                )


def _covers(first: Way, second: Way) -> bool:
    if first.domains is None:
        return True
    if second.domains is None:
        return False
    return all(first.is_for(domain) for domain in second.domains) and set(second.below) <= set(first.below)


def _meets(first: Way, second: Way) -> bool:
    if first.domains is None or second.domains is None:
        return True
    return any(first.is_for(one) for one in second.domains) or any(second.is_for(one) for one in first.domains)
