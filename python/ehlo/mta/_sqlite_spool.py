"""A spool in one folder: SQLite for messages and recipients, files for large contents."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

import ehlo
from ehlo.mta._loop import library
from ehlo.mta._model import Content, Message, NewMessage, Outcome, Recipient, Stage
from ehlo.mta._spool import Changed, SpoolError

__all__ = ["SqliteSpool"]

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

ROW: Final = 262144
"""Octets up to which a content is a row; a longer one is a file."""

_GROUP: Final = 500
_GROUP_OCTETS: Final = 16 * 1048576
_WAITING: Final = 5000
_JOURNAL: Final = 1048576
_NO_ROOM: Final = ehlo.Reply(452, "4.3.1", "Insufficient system storage, try again later")
_BUSY: Final = ehlo.Reply(452, "4.3.1", "Too many messages at once, try again later")
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE message(
    id INTEGER PRIMARY KEY, sender TEXT NOT NULL, arrived REAL NOT NULL, size INTEGER NOT NULL, facts TEXT NOT NULL,
    body BLOB) STRICT;
CREATE TABLE recipient(
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, path TEXT NOT NULL, facts TEXT, state TEXT NOT NULL,
    due REAL NOT NULL, attempts INTEGER NOT NULL, warned INTEGER NOT NULL, reply TEXT, host TEXT) STRICT;
CREATE INDEX recipient_message ON recipient(message);
CREATE INDEX recipient_due ON recipient(due) WHERE state = 'ready';
CREATE INDEX recipient_owned ON recipient(id) WHERE state = 'owned';
"""


class _Waiter:
    """An operation's way back to the loop."""

    __slots__ = ("done", "octets", "operation")

    def __init__(self, operation: Operation, octets: int, done: Callable[[Any, BaseException | None], None]) -> None:
        self.operation = operation
        self.octets = octets
        self.done = done


