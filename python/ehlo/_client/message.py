"""What a program sends, made ready for the engine: envelopes out of header fields, octets out of messages.

No I/O but the reading of file objects that the program hands over; no event loop.
"""

from __future__ import annotations

import copy
import io
import os
import sys
import types
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ehlo._client.idna import a_label
from ehlo._core import Address, ClientConnection, NullPath, Postmaster, Recipient, Sender
from ehlo._errors import InvalidAddressError, LocalProtocolError

if TYPE_CHECKING:
    from email.message import Message

    from typing_extensions import Buffer

__all__ = [
    "Letter",
    "RecipientLike",
    "Recipients",
    "SendableMessage",
    "SenderLike",
    "Source",
    "ascii_path",
    "naming_address",
]


class _Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


SenderLike: TypeAlias = str | Address | NullPath | Sender
"""Who a message is from: a mailbox; ``""`` or :data:`ehlo.NULL` for the null reverse-path; or an :class:`ehlo.Sender`
with parameters."""

RecipientLike: TypeAlias = str | Address | Postmaster | Recipient
"""Whom a message is for: a mailbox, or an :class:`ehlo.Recipient` with parameters."""

Recipients: TypeAlias = RecipientLike | Iterable[RecipientLike]
"""One, or several."""

SendableMessage: TypeAlias = "Buffer | Message[Any, Any] | _Readable | Iterable[Buffer] | AsyncIterable[Buffer]"
"""A message: octets, an :class:`email.message.EmailMessage`, a binary file object, or chunks of octets that come one
after the other."""

# A file that has no more octets than this is read whole: then all of it is known before MAIL, and it can be sent again.
_WHOLE: Final = 262144
# Octets that are taken from a source before they are sent; a bound of the memory a streamed message takes.
PIECE: Final = 262144


# ---- paths -----------------------------------------------------------------------------------------------------


def ascii_path(path: Any) -> Any:
    """``path`` with A-labels for a domain that is not ASCII, so that SMTPUTF8 is asked for only where a local part
    needs it (C-CLI-26, RFC 6531 3.2).

    Example::

        ascii_path("jürgen@bücher.example")   # as it is: the local part is not ASCII
        ascii_path("info@bücher.example")     # "info@xn--bcher-kva.example"
    """
    if isinstance(path, str):
        return path if path.isascii() else a_label(path)
    if isinstance(path, Address):
        return path if path.is_ascii else Address(a_label(path.mailbox))
    if isinstance(path, Sender) and isinstance(path.path, Address) and not path.path.is_ascii:
        return Sender(
            a_label(path.path.mailbox),
            body=path.body,
            smtputf8=path.smtputf8,
            ret=path.ret,
            envid=path.envid,
            auth=path.auth,
            deliver_by=path.deliver_by,
            hold_for=path.hold_for,
            hold_until=path.hold_until,
            mt_priority=path.mt_priority,
            requiretls=path.requiretls,
        )
    if isinstance(path, Recipient) and isinstance(path.path, Address) and not path.path.is_ascii:
        return Recipient(a_label(path.path.mailbox), notify=path.notify, orcpt=path.orcpt, rrvs=path.rrvs)
    return path


def naming_address(
    error: LocalProtocolError, sender: SenderLike, recipients: Iterable[RecipientLike]
) -> LocalProtocolError:
    """``error``, or the same with the address that caused it.

    Example::

        except LocalProtocolError as exc: raise naming_address(exc, sender, recipients) from None
    """
    checks: list[tuple[Any, Any]] = [(Sender, sender), *((Recipient, one) for one in recipients)]
    for kind, address in checks:
        try:
            if not isinstance(address, kind):
                kind(address)
        except LocalProtocolError as exc:
            return InvalidAddressError(str(exc), address)
    return error


def is_plain(sender: object, recipients: object) -> bool:
    """Whether an envelope is what most are: ASCII mailboxes as strings. There is nothing to make ready in it then."""
    if type(sender) is str and sender.isascii() and (type(recipients) is list or type(recipients) is tuple):
        # A generator expression would cost as much as all the rest.
        for recipient in recipients:  # noqa: SIM110
            if type(recipient) is not str or not recipient.isascii():
                return False
        return True
    return False


def recipient_list(recipients: Recipients) -> list[RecipientLike]:
    """One recipient or several, each with an ASCII domain."""
    if isinstance(recipients, str | Address | Postmaster | Recipient):
        return [ascii_path(recipients)]
    return [ascii_path(recipient) for recipient in recipients]


# ---- content that comes in pieces ------------------------------------------------------------------------------


