"""Addresses and messages as aiosmtplib reads them."""

from __future__ import annotations

import copy
import email.header
import email.headerregistry
import email.policy
import email.utils
import io
import re
from collections.abc import Iterator
from email.generator import BytesGenerator
from email.message import EmailMessage, Message
from typing import Any, Final

__all__ = [
    "extract_addresses",
    "extract_recipients",
    "extract_sender",
    "flatten_message",
    "normalize_message_line_endings",
    "parse_address",
    "quote_address",
]

# What would end a path in a command line (RFC 5321 4.1.2).
_UNSAFE: Final = re.compile(r'[\s<>"\x00-\x1f\x7f]')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED_LOCAL_PART: Final = re.compile(r'^"(?:[^"\\\r\n]|\\.)*"')


def parse_address(address: str) -> str:
    """The address of a text like ``Jane <jane@mx.example>``.

    Raises:
        ValueError: it has what a path cannot have (RFC 5321 4.1.2).

    Example::

        parse_address("Jane <jane@mx.example>")  # "jane@mx.example"
    """
    whole = address.strip()
    parsed = email.utils.parseaddr(address)[1] or whole
    # parseaddr is lenient: what it leaves out must be a name before the address, or a comment behind it.
    exact = re.escape(parsed)
    is_all = whole == parsed or re.search(rf"<\s*{exact}\s*>?$|^{exact}\s*\(.*\)$", whole)
    if not is_all or _CONTROL.search(whole) or _UNSAFE.search(_QUOTED_LOCAL_PART.sub("", parsed, count=1)):
        raise ValueError(f"Address {address!r} contains characters not permitted in an SMTP mailbox")
    return parsed


def quote_address(address: str) -> str:
    """The same in angle brackets.

    Example::

        quote_address("jane@mx.example")  # "<jane@mx.example>"
    """
    return f"<{parse_address(address)}>"


def normalize_message_line_endings(message: bytes) -> bytes:
    """A content with CRLF at the end of each line, the last one too (RFC 5321 2.3.8)."""
    message = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    return message if message.endswith(b"\r\n") else message + b"\r\n"


def flatten_message(message: Message, /, *, utf8: bool = False, cte_type: str = "8bit") -> bytes:
    """The octets of a message, without its Bcc field.

    Arguments:
        message: stays as it is.
        utf8: write header fields in UTF-8 (RFC 6532).
        cte_type: ``"7bit"`` for servers without 8BITMIME.
    """
    shown = copy.copy(message)
    del shown["Bcc"]
    del shown["Resent-Bcc"]
    policy: Any = email.policy.compat32
    if isinstance(shown, EmailMessage):
        policy = email.policy.SMTPUTF8 if utf8 else email.policy.SMTP
    octets = io.BytesIO()
    BytesGenerator(octets, policy=policy.clone(cte_type=cte_type)).flatten(shown)
    return octets.getvalue()


def extract_addresses(header: Any, /) -> list[str]:
    """The addresses of one header field."""
    if isinstance(header, email.headerregistry.AddressHeader):
        return [one.addr_spec if hasattr(one, "addr_spec") else parse_address(str(one)) for one in header.addresses]
    if isinstance(header, email.header.Header):
        return [parse_address(text) for text in _texts(header)]
    return [address for _, address in email.utils.getaddresses([header])]


def _texts(header: email.header.Header) -> Iterator[str]:
    for piece, charset in email.header.decode_header(header):
        yield piece if isinstance(piece, str) else str(piece, charset or "ascii")


def _prefix(message: Message) -> str:
    resent = message.get_all("Resent-Date") or ()
    if len(resent) > 1:
        raise ValueError("Message has more than one 'Resent-' header block")
    return "Resent-" if resent else ""


def extract_sender(message: Message, /) -> str | None:
    """The Sender of a message, or else the first of From; of the Resent fields where there are such (RFC 5322 3.6.6).

    Raises:
        ValueError: it was resent more than once.
    """
    prefix = _prefix(message)
    header = message[prefix + "Sender"] if prefix + "Sender" in message else message[prefix + "From"]
    addresses = [] if header is None else extract_addresses(header)
    return addresses[0] if addresses else None


def extract_recipients(message: Message, /) -> list[str]:
    """All of To, Cc and Bcc; of the Resent fields where there are such (RFC 5322 3.6.6).

    Raises:
        ValueError: it was resent more than once.
    """
    prefix = _prefix(message)
    fields = (field for name in ("To", "Cc", "Bcc") for field in message.get_all(prefix + name, []))
    return [address for field in fields for address in extract_addresses(field)]
