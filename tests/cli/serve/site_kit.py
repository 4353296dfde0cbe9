"""`ehlo serve` inside a test: its servers on the loop of the test, from the tables of a file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import ehlo
import ehlo.asyncio
import ehlo.trio
from ehlo.cli._log import LogWriter, StreamTarget
from ehlo.cli._run import Tools
from ehlo.cli._serve import command
from ehlo.cli._serve.running import Host, places_of
from ehlo.cli._serve.settings import Settings, read_settings
from ehlo.cli._serve.site import Site
from ehlo.cli._serve.sockets import Sockets, open_sockets
from ehlo.cli._serve.trail import Trail

Watch: TypeAlias = Callable[[str, dict[str, Any]], None]
CONTENT = b"From: a@b.example\r\nSubject: hi\r\n\r\ntext\r\n"


@asynccontextmanager
async def site(
    loop: str, values: dict[str, Any], base: str = "/nonexistent", *, watch: Watch | None = None
) -> AsyncIterator[list[int]]:
    """Serve what the tables say; gives the ports of the listeners. ``watch`` gets each event of the trail."""
    values = {"hostname": "mx.example", "quiet": True, "listener": [{"port": 0}]} | values
    settings = read_settings(values, base)
    with contextlib.closing(open_sockets(places_of(settings))) as sockets:
        async with _serve(loop, settings, sockets, watch) as ports:
            yield ports


@asynccontextmanager
async def _serve(loop: str, settings: Settings, sockets: Sockets, watch: Watch | None) -> AsyncIterator[list[int]]:
    trail = Trail(LogWriter(StreamTarget(None), str), quiet=True)
    trail.watch = watch
    job = command._ServeJob(Site.open(settings), Host(sockets, lambda: settings, trail))
    if loop == "trio":
        import trio

        async with job.open(Tools(ehlo.trio, trio.to_thread.run_sync)) as wanted, trio.open_nursery() as nursery:
            ports = []
            for handler, options in wanted:
                server = await nursery.start(lambda h=handler, o=options, **kw: ehlo.trio.serve(h, **o, **kw))
                ports.append(server.port)
            yield ports
            nursery.cancel_scope.cancel()
        return
    async with job.open(Tools(ehlo.asyncio, asyncio.to_thread)) as wanted, AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(await ehlo.asyncio.serve(h, **options)) for h, options in wanted]
        yield [server.port for server in servers]


@asynccontextmanager
async def serving(loop: str, handler: object, **options: Any) -> AsyncIterator[Any]:
    """A next hop on the loop of the test."""
    if loop == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            yield await nursery.start(lambda **kw: ehlo.trio.serve(handler, **options, **kw))
            nursery.cancel_scope.cancel()
        return
    async with await ehlo.asyncio.serve(handler, **options) as server:
        yield server


def connect(loop: str, port: int, *, lmtp: bool = False, **options: Any) -> Any:
    """A client of that loop."""
    adapter: Any = ehlo.trio if loop == "trio" else ehlo.asyncio
    return adapter.connect("127.0.0.1", port, config=ehlo.ClientConfig("client.example", lmtp=lmtp), **options)


async def tell(client: Any, sender: str, recipients: list[str], content: bytes = CONTENT) -> dict[str, ehlo.Reply]:
    """Send in one transaction, step by step; gives what each recipient was told at the end."""
    told: dict[str, ehlo.Reply] = {}
    try:
        async with client.transaction(sender) as transaction:
            accepted = []
            for recipient in recipients:
                told[recipient] = await transaction.rcpt(recipient)
                if told[recipient].is_positive:
                    accepted.append(recipient)
            if accepted:
                result = await transaction.send(content, check=False)
                taken = [one for one in result.recipients if one.rcpt is None or one.rcpt.is_positive]
                told |= {name: one.reply for name, one in zip(accepted, taken, strict=True) if one.reply is not None}
    except ehlo.SMTPSenderRefused as exc:
        assert exc.reply is not None  # noqa: PT017
        told = dict.fromkeys(recipients, exc.reply)
    return told
