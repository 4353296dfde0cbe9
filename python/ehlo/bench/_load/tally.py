"""What a load run counts. Plain data: a worker process hands it over, and the parent adds it up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ehlo.bench._load.histogram import Counts, merge

__all__ = ["SERIES", "Tally", "empty_row"]

SERIES: Final = ("messages", "octets", "not_accepted", "offered")
"""What is counted in each second of a run: messages accepted, their octets, messages not accepted, and in the open
loop the messages that were due."""


def empty_row() -> list[int]:
    """The row of a second in which nothing has happened yet."""
    return [0] * len(SERIES)


@dataclass(slots=True)
class Tally:
    """Counters of one process, of the measured part alone unless they say otherwise.

    Example::

        tally.accepted / tally.seconds  # messages a second
    """

    accepted: int = 0  # messages that every recipient's server took
    partly: int = 0  # some recipients refused
    refused: int = 0  # all recipients refused, by a reply
    failed: int = 0  # no reply: the connection ended, or the message could not be sent
    unsent: int = 0  # asked for, and not begun
    warmup: int = 0  # messages accepted that were begun in the warm-up, or whose latency is not counted
    recipients_accepted: int = 0
    recipients_refused: int = 0
    octets: int = 0  # of content, of the accepted messages
    connections: int = 0  # made, warm-up too
    connections_failed: int = 0  # that never came so far as to take a message, warm-up too
    seconds: float = 0.0  # of the measured part
    cpu: float = 0.0  # seconds of this process in it
    gave_up: str = ""  # why the run ended before its time
    interrupted: bool = False
    errors: Counter[str] = field(default_factory=Counter)  # "rcpt 550", "connect ECONNREFUSED"; warm-up too
    samples: dict[str, str] = field(default_factory=dict)  # one text for each error
    phases: dict[str, Counts] = field(default_factory=dict)
    series: dict[int, list[int]] = field(default_factory=dict)  # second -> a row of SERIES
    latencies: dict[int, Counts] = field(default_factory=dict)  # second -> microseconds of its messages, coarse

    @property
    def attempted(self) -> int:
        """Messages that were begun."""
        return self.accepted + self.partly + self.refused + self.failed

    def add(self, other: Tally) -> None:
        """Add what another process counted in the same time.

        Example::

            total.add(part)
        """
        for name in (
            "accepted",
            "partly",
            "refused",
            "failed",
            "unsent",
            "warmup",
            "recipients_accepted",
            "recipients_refused",
            "octets",
            "connections",
            "connections_failed",
            "cpu",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        self.gave_up = self.gave_up or other.gave_up
        self.interrupted |= other.interrupted
        self.errors += other.errors
        self.samples = {**other.samples, **self.samples}
        for phase, counts in other.phases.items():
            self.phases[phase] = merge([self.phases.get(phase, {}), counts])
        for second, row in other.series.items():
            mine = self.series.setdefault(second, empty_row())
            self.series[second] = [a + b for a, b in zip(mine, row, strict=True)]
        for second, counts in other.latencies.items():
            self.latencies[second] = merge([self.latencies.get(second, {}), counts])
