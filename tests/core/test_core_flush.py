"""``flush`` and ``exchange`` of a client, and ``Exchange``, do what ``next_event`` and ``data_to_send`` do."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo._sockets import no_signal

CONFIG = ehlo.ClientConfig("client.example")
READ = 1
NOW = 17.5
HELLO = b"220 mx.example\r\n250-mx.example\r\n250 PIPELINING\r\n"
REPLIES = HELLO + b"250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 ok\r\n" * 2 + b"221 bye\r\n"


def received(sock: socket.socket) -> bytes:
    octets = b""
    try:
        while piece := sock.recv(65536):
            octets += piece
    except BlockingIOError:
        pass
    return octets


def asked() -> ehlo.ClientConnection:
    conn = ehlo.ClientConnection(CONFIG)
    conn.send_message("a@b.example", ["c@d.example"], b"Subject: hi\r\n\r\n.hi\r\n")
    conn.send_message("a@b.example", ["c@d.example"], b"x" * 70 + b"\r\n")
    conn.quit()
    return conn


def by_parts(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """Events and output by ``next_event`` and ``data_to_send``."""
    conn = asked()
    events, output = [], b""
    for piece in pieces:
        conn.receive_data(piece)
        events += [repr(event) for event in conn]
        while octets := conn.data_to_send():
            output += octets
    return events, output


def by_socket(pieces: list[bytes], receives: bool = False) -> tuple[list[str], bytes]:
    """The same by ``flush``; with ``receives`` the input comes by ``exchange``."""
    conn = asked()
    events, output = [], b""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        for piece in pieces:
            if receives and piece:
                theirs.send(piece)
                what = conn.exchange(ours.fileno())
            else:
                conn.receive_data(piece)
                what = conn.flush(ours.fileno())
            while not isinstance(what, int):
                events.append(repr(what))
                what = conn.flush(ours.fileno())
            output += (octets := received(theirs))
            assert what == len(octets)
    return events, output


def turn(sock: socket.socket, conn: ehlo.ClientConnection) -> list[Any]:
    """What ``Exchange`` leaves to do."""
    return [what for _, what in ehlo.Exchange().turn([(sock.fileno(), READ)], {sock.fileno(): (conn,)}, NOW)]


def by_turns(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """The same by ``Exchange``, and by ``flush`` where it leaves something."""
    conn = asked()
    events, output = [], b""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        for piece in pieces:
            if piece:
                theirs.send(piece)
                left = turn(ours, conn)
                if left:
                    assert left == [None]
                    while not isinstance(what := conn.flush(ours.fileno()), int):
                        events.append(repr(what))
                else:
                    assert conn.next_event() is None
                    assert conn.data_to_send() == b""
            output += received(theirs)
    return events, output


@given(st.lists(st.integers(0, len(REPLIES)), max_size=12))
def test_flush_is_the_same_at_any_split(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(REPLIES)]
    pieces = [REPLIES[start:end] for start, end in itertools.pairwise(places)]
    assert by_socket(pieces) == by_socket(pieces, receives=True) == by_turns(pieces) == by_parts(pieces)


def ready() -> ehlo.ClientConnection:
    conn = ehlo.ClientConnection(CONFIG)
    conn.receive_data(HELLO)
    assert [type(event) for event in conn] == [ehlo.Ready]
    conn.data_to_send()
    return conn


def fill(sock: socket.socket) -> int:
    """Send until the system takes no more: the number of octets."""
    filled = 0
    while True:
        try:
            filled += sock.send(b"y" * 4096)
        except BlockingIOError:
            return filled


def test_flush_without_anything_to_do(pair: tuple[socket.socket, socket.socket]) -> None:
    assert ready().flush(pair[0].fileno()) == 0


def test_flush_gives_what_the_system_does_not_take(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    filled = fill(ours)
    conn = ready()
    conn.noop()
    assert conn.flush(ours.fileno()) == b"NOOP\r\n"
    assert conn.flush(ours.fileno()) == 0
    assert received(theirs) == b"y" * filled


def test_flush_leaves_large_content_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    conn = ready()
    content = b"z" * 70 + b"\r\n"
    conn.send_message("a@b.example", ["c@d.example"], content * 1000)
    assert isinstance(conn.flush(pair[0].fileno()), int)
    conn.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert conn.flush(pair[0].fileno()) is None
    assert conn.data_to_send() == content * 1000
    assert conn.data_to_send() == b".\r\n"
    assert received(pair[1]).endswith(b"DATA\r\n")


def test_flush_keeps_the_output_of_a_broken_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    conn = ready()
    conn.noop()
    pair[1].close()
    assert conn.flush(pair[0].fileno()) is None
    conn.vrfy("x")
    conn.receive_data(b"250 ok\r\n")
    assert [type(event) for event in conn] == [ehlo.CommandReply]
    assert conn.data_to_send() == b"NOOP\r\nVRFY x\r\n"


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="there is no SIGPIPE here")
def test_flush_makes_no_signal_where_a_program_wants_it() -> None:
    program = """
