"""What both sides of a SASL exchange need (RFC 4422): the names of the mechanisms, the preparation of names and
passwords, and the small encodings of SCRAM.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stringprep
import unicodedata
from typing import Final

from ehlo._errors import LocalProtocolError

__all__ = [
    "MAX_ITERATIONS",
    "MECHANISMS",
    "MIN_ITERATIONS",
    "NONCE",
    "SCRAM",
    "attributes",
    "b64",
    "check_text",
    "digest",
    "from_saslname",
    "prepared",
    "saslprep",
    "to_saslname",
    "unb64",
    "xor",
]

MIN_ITERATIONS: Final = 4096  # RFC 5802 5.1, RFC 7677 4: at least
MAX_ITERATIONS: Final = 1_000_000  # a server that asks for more wants our time, not our password


SCRAM: Final = {
    "SCRAM-SHA-1": "sha1",
    "SCRAM-SHA-1-PLUS": "sha1",
    "SCRAM-SHA-256": "sha256",
    "SCRAM-SHA-256-PLUS": "sha256",
}

MECHANISMS: Final = frozenset({"PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", *SCRAM})
"""The mechanisms that both sides have."""

NONCE: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")  # printable but for the comma (RFC 5802 7)


def saslprep(text: str) -> str:
    """A user name or password in the form that is compared and hashed (SASLprep, RFC 4013).

    Arguments:
        text: as it was typed.

    Raises:
        ValueError: it holds a character that RFC 4013 2.3 prohibits, or mixes directions (RFC 3454 6).

    Example::

        >>> saslprep("I\\u00adX")
        'IX'
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )  # RFC 4013 2.1
    prepared = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(c) for c in prepared for table in prohibited):
        raise ValueError("it holds a character that RFC 4013 2.3 prohibits")
    if any(stringprep.in_table_d1(c) for c in prepared) and (
        any(stringprep.in_table_d2(c) for c in prepared)
        or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))
    ):
        raise ValueError("it mixes directions of writing (RFC 3454 6)")
    return prepared


def prepared(secret: str | bytes) -> bytes:
    """A secret as octets; one that SASLprep has no form for stands for itself."""
    if isinstance(secret, bytes):
        return secret
    try:
        return saslprep(secret).encode()
    except ValueError:
        return secret.encode("utf-8", "surrogatepass")


def digest(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data).digest()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def to_saslname(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")  # RFC 5802 5.1


def from_saslname(name: str) -> str:
    if re.search("=(?!2C|3D)", name):
        raise ValueError("a saslname has a = without 2C or 3D behind it")
    return name.replace("=2C", ",").replace("=3D", "=")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)  # binascii.Error is a ValueError


def attributes(message: str, wanted: str) -> list[str]:
    """The values of a SCRAM message whose first attributes are ``wanted``; extensions may follow (RFC 5802 5.1)."""
    parts = message.split(",")
    if len(parts) < len(wanted) or any(
        not part.startswith(f"{letter}=") for letter, part in zip(wanted, parts, strict=False)
    ):
        raise ValueError("an attribute is missing, or in the wrong place")
    return [part[2:] for part in parts[: len(wanted)]]


def check_text(what: str, value: object) -> None:
    """Whether a secret or a name can be sent: text that UTF-8 can carry. An error shows nothing of it.

    Raises:
        LocalProtocolError: the value is no text, or has a lone surrogate.

    Example::

        check_text("a login's password", password)
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise LocalProtocolError(f"{what} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        wrong = True
    else:
        wrong = False
    if wrong:  # outside of the handler, so that the exception does not carry the text as its context
        raise LocalProtocolError(f"{what} has a lone surrogate: UTF-8 cannot carry it (RFC 3629 3)")
