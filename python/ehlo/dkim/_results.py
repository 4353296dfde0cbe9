"""The Authentication-Results field (RFC 8601): written, read, and removed where it claims to be ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ehlo._errors import LocalProtocolError

__all__ = [
    "AuthenticationResult",
    "authentication_results",
    "parse_authentication_results",
    "remove_claims",
]

_KEYWORD: Final = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?")
_PLAIN: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # a token of RFC 2045 5.1
_PLAIN_ADDRESS: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~/=-]*@[0-9A-Za-z.-]+")
_VALUE: Final = r'("(?:[^"\\]|\\.)*"(?:@[^\s;"]*)?|[^\s;"]+)'
_SERVER: Final = re.compile(rf"\s*{_VALUE}(?:\s+([0-9]+))?\s*", re.DOTALL)
_METHOD: Final = re.compile(r";\s*([0-9A-Za-z-]+)(?:\s*/\s*([0-9]+))?\s*=\s*([0-9A-Za-z-]+)\s*")
_REASON: Final = re.compile(rf"reason\s*=\s*{_VALUE}\s*", re.DOTALL | re.IGNORECASE)
_PROPERTY: Final = re.compile(rf"([0-9A-Za-z-]+)\s*\.\s*([0-9A-Za-z_-]+)\s*=\s*{_VALUE}\s*", re.DOTALL)
_NONE: Final = re.compile(r";\s*none\s*;?\s*", re.IGNORECASE)
_FIELD_NAME: Final = re.compile(rb"authentication-results[ \t]*:", re.IGNORECASE)
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True, slots=True)
class AuthenticationResult:
    """What one method found (RFC 8601 2.2).

    Arguments:
        method: ``"dkim"``, ``"spf"``, ``"dmarc"`` …
        result: ``"pass"``, ``"fail"``, ``"none"`` …
        reason: in words, for people.
        properties: what was looked at, like ``{"header.d": "example.org"}``.

    Raises:
        LocalProtocolError: for a method, a result or the name of a property that is none, or a line end in a value.

    Example::

        AuthenticationResult("dkim", "pass", properties={"header.d": "example.org"})
    """

    method: str
    result: str
    reason: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word in (self.method, self.result, *(part for name in self.properties for part in name.split(".", 1))):
            if not _KEYWORD.fullmatch(word.replace("_", "-")):
                raise LocalProtocolError(f"{word!r} is no keyword of RFC 8601 2.2")
        if any("." not in name for name in self.properties):
            raise LocalProtocolError("the name of a property is like 'header.d' (RFC 8601 2.2)")
        for value in (self.reason or "", *self.properties.values()):
            if re.search(r"[\r\n\0]", value):
                raise LocalProtocolError("a value of RFC 8601 has no line end and no NUL")


def authentication_results(authserv_id: str, results: Iterable[AuthenticationResult] = ()) -> bytes:
    """The whole Authentication-Results field with its CRLF, to stand above a message (RFC 8601 2.2, 4.1).

    Arguments:
        authserv_id: who says so: the name of this server, or of its organisation.
        results: what the methods found; nothing if none was used.

    Raises:
        LocalProtocolError: ``authserv_id`` is empty or has a line end.

    Example::

        content = authentication_results("mx.example", [AuthenticationResult("spf", "pass")]) + content
    """
    if not authserv_id or re.search(r"[\r\n\0]", authserv_id):
        raise LocalProtocolError("the name of an authentication server is one word, or one line of words")
    parts = []
    for one in results:
        words = [f"{one.method}={one.result}"]
        if one.reason is not None:
            words.append(f"reason={_quoted(one.reason)}")
        words += [f"{name}={_written(value)}" for name, value in one.properties.items()]
        parts.append("\r\n\t ".join(words))
    lines = [f"Authentication-Results: {_written(authserv_id)}", *(parts or ["none"])]
    return ";\r\n\t".join(lines).encode("utf-8", "surrogateescape") + b"\r\n"


def parse_authentication_results(value: str | bytes) -> tuple[str, tuple[AuthenticationResult, ...]]:
    """Who says so, and what the methods found. Comments are left out.

    Arguments:
        value: what stands behind the field's colon.

    Raises:
        LocalProtocolError: it is no such value (RFC 8601 2.2).

    Example::

        >>> parse_authentication_results("mx.example; spf=pass")
        ('mx.example', (AuthenticationResult(method='spf', result='pass', reason=None, properties={}),))
    """
    text = _without_comments(value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value)
    server = _SERVER.match(text)
    if server is None:
        raise LocalProtocolError("this names no authentication server (RFC 8601 2.2)")
    name, at = _read(server[1]), server.end()
    if at == len(text) or _NONE.fullmatch(text, at):
        return name, ()
    results = []
    while at < len(text) and text[at:].strip("; \t\r\n"):
        method = _METHOD.match(text, at)
        if method is None:
            raise LocalProtocolError(f"no result of a method stands at character {at} (RFC 8601 2.2)")
        at = method.end()
        reason = None
        if found := _REASON.match(text, at):
            reason, at = _read(found[1]), found.end()
        properties = {}
        while found := _PROPERTY.match(text, at):
            properties[f"{found[1].lower()}.{found[2]}"] = _read(found[3])
            at = found.end()
        results.append(AuthenticationResult(method[1].lower(), method[3].lower(), reason, properties))
    return name, tuple(results)


def remove_claims(content: bytes, authserv_id: str) -> bytes:
    """``content`` without the Authentication-Results fields that claim to be ours (RFC 8601 5).

    A field that cannot be read is removed if our name stands anywhere in it. A bare CR or LF ends a line here, since
    other programs may take it for one.

    Arguments:
        content: the message as it came in.
        authserv_id: our name; its case has no meaning.

    Example::

        content = authentication_results("mx.example", found) + remove_claims(content, "mx.example")
    """
    ours = authserv_id.lower()
    kept: list[bytes] = []
    at = 0
    for start, end in _fields(content):
        claim = _FIELD_NAME.match(content, start, end)
        if claim is not None and _claims(content[claim.end() : end], ours):
            kept.append(content[at:start])
            at = end
    return b"".join((*kept, content[at:])) if at else content


def _fields(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the fields of the header section stand, each with the end of its last line."""
    start = end = 0
    while end < len(content):
        found = _LINE.match(content, end)
        assert found is not None
        if content[end : end + 1] not in (b" ", b"\t"):
            if end > start:
                yield start, end
            start = end
            if content[end : end + 1] in (b"\r", b"\n"):
                return
        end = found.end()
    if end > start:
        yield start, end


