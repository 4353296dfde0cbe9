"""What the file names, read: users, certificate, routes, aliases, senders. SIGHUP reads it again."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve import settings as tables
from ehlo.cli._serve.aliases import Aliases
from ehlo.cli._serve.milters import read_milters
from ehlo.cli._serve.routes import Hop, Way, check_routes, domain_key, find_queued_way, find_way, local_key, read_ways
from ehlo.cli._serve.settings import Settings
from ehlo.cli._serve.signing import Signing
from ehlo.cli._serve.users import read_users, reload_users

if TYPE_CHECKING:
    from ehlo.milter.filters import Milter

__all__ = ["RefusedError", "Site", "Target"]

# Tables and keys that count at the start only.
_FIXED: Final = (
    "hostname",
    "authserv_id",
    "loop",
    "deadline",
    "quiet",
    "queue",
    "smtp",
    "handler",
    "filter",
    "log",
    "metrics",
    "rates",
    "networks",
    "run",
    "listener",
)
_NO_ROUTE: Final = ehlo.Reply(550, "5.7.1", "No mail for that domain here")
_NO_USER: Final = ehlo.Reply(550, "5.1.1", "No such user here")
_NOT_YOURS: Final = ehlo.Reply(550, "5.7.1", "This sender address is not yours")


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient at the end of all aliases, and its way.

    Attributes:
        recipient: with the parameters of RCPT.
        domain: of the recipient, as :func:`ehlo.cli._serve.routes.domain_key` gives it.
        way: where it goes.
    """

    recipient: ehlo.Recipient
    domain: str
    way: Way


