"""The commands of :class:`ehlo.compat.aiosmtplib.SMTP`, one by one."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import socket
import ssl
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Final, Literal, TypeAlias, Unpack

from ehlo.compat._aiosmtplib_mail import parse_address, quote_address
from ehlo.compat._aiosmtplib_protocol import SMTPProtocol
from ehlo.compat._aiosmtplib_settings import (
    Settings,
    SMTPTokenGenerator,
    SocketPathType,
    TlsOptions,
    checked_hostname,
    tls_context_of,
)
from ehlo.compat._aiosmtplib_values import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupported,
    SMTPRecipientRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPStatus,
    SMTPTimeoutError,
)
from ehlo.compat._courier import Courier

__all__ = [
    "Commands",
    "Default",
    "SMTPStatus",
    "SMTPTokenGenerator",
    "SocketPathType",
    "Timeout",
    "auth_crammd5_verify",
    "auth_login_encode",
    "auth_plain_encode",
    "auth_xoauth2_encode",
    "parse_esmtp_extensions",
    "wants_utf8",
]


class Default(Enum):
    """What stands for an argument that was not given."""

    token = 0


Timeout: TypeAlias = float | Literal[Default.token] | None
"""Seconds; ``None`` for as long as it takes; or the client's own."""


class Commands(Settings):
    """A session over ``protocol``. :class:`ehlo.compat.aiosmtplib.SMTP` makes the connection."""

    AUTH_METHODS: ClassVar[tuple[str, ...]] = ("cram-md5", "plain", "login")

    protocol: SMTPProtocol | None = None
    transport: Any = None
    loop: asyncio.AbstractEventLoop | None = None
    last_helo_response: SMTPResponse | None = None
    _last_ehlo_response: SMTPResponse | None = None
    supports_esmtp: bool = False
    _connect_lock: asyncio.Lock | None = None
    _courier: Courier | None = None

    def __init__(self) -> None:
        self.esmtp_extensions: dict[str, str] = {}
        self.server_auth_methods: list[str] = []

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self.protocol is not None and self.protocol.is_connected

    @property
    def last_ehlo_response(self) -> SMTPResponse | None:
        """The reply to EHLO; to set it is to learn what the server offers."""
        return self._last_ehlo_response

    @last_ehlo_response.setter
    def last_ehlo_response(self, response: SMTPResponse) -> None:
        self._last_ehlo_response = response
        self.esmtp_extensions, self.server_auth_methods = parse_esmtp_extensions(response.message)
        self.supports_esmtp = True

    @property
    def is_ehlo_or_helo_needed(self) -> bool:
        """Whether no hello was said."""
        return self.last_ehlo_response is None and self.last_helo_response is None

    @property
    def supported_auth_methods(self) -> list[str]:
        """The mechanisms that both sides have, ours first."""
        return [name for name in self.AUTH_METHODS if name in self.server_auth_methods]

    def supports_extension(self, extension: str, /) -> bool:
        """Whether the server offers an extension."""
        return extension.lower() in self.esmtp_extensions

    def get_transport_info(self, key: str) -> Any:
        """What the transport knows, such as ``"peername"``, ``"cipher"`` and ``"sslcontext"``.

        Raises:
            SMTPServerDisconnected: there is no connection.
        """
        if not (self.is_connected and self.transport):
            raise SMTPServerDisconnected("Server not connected")
        return self.transport.get_extra_info(key)

    # ---- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection without a word."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
        if self._connect_lock is not None and self._connect_lock.locked():
            self._connect_lock.release()
        self.protocol = None
        self.transport = None
        self._reset_server_state()

    def _reset_server_state(self) -> None:
        self.last_helo_response = self._last_ehlo_response = None
        self.esmtp_extensions = {}
        self.server_auth_methods = []
        self.supports_esmtp = False
        self._courier = None

    # ---- one command -----------------------------------------------------------------------------

    def _seconds(self, timeout: Timeout) -> float | None:
        return self.timeout if isinstance(timeout, Default) else timeout

    async def execute_command(self, *args: bytes, timeout: Timeout = Default.token) -> SMTPResponse:
        """Send a command, and wait for the reply. After a 421 the connection is closed.

        Raises:
            SMTPServerDisconnected, SMTPTimeoutError: the connection ended.
            ValueError: an argument has a control character.
        """
        if self.protocol is None:
            raise SMTPServerDisconnected("Server not connected")
        try:
            response = await self.protocol.execute_command(*args, timeout=self._seconds(timeout))
        except (SMTPServerDisconnected, SMTPTimeoutError):
            self.close()
            raise
        if response.code == SMTPStatus.domain_unavailable:
            self.close()
        return response

    async def _command(
        self, *args: bytes, timeout: Timeout, good: tuple[int, ...] = (SMTPStatus.completed,)
    ) -> SMTPResponse:
        """A command after the hello."""
        await self._ehlo_or_helo_if_needed()
        response = await self.execute_command(*args, timeout=timeout)
        if response.code not in good:
            raise SMTPResponseException(response.code, response.message)
        return response

    async def _hello(self, verb: bytes, hostname: str | None, timeout: Timeout) -> SMTPResponse:
        if hostname is not None:
            hostname = checked_hostname(hostname)
        else:
            if self.local_hostname is None:
                self.local_hostname: str | None = await self._get_default_local_hostname()
            hostname = self.local_hostname
        response = await self.execute_command(verb, hostname.encode("ascii"), timeout=timeout)
        if response.code != SMTPStatus.completed:
            raise SMTPHeloError(response.code, response.message)
        return response

    async def _get_default_local_hostname(self) -> str:
        return await asyncio.to_thread(socket.getfqdn)

    async def helo(self, *, hostname: str | None = None, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say HELO (RFC 5321 4.1.1.1).

        Raises:
            SMTPHeloError: the server refuses.
        """
        self.last_helo_response = response = await self._hello(b"HELO", hostname, timeout)
        return response

    async def ehlo(self, *, hostname: str | None = None, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say EHLO, and learn what the server offers (RFC 5321 4.1.1.1).

        Raises:
            SMTPHeloError: the server refuses.
        """
        self.last_ehlo_response = response = await self._hello(b"EHLO", hostname, timeout)
        return response

    async def _ehlo_or_helo_if_needed(self) -> None:
        if self.is_ehlo_or_helo_needed:
            try:
                await self.ehlo()
            except SMTPHeloError:
                if not self.is_connected:
                    raise
                await self.helo()

    async def help(self, *, timeout: Timeout = Default.token) -> str:
        """Say HELP (RFC 5321 4.1.1.8); gives the text."""
        good = (SMTPStatus.system_status_ok, SMTPStatus.help_message, SMTPStatus.completed)
        return (await self._command(b"HELP", timeout=timeout, good=good)).message

    async def rset(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say RSET (RFC 5321 4.1.1.5)."""
        return await self._command(b"RSET", timeout=timeout)

    async def noop(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say NOOP (RFC 5321 4.1.1.9)."""
        return await self._command(b"NOOP", timeout=timeout)

    async def vrfy(
        self, address: str, /, *, options: Iterable[str] | None = None, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say VRFY (RFC 5321 4.1.1.6)."""
        good = (SMTPStatus.completed, SMTPStatus.will_forward, SMTPStatus.cannot_vrfy)
        return await self._about(b"VRFY", address, options, timeout, good)

    async def expn(
        self, address: str, /, *, options: Iterable[str] | None = None, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say EXPN (RFC 5321 4.1.1.7)."""
        return await self._about(b"EXPN", address, options, timeout, (SMTPStatus.completed,))

    async def _about(
        self, verb: bytes, address: str, options: Iterable[str] | None, timeout: Timeout, good: tuple[int, ...]
    ) -> SMTPResponse:
        await self._ehlo_or_helo_if_needed()
        words = list(options or ())
        utf8 = wants_utf8(words)
        if utf8 and not self.supports_extension("smtputf8"):
            raise SMTPNotSupported("SMTPUTF8 is not supported by this server")
        octets = parse_address(address).encode("utf-8" if utf8 else "ascii")
        return await self._command(verb, octets, *map(str.encode, words), timeout=timeout, good=good)

    async def quit(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say QUIT, and close (RFC 5321 4.1.1.10).

        Raises:
            SMTPResponseException: the server says anything but 221.
        """
        response = await self.execute_command(b"QUIT", timeout=timeout)
        if response.code != SMTPStatus.closing:
            raise SMTPResponseException(response.code, response.message)
        self.close()
        return response

    async def _say_path(
        self, verb: bytes, keyword: bytes, address: str, options: Iterable[str] | None, encoding: str, timeout: Timeout
    ) -> SMTPResponse:
        """MAIL or RCPT, after EHLO."""
        await self._ehlo_or_helo_if_needed()
        path = keyword + quote_address(address).encode(encoding)
        return await self.execute_command(verb, path, *map(str.encode, options or ()), timeout=timeout)

    async def mail(
        self,
        sender: str,
        /,
        *,
        options: Iterable[str] | None = None,
        encoding: str = "ascii",
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Say MAIL (RFC 5321 4.1.1.2).

        Raises:
            SMTPSenderRefused: the server refuses.
        """
        response = await self._say_path(b"MAIL", b"FROM:", sender, options, encoding, timeout)
        if response.code != SMTPStatus.completed:
            raise SMTPSenderRefused(response.code, response.message, sender)
        return response

    async def rcpt(
        self,
        recipient: str,
        /,
        *,
        options: Iterable[str] | None = None,
        encoding: str = "ascii",
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Say RCPT (RFC 5321 4.1.1.3).

        Raises:
            SMTPRecipientRefused: the server refuses.
        """
        response = await self._say_path(b"RCPT", b"TO:", recipient, options, encoding, timeout)
        if response.code not in (SMTPStatus.completed, SMTPStatus.will_forward):
            raise SMTPRecipientRefused(response.code, response.message, recipient)
        return response

    async def data(self, message: str | bytes, /, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Say DATA, and send the content (RFC 5321 4.1.1.4).

        Raises:
            SMTPDataError: the server refuses.
        """
        if self.protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        await self._ehlo_or_helo_if_needed()
        octets = message.encode("ascii") if isinstance(message, str) else message
        try:
            return await self.protocol.execute_data_command(octets, timeout=self._seconds(timeout))
        except (SMTPServerDisconnected, SMTPTimeoutError):
            self.close()
            raise

    # ---- TLS -------------------------------------------------------------------------------------

    async def _get_tls_context(self) -> ssl.SSLContext:
        return await asyncio.to_thread(tls_context_of, self)

    async def starttls(
        self, *, server_hostname: str | None = None, timeout: Timeout = Default.token, **options: Unpack[TlsOptions]
    ) -> SMTPResponse:
        """Say STARTTLS, and begin TLS (RFC 3207). What the server offered before is forgotten.

        Arguments:
            server_hostname: to verify the certificate by; ``hostname`` by default.
            timeout: seconds.
            options: ``validate_certs``, ``client_cert``, ``client_key``, ``cert_bundle``, ``tls_context``.

        Raises:
            SMTPException: it is not offered, or there is TLS.
            SMTPResponseException: the server refuses.
            ssl.SSLError: the handshake fails.
        """
        if self.protocol is None:
            raise SMTPServerDisconnected("Server not connected")
        if self.get_transport_info("sslcontext") is not None:
            raise SMTPException("Connection already using TLS")
        self._set(options)
        await self._ehlo_or_helo_if_needed()
        context = await self._get_tls_context()
        if not self.supports_extension("starttls"):
            raise SMTPException("SMTP STARTTLS extension not supported by server.")
        name = self.hostname if server_hostname is None else server_hostname
        try:
            response = await self.protocol.start_tls(context, server_hostname=name, timeout=self._seconds(timeout))
        except (SMTPServerDisconnected, SMTPTimeoutError):
            self.close()
            raise
        self.transport = self.protocol.transport
        self._reset_server_state()
        return response

    # ---- AUTH ------------------------------------------------------------------------------------

    async def login(
        self, username: str | bytes, password: str | bytes, /, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say AUTH by CRAM-MD5, PLAIN or LOGIN, whatever the server accepts first (RFC 4954).

        Raises:
            SMTPAuthenticationError: it refuses.
            SMTPException: it offers none of them.
        """
        await self._ehlo_or_helo_if_needed()
        if not self.supports_extension("auth"):
            hint = ""
            if self.is_connected and self.get_transport_info("sslcontext") is None:
                hint = " Try connecting via TLS (or STARTTLS)."
            raise SMTPException(f"The SMTP AUTH extension is not supported by this server.{hint}")
        refusal: SMTPException = SMTPException("No suitable authentication method found.")
        for name in self.supported_auth_methods:
            method = getattr(self, f"auth_{name.replace('-', '')}", None)
            if method is None:
                raise RuntimeError(f"Missing handler for auth method {name}")
            try:
                response: SMTPResponse = await method(username, password, timeout=timeout)
            except SMTPAuthenticationError as exc:
                refusal = exc
            else:
                return response
        raise refusal

    async def _auth(self, *args: bytes, timeout: Timeout, expected: int) -> SMTPResponse:
        response = await self.execute_command(*args, timeout=timeout)
        if response.code != expected:
            raise SMTPAuthenticationError(response.code, response.message)
        return response

    async def auth_crammd5(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say AUTH CRAM-MD5 (RFC 2195)."""
        asked = await self._auth(b"AUTH", b"CRAM-MD5", timeout=timeout, expected=SMTPStatus.auth_continue)
        answer = auth_crammd5_verify(username, password, asked.message)
        return await self._auth(answer, timeout=timeout, expected=SMTPStatus.auth_successful)

    async def auth_plain(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say AUTH PLAIN (RFC 4616)."""
        response = auth_plain_encode(username, password)
        return await self._auth(b"AUTH", b"PLAIN", response, timeout=timeout, expected=SMTPStatus.auth_successful)

    async def auth_login(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say AUTH LOGIN."""
        name, secret = auth_login_encode(username, password)
        await self._auth(b"AUTH", b"LOGIN", name, timeout=timeout, expected=SMTPStatus.auth_continue)
        return await self._auth(secret, timeout=timeout, expected=SMTPStatus.auth_successful)

    async def auth_xoauth2(
        self, username: str | bytes, access_token: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Say AUTH XOAUTH2."""
        await self._ehlo_or_helo_if_needed()
        token = auth_xoauth2_encode(username, access_token)
        response = await self.execute_command(b"AUTH", b"XOAUTH2", token, timeout=timeout)
        if response.code == SMTPStatus.auth_continue:  # an error in JSON: the empty answer brings the reply
            response = await self.execute_command(b"", timeout=timeout)
        if response.code != SMTPStatus.auth_successful:
            raise SMTPAuthenticationError(response.code, response.message)
        return response


_OLD_AUTH: Final = re.compile(r"auth=(.*)", re.IGNORECASE)


def parse_esmtp_extensions(message: str) -> tuple[dict[str, str], list[str]]:
    """The keywords of a reply to EHLO in lower case, with their parameters; and the mechanisms of AUTH."""
    extensions: dict[str, str] = {}
    mechanisms: list[str] = []
    for line in filter(None, map(str.strip, message.split("\n")[1:])):
        old = _OLD_AUTH.fullmatch(line)
        keyword, _, parameters = ("auth", "", old[1]) if old is not None else line.partition(" ")
        extensions[keyword.lower()] = parameters
        if keyword.lower() == "auth":
            mechanisms += parameters.lower().split()
    return extensions, mechanisms


def wants_utf8(options: Iterable[str]) -> bool:
    return any(option.lower() == "smtputf8" for option in options)


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def auth_crammd5_verify(username: str | bytes, password: str | bytes, challenge: str | bytes, /) -> bytes:
    """The response to a challenge of CRAM-MD5 (RFC 2195), both in base64.

    Raises:
        SMTPAuthenticationError: the challenge is not base64.
    """
    try:
        asked = base64.b64decode(challenge)
    except (binascii.Error, ValueError) as exc:
        text = f"Invalid CRAM-MD5 challenge from server: {challenge!r}"
        raise SMTPAuthenticationError(SMTPStatus.auth_continue, text) from exc
    digest = hmac.new(_octets(password), asked, "md5").hexdigest()
    return base64.b64encode(_octets(username) + b" " + digest.encode())


def auth_plain_encode(username: str | bytes, password: str | bytes, /) -> bytes:
    """The response of PLAIN in base64 (RFC 4616)."""
    return base64.b64encode(b"\0" + _octets(username) + b"\0" + _octets(password))


def auth_login_encode(username: str | bytes, password: str | bytes, /) -> tuple[bytes, bytes]:
    """The responses of LOGIN in base64."""
    return base64.b64encode(_octets(username)), base64.b64encode(_octets(password))


def auth_xoauth2_encode(username: str | bytes, access_token: str | bytes, /) -> bytes:
    """The response of XOAUTH2 in base64."""
    return base64.b64encode(b"user=%b\x01auth=Bearer %b\x01\x01" % (_octets(username), _octets(access_token)))
