"""Messages of the standard library's ``email`` package: their envelope and their octets.

This is a module of its own, since ``email`` is imported only by those who use it.

The library raises :class:`AttributeError`, :class:`LookupError` and the like for header fields and bodies that real
mail has. Here a field that cannot be read goes out as it came. It is an error only where its addresses are needed.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from email import policy as policies
from email.errors import HeaderMissingRequiredValue, InvalidHeaderDefect
from email.generator import BytesGenerator
from email.header import Header
from email.headerregistry import Address as HeaderAddress
from email.headerregistry import AddressHeader, Group
from email.message import Message
from email.policy import Policy
from io import BytesIO
from typing import Any, Final

from ehlo._core import Capabilities
from ehlo._errors import EhloError, LocalProtocolError, SMTPNotSupportedError
from ehlo._idna import a_label

__all__ = ["flatten", "flatten_and_tell", "recipients_of", "sender_of"]

_ADDRESS_FIELDS: Final = ("From", "Sender", "Reply-To", "To", "Cc")


# ---- the envelope --------------------------------------------------------------------------------


def sender_of(message: Message[Any, Any]) -> str:
    """The reverse-path that the header section names: Sender, else From (RFC 5322 3.6.2).

    Raises:
        LocalProtocolError: the fields name nobody, or their addresses cannot be read.
    """
    prefix = _prefix(message)
    found = _mailboxes(message, f"{prefix}Sender") or _mailboxes(message, f"{prefix}From")
    if not found:
        raise LocalProtocolError(f"no sender: give one, or set the message's {prefix}From field")
    return found[0]


def recipients_of(message: Message[Any, Any]) -> list[str]:
    """The forward-paths that the header section names: To, Cc and Bcc, each once (RFC 5322 3.6.3).

    Raises:
        LocalProtocolError: the fields name nobody, or their addresses cannot be read.
    """
    prefix = _prefix(message)
    found = _mailboxes(message, f"{prefix}To", f"{prefix}Cc", f"{prefix}Bcc")
    if not found:
        raise LocalProtocolError(f"no recipients: give some, or set the message's {prefix}To field")
    return list(dict.fromkeys(found))


def _prefix(message: Message[Any, Any]) -> str:
    """Which fields count: a message that was sent again has ``Resent-`` fields of its own (RFC 5322 3.6.6)."""
    blocks = sum(name.lower() == "resent-date" for name, _ in message.raw_items())
    if blocks > 1:
        raise LocalProtocolError(
            "the message has several blocks of Resent- fields (RFC 5322 3.6.6): say sender and recipients yourself"
        )
    return "Resent-" if blocks else ""


def _fields(message: Message[Any, Any], name: str) -> Iterator[object]:
    """The fields of this name, as the message keeps them: nothing is parsed."""
    return (value for key, value in message.raw_items() if key.lower() == name.lower())


def _mailboxes(message: Message[Any, Any], *names: str) -> list[str]:
    """All mailboxes of the fields of these names, in order."""
    found: list[str] = []
    for name in names:
        for value in _fields(message, name):
            field = _parsed(name, value)
            text = " ".join(str(value).split())
            if field is None or _is_broken(field):
                raise LocalProtocolError(f"{name}: the addresses of this field cannot be read: {text!r}")
            for address in field.addresses:
                if not address.username or not address.domain:
                    raise LocalProtocolError(f"{name}: this field has an address that is no mailbox: {text!r}")
                found.append(address.addr_spec)
    return found


def _parsed(name: str, value: object) -> AddressHeader | None:
    """The addresses of a field; ``None`` if the library cannot parse it."""
    if isinstance(value, AddressHeader):
        return value
    text = "".join(_readable(value).splitlines())
    try:
        field = policies.default.header_factory(name, text)
        return field if isinstance(field, AddressHeader) and field.groups is not None else None
    except Exception:  # the parser raises whatever its code stumbles over: AttributeError, IndexError, …
        return None


def _is_broken(field: AddressHeader) -> bool:
    """Whether an address was not understood. A defect of an encoded word or of an old form (RFC 5322 4) is no harm."""
    defects: tuple[Exception, ...] = field.defects  # type: ignore[attr-defined]
    return any(
        isinstance(defect, InvalidHeaderDefect | HeaderMissingRequiredValue) and "encoded" not in str(defect)
        for defect in defects
    )


def _readable(value: object) -> str:
    """The text of a field. Octets that came raw are read as UTF-8, if they are UTF-8."""
    text = str(value)
    try:
        return text.encode("ascii", "surrogateescape").decode("utf-8") if not text.isascii() else text
    except UnicodeError:
        return text


# ---- the octets ----------------------------------------------------------------------------------


def flatten(message: Message[Any, Any], capabilities: Capabilities, *, international: bool | None = None) -> bytes:
    """The octets of ``message`` for a server that offers ``capabilities``, with CRLF line ends and without Bcc.

    Bodies go as they are where 8BITMIME is offered, else with an encoding that makes them ASCII (RFC 6152 3). Header
    fields are ASCII, with encoded words (RFC 2047) and A-labels, unless a local part is not ASCII (RFC 6532).

    Arguments:
        international: whether header fields are written in UTF-8 (RFC 6532); ``None``: if an address in them needs it.

    Raises:
        SMTPNotSupportedError: a signed part would have to be changed for a server without 8BITMIME (RFC 1847 2.1).
        LocalProtocolError: the library cannot turn the message into octets.

    Example::

        octets = flatten(message, client.capabilities)
    """
    return flatten_and_tell(message, capabilities, international)[0]


def flatten_and_tell(
    message: Message[Any, Any], capabilities: Capabilities, international: bool | None
) -> tuple[bytes, bool]:
    """The octets, and whether the header fields were written in UTF-8. Otherwise as :func:`flatten`."""
    message = copy.copy(message)
    del message["Bcc"]
    del message["Resent-Bcc"]
    eight_bit = "8BITMIME" in capabilities
    policy: Any = message.policy.clone(cte_type="8bit" if eight_bit else "7bit", linesep="\r\n")
    utf8 = False
    if hasattr(policy, "utf8"):
        needed = _write_a_labels(message)
        utf8 = needed if international is None else international
        policy = policy.clone(utf8=utf8)
    out = BytesIO()
    # A line that begins with "From " is content like any other.
    generator = _Generator(out, mangle_from_=False, policy=_careful(policy))
    try:
        generator.flatten(message if eight_bit else _in_seven_bits(message))
    except EhloError:
        raise
    except Exception as exc:  # the library's own, of any class
        raise LocalProtocolError(f"the message cannot be turned into octets: {type(exc).__name__}: {exc}") from exc
    return out.getvalue(), utf8


class _Generator(BytesGenerator):
    """The library's, for a multipart without parts, too: there it reads 8-bit octets as ASCII, and fails."""

    def _handle_multipart(self, msg: Message[Any, Any]) -> None:
        library: Any = super()
        if isinstance(msg.get_payload(), str):
            library._handle_text(msg)
        else:
            library._handle_multipart(msg)


