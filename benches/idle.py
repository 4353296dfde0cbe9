"""Memory of an idle connection after EHLO, above what an asyncio transport with an empty protocol costs.

python benches/idle.py [--connections 5000] [--loop asyncio|uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import subprocess
import sys

import ehlo.asyncio


class Bare(asyncio.BufferedProtocol):
    """The least that greets and answers EHLO."""

    buffer = memoryview(bytearray(65536))
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 x\r\n")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(b"250 x\r\n")


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def measure(kind: str, connections: int) -> float:
    loop = asyncio.get_running_loop()
    if kind == "ehlo":
        server = await ehlo.asyncio.serve(ehlo.Handler(), "127.0.0.1", 0, limits=ehlo.Limits(max_connections=None))
        port = server.port
    else:
        bare = await loop.create_server(Bare, "127.0.0.1", 0, backlog=1024)
        port = bare.sockets[0].getsockname()[1]

    async def clients(count: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--client",
            str(port),
            "--connections",
            str(count),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        await process.stdout.readline()
        figures.append(resident())
        process.stdin.close()
        await process.wait()

    figures: list[int] = []
    await clients(200)  # warm up: code, allocator, loop
    before = resident()
    await clients(connections)
    return (figures[-1] - before) / connections


def client(port: int, connections: int) -> None:
    import socket

    sockets = []
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.recv(1000)
        connection.sendall(b"EHLO idle.example\r\n")
        connection.recv(4000)
        sockets.append(connection)
    print("ready", flush=True)
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.client:
        client(options.client, options.connections)
    elif options.kind:
        if options.loop == "uvloop":
            import uvloop

            print(uvloop.run(measure(options.kind, options.connections)))
        else:
            print(asyncio.run(measure(options.kind, options.connections)))
    else:
        figures = {}
        for kind in ("bare", "ehlo"):  # a process each, so that neither finds the other's freed memory
            command = [
                sys.executable,
                __file__,
                "--kind",
                kind,
                "--loop",
                options.loop,
                "--connections",
                str(options.connections),
            ]
            figures[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            each = f"{figures[kind] / 1024:6.2f} KiB a connection"
            print(f"{kind:5} {each}, {options.connections} connections, {options.loop}")
        print(f"above the transport: {(figures['ehlo'] - figures['bare']) / 1024:.2f} KiB")


if __name__ == "__main__":
    main()
