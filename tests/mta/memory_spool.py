"""A spool in memory, for tests of what is above it. It fails where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ehlo
from ehlo.mta._model import Content, Message, NewMessage, Outcome, Recipient, Stage
from ehlo.mta._spool import Changed, Entry, Selection, Suspension


@dataclass
class Row:
    recipient: Recipient
    message: Message
    state: str = "owned"
    reply: str = ""
    host: str | None = None


class MemoryStage:
    def __init__(self, spool: MemorySpool) -> None:
        self.spool = spool
        self.octets = b""
        self.discarded = False

    async def write(self, octets: bytes) -> None:
        self.spool.fail()
        self.octets += octets

    async def discard(self) -> None:
        self.discarded = True


@dataclass
class MemorySpool:
    """Rows by recipient id, contents by message id. ``error`` is raised by all that stores; ``full`` refuses."""

    rows: dict[int, Row] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    ended: list[tuple[Message, Outcome]] = field(default_factory=list)
    notices: list[tuple[Message, list[Recipient], bytes]] = field(default_factory=list)
    error: OSError | None = None
    full: ehlo.Reply | None = None
    finish_errors: int = 0
    reading: Callable[[Message], Content] | None = None
    ids: Any = field(default_factory=lambda: count(1))
    stages: list[MemoryStage] = field(default_factory=list)
    rules: dict[str, Suspension] = field(default_factory=dict)
    on_news: Callable[[], None] | None = None
    attempts: list[int] = field(default_factory=list)
    dead: list[tuple[str, float, str]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    last_write: float = 0.0

    def fail(self) -> None:
        if self.error is not None:
            raise self.error

    def new_id(self) -> int:
        return int(next(self.ids))

    def refusal(self, octets: int) -> ehlo.Reply | None:
        return self.full

    async def stage(self) -> Stage:
        self.fail()
        self.stages.append(MemoryStage(self))
        return self.stages[-1]

    async def accept(
        self, message: Message, recipients: Sequence[Recipient], content: bytes | Stage, owned: bool
    ) -> None:
        self.fail()
        if isinstance(content, MemoryStage):
            content = content.octets
        assert isinstance(content, bytes)
        assert len(content) == message.size
        self.store(message, recipients, content, "owned" if owned else "ready")

    def store(self, message: Message, recipients: Sequence[Recipient], content: bytes, state: str = "ready") -> None:
        self.contents[message.id] = content
        for recipient in recipients:
            self.rows[recipient.id] = Row(recipient, message, state)

    def finish(
        self,
        message: Message,
        outcomes: Sequence[Outcome],
        notices: Sequence[NewMessage],
        done: Callable[[BaseException | None], None],
    ) -> None:
        if self.finish_errors:
            self.finish_errors -= 1
            done(OSError(5, "the disk is gone"))
            return
        for one in outcomes:
            row = self.rows[one.recipient.id]
            row.reply, row.host = str(one.reply), one.host
            if one.result in ("deferred", "postponed"):
                row.state, row.recipient.due = "ready", one.due
            elif one.result == "held":
                row.state = "held"
            else:
                self.ended.append((message, one))
                del self.rows[one.recipient.id]
        for report, recipients, octets in notices:
            report.owner = 1
            self.notices.append((report, recipients, octets))
            self.store(report, recipients, octets, "owned")
        done(None)

    async def claim(self, now: float, limit: int) -> list[tuple[Message, list[Recipient]]]:
        due = [row for row in self.rows.values() if row.state == "ready" and row.recipient.due <= now][:limit]
        together: dict[Message, list[Recipient]] = {}
        for row in due:
            row.state = "owned"
            together.setdefault(row.message, []).append(row.recipient)
        return list(together.items())

    async def next_due(self) -> float | None:
        return min((row.recipient.due for row in self.rows.values() if row.state == "ready"), default=None)

    async def read(self, message: Message) -> Content:
        if self.reading is not None:
            return self.reading(message)
        return self.contents[message.id]

    async def head(self, message: Message, octets: int) -> bytes:
        return self.contents[message.id][:octets]

    async def suspensions(self) -> list[Suspension]:
        return list(self.rules.values())

    async def suspend(self, suspension: Suspension) -> None:
        self.rules[suspension.route] = suspension

    async def resume(self, route: str) -> bool:
        return self.rules.pop(route, None) is not None

    async def retry(self, selection: Selection, now: float) -> Changed:
        before = float("inf") if selection.due_before is None else selection.due_before
        rows = [row for row in self.rows.values() if row.state == "ready" and row.recipient.due < before]
        for row in rows:
            row.recipient.due = now
        return Changed(len(rows))

    async def entries(self, selection: Selection, limit: int = 100, after: tuple[int, int] = (0, 0)) -> list[Entry]:
        keys = {(row.message.id, number): row for number, row in self.rows.items()}
        rows = [keys[key] for key in sorted(keys) if key > after][:limit]
        return [Entry(row.message, row.recipient, row.state) for row in rows]  # type: ignore[arg-type]

    def begun(self, message: Message, recipients: Sequence[Recipient]) -> None:
        self.attempts.append(message.id)

    def note_route(self, route: str, until: float, reason: str) -> None:
        self.dead.append((route, until, reason))

    def owns(self, message: Message) -> bool:
        return message.id not in self.lost

    def states(self) -> list[str]:
        return [row.state for row in self.rows.values()]
