#!/usr/bin/env python3
"""CPU of a server for each message: aiosmtpd, and ehlo.compat.aiosmtpd with the same program, in turn in one run.

The program has a handler with ``handle_DATA``, or the ready handler ``Sink``. The client sends 1 KiB on one connection,
once in lock-step and once with one write and one read for each message. Each server is a process of its own. Each
figure is the median of the rounds, in microseconds. What counts is the ratio. Where the system can, the servers have a
processor of their own, and the client another.

    python benches/compat_aiosmtpd.py --messages 2000 --rounds 5
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from ehlo.bench._compare.children import bound
from ehlo.bench._compare.compare import processors

OURS, OTHERS = processors()
PACKAGES: Final = ("aiosmtpd", "ehlo.compat.aiosmtpd")
HANDLERS: Final = ("keep", "sink")
CONTENT: Final = (b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed eiusmod.\r\n" * 15)[:1022] + b"\r\n"
STEPS: Final = (b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", CONTENT + b".\r\n")


class Keep:
    """The program's handler."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        return "250 OK" if envelope.content else "550 empty"


def serve(package: str, handler: str) -> None:
    """Serve until stdin ends. The first line of output is the port."""
    controller = importlib.import_module(f"{package}.controller")
    kept = Keep() if handler == "keep" else importlib.import_module(f"{package}.handlers").Sink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = controller.Controller(kept, hostname="127.0.0.1", port=port, data_size_limit=None)
    made.start()
    print(port, flush=True)
    sys.stdin.read()
    made.stop()


def cpu_seconds(pid: int) -> float:
    """The time that all threads of a process ran (proc_pid_schedstat: nanoseconds, user and system)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def send(sock: socket.socket, messages: int, pipelined: bool) -> None:
    """Pipelined: the content goes out with the commands of the next message, up to its DATA (RFC 2920 3.1)."""
    envelope, content = b"".join(STEPS[:3]), STEPS[3]
    with sock.makefile("rb") as replies:

        def ask(octets: bytes, count: int) -> None:
            sock.sendall(octets)
            for _ in range(count):
                reply = replies.readline()
                assert reply[:1] in b"23", reply

        if pipelined:
            ask(envelope, 3)
            for _ in range(messages - 1):
                ask(content + envelope, 4)
            ask(content, 1)
        else:
            for _ in range(messages):
                for step in STEPS:
                    ask(step, 1)


def measure(package: str, handler: str, messages: int, pipelined: bool) -> float:
    """Microseconds of CPU for each message."""
    command = [sys.executable, __file__, "--serve", package, "--handler", handler]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=bound(OURS)) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.recv(1024)
            sock.sendall(b"EHLO client.example\r\n")
            sock.recv(4096)
            send(sock, messages // 10, pipelined)
            before = cpu_seconds(server.pid)
            send(sock, messages, pipelined)
            return (cpu_seconds(server.pid) - before) / messages * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--handler", choices=["all", *HANDLERS], default="all")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.handler)
        return
    if OTHERS is not None:
        os.sched_setaffinity(0, OTHERS)
    for handler, pipelined in itertools.product(HANDLERS if args.handler == "all" else [args.handler], (False, True)):
        rounds = [
            [measure(package, handler, args.messages, pipelined) for package in PACKAGES] for _ in range(args.rounds)
        ]
        theirs, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        mode = "pipelined" if pipelined else "lock-step"
        print(f"{handler}, {mode}: aiosmtpd {theirs:.0f} us, ours {ours:.0f} us, {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
