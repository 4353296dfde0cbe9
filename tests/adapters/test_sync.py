"""``ehlo.sync`` where it is not like the other backends: threads, interrupts, a loop that runs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import ehlo
import ehlo.sync
from backends import PATIENCE, descriptors
from ehlo.sync import _dial
from ehlo.testing import ScriptedServer, SMTPServer
from programs import free_port

A, B = "a@b.example", "c@d.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
HELLO = """
S: 220 mx.example ESMTP
C: EHLO *
S: 250-mx.example
S: 250 PIPELINING
"""
CONFIG = ehlo.ClientConfig("client.example")


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A client's end of a session whose server has said hello, and says no more; and that server's end."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"220 mx.example\r\n250-mx.example\r\n250 PIPELINING\r\n")
        with ours:
            yield ours


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    threads = ThreadPoolExecutor(1)
    future = threads.submit(function)
    threads.shutdown(wait=False)
    return future


def use(client: ehlo.sync.Client, what: str) -> object:
    """Make one call."""
    if what == "transaction":
        return client.transaction(A).__enter__()
    calls: dict[str, Callable[[], object]] = {
        "send": lambda: client.send(CONTENT, A, B),
        "source": lambda: client.send(iter([CONTENT]), A, B),
        "send_many": lambda: list(client.send_many([(CONTENT, A, B)] * 3)),
        "noop": client.noop,
        "quit": client.quit,
    }
    return calls[what]()


class Held(ehlo.Handler):
    """Holds a message until the test lets it go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()

    async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.asked.set()
        await asyncio.to_thread(self.go.wait, PATIENCE)


# ---- one call ------------------------------------------------------------------------------------


def test_one_message_by_one_call(server: SMTPServer) -> None:
    assert ehlo.send(CONTENT, server.host, server.port, A, [B]).all_accepted
    (message,) = server.wait(1)
    assert (message.sender, message.recipients, message.content) == (A, [B], CONTENT)


def test_quit_goes_out_with_the_content() -> None:
    # RFC 2920 3.1: one round trip less.
    group = "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\nS: 250 ok\n"
    for script, accepted in (
        (group + "S: 250 ok\nS: 354 go\nC...\nC: QUIT\nS: 250 ok\nS: 221 bye\nclose\n", True),
        (group + "S: 550 no\nS: 503 no\nC: QUIT\nS: 221 bye\nclose\n", False),
    ):
        with ScriptedServer(HELLO + script) as peer:
            result = ehlo.send(CONTENT, peer.host, peer.port, A, B, config=CONFIG, check=False)
            assert result.all_accepted is accepted


def test_quit_behind_one_message_is_waited_for_as_long_as_any_quit() -> None:
    # quit_timeout is the only timeout that may be shorter than the time between two looks at the clock.
    replies = {
        b"EHLO": b"250 mx.example",
        b"MAIL": b"250 ok",
        b"RCPT": b"250 ok",
        b"DATA": b"354 go",
        b".\r\n": b"250 ok",
    }

    def serve(listener: socket.socket) -> bytes:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as lines:
            sock.sendall(b"220 mx.example\r\n")
            for line in lines:
                if reply := replies.get(line[:4]):
                    sock.sendall(reply + b"\r\n")
            return line

    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = in_thread(lambda: serve(listener))
        port = listener.getsockname()[1]
        config = CONFIG.replace(quit_timeout=0.05)
        sent = in_thread(lambda: ehlo.send(CONTENT, "127.0.0.1", port, A, B, config=config))
        assert sent.result(PATIENCE).all_accepted
        assert served.result(PATIENCE) == b"QUIT\r\n"


