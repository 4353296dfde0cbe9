"""The shape of :mod:`smtplib`: :class:`SMTP`, :class:`SMTP_SSL` and :class:`LMTP`, with the engine of this package.

Write ``from ehlo.compat import smtplib`` in the place of ``import smtplib``. Methods, arguments, return values,
attributes and exceptions are smtplib's; every exception is a subclass of smtplib's own. ``sendmail`` and
``send_message`` go through the engine: in as few round trips as the server allows, and with CRLF at the end of each
line. A single command goes out as it is given, as there.

docs/moving-from-smtplib.md says what differs on purpose.
"""

from __future__ import annotations

import copy
import email.utils
import io
import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from email.generator import BytesGenerator
from email.message import Message
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from ehlo._core import Recipient, Sender, SendResult
from ehlo._errors import LocalProtocolError
from ehlo._sockets import no_delay
from ehlo._tls import unverified_context
from ehlo.compat._courier import Courier, text_of
from ehlo.compat._smtplib_commands import (
    CRLF,
    MAXLINE,
    Answer,
    Commands,
    bare,
    octets_of,
    quoteaddr,
    quotedata,
    wants_utf8,
)
from ehlo.compat._smtplib_engine import carry
from ehlo.compat._smtplib_errors import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPOutcomeUnknown,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

__all__ = [
    "LMTP",
    "SMTP",
    "SMTP_SSL",
    "Answer",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupportedError",
    "SMTPOutcomeUnknown",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "quoteaddr",
    "quotedata",
]

SMTP_PORT: Final = 25
SMTP_SSL_PORT: Final = 465
LMTP_PORT: Final = 2003
_MAXLINE: Final = MAXLINE

_DEFAULT_TIMEOUT: Final[Any] = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
_Socket: Final = socket.socket


