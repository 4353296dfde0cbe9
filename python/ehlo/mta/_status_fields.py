"""The fields of a delivery status (RFC 3464 2, RFC 6533 3), written and read. No MIME here: see ``_report``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, Literal, TypeAlias, cast, get_args

from ehlo import EhloError, xtext_decode, xtext_encode

__all__ = ["Action", "DeliveryStatus", "DeliveryStatusError", "RecipientStatus"]

Action: TypeAlias = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
"""What became of the message for one recipient (RFC 3464 2.3.3)."""

_ACTIONS: Final = frozenset(get_args(Action))
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_FIELD: Final = re.compile(r"([!-9;-~]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_TYPED: Final = re.compile(r"([A-Za-z0-9-]+)[ \t]*;[ \t]*(.*)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_WIDTH: Final = 77
_LONGEST: Final = 900


class DeliveryStatusError(EhloError, ValueError):
    """These octets are no delivery status notification: the message names the rule that they break.

    Example::

        except DeliveryStatusError as exc: print(exc)
    """


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What became of the message for one recipient (RFC 3464 2.3).

    Attributes:
        final_recipient: the mailbox that this server tried to reach (2.3.2).
        action: see :data:`Action` (2.3.3).
        status: the enhanced status code, like ``"5.1.1"`` (2.3.4, RFC 3463).
        original_recipient: type and address as the sender gave them in ORCPT (2.3.1).
        remote_mta: the name of the server that gave the status (2.3.5).
        diagnostic: type and text of its reply, like ``("smtp", "550 5.1.1 no such user")`` (2.3.6).
        last_attempt: when it was last tried, with its offset from UTC (2.3.7).
        final_log_id: the id of the message in this server's log (2.3.8).
        will_retry_until: until when this server tries, for ``"delayed"`` (2.3.9).

    Example::

        RecipientStatus("joe@example.org", "failed", "5.1.1", diagnostic=("smtp", "550 5.1.1 no such user"))
    """

    final_recipient: str
    action: Action
    status: str
    original_recipient: tuple[str, str] | None = None
    remote_mta: str | None = None
    diagnostic: tuple[str, str] | None = None
    last_attempt: datetime | None = None
    final_log_id: str | None = None
    will_retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """A delivery status: what one server says of one message, for one or more recipients (RFC 3464 2.1).

    Attributes:
        reporting_mta: the name of the server that says it (2.2.2).
        recipients: one for each recipient it is about.
        envelope_id: the ENVID of the message, decoded (2.2.1, RFC 3461 4.4).
        received_from: the name of the server that the message came from (2.2.4).
        arrival: when the message came (2.2.5).

    Example::

        DeliveryStatus("mx.example.org", (status_of_joe,)).to_bytes()
    """

    reporting_mta: str
    recipients: tuple[RecipientStatus, ...]
    envelope_id: str | None = None
    received_from: str | None = None
    arrival: datetime | None = None

    @property
    def is_ascii(self) -> bool:
        """Whether every address is ASCII, so that ``message/delivery-status`` can say it as it is."""
        return all(
            one.final_recipient.isascii() and (one.original_recipient is None or one.original_recipient[1].isascii())
            for one in self.recipients
        )

    def to_bytes(self, *, utf8: bool = False) -> bytes:
        """The content of ``message/delivery-status``; with ``utf8`` that of ``message/global-delivery-status``.

        Arguments:
            utf8: write addresses and replies in UTF-8 (RFC 6533 3). Else they are escaped to ASCII.

        Example::

            status.to_bytes()
        """
        groups = [self._message_fields()]
        groups += [list(_recipient_fields(one, utf8)) for one in self.recipients]
        return b"\r\n".join(b"".join(_write(name, value, utf8) for name, value in group) for group in groups)

    def _message_fields(self) -> list[tuple[str, str]]:
        fields = []
        if self.envelope_id is not None:
            fields.append(("Original-Envelope-Id", xtext_encode(self.envelope_id.encode())))
        fields.append(("Reporting-MTA", f"dns; {self.reporting_mta}"))
        if self.received_from is not None:
            fields.append(("Received-From-MTA", f"dns; {self.received_from}"))
        if self.arrival is not None:
            fields.append(("Arrival-Date", format_datetime(self.arrival)))
        return fields

    @classmethod
    def parse(cls, octets: bytes) -> DeliveryStatus:
        """Read the content of ``message/delivery-status`` or ``message/global-delivery-status``, strictly.

        Raises:
            DeliveryStatusError: a required field is missing, a field stands twice, or a value breaks its grammar.
                Unknown fields are passed over (RFC 3464 2.4).

        Example::

            DeliveryStatus.parse(octets).recipients[0].action
        """
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            raise DeliveryStatusError("a delivery status is ASCII or UTF-8") from None
        groups = [dict(_fields(group)) for group in _groups(text)]
        if len(groups) < 2:
            raise DeliveryStatusError("a delivery status needs the fields of at least one recipient (RFC 3464 2.1)")
        first = groups[0]
        envelope_id = first.get("original-envelope-id")
        return cls(
            reporting_mta=_typed(_needed(first, "reporting-mta"), "reporting-mta")[1],
            recipients=tuple(_recipient(group) for group in groups[1:]),
            envelope_id=None if envelope_id is None else _xtext(envelope_id),
            received_from=_optional_name(first, "received-from-mta"),
            arrival=_date(first, "arrival-date"),
        )


# ---- written ---------------------------------------------------------------------------------------------------


