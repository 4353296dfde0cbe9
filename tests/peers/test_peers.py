"""Mail from and to programs we did not write, compared octet by octet.

Each test runs against ``ehlo.asyncio.serve`` and ``ehlo.trio.serve`` with a handler that collects, and against
``ehlo sink --maildir``.
A program that is not installed is a skipped test; ``.ci/run`` installs them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import os
import queue
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import ehlo
import ehlo.asyncio
from corpus import CORPUS, as_lines
from programs import PATIENCE, await_listener, free_port, postfix, program, run

SENDER = "sender@client.example"
RECIPIENT = "recipient@server.example"

HEADER = b"""\
From: <sender@client.example>\r
To: <recipient@server.example>\r
Subject: octet by octet\r
Date: Tue, 24 Nov 2026 03:00:00 +0000\r
Message-ID: <1@client.example>\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
"""
BODY = b"".join(
    line + b"\r\n"
    for line in [
        b".",
        b"..",
        b".one dot leads",
        b"a dot ends.",
        b"",
        b"From the start of a line",
        "Grüße, \N{SNOWMAN}".encode(),
        b"trailing blanks \t ",
        b"x" * 900,
        b"MAIL FROM:<not@a.command>",
        b".",
        b"QUIT",
        b"",
        b"and that is all",
    ]
)
CONTENT = HEADER + BODY
EMPTY_LINE = b"\r\n"
"""What swaks and smtp-source send between the content and the dot."""


# ---- where the mail goes ------------------------------------------------------------------------


@dataclass
class Received:
    sender: str
    content: bytes


Started: TypeAlias = concurrent.futures.Future[tuple[int, Callable[[], object]]]
"""The port of a server that runs in a thread, and what stops it."""


@dataclass
class Receiver:
    """A running server. ``next()`` waits for a message."""

    port: int
    next: Callable[[], Received]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


async def on_asyncio(started: Started, handler: object, config: ehlo.ServerConfig) -> None:
    async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0, config=config) as server:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        started.set_result((server.port, lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()


async def on_trio(started: Started, handler: object, config: ehlo.ServerConfig) -> None:
    import trio

    import ehlo.trio

    async with trio.open_nursery() as nursery:
        serve = partial(ehlo.trio.serve, handler, "127.0.0.1", 0, config=config)
        async with await nursery.start(serve) as server:
            stop, token = trio.Event(), trio.lowlevel.current_trio_token()
            started.set_result((server.port, lambda: token.run_sync_soon(stop.set)))
            await stop.wait()


@contextlib.contextmanager
def served(loop: str = "asyncio", *, lmtp: bool = False) -> Iterator[Receiver]:
    messages: queue.SimpleQueue[Received] = queue.SimpleQueue()

    class Collect(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            messages.put(Received(str(envelope.sender.path), content))

    started: Started = concurrent.futures.Future()
    config = ehlo.ServerConfig("server.example", lmtp=lmtp)

    def work() -> None:
        try:
            if loop == "trio":
                pytest.importorskip("trio").run(on_trio, started, Collect(), config)
            else:
                asyncio.run(on_asyncio(started, Collect(), config))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=work)
    thread.start()
    port, stop = started.result(PATIENCE)
    try:
        yield Receiver(port, lambda: messages.get(timeout=PATIENCE))
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def sink(*, lmtp: bool = False) -> Iterator[Receiver]:
    with tempfile.TemporaryDirectory() as directory:
        maildir = Path(directory, "mail")
        command = [sys.executable, "-m", "ehlo", "sink", "--port", "0", "--maildir", str(maildir)]
        with subprocess.Popen([*command, *["--lmtp"][: int(lmtp)]], stdout=subprocess.PIPE, text=True) as process:
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()

            def read() -> None:
                for line in process.stdout or ():
                    lines.put(line)

            reader = threading.Thread(target=read)
            reader.start()
            seen: set[str] = set()

            def take() -> Received:
                lines.get(timeout=PATIENCE)  # one line a message, written when it is stored
                new = min({path.name for path in Path(maildir, "new").iterdir()} - seen)
                seen.add(new)
                return unwrap(Path(maildir, "new", new).read_bytes())

            try:
                port = re.search(r"127\.0\.0\.1:(\d+)", lines.get(timeout=PATIENCE))
                assert port, "the first line tells where the sink listens"
                yield Receiver(int(port[1]), take)
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
                reader.join(PATIENCE)


def unwrap(stored: bytes) -> Received:
    """Take off what final delivery puts on: Return-Path and Received (RFC 5321 4.4), Delivered-To, and an empty line
    where the content has no header section (FAULTS A7).
    """
    text = stored.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    fields = rb"Return-Path: <(.*?)>\r\nReceived: .*?\r\n(?:Delivered-To: [^\r]*\r\n)+(?:\r\n)?(?![ \t])(.*)"
    found = re.fullmatch(fields, text, re.DOTALL)
    assert found, text[:500]
    return Received(found[1].decode(), found[2])


@pytest.fixture(params=[served, partial(served, "trio"), sink], ids=["serve", "serve on trio", "sink"])
def start(request: pytest.FixtureRequest) -> Callable[..., contextlib.AbstractContextManager[Receiver]]:
    chosen: Callable[..., contextlib.AbstractContextManager[Receiver]] = request.param
    return chosen


@pytest.fixture
def receiver(start: Callable[..., contextlib.AbstractContextManager[Receiver]]) -> Iterator[Receiver]:
    with start() as receiver:
        yield receiver


# ---- who sends it -------------------------------------------------------------------------------


def test_smtplib(receiver: Receiver) -> None:
    with smtplib.SMTP("127.0.0.1", receiver.port, timeout=PATIENCE) as client:
        for _ in range(2):
            assert client.sendmail(SENDER, [RECIPIENT, "second@server.example"], CONTENT, ["BODY=8BITMIME"]) == {}
            assert receiver.next() == Received(SENDER, CONTENT)


def test_a_handler_gets_what_was_sent_and_no_trace_of_ours() -> None:
    # B-TRC-13, RFC 5321 4.4: a relay neither adds Return-Path nor looks for it.
    content = b"Return-Path: <not@the.envelope>\r\nReceived: from a by b; Tue, 24 Nov 2026 03:00:00 +0000\r\n" + CONTENT
    with served() as receiver, smtplib.SMTP("127.0.0.1", receiver.port, timeout=PATIENCE) as client:
        assert client.sendmail(SENDER, [RECIPIENT], content) == {}
        assert receiver.next() == Received(SENDER, content)


def test_smtplib_lmtp(start: Callable[..., contextlib.AbstractContextManager[Receiver]]) -> None:
    with start(lmtp=True) as receiver, smtplib.LMTP("127.0.0.1", receiver.port, timeout=PATIENCE) as client:
        assert client.sendmail(SENDER, [RECIPIENT], CONTENT) == {}
        assert receiver.next() == Received(SENDER, CONTENT)


def test_aiosmtplib(receiver: Receiver) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")

    async def send() -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=receiver.port, timeout=PATIENCE, start_tls=False
        ) as client:
            errors, _ = await client.sendmail(SENDER, [RECIPIENT], CONTENT)
            assert errors == {}

    asyncio.run(send())
    assert receiver.next() == Received(SENDER, CONTENT)


def test_swaks(receiver: Receiver, tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.write_bytes(CONTENT)
    options = ["--server", receiver.address, "--from", SENDER, "--to", RECIPIENT, "--data", f"@{message}"]
    run(program("swaks"), *options, "--pipeline")
    assert receiver.next() == Received(SENDER, CONTENT + EMPTY_LINE)


def test_curl(receiver: Receiver) -> None:
    options = ["--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", "-"]
    run(program("curl"), "-sS", *options, f"smtp://{receiver.address}/client.example", stdin=CONTENT)
    assert receiver.next() == Received(SENDER, CONTENT)


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
def test_smtp_source(
    start: Callable[..., contextlib.AbstractContextManager[Receiver]], tmp_path: Path, lmtp: bool
) -> None:
    smtp_source = program("smtp-source")
    message = tmp_path / "message"
    message.write_bytes(CONTENT.replace(b"\r\n", b"\n"))  # it makes CRLF of each, and doubles the dots
    with start(lmtp=lmtp) as receiver:
        options = ["-L"] if lmtp else []
        options += ["-d", "-s", "1", "-m", "5", "-f", SENDER, "-t", RECIPIENT, "-F", str(message)]
        run(smtp_source, *options, receiver.address)
        assert [receiver.next() for _ in range(5)] == [Received(SENDER, CONTENT + EMPTY_LINE)] * 5


def test_smtp_source_many_sessions_at_once() -> None:
    smtp_source = program("smtp-source")
    with served() as receiver:
        run(smtp_source, "-s", "20", "-m", "100", "-l", "20000", "-f", SENDER, "-t", RECIPIENT, receiver.address)
        messages = [receiver.next() for _ in range(100)]
    bodies = {message.content.partition(b"\r\n\r\n")[2] for message in messages}
    (body,) = bodies  # the headers have each its own Message-Id
    assert len(body) >= 20000
    assert body.endswith(b"X\r\n")


# ---- a running Postfix relays -------------------------------------------------------------------


def test_postfix_relays(receiver: Receiver) -> None:
    with (
        postfix(receiver.port) as server,
        smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=PATIENCE) as client,
    ):
        assert client.sendmail(SENDER, [RECIPIENT], CONTENT, ["BODY=8BITMIME"]) == {}
        received = receiver.next()
        assert received.sender == SENDER
        added = received.content.removesuffix(CONTENT)
        assert added != received.content, received.content
        assert re.fullmatch(rb"Received: from client\.example .*\r\n(?:[ \t].*\r\n)*", added), added


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_our_client_through_tls_to_postfix(receiver: Receiver, backend: str) -> None:
    trustme = pytest.importorskip("trustme")
    pytest.importorskip(backend)
    adapter, loop = importlib.import_module(f"ehlo.{backend}"), importlib.import_module(backend)
    ca = trustme.CA()
    context = ssl.create_default_context()
    ca.configure_trust(context)

    async def main(port: int) -> None:
        options = {"tls": "required", "ssl_context": context, "server_hostname": "relay.example"}
        async with adapter.connect("127.0.0.1", port, **options) as client:
            assert client.is_tls
            assert (await client.send(CONTENT, SENDER, RECIPIENT)).all_accepted

    chain = ca.issue_cert("relay.example").private_key_and_cert_chain_pem.bytes()
    with postfix(receiver.port, chain) as server:
        loop.run(*([main(server.port)] if backend == "asyncio" else [main, server.port]))
        received = receiver.next()
    assert received.sender == SENDER
    assert received.content.endswith(CONTENT)


# ---- our client sends --------------------------------------------------------------------------------


def send_ours(port: int, contents: list[bytes], **settings: object) -> None:
    """Each content twice: one send after another, then all of them in a pipeline."""

    async def main() -> None:
        config = ehlo.ClientConfig("client.example", **settings)  # type: ignore[arg-type]
        async with ehlo.asyncio.connect("127.0.0.1", port, config=config) as client:
            for content in contents:
                assert (await client.send(content, SENDER, RECIPIENT)).all_accepted
            items = [(content, SENDER, [RECIPIENT]) for content in contents]
            results = [result async for result in client.send_many(items)]
            assert [result.all_accepted for result in results] == [True] * len(contents)

    asyncio.run(main())


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_our_client_to_our_server(
    start: Callable[..., contextlib.AbstractContextManager[Receiver]], chunking: bool, lmtp: bool
) -> None:
    with start(lmtp=lmtp) as receiver:
        send_ours(receiver.port, list(CORPUS.values()), lmtp=lmtp, chunking=chunking)
        received = [receiver.next() for _ in range(2 * len(CORPUS))]
    assert sorted(received, key=repr) == sorted([Received(SENDER, as_lines(c)) for c in CORPUS.values()] * 2, key=repr)


def test_our_client_to_aiosmtpd() -> None:
    controller = pytest.importorskip("aiosmtpd.controller")
    received: list[bytes] = []

    class Collect:
        async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802
            assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [RECIPIENT])
            received.append(envelope.content)
            return "250 2.0.0 kept"

    # It refuses lines of more than 1000 octets (RFC 5321 4.5.3.1.6).
    contents = [content for name, content in CORPUS.items() if name != "long line"]
    server = controller.Controller(Collect(), "127.0.0.1", 0, server_hostname="server.example")
    server.port = free_port()
    server.start()
    try:
        send_ours(server.port, contents)
    finally:
        server.stop()
    assert received == [as_lines(content) for content in contents] * 2


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
def test_our_client_to_smtp_sink(lmtp: bool) -> None:
    smtp_sink = program("smtp-sink")
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        options = [*user, *["-L"][: int(lmtp)], "-d", f"{directory}/mail."]
        with subprocess.Popen([smtp_sink, *options, f"127.0.0.1:{port}", "10"], stderr=subprocess.PIPE) as process:
            try:
                await_listener(port)
                send_ours(port, list(CORPUS.values()), lmtp=lmtp)
                dumps = [path.read_bytes() for path in Path(directory).iterdir()]
            finally:
                process.terminate()
    received = []
    for dump in dumps:
        # Lines of its own before the mail, and an LF behind it; it writes LF for CRLF.
        found = re.fullmatch(rb"X-Client-Addr: .*?\nReceived: .*?\n(?!\t)(.*)\n", dump, re.DOTALL)
        assert found, dump[:500]
        assert b"X-Mail-Args: <sender@client.example>" in dump
        assert b"X-Rcpt-Args: <recipient@server.example>" in dump
        received.append(found[1].replace(b"\n", b"\r\n"))
    assert sorted(received) == sorted([as_lines(content) for content in CORPUS.values()] * 2)


def test_our_client_to_postfix(receiver: Receiver) -> None:
    # Postfix puts an empty line before a body without header, and folds long lines: so a header, and none of these.
    contents = [
        CONTENT,
        HEADER,
        HEADER + CORPUS["no final newline"],
        HEADER + CORPUS["bare LF"],
        HEADER + CORPUS["bare CR"],
        HEADER + CORPUS["lone dots"],
        HEADER + CORPUS["8 bit"],
        HEADER + CORPUS["smuggling"],
        HEADER + CORPUS["large, a dot late"],
    ]
    with postfix(receiver.port) as server:
        send_ours(server.port, contents)
        received = [receiver.next() for _ in range(2 * len(contents))]
    bodies = []
    for one in received:
        assert one.sender == SENDER
        added, mark, rest = one.content.partition(b"From: <sender@client.example>\r\n")
        assert re.fullmatch(rb"Received: from client\.example .*\r\n(?:[ \t].*\r\n)*", added), added
        bodies.append(mark + rest)
    assert sorted(bodies) == sorted([as_lines(content) for content in contents] * 2)
