"""What a message looks like in a file: the fields of final delivery on top, LF line ends, mbox quoting. No I/O."""

from __future__ import annotations

import re
from typing import Final

from ehlo._core import Address, Envelope
from ehlo._server.prepend import FieldPrepender, checked_fields, without_empty_line
from ehlo._server.trace_fields import return_path
from ehlo._types import path_text
from ehlo.store._store import RecipientField

__all__ = ["FileContent", "MboxContent", "final_fields", "mbox_sender"]

_FROM: Final = b"From "
_QUOTED: Final = re.compile(rb"^(>*From )", re.MULTILINE)


def final_fields(envelope: Envelope, fields: bytes, recipient_field: RecipientField | None) -> bytes:
    """The fields above a message that is delivered finally: Return-Path first (RFC 5321 4.4), then ``fields`` such as
    Received, then one field for each recipient if that is wanted."""
    lines = [return_path(envelope.sender.path), without_empty_line(checked_fields(fields))]
    if recipient_field is not None:
        values = dict.fromkeys(path_text(recipient.path) for recipient in envelope.recipients)  # each once
        lines += [f"{recipient_field}: {value}\r\n".encode("utf-8", "backslashreplace") for value in values]
    return b"".join(lines)


def mbox_sender(envelope: Envelope) -> bytes:
    """The sender in a separator line (B-TRC-16, RFC 4155 App. A). The line is read by its spaces; the local part may
    hold some, so they become ``_``."""
    path = envelope.sender.path
    sender = path.mailbox if isinstance(path, Address) else "MAILER-DAEMON"
    return "".join("_" if char.isspace() else char for char in sender).encode("utf-8", "backslashreplace")


class FileContent:
    """Content as it comes from a client becomes content of a file: fields above it, CRLF becomes LF, nothing else
    changes. Bare CR and bare LF stay.

    Arguments:
        fields: see :func:`ehlo.prepend_fields`.
    """

    __slots__ = ("_cr", "_prepender")

    def __init__(self, fields: bytes) -> None:
        self._prepender = FieldPrepender(fields)
        self._cr = False  # a CR was held back: LF may follow

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece; give what is ready for the file."""
        return self._lines(self._prepender.feed(chunk))

    def finish(self) -> bytes:
        """The content has ended; give the rest."""
        rest = self._lines(self._prepender.finish())
        return rest + b"\r" if self._cr else rest

    def _lines(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        if self._cr:
            octets = b"\r" + octets
        self._cr = octets.endswith(b"\r")
        return (octets[:-1] if self._cr else octets).replace(b"\r\n", b"\n")


class MboxContent:
    """The same for an mbox: a line ``From …`` in the message gets a ``>``, and so does ``>From …`` ("mboxrd"), so that
    a reader can take one away from each. A line end and an empty line follow the message.
    """

    __slots__ = ("_file", "_held", "_last", "_quotable")

    def __init__(self, fields: bytes) -> None:
        self._file = FileContent(fields)
        self._held = b""  # the beginning of "From ", when it may become that
        self._quotable = True  # nothing but ">" stands before the next octet in its line
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece; give what is ready for the file."""
        return self._ends(self._quote(self._file.feed(chunk)))

    def finish(self) -> bytes:
        """The content has ended; give the rest, with the empty line."""
        rest = self._ends(self._quote(self._file.finish()) + self._held)
        return rest + (b"\n" if self._last in (b"\n", b"") else b"\n\n")

    def _ends(self, octets: bytes) -> bytes:
        self._last = octets[-1:] or self._last
        return octets

    def _quote(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        octets = self._held + octets
        line = octets.rfind(b"\n") + 1
        word = octets[line:].lstrip(b">") if line or self._quotable else None
        next_quotable = word is not None and len(word) < len(_FROM) and _FROM.startswith(word)
        self._held = word if word is not None and next_quotable else b""
        out = octets[: len(octets) - len(self._held)]
        if _FROM in out:
            if self._quotable:
                out = _QUOTED.sub(rb">\1", out)
            else:
                end = out.find(b"\n") + 1 or len(out)
                out = out[:end] + _QUOTED.sub(rb">\1", out[end:])
        self._quotable = next_quotable
        return out
