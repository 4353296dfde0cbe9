"""Connections on every event loop, one for each message or one for all: what is counted by ``instructions.py``.

Each case has one side of ehlo in this process. The other side is plain sockets in a process of its own, which nobody
counts: ``python -m benches.connections PARENT send PORT CONNECTIONS MESSAGES`` or ``… take``. One connection follows
the other. The other side writes only when this process sleeps, so the number of wake-ups does not depend on which of
them is faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from socket import create_connection, create_server, socket
from typing import Any

import ehlo
from benches import plain
from benches.contents import of_size

__all__ = ["client_connections", "client_sends", "server_connections", "server_messages"]

CONTENT = of_size(1024)
WIRE = plain.stuff(CONTENT)
RECIPIENTS = [plain.RECIPIENT]
NAME = ehlo.ClientConfig(plain.CLIENT_NAME)
HELLO = f"EHLO {plain.CLIENT_NAME}\r\n".encode("ascii")
ENVELOPE = f"MAIL FROM:<{plain.SENDER}>\r\nRCPT TO:<{plain.RECIPIENT}>\r\nDATA\r\n".encode("ascii")
FOLDER = Path(__file__).parent.parent
_PR_SET_PDEATHSIG = 1  # prctl(2)


def server_connections(loop: str, connections: int) -> Callable[[], None]:
    """A server on "asyncio", "uvloop" or "trio", to which so many clients send 1 KiB each, one after the other."""
    return partial(_run, loop, partial(_serve, loop, connections, 1))


def server_messages(loop: str, messages: int) -> Callable[[], None]:
    """The same, with all messages over one connection: two round trips for each."""
    return partial(_run, loop, partial(_serve, loop, 1, messages))


def client_connections(loop: str, connections: int) -> Callable[[], None]:
    """The same from the side of a client; it may be "sync", too."""

    def alone() -> None:
        send = importlib.import_module("ehlo.sync").send
        with _taking() as port:
            for _ in range(connections):
                send(CONTENT, "127.0.0.1", port, plain.SENDER, [plain.RECIPIENT], config=NAME)

    def on_loop() -> None:
        with _taking() as port:
            _run(loop, partial(_send, loop, port, connections))

    return alone if loop == "sync" else on_loop


def client_sends(loop: str, messages: int, many: bool = False) -> Callable[[], None]:
    """One connection, over which a client sends 1 KiB so many times: by ``send``, or all by one ``send_many``."""

    def alone() -> None:
        connect = importlib.import_module("ehlo.sync").connect
        with _taking() as port, connect("127.0.0.1", port, config=NAME) as client:
            if many:
                for _ in client.send_many(_items(messages)):
                    pass
            else:
                for _ in range(messages):
                    client.send(CONTENT, plain.SENDER, RECIPIENTS)

    def on_loop() -> None:
        with _taking() as port:
            _run(loop, partial(_send_kept, loop, port, messages, many))

    return alone if loop == "sync" else on_loop


def _items(messages: int) -> Iterator[tuple[bytes, str, list[str]]]:
    return ((CONTENT, plain.SENDER, RECIPIENTS) for _ in range(messages))


def _run(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if loop == "asyncio":
        asyncio.run(main())
    elif loop == "uvloop":
        importlib.import_module("uvloop").run(main())
    else:
        importlib.import_module("trio").run(main)


async def _serve(loop: str, connections: int, messages: int) -> None:
    config = ehlo.ServerConfig("mx.example.org", content="discard")

    def peer(port: int) -> None:
        subprocess.run(_command("send", port, connections, messages), check=True, cwd=FOLDER)

    if loop != "trio":
        adapter = importlib.import_module("ehlo.asyncio")
        async with await adapter.serve(ehlo.Handler(), config=config) as server:
            await asyncio.to_thread(peer, server.port)
        return
    trio, adapter = importlib.import_module("trio"), importlib.import_module("ehlo.trio")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(adapter.serve, ehlo.Handler(), config=config))
        await trio.to_thread.run_sync(peer, server.port)
        await server.close()


async def _send(loop: str, port: int, connections: int) -> None:
    connect = _connect_of(loop)
    for _ in range(connections):
        async with connect("127.0.0.1", port, config=NAME) as client:
            await client.send(CONTENT, plain.SENDER, [plain.RECIPIENT])


async def _send_kept(loop: str, port: int, messages: int, many: bool) -> None:
    async with _connect_of(loop)("127.0.0.1", port, config=NAME) as client:
        if many:
            async for _ in client.send_many(_items(messages)):
                pass
        else:
            for _ in range(messages):
                await client.send(CONTENT, plain.SENDER, RECIPIENTS)


def _connect_of(loop: str) -> Any:
    return importlib.import_module("ehlo.trio" if loop == "trio" else "ehlo.asyncio").connect


# ---- the other side ----------------------------------------------------------------------------------


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benches.connections", str(os.getpid()), *map(str, arguments)]


def _end_with(parent: int) -> None:
    """Let Linux end this process with the one that has started it, even by SIGKILL. It is asked for here, and not
    between fork and exec: the process that is counted shall only start a program.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before this call, and no signal will come
        raise SystemExit("the process that is counted is gone")


@contextlib.contextmanager
def _taking() -> Iterator[int]:
    """The port of a plain server in a process of its own."""
    with create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        process = subprocess.Popen(_command("take", listener.fileno()), pass_fds=[listener.fileno()], cwd=FOLDER)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _until_it_sleeps() -> None:
    """Wait while the process that is counted, which has started this one, runs (proc(5): R or D)."""
    state = Path(f"/proc/{os.getppid()}/stat")
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] in "RD":
        time.sleep(0.0002)


def _send_plainly(port: int, connections: int, messages: int) -> None:
    for _ in range(connections):
        _until_it_sleeps()
        with create_connection(("127.0.0.1", port)) as sock:
            answer = sock.recv(4096)
            for octets in (HELLO, *(ENVELOPE, WIRE) * messages, b"QUIT\r\n"):
                if answer[:1] not in b"23":
                    raise SystemExit(answer)
                _until_it_sleeps()
                sock.sendall(octets)
                answer = _replies(sock, 3 if octets is ENVELOPE else 1)
            sock.recv(1)  # until the server closes


def _replies(sock: socket, count: int) -> bytes:
    """Read so many replies; the last one begins with this code."""
    octets = b""
    while received := sock.recv(4096):
        octets += received
        lines = octets.splitlines()
        if octets.endswith(b"\r\n") and sum(line[3:4] == b" " for line in lines) == count:
            return lines[-1]
    raise SystemExit("the server closed the connection")


def _take_plainly(descriptor: int) -> None:
    with socket(fileno=descriptor) as listener:
        while True:
            sock, _ = listener.accept()
            with sock:
                server = plain.Server()
                replies, octets = plain.GREETING, b""
                while replies or octets:
                    if replies:
                        _until_it_sleeps()
                        sock.sendall(replies)
                    octets = sock.recv(65536)
                    replies = server.receive(octets)


if __name__ == "__main__":
    _end_with(int(sys.argv[1]))
    if sys.argv[2] == "send":
        _send_plainly(*map(int, sys.argv[3:]))
    else:
        _take_plainly(int(sys.argv[3]))
