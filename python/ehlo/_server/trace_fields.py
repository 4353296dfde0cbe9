"""Trace information: the Received and Return-Path fields, and the count that finds loops (RFC 5321 4.4, 6.3)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from ehlo._core import Address, NullPath
from ehlo._errors import LocalProtocolError
from ehlo._idna import domain_to_ascii
from ehlo._server.prepend import header_of
from ehlo._types import ForwardPath, ReversePath

__all__ = ["count_received", "protocol_keyword", "received", "return_path"]

_LDH: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
# What may stand as an id: an atom or dot-atom (RFC 5321 4.4 has Atom or msg-id).
_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
_RECEIVED: Final = re.compile(rb"\nreceived[ \t]*:")
_PRIORITIES: Final = range(-9, 10)
_WIDTH: Final = 77  # RFC 5322 2.1.1: below 78 where possible


def protocol_keyword(
    *, lmtp: bool = False, esmtp: bool = True, tls: bool = False, auth: bool = False, smtputf8: bool = False
) -> str:
    """The ``with`` keyword of a Received field (RFC 3848 1, RFC 6531 4.3).

    Arguments:
        lmtp: the session is LMTP.
        esmtp: it began with EHLO; HELO gives ``"SMTP"`` whatever else is said.
        tls: it is under TLS, by STARTTLS or from the first octet (RFC 8314 4.3).
        auth: the client has authenticated.
        smtputf8: the message was sent with SMTPUTF8.

    Example::

        >>> protocol_keyword(tls=True, auth=True)
        'ESMTPSA'
    """
    if not lmtp and not esmtp:
        return "SMTP"
    base = ("UTF8LMTP" if smtputf8 else "LMTP") if lmtp else ("UTF8SMTP" if smtputf8 else "ESMTP")
    return base + ("S" if tls else "") + ("A" if auth else "")


def received(
    *,
    now: datetime,
    by: str,
    hello: str | None = None,
    peer: str | None = None,
    rdns: str | None = None,
    protocol: str = "ESMTP",
    ident: str | None = None,
    recipients: Sequence[ForwardPath] = (),
    smtputf8: bool = False,
    user: str | None = None,
    tls: str | None = None,
    priority: int | None = None,
) -> bytes:
    """One Received field, folded, with its CRLF, to be put above a message (RFC 5321 4.4).

    Arguments:
        now: when the message was received; must know its offset from UTC.
        by: this server's name.
        hello: the name in EHLO, HELO or LHLO. What is no domain and no address literal goes into a comment, escaped.
        peer: the client's IP address as text, ``None`` when it has none (a Unix socket).
        rdns: the name of that address, if it was looked up and confirmed.
        protocol: the ``with`` keyword, as :attr:`ehlo.Session.protocol` or :func:`protocol_keyword` say it.
        ident: this server's id for the message: letters, digits, ``-`` and ``.``.
        recipients: the forward-paths; ``for`` is written when there is exactly one (RFC 5321 7.2).
        smtputf8: the message was sent with SMTPUTF8, so UTF-8 may stand here (RFC 6531 3.7.3); otherwise A-labels.
        user: the authenticated user's name, to disclose it; by default it is not (RFC 5321 7.6).
        tls: the registered name of the cipher suite in use, such as ``"TLS_AES_256_GCM_SHA384"`` (RFC 8314 4.3, 7.4).
        priority: the message's MT-PRIORITY, -9 to 9 (RFC 6710 4.1, 7).

    Raises:
        LocalProtocolError: ``now`` has no offset; ``protocol``, ``ident`` or ``tls`` is no atom; ``priority`` is none.

    Example::

        field = received(now=datetime.now(UTC), by=session.hostname, hello="client.example", peer="192.0.2.1")
        content = ehlo.prepend_fields(field, content)
    """
    if now.utcoffset() is None:
        raise LocalProtocolError("received: now must have an offset: datetime.now().astimezone() or datetime.now(UTC)")
    if ident is not None and not _ATOM.fullmatch(ident):
        raise LocalProtocolError(f"received: ident must be an atom of ASCII letters, digits, '-', '.', not {ident!r}")
    if not _ATOM.fullmatch(protocol):
        raise LocalProtocolError(f"received: protocol must be a keyword like 'ESMTPS' (RFC 3848 1), not {protocol!r}")
    if priority is not None and priority not in _PRIORITIES:
        raise LocalProtocolError(f"received: priority must be from -9 to 9 (RFC 6710 4.1), not {priority!r}")
    if tls is not None and not _ATOM.fullmatch(tls):
        raise LocalProtocolError(f"received: tls must be the registered name of a cipher suite, not {tls!r}")
    literal = _literal(peer)
    domain = _domain(hello, smtputf8)
    info = " ".join(part for part in (_domain(rdns, smtputf8) if literal else None, literal) if part)

    words = ["Received:", "from", domain or literal or "unknown"]
    if info:
        words.append(f"({info})")
    if domain is None and hello:
        words.append(f"(hello {_comment(hello)})")
    if user is not None:
        words.append(f"(authenticated as {_comment(user)})")
    words += ["by", _domain(by, smtputf8) or "localhost", "with", protocol]
    if ident is not None:
        words += ["id", ident]
    if len(recipients) == 1:
        path = _path(recipients[0], smtputf8)
        if path is not None:
            words += ["for", path]
    if tls is not None:
        words += ["tls", tls]
    if priority is not None:
        words += ["PRIORITY", str(priority)]
    words[-1] += ";"
    words += _date(now)
    return _fold(words)


def return_path(path: ReversePath) -> bytes:
    """The Return-Path field of final delivery, with its CRLF (RFC 5321 4.4); ``<>`` for the null path.

    Only what delivers finally adds it, on top of all; a relay does not. Never raises.

    Example::

        >>> return_path(ehlo.Address("<a@b>"))
        b'Return-Path: <a@b>\\r\\n'
    """
    mailbox = "" if isinstance(path, NullPath) else path.mailbox
    return f"Return-Path: <{mailbox}>\r\n".encode("utf-8", "backslashreplace")


def count_received(content: bytes) -> int:
    """How many Received fields the header of ``content`` has (RFC 5321 6.3: refuse at 100 or so, ``554 5.4.6``).

    Arguments:
        content: the message; only the octets before the first empty line are looked at.

    Example::

        if count_received(content) >= 100: return "554 5.4.6 too many hops"
    """
    return len(_RECEIVED.findall(b"\n" + header_of(content).lower()))


# Sessions come from the same places again and again, and many messages in one second: these are worth keeping.


@lru_cache(64)
def _date(now: datetime) -> list[str]:
    return format_datetime(now).split(" ")


@lru_cache(4096)
def _literal(peer: str | None) -> str | None:
    """An IP address as an address literal (RFC 5321 4.1.3)."""
    if peer is None:
        return None
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"[IPv6:{address}]"
        address = address.ipv4_mapped
    return f"[{address}]"


@lru_cache(4096)
def _domain(name: str | None, smtputf8: bool) -> str | None:
    """``name`` if it is a domain or an address literal, as A-labels unless UTF-8 is allowed; else ``None``."""
    if not name or len(name.encode("utf-8", "replace")) > 255:
        return None
    if name.startswith("[") and name.endswith("]"):
        inner = name[1:-1]
        return _literal(inner[5:] if inner[:5].lower() == "ipv6:" else inner)
    if not name.isascii():
        if smtputf8 and all(c.isalnum() or c in "-." for c in name) and not name.startswith((".", "-")):
            return name
        ascii_name = domain_to_ascii(name)
        if ascii_name is None:
            return None
        name = ascii_name
    return name if _LDH.fullmatch(name) else None


def _path(path: ForwardPath, smtputf8: bool) -> str | None:
    """``<mailbox>``, or ``None`` when it has no domain or cannot be said in ASCII though it must."""
    if not isinstance(path, Address):
        return None
    mailbox = path.mailbox
    if not smtputf8 and not mailbox.isascii():
        local, _, name = mailbox.rpartition("@")
        domain = _domain(name, False)
        if not local.isascii() or domain is None:
            return None
        mailbox = f"{local}@{domain}"
    return f"<{mailbox}>"


def _comment(text: str) -> str:
    """The client's words inside a comment: printable ASCII, specials quoted, cut at 200 characters (RFC 5322 3.2.2)."""
    out = []
    for char in text[:200]:
        if char in "()\\":
            out.append("\\" + char)
        elif " " < char <= "~":
            out.append(char)
        else:
            out.append("?")
    return "".join(out)


def _fold(words: list[str]) -> bytes:
    """The words on lines of at most ``_WIDTH`` octets, each word whole. NUL stands between words: it is in none."""
    text = "\0".join(words).encode()
    lines = []
    at = 0
    while len(text) - at > _WIDTH:
        end = text.rfind(b"\0", at + 1, at + _WIDTH + 1)
        if end < 0:  # one word is longer than a line
            end = text.find(b"\0", at + 1)
            if end < 0:
                break
        lines.append(text[at:end])
        at = end
    lines.append(text[at:])
    return (b"\r\n".join(lines) + b"\r\n").replace(b"\0", b" ")
