"""Servers and clients over socket pairs: twenty messages over a kept connection, with the event loop's own cost.

A server runs its loop in a thread; the program that sends is one blocking socket, which pipelines (RFC 2920), the same
for all. A client runs its loop in a thread, and at the other end a thread answers, by ``plain.Server`` for all. So each
figure has the cost of the other end in it, and ratios look smaller than they are: for processes by themselves there is
``ehlo bench compare``.

All servers drop the content. ehlo counts it and checks it on the way, the plain ones and aiosmtpd hold it first.
``send`` waits for each message, ``send_many`` has the next one on the way. ehlo pipelines; smtplib, aiosmtplib and
smtpproto wait for the reply to each command. smtpproto writes an ``email.message.Message`` anew for each message.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import importlib
import smtplib
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import ehlo
from benches import plain
from benches.contents import of_size

MESSAGES = 20
SIZES = {"1 KiB": 1024, "100 KiB": 102400}
ENVELOPE = f"MAIL FROM:<{plain.SENDER}>\r\nRCPT TO:<{plain.RECIPIENT}>\r\nDATA\r\n".encode("ascii")
SERVERS = [
    "ehlo asyncio",
    "ehlo uvloop",
    "ehlo trio",
    "aiosmtpd asyncio",
    "aiosmtpd uvloop",
    "plain asyncio",
    "plain uvloop",
    "plain trio",
]
LOOP_CLIENTS = [
    "ehlo.send asyncio",
    "ehlo.send uvloop",
    "ehlo.send trio",
    "ehlo.send_many asyncio",
    "ehlo.send_many uvloop",
    "ehlo.send_many trio",
    "aiosmtplib asyncio",
    "aiosmtplib uvloop",
    "smtpproto asyncio",
    "smtpproto trio",
]

# ---- servers ------------------------------------------------------------------------------------------


class PlainProtocol(asyncio.Protocol):
    """:class:`plain.Server` on asyncio."""

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self.transport = transport
        self.server = plain.Server()
        transport.write(plain.GREETING)

    def data_received(self, data: bytes) -> None:
        if replies := self.server.receive(data):
            self.transport.write(replies)


async def plain_stream(stream: Any) -> None:
    """:class:`plain.Server` on trio."""
    server = plain.Server()
    await stream.send_all(plain.GREETING)
    async for data in stream:
        if replies := server.receive(data):
            await stream.send_all(replies)


def aiosmtpd_protocol() -> Any:
    module = importlib.import_module("aiosmtpd.smtp")

    class Handler:
        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
            return "250 2.0.0 OK"

    return module.SMTP(Handler(), hostname="mx.example.org", data_size_limit=None)


def open_server(kind: str, loop: str, path: Path, portal: Any, stack: ExitStack) -> None:
    """Start a server at ``path``; it ends with ``stack``."""
    config = ehlo.ServerConfig("mx.example.org", content="discard", max_messages=None)
    if loop == "trio":
        if kind == "ehlo":
            serve = partial(importlib.import_module("ehlo.trio").serve, ehlo.Handler(), path=path, config=config)
        else:
            trio = importlib.import_module("trio")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
            serve = partial(trio.serve_listeners, plain_stream, listeners)
        future, _ = portal.start_task(serve)
        stack.callback(future.cancel)
        return

    async def serve_on_asyncio() -> Any:
        if kind == "ehlo":
            return await importlib.import_module("ehlo.asyncio").serve(ehlo.Handler(), path=path, config=config)
        factory = PlainProtocol if kind == "plain" else aiosmtpd_protocol
        return await asyncio.get_running_loop().create_unix_server(factory, path)

    stack.enter_context(portal.wrap_async_context_manager(portal.call(serve_on_asyncio)))


def replies(connection: socket.socket, count: int) -> None:
    """Wait for so many replies of one line each; all must be positive."""
    octets = b""
    while octets.count(b"\r\n") < count:
        received = connection.recv(65536)
        assert received, "the server closed the connection"
        octets += received
    assert not {line[:1] for line in octets.splitlines()} - {b"2", b"3"}, octets


@pytest.mark.parametrize("stand", SERVERS)
@pytest.mark.parametrize("size", SIZES)
def test_server(
    benchmark: BenchmarkFixture,
    portal: Callable[[str], Any],
    stack: ExitStack,
    socket_path: Path,
    size: str,
    stand: str,
) -> None:
    kind, loop = stand.split()
    if kind == "aiosmtpd":
        pytest.importorskip("aiosmtpd")
    running = portal(loop)
    open_server(kind, loop, socket_path, running, stack)
    wire = plain.stuff(of_size(SIZES[size]))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(socket_path))
        replies(connection, 1)
        connection.sendall(f"HELO {plain.CLIENT_NAME}\r\n".encode("ascii"))
        replies(connection, 1)

        def send() -> None:
            for _ in range(MESSAGES):
                connection.sendall(ENVELOPE)
                replies(connection, 3)
                connection.sendall(wire)
                replies(connection, 1)

        benchmark.group = f"server, {MESSAGES} messages of {size} over a socket pair"
        benchmark(send)
        connection.sendall(b"QUIT\r\n")
        replies(connection, 1)


# ---- clients ------------------------------------------------------------------------------------------

Send = Callable[[], Awaitable[None]]
Opened = tuple[Send, Callable[[], Awaitable[object]]]
"""What sends all messages, and what ends the connection."""


async def open_ehlo(method: str, library: str, sock: socket.socket, content: bytes) -> Opened:
    config = ehlo.ClientConfig(plain.CLIENT_NAME)
    client = await importlib.import_module(f"ehlo.{library}").connect(sock=sock, config=config)

    async def send() -> None:
        for _ in range(MESSAGES):
            assert (await client.send(content, plain.SENDER, [plain.RECIPIENT])).all_accepted

    async def send_many() -> None:
        items = ((content, plain.SENDER, [plain.RECIPIENT]) for _ in range(MESSAGES))
        async for result in client.send_many(items):
            assert result.all_accepted

    return send if method == "ehlo.send" else send_many, client.close


async def open_aiosmtplib(sock: socket.socket, content: bytes) -> Opened:
    module = importlib.import_module("aiosmtplib")
    client = module.SMTP(sock=sock, local_hostname=plain.CLIENT_NAME, start_tls=False)
    await client.connect()

    async def send() -> None:
        for _ in range(MESSAGES):
            errors, _ = await client.sendmail(plain.SENDER, [plain.RECIPIENT], content)
            assert errors == {}

    return send, client.quit


async def open_smtpproto(sock: socket.socket, content: bytes) -> Opened:
    module = importlib.import_module("smtpproto.client")
    abc = importlib.import_module("anyio.abc")
    session = module.AsyncSMTPSession("localhost", 25, 30, 30, plain.CLIENT_NAME, None, None)
    session._stream = await abc.SocketStream.from_socket(sock)  # it has no way of its own to be given one
    await session._wait_response()
    await session.send_command(session.protocol.send_greeting, plain.CLIENT_NAME)
    message = email.message_from_bytes(content, policy=email.policy.SMTP)

    async def send() -> None:
        for _ in range(MESSAGES):
            await session.send_message(message, sender=plain.SENDER, recipients=[plain.RECIPIENT])

    return send, partial(session.__aexit__, None, None, None)


@pytest.mark.parametrize("stand", LOOP_CLIENTS)
@pytest.mark.parametrize("size", SIZES)
def test_client(
    benchmark: BenchmarkFixture, portal: Callable[[str], Any], answered: socket.socket, size: str, stand: str
) -> None:
    kind, loop = stand.split()
    content = of_size(SIZES[size])
    running = portal(loop)
    if kind.startswith("ehlo"):
        library = "trio" if loop == "trio" else "asyncio"
        send, close = running.call(open_ehlo, kind, library, answered, content)
    else:
        pytest.importorskip(kind)
        send, close = running.call(open_aiosmtplib if kind == "aiosmtplib" else open_smtpproto, answered, content)
    benchmark.group = f"client, {MESSAGES} messages of {size} over a socket pair"
    benchmark(running.call, send)
    running.call(close)


@pytest.mark.parametrize("size", SIZES)
def test_smtplib(benchmark: BenchmarkFixture, answered: socket.socket, size: str) -> None:
    content = of_size(SIZES[size])
    client = smtplib.SMTP(local_hostname=plain.CLIENT_NAME)
    client.sock = answered
    client.getreply()

    def send() -> None:
        for _ in range(MESSAGES):
            assert client.sendmail(plain.SENDER, [plain.RECIPIENT], content) == {}

    benchmark.group = f"client, {MESSAGES} messages of {size} over a socket pair"
    benchmark(send)
    client.quit()
