"""A spool in one folder: SQLite for messages and recipients, files for large contents."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ehlo.mta._body_files import BodyFiles, FileStage
from ehlo.mta._clock import Clock, SystemClock
from ehlo.mta._ids import SLOTS
from ehlo.mta._journal import Journal
from ehlo.mta._model import Content, Message, Stage
from ehlo.mta._poke import Listener, poke
from ehlo.mta._spool import Finding, Node, SpoolError
from ehlo.mta._sqlite_store import SqliteStore
from ehlo.mta._store import Database
from ehlo.mta._threaded_spool import ROW, ThreadedSpool

__all__ = ["RESERVE", "SpoolError", "SqliteSpool"]

# Seconds for which the number of free octets is believed.
_LOOK: Final = 0.5
# Octets that SQLite needs beside the database.
_ROOM: Final = 131072
RESERVE: Final = 64 * 1048576
"""Octets that stay free on the disk."""
# Seconds for which commands that look at the queue may keep a process from its lock.
_LOOKED_AT: Final = 5.0
# Files that are looked at in one turn.
_SWEEP: Final = 200
_NEEDED: Final = "SELECT stored FROM message WHERE stored = ? AND stored > 0"


def _is_full(folder: Path) -> bool:
    """SQLite calls a full disk an I/O error, where it makes its files."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    # Btrfs counts no files.
    return disk.f_bavail * disk.f_frsize < _ROOM or (disk.f_files > 0 and disk.f_favail == 0)


