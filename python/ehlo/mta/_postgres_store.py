"""The tables of a spool in PostgreSQL, in the schema ``ehlo``: several processes and machines share them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from ehlo.mta import _selection as sql
from ehlo.mta._batch import Batch, left_out
from ehlo.mta._clock import Clock
from ehlo.mta._ids import SLOTS
from ehlo.mta._model import Message
from ehlo.mta._rows import MESSAGE_COLUMNS, READY, RECIPIENT_COLUMNS, Row
from ehlo.mta._schema import LATEST, check, steps
from ehlo.mta._spool import SpoolError, SpoolFull, SpoolUnavailable
from ehlo.mta._store import NOTED, Claimed, Database, Write

__all__ = ["DEAD", "LOCK", "Postgres", "PostgresStore", "connect", "is_gone", "machine"]

T = TypeVar("T")

LOCK: Final = 0x65686C6F
"""The first half of the advisory locks that nodes hold while they live; the second half is the node's id."""

DEAD: Final = 30.0
"""Seconds after which a node without a heartbeat is dead."""

_MIGRATING: Final = 0
# Owns recipients within a transaction only.
_ADMINISTRATOR: Final = 0x7FFFFFFF
_ALIVE: Final = "SELECT 1 FROM node WHERE id = %s FOR KEY SHARE"


_NODES: Final = (
    "SELECT machine, pid, heartbeat, EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = ?"
    " AND l.objid = n.id) FROM node n"
)
_POSTPONE: Final = (
    "UPDATE recipient r SET owner = 0, due = p.due, route = p.route"
    " FROM unnest(%s::float8[], %s::text[], %s::bigint[], %s::bigint[]) p (due, route, message, id)"
    " WHERE r.message = p.message AND r.id = p.id AND r.owner = %s"
)


class _DeadError(Exception):
    """Other nodes took this one for dead, and took over what it owned."""


class Postgres:
    """:class:`ehlo.mta._store.Database` over a connection."""

    for_update = " FOR UPDATE"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """See :class:`ehlo.mta._store.Database`."""
        return self._connection.execute(_marked(statement), parameters).fetchall()

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """See :class:`ehlo.mta._store.Database`."""
        return self._connection.execute(_marked(statement), parameters).rowcount

    def change_many(self, statement: str, rows: Sequence[Row]) -> None:
        """See :class:`ehlo.mta._store.Database`."""
        if rows:
            with self._connection.cursor() as cursor:
                cursor.executemany(_marked(statement), rows)


def _marked(statement: str) -> Any:
    return statement.replace("?", "%s")


def connect(url: str) -> psycopg.Connection[Any]:
    """A session of this program. The server learns within half a minute that its machine is gone."""
    connection = psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="ehlo")
    connection.execute("SET search_path = ehlo")
    for name, value in (("idle", 10), ("interval", 5), ("count", 3)):
        connection.execute(f"SET tcp_keepalives_{name} = {value}")
    return connection


