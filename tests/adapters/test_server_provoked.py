"""Handlers that cannot be meant, clients that drip, and what is said before a session begins (FAULTS A1, B2, B4, …)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ehlo
from authority import Authority
from backends import CONFIG, MAIL, Backend, Keep
from ehlo._sockets import acceptor

# ---- FAULTS A1 -----------------------------------------------------------------------------------


class Misspelt(ehlo.Handler):
    def on_mesage(self, session: object, envelope: object, content: bytes) -> None: ...


class Foreign:
    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        return "250 OK"


class TooFewArguments(ehlo.Handler):
    def on_message(self, session: object, envelope: object) -> None: ...  # type: ignore[override]


REFUSED = {
    "misspelt": (Misspelt(), r"Misspelt\.on_mesage is no method of a handler: did you mean on_message\?"),
    "nothing": (object(), "neither on_message nor on_body"),
    "a dict": ({}, "neither on_message nor on_body"),
    "None": (None, "neither on_message nor on_body"),
    "another library's": (Foreign(), "neither on_message nor on_body"),
    "too few arguments": (TooFewArguments(), r"TooFewArguments\.on_message cannot be called with \(session, envelope"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_faults_a1_a_handler_that_would_lose_mail_is_refused(backend: Backend, name: str) -> None:
    handler, why = REFUSED[name]

    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match=why):
            await backend.serve(handler, config=ehlo.ServerConfig("mx.example"))

    backend.run(main)


def test_faults_a1_to_throw_mail_away_has_to_be_said(backend: Backend) -> None:
    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG.replace(content="discard")) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"QUIT\r\n")).startswith("221")

    backend.run(main)


# ---- waits ---------------------------------------------------------------------------------------


@pytest.mark.tcp
def test_faults_b2_starttls_behind_much_that_a_handler_held_up(backend: Backend, authority: Authority) -> None:
    """The handshake starts although reading had stopped: the octets of the client's hello are still to be read."""

    class Slow(ehlo.Handler):
        async def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            await backend.turn()
            return "252 2.0.0 perhaps"

    commands = b"VRFY " + b"x" * 495 + b"\r\n"
    flood = b"EHLO c.example\r\n" + commands * 140 + b"STARTTLS\r\n"
    config = CONFIG.replace(tls="starttls", max_junk=None, max_errors=None)

    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(flood)
            file = sock.makefile("rb")
            while not (line := file.readline()).startswith(b"220 2.0.0"):
                assert line, "the server closed"
            with authority.client().wrap_socket(sock, server_hostname="mx.example") as tls:
                tls.sendall(b"EHLO c.example\r\nQUIT\r\n")
                return tls.recv(4096)

    async def main() -> None:
        async with await backend.serve(Slow(), config=config, tls=authority.server()) as server:
            assert (await backend.thread(talk, server.port)).startswith(b"250-")

    backend.run(main)


@pytest.mark.parametrize("what", ["a PROXY header", "a command"])
def test_faults_b4_a_span_is_for_the_whole(backend: Backend, what: str) -> None:
    """An octet now and then makes it no longer."""
    span = backend.span
    if what == "a PROXY header":
        config, octets = CONFIG.replace(proxy=True, proxy_timeout=span), b"PROXY TCP4 192.0.2.1 198.51.100.1 1 25"
    else:
        config, octets = CONFIG.replace(command_timeout=span), b"NOOP " + b"x" * 400

    async def main() -> None:
        async with await backend.serve(
            Keep(), config=config, trusted=["127.0.0.1"], limits=ehlo.Limits(linger_seconds=0)
        ) as server:
            client = await backend.connect(server)
            if what == "a command":
                await client.reply()
            await backend.begun(lambda: server.connections)
            sent = iter(octets)

            def closed() -> bool:
                with contextlib.suppress(OSError):  # it is closed
                    client.send_now(bytes([next(sent, 120)]))
                return not server.connections

            await backend.later(closed)

    if backend.memory is not None and what == "a PROXY header":
        pytest.skip("a pair of sockets has no address to trust")
    backend.run(main, timed=True)


