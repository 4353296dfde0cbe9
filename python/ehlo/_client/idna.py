"""Domains of other scripts in ASCII, for servers that know nothing else."""

from __future__ import annotations

__all__ = ["a_label"]


def a_label(mailbox: str) -> str:
    """The mailbox with its domain in A-labels (RFC 5890), if that makes it ASCII; else as it is.

    Example::

        a_label("info@bücher.example")  # "info@xn--bcher-kva.example"
    """
    local, at, domain = mailbox.rpartition("@")
    if not at or not local.isascii():
        return mailbox  # SMTPUTF8 is needed anyway (RFC 6531 3.2)
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return mailbox
