"""Domains of other scripts in ASCII, by IDNA 2008 (RFC 5891). Each place that converts a domain asks here.

Python's own codec knows IDNA 2003 only, which turns ``fußball`` into ``fussball``: another domain. The package
``idna`` knows IDNA 2008. Where that package is missing, the codec is used, and its answer counts only if it stands for
the name that was given.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

__all__ = ["a_label", "domain_to_ascii"]

# The full stop, and its likes in other scripts (RFC 3490 3.1).
_DOTS: Final = re.compile("[.。．｡]")


def a_label(mailbox: str) -> str:
    """The mailbox with its domain in A-labels (RFC 5890 2.3.2.1), if that makes it ASCII; else the mailbox as it is.

    Example::

        a_label("info@bücher.example")  # "info@xn--bcher-kva.example"
    """
    local, at, domain = mailbox.rpartition("@")
    if not at or not local.isascii():
        return mailbox  # SMTPUTF8 is needed anyway (RFC 6531 3.2)
    ascii_domain = domain_to_ascii(domain)
    return mailbox if ascii_domain is None else f"{local}@{ascii_domain}"


def domain_to_ascii(domain: str) -> str | None:
    """The domain in A-labels, each label as IDNA 2008 has it (RFC 5891 4).

    Returns:
        ASCII text, or ``None`` if a label has no A-label that stands for the same name.

    Example::

        domain_to_ascii("fußball.example")  # "xn--fuball-cta.example"
    """
    if domain.isascii():
        return domain
    labels = [label if label.isascii() else _label_to_ascii(label) for label in _DOTS.split(domain)]
    return None if None in labels else ".".join(label for label in labels if label is not None)


def _label_to_ascii(label: str) -> str | None:
    try:
        idna: Any = importlib.import_module("idna")
    except ImportError:
        return _by_codec(label)
    try:
        encoded: bytes = idna.encode(label, uts46=True)
    except UnicodeError:  # idna.IDNAError is one
        return None
    return encoded.decode("ascii")


def _by_codec(label: str) -> str | None:
    """IDNA 2003, where it agrees with IDNA 2008: where the A-label stands for the label that was given."""
    import encodings.idna
    import unicodedata

    wanted = unicodedata.normalize("NFKC", label.lower())
    try:
        encoded = encodings.idna.ToASCII(label).decode("ascii")
        same = encodings.idna.ToUnicode(encoded) == wanted
    except UnicodeError:
        return None
    return encoded if same else None
