"""CPU per message of the trio server, beside a bare trio SocketStream that answers from a table, and beside asyncio.

    python benches/trio_server.py [--rounds 5] [--size 1024] [--servers ehlo-trio,bare-trio,ehlo-asyncio,bare-asyncio]

Lock-step, 20 connections, Postfix's ``smtp-source -d``; the servers on one core, the load on another, as in server.py
beside this file. A bare server is the least that the library can do with a stream of its own: it knows no line, no
sequence and no limit. Ratios are taken within a round. Judge by them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from functools import partial

TABLE = {
    b"EHLO": b"250 bare.example\r\n",
    b"HELO": b"250 bare.example\r\n",
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 Go on\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
NAMES = ("ehlo-trio", "bare-trio", "ehlo-asyncio", "bare-asyncio")


def ehlo_trio(port: int) -> None:
    import trio

    import ehlo.trio

    trio.run(partial(ehlo.trio.serve, ehlo.Handler(), "127.0.0.1", port))


def bare_trio(port: int) -> None:
    import trio

    async def session(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 bare.example ESMTP\r\n")
        while data := await stream.receive_some(65536):
            verb = data[:4]
            await stream.send_all(TABLE[verb])
            if verb == b"DATA":
                while not data.endswith(b"\r\n.\r\n"):
                    data = await stream.receive_some(65536)
                await stream.send_all(b"250 2.0.0 Ok\r\n")
            elif verb == b"QUIT":
                break
        await stream.aclose()

    trio.run(partial(trio.serve_tcp, session, port, host="127.0.0.1"))


def ehlo_asyncio(port: int) -> None:
    import asyncio

    import ehlo.asyncio

    async def main() -> None:
        async with await ehlo.asyncio.serve(ehlo.Handler(), "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(main())


def bare_asyncio(port: int) -> None:
    import asyncio

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 bare.example ESMTP\r\n")
        while data := await reader.read(65536):
            verb = data[:4]
            writer.write(TABLE[verb])
            if verb == b"DATA":
                while not data.endswith(b"\r\n.\r\n"):
                    data = await reader.read(65536)
                writer.write(b"250 2.0.0 Ok\r\n")
            elif verb == b"QUIT":
                break
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(session, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(main())


def main() -> None:
    from server import Server, load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="octets of content")
    parser.add_argument("--messages", type=int, default=10_000, help="of one round")
    parser.add_argument("--servers", default=",".join(NAMES))
    options = parser.parse_args()
    names = options.servers.split(",")
    figures: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds):
        order = names if turn % 2 == 0 else names[::-1]
        with contextlib.ExitStack() as stack:
            servers = {
                name: stack.enter_context(Server([sys.executable, __file__, "--kind", name, "{port}"]))
                for name in order
            }
            for name in order:
                load(servers[name], 200, options.size, False)
                figures[name].append(load(servers[name], options.messages, options.size, False))
    print(f"{options.size} octets, lock-step, 20 connections")
    for name in names:
        row = f"  {name:13} {statistics.median(figures[name]) * 1e6:8.1f} us a message"
        for peer in ("bare-trio", "bare-asyncio", "ehlo-asyncio"):
            if peer in names:
                ratios = [ours / theirs for ours, theirs in zip(figures[name], figures[peer], strict=True)]
                row += f"   {statistics.median(ratios):6.3f}x {peer}"
        print(row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kind"]:
        KINDS = {
            "ehlo-trio": ehlo_trio,
            "bare-trio": bare_trio,
            "ehlo-asyncio": ehlo_asyncio,
            "bare-asyncio": bare_asyncio,
        }
        KINDS[sys.argv[2]](int(sys.argv[3]))
    else:
        main()
