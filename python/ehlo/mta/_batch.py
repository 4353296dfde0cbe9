"""A group of operations as rows for a few statements: what a statement costs is paid once for many messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ehlo.mta._model import Message
from ehlo.mta._rows import HELD, READY, Row, message_row, recipient_rows
from ehlo.mta._store import Accept, Database, Finish, Write

__all__ = ["Batch", "left_out"]

_PAGE: Final = 500


def left_out(db: Database, group: Iterable[Write], owner: int) -> list[Write]:
    """The operations of a group of which nothing may be stored, since some of their recipients are not this process's.
    What is left of their recipients is ready again.

    A plain completion needs no look: its statements name the owner, so they do nothing to the rows of others. But a
    notification must not be stored for an outcome that is not. A change by an administrator (the owner of its message
    is ``READY``) is for recipients that nobody owns; this process owns them until the transaction ends.

    Arguments:
        owner: this process.

    Example::

        without = left_out(db, group, 1)
    """
    out: list[Write] = []
    for one in group:
        if type(one) is not Finish:
            continue
        number, before = one.message.id, one.message.owner
        if before not in (READY, owner):  # of an earlier life of this node: others have its recipients
            out.append(one)
        elif one.notices or before == READY:
            wanted = [outcome.recipient.id for outcome in one.outcomes]
            found: list[int] = []
            owned = "owner <= 0" if before == READY else f"owner = {owner:d}"
            for at in range(0, len(wanted), _PAGE):
                part = wanted[at : at + _PAGE]
                marks = ", ".join("?" * len(part))
                statement = f"SELECT id FROM recipient WHERE message = ? AND {owned} AND id IN ({marks}){db.for_update}"
                found += [row[0] for row in db.query(statement, (number, *part))]
            if len(found) < len(wanted):
                out.append(one)
                if before == owner:
                    db.change_many(_SET_OWNER, [(READY, number, each) for each in found])
            elif before == READY:
                db.change_many(_SET_OWNER, [(owner, number, each) for each in found])
    return out


_SET_OWNER: Final = "UPDATE recipient SET owner = ? WHERE message = ? AND id = ?"


class Batch:
    """The rows of a group.

    Arguments:
        group: what is to be stored.
        owner: this process.
        notices_owner: of notifications: this process, or nobody if it delivers nothing.

    Attributes:
        messages, recipients, bodies: to be inserted.
        whole: messages all of whose recipients end in this group.
        partly: messages some of whose recipients end.
        ended: the ids of their messages and of those recipients.
        changed: ``(owner, due, attempts, warned, crashes, route, reply, host, reply, now, now, message, id, owner
            before)`` of recipients that stay.
        postponed: ``(due, route, message, id, owner before)`` of recipients that were not attempted.

    Example::

        batch = Batch(group, owner=1, notices_owner=1)
    """

    __slots__ = ("bodies", "changed", "ended", "messages", "partly", "postponed", "recipients", "whole")

    def __init__(self, group: Iterable[Write], owner: int, notices_owner: int) -> None:
        self.messages: list[Row] = []
        self.recipients: list[Row] = []
        self.bodies: list[Row] = []
        self.whole: list[Message] = []
        self.partly: list[Message] = []
        self.ended: list[Row] = []
        self.changed: list[Row] = []
        self.postponed: list[Row] = []
        for operation in group:
            if type(operation) is Accept:
                message = operation.message
                message.owner = owner if operation.owned else READY
                self.messages.append(message_row(message))
                self.recipients += recipient_rows(message, operation.recipients, message.owner)
                if operation.content is not None:
                    self.bodies.append((message.id, operation.content))
            elif type(operation) is Finish:
                self._finish(operation, owner, notices_owner)

    def _finish(self, operation: Finish, owner: int, notices_owner: int) -> None:
        message = operation.message
        ended: list[Row] = []
        for one in operation.outcomes:
            recipient = one.recipient
            match one.result:
                case "relayed" | "delivered" | "failed":
                    ended.append((message.id, recipient.id))
                case "postponed":
                    self.postponed.append((one.due, recipient.route, message.id, recipient.id, owner))
                case _:
                    reply = str(one.reply)
                    self.changed.append(
                        (
                            HELD if one.result == "held" else READY,
                            one.due,
                            recipient.attempts,
                            int(recipient.warned),
                            recipient.crashes,
                            recipient.route,
                            reply,
                            one.host,
                            reply,
                            operation.now,
                            operation.now,
                            message.id,
                            recipient.id,
                            owner,
                        )
                    )
        if ended:
            if len(ended) == message.recipients:
                self.whole.append(message)
            else:
                self.ended += ended
                self.partly.append(message)
        for report, recipients, octets in operation.notices:
            report.owner = notices_owner
            self.messages.append(message_row(report))
            self.recipients += recipient_rows(report, recipients, notices_owner)
            self.bodies.append((report.id, octets))
