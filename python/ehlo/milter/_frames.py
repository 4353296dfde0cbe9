"""The octets of the milter protocol: frames written, frames found, and what is inside an answer's frame.

A frame is four octets of length, one octet that says what it is, and the rest of it. Strings in it end with NUL.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
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
from ehlo.milter._words import Actions, Stage

__all__ = [
    "FrameError",
    "Frames",
    "frame",
    "macro_lists",
    "modification",
    "needed_action",
    "reply_of",
    "strings",
    "two_strings",
]

_NUMBER: Final = struct.Struct("!I")
_ONE: Final = _NUMBER.pack(1)
_REPLY: Final = re.compile(rb"([45][0-5][0-9])(?:[ -](.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(r"([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_NAME: Final = re.compile(rb"[!-9;-~]+")


class FrameError(Exception):
    """The filter sent what the protocol does not allow. Stays within this package."""


def strings(words: Sequence[str]) -> bytes:
    """Strings of a frame, each with its NUL. A NUL inside would end a string early: a space takes its place."""
    joined = "\0".join(words)
    if joined.count("\0") >= len(words):
        joined = "\0".join([word.replace("\0", " ") for word in words])
    return (joined + "\0").encode("utf-8", "surrogateescape")


def two_strings(first: bytes, second: bytes) -> bytes:
    """The same of two words that are octets."""
    joined = b"%b\0%b\0" % (first, second)
    if joined.count(b"\0") > 2:
        joined = b"%b\0%b\0" % (first.replace(b"\0", b" "), second.replace(b"\0", b" "))
    return joined


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame as it goes over the wire."""
    return _NUMBER.pack(1 + len(payload)) + kind + payload


