"""Messages of the standard library's ``email`` package: their envelope and their octets.

A module of its own, since ``email`` is imported only by those who use it.
"""

from __future__ import annotations

import copy
from email.generator import BytesGenerator
from email.headerregistry import Address as HeaderAddress
from email.headerregistry import AddressHeader, Group
from email.message import Message
from email.utils import getaddresses
from io import BytesIO
from typing import Any, Final

from ehlo._client.idna import a_label
from ehlo._core import Capabilities
from ehlo._errors import LocalProtocolError

__all__ = ["flatten", "recipients_of", "sender_of"]

_ADDRESS_FIELDS: Final = ("From", "Sender", "Reply-To", "To", "Cc")


def _prefix(message: Message[Any, Any]) -> str:
    """Of the fields that count: a message that was sent again has ``Resent-`` fields of its own (RFC 5322 3.6.6)."""
    blocks = len(message.get_all("Resent-Date", []))
    if blocks > 1:
        raise LocalProtocolError(
            "the message has several blocks of Resent- fields (RFC 5322 3.6.6): say sender and recipients yourself"
        )
    return "Resent-" if blocks else ""


def _mailboxes(message: Message[Any, Any], *names: str) -> list[str]:
    found: list[str] = []
    for name in names:
        for field in message.get_all(name, []):
            if isinstance(field, AddressHeader):
                found += [address.addr_spec for address in field.addresses]
            else:
                found += [mailbox for _, mailbox in getaddresses([str(field)])]
    return [mailbox for mailbox in found if mailbox]


def sender_of(message: Message[Any, Any]) -> str:
    """The reverse-path that the header section names: Sender, else From (RFC 5322 3.6.2).

    Raises:
        LocalProtocolError: if it names none.
    """
    prefix = _prefix(message)
    found = _mailboxes(message, f"{prefix}Sender") or _mailboxes(message, f"{prefix}From")
    if not found:
        raise LocalProtocolError(f"no sender: give one, or set the message's {prefix}From field")
    return found[0]


def recipients_of(message: Message[Any, Any]) -> list[str]:
    """The forward-paths that the header section names: To, Cc and Bcc, each once (RFC 5322 3.6.3).

    Raises:
        LocalProtocolError: if it names none.
    """
    prefix = _prefix(message)
    found = _mailboxes(message, f"{prefix}To", f"{prefix}Cc", f"{prefix}Bcc")
    if not found:
        raise LocalProtocolError(f"no recipients: give some, or set the message's {prefix}To field")
    return list(dict.fromkeys(found))


def _in_a_labels(message: Message[Any, Any]) -> bool:
    """Write the domains of the address fields in A-labels. Says whether a local part is left that is not ASCII."""
    international = False
    for name in (*_ADDRESS_FIELDS, *(f"Resent-{field}" for field in _ADDRESS_FIELDS)):
        fields = message.get_all(name, [])
        if all(str(field).isascii() for field in fields):
            continue
        for field in fields:
            if not isinstance(field, AddressHeader):
                continue
            groups: list[HeaderAddress | Group] = []
            changed = False
            for group in field.groups:
                addresses = []
                for address in group.addresses:
                    mailbox = a_label(address.addr_spec)
                    international = international or not mailbox.isascii()
                    changed = changed or mailbox != address.addr_spec
                    domain = mailbox.rpartition("@")[2]
                    addresses.append(HeaderAddress(address.display_name, address.username, domain))
                groups += [Group(group.display_name, tuple(addresses))] if group.display_name else addresses
            if changed and len(fields) == 1:
                message.replace_header(name, groups)
    return international


def flatten(message: Message[Any, Any], capabilities: Capabilities, *, international: bool = False) -> bytes:
    """The octets of ``message`` for a server that offers ``capabilities``, with CRLF line ends and without Bcc.

    Bodies go as they are where 8BITMIME is offered, else with an encoding that makes them ASCII (RFC 6152 3). Header
    fields are ASCII, with encoded words (RFC 2047) and A-labels, unless a local part is not (RFC 6532).

    Arguments:
        international: an address of the envelope needs SMTPUTF8.

    Example::

        octets = flatten(message, client.capabilities)
    """
    message = copy.copy(message)
    del message["Bcc"]
    del message["Resent-Bcc"]
    changes: dict[str, Any] = {"cte_type": "8bit" if "8BITMIME" in capabilities else "7bit", "linesep": "\r\n"}
    if hasattr(message.policy, "utf8"):
        international = _in_a_labels(message) or international
        changes["utf8"] = international
    out = BytesIO()
    # A line that begins with "From " is content like any other.
    BytesGenerator(out, mangle_from_=False, policy=message.policy.clone(**changes)).flatten(message)
    return out.getvalue()
