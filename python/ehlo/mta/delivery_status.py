"""Delivery status notifications: bounces, warnings of delay, and reports of success (RFC 3461, 3464, 6522, 6533).

Example::

    report = build_report(status, recipient="jane@example.org", original=content, now=datetime.now(UTC))
    parse_report(report).status.recipients[0].status  # "5.1.1"
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from typing import Final

from ehlo.mta._status_fields import Action, DeliveryStatus, DeliveryStatusError, RecipientStatus

__all__ = [
    "Action",
    "DeliveryStatus",
    "DeliveryStatusError",
    "RecipientStatus",
    "Report",
    "build_report",
    "explain",
    "parse_report",
]

MAX_RETURNED: Final = 51200
"""Octets of a message that a report returns; of a longer one it returns the header section (RFC 3461 4.3)."""

_STATUS_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
_FULL_TYPES: Final = ("message/rfc822", "message/global")
_HEADER_TYPES: Final = ("text/rfc822-headers", "message/rfc822-headers", "message/global-headers")
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
_SUBJECTS: Final[dict[Action, str]] = {
    "failed": "Your message could not be delivered",
    "delayed": "Your message is delayed",
    "delivered": "Your message was delivered",
    "relayed": "Your message was relayed",
    "expanded": "Your message was sent to a list",
}
_SENTENCES: Final[dict[Action, str]] = {
    "failed": "It was not delivered to the recipients below, and will not be tried again.",
    "delayed": "It was not delivered yet to the recipients below. You need not send it again: it is tried further.",
    "delivered": "It was delivered to the recipients below.",
    "relayed": "It was handed on to a server that sends no confirmation of its own, for the recipients below.",
    "expanded": "It was sent on to the members of the lists below.",
}


@dataclass(frozen=True, slots=True)
class Report:
    """A notification, read.

    Attributes:
        status: what it says.
        text: its part for people.
        original: the octets of the message that it returns, or of its header section; ``None`` without that part.
        is_full: whether ``original`` is the whole message.

    Example::

        parse_report(octets).status.recipients
    """

    status: DeliveryStatus
    text: str
    original: bytes | None
    is_full: bool


def explain(status: DeliveryStatus) -> str:
    """The text of a notification for people, in English: the default of :func:`build_report`.

    Example::

        print(explain(status))
    """
    lines = [f"This is the mail server {status.reporting_mta}, about a message that you sent."]
    for action, sentence in _SENTENCES.items():
        chosen = [one for one in status.recipients if one.action == action]
        if chosen:
            lines += ["", sentence, ""]
        for one in chosen:
            lines.append(f"<{one.final_recipient}>")
            if one.diagnostic is not None:
                who = f"{one.remote_mta} said" if one.remote_mta else "the reason"
                lines.append(f"    {who}: {one.diagnostic[1]}")
            if one.will_retry_until is not None:
                lines.append(f"    it is tried until {format_datetime(one.will_retry_until)}")
    return "\n".join(lines) + "\n"


def build_report(
    status: DeliveryStatus,
    *,
    recipient: str,
    original: bytes,
    now: datetime,
    full: bool = True,
    smtputf8: bool = False,
    text: str | None = None,
    ident: str | None = None,
) -> bytes:
    """A whole notification, to be sent with the null reverse-path (RFC 3461 6.1, 6.2; RFC 6522).

    Arguments:
        status: what it says.
        recipient: to whom it goes: the reverse-path of the message it is about.
        original: that message, or its beginning with at least the header section.
        now: its date, with its offset from UTC.
        full: return the whole message where it has no more than 50 KiB. A report without a failed recipient returns
            the header section only (RFC 3461 4.3).
        smtputf8: the message came with SMTPUTF8: addresses and header fields are written in UTF-8 (RFC 6533).
        text: the part for people; by default :func:`explain`.
        ident: for the Message-ID and the boundary; random by default.

    Example::

        build_report(status, recipient="jane@example.org", original=content, now=datetime.now(UTC))
    """
    action = status.recipients[0].action
    utf8 = smtputf8 or not recipient.isascii()
    whole = full and action == "failed" and len(original) <= MAX_RETURNED
    returned = original if whole else _header_of(original)
    name = secrets.token_hex(12) if ident is None else ident
    boundary = f"={name}="
    while boundary.encode() in returned:
        boundary = f"={secrets.token_hex(12)}="
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{status.reporting_mta}>",
        f"To: <{recipient}>",
        f"Subject: {_SUBJECTS[action]}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{name}@{status.reporting_mta}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="delivery-status";\r\n boundary="{boundary}"',
    ]
    said = (explain(status) if text is None else text).replace("\r\n", "\n").replace("\n", "\r\n").encode()
    parts = (
        ("text/plain; charset=utf-8", "Notification", said),
        (_STATUS_TYPES[utf8], "Delivery report", status.to_bytes(utf8=utf8)),
        (_returned_type(whole, utf8, returned), "Undelivered message" if whole else "Message header", returned),
    )
    out = ["\r\n".join(head).encode(), b"\r\n\r\n"]
    for kind, description, content in parts:
        encoding = "7bit" if content.isascii() else "8bit"
        out.append(
            f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Description: {description}\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        )
        out += [content, b"\r\n"]
    out.append(f"--{boundary}--\r\n".encode())
    return b"".join(out)


def parse_report(octets: bytes) -> Report:
    """Read a notification, strictly.

    Raises:
        DeliveryStatusError: it is no ``multipart/report`` of the type ``delivery-status`` with a part for people, a
            status that keeps the rules, and at most one returned message (RFC 6522 3, RFC 3464 2).

    Example::

        for one in parse_report(octets).status.recipients: print(one.final_recipient, one.status)
    """
    header, content = _part(octets)
    report_type = str(header.get_param("report-type", ""))
    if header.get_content_type() != "multipart/report" or report_type.lower() != "delivery-status":
        raise DeliveryStatusError("not multipart/report with report-type=delivery-status (RFC 6522 3, RFC 3464 2)")
    boundary = header.get_boundary()
    if not boundary:
        raise DeliveryStatusError("the multipart has no boundary (RFC 2046 5.1.1)")
    parts = [_part(part) for part in _split(content, boundary.encode("utf-8", "surrogateescape"))]
    if not 2 <= len(parts) <= 3:
        raise DeliveryStatusError(f"a report has two or three parts, not {len(parts)} (RFC 6522 3)")
    (first, text), (second, fields) = parts[:2]
    if second.get_content_type() not in _STATUS_TYPES:
        raise DeliveryStatusError(f"the second part is {second.get_content_type()}, no delivery status (RFC 3464 2)")
    status = DeliveryStatus.parse(_decode(second, fields))
    charset = first.get_content_charset("us-ascii")
    try:
        said = _decode(first, text).decode(charset, "replace")
    except LookupError:
        said = _decode(first, text).decode("ascii", "replace")
    if len(parts) == 2:
        return Report(status, said, None, is_full=False)
    third, returned = parts[2]
    kind = third.get_content_type()
    if kind not in (*_FULL_TYPES, *_HEADER_TYPES):
        raise DeliveryStatusError(f"the third part is {kind}, no message (RFC 6522 3)")
    return Report(status, said, _decode(third, returned), is_full=kind in _FULL_TYPES)


# ---- MIME ------------------------------------------------------------------------------------------------------


def _header_of(content: bytes) -> bytes:
    """The header section with its last CRLF, without the empty line; never more than is returned of a message."""
    if content.startswith((b"\r\n", b"\n")):
        return b""
    found = _EMPTY_LINE.search(content)
    header = content if found is None else content[: found.start()] + b"\r\n"
    if len(header) > MAX_RETURNED:
        header = header[: header.rfind(b"\n", 0, MAX_RETURNED) + 1]
    return header


def _returned_type(whole: bool, utf8: bool, returned: bytes) -> str:
    if utf8 and not returned.isascii():
        return "message/global" if whole else "message/global-headers"
    return "message/rfc822" if whole else "text/rfc822-headers"


def _part(octets: bytes) -> tuple[Message, bytes]:
    """Header and content of a message or of a part."""
    if octets.startswith((b"\r\n", b"\n")):
        return BytesHeaderParser().parsebytes(b""), octets.partition(b"\n")[2]
    found = _EMPTY_LINE.search(octets)
    if found is None:
        raise DeliveryStatusError("a part ends inside its header section (RFC 2046 5.1)")
    return BytesHeaderParser().parsebytes(octets[: found.end()]), octets[found.end() :]


def _split(content: bytes, boundary: bytes) -> list[bytes]:
    """The parts of a multipart (RFC 2046 5.1.1)."""
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r?\n|$)", content)
    bodies, ends = pieces[::2], pieces[1::2]
    if b"--" not in ends:
        raise DeliveryStatusError("the multipart has no last boundary (RFC 2046 5.1.1)")
    return bodies[1 : ends.index(b"--") + 1]


def _decode(header: Message, content: bytes) -> bytes:
    encoding = str(header.get("Content-Transfer-Encoding", "7bit")).strip().lower()
    match encoding:
        case "7bit" | "8bit" | "binary":
            return content
        case "quoted-printable":
            return quopri.decodestring(content)
        case "base64":
            try:
                return base64.b64decode(b"".join(content.split()), validate=True)
            except binascii.Error:
                raise DeliveryStatusError("a part is no base64 (RFC 2045 6.8)") from None
    raise DeliveryStatusError(f"no transfer encoding: {encoding!r} (RFC 2045 6.1)")
