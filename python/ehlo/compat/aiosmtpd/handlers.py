"""The ready handlers: :class:`Debugging`, :class:`Sink`, :class:`Proxy`, :class:`Mailbox`, and bases for messages."""

from __future__ import annotations

import asyncio
import logging
import mailbox
import os
import re
import smtplib
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from email import message_from_bytes as _parse_bytes
from email import message_from_string as _parse_string
from email.message import Message as EmailMessage
from typing import Any, Final, Self, TextIO

from ehlo.compat.aiosmtpd import _get_or_new_eventloop
from ehlo.compat.aiosmtpd._session import Envelope, Session
from ehlo.compat.aiosmtpd.smtp import SMTP

__all__ = ["AsyncMessage", "Debugging", "Mailbox", "Message", "Proxy", "Sink"]

COMMASPACE: Final = ", "
CRLF: Final = b"\r\n"
_EMPTY_LINE: Final = re.compile(rb"\r\n|\r|\n")
log: Final = logging.getLogger("mail.debug")


def _format_peer(peer: Any) -> str:
    return f"X-Peer: {peer!r}"


def message_from_bytes(octets: bytes, *args: Any, **kwargs: Any) -> EmailMessage:
    """:func:`email.message_from_bytes`."""
    return _parse_bytes(octets, *args, **kwargs)


def message_from_string(text: str, *args: Any, **kwargs: Any) -> EmailMessage:
    """:func:`email.message_from_string`."""
    return _parse_string(text, *args, **kwargs)


class Debugging:
    """Prints each message.

    Example::

        Controller(Debugging(sys.stderr))
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream: TextIO = sys.stdout if stream is None else stream

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one from the arguments of a command line: nothing, ``stdout`` or ``stderr``."""
        streams: dict[tuple[str, ...], TextIO | None] = {(): None, ("stdout",): sys.stdout, ("stderr",): sys.stderr}
        if args not in streams:
            parser.error("Debugging usage: [stdout|stderr]")
        return cls(streams[args])

    def _print_message_content(self, peer: Any, data: str | bytes) -> None:
        in_header = True
        for line in data.splitlines():
            if in_header and not line:
                print(_format_peer(peer), file=self.stream)
                in_header = False
            print(line.decode("utf-8", "replace") if isinstance(line, bytes) else line, file=self.stream)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        print("---------- MESSAGE FOLLOWS ----------", file=self.stream)
        if envelope.mail_options:
            print("mail options:", envelope.mail_options, file=self.stream)
        if any(envelope.rcpt_options):
            print("rcpt options:", envelope.rcpt_options, file=self.stream)
        if envelope.mail_options or any(envelope.rcpt_options):
            print(file=self.stream)
        self._print_message_content(session.peer, envelope.content if envelope.content is not None else b"")
        print("------------ END MESSAGE ------------", file=self.stream)
        return "250 OK"


class Proxy:
    """Passes each message on to another server, by a client that blocks. ``ehlo.mta`` is the way that does not.

    Example::

        Controller(Proxy("mail.example", 25))
    """

    def __init__(self, remote_hostname: str, remote_port: int) -> None:
        self._hostname = remote_hostname
        self._port = remote_port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content if isinstance(envelope.content, str) else envelope.content
        lines = (content or b"").splitlines(keepends=True)
        end_of_header = next((index for index, line in enumerate(lines) if _EMPTY_LINE.match(line)), len(lines) - 1)
        ending = lines[end_of_header] if lines and _EMPTY_LINE.match(lines[end_of_header]) else CRLF
        peer = session.peer[0] if session.peer else ""
        lines.insert(max(end_of_header, 0), b"X-Peer: " + peer.encode("ascii") + ending)
        refused = self._deliver(envelope.mail_from, envelope.rcpt_tos, b"".join(lines))
        log.info("we got some refusals: %s", refused)
        return "250 OK"

    def _deliver(self, mail_from: str | None, rcpt_tos: list[str], data: str | bytes) -> Any:
        refused: dict[str, Any] = {}
        try:
            client = smtplib.SMTP()
            client.connect(self._hostname, self._port)
            try:
                refused = client.sendmail(mail_from or "", rcpt_tos, data)
            finally:
                client.quit()
        except smtplib.SMTPRecipientsRefused as exc:
            log.info("got SMTPRecipientsRefused")
            refused = exc.recipients
        except (OSError, smtplib.SMTPException) as exc:
            log.exception("got %s", exc.__class__)
            # If the exception has a code, all recipients get it; else one that means nothing.
            reply = getattr(exc, "smtp_code", -1), getattr(exc, "smtp_error", b"ignore")
            refused.update(dict.fromkeys(rcpt_tos, reply))
        return refused


