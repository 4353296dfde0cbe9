"""One client's session as a handler sees it, and the answers that a handler may give."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias

from ehlo._core import ClientAttributes, Message, ProxyHeader, Reply, ServerConnection
from ehlo._errors import EhloError
from ehlo._tls import cipher_suite

__all__ = ["Answer", "ContentAbortedError", "Method", "Result", "Session"]

Answer: TypeAlias = str | Reply | Sequence[str | Reply | None] | None
"""What a handler says: ``None`` accepts; a :class:`ehlo.Reply` or a string like ``"550 5.1.1 no such user"`` is
sent; in LMTP, at the end of a message, a sequence holds one of them for each accepted recipient, in order."""

Result: TypeAlias = Answer | Awaitable[Answer]
"""A handler's methods are plain ``def`` (an :data:`Answer`) or ``async def`` (an awaitable of one)."""

Method: TypeAlias = Callable[..., Result] | None
"""A method of a handler; ``None`` where the handler has none."""


class ContentAbortedError(EhloError):
    """Raised by the body of :meth:`Handler.on_body`: this content will not become a message.

    ``reason`` is that of :class:`ehlo.ContentAborted`: ``"forbidden"`` (a bare CR or LF, or what else the config
    rejects), ``"too big"``, ``"reset"`` or ``"disconnected"``. The peer has its answer already; what the handler
    returns or raises now is ignored, so letting this exception through is right (RFC 5321 4.1.1.5, 4.1.1.10).

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
        attempted: the name that the client gave in its last AUTH, accepted or not: it may be anything; ``None`` without
            one.
        mechanism: the SASL mechanism of the client's last AUTH, accepted or not; ``None`` without one.
        tls: the TLS layer as the adapter has it (an :class:`ssl.SSLObject`, usually); ``None`` in the clear.

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
        """``(address, port)`` of the client, ``None`` on a Unix socket. XCLIENT and a PROXY header have the last word
        on it; the port is 0 where they do not know it.
        """
        address = self._conn.client_address
        return self._peer if address is None else (address[0], address[1] or 0)

    @property
    def local(self) -> tuple[str, int] | str | None:
        """``(address, port)`` that the client reached, or the path of a Unix socket. XCLIENT (DESTADDR, DESTPORT) and a
        PROXY header have the last word on it; the port is 0 where they do not know it.
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
        """Whom the client has authenticated as (RFC 4954); ``None`` if nobody."""
        return self._conn.identity

    @property
    def proxy(self) -> ProxyHeader | None:
        """What the PROXY header said; ``None`` without one."""
        return self._conn.proxy

    @property
    def xclient(self) -> ClientAttributes | None:
        """What XCLIENT said of the client; ``None`` without it."""
        return self._conn.xclient

    @property
    def xforward(self) -> ClientAttributes | None:
        """What XFORWARD said of this transaction's client; ``None`` without it."""
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
