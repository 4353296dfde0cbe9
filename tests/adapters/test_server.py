"""What a server does, on every backend, over real sockets: no sleeps, port 0."""

from __future__ import annotations

import errno
import gc
import logging
import pathlib
import smtplib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, PATIENCE, Backend, Keep
from ehlo._server.driver import ServerDriver


@pytest.mark.tcp
def test_smtplib_delivers(backend: Backend) -> None:
    handler = Keep()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
            client.sendmail("a@b.example", ["c@d.example", "e@f.example"], b"Subject: x\r\n\r\n.dot\r\n")

    async def main() -> ehlo.Statistics:
        async with await backend.serve(handler, config=CONFIG) as server:
            assert server.addresses == (("127.0.0.1", server.port),)
            await backend.thread(send, server.port)
        assert server.connections == 0
        statistics: ehlo.Statistics = server.statistics
        return statistics

    stats = backend.run(main)
    ((envelope, content),) = handler.kept
    assert content == b"Subject: x\r\n\r\n.dot\r\n"  # B-TRC-13: no Return-Path, nothing added but by final delivery
    assert str(envelope.sender.path) in ("a@b.example", "<a@b.example>")
    assert len(envelope.recipients) == 2
    assert (stats.connections, stats.messages, stats.cut) == (1, 1, 0)
    assert stats.octets > len(content)


