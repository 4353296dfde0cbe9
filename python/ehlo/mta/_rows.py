"""Messages and recipients as rows of the tables, which are the same for every engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

from ehlo.mta._model import Message, Recipient

__all__ = [
    "HELD",
    "MESSAGE_COLUMNS",
    "READY",
    "RECIPIENT_COLUMNS",
    "Row",
    "message_of",
    "message_row",
    "recipient_facts",
    "recipient_of",
    "recipient_rows",
]

Row: TypeAlias = "tuple[Any, ...]"

READY: Final = 0
HELD: Final = -1

MESSAGE_COLUMNS: Final = "id, sender, arrived, size, flags, priority, recipients, stored, hello, peer, facts"
RECIPIENT_COLUMNS: Final = "message, id, path, facts, owner, due, attempts, warned, route, crashes"


def message_row(message: Message) -> Row:
    """The row of a message, in the order of :data:`MESSAGE_COLUMNS`.

    Example::

        connection.execute("INSERT INTO message VALUES (...)", message_row(message))
    """
    flags = message.eight_bit + 2 * message.utf8_header + 4 * message.smtputf8 + 8 * message.requiretls
    facts = None
    if message.body is not None or message.ret is not None or message.envid is not None or message.parameters:
        known = {
            "body": message.body,
            "ret": message.ret,
            "envid": message.envid,
            "parameters": message.parameters or None,
        }
        facts = _json(known)
    return (
        message.id,
        message.sender,
        message.arrived,
        message.size,
        flags,
        message.priority,
        message.recipients,
        message.stored,
        message.hello,
        message.peer,
        facts,
    )


def message_of(row: Sequence[Any]) -> Message:
    """The message of a row.

    Example::

        message_of(message_row(message))
    """
    number, sender, arrived, size, flags, priority, recipients, stored, hello, peer, text = row
    facts = json.loads(text) if text else {}
    return Message(
        number,
        sender,
        arrived,
        size,
        bool(flags & 1),
        bool(flags & 2),
        facts.get("body"),
        bool(flags & 4),
        facts.get("ret"),
        facts.get("envid"),
        priority,
        bool(flags & 8),
        hello,
        peer,
        _pairs(facts),
        recipients,
        stored,
    )


def recipient_rows(message: Message, recipients: Iterable[Recipient], owner: int) -> list[Row]:
    """The rows of recipients, in the order of :data:`RECIPIENT_COLUMNS`.

    Example::

        recipient_rows(message, recipients, READY)
    """
    number = message.id
    return [
        (
            number,
            one.id,
            one.path,
            None if one.notify is None and one.orcpt is None and not one.parameters else recipient_facts(one),
            owner,
            one.due,
            one.attempts,
            int(one.warned),
            one.route,
            one.crashes,
        )
        for one in recipients
    ]


def recipient_facts(recipient: Recipient) -> str | None:
    """What few recipients have.

    Example::

        recipient_facts(Recipient(1, "joe@example.org", orcpt=("rfc822", "jo@example.com")))
    """
    return _json(
        {
            "notify": None if recipient.notify is None else sorted(recipient.notify),
            "orcpt": recipient.orcpt,
            "parameters": recipient.parameters or None,
        }
    )


def recipient_of(row: Sequence[Any]) -> Recipient:
    """The recipient of a row that has the columns of :data:`RECIPIENT_COLUMNS` behind ``message``.

    Example::

        recipient_of(rows[0][1:])
    """
    number, path, text, _, due, attempts, warned, route, crashes = row
    if text is None:
        return Recipient(number, path, None, None, attempts, due, bool(warned), (), route, crashes)
    facts = json.loads(text)
    notify, orcpt = facts.get("notify"), facts.get("orcpt")
    return Recipient(
        number,
        path,
        None if notify is None else frozenset(notify),
        None if orcpt is None else (orcpt[0], orcpt[1]),
        attempts,
        due,
        bool(warned),
        _pairs(facts),
        route,
        crashes,
    )


def _json(facts: dict[str, Any]) -> str | None:
    given = {key: value for key, value in facts.items() if value is not None}
    return json.dumps(given, separators=(",", ":")) if given else None


def _pairs(facts: dict[str, Any]) -> tuple[tuple[str, str | None], ...]:
    return tuple(cast("tuple[str, str | None]", tuple(pair)) for pair in facts.get("parameters", ()))
