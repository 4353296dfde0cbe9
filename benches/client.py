"""CPU per message of whole clients, side by side: ours, Postfix's smtp-source, smtplib, aiosmtplib; to smtp-sink.

    python benches/client.py [--rounds 5] [--sizes 1024,102400] [--clients ehlo-many,ehlo-send,smtp-source,…]
    python benches/client.py --clients trio-many,trio-send,bare-trio     # beside a bare SocketStream in lock-step
    python benches/client.py --chunking     # our client to our own server: messages a second by BDAT and by DATA
    python benches/client.py --large        # a message of 1 GiB from a generator: peak memory
    python benches/client.py --trips        # round trips a message on a warm connection, counted

20 warm connections; the client runs on one core, the server on another. Rounds are interleaved, and ratios are taken
within a round, so that what the machine does meanwhile hits all alike. Start-up and connecting are left out: the Python
workers take the time themselves when all connections have carried a message; of smtp-source a run with one message a
connection is subtracted. Judge by the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from server import CONNECTIONS, SERVERS, Server

SENDER, RECIPIENT = "a@b.example", "c@d.example"
OURS = [*SERVERS["ehlo"], "--max-size", "0"]
CLIENTS = ["ehlo-many", "ehlo-send", "uvloop-many", "uvloop-send", "smtp-source", "smtplib", "aiosmtplib"]
TRIO = ["trio-many", "trio-send", "bare-trio"]
SLOW = ("smtplib", "aiosmtplib")


def content(size: int) -> bytes:
    header = b"From: <a@b.example>\r\nTo: <c@d.example>\r\nSubject: bench\r\n\r\n"
    line = b"X" * 78 + b"\r\n"
    body = line * max(1, (size - len(header)) // 80)
    return header + body


# ---- workers: a process of their own, that prints its CPU seconds a message ----------------------


async def ours(port: int, messages: int, size: int, many: bool, **settings: Any) -> float:
    import ehlo
    import ehlo.asyncio

    octets = content(size)
    config = ehlo.ClientConfig("bench.example", **settings)
    clients = [await ehlo.asyncio.connect("127.0.0.1", port, config=config) for _ in range(CONNECTIONS)]
    share = messages // CONNECTIONS

    async def send_many(client: ehlo.asyncio.Client, count: int) -> None:
        async for result in client.send_many((octets, SENDER, [RECIPIENT]) for _ in range(count)):
            assert result.all_accepted

    async def send(client: ehlo.asyncio.Client, count: int) -> None:
        for _ in range(count):
            await client.send(octets, SENDER, [RECIPIENT])

    work = send_many if many else send
    await asyncio.gather(*(work(client, 5) for client in clients))
    before = time.process_time()
    await asyncio.gather(*(work(client, share) for client in clients))
    cost = time.process_time() - before
    for client in clients:
        client.abort()
    return cost / (share * CONNECTIONS)


async def on_trio(port: int, messages: int, size: int, kind: str) -> float:
    """Our client on trio; or, "bare", a SocketStream that waits for a reply to each command and knows nothing."""
    import trio

    import ehlo
    import ehlo.trio

    octets = content(size)
    config = ehlo.ClientConfig("bench.example")
    commands = [
        f"MAIL FROM:<{SENDER}>\r\n".encode(),
        f"RCPT TO:<{RECIPIENT}>\r\n".encode(),
        b"DATA\r\n",
        octets + b".\r\n",
    ]

    async def bare(client: trio.SocketStream, count: int) -> None:
        for _ in range(count):
            for command in commands:
                await client.send_all(command)
                await client.receive_some()

    async def send(client: ehlo.trio.Client, count: int) -> None:
        if kind == "send":
            for _ in range(count):
                await client.send(octets, SENDER, [RECIPIENT])
        else:
            async for result in client.send_many((octets, SENDER, [RECIPIENT]) for _ in range(count)):
                assert result.all_accepted

    async def connect() -> Any:
        if kind != "bare":
            return await ehlo.trio.connect("127.0.0.1", port, config=config)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await stream.receive_some()
        await stream.send_all(b"HELO bench.example\r\n")
        await stream.receive_some()
        return stream

    clients = [await connect() for _ in range(CONNECTIONS)]
    share = messages // CONNECTIONS

    async def all_of_them(count: int) -> float:
        before = time.process_time()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(bare if kind == "bare" else send, client, count)
        return time.process_time() - before

    await all_of_them(5)
    cost = await all_of_them(share)
    for client in clients:
        if kind == "bare":
            await trio.aclose_forcefully(client)
        else:
            await client.close()
    return cost / (share * CONNECTIONS)


def with_smtplib(port: int, messages: int, size: int) -> float:
    import smtplib

    octets = content(size)
    clients = [smtplib.SMTP("127.0.0.1", port, "bench.example") for _ in range(CONNECTIONS)]
    for client in clients:
        client.sendmail(SENDER, [RECIPIENT], octets)

    def work(client: smtplib.SMTP) -> None:
        for _ in range(messages // CONNECTIONS):
            client.sendmail(SENDER, [RECIPIENT], octets)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.process_time() - before) / (messages // CONNECTIONS * CONNECTIONS)


async def with_aiosmtplib(port: int, messages: int, size: int) -> float:
    import aiosmtplib

    octets = content(size)
    clients = [
        aiosmtplib.SMTP(hostname="127.0.0.1", port=port, local_hostname="bench.example", start_tls=False)
        for _ in range(CONNECTIONS)
    ]
    for client in clients:
        await client.connect()

    async def work(client: Any, count: int) -> None:
        for _ in range(count):
            await client.sendmail(SENDER, [RECIPIENT], octets)

    await asyncio.gather(*(work(client, 1) for client in clients))
    before = time.process_time()
    await asyncio.gather(*(work(client, messages // CONNECTIONS) for client in clients))
    return (time.process_time() - before) / (messages // CONNECTIONS * CONNECTIONS)


def worker(name: str, port: int, messages: int, size: int) -> None:
    if name == "smtplib":
        cost = with_smtplib(port, messages, size)
    elif name == "aiosmtplib":
        cost = asyncio.run(with_aiosmtplib(port, messages, size))
    elif name in TRIO:
        import trio

        cost = trio.run(on_trio, port, messages, size, "bare" if name == "bare-trio" else name.split("-")[1])
    else:
        loop, kind = name.split("-")
        factory = None
        if loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            cost = runner.run(ours(port, messages, size, kind == "many"))
    print(cost)


# ---- the bench -----------------------------------------------------------------------------------


def pinned(command: list[str]) -> tuple[str, float]:
    """Run on the second core; gives what it printed and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {1})
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def source(port: int, messages: int, size: int) -> float:
    command = ["smtp-source", "-d", "-s", str(CONNECTIONS), "-f", SENDER, "-t", RECIPIENT, "-l", str(size)]
    _, base = pinned([*command, "-m", str(CONNECTIONS), f"127.0.0.1:{port}"])
    _, whole = pinned([*command, "-m", str(messages + CONNECTIONS), f"127.0.0.1:{port}"])
    return (whole - base) / messages