def test_one_message_that_fails(server: SMTPServer) -> None:
    def fails() -> Iterator[bytes]:
        yield CONTENT
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ehlo.send(fails(), server.host, server.port, A, B)
    with pytest.raises(ehlo.InvalidAddressError):
        ehlo.send(CONTENT, server.host, server.port, A, "not an address")
    with pytest.raises(ehlo.LocalProtocolError, match="no recipients"):
        ehlo.send(CONTENT, server.host, server.port, A)
    lost = "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nC...\nclose\n"
    with ScriptedServer(HELLO + lost) as peer, pytest.raises(ehlo.OutcomeUnknown):
        ehlo.send(CONTENT, peer.host, peer.port, A, B, config=CONFIG)
    assert ehlo.send(iter([CONTENT]), server.host, server.port, A, B).all_accepted
    limited = "S: 250-LIMITS MAILMAX=1\nS: 250 PIPELINING\n"
    taken = "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nC...\nS: 250 ok\n"
    with ScriptedServer(HELLO.replace("S: 250 PIPELINING\n", limited) + taken + "C: QUIT\nS: 221 bye\n") as peer:
        assert ehlo.send(CONTENT, peer.host, peer.port, A, B, config=CONFIG).all_accepted


def test_the_package_is_imported_without_the_client() -> None:
    program = "import ehlo, sys; print([name for name in sys.modules if name.startswith(('ehlo.sync', 'asyncio'))])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
    program = "import ehlo.sync, sys; print('asyncio' in sys.modules, 'trio' in sys.modules, ehlo.send)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("False False <function send")


def test_what_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sned'"):
        ehlo.sned  # type: ignore[attr-defined]  # noqa: B018


def test_a_loop_that_runs_is_no_obstacle(server: SMTPServer) -> None:
    async def main() -> None:
        with ehlo.sync.connect(server.host, server.port) as client:
            assert client.send(iter([CONTENT]), A, B).all_accepted
            assert [result.all_accepted for result in client.send_many([(CONTENT, A, B)] * 3)] == [True] * 3
        with ehlo.sync.Pool(server.host, server.port) as pool, pool.transaction(A) as transaction:
            assert transaction.rcpt(B).is_positive
            assert transaction.send(CONTENT).all_accepted

    asyncio.run(main())
    assert len(server.wait(5)) == 5


def test_no_delay(server: SMTPServer) -> None:
    # A message of 100 KiB takes 38 ms without it.
    with ehlo.sync.connect(server.host, server.port) as client:
        sock: socket.socket = client._inner._link._socket  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- what is async -------------------------------------------------------------------------------


async def pieces() -> AsyncIterator[bytes]:
    yield CONTENT


async def items() -> AsyncIterator[Any]:
    yield CONTENT, A, B


def test_async_sources_are_refused(server: SMTPServer) -> None:
    with pytest.raises(TypeError, match="no async iterable"):
        ehlo.send(pieces(), server.host, server.port, A, B)
    with ehlo.sync.connect(server.host, server.port) as client:
        with pytest.raises(TypeError, match="no async iterable"):
            client.send(pieces(), A, B)
        with pytest.raises(TypeError, match="no async iterable"):
            client.send_many(items())  # type: ignore[arg-type]
        sending = client.send_many([(CONTENT, A, B), (pieces(), A, B), (CONTENT, A, B)])
        assert next(sending).all_accepted
        with pytest.raises(TypeError, match="no async iterable"):
            next(sending)
        with client.transaction(A) as transaction:
            transaction.rcpt(B)
            with pytest.raises(TypeError, match="no async iterable"):
                transaction.send(pieces())
        assert client.send(CONTENT, A, B).all_accepted, "the connection is as good as before"
    with ehlo.sync.Pool(server.host, server.port) as pool, pytest.raises(TypeError, match="no async iterable"):
        pool.send(pieces(), A, B)
    assert len(server.wait(2)) == 2


def test_an_async_token_is_refused() -> None:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return "token"

    script = "S: 220 mx.example\nC: EHLO *\nS: 250-mx.example\nS: 250 AUTH OAUTHBEARER\n"
    with ScriptedServer(script) as peer, pytest.raises(TypeError, match="waits for an event loop"):
        ehlo.sync.connect(peer.host, peer.port, auth=ehlo.Login("jane", token=fetch, allow_clear=True), config=CONFIG)


# ---- threads -------------------------------------------------------------------------------------


