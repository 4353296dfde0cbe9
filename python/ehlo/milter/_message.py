"""A message between two filters: its header fields in memory, its body in a file above some size, its envelope.

What a filter changes is collected first and done when the filter has said its last word, so that a filter that dies
in the middle changes nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Final, NamedTuple, TypeAlias

from ehlo._core import Envelope, Recipient, Reply, Sender, parse_command
from ehlo._errors import CommandSyntaxError
from ehlo._types import path_text
from ehlo.milter._events import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    InsertHeader,
    Modification,
    Quarantine,
    RemoveRecipient,
    ReplaceBody,
)

__all__ = ["Changes", "Field", "HeaderReader", "HeaderTooLargeError", "MessageInHand", "answers_for"]

log: Final = logging.getLogger("ehlo.milter")

_FIELD: Final = re.compile(rb"([!-9;-~]+)([ \t]*:)(.*)", re.DOTALL)
PIECE: Final = 65535
Said: TypeAlias = str | Reply | None


class Field(NamedTuple):
    """A header field as it stands: its name, what stands up to the colon, and what stands behind it without CRLF."""

    name: bytes
    colon: bytes
    value: bytes


class HeaderTooLargeError(Exception):
    """A header section is larger than the limit."""


class HeaderReader:
    """Collects a header section. Memory is bounded by ``limit`` octets and one piece.

    A line that is no field and continues none ends the section as an empty line does, and belongs to the body.
    """

    __slots__ = ("_collected", "_limit", "_searched", "fields", "separated")

    def __init__(self, limit: int) -> None:
        self._collected = bytearray()
        self._limit = limit
        self._searched = 0
        self.fields: list[Field] = []
        self.separated = True

    def feed(self, piece: bytes) -> bytes | None:
        """What of the body has come with it; ``None`` while the header section goes on.

        Raises:
            HeaderTooLargeError: it goes on for too long.
        """
        collected = self._collected
        collected += piece
        if collected.startswith(b"\r\n"):
            return self._end(0, 2)
        at = collected.find(b"\r\n\r\n", self._searched)
        if at >= 0:
            return self._end(at + 2, at + 4)
        self._searched = max(0, len(collected) - 3)
        if len(collected) > self._limit:
            raise HeaderTooLargeError
        return None

    def finish(self) -> bytes:
        """The content is over. What is left is the body."""
        body = self._end(len(self._collected), len(self._collected))
        self.separated = bool(body) and self.separated
        return body

    def section(self) -> bytes:
        """All fields, each with its CRLF."""
        return b"".join(b"".join(field) + b"\r\n" for field in self.fields)

    def _end(self, end: int, start: int) -> bytes:
        if end > self._limit:
            raise HeaderTooLargeError
        octets = bytes(self._collected)
        self._collected.clear()
        at = 0
        for line in octets[:end].split(b"\r\n"):
            if at >= end:
                break
            if line[:1] in (b" ", b"\t") and self.fields:
                last = self.fields[-1]
                self.fields[-1] = last._replace(value=last.value + b"\r\n" + line)
            elif found := _FIELD.fullmatch(line):
                self.fields.append(Field(*found.groups()))
            else:
                self.separated = False
                return octets[at:]
            at += len(line) + 2
        return octets[start:]


def new_body(memory: int) -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=memory)


class MessageInHand:
    """The message as the filters so far have left it.

    Attributes:
        envelope: sender and recipients.
        fields: the header fields.
        separated: an empty line stands between header section and body.
        body: a file; above ``memory`` octets it is on the disk.
        quarantine: why a filter wants it to be kept back.
        changed_envelope: a filter changed sender or recipients.
    """

    __slots__ = ("body", "changed_envelope", "envelope", "fields", "memory", "quarantine", "separated")

    def __init__(self, envelope: Envelope, memory: int) -> None:
        self.envelope = envelope
        self.memory = memory
        self.fields: list[Field] = []
        self.separated = True
        self.body = new_body(memory)
        self.quarantine: str | None = None
        self.changed_envelope = False

    def close(self) -> None:
        self.body.close()

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of at most 65,535 octets."""
        self.body.seek(0)
        while piece := self.body.read(PIECE):
            yield piece

    def content(self) -> Iterator[bytes]:
        """The whole content in pieces."""
        section = b"".join(b"".join(field) + b"\r\n" for field in self.fields)
        yield section + b"\r\n" if self.separated else section
        yield from self.pieces()


