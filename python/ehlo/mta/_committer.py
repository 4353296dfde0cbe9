"""Group commit: one thread takes what waits, commits once, and answers all with one wake-up of the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from ehlo.mta._model import Message
from ehlo.mta._spool import NotOwned, SpoolFull, SpoolUnavailable
from ehlo.mta._store import AWAY, Accept, Call, Finish, Store, Write

__all__ = ["Committer"]

_GROUP: Final = 500
_GROUP_OCTETS: Final = 16 * 1048576
# Seconds between two attempts to reach a storage that is away.
_PAUSE: Final = 0.2

Operation: TypeAlias = Accept | Call | Finish
_Answer: TypeAlias = "tuple[Any, Any, BaseException | None]"


class Committer:
    """The storage thread.

    Arguments:
        store: what it works on.
        post: runs a function in the loop; may be called in any thread.
        monotonic: gives seconds.
        patience: seconds for which a message waits for a storage that is away.

    Attributes:
        is_away: the storage does not answer.
        groups: transactions so far that held messages or outcomes.
        grouped: messages and outcomes in them.

    Example::

        committer = Committer(store, loop.call_soon_threadsafe, time.monotonic, 5.0)
        committer.put(Call(lambda store: store.body(7), done))
    """

    def __init__(
        self,
        store: Store,
        post: Callable[[Callable[[], None]], object],
        monotonic: Callable[[], float],
        patience: float,
    ) -> None:
        self._store = store
        self._post = post
        self._monotonic = monotonic
        self._patience = patience
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._answers: list[_Answer] = []
        self._undo: list[Message] = []
        self._kept: list[Operation] = []
        self._closing = False
        self.is_away = False
        self.groups = 0
        self.grouped = 0
        self.put = self._queue.put
        self._thread = threading.Thread(target=self._run, name="ehlo-spool", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    def close(self) -> None:
        """Do what waits, and end. Blocks."""
        self._queue.put(None)
        self._thread.join()

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing or self._kept or not self._queue.empty():
            self._turn()

    def _turn(self) -> None:
        """Do what waits. It is a call of its own, so that the thread keeps no content while it waits for more."""
        group: list[Write] = []
        for operation in self._take():
            if isinstance(operation, Call):
                self._commit(group)
                group = []
                self._call(operation)
            elif not operation.abandoned:
                group.append(operation)
            else:
                self._answers.append((operation, None, SpoolUnavailable("abandoned")))
        self._commit(group)
        self._answer()

    def _take(self) -> list[Operation]:
        """What waits, at least one; as much as makes a group."""
        taken, self._kept = self._kept, []
        octets = 0
        if not taken:
            first = self._queue.get()
            if first is None:
                self._closing = True
            else:
                taken.append(first)
                octets = first.octets
        get = self._queue.get_nowait
        try:
            while len(taken) < _GROUP and octets < _GROUP_OCTETS:
                operation = get()
                if operation is None:
                    self._closing = True
                else:
                    taken.append(operation)
                    octets += operation.octets
        except Empty:
            pass
        return taken

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        if not answers:
            return

        def tell() -> None:
            for operation, result, error in answers:
                operation.done(result, error)

        try:
            self._post(tell)
        except RuntimeError:  # the loop is over, and with it all that waited
            if not self._closing:
                self._closing = True

    def _commit(self, group: list[Write], again: bool = False) -> None:
        while group:
            try:
                if self._undo:
                    self._store.remove(self._undo)
                    self._undo = []
                left_out = self._store.write(group, again)
            except Exception as exc:
                error = self._store.translate(exc)
                if isinstance(error, SpoolUnavailable):
                    for operation in group:
                        if isinstance(operation, Accept):
                            operation.tried = True
                    group = self._wait_for_store(group, error)
                    again = True
                elif len(group) > 1 and self._store.is_about_one(exc):
                    half = len(group) // 2
                    self._commit(group[:half], again)
                    group = group[half:]
                elif isinstance(error, SpoolFull) and 0 < sum(type(one) is Accept for one in group) < len(group):
                    # What ends messages makes room.
                    self._answers += [(one, None, error) for one in group if type(one) is Accept]
                    group = [one for one in group if type(one) is not Accept]
                else:
                    self._answers += [(one, None, error) for one in group]
                    return
            else:
                self.groups += 1
                self.grouped += len(group)
                if left_out:
                    lost = NotOwned("the recipients are not this process's any more")
                    self._answers += [(one, None, lost if one in left_out else None) for one in group]
                else:
                    self._answers += [(one, None, None) for one in group]
                return

    def _call(self, call: Call) -> None:
        while True:
            try:
                self._answers.append((call, call.function(self._store), None))
                return
            except Exception as exc:
                error = self._store.translate(exc)
            if not isinstance(error, SpoolUnavailable):
                self._answers.append((call, None, error))
                return
            if call.when_away is not AWAY:
                self._answers.append((call, call.when_away, None))
                self._wait_for_store([], error)
                return
            self._wait_for_store([], error)
            if self._closing:
                self._answers.append((call, None, error))
                return

    def _wait_for_store(self, group: list[Write], error: SpoolUnavailable) -> list[Write]:
        """Until the storage answers again. Messages wait for a while only; what ends others waits as long as it takes,
        and so does what comes meanwhile. Gives what is left of the group.
        """
        self.is_away = True
        try:
            while True:
                try:
                    self._store.reconnect()
                    return group
                except Exception as exc:
                    error = SpoolUnavailable(str(exc).strip())
                oldest = self._monotonic() - self._patience
                group = [one for one in group if not self._gives_up(one, oldest, error)]
                self._kept = [one for one in self._kept if not self._gives_up(one, oldest, error)]
                if self._closing:
                    self._answers += [(one, None, error) for one in (*group, *self._kept)]
                    self._kept = []
                    return []
                self._answer()
                try:
                    operation = self._queue.get(timeout=_PAUSE)
                except Empty:
                    continue
                if operation is None:
                    self._closing = True
                else:
                    self._kept.append(operation)
        finally:
            self.is_away = False

    def _gives_up(self, operation: Operation, oldest: float, error: SpoolUnavailable) -> bool:
        if isinstance(operation, Accept):
            if operation.since > oldest:
                return False
            if operation.tried:
                self._undo.append(operation.message)
            self._answers.append((operation, None, error))
            return True
        if isinstance(operation, Call) and operation.when_away is not AWAY:
            self._answers.append((operation, operation.when_away, None))
            return True
        return False
