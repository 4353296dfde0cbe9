"""Ten 20 MB messages at once: the longest stall of the event loop and the peak memory, beside aiosmtpd's.

python benches/stall.py [--messages 10] [--megabytes 20]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import socket
import subprocess
import sys
import threading

TICK = 0.001  # seconds between two looks at the clock


async def watch(stalls: list[float]) -> None:
    """How late a timer of one millisecond comes."""
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(TICK)
        stalls.append(loop.time() - before - TICK)


def send(port: int, megabytes: int) -> None:
    line = b"X" * 76 + b"\r\n"
    content = line * (megabytes * 1_000_000 // len(line)) + b".\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        replies = connection.makefile("rb")
        replies.readline()
        for command in (b"HELO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n"):
            connection.sendall(command)
            replies.readline()
        connection.sendall(content)
        if not replies.readline().startswith(b"250"):
            raise SystemExit("refused")


def senders(port: int, messages: int, megabytes: int) -> None:
    threads = [threading.Thread(target=send, args=(port, megabytes)) for _ in range(messages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def measure(kind: str, messages: int, megabytes: int) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    if kind == "ehlo":
        import ehlo.asyncio

        class Collect(ehlo.Handler):
            def on_message(self, session: object, envelope: ehlo.Envelope, content: bytes) -> None:
                if len(content) < megabytes * 990_000:
                    raise ValueError(len(content))

        port = (await ehlo.asyncio.serve(Collect(), "127.0.0.1", 0)).port
    else:
        from aiosmtpd.smtp import SMTP

        class Discard:
            async def handle_DATA(self, server, session, envelope):  # noqa: N802
                return "250 2.0.0 OK"

        server = await loop.create_server(lambda: SMTP(Discard(), data_size_limit=1 << 30, loop=loop), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    stalls: list[float] = []
    watcher = loop.create_task(watch(stalls))
    process = multiprocessing.get_context("spawn").Process(target=senders, args=(port, messages, megabytes))
    await asyncio.to_thread(process.start)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await asyncio.to_thread(process.join)
    watcher.cancel()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return max(stalls), peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        stall, peak = asyncio.run(measure(options.kind, options.messages, options.megabytes))
        print(f"{options.kind:10} longest stall {stall * 1e3:8.1f} ms   peak memory above the start {peak:7.1f} MiB")
        return
    for kind in ("ehlo", "aiosmtpd"):
        command = [
            sys.executable,
            __file__,
            "--kind",
            kind,
            "--messages",
            str(options.messages),
            "--megabytes",
            str(options.megabytes),
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
