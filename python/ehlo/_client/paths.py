"""Senders and recipients as a program may give them, and what is done to them before the engine gets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from ehlo._core import Address, NullPath, Postmaster, Recipient, Reply, Sender
from ehlo._errors import InvalidAddressError, LocalProtocolError, one_line
from ehlo._idna import a_label

__all__ = [
    "NoAddress",
    "RecipientLike",
    "Recipients",
    "SenderLike",
    "ascii_path",
    "is_plain",
    "naming_address",
    "recipient_list",
    "without_invalid",
]

SenderLike: TypeAlias = str | Address | NullPath | Sender
"""Who a message is from: a mailbox; ``""`` or :data:`ehlo.NULL` for the null reverse-path; or an :class:`ehlo.Sender`
with parameters."""

RecipientLike: TypeAlias = str | Address | Postmaster | Recipient
"""Whom a message is for: a mailbox, or an :class:`ehlo.Recipient` with parameters."""

Recipients: TypeAlias = RecipientLike | Iterable[RecipientLike]
"""One, or several."""


NoAddress: TypeAlias = tuple[int, str, Reply]
"""A recipient that is no address: its place among all, its text, and the reply that says what is wrong."""


def ascii_path(path: Any) -> Any:
    """``path`` with A-labels for a domain that is not ASCII, so that SMTPUTF8 is asked for only where a local part
    needs it (C-CLI-26, RFC 6531 3.2).

    Example::

        ascii_path("jürgen@bücher.example")   # as it is: the local part is not ASCII
        ascii_path("info@bücher.example")     # "info@xn--bcher-kva.example"
    """
    if isinstance(path, str):
        return path if path.isascii() else a_label(path)
    if isinstance(path, Address):
        return path if path.is_ascii else Address(a_label(path.mailbox))
    if isinstance(path, Sender) and isinstance(path.path, Address) and not path.path.is_ascii:
        return Sender(
            a_label(path.path.mailbox),
            body=path.body,
            smtputf8=path.smtputf8,
            ret=path.ret,
            envid=path.envid,
            auth=path.auth,
            deliver_by=path.deliver_by,
            hold_for=path.hold_for,
            hold_until=path.hold_until,
            mt_priority=path.mt_priority,
            requiretls=path.requiretls,
        )
    if isinstance(path, Recipient) and isinstance(path.path, Address) and not path.path.is_ascii:
        return Recipient(a_label(path.path.mailbox), notify=path.notify, orcpt=path.orcpt, rrvs=path.rrvs)
    return path


def naming_address(
    error: LocalProtocolError, sender: SenderLike, recipients: Iterable[RecipientLike]
) -> LocalProtocolError:
    """``error``, or the same with the address that caused it.

    Example::

        except LocalProtocolError as exc: raise naming_address(exc, sender, recipients) from None
    """
    checks: list[tuple[Any, Any]] = [(Sender, sender), *((Recipient, one) for one in recipients)]
    for kind, address in checks:
        try:
            if not isinstance(address, kind):
                kind(address)
        except LocalProtocolError as exc:
            return InvalidAddressError(str(exc), address)
    return error


def is_plain(sender: object, recipients: object) -> bool:
    """Whether an envelope is what most are: ASCII mailboxes as strings. There is nothing to make ready in it then."""
    if type(sender) is str and sender.isascii() and (type(recipients) is list or type(recipients) is tuple):
        # A generator expression would cost as much as all the rest.
        for recipient in recipients:  # noqa: SIM110
            if type(recipient) is not str or not recipient.isascii():
                return False
        return True
    return False


def recipient_list(recipients: Recipients) -> list[RecipientLike]:
    """One recipient or several, each with an ASCII domain."""
    if isinstance(recipients, str | Address | Postmaster | Recipient):
        return [ascii_path(recipients)]
    return [ascii_path(recipient) for recipient in recipients]


def without_invalid(recipients: Iterable[RecipientLike]) -> tuple[list[RecipientLike], list[NoAddress]]:
    """Sort recipients: those that are addresses, and those that are none (RFC 5321 4.1.2).

    Example::

        good, bad = without_invalid(["c@d.example", "no address"])
    """
    good: list[RecipientLike] = []
    bad: list[NoAddress] = []
    for place, one in enumerate(recipients):
        try:
            if isinstance(one, str):
                Recipient(one)
            good.append(one)
        except LocalProtocolError as exc:
            text = str(one).encode("utf-8", "backslashreplace").decode()
            why = one_line(exc).rpartition(": ")[2].encode("ascii", "replace").decode()
            # RFC 3463 3.2: X.1.3 is the syntax of a destination mailbox.
            bad.append((place, text, Reply(553, "5.1.3", f"No address: {why}")))
    return good, bad
