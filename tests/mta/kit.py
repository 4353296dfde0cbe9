"""A queue for tests: on any loop, with a spool in memory and a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import anyio.abc
from memory_spool import MemorySpool

import ehlo
from ehlo.mta import Queue, SmartHost, Spool
from ehlo.mta._loop import adapter, library
from loops import until as until

CONTENT = b"From: a@b.example\r\nSubject: hi\r\n\r\ntext\r\n"
START = 1_700_000_000.0


class FakeClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START
        self.ahead = 0.0  # of the right time
        self._waiting: list[tuple[float, anyio.Event]] = []

    def time(self) -> float:
        return self.now + self.ahead

    def monotonic(self) -> float:
        return self.now - START + 1000

    async def wait(self, event: Any, seconds: float) -> bool:
        moved = anyio.Event()
        entry = (self.now + seconds, moved)
        self._waiting.append(entry)
        try:
            async with anyio.create_task_group() as group:

                async def until_moved() -> None:
                    await moved.wait()
                    group.cancel_scope.cancel()

                group.start_soon(until_moved)
                await event.wait()
                group.cancel_scope.cancel()
        finally:
            self._waiting.remove(entry)
        return bool(event.is_set())

    def move(self, seconds: float) -> None:
        self.now += seconds
        for end, moved in self._waiting:
            if end <= self.now + 1e-6:
                moved.set()


@asynccontextmanager
async def running(
    route: Callable[[ehlo.Recipient], Any], spool: MemorySpool | None = None, **options: Any
) -> AsyncIterator[tuple[Queue, MemorySpool, FakeClock]]:
    """A queue that delivers, with its spool and its clock."""
    spool = MemorySpool() if spool is None else spool
    clock = FakeClock()
    # A queue that delivers needs less of a spool than the commands do: MemorySpool has that part.
    queue = Queue(cast("Spool", spool), hostname="mx.example", route=route, clock=clock, **options)
    async with anyio.create_task_group() as group:
        group.start_soon(queue.run)
        yield queue, spool, clock
        group.cancel_scope.cancel()


@asynccontextmanager
async def serving(handler: object, **options: Any) -> AsyncIterator[Any]:
    """A server on loopback in this loop; gives it."""
    if library() == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            yield await nursery.start(lambda **kw: adapter().serve(handler, "127.0.0.1", 0, **options, **kw))
            nursery.cancel_scope.cancel()
    else:
        async with await adapter().serve(handler, "127.0.0.1", 0, **options) as server:
            yield server


def connect(port: int, **options: Any) -> Any:
    return adapter().connect("127.0.0.1", port, hostname="client.example", **options)


class Sink(ehlo.Handler):
    """Keeps what comes; answers by tables from mailboxes to replies."""

    def __init__(self, rcpt: dict[str, str] | None = None, message: str | None = None) -> None:
        self.rcpt = rcpt or {}
        self.message = message
        self.got: list[tuple[ehlo.Envelope, bytes]] = []
        self.mails = 0
        self.connections = 0

    def on_connect(self, session: ehlo.Session) -> None:
        self.connections += 1

    def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
        self.mails += 1

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return self.rcpt.get(str(recipient.path))

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str | None:
        if self.message is None:
            self.got.append((envelope, content))
        return self.message


@asynccontextmanager
async def relaying(
    next_hop: object, *, config: ehlo.ServerConfig | None = None, how: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Queue, MemorySpool, FakeClock]]:
    """A queue that sends all to a server with the handler ``next_hop``."""
    how = {"tls": "off", **(how or {})}
    async with (
        serving(next_hop, config=config) as server,
        running(lambda recipient: SmartHost("127.0.0.1", server.port, **how), **options) as parts,
    ):
        yield parts
