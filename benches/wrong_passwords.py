"""Honest mail while many clients try wrong passwords: how much slower does it get?

    python benches/wrong_passwords.py                          # 150 and 600 clients, on asyncio, uvloop and trio
    python benches/wrong_passwords.py --loop trio --clients 50 --seconds 3

``ehlo serve`` has two listeners: one for users and one for mail from other servers, which goes into a Maildir. The
attackers are a process of their own. Each of their clients connects to the first listener, says a wrong password until
the server closes, and begins again. Meanwhile honest mail comes to the second listener, one message after the other on
one connection, and after it as many with a connection each. An honest user logs in from another address.

The attackers come from one address (127.0.0.1), or with ``--networks N`` from as many. Quiet and loud times take
turns. Each round has a ratio of their medians, and the median of the ratios counts, with the smallest and the largest
in parentheses. Compare nothing else: all processes share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import re
import smtplib
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import ehlo
from ehlo.bench._compare.children import bound

PASSWORD = "pencil, sharp"  # nothing but a bench's
SETTINGS = """
hostname = "mx.example"
loop = "{loop}"
quiet = true
deadline = 0
[auth]
users = "users"
in_clear = true
[[route]]
domains = ["d.example"]
to = "maildir:box"
[[route]]
from = "users"
to = "fail:550 5.7.1 Only local mail"
[limits]
max_messages = 0
[[listener]]
port = 0
[[listener]]
protocol = "submission"
port = 0
"""
MESSAGE = b"Subject: x\r\n\r\n" + b"hello\r\n" * 100


@contextlib.contextmanager
def server(loop: str, place: Path) -> Iterator[list[int]]:
    """The ports of the two listeners."""
    users = ehlo.Users(place / "users", create=True)
    users.add("jane", PASSWORD)
    (place / "serve.toml").write_text(SETTINGS.format(loop=loop))
    command = [sys.executable, "-m", "ehlo", "serve", str(place / "serve.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=bound())
    try:
        assert process.stdout is not None
        ports = []
        for _ in range(2):
            found = re.search(r"listening on \S+:(\d+) ", process.stdout.readline())
            assert found is not None
            ports.append(int(found[1]))
        yield ports
    finally:
        process.terminate()
        print(" ", process.communicate()[0].strip())


@contextlib.contextmanager
def attackers(clients: int, networks: int, port: int) -> Iterator[Callable[[], Counter[str]]]:
    """So many clients with wrong passwords, in a process of their own. Gives what ends it and counts the replies."""
    command = [sys.executable, __file__, "--attack", str(port), "--clients", str(clients), "--networks", str(networks)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end() -> Counter[str]:
        out, _ = process.communicate("", timeout=60)
        return Counter({word: int(count) for word, count in (line.split() for line in out.splitlines())})

    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"  # the first of them has got a reply to a password
        yield end
    finally:
        if process.poll() is None:
            process.kill()


async def attack(port: int, clients: int, networks: int) -> Counter[str]:
    """Try wrong passwords until standard input ends. Gives how often which reply came."""
    codes: Counter[str] = Counter()
    begun = asyncio.Event()
    guess = b"AUTH PLAIN " + base64.b64encode(b"\0jane\0guess") + b"\r\n"

    async def one(number: int) -> None:
        n = number % networks
        while True:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(f"127.0.{n // 250}.{n % 250 + 1}", 0)
            )
            # A reset at the end: the server need not answer what it has still to answer after a FIN.
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                await reader.readline()
                writer.write(b"EHLO attacker.example\r\n")
                while (await reader.readline())[3:4] == b"-":
                    pass
                while True:
                    writer.write(guess)
                    line = await reader.readline()
                    if not line:
                        break
                    codes[line[:3].decode()] += 1
                    begun.set()
            except ConnectionError:
                codes["reset"] += 1
            finally:
                writer.close()

    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(sys.stdin, over.cancel)
    tasks = [asyncio.ensure_future(one(number)) for number in range(clients)]
    await begun.wait()
    print("begun", flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await over
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return codes


def connect(port: int, address: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port, "honest.example", 120, source_address=(address, 0))


def deliver(client: smtplib.SMTP) -> None:
    refused = client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
    assert not refused


Times = tuple[list[float], list[float]]
"""Seconds of deliveries on one connection, and of those with a connection of their own."""


def add_times(port: int, seconds: float, times: Times) -> None:
    def deliver_anew() -> None:
        with connect(port) as client:
            deliver(client)

    with connect(port) as kept:
        deliver(kept)
        works: tuple[Callable[[], None], ...] = (partial(deliver, kept), deliver_anew)
        for work, found in zip(works, times, strict=True):
            end = time.perf_counter() + seconds / 2
            while time.perf_counter() < end:
                began = time.perf_counter()
                work()
                found.append(time.perf_counter() - began)


def login(port: int) -> str:
    """How an honest user fares, who comes from another address and tries again after a 454."""
    began = time.perf_counter()
    for attempt in range(1, 100):
        with connect(port, "127.1.0.1") as client:
            try:
                client.login("jane", PASSWORD, initial_response_ok=True)
            except smtplib.SMTPAuthenticationError as exc:
                if exc.smtp_code != 454:
                    raise
                continue
        return f"{time.perf_counter() - began:.2f} s" + (f" at attempt {attempt}" if attempt > 1 else "")
    return "never"


def measure(loop: str, arguments: argparse.Namespace) -> None:
    print(f"{loop}:")
    with tempfile.TemporaryDirectory() as place, server(loop, Path(place)) as (mail, submission):
        add_times(mail, 1.0, ([], []))
        for clients in arguments.clients:
            codes: Counter[str] = Counter()
            logins = []
            pairs: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
            for _ in range(arguments.rounds):
                quiet: Times = ([], [])
                loud: Times = ([], [])
                add_times(mail, arguments.seconds, quiet)
                with attackers(clients, arguments.networks, submission) as end:
                    add_times(mail, arguments.seconds, loud)
                    logins.append(login(submission))
                    codes += end()
                for found, before, after in zip(pairs, quiet, loud, strict=True):
                    found.append((statistics.median(before) * 1e3, statistics.median(after) * 1e3))
            said = []
            for name, found in zip(("kept", "new"), pairs, strict=True):
                ratios = sorted(after / before for before, after in found)
                before, after = (statistics.median(column) for column in zip(*found, strict=True))
                said.append(
                    f"{name} connection {before:.2f} -> {after:.2f} ms, x {statistics.median(ratios):.1f}"
                    f" ({ratios[0]:.1f} to {ratios[-1]:.1f})"
                )
            said.append(f"honest logins {', '.join(logins)}")
            said.append(f"replies to attackers {dict(codes)}")
            print(f"  {clients:4} clients: {'; '.join(said)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loop", choices=("asyncio", "uvloop", "trio"), action="append", help="(default: all)")
    parser.add_argument("--clients", type=int, nargs="+", default=[150, 600], help="with wrong passwords")
    parser.add_argument("--networks", type=int, default=1, help="addresses that they come from")
    parser.add_argument("--rounds", type=int, default=5, help="quiet and loud by turns")
    parser.add_argument("--seconds", type=float, default=2.0, help="of honest mail, in each half of a round")
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack is not None:
        for word, count in asyncio.run(attack(arguments.attack, arguments.clients[0], arguments.networks)).items():
            print(word, count)
        return
    for loop in arguments.loop or ("asyncio", "uvloop", "trio"):
        measure(loop, arguments)


if __name__ == "__main__":
    main()
