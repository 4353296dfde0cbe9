"""What one turn of an event loop has read for several connections, and what comes between the reading and the calls."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from backends import BACKENDS, MAIL, PATIENCE, Asyncio, Backend, Client, Peer
from ehlo._sockets import no_delay

CONFIG = ehlo.ServerConfig("mx.example")


@pytest.fixture(params=[name for name, kind in BACKENDS.items() if issubclass(kind, Asyncio)])
def backend(request: pytest.FixtureRequest) -> Asyncio:
    backend = BACKENDS[request.param]()
    assert isinstance(backend, Asyncio)
    return backend


@pytest.mark.parametrize("answered_first", [False, True])
def test_a_handler_that_goes_on_in_the_turn_does_not_overtake_its_session(
    backend: Asyncio, answered_first: bool
) -> None:
    # on_body waits for another server, whose reply comes in the same turn as RSET and the next message. The task of
    # on_body goes on within the turn that has read both.
    contents: list[bytes] = []
    aborted: list[str] = []
    asked: asyncio.Event
    other: ehlo.asyncio.Client
    peer: Peer

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            content = await anext(body)
            if content == b"first":
                await other.noop()
                return
            try:
                async for chunk in body:
                    content += chunk
            except ehlo.ContentAbortedError as exc:
                aborted.append(exc.reason)
                raise
            contents.append(content)

    async def script(playing: Peer) -> None:
        nonlocal peer
        peer = playing
        await peer.hello()
        assert await peer.line() == b"NOOP"
        asked.set()
        await peer.farewell()

    async def main() -> None:
        nonlocal asked, other
        asked = asyncio.Event()
        async with (
            await backend.serve(Mine(), config=CONFIG) as server,
            backend.scripted(script) as port,
            ehlo.asyncio.connect("127.0.0.1", port, hostname="client.example") as other,
        ):
            client = await backend.ready(server)
            no_delay(client.sock)
            await client.send(MAIL + b"BDAT 5\r\nfirst")
            assert await client.codes(3) == ["250"] * 3
            await asked.wait()
            steps: list[tuple[Callable[[bytes], object], bytes]] = [
                (peer.say, b"250 ok\r\n"),
                (client.send_now, b"RSET\r\n" + MAIL + b"BDAT 6\r\n"),
            ]
            for say, octets in steps if answered_first else reversed(steps):
                say(octets)
            assert await client.codes(3) == ["250"] * 3
            await client.send(b"secondBDAT 5 LAST\r\n-more")
            assert await client.codes(2) == ["250"] * 2
            assert (contents, aborted) == ([b"second-more"], [])
            client.close()

    backend.run(main)


class Visits:
    """A server with five clients, whose commands one turn reads. A signal interrupts the handler of one of them."""

    def __init__(self, backend: Backend, place: int, later: bool) -> None:
        self.backend = backend
        self.place = place
        self.later = later
        self.contents: list[bytes] = []
        self.clients: list[Client] = []
        self.server: Any = None

    class Handler(ehlo.Handler):
        def __init__(self, visits: Visits) -> None:
            self.visits = visits

        def on_vrfy(self, session: ehlo.Session, argument: str) -> Any:
            if argument == "joe":
                return "252 2.1.5 it is joe"
            return self.interrupted() if self.visits.later else signal.raise_signal(signal.SIGUSR1)

        async def interrupted(self) -> None:
            signal.raise_signal(signal.SIGUSR1)

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            self.visits.contents.append(content)

    async def begin(self) -> None:
        for _ in range(5):
            self.clients.append(await self.backend.ready(self.server))
        for client in self.clients[:2]:
            no_delay(client.sock)
            await client.send(MAIL + b"DATA\r\n")
            assert await client.codes(3) == ["250", "250", "354"]

    def say_all(self) -> None:
        octets = [b"one\r\n.\r\n", b"two\r\n.\r\nQUIT\r\n", b"VRFY joe\r\n", b"NOOP\r\n"]
        octets.insert(self.place, b"VRFY now\r\n")
        clients = [*self.clients[:4]]
        clients.insert(self.place, self.clients[4])
        for client, said in zip(clients, octets, strict=True):
            assert client.send_now(said) == len(said)

    async def look(self, *, served: bool) -> None:
        """Each has what it asked for once, or nothing and the end. What was accepted is there, and nothing twice."""
        heard = [(await client.rest()).decode() for client in self.clients]
        good = ["250 2.0.0 OK\r\n", "250 2.0.0 OK\r\n221 2.0.0 Bye\r\n"]
        good += ["252 2.1.5 it is joe\r\n", "250 2.0.0 OK\r\n", ""]
        bye = "421 4.3.2 mx.example Service shutting down\r\n"
        for said, expected in zip(heard, good, strict=True):
            assert said in ([expected + bye, expected] if served else [expected + bye, expected, bye, ""])
        assert heard[4] == bye
        accepted = [content for content, said in zip([b"one\r\n", b"two\r\n"], heard, strict=False) if "250" in said]
        assert sorted(self.contents) == accepted


def stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, stop)
    yield
    signal.signal(signal.SIGUSR1, before)


def run_interrupted(backend: Any, *parts: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the three parts in one loop of asyncio. A signal ends the second."""
    with asyncio.Runner(loop_factory=backend.loop_factory) as runner:
        backend.loop = runner.get_loop()
        before, interrupted, after = parts
        runner.run(before())
        with pytest.raises(KeyboardInterrupt):
            runner.run(interrupted())
        runner.run(after())


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_an_interrupt_loses_nothing_of_its_turn_on_asyncio(name: str, place: int, later: bool) -> None:
    backend: Any = BACKENDS[name]()
    visits = Visits(backend, place, later)
    said: list[asyncio.Task[Any]] = []

    async def begin() -> None:
        visits.server = await backend.serve(visits.Handler(visits), config=CONFIG)
        await visits.begin()

    async def say() -> None:
        said.extend(filter(None, [asyncio.current_task()]))
        visits.say_all()
        await asyncio.Event().wait()

    async def look() -> None:
        for task in said:
            task.cancel()
        # The others are served in the turns that come.
        await backend.until(lambda: len(visits.contents) == 2 and visits.server.connections <= 3)
        await visits.server.close(PATIENCE)
        await visits.look(served=True)
        for client in visits.clients:
            client.close()

    run_interrupted(backend, begin, say, look)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("place", range(5))