@pytest.mark.tcp
@pytest.mark.parametrize("kind", ["plain", "async", "at once"])
def test_handlers_plain_and_async(backend: Backend, kind: str) -> None:
    class Mine(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> Any:
            assert session.peer is not None
            assert session.peer[0] == "127.0.0.1"
            assert session.local == ("127.0.0.1", server_port[0])
            answer = "550 5.1.1 no"
            return answer if kind == "plain" else self.later(answer)

        async def later(self, answer: str) -> str:
            if kind == "async":
                await backend.thread(lambda: None)
            return answer

    server_port: list[int] = []

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            server_port.append(server.port)
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nNOOP\r\nQUIT\r\n")
            assert await client.codes(5) == ["250", "550", "554", "250", "221"]
            assert await client.rest() == b""

    backend.run(main)


def test_one_write_a_wakeup(backend: Backend) -> None:
    # RFC 2920 3.2: replies of one received group leave together
    async def main() -> None:
        async with await backend.serve(Keep(), config=CONFIG) as server:
            client = await backend.ready(server)
            (connection,) = server._live
            sent = backend.count_writes(connection)
            await client.send(MAIL + b"DATA\r\nx\r\n.\r\nNOOP\r\n")
            assert await client.codes(5) == ["250", "250", "354", "250", "250"]
            assert len(sent) == 1

    backend.run(main)


def test_streaming_with_back_pressure(backend: Backend) -> None:
    # A handler that does not read stops the client; memory stays bounded.
    size = 8_000_000
    got: list[int] = []

    class Mine(ehlo.Handler):
        def __init__(self) -> None:
            self.go = backend.event()

        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str:
            await self.go.wait()
            async for chunk in body:
                got.append(len(chunk))
                await backend.turn()
            return "250 2.0.0 kept"

    async def main() -> None:
        handler = Mine()
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            line = b"x" * 78 + b"\r\n"
            backend.start(client.send, line * (size // len(line)) + b".\r\n")
            (connection,) = server._live
            await backend.until(lambda: connection._pauses)
            assert connection._conn.buffered <= 3 * 65536
            assert connection._octets < size
            assert not got
            handler.go.set()
            assert await client.reply() == "250 2.0.0 kept"
            assert sum(got) == size
            assert max(got) <= 2 * 65536

    backend.run(main)


def test_a_body_may_be_refused_early(backend: Backend) -> None:
    # S-DAT-15: the client sends all, and then hears it
    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str:
            await backend.turn()
            return "552 5.3.4 not that"

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            backend.start(client.send, MAIL + b"DATA\r\n" + b"x\r\n" * 500_000 + b".\r\nNOOP\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            assert await client.reply() == "552 5.3.4 not that"
            assert (await client.reply()).startswith("250")

    backend.run(main)


def test_a_peer_that_does_not_read_is_not_read(backend: Backend) -> None:
    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG.replace(max_junk=None)) as server:
            client = await backend.ready(server, receive_buffer=4096)
            (connection,) = server._live
            while not connection._pauses:
                client.send_now(b"HELP\r\n" * 1000)
                await backend.turn()
            while client.send_now(b"HELP\r\n" * 1000):  # until the kernel is full
                await backend.turn()
            client.reset()
            await backend.until(lambda: not server.connections)

    backend.run(main)


def test_replies_written_by_halves_arrive_whole(backend: Backend) -> None:
    # What the kernel does not take goes out later, in order, and the reading goes on.
    replies: list[str] = []

    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG.replace(max_junk=None)) as server:
            client = await backend.ready(server, receive_buffer=4096)
            (connection,) = server._live
            commands = b"VRFY x\r\n" * 1000
            sent = 0
            while not connection._pauses:
                sent += client.send_now(commands[sent % 8 :])
                await backend.turn()
            backend.start(client.send, commands[sent % 8 : 8 if sent % 8 else 0] + b"QUIT\r\n")
            replies.extend([(await client.reply())[:3] for _ in range(sent // 8 + (sent % 8 > 0))])
            assert await client.codes(1) == ["221"]
            assert await client.rest() == b""

    backend.run(main)
    assert set(replies) == {"252"}


def test_half_closed_clients_get_their_replies(backend: Backend) -> None:
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await backend.thread(lambda: None)

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
            client.finish()
            assert await client.codes(4) == ["250", "250", "354", "250"]
            assert await client.rest() == b""
            assert server.statistics.messages == 1

    backend.run(main)


def test_a_lost_connection_cancels_the_handler(backend: Backend) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        def __init__(self) -> None:
            self.started = backend.event()
            self.gone = backend.event()

        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            self.started.set()
            try:
                await backend.forever()
            except backend.cancelled:
                seen.append("cancelled")
                raise

        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            seen.append(reason)
            await backend.turn()
            self.gone.set()

    async def main() -> None:
        handler = Mine()
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
            await handler.started.wait()
            client.reset()
            await handler.gone.wait()
        stats = server.statistics
        assert stats.messages == stats.handler_failures == 0

    backend.run(main)
    assert seen == ["cancelled", "eof"]


def test_a_handler_that_goes_on_when_its_client_is_gone_ends_at_its_next_wait(backend: Backend) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        def __init__(self) -> None:
            self.started = threading.Event()
            self.release = threading.Event()
            self.gone = backend.event()

        def work(self) -> None:
            self.started.set()
            self.release.wait(PATIENCE)

        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            try:
                await backend.thread(self.work)
                seen.append("the thread's end")
                await backend.forever()
            except backend.cancelled:
                seen.append("cancelled")
                raise

        async def on_reset(self, session: ehlo.Session) -> None:
            await backend.turn()
            seen.append("reset")

        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            seen.append(reason)
            self.gone.set()

    async def main() -> None:
        handler = Mine()
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"RSET\r\n" + MAIL + b"DATA\r\nx\r\n.\r\n")
            await backend.until(handler.started.is_set)
            client.reset()
            await backend.until(lambda: not server.connections)
            handler.release.set()
            await handler.gone.wait()
            assert server.statistics.handler_failures == 0

    backend.run(main)
    waited = ["the thread's end"] if backend.library == "trio" else []
    assert seen == ["reset", *waited, "cancelled", "eof"]


def test_handler_seconds(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    # RULES group 0: the program's own timeout is 451 4.3.0; the session goes on
    cancelled = []

    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            try:
                await backend.forever()
            except backend.cancelled:
                cancelled.append(True)
                raise

    async def main() -> None:
        limits = ehlo.Limits(handler_seconds=backend.span)
        async with await backend.serve(Mine(), config=CONFIG.replace(command_timeout=3600), limits=limits) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")
            assert (await client.ask(b"NOOP\r\n")).startswith("250")
            stats = server.statistics
            assert (stats.handler_timeouts, stats.handler_failures) == (1, 1)

    backend.run(main, timed=True)
    assert cancelled == [True]
    assert f"more than {backend.span:g} s" in caplog.text


def test_the_time_a_handler_takes_is_not_the_clients(backend: Backend) -> None:
    # S-SES-41
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            await backend.forever()

    async def main() -> None:
        # The test's own commands must not be late, even on a busy machine: they are there when the server reads first.
        limits = ehlo.Limits(handler_seconds=backend.never_late * 1.5)
        config = CONFIG.replace(command_timeout=backend.never_late)
        async with await backend.serve(Mine(), config=config, limits=limits) as server:
            client = await backend.connect(server)
            await client.send(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n")
            assert await client.codes(2) == ["220", "250"]
            assert (await client.reply()).startswith("451 4.3.0")
            assert (await client.reply()).startswith("421 4.4.2")
            stats = server.statistics
            assert (stats.handler_timeouts, stats.idle_timeouts) == (1, 1)

    backend.run(main, timed=True)


def test_idle_timeout(backend: Backend) -> None:
    # S-SES-40, RFC 5321 4.5.3.2.7
    async def main() -> None:
        config = CONFIG.replace(command_timeout=backend.span)
        async with await backend.serve(ehlo.Handler(), config=config) as server:
            client = await backend.connect(server)
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.4.2")
            assert await client.rest() == b""
            assert server.statistics.idle_timeouts == 1

    backend.run(main, timed=True)


def test_session_seconds(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(session_seconds=backend.span)
        config = CONFIG.replace(command_timeout=3600)
        async with await backend.serve(ehlo.Handler(), config=config, limits=limits) as server:
            client = await backend.connect(server)
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.7.0")
            assert await client.rest() == b""
            assert server.statistics.session_timeouts == 1

    backend.run(main, timed=True)


def test_session_seconds_let_a_transaction_end(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(session_seconds=36000, handler_seconds=backend.span)  # the latter: it looks that often
        config = CONFIG.replace(command_timeout=36000)
        async with await backend.serve(Keep(), config=config, limits=limits) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
            (connection,) = server._live
            connection._born -= 36000
            await backend.later(lambda: server.statistics.session_timeouts)
            await client.send(b"RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n")
            assert await client.codes(3) == ["250", "354", "250"]
            assert (await client.reply()).startswith("421 4.7.0")

    backend.run(main, timed=True)


@pytest.mark.parametrize("kind", ["seconds", "rate"])
def test_content_that_drips(backend: Backend, kind: str) -> None:
    async def main() -> None:
        span = backend.span
        if kind == "seconds":
            limits = ehlo.Limits(content_seconds=span)
        else:
            limits = ehlo.Limits(content_grace_seconds=0.0, handler_seconds=span, content_rate=500)
        config = CONFIG.replace(content_timeout=7200, command_timeout=7200)
        async with await backend.serve(Keep(), config=config, limits=limits) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nx\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            assert (await client.reply()).startswith("421")
            assert await client.rest() == b""
            assert server.statistics.content_timeouts == 1

    backend.run(main, timed=True)


def test_after_a_421_it_lingers(backend: Backend) -> None:
    # What is still being sent must not make the kernel throw the reply away.
    async def main() -> None:
        config = CONFIG.replace(max_messages=1)
        async with await backend.serve(Keep(), config=config) as server:
            client = await backend.ready(server)
            message = MAIL + b"DATA\r\n" + b"x\r\n" * 1000 + b".\r\n"
            sending = backend.beside(client.send, message * 200)
            replies = (await client.rest()).split(b"\r\n")
            assert replies[3].startswith(b"250")
            assert replies[-2].startswith(b"421 ")
            assert server.connections == 1  # it waits for the client's FIN
            await sending
            client.finish()
            await backend.until(lambda: not server.connections)

    backend.run(main)


def test_lingering_ends(backend: Backend) -> None:
    async def main() -> None:
        config = CONFIG.replace(command_timeout=backend.span)
        async with await backend.serve(
            ehlo.Handler(), config=config, limits=ehlo.Limits(linger_seconds=backend.span)
        ) as server:
            client = await backend.connect(server)
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.4.2")
            await backend.later(lambda: not server.connections)

    backend.run(main, timed=True)


def test_max_connections(backend: Backend) -> None:
    # S-SES-03, RFC 5321 3.8
    async def main() -> None:
        limits = ehlo.Limits(max_connections=1)
        async with await backend.serve(ehlo.Handler(), config=CONFIG, limits=limits) as server:
            first = await backend.ready(server)
            second = await backend.connect(server)
            assert (await second.reply()).startswith("421 4.3.2 mx.example")
            assert await second.rest() == b""
            assert server.connections == 1
            assert (await first.ask(b"QUIT\r\n")).startswith("221")
            assert await first.rest() == b""
            await backend.until(lambda: not server.connections)
            await backend.ready(server)
            assert server.statistics.refused == 1

    backend.run(main)


@pytest.mark.tcp
def test_max_connections_per_network(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(max_connections_per_network=1, limit_loopback=True)
        async with await backend.serve(ehlo.Handler(), config=CONFIG, limits=limits) as server:
            first = await backend.ready(server)
            second = await backend.connect(server)
            assert (await second.reply()).startswith("421 4.7.0 mx.example")
            assert await second.rest() == b""
            assert server.statistics.refused_network == 1
            first.close()
            await backend.until(lambda: not server.connections)
            assert server._open.networks == {}
            await backend.ready(server)

    backend.run(main)


def test_close_tells_the_idle_and_waits_for_the_busy(backend: Backend) -> None:
    # S-SES-31, RFC 5321 3.8
    async def main() -> None:
        handler = Keep()
        server = await backend.serve(handler, config=CONFIG)
        idle, busy = await backend.ready(server), await backend.ready(server)
        assert (await busy.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        cut: list[int] = []

        async def close() -> None:
            cut.append(await server.close(20))

        backend.start(close)
        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.rest() == b""
        await busy.send(b"RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n")
        assert await busy.codes(4) == ["250", "354", "250", "421"]
        assert await server.close() == 0
        await backend.until(lambda: cut)
        assert cut == [0]
        assert len(handler.kept) == 1
        with pytest.raises(OSError, match="Errno"):
            await backend.connect(server)
        await server.serve_forever()

    backend.run(main)


def test_close_cuts_at_its_deadline(backend: Backend) -> None:
    async def main() -> None:
        server = await backend.serve(Keep(), config=CONFIG)
        client = await backend.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        patient: list[int] = []

        async def close() -> None:
            patient.append(await server.close(3600))

        backend.start(close)
        await backend.turn()
        assert not patient
        assert await server.close(0) == 1
        await backend.until(lambda: patient)
        assert patient == [1]
        assert server.statistics.cut == 1
        assert server.connections == 0
        await client.rest()

    backend.run(main)


def test_the_deadline_of_close_comes(backend: Backend) -> None:
    async def main() -> None:
        server = await backend.serve(Keep(), config=CONFIG.replace(command_timeout=36000))
        client = await backend.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        assert await server.close(backend.span) == 1

    backend.run(main, timed=True)


def test_cancelling_close_does_not_stop_the_closing(backend: Backend) -> None:
    async def main() -> None:
        server = await backend.serve(Keep(), config=CONFIG)
        client = await backend.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        cancel = backend.start(server.close, 3600)
        await backend.turn()
        await backend.turn()
        cancel()
        await client.send(b"RSET\r\n")
        assert await client.codes(2) == ["250", "421"]
        await server.serve_forever()
        assert server.statistics.cut == 0

    backend.run(main)


def test_close_cancels_handlers_that_are_cut(backend: Backend) -> None:
    async def main() -> None:
        started = backend.event()
        cancelled = backend.event()

        class Mine(ehlo.Handler):
            async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
                started.set()
                try:
                    await backend.forever()
                finally:
                    cancelled.set()

        before = backend.tasks()
        server = await backend.serve(Mine(), config=CONFIG)
        client = await backend.ready(server)
        await client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
        await started.wait()
        assert await server.close(0) == 1
        assert cancelled.is_set()
        await backend.until(lambda: backend.tasks() == before)
        assert server.statistics.handler_failures == 0

    backend.run(main)


def test_handler_exception_is_answered(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            raise RuntimeError("secret")

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            answer = await client.reply()
            assert answer.startswith("451 4.3.0")
            assert "secret" not in answer
            assert (await client.reply()).startswith("221")

    with caplog.at_level(logging.ERROR, "ehlo"):
        backend.run(main)
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.tcp
def test_unix_socket_and_lmtp(backend: Backend, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lmtp"

    class Mine(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> list[str | None]:
            assert session.peer is None
            assert session.local == str(path)
            assert session.protocol == "LMTP"
            return [None, "550 5.1.1 no"]

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))  # what a server left behind that was killed
        async with await backend.serve(Mine(), config=CONFIG.replace(lmtp=True), path=path) as server:
            assert server.addresses == (str(path),)
            with pytest.raises(ehlo.LocalProtocolError, match="Unix"):
                _ = server.port
            client = await backend.connect(server)
            await client.send(
                b"LHLO client.example\r\n" + MAIL + b"RCPT TO:<e@f.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
            )
            assert await client.codes(9) == ["220", "250", "250", "250", "250", "354", "250", "550", "221"]
            assert await client.rest() == b""
        assert not path.exists()

    backend.run(main)


@pytest.mark.tcp
def test_misuse(backend: Backend, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="port 25"):  # B-LMT-10, RFC 2033 5
            await backend.serve(ehlo.Handler(), port=25, config=CONFIG.replace(lmtp=True))
        with pytest.raises(ehlo.LocalProtocolError, match="sockets is empty"):
            await backend.serve(ehlo.Handler(), config=CONFIG, sockets=[])
        with pytest.raises(ehlo.LocalProtocolError, match="not both"):
            await backend.serve(ehlo.Handler(), config=CONFIG, sockets=[], path="x")
        with pytest.raises(ehlo.LocalProtocolError, match="must be an object"):
            await backend.serve(ehlo.Handler)
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="in use"):
            await backend.serve(ehlo.Handler(), path=tmp_path / "file", config=CONFIG)
        with pytest.raises(socket.gaierror):
            await backend.serve(ehlo.Handler(), "256.256.256.256", config=CONFIG)
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:
            with pytest.raises(OSError, match="in use"):
                await backend.serve(ehlo.Handler(), port=server.port, config=CONFIG)

    backend.run(main)


@pytest.mark.tcp
def test_several_hosts_and_a_shared_port(backend: Backend) -> None:
    async def main() -> None:
        hosts = ["127.0.0.1", "127.0.0.2"]
        async with await backend.serve(ehlo.Handler(), hosts, config=CONFIG, reuse_port=True) as server:
            assert [address[0] for address in server.addresses] == hosts
            for address in server.addresses:
                with socket.create_connection(address, 5):
                    pass
            async with await backend.serve(ehlo.Handler(), port=server.port, config=CONFIG, reuse_port=True) as other:
                assert other.port == server.port

    backend.run(main)


@pytest.mark.tcp
def test_given_sockets_and_nodelay(backend: Backend) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with await backend.serve(ehlo.Handler(), config=CONFIG, sockets=[sock]) as server:
            assert server.port == sock.getsockname()[1]
            client = await backend.ready(server)
            (connection,) = server._live
            served = connection._transport.get_extra_info("socket")
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            client.close()

    backend.run(main)


def test_the_config_is_completed_by_the_handler(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(max_connections=3)
        async with await backend.serve(Keep(), config=CONFIG, limits=limits) as server:
            assert server.config.decisions == {"message"}
            assert server.config.content == "collect"
            assert server.limits is limits
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:
            assert server.config.decisions == frozenset()
            assert server.config.content == "discard"

    backend.run(main)


def test_nothing_is_left_of_a_session(backend: Backend) -> None:
    # No reference cycle: a connection goes when its session does, without the collector.
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await backend.turn()

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            gc.collect()
            gc.disable()
            try:
                await client.send(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
                assert await client.codes(5) == ["250", "250", "354", "250", "221"]
                await client.rest()
                client.close()
                await backend.until(lambda: not server.connections)
                for _ in range(10):
                    await backend.turn()
                assert [thing for thing in gc.get_objects() if isinstance(thing, ServerDriver)] == []
            finally:
                gc.enable()

    backend.run(main)


def test_many_at_once(backend: Backend) -> None:
    handler = Keep()

    async def main() -> None:
        done: list[int] = []

        async def one(number: int) -> None:
            client = await backend.ready(server)
            for _ in range(5):
                content = b"%d\r\n" % number * 2000
                await client.send(MAIL + b"DATA\r\n" + content + b".\r\n")
                assert await client.codes(4) == ["250", "250", "354", "250"]
            done.append(number)

        async with await backend.serve(handler, config=CONFIG) as server:
            for number in range(20):
                backend.start(one, number)
            await backend.until(lambda: len(done) == 20)
            assert server.statistics.messages == 100

    backend.run(main)
    assert sorted({content for _, content in handler.kept}) == sorted(b"%d\r\n" % n * 2000 for n in range(20))


@pytest.mark.parametrize(
    "hook", ["on_connect", "on_hello", "on_mail", "on_message", "on_body", "on_reset", "on_disconnect"]
)
def test_a_handler_may_close_its_server(backend: Backend, hook: str) -> None:
    """It waits for its own end. It is cut as any other, or has a second where the session does not wait for it."""
    seen: list[str] = []

    async def main() -> None:
        async def close(*_: object) -> None:
            seen.append("begun")
            try:
                await server.close(0)
            except backend.cancelled:
                seen.append("cancelled")
                raise

        methods: dict[str, Any] = {hook: close}
        if hook not in ("on_message", "on_body"):
            methods["on_message"] = lambda *_: None
        server = await backend.serve(SimpleNamespace(**methods), limits=ehlo.Limits(linger_seconds=0))
        client = await backend.connect(server)
        await client.send(b"EHLO c.example\r\n" + MAIL + b"RSET\r\n" + MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
        last = (await client.rest()).splitlines()[-1]
        assert last.startswith(b"221 2.0.0" if hook == "on_disconnect" else b"421 4.3.2")
        await server.close()
        await backend.until(lambda: len(seen) == 2)
        assert server.connections == 0

    backend.run(main, timed=hook in ("on_reset", "on_disconnect"))  # these have a second
    assert seen == ["begun", "cancelled"]


@pytest.mark.tcp
def test_a_reset_behind_a_command_ends_that_connection_alone(backend: Backend) -> None:
    """What came is read, and the reply cannot be sent. Another connection gets the number of the socket at once."""
    pairs: list[tuple[str, object]] = []

    class Mine(ehlo.Handler):
        def on_connect(self, session: ehlo.Session) -> None:
            pairs.append(("connect", session.peer))

        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            pairs.append(("disconnect", session.peer))

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            healthy = await backend.ready(server)
            for commands in (b"NOOP\r\n", b"NOOP\r\nQUIT\r\n", MAIL, b"NO", b"EHLO x\r\n" * 3) * 5:
                one, two = await backend.ready(server), await backend.ready(server)
                await one.send(commands)
                await two.send(commands)
                one.reset()
                two.reset()
                late = await backend.connect(server)  # in the same turn as the ends, where that can be
                await healthy.send(b"NOOP\r\n")
                assert (await healthy.reply()).startswith("250")
                assert (await late.reply()).startswith("220")
                assert (await late.ask(b"QUIT\r\n")).startswith("221")
            await backend.until(lambda: server.connections == 1)
            assert (await healthy.ask(b"QUIT\r\n")).startswith("221")

    backend.run(main)
    ends = Counter(pairs)
    assert {("disconnect", peer): count for (what, peer), count in ends.items() if what == "connect"} == {
        key: count for key, count in ends.items() if key[0] == "disconnect"
    }


@pytest.mark.tcp
def test_a_listening_socket_that_the_program_has_closed(backend: Backend) -> None:
    """The server closes all the same, and does not touch a connection that has the number of the socket now."""

    async def main() -> None:
        first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        server = await backend.serve(ehlo.Handler(), sockets=[first, second], config=CONFIG)
        first.close()
        client = await backend.connect(SimpleNamespace(addresses=server.addresses[1:]))
        assert (await client.reply()).startswith("220")
        closing = backend.beside(server.close, 20.0)
        assert (await client.reply()).startswith("421 4.3.2")
        client.close()
        await closing
        assert second.fileno() == -1

    backend.run(main)


@pytest.mark.tcp
def test_a_socket_that_the_system_does_not_watch(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As epoll_ctl(2) says if there are too many (ENOSPC): this connection ends, and the next is served."""
    from ehlo._io.watch import EpollWatch

    add, failures = EpollWatch.add, [OSError(errno.ENOSPC, "no space")]

    def fails_once(watch: EpollWatch, fd: int, events: int, call: Any, conn: Any = None) -> None:
        if conn is not None and failures:
            raise failures.pop()
        add(watch, fd, events, call, conn)

    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:
            monkeypatch.setattr(EpollWatch, "add", fails_once)
            client = await backend.connect(server)
            await client.rest()
            await backend.until(lambda: not server.connections)
            assert not failures
            client = await backend.ready(server)
            assert (await client.ask(b"QUIT\r\n")).startswith("221")

    backend.run(main)


def test_awaitables_of_on_disconnect_end_before_close_returns(backend: Backend) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            await backend.thread(lambda: None)
            seen.append(reason)

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
        await client.rest()

    backend.run(main)
    assert seen == ["shutdown"]


def test_a_server_is_reconfigured_for_later_connections(backend: Backend) -> None:
    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG, limits=ehlo.Limits(max_connections=1)) as server:
            old = await backend.ready(server)
            server.reconfigure(CONFIG.replace(max_message_size=5000), ehlo.Limits(max_connections=2))
            assert server.limits.max_connections == 2
            new = await backend.ready(server)
            assert "SIZE 5000" in await new.ask(b"EHLO c.example\r\n")
            assert "SIZE 5000" not in await old.ask(b"EHLO c.example\r\n")
            with pytest.raises(ehlo.LocalProtocolError, match="hostname cannot change; start another server"):
                server.reconfigure(CONFIG.replace(hostname="other.example"))
            assert server.config.hostname == "mx.example"

    backend.run(main)