def cost_of(name: str, port: int, size: int) -> float:
    messages = 20000 if size < 10000 else 4000
    if name == "smtp-source":
        return source(port, messages, size)
    if name in SLOW:
        messages //= 5
    out, _ = pinned([sys.executable, __file__, "--worker", name, str(port), str(messages), str(size)])
    return float(out)


def compare(options: argparse.Namespace) -> None:
    if not shutil.which("smtp-sink"):
        raise SystemExit("smtp-sink and smtp-source are missing: install Postfix (Debian: apt-get install postfix)")
    names, sizes = options.clients.split(","), [int(size) for size in options.sizes.split(",")]
    figures: dict[tuple[str, int], list[float]] = {}
    for turn in range(options.rounds):
        order = names if turn % 2 == 0 else names[::-1]
        with Server(SERVERS["smtp-sink"]) as server:
            for size in sizes:
                for name in order:
                    figures.setdefault((name, size), []).append(cost_of(name, server.port, size))
    for size in sizes:
        print(f"\n{size} octets, {CONNECTIONS} warm connections")
        for name in names:
            costs = figures[name, size]
            row = f"  {name:12} {statistics.median(costs) * 1e6:8.1f} us a message"
            for peer in ("smtp-source", "smtplib", "aiosmtplib", "bare-trio"):
                if peer in names and peer != name:
                    ratios = [a / b for a, b in zip(costs, figures[peer, size], strict=True)]
                    row += f"   {statistics.median(ratios):6.3f}x {peer}"
            print(row)