def test_an_interrupt_loses_nothing_of_its_turn_on_trio(place: int, later: bool) -> None:
    trio = pytest.importorskip("trio")
    backend = BACKENDS["trio"]()
    visits = Visits(backend, place, later)

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            visits.server = await nursery.start(partial(backend.adapter.serve, visits.Handler(visits), config=CONFIG))
            await visits.begin()
            visits.say_all()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve()
        assert caught.group_contains(KeyboardInterrupt)
        await visits.look(served=False)
        for client in visits.clients:
            client.close()

    backend.run(main)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_an_interrupted_handler_is_told_of_the_end_once_on_asyncio(name: str, gone: bool) -> None:
    backend: Any = BACKENDS[name]()
    told: list[str] = []
    clients: list[Client] = []
    asked = asyncio.Event()

    class Mine(ehlo.Handler):
        async def on_vrfy(self, session: ehlo.Session, argument: str) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:  # it is cancelled, since its client is gone or the server closes
                signal.raise_signal(signal.SIGUSR1)

        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            told.append(reason)

    server: Any = None

    async def begin() -> None:
        nonlocal server
        server = await backend.serve(Mine(), config=CONFIG.replace(content="discard"))
        clients.append(await backend.ready(server))
        await clients[0].send(b"VRFY joe\r\n")
        await asked.wait()

    async def end() -> None:
        if gone:
            clients[0].reset()
        else:
            await server.close(0)
        await asyncio.Event().wait()

    async def look() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await backend.until(lambda: told)
        await server.close(0)
        assert len(told) == 1

    run_interrupted(backend, begin, end, look)
    clients[0].close()