class SMTP(Commands):
    """A session with an SMTP server, as :class:`smtplib.SMTP` has it.

    Arguments:
        host: name or address of the server, perhaps with a port behind a colon. Without it: call :meth:`connect`.
        port: by default 25.
        local_hostname: what to say in EHLO; by default this machine's domain name, or else an address literal.
        timeout: seconds for each wait.
        source_address: the address and port to connect from.

    Attributes:
        does_esmtp: the server accepted EHLO.
        esmtp_features: its keywords in lower case, with their parameters (RFC 5321 4.1.1.1).
        ehlo_resp, helo_resp: the text of its reply; ``None`` before.
        sock: the socket; ``None`` without a connection.

    Raises:
        SMTPConnectError: the server greets with anything but 220 (RFC 5321 3.1).
        OSError: it cannot be reached.

    Example::

        with smtplib.SMTP("mx.example") as smtp:
            refused = smtp.sendmail("a@b.example", ["c@d.example"], octets)
    """

    default_port: int = SMTP_PORT

    _lmtp: ClassVar[bool] = False

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        super().__init__()
        self._host = host
        self.timeout = timeout
        self.source_address = source_address
        if host:
            code, text = self.connect(host, port)
            if code != 220:
                self.close()
                raise SMTPConnectError(code, text)
        self.local_hostname: str = _own_name() if local_hostname is None else local_hostname

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            code, text = self.docmd("QUIT")
            if code != 221:
                raise SMTPResponseException(code, text)
        except SMTPServerDisconnected:
            pass
        finally:
            self.close()

    # ---- the connection --------------------------------------------------------------------------

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        if timeout is not None and not timeout:
            raise ValueError("a socket that does not block (timeout=0) is not supported")
        if self.debuglevel > 0:
            self._print_debug("connect: to", (host, port), self.source_address)
        sock = socket.create_connection((host, port), timeout, self.source_address)
        if isinstance(sock, _Socket):
            no_delay(sock)
        return sock

    def connect(self, host: str = "localhost", port: int = 0, source_address: tuple[str, int] | None = None) -> Answer:
        """Connect, and wait for the greeting (RFC 5321 3.1).

        Arguments:
            host: perhaps with a port behind a colon.
            port: 0 for the default one.
            source_address: the address and port to connect from.

        Returns:
            Code and text of the greeting.

        Raises:
            OSError: the server cannot be reached, or the port is no number.
            SMTPServerDisconnected: it closes without a word.
        """
        if source_address:
            self.source_address = source_address
        if not port and host.count(":") == 1:
            host, _, number = host.partition(":")
            if not number.isdecimal():
                raise OSError("nonnumeric port")
            port = int(number)
        if not port:
            port = self.default_port
        sys.audit("smtplib.connect", self, host, port)
        self._came = b""
        self._courier = None
        self.sock: socket.socket | None = self._get_socket(host, port, self.timeout)
        answer = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("connect:", repr(answer[1]))
        return answer

    def quit(self) -> Answer:
        """Say QUIT, and close (RFC 5321 4.1.1.10)."""
        answer = self.docmd("quit")
        self._forget_hello()
        self.close()
        return answer

    # ---- messages --------------------------------------------------------------------------------

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: str | bytes,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send one message (RFC 5321 3.3), in as few round trips as the server allows.

        Arguments:
            from_addr: the reverse-path.
            to_addrs: one recipient, or several.
            msg: octets, or ASCII text.
            mail_options, rcpt_options: parameters of MAIL and RCPT, such as ``"BODY=8BITMIME"``.

        Returns:
            Code and text for each recipient that was refused; empty if none was.

        Raises:
            SMTPSenderRefused, SMTPRecipientsRefused, SMTPDataError: no recipient was accepted; by what was refused.
            SMTPNotSupportedError: ``SMTPUTF8`` is asked for, and the server lacks it.
            SMTPHeloError: the server refuses EHLO and HELO.
            SMTPOutcomeUnknown: the connection ended before the reply to the content.
            SMTPServerDisconnected: it ended before.
        """
        self.ehlo_or_helo_if_needed()
        octets = octets_of(msg)
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        options = mail_options if self.does_esmtp else ()
        courier = self._ready_courier()
        if courier is None or not self._queue(
            courier, from_addr, recipients, octets, options, rcpt_options if self.does_esmtp else ()
        ):
            return self._step_by_step(from_addr, recipients, octets, options, rcpt_options)
        return self._outcome(self._carry(courier), from_addr, recipients)

    def send_message(
        self,
        msg: Message,
        from_addr: str | None = None,
        to_addrs: str | Sequence[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send an :class:`email.message.Message`; :meth:`sendmail` has the rest. Its Bcc field is left out.

        Arguments:
            msg: the message.
            from_addr: by default its Sender or From.
            to_addrs: by default its To, Cc and Bcc. Resent fields go before these.

        Raises:
            ValueError: it was resent more than once.
            SMTPNotSupportedError: an address is not ASCII, and the server lacks SMTPUTF8 (RFC 6531).
        """
        self.ehlo_or_helo_if_needed()
        resent = msg.get_all("Resent-Date") or ()
        if len(resent) > 1:
            raise ValueError("message has more than one 'Resent-' header block")
        prefix = "Resent-" if resent else ""
        if from_addr is None:
            sender = msg[prefix + "Sender"] if prefix + "Sender" in msg else msg[prefix + "From"]
            from_addr = email.utils.getaddresses([sender])[0][1]
        if to_addrs is None:
            fields = [field for name in ("To", "Bcc", "Cc") if (field := msg[prefix + name]) is not None]
            to_addrs = [address for _, address in email.utils.getaddresses(fields)]
        international = not (from_addr.isascii() and all(to.isascii() for to in to_addrs))
        if international and not self.has_extn("smtputf8"):
            raise SMTPNotSupportedError(
                "One or more source or delivery addresses require internationalized email support, but the server "
                "does not advertise the required SMTPUTF8 capability"
            )
        shown = copy.copy(msg)
        del shown["Bcc"]
        del shown["Resent-Bcc"]
        octets = io.BytesIO()
        if international:
            BytesGenerator(octets, policy=_with_utf8(msg.policy)).flatten(shown, linesep=CRLF)
            mail_options = (*mail_options, "SMTPUTF8", "BODY=8BITMIME")
        else:
            BytesGenerator(octets).flatten(shown, linesep=CRLF)
        return self.sendmail(from_addr, to_addrs, octets.getvalue(), mail_options, rcpt_options)

    # ---- the engine room -------------------------------------------------------------------------

    def _ready_courier(self) -> Courier | None:
        """The engine for this session; ``None`` where the program has steps of its own."""
        if not isinstance(self.sock, _Socket) or any(name in self.__dict__ for name in _STEPS):
            return None
        kind = type(self)
        if any(getattr(kind, name) is not step for name, step in _STEPS.items()):
            return None
        courier = self._courier
        if courier is None or not courier.usable or courier.features != self.esmtp_features:
            self._courier = courier = Courier(self.esmtp_features, lmtp=self._lmtp)
        return courier

    def _queue(
        self,
        courier: Courier,
        from_addr: str,
        recipients: list[str],
        octets: bytes,
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> bool:
        """Hand a message to the engine. False: it writes no such envelope, but smtplib would."""
        if not recipients or not (wants_utf8(mail_options) or "".join((from_addr, *recipients)).isascii()):
            return False
        try:
            sender = Sender.from_parameters(bare(from_addr), " ".join(mail_options))
            parameters = " ".join(rcpt_options)
            paths = [Recipient.from_parameters(bare(one), parameters) for one in recipients]
            return courier.queue(sender, paths, octets)
        except LocalProtocolError:
            return False

    def _carry(self, courier: Courier) -> SendResult:
        sock, came = self.sock, self._came
        assert sock is not None
        self._came = b""
        tell = None if self.debuglevel <= 0 else lambda what, said: self._print_debug(f"{what}:", repr(said))
        try:
            carry(courier, sock, came, tell)
            result = courier.result()
        except OSError as exc:
            result = courier.result()
            self.close()
            if result.failure == "lost":
                raise SMTPServerDisconnected(f"Connection unexpectedly closed: {exc}") from exc
        except BaseException:  # interrupted: nobody can tell where the session stands
            self.close()
            raise
        if not courier.usable:
            self.close()
        return result

    def _outcome(self, result: SendResult, from_addr: str, recipients: Iterable[str]) -> dict[str, Answer]:
        if result.failure == "unknown":
            raise SMTPOutcomeUnknown(f"Connection unexpectedly closed: {result.explanation}")
        if result.failure is not None:
            raise SMTPServerDisconnected(f"Connection unexpectedly closed: {result.explanation}")
        refused = {
            to: (one.reply.code, text_of(one.reply))
            for to, one in zip(recipients, result.recipients, strict=True)
            if one.reply is not None and not one.accepted
        }
        if result.accepted:
            return refused
        assert result.reply is not None
        code, text = result.reply.code, text_of(result.reply)
        stages = {one.stage for one in result.recipients}
        if stages & {"data", "content"}:
            raise SMTPDataError(code, text)
        if "rcpt" in stages:
            raise SMTPRecipientsRefused(refused)
        raise SMTPSenderRefused(code, text, from_addr)

    def _step_by_step(
        self,
        from_addr: str,
        recipients: list[str],
        octets: bytes,
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> dict[str, Answer]:
        """One command after the other, by the methods of this object."""
        size = [f"size={len(octets)}"] if self.does_esmtp and self.has_extn("size") else []
        code, text = self.mail(from_addr, [*size, *mail_options])
        if code != 250:
            self._after_refusal(code)
            raise SMTPSenderRefused(code, text, from_addr)
        refused: dict[str, Answer] = {}
        for recipient in recipients:
            code, text = self.rcpt(recipient, rcpt_options)
            if code not in (250, 251):
                refused[recipient] = code, text
            if code == 421:
                self.close()
                raise SMTPRecipientsRefused(refused)
        if len(refused) == len(recipients):
            self._rset()
            raise SMTPRecipientsRefused(refused)
        code, text = self.data(octets)
        if code != 250:
            self._after_refusal(code)
            raise SMTPDataError(code, text)
        return refused

    def _after_refusal(self, code: int) -> None:
        if code == 421:
            self.close()
        else:
            self._rset()


# The methods of which a transaction is made: a program that changes one wants it called.
_STEPS: Final = {
    name: getattr(SMTP, name) for name in ("data", "docmd", "getreply", "mail", "putcmd", "rcpt", "rset", "send")
}


class SMTP_SSL(SMTP):
    """The same with TLS from the beginning (RFC 8314 3.3), as :class:`smtplib.SMTP_SSL` has it.

    Arguments:
        host, port, local_hostname, timeout, source_address: as for :class:`SMTP`; the port is 465 by default.
        context: give one that verifies, such as ``ssl.create_default_context()``. Without it the certificate is not
            verified, as in smtplib.

    Example::

        with smtplib.SMTP_SSL("mx.example", context=ssl.create_default_context()) as smtp: ...
    """

    default_port = SMTP_SSL_PORT

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        *,
        timeout: float | None = _DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.context: ssl.SSLContext = unverified_context() if context is None else context
        super().__init__(host, port, local_hostname, timeout, source_address)

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        sock = super()._get_socket(host, port, timeout)
        return self.context.wrap_socket(sock, server_hostname=self._host)


class LMTP(SMTP):
    """A session by LMTP (RFC 2033), as :class:`smtplib.LMTP` has it: the server answers for each recipient.

    Arguments:
        host: name or address of the server, or the path of a Unix socket, which begins with ``/``.
        port: by default 2003.
        local_hostname, source_address, timeout: as for :class:`SMTP`.

    Example::

        with smtplib.LMTP("/run/lmtp") as lmtp: ...
    """

    ehlo_msg = "lhlo"
    _lmtp = True

    def __init__(
        self,
        host: str = "",
        port: int = LMTP_PORT,
        local_hostname: str | None = None,
        source_address: tuple[str, int] | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(host, port, local_hostname=local_hostname, source_address=source_address, timeout=timeout)

    def connect(self, host: str = "localhost", port: int = 0, source_address: tuple[str, int] | None = None) -> Answer:
        """Connect, and wait for the greeting; :meth:`SMTP.connect` has the rest."""
        if not host.startswith("/"):
            return super().connect(host, port, source_address=source_address)
        if self.timeout is not None and not self.timeout:
            raise ValueError("a socket that does not block (timeout=0) is not supported")
        self._came = b""
        self._courier = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock: socket.socket | None = sock
        try:
            if self.timeout is not _DEFAULT_TIMEOUT:
                sock.settimeout(self.timeout)
            sock.connect(host)
        except OSError:
            if self.debuglevel > 0:
                self._print_debug("connect fail:", host)
            self.close()
            raise
        answer = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("connect:", answer[1])
        return answer


def _with_utf8(policy: Any) -> Any:
    return policy.clone(utf8=True)


def _own_name() -> str:
    name = socket.getfqdn()
    if "." in name:
        return name
    try:
        return f"[{socket.gethostbyname(socket.gethostname())}]"
    except socket.gaierror:
        return "[127.0.0.1]"
