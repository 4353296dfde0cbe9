"""One connection to a next hop, with the TLS that its policy asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import ehlo
from ehlo.mta._loop import adapter
from ehlo.mta._tls_policy import TlsPolicy

__all__ = ["Link", "Target", "open_link", "reply_of"]

_BEGAN_TLS: Final = "C: STARTTLS"


@dataclass(frozen=True, slots=True)
class Target:
    """Where one connection goes.

    Attributes:
        host: the name of the server, which its certificate must have.
        address: its IP address, or its name where the system looks it up; ``None`` with ``path``.
        port: its port.
        path: of a Unix socket.

    Example::

        Target("mx.example.org", "192.0.2.1", 25)
    """

    host: str
    address: str | None = None
    port: int = 25
    path: str | None = None


@dataclass(slots=True, eq=False)
class Link:
    """One open connection.

    Attributes:
        client: the session on it.
        target: where it goes.
        messages: how many transactions it has carried.

    Example::

        result = await link.client.send(octets, sender, recipients)
    """

    client: Any
    target: Target
    messages: int = 0


async def open_link(
    target: Target,
    policy: TlsPolicy,
    config: ehlo.ClientConfig,
    *,
    auth: ehlo.Login | tuple[str, str] | None = None,
    source_address: str | None = None,
    connect_timeout: float = 30.0,
) -> Link:
    """Connect, and say hello. Where the policy allows it, a handshake that fails is followed by a connection in clear,
    at once.

    Raises:
        SMTPException: there is no session; :func:`reply_of` says why, as a reply.

    Example::

        link = await open_link(Target("mx.example.org", "192.0.2.1"), TlsPolicy(), config)
    """
    where: dict[str, Any] = {"config": config, "auth": auth, "source_address": source_address}
    where |= {"connect_timeout": connect_timeout, "server_hostname": target.host.strip("[]"), "path": target.path}
    connect = adapter().connect
    port = None if target.path is not None else target.port
    try:
        client = await connect(target.address, port, **where, **policy.options())
    except ehlo.SMTPException as exc:
        if not policy.falls_back or _BEGAN_TLS not in exc.transcript:
            raise
        client = await connect(target.address, port, **where, tls="off")
    return Link(client, target)


def reply_of(exc: ehlo.SMTPException) -> ehlo.Reply:
    """A reply that says what a connection ended by: the server's own, or one of ours with the fitting status code
    (RFC 3463).

    Example::

        reply_of(ehlo.SMTPTimeoutError("no answer in 30 s"))  # 451 4.4.1
    """
    reply = exc.reply
    if isinstance(exc, ehlo.SMTPAuthenticationError):
        # A wrong password of ours is no fault of the message: it waits (RFC 4954 6).
        return ehlo.Reply(454, "4.7.0", f"The relay refuses our login: {_line(reply if reply is not None else exc)}")
    if reply is not None and not reply.is_positive:
        return reply
    match exc:
        case ehlo.SMTPNotSupportedError():
            status = "4.7.4"
        case ehlo.SMTPConnectError() | ehlo.SMTPTimeoutError():
            status = "4.7.5" if _BEGAN_TLS in exc.transcript else "4.4.1"
        case ehlo.SMTPServerDisconnected() | ehlo.OutcomeUnknown():
            status = "4.4.2"
        case _:
            status = "4.5.0"
    return ehlo.Reply(451, status, _line(exc))


def _line(text: object) -> str:
    return " ".join(str(text).replace("\0", "?").split())[:400] or "no reason is known"
