"""The asyncio adapter over real sockets, on asyncio and uvloop: no sleeps, port 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import logging
import pathlib
import smtplib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from ehlo._driver import ServerDriver

LOOPS = ["asyncio"] + (["uvloop"] if importlib.util.find_spec("uvloop") else [])
MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
CONFIG = ehlo.ServerConfig("mx.example")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    factory = importlib.import_module("uvloop").new_event_loop if request.param == "uvloop" else None

    def start(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main, 30))

    return start


async def until(condition: Callable[[], bool]) -> None:
    """The loop turns until ``condition`` holds; the test's own deadline is in ``run``."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


class Client:
    """A raw client: sends octets, reads whole replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: ehlo.asyncio.Server) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    @classmethod
    async def ready(cls, server: ehlo.asyncio.Server, hello: bytes = b"EHLO client.example\r\n") -> Client:
        client = await cls.connect(server)
        assert (await client.reply()).startswith("220 mx.example")
        assert (await client.ask(hello)).startswith("250")
        return client

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def ask(self, octets: bytes) -> str:
        self.send(octets)
        return await self.reply()

    async def codes(self, count: int) -> list[str]:
        return [(await self.reply())[:3] for _ in range(count)]

    async def rest(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.close()


class Keep(ehlo.Handler):
    def __init__(self) -> None:
        self.kept: list[tuple[ehlo.Envelope, bytes]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.kept.append((envelope, content))


def test_smtplib_delivers(run: Run) -> None:
    handler = Keep()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
            client.sendmail("a@b.example", ["c@d.example", "e@f.example"], b"Subject: x\r\n\r\n.dot\r\n")

    async def main() -> ehlo.Statistics:
        async with await ehlo.asyncio.serve(handler, config=CONFIG) as server:
            assert server.addresses == (("127.0.0.1", server.port),)
            await asyncio.to_thread(send, server.port)
        assert server.connections == 0
        return server.statistics

    stats = run(main())
    ((envelope, content),) = handler.kept
    assert content == b"Subject: x\r\n\r\n.dot\r\n"  # B-TRC-13: no Return-Path, nothing added but by final delivery
    assert str(envelope.sender.path) in ("a@b.example", "<a@b.example>")
    assert len(envelope.recipients) == 2
    assert (stats.connections, stats.messages, stats.cut) == (1, 1, 0)
    assert stats.octets > len(content)


@pytest.mark.parametrize("kind", ["async", "future", "plain"])
def test_handlers_plain_and_async(run: Run, kind: str) -> None:
    class Mine(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> Any:
            assert session.peer is not None
            assert session.peer[0] == "127.0.0.1"
            assert session.local == ("127.0.0.1", server_port[0])
            answer = "550 5.1.1 no"
            if kind == "plain":
                return answer
            if kind == "future":
                future = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(future.set_result, answer)
                return future
            return self.later(answer)

        async def later(self, answer: str) -> str:
            await asyncio.to_thread(lambda: None)
            return answer

    server_port: list[int] = []

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            server_port.append(server.port)
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\nNOOP\r\nQUIT\r\n")
            assert await client.codes(5) == ["250", "550", "554", "250", "221"]
            assert await client.rest() == b""
            client.close()

    run(main())


def test_one_write_a_wakeup(run: Run) -> None:
    # RFC 2920 3.2: replies of one received group leave together
    async def main() -> None:
        async with await ehlo.asyncio.serve(Keep(), config=CONFIG) as server:
            client = await Client.ready(server)
            protocol = next(iter(server._live))
            sent: list[bytes] = []

            write = protocol._write

            def count(octets: bytes) -> None:
                sent.append(octets)
                write(octets)

            protocol._write = count
            client.send(MAIL + b"DATA\r\nx\r\n.\r\nNOOP\r\n")
            assert await client.codes(5) == ["250", "250", "354", "250", "250"]
            assert len(sent) == 1
            client.close()

    run(main())


def test_streaming_with_back_pressure(run: Run) -> None:
    # A handler that does not read stops the client; memory stays bounded.
    size = 8_000_000
    got: list[int] = []

    class Mine(ehlo.Handler):
        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str:
            await self.go.wait()
            async for chunk in body:
                got.append(len(chunk))
                await asyncio.sleep(0)
            return "250 2.0.0 kept"

    async def main() -> None:
        handler = Mine()
        async with await ehlo.asyncio.serve(handler, config=CONFIG) as server:
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            line = b"x" * 78 + b"\r\n"
            client.send(line * (size // len(line)) + b".\r\n")
            (protocol,) = server._live
            await until(lambda: bool(protocol._pauses))
            assert protocol._conn.buffered <= 3 * 65536
            assert protocol._octets < size
            assert not got
            handler.go.set()
            assert await client.reply() == "250 2.0.0 kept"
            assert sum(got) == size
            assert max(got) <= 2 * 65536
            client.close()

    run(main())


def test_a_peer_that_does_not_read_is_not_read(run: Run) -> None:
    async def main() -> None:
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG.replace(max_junk=None)) as server:
            client = await Client.ready(server)
            (protocol,) = server._live
            sock = client.writer.get_extra_info("socket")
            noops = b"HELP\r\n" * 1000
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not protocol._pauses:
                client.send(noops)
                await asyncio.sleep(0)
            assert sock is not None
            await asyncio.sleep(0)
            client.writer.transport.abort()
            await until(lambda: not server.connections)

    run(main())


def test_half_closed_clients_get_their_replies(run: Run) -> None:
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await asyncio.to_thread(lambda: None)

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
            client.writer.write_eof()
            assert await client.codes(4) == ["250", "250", "354", "250"]
            assert await client.rest() == b""
            assert server.statistics.messages == 1
            client.close()

    run(main())


def test_a_lost_connection_cancels_the_handler(run: Run) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        def __init__(self) -> None:
            self.started = asyncio.Event()
            self.gone = asyncio.Event()

        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            self.started.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError as exc:
                seen.append(str(exc))
                raise

        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            seen.append(reason)
            self.gone.set()

    async def main() -> None:
        handler = Mine()
        async with await ehlo.asyncio.serve(handler, config=CONFIG) as server:
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
            await handler.started.wait()
            (protocol,) = server._live
            protocol._transport.abort()
            await handler.gone.wait()
            client.close()
        stats = server.statistics
        assert stats.messages == stats.handler_failures == 0

    run(main())
    assert "lost" in seen[0]
    assert seen[1:] == ["eof"]


def test_handler_seconds(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    # RULES group 0: the program's own timeout is 451 4.3.0; the session goes on
    cancelled = []

    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    async def main() -> None:
        limits = ehlo.Limits(handler_seconds=0.02)
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG, limits=limits) as server:
            client = await Client.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")
            assert (await client.ask(b"NOOP\r\n")).startswith("250")
            stats = server.statistics
            assert (stats.handler_timeouts, stats.handler_failures) == (1, 1)
            client.close()

    run(main())
    assert cancelled == [True]
    assert "more than 0.02 s" in caplog.text


def test_idle_timeout(run: Run) -> None:
    # S-SES-40, RFC 5321 4.5.3.2.7
    async def main() -> None:
        config = CONFIG.replace(command_timeout=0.02)
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=config) as server:
            client = await Client.connect(server)
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.4.2")
            assert await client.rest() == b""
            assert server.statistics.idle_timeouts == 1
            client.close()

    run(main())


def test_session_seconds(run: Run) -> None:
    async def main() -> None:
        limits = ehlo.Limits(session_seconds=0.02)
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG, limits=limits) as server:
            client = await Client.connect(server)
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.7.0")
            assert await client.rest() == b""
            assert server.statistics.session_timeouts == 1
            client.close()

    run(main())


@pytest.mark.parametrize(
    "limits", [ehlo.Limits(content_seconds=0.02), ehlo.Limits(content_grace_seconds=0.0, handler_seconds=0.02)]
)
def test_content_that_drips(run: Run, limits: ehlo.Limits) -> None:
    async def main() -> None:
        async with await ehlo.asyncio.serve(Keep(), config=CONFIG, limits=limits) as server:
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\nx\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            assert (await client.reply()).startswith("421")
            assert await client.rest() == b""
            assert server.statistics.content_timeouts == 1
            client.close()

    run(main())


def test_max_connections(run: Run) -> None:
    # S-SES-03, RFC 5321 3.8
    async def main() -> None:
        limits = ehlo.Limits(max_connections=1)
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG, limits=limits) as server:
            first = await Client.ready(server)
            second = await Client.connect(server)
            assert (await second.reply()).startswith("421 4.3.2 mx.example")
            assert await second.rest() == b""
            assert server.connections == 1
            assert (await first.ask(b"QUIT\r\n")).startswith("221")
            assert await first.rest() == b""
            await until(lambda: not server.connections)
            third = await Client.ready(server)
            assert server.statistics.refused == 1
            for client in (first, second, third):
                client.close()

    run(main())


def test_max_connections_per_network(run: Run) -> None:
    async def main() -> None:
        limits = ehlo.Limits(max_connections_per_network=1, limit_loopback=True)
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG, limits=limits) as server:
            first = await Client.ready(server)
            second = await Client.connect(server)
            assert (await second.reply()).startswith("421 4.7.0 mx.example")
            assert await second.rest() == b""
            assert server.statistics.refused_network == 1
            first.close()
            await until(lambda: not server.connections)
            assert server._networks == {}
            (await Client.ready(server)).close()
            second.close()

    run(main())


def test_close_tells_the_idle_and_waits_for_the_busy(run: Run) -> None:
    # S-SES-31, RFC 5321 3.8
    async def main() -> None:
        handler = Keep()
        server = await ehlo.asyncio.serve(handler, config=CONFIG)
        idle, busy = await Client.ready(server), await Client.ready(server)
        assert (await busy.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        closing = asyncio.ensure_future(server.close(20))
        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.rest() == b""
        busy.send(b"RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n")
        assert await busy.codes(4) == ["250", "354", "250", "421"]
        assert await closing == 0
        assert await server.close() == 0
        assert len(handler.kept) == 1
        with pytest.raises(OSError, match="Errno"):
            await Client.connect(server)
        await server.serve_forever()
        idle.close()
        busy.close()

    run(main())


def test_close_cuts_at_its_deadline(run: Run) -> None:
    async def main() -> None:
        server = await ehlo.asyncio.serve(Keep(), config=CONFIG)
        client = await Client.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        patient = asyncio.ensure_future(server.close(3600))
        await asyncio.sleep(0)
        assert not patient.done()
        assert await server.close(0) == 1
        assert await patient == 1
        assert server.statistics.cut == 1
        assert server.connections == 0
        await client.rest()
        client.close()

    run(main())


def test_close_cancels_handlers_that_are_cut(run: Run) -> None:
    async def main() -> None:
        started = asyncio.Event()
        cancelled = asyncio.Event()

        class Mine(ehlo.Handler):
            async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
                started.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    cancelled.set()

        server = await ehlo.asyncio.serve(Mine(), config=CONFIG)
        client = await Client.ready(server)
        client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
        await started.wait()
        assert await server.close(0) == 1
        assert cancelled.is_set()
        assert not server._tasks
        client.close()

    run(main())


def test_handler_exception_is_answered(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            raise RuntimeError("secret")

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            client = await Client.ready(server)
            client.send(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            answer = await client.reply()
            assert answer.startswith("451 4.3.0")
            assert "secret" not in answer
            assert (await client.reply()).startswith("221")
            client.close()

    with caplog.at_level(logging.ERROR, "ehlo"):
        run(main())
    assert "RuntimeError: secret" in caplog.text


def test_a_handler_that_cancels_itself_has_failed(run: Run) -> None:
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            raise asyncio.CancelledError

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            client = await Client.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")
            client.close()

    run(main())


def test_unix_socket_and_lmtp(run: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lmtp"

    class Mine(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> list[str | None]:
            assert session.peer is None
            assert session.protocol == "LMTP"
            return [None, "550 5.1.1 no"]

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG.replace(lmtp=True), path=path) as server:
            assert server.addresses == (str(path),)
            with pytest.raises(ehlo.LocalProtocolError, match="Unix"):
                _ = server.port
            client = Client(*await asyncio.open_unix_connection(path))
            client.send(b"LHLO client.example\r\n" + MAIL + b"RCPT TO:<e@f.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
            assert await client.codes(9) == ["220", "250", "250", "250", "250", "354", "250", "550", "221"]
            assert await client.rest() == b""
            client.close()
        assert not path.exists()

    run(main())


def test_lmtp_not_on_port_25(run: Run) -> None:
    # B-LMT-10, RFC 2033 5
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="port 25"):
            await ehlo.asyncio.serve(ehlo.Handler(), port=25, config=CONFIG.replace(lmtp=True))

    run(main())


def test_misuse(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="sockets is empty"):
            await ehlo.asyncio.serve(ehlo.Handler(), sockets=[])
        with pytest.raises(ehlo.LocalProtocolError, match="not both"):
            await ehlo.asyncio.serve(ehlo.Handler(), sockets=[], path="x")
        async with await ehlo.asyncio.serve(ehlo.Handler()) as server:
            with pytest.raises(OSError, match="Errno"):
                await ehlo.asyncio.serve(ehlo.Handler(), port=server.port)

    run(main())


def test_given_sockets_and_nodelay(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG, sockets=[sock]) as server:
            assert server.port == sock.getsockname()[1]
            client = await Client.ready(server)
            (protocol,) = server._live
            served = protocol._transport.get_extra_info("socket")
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            client.close()

    run(main())


def test_the_config_is_completed_by_the_handler(run: Run) -> None:
    async def main() -> None:
        async with await ehlo.asyncio.serve(Keep(), config=CONFIG) as server:
            assert server.config.decisions == {"message"}
            assert server.config.content == "collect"
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG) as server:
            assert server.config.decisions == frozenset()
            assert server.config.content == "discard"

    run(main())


def test_nothing_is_left_of_a_session(run: Run) -> None:
    # No reference cycle: a protocol goes when its session does, without the collector.
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await asyncio.sleep(0)

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            client = await Client.ready(server)
            gc.collect()
            gc.disable()
            try:
                client.send(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
                assert await client.codes(5) == ["250", "250", "354", "250", "221"]
                await client.rest()
                client.close()
                await until(lambda: not server.connections)
                for _ in range(10):
                    await asyncio.sleep(0)
                assert [thing for thing in gc.get_objects() if isinstance(thing, ServerDriver)] == []
            finally:
                gc.enable()

    run(main())


def test_many_at_once(run: Run) -> None:
    handler = Keep()

    async def one(server: ehlo.asyncio.Server, number: int) -> None:
        client = await Client.ready(server)
        for _ in range(5):
            content = b"%d\r\n" % number * 2000
            client.send(MAIL + b"DATA\r\n" + content + b".\r\n")
            assert await client.codes(4) == ["250", "250", "354", "250"]
        client.close()

    async def main() -> None:
        async with await ehlo.asyncio.serve(handler, config=CONFIG) as server:
            await asyncio.gather(*(one(server, number) for number in range(20)))
            assert server.statistics.messages == 100

    run(main())
    assert sorted({content for _, content in handler.kept}) == sorted(b"%d\r\n" % n * 2000 for n in range(20))


def test_awaitables_of_on_disconnect_end_before_close_returns(run: Run) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            await asyncio.to_thread(lambda: None)
            seen.append(reason)

        def on_hello(self, session: ehlo.Session, hello: ehlo.Hello) -> Awaitable[None] | None:
            return None

    async def main() -> None:
        async with await ehlo.asyncio.serve(Mine(), config=CONFIG) as server:
            client = await Client.ready(server)
        await client.rest()
        client.close()

    run(main())
    assert seen == ["shutdown"]