class RefusedError(Exception):
    """A recipient that is not taken: its reply."""

    def __init__(self, reply: ehlo.Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(slots=True)
class Site:
    """Everything that decides who may send where. :meth:`load` fills it, and fills it anew.

    Attributes:
        settings: the file.
        tls: the certificate; the same object after a reload.
        users: who may log in; the same object after a reload.
        mechanisms: those that are offered since the start.
        ways: the routes, in order.
        aliases: ``None`` without.
        milters: the filters, each with its table.
        signing: DKIM signatures.
        senders: addresses and ``@domain`` of each user, where the file says ``table:``.
    """

    settings: Settings
    tls: ssl.SSLContext | None = None
    mechanisms: tuple[str, ...] = ()
    users: ehlo.Users | None = None
    ways: tuple[Way, ...] = ()
    aliases: Aliases | None = None
    milters: tuple[tuple[tables.Filter, Milter], ...] = ()
    signing: Signing = field(default_factory=Signing)
    senders: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings) -> Site:
        """Read all that the file names.

        Raises:
            UsageError: something is wrong.
        """
        site = cls(settings)
        if settings.tls.certificate is not None:
            site.tls = tls_context(settings)
        site._load()
        return site

    def reload(self, settings: Settings) -> list[str]:
        """Take over the settings, and read all files that they name again; where something is wrong, nothing changes.

        Arguments:
            settings: the file, read again.

        Returns:
            The tables that changed and that need a new start.

        Raises:
            UsageError: something is wrong.
        """
        old = self.settings
        fixed = {name: getattr(old, name) for name in _FIXED}
        left = [name for name in _FIXED if getattr(settings, name) != getattr(old, name)]
        left += [
            f"auth.{name}" for name in ("users", "in_clear") if getattr(settings.auth, name) != getattr(old.auth, name)
        ]
        auth, tls = replace(settings.auth, users=old.auth.users, in_clear=old.auth.in_clear), settings.tls
        if (tls.certificate is None) != (self.tls is None):
            left.append("tls")
            tls = old.tls
        fresh = Site(replace(settings, auth=auth, tls=tls, **fixed))
        fresh._load()
        new_hops = fresh.hops.keys() - self.hops.keys()
        if new_hops:
            where = next(way.where for hop, way in fresh.hops.items() if hop in new_hops)
            raise settings.error(where, "goes to a new next hop: this needs a new start")
        if self.tls is not None:
            # A certificate and a key that do not fit would leave the one in use half changed: first try them elsewhere.
            tls_context(fresh.settings)
        if self.users is not None and auth.users is not None:
            reload_users(self.users, auth.users, self.mechanisms)
        if self.tls is not None:
            load_certificate(self.tls, fresh.settings)
        self.settings, self.ways = fresh.settings, fresh.ways
        self.aliases, self.senders, self.signing = fresh.aliases, fresh.senders, fresh.signing
        return left

    @property
    def hops(self) -> dict[Hop, Way]:
        """The next hops that are asked while the client waits."""
        has_queue = self.settings.queue is not None
        return {way.hop: way for way in self.ways if way.is_hop and (way.table.ask or not has_queue)}

    def _load(self) -> None:
        settings = self.settings
        if settings.auth.users is not None:
            self.users = read_users(settings.auth.users)
            self.mechanisms = tuple(self.users.mechanisms)
        self.milters = read_milters(settings)
        self.signing = Signing.read(settings)
        self.ways = read_ways(settings)
        check_routes(self.ways, settings)
        if settings.aliases.file is not None:
            self.aliases = Aliases.read(settings.aliases.file, self.own_domains, settings.aliases.separator)
            self._check_aliases(self.aliases)
        if settings.auth.from_.startswith("table:"):
            self.senders = _read_senders(settings.auth.from_[6:])

    def _check_aliases(self, aliases: Aliases) -> None:
        for address, where in aliases.all_targets:
            try:
                self._of(ehlo.Recipient(address), None)
            except RefusedError as exc:
                raise UsageError(f"{where}: {address} is refused: {exc}") from None
        if self.settings.queue is None and (first := aliases.first_list) is not None:
            raise UsageError(f"{first}: a name with several targets needs a queue: add [queue] with path")

    # ---- questions -------------------------------------------------------------------------------

    @property
    def own_domains(self) -> frozenset[str]:
        """The domains that take mail from everybody, and the name of this server where a mailbox is for it."""
        real = [way for way in self.ways if way.kind != "fail" and way.is_open]
        name = domain_key(self.settings.hostname)
        own = {name} if any(way.is_store and way.is_for(name) for way in real) else set()
        return frozenset(own.union(*(way.domains or () for way in real)))

    def targets(self, session: ehlo.Session, recipient: ehlo.Recipient) -> list[Target]:
        """Where a recipient goes: one target, or several behind an alias.

        Raises:
            RefusedError: it is not taken.
        """
        return self._of(recipient, session, expand=True)

    def targets_added(self, recipient: ehlo.Recipient) -> list[Target]:
        """The same for a recipient that a filter added: by any route, whoever the client is.

        Raises:
            RefusedError: no route takes it.
        """
        return self._of(recipient, None, expand=True)

    def notice_recipients(self, sender: str) -> list[str]:
        """Who gets a notification for this sender: as for all mail to that address, aliases, tags and the files of
        recipients count. Nobody does where the address does not exist here."""
        recipient = ehlo.Recipient(sender)
        local, domain = self._parts(recipient)
        way = find_queued_way(self.ways, domain)
        if way is None:
            return [sender]  # it is anywhere
        members = None
        if self.aliases is not None and (way.domains is not None or way.is_store):
            members = self.aliases.find(local, domain)
        found: list[str] = []
        for one in (recipient,) if members is None else (_member(recipient, member) for member in members):
            try:
                targets = self._of(one, None)
            except RefusedError as exc:
                if exc.reply is _NO_ROUTE:
                    found.append(str(one.path))
                continue
            found += [str(target.recipient.path) for target in targets if target.way.kind != "discard"]
        return list(dict.fromkeys(found))

    def _of(self, recipient: ehlo.Recipient, session: ehlo.Session | None, *, expand: bool = False) -> list[Target]:
        local, domain = self._parts(recipient)
        if not isinstance(recipient.path, ehlo.Address):
            recipient = _member(recipient, f"{local}@{domain}")
        way = find_way(self.ways, domain, session)
        if way is None:
            raise RefusedError(_NO_ROUTE)
        if way.reply is not None and not way.is_open:  # it is about the client, so no alias leads around it
            raise RefusedError(way.reply)
        aliases = self.aliases
        if expand and aliases is not None and (way.domains is not None or way.is_store):
            members = aliases.find(local, domain)
            if members is not None:
                return [one for member in members for one in self._of(_member(recipient, member), None)]
        if way.reply is not None:
            raise RefusedError(way.reply)
        if way.has(local, domain):
            if not (aliases is not None and way.is_store and way.recipients is None):
                return [Target(recipient, domain, way)]
            local = aliases.without_tag(local)
        elif aliases is not None and way.has(aliases.without_tag(local), domain):
            local = aliases.without_tag(local) if way.is_store else local
        else:
            raise RefusedError(_NO_USER)
        return [Target(_renamed(recipient, local), domain, way)]

    def _parts(self, recipient: ehlo.Recipient) -> tuple[str, str]:
        path = recipient.path
        if isinstance(path, ehlo.Address):
            return path.local_part, domain_key(path.domain)
        # <Postmaster> without a domain is this server's own (RFC 5321 4.5.1).
        own = domain_key(self.settings.hostname)
        if not any(way.is_for(own) and way.is_open for way in self.ways):
            own = next((domain for way in self.ways for domain in sorted(way.domains or ())), own)
        return "postmaster", own

    def refused_sender(self, user: str, sender: ehlo.Sender) -> ehlo.Reply | None:
        """The reply to a user who may not send from this address; ``None`` where he may. The null sender is everybody's
        (RFC 5321 4.5.5)."""
        path, rule = sender.path, self.settings.auth.from_
        if rule == "any" or not isinstance(path, ehlo.Address):
            return None
        local, domain = path.local_part.lower(), domain_key(path.domain)
        if rule == "own":
            name, at, at_domain = user.lower().rpartition("@")
            mine = (name, domain_key(at_domain)) == (local, domain) if at else at_domain == local
            return None if mine and (at or domain in self.own_domains) else _NOT_YOURS
        allowed = self.senders.get(user, frozenset())
        return _NOT_YOURS if allowed.isdisjoint((f"{local}@{domain}", f"@{domain}")) else None


