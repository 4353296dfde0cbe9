"""The values that handlers of this shape see: :class:`Session`, :class:`Envelope`, :class:`AuthResult`."""

from __future__ import annotations

import asyncio
import enum
import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ehlo.compat.aiosmtpd.proxy_protocol import ProxyData

__all__ = ["MISSING", "AuthResult", "Envelope", "LoginPassword", "Session", "TLSSetupException"]

log: Final = logging.getLogger("mail.log")


class _Missing(enum.Enum):
    MISSING = object()


MISSING: Final = _Missing.MISSING
"""There is no answer: the hook is not there, or the client gave none."""


class TLSSetupException(Exception):  # noqa: N818
    """The TLS handshake failed."""


@dataclass(kw_only=True, repr=False)
class AuthResult:
    """The result of ``auth_*`` and of an authenticator.

    Arguments:
        success: the client is let in.
        handled: if it is not: the reply was pushed already.
        message: the reply; by default the usual one.
        auth_data: what ``session.auth_data`` is to be.
    """

    success: bool
    handled: bool = True
    message: str | None = None
    auth_data: Any = None

    def __repr__(self) -> str:
        words = f"success={self.success!r}, handled={self.handled!r}, message={self.message!r}"
        return f"AuthResult({words}, auth_data=...)"


class LoginPassword(NamedTuple):
    """What PLAIN and LOGIN bring."""

    login: bytes
    password: bytes

    def __str__(self) -> str:
        return f"LoginPassword(login='{self.login.decode()}', password=...)"

    def __repr__(self) -> str:
        return str(self)


class Session:
    """What is known of a client.

    Attributes:
        peer: what ``getpeername`` gives.
        ssl: the facts of TLS, like ``"peercert"``; ``None`` in the clear.
        host_name: the name in EHLO, HELO or LHLO.
        extended_smtp: whether it was EHLO or LHLO.
        proxy_data: the PROXY header.
        authenticated, auth_data: the outcome of AUTH.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.peer: Any = None
        self.ssl: dict[str, Any] | None = None
        self.host_name: str | None = None
        self.extended_smtp = False
        self.loop = loop
        self.proxy_data: ProxyData | None = None
        self._login_data: Any = None
        self.auth_data: Any = None
        self.authenticated: bool | None = None

    @property
    def login_data(self) -> Any:
        """The old name of ``auth_data``."""
        log.warning("Session.login_data is deprecated and will be removed in version 2.0")
        return self._login_data

    @login_data.setter
    def login_data(self, value: Any) -> None:
        log.warning("Session.login_data is deprecated and will be removed in version 2.0")
        self._login_data = value


class Envelope:
    """One message: from whom, for whom, and its content.

    Attributes:
        content: the octets, or with ``decode_data`` the text.
        original_content: the octets.
    """

    mail_from: str | None = None
    smtp_utf8 = False
    content: bytes | str | None = None
    original_content: bytes | None = None

    def __init__(self) -> None:
        self.mail_options: list[str] = []
        self.rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
