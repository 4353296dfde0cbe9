"""The programs of a comparison of queues: ``relay_programs.py sink COUNT`` and ``relay_programs.py relay QUEUE SINK``.

Both print the port on which they listen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import ehlo
import ehlo.asyncio


class _Counting(ehlo.Handler):
    """Takes mail, and writes the number of messages into a file: a reader needs no connection."""

    def __init__(self, file: str) -> None:
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        self._count = 0

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self._count += 1
        os.pwrite(self._file, b"%20d" % self._count, 0)


async def _sink(file: str) -> None:
    async with await ehlo.asyncio.serve(_Counting(file), "127.0.0.1", 0) as server:
        print("listens on", server.port, flush=True)
        await server.serve_forever()


async def _relay(where: str, sink: int) -> None:
    import ehlo.mta

    def route(recipient: ehlo.Recipient) -> ehlo.mta.Route:
        return ehlo.mta.SmartHost("127.0.0.1", sink, tls="off")

    async with ehlo.mta.open_queue(where, hostname="mx.example", route=route) as queue:
        handler = ehlo.mta.QueueHandler(queue)
        async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0, config=queue.server_config()) as server:
            print("listens on", server.port, flush=True)
            await queue.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(_sink(sys.argv[2]) if sys.argv[1] == "sink" else _relay(sys.argv[2], int(sys.argv[3])))
