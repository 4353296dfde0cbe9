"""AUTH, the client's side (RFC 4954): which mechanism, in what order, and when to stop. No I/O, no event loop.

The exchange itself is the mechanism's (:mod:`ehlo._sasl`), and what goes over the wire is the engine's. Secrets are in
no ``repr``, transcript or exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError, SMTPAuthenticationError, SMTPNotSupportedError, one_line
from ehlo._sasl import MECHANISMS, ClientMechanism, SaslError, client_mechanism

if TYPE_CHECKING:
    from ehlo._link import ClientDriver

__all__ = ["Login", "LoginLike", "TokenSource", "authenticate", "login_of"]

TokenSource: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what fetches one: a function, plain or async."""

# C-AUT-29. CRAM-MD5 is used by those only that name it: its server has to know the password in clear.
_BY_PASSWORD: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "PLAIN",
    "LOGIN",
)
_BY_TOKEN: Final = ("OAUTHBEARER", "XOAUTH2")
# Whoever listens has the secret.
_READABLE: Final = frozenset(("PLAIN", "LOGIN", *_BY_TOKEN))
# Replies that are about the mechanism, not about the credentials (C-AUT-30, RFC 4954 4 and 6).
_TRY_ANOTHER: Final = frozenset((504, 534, 538))
_WRONG: Final = 535


@dataclass(frozen=True, slots=True)
class Login:
    """Who a client says it is, and how it may prove it (RFC 4954). With neither password nor token: EXTERNAL, by the
    certificate that ``ssl_context`` has for us (RFC 4422 App. A).

    Arguments:
        username: whose credentials these are.
        password: in clear.
        token: a bearer token for OAUTHBEARER (RFC 7628) or XOAUTH2, or a function, plain or async, that fetches one. It
            is called once more when the server refuses the token: it should know that the last one was no good.
        authzid: whom to act as, if not ``username``.
        mechanisms: those that may be used, the first that the server offers first; by default SCRAM-SHA-256,
            SCRAM-SHA-1, each with its -PLUS before it, then PLAIN and LOGIN; for a token OAUTHBEARER, XOAUTH2.
        allow_clear: let the mechanisms that show the secret to whoever listens (PLAIN, LOGIN and those of tokens) be
            used without TLS, or in TLS with a server that nobody verified.

    Raises:
        LocalProtocolError: a mechanism is not there, or password and token are both given.

    Example::

        login = ehlo.Login("jane", password, mechanisms=["SCRAM-SHA-256"])
        async with ehlo.asyncio.connect("mx.example", 587, tls="required", auth=login) as client: ...
    """

    username: str = ""
    password: str | None = field(default=None, repr=False)
    _: KW_ONLY
    token: TokenSource | None = field(default=None, repr=False)
    authzid: str = ""
    mechanisms: Sequence[str] | None = None
    allow_clear: bool = False

    def __post_init__(self) -> None:
        if self.password is not None and self.token is not None:
            raise LocalProtocolError("a login has a password or a token, not both")
        if self.mechanisms is not None:
            given = (self.mechanisms,) if isinstance(self.mechanisms, str) else self.mechanisms
            names = tuple(name.upper() for name in given)
            unknown = [name for name in names if name not in MECHANISMS]
            if unknown or not names:
                there = ", ".join(sorted(MECHANISMS))
                raise LocalProtocolError(
                    f"no mechanism that is there: {', '.join(unknown) or 'none'}; there are {there}"
                )
            object.__setattr__(self, "mechanisms", names)

    @property
    def order(self) -> Sequence[str]:
        """The mechanisms that may be used, the best first (C-AUT-29)."""
        if self.mechanisms is not None:
            return self.mechanisms
        return _BY_PASSWORD if self.password is not None else _BY_TOKEN if self.token is not None else ("EXTERNAL",)

    async def fetch(self) -> str | None:
        """The token as it is now."""
        source = self.token
        if source is None or isinstance(source, str):
            return source
        token = source()
        return await token if inspect.isawaitable(token) else token


LoginLike: TypeAlias = Login | tuple[str, str]
"""A :class:`Login`, or user name and password."""


def login_of(given: LoginLike) -> Login:
    """``given`` as a :class:`Login`.

    Example::

        login_of(("jane", password)).username  # "jane"
    """
    return given if isinstance(given, Login) else Login(*given)


def _choose(link: ClientDriver, login: Login) -> Iterator[str]:
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


def _mechanism(link: ClientDriver, login: Login, name: str, token: str | None) -> ClientMechanism:
    # A client that could bind says so ("y") only where the server did not offer -PLUS: else it would be taken for the
    # victim of a downgrade (RFC 5802 6).
    bound = name.endswith("-PLUS") or f"{name}-PLUS" not in link.conn.capabilities.auth
    return client_mechanism(
        name,
        username=login.username,
        password=login.password,
        token=token,
        authzid=login.authzid,
        host=link.opening.host,
        port=link.opening.port if link.opening.host is not None else None,
        channel_binding=link.channel_binding if bound else None,
    )


async def authenticate(link: ClientDriver, login: Login) -> Reply:
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


async def _exchange(link: ClientDriver, mechanism: ClientMechanism) -> Reply:
    """One AUTH: its reply."""
    conn = link.conn
    if link.disconnect is not None:  # with the reply to EHLO, or while a token was fetched (RFC 5321 3.8)
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