def _careful(policy: Policy[Any]) -> Policy[Any]:
    """The same policy, but for the way in which it writes header fields."""
    cls: Any = type(policy)
    # Raw octets become encoded words, as they do in a message of ASCII only (RFC 2047 5).
    ascii_policy = policy.clone(cte_type="7bit")

    class Careful(cls):  # type: ignore[misc]
        """Writes a header field in ASCII whatever the body is, and as it came where the library cannot write it."""

        def fold_binary(self, name: str, value: Any) -> bytes:
            try:
                folded: bytes = ascii_policy.fold_binary(name, _decoded(policy, name, value))
            except Exception:  # the parser raises whatever its code stumbles over
                lines = str(value).splitlines()
                folded = f"{name}: {policy.linesep.join(lines)}{policy.linesep}".encode("utf-8", "surrogateescape")
            return folded

    careful: Policy[Any] = Careful(**vars(policy))
    return careful


def _decoded(policy: Any, name: str, value: Any) -> Any:
    """A field with raw octets as a header object, if these are UTF-8; any other field as it is."""
    if type(value) is not str or value.isascii():
        return value
    text = "".join(_readable(value).splitlines())
    if hasattr(policy, "header_factory"):
        return policy.header_factory(name, text)
    try:
        text.encode()
    except UnicodeEncodeError:  # raw octets of another charset
        return value
    return Header(text, "utf-8", header_name=name)


def _write_a_labels(message: Message[Any, Any]) -> bool:
    """Write the domains of the address fields in A-labels. Says whether a local part is left that is not ASCII."""
    international = False
    for name in (*_ADDRESS_FIELDS, *(f"Resent-{field}" for field in _ADDRESS_FIELDS)):
        values = list(_fields(message, name))
        if all(str(value).isascii() for value in values):
            continue
        for value in values:
            field = _parsed(name, value)
            if field is None or _is_broken(field):
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
            if changed and len(values) == 1:
                message.replace_header(name, groups)
    return international


def _in_seven_bits(message: Message[Any, Any]) -> Message[Any, Any]:
    """The message with base64 for each body whose octets the library cannot convert: those in an unknown charset, or in
    another one than the message says.
    """
    if not any(_is_opaque(part) for part in message.walk()):
        return message
    if any(part.get_content_type() == "multipart/signed" for part in message.walk()):
        raise SMTPNotSupportedError(
            "the message has a signed part with 8-bit octets, and the server does not offer 8BITMIME: "
            "a change would break the signature (RFC 1847 2.1)"
        )
    message = copy.deepcopy(message)
    for part in message.walk():
        if _is_opaque(part):
            octets = _octets_of(part)
            del part["Content-Transfer-Encoding"]
            part["Content-Transfer-Encoding"] = "base64"
            part.set_payload(base64.encodebytes(octets).decode("ascii"))
    return message


def _is_opaque(part: Message[Any, Any]) -> bool:
    """Whether a body has 8-bit octets that its charset does not explain."""
    payload = part.get_payload()
    if not isinstance(payload, str) or payload.isascii():
        return False
    try:
        _octets_of(part).decode(str(part.get_param("charset", "us-ascii")))
    except (LookupError, ValueError):
        return True
    return False


def _octets_of(part: Message[Any, Any]) -> bytes:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes), "a part that is no multipart has octets"
    return octets