class PostgresStore:
    """See :class:`ehlo.mta._store.Store`.

    Arguments:
        url: of the database.
        name: of this node.
        clock: the time.
        administers: this process delivers nothing.

    Attributes:
        slot: a part of the ids that this node makes.
        may_start: whether the node's heartbeat is in time, so that it may begin deliveries.
        on_new_life: called in the storage thread when the node has become another one.
    """

    def __init__(self, url: str, name: str, clock: Clock, administers: bool) -> None:
        self.url = url
        self._name = name
        self._clock = clock
        self._administers = administers
        self.owner = 0
        self.last_write = self._noted = 0.0
        self.slot = 0
        self.may_start: Callable[[], bool] = lambda: True
        self.on_new_life: Callable[[], None] = lambda: None
        self._connection: psycopg.Connection[Any]

    # ---- life ------------------------------------------------------------------------------------

    def open(self) -> int:
        """Connect, bring the tables up to date, become a node. Does not read the backlog."""
        self._connection = connect(self.url)
        try:
            if self._administers:
                check("in PostgreSQL", self._version(), old_is_refused=True)
                self.owner, self.slot = _ADMINISTRATOR, SLOTS - 1
                return 0
            self._migrate()
            [(self.last_write,)] = self._connection.execute("SELECT seen FROM clock").fetchall()
            self._noted = self.last_write
            with self._connection.transaction():
                self._become_a_node()
        except BaseException:
            self._connection.close()
            raise
        return 0

    def migrate(self) -> tuple[int, int]:
        """Bring the tables up to date, of a spool that is not open. Gives the versions before and after."""
        self._connection = connect(self.url)
        try:
            return self._migrate(), LATEST
        finally:
            self._connection.close()

    def _version(self) -> int:
        """The number of the schema; 0 where there is none."""
        run = self._connection.execute
        if run("SELECT to_regclass('ehlo.schema_version')").fetchone() == (None,):
            return 0
        [(version,)] = run("SELECT version FROM schema_version").fetchall()
        return int(version)

    def _migrate(self) -> int:
        run = self._connection.execute
        with self._connection.transaction():
            run("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, _MIGRATING))
            run("CREATE SCHEMA IF NOT EXISTS ehlo")
            before = version = self._version()
            check("in PostgreSQL", version)
            for number, statements in steps("postgres", version):
                if number == 1:
                    run("CREATE TABLE schema_version (version integer NOT NULL)")
                    run("INSERT INTO schema_version VALUES (0)")
                for statement in statements:
                    self._connection.execute(statement.encode())
                run("UPDATE schema_version SET version = %s", (number,))
        return before

    def _become_a_node(self) -> None:
        run = self._connection.execute
        run("LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE")
        taken = {slot for (slot,) in run("SELECT slot FROM node").fetchall()}
        free = next((slot for slot in range(SLOTS - 1) if slot not in taken), None)
        if free is None:
            raise SpoolError(f"the spool has {SLOTS} nodes: wait until those that died are removed")
        now = self._clock.time()
        [(self.owner,)] = run(
            "INSERT INTO node (slot, name, machine, pid, started, heartbeat, beats) VALUES (%s, %s, %s, %s, %s, %s, 0)"
            " RETURNING id",
            (free, self._name, machine(), os.getpid(), now, now),
        ).fetchall()
        self.slot = free

    def become_anew(self, owner: int) -> None:
        """Give back what is owned, and become another node, if it is still this one: it is dead for the others, or may
        be so.
        """
        if owner != self.owner:
            return
        with self._connection.transaction():
            self._leave()
            self._become_a_node()
            self._connection.execute("NOTIFY ehlo_queue")
        self.on_new_life()

    def _leave(self) -> None:
        self._connection.execute("DELETE FROM node WHERE id = %s", (self.owner,))
        self._connection.execute("DELETE FROM dead_route WHERE node = %s", (self.owner,))
        self._connection.execute("UPDATE recipient SET owner = 0 WHERE owner = %s", (self.owner,))

    def close(self) -> None:
        """Give back what is owned, and leave."""
        if not (self._connection.closed or self._connection.broken or self._administers):
            with self._connection.transaction():
                self._leave()
        self._connection.close()

    def reconnect(self) -> None:
        """See :meth:`ehlo.mta._store.Store.reconnect`."""
        self._connection.close()
        self._connection = connect(self.url)

    # ---- groups ----------------------------------------------------------------------------------

    def write(self, group: Sequence[Write], again: bool) -> list[Write]:
        """See :meth:`ehlo.mta._store.Store.write`. A node that was declared dead becomes a new one first."""
        while True:
            now = self._clock.time()
            noted = None if abs(now - self._noted) < NOTED or self._administers else now
            try:
                with self._connection.transaction():
                    self._give_back()
                    without = self._write(group, " ON CONFLICT DO NOTHING" if again else "", noted)
                self._noted = self._noted if noted is None else noted
                return without
            except _DeadError:
                self.become_anew(self.owner)

    def _write(self, group: Sequence[Write], conflict: str, noted: float | None) -> list[Write]:
        with self._connection.pipeline():
            # Who adopts deletes this row first, so the lock keeps what this node owns its own until the commit.
            alive = self._connection.execute(_ALIVE, (self.owner,))
            db = Postgres(self._connection)
            without = left_out(db, group, self.owner)
            if without:
                group = [one for one in group if one not in without]
            batch = Batch(group, self.owner, READY if self._administers else self.owner)
            self._insert(db, batch, conflict)
            if batch.whole:
                numbers = [one.id for one in batch.whole]
                self._execute("DELETE FROM recipient WHERE message = ANY(%s) AND owner = %s", (numbers, self.owner))
                self._end(numbers, [one.stored for one in batch.whole if one.stored])
            if batch.ended:
                numbers = sorted({one.id for one in batch.partly})
                db.change_many(
                    "DELETE FROM recipient WHERE message = ? AND id = ? AND owner = ?",
                    [(*key, self.owner) for key in batch.ended],
                )
                # Others may end the message's other recipients now: who is second must see what the first did. All
                # lock recipients before messages.
                self._execute("SELECT 1 FROM message WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (numbers,))
                self._end(numbers, [one.stored for one in batch.partly if one.stored])
            db.change_many(
                "UPDATE recipient SET owner = ?, due = ?, attempts = ?, warned = ?, crashes = ?, route = ?,"
                " reply = ?, host = ?,"
                " first_reply = coalesce(first_reply, ?), first_attempt = coalesce(first_attempt, ?),"
                " last_attempt = ? WHERE message = ? AND id = ? AND owner = ?",
                batch.changed,
            )
            if batch.postponed:  # there may be very many for a dead route: one statement
                due, route, message, number, _ = zip(*batch.postponed, strict=True)
                self._execute(_POSTPONE, (list(due), list(route), list(message), list(number), self.owner))
            if any(row[4] == READY for row in batch.recipients):
                self._execute("NOTIFY ehlo_queue", ())
            if noted is not None:  # all nodes lock this row: so it is the last one, and no two wait for each other
                self._execute("UPDATE clock SET seen = %s", (noted,))
        if alive.fetchone() is None and not self._administers:
            raise _DeadError
        return without

    def _insert(self, db: Postgres, batch: Batch, conflict: str) -> None:
        for table, columns, rows in (
            ("message", MESSAGE_COLUMNS, batch.messages),
            ("recipient", RECIPIENT_COLUMNS, batch.recipients),
            ("body", "message, content", batch.bodies),
        ):
            marks = ", ".join("?" * len(columns.split(",")))
            db.change_many(f"INSERT INTO {table} ({columns}) VALUES ({marks}){conflict}", rows)

    def _end(self, numbers: list[int], stored: list[int]) -> None:
        """Forget messages that have no recipient left."""
        gone = "NOT EXISTS (SELECT FROM recipient r WHERE r.message = %s)"
        self._execute(f"DELETE FROM message WHERE id = ANY(%s) AND {gone % 'message.id'}", (numbers,))
        self._execute(f"DELETE FROM body WHERE message = ANY(%s) AND {gone % 'body.message'}", (numbers,))
        if stored:
            self._execute(
                "DELETE FROM chunk WHERE body = ANY(%s) AND NOT EXISTS"
                " (SELECT FROM message m WHERE m.id = ANY(%s) AND m.stored = chunk.body)",
                (stored, numbers),
            )

    def _execute(self, statement: Any, parameters: Iterable[Any]) -> None:
        self._connection.execute(statement, tuple(parameters))

    # ---- others ----------------------------------------------------------------------------------

    def claim(self, now: float, limit: int) -> Claimed:
        """See :meth:`ehlo.mta._store.Store.claim`. Nothing for a node whose heartbeat is late."""
        if not self.may_start():
            return []
        columns = ", ".join(f"r.{name}" for name in RECIPIENT_COLUMNS.split(", "))

        def claim(db: Database) -> Claimed:
            if not db.query(_ALIVE, (self.owner,)):
                raise _DeadError
            rows = db.query(
                "UPDATE recipient r SET owner = ? FROM (SELECT message, id FROM recipient WHERE owner = 0 AND due <= ?"
                " ORDER BY due LIMIT ? FOR UPDATE SKIP LOCKED) d"
                f" WHERE r.message = d.message AND r.id = d.id RETURNING {columns}",
                (self.owner, now, limit),
            )
            rows.sort(key=lambda row: (row[5], row[0], row[1]))
            return sql.claimed(db, rows, self.owner)

        try:
            return self.transaction(claim)
        except _DeadError:
            self.become_anew(self.owner)
            return []

    def body(self, number: int) -> bytes:
        """See :meth:`ehlo.mta._store.Store.body`."""
        row = self._connection.execute("SELECT content FROM body WHERE message = %s", (number,), binary=True).fetchone()
        if row is None:
            raise SpoolError(f"the content of message {number:016x} is not in the spool")
        return bytes(row[0])

    def add_chunk(self, body: int, number: int, octets: bytes) -> None:
        """A piece of a large content. It need not be durable by itself: the later commit of its message flushes all
        that was written before.
        """
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit = off")
            self._connection.execute(
                "INSERT INTO chunk (body, number, content) VALUES (%s, %s, %b) ON CONFLICT DO NOTHING",
                (body, number, octets),
            )

    def chunk(self, body: int, number: int) -> bytes | None:
        """A piece of a large content; ``None`` behind the last one."""
        row = self._connection.execute(
            "SELECT content FROM chunk WHERE body = %s AND number = %s", (body, number), binary=True
        ).fetchone()
        return None if row is None else bytes(row[0])

    def is_idle(self, db: Database) -> bool:
        """See :meth:`ehlo.mta._store.Store.is_idle`."""
        now, here = self._clock.time(), machine()
        for where, pid, heartbeat, locked in db.query(_NODES, (LOCK,)):
            if locked or (now - heartbeat < DEAD and not is_gone(where == here, pid)):
                return False
        return True

    def _give_back(self) -> None:
        """For an administrator: what is owned by nodes that are gone, if there is no other node to take it over."""
        db = Postgres(self._connection)
        if self._administers and self.is_idle(db):
            db.change("LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE")  # a node that starts now waits
            if self.is_idle(db):
                for table in ("node", "dead_route"):
                    db.change(f"DELETE FROM {table}")
                db.change("UPDATE recipient SET owner = 0 WHERE owner > 0")

    def remove_chunks(self, names: Sequence[int]) -> None:
        """Forget large contents."""
        self._connection.execute("DELETE FROM chunk WHERE body = ANY(%s)", (list(names),))

    def remove(self, messages: Sequence[Message]) -> None:
        """See :meth:`ehlo.mta._store.Store.remove`."""
        numbers = [one.id for one in messages]
        with self._connection.transaction():
            for table, column in (("recipient", "message"), ("message", "id"), ("body", "message")):
                self._execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", (numbers,))
            self.remove_chunks([one.stored for one in messages if one.stored])

    def transaction(self, function: Callable[[Database], T]) -> T:
        """See :meth:`ehlo.mta._store.Store.transaction`."""
        with self._connection.transaction():
            self._give_back()
            return function(Postgres(self._connection))

    def look(self, function: Callable[[Database], T]) -> T:
        """See :meth:`ehlo.mta._store.Store.look`."""
        with connect(self.url) as connection:
            connection.execute("SET default_transaction_isolation = 'repeatable read'")
            connection.execute("SET default_transaction_read_only = on")
            with connection.transaction():
                return function(Postgres(connection))

    def translate(self, exc: Exception) -> BaseException:
        """See :meth:`ehlo.mta._store.Store.translate`."""
        if isinstance(exc, psycopg.errors.DiskFull | psycopg.errors.OutOfMemory):
            return SpoolFull(f"the server of the spool is full: {_line(exc)}")
        if isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) or (
            isinstance(exc, psycopg.Error) and self._connection.broken
        ):
            return SpoolUnavailable(f"the server of the spool does not answer: {_line(exc)}")
        return SpoolError(f"the spool: {_line(exc)}") if isinstance(exc, psycopg.Error) else exc

    def is_about_one(self, exc: Exception) -> bool:
        """See :meth:`ehlo.mta._store.Store.is_about_one`."""
        return isinstance(exc, psycopg.IntegrityError | psycopg.DataError)


def is_gone(is_here: bool, pid: int) -> bool:
    """Whether it is known that a process is gone: one of this machine."""
    return is_here and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()


def machine() -> str:
    """Where a process id means something: one boot of one machine, one namespace."""
    parts = [socket.gethostname()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        parts += [boot.read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())
