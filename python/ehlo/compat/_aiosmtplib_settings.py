"""The keyword arguments of :class:`ehlo.compat.aiosmtplib.SMTP`: kept on the object, and checked."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypedDict

__all__ = [
    "DEFAULT_TIMEOUT",
    "SMTP_PORT",
    "SMTP_STARTTLS_PORT",
    "SMTP_TLS_PORT",
    "Options",
    "SMTPTokenGenerator",
    "Settings",
    "SocketPathType",
    "TlsOptions",
    "checked_hostname",
    "tls_context_of",
]

SMTPTokenGenerator: TypeAlias = Callable[[], Awaitable[str]]
"""Fetches an access token."""

SocketPathType: TypeAlias = str | bytes | os.PathLike[str]
"""The path of a Unix socket."""

DEFAULT_TIMEOUT: Final = 60
SMTP_PORT: Final = 25
SMTP_TLS_PORT: Final = 465
SMTP_STARTTLS_PORT: Final = 587


class TlsOptions(TypedDict, total=False):
    """What STARTTLS is told: the attributes of these names in :class:`Options`."""

    validate_certs: bool | None
    client_cert: str | None
    client_key: str | None
    tls_context: ssl.SSLContext | None
    cert_bundle: str | None


class Options(TlsOptions, total=False):
    """What a client is told.

    Attributes:
        hostname: of the server; "localhost" by default.
        port: 465 by default with ``use_tls``, 587 with ``start_tls``, else 25.
        username, password: to log in with, as soon as it is connected.
        oauth_token_generator: fetches a token for XOAUTH2, in the place of a password.
        local_hostname: what to say in EHLO; by default this machine's name.
        source_address: the address and port to connect from.
        timeout: seconds for each wait; 60 by default.
        use_tls: TLS from the beginning (RFC 8314 3.3).
        start_tls: ``True``: STARTTLS; ``None``: where it is offered; ``False``: never.
        validate_certs: whether the certificate must be in order.
        client_cert, client_key, cert_bundle: paths of PEM files.
        tls_context: in the place of these.
        socket_path: of a Unix socket.
        sock: a connected socket.
    """

    hostname: str | None
    port: int | None
    username: str | bytes | None
    password: str | bytes | None
    oauth_token_generator: SMTPTokenGenerator | None
    local_hostname: str | None
    source_address: tuple[str, int] | None
    timeout: float | None
    use_tls: bool | None
    start_tls: bool | None
    socket_path: SocketPathType | None
    sock: socket.socket | None


# Where an attribute of the client has another name than its argument.
_NAMES: Final = {
    "username": "_login_username",
    "password": "_login_password",
    "oauth_token_generator": "_oauth_token_generator",
    "start_tls": "_start_tls_on_connect",
}


class Settings:
    """The settings of a client, as attributes."""

    hostname: str | None = None
    port: int | None = None
    _login_username: str | bytes | None = None
    _login_password: str | bytes | None = None
    _oauth_token_generator: SMTPTokenGenerator | None = None
    local_hostname: str | None = None
    source_address: tuple[str, int] | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    use_tls: bool = False
    _start_tls_on_connect: bool | None = None
    validate_certs: bool = True
    client_cert: str | None = None
    client_key: str | None = None
    tls_context: ssl.SSLContext | None = None
    cert_bundle: str | None = None
    socket_path: SocketPathType | None = None
    sock: socket.socket | None = None

    def _set(self, options: Any) -> None:
        """Keep these, and check all.

        Raises:
            TypeError: there is no such setting.
            ValueError: they do not go together.
        """
        for name, value in options.items():
            if name not in Options.__annotations__:
                raise TypeError(f"SMTP has no argument {name!r}")
            if value is None and name in ("use_tls", "validate_certs"):
                continue
            setattr(self, _NAMES.get(name, name), value)
        self._validate_config()

    def _validate_config(self) -> None:
        wrong = None
        given = self.sock is not None or self.socket_path is not None
        if self._login_password is not None and self._oauth_token_generator is not None:
            wrong = "password and oauth_token_generator are mutually exclusive"
        elif self._start_tls_on_connect and self.use_tls:
            wrong = "The start_tls and use_tls options are not compatible."
        elif self.tls_context is not None and self.client_cert is not None:
            wrong = "Either a TLS context or a certificate/key must be provided"
        elif self.sock is not None and self.socket_path is not None:
            wrong = "Either a socket or a socket path must be provided, not both"
        elif given and self.port is not None:
            wrong = "If using a socket, port is not required"
        elif given and self.use_tls and self.hostname is None:
            wrong = "If using a socket with TLS, hostname is required"
        elif self.hostname is not None and ("\r" in self.hostname or "\n" in self.hostname):
            wrong = "The hostname param contains prohibited newline characters"
        if wrong is not None:
            raise ValueError(wrong)
        if self.local_hostname is not None:
            self.local_hostname = checked_hostname(self.local_hostname)

    def _get_default_port(self) -> int:
        if self.use_tls:
            return SMTP_TLS_PORT
        return SMTP_STARTTLS_PORT if self._start_tls_on_connect else SMTP_PORT


def checked_hostname(name: str) -> str:
    """A name for EHLO, without space around it.

    Raises:
        ValueError: it is empty, or has what a command line cannot have in one word.
    """
    name = name.strip()
    if not name:
        raise ValueError("The local_hostname param must not be empty")
    if any(char.isspace() or not char.isprintable() for char in name):
        raise ValueError("The local_hostname param contains prohibited whitespace or control characters")
    return name


def tls_context_of(settings: Settings) -> ssl.SSLContext:
    """The context of the settings, or one made of them: that reads files.

    Raises:
        OSError, ssl.SSLError: a file cannot be read.
    """
    if settings.tls_context is not None:
        return settings.tls_context
    context = ssl.create_default_context()
    if not settings.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_bundle is not None:
        context.load_verify_locations(cafile=settings.cert_bundle)
    if settings.client_cert is not None:
        context.load_cert_chain(settings.client_cert, keyfile=settings.client_key)
    return context
