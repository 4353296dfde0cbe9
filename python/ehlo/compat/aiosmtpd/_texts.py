"""Texts of this shape: a path as aiosmtpd has it, and a status as it goes out."""

from __future__ import annotations

import re
from typing import Any, Final

from ehlo._core import Address, NullPath

__all__ = ["address_text", "reply_octets"]

_STATUS: Final = re.compile(rb"[2-5][0-9]{2}[ -]|[2-5][0-9]{2}\Z")


def address_text(path: Any) -> str:
    """A path as aiosmtpd has it: without its source route; the null path is ``<>``."""
    kind = type(path)
    if kind is NullPath:
        return "<>"
    route = path.source_route if kind is Address else None
    written: str = path.as_written
    return written if route is None else written[len(route) + 1 :]


def reply_octets(status: str | bytes, utf8: bool) -> bytes:
    """Reply lines as they are sent. A line end inside is one only if a reply line follows it."""
    if not isinstance(status, str | bytes):
        raise TypeError(f"a reply is text or octets, not {type(status).__name__}")
    octets = status if isinstance(status, bytes) else status.encode("utf-8" if utf8 else "ascii", "replace")
    if b"\n" not in octets and b"\r" not in octets:
        return octets + b"\r\n"
    first, *rest = octets.splitlines()
    lines = [first]
    for line in rest:
        if _STATUS.match(line):
            lines.append(line)
        else:
            lines[-1] += b" " + line
    return b"\r\n".join(lines) + b"\r\n"
