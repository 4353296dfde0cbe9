"""The tables of a spool in SQLite: one file, one process that delivers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from ehlo.mta import _selection as sql
from ehlo.mta._batch import Batch, left_out
from ehlo.mta._body_files import hide
from ehlo.mta._clock import Clock
from ehlo.mta._model import Message
from ehlo.mta._rows import READY, RECIPIENT_COLUMNS, Row
from ehlo.mta._schema import LATEST, check, steps
from ehlo.mta._spool import SpoolError, SpoolFull
from ehlo.mta._store import NOTED, Claimed, Database, Write

__all__ = ["SqliteStore"]

T = TypeVar("T")

# Rows of one statement. Each step of a statement gives the interpreter's lock away and takes it back, which costs more
# than a row does. There is a statement for each number of rows, and SQLite's are kept.
_ROWS: Final = 50
_GIVE_BACK: Final = "UPDATE recipient SET owner = 0 WHERE owner > 0"
_TABLES: Final = (("recipient", "message"), ("message", "id"), ("body", "message"))


@cache
def _insert(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}"


@cache
def _delete(table: str, column: str, rows: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join('?' * rows)})"


class _Sqlite:
    """:class:`ehlo.mta._store.Database` over a connection."""

    for_update = ""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(statement, parameters).fetchall()

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return self._connection.execute(statement, parameters).rowcount

    def change_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(statement, rows)


def _version(db: Database) -> int:
    """The number of the schema; 0 of an empty file."""
    if not db.query("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'"):
        return 0
    [(version,)] = db.query("SELECT version FROM schema_version")
    return int(version)


class SqliteStore:
    """See :class:`ehlo.mta._store.Store`.

    Arguments:
        path: of the database.
        clock: the time.
        remove_contents: removes files of contents by their names.
        administers: recipients that a process owns are left alone.
    """

    owner = 1

    def __init__(
        self, path: Path, clock: Clock, remove_contents: Callable[[Sequence[int]], None], administers: bool
    ) -> None:
        self._path = path
        self._clock = clock
        self.last_write = self._noted = 0.0
        self._remove_contents = remove_contents
        self._administers = administers
        if administers:
            self.owner = 2
        self._connection: sqlite3.Connection
        self._page = 4096
        # Octets of the file that are free in it: new rows go there before the file grows.
        self.reusable = 0

    def open(self) -> int:
        """Open it. What an earlier process owned is ready again: an index finds it, so the backlog is not read."""
        if not self._administers:
            self._keep_private()
        self._connection = sqlite3.connect(
            self._path, isolation_level=None, cached_statements=512, check_same_thread=False, timeout=30
        )
        try:
            run = self._connection.execute
            # Debian builds SQLite so that it writes zeros over deleted pages: as many octets again as were stored. FAST
            # does so only in pages that are written anyway.
            run("PRAGMA secure_delete = FAST")
            if self._administers:
                version = self.look(_version)
                check(self._path.parent, version, old_is_refused=True)
                with contextlib.suppress(sqlite3.OperationalError):  # it may only be read
                    run("PRAGMA synchronous = FULL")
                return int(self.look(lambda db: db.query("SELECT coalesce(max(id), 0) FROM message"))[0][0])
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = FULL")
            run("PRAGMA wal_autocheckpoint = 4000")
            run("PRAGMA journal_size_limit = 67108864")
            self._migrate()
            self.last_write = self._noted = run("SELECT seen FROM clock").fetchone()[0]
            self._give_back()
            self._page = int(run("PRAGMA page_size").fetchone()[0])
            self._look_at_pages()
            return int(run("SELECT coalesce(max(id), 0) FROM message").fetchone()[0])
        except BaseException:
            self._connection.close()
            raise

    def _keep_private(self) -> None:
        """SQLite gives its other files the permissions of this one.

        A file that is there is not opened: to close it would end the locks of all connections that this process has
        (https://sqlite.org/howtocorrupt.html, 2.2).
        """
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        for name in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                hide(self._path.with_name(self._path.name + name))

    def migrate(self) -> tuple[int, int]:
        """Bring the tables up to date, of a spool that is not open. Gives the versions before and after."""
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            return self._migrate(), LATEST
        finally:
            self._connection.close()

    def _migrate(self) -> int:
        run = self._connection.execute
        before = version = _version(_Sqlite(self._connection))
        check(self._path.parent, version)
        for number, statements in steps("sqlite", version):
            with self._transaction():
                if number == 1:
                    run("CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT")
                    run("INSERT INTO schema_version VALUES (0)")
                for statement in statements:
                    run(statement)
                run("UPDATE schema_version SET version = ?", (number,))
        return before

    def close(self) -> None:
        """Give back what is owned, and leave."""
        if not self._administers:
            with contextlib.suppress(sqlite3.Error):  # the next start does it, too
                self._give_back()
        self._connection.close()

    def _give_back(self) -> None:
        with self._transaction():
            self._connection.execute(_GIVE_BACK)
            self._connection.execute("DELETE FROM dead_route")

    def pid(self) -> str:
        """The process that delivers; ``""`` if none does, ``"?"`` if that is not known."""
        try:
            with open(self._path.with_name("lock"), "rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return lock.read(32).decode("ascii", "replace").strip() or "?"
        except FileNotFoundError:
            return ""
        except OSError:  # a member of the group may read the mail, and not the lock
            return "?"
        return ""

    def is_idle(self, db: Database) -> bool:
        """See :meth:`ehlo.mta._store.Store.is_idle`."""
        return not self.pid()

    def reconnect(self) -> None:
        """A file is never away."""

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            # A process that starts now waits for this transaction before it owns anything.
            if self._administers and not self.pid():
                self._connection.execute(_GIVE_BACK)
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def write(self, group: Sequence[Write], again: bool) -> list[Write]:
        """See :meth:`ehlo.mta._store.Store.write`."""
        many = self._connection.executemany
        with self._transaction():
            without = left_out(_Sqlite(self._connection), group, self.owner)
            if without:
                group = [one for one in group if one not in without]
            batch = Batch(group, self.owner, READY if self._administers else self.owner)
            unneeded = [one.stored for one in batch.whole if one.stored]
            self._insert("message", batch.messages)
            self._insert(f"recipient ({RECIPIENT_COLUMNS})", batch.recipients)
            self._insert("body", batch.bodies)
            for at in range(0, len(batch.whole), _ROWS):
                numbers = [one.id for one in batch.whole[at : at + _ROWS]]
                for table, column in _TABLES:
                    self._connection.execute(_delete(table, column, len(numbers)), numbers)
            if batch.ended:
                unneeded += sql.dropped(_Sqlite(self._connection), batch.ended, also_owned=True)
            if batch.changed:
                many(
                    "UPDATE recipient SET owner = ?, due = ?, attempts = ?, warned = ?, crashes = ?, route = ?,"
                    " reply = ?, host = ?,"
                    " first_reply = coalesce(first_reply, ?), first_attempt = coalesce(first_attempt, ?),"
                    " last_attempt = ? WHERE message = ? AND id = ? AND owner = ?",
                    batch.changed,
                )
            if batch.postponed:
                statement = (
                    "UPDATE recipient SET owner = 0, due = ?, route = ? WHERE message = ? AND id = ? AND owner = ?"
                )
                many(statement, batch.postponed)
            now = self._clock.time()
            if not (is_noted := abs(now - self._noted) < NOTED or self._administers):
                self._connection.execute("UPDATE clock SET seen = ?", (now,))
        if not is_noted:
            self._noted = now
        self._look_at_pages()
        if unneeded:
            self._remove_contents(unneeded)
        return without

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        for at in range(0, len(rows), _ROWS):
            page = rows[at : at + _ROWS]
            self._connection.execute(_insert(table, len(page[0]), len(page)), [value for row in page for value in row])

    def _look_at_pages(self) -> None:
        self.reusable = self._page * int(self._connection.execute("PRAGMA freelist_count").fetchone()[0])

    def claim(self, now: float, limit: int) -> Claimed:
        """See :meth:`ehlo.mta._store.Store.claim`."""

        def claim(db: Database) -> Claimed:
            rows = db.query(
                f"SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE owner = 0 AND due <= ? ORDER BY due LIMIT ?",
                (now, limit),
            )
            db.change_many(
                "UPDATE recipient SET owner = ? WHERE message = ? AND id = ?",
                [(self.owner, row[0], row[1]) for row in rows],
            )
            return sql.claimed(db, rows, self.owner)

        # After a power cut nobody owns anything. So this commit need not wait for the disk: the next one does.
        run = self._connection.execute
        run("PRAGMA synchronous = NORMAL")
        try:
            return self.transaction(claim)
        finally:
            run("PRAGMA synchronous = FULL")

    def body(self, number: int) -> bytes:
        """See :meth:`ehlo.mta._store.Store.body`."""

        def ask(db: Database) -> list[Row]:
            return db.query("SELECT content FROM body WHERE message = ?", (number,))

        rows = self.look(ask) if self._administers else ask(_Sqlite(self._connection))
        if not rows:
            raise SpoolError(f"the content of message {number:016x} is not in the spool")
        content: bytes = rows[0][0]
        return content

    def remove(self, messages: Sequence[Message]) -> None:
        """See :meth:`ehlo.mta._store.Store.remove`."""
        numbers = [(one.id,) for one in messages]
        with self._transaction():
            for table, column in _TABLES:
                self._connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", numbers)
        self._remove_contents([one.stored for one in messages if one.stored])

    def transaction(self, function: Callable[[Database], T]) -> T:
        """See :meth:`ehlo.mta._store.Store.transaction`."""
        with self._transaction():
            return function(_Sqlite(self._connection))

    def look(self, function: Callable[[Database], T]) -> T:
        """See :meth:`ehlo.mta._store.Store.look`."""
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        if not os.access(self._path.parent, os.W_OK) and not self._path.with_name("queue.db-wal").exists():
            uri += "&immutable=1"  # nobody can write it, and SQLite cannot make the files that readers share
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN")
            return function(_Sqlite(connection))

    def translate(self, exc: Exception) -> BaseException:
        """See :meth:`ehlo.mta._store.Store.translate`."""
        if isinstance(exc, sqlite3.OperationalError):
            if exc.sqlite_errorname == "SQLITE_FULL":
                return SpoolFull(f"the disk of the spool {self._path.parent} is full")
            return SpoolError(f"the spool {self._path.parent}: {exc}")
        if isinstance(exc, sqlite3.Error):
            return SpoolError(f"the spool {self._path.parent}: {exc}")
        return exc

    def is_about_one(self, exc: Exception) -> bool:
        """See :meth:`ehlo.mta._store.Store.is_about_one`."""
        return isinstance(exc, sqlite3.Error) and not isinstance(exc, sqlite3.OperationalError)
