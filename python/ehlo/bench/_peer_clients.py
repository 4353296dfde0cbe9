"""Clients to compare, each in a process of its own:
``python -m ehlo.bench._peer_clients KIND PORT MESSAGES SIZE CONNECTIONS``. Lock-step or not is the client's own choice.
"""

from __future__ import annotations

import asyncio
import importlib
import smtplib
import sys
import threading
from typing import Any

from ehlo.bench import LoadPlan, LoadRun, contents

_FROM, _TO = "load@example.org", "user@example.org"


def _shares(messages: int, connections: int) -> list[int]:
    each, more = divmod(messages, connections)
    return [share for number in range(connections) if (share := each + (number < more))]


def _smtplib(port: int, messages: int, content: bytes, connections: int) -> None:
    def one(count: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "load.example.org") as client:
            for _ in range(count):
                client.sendmail(_FROM, [_TO], content)

    threads = [threading.Thread(target=one, args=(count,)) for count in _shares(messages, connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _load(port: int, messages: int, size: int, connections: int, *, pipelining: bool) -> None:
    plan = LoadPlan(
        "127.0.0.1",
        port,
        connections=connections,
        messages=messages,
        sizes=str(size),
        pipelining=pipelining,
        phases=False,
        depth=2 if pipelining else 1,
    )
    if LoadRun(plan).run().accepted != messages:
        raise SystemExit("not every message was accepted")


async def _aiosmtplib(port: int, messages: int, content: bytes, connections: int) -> None:
    module = importlib.import_module("aiosmtplib")

    async def one(count: int) -> None:
        client = module.SMTP(hostname="127.0.0.1", port=port, local_hostname="load.example.org")
        async with client:
            for _ in range(count):
                await client.sendmail(_FROM, [_TO], content)

    await asyncio.gather(*(one(count) for count in _shares(messages, connections)))


async def _ehlo(port: int, messages: int, content: bytes, connections: int) -> None:
    connect: Any = importlib.import_module("ehlo.asyncio").connect

    async def one(count: int) -> None:
        async with connect("127.0.0.1", port) as client:
            for _ in range(count):
                result = await client.send(content, sender=_FROM, recipients=[_TO])
                if not result.all_accepted:
                    raise SystemExit("refused")

    await asyncio.gather(*(one(count) for count in _shares(messages, connections)))


def main() -> None:
    """Send."""
    kind = sys.argv[1]
    port, messages, size, connections = map(int, sys.argv[2:6])
    (content,) = contents(str(size))
    if kind.startswith("ehlo-load"):
        _load(port, messages, size, connections, pipelining=kind.endswith("-pipelined"))
        return
    if kind == "smtplib":
        _smtplib(port, messages, content, connections)
        return
    factory = importlib.import_module("uvloop").new_event_loop if kind.endswith("-uvloop") else None
    send = _ehlo if kind.startswith("ehlo") else _aiosmtplib
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(send(port, messages, content, connections))


if __name__ == "__main__":
    main()
