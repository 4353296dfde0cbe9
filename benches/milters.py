#!/usr/bin/env python3
"""The price of a filter for a message: behind Postfix and behind us, by the same Unix socket, in the same run.

OpenDKIM verifies. Each server has two ports, one with the filter and one without. A round sends the same messages to
each of the four, lock-step on one connection, in a changing order. The price is the difference between the two ports of
a server: of time, and of CPU time of the server's own processes. That of the filter is not in it. Postfix must be
started as root. Its queue lies in FOLDER, which should be a tmpfs, and it throws the mail away.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ehlo.bench._compare.children import bound, own_folder
from ehlo.bench._compare.own_postfix import own_postfix

SERVER: Final = """
import sys, ehlo
from ehlo.milter.filters import Filters

class Throw(ehlo.Handler):
    def on_message(self, session, envelope, content):
        return None

async def main():
    import asyncio, ehlo.asyncio
    config = ehlo.ServerConfig("mx.example", max_messages=None)
    async with Filters([sys.argv[1]], Throw()) as filters:
        async with (await ehlo.asyncio.serve(Throw(), "127.0.0.1", 0, config=config) as plain,
                    await ehlo.asyncio.serve(filters, "127.0.0.1", 0, config=config) as filtered):
            print(plain.port, filtered.port, flush=True)
            await asyncio.to_thread(sys.stdin.read)

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    import asyncio
    asyncio.run(main())
"""

POSTFIX: Final = {
    "default_transport": "discard",
    "smtpd_peername_lookup": "no",
    "max_use": 1000000,
    "max_idle": "1h",
    "milter_default_action": "tempfail",
}


def on_cpu(pids: list[int]) -> float:
    """Seconds that all threads of these processes have run."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def until(true: Callable[[], object]) -> None:
    """Wait for half a minute at most."""
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


@contextlib.contextmanager
def opendkim(base: Path) -> Iterator[Path]:
    (base / "keys").write_text("")
    path = base / "filter"
    settings = f"Mode v\nTestPublicKeys {base}/keys\nAuthservID mx.example\nAlwaysAddARHeader yes\n"
    (base / "opendkim.conf").write_text(f"{settings}Socket local:{path}\nSyslog no\nBackground no\nUMask 000\n")
    with subprocess.Popen(["opendkim", "-f", "-x", base / "opendkim.conf"], preexec_fn=bound()) as process:
        try:
            until(path.exists)
            yield path
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def send(port: int, content: bytes, count: int) -> float:
    """Seconds for so many messages, one after the other."""
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as replies:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(line: bytes, code: bytes) -> None:
            sock.sendall(line)
            while (reply := replies.readline())[3:4] == b"-":
                pass
            if not reply.startswith(code):
                raise RuntimeError(f"{line[:40]!r}: {reply!r}")

        ask(b"", b"220")
        ask(b"EHLO client.example\r\n", b"250")
        began = time.perf_counter()
        for _ in range(count):
            ask(b"MAIL FROM:<a@b.example>\r\n", b"250")
            ask(b"RCPT TO:<c@d.example>\r\n", b"250")
            ask(b"DATA\r\n", b"354")
            ask(content + b".\r\n", b"250")
        seconds = time.perf_counter() - began
        ask(b"QUIT\r\n", b"221")
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="/dev/shm")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=200, help="of a round, for each port")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    content = b"From: a@b.example\r\nTo: c@d.example\r\nSubject: x\r\nMessage-ID: <1@b.example>\r\n\r\n"
    content += b"Lorem ipsum dolor sit amet, consectetur adipiscing elit\r\n" * (arguments.size // 57)
    found: dict[str, list[tuple[float, float]]] = {"ehlo": [], "Postfix": []}
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(own_folder("ehlo-milters-", arguments.folder)))
        base.chmod(0o755)
        path = stack.enter_context(opendkim(base))
        command = [sys.executable, "-c", SERVER, f"unix:{path}", arguments.loop]
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=bound())
        stack.callback(ours.wait)
        stack.callback(ours.kill)
        assert ours.stdout is not None
        our_ports = [int(port) for port in ours.stdout.readline().split()]
        listeners = ["", f"-o smtpd_milters=unix:{path}"]
        relay = stack.enter_context(own_postfix(base, POSTFIX, listeners=listeners))
        servers: list[tuple[str, list[int], Callable[[], list[int]]]] = [
            ("ehlo", our_ports, lambda: [ours.pid]),
            ("Postfix", relay.ports, lambda: children(relay.master)),
        ]
        for number in range(-1, arguments.rounds):
            for name, ports, pids in servers[:: 1 if number % 2 else -1]:
                price: dict[int, tuple[float, float]] = {}
                for port in ports[:: 1 if number % 4 < 2 else -1]:
                    before = on_cpu(pids())
                    seconds = send(port, content, arguments.messages)
                    price[port] = seconds, on_cpu(pids()) - before
                if number >= 0:  # the first round makes connections and processes
                    plain, filtered = (price[port] for port in ports)
                    wall, cpu = ((filtered[part] - plain[part]) / arguments.messages * 1e6 for part in (0, 1))
                    found[name].append((wall, cpu))
    for part, what in enumerate(("time", "CPU")):
        mine, theirs = (statistics.median(one[part] for one in found[name]) for name in ("ehlo", "Postfix"))
        ratios = [
            one[part] / two[part] for one, two in zip(found["ehlo"], found["Postfix"], strict=True) if two[part] > 0
        ]
        print(
            f"{what}: ehlo {mine:.0f} us, Postfix {theirs:.0f} us a message: {mine / theirs:.2f}x"
            f" (median of the rounds' ratios {statistics.median(ratios):.2f}x)"
        )


if __name__ == "__main__":
    main()
