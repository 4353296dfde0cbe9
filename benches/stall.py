"""How long a server keeps its event loop from everybody else, while ten messages of 20 MB come at once.

    python benches/stall.py [--messages 10] [--megabytes 20] [--rounds 3]

A task of the same loop looks at the clock in each turn. The figure is the longest time between two of its turns, in
milliseconds, on each loop: in CPU time of the thread, so that other programs on the machine do not count, and in time
of the clock. Handlers get each message whole, or piece by piece; then it is let go, and the memory with it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from time import perf_counter, thread_time
from typing import Any

import ehlo

SENDER = """
import socket, sys, threading
def send(port, size):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.recv(1000)
        sock.sendall(b"EHLO c.example\\r\\n")
        sock.recv(1000)
        sock.sendall(b"MAIL FROM:<a@b.example>\\r\\nRCPT TO:<c@d.example>\\r\\nDATA\\r\\n")
        octets = b""
        while b"354" not in octets:
            octets += sock.recv(1000)
        sock.sendall((b"x" * 78 + b"\\r\\n") * (size // 80) + b".\\r\\n")
        assert sock.recv(1000).startswith(b"250"), "refused"
port, count, size = map(int, sys.argv[1:])
threads = [threading.Thread(target=send, args=(port, size)) for _ in range(count)]
for one in threads: one.start()
for one in threads: one.join()
"""


class Whole(ehlo.Handler):
    """Gets the content at its end."""

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        pass


class Pieces(ehlo.Handler):
    """Gets the content piece by piece."""

    async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
        async for _ in body:
            pass


class Beat:
    """The longest time between two turns."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self._last = thread_time(), perf_counter()

    def __call__(self) -> None:
        now = thread_time(), perf_counter()
        self.cpu = max(self.cpu, now[0] - self._last[0])
        self.wall = max(self.wall, now[1] - self._last[1])
        self._last = now


def sending(port: int, messages: int, size: int) -> None:
    subprocess.run([sys.executable, "-c", SENDER, str(port), str(messages), str(size)], check=True)


async def on_asyncio(handler: Any, config: ehlo.ServerConfig, messages: int, size: int) -> Beat:
    adapter = importlib.import_module("ehlo.asyncio")
    async with await adapter.serve(handler, config=config) as server:
        sent = asyncio.ensure_future(asyncio.to_thread(sending, server.port, messages, size))
        beat = Beat()
        while not sent.done():
            await asyncio.sleep(0)
            beat()
        await sent
    return beat


async def on_trio(handler: Any, config: ehlo.ServerConfig, messages: int, size: int) -> Beat:
    trio, adapter = importlib.import_module("trio"), importlib.import_module("ehlo.trio")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(adapter.serve, handler, config=config))
        done = trio.Event()

        async def send() -> None:
            await trio.to_thread.run_sync(sending, server.port, messages, size)
            done.set()

        nursery.start_soon(send)
        beat = Beat()
        while not done.is_set():
            await trio.lowlevel.checkpoint()
            beat()
        await server.close()
    return beat


def run(loop: str, handler: type[ehlo.Handler], messages: int, size: int) -> Beat:
    config = ehlo.ServerConfig("mx.example.org", max_message_size=size + 1000)
    call = partial(on_trio if loop == "trio" else on_asyncio, handler(), config, messages, size)
    if loop == "trio":
        beat = importlib.import_module("trio").run(call)
    elif loop == "uvloop":
        beat = importlib.import_module("uvloop").run(call())
    else:
        beat = asyncio.run(call())
    assert isinstance(beat, Beat)
    return beat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for handler in (Whole, Pieces):
        for loop in ("asyncio", "uvloop", "trio"):
            beats = [run(loop, handler, options.messages, options.megabytes * 1_000_000) for _ in range(options.rounds)]
            cpu, wall = (sorted(getattr(beat, name) * 1000 for beat in beats) for name in ("cpu", "wall"))
            print(
                f"{handler.__name__:8}{loop:8} CPU {cpu[0]:6.1f} to {cpu[-1]:6.1f} ms   clock {wall[0]:6.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
