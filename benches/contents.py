"""The contents that are stuffed, unstuffed and sent: 100 KiB each, behind the same header."""

from __future__ import annotations

import base64
import random

__all__ = ["CONTENTS", "HEADER", "of_size"]

SIZE = 100 << 10
HEADER = b"From: jane@example.org\r\nTo: joe@example.org\r\nSubject: a bench\r\n\r\n"
_TEXT = b"The quick brown fox jumps over the lazy dog, as it has on most days.\r\n"


def of_size(size: int, line: bytes = _TEXT) -> bytes:
    """The header and as many of this line as fit into ``size`` octets."""
    return HEADER + line * ((size - len(HEADER)) // len(line))


def _attachment() -> bytes:
    rows = random.Random(1).randbytes(SIZE // 78 * 57)
    return HEADER + base64.encodebytes(rows).replace(b"\n", b"\r\n")


CONTENTS = {
    "text": of_size(SIZE),
    "attachment": _attachment(),
    "dotted lines": of_size(SIZE, b"." + _TEXT),
    "nothing but dots": of_size(SIZE, b".\r\n"),
}