def test_a_second_thread_is_refused() -> None:
    handler = Held()
    with SMTPServer(handler) as server, ehlo.sync.connect(server.host, server.port) as client:
        first = in_thread(lambda: client.send(CONTENT, A, B))
        assert handler.asked.wait(PATIENCE)
        uses: list[Callable[[], object]] = [
            lambda: client.send(CONTENT, A, B),
            client.noop,
            client.quit,
            lambda: next(client.send_many([])),
            lambda: client.transaction(A).__enter__(),
        ]
        for use in uses:
            with pytest.raises(ehlo.LocalProtocolError, match="one thread uses a connection at a time"):
                use()
        handler.go.set()
        assert first.result(PATIENCE).all_accepted


def test_a_call_inside_a_call_is_refused(server: SMTPServer) -> None:
    def source() -> Iterator[bytes]:
        with pytest.raises(ehlo.LocalProtocolError, match="one thread"):
            client.noop()
        yield CONTENT

    with ehlo.sync.connect(server.host, server.port) as client:
        assert client.send(source(), A, B).all_accepted


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("what", ["send", "send_many", "noop", "transaction"])
def test_another_thread_cuts_a_call_short(silent: socket.socket, what: str, how: str) -> None:
    client = ehlo.sync.connect(sock=silent, config=CONFIG)
    call = in_thread(lambda: use(client, what))
    while not client._use._lock.locked():
        assert not call.done()
    getattr(client, how)()
    if what == "send_many":
        assert [result.failure for result in call.result(PATIENCE)] == ["lost"] * 3
    else:
        with pytest.raises(ehlo.SMTPServerDisconnected):
            call.result(PATIENCE)
    assert client.is_closed
    with pytest.raises(ehlo.SMTPServerDisconnected):
        client.noop()


def test_a_source_may_end_its_own_connection(server: SMTPServer) -> None:
    def source() -> Iterator[bytes]:
        yield CONTENT
        client.abort()
        yield CONTENT

    client = ehlo.sync.connect(server.host, server.port)
    with pytest.raises(ehlo.SMTPException):
        client.send(source(), A, B)
    assert client.is_closed


# ---- interrupted ---------------------------------------------------------------------------------


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("what", ["send", "source", "send_many", "noop", "transaction", "connect", "quit"])
def test_an_interrupt_closes_the_connection(what: str) -> None:
    # The signal comes while the call blocks: its handler raises in the middle of it.
    ours, theirs = socket.socketpair()

    def interrupt(number: int, frame: object) -> None:
        raise Stop

    def interrupt_when_asked() -> None:
        theirs.sendall(b"220 mx.example\r\n")
        assert theirs.recv(100).startswith(b"EHLO")
        if what != "connect":
            theirs.sendall(b"250-mx.example\r\n250 PIPELINING\r\n")
            assert theirs.recv(100)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    beside = threading.Thread(target=interrupt_when_asked)
    try:
        beside.start()
        client = None
        with pytest.raises(Stop):  # noqa: PT012
            client = ehlo.sync.connect(sock=ours, config=CONFIG)
            use(client, what)
        beside.join()
        if what != "connect":
            assert client is not None
            assert client.is_closed
            with pytest.raises(ehlo.SMTPServerDisconnected):
                client.send(CONTENT, A, B)
            client.close()
        assert ours.fileno() == -1, "the socket is closed"
    finally:
        signal.signal(signal.SIGUSR1, before)
        theirs.close()
        ours.close()


def test_with_is_left_by_an_interrupt(server: SMTPServer) -> None:
    with pytest.raises(Stop), ehlo.sync.connect(server.host, server.port) as client:
        raise Stop
    assert client.is_closed
    assert "QUIT" not in client.transcript


