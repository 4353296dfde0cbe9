"""Routes: which way a recipient goes. A program's ``route(recipient)`` returns one of these."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias

from ehlo import LocalProtocolError, Login, Recipient, Reply
from ehlo.mta._tls_policy import TlsLevel, TlsPolicy
from ehlo.store import RecipientField, expand

__all__ = ["Fail", "Hold", "Lmtp", "Maildir", "Mbox", "Mx", "Route", "SmartHost"]


def _policy(tls: TlsPolicy | TlsLevel) -> TlsPolicy:
    return tls if isinstance(tls, TlsPolicy) else TlsPolicy(tls)


@dataclass(frozen=True, slots=True)
class Mx:
    """The servers of the recipient's domain, by the DNS (RFC 5321 5.1).

    Attributes:
        port: of those servers.
        tls: a :class:`TlsPolicy`, or a ``TlsLevel``: "off", "opportunistic", "required" (any certificate), "verified"
            or "implicit". ``None``: what the queue's ``tls`` says.
        source_address: the address to connect from.
        domain: the domain to look up instead of the recipient's.

    Example::

        def route(recipient): return Mx()
    """

    _: KW_ONLY
    port: int = 25
    tls: TlsPolicy | TlsLevel | None = None
    source_address: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class SmartHost:
    """One relay for all mail. MX records are not looked up.

    Attributes:
        host: its name or address.
        port: its port: 587 for submission, 25 for a relay.
        tls: a :class:`TlsPolicy`, or a ``TlsLevel``: "off", "opportunistic", "required" (any certificate), "verified"
            or "implicit". By default "verified" with ``auth``, else "opportunistic".
        auth: a :class:`ehlo.Login`, or user name and password.
        source_address: the address to connect from.
        path: the path of a Unix socket, in place of ``host``.

    Example::

        SmartHost("smtp.example.org", 587, auth=("jane", password))
    """

    host: str
    port: int = 25
    _: KW_ONLY
    tls: TlsPolicy | TlsLevel | None = None
    auth: Login | tuple[str, str] | None = field(default=None, repr=False)
    source_address: str | None = None
    path: str | None = None

    @property
    def policy(self) -> TlsPolicy:
        """The policy that holds."""
        if self.tls is None and self.path is not None:
            return TlsPolicy("off")
        if self.tls is None:
            return TlsPolicy("opportunistic" if self.auth is None else "verified")
        return _policy(self.tls)

    @property
    def key(self) -> str:
        """See :data:`Route`."""
        return f"relay:{self.host}:{self.port}" if self.path is None else f"relay:unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Lmtp:
    """A delivery agent that speaks LMTP (RFC 2033): final delivery.

    Attributes:
        where: ``"unix:/run/dovecot/lmtp"``, ``"host:24"`` or ``"[::1]:24"``.
        tls: a :class:`TlsPolicy`, or a ``TlsLevel``: "off", "opportunistic", "required" (any certificate), "verified"
            or "implicit".
        auth: a :class:`ehlo.Login`, or user name and password.

    Raises:
        LocalProtocolError: ``where`` has another form.

    Example::

        Lmtp("unix:/run/dovecot/lmtp")
    """

    where: str
    _: KW_ONLY
    tls: TlsPolicy | TlsLevel = "off"
    auth: Login | tuple[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.path is None:
            host, port = self.address
            if not host or not 0 < port < 65536:
                raise LocalProtocolError(f"Lmtp: where is unix:PATH or HOST:PORT, not {self.where!r}")

    @property
    def path(self) -> str | None:
        """Of the Unix socket; ``None`` where it is TCP."""
        return self.where[5:] if self.where.startswith("unix:") and len(self.where) > 5 else None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, where it is TCP."""
        host, colon, port = self.where.rpartition(":")
        return host.strip("[]"), int(port) if colon and port.isdecimal() else 0

    @property
    def policy(self) -> TlsPolicy:
        """The policy that holds."""
        return _policy(self.tls)

    @property
    def key(self) -> str:
        """See :data:`Route`."""
        return f"lmtp:{self.where}"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What :class:`Maildir` and :class:`Mbox` have in common."""

    path: str | os.PathLike[str]
    mode: int = 0o600
    _: KW_ONLY
    recipient_field: RecipientField | None = None
    follow_symlink: bool = False

    @property
    def key(self) -> str:
        """See :data:`Route`."""
        return type(self).__name__.lower()

    def folder(self, recipient: Recipient) -> str:
        """The place of a recipient's mailbox.

        Raises:
            LocalProtocolError: the path has another name in braces.

        Example::

            Maildir("/var/mail/{local_part}").folder(ehlo.Recipient("joe@example.org"))  # "/var/mail/joe"
        """
        return expand(os.fspath(self.path), recipient.path)


@dataclass(frozen=True, slots=True)
class Maildir(Mailbox):
    """A Maildir on this machine: final delivery, by :class:`ehlo.store.Maildir`.

    Attributes:
        path: the folder. ``{local_part}`` and ``{domain}`` stand for parts of the recipient's address, as
            :func:`ehlo.store.expand` fills them in: an address never leaves its place in the path.
        mode: permissions of the files.
        recipient_field: the header field that names the recipient; ``None``: none.
        follow_symlink: the folder may be a symbolic link.

    Example::

        Maildir("/var/mail/{domain}/{local_part}", recipient_field="Delivered-To")
    """


@dataclass(frozen=True, slots=True)
class Mbox(Mailbox):
    """An mbox file on this machine: final delivery, by :class:`ehlo.store.Mbox`. Attributes are those of
    :class:`Maildir`; ``path`` is the file.

    Example::

        Mbox("/var/mail/{local_part}")
    """


@dataclass(frozen=True, slots=True)
class Fail:
    """The recipient is refused: its sender gets a bounce with this reply.

    Attributes:
        reply: the reason: a 5yz reply.

    Raises:
        LocalProtocolError: ``reply`` is not 5yz.

    Example::

        Fail("550 5.1.1 no such user")
    """

    reply: Reply | str

    def __post_init__(self) -> None:
        if not self.status.is_permanent:
            raise LocalProtocolError(f"Fail: a reply of 5yz, not {self.status}")

    @property
    def status(self) -> Reply:
        """The reply."""
        return self.reply if isinstance(self.reply, Reply) else Reply.parse(self.reply)

    @property
    def key(self) -> str:
        """See :data:`Route`."""
        return "fail"


@dataclass(frozen=True, slots=True)
class Hold:
    """The recipient is kept until an administrator releases it.

    Attributes:
        reason: the text for the administrator.

    Example::

        Hold("new sender, to be looked at")
    """

    reason: str

    @property
    def key(self) -> str:
        """See :data:`Route`."""
        return "hold"


Route: TypeAlias = Mx | SmartHost | Lmtp | Maildir | Mbox | Fail | Hold
"""Which way a recipient goes. Its ``key`` names the next hop: recipients with one key share connections and limits, and
an administrator suspends a route by it. That of :class:`Mx` is made of the names of the servers."""
