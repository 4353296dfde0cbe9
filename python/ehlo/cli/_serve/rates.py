"""Messages and recipients an hour, for each client network and for each user. The counts outlive a restart."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import ceil, isinf
from typing import Final, Literal, TypeAlias

from ehlo._server.limits import network_of
from ehlo._server.rate_limit import RateLimit
from ehlo._server.session import Session
from ehlo._server.trust import Networks
from ehlo.cli._receive import UsageError, complain

__all__ = ["RateFile", "Rates"]

Kind: TypeAlias = Literal["network_messages", "network_recipients", "user_messages", "user_recipients"]
Row: TypeAlias = tuple[str, str, int, int]
"""Kind, key, the minute since 1970, and the count."""

_ADD: Final = (
    "INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT (kind, key, minute) DO UPDATE SET count = count + excluded.count"
)
_HOUR: Final = 3600.0
_MINUTE: Final = 60.0
# A kill -9 loses the counts of so many seconds.
_EVERY: Final = 5.0
# Counts that wait for a disk that takes none; beyond that they are lost.
_MOST_WAITING: Final = 100_000
# Seconds that a judgement may wait while another process judges. That takes less than a millisecond.
_PATIENCE: Final = 0.5
# Seconds between two tries to make the file one that processes share, and how many tries.
_REST: Final = 0.02
_TRIES: Final = 250
# Old counts that are dropped at once: nobody can judge meanwhile.
_AT_ONCE: Final = 500


class RateFile:
    """The SQLite file with the counts of the last hour.

    Arguments:
        path: of the file; it is made with mode 0600.
        shared: other processes count in it, too. A judgement then waits for the disk once in some seconds at most. A
            crash of the machine may lose the counts of so many seconds.

    Raises:
        UsageError: it cannot be made, read or written, or is something else.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self._path = path
        with self._errors():
            if not os.path.exists(path):  # else closing it would take away the locks that this process has on it
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS rates (kind TEXT NOT NULL, key TEXT NOT NULL, minute INTEGER NOT NULL,"
                    " count INTEGER NOT NULL, PRIMARY KEY (kind, key, minute)) WITHOUT ROWID"
                )
                if shared:
                    self._share()
        except UsageError:
            self._connection.close()
            raise

    def _share(self) -> None:
        """With a log of changes (WAL) a commit does not wait for the disk. Only the first commit after :meth:`clean`
        does, because it begins the log anew.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:  # another process does the same, and SQLite does not wait for it here
                if not left:
                    raise
                time.sleep(_REST)
        self._connection.execute("CREATE INDEX IF NOT EXISTS rates_by_minute ON rates (minute)")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE * 1000:.0f}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise UsageError(f"rates.file {self._path}: {reason}; name a file that can be written to") from None

    def read(self, since: int) -> list[Row]:
        """All counts from a minute on, by key.

        Raises:
            UsageError: it cannot be read.
        """
        with self._errors():
            return self._connection.execute(
                "SELECT kind, key, minute, count FROM rates WHERE minute >= ? ORDER BY minute", (since,)
            ).fetchall()

    def add(self, rows: Iterable[Row], since: int) -> None:
        """Add counts, and drop those before a minute, in one transaction.

        Raises:
            sqlite3.Error: nothing was written.
        """
        with self._transaction():
            self._connection.executemany(_ADD, rows)
            self._connection.execute("DELETE FROM rates WHERE minute < ?", (since,))

    def count(self, kind: str, key: str, minute: int, judge: Callable[[list[tuple[int, int]]], float]) -> float:
        """Judge one event by all counts of its key, and count it. No other process judges or counts meanwhile.

        Arguments:
            judge: gets the minutes and counts of the key. It gives 0 if the event is to be counted.

        Returns:
            What ``judge`` gave.

        Raises:
            sqlite3.Error: nothing was counted.
        """
        with self._transaction():
            events = self._connection.execute(
                "SELECT minute, count FROM rates WHERE kind = ? AND key = ? ORDER BY minute", (kind, key)
            ).fetchall()
            wait = judge(events)
            if not wait:
                self._connection.execute(_ADD, (kind, key, minute, 1))
        return wait

    def clean(self, since: int) -> None:
        """Drop the counts of a shared file before a minute, few at once, and bring its log into the file.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        some = "SELECT kind, key, minute FROM rates WHERE minute < ? LIMIT ?"
        dropped = _AT_ONCE
        while dropped == _AT_ONCE:
            with self._transaction():
                done = self._connection.execute(
                    f"DELETE FROM rates WHERE (kind, key, minute) IN ({some})", (since, _AT_ONCE)
                )
                dropped = done.rowcount
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # nobody waits for it

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Rates:
    """Judges MAIL and RCPT by how many came in the last hour. Users are judged by their names, all others by their
    networks.

    Arguments:
        limits: the most an hour, for each kind that is limited.
        exempt: networks whose clients are not judged, as text.
        path: the SQLite file; ``None``: a restart forgets.
        shared: other processes count in the same file, and all of them together keep to the limits.
        clock: seconds since 1970.

    Raises:
        UsageError: the file cannot be used.
        LocalProtocolError: an exempt network is none.

    Example::

        rates = Rates({"user_messages": 200}, path="spool/rates")
        refusal = rates.message(session)
    """

    def __init__(
        self,
        limits: dict[Kind, int],
        *,
        exempt: Iterable[str] = (),
        path: str | None = None,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.refused: Counter[str] = Counter()
        """How many MAIL and RCPT were refused, by kind."""
        self._limits: dict[str, RateLimit] = {
            kind: RateLimit(limit, _HOUR, clock=clock) for kind, limit in limits.items()
        }
        self._exempt = Networks(exempt)
        self._clock = clock
        self._lock = threading.Lock()  # of the counts; nobody waits for the disk while holding it
        self._flushing = threading.Lock()
        self._waiting: Counter[tuple[str, str, int]] = Counter()
        self._failed = False
        self._file = None if path is None else RateFile(path, shared=shared)
        # Its own connection: the one of the thread may be waiting for the disk.
        self._shared = RateFile(path, shared=True) if path is not None and shared else None
        self._closed = threading.Event()
        self._writer: threading.Thread | None = None
        if self._file is not None:
            self._restore(self._file.read(self._since()))
            self._writer = threading.Thread(target=self._write, name="ehlo-rates", daemon=True)
            self._writer.start()

    def message(self, session: Session) -> str | None:
        """MAIL came: the reply that refuses it, or ``None``."""
        return self._judge(session, "messages", "451")

    def recipient(self, session: Session) -> str | None:
        """RCPT came: the reply that refuses it, or ``None``. Refused recipients count: who guesses names is slowed."""
        return self._judge(session, "recipients", "452")

    def _judge(self, session: Session, what: str, code: str) -> str | None:
        peer = session.peer
        if peer is not None and peer[0] in self._exempt:
            return None
        if session.identity is not None:
            kind, key, whose = f"user_{what}", session.identity, "you"
        elif (address := session.counted_address) is not None:
            kind, key, whose = f"network_{what}", network_of(address) or address, "your network"
        else:  # a Unix socket
            return None
        limit = self._limits.get(kind)
        if limit is None:
            return None
        with self._lock:
            wait = self._take(limit, kind, key)
            if not wait:
                return None
            self.refused[kind] += 1
        later = "" if isinf(wait) else f", try again in {ceil(wait / _MINUTE)} min"
        return f"{code} 4.7.1 Too many {what} from {whose}: {limit.limit} an hour{later}"

    def _take(self, limit: RateLimit, kind: str, key: str) -> float:
        """Count one event, or give the seconds after which it may work."""

        def judge(events: list[tuple[int, int]]) -> float:
            if self._waiting:
                events += [(when, count) for (*place, when), count in self._waiting.items() if place == [kind, key]]
            self._put(kind, key, events)
            return limit.take(key)

        if self._shared is not None:
            try:
                wait = self._shared.count(kind, key, self._minute(), judge)
                self._failed = False
                return wait
            except sqlite3.Error as exc:  # this process counts alone until the file can be used again
                self._complain(exc)
        wait = limit.take(key)
        if not wait and self._file is not None and len(self._waiting) < _MOST_WAITING:
            self._waiting[kind, key, self._minute()] += 1
        return wait

    # ---- the file --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the counts that wait. It blocks. Without a disk the counts go on in memory, and one line says so."""
        if self._file is None:
            return
        with self._flushing:
            self._flush(self._file)

    def _flush(self, file: RateFile) -> None:
        with self._lock:
            rows, self._waiting = self._waiting, Counter()
        try:
            if rows:
                file.add([(*place, count) for place, count in rows.items()], self._since())
                rows.clear()
                self._failed = False
            if self._shared is not None:
                file.clean(self._since())
        except sqlite3.Error as exc:
            self._complain(exc)
            with self._lock:
                self._waiting.update(rows)

    def _complain(self, exc: sqlite3.Error) -> None:
        if not self._failed:
            alone = "" if self._shared is None else ", and each worker counts alone"
            complain(f"ehlo serve: the rates cannot be written, a restart would forget them{alone}: {exc}")
        self._failed = True

    def close(self) -> None:
        """Write what waits, and close the file. Nothing may be judged after it."""
        self._closed.set()
        if self._writer is not None:
            self._writer.join()
        self.flush()
        for file in (self._shared, self._file):
            if file is not None:
                file.close()

    def _write(self) -> None:
        while not self._closed.wait(_EVERY):
            self.flush()

    def _restore(self, rows: Iterable[Row]) -> None:
        kept: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for kind, key, minute, count in rows:
            kept.setdefault((kind, key), []).append((minute, count))
        for (kind, key), events in kept.items():
            self._put(kind, key, events)

    def _put(self, kind: str, key: str, events: Iterable[tuple[int, int]]) -> None:
        if kind in self._limits:
            self._limits[kind].restore(key, [(minute * _MINUTE, count) for minute, count in events])

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE)

    def _since(self) -> int:
        return self._minute() - int(_HOUR // _MINUTE)