import signal, socket, ehlo
from ehlo._sockets import no_signal

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
conn.receive_data(b"220 mx.example\\r\\n")
ours, theirs = socket.socketpair()
no_signal(ours)
theirs.close()
print(conn.flush(ours.fileno()), len(conn.data_to_send()) > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "None True\n"), done.stderr


def test_the_signal_is_an_option_of_the_socket_on_apple_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sock:
        asked: ClassVar[list[tuple[int, ...]]] = []

        def setsockopt(self, *option: int) -> None:
            self.asked.append(option)
            raise OSError

    no_signal(Sock())
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", "darwin")
        no_signal(Sock())
    option = (socket.SOL_SOCKET, 0x1022, 1)
    assert Sock.asked == [option] * (2 if sys.platform == "darwin" else 1)


def test_flush_keeps_the_output_of_a_closed_socket() -> None:
    conn = ready()
    conn.noop()
    assert conn.flush(-1) is None
    assert conn.data_to_send() == b"NOOP\r\n"


def test_exchange_tells_why_nothing_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    conn = ready()
    with pytest.raises(BlockingIOError):
        conn.exchange(ours.fileno())
    theirs.close()
    with pytest.raises(EOFError):
        conn.exchange(ours.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        conn.exchange(-1)
    with pytest.raises(OSError, match="descriptor"):
        conn.exchange(1 << 20)
    assert not conn.closed  # that is for the program to say


def test_a_turn_gives_back_what_the_system_does_not_take(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    conn = ready()
    conn.send_message("a@b.example", ["c@d.example"], b"hi\r\n")
    assert isinstance(conn.flush(ours.fileno()), int)
    assert received(theirs).endswith(b"DATA\r\n")
    filled = fill(ours)
    theirs.send(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert turn(ours, conn) == [None]
    assert conn.exchanged_at == NOW
    assert received(theirs) == b"y" * filled
    conn.noop()
    assert conn.flush(ours.fileno()) == len(b"hi\r\n.\r\nNOOP\r\n")
    assert received(theirs) == b"hi\r\n.\r\nNOOP\r\n"


def test_a_turn_gives_back_the_output_of_a_broken_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    conn = ready()
    conn.send_message("a@b.example", ["c@d.example"], b"hi\r\n")
    assert isinstance(conn.flush(ours.fileno()), int)
    received(theirs)
    theirs.send(b"250 ok\r\n250 ok\r\n354 go\r\n")
    theirs.close()
    assert [type(what) for what in turn(ours, conn)] == [BrokenPipeError]
    assert conn.data_to_send() == b"hi\r\n.\r\n"
    assert turn(ours, conn) == [b""]
    assert not conn.closed  # that is for receive_eof


def test_a_turn_leaves_large_output_and_pieces_to_the_program(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    go = b"250 ok\r\n250 ok\r\n354 go\r\n"
    conn = ready()
    content = (b"z" * 70 + b"\r\n") * 1000
    conn.send_message("a@b.example", ["c@d.example"], content)
    assert isinstance(conn.flush(ours.fileno()), int)
    theirs.send(go)
    assert turn(ours, conn) == [None]
    assert conn.flush(ours.fileno()) is None
    assert conn.data_to_send() == content
    conn = ready()
    number = conn.start_message("a@b.example", ["c@d.example"])
    assert isinstance(conn.flush(ours.fileno()), int)
    theirs.send(go)
    assert turn(ours, conn) == [None]
    assert conn.content_wanted == number


def test_a_turn_leaves_tls_to_the_program(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example", tls="required"))
    theirs.send(b"220 mx.example\r\n")
    assert turn(ours, conn) == []
    theirs.send(b"250-mx.example\r\n250 STARTTLS\r\n")
    assert turn(ours, conn) == []
    assert received(theirs) == b"EHLO client.example\r\nSTARTTLS\r\n"
    theirs.send(b"220 go\r\n")
    assert turn(ours, conn) == [None]
    assert isinstance(conn.next_event(), ehlo.StartTls)
    theirs.send(b"\x16\x03\x03")
    assert turn(ours, conn) == [READ]
    assert ours.recv(9) == b"\x16\x03\x03"
    conn.tls_established()
    assert turn(ours, conn) == [READ]  # what comes is TLS
