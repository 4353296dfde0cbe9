"""AUTH, the client's side (RFC 4954): which mechanism, in what order, and when to stop. No I/O, no event loop.

A mechanism leads the exchange (:mod:`ehlo._sasl.client`), and the engine writes and reads its lines. No ``repr``,
transcript or exception holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ehlo._client.link import Link
from ehlo._core import Reply
from ehlo._errors import LocalProtocolError, SaslError, SMTPAuthenticationError, SMTPNotSupportedError, one_line

if TYPE_CHECKING:
    from ehlo._client.login import Login
    from ehlo._sasl.client import ClientMechanism

__all__ = ["authenticate"]

# Whoever listens has the secret.
_READABLE: Final = frozenset(("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"))
# Replies that are about the mechanism, not about the credentials (C-AUT-30, RFC 4954 4 and 6).
_TRY_ANOTHER: Final = frozenset((504, 534, 538))
_WRONG: Final = 535


def _choose(link: Link, login: Login) -> Iterator[str]:
    """The mechanisms that both sides have, ours first. What needs TLS is left out without it (C-AUT-29)."""
    offered = frozenset(link.conn.capabilities.auth)
    if not offered:
        more = "" if link.conn.is_tls else "; many do in TLS only"
        raise SMTPNotSupportedError(f"the server offers no AUTH (RFC 4954 3){more}", transcript=link.transcript)
    bindable = link.channel_binding is not None
    both = [name for name in login.order if name in offered and (bindable or not name.endswith("-PLUS"))]
    good = [name for name in both if login.allow_clear or link.is_private or name not in _READABLE]
    if not good:
        if both:
            why = "without TLS" if not link.conn.is_tls else "to a server that was not verified"
            text = f"{' and '.join(both)} would show the secret {why}: use TLS, or say allow_clear=True (RFC 4954 4, 9)"
        else:
            text = f"the server offers AUTH {' '.join(sorted(offered))}, and none of {' '.join(login.order)}"
        raise SMTPNotSupportedError(text, transcript=link.transcript)
    return iter(good)


def _mechanism(link: Link, login: Login, name: str, token: str | None) -> ClientMechanism:
    # A client that could bind says so ("y") only where the server did not offer -PLUS: else it would be taken for the
    # victim of a downgrade (RFC 5802 6).
    bound = name.endswith("-PLUS") or f"{name}-PLUS" not in link.conn.capabilities.auth
    host, port = link.server_address
    from ehlo._sasl.client import client_mechanism

    return client_mechanism(
        name,
        username=login.username,
        password=login.password,
        token=token,
        authzid=login.authzid,
        host=host,
        port=port,
        channel_binding=link.channel_binding if bound else None,
    )


async def authenticate(link: Link, login: Login) -> Reply:
    """Say AUTH until the server accepts, or there is no sense in going on (C-AUT-30). Gives the 235.

    Raises:
        SMTPAuthenticationError: it refuses; or it accepts without having proved what the mechanism asks it to prove,
            and then the connection is closed (B-AUT-23, RFC 5802 3).
        SMTPNotSupportedError: nothing that both sides have, or may use.
        LocalProtocolError: AUTH succeeded before (RFC 4954 4), or something is missing that the mechanism needs.

    Example::

        await authenticate(link, Login("jane", password))
    """
    if link.conn.authenticated:
        raise LocalProtocolError("this session is authenticated already (RFC 4954 4)")
    names = _choose(link, login)
    name = next(names)
    token = await login.fetch()
    fresh = not callable(login.token)
    while True:
        mechanism = _mechanism(link, login, name, token)
        reply = await _exchange(link, mechanism)
        if reply.is_positive:
            return reply
        if reply.code == _WRONG and not fresh:
            fresh, refused = True, token
            token = await login.fetch()
            if token != refused:
                continue
        following = next(names, None) if reply.code in _TRY_ANOTHER else None
        if following is None:
            said = one_line(reply)
            status = getattr(mechanism, "error", None)  # what the server says of a token (RFC 7628 3.2.2)
            more = (
                f" ({status['status']})" if isinstance(status, dict) and isinstance(status.get("status"), str) else ""
            )
            raise SMTPAuthenticationError(
                f"the server refused AUTH {name}: {said}{more}", reply=reply, transcript=link.transcript
            )
        name = following


async def _exchange(link: Link, mechanism: ClientMechanism) -> Reply:
    """One AUTH: its reply."""
    conn = link.conn
    if link.is_over():  # with the reply to EHLO, or while a token was fetched (RFC 5321 3.8)
        raise link.error()
    number = conn.auth(mechanism.name, mechanism.initial())
    wrong: SaslError | None = None
    while number not in link.replies:
        if (challenge := link.challenge) is not None:
            link.challenge = None
            try:
                conn.respond(mechanism.respond(challenge.challenge))
            except SaslError as exc:
                wrong = exc
                conn.cancel()  # by "*" (RFC 4954 4)
        else:
            await link.progress()
    reply = link.replies.pop(number)
    if reply is None:
        raise link.error()
    if wrong is None and reply.is_positive:
        try:
            mechanism.verify()
        except SaslError as exc:
            wrong = exc
    if wrong is not None:
        if reply.is_positive:
            link.abort()
        raise SMTPAuthenticationError(str(wrong), reply=reply, transcript=link.transcript) from wrong
    return reply
