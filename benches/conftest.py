"""Fixtures that the benches share: event loops in threads of their own, and sockets whose other end answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from benches import plain

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio", "backend_options": {"use_uvloop": False}},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered here ends with the test, in the opposite order."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def portal(stack: ExitStack) -> Callable[[str], Any]:
    """Start the named loop in a thread of its own. anyio's ``BlockingPortal`` calls functions in it."""

    def start(name: str) -> Any:
        anyio = pytest.importorskip("anyio.from_thread")
        pytest.importorskip(name)
        return stack.enter_context(anyio.start_blocking_portal(**LOOPS[name]))

    return start


@pytest.fixture
def socket_path(stack: ExitStack) -> Path:
    """Where a server listens: a connection to a Unix socket is a pair of sockets without a network between them."""
    return Path(stack.enter_context(TemporaryDirectory())) / "smtp"


@pytest.fixture
def answered(stack: ExitStack) -> socket.socket:
    """One end of a socket pair; at the other end a thread runs :class:`plain.Server` until this end is closed."""
    ours, theirs = socket.socketpair()
    server = plain.Server()

    def answer() -> None:
        with theirs:
            theirs.sendall(plain.GREETING)
            while data := theirs.recv(1 << 18):
                if replies := server.receive(data):
                    theirs.sendall(replies)

    thread = threading.Thread(target=answer)
    stack.callback(thread.join)
    stack.callback(ours.close)
    thread.start()
    return ours
