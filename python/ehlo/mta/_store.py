"""What each engine does in the storage thread, and the operations that it is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from ehlo.mta._model import Message, NewMessage, Outcome, Recipient
from ehlo.mta._rows import Row

__all__ = ["AWAY", "NOTED", "Accept", "Call", "Claimed", "Database", "Done", "Finish", "Store", "Write"]

T = TypeVar("T")
Done: TypeAlias = Callable[[Any, "BaseException | None"], None]
Claimed: TypeAlias = "list[tuple[Message, list[Recipient]]]"

NOTED: Final = 60.0
"""Seconds by which the clock goes on, or is set, before the time of the last write is stored anew."""

AWAY: Any = object()
"""Of a :class:`Call` without an answer for the time in which the storage is away: it waits."""


class Accept:
    """Store a message.

    Attributes:
        message, recipients: what, and for whom.
        content: its octets, if they become a row.
        owned: this process delivers it at once.
        since: when it began to wait, in seconds of the monotonic clock.
        octets: that it holds in memory.
        abandoned: nobody waits for it any more, so the message must not stay.
        tried: it may be stored: a commit had no answer.
        done: called in the loop.
    """

    __slots__ = ("abandoned", "content", "done", "message", "octets", "owned", "recipients", "since", "tried")

    def __init__(
        self,
        message: Message,
        recipients: Sequence[Recipient],
        content: bytes | None,
        owned: bool,
        since: float,
        done: Done,
    ) -> None:
        self.message = message
        self.recipients = recipients
        self.content = content
        self.owned = owned
        self.since = since
        self.done = done
        self.octets = 0 if content is None else len(content)
        self.abandoned = False
        self.tried = False


class Finish:
    """Store outcomes and notifications.

    Attributes:
        message, outcomes, notices: see :meth:`ehlo.mta._model.Storage.finish`.
        now: seconds of the Unix epoch.
        octets: that it holds in memory.
        done: called in the loop.
    """

    __slots__ = ("done", "message", "notices", "now", "octets", "outcomes")

    abandoned = False

    def __init__(
        self, message: Message, outcomes: Sequence[Outcome], notices: Sequence[NewMessage], now: float, done: Done
    ) -> None:
        self.message = message
        self.outcomes = outcomes
        self.notices = notices
        self.now = now
        self.done = done
        self.octets = sum(len(octets) for _, _, octets in notices) if notices else 0


class Call:
    """Anything else: a function of the store, in its turn.

    Attributes:
        function: gets the store; its result is the answer.
        when_away: the answer while the storage does not answer.
        done: called in the loop.
    """

    __slots__ = ("done", "function", "when_away")

    octets = 0

    def __init__(self, function: Callable[[Any], Any], done: Done, when_away: Any = AWAY) -> None:
        self.function = function
        self.done = done
        self.when_away = when_away


Write: TypeAlias = Accept | Finish


class Database(Protocol):
    """One transaction of either engine. Parameters are ``?`` in the text of a statement.

    Attributes:
        for_update: the clause that keeps others from the rows of a query until the transaction ends; ``""`` where no
            other transaction can write at the same time.
    """

    for_update: str

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of an answer."""

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Gives how many rows were changed."""

    def change_many(self, statement: str, rows: Sequence[Row]) -> None:
        """The same for many rows."""


class Store(Protocol):
    """What an engine does. All of it blocks; all but ``look`` is called in the storage thread only, after ``open``."""

    owner: int
    """Who owns what this process delivers."""

    last_write: float
    """See :attr:`ehlo.mta.Spool.last_write`."""

    def open(self) -> int:
        """Open it, bring its tables up to date. Gives the greatest id that it has; 0 for none."""

    def close(self) -> None:
        """Leave."""

    def reconnect(self) -> None:
        """Try again to reach it. Raises what :meth:`translate` makes a ``SpoolUnavailable``."""

    def write(self, group: Sequence[Write], again: bool) -> Collection[Write]:
        """All of a group in one transaction. Gives those that were left out, since this process does not own all of
        their recipients any more.

        Arguments:
            again: a commit of the same group had no answer: what is there already is right.
        """

    def claim(self, now: float, limit: int) -> Claimed:
        """Own what is due."""

    def body(self, number: int) -> bytes:
        """A content that is a row."""

    def remove(self, messages: Sequence[Message]) -> None:
        """Take messages out, with their contents and recipients, whether or not they are there."""

    def transaction(self, function: Callable[[Database], T]) -> T:
        """Run a function in a transaction."""

    def look(self, function: Callable[[Database], T]) -> T:
        """Run a function on a snapshot, in any thread, beside all else. It cannot write."""

    def is_idle(self, db: Database) -> bool:
        """Whether no process delivers, so that nobody owns what is marked as owned. For an administrator each
        transaction gives that back first.
        """

    def translate(self, exc: Exception) -> BaseException:
        """An engine's exception as one of ours."""

    def is_about_one(self, exc: Exception) -> bool:
        """Whether one operation of a group is at fault, and not the storage."""
