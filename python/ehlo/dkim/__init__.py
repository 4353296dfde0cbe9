"""DKIM signatures (RFC 6376, 8301, 8463) and the Authentication-Results field (RFC 8601). Needs ``ehlo[dkim]``.

Example::

    signer = ehlo.dkim.Signer(Path("mail.private").read_bytes(), "example.org", "mail")
    content = signer.sign(content) + content
"""

from __future__ import annotations

from ehlo.dkim._keys import Key, dns_record, generate_key, load_key, write_key, zone_lines
from ehlo.dkim._results import (
    AuthenticationResult,
    authentication_results,
    parse_authentication_results,
    remove_claims,
)
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
