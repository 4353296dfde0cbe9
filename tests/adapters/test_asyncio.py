"""What only asyncio has: futures, tasks that cancel themselves, task factories."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest
from backends import BACKENDS, CONFIG, MAIL, Asyncio, descriptors

import ehlo
import ehlo.asyncio
from ehlo.asyncio._dial import connected


@pytest.fixture(params=[name for name, kind in BACKENDS.items() if issubclass(kind, Asyncio)])
def backend(request: pytest.FixtureRequest) -> Asyncio:
    backend = BACKENDS[request.param]()
    assert isinstance(backend, Asyncio)
    return backend


def test_a_handler_may_return_a_future(backend: Asyncio) -> None:
    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> Any:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "550 5.7.1 no")
            return future

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")) == "550 5.7.1 no"

    backend.run(main)


def test_a_handler_that_cancels_itself_has_failed(backend: Asyncio) -> None:
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            raise asyncio.CancelledError

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")

    backend.run(main)


def test_a_lost_connection_is_the_reason_of_the_cancellation(backend: Asyncio) -> None:
    seen: list[str] = []

    async def main() -> None:
        started = asyncio.Event()

        class Mine(ehlo.Handler):
            async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
                started.set()
                try:
                    await backend.forever()
                except asyncio.CancelledError as exc:
                    seen.append(str(exc))
                    raise

        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL + b"DATA\r\nx\r\n.\r\n")
            await started.wait()
            client.reset()
            await backend.until(lambda: seen)

    backend.run(main)
    assert "lost" in seen[0]


def test_leaving_by_cancellation_cuts(backend: Asyncio) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        server = await backend.serve(ehlo.Handler(), config=CONFIG)
        client = await backend.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        with pytest.raises(asyncio.CancelledError):
            async with server:
                raise asyncio.CancelledError
        assert server.statistics.cut == 1

    backend.run(main)


def test_the_first_address_that_answers(backend: Asyncio, monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 8305, and no socket is left of the others, nor when it is cancelled
    with socket.create_server(("127.0.0.1", 0)) as probe:
        closed = probe.getsockname()
    addresses: list[Any] = []
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [(*kind, address) for address in addresses])

    async def connect() -> None:
        (await connected("mx.example", 25, None)).close()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
            sockets = descriptors()
            addresses[:] = [closed, first.getsockname(), second.getsockname()]
            with await connected("mx.example", 25, None) as sock:
                assert sock.getpeername() == first.getsockname()
            for moment in backend.moments:
                number = 1
                while await backend.cancel_at(number, moment, connect):
                    number += 1
                    await backend.until(lambda: descriptors() == sockets)
                assert number > 1
            addresses[:] = [closed, closed]
            with pytest.raises(ConnectionRefusedError):
                await connect()
            await backend.until(lambda: descriptors() == sockets and backend.tasks() == 1)

    backend.run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
def test_a_task_factory_is_respected(backend: Asyncio) -> None:
    made: list[object] = []

    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            pass

    async def main() -> None:
        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        async with await backend.serve(Mine(), config=CONFIG) as server:
            client = await backend.ready(server)
            asyncio.get_running_loop().set_task_factory(factory)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
            asyncio.get_running_loop().set_task_factory(None)
            client.close()
            assert len(made) == 1

    backend.run(main)
