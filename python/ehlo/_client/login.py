"""Who a client says it is (RFC 4954): user name, and password or token. Secrets are in no ``repr``."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, TypeAlias

from ehlo._errors import LocalProtocolError
from ehlo._sasl.common import MECHANISMS, check_text

__all__ = ["Login", "LoginLike", "TokenSource", "login_of"]

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


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials of a client for AUTH (RFC 4954). Without a password and a token the client uses EXTERNAL, with
    the client certificate of ``ssl_context`` (RFC 4422 App. A).

    Arguments:
        username: the name of the user.
        password: the password, in clear text.
        token: a bearer token for OAUTHBEARER (RFC 7628) or XOAUTH2, or a function, plain or async, that fetches one. If
            the server refuses the token, the function is called once more, and must then return a fresh one.
        authzid: the name of the user to act as, if it is not ``username``.
        mechanisms: the mechanisms that may be used, in this order. By default SCRAM-SHA-256 and SCRAM-SHA-1, each with
            its -PLUS before it, then PLAIN and LOGIN; for a token OAUTHBEARER and XOAUTH2.
        allow_clear: allow the mechanisms that show the secret (PLAIN, LOGIN, OAUTHBEARER, XOAUTH2) without TLS, and in
            TLS with an unverified server.

    Raises:
        LocalProtocolError: a mechanism is unknown, or both password and token are given.

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
        for name, value in (("username", self.username), ("password", self.password), ("authzid", self.authzid)):
            check_text(f"a login's {name}", value)
        if not callable(self.token):
            check_text("a login's token", self.token)
        if self.mechanisms is not None:
            given = (self.mechanisms,) if isinstance(self.mechanisms, str) else self.mechanisms
            names = tuple(name.upper() for name in given)
            unknown = [name for name in names if name not in MECHANISMS]
            if unknown or not names:
                known = ", ".join(sorted(MECHANISMS))
                raise LocalProtocolError(f"unknown SASL mechanism: {', '.join(unknown) or 'none'} (available: {known})")
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
        given = source()
        token = await given if inspect.isawaitable(given) else given
        check_text("the token that was fetched", token)
        return token


LoginLike: TypeAlias = Login | tuple[str, str]
"""A :class:`Login`, or user name and password."""


def login_of(given: LoginLike) -> Login:
    """``given`` as a :class:`Login`.

    Example::

        login_of(("jane", password)).username  # "jane"
    """
    return given if isinstance(given, Login) else Login(*given)