class _Writer:
    """One thread that owns the database. It takes what waits, commits once, and answers all once (group commit).

    Arguments:
        path: of the database.
        call_soon: runs a function in the loop.
    """

    def __init__(self, path: Path, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._path = path
        self._call_soon = call_soon
        self._waiting: deque[_Waiter] = deque()
        self._signal = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="ehlo spool", daemon=True)
        self._closing = False
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, waiter: _Waiter) -> None:
        self._waiting.append(waiter)
        self._signal.release()

    def close(self) -> None:
        """Do what waits, then end. Blocks."""
        self._closing = True
        self._signal.release()
        self._thread.join()

    def _run(self) -> None:
        connection = connect(self._path)
        try:
            while True:
                self._signal.acquire()
                group: list[_Waiter] = []
                octets = 0
                while self._waiting and len(group) < _GROUP and octets < _GROUP_OCTETS:
                    waiter = self._waiting.popleft()
                    octets += waiter.octets
                    group.append(waiter)
                for _ in range(len(group) - 1):
                    self._signal.acquire(blocking=False)
                if group:
                    self._answer(self._commit(connection, group))
                elif self._closing:
                    return
        finally:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[_Waiter]) -> list[tuple[_Waiter, Any, Any]]:
        try:
            return self._together(connection, group)
        except Exception as exc:
            if len(group) == 1:
                return [(group[0], None, _as_os_error(exc))]
        # One that fails does not take the others with it.
        return [answer for waiter in group for answer in self._commit(connection, [waiter])]

    def _together(self, connection: sqlite3.Connection, group: list[_Waiter]) -> list[tuple[_Waiter, Any, Any]]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            answers = [(waiter, waiter.operation(connection), None) for waiter in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answers

    def _answer(self, answers: list[tuple[_Waiter, Any, Any]]) -> None:
        def tell() -> None:
            for waiter, result, error in answers:
                waiter.done(result, error)

        with contextlib.suppress(RuntimeError):  # the loop is over: nobody waits any more
            self._call_soon(tell)


def _as_os_error(exc: Exception) -> BaseException:
    """SQLite's word for a full disk and the like as the system's."""
    if isinstance(exc, sqlite3.OperationalError):
        full = exc.sqlite_errorname == "SQLITE_FULL" if hasattr(exc, "sqlite_errorname") else False
        return OSError(28 if full else 5, str(exc))
    return exc


def connect(path: Path) -> sqlite3.Connection:
    """A connection for reading and writing, with the settings that make a commit durable."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute("PRAGMA journal_size_limit=67108864")
    return connection


class _FileStage:
    """A content on its way: in memory up to :data:`ROW` octets, then in a file."""

    def __init__(self, spool: SqliteSpool) -> None:
        self._spool = spool
        self._pieces: list[bytes] = []
        self._octets = 0
        self._file: Any = None
        self.path: Path | None = None

    @property
    def content(self) -> bytes:
        """The octets, if there is no file."""
        return b"".join(self._pieces)

    async def write(self, octets: bytes) -> None:
        """See :meth:`ehlo.mta._model.Stage.write`."""
        self._pieces.append(octets)
        self._octets += len(octets)
        if self._octets >= ROW:
            await anyio.to_thread.run_sync(self._flush)

    def _flush(self) -> None:
        if self._file is None:
            self.path = self._spool.folder / "bodies" / f"{secrets.token_hex(8)}.tmp"
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115
        pieces, self._pieces, self._octets = self._pieces, [], 0
        for piece in pieces:
            self._file.write(piece)

    def finish(self, path: Path) -> None:
        """Make the file durable under its name. Blocks."""
        assert self.path is not None
        self._flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self.path, path)
        sync_folder(path.parent)

    async def discard(self) -> None:
        """See :meth:`ehlo.mta._model.Stage.discard`."""
        self._pieces = []
        if self._file is not None:
            self._file.close()
            assert self.path is not None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Blocks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SqliteSpool:
    """A spool in one folder, for one process.

    Arguments:
        folder: made if it is not there.
        reserve: octets of the disk that are left free; with less, mail is refused.

    Example::

        async with ehlo.mta.open_queue(SqliteSpool("spool"), hostname=..., route=...) as queue: ...
    """

    def __init__(self, folder: str | os.PathLike[str], *, reserve: int = 64 * 1048576) -> None:
        self.folder = Path(folder)
        self._reserve = reserve
        self._lock = -1
        self._journal = -1
        self._journal_octets = 0
        self._unfinished = 0
        self._writer: _Writer | None = None
        self._last_id = 0
        self._free = (0.0, 0)
        self.on_news: Any = None

    # ---- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the folder, and take over what an earlier process left.

        Raises:
            SpoolError: it cannot be used: by another process, by its version, by its permissions.
        """
        await anyio.to_thread.run_sync(self._prepare)
        if library() == "trio":
            import trio

            call_soon: Any = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            call_soon = asyncio.get_running_loop().call_soon_threadsafe
        self._writer = _Writer(self.folder / "queue.db", call_soon)

    def _prepare(self) -> None:
        try:
            (self.folder / "bodies").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
                raise SpoolError(f"the spool {self.folder} is in use by process {owner}: stop it first") from None
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            with contextlib.closing(connect(self.folder / "queue.db")) as connection:
                self._migrate(connection)
                self._recover(connection)
            self._journal = os.open(
                self.folder / "delivered", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600
            )
        except SpoolError:
            self._unlock()
            raise
        except (OSError, sqlite3.Error) as exc:
            self._unlock()
            raise SpoolError(f"the spool {self.folder} cannot be opened: {exc}") from exc

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise SpoolError(f"the spool {self.folder} is of version {version}, newer than this program: update it")
        if version == 0:
            connection.executescript(f"BEGIN;{_SCHEMA};PRAGMA user_version={_VERSION};COMMIT")

    def _recover(self, connection: sqlite3.Connection) -> None:
        """What was being delivered is due again, but for what the journal says was taken."""
        try:
            octets = (self.folder / "delivered").read_bytes()
        except FileNotFoundError:
            octets = b""
        taken = [(number,) for (number,) in struct.iter_unpack("<q", octets[: len(octets) // 8 * 8])]
        connection.execute("BEGIN IMMEDIATE")
        messages = {
            row[0]
            for (number,) in taken
            for row in connection.execute("DELETE FROM recipient WHERE id = ? RETURNING message", (number,)).fetchall()
        }
        for message in messages:
            self._drop_message(connection, message)
        connection.execute("UPDATE recipient SET state = 'ready' WHERE state = 'owned'")
        connection.execute("COMMIT")
        for path in (self.folder / "bodies").glob("*.tmp"):
            path.unlink()

    async def close(self) -> None:
        """Store what waits, and leave the folder."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(writer.close)
        self._unlock()

    def _unlock(self) -> None:
        for name in ("_lock", "_journal"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    # ---- the engine's side -----------------------------------------------------------------------

    def new_id(self) -> int:
        """See :meth:`ehlo.mta._model.Storage.new_id`: milliseconds, then a part that is random at first."""
        number = (time.time_ns() // 1_000_000) << 20 | secrets.randbits(16)
        self._last_id = number = max(number, self._last_id + 1)
        return number

    def refusal(self, octets: int) -> ehlo.Reply | None:
        """See :meth:`ehlo.mta._model.Storage.refusal`."""
        now = time.monotonic()
        if now - self._free[0] > 0.5:
            stat = os.statvfs(self.folder)
            self._free = (now, stat.f_bavail * stat.f_frsize)
        if self._free[1] - 2 * octets < self._reserve:
            return _NO_ROOM
        return _BUSY if self._writer is None or len(self._writer) > _WAITING else None

    async def stage(self) -> Stage:
        """See :meth:`ehlo.mta._model.Storage.stage`."""
        return _FileStage(self)

    async def accept(
        self, message: Message, recipients: Sequence[Recipient], content: bytes | Stage, owned: bool
    ) -> None:
        """See :meth:`ehlo.mta._model.Storage.accept`."""
        body: bytes | None
        if isinstance(content, bytes):
            body = content
            if len(content) > ROW:
                staged = _FileStage(self)
                await staged.write(content)
                content = staged
        elif not isinstance(content, _FileStage):
            raise TypeError("a stage of another spool")
        if isinstance(content, _FileStage):
            body = content.content
            if content.path is not None:
                body = None
                await anyio.to_thread.run_sync(content.finish, self._body(message.id))
        rows = _rows(message, recipients, "owned" if owned else "ready")
        await self._do(lambda connection: _insert(connection, message, rows, body), message.size)

    def finish(
        self,
        message: Message,
        outcomes: Sequence[Outcome],
        notices: Sequence[NewMessage],
        done: Callable[[BaseException | None], None],
    ) -> None:
        """See :meth:`ehlo.mta._model.Storage.finish`."""
        if not notices:
            taken = [one.recipient.id for one in outcomes if one.result in ("relayed", "delivered")]
            if taken:
                self._note(taken)
        self._unfinished += 1

        def store(connection: sqlite3.Connection) -> bool:
            ended = False
            for one in outcomes:
                ended = _store(connection, one) or ended
            for report, recipients, octets in notices:
                _insert(connection, report, _rows(report, recipients, "owned"), octets)
            return ended and self._drop_message(connection, message.id)

        def stored(gone: Any, error: BaseException | None) -> None:
            self._unfinished -= 1
            if gone and message.size > ROW:
                with contextlib.suppress(OSError):
                    os.unlink(self._body(message.id))
            if error is None and not self._unfinished and self._journal_octets > _JOURNAL:
                os.ftruncate(self._journal, 0)
                self._journal_octets = 0
            done(error)

        self._put(_Waiter(store, sum(len(octets) for _, _, octets in notices), stored))

    async def claim(self, now: float, limit: int) -> list[tuple[Message, list[Recipient]]]:
        """See :meth:`ehlo.mta._model.Storage.claim`."""
        claimed: list[tuple[Message, list[Recipient]]] = await self._do(lambda c: _claim(c, now, limit))
        return claimed

    async def next_due(self) -> float | None:
        """See :meth:`ehlo.mta._model.Storage.next_due`."""
        due: float | None = await self._do(
            lambda c: c.execute("SELECT min(due) FROM recipient WHERE state = 'ready'").fetchone()[0]
        )
        return due

    async def read(self, message: Message) -> Content:
        """See :meth:`ehlo.mta._model.Storage.read`."""
        body: bytes | None = await self._do(
            lambda c: c.execute("SELECT body FROM message WHERE id = ?", (message.id,)).fetchone()[0]
        )
        return body if body is not None else lambda: _pieces(self._body(message.id))

    async def head(self, message: Message, octets: int) -> bytes:
        """See :meth:`ehlo.mta._model.Storage.head`."""
        content = await self.read(message)
        if isinstance(content, bytes):
            return content[:octets]
        head = b""
        async for piece in content():
            head += piece
            if len(head) >= octets:
                break
        return head[:octets]

    async def retry(self, selection: Any, now: float) -> Changed:
        """What is ready is due."""
        count: int = await self._do(
            lambda c: c.execute("UPDATE recipient SET due = ? WHERE state = 'ready'", (now,)).rowcount
        )
        return Changed(count)

    async def suspensions(self) -> list[Any]:
        """None are kept."""
        return []

    # ---- the engine room -------------------------------------------------------------------------

    def _body(self, number: int) -> Path:
        return self.folder / "bodies" / f"{number:016x}"

    def _drop_message(self, connection: sqlite3.Connection, number: int) -> bool:
        """Forget a message that nobody is to get any more."""
        cursor = connection.execute(
            "DELETE FROM message WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1)", (number,)
        )
        return cursor.rowcount > 0

    def _note(self, taken: list[int]) -> None:
        """The delivered journal: what a crash before the next commit must not send again."""
        self._journal_octets += os.write(self._journal, struct.pack(f"<{len(taken)}q", *taken))

    def _put(self, waiter: _Waiter) -> None:
        if self._writer is None:
            raise SpoolError(f"the spool {self.folder} is closed")
        self._writer.put(waiter)

    async def _do(self, operation: Callable[[sqlite3.Connection], T], octets: int = 0) -> T:
        if library() == "asyncio":
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

            def tell(result: Any, error: BaseException | None) -> None:
                if future.done():  # cancelled
                    return
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

            self._put(_Waiter(operation, octets, tell))
            return await future
        import trio

        event = trio.Event()
        answer: list[Any] = []

        def keep(result: Any, error: BaseException | None) -> None:
            answer.extend((result, error))
            event.set()

        self._put(_Waiter(operation, octets, keep))
        await event.wait()
        if answer[1] is not None:
            raise answer[1]
        result: T = answer[0]
        return result


# ---- statements ------------------------------------------------------------------------------------------------


def _rows(message: Message, recipients: Sequence[Recipient], state: str) -> list[tuple[Any, ...]]:
    rows = []
    for one in recipients:
        facts = None
        if one.notify is not None or one.orcpt is not None:
            notify = None if one.notify is None else sorted(one.notify)
            facts = json.dumps([notify, one.orcpt])
        rows.append((one.id, message.id, one.path, facts, state, one.due, one.attempts, one.warned))
    return rows


def _insert(connection: sqlite3.Connection, message: Message, rows: list[tuple[Any, ...]], body: bytes | None) -> None:
    facts = json.dumps(
        [
            message.eight_bit, message.utf8_header, message.body, message.smtputf8, message.ret, message.envid,
            message.priority, message.requiretls, message.hello, message.peer,
        ]
    )  # fmt: skip
    connection.execute(
        "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)",
        (message.id, message.sender, message.arrived, message.size, facts, body),
    )
    for row in rows:
        connection.execute("INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", row)


def _store(connection: sqlite3.Connection, one: Outcome) -> bool:
    """Store one outcome; gives whether the recipient is done with."""
    recipient = one.recipient
    if one.result not in ("deferred", "postponed", "held"):
        connection.execute("DELETE FROM recipient WHERE id = ?", (recipient.id,))
        return True
    connection.execute(
        "UPDATE recipient SET state = ?, due = ?, attempts = ?, warned = ?, reply = ?, host = ? WHERE id = ?",
        (
            "held" if one.result == "held" else "ready",
            one.due,
            recipient.attempts,
            recipient.warned,
            str(one.reply),
            one.host,
            recipient.id,
        ),
    )
    return False


def _claim(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[Message, list[Recipient]]]:
    found = connection.execute(
        "SELECT id, message, path, facts, due, attempts, warned FROM recipient"
        " WHERE state = 'ready' AND due <= ? ORDER BY due LIMIT ?",
        (now, limit),
    ).fetchall()
    together: dict[int, list[Recipient]] = {}
    for number, message, path, facts, due, attempts, warned in found:
        notify, orcpt = json.loads(facts) if facts else (None, None)
        one = Recipient(
            number,
            path,
            None if notify is None else frozenset(notify),
            None if orcpt is None else (orcpt[0], orcpt[1]),
            attempts,
            due,
            bool(warned),
        )
        together.setdefault(message, []).append(one)
    connection.executemany("UPDATE recipient SET state = 'owned' WHERE id = ?", [(row[0],) for row in found])
    return [(_message(connection, number), recipients) for number, recipients in together.items()]


def _message(connection: sqlite3.Connection, number: int) -> Message:
    sender, arrived, size, facts = connection.execute(
        "SELECT sender, arrived, size, facts FROM message WHERE id = ?", (number,)
    ).fetchone()
    return Message(number, sender, arrived, size, *json.loads(facts))


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(ROW):
            yield piece
