"""A spool in a PostgreSQL database: several processes, on several machines, share it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from ehlo.mta._clock import Clock, SystemClock
from ehlo.mta._journal import Journal, alone
from ehlo.mta._liveness import Liveness
from ehlo.mta._model import Content, Message, Stage
from ehlo.mta._postgres_store import LOCK, Postgres, PostgresStore, connect
from ehlo.mta._spool import Finding, Node, SpoolError
from ehlo.mta._store import Call, Database
from ehlo.mta._threaded_spool import ROW, ThreadedSpool

__all__ = ["PostgresSpool"]

log: Final = logging.getLogger("ehlo.mta")

# Contents that are looked at in one turn.
_SWEEP: Final = 200
# Seconds for which the start waits for another process that reads the delivered journals.
_READS: Final = 5.0
_CHUNKS: Final = (
    "SELECT body, EXISTS (SELECT FROM message m WHERE m.stored = c.body AND m.stored > 0) FROM chunk c"
    " WHERE number = 0 AND body > ? AND body < ? ORDER BY body LIMIT ?"
)


class _Chunks:
    """A content on its way: in memory up to a border, then as rows."""

    def __init__(self, spool: PostgresSpool, name: int) -> None:
        self._spool = spool
        self.name = name
        self._octets = bytearray()
        self.number = 0

    async def write(self, octets: bytes) -> None:
        self._octets += octets
        while len(self._octets) > ROW:
            await self._send(bytes(self._octets[:ROW]))
            del self._octets[:ROW]

    async def _send(self, octets: bytes) -> None:
        name, number = self.name, self.number
        self.number += 1
        await self._spool._call(lambda store: store.add_chunk(name, number, octets))

    async def keep(self) -> bytes | None:
        """Send the rest; or give the content, if it is small."""
        octets = bytes(self._octets)
        self._octets.clear()
        if not self.number:
            return octets
        await self._send(octets)
        return None

    async def discard(self) -> None:
        if self.number:
            name = self.name
            await self._spool._call(lambda store: store.remove_chunks([name]), None)


class PostgresSpool(ThreadedSpool):
    """A spool in a PostgreSQL database. See :class:`ehlo.mta.Spool`.

    Arguments:
        url: ``postgresql://user@host/database``. The tables are in a schema of their own, ``ehlo``.
        node: the name of this node, for people; by default the name of the machine.
        journal: a folder on this machine for the delivered journal. The processes of this machine share it, and it
            belongs to one database. ``None``: a killed process repeats what it had delivered and not yet stored, and
            each attempt costs one more commit, which counts it in case that the process dies.
        clock: the time.
        most_operations: that wait for the server; with more, mail is refused.
        most_octets: that they hold in memory; with more, mail is refused.
        patience: seconds for which a message waits for a server that does not answer.
        administers: this process delivers nothing.

    Example::

        async with ehlo.mta.open_queue("postgresql://mail@db/mail", hostname=..., route=...) as queue: ...
    """

    def __init__(
        self,
        url: str,
        *,
        node: str | None = None,
        journal: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        most_operations: int = 5000,
        most_octets: int = 128 * 1048576,
        patience: float = 5.0,
        administers: bool = False,
    ) -> None:
        clock = SystemClock() if clock is None else clock
        self._postgres = PostgresStore(url, node or socket.gethostname(), clock, administers)
        self._postgres.may_start = self._may_start
        self._postgres.on_new_life = self._begin_anew
        self._path = None if journal is None else Path(journal)
        self._alive: Liveness | None = None
        super().__init__(
            self._postgres,
            "in PostgreSQL",
            clock=clock,
            most_operations=most_operations,
            most_octets=most_octets,
            patience=patience,
            administers=administers,
        )

    def _open(self) -> None:
        try:
            super()._open()
        except psycopg.Error as exc:
            raise SpoolError(f"the spool in PostgreSQL cannot be opened: {' '.join(str(exc).split())}") from exc
        if self._administers:
            return
        self._alive = Liveness(
            self._postgres, self._clock, lambda: self._post(self._tell_news), self._ask_anew, self._learn_of_the_dead
        )
        self._alive.start()

    def _migrate(self) -> tuple[int, int]:
        try:
            return self._postgres.migrate()
        except psycopg.Error as exc:
            raise SpoolError(f"the spool in PostgreSQL cannot be opened: {' '.join(str(exc).split())}") from exc

    async def close(self) -> None:
        """See :meth:`ehlo.mta.Spool.close`."""
        alive, self._alive = self._alive, None
        if alive is not None:
            alive.stop()
        await super().close()

    def _may_start(self) -> bool:
        return self._alive is None or self._alive.is_in_time

    def owns(self, message: Message) -> bool:
        """See :meth:`ehlo.mta._model.Storage.owns`. Nothing, while the heartbeat is late."""
        return message.owner == self._postgres.owner and self._may_start()

    def _ask_anew(self, owner: int) -> None:
        """This node's heartbeat was late. What it has done meanwhile is stored first, if it is still alive."""
        self._thread().put(Call(lambda store: store.become_anew(owner), _ignore))

    def _learn_of_the_dead(self, connection: psycopg.Connection[Any]) -> bool:
        """Store what processes of this machine had delivered that are gone. A killed worker is started again and would
        do that, too; but other nodes may be quicker to take over what it owned, and would deliver that again.

        Gives whether that is stored now: not while another process does it.
        """

        def transaction(function: Callable[[Database], list[int]]) -> list[int]:
            with connection.transaction():
                return function(Postgres(connection))

        if self._path is None:
            return True
        try:
            with alone(self._path) as is_alone:
                for journal in Journal.of_the_dead(self._path) if is_alone else ():
                    self._learn(journal, transaction)
                return is_alone
        except OSError as exc:
            log.warning("the delivered journals in %s cannot be read: %s", self._path, exc)
            return True

    def _begin_anew(self) -> None:
        if self._ids is not None:
            self._ids.move(self._postgres.slot)
        self._post(self._tell_news)

    def _take_journal(self) -> Journal | None:
        if self._path is None:
            return None
        with alone(self._path, seconds=_READS) as is_alone:
            if not is_alone:
                log.warning("another process reads the delivered journals in %s for long; is it stopped?", self._path)
            return self._learnt(Journal.in_folder(self._path))

    def _slot(self) -> int:
        return self._postgres.slot

    def _remove_contents(self, names: Sequence[int]) -> None:
        if names:
            with connect(self._postgres.url) as connection:
                connection.execute("DELETE FROM chunk WHERE body = ANY(%s)", (list(names),))

    async def _announce(self) -> None:
        await self._call(lambda store: store.transaction(lambda db: db.change("NOTIFY ehlo_queue")))
        self._tell_news()

    def _sweep(self, before: int) -> None:
        # Chunks of other nodes may be on their way.
        border = min(before, int((self._clock.time() - 86400) * 1000) << 21)
        after = 0

        def look(db: Database) -> bool:
            nonlocal after
            found = db.query(_CHUNKS, (after, border, _SWEEP))
            if found:
                after = found[-1][0]
            db.change_many("DELETE FROM chunk WHERE body = ?", [(name,) for name, needed in found if not needed])
            return len(found) == _SWEEP

        self._in_turns(lambda store: store.transaction(look))

    # ---- contents --------------------------------------------------------------------------------

    async def stage(self) -> Stage:
        """See :meth:`ehlo.mta._model.Storage.stage`."""
        return _Chunks(self, self.new_id())

    async def _keep(self, message: Message, content: bytes | Stage) -> bytes | None:
        if isinstance(content, bytes):
            staged = _Chunks(self, self.new_id())
            await staged.write(content)
        elif isinstance(content, _Chunks):
            staged = content
        else:
            raise TypeError("a stage of another spool")
        octets = await staged.keep()
        if octets is None:
            message.stored = staged.name
        return octets

    def _large(self, message: Message) -> Content:
        name = message.stored

        async def chunks() -> AsyncIterator[bytes]:
            number = 0
            while True:
                chunk = await self._call(partial(PostgresStore.chunk, body=name, number=number))
                if chunk is None:
                    return
                yield chunk
                number += 1

        return chunks

    # ---- administration ----------------------------------------------------------------------------

    def _names(self, db: Database) -> dict[int, str]:
        return {row[0]: row[1] for row in db.query("SELECT id, name FROM node")}

    async def nodes(self) -> list[Node]:
        """See :meth:`ehlo.mta.Spool.nodes`."""
        rows = await self._look(
            lambda db: db.query(
                "SELECT n.id, n.name, n.pid, n.started, n.heartbeat, EXISTS (SELECT FROM pg_locks l WHERE"
                " l.locktype = 'advisory' AND l.classid = ? AND l.objid = n.id),"
                " (SELECT count(*) FROM recipient r WHERE r.owner = n.id) FROM node n ORDER BY n.id",
                [LOCK],
            )
        )
        return [Node(*row) for row in rows]

    async def verify(self, *, repair: bool, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
        """See :meth:`ehlo.mta.Spool.verify`. Chunks that are younger than a day may be on their way."""
        missing = await self._look(
            lambda db: db.query(
                "SELECT id FROM message m WHERE NOT CASE WHEN stored = 0 THEN EXISTS (SELECT FROM body b WHERE"
                " b.message = m.id) ELSE EXISTS (SELECT FROM chunk c WHERE c.body = m.stored) END ORDER BY id"
            )
        )
        old = int((self._clock.time() - 86400) * 1000) << 21
        orphans = await self._look(
            lambda db: db.query(
                "SELECT DISTINCT body FROM chunk c WHERE body < ? AND NOT EXISTS (SELECT FROM message m WHERE"
                " m.stored = c.body) ORDER BY body",
                [old],
            )
        )
        findings = [Finding("missing content", one, f"message {one:016x}", repair) for (one,) in missing]
        findings += [Finding("orphaned content", one, f"chunks {one:016x}", repair) for (one,) in orphans]
        if repair:
            hold = "UPDATE recipient SET owner = -1, reply = 'its content is missing' WHERE message = ? AND owner <= 0"
            await self._change(lambda db: db.change_many(hold, missing))
            await self._change(lambda db: db.change_many("DELETE FROM chunk WHERE body = ?", orphans))
        if progress is not None:
            progress(len(findings), len(findings))
        return findings


def _ignore(result: Any, error: BaseException | None) -> None:
    """The liveness thread asks again until the node is another one."""