def test_faults_b5_refusals_end_the_session(backend: Backend) -> None:
    async def main() -> None:
        config = CONFIG.replace(max_recipients=10, max_refusals=20, max_errors=5)
        async with await backend.serve(Keep(), config=config) as server:
            client = await backend.ready(server)
            await client.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<c@d.example>\r\n" * 100)
            codes = [line[:3] for line in (await client.rest()).decode().splitlines()]
            assert codes == ["250"] * 11 + ["452"] * 25 + ["421"]

    backend.run(main)


# ---- the beginning and the end of a session ------------------------------------------------------


@pytest.mark.tcp
@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_network"])
def test_faults_c3_nothing_in_clear_on_a_port_of_tls(backend: Backend, authority: Authority, limit: str) -> None:
    async def main() -> None:
        limits = ehlo.Limits(**{limit: 1}, limit_loopback=True)
        config = CONFIG.replace(tls="implicit")
        async with await backend.serve(Keep(), config=config, tls=authority.server(), limits=limits) as server:
            first = await backend.connect(server)
            await backend.until(lambda: server.connections)
            second = await backend.connect(server)
            assert await second.rest() == b""
            first.close()

    backend.run(main)


class Pairs(ehlo.Handler):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_connect(self, session: ehlo.Session) -> None:
        self.calls.append("connect")

    def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
        self.calls.append("disconnect")


@pytest.mark.parametrize("front", ["implicit TLS", "PROXY", "none"])
def test_faults_d9_connect_and_disconnect_come_in_pairs(backend: Backend, authority: Authority, front: str) -> None:
    handler = Pairs()
    options: dict[str, Any] = {"config": CONFIG}
    if front == "implicit TLS":
        options = {"config": CONFIG.replace(tls="implicit"), "tls": authority.server()}
    elif front == "PROXY":
        options = {"config": CONFIG.replace(proxy=True), "trusted": ["127.0.0.1"]}

    async def main() -> None:
        async with await backend.serve(handler, **options) as server:
            client = await backend.connect(server)
            if front == "none":
                await client.reply()
            await backend.until(lambda: server.connections or front == "PROXY")
            client.close()
            await backend.until(lambda: not server.connections)

    backend.run(main)
    assert handler.calls == (["connect", "disconnect"] if front == "none" else [])


@pytest.mark.parametrize("later", [False, True])
def test_faults_c8_a_handler_that_fails_at_connect(
    backend: Backend, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Keep):
        def on_connect(self, session: ehlo.Session) -> Any:
            async def fail() -> None:
                await backend.turn()
                raise RuntimeError("broken")

            if later:
                return fail()
            raise RuntimeError("broken")

    async def main() -> None:
        async with await backend.serve(Broken(), config=CONFIG) as server:
            client = await backend.connect(server)
            assert (await client.rest()).startswith(b"421 Local error")

    with caplog.at_level(logging.ERROR, "ehlo"):
        backend.run(main)


@pytest.mark.tcp
def test_faults_d8_the_name_of_a_client_that_resets_at_once(backend: Backend) -> None:
    peers: list[object] = []

    class Watch(Keep):
        def on_connect(self, session: ehlo.Session) -> None:
            peers.append(session.peer)

    async def main() -> None:
        async with await backend.serve(Watch(), config=CONFIG) as server:
            for _ in range(20):
                client = await backend.connect(server)
                client.reset()
            await backend.until(lambda: server.statistics.connections == 20 and not server.connections)

    backend.run(main)
    assert peers
    assert None not in peers


def there(path: str) -> bool:
    return os.path.exists(path)


