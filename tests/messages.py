"""Random messages that may be signed: folds, tabs, white space at line ends, empty lines, doubled fields."""

from __future__ import annotations

from random import Random

NAMES = ["From", "To", "Subject", "Date", "Message-ID", "Cc", "X-Odd", "Received", "List-Id", "MIME-Version"]
WORDS = ["a", "word", "=?utf-8?q?x?=", "<joe@example.org>", "über", "x" * 60, ";", "12:30", '"q"']
SPACES = [" ", "  ", "\t", " \t ", "\r\n ", "\r\n\t", "   \r\n   "]


def message(random: Random) -> bytes:
    """One of them."""
    fields = ["From: joe@example.org\r\n"]
    for _ in range(random.randrange(1, 12)):
        name = random.choice(NAMES[1:])  # verifiers want one From (RFC 6376 8.15)
        value = random.choice(["", " ", "\t"])
        for _ in range(random.randrange(1, 6)):
            value += random.choice(WORDS) + random.choice(SPACES[:3] if random.random() < 0.7 else SPACES)
        value = value.rstrip("\r\n \t") + random.choice(["", "", " ", "\t "])
        fields.insert(random.randrange(len(fields) + 1), f"{_cased(random, name)}:{value}\r\n")
    lines = []
    for _ in range(random.randrange(0, 30)):
        line = "".join(random.choice(WORDS) + random.choice(SPACES[:4]) for _ in range(random.randrange(0, 8)))
        lines.append(random.choice([line, line, line.strip(), "", " ", "\t", "." + line]))
    body = "\r\n".join(lines) + random.choice(["", "\r\n", "\r\n\r\n", "\r\n \r\n", " \r\n\r\n\r\n"])
    return ("".join(fields) + "\r\n" + body).encode()


def _cased(random: Random, name: str) -> str:
    return random.choice([name, name, name.lower(), name.upper()])


def on_the_wire(content: bytes) -> bytes:
    """What DATA makes of it: the end of the data is behind a CRLF (RFC 5321 4.1.1.4)."""
    return content if content.endswith(b"\r\n") else content + b"\r\n"