@pytest.mark.parametrize("closed", ["before it writes", "while it waits"])
def test_a_socket_that_has_the_number_of_ours_now_is_let_alone(server: SMTPServer, closed: str) -> None:
    sock = socket.create_connection((server.host, server.port))
    number = sock.fileno()
    ours, theirs = socket.socketpair()

    def close(lines: str) -> None:
        if closed == "before it writes" or "MAIL" in lines:
            sock.close()  # by the program, which is wrong; and its next socket gets the number
            os.dup2(ours.fileno(), number)

    client = ehlo.sync.connect(sock=sock, config=CONFIG, trace=None if closed == "before it writes" else close)
    if closed == "before it writes":
        close("")
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        theirs.sendall(b"for another\r\n")
        try:
            with pytest.raises((OSError, ehlo.EhloError)):
                client.send(CONTENT, A, B)
        finally:
            os.close(number)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        assert ours.recv(100) == b"for another\r\n"


@pytest.mark.parametrize("closed", ["before it writes", "while it waits"])
@pytest.mark.parametrize("taken", [False, True])
def test_a_socket_that_the_program_has_closed_ends_the_call(closed: str, taken: bool) -> None:
    """At once, and not when the time of the reply is up. Its number may be that of a socket to which nothing comes."""
    sock, theirs = socket.socketpair()
    other, peer = socket.socketpair()
    number = sock.fileno()

    def close(lines: str) -> None:
        if closed == "before it writes" or "MAIL" in lines:
            sock.close()
            if taken:
                os.dup2(other.fileno(), number)

    with theirs, other, peer:
        theirs.sendall(b"220 mx.example\r\n250 mx.example\r\n")
        patience = ehlo.ClientConfig("client.example", mail_timeout=PATIENCE)
        client = ehlo.sync.connect(sock=sock, config=patience, trace=None if closed == "before it writes" else close)
        if closed == "before it writes":
            close("")
        try:
            with pytest.raises(ehlo.SMTPServerDisconnected, match="the program closed the socket"):
                client.send(CONTENT, A, B)
        finally:
            if taken:
                os.close(number)
        assert client.is_closed
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)


# ---- what the server says while nobody calls -----------------------------------------------------


def test_what_the_server_said_while_nobody_called() -> None:
    # RFC 5321 3.8: a 421 to an idle connection is what its next use tells.
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"220 mx.example\r\n250-mx.example\r\n250 PIPELINING\r\n")
        client = ehlo.sync.connect(sock=ours, config=CONFIG)
        theirs.sendall(b"421 4.4.2 idle too long\r\n")
    client._inner._link.seen -= 10
    with pytest.raises(ehlo.SMTPServerDisconnected) as caught:
        client.send(CONTENT, A, B)
    assert caught.value.reply is not None
    assert caught.value.reply.code == 421
    client.close()


# ---- pools ---------------------------------------------------------------------------------------


def test_many_threads_share_a_pool(server: SMTPServer) -> None:
    with ehlo.sync.Pool(server.host, server.port, max_connections=3) as pool, ThreadPoolExecutor(12) as threads:
        results = list(threads.map(lambda _: pool.send(CONTENT, A, B), range(120)))
        assert all(result.all_accepted for result in results)
        assert pool.statistics.messages == 120
        assert pool.statistics.connections <= 3
        assert pool.idle == pool.connections
    assert len(server.wait(120)) == 120
    with pytest.raises(ehlo.LocalProtocolError, match="closed"):
        pool.send(CONTENT, A, B)


def test_a_pool_is_fair() -> None:
    handler = Held()
    order: list[int] = []

    def send(number: int) -> None:
        pool.send(CONTENT, A, B)
        order.append(number)

    with SMTPServer(handler) as server, ehlo.sync.Pool(server.host, server.port, max_connections=1) as pool:
        calls = []
        for number in range(6):
            calls.append(in_thread(lambda number=number: send(number)))  # type: ignore[misc]
            while pool.statistics.waited != number or not handler.asked.wait(0.001):
                assert not calls[-1].done()
        handler.go.set()
        for call in calls:
            call.result(PATIENCE)
        assert order == list(range(6))


def test_a_source_may_use_its_pool(server: SMTPServer) -> None:
    # The pool's lock is not held while the program's own code runs.
    def source() -> Iterator[bytes]:
        assert pool.send(CONTENT, A, B).all_accepted
        yield CONTENT

    with ehlo.sync.Pool(server.host, server.port, max_connections=2) as pool:
        assert pool.send(source(), A, B).all_accepted
        with pool.transaction(A) as transaction:
            transaction.rcpt(B)
            assert transaction.send(source()).all_accepted
    assert len(server.wait(4)) == 4


