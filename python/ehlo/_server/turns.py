"""Turns at scarce work: few at a time, a bounded number that wait, fair between client networks. No I/O, no loop."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from ehlo._types import Wakeup

__all__ = ["Turn", "Turns"]


class Turn:
    """One wish for a turn; made by :meth:`Turns.ask`.

    Attributes:
        event: it is set when the wish is decided.
        granted: the turn is there. Call :meth:`Turns.done` at its end.
        refused: too many wait.
    """

    __slots__ = ("event", "granted", "key", "refused")

    def __init__(self, key: str, event: Wakeup) -> None:
        self.key = key
        self.event = event
        self.granted = False
        self.refused = False


class Turns:
    """Gives turns by rounds: each network that waits gets one turn in each round, however many of its clients wait.

    When all places are taken, the network with the most waiting clients loses its last one. So a network cannot keep
    the others from waiting.

    Arguments:
        slots: turns at one time.
        places: clients that may wait.
        make_event: makes what a task waits for.

    Example::

        turn = turns.ask("192.0.2.1/32")
        await turn.event.wait()
    """

    def __init__(self, slots: int, places: int, make_event: Callable[[], Wakeup]) -> None:
        self._free = slots
        self._places = places
        self._make_event = make_event
        self._waiting = 0
        self._rounds: OrderedDict[str, deque[Turn]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Clients that wait now."""
        return self._waiting

    def ask(self, key: str) -> Turn:
        """Wish for a turn. It may be decided at once.

        Arguments:
            key: the client's network.
        """
        turn = Turn(key, self._make_event())
        if self._free:
            self._free -= 1
            turn.granted = True
            turn.event.set()
            return turn
        if self._waiting >= self._places and not self._make_room(key):
            turn.refused = True
            turn.event.set()
            return turn
        self._rounds.setdefault(key, deque()).append(turn)
        self._waiting += 1
        return turn

    def withdraw(self, turn: Turn) -> None:
        """The task that waited for a turn waits no more. A turn that it got in the meantime goes to the next."""
        if turn.granted:
            self.done()
        elif not turn.refused:
            queue = self._rounds[turn.key]
            queue.remove(turn)
            self._waiting -= 1
            if not queue:
                del self._rounds[turn.key]

    def done(self) -> None:
        """A turn is over."""
        if not self._rounds:
            self._free += 1
            return
        key, queue = self._rounds.popitem(last=False)
        turn = queue.popleft()
        self._waiting -= 1
        if queue:
            self._rounds[key] = queue
        turn.granted = True
        turn.event.set()

    def _make_room(self, key: str) -> bool:
        """Take a place from the network that has the most, unless that would not be fair to it."""
        if not self._rounds:
            return False
        longest = max(self._rounds, key=lambda one: len(self._rounds[one]))
        own = len(self._rounds.get(key, ()))
        if len(self._rounds[longest]) <= own + 1:
            return False
        last = self._rounds[longest].pop()
        self._waiting -= 1
        last.refused = True
        last.event.set()
        return True
