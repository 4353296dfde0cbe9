"""The shape of aiosmtplib: :class:`SMTP` and :func:`send`, with the engine of this package.

Write ``from ehlo.compat import aiosmtplib`` in the place of ``import aiosmtplib``. Methods, arguments, return values,
attributes and exceptions are aiosmtplib's. ``sendmail``, ``send_message`` and ``send`` go through the engine: in as few
round trips as the server allows. A single command goes out as it is given, as there.

docs/moving-from-aiosmtplib.md says what differs on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from email.message import Message
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, Unpack

from ehlo._core import Recipient, Sender, SendResult
from ehlo._errors import LocalProtocolError
from ehlo.compat._aiosmtplib_commands import Commands, Default, Timeout, wants_utf8
from ehlo.compat._aiosmtplib_mail import (
    extract_recipients,
    extract_sender,
    flatten_message,
    normalize_message_line_endings,
    parse_address,
)
from ehlo.compat._aiosmtplib_protocol import SMTPProtocol
from ehlo.compat._aiosmtplib_settings import (
    DEFAULT_TIMEOUT,
    SMTP_PORT,
    SMTP_STARTTLS_PORT,
    SMTP_TLS_PORT,
    Options,
    SMTPTokenGenerator,
)
from ehlo.compat._aiosmtplib_values import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPConnectResponseError,
    SMTPConnectTimeoutError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupported,
    SMTPReadTimeoutError,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPStatus,
    SMTPTimeoutError,
)
from ehlo.compat._courier import Courier, text_of

__all__ = [
    "DEFAULT_TIMEOUT",
    "SMTP",
    "SMTP_PORT",
    "SMTP_STARTTLS_PORT",
    "SMTP_TLS_PORT",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPConnectResponseError",
    "SMTPConnectTimeoutError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupported",
    "SMTPReadTimeoutError",
    "SMTPRecipientRefused",
    "SMTPRecipientsRefused",
    "SMTPResponse",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "SMTPStatus",
    "SMTPTimeoutError",
    "SMTPTokenGenerator",
    "send",
]

Outcome: TypeAlias = tuple[dict[str, SMTPResponse], str]
"""The refusals by recipient, and the text of the reply to the content."""


class SMTP(Commands):
    """A session with an SMTP server, as ``aiosmtplib.SMTP`` has it.

    Arguments:
        options: see :class:`ehlo.compat._aiosmtplib_settings.Options`.

    Raises:
        ValueError: they do not go together.

    Example::

        async with aiosmtplib.SMTP(hostname="mx.example") as client:
            await client.sendmail("a@b.example", ["c@d.example"], octets)
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._sendmail_lock: asyncio.Lock | None = None
        self._set(options)

    async def __aenter__(self) -> Self:
        if not self.is_connected:
            await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not isinstance(exc, ConnectionError | TimeoutError):
                await self.quit()
        except (SMTPServerDisconnected, SMTPResponseException, SMTPTimeoutError):
            pass
        finally:
            self.close()

    # ---- the connection --------------------------------------------------------------------------

    async def connect(self, **options: Unpack[Options]) -> SMTPResponse:
        """Connect, with STARTTLS and AUTH as the settings say.

        Arguments:
            options: as for the class. They are kept, but for ``timeout``.

        Returns:
            The greeting.

        Raises:
            SMTPConnectError, SMTPConnectTimeoutError: the server cannot be reached.
            SMTPConnectResponseError: it greets with a refusal.
            SMTPException: it is connected, or AUTH or STARTTLS fails.
            ValueError: the options do not go together.
        """
        timeout = options.pop("timeout") if "timeout" in options else self.timeout
        self._set(options)
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        if self._connect_lock is None:
            self._connect_lock = asyncio.Lock()
        if self.is_connected:
            raise SMTPException("SMTP instance is already connected")
        await self._connect_lock.acquire()  # until close()
        try:
            if self.local_hostname is None:
                self.local_hostname: str | None = await self._get_default_local_hostname()
            response = await self._create_connection(timeout)
            await self._maybe_start_tls_on_connect()
            await self._maybe_login_on_connect()
        except BaseException:
            self.close()
            raise
        return response

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:
        if self.loop is None:
            raise RuntimeError("No event loop set")
        protocol = SMTPProtocol(self.loop, self._on_connection_lost)
        tls: dict[str, Any] = {}
        loop: Any = self.loop
        if self.use_tls:
            tls = {"ssl": await self._get_tls_context(), "ssl_handshake_timeout": timeout}
        host = "localhost" if self.hostname is None else self.hostname
        port = self._get_default_port() if self.port is None else self.port
        where = f"{host} on port {port}"
        named = {"server_hostname": self.hostname} if tls else {}
        if self.sock is not None:
            connecting = loop.create_connection(lambda: protocol, sock=self.sock, **named, **tls)
        elif self.socket_path is not None:
            connecting = loop.create_unix_connection(lambda: protocol, path=self.socket_path, **named, **tls)
        else:
            connecting = loop.create_connection(
                lambda: protocol, host=host, port=port, local_addr=self.source_address, **tls
            )
        try:
            transport, _ = await asyncio.wait_for(connecting, timeout)
        except TimeoutError as exc:
            raise SMTPConnectTimeoutError(f"Timed out connecting to {where}") from exc
        except OSError as exc:
            raise SMTPConnectError(f"Error connecting to {where}: {exc}") from exc
        self.transport: Any = transport
        self.protocol: SMTPProtocol | None = protocol
        try:
            response = await protocol.read_response(timeout=timeout)
        except SMTPServerDisconnected as exc:
            raise SMTPConnectError(f"Error connecting to {where}: {exc}") from exc
        except SMTPTimeoutError as exc:
            raise SMTPConnectTimeoutError("Timed out waiting for server ready message") from exc
        if response.code != SMTPStatus.ready:
            raise SMTPConnectResponseError(response.code, response.message)
        return response

    def _on_connection_lost(self, protocol: SMTPProtocol) -> None:
        if protocol is self.protocol:
            self.close()

    async def _maybe_start_tls_on_connect(self) -> None:
        if self._start_tls_on_connect:
            await self.starttls()
        elif self._start_tls_on_connect is None and self.get_transport_info("sslcontext") is None:
            await self._ehlo_or_helo_if_needed()
            if self.supports_extension("starttls"):
                await self.starttls()

    async def _maybe_login_on_connect(self) -> None:
        if self._oauth_token_generator is None:
            if self._login_username is not None:
                await self.login(self._login_username, self._login_password or "")
            return
        if self._login_username is None:
            raise SMTPException("username is required when using oauth_token_generator")
        await self._ehlo_or_helo_if_needed()
        if "xoauth2" not in self.server_auth_methods:
            raise SMTPException("oauth_token_generator provided but server does not support XOAUTH2")
        await self.auth_xoauth2(self._login_username, await self._oauth_token_generator())

    # ---- messages --------------------------------------------------------------------------------

    async def sendmail(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: str | bytes,
        /,
        *,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> Outcome:
        """Send one message (RFC 5321 3.3), in as few round trips as the server allows.

        Arguments:
            sender: the reverse-path.
            recipients: one, or several.
            message: octets, or ASCII text. Line ends become CRLF.
            mail_options, rcpt_options: parameters of MAIL and RCPT, such as ``"BODY=8BITMIME"``.
            timeout: seconds for each wait.

        Returns:
            The refusals by recipient, and the text of the reply to the content.

        Raises:
            SMTPSenderRefused, SMTPRecipientsRefused, SMTPDataError: no recipient was accepted; by what was refused.
            SMTPNotSupported: ``SMTPUTF8`` is asked for, and the server lacks it.
            SMTPServerDisconnected, SMTPTimeoutError: the connection ended.
            ValueError: an address has what a path cannot have.
        """
        to = [recipients] if isinstance(recipients, str) else list(recipients)
        of_mail, of_rcpt = list(mail_options or ()), list(rcpt_options or ())
        for address in (sender, *to):
            parse_address(address)
        octets = message.encode("ascii") if isinstance(message, str) else message
        if self._sendmail_lock is None:
            self._sendmail_lock = asyncio.Lock()
        async with self._sendmail_lock:
            await self._ehlo_or_helo_if_needed()
            if wants_utf8(of_mail) and not self.supports_extension("smtputf8"):
                raise SMTPNotSupported("SMTPUTF8 is not supported by this server")
            courier = self._ready_courier()
            if courier is not None and self._queue(courier, sender, to, octets, of_mail, of_rcpt):
                return self._outcome(await self._carry(courier, self._seconds(timeout)), sender, to)
            return await self._step_by_step(sender, to, octets, of_mail, of_rcpt, timeout)

    async def send_message(
        self,
        message: Message,
        /,
        *,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> Outcome:
        """Send an :class:`email.message.Message`; :meth:`sendmail` has the rest. Its Bcc field is left out.

        Arguments:
            message: the message.
            sender: by default its Sender or From.
            recipients: by default its To, Cc and Bcc. Resent fields go before these.

        Raises:
            ValueError: it names no sender or recipient, or was resent more than once.
            SMTPNotSupported: an address is not ASCII, and the server lacks SMTPUTF8 (RFC 6531).
        """
        if sender is None:
            sender = extract_sender(message)
        if sender is None:
            raise ValueError("No From header provided in message")
        to = [recipients] if isinstance(recipients, str) else recipients
        to = extract_recipients(message) if to is None else list(to)
        if not to:
            raise ValueError("No recipient headers provided in message")
        await self._ehlo_or_helo_if_needed()
        options = list(mail_options or ())
        given = {option.lower() for option in options}
        utf8 = not "".join((sender, *to)).isascii()
        if utf8 and not self.supports_extension("smtputf8"):
            raise SMTPNotSupported(
                "An address containing non-ASCII characters was provided, but SMTPUTF8 is not supported by this server"
            )
        if utf8 and "smtputf8" not in given:
            options.append("SMTPUTF8")
        eight_bit = self.supports_extension("8bitmime")
        if eight_bit and "body=8bitmime" not in given:
            options.append("BODY=8BITMIME")
        octets = flatten_message(message, utf8=utf8, cte_type="8bit" if eight_bit else "7bit")
        return await self.sendmail(sender, to, octets, mail_options=options, rcpt_options=rcpt_options, timeout=timeout)

    def sendmail_sync(self, *args: Any, **kwargs: Any) -> Outcome:
        """:meth:`sendmail` in a loop of its own, with a connection of its own."""

        async def run() -> Outcome:
            async with self:
                return await self.sendmail(*args, **kwargs)

        return asyncio.run(run())

    def send_message_sync(self, *args: Any, **kwargs: Any) -> Outcome:
        """:meth:`send_message` in a loop of its own, with a connection of its own."""

        async def run() -> Outcome:
            async with self:
                return await self.send_message(*args, **kwargs)

        return asyncio.run(run())

    # ---- the engine room -------------------------------------------------------------------------

    def _ready_courier(self) -> Courier | None:
        """The engine for this session; ``None`` where the program has steps of its own."""
        if self.protocol is None or any(name in self.__dict__ for name in _STEPS):
            return None
        kind = type(self)
        if any(getattr(kind, name) is not step for name, step in _STEPS.items()):
            return None
        courier = self._courier
        if courier is None or not courier.usable or courier.features != self.esmtp_extensions:
            self._courier = courier = Courier(self.esmtp_extensions, lmtp=False)
        return courier

    def _queue(
        self, courier: Courier, sender: str, to: list[str], octets: bytes, of_mail: list[str], of_rcpt: list[str]
    ) -> bool:
        """Hand a message to the engine. False: it writes no such envelope, but aiosmtplib would."""
        if not to or not (wants_utf8(of_mail) or "".join((sender, *to)).isascii()):
            return False
        try:
            path = Sender.from_parameters(parse_address(sender), " ".join(of_mail))
            parameters = " ".join(of_rcpt)
            paths = [Recipient.from_parameters(parse_address(one), parameters) for one in to]
            return courier.queue(path, paths, octets)
        except LocalProtocolError:
            return False

    async def _carry(self, courier: Courier, timeout: float | None) -> SendResult:
        assert self.protocol is not None
        try:
            await self.protocol.carry(courier, timeout)
        except BaseException:  # late, or cancelled: nobody can tell where the session stands
            self.close()
            raise
        result = courier.result()
        if not courier.usable:
            self.close()
        return result

    def _outcome(self, result: SendResult, sender: str, to: list[str]) -> Outcome:
        if result.failure is not None:
            raise SMTPServerDisconnected(f"Connection lost: {result.explanation}")
        refused = {
            address: SMTPResponse(one.reply.code, _text(one.reply))
            for address, one in zip(to, result.recipients, strict=True)
            if one.reply is not None and not one.accepted
        }
        assert result.reply is not None
        code, text = result.reply.code, _text(result.reply)
        if result.accepted:
            return refused, text
        stages = {one.stage for one in result.recipients}
        if stages & {"data", "content"}:
            raise SMTPDataError(code, text)
        if "rcpt" in stages:
            raise SMTPRecipientsRefused([SMTPRecipientRefused(*refused[address], address) for address in to])
        raise SMTPSenderRefused(code, text, sender)

    async def _step_by_step(
        self, sender: str, to: list[str], octets: bytes, of_mail: list[str], of_rcpt: list[str], timeout: Timeout
    ) -> Outcome:
        """One command after the other, by the methods of this object."""
        encoding = "utf-8" if wants_utf8(of_mail) else "ascii"
        if self.supports_extension("size"):
            of_mail = [f"size={len(normalize_message_line_endings(octets))}", *of_mail]
        refused: list[SMTPRecipientRefused] = []
        try:
            await self.mail(sender, options=of_mail, encoding=encoding, timeout=timeout)
            for address in to:
                try:
                    await self.rcpt(address, options=of_rcpt, encoding=encoding, timeout=timeout)
                except SMTPRecipientRefused as exc:
                    refused.append(exc)
            if len(refused) == len(to):
                raise SMTPRecipientsRefused(refused)
            response = await self.data(octets, timeout=timeout)
        except (SMTPResponseException, SMTPRecipientsRefused):
            with contextlib.suppress(ConnectionError, SMTPResponseException):  # the program is told of the refusal
                await self.rset(timeout=timeout)
            raise
        return {one.recipient: SMTPResponse(one.code, one.message) for one in refused}, response.message


# The methods of which a transaction is made: a program that changes one wants it called.
_STEPS: Final = {name: getattr(SMTP, name) for name in ("data", "execute_command", "mail", "rcpt", "rset")}


def _text(reply: Any) -> str:
    return text_of(reply).decode("utf-8", "surrogateescape")


async def send(
    message: Message | str | bytes,
    /,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_options: Sequence[str] | None = None,
    rcpt_options: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Outcome:
    """Send one message over a connection of its own.

    Arguments:
        message, sender, recipients, mail_options, rcpt_options: as :meth:`SMTP.sendmail` and :meth:`SMTP.send_message`
            have them.
        options: as for :class:`SMTP`.

    Raises:
        ValueError: octets were given without a sender or recipients.
        SMTPException: as :meth:`SMTP.connect` and :meth:`SMTP.sendmail`.

    Example::

        await aiosmtplib.send(message, hostname="mx.example", port=587, username="jane", password=password)
    """
    if isinstance(message, str | bytes):
        if not recipients:
            raise ValueError("Recipients must be provided with raw messages.")
        if not sender:
            raise ValueError("Sender must be provided with raw messages.")
    options.setdefault("hostname", "localhost")
    async with SMTP(**options) as client:
        if isinstance(message, str | bytes):
            assert sender is not None
            assert recipients is not None
            return await client.sendmail(
                sender, recipients, message, mail_options=mail_options, rcpt_options=rcpt_options
            )
        return await client.send_message(
            message, sender=sender, recipients=recipients, mail_options=mail_options, rcpt_options=rcpt_options
        )