@pytest.mark.parametrize("what", ["send", "transaction"])
def test_a_pool_that_is_aborted_cuts_its_sends_short(what: str) -> None:
    handler = Held()

    def send() -> None:
        if what == "send":
            pool.send(CONTENT, A, B)
        else:
            with pool.transaction(A) as transaction:
                transaction.rcpt(B)
                transaction.send(CONTENT)

    with SMTPServer(handler) as server:
        pool = ehlo.sync.Pool(server.host, server.port, max_connections=1)
        first = in_thread(send)
        assert handler.asked.wait(PATIENCE)
        second = in_thread(send)
        while not pool.statistics.waited:
            assert not second.done()
        pool.abort()
        with pytest.raises(ehlo.OutcomeUnknown):
            first.result(PATIENCE)
        with pytest.raises(ehlo.LocalProtocolError, match="the pool is closed"):
            second.result(PATIENCE)
        handler.go.set()
        assert pool.connections == 0


def test_an_interrupted_send_costs_the_pool_its_connection(server: SMTPServer) -> None:
    def source() -> Iterator[bytes]:
        yield CONTENT
        raise Stop

    with ehlo.sync.Pool(server.host, server.port, max_connections=1) as pool:
        with pytest.raises(Stop):
            pool.send(source(), A, B)
        assert pool.connections == 0
        assert pool.send(CONTENT, A, B).all_accepted
        with pytest.raises(Stop), pool.transaction(A):
            raise Stop
        assert pool.connections == 0
        with pytest.raises(ZeroDivisionError), pool.transaction(A):
            raise ZeroDivisionError
        assert pool.idle == 1, "the mistake was the program's, the connection is good"
    assert len(server.wait(1)) == 1


def test_nothing_is_left(server: SMTPServer) -> None:
    gc.collect()
    threads, before = threading.active_count(), descriptors()
    for _ in range(3):
        with ehlo.sync.connect("localhost", server.port) as client:
            client.send(CONTENT, A, B)
            for _ in client.send_many((CONTENT, A, B) for _ in range(1000)):
                break
        with ehlo.sync.Pool(server.host, server.port) as pool:
            pool.send(CONTENT, A, B)
    for thread in threading.enumerate():
        if thread.name.startswith("ehlo "):
            thread.join(PATIENCE)
    gc.collect()
    assert threading.active_count() <= threads
    assert descriptors() <= before + 8  # the server's ends may still be closing


# ---- the way to an address -----------------------------------------------------------------------


def test_the_next_address_where_one_does_not_answer(server: SMTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = ("127.0.0.1", free_port())
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in (nobody, (server.host, server.port))]
    monkeypatch.setattr(_dial, "_addresses", lambda host, port, limit: infos)
    with _dial.connected("mx.example", 25, None, None) as sock:
        assert sock.getpeername() == (server.host, server.port)
    with _dial.connected("mx.example", 25, ("127.0.0.1", 0), None) as sock:
        assert sock.getpeername() == (server.host, server.port)
    del infos[1]
    infos *= 2
    with pytest.raises(ConnectionRefusedError):
        _dial.connected("mx.example", 25, None, None)


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, port: int, **options: Any) -> Any:
        if not options.get("flags"):
            answered.wait(PATIENCE)
        return real(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with pytest.raises(ehlo.SMTPTimeoutError, match="no answer in"):
            ehlo.sync.connect("mx.example", 25, connect_timeout=0.05, config=CONFIG)
    finally:
        answered.set()


def test_without_poll(server: SMTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows has select alone.
    monkeypatch.delattr("select.poll")
    with ehlo.sync.connect(server.host, server.port) as client:
        assert client.send(b"x" * 998 + b"\r\n", A, B).all_accepted
        assert client.send(iter([b"x" * 998 + b"\r\n"] * 20000), A, B).all_accepted
