"""No wait of a client is without a bound, and none delays the result of a message (FAULTS A5, B1, B6, B7)."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
import threading
import time
from typing import Any

import pytest

import ehlo
from backends import PATIENCE, Backend, Peer, Script
from ehlo._client import options

A, B = "a@b.example", "c@d.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
SOON = 0.05
"""A time limit for what never comes, in seconds."""


def config(**changes: Any) -> ehlo.ClientConfig:
    return ehlo.ClientConfig("client.example", **changes)


def one_message(then: Script) -> Script:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await then(peer)

    return script


@pytest.mark.parametrize("tls", ["implicit", "required"])
@pytest.mark.parametrize("wrong", ["context for the wrong side", "server name that TLS refuses"])
def test_faults_b1_tls_that_cannot_begin_is_an_error_at_once(backend: Backend, tls: Any, wrong: str) -> None:
    async def main() -> None:
        arguments: dict[str, Any]
        if wrong == "context for the wrong side":
            arguments = {"ssl_context": ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)}
        else:
            arguments = {"ssl_context": ehlo.unverified_context(), "server_hostname": ".mx.example"}
        with pytest.raises(ehlo.LocalProtocolError, match="TLS cannot begin"):
            await backend.adapter.connect("127.0.0.1", 1, tls=tls, config=config(), **arguments)

    backend.run(main)


def test_faults_b1_a_context_that_goes_wrong_later(backend: Backend) -> None:
    """What is wrong is found before anything is sent; should it come later, the wait still ends."""

    class Moody(ssl.SSLContext):
        calls = 0

        def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
            Moody.calls += 1
            if Moody.calls > 1:
                raise ssl.SSLError("not today")
            return super().wrap_bio(*args, **options)

    async def server(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250 STARTTLS\r\n")
        assert await peer.line() == b"STARTTLS"
        peer.say(b"220 go\r\n")
        await peer.farewell()

    async def main() -> None:
        Moody.calls = 0
        context = Moody(ssl.PROTOCOL_TLS_CLIENT)
        async with backend.scripted(server) as port:
            with pytest.raises(ehlo.SMTPConnectError, match=r"TLS cannot begin: .*not today"):
                await backend.adapter.connect(
                    "127.0.0.1", port, tls="required", ssl_context=context, server_hostname="mx", config=config()
                )

    backend.run(main)


def test_faults_b6_the_name_of_this_machine_is_waited_for_inside_the_limit(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def slow_name() -> str:
        answered.wait()
        return "box.example"

    monkeypatch.setattr(options, "_own_name", None)
    monkeypatch.setattr("socket.getfqdn", slow_name)

    async def main() -> None:
        with pytest.raises(ehlo.SMTPTimeoutError, match="no answer in"):
            await backend.adapter.connect("127.0.0.1", 1, connect_timeout=SOON)

    try:
        backend.run(main)
    finally:
        answered.set()


@pytest.mark.waits  # ehlo.sync has one limit, a moment of its clock
def test_the_name_of_this_machine_and_the_connection_have_one_time(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float] = []

    async def name(opening: options.Opening, in_thread: object) -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.001:
            await backend.turn()

    async def connected(host: str, port: int, source: object, seconds: float) -> None:
        left.append(seconds)
        raise OSError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(options, "_own_name", None)  # else an earlier test may have asked for it
    monkeypatch.setattr(options.Opening, "learn_own_name", name)
    monkeypatch.setattr(f"{backend.adapter.__name__}.{backend.dialling}.connected", connected)

    async def main() -> None:
        for seconds in (30.0, None):
            with pytest.raises(ehlo.SMTPConnectError, match="refused"):
                await backend.adapter.connect("127.0.0.1", 1, connect_timeout=seconds)

    backend.run(main)
    assert 20 < left[0] < 29.9995  # a float of a clock has no exact thousandths
    assert left[1] in (None, math.inf)


def test_faults_b6_without_a_name_the_client_says_its_address(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    hello: list[bytes] = []

    def slow_name() -> str:
        answered.wait()
        return "box.example"

    monkeypatch.setattr(options, "_own_name", None)
    monkeypatch.setattr("socket.getfqdn", slow_name)
    monkeypatch.setattr(f"{backend.adapter.__name__}.{backend.dialling}.NAME_SECONDS", SOON)

    async def server(peer: Peer) -> None:
        hello.append(await peer.hello())
        await peer.farewell()

    async def main() -> None:
        async with backend.scripted(server) as port, backend.adapter.connect("127.0.0.1", port):
            answered.set()

    try:
        backend.run(main)
    finally:
        answered.set()
    assert hello[0] in (b"EHLO [127.0.0.1]", b"EHLO localhost")


def test_faults_a5_the_result_does_not_wait_for_quit(backend: Backend) -> None:
    """A connection that is worn says QUIT beside: the server may be slow to answer it."""

    async def main() -> None:
        got_result = backend.event()

        async def slow_goodbye(peer: Peer) -> None:
            assert await peer.line() == b"QUIT"
            await got_result.wait()
            peer.say(b"221 bye\r\n")

        async with (
            backend.scripted(one_message(slow_goodbye)) as port,
            backend.adapter.Pool("127.0.0.1", port, max_messages=1, config=config()) as pool,
        ):
            result = await pool.send(CONTENT, A, B)
            assert result.all_accepted
            got_result.set()

    backend.run(main)


def test_faults_a5_a_silent_server_does_not_unsay_a_result(backend: Backend) -> None:
    async def main() -> None:
        async def silent(peer: Peer) -> None:
            assert await peer.line() == b"QUIT"
            await peer.rest()

        settings = config(quit_timeout=SOON)
        async with (
            backend.scripted(one_message(silent)) as port,
            backend.adapter.Pool("127.0.0.1", port, max_messages=1, config=settings) as pool,
        ):
            assert (await pool.send(CONTENT, A, B)).all_accepted

    backend.run(main)


def test_faults_a5_outside_of_async_with_nothing_waits_either(backend: Backend) -> None:
    async def main() -> None:
        async def silent(peer: Peer) -> None:
            assert await peer.line() == b"QUIT"
            await peer.rest()

        async with backend.scripted(one_message(silent)) as port:
            pool = backend.adapter.Pool("127.0.0.1", port, max_messages=1, config=config(quit_timeout=SOON))
            assert (await pool.send(CONTENT, A, B)).all_accepted
            await pool.close()
            assert pool.connections == 0

    backend.run(main)


def test_faults_b7_a_dead_connection_is_found_by_a_short_probe(backend: Backend) -> None:
    async def main() -> None:
        async def dead(peer: Peer) -> None:
            assert await peer.line() == b"NOOP"
            await peer.rest()

        async def alive(peer: Peer) -> None:
            await peer.farewell()

        async with (
            backend.scripted(one_message(dead), one_message(alive)) as port,
            backend.adapter.Pool("127.0.0.1", port, check_after=0.0, check_seconds=SOON, config=config()) as pool,
        ):
            assert (await pool.send(CONTENT, A, B)).all_accepted
            assert (await pool.send(CONTENT, A, B)).all_accepted
            statistics = pool.statistics
            assert (statistics.checked, statistics.dropped, statistics.connections) == (1, 1, 2)

    backend.run(main)


# ---- a socket of the program ---------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "handshake"])
@pytest.mark.parametrize("taken", [False, True])
def test_a_socket_that_the_program_closes_ends_the_wait(backend: Backend, taken: bool, tls: bool) -> None:
    """Soon, and not when the time of the reply is up. Its number may be that of a socket to which nothing comes."""
    closed = threading.Event()

    async def main() -> None:
        sock, theirs = socket.socketpair()
        other, peer = socket.socketpair()
        number = sock.fileno()
        with theirs, other, peer:
            peer.setblocking(False)
            theirs.settimeout(PATIENCE)

            def close() -> None:
                heard = b""
                while not (heard if tls else b"MAIL" in heard):
                    heard += theirs.recv(4096)
                sock.close()
                if taken:
                    os.dup2(other.fileno(), number)
                closed.set()

            options: dict[str, Any] = {"config": config(mail_timeout=PATIENCE, greeting_timeout=PATIENCE)}
            if tls:
                context = ehlo.unverified_context()
                options |= {"tls": "implicit", "ssl_context": context, "handshake_timeout": PATIENCE}
            else:
                theirs.sendall(b"220 mx.example\r\n250 mx.example\r\n")
            closer = threading.Thread(target=close)
            closer.start()

            async def send() -> None:
                client = await backend.adapter.connect(sock=sock, **options)
                await client.send(CONTENT, A, B)

            try:
                with pytest.raises(ehlo.SMTPServerDisconnected, match="the program closed the socket"):
                    await send()
            finally:
                closer.join()
                if taken:
                    os.close(number)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            theirs.setblocking(False)
            while await backend.receive(theirs):  # to the end of the connection
                pass

    backend.run(main)


def test_a_socket_that_the_program_has_closed_before_it_sends(backend: Backend) -> None:
    async def main() -> None:
        sock, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(b"220 mx.example\r\n250 mx.example\r\n")
            client = await backend.adapter.connect(sock=sock, config=config(mail_timeout=PATIENCE))
            sock.close()
            with pytest.raises(ehlo.SMTPServerDisconnected, match="the program closed the socket"):
                await client.send(CONTENT, A, B)
            assert client.is_closed
            theirs.setblocking(False)
            heard = b""
            while octets := await backend.receive(theirs):
                heard += octets
            assert heard == b"EHLO client.example\r\n"

    backend.run(main)


@pytest.mark.waits  # ehlo.sync watches nothing beside
def test_a_client_that_has_the_number_of_a_closed_socket_goes_on(backend: Backend) -> None:
    """The end of the first connection must not touch the second, which has the number of the first one's socket."""

    async def main() -> None:
        first, theirs = socket.socketpair()
        theirs.sendall(b"220 mx.example\r\n250 mx.example\r\n")
        number = first.fileno()
        one = await backend.adapter.connect(sock=first, config=config())
        first.close()
        second, peer = socket.socketpair()
        assert second.fileno() == number
        with theirs, peer:
            peer.sendall(b"220 mx.example\r\n250 mx.example\r\n")
            two = await backend.adapter.connect(sock=second, config=config(other_timeout=PATIENCE))
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await one.noop()
            await one.close()
            asked = backend.beside(two.noop)
            for _ in range(20):
                await backend.turn()
            peer.sendall(b"250 yes\r\n")
            assert (await asked).code == 250
            peer.sendall(b"221 bye\r\n")
            await two.close()
        assert second.fileno() == -1

    backend.run(main)
