"""The exceptions of this package. They have the names of :mod:`smtplib` where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ehlo._core import Reply, SendResult

__all__ = [
    "CommandSyntaxError",
    "EhloError",
    "InvalidAddressError",
    "LocalProtocolError",
    "OutcomeUnknown",
    "RemoteProtocolError",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupportedError",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "SMTPTimeoutError",
    "SaslError",
    "one_line",
]


class EhloError(Exception):
    """The root of every exception of this package.

    An exception can be pickled and copied with all its attributes, for example out of a pool of processes. Its
    ``__cause__`` and its traceback are lost. Two are equal if they have the same class, text and attributes.
    """

    def __reduce__(self) -> tuple[Callable[..., EhloError], tuple[object, ...]]:
        return _again, (type(self), self.args, dict(self.__dict__))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EhloError) or type(self) is not type(other):
            return NotImplemented
        return self is other or (self.args == other.args and self.__dict__ == other.__dict__)

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


def _again(kind: type[EhloError], args: tuple[object, ...], attributes: dict[str, object]) -> EhloError:
    """An exception as it was. Its own ``__init__`` is left out: the arguments of each class differ."""
    error = kind.__new__(kind, *args)
    if isinstance(error, OSError):
        OSError.__init__(error, *args)  # it fills errno and strerror
    error.__dict__.update(attributes)
    return error


class LocalProtocolError(EhloError):
    """This program asked for something that the protocol does not allow now. The text says what was expected.

    Octets of a peer never raise it.

        >>> import ehlo
        >>> ehlo.Reply(199)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ehlo.LocalProtocolError: ...
    """


class InvalidAddressError(LocalProtocolError):
    """An address that the program gave is no mailbox (RFC 5321 4.1.2). Nothing was sent to anybody.

    Attributes:
        address: the wrong address, as the program gave it.

    Example::

        except ehlo.InvalidAddressError as exc: recipients.remove(exc.address)
    """

    def __init__(self, message: str = "", address: object = None) -> None:
        super().__init__(message)
        self.address = address


class SaslError(EhloError):
    """The server's side of an exchange is wrong, or did not prove that it knows the password (RFC 5802 3).

    Example::

        try:
            mechanism.respond(challenge)
        except ehlo.SaslError: conn.cancel()
    """


class SMTPException(EhloError):
    """The root of what a client raises because of its server.

    Attributes:
        reply: the :class:`ehlo.Reply` of the server that decided; ``None`` without one.
        transcript: the latest lines of the session, ``C: `` ours and ``S: `` the server's, without content and secrets.
        result: the :class:`ehlo.SendResult` of the message; ``None`` if the error is about no message.

    Example::

        except ehlo.SMTPException as exc:
            log.warning("%s\\n%s", exc, exc.transcript)
    """

    def __init__(
        self,
        message: str = "",
        *,
        reply: Reply | None = None,
        transcript: str = "",
        result: SendResult | None = None,
    ) -> None:
        super().__init__(message)
        self.reply = reply
        self.transcript = transcript
        self.result = result

    @property
    def is_temporary(self) -> bool:
        """Whether the same server may take the same message later. True after a 4yz, and if the connection ended
        without a reply (RFC 5321 4.2.1, 3.8).
        """
        if self.result is not None:
            return self.result.is_temporary
        return self.reply is not None and self.reply.is_temporary


class RemoteProtocolError(SMTPException):
    """The octets of a peer break the grammar. The stand-alone parsers raise it, and a client whose server makes no
    sense any more (RFC 5321 4.2, 4.3).

    :class:`ehlo.ServerConnection` never raises it: there the peer gets a reply.
    """


class CommandSyntaxError(RemoteProtocolError):
    """A command line that :func:`ehlo.parse_command` could not read.

    ``reply`` is the :class:`ehlo.Reply` that a server must send for it (RFC 5321 4.2.4, 4.3.2).
    """

    def __init__(self, message: str, reply: Reply | None = None) -> None:
        super().__init__(message, reply=reply)


class SMTPResponseException(SMTPException):
    """A server refused. ``smtp_code`` and ``smtp_error`` are smtplib's names for the reply's code and text."""

    @property
    def smtp_code(self) -> int:
        """The code of the reply; -1 without a reply."""
        return -1 if self.reply is None else self.reply.code

    @property
    def smtp_error(self) -> str:
        """The text behind the code; empty without a reply."""
        if self.reply is None:
            return ""
        enhanced = self.reply.enhanced
        return self.reply.text if enhanced is None else f"{enhanced} {self.reply.text}"


class SMTPConnectError(SMTPResponseException, ConnectionError):
    """The server cannot be reached (``reply`` is ``None``, ``__cause__`` is the system's error), or greets with a
    refusal (RFC 5321 3.1).
    """

    @property
    def is_temporary(self) -> bool:
        """True unless it greets with 5yz."""
        return self.reply is None or self.reply.is_temporary


class SMTPHeloError(SMTPResponseException):
    """The server refuses EHLO and HELO, or LHLO (RFC 5321 3.2, RFC 2033 4.1)."""


class SMTPSenderRefused(SMTPResponseException):
    """MAIL was refused (RFC 5321 3.3).

    Attributes:
        sender: the reverse-path, as text; empty for the null reverse-path.
    """

    sender: str = ""


class SMTPRecipientsRefused(SMTPResponseException):
    """Every recipient was refused at RCPT (RFC 5321 3.3). If only some are refused, nothing is raised: see
    :class:`ehlo.SendResult`.

    Attributes:
        recipients: the reply for each recipient, by the path as text.
        reply: the reply for the last recipient.
    """

    recipients: Mapping[str, Reply]

    def __init__(
        self,
        message: str = "",
        *,
        reply: Reply | None = None,
        transcript: str = "",
        result: SendResult | None = None,
        recipients: Mapping[str, Reply] | None = None,
    ) -> None:
        super().__init__(message, reply=reply, transcript=transcript, result=result)
        self.recipients = {} if recipients is None else recipients


class SMTPDataError(SMTPResponseException):
    """DATA or the content was refused, for every recipient that was not refused before (RFC 5321 4.1.1.4)."""


class SMTPAuthenticationError(SMTPResponseException):
    """AUTH was refused (RFC 4954 6)."""


class SMTPNotSupportedError(SMTPException):
    """The message needs an extension that the server does not offer (8BITMIME, SMTPUTF8, DSN, SIZE …). Nothing was
    sent."""


class SMTPServerDisconnected(SMTPException, ConnectionError):
    """The connection ended before the server had the whole message, or before the reply to the command (RFC 5321 3.8).

    ``reply`` is the 421 at the end, if there was one.
    """

    @property
    def is_temporary(self) -> bool:
        """Always true: as after a 451 (RFC 5321 3.8)."""
        return True


class SMTPTimeoutError(SMTPServerDisconnected, TimeoutError):
    """The server did not answer, or did not take our octets, in time (RFC 5321 4.5.3.2). The connection is closed."""


class OutcomeUnknown(SMTPException):
    """The connection ended after the end of the content had gone out, and before its reply came.

    The server may have taken the message. If you send it again, it may arrive twice. If you do not, it may be
    lost (RFC 5321 4.5.3.2.6). ``ehlo`` never sends it again by itself.
    """

    @property
    def is_temporary(self) -> bool:
        """Always false: think before you send the message again."""
        return False


def one_line(text: object) -> str:
    """What a server said, for a message of ours: a reply can have many lines.

    Example::

        one_line(reply)
    """
    return " ".join(str(text).split())
