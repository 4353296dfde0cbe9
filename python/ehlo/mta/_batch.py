"""A group of operations as rows for a few statements: what a statement costs is paid once for many messages."""

from __future__ import annotations

from collections.abc import Iterable

from ehlo.mta._model import Message
from ehlo.mta._rows import HELD, READY, Row, message_row, recipient_rows
from ehlo.mta._store import Accept, Finish, Write

__all__ = ["Batch"]


class Batch:
    """The rows of a group.

    Attributes:
        messages, recipients, bodies: to be inserted.
        whole: messages all of whose recipients end in this group.
        partly: messages some of whose recipients end.
        ended: the ids of their messages and of those recipients.
        changed: ``(owner, due, attempts, warned, route, reply, host, reply, now, now, message, id)`` of recipients that
            stay.
        postponed: ``(due, message, id)`` of recipients that were not attempted.

    Example::

        batch = Batch(group, owner=1)
    """

    __slots__ = ("bodies", "changed", "ended", "messages", "partly", "postponed", "recipients", "whole")

    def __init__(self, group: Iterable[Write], owner: int) -> None:
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
                self.messages.append(message_row(message))
                self.recipients += recipient_rows(message, operation.recipients, operation.owner)
                if operation.content is not None:
                    self.bodies.append((message.id, operation.content))
            elif type(operation) is Finish:
                self._finish(operation, owner)

    def _finish(self, operation: Finish, owner: int) -> None:
        message = operation.message
        ended: list[Row] = []
        for one in operation.outcomes:
            recipient = one.recipient
            match one.result:
                case "relayed" | "delivered" | "failed":
                    ended.append((message.id, recipient.id))
                case "postponed":
                    self.postponed.append((one.due, message.id, recipient.id))
                case _:
                    reply = str(one.reply)
                    self.changed.append(
                        (
                            HELD if one.result == "held" else READY,
                            one.due,
                            recipient.attempts,
                            int(recipient.warned),
                            recipient.route,
                            reply,
                            one.host,
                            reply,
                            operation.now,
                            operation.now,
                            message.id,
                            recipient.id,
                        )
                    )
        if ended:
            if len(ended) == message.recipients:
                self.whole.append(message)
            else:
                self.ended += ended
                self.partly.append(message)
        for report, recipients, octets in operation.notices:
            self.messages.append(message_row(report))
            self.recipients += recipient_rows(report, recipients, owner)
            self.bodies.append((report.id, octets))
