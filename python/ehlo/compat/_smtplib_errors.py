"""The exceptions of :mod:`ehlo.compat.smtplib`: each is one of smtplib's and one of this package's."""

from __future__ import annotations

import smtplib as original
from typing import Any

from ehlo._errors import EhloError

__all__ = [
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
]


class SMTPException(EhloError, original.SMTPException):
    """The root of all that :mod:`ehlo.compat.smtplib` raises; ``except smtplib.SMTPException`` gets it, too.

    Example::

        except smtplib.SMTPException as exc: log.warning("%s", exc)
    """


class SMTPNotSupportedError(SMTPException, original.SMTPNotSupportedError):
    """The server lacks what is needed."""


class SMTPServerDisconnected(SMTPException, original.SMTPServerDisconnected):
    """The connection ended, or there is none (RFC 5321 3.8)."""


class SMTPOutcomeUnknown(SMTPServerDisconnected):
    """The connection ended after the end of the content had gone out, and before its reply came: the server may have
    the message (RFC 5321 4.5.3.2.6).
    """


class SMTPResponseException(SMTPException, original.SMTPResponseException):
    """A server said no.

    Attributes:
        smtp_code: of its reply.
        smtp_error: the text of its reply.
    """

    def __init__(self, code: int, msg: bytes | str) -> None:
        Exception.__init__(self, code, msg)
        self.smtp_code: int = code
        self.smtp_error: Any = msg  # bytes where a server said it; so smtplib's own stubs have it


class SMTPSenderRefused(SMTPResponseException, original.SMTPSenderRefused):
    """MAIL was refused (RFC 5321 3.3).

    Attributes:
        sender: as the program gave it.
    """

    def __init__(self, code: int, msg: bytes, sender: str) -> None:
        super().__init__(code, msg)
        self.args: tuple[int, bytes, str] = (code, msg, sender)
        self.sender: str = sender


class SMTPRecipientsRefused(SMTPException, original.SMTPRecipientsRefused):
    """Every recipient was refused (RFC 5321 3.3).

    Attributes:
        recipients: code and text for each, by the recipient as the program gave it.
    """

    def __init__(self, recipients: dict[str, tuple[int, bytes]]) -> None:
        Exception.__init__(self, recipients)
        self.recipients: Any = recipients


class SMTPDataError(SMTPResponseException, original.SMTPDataError):
    """DATA or the content was refused (RFC 5321 4.1.1.4)."""


class SMTPConnectError(SMTPResponseException, original.SMTPConnectError):
    """The server greets with a refusal (RFC 5321 3.1)."""


class SMTPHeloError(SMTPResponseException, original.SMTPHeloError):
    """The server refuses EHLO and HELO (RFC 5321 3.2)."""


class SMTPAuthenticationError(SMTPResponseException, original.SMTPAuthenticationError):
    """AUTH was refused (RFC 4954 6)."""
