"""CPU per message of whole servers, side by side: ours, Postfix's smtp-sink, aiosmtpd.

    python benches/server.py [--rounds 5] [--sizes 1024,102400] [--servers ehlo,ehlo-uvloop,smtp-sink,aiosmtpd]

Each server runs alone on one core, the load on another. Rounds are interleaved, and ratios are taken within a round, so
that what the machine does meanwhile hits all alike. Lock-step load is Postfix's ``smtp-source -d``, 20 connections;
pipelined load is :mod:`pipelined_load` beside this file, one round trip a message. Judge by the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SINK_USER = ["-u", "nobody"] if os.geteuid() == 0 else []
OURS = [sys.executable, "-m", "ehlo", "sink", "--port", "{port}", "--discard", "--quiet"]
SERVERS = {
    "ehlo": OURS,
    "ehlo-uvloop": [*OURS, "--loop", "uvloop"],
    "smtp-sink": ["smtp-sink", *SINK_USER, "-m", "8192", "127.0.0.1:{port}", "1024"],
    "aiosmtpd": [sys.executable, str(HERE / "aiosmtpd_server.py"), "{port}"],
}
CONNECTIONS = 20


def cpu(process: subprocess.Popen[Any]) -> float:
    """Seconds of CPU of all its threads."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Server:
    """A server process pinned to the first core."""

    def __init__(self, command: list[str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [part.format(port=self.port) for part in command],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        )
        deadline = time.monotonic() + 15
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    client.recv(100)
                    client.sendall(b"QUIT\r\n")
                    client.recv(100)
                    return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{command[0]} did not start") from None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu(self) -> float:
        return cpu(self.process)


def load(server: Server, messages: int, size: int, pipelined: bool) -> float:
    """CPU seconds of the server for one message."""
    before = server.cpu()
    if pipelined:
        command = [
            sys.executable,
            str(HERE / "pipelined_load.py"),
            str(server.port),
            str(messages),
            str(size),
            str(CONNECTIONS),
        ]
    else:
        command = ["smtp-source", "-d", "-M", "localhost", "-s", str(CONNECTIONS), "-m", str(messages), "-l", str(size)]
        command.append(f"127.0.0.1:{server.port}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {1}))
    return (server.cpu() - before) / messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1024,102400", help="octets of content, comma separated")
    parser.add_argument("--servers", default=",".join(SERVERS))
    options = parser.parse_args()
    names = options.servers.split(",")
    if not shutil.which("smtp-sink"):
        raise SystemExit("smtp-sink and smtp-source are missing: install Postfix (Debian: apt-get install postfix)")
    cells = [(int(size), pipelined) for pipelined in (False, True) for size in options.sizes.split(",")]
    figures: dict[tuple[str, int, bool], list[float]] = {}
    for turn in range(options.rounds):
        order = names if turn % 2 == 0 else names[::-1]
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(Server(SERVERS[name])) for name in order}
            for size, pipelined in cells:
                for name in order:
                    slow = name == "aiosmtpd"
                    messages = (
                        {False: 10_000, True: 20_000}[pipelined] // (1 if size < 10_000 else 10) // (5 if slow else 1)
                    )
                    load(servers[name], 200, size, pipelined)
                    cost = load(servers[name], messages, size, pipelined)
                    figures.setdefault((name, size, pipelined), []).append(cost)
    for size, pipelined in cells:
        print(f"\n{size} octets, {'pipelined' if pipelined else 'lock-step'}, {CONNECTIONS} connections")
        for name in names:
            costs = figures[name, size, pipelined]
            row = f"  {name:12} {statistics.median(costs) * 1e6:8.1f} us a message"
            for peer in ("smtp-sink", "aiosmtpd"):
                if peer in names:
                    ratios = [ours / theirs for ours, theirs in zip(costs, figures[peer, size, pipelined], strict=True)]
                    row += f"   {statistics.median(ratios):6.3f}x {peer}"
            print(row)


if __name__ == "__main__":
    main()
