"""How the end of a connection, or the result of a message, becomes an exception."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from ehlo._client.paths import SenderLike
from ehlo._core import ClientDisconnect, Reply, Sender, SendResult
from ehlo._errors import (
    EhloError,
    LocalProtocolError,
    OutcomeUnknown,
    RemoteProtocolError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPTimeoutError,
    one_line,
)
from ehlo._types import path_text

__all__ = ["ConnectionFault", "connection_error", "message_error", "sender_error"]


class ConnectionFault(NamedTuple):
    """Why a connection is over where the engine cannot know it, as in a TLS handshake.

    Attributes:
        kind: the class of the exception.
        text: its text.
        cause: its ``__cause__``.
    """

    kind: type[SMTPException]
    text: str
    cause: BaseException | None


class _Facts(TypedDict):
    """What every exception of a client carries."""

    transcript: str
    result: SendResult | None


def connection_error(
    end: ClientDisconnect | None, fault: ConnectionFault | None, transcript: str, result: SendResult | None = None
) -> EhloError:
    """Make the exception that says why a connection is over.

    Arguments:
        end: the end as the engine says it; ``None`` where the program closed the connection.
        fault: the end where the engine cannot know it. It goes before ``end``.
        transcript: the latest lines of the session.
        result: the message that was on its way.

    Example::

        raise connection_error(link.disconnect, link.fault, link.transcript)
    """
    facts: _Facts = {"transcript": transcript, "result": result}
    if fault is not None:
        error = fault.kind(fault.text, **facts)
        error.__cause__ = fault.cause
        return error
    if end is None:
        return SMTPServerDisconnected("the connection is closed", **facts)
    text = one_line(end.explanation)
    match end.reason:
        case "greeting":
            return SMTPConnectError(text, reply=end.reply, **facts)
        case "hello":
            return SMTPHeloError(text, reply=end.reply, **facts)
        case "tls" if end.reply is None:
            return SMTPNotSupportedError(text, **facts)
        case "tls":
            return SMTPResponseException(text, reply=end.reply, **facts)
        case "protocol":
            return RemoteProtocolError(text, reply=end.reply, **facts)
        case "timeout":
            return SMTPTimeoutError(text, **facts)
    return SMTPServerDisconnected(text, reply=end.reply, **facts)


def message_error(
    result: SendResult,
    sender: SenderLike,
    end: ClientDisconnect | None,
    fault: ConnectionFault | None,
    transcript: str,
) -> EhloError:
    """Make the exception that says why nobody gets a message.

    Arguments:
        result: the result, in which no recipient was accepted.
        sender: the reverse-path as the program gave it.
        end, fault, transcript: as for :func:`connection_error`.

    Example::

        raise message_error(result, "a@b.example", link.disconnect, link.fault, link.transcript)
    """
    facts: _Facts = {"transcript": transcript, "result": result}
    why = one_line(result.explanation or "")
    match result.failure:
        case "unknown":
            behind = "" if end is None else f" ({one_line(end.explanation)})"
            return OutcomeUnknown(f"{why}{behind}", **facts)
        case "lost":
            return connection_error(end, fault, transcript, result)
        case "need" | "8bit":
            return SMTPNotSupportedError(why, **facts)
        case "mailmax":
            return SMTPServerDisconnected(why, **facts)
        case "newline" | "aborted" | "unwritable":
            return LocalProtocolError(why)
    reply = result.reply
    assert reply is not None
    stages = {one.stage for one in result.recipients}
    if "content" in stages or "data" in stages:
        return SMTPDataError(f"the server refused the message: {one_line(reply)}", reply=reply, **facts)
    if "rcpt" in stages:
        refused = {path_text(one.path): one.reply for one in result.recipients if one.reply is not None}
        who = f"<{next(iter(refused))}>" if len(refused) == 1 else f"all {len(refused)} recipients, the last one"
        text = f"the server refused {who}: {one_line(reply)}"
        return SMTPRecipientsRefused(text, reply=reply, recipients=refused, **facts)
    return sender_error(reply, sender, transcript, result)


def sender_error(
    reply: Reply, sender: SenderLike, transcript: str, result: SendResult | None = None
) -> SMTPSenderRefused:
    """Make the exception that says that MAIL was refused.

    Arguments:
        reply: the reply to MAIL.
        sender: the reverse-path as the program gave it.
        transcript: the latest lines of the session.
        result: the message, if there was one.

    Example::

        raise sender_error(reply, "a@b.example", link.transcript)
    """
    name = _sender_text(sender)
    text = f"the server refused the sender <{name}>: {one_line(reply)}"
    error = SMTPSenderRefused(text, reply=reply, transcript=transcript, result=result)
    error.sender = name
    return error


def _sender_text(sender: SenderLike) -> str:
    if isinstance(sender, str):
        return sender.strip("<>")
    return path_text(sender.path if isinstance(sender, Sender) else sender)
