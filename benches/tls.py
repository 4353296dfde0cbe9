"""What TLS costs our server, beside a bare asyncio server that answers from a table, both with implicit TLS.

    python benches/tls.py [--rounds 5] [--messages 4000] [--size 1024] [--handshakes 400]

CPU of the server's process for a message (lock-step, 20 connections) and for a connection (handshake, greeting, QUIT).
Each server runs alone on the first core, the load on the second; rounds are interleaved, ratios are taken within one.
The bare server knows no SMTP: it finds the line that ends a step and says the reply that is due.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme

import ehlo
import ehlo.asyncio
from server import cpu

CONNECTIONS = 20
STEPS = (
    (b"MAIL FROM:<a@b.example>\r\n", b"250 2.1.0 OK\r\n"),
    (b"RCPT TO:<c@d.example>\r\n", b"250 2.1.5 OK\r\n"),
    (b"DATA\r\n", b"354 End data with <CRLF>.<CRLF>\r\n"),
)


class Bare(asyncio.Protocol):
    """Says the next reply at each end of a step."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.step, self.seen = 0, b""
        transport.write(b"220 bare ESMTP\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.seen = self.seen[-4:] + data
        if self.step == 4:  # content
            if not self.seen.endswith(b"\r\n.\r\n"):
                return
            reply, self.step = b"250 2.0.0 OK\r\n", 1
        elif data.startswith(b"QUIT"):
            self.transport.write(b"221 2.0.0 Bye\r\n")  # type: ignore[attr-defined]
            self.transport.close()
            return
        elif self.step == 0:
            reply, self.step = b"250 bare\r\n", 1
        else:
            reply, self.step = STEPS[self.step - 1][1], self.step + 1
        self.transport.write(reply)  # type: ignore[attr-defined]


async def serve(kind: str, certificate: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if kind == "ehlo":
        config = ehlo.ServerConfig("mx.example", tls="implicit", max_messages=None)
        server = await ehlo.asyncio.serve(ehlo.Handler(), "127.0.0.1", 0, config=config, tls=context)
        print(server.port, flush=True)
    else:
        bare = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0, ssl=context)
        print(bare.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: bytes) -> None:
    writer.write(octets)
    while (await reader.readline())[3:4] == b"-":
        pass


async def load(port: int, messages: int, size: int, handshakes: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    content = (b"x" * 78 + b"\r\n") * (size // 80) + b".\r\n"

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await ask(reader, writer, b"")
        if count:
            await ask(reader, writer, b"EHLO c.example\r\n")
        for _ in range(count):
            for octets, _ in STEPS:
                await ask(reader, writer, octets)
            await ask(reader, writer, content)
        await ask(reader, writer, b"QUIT\r\n")
        writer.close()

    if messages:
        await asyncio.gather(*(one(messages // CONNECTIONS) for _ in range(CONNECTIONS)))
    for _ in range(handshakes):
        await one(0)


def measure(kind: str, certificate: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds of CPU a message and a connection, and connections a second."""
    command = [sys.executable, __file__, "--serve", kind, "--certificate", certificate]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {0})
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        asyncio.run(load(port, 200, options.size, 20))
        before = cpu(process)
        asyncio.run(load(port, options.messages, options.size, 0))
        between, start = cpu(process), time.perf_counter()
        asyncio.run(load(port, 0, 0, options.handshakes))
        spent = time.perf_counter() - start
        each = (between - before) / options.messages, (cpu(process) - between) / options.handshakes
        return (*each, options.handshakes / spent)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--size", type=int, default=1024, help="octets of content")
    parser.add_argument("--handshakes", type=int, default=400)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--certificate", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.certificate))
        return
    os.sched_setaffinity(0, {1})
    kinds = ("ehlo", "bare")
    figures: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        certificate = str(Path(folder) / "certificate.pem")
        trustme.CA().issue_cert("mx.example").private_key_and_cert_chain_pem.write_to_path(certificate)
        for turn in range(options.rounds):
            for kind in kinds if turn % 2 == 0 else kinds[::-1]:
                figures[kind].append(measure(kind, certificate, options))
    for kind in kinds:
        message, connection, rate = (statistics.median(column) for column in zip(*figures[kind], strict=True))
        each = f"{message * 1e6:7.1f} us a message {connection * 1e6:8.1f} us a connection"
        print(f"{kind:5} {each} {rate:7.1f} connections a second, one after another")
    for name, column in (("message", 0), ("connection", 1)):
        pairs = zip(figures["ehlo"], figures["bare"], strict=True)
        ratio = statistics.median(ours[column] / bare[column] for ours, bare in pairs)
        print(f"a {name}: {ratio:.2f}x the bare server")


if __name__ == "__main__":
    main()
