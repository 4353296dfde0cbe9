"""How header fields are put above content: what may stand between the two (RFC 5322 2.1, 3.6.8). No I/O."""

from __future__ import annotations

import re
from typing import Final

from ehlo._errors import LocalProtocolError

__all__ = ["FieldPrepender", "begins_header", "checked_fields", "header_of", "prepend_fields", "without_empty_line"]

# RFC 5322 3.6.8 and 4.5: printable ASCII without the colon, then white space in old messages, then the colon. A name
# is shorter than a line (RFC 5322 2.1.1), so the search for the colon ends.
_FIELD: Final = re.compile(rb"[!-9;-~]{1,998}[ \t]{0,998}:")
# Whole fields, folded or not, and the empty line that may stand behind them.
_FIELDS: Final = re.compile(rb"(?:[!-9;-~]{1,998}[ \t]{0,998}:[^\r\n\0]*\r\n(?:[ \t][^\r\n\0]*\r\n)*)*(?:\r\n)?")
_FIELD_BEGUN: Final = re.compile(rb"[!-9;-~]{0,998}[ \t]{0,998}")
_MBOX_LINE: Final = re.compile(rb">*From ")
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")  # it begins with one octet, which is found quickly
_LIMIT: Final = 4096  # octets that are held back until the beginning is understood


def prepend_fields(fields: bytes, content: bytes) -> bytes:
    """Put header fields above content, so that they and the header of the content stay what they are.

    Every place that adds Received, Return-Path, Date or other fields uses this function. Between ``fields`` and
    ``content`` comes

    - nothing, when the content begins with a header field, or with the empty line that ends a header;
    - an empty line, when it begins with anything else: white space (which would continue our last field, RFC 5322
      2.2.3), text without a header, a byte order mark, NUL. The content becomes the text of the message, unchanged;
    - ``Mailbox-Line:`` before a line ``From …`` or ``>From …`` that a mail program left of its mbox, when a header
      field follows. The line becomes a field, as Postfix does it, and the header behind it stays a header.

    Arguments:
        fields: whole header fields, each with its CRLF. An empty line behind them is looked at as if it were absent:
            the rule above decides. ``b""`` gives the content back.
        content: the message, or its beginning if that has at least 4,096 octets.

    Raises:
        LocalProtocolError: ``fields`` does not end with CRLF, or holds anything but header fields.

    Example::

        field = ehlo.received(now=datetime.now(UTC), by=session.hostname)
        content = ehlo.prepend_fields(field, content)
    """
    prepender = FieldPrepender(fields)
    return prepender.feed(content) + prepender.finish()


class FieldPrepender:
    """Does the work of :func:`prepend_fields` for content that comes in pieces. It holds back at most 4,096 octets and
    one piece.

    Arguments:
        fields: as of :func:`prepend_fields`.

    Raises:
        LocalProtocolError: ``fields`` does not end with CRLF, or holds anything but header fields.

    Example::

        prepender = ehlo.FieldPrepender(field)
        for chunk in chunks: write(prepender.feed(chunk))
        write(prepender.finish())
    """

    __slots__ = ("_fields", "_head", "_open")

    def __init__(self, fields: bytes) -> None:
        self._fields = checked_fields(fields)
        self._head = b""
        self._open = bool(fields)

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece of content; give the octets that are ready, ``b""`` if there are none yet.

        Example::

            prepender.feed(b"Subject: x\\r\\n")
        """
        if not self._open:
            return chunk
        self._head += chunk
        return self._decide(False)

    def finish(self) -> bytes:
        """Say that the content has ended; give the octets that were held back.

        Example::

            prepender.finish()
        """
        return self._decide(True) if self._open else b""

    def _decide(self, whole: bool) -> bytes:
        head = self._head
        if not head:
            if not whole:
                return b""
            between = b""
        else:
            found = _between(head, whole)
            if found is None:
                return b""
            between, head = found
        fields = self._fields if not self._head else without_empty_line(self._fields)
        self._open = False
        self._head = b""
        return fields + between + head


def checked_fields(fields: bytes) -> bytes:
    """Header fields as they were given.

    Raises:
        LocalProtocolError: they do not end with CRLF, or there is anything but header fields.
    """
    if fields and not fields.endswith(b"\r\n"):
        raise LocalProtocolError(f"header fields must end with CRLF, not with {fields[-10:]!r}")
    if not _FIELDS.fullmatch(fields):
        raise LocalProtocolError(
            "each line must be 'Name: value' or begin with white space, and end with CRLF (RFC 5322 2.2)"
        )
    return fields


def without_empty_line(fields: bytes) -> bytes:
    """Header fields without the empty line that may stand behind them."""
    return fields[:-2] if fields.endswith(b"\r\n\r\n") else fields


def _between(head: bytes, whole: bool) -> tuple[bytes, bytes] | None:
    """What comes between the fields and the content, and the beginning of the content as it goes on. ``None`` when more
    octets are needed. ``whole`` says that no more will come."""
    seen = head[:_LIMIT]  # no more, so that the cuts between the pieces decide nothing
    top = _mbox_lines(seen)
    rest = seen[top:]
    if _FIELD.match(rest):
        lines = seen[:top].split(b"\n")[:-1]
        return b"".join(b"Mailbox-Line: " + line + b"\n" for line in lines), head[top:]
    if not whole and len(head) < _LIMIT and (_may_become_field(rest) or head == b"\r"):
        return None
    return b"" if begins_header(head) else b"\r\n", head


def _mbox_lines(head: bytes) -> int:
    """The length of the lines ``From …`` and ``>From …`` that ``head`` begins with, as far as they are whole."""
    at = 0
    while _MBOX_LINE.match(head, at) and not _FIELD.match(head, at):
        end = head.find(b"\n", at, _LIMIT)
        if end < 0:
            break
        at = end + 1
    return at


def _may_become_field(rest: bytes) -> bool:
    """Whether octets that are no field yet may be the beginning of one, or of an mbox line."""
    return _FIELD_BEGUN.fullmatch(rest) is not None or (_MBOX_LINE.match(rest) is not None and b"\n" not in rest)


def begins_header(content: bytes) -> bool:
    """Whether content begins with a header field, or with the empty line that ends a header. White space, text, a byte
    order mark and an mbox line are neither.

    Example::

        begins_header(b"Subject: x\\r\\n")  # True
    """
    return content.startswith((b"\r\n", b"\n")) or _FIELD.match(content) is not None


def header_of(content: bytes) -> bytes:
    """The header of ``content`` without the empty line behind it; ``b""`` when it has none. Mbox lines above a header
    are left away, as :func:`prepend_fields` makes fields of them.

    Example::

        header_of(b"Subject: x\\r\\n\\r\\nhello")  # b"Subject: x"
    """
    top = _mbox_lines(content[:_LIMIT])
    if not _FIELD.match(content, top):
        return b""
    end = _EMPTY_LINE.search(content, top)
    if end is None:
        return content[top:]
    header = content[top : end.start()]
    return header[:-1] if header.endswith(b"\r") else header
