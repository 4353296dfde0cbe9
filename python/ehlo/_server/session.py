"""One client's session as a handler sees it, and the answers that a handler may give."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from ehlo._core import ClientAttributes, Envelope, Message, ProxyHeader, Reply, ServerConnection
from ehlo._errors import EhloError
from ehlo._server.trace_fields import received
from ehlo._tls import cipher_suite

__all__ = ["Answer", "ContentAbortedError", "Method", "Raw", "Result", "SaslCancelledError", "Session", "hides_client"]

Answer: TypeAlias = str | Reply | Sequence[str | Reply | None] | None
"""What a handler says: ``None`` accepts; a :class:`ehlo.Reply` or a string like ``"550 5.1.1 no such user"`` is
sent; in LMTP, at the end of a message, a sequence holds one of them for each accepted recipient, in order."""

Result: TypeAlias = Answer | Awaitable[Answer]
"""A handler's methods are plain ``def`` (an :data:`Answer`) or ``async def`` (an awaitable of one)."""

Method: TypeAlias = Callable[..., Result] | None
"""A method of a handler; ``None`` where the handler has none."""


# As Postfix writes it.
_UNKNOWN: Final = ("unknown", 0)
# Family and transport of version 2 (PROXY protocol 2.2) in the words of version 1.
_FAMILIES: Final = {0x11: "TCP4", 0x21: "TCP6", 0x31: "UNIX"}


def hides_client(header: ProxyHeader) -> bool:
    """Whether there is a client behind the proxy whose address nobody knows: UNKNOWN, UNSPEC, or the path of a Unix
    socket. The PROXY protocol lets the proxy's own address stand for it (2.1, 2.2). We do not: such a client would
    have all that is allowed to the proxy, which often is 127.0.0.1.
    """
    return header.unknown or isinstance(header.source, bytes)


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer in octets, which go out as they are: for a program that stands in for another server.

    Arguments:
        octets: whole lines with their CRLF; empty where the program has sent them already.
        accepted: whether it is a yes.
    """

    octets: bytes
    accepted: bool


class SaslCancelledError(EhloError):
    """Raised by ``challenge`` in :meth:`ehlo.Handler.on_sasl`: the client ended the exchange, sent something else than
    base64, or left (RFC 4954 4). The client has its answer already, so you need not catch this exception.

    Example::

        try: response = await challenge(b"")
        except ehlo.SaslCancelledError: return None
    """


class ContentAbortedError(EhloError):
    """Raised by the body of :meth:`Handler.on_body`: this content will not become a message.

    ``reason`` is that of :class:`ehlo.ContentAborted`: ``"forbidden"`` (a bare CR or LF, or something else that the
    config rejects), ``"too big"``, ``"reset"`` or ``"disconnected"``. The peer has its answer already. Everything that
    the handler returns or raises now is ignored, so you need not catch this exception (RFC 5321 4.1.1.5, 4.1.1.10).

    Example::

        try:
            async for chunk in body: file.write(chunk)
        except ehlo.ContentAbortedError: file.unlink(); raise
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the content did not become a message: {reason}")
        self.reason = reason