@pytest.mark.tcp
def test_faults_d10_a_unix_socket_is_not_taken_from_who_lives(backend: Backend, tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def main() -> None:
        async with await backend.serve(Keep(), path=path, config=CONFIG) as first:
            with pytest.raises(OSError, match="another server listens there") as caught:
                await backend.serve(Keep(), path=path, config=CONFIG)
            assert caught.value.errno == errno.EADDRINUSE
            os.rename(path, f"{path}.old")
            async with await backend.serve(Keep(), path=path, config=CONFIG) as second:
                await first.close()
                assert there(path), "the first server removes its own file only"
                assert second.connections == 0
            assert not there(path)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        async with await backend.serve(Keep(), path=path, config=CONFIG):
            assert there(path)

    backend.run(main)


@pytest.mark.tcp
def test_faults_b10_no_descriptor_for_one_more(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line and a counter; nothing is accepted for a moment, and then it goes on."""
    left = [3]

    def accept(plainly: Callable[[], Any]) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return plainly()

    monkeypatch.setattr("ehlo._server.listener._FULL_WAIT", 0.001)
    monkeypatch.setattr("ehlo._io.listener.acceptor", lambda sock: partial(accept, acceptor(sock)))

    async def main() -> None:
        async with await backend.serve(Keep(), config=CONFIG) as server:
            client = await backend.connect(server)
            assert (await client.reply()).startswith("220")
            assert server.statistics.accept_failures == 3

    with caplog.at_level(logging.ERROR, "ehlo"):
        backend.run(main)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["cannot accept a connection: Too many open files; trying again in 0.001 s"] * 3
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.tcp
def test_no_descriptor_while_two_sockets_have_clients(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are ready in the same turn. The server rests once, and then accepts at both."""
    full = True

    def accept(plainly: Callable[[], Any]) -> Any:
        if full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return plainly()

    monkeypatch.setattr("ehlo._server.listener._FULL_WAIT", 0.001)
    monkeypatch.setattr("ehlo._io.listener.acceptor", lambda sock: partial(accept, acceptor(sock)))

    async def main() -> None:
        nonlocal full
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        async with await backend.serve(Keep(), sockets=listeners, config=CONFIG) as server:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection(address)) for address in server.addresses]
                await backend.until(lambda: server.statistics.accept_failures >= 5)
                full = False
                await backend.until(lambda: server.connections == len(clients))

    with caplog.at_level(logging.ERROR, "ehlo"):
        backend.run(main)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.tcp
def test_a_listening_socket_that_the_system_does_not_watch_is_tried_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a rest, the second of two. The server listens again later, and it ends as ever."""
    accepts = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]
    watches = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), None]

    def accept(plainly: Callable[[], Any]) -> Any:
        if accepts:
            raise accepts.pop()
        return plainly()

    monkeypatch.setattr("ehlo._server.listener._FULL_WAIT", 0.001)
    monkeypatch.setattr("ehlo._io.listener.acceptor", lambda sock: partial(accept, acceptor(sock)))

    async def main() -> None:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        async with await backend.serve(Keep(), sockets=listeners, config=CONFIG) as server:
            plainly = server._door.add

            def add(*args: Any) -> None:
                if watches and (fault := watches.pop()) is not None:
                    raise fault
                plainly(*args)

            with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
                patch.setattr(server._door, "add", add)
                clients = [stack.enter_context(socket.create_connection(address)) for address in server.addresses]
                await backend.until(lambda: server.connections == len(clients))
            assert server.statistics.accept_failures == 2

    with caplog.at_level(logging.ERROR, "ehlo"):
        backend.run(main)
    assert watches == []
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.tcp
def test_a_server_seldom_asks_in_vain_for_connections(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts in one turn all that come at once. While clients come one by one, it accepts one in each turn."""
    vain = 0

    def accept(plainly: Callable[[], Any]) -> Any:
        nonlocal vain
        try:
            return plainly()
        except BlockingIOError:
            vain += 1
            raise

    monkeypatch.setattr("ehlo._io.listener.acceptor", lambda sock: partial(accept, acceptor(sock)))

    async def main() -> None:
        nonlocal vain
        async with await backend.serve(Keep(), config=CONFIG) as server:
            with contextlib.ExitStack() as stack:
                for _ in range(10):
                    stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                await backend.until(lambda: server.connections == 10)
                assert vain == 1
            vain = 0
            for _ in range(24):
                client = await backend.connect(server)
                await client.reply()
                client.close()
            assert vain <= 4

    backend.run(main)


def test_faults_c7_http_is_turned_away(backend: Backend) -> None:
    async def main() -> None:
        handler = Keep()
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.connect(server)
            await client.reply()
            await client.send(b"PUT /x HTTP/1.1\r\nHost: mx\r\n\r\nEHLO c\r\n" + MAIL + b"DATA\r\nx\r\n.\r\n")
            assert (await client.rest()).startswith(b"421 ")
        assert handler.kept == []

    backend.run(main)