class Changes:
    """What one filter wants changed, until it has said its last word."""

    __slots__ = ("_body", "_list", "_message")

    def __init__(self, message: MessageInHand) -> None:
        self._message = message
        self._list: list[Modification] = []
        self._body: SpooledTemporaryFile[bytes] | None = None

    def add(self, change: Modification) -> None:
        """One of them, in order."""
        if isinstance(change, ReplaceBody):
            if self._body is None:
                self._body = new_body(self._message.memory)
            self._body.write(change.chunk)
        else:
            self._list.append(change)

    def drop(self) -> None:
        """The filter did not come to its end."""
        if self._body is not None:
            self._body.close()

    def apply(self) -> None:
        """All of them, in order."""
        message = self._message
        for change in self._list:
            _apply(message, change)
        if self._body is not None or any(isinstance(change, _HEADER_CHANGES) for change in self._list):
            message.separated = True  # else what follows a line that is no field would not be read as it is meant
        if self._body is not None:
            message.body.close()
            message.body, self._body = self._body, None


_HEADER_CHANGES: Final = (AddHeader, InsertHeader, ChangeHeader)


def _apply(message: MessageInHand, change: Modification) -> None:
    fields = message.fields
    match change:
        case AddHeader(name, value):
            fields.append(Field(name, b":", value))
        case InsertHeader(index, name, value):
            # Filters count the Received field of the MTA, which is not there yet, as the first one.
            fields.insert(min(max(index - 1, 0), len(fields)), Field(name, b":", value))
        case ChangeHeader(index, name, value):
            _change_header(fields, max(index, 1), name, value)
        case ChangeSender(path, parameters):
            _change_sender(message, path, parameters)
        case AddRecipient(path, parameters):
            recipient = _recipient(path, parameters)
            known = [one.path for one in message.envelope.recipients]
            if recipient is not None and recipient.path not in known:
                _readdress(message, [*message.envelope.recipients, recipient])
        case RemoveRecipient(path):
            gone = _recipient(path, "")
            if gone is not None:
                _readdress(message, [one for one in message.envelope.recipients if one.path != gone.path])
        case Quarantine(reason):
            message.quarantine = reason


def _change_header(fields: list[Field], index: int, name: bytes, value: bytes) -> None:
    lower = name.lower()
    places = [at for at, field in enumerate(fields) if field.name.lower() == lower]
    if index <= len(places):
        at = places[index - 1]
        if value:
            fields[at] = Field(name, b":", value)
        else:
            del fields[at]
    elif value:
        fields.append(Field(name, b":", value))


def _readdress(message: MessageInHand, recipients: list[Recipient]) -> None:
    message.envelope = Envelope(message.envelope.sender, recipients)
    message.changed_envelope = True


def _change_sender(message: MessageInHand, path: str, parameters: str) -> None:
    old = message.envelope.sender.parameters
    words = parameters or " ".join(word if value is None else f"{word}={value}" for word, value in old)
    sender = _parsed(f"MAIL FROM:<{path}> {words}").sender if _is_line(path + parameters) else None
    if sender is None:
        log.warning("a filter wants %r for a sender, which is none; the sender stays", path)
        return
    message.envelope = Envelope(sender, message.envelope.recipients)
    message.changed_envelope = True


class _Nothing:
    sender: Sender | None = None
    recipient: Recipient | None = None


def _parsed(line: str) -> _Nothing:
    found = _Nothing()
    try:
        command = parse_command(line.strip().encode("utf-8", "surrogateescape"))
    except CommandSyntaxError:
        return found
    found.sender, found.recipient = command.sender, command.recipient
    return found


def _is_line(text: str) -> bool:
    return not any(octet in text for octet in "\r\n\0<>")


def _recipient(path: str, parameters: str) -> Recipient | None:
    recipient = _parsed(f"RCPT TO:<{path}> {parameters}").recipient if _is_line(path + parameters) else None
    if recipient is None:
        log.warning("a filter names %r as a recipient, which is none; the recipients stay", path)
    return recipient


def answers_for(
    before: Sequence[Recipient], after: Sequence[Recipient], given: Sequence[Said], accepted: Said
) -> list[Said]:
    """Answers for the recipients that the client named (RFC 2033 4.2), when a filter changed them.

    One that a filter removed was accepted; the answers for those that it added concern nobody.
    """
    left: dict[str, list[Said]] = {}
    for recipient, answer in zip(after, given, strict=True):
        left.setdefault(path_text(recipient.path), []).append(answer)
    answers: list[Said] = []
    for recipient in before:
        waiting = left.get(path_text(recipient.path))
        answers.append(waiting.pop(0) if waiting else accepted)
    return answers
