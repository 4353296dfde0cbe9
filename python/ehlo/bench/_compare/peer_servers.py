"""Servers to compare, each in a process of its own:
``python -m ehlo.bench._compare.peer_servers KIND discard|collect [implicit|starttls CERTIFICATE]``.

Says ``ready PORT``, serves until SIGTERM, then tells the longest stall of its event loop and its peak memory as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import resource
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ehlo
import ehlo.asyncio
from ehlo.bench._compare.bare import BareProtocol, serve_on_trio

_TICK = 0.001  # seconds between two looks at the clock: a stall is what comes on top


class _Collect(ehlo.Handler):
    """The whole content of each message, as ``bytes``."""

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        """Take it."""


class _Awaits(ehlo.Handler):
    """Asks the event loop once for each message, as one does that looks a recipient up; content is dropped."""

    async def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
        await asyncio.sleep(0)


_CONFIG = ehlo.ServerConfig("localhost", content="discard", max_message_size=None, max_messages=None)
_LIMITS = ehlo.Limits(max_connections=None, max_connections_per_network=None, session_seconds=None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    kind: str
    collect: bool
    tls: str
    context: ssl.SSLContext | None

    def handler(self) -> ehlo.Handler:
        """One that overrides nothing leaves all to the engine: content is counted and dropped."""
        if self.kind.startswith("ehlo-awaits"):
            return _Awaits()
        return _Collect() if self.collect else ehlo.Handler()

    def options(self) -> dict[str, Any]:
        """What ``serve`` of both our adapters is called with."""
        config = _CONFIG if self.context is None else _CONFIG.replace(tls=self.tls)
        return {"host": "127.0.0.1", "port": 0, "config": config, "limits": _LIMITS, "tls": self.context}


async def _watch(stalls: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(_TICK)
        stalls[0] = max(stalls[0], loop.time() - before - _TICK)


def _tell(stall: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"stall_us": round(stall * 1e6), "peak_kib": peak}), flush=True)


async def _serve(open_server: Callable[[], Any], watched: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    stalls = [0.0]
    port = await open_server()
    # A discarding server is measured for its CPU, and a timer of a millisecond would be most of it.
    watcher = loop.create_task(_watch(stalls)) if watched else None
    print("ready", port, flush=True)
    await stop.wait()
    if watcher is not None:
        watcher.cancel()
    _tell(stalls[0])


async def _ehlo(wanted: _Wanted) -> int:
    server = await ehlo.asyncio.serve(wanted.handler(), **wanted.options())
    _keep.append(server)
    return server.port


async def _aiosmtpd(wanted: _Wanted) -> int:
    smtp = importlib.import_module("aiosmtpd.smtp").SMTP

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            return "250 2.0.0 OK"

    loop = asyncio.get_running_loop()

    def factory() -> Any:
        return smtp(Handler(), enable_SMTPUTF8=True, data_size_limit=1 << 30, loop=loop)

    # Its TLS is implicit alone: nobody asks it for STARTTLS here.
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024, ssl=wanted.context)
    _keep.append(server)
    return int(server.sockets[0].getsockname()[1])


async def _bare(wanted: _Wanted) -> int:
    server = await asyncio.get_running_loop().create_server(
        BareProtocol, "127.0.0.1", 0, backlog=1024, ssl=wanted.context
    )
    _keep.append(server)
    return int(server.sockets[0].getsockname()[1])


def _trio(wanted: _Wanted) -> None:
    trio = importlib.import_module("trio")
    worst = 0.0

    async def start(nursery: Any) -> int:
        if wanted.kind == "bare-trio":
            serve = partial(trio.serve_tcp, serve_on_trio, 0, host="127.0.0.1", backlog=1024)
            (listener,) = await nursery.start(serve)
            return int(listener.socket.getsockname()[1])
        adapter = importlib.import_module("ehlo.trio")
        server = await nursery.start(partial(adapter.serve, wanted.handler(), **wanted.options()))
        return int(server.port)

    async def watch() -> None:
        nonlocal worst
        while True:
            before = trio.current_time()
            await trio.sleep(_TICK)
            worst = max(worst, trio.current_time() - before - _TICK)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                port = await start(nursery)
                if wanted.collect:
                    nursery.start_soon(watch)
                print("ready", port, flush=True)
                async for _ in signals:
                    break
                nursery.cancel_scope.cancel()

    trio.run(main)
    _tell(worst)


_keep: list[Any] = []  # what a loop would otherwise let go of


def main() -> None:
    """Serve."""
    kind, what, tls, certificate = (*sys.argv[1:], "off", "")[:4]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    wanted = _Wanted(kind, what == "collect", tls, context)
    if kind.endswith("-trio"):
        _trio(wanted)
        return
    factory = importlib.import_module("uvloop").new_event_loop if kind.endswith("-uvloop") else None
    open_server = _ehlo if kind.startswith("ehlo") else _bare if kind.startswith("bare") else _aiosmtpd
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(lambda: open_server(wanted), wanted.collect))


if __name__ == "__main__":
    main()
