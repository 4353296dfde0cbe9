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

_HOUR: Final = 3600.0
_MINUTE: Final = 60.0
# A kill -9 loses the counts of so many seconds.
_EVERY: Final = 5.0
# Counts that wait for a disk that takes none; beyond that they are lost.
_MOST_WAITING: Final = 100_000


class RateFile:
    """The SQLite file with the counts of the last hour. Several processes may share it.

    Arguments:
        path: of the file; it is made with mode 0600.

    Raises:
        UsageError: it cannot be made, read or written, or is something else.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        with self._errors():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS rates (kind TEXT NOT NULL, key TEXT NOT NULL, minute INTEGER NOT NULL,"
                    " count INTEGER NOT NULL, PRIMARY KEY (kind, key, minute)) WITHOUT ROWID"
                )
        except UsageError:
            self._connection.close()
            raise

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
            self._connection.executemany(
                "INSERT INTO rates VALUES (?, ?, ?, ?)"
                " ON CONFLICT (kind, key, minute) DO UPDATE SET count = count + excluded.count",
                rows,
            )
            self._connection.execute("DELETE FROM rates WHERE minute < ?", (since,))

    def of(self, kind: str, key: str) -> list[tuple[int, int]]:
        """The minutes and counts of one key, those of other processes too.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        return self._connection.execute(
            "SELECT minute, count FROM rates WHERE kind = ? AND key = ?", (kind, key)
        ).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

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
        shared: other processes count in the same file. Each learns of the others within some seconds.
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
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()  # of the counts; nobody waits for the disk while holding it
        self._flushing = threading.Lock()
        self._waiting: Counter[tuple[str, str, int]] = Counter()
        self._failed = False
        self._file = None if path is None else RateFile(path)
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
            wait = limit.take(key)
            if not wait:
                if self._file is not None and len(self._waiting) < _MOST_WAITING:
                    self._waiting[kind, key, self._minute()] += 1
                return None
            self.refused[kind] += 1
        later = "" if isinf(wait) else f", try again in {ceil(wait / _MINUTE)} min"
        return f"{code} 4.7.1 Too many {what} from {whose}: {limit.limit} an hour{later}"

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
        if not rows:
            return
        try:
            file.add([(*place, count) for place, count in rows.items()], self._since())
            self._failed = False
            if self._shared:
                self._learn(file, {place[:2] for place in rows})
        except sqlite3.Error as exc:
            if not self._failed:
                complain(f"ehlo serve: the rates cannot be written, a restart would forget them: {exc}")
            self._failed = True
            with self._lock:
                self._waiting.update(rows)

    def close(self) -> None:
        """Write what waits, and close the file. Nothing may be judged after it."""
        self._closed.set()
        if self._writer is not None:
            self._writer.join()
        self.flush()
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        while not self._closed.wait(_EVERY):
            self.flush()

    def _learn(self, file: RateFile, places: Iterable[tuple[str, str]]) -> None:
        """What others have counted for the same keys."""
        known = {place: file.of(*place) for place in places}
        with self._lock:
            for (kind, key, minute), count in self._waiting.items():
                if (kind, key) in known:
                    known[kind, key].append((minute, count))
            for (kind, key), events in known.items():
                self._put(kind, key, events)

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
