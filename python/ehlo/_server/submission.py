"""What a submission server does to a message that a relay must not do (RFC 6409 8, RFC 5321 6.4). No I/O."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from ehlo._errors import LocalProtocolError
from ehlo._idna import domain_to_ascii
from ehlo._server.prepend import begins_header, header_of

__all__ = ["submission_fields"]

# RFC 5322 4.5: there may be white space before the colon.
_DATE: Final = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
# RFC 5322 3.6.4: what stands before and behind the @ of a Message-ID.
_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_ID_RIGHT: Final = re.compile(rf"{_DOT_ATOM.pattern}|\[[!-Z^-~]*\]")


def submission_fields(content: bytes, *, domain: str, now: datetime, ident: str | None = None) -> bytes:
    """The header fields that submission adds to ``content``: Date and Message-ID where it has none (RFC 6409 8.2,
    8.3). :func:`ehlo.prepend_fields` puts them above it. For submission only: a relay does not touch content (RFC 5321
    6.4).

    ``serve`` does that by itself for :meth:`ehlo.Handler.on_message` where the config has ``submission=True``. A
    handler with ``on_body`` has to do it when it has the header.

    Arguments:
        content: the message, or its beginning: only what stands before the first empty line is looked at.
        domain: what stands behind the ``@`` of the Message-ID: this server's name.
        now: when the message was received; must know its offset from UTC.
        ident: what stands before the ``@``; random by default.

    Returns:
        The fields with their CRLF, ``b""`` if none is missing; and an empty line behind them if the content has no
        header.

    Raises:
        LocalProtocolError: ``now`` has no offset, or ``domain`` or ``ident`` cannot stand there.

    Example::

        fields = submission_fields(content, domain=session.hostname, now=datetime.now(UTC))
        content = ehlo.prepend_fields(fields, content)
    """
    if now.utcoffset() is None:
        raise LocalProtocolError("submission_fields: now must have an offset: datetime.now(UTC)")
    right = _id_right(domain)
    if not _ID_RIGHT.fullmatch(right):
        raise LocalProtocolError(f"submission_fields: domain must be a domain or an address literal, not {domain!r}")
    if ident is not None and not _DOT_ATOM.fullmatch(ident):
        raise LocalProtocolError(f"submission_fields: ident must be words with single dots between, not {ident!r}")
    header = header_of(content)
    fields = b""
    if not _DATE.search(header):
        fields += f"Date: {format_datetime(now)}\r\n".encode("ascii")
    if not _MESSAGE_ID.search(header):
        name = f"{now:%Y%m%d%H%M%S}.{secrets.token_hex(8)}" if ident is None else ident
        fields += f"Message-ID: <{name}@{right}>\r\n".encode("ascii")
    if fields and not begins_header(content):
        fields += b"\r\n"  # or the first line of the text would be taken for a field
    return fields


def _id_right(domain: str) -> str:
    """A domain, or an address literal, as RFC 5322 3.6.4 has it: ASCII."""
    ascii_domain = domain_to_ascii(domain)
    return "localhost" if ascii_domain is None else ascii_domain
