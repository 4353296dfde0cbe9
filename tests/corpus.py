"""Contents that have tripped mail software, and the form that they must arrive in."""

from __future__ import annotations

CORPUS: dict[str, bytes] = {
    "empty": b"",
    "one line": b"Subject: x\r\n",
    "no final newline": b"Subject: x\r\n\r\nhello",
    "final CR": b"Subject: x\r\n\r\nhello\r",
    "bare LF": b"Subject: x\n\nhello\nworld\n",
    "bare CR": b"Subject: x\r\n\r\nhello\rworld\r\n",
    "lone dots": b".\r\n..\r\n...\r\n.\r\n",
    "a dot in front": b".hello\r\n",
    "a dot at the end": b"hello\r\n.",
    "8 bit": "Subject: x\r\n\r\nGrüße\r\n".encode(),
    "Latin-1": b"Subject: x\r\n\r\nGr\xfc\xdfe \xff\xfe\r\n",
    "long line": b"Subject: x\r\n\r\n" + b"y" * 5000 + b"\r\n",
    "smuggling": b"Subject: x\r\n\r\na\n.\nMAIL FROM:<x@y>\r\nb\r.\rc\r\n.\n",
    "commands": b"QUIT\r\nRSET\r\nDATA\r\n.\r\nMAIL FROM:<a@b>\r\n",
    "large": (b"z" * 76 + b"\r\n") * 4000,
    "large, a dot late": (b"z" * 76 + b"\r\n") * 4000 + b".\r\n" + (b"z" * 76 + b"\r\n") * 1000,
    "many dots": b".\r\n" * 50000,
}


def as_lines(octets: bytes) -> bytes:
    """What normalize makes of it: CRLF for each bare CR and LF, and one at the end (RFC 5321 2.3.8, 4.1.1.4)."""
    lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return lines if lines.endswith(b"\r\n") or not lines else lines + b"\r\n"
