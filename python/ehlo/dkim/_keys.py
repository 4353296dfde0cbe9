"""Keys for DKIM: read, made, and written for the DNS. The cryptography is the package ``cryptography``'s."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ehlo._errors import LocalProtocolError

__all__ = ["Key", "dns_record", "generate_key", "load_key", "write_key", "zone_lines"]

Key: TypeAlias = RSAPrivateKey | Ed25519PrivateKey
"""A private key of RSA (RFC 8301) or Ed25519 (RFC 8463)."""

LEAST_BITS: Final = 1024
"""RFC 8301 3.2: signers MUST use RSA keys of at least 1024 bits, and SHOULD use 2048."""

_STRING: Final = 255
"""Octets of one string in a TXT record (RFC 1035 3.3)."""


def load_key(pem: bytes) -> Key:
    """The private key in ``pem``, in PKCS #8 or in OpenSSL's older form for RSA.

    Raises:
        LocalProtocolError: it is no key, one with a password, one of another kind, or shorter than 1024 bits.

    Example::

        key = load_key(Path("mail.private").read_bytes())
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise LocalProtocolError(f"this is no private key in PEM without a password: {exc}") from exc
    return check_key(key)


def check_key(key: object) -> Key:
    """``key``, if DKIM knows its kind."""
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise LocalProtocolError("DKIM knows keys of RSA and Ed25519, and no others (RFC 8301, RFC 8463)")
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_BITS:
        raise LocalProtocolError(
            f"an RSA key for DKIM has at least {LEAST_BITS} bits, not {key.key_size} (RFC 8301 3.2)"
        )
    return key


def generate_key(kind: Literal["rsa", "ed25519"] = "rsa", bits: int = 2048) -> Key:
    """A new private key.

    Arguments:
        kind: ``"rsa"`` or ``"ed25519"``.
        bits: of an RSA key.

    Raises:
        LocalProtocolError: less than 1024 bits.

    Example::

        key = generate_key("ed25519")
    """
    if kind == "ed25519":
        return Ed25519PrivateKey.generate()
    if bits < LEAST_BITS:
        raise LocalProtocolError(f"an RSA key for DKIM has at least {LEAST_BITS} bits, not {bits} (RFC 8301 3.2)")
    return generate_private_key(65537, bits)


def write_key(key: Key, path: str | os.PathLike[str]) -> None:
    """A new file with the key in PEM, that only its owner may read.

    Raises:
        FileExistsError: there is a file already. It stays as it is.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with open(os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def dns_record(key: Key) -> str:
    """The text of the DNS record for the public half of ``key`` (RFC 6376 3.6.1, RFC 8463 3).

    Example::

        >>> dns_record(key)
        'v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='
    """
    if isinstance(key, RSAPrivateKey):
        kind = "rsa"
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        kind = "ed25519"
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode()}"


def zone_lines(key: Key, domain: str, selector: str) -> str:
    """The record as it stands in a zone file, in strings of at most 255 octets (RFC 6376 3.6.2.2).

    Example::

        print(zone_lines(key, "example.org", "mail"))
    """
    text = dns_record(key)
    parts = [f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING)]
    value = parts[0] if len(parts) == 1 else "( " + "\n    ".join(parts) + " )"
    return f"{selector}._domainkey.{domain}. IN TXT {value}"
