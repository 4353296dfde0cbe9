"""What happens, told: one log line an event, always with the queue id, and counters.

The logger is ``ehlo.mta``. A line reads ``0192f3c2d4e5a6b7 relayed to=<joe@example.org> host=mx.example.org ...``;
:class:`JsonFormatter` writes the same as JSON.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["BUCKETS", "Counters", "Histogram", "JsonFormatter", "LogLine", "log"]

log: Final = logging.getLogger("ehlo.mta")

BUCKETS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 14400.0, 86400.0)
"""Upper ends of the buckets of a :class:`Histogram`, in seconds."""


class LogLine:
    """One event: its text is made when a handler asks for it.

    Attributes:
        event: one word.
        ident: the queue id of the message it is about; ``"-"`` without one.
        fields: what else is to be said; without those that are ``None``.

    Example::

        log.info(LogLine("accepted", message.ident, sender=message.sender))
    """

    __slots__ = ("event", "fields", "ident")

    def __init__(self, event: str, ident: str = "-", **fields: Any) -> None:
        self.event = event
        self.ident = ident
        self.fields = {key: value for key, value in fields.items() if value is not None}

    def __str__(self) -> str:
        return " ".join([self.ident, self.event, *(f"{key}={_text(value)}" for key, value in self.fields.items())])


class JsonFormatter(logging.Formatter):
    """Writes events of the kit, and any other record, as one JSON object a line.

    Example::

        handler.setFormatter(ehlo.mta.JsonFormatter())
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {"time": record.created, "level": record.levelname.lower(), "logger": record.name}
        if isinstance(record.msg, LogLine):
            line |= {"id": record.msg.ident, "event": record.msg.event, **record.msg.fields}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _text(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"' if " " in text or not text else text
    return json.dumps(text)


@dataclass(slots=True)
class Histogram:
    """How long something took: a count for each of :data:`BUCKETS`, and one for what took longer.

    Attributes:
        counts: of each bucket.
        total: the sum, in seconds.

    Example::

        histogram.add(0.25)
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Counters:
    """What a queue has done since it was opened. :mod:`ehlo.mta.metrics` exports it.

    Attributes:
        accepted: messages.
        refused: messages that were refused since there was no room, or the storage failed.
        octets: of accepted messages.
        attempts: attempts for one recipient, by result.
        notices: notifications that were sent, by kind: ``failed``, ``delayed``, ``delivered``, ``relayed``.
        double_bounces: notifications that could not be delivered, or were not sent to the null sender.
        doubles_possible: attempts whose outcome is unknown.
        crashes: attempts that ended by an error of the program.
        suspensions: of routes.
        connections: that were opened to next hops.
        commit_seconds: from a message's end to its commit.
        delivery_seconds: from a message's arrival to its next hop's 250.

    Example::

        queue.counters.accepted
    """

    accepted: int = 0
    refused: int = 0
    octets: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    double_bounces: int = 0
    doubles_possible: int = 0
    crashes: int = 0
    suspensions: int = 0
    connections: int = 0
    commit_seconds: Histogram = field(default_factory=Histogram)
    delivery_seconds: Histogram = field(default_factory=Histogram)
