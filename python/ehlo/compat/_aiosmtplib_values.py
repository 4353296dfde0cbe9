"""The values of :mod:`ehlo.compat.aiosmtplib`: responses, codes, and the tree of exceptions."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ehlo._errors import EhloError

__all__ = [
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
]


class SMTPResponse(NamedTuple):
    """A reply (RFC 5321 4.2).

    Attributes:
        code: three digits.
        message: the lines without it, joined by LF.
    """

    code: int
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


@enum.unique
class SMTPStatus(enum.IntEnum):
    """The codes of replies by name (RFC 5321 4.2.3, RFC 4954 6)."""

    invalid_response = -1
    system_status_ok = 211
    help_message = 214
    ready = 220
    closing = 221
    auth_successful = 235
    completed = 250
    will_forward = 251
    cannot_vrfy = 252
    auth_continue = 334
    start_input = 354
    domain_unavailable = 421
    mailbox_unavailable = 450
    error_processing = 451
    insufficient_storage = 452
    tls_not_available = 454
    unrecognized_command = 500
    unrecognized_parameters = 501
    command_not_implemented = 502
    bad_command_sequence = 503
    parameter_not_implemented = 504
    domain_does_not_accept_mail = 521
    access_denied = 530
    auth_failed = 535
    mailbox_does_not_exist = 550
    user_not_local = 551
    storage_exceeded = 552
    mailbox_name_invalid = 553
    transaction_failed = 554
    syntax_error = 555


class SMTPException(EhloError):
    """The root of all that :mod:`ehlo.compat.aiosmtplib` raises.

    Attributes:
        message: the reason.
    """

    message: str

    def __init__(self, message: str, /) -> None:
        super().__init__(message)
        self.message = message


class SMTPServerDisconnected(SMTPException, ConnectionError):
    """The connection ended, or there is none (RFC 5321 3.8)."""


class SMTPConnectError(SMTPException, ConnectionError):
    """The server cannot be reached."""


class SMTPTimeoutError(SMTPException, TimeoutError):
    """The time is up."""


class SMTPConnectTimeoutError(SMTPTimeoutError, SMTPConnectError):
    """The time for connecting is up."""


class SMTPReadTimeoutError(SMTPTimeoutError):
    """The time for a reply is up."""


class SMTPNotSupported(SMTPException):
    """The server lacks what is needed."""


class SMTPResponseException(SMTPException):
    """A server said no.

    Attributes:
        code: of its reply.
        message: the text of its reply.
    """

    code: int

    def __init__(self, code: int, message: str, /) -> None:
        EhloError.__init__(self, code, message)
        self.code = code
        self.message = message


class SMTPConnectResponseError(SMTPResponseException, SMTPConnectError):
    """The server greets with a refusal (RFC 5321 3.1)."""


class SMTPHeloError(SMTPResponseException):
    """The server refuses EHLO or HELO (RFC 5321 3.2)."""


class SMTPDataError(SMTPResponseException):
    """DATA or the content was refused (RFC 5321 4.1.1.4)."""


class SMTPAuthenticationError(SMTPResponseException):
    """AUTH was refused (RFC 4954 6)."""


class SMTPSenderRefused(SMTPResponseException):
    """MAIL was refused (RFC 5321 3.3).

    Attributes:
        sender: as the program gave it.
    """

    def __init__(self, code: int, message: str, sender: str, /) -> None:
        super().__init__(code, message)
        self.args: tuple[object, ...] = (code, message, sender)
        self.sender: str = sender


class SMTPRecipientRefused(SMTPResponseException):
    """RCPT was refused (RFC 5321 3.3).

    Attributes:
        recipient: as the program gave it.
    """

    def __init__(self, code: int, message: str, recipient: str, /) -> None:
        super().__init__(code, message)
        self.args: tuple[object, ...] = (code, message, recipient)
        self.recipient: str = recipient


class SMTPRecipientsRefused(SMTPException):
    """Every recipient was refused (RFC 5321 3.3).

    Attributes:
        recipients: the refusal of each.
    """

    def __init__(self, recipients: list[SMTPRecipientRefused], /) -> None:
        EhloError.__init__(self, recipients)
        self.recipients: list[SMTPRecipientRefused] = recipients
