"""Servers to compare, each in a process of its own: ``python -m ehlo.bench._peer_servers KIND DISCARD|COLLECT``.

Says ``ready PORT``, serves until SIGTERM, then tells the longest stall of its event loop and its peak memory as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import ehlo
import ehlo.asyncio

_TICK = 0.001  # seconds between two looks at the clock: a stall is what comes on top


class _Collect(ehlo.Handler):
    """The whole content of each message, as ``bytes``."""

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        """Take it."""


_CONFIG = ehlo.ServerConfig("localhost", max_message_size=None, max_messages=None)
_LIMITS = ehlo.Limits(max_connections=None, max_connections_per_network=None, session_seconds=None)


def _handler(collect: bool) -> ehlo.Handler:
    """One that overrides nothing leaves all to the engine: content is counted and dropped."""
    return _Collect() if collect else ehlo.Handler()


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


async def _ehlo(collect: bool) -> int:
    server = await ehlo.asyncio.serve(_handler(collect), "127.0.0.1", 0, config=_CONFIG, limits=_LIMITS)
    _keep.append(server)
    return server.port


async def _aiosmtpd(collect: bool) -> int:
    smtp = importlib.import_module("aiosmtpd.smtp").SMTP

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            return "250 2.0.0 OK"

    loop = asyncio.get_running_loop()

    def factory() -> Any:
        return smtp(Handler(), enable_SMTPUTF8=True, data_size_limit=1 << 30, loop=loop)

    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024)
    _keep.append(server)
    return int(server.sockets[0].getsockname()[1])


def _trio(collect: bool) -> None:
    trio = importlib.import_module("trio")
    adapter = importlib.import_module("ehlo.trio")
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = trio.current_time()
            await trio.sleep(_TICK)
            worst = max(worst, trio.current_time() - before - _TICK)

    async def main() -> None:
        handler = _handler(collect)
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                serve = adapter.serve
                server = await nursery.start(
                    lambda task_status: serve(
                        handler, "127.0.0.1", 0, config=_CONFIG, limits=_LIMITS, task_status=task_status
                    )
                )
                if collect:
                    nursery.start_soon(watch)
                print("ready", server.port, flush=True)
                async for _ in signals:
                    break
                nursery.cancel_scope.cancel()

    trio.run(main)
    _tell(worst)


_keep: list[Any] = []  # what a loop would otherwise let go of


def main() -> None:
    """Serve."""
    kind, what = sys.argv[1:3]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    collect = what == "collect"
    if kind == "ehlo-trio":
        _trio(collect)
        return
    factory = importlib.import_module("uvloop").new_event_loop if kind.endswith("-uvloop") else None
    open_server = _ehlo if kind.startswith("ehlo") else _aiosmtpd
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(lambda: open_server(collect), collect))


if __name__ == "__main__":
    main()