def _member(recipient: ehlo.Recipient, address: str) -> ehlo.Recipient:
    """A member of an alias has the parameters of the alias (RFC 3461 5.2.7.1)."""
    return ehlo.Recipient(address, notify=recipient.notify, orcpt=recipient.orcpt)


def _renamed(recipient: ehlo.Recipient, local: str) -> ehlo.Recipient:
    """The recipient with a shorter local part: without its tag."""
    path = recipient.path
    assert isinstance(path, ehlo.Address)
    if path.local_part.lower() == local.lower():
        return recipient
    quoted = f'"{local}"' if path.mailbox.startswith('"') else local
    return _member(recipient, f"{quoted}@{path.domain}")


def _read_senders(path: str) -> dict[str, frozenset[str]]:
    """Lines ``USER: ADDRESS, @DOMAIN``."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"auth.from {path}: {getattr(exc, 'strerror', None) or exc}") from None
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        user, colon, rest = line.partition(":")
        addresses = [one.strip() for one in rest.split(",") if one.strip()]
        if not colon or not user.strip() or not all("@" in one for one in addresses):
            raise UsageError(f"{path} line {number}: a line is USER: ADDRESS, @DOMAIN")
        pairs = (one.rpartition("@") for one in addresses)
        mine = {f"{local_key(local)}@{domain_key(domain)}" for local, _, domain in pairs}
        found[user.strip()] = found.get(user.strip(), frozenset()) | mine
    return found


def load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Load the certificate of [tls].

    Raises:
        UsageError: it cannot be read, or does not fit its key.
    """
    certificate, key = settings.tls.certificate or "", settings.tls.key_file

    def no_password() -> str:
        raise UsageError(f"tls.key {key or certificate} has a password; store the key without one, readable by few")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as exc:
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        raise UsageError(f"tls.certificate {certificate}: {reason}; name PEM files that belong together") from None
    except OSError as exc:
        names = certificate if key is None else f"{certificate} and {key}"
        raise UsageError(f"tls.certificate {names}: {exc.strerror or exc}; name files that can be read") from None


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The certificate of [tls], loaded."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificate(context, settings)
    return context