def _claims(value: bytes, ours: str) -> bool:
    text = value.decode("utf-8", "surrogateescape")
    server = _SERVER.match(_without_comments(text))
    if server is None or text.count("(") != text.count(")"):
        return ours in text.lower()
    return _read(server[1]).lower() == ours


def _without_comments(text: str) -> str:
    """Each comment becomes a space (RFC 5322 3.2.2); comments may hold comments."""
    out: list[str] = []
    depth, quoted, at = 0, False, 0
    while at < len(text):
        mark = text[at]
        width = 2 if mark == "\\" and (quoted or depth) else 1
        if mark == '"' and not depth:
            quoted = not quoted
        elif mark == "(" and not quoted:
            depth += 1
        elif mark == ")" and depth:
            depth -= 1
            at += 1
            if not depth:
                out.append(" ")
            continue
        if not depth:
            out.append(text[at : at + width])
        at += width
    return "".join(out)


def _read(word: str) -> str:
    """A value without its quoting."""
    if not word.startswith('"'):
        return word
    inside, _, behind = word[1:].rpartition('"')
    return re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL) + behind


def _written(word: str) -> str:
    plain = _PLAIN.fullmatch(word) or _PLAIN_ADDRESS.fullmatch(word)
    return word if plain else _quoted(word)


def _quoted(word: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