def chunking(options: argparse.Namespace) -> None:
    """Messages a second to our own server, by DATA and by BDAT; and our CPU."""
    for size in (int(size) for size in options.sizes.split(",")):
        count = 20000 if size < 10000 else 4000
        figures: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(options.rounds):
            with Server(OURS) as server:
                for chunked in (False, True):
                    begun = time.monotonic()
                    cost = asyncio.run(ours(server.port, count, size, True, chunking=chunked))
                    figures[chunked].append((count / (time.monotonic() - begun), cost))
        print(f"\n{size} octets to our own server, {CONNECTIONS} connections, send_many")
        for chunked, name in ((False, "DATA"), (True, "BDAT")):
            rate = statistics.median(rate for rate, _ in figures[chunked])
            cost = statistics.median(cost for _, cost in figures[chunked])
            print(f"  {name}  {rate:9.0f} messages a second  {cost * 1e6:6.1f} us of client CPU a message")


def large() -> None:
    """1 GiB from a generator, never in memory as a whole."""
    import ehlo
    import ehlo.asyncio

    size = 1 << 30
    piece = (b"X" * 78 + b"\r\n") * 819
    seconds = 0.0

    def pieces() -> Iterator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    async def send(port: int, chunked: bool) -> int:
        nonlocal seconds
        config = ehlo.ClientConfig("bench.example", chunking=chunked)
        async with ehlo.asyncio.connect("127.0.0.1", port, config=config) as client:
            await client.send(content(1024), SENDER, RECIPIENT)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            begun = time.monotonic()
            result = await client.send(pieces(), SENDER, RECIPIENT)
            seconds = time.monotonic() - begun
            assert result.all_accepted
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    for chunked in (False, True):
        with Server(OURS) as server:
            grown = asyncio.run(send(server.port, chunked))
        print(f"1 GiB by {'BDAT' if chunked else 'DATA'}: {seconds:.1f} s, peak memory grew by {grown} KiB")


def trips() -> None:
    """Count what a server that answers a group at once has to read: one group a message."""
    import ehlo
    import ehlo.asyncio

    for chunked in (False, True):
        groups = 0

        async def main(chunked: bool = chunked) -> None:
            nonlocal groups
            async with await ehlo.asyncio.serve(ehlo.Handler(), "127.0.0.1", 0) as server:
                config = ehlo.ClientConfig("bench.example", chunking=chunked)
                async with ehlo.asyncio.connect("127.0.0.1", server.port, config=config) as client:
                    await client.send(content(1024), SENDER, RECIPIENT)
                    (protocol,) = server._live
                    update = type(protocol).buffer_updated

                    def counted(self: Any, count: int) -> None:
                        nonlocal groups
                        groups += 1
                        update(self, count)

                    type(protocol).buffer_updated = counted
                    items = ((content(1024), SENDER, RECIPIENT) for _ in range(1000))
                    async for result in client.send_many(items):
                        assert result.all_accepted
                    type(protocol).buffer_updated = update

        asyncio.run(main())
        print(f"1000 messages by {'BDAT' if chunked else 'DATA'}: {groups} times the server had something to read")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1024,102400", help="octets of content, comma separated")
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--chunking", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--trips", action="store_true")
    parser.add_argument("--worker", nargs=4, metavar=("NAME", "PORT", "MESSAGES", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, *numbers = options.worker
        worker(name, *map(int, numbers))
    elif options.chunking:
        chunking(options)
    elif options.large:
        large()
    elif options.trips:
        trips()
    else:
        compare(options)


if __name__ == "__main__":
    main()