class Source:
    """Content that comes in pieces, once.

    Arguments:
        pieces: where they come from.

    Attributes:
        begun: a piece was taken: it cannot be sent from the beginning any more.

    Example::

        while (piece := await source.next()) is not None: ...
    """

    __slots__ = ("_pieces", "begun")

    def __init__(self, pieces: AsyncIterable[Buffer] | Iterable[Buffer]) -> None:
        self._pieces: AsyncIterator[Buffer] | Iterator[Buffer]
        self._pieces = aiter(pieces) if isinstance(pieces, AsyncIterable) else iter(pieces)
        self.begun = False

    async def next(self) -> Buffer | None:
        """The next octets, ``None`` at the end. Short pieces of a plain iterable are put together."""
        self.begun = True
        pieces = self._pieces
        if isinstance(pieces, AsyncIterator):
            return await anext(pieces, None)
        gathered: list[Buffer] = []
        octets = 0
        for piece in pieces:
            size = memoryview(piece).nbytes  # a str is told here
            if not gathered and size >= PIECE // 4:
                return piece
            gathered.append(piece)
            octets += size
            if octets >= PIECE // 4:
                break
        return b"".join(gathered) if gathered else None

    async def close(self) -> None:
        """No more of it is wanted: a generator may clean up. A file stays open, it is the program's."""
        pieces = self._pieces
        if isinstance(pieces, types.GeneratorType):
            pieces.close()
        elif isinstance(pieces, types.AsyncGeneratorType):
            await pieces.aclose()


def _read_file(file: _Readable) -> bytes | Iterator[bytes]:
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
    return _go_on(file, parts)


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


def _go_on(file: _Readable, parts: list[bytes]) -> Iterator[bytes]:
    while parts:
        yield parts.pop(0)
    while part := file.read(PIECE):
        yield part


class Letter:
    """One message and its envelope, as the program gave it; it can be queued again while its source was not read.

    Arguments:
        message: see :data:`SendableMessage`.
        sender: ``None``: what an email.message names.
        recipients: ``None``: those that an email.message names.
        size: octets of content with CRLF line ends, where it comes in pieces and that is known (RFC 1870 6).
        eight_bit: whether a content that comes in pieces has octets above 127, if known (RFC 6152).
        utf8_header: whether its header section has, if known (RFC 6531 3.4).

    Raises:
        LocalProtocolError: no sender or recipients.
        TypeError: the message is none.

    Example::

        identifier = Letter(b"Subject: hi\\r\\n\\r\\n", "a@b.example", ["c@d.example"]).queue(conn)
    """

    __slots__ = ("_content", "_eight_bit", "_message", "_size", "_utf8_header", "recipients", "sender", "source")

    def __init__(
        self,
        message: SendableMessage,
        sender: SenderLike | None,
        recipients: Recipients | None,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> None:
        self.source: Source | None = None
        self._message: Message[Any, Any] | None = None
        self._content: Buffer | None = None
        self._size = size
        self._eight_bit = eight_bit
        self._utf8_header = utf8_header
        if type(message) is bytes:
            self._content = message
        elif (email := sys.modules.get("email.message")) is not None and isinstance(message, email.Message):
            # Imported when there is one: it takes longer than all of this package.
            from ehlo._client.email import recipients_of, sender_of

            self._message = message
            sender = sender_of(message) if sender is None else sender
            recipients = recipients_of(message) if recipients is None else recipients
        else:
            self._take(message)
        if sender is None:
            raise LocalProtocolError("no sender: give one; the null reverse-path is ehlo.NULL (RFC 5321 4.5.5)")
        if recipients is None:
            raise LocalProtocolError("no recipients: give at least one (RFC 5321 3.3)")
        self.sender: SenderLike = ascii_path(sender)
        self.recipients = recipient_list(recipients)

    def _take(self, message: Any) -> None:
        if isinstance(message, str):
            raise TypeError("a message is octets: encode the str, or use email.message.EmailMessage")
        if isinstance(message, AsyncIterable):
            self.source = Source(message)
        elif hasattr(message, "read"):
            if self._size is None:  # a lower bound: enough to know that a message is too large (RFC 1870 6.1)
                self._size = _octets_left(message)
            found = _read_file(message)
            if isinstance(found, bytes):
                self._content = found
            else:
                self.source = Source(found)
        else:
            try:
                memoryview(message)
            except TypeError:
                if not isinstance(message, Iterable):
                    raise TypeError(
                        f"a message is bytes, an email.message, a binary file or an iterable of bytes, "
                        f"not {type(message).__name__}"
                    ) from None
                self.source = Source(message)
            else:
                self._content = message

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
        source = self.source
        if source is None:
            content = self._content
            if self._message is not None:
                from ehlo._client.email import flatten

                international = self._utf8_header or self._international
                content = flatten(self._message, conn.capabilities, international=international)
            assert content is not None
        try:
            if source is None:
                return conn.send_message(self.sender, self.recipients, content)  # type: ignore[arg-type]
            return conn.start_message(
                self.sender,
                self.recipients,
                size=self._size,
                eight_bit=self._eight_bit,
                utf8_header=self._utf8_header,
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
