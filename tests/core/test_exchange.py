"""``ehlo.Exchange``: octets between sockets and engines, in one call for all that are ready."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ehlo

READ = 1
NOW = 17.5
FACTS = ("closed", "handshaking", "buffered", "messages", "commands", "errors", "refusals", "in_content", "timeout")
ALL = {"connect", "hello", "mail", "rcpt", "data", "message", "vrfy", "refused", "reset"}
MAIL = b"MAIL FROM:<jane@client.example>\r\nRCPT TO:<joe@mx.example>\r\n"
TEXT = b"Subject: x\r\n\r\n..dot\r\n" + b"a line\r\n" * 30
SMTP = b"EHLO client.example\r\n" + MAIL + b"DATA\r\n" + TEXT + b".\r\nNOOP\r\nVRFY joe\r\nbad\r\nQUIT\r\nafter the end"
BDAT = b"EHLO client.example\r\n" + MAIL + b"BDAT 5\r\n12345BDAT 300 LAST\r\n" + b"x" * 300 + b"RSET\r\nQUIT\r\n"
LMTP = b"LHLO client.example\r\n" + MAIL + b"RCPT TO:<ann@mx.example>\r\nDATA\r\n" + TEXT + b".\r\nQUIT\r\n"
LONG = b"EHLO client.example\r\n" + b"NOOP " + b"x" * 3000 + b"\r\n" + b"JUNK\r\n" * 12
DIALOGUES: list[tuple[dict[str, Any], bytes]] = [
    ({}, SMTP),
    ({"content": "discard"}, SMTP),
    ({"content": "stream"}, SMTP),
    ({"decisions": ALL}, SMTP),
    ({"decisions": ALL}, BDAT),
    ({"content": "stream", "decisions": ALL}, BDAT),
    ({"lmtp": True}, LMTP),
    ({"lmtp": True, "decisions": ALL}, LMTP),
    ({"proxy": True}, b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\n" + SMTP),
    ({"proxy": True}, b"PROXY nonsense\r\n" + SMTP),
    ({"max_message_size": 100}, SMTP),
    ({"max_errors": 5}, LONG),
    ({"tls": "starttls"}, b"EHLO client.example\r\nSTARTTLS\r\n\x16\x03\x01 the first of TLS"),
    ({"tls": "starttls"}, b"EHLO client.example\r\nNOOP\r\nSTARTTLS\r\nNOOP\r\n"),
    ({"tls": "implicit"}, b"\x16\x03\x01 the first of TLS"),
]


def connect(**settings: Any) -> ehlo.ServerConnection:
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", max_junk=None, **settings))
    conn.data_to_send()
    return conn


def turn(exchange: ehlo.Exchange, sock: socket.socket, conn: ehlo.ServerConnection | None) -> list[Any]:
    """What is left to do."""
    return [what for _, what in exchange.turn([(sock.fileno(), READ)], {sock.fileno(): (conn,)}, NOW)]


def handle(conn: ehlo.ServerConnection, event: Any) -> list[str]:
    """Say yes to all, as a program does."""
    seen = []
    while event is not None:
        seen.append(f"{type(event).__name__} {event!r}")
        with contextlib.suppress(ehlo.LocalProtocolError):  # it asks nothing
            conn.accept()
        event = conn.next_event()
    return seen


def cut(octets: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(place for place in places if 0 < place < len(octets)), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(edges)]


@given(st.sampled_from(DIALOGUES), st.sets(st.integers(1, 800), max_size=40))
@settings(max_examples=150)
def test_it_does_what_the_steps_do(dialogue: tuple[dict[str, Any], bytes], places: set[int]) -> None:
    """The same events, replies and facts as by ``receive_data``, ``next_event`` and ``data_to_send``."""
    options, octets = dialogue
    config = ehlo.ServerConfig("mx.example", **options)
    plain, ours = ehlo.ServerConnection(config), ehlo.ServerConnection(config)
    assert handle(plain, plain.next_event()) == handle(ours, ours.next_event())
    assert plain.data_to_send() == ours.data_to_send()
    exchange = ehlo.Exchange()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        for piece in cut(octets, places):
            shaking = plain.handshaking
            plain.receive_data(piece)
            expected = [] if shaking else handle(plain, plain.next_event())
            said = plain.data_to_send()
            far.send(piece)
            left = turn(exchange, near, ours)
            if shaking:  # TLS is the program's
                assert left == [READ]
                assert near.recv(1000) == piece
                ours.receive_data(piece)
            elif expected:
                assert left == [None]
                assert handle(ours, ours.next_event()) == expected
                near.send(ours.data_to_send())
            else:
                assert left == []
                assert ours.data_to_send() == b""
            assert receive(far) == said
            for fact in FACTS:
                assert getattr(ours, fact) == getattr(plain, fact)


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100_000)
    except BlockingIOError:
        return b""


def test_the_usual_turn_leaves_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    assert (conn.octets_exchanged, conn.exchanged_at, conn.held) == (0, 0.0, False)
    assert turn(exchange, ours, conn) == []  # there was nothing to read
    assert (conn.octets_exchanged, conn.exchanged_at) == (0, 0.0)
    theirs.send(b"HELO client.example\r\nNO")
    assert turn(exchange, ours, conn) == []
    assert receive(theirs) == b"250 mx.example\r\n"
    theirs.send(b"OP\r")
    assert turn(exchange, ours, conn) == []
    assert receive(theirs) == b""
    assert (conn.octets_exchanged, conn.exchanged_at) == (26, NOW)


def test_it_reads_no_more_than_its_size(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(6), connect()
    theirs.send(b"NOOP\r\nNOOP\r\n")
    assert turn(exchange, ours, conn) == []
    assert receive(theirs).count(b"\n") == 1
    assert turn(exchange, ours, conn) == []
    assert receive(theirs).count(b"\n") == 1
    with pytest.raises(ValueError, match="size must be 1 or more"):
        ehlo.Exchange(0)


def test_many_in_one_turn_get_their_own() -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    conns = [connect() for _ in pairs]
    exchange = ehlo.Exchange()
    watched = {}
    for number, ((ours, theirs), conn) in enumerate(zip(pairs, conns, strict=True)):
        ours.setblocking(False)
        watched[ours.fileno()] = number, conn
        theirs.send(b"HELO client.example\r\n" if number % 3 else b"QUIT\r\n")
    left = exchange.turn([(ours.fileno(), READ) for ours, _ in pairs], watched, NOW)
    assert [number for (number, _), _ in left] == list(range(0, 20, 3))
    assert {what for _, what in left} == {None}
    assert {type(conn.next_event()) for (_, conn), _ in left} == {ehlo.Disconnect}
    for number, (ours, theirs) in enumerate(pairs):
        theirs.setblocking(False)
        assert receive(theirs) == (b"250 mx.example\r\n" if number % 3 else b"")
        ours.close()
        theirs.close()


def test_an_event_is_there_for_whoever_asks_first(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect(decisions=("vrfy",), content="stream")
    theirs.send(b"EHLO client.example\r\n" + MAIL + b"BDAT 3\r\noneRSET\r\nVRFY joe\r\n")
    assert turn(exchange, ours, conn) == [None]
    # Before the program handles it, more comes, and somebody else goes on with the session.
    theirs.send(b"NOOP\r\n")
    assert turn(exchange, ours, conn) == [READ]
    conn.receive_data(ours.recv(100))
    events = [type(event) for event in conn]
    assert events == [ehlo.ContentStart, ehlo.Chunk, ehlo.ContentAborted, ehlo.Vrfy]
    conn.accept()
    assert list(conn) == []
    codes = [line[:3] for line in conn.data_to_send().splitlines() if line[3:4] == b" "]
    assert codes == [b"250", b"250", b"250", b"250", b"250", b"252", b"250"]


def test_an_event_that_nobody_asks_for_keeps_no_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        conn = connect()
        gone = weakref.ref(conn)
        theirs.send(b"QUIT\r\n")
        assert turn(ehlo.Exchange(), ours, conn) == [None]
        del conn
        assert gone() is None


def test_what_the_system_does_not_take_goes_out_first(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    came = left = b""
    sent = 0
    while not left:
        theirs.send(b"HELP\r\n" * 100)
        sent += 100
        what = turn(exchange, ours, conn)
        assert what in ([], [None])
        assert conn.next_event() is None
        conn.receive_data(b"NOOP\r\n" if what else b"")  # by whatever may get in between
        left = conn.data_to_send()
        assert bool(left) is bool(what)
    while part := receive(theirs):
        came += part
    reply = came[: came.index(b"\n") + 1]
    assert came + left == reply * sent + b"250 2.0.0 OK\r\n"
    while left:
        left = left[ours.send(left) :]
        receive(theirs)
    theirs.send(b"NOOP\r\n")
    assert turn(exchange, ours, conn) == []  # it goes on
    # A system that takes nothing at all.
    while True:
        try:
            ours.send(b"x" * 1000)
        except BlockingIOError:
            break
    theirs.send(b"HELP\r\n")
    assert turn(exchange, ours, conn) == [None]
    theirs.send(b"NOOP\r\n")
    assert turn(exchange, ours, conn) == [None]
    assert conn.data_to_send() == reply + b"250 2.0.0 OK\r\n"


def test_the_end_of_input(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    theirs.send(b"HELO client.example\r\n")
    theirs.shutdown(socket.SHUT_WR)
    assert turn(exchange, ours, conn) == []
    assert receive(theirs) == b"250 mx.example\r\n"
    assert turn(exchange, ours, conn) == [b""]
    assert turn(exchange, ours, conn) == [b""]
    assert not conn.closed  # that is for receive_eof


def test_a_reset_and_a_peer_that_is_gone() -> None:
    exchange, conn = ehlo.Exchange(), connect()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        (what,) = turn(exchange, ours, conn)
    assert isinstance(what, ConnectionResetError)
    assert what.errno == errno.ECONNRESET
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.send(b"NOOP\r\n")
        theirs.close()
        (what,) = turn(exchange, ours, conn)  # and no signal (SIGPIPE)
    assert isinstance(what, BrokenPipeError)


def test_a_descriptor_that_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    exchange, conn = ehlo.Exchange(), connect()
    number = os.dup(ours.fileno())
    os.close(number)
    for closed in (number, -1):  # -1 is what socket.fileno() says of one that is closed
        ((_, what),) = exchange.turn([(closed, READ)], {closed: (conn,)}, NOW)
        assert isinstance(what, OSError)
        assert what.errno == errno.EBADF
    assert exchange.turn([(number, READ)], {}, NOW) == []  # nobody watches it


def test_it_leaves_alone_what_is_for_the_program(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    theirs.send(b"NOOP\r\n")
    assert exchange.turn([(ours.fileno(), 25)], {ours.fileno(): ("mine", None)}, NOW) == [(("mine", None), 25)]
    conn.held = True
    assert turn(exchange, ours, conn) == [READ]
    conn.held = False
    assert turn(exchange, ours, conn) == []
    assert receive(theirs).startswith(b"250")
    shaking = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", tls="implicit"))
    theirs.send(b"\x16\x03\x01")
    assert turn(exchange, ours, shaking) == [READ]
    assert ours.recv(9) == b"\x16\x03\x01"
    shaking.tls_established()
    assert turn(exchange, ours, shaking) == [READ]  # what comes is TLS


def test_input_behind_the_end_is_dropped(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    conn.receive_data(b"QUIT\r\n")
    assert isinstance(conn.next_event(), ehlo.Disconnect)
    theirs.send(b"NOOP\r\n")
    assert turn(exchange, ours, conn) == []
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    assert conn.octets_exchanged == 0


def test_its_arguments_are_looked_at(pair: tuple[socket.socket, socket.socket]) -> None:
    exchange: Any = ehlo.Exchange()
    number = pair[0].fileno()
    for ready, watched in (
        ((number, READ), {}),
        ([number], {}),
        ([(number, READ)], [number]),
        ([(number, READ)], {number: connect()}),
        ([("x", READ)], {"x": (connect(),)}),
    ):
        with pytest.raises(TypeError):
            exchange.turn(ready, watched, NOW)
    with pytest.raises(IndexError):
        exchange.turn([()], {}, NOW)
    assert exchange.turn([(number, READ)], {number: ()}, NOW) == [((), READ)]


def test_another_thread_may_ask_meanwhile(pair: tuple[socket.socket, socket.socket]) -> None:
    """The replies go out without the GIL, and then no connection is in use."""
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    done = threading.Event()
    faults: list[Exception] = []

    def ask() -> None:
        while not done.is_set():
            try:
                conn.commands  # noqa: B018
            except RuntimeError as exc:
                faults.append(exc)
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(500):
            theirs.send(b"NOOP\r\n")
            assert turn(exchange, ours, conn) == []
            assert receive(theirs).startswith(b"250")
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not faults


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")
def test_it_asks_an_epoll_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    exchange, conn = ehlo.Exchange(), connect()
    with select.epoll() as epoll:
        epoll.register(ours, READ)
        number = epoll.fileno()
        assert exchange.turn_epoll(number, {ours.fileno(): (conn,)}, NOW) == (0, [])
        theirs.send(b"NOOP\r\n")
        assert exchange.turn_epoll(number, {}, NOW) == (1, [])  # passed over
        assert exchange.turn_epoll(number, {ours.fileno(): (None,)}, NOW) == (1, [((None,), READ)])
        assert exchange.turn_epoll(number, {ours.fileno(): (conn,)}, NOW) == (1, [])
        assert receive(theirs) == b"250 2.0.0 OK\r\n"
        assert conn.exchanged_at == NOW
        theirs.send(b"QUIT\r\n")
        assert exchange.turn_epoll(number, {ours.fileno(): (conn,)}, NOW) == (1, [((conn,), None)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        exchange.turn_epoll(-1, {}, NOW)
    with pytest.raises(OSError, match="Invalid argument"):
        exchange.turn_epoll(ours.fileno(), {}, NOW)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")
def test_an_epoll_names_a_part_of_many_sockets() -> None:
    exchange = ehlo.Exchange()
    ready = [os.eventfd(1) for _ in range(300)]
    try:
        with select.epoll() as epoll:
            for descriptor in ready:
                epoll.register(descriptor, READ)
            watched: dict[int, tuple[int, None]] = {descriptor: (descriptor, None) for descriptor in ready}
            seen: set[int] = set()
            for _ in range(2):
                count, left = exchange.turn_epoll(epoll.fileno(), watched, NOW)
                assert count == len(left) == 256
                seen.update(descriptor for (descriptor, _), _ in left)
            assert seen == set(ready)
    finally:
        for descriptor in ready:
            os.close(descriptor)


@pytest.mark.skipif(hasattr(select, "epoll"), reason="Linux has epoll")
def test_a_system_without_epoll_says_so() -> None:
    with pytest.raises(OSError, match="unsupported"):
        ehlo.Exchange().turn_epoll(0, {}, NOW)
