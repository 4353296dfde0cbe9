"""Clients to compare, each in a process of its own:
``python -m ehlo.bench._compare.peer_clients KIND PORT MESSAGES SIZE CONNECTIONS clear|starttls``.

Lock-step or not is the client's own choice.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import importlib
import smtplib
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ehlo._core import dot_stuff
from ehlo._tls import unverified_context
from ehlo.bench import LoadPlan, LoadRun, contents
from ehlo.bench._compare.bare import send_from_sockets, send_on_asyncio, send_on_trio

_FROM, _TO = "load@example.org", "user@example.org"


def _shares(messages: int, connections: int) -> list[int]:
    each, more = divmod(messages, connections)
    return [share for number in range(connections) if (share := each + (number < more))]


def _smtplib(port: int, messages: int, content: bytes, connections: int, context: ssl.SSLContext | None) -> None:
    def one(count: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "load.example.org") as client:
            if context is not None:
                client.starttls(context=context)
            for _ in range(count):
                client.sendmail(_FROM, [_TO], content)

    threads = [threading.Thread(target=one, args=(count,)) for count in _shares(messages, connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _load(port: int, messages: int, size: int, connections: int, starttls: bool, *, pipelining: bool) -> None:
    plan = LoadPlan(
        "127.0.0.1",
        port,
        connections=connections,
        messages=messages,
        sizes=str(size),
        pipelining=pipelining,
        phases=False,
        depth=2 if pipelining else 1,
        tls="starttls" if starttls else "off",
    )
    if LoadRun(plan).run().accepted != messages:
        raise SystemExit("not every message was accepted")


async def _aiosmtplib(
    port: int, messages: int, content: bytes, connections: int, context: ssl.SSLContext | None
) -> None:
    module = importlib.import_module("aiosmtplib")

    async def one(count: int) -> None:
        name = {"hostname": "127.0.0.1", "local_hostname": "load.example.org"}
        async with module.SMTP(port=port, start_tls=context is not None, tls_context=context, **name) as client:
            for _ in range(count):
                await client.sendmail(_FROM, [_TO], content)

    await asyncio.gather(*(one(count) for count in _shares(messages, connections)))


async def _smtpproto(
    port: int, messages: int, content: bytes, connections: int, context: ssl.SSLContext | None
) -> None:
    module = importlib.import_module("smtpproto.client")
    # It begins TLS by itself where that is offered, and takes no octets.
    message = email.message_from_bytes(content, policy=email.policy.SMTP)

    async def one(count: int) -> None:
        client = module.AsyncSMTPClient("127.0.0.1", port, domain="load.example.org", ssl_context=context)
        async with client.connect() as session:
            for _ in range(count):
                await session.send_message(message, sender=_FROM, recipients=[_TO])

    await asyncio.gather(*(one(count) for count in _shares(messages, connections)))


async def _ehlo(
    kind: str, port: int, messages: int, content: bytes, connections: int, context: ssl.SSLContext | None
) -> None:
    connect: Any = importlib.import_module("ehlo.trio" if kind.endswith("-trio") else "ehlo.asyncio").connect
    tls = "off" if context is None else "required"

    async def one(count: int) -> None:
        async with connect("127.0.0.1", port, tls=tls, ssl_context=context) as client:
            if kind.startswith("ehlo-many"):
                items = ((content, _FROM, [_TO]) for _ in range(count))
                accepted = [result.all_accepted async for result in client.send_many(items)]
            else:
                accepted = [(await client.send(content, _FROM, [_TO])).all_accepted for _ in range(count)]
            if not all(accepted):
                raise SystemExit("refused")

    await _beside(kind, [partial(one, count) for count in _shares(messages, connections)])


async def _bare(kind: str, port: int, messages: int, content: bytes, connections: int) -> None:
    send = send_on_trio if kind.endswith("-trio") else send_on_asyncio
    wire = dot_stuff(content)
    await _beside(kind, [partial(send, port, count, wire) for count in _shares(messages, connections)])


async def _beside(kind: str, calls: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """All at once."""
    if not kind.endswith("-trio"):
        await asyncio.gather(*(call() for call in calls))
        return
    async with importlib.import_module("trio").open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(call)


def main() -> None:
    """Send."""
    kind = sys.argv[1]
    port, messages, size, connections = map(int, sys.argv[2:6])
    starttls = sys.argv[6] == "starttls"
    context = unverified_context() if starttls else None
    (content,) = contents(str(size))
    if kind.startswith("ehlo-load"):
        _load(port, messages, size, connections, starttls, pipelining=kind.endswith("-pipelined"))
        return
    if kind == "smtplib":
        _smtplib(port, messages, content, connections, context)
        return
    if kind == "bare-sockets":
        send_from_sockets(port, _shares(messages, connections), dot_stuff(content))
        return
    if kind.startswith("bare-"):
        send = partial(_bare, kind, port, messages, content, connections)
    elif kind.startswith("ehlo"):
        send = partial(_ehlo, kind, port, messages, content, connections, context)
    else:
        theirs = _smtpproto if kind == "smtpproto" else _aiosmtplib
        send = partial(theirs, port, messages, content, connections, context)
    if kind.endswith("-trio"):
        importlib.import_module("trio").run(send)
        return
    factory = importlib.import_module("uvloop").new_event_loop if kind.endswith("-uvloop") else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(send())


if __name__ == "__main__":
    main()