class SqliteSpool(ThreadedSpool):
    """A spool in one folder, for one process that delivers. See :class:`ehlo.mta.Spool`.

    Arguments:
        folder: made if it is not there.
        reserve: octets of the disk that are left free; with less, mail is refused.
        clock: the time.
        most_operations: that wait for the disk; with more, mail is refused.
        most_octets: that they hold in memory; with more, mail is refused.
        administers: this process delivers nothing, so another one may use the folder at the same time. Nothing is
            written before the first change.

    Example::

        async with ehlo.mta.open_queue(SqliteSpool("spool"), hostname=..., route=...) as queue: ...
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        reserve: int = RESERVE,
        clock: Clock | None = None,
        most_operations: int = 5000,
        most_octets: int = 128 * 1048576,
        administers: bool = False,
    ) -> None:
        self.folder: Path = Path(folder)
        self._reserve = reserve
        self._files = BodyFiles(self.folder / "bodies")
        self._lock = -1
        self._seen = (float("-inf"), 0)
        self._listener: Listener | None = None
        clock = SystemClock() if clock is None else clock
        self._sqlite = SqliteStore(self.folder / "queue.db", clock, self._files.remove, administers)
        super().__init__(
            self._sqlite,
            str(folder),
            clock=clock,
            most_operations=most_operations,
            most_octets=most_octets,
            patience=5.0,
            administers=administers,
        )

    def _open(self) -> None:
        try:
            if self._administers:
                if not (self.folder / "queue.db").is_file():
                    raise SpoolError(f"there is no spool in {self.folder}: give its folder")
            else:
                self._files.open()
                self._take_lock()
            super()._open()
            if not self._administers:
                self._listener = Listener(self.folder / "changed", lambda: self._post(self._tell_news))
        except SpoolError:
            self._unlock()
            raise
        except (OSError, sqlite3.Error) as exc:
            self._unlock()
            reason = f"{exc}; its disk is full" if _is_full(self.folder) else str(exc)
            raise SpoolError(f"the spool {self.folder} cannot be opened: {reason}") from exc

    def _take_lock(self) -> None:
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + _LOOKED_AT
        while not self._locks(fcntl.LOCK_EX):
            # A command that looks whether a process delivers has a shared lock for a moment.
            if not self._locks(fcntl.LOCK_SH) or time.monotonic() > end:
                pid = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
                raise SpoolError(f"the spool {self.folder} is in use by process {pid}: stop it first")
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            time.sleep(0.001)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _locks(self, how: int) -> bool:
        try:
            fcntl.flock(self._lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _migrate(self) -> tuple[int, int]:
        try:
            if not (self.folder / "queue.db").is_file():
                raise SpoolError(f"there is no spool in {self.folder}: give its folder")
            self._take_lock()
            return self._sqlite.migrate()
        except (OSError, sqlite3.Error) as exc:
            if isinstance(exc, SpoolError):
                raise
            raise SpoolError(f"the spool {self.folder} cannot be brought up to date: {exc}") from exc
        finally:
            self._unlock()

    def _slot(self) -> int:
        return SLOTS - 1 if self._administers else 0

    def _poke(self) -> None:
        poke(self.folder / "changed")

    async def _announce(self) -> None:
        if self._administers:
            self._poke()
        else:
            self._tell_news()

    async def close(self) -> None:
        """See :meth:`ehlo.mta.Spool.close`."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await anyio.to_thread.run_sync(listener.close)
        await super().close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_journal(self) -> Journal:
        return self._learnt(Journal(self.folder / "delivered"))

    def _remove_contents(self, names: Sequence[int]) -> None:
        self._files.remove(names)

    def _sweep(self, before: int) -> None:
        found = self._files.names()

        def step(store: SqliteStore) -> bool:
            names = list(islice(found, _SWEEP))
            old = [name for name in names if name < before]
            needed = store.transaction(lambda db: {row[0] for one in old for row in db.query(_NEEDED, (one,))})
            self._files.remove([name for name in old if name not in needed], with_unfinished=True)
            return len(names) == _SWEEP

        self._in_turns(step)

    # ---- contents --------------------------------------------------------------------------------

    def _free(self) -> int:
        now = self._clock.monotonic()
        if now - self._seen[0] > _LOOK:
            stat = os.statvfs(self.folder)
            self._seen = (now, stat.f_bavail * stat.f_frsize)
        return self._seen[1]

    def _has_room(self, octets: int) -> bool:
        # A database never gives room back to the disk, so the room in it counts. A large content is a file of its own.
        inside = self._sqlite.reusable if octets <= ROW else 0
        return self._free() + inside - 2 * octets >= self._reserve

    async def stage(self) -> Stage:
        """See :meth:`ehlo.mta._model.Storage.stage`."""
        return FileStage(self._files, self.new_id(), ROW)

    async def _keep(self, message: Message, content: bytes | Stage) -> bytes | None:
        if isinstance(content, bytes):
            staged = FileStage(self._files, self.new_id(), ROW)
            try:
                await staged.write(content)
                await staged.keep()
            except BaseException:
                await staged.discard()
                raise
        elif isinstance(content, FileStage):
            staged = content
            if staged.content is not None:
                return staged.content
            await staged.keep()
        else:
            raise TypeError("a stage of another spool")
        message.stored = staged.name
        return None

    def _large(self, message: Message) -> Content:
        name = message.stored
        return lambda: self._files.chunks(name)

    # ---- administration ----------------------------------------------------------------------------

    def _names(self, db: Database) -> dict[int, str]:
        return {1: self._sqlite.pid() or "?", 2: "administrator"}

    async def nodes(self) -> list[Node]:
        """See :meth:`ehlo.mta.Spool.nodes`."""
        pid = self._sqlite.pid()
        if not pid.isdecimal():
            return []
        started = (self.folder / "lock").stat().st_mtime
        owned = await self._look(lambda db: db.query("SELECT count(*) FROM recipient WHERE owner = 1")[0][0])
        return [Node(1, pid, int(pid), started, self._clock.time(), True, owned)]

    async def verify(self, *, repair: bool, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
        """See :meth:`ehlo.mta.Spool.verify`. Files that are younger than an hour may be on their way."""
        findings = [Finding("damaged", 0, row[0]) for row in await self._look(_damage) if row[0] != "ok"]
        rows = await self._look(lambda db: db.query("SELECT id, stored FROM message"))
        bodies = {row[0] for row in await self._look(lambda db: db.query("SELECT message FROM body"))}
        needed = {stored for _, stored in rows if stored}
        for at, (number, stored) in enumerate(rows):
            if progress is not None and at % 1000 == 0:
                progress(at, len(rows))
            if not (self._files.path(stored).is_file() if stored else number in bodies):
                if repair:
                    await self._change(lambda db, number=number: db.change(_HOLD, (number,)))  # type: ignore[misc]
                findings.append(Finding("missing content", number, f"message {number:016x}", repair))
        if progress is not None:
            progress(len(rows), len(rows))
        young = self._clock.time() - 3600
        for path in sorted(self._files.folder.iterdir()):
            name = int(path.stem, 16)
            if path.stat().st_mtime < young and (path.suffix or name not in needed):
                if repair:
                    path.unlink()
                findings.append(Finding("orphaned content", name, str(path), repair))
        return findings


_HOLD: Final = "UPDATE recipient SET owner = -1, reply = 'its content is missing' WHERE message = ? AND owner <= 0"


def _damage(db: Database) -> list[tuple[str, ...]]:
    return db.query("PRAGMA quick_check(10)")