class Session:
    """One client's session, as a handler sees it. Made at the first call of a handler, the same object until the last.

    Attributes:
        hostname: the name this server gives itself.
        attempted: the name that the client gave in its last AUTH, accepted or not. It may be any text. ``None`` before
            the first AUTH.
        mechanism: the SASL mechanism of the client's last AUTH, accepted or not; ``None`` before the
            first AUTH.
        tls: the TLS layer of the adapter, usually an :class:`ssl.SSLObject`; ``None`` in clear text.

    Example::

        def on_rcpt(self, session, recipient):
            if session.peer and session.peer[0] in BLOCKED: return "550 5.7.1 not from there"
    """

    __slots__ = (
        "_conn",
        "_local",
        "_message",
        "_peer",
        "_state",
        "attempted",
        "hostname",
        "mechanism",
        "tls",
    )

    def __init__(
        self,
        conn: ServerConnection,
        hostname: str = "localhost",
        peer: tuple[str, int] | None = None,
        local: tuple[str, int] | str | None = None,
    ) -> None:
        self._conn = conn
        self._state: dict[str, Any] | None = None
        self._message: Message | None = None
        self._peer = peer
        self._local = local
        self.hostname: str = hostname
        self.tls: object = None
        self.attempted: str | None = None
        self.mechanism: str | None = None

    @property
    def peer(self) -> tuple[str, int] | None:
        """``(address, port)`` of the client; ``None`` on a Unix socket. XCLIENT and a PROXY header replace the address
        of the socket. The port is 0 if they do not name it. The value is ``("unknown", 0)`` if XCLIENT or the PROXY
        header says that nobody knows the address (UNKNOWN, UNSPEC, or the path of a Unix socket). With LOCAL the
        connection is the proxy's own, and its address stays.
        """
        # What is allowed to the proxy's address is not allowed to a client that it cannot name.
        conn = self._conn
        xclient = conn.xclient
        if xclient is not None and "ADDR" in xclient.unavailable:
            return _UNKNOWN
        address = conn.client_address
        if address is not None:
            return address[0], address[1] or 0
        return _UNKNOWN if conn.proxy is not None and hides_client(conn.proxy) else self._peer

    @property
    def counted_address(self) -> str | None:
        """The address under which the client counts in limits. That is the address of ``peer``, and ``None`` on a Unix
        socket. If nobody knows the client's address, it is the address of the proxy's socket: so the clients of one
        proxy do not use up the limits of another's. Clients of proxies on Unix sockets, which have no address, share
        ``"unknown"``. Use this address for limits only, and ``peer`` for permissions.

        Example::

            wait = self.rates.take(session.counted_address or "unix")
        """
        peer = self.peer
        if peer is _UNKNOWN and self._peer is not None:
            return self._peer[0]
        return None if peer is None else peer[0]

    @property
    def local(self) -> tuple[str, int] | str | None:
        """``(address, port)`` that the client reached, or the path of a Unix socket. XCLIENT (DESTADDR, DESTPORT) and a
        PROXY header replace it. The port is 0 if they do not name it.
        """
        xclient = self._conn.xclient
        if xclient is not None and xclient.dest_addr is not None:
            return xclient.dest_addr, xclient.dest_port or 0
        header = self._conn.proxy
        reached = None if header is None else header.destination
        if reached is None:
            return self._local
        return os.fsdecode(reached) if isinstance(reached, bytes) else reached

    @property
    def identity(self) -> str | None:
        """The name that the client has authenticated as (RFC 4954); ``None`` without AUTH."""
        return self._conn.identity

    @property
    def proxy(self) -> ProxyHeader | None:
        """The PROXY header; ``None`` without one."""
        return self._conn.proxy

    @property
    def proxy_octets(self) -> bytes:
        """The PROXY header as it came, or the octets that came in its place; empty without one."""
        return self._conn.proxy_octets

    @property
    def proxy_version(self) -> int | None:
        """The version of the PROXY header, 1 or 2 (PROXY protocol 2); ``None`` without a good one."""
        if self._conn.proxy is None:
            return None
        return 1 if self._conn.proxy_octets.startswith(b"PROXY") else 2

    @property
    def proxy_family(self) -> str | None:
        """The family in the PROXY header: ``"TCP4"``, ``"TCP6"``, ``"UNIX"`` or ``"UNKNOWN"``; ``None`` without a
        good header. In version 2 the command LOCAL and the family UNSPEC are ``"UNKNOWN"`` (PROXY protocol 2.2).
        """
        octets = self._conn.proxy_octets
        match self.proxy_version:
            case None:
                return None
            case 1:
                return octets.split()[1].decode("ascii", "replace")
            case _:
                local = octets[12] & 0x0F == 0
                return "UNKNOWN" if local else _FAMILIES.get(octets[13], "UNKNOWN")

    @property
    def xclient(self) -> ClientAttributes | None:
        """The attributes of XCLIENT; ``None`` without XCLIENT."""
        return self._conn.xclient

    @property
    def xforward(self) -> ClientAttributes | None:
        """The attributes of XFORWARD for this transaction; ``None`` without XFORWARD."""
        return self._conn.xforward

    @property
    def cipher_suite(self) -> str | None:
        """The registered name of TLS's cipher suite, for a Received field (RFC 8314 7.4); ``None`` without TLS."""
        return None if self.tls is None else cipher_suite(self.tls)

    @property
    def state(self) -> dict[str, Any]:
        """A dictionary for the program's own use; empty at first."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def hello(self) -> tuple[str, str] | None:
        """``(verb, name)`` of the last accepted EHLO, HELO or LHLO (RFC 5321 4.1.1.1)."""
        return self._conn.hello

    @property
    def protocol(self) -> str:
        """The ``with`` keyword for a Received field: ``"ESMTP"``, ``"LMTP"`` ... (RFC 3848 1)."""
        return self._conn.protocol

    def received(
        self,
        envelope: Envelope,
        *,
        ident: str | None = None,
        now: datetime | None = None,
        user: bool = False,
        rdns: str | None = None,
    ) -> bytes:
        """Return the Received field of a message of this session. Put it above the content (RFC 5321 4.4). It has the
        name and address of the client, the protocol, the cipher suite of TLS (RFC 8314 4.3) and the priority (RFC 6710
        4.1).

        Arguments:
            envelope: the message's; ``for`` is written when it has exactly one recipient (RFC 5321 7.2).
            ident: this server's id for the message: an atom.
            now: when it was received, with its offset from UTC; the time now by default.
            user: write the name of the authenticated user, which others can then read (RFC 5321 7.6).
            rdns: the name of the client's address, if it was looked up and confirmed.

        Raises:
            LocalProtocolError: as :func:`ehlo.received`.

        Example::

            def on_message(self, session, envelope, content):
                content = ehlo.prepend_fields(session.received(envelope, ident=new_id()), content)
        """
        hello, peer = self.hello, self.peer
        return received(
            now=datetime.now().astimezone() if now is None else now,
            by=self.hostname,
            hello=None if hello is None else hello[1],
            peer=None if peer is None else peer[0],
            rdns=rdns,
            protocol=self.protocol,
            ident=ident,
            recipients=[recipient.path for recipient in envelope.recipients] if len(envelope.recipients) == 1 else (),
            smtputf8=envelope.smtputf8,
            user=self.identity if user else None,
            tls=self.cipher_suite,
            priority=envelope.sender.mt_priority,
        )

    @property
    def message(self) -> Message | None:
        """While :meth:`Handler.on_message` decides: the event, with ``size`` in octets and ``flags``."""
        return self._message

    @property
    def messages(self) -> int:
        """Messages accepted so far in this session."""
        return self._conn.messages

    @property
    def errors(self) -> int:
        """The client's errors so far."""
        return self._conn.errors

    @property
    def refusals(self) -> dict[Literal["connect", "auth", "mail", "rcpt", "content", "other"], int]:
        """Replies 4yz and 5yz so far, by the command that they answer: "connect" is in place of the greeting."""
        return self._conn.refusals

    @property
    def commands(self) -> int:
        """Commands so far."""
        return self._conn.commands

    def __repr__(self) -> str:
        return f"<ehlo.Session peer={self.peer!r} hello={self.hello!r} messages={self.messages}>"