class Frames:
    """Finds the frames in what comes in, in any split. It holds one frame that is not whole, and nothing else.

    Arguments:
        limit: octets of the longest frame that is taken.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, octets: bytes | bytearray | memoryview) -> Iterable[tuple[bytes, bytes]]:
        """Gives each whole frame: what it is, and the rest.

        Raises:
            FrameError: a frame is empty or too long.
        """
        buffer = self._buffer
        if not buffer and octets[:4] == _ONE and len(octets) == 5:  # an answer without more, as most are
            yield bytes(octets[4:]), b""
            return
        buffer += octets
        at = 0
        try:
            while len(buffer) - at >= 4:
                (length,) = _NUMBER.unpack_from(buffer, at)
                if not 1 <= length <= self._limit:
                    raise FrameError(f"a frame of {length} octets")
                if len(buffer) - at - 4 < length:
                    break
                kind = bytes(buffer[at + 4 : at + 5])
                payload = bytes(buffer[at + 5 : at + 4 + length])
                at += 4 + length
                yield kind, payload
        finally:
            del buffer[:at]


def _split(payload: bytes, least: int, most: int) -> list[bytes]:
    if payload[-1:] != b"\0":
        raise FrameError("a string without its end")
    parts = payload[:-1].split(b"\0")
    if not least <= len(parts) <= most:
        raise FrameError(f"{len(parts)} strings where {least} belong")
    return parts


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _path(octets: bytes) -> str:
    """What stands between the angle brackets."""
    path = _text(octets).strip()
    return path[1:-1] if path.startswith("<") and path.endswith(">") else path


def _field(name: bytes, value: bytes, leading_space: bool) -> tuple[bytes, bytes]:
    """A field as it may stand in a header section: lines end by CRLF, and none of them can begin another field."""
    if not _NAME.fullmatch(name):
        raise FrameError("the name of a header field that is none")
    if not value:
        return name, value
    first, *more = (line.replace(b"\r", b" ") for line in value.replace(b"\r\n", b"\n").split(b"\n"))
    lines = [first if leading_space else b" " + first]
    lines += [line if line[0] in b" \t" else b"\t" + line for line in more if line.strip()]
    return name, b"\r\n".join(lines)


def modification(kind: bytes, payload: bytes, leading_space: bool) -> Modification | None:
    """The modification that a frame stands for; ``None`` if the frame is none.

    Raises:
        FrameError: it is malformed.
    """
    if kind not in _NEEDED:
        return None
    match kind:
        case b"b":
            return ReplaceBody(payload)
        case b"h":
            name, value = _split(payload, 2, 2)
            return AddHeader(*_field(name, value, leading_space))
        case b"i" | b"m":
            if len(payload) < 4:
                raise FrameError("a change of a header field without its index")
            (index,) = _NUMBER.unpack_from(payload)
            name, value = _split(payload[4:], 2, 2)
            name, value = _field(name, value, leading_space)
            return InsertHeader(index, name, value) if kind == b"i" else ChangeHeader(index, name, value)
        case b"e":
            path, *rest = _split(payload, 1, 2)
            return ChangeSender(_path(path), _text(b"".join(rest)))
        case b"+":
            return AddRecipient(_path(*_split(payload, 1, 1)))
        case b"2":
            path, *rest = _split(payload, 1, 2)
            return AddRecipient(_path(path), _text(b"".join(rest)))
        case b"-":
            return RemoveRecipient(_path(*_split(payload, 1, 1)))
        case b"q":
            return Quarantine(_text(*_split(payload, 1, 1)))
    return None


_NEEDED: Final = {
    b"b": Actions.CHANGE_BODY,
    b"h": Actions.ADD_HEADERS,
    b"i": Actions.ADD_HEADERS,
    b"m": Actions.CHANGE_HEADERS,
    b"e": Actions.CHANGE_SENDER,
    b"+": Actions.ADD_RECIPIENTS,
    b"2": Actions.ADD_RECIPIENTS_WITH_PARAMETERS,
    b"-": Actions.REMOVE_RECIPIENTS,
    b"q": Actions.QUARANTINE,
}


def needed_action(kind: bytes) -> Actions:
    """The action that a filter must have negotiated to say this."""
    return _NEEDED[kind]


def reply_of(payload: bytes) -> Reply:
    """The reply of a filter's own: ``550 5.7.1 text``, or several lines of it. ``%%`` stands for ``%`` (libmilter).

    Raises:
        FrameError: it is no reply, or none of 4yz and 5yz.
    """
    (whole,) = _split(payload, 1, 1)
    codes: set[bytes] = set()
    lines: list[str] = []
    enhanced: str | None = None
    for line in whole.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n"):
        found = _REPLY.fullmatch(line)
        if found is None:
            raise FrameError("a reply that is none")
        codes.add(found[1])
        said = (found[2] or b"").replace(b"%%", b"%").replace(b"\r", b" ").decode("utf-8", "replace")
        status = _ENHANCED.match(said)
        if status is not None and status[1][0] == found[1].decode()[0]:
            enhanced = enhanced or status[1]
            said = said[status.end() :]
        lines.append(said)
    if len(codes) != 1:
        raise FrameError("a reply of several codes")
    try:
        return Reply(int(codes.pop()), enhanced, lines)
    except LocalProtocolError as exc:
        raise FrameError("a reply that is none") from exc


def macro_lists(octets: bytes) -> dict[Stage, tuple[str, ...]]:
    """The macros that a filter chose, by stage; they stand behind the bits of its answer to the negotiation.

    Raises:
        FrameError: they are malformed.
    """
    lists: dict[Stage, tuple[str, ...]] = {}
    while octets:
        if len(octets) < 4 or (end := octets.find(b"\0", 4)) < 0:
            raise FrameError("a list of macros that is cut off")
        (number,) = _NUMBER.unpack_from(octets)
        names = octets[4:end].decode("latin-1").replace(",", " ").split()
        octets = octets[end + 1 :]
        try:
            lists[Stage(number)] = tuple(names)
        except ValueError:
            raise FrameError(f"macros for the stage {number}, which there is not") from None
    return lists
