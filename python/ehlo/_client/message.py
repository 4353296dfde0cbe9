"""What a program sends, made ready for the engine: envelopes out of header fields, octets out of messages.

No I/O but the reading of file objects that the program hands over; no event loop.
"""

from __future__ import annotations

import copy
import io
import os
import sys
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard

from ehlo._client.paths import (
    NoAddress,
    RecipientLike,
    Recipients,
    SenderLike,
    ascii_path,
    naming_address,
    recipient_list,
    without_invalid,
)
from ehlo._client.source import PIECE, Source
from ehlo._core import ClientConnection, Recipient, Sender, SendResult
from ehlo._errors import LocalProtocolError

if TYPE_CHECKING:
    from email.message import Message

    from typing_extensions import Buffer

__all__ = ["Letter", "SendableMessage", "content_of"]


class _Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


SendableMessage: TypeAlias = "Buffer | Message[Any, Any] | _Readable | Iterable[Buffer] | AsyncIterable[Buffer]"
"""A message: octets, an :class:`email.message.EmailMessage`, a binary file object, or chunks of octets that come one
after the other."""

# A file that has no more octets than this is read whole: then all of it is known before MAIL, and it can be sent again.
_WHOLE: Final = 262144


def _read_file(file: _Readable) -> bytes | Source:
    """The rest of a file, whole if it is short."""
    parts: list[bytes] = []
    octets = 0
    while octets <= _WHOLE:
        part = file.read(_WHOLE + 1 - octets)
        if isinstance(part, str):
            raise TypeError("a message's file must be open in binary mode: its octets count")
        if not part:
            return b"".join(parts)
        parts.append(part)
        octets += len(part)
    head = b"".join(parts)
    return Source(_go_on(file, head), head)


def _octets_left(file: _Readable) -> int | None:
    """Octets between here and the end of a file, where the file knows it at no cost. Line ends may add to them."""
    try:
        if isinstance(file, io.BytesIO):
            return file.getbuffer().nbytes - file.tell()
        raw = file.raw if isinstance(file, io.BufferedReader | io.BufferedRandom) else file
        if isinstance(raw, io.FileIO) and isinstance(file, io.BufferedIOBase | io.FileIO) and file.seekable():
            return max(os.fstat(file.fileno()).st_size - file.tell(), 0)
    except (OSError, ValueError):  # closed, or no file behind it: reading will tell
        pass
    return None


def _go_on(file: _Readable, head: bytes) -> Iterator[bytes]:
    yield head
    while part := file.read(PIECE):
        yield part


def _is_email(message: object) -> TypeGuard[Message[Any, Any]]:
    # Imported when there is one: it takes longer than all of this package.
    return (email := sys.modules.get("email.message")) is not None and isinstance(message, email.Message)


def content_of(
    message: SendableMessage, conn: ClientConnection, *, international: bool | None
) -> tuple[Source | None, Buffer | None]:
    """The content of a message whose envelope stands already: a source if it comes in pieces, or else octets.

    Arguments:
        message: see :data:`SendableMessage`.
        conn: says what the server offers.
        international: whether header fields are written in UTF-8, since MAIL said SMTPUTF8 (RFC 6531 3.4); ``None``: if
            an address in them needs it.

    Raises:
        TypeError: the message is none.

    Example::

        source, octets = content_of(b"Subject: hi\\r\\n\\r\\n", conn, international=None)
    """
    if _is_email(message):
        from ehlo._client.email import flatten

        return None, flatten(message, conn.capabilities, international=international)
    source, content, _ = _taken(message)
    return source, content


def _taken(message: Any) -> tuple[Source | None, Buffer | None, int | None]:
    """A source, or else octets; and, where the octets are not here, a lower bound of their number if there is one."""
    if isinstance(message, str):
        raise TypeError("a message is octets: encode the str, or use email.message.EmailMessage")
    if isinstance(message, AsyncIterable):
        return Source(message), None, None
    if hasattr(message, "read"):
        # Enough to know that a message is too large (RFC 1870 6.1).
        octets = _octets_left(message)
        found = _read_file(message)
        return (None, found, octets) if isinstance(found, bytes) else (found, None, octets)
    try:
        memoryview(message)
    except TypeError:
        if not isinstance(message, Iterable):
            raise TypeError(
                f"a message is bytes, an email.message, a binary file or an iterable of bytes, "
                f"not {type(message).__name__}"
            ) from None
        return Source(message), None, None
    return None, message, None