class Sink:
    """Accepts all and keeps nothing.

    Example::

        Controller(Sink())
    """

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one from the arguments of a command line: there are none."""
        if args:
            parser.error("Sink handler does not accept arguments")
        return cls()


class MessageBase(ABC):
    """A handler that gets each message as an :class:`email.message.Message`.

    Arguments:
        message_class: what the parser makes; by default what :mod:`email` makes.
    """

    def __init__(self, message_class: type[EmailMessage] | None = None) -> None:
        self.message_class = message_class

    def prepare_message(self, session: Session, envelope: Envelope) -> EmailMessage:
        """Parse the content, and add X-Peer, X-MailFrom and X-RcptTo.

        Raises:
            TypeError: the content is neither text nor octets.
        """
        data = envelope.content
        if isinstance(data, bytes | bytearray):
            message = message_from_bytes(bytes(data), *self._class())
        elif isinstance(data, str):
            message = message_from_string(data, *self._class())
        else:
            raise TypeError(f"Expected str or bytes, got {type(data)}")
        message["X-Peer"] = str(session.peer)
        message["X-MailFrom"] = envelope.mail_from or ""
        message["X-RcptTo"] = COMMASPACE.join(envelope.rcpt_tos)
        return message

    def _class(self) -> tuple[type[EmailMessage], ...]:
        return () if self.message_class is None else (self.message_class,)

    @abstractmethod
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str: ...  # noqa: N802


class Message(MessageBase):
    """Override :meth:`handle_message`, which may not wait.

    Example::

        class Print(Message):
            def handle_message(self, message): print(message["Subject"])
    """

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.handle_message(self.prepare_message(session, envelope))
        return "250 OK"

    @abstractmethod
    def handle_message(self, message: EmailMessage) -> None: ...


class AsyncMessage(MessageBase):
    """Override :meth:`handle_message`, which is awaited.

    Example::

        class Keep(AsyncMessage):
            async def handle_message(self, message): await keep(message)
    """

    def __init__(
        self, message_class: type[EmailMessage] | None = None, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(message_class)
        self.loop: asyncio.AbstractEventLoop = loop or _get_or_new_eventloop()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await self.handle_message(self.prepare_message(session, envelope))
        return "250 OK"

    @abstractmethod
    async def handle_message(self, message: EmailMessage) -> None: ...


class Mailbox(Message):
    """Keeps each message in a Maildir. ``ehlo.store.Maildir`` is the way that survives a crash.

    Example::

        Controller(Mailbox("/var/mail/inbox"))
    """

    def __init__(self, mail_dir: str | os.PathLike[str], message_class: type[EmailMessage] | None = None) -> None:
        self.mailbox: mailbox.Maildir = mailbox.Maildir(os.fspath(mail_dir))
        self.mail_dir = mail_dir
        super().__init__(message_class)

    def handle_message(self, message: EmailMessage) -> None:
        self.mailbox.add(message)

    def reset(self) -> None:
        """Throw all messages away."""
        self.mailbox.clear()

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one from the arguments of a command line: the directory."""
        if len(args) < 1:
            parser.error("The directory for the maildir is required")
        elif len(args) > 1:
            parser.error("Too many arguments for Mailbox handler")
        return cls(args[0])