def _recipient_fields(one: RecipientStatus, utf8: bool) -> Iterator[tuple[str, str]]:
    if one.original_recipient is not None:
        kind, address = one.original_recipient
        yield "Original-Recipient", _address(kind, address, utf8)
    yield "Final-Recipient", _address("rfc822", one.final_recipient, utf8)
    yield "Action", one.action
    yield "Status", one.status
    if one.remote_mta is not None:
        yield "Remote-MTA", f"dns; {one.remote_mta}"
    if one.diagnostic is not None:
        yield "Diagnostic-Code", f"{one.diagnostic[0]}; {' '.join(one.diagnostic[1].split())[:_LONGEST]}"
    if one.last_attempt is not None:
        yield "Last-Attempt-Date", format_datetime(one.last_attempt)
    if one.final_log_id is not None:
        yield "Final-Log-ID", one.final_log_id
    if one.will_retry_until is not None:
        yield "Will-Retry-Until", format_datetime(one.will_retry_until)


def _address(kind: str, address: str, utf8: bool) -> str:
    """An address with its type. One that is not ASCII has the type ``utf-8`` (RFC 6533 3)."""
    if address.isascii():
        return f"{kind}; {xtext_encode(address.encode()) if kind.lower() == 'utf-8' else address}"
    if utf8:
        return f"utf-8; {address}"
    return "utf-8; " + "".join(
        char if "!" <= char <= "~" and char not in "+=\\" else f"\\x{{{ord(char):X}}}" for char in address
    )


def _write(name: str, value: str, utf8: bool) -> bytes:
    """One field, folded at spaces."""
    text = "".join(char if char.isprintable() else "?" for char in value)
    lines = [f"{name}:"]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > _WIDTH and lines[-1].strip():
            lines.append("")
        lines[-1] += f" {word}"
    return ("\r\n".join(lines) + "\r\n").encode("utf-8" if utf8 else "ascii", "replace")


# ---- read ------------------------------------------------------------------------------------------------------


def _groups(text: str) -> Iterator[str]:
    """Groups of fields, separated by empty lines."""
    for group in re.split(r"(?:\r?\n[ \t]*(?=\r?\n))+\r?\n", text.strip("\r\n \t")):
        if group:
            yield group


def _fields(group: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for line in re.split(r"\r?\n(?![ \t])", group):
        match = _FIELD.fullmatch(line)
        if match is None:
            raise DeliveryStatusError(f"no field: {line[:80]!r} (RFC 3464 2.1.1)")
        name = match[1].lower()
        if name in seen:
            raise DeliveryStatusError(f"the field {match[1]} stands twice in one group")
        seen.add(name)
        yield name, re.sub(r"\r?\n[ \t]+", " ", match[2]).strip()


def _recipient(fields: dict[str, str]) -> RecipientStatus:
    action = _needed(fields, "action").lower()
    if action not in _ACTIONS:
        raise DeliveryStatusError(f"no action: {action!r} (RFC 3464 2.3.3)")
    status = _needed(fields, "status").partition(" ")[0]
    if not _STATUS.fullmatch(status):
        raise DeliveryStatusError(f"no status code: {status!r} (RFC 3463 2)")
    expected = {"failed": "5", "delayed": "4"}.get(action, "2")
    if status[0] != expected:
        raise DeliveryStatusError(f"the action {action!r} needs a status of class {expected}, not {status!r}")
    original = fields.get("original-recipient")
    diagnostic = fields.get("diagnostic-code")
    return RecipientStatus(
        final_recipient=_read_address(_needed(fields, "final-recipient"), "final-recipient")[1],
        action=cast(Action, action),
        status=status,
        original_recipient=None if original is None else _read_address(original, "original-recipient"),
        remote_mta=_optional_name(fields, "remote-mta"),
        diagnostic=None if diagnostic is None else _typed(diagnostic, "diagnostic-code"),
        last_attempt=_date(fields, "last-attempt-date"),
        final_log_id=fields.get("final-log-id"),
        will_retry_until=_date(fields, "will-retry-until"),
    )


def _needed(fields: dict[str, str], name: str) -> str:
    if not fields.get(name):
        raise DeliveryStatusError(f"the field {name} is missing (RFC 3464 2.2, 2.3)")
    return fields[name]


def _typed(value: str, name: str) -> tuple[str, str]:
    match = _TYPED.fullmatch(value)
    if match is None:
        raise DeliveryStatusError(f"{name} needs a type and a value with a semicolon between, not {value!r}")
    return match[1], match[2].strip()


def _read_address(value: str, name: str) -> tuple[str, str]:
    kind, address = _typed(value, name)
    if not address:
        raise DeliveryStatusError(f"{name} has no address")
    if kind.lower() == "utf-8":
        try:
            address = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), address)
        except (ValueError, OverflowError):
            raise DeliveryStatusError(f"{name}: {address!r} is no utf-8 address (RFC 6533 3)") from None
    return kind, address


def _xtext(value: str) -> str:
    try:
        return xtext_decode(value).decode("utf-8", "replace")
    except (EhloError, ValueError):
        raise DeliveryStatusError(f"original-envelope-id is no xtext: {value!r} (RFC 3461 4)") from None


def _optional_name(fields: dict[str, str], name: str) -> str | None:
    return _typed(fields[name], name)[1] if name in fields else None


def _date(fields: dict[str, str], name: str) -> datetime | None:
    if name not in fields:
        return None
    try:
        return parsedate_to_datetime(fields[name])
    except ValueError:
        raise DeliveryStatusError(f"{name} is no date: {fields[name]!r} (RFC 5322 3.3)") from None
