"""DKIM signatures (RFC 6376, 8301, 8463) and the Authentication-Results field (RFC 8601).

Keys and signatures need the package ``cryptography``: ``ehlo[dkim]``.

Example::

    signer = ehlo.dkim.Signer(Path("mail.private").read_bytes(), "example.org", "mail")
    content = signer.sign(content) + content
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehlo._lazy import lazy
from ehlo.dkim._results import (
    AuthenticationResult,
    authentication_results,
    parse_authentication_results,
    remove_claims,
)

if TYPE_CHECKING:
    from ehlo.dkim._keys import Key, dns_record, generate_key, load_key, write_key, zone_lines
    from ehlo.dkim._signer import OVERSIGNED, SIGNED, Signer, normalized, sign

__all__ = [
    "OVERSIGNED",
    "SIGNED",
    "AuthenticationResult",
    "Key",
    "Signer",
    "authentication_results",
    "dns_record",
    "generate_key",
    "load_key",
    "normalized",
    "parse_authentication_results",
    "remove_claims",
    "sign",
    "write_key",
    "zone_lines",
]

if not TYPE_CHECKING:  # for a type checker any name would be there
    _KEYS = ("Key", "dns_record", "generate_key", "load_key", "write_key", "zone_lines")
    _SIGNER = ("OVERSIGNED", "SIGNED", "Signer", "normalized", "sign")
    # These need the package cryptography. The Authentication-Results field does not.
    __getattr__, __dir__ = lazy(
        __name__,
        dict.fromkeys(_KEYS, "ehlo.dkim._keys") | dict.fromkeys(_SIGNER, "ehlo.dkim._signer"),
    )
