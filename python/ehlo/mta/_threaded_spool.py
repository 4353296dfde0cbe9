"""The part of a spool that waits: the loop's side of the storage thread. Both engines have it in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

import ehlo
from ehlo.mta import _selection as sql
from ehlo.mta._clock import Clock, SystemClock
from ehlo.mta._committer import Committer
from ehlo.mta._ids import IdMaker
from ehlo.mta._journal import Journal
from ehlo.mta._loop import library
from ehlo.mta._model import Content, Message, NewMessage, Outcome, Recipient, Stage
from ehlo.mta._spool import (
    Changed,
    DeadRoute,
    Entry,
    Group,
    NotOwned,
    QueueFull,
    Selection,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
    State,
    Suspension,
    Totals,
)
from ehlo.mta._store import AWAY, Accept, Call, Claimed, Database, Finish, Store

__all__ = ["ROW", "ThreadedSpool"]

T = TypeVar("T")

ROW: Final = 262144
"""Octets up to which a content is a row."""


class _Waiter(Protocol):
    """One answer on its way from the thread."""

    def done(self, result: Any, error: BaseException | None) -> None:
        """It is there. Called in the loop."""

    async def wait(self) -> Any:
        """The result, or raises the error."""


class _AsyncioWaiter:
    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(self, result: Any, error: BaseException | None) -> None:
        if self._future.done():  # cancelled
            return
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)

    async def wait(self) -> Any:
        return await self._future


class _TrioWaiter:
    __slots__ = ("_error", "_event", "_result")

    def __init__(self) -> None:
        import trio

        self._event = trio.Event()

    def done(self, result: Any, error: BaseException | None) -> None:
        self._result = result
        self._error = error
        self._event.set()

    async def wait(self) -> Any:
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._result


class ThreadedSpool:
    """A spool over a :class:`Store`. See :class:`ehlo.mta.Spool` for its methods.

    Arguments:
        store: the engine.
        name: of the spool, for errors.
        clock: the time.
        most_operations: that wait for the storage; with more, mail is refused.
        most_octets: that they hold in memory; with more, mail is refused.
        patience: seconds for which a message waits for a storage that is away.
        administers: this process delivers nothing: it looks, and changes what no node owns.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        clock: Clock | None,
        most_operations: int,
        most_octets: int,
        patience: float,
        administers: bool,
    ) -> None:
        self._store = store
        self._name = name
        self._clock: Clock = SystemClock() if clock is None else clock
        self._most_operations = most_operations
        self._most_octets = most_octets
        self._patience = patience
        self._administers = administers
        self._octets = 0
        self._committer: Committer | None = None
        self._journal: Journal | None = None
        self._ids: IdMaker | None = None
        self._waiter: Callable[[], _Waiter] = _AsyncioWaiter
        self._post: Callable[[Callable[[], None]], object] = lambda function: None
        self.on_news: Callable[[], None] | None = None

    # ---- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See :meth:`ehlo.mta.Spool.open`."""
        if library() == "trio":
            import trio

            self._waiter = _TrioWaiter
            self._post = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            self._waiter = _AsyncioWaiter
            self._post = asyncio.get_running_loop().call_soon_threadsafe
        await anyio.to_thread.run_sync(self._open)

    def _open(self) -> None:
        greatest = self._store.open()
        try:
            if not self._administers:
                self._journal = self._take_journal()
        except BaseException:
            self._store.close()
            raise
        self._ids = IdMaker(self._clock.time, self._slot(), greatest)
        self._committer = Committer(self._store, self._post, self._clock.monotonic, self._patience)
        if not self._administers:
            self._sweep(self._ids())

    def _take_journal(self) -> Journal | None:
        """The journal of this process; what earlier processes wrote is stored."""
        raise NotImplementedError

    @property
    def last_write(self) -> float:
        """See :attr:`ehlo.mta.Spool.last_write`."""
        return self._store.last_write

    def _learnt(self, journal: Journal) -> Journal:
        try:
            self._learn(journal, self._store.transaction)
        except BaseException:
            journal.close()
            raise
        return journal

    def _learn(self, journal: Journal, transaction: Callable[[Callable[[Database], list[int]]], list[int]]) -> None:
        """Store what a journal knows, and forget it there: it is of a process that is gone."""
        delivered, broken_off = journal.entries()
        if delivered or broken_off:
            self._remove_contents(transaction(lambda db: _learn(db, delivered, broken_off)))
        journal.clear()

    async def migrate(self) -> tuple[int, int]:
        """See :meth:`ehlo.mta.Spool.migrate`."""
        return await anyio.to_thread.run_sync(self._migrate)

    def _migrate(self) -> tuple[int, int]:
        raise NotImplementedError

    async def close(self) -> None:
        """See :meth:`ehlo.mta.Spool.close`."""
        committer, self._committer = self._committer, None
        if committer is None:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(committer.close)
            await anyio.to_thread.run_sync(self._store.close)
            await anyio.lowlevel.checkpoint()  # the last answers come
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    async def __aenter__(self) -> Any:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _slot(self) -> int:
        return 0

    def _sweep(self, before: int) -> None:
        """Begin to look for contents that no message needs, left by a process that was killed: a little at a time,
        beside all else. Names are ids; those from ``before`` on may be on their way.
        """
        raise NotImplementedError

    def _in_turns(self, step: Callable[[Any], bool]) -> None:
        """Let the storage thread do something in small steps, until one gives false."""
        committer = self._committer

        def turn(store: Any) -> None:
            if self._committer is committer and committer is not None and step(store):
                committer.put(Call(turn, _ignore))

        if committer is not None:
            committer.put(Call(turn, _ignore))

    def _remove_contents(self, names: Sequence[int]) -> None:
        """Contents that are no rows. Called in any thread, when what needed them is gone."""

    def _poke(self) -> None:
        """Tell the nodes, from an administrator's process, that a message is there for them."""

    def _tell_news(self) -> None:
        if self.on_news is not None:
            self.on_news()

    # ---- to the thread and back --------------------------------------------------------------------

    def _thread(self) -> Committer:
        if self._committer is None:
            raise SpoolError(f"the spool {self._name} is not open")
        return self._committer

    async def _call(self, function: Callable[[Any], T], when_away: Any = AWAY) -> T:
        waiter = self._waiter()
        self._thread().put(Call(function, waiter.done, when_away))
        result: T = await waiter.wait()
        return result

    async def _change(self, function: Callable[[Database], T]) -> T:
        return await self._call(lambda store: store.transaction(function))

    async def _look(self, function: Callable[[Database], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(self._store.look, function)
        except Exception as exc:
            error = self._store.translate(exc)
            if error is exc:
                raise
            raise error from exc

    # ---- the way of a message ----------------------------------------------------------------------

    def new_id(self) -> int:
        """See :meth:`ehlo.mta._model.Storage.new_id`."""
        if self._ids is None:
            raise SpoolError(f"the spool {self._name} is not open")
        return self._ids()

    def refusal(self, octets: int) -> ehlo.Reply | None:
        """See :meth:`ehlo.mta._model.Storage.refusal`."""
        committer = self._committer
        if committer is None or committer.is_away:
            return SpoolUnavailable.reply
        if len(committer) >= self._most_operations or self._octets + octets > self._most_octets:
            return QueueFull.reply
        return None if self._has_room(octets) else SpoolFull.reply

    def _has_room(self, octets: int) -> bool:
        return True

    async def stage(self) -> Stage:
        """See :meth:`ehlo.mta._model.Storage.stage`."""
        raise NotImplementedError

    async def _keep(self, message: Message, content: bytes | Stage) -> bytes | None:
        """Make a large content durable, or ready to be with the next commit. Gives a small one."""
        raise NotImplementedError

    async def accept(
        self, message: Message, recipients: Sequence[Recipient], content: bytes | Stage, owned: bool
    ) -> None:
        """See :meth:`ehlo.mta._model.Storage.accept`."""
        committer = self._thread()
        message.recipients = len(recipients)
        waiter = self._waiter()
        row: bytes | None = None
        operation: Accept | None = None
        octets = 0

        def done(result: Any, error: BaseException | None) -> None:
            # It does not name the operation, which holds it: a circle would keep the content until a collection.
            self._octets -= octets
            waiter.done(result, error)

        try:
            if len(committer) >= self._most_operations or self._octets > self._most_octets:
                raise QueueFull("too many operations wait for the storage: try again later")
            row = content if isinstance(content, bytes) and len(content) <= ROW else await self._keep(message, content)
            operation = Accept(message, recipients, row, owned, self._clock.monotonic(), done)
            octets = operation.octets
            self._octets += octets
            committer.put(operation)
            await waiter.wait()
        except BaseException as exc:
            if operation is not None and not isinstance(exc, SpoolError):
                # Nobody is told that the message is queued, so it must not stay; it may be stored at this moment.
                operation.abandoned = True
                committer.put(Call(lambda store: store.remove([message]), _ignore))
            elif message.stored:
                committer.put(Call(lambda store: self._remove_contents([message.stored]), _ignore))
            if not isinstance(content, bytes):
                with anyio.CancelScope(shield=True):
                    await content.discard()
            raise

    def finish(
        self,
        message: Message,
        outcomes: Sequence[Outcome],
        notices: Sequence[NewMessage],
        done: Callable[[BaseException | None], None],
    ) -> None:
        """See :meth:`ehlo.mta._model.Storage.finish`."""
        journal = self._journal
        delivered: list[int] = []
        open_until_stored: list[int] = []
        if journal is not None and message.owner:
            others: list[int] = []
            # What is to be notified is not forgotten without its notification: the attempt is repeated if the process
            # dies now. The next one must learn that this one may have delivered.
            took = open_until_stored if notices else delivered
            for one in outcomes:
                (took if one.result == "relayed" or one.result == "delivered" else others).append(one.recipient.id)
            journal.end(message.id, delivered, others)
        for report, recipients, _ in notices:
            report.recipients = len(recipients)
        octets = 0

        def stored(result: Any, error: BaseException | None) -> None:
            self._octets -= octets  # it does not name the operation, as in accept
            if open_until_stored and self._journal is not None and (error is None or isinstance(error, NotOwned)):
                self._journal.end(message.id, [], open_until_stored)
            if error is None and self._journal is not None:
                self._journal.remove(message.id, delivered)
            done(error)
            if self._administers and notices and error is None:
                self._poke()

        operation = Finish(message, outcomes, notices, self._clock.time(), stored)
        octets = operation.octets
        self._octets += octets
        self._thread().put(operation)

    def begun(self, message: Message, recipients: Sequence[Recipient]) -> Awaitable[None] | None:
        """See :meth:`ehlo.mta._model.Storage.begun`. Without a journal the rows count the attempt before it begins."""
        if self._journal is None:
            return self._count_attempt(message, [one.id for one in recipients])
        self._journal.begin(message.id, [one.id for one in recipients])
        return None

    async def _count_attempt(self, message: Message, recipients: Sequence[int]) -> None:
        """:meth:`finish` writes the number without this attempt."""
        statement = "UPDATE recipient SET crashes = crashes + 1 WHERE message = ? AND id = ? AND owner = ?"
        rows = [(message.id, one, message.owner) for one in recipients]
        with suppress(SpoolError):  # a storage that cannot count stops no attempt, as with the journal
            await self._call(lambda store: store.transaction(lambda db: db.change_many(statement, rows)), None)

    def note_route(self, route: str, until: float, reason: str) -> None:
        """See :meth:`ehlo.mta._model.Storage.note_route`."""

        def note(db: Database) -> None:
            db.change("DELETE FROM dead_route WHERE node = ? AND route = ?", (self._store.owner, route))
            if until:
                row = (self._store.owner, route, until, reason)
                db.change("INSERT INTO dead_route (node, route, until, reason) VALUES (?, ?, ?, ?)", row)

        self._thread().put(Call(lambda store: store.transaction(note), _ignore, None))

    def owns(self, message: Message) -> bool:
        """See :meth:`ehlo.mta._model.Storage.owns`."""
        return True

    async def claim(self, now: float, limit: int) -> Claimed:
        """See :meth:`ehlo.mta._model.Storage.claim`. Nothing while the storage is away."""
        return await self._call(lambda store: store.claim(now, limit), [])

    async def next_due(self) -> float | None:
        """See :meth:`ehlo.mta._model.Storage.next_due`. ``None`` while the storage is away."""

        def ask(db: Database) -> float | None:
            due: float | None = db.query("SELECT min(due) FROM recipient WHERE owner = 0")[0][0]
            return due

        return await self._call(lambda store: store.transaction(ask), None)

    async def release(self, recipients: Sequence[tuple[Message, Sequence[Recipient]]]) -> None:
        """See :meth:`ehlo.mta.Spool.release`."""
        rows = [(message.id, one.id, message.owner) for message, listed in recipients for one in listed]
        statement = "UPDATE recipient SET owner = 0 WHERE message = ? AND id = ? AND owner = ?"
        await self._change(lambda db: db.change_many(statement, rows))

    async def read(self, message: Message) -> Content:
        """See :meth:`ehlo.mta._model.Storage.read`."""
        if message.stored:
            return self._large(message)
        number = message.id
        return await self._call(lambda store: store.body(number))

    def _large(self, message: Message) -> Content:
        raise NotImplementedError

    async def head(self, message: Message, octets: int) -> bytes:
        """See :meth:`ehlo.mta._model.Storage.head`."""
        content = await self.read(message)
        if isinstance(content, bytes):
            return content[:octets]
        head = b""
        chunks = content()
        try:
            async for chunk in chunks:
                head += chunk
                if len(head) >= octets:
                    break
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
        return head[:octets]

    # ---- rules about routes ----------------------------------------------------------------------

    async def suspend(self, suspension: Suspension) -> None:
        """See :meth:`ehlo.mta.Spool.suspend`."""
        row = (suspension.route, suspension.until, suspension.reason, suspension.since)
        await self._change(
            lambda db: db.change(
                "INSERT INTO suspension (route, until, reason, since) VALUES (?, ?, ?, ?) ON CONFLICT (route)"
                " DO UPDATE SET until = excluded.until, reason = excluded.reason, since = excluded.since",
                row,
            )
        )
        await self._announce()

    async def resume(self, route: str) -> bool:
        """See :meth:`ehlo.mta.Spool.resume`."""
        removed = await self._change(lambda db: db.change("DELETE FROM suspension WHERE route = ?", [route]))
        await self._announce()
        return removed > 0

    async def suspensions(self) -> list[Suspension]:
        """See :meth:`ehlo.mta.Spool.suspensions`."""
        return await self._look(sql.suspensions)

    async def dead_routes(self) -> list[DeadRoute]:
        """See :meth:`ehlo.mta.Spool.dead_routes`."""
        return await self._look(lambda db: [] if self._store.is_idle(db) else sql.dead_routes(db, self._names(db)))

    async def _announce(self) -> None:
        """Tell nodes, this one included, that there may be something to do."""
        self._tell_news()

    # ---- looking -----------------------------------------------------------------------------------

    async def entries(self, selection: Selection, limit: int = 100, after: sql.Key = (0, 0)) -> list[Entry]:
        """See :meth:`ehlo.mta.Spool.entries`."""
        return await self._look(
            lambda db: sql.entries(db, selection, limit, after, self._names(db), self._store.is_idle(db))
        )

    def _names(self, db: Database) -> dict[int, str]:
        raise NotImplementedError

    async def count(self, selection: Selection) -> Changed:
        """See :meth:`ehlo.mta.Spool.count`."""
        return await self._look(lambda db: sql.count(db, selection, self._store.is_idle(db)))

    async def summary(self, by: sql.By, now: float, selection: Selection) -> list[Group]:
        """See :meth:`ehlo.mta.Spool.summary`."""
        return await self._look(lambda db: sql.summary(db, by, now, selection, self._store.is_idle(db)))

    async def totals(self) -> Totals:
        """See :meth:`ehlo.mta.Spool.totals`."""
        return await self._look(lambda db: sql.totals(db, self._free(), self._store.is_idle(db)))

    def _free(self) -> int | None:
        return None

    # ---- changing ----------------------------------------------------------------------------------

    async def hold(self, selection: Selection, reason: str) -> Changed:
        """See :meth:`ehlo.mta.Spool.hold`."""
        return await self._set(selection, "owner = -1, reply = ?", [reason])

    async def unhold(self, selection: Selection, now: float) -> Changed:
        """See :meth:`ehlo.mta.Spool.unhold`."""
        # The crashes are forgiven, and still it is known that the message may have been delivered.
        tried = "attempts = CASE WHEN crashes > 0 AND attempts = 0 THEN 1 ELSE attempts END"
        return await self._set(_only(selection, "held"), f"owner = 0, due = ?, crashes = 0, {tried}", [now])

    async def retry(self, selection: Selection, now: float) -> Changed:
        """See :meth:`ehlo.mta.Spool.retry`."""
        return await self._set(_only(selection, "ready"), "due = ?", [now])

    async def redirect(self, selection: Selection, path: str, now: float) -> Changed:
        """See :meth:`ehlo.mta.Spool.redirect`."""
        return await self._by_pages(selection, lambda db, chosen: sql.redirected(db, path, now, chosen))

    async def drop(self, selection: Selection) -> Changed:
        """See :meth:`ehlo.mta.Spool.drop`."""

        def drop(db: Database, chosen: list[sql.Key]) -> list[int]:
            return sql.dropped(db, chosen)

        return await self._by_pages(selection, drop, self._remove_contents)

    async def _set(self, selection: Selection, what: str, values: Sequence[Any]) -> Changed:
        return await self._by_pages(selection, lambda db, chosen: sql.change(db, what, values, chosen))

    async def _by_pages(
        self,
        selection: Selection,
        function: Callable[[Database, list[sql.Key]], T],
        then: Callable[[T], None] | None = None,
    ) -> Changed:
        """Change all that is chosen, a page in a transaction: so what is stored meanwhile does not wait for long."""
        busy = (await self.count(selection)).busy
        after: sql.Key = (0, 0)
        changed = 0

        def page(db: Database) -> tuple[list[sql.Key], T | None]:
            chosen = sql.keys(db, selection, after, size)
            return chosen, function(db, chosen) if chosen else None

        while size := sql.PAGE if selection.limit is None else min(sql.PAGE, selection.limit - changed):
            chosen, result = await self._change(page)
            changed += len(chosen)
            if result is not None and then is not None:
                await anyio.to_thread.run_sync(then, result)
            if len(chosen) < size:
                break
            after = chosen[-1]
        if changed:
            await self._announce()
        return Changed(changed, busy)


def _learn(db: Database, delivered: list[tuple[int, int]], broken_off: list[tuple[int, int]]) -> list[int]:
    """What the journal says: forget what a next hop took, count the attempts with which the process ended."""
    db.change_many("UPDATE recipient SET crashes = crashes + 1 WHERE message = ? AND id = ?", broken_off)
    return sql.dropped(db, delivered, also_owned=True)


def _ignore(result: Any, error: BaseException | None) -> None:
    """What is left of a message that was taken out is found by :meth:`ehlo.mta.Spool.verify`."""


def _only(selection: Selection, state: State) -> Selection:
    """Those of a selection that are in a state."""
    if selection.state is not None and selection.state != state:
        return replace(selection, messages=())
    return replace(selection, state=state)