class Letter:
    """One message and its envelope, as the program gave it; it can be queued again while its source was not read.

    Arguments:
        message: see :data:`SendableMessage`.
        sender: ``None``: what an email.message names.
        recipients: ``None``: those that an email.message names.
        size: octets of content with CRLF line ends, where it comes in pieces and that is known (RFC 1870 6).
        eight_bit: whether a content that comes in pieces has octets above 127, if known (RFC 6152).
        utf8_header: whether the header section is a reason for SMTPUTF8, if it is UTF-8 (RFC 6531 3.4).
        refuse_invalid: a recipient that is no address is left out here, and refused in the result.

    Raises:
        LocalProtocolError: no sender or recipients.
        TypeError: the message is none.

    Example::

        identifier = Letter(b"Subject: hi\\r\\n\\r\\n", "a@b.example", ["c@d.example"]).queue(conn)
    """

    __slots__ = (
        "_content",
        "_eight_bit",
        "_message",
        "_no_addresses",
        "_size",
        "_utf8_header",
        "recipients",
        "sender",
        "source",
    )

    def __init__(
        self,
        message: SendableMessage,
        sender: SenderLike | None,
        recipients: Recipients | None,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
        refuse_invalid: bool = False,
    ) -> None:
        self.source: Source | None = None
        self._message: Message[Any, Any] | None = None
        self._content: Buffer | None = None
        self._size = size
        self._eight_bit = eight_bit
        self._utf8_header = utf8_header
        if type(message) is bytes:
            self._content = message
        elif _is_email(message):
            from ehlo._client.email import recipients_of, sender_of

            self._message = message
            sender = sender_of(message) if sender is None else sender
            recipients = recipients_of(message) if recipients is None else recipients
        else:
            self.source, self._content, octets = _taken(message)
            if self._size is None:
                self._size = octets
        if self.source is not None and self.source.is_not_utf8:
            self._utf8_header = False
        if sender is None:
            raise LocalProtocolError("no sender: give one; the null reverse-path is ehlo.NULL (RFC 5321 4.5.5)")
        if recipients is None:
            raise LocalProtocolError("no recipients: give at least one (RFC 5321 3.3)")
        self.sender: SenderLike = ascii_path(sender)
        self.recipients: list[RecipientLike] = recipient_list(recipients)
        self._no_addresses: list[NoAddress] = []
        if refuse_invalid:
            self.recipients, self._no_addresses = without_invalid(self.recipients)

    @property
    def is_for_nobody(self) -> bool:
        """Whether all of its recipients are no addresses: there is nothing to send."""
        return bool(self._no_addresses) and not self.recipients

    def completed(self, result: SendResult | None) -> SendResult:
        """The result with the recipients that are no addresses; ``None`` is that of a letter for nobody."""
        if result is None:
            result = SendResult.unsent()
        return result.with_refused(self._no_addresses) if self._no_addresses else result

    @property
    def can_repeat(self) -> bool:
        """Whether it can still be sent from its beginning."""
        return self.source is None or not self.source.begun

    def only(self, recipients: list[RecipientLike]) -> Letter:
        """The same for these recipients only."""
        other = copy.copy(self)
        other.recipients = recipients
        return other

    def queue(self, conn: ClientConnection) -> int:
        """Hand it to the engine; gives the number of its result.

        Raises:
            LocalProtocolError: an address is none, there are no recipients, the session is over.
        """
        source, utf8_header = self.source, self._utf8_header
        if source is None:
            content = self._content
            if self._message is not None:
                from ehlo._client.email import flatten_and_tell

                wish = True if utf8_header is None and self._international else utf8_header
                content, utf8_header = flatten_and_tell(self._message, conn.capabilities, wish)
            assert content is not None
        try:
            if source is None:
                return conn.send_message(self.sender, self.recipients, content, utf8_header=utf8_header)  # type: ignore[arg-type]
            return conn.start_message(
                self.sender,
                self.recipients,
                size=self._size,
                eight_bit=self._eight_bit,
                utf8_header=utf8_header,
            )
        except LocalProtocolError as exc:
            raise naming_address(exc, self.sender, self.recipients) from None

    @property
    def _international(self) -> bool:
        for path in (self.sender, *self.recipients):
            if isinstance(path, Sender | Recipient):
                path = path.path
            if not (path.isascii() if isinstance(path, str) else getattr(path, "is_ascii", True)):
                return True
        return False
