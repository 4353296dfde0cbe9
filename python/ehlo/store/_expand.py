"""Paths made of mailboxes: ``/var/mail/{domain}/{local_part}`` and a recipient give one safe path. No I/O."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from ehlo._core import Address
from ehlo._errors import LocalProtocolError
from ehlo._types import ForwardPath

__all__ = ["expand"]

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_NAMES: Final = ("domain", "local_part")
_UNSAFE: Final = re.compile(rb"[^a-zA-Z0-9._+=@-]")
# A name in a directory has at most 255 octets; the lock of an mbox, and what the template adds, need some of them.
_LONGEST: Final = 180
_KEPT: Final = 100


def expand(template: str, recipient: ForwardPath, *, domain: str | None = None, fold_case: bool = True) -> str:
    """The path of a recipient's mailbox: ``{domain}`` and ``{local_part}`` in ``template`` are filled in.

    An address never leaves its place in the path: each of the two becomes (a part of) one name,
    without ``/`` and NUL, and not beginning with ``.`` or ``-``. Octets outside ``A-Z a-z 0-9 . _ + = @ -`` are written
    as ``%`` and two hexadecimal digits. Two different mailboxes never get the same path from a template that has both.
    A value that would be longer than 180 octets is cut; ``%-`` and a hash of the whole follow.

    The domain is in lower case, its labels of other scripts as A-labels (RFC 5890 2.3.2.1), so that both ways to write
    it give one path. The local part is in Unicode's normal form C; its quoting does not count (RFC 5321 4.1.2).

    Arguments:
        template: a path with ``{domain}`` and ``{local_part}``.
        recipient: the forward-path.
        domain: the text for ``{domain}`` of the recipient ``<Postmaster>``, which has no domain (RFC 5321 4.5.1).
        fold_case: write the local part in lower case, so that ``Jane`` and ``jane`` are one mailbox. The host that
            delivers finally may decide this (RFC 5321 2.4).

    Raises:
        LocalProtocolError: the template has another name in braces; or it needs a domain, and there is none.

    Example::

        >>> expand("/mail/{domain}/{local_part}", ehlo.Address("../Jane@Example.org"))
        '/mail/example.org/%2E.%2Fjane'
    """
    values = {"domain": domain, "local_part": "postmaster"}
    if isinstance(recipient, Address):
        values = {"domain": recipient.domain, "local_part": recipient.local_part}

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in _NAMES:
            raise LocalProtocolError(f"a template of a path has {{domain}} and {{local_part}}, not {match[0]!r}")
        value = values[name]
        if value is None:
            raise LocalProtocolError("the recipient Postmaster has no domain: give one to stand for {domain}")
        if name == "domain":
            return _safe(_ascii_domain(value))
        value = unicodedata.normalize("NFC", value)
        return _safe(unicodedata.normalize("NFC", value.lower()) if fold_case else value)

    return _PLACE.sub(fill, template)


def _ascii_domain(domain: str) -> str:
    """A domain in lower case and A-labels. For the labels that IDNA 2008 allows (RFC 5891 5) this is the A-label. A
    mailbox must not move when a package for IDNA is installed or removed, so none is asked."""
    labels = unicodedata.normalize("NFC", domain.lower()).split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def _safe(value: str) -> str:
    """One name, or a part of one: see :func:`expand`."""
    octets = value.encode("utf-8", "surrogatepass")
    escaped = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")
    if escaped[:1] in (".", "-"):
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if len(escaped) > _LONGEST:
        # "%-" stands in no other name: a percent sign has two digits behind it.
        return f"{escaped[:_KEPT]}%-{hashlib.sha256(octets).hexdigest()}"
    return escaped or "%"
