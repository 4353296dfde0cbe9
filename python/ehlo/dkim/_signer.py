"""DKIM signatures (RFC 6376, 8301, 8463): :class:`Signer`. The canonical forms are the engine's."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from ehlo._core import DkimBody, dkim_fields, dkim_header
from ehlo._errors import LocalProtocolError
from ehlo.dkim._keys import Key, check_key, load_key

__all__ = ["OVERSIGNED", "SIGNED", "Signer", "normalized", "sign"]

Form: TypeAlias = Literal["simple", "relaxed"]

SIGNED: Final = (
    *("from", "reply-to", "subject", "date", "to", "cc", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding", "content-id", "content-description", "sender"),
    *("resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id"),
    *("list-id", "list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner", "list-archive"),
    *("list-unsubscribe-post", "auto-submitted"),
)
"""Fields that are signed where they stand: what RFC 6376 5.4.1 names, and what came after it."""

OVERSIGNED: Final = (
    *("from", "reply-to", "subject", "date", "to", "cc", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding"),
)
"""Fields that are signed once more than they stand there, so that none can be added (RFC 6376 5.4.2, 8.15)."""

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME: Final = re.compile(r"[!-9<-~]+")  # RFC 6376 2.10: no ";" in h=
_WIDTH: Final = 76
_HASHED: Final = Prehashed(SHA256())
_PADDING: Final = PKCS1v15()


class Signer:
    """Signs messages for one domain with one key.

    Arguments:
        key: of RSA or Ed25519: an object of ``cryptography``, or the octets of a PEM file.
        domain: the signing domain, in A-labels (RFC 6376 3.5, ``d=``).
        selector: under which name below ``_domainkey`` the DNS has the public key (``s=``).
        header: the canonical form of the header fields; ``"relaxed"`` bears white space that changes on the way.
        body: the same for the body.
        signed: names of the fields that are signed where they stand.
        oversigned: names that are signed once more than they stand there. From is signed in any case (5.4).
        identity: on whose behalf, like ``"@lists.example.org"`` (``i=``).
        expires_after: seconds until the signature ends (``x=``); ``None`` for no end.

    Raises:
        LocalProtocolError: for a key, a domain, a selector or a name that is none.
        ValueError: for an unknown canonical form.

    Example::

        signer = Signer(Path("mail.private").read_bytes(), "example.org", "mail")
        content = signer.sign(content) + content
    """

    __slots__ = (
        "_algorithm",
        "_key",
        "_names",
        "_oversigned",
        "body_form",
        "domain",
        "expires_after",
        "header_form",
        "identity",
        "selector",
    )

    def __init__(
        self,
        key: Key | bytes,
        domain: str,
        selector: str,
        *,
        header: Form = "relaxed",
        body: Form = "relaxed",
        signed: Sequence[str] = SIGNED,
        oversigned: Sequence[str] = OVERSIGNED,
        identity: str | None = None,
        expires_after: int | None = None,
    ) -> None:
        self._key = load_key(key) if isinstance(key, bytes) else check_key(key)
        self._algorithm = "rsa-sha256" if isinstance(self._key, RSAPrivateKey) else "ed25519-sha256"
        for what, name in (("domain", domain), ("selector", selector)):
            if not _DOMAIN.fullmatch(name):
                raise LocalProtocolError(f"{name!r} is no {what} for DKIM; write it in A-labels (RFC 6376 3.1, 3.5)")
        names = dict.fromkeys(name.lower() for name in ("from", *signed, *oversigned))
        for name in names:
            if not _NAME.fullmatch(name) or name == "dkim-signature":
                raise LocalProtocolError(f"{name!r} is no field that a signature may name (RFC 6376 3.5, 5.4)")
        if identity is not None and not _is_identity(identity, domain):
            raise LocalProtocolError(f"{identity!r} is not within {domain} (RFC 6376 3.5)")
        for form in (header, body):
            dkim_header(b"", form)
        self.domain: str = domain
        self.selector: str = selector
        self.header_form: Form = header
        self.body_form: Form = body
        self.identity: str | None = identity
        self.expires_after: int | None = expires_after
        self._names = tuple(name.encode() for name in names)
        self._oversigned = frozenset(name.lower().encode() for name in oversigned)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Signer:
        """A signer from plain settings: the arguments by name, with ``key`` as the path of a PEM file.

        Raises:
            LocalProtocolError: a setting is missing, unknown or wrong.
            OSError: the file cannot be read.

        Example::

            Signer.from_settings({"domain": "example.org", "selector": "mail", "key": "mail.private"})
        """
        given = dict(settings)
        try:
            given["key"] = Path(given["key"]).read_bytes()
            return cls(**given)
        except KeyError as exc:
            raise LocalProtocolError(f"a DKIM signer needs {exc.args[0]!r}") from exc
        except (TypeError, ValueError) as exc:
            raise LocalProtocolError(f"a DKIM signer: {exc}") from exc

    def __repr__(self) -> str:
        return f"<ehlo.dkim.Signer {self._algorithm} {self.selector}._domainkey.{self.domain}>"

    def sign(self, content: bytes, *, now: int | None = None) -> bytes:
        """The DKIM-Signature field for ``content``, to stand above it, with its CRLF.

        Arguments:
            content: the message as it goes out: before dot-stuffing, lines end by CRLF.
            now: seconds since 1970; the clock's if not given.

        Raises:
            LocalProtocolError: for content that other programs read in another way: with a bare CR or LF, with white
                space before the colon of a field, or with a line in the header section that is no field. What
                :func:`normalized` makes of it can be signed, if that goes out.

        Example::

            content = signer.sign(content) + content
        """
        return sign([self], content, now=now)

    def _field(self, names: Mapping[bytes, list[bytes]], body_hash: bytes, now: int) -> bytes:
        chosen: list[bytes] = []
        hashed = hashlib.sha256()
        form = self.header_form
        for name in self._names:
            fields = names.get(name, ())
            for field in reversed(fields):  # RFC 6376 5.4.2: from the bottom up
                hashed.update(dkim_header(field, form) + b"\r\n")
            chosen += [name] * (len(fields) + (name in self._oversigned or (name == b"from" and not fields)))
        words = ["v=1;", f"a={self._algorithm};", f"c={form}/{self.body_form};", f"d={self.domain};"]
        words += [f"s={self.selector};", f"t={now};"]
        if self.expires_after is not None:
            words.append(f"x={now + self.expires_after};")
        if self.identity is not None:
            words.append(f"i={self.identity};")
        lines = _folded("DKIM-Signature:", [f" {word}" for word in words])
        lines += _folded("h=", [name.decode() + ":" for name in chosen[:-1]] + [chosen[-1].decode() + ";"])
        lines.append(f"bh={base64.b64encode(body_hash).decode()};")
        field = ("\r\n\t".join(lines) + "\r\n\tb=").encode()
        hashed.update(dkim_header(field, form))  # RFC 6376 3.7: with an empty b=, without its CRLF
        digest = hashed.digest()
        key = self._key
        made = key.sign(digest, _PADDING, _HASHED) if isinstance(key, RSAPrivateKey) else key.sign(digest)
        text = base64.b64encode(made)
        # The first line holds "\tb=" as well. White space within the value has no meaning (RFC 6376 3.5).
        parts = [text[at : at + _WIDTH - 4] for at in range(0, len(text), _WIDTH - 4)]
        return field + b"\r\n\t ".join(parts) + b"\r\n"


def sign(signers: Iterable[Signer], content: bytes, *, now: int | None = None) -> bytes:
    """The DKIM-Signature fields of several signers, each with its CRLF: RSA and Ed25519 at once (RFC 8463 5).

    The body is read once for each canonical form that is needed. Arguments and errors as in :meth:`Signer.sign`.

    Example::

        content = ehlo.dkim.sign([rsa, ed25519], content) + content
    """
    signers = tuple(signers)
    fields, start = dkim_fields(content)
    names: dict[bytes, list[bytes]] = {}
    for field in fields:
        names.setdefault(field[: field.index(b":")].lower(), []).append(field)
    body = memoryview(content)[start:]
    hashes: dict[Form, bytes] = {}
    for form in dict.fromkeys(signer.body_form for signer in signers):
        hashed, canonical = hashlib.sha256(), DkimBody(form)
        for at in range(0, len(body), 1 << 18):
            hashed.update(canonical.feed(body[at : at + (1 << 18)]))
        hashed.update(canonical.finish())
        if canonical.has_bare_newline:
            raise LocalProtocolError("a bare CR or LF stands in the body")
        hashes[form] = hashed.digest()
    seconds = int(time.time()) if now is None else now
    return b"".join(signer._field(names, hashes[signer.body_form], seconds) for signer in signers)


def _folded(start: str, words: list[str]) -> list[str]:
    """The words in lines of at most 76 columns; they may be cut between any two (RFC 6376 3.5)."""
    lines, line = [], start
    for word in words:
        if len(line) + len(word) > _WIDTH and line != start:
            lines.append(line)
            line, word = "", word.lstrip()
        line += word
    return [*lines, line]


def _is_identity(identity: str, domain: str) -> bool:
    local, at, within = identity.rpartition("@")
    wrong = not at or not identity.isascii() or re.search(r"[\s;\x00-\x20\x7f]", local) is not None
    host, own = within.lower(), domain.lower()
    return not wrong and (host == own or host.endswith("." + own)) and _DOMAIN.fullmatch(within) is not None


_ANY_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")
_SPACE_BEFORE_COLON: Final = re.compile(rb"([!-9;-~]+)[ \t]+:")


def normalized(content: bytes) -> bytes:
    """``content`` as everybody reads it: each bare CR and LF becomes CRLF, and no space stands before a field's colon.

    It changes the message. What goes out must be what was signed.

    Example::

        >>> normalized(b"Subject : a\\n\\nb\\r")
        b'Subject: a\\r\\n\\r\\nb\\r\\n'
    """
    content = _ANY_NEWLINE.sub(b"\r\n", content)
    end = 0 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n")
    header, body = (content, b"") if end < 0 else (content[:end], content[end:])
    lines = header.split(b"\r\n")
    for at, line in enumerate(lines):
        if found := _SPACE_BEFORE_COLON.match(line):
            lines[at] = found[1] + line[found.end() - 1 :]
    return b"\r\n".join(lines) + body
