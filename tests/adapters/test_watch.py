"""``EpollWatch``: what it does by itself, and what it leaves to the transports."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

import pytest

import ehlo
from ehlo._io.watch import READ, WRITE, EpollWatch

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")


class Soon:
    """A loop that keeps the calls that come soon."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        self.calls.append(lambda: callback(*args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        raise NotImplementedError

    def call_exception_handler(self, context: dict[str, Any]) -> object:
        raise NotImplementedError


@pytest.fixture
def watch() -> Iterator[EpollWatch]:
    watch = EpollWatch(lambda: 3.5)
    yield watch
    watch.close()


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    made = [socket.socketpair() for _ in range(count)]
    for pair in made:
        for end in pair:
            end.setblocking(False)
    return made


def test_it_answers_by_itself_what_the_engine_can_answer(watch: EpollWatch) -> None:
    ((ours, theirs),) = pairs(1)
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example"))
    left: list[Any] = []
    with ours, theirs:
        watch.add(ours.fileno(), READ, left.append, conn)
        theirs.send(b"NOOP\r\n")
        watch.turn(Soon())
        assert theirs.recv(100) == b"220 mx.example ESMTP\r\n250 2.0.0 OK\r\n"
        assert conn.exchanged_at == 3.5
        theirs.send(b"QUIT\r\n")
        watch.turn(Soon())
        assert isinstance(conn.next_event(), ehlo.Disconnect)
        assert conn.data_to_send().startswith(b"221")
        watch.change(ours.fileno(), READ | WRITE)  # the transport has a backlog
        theirs.send(b"NOOP\r\n")
        watch.turn(Soon())
        watch.change(ours.fileno(), READ, conn)
        theirs.close()
        watch.turn(Soon())
        watch.turn(Soon())
        watch.remove(ours.fileno())
        watch.turn(Soon())
    assert left == [None, READ | WRITE, b""]


def test_nothing_is_lost_when_a_call_is_interrupted(watch: EpollWatch) -> None:
    told: list[Any] = []

    def interrupted(what: Any) -> None:
        told.append(what)
        if len(told) == 2:
            raise KeyboardInterrupt

    loop = Soon()
    made = pairs(4)
    for ours, theirs in made:
        watch.add(ours.fileno(), READ, interrupted, ehlo.ServerConnection(ehlo.ServerConfig("mx.example")))
        theirs.send(b"QUIT\r\n")
    with pytest.raises(KeyboardInterrupt):
        watch.turn(loop)
    assert len(told) == 2
    watch.turn(loop)  # nothing more can be read
    assert len(told) == 2
    (go_on,) = loop.calls
    go_on()
    assert told == [None] * 4
    for pair in made:
        for end in pair:
            end.close()
