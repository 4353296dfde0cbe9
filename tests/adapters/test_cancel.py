"""Cancelled at every wait, on every backend: what is cancelled is over or as good as before, and nothing is left of it.

An operation is run again and again, and cancelled at its first wait, its second one, and so on until it gets through.
"""

from __future__ import annotations

import contextlib
import gc
import io
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from test_faults import LEAVE

import ehlo
from backends import CONFIG, MAIL, Backend, Client, Keep, descriptors

A, B = "a@b.example", "c@d.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
USER, PASSWORD = "jane", "secret"
CLIENT = ehlo.ClientConfig("client.example")
KEYS = ehlo.ScramKeys.from_password(PASSWORD)


class Slow(ehlo.Handler):
    """Every decision takes a turn."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.kept: list[tuple[ehlo.Envelope, bytes]] = []
        self.gone: list[str] = []

    async def on_connect(self, session: ehlo.Session) -> None:
        await self.backend.turn()

    async def on_hello(self, session: ehlo.Session, hello: ehlo.Hello) -> None:
        await self.backend.turn()

    async def on_auth(self, session: ehlo.Session, credentials: Any) -> ehlo.ScramKeys:
        await self.backend.turn()
        return KEYS

    async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
        await self.backend.turn()

    async def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
        await self.backend.turn()

    async def on_data(self, session: ehlo.Session, envelope: ehlo.Envelope) -> None:
        await self.backend.turn()

    async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        await self.backend.turn()
        self.kept.append((envelope, content))

    async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
        await self.backend.turn()
        self.gone.append(reason)


class Place:
    """A server, and how its clients connect."""

    def __init__(self, backend: Backend, server: Any, handler: Slow, **options: Any) -> None:
        self.backend = backend
        self.server = server
        self.handler = handler
        self.options = options

    def connect(self, **options: Any) -> Any:
        options = {"config": CLIENT, **self.options, **options}
        return self.backend.adapter.connect("127.0.0.1", self.server.port, **options)

    def pool(self, **options: Any) -> Any:
        options = {"config": CLIENT, **self.options, **options}
        return self.backend.adapter.Pool("127.0.0.1", self.server.port, **options)


Use = Callable[[Any], Awaitable[object]]
Setup = Callable[[Place], Awaitable[Any]]


async def in_pieces(backend: Backend) -> AsyncIterator[bytes]:
    for _ in range(3):
        await backend.turn()
        yield CONTENT


async def items(backend: Backend) -> AsyncIterator[Any]:
    async for piece in in_pieces(backend):
        yield piece, A, B


async def cancel_everywhere(place: Place, setup: Setup, use: Use, check: Setup | None = None) -> int:
    """Cancel ``use`` of what ``setup`` gives at each of its waits; what ``check`` is to look at afterwards. Gives the
    number of waits.
    """
    backend, server, handler = place.backend, place.server, place.handler
    tasks, sockets = backend.tasks(), descriptors()
    number = 0
    for moment in backend.moments:
        number, cancelled = 0, True
        while cancelled:
            number += 1
            assert number < 500, "it never ends"
            thing = await setup(place)
            cancelled = await backend.cancel_at(number, moment, partial(use, thing))
            if check is not None:
                await check(thing)
            await backend.until(
                lambda: not server.connections and backend.tasks() <= tasks and descriptors() <= sockets
            )
            assert all(content in (CONTENT, CONTENT * 3) for _, content in handler.kept), "half a message"
            assert server.statistics.handler_failures == server.statistics.cut == 0
    return number - 1


def on_a_server(
    backend: Backend, main: Callable[[Place], Awaitable[None]], context: Any = None, client: Any = None, **settings: Any
) -> None:
    handler = Slow(backend)

    async def run() -> None:
        config = CONFIG.replace(**settings)
        options = {} if client is None else {"ssl_context": client, "tls": "required"}
        if settings.get("tls") == "implicit":
            options["tls"] = "implicit"
        if settings.get("auth"):
            options["auth"] = (USER, PASSWORD)
        async with await backend.serve(handler, config=config, tls=context) as server:
            await backend.turn()
            await main(Place(backend, server, handler, **options))

    backend.run(run)
    gc.collect()  # what was not closed warns now, and a warning is an error


# ---- clients -------------------------------------------------------------------------------------


async def itself(place: Place) -> Place:
    return place


async def connect(place: Place) -> None:
    client = await place.connect()
    client.abort()


async def converse(place: Place) -> None:
    async with place.connect() as client:
        await client.send(CONTENT, A, B)


async def send_many_of_a_generator(place: Place) -> None:
    async with place.connect() as client:
        async for result in client.send_many(items(place.backend)):
            assert result.all_accepted


@pytest.mark.parametrize(("use", "waits"), [(connect, 1), (converse, 3), (send_many_of_a_generator, 3)])
def test_from_the_beginning(backend: Backend, use: Use, waits: int) -> None:
    async def main(place: Place) -> None:
        # To connect to this machine takes no wait where the system says at once that it is done.
        assert await cancel_everywhere(place, itself, use) >= waits

    on_a_server(backend, main)


def test_a_connect_that_takes_time(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.name not in ("asyncio", "uvloop", "trio"):
        pytest.skip("the others have one way to connect")

    def begins(sock: socket.socket, address: Any) -> bool:
        if backend.name == "trio":  # asyncio begins by itself
            sock.connect_ex(address)
        return False

    monkeypatch.setattr("ehlo._sockets._connects_at_once", begins)

    async def main(place: Place) -> None:
        assert await cancel_everywhere(place, itself, connect) >= 2

    on_a_server(backend, main)


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_with_tls_and_auth(backend: Backend, kind: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def main(place: Place) -> None:
        assert await cancel_everywhere(place, itself, converse) >= 5

    on_a_server(backend, main, *tls, tls=kind, auth=["SCRAM-SHA-256"])


async def connected(place: Place) -> Any:
    return await place.connect()


async def is_over_or_good(client: Any) -> None:
    if not client.is_closed:
        assert (await client.send(CONTENT, A, B)).all_accepted
    await client.close()


async def send(backend: Backend, client: Any) -> None:
    assert (await client.send(CONTENT, A, B)).all_accepted


async def send_file(backend: Backend, client: Any) -> None:
    assert (await client.send(io.BytesIO(CONTENT), A, B)).all_accepted


async def send_stream(backend: Backend, client: Any) -> None:
    assert (await client.send(in_pieces(backend), A, B)).all_accepted


async def send_many(backend: Backend, client: Any) -> None:
    assert [result.all_accepted async for result in client.send_many([(CONTENT, A, B)] * 3)] == [True] * 3


async def noop(backend: Backend, client: Any) -> None:
    assert (await client.noop()).is_positive


async def leave(backend: Backend, client: Any) -> None:
    assert (await client.quit()).code == 221


async def close(backend: Backend, client: Any) -> None:
    await client.close()
    assert client.is_closed


@pytest.mark.parametrize("use", [send, send_file, send_stream, send_many, noop, leave, close])
@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_in_a_session(backend: Backend, use: Any, chunking: bool) -> None:
    async def main(place: Place) -> None:
        place.options["config"] = CLIENT.replace(chunking=chunking)
        assert await cancel_everywhere(place, connected, partial(use, backend), is_over_or_good) >= 1

    on_a_server(backend, main)


async def log_in(client: Any) -> None:
    assert (await client.login(USER, PASSWORD)).is_positive


def test_login(backend: Backend) -> None:
    async def main(place: Place) -> None:
        place.options.clear()
        assert await cancel_everywhere(place, connected, log_in, is_over_or_good) >= 2

    on_a_server(backend, main, auth=["SCRAM-SHA-256"], require_auth=False, auth_in_clear=["SCRAM-SHA-256"])


# ---- pools ---------------------------------------------------------------------------------------


async def fresh(place: Place) -> Any:
    return place.pool(max_connections=1)


async def used(place: Place) -> Any:
    pool = place.pool(max_connections=1)
    await pool.send(CONTENT, A, B)
    return pool


async def checking(place: Place) -> Any:
    pool = place.pool(max_connections=1, check_after=0)
    await pool.send(CONTENT, A, B)
    return pool


async def replacing(place: Place) -> Any:
    return place.pool(max_connections=1, max_messages=1)


async def stale(place: Place) -> Any:
    """Its connection is over, and it does not know."""
    pool = await used(place)
    (kept,) = pool._idle
    (connection,) = place.server._live
    connection._conn.shutdown()
    connection._advance()
    assert not kept.client.is_closed
    return pool


async def full(place: Place) -> Any:
    pool = place.pool(max_connections=1)
    sending = place.backend.beside(pool.send, CONTENT, A, B)
    await place.backend.until(lambda: pool.connections)
    assert not sending.done
    return pool


async def is_not_poisoned(pool: Any) -> None:
    assert (await pool.send(CONTENT, A, B)).all_accepted
    assert pool.connections <= 1
    await pool.close()
    assert pool.connections == 0


@pytest.mark.parametrize("setup", [fresh, used, checking, replacing, stale, full])
@pytest.mark.parametrize("use", [send, send_stream])
def test_the_send_of_a_pool(backend: Backend, setup: Setup, use: Any) -> None:
    async def main(place: Place) -> None:
        assert await cancel_everywhere(place, setup, partial(use, backend), is_not_poisoned) >= 1

    on_a_server(backend, main)


async def two_idle(place: Place) -> Any:
    pool = place.pool(max_connections=2)
    for sending in [place.backend.beside(pool.send, CONTENT, A, B) for _ in range(2)]:
        await sending
    assert pool.idle == 2
    return pool


async def use_a_pool(place: Place) -> None:
    async with place.pool(max_connections=2) as pool:
        for sending in [place.backend.beside(pool.send, CONTENT, A, B) for _ in range(2)]:
            await sending


def test_the_end_of_a_pool(backend: Backend) -> None:
    # Whoever is cancelled while closing comes not back to close the rest.
    async def main(place: Place) -> None:
        assert await cancel_everywhere(place, two_idle, lambda pool: pool.close()) >= 2
        assert await cancel_everywhere(place, itself, use_a_pool) >= 5

    on_a_server(backend, main)


# ---- servers -------------------------------------------------------------------------------------


def test_serve(backend: Backend) -> None:
    """While it begins to listen."""

    async def main() -> None:
        tasks, sockets = backend.tasks(), descriptors()
        for moment in backend.moments:
            number, cancelled = 0, True
            while cancelled:
                number += 1
                opened: list[Any] = []

                async def serve(opened: list[Any] = opened) -> None:
                    async with await backend.serve(Keep(), ["127.0.0.1", "127.0.0.2"], config=CONFIG) as server:
                        opened.append(server)

                cancelled = await backend.cancel_at(number, moment, serve)
                await backend.until(lambda: backend.tasks() <= tasks and descriptors() <= sockets)
                # What the loop may have kept of the sockets does not hurt those that get their numbers.
                async with await backend.serve(Keep(), ["127.0.0.1", "127.0.0.2"], config=CONFIG) as server:
                    client = await backend.ready(server)
                    assert (await client.ask(b"QUIT\r\n")).startswith("221")
                    client.close()
            assert number > 1
            assert opened

    backend.run(main)
    gc.collect()


SESSION = (b"EHLO client.example\r\n", *MAIL.splitlines(True), b"DATA\r\n", b"x\r\n.\r\n", b"NOOP\r\n", b"QUIT\r\n")


class Visit:
    """A client that says its session line by line, and keeps what it hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[str] = []

    async def run(self) -> None:
        self.heard.append(await self.client.reply())
        for octets in SESSION:
            with contextlib.suppress(ConnectionError):
                await self.client.send(octets)
            with contextlib.suppress(ConnectionError):
                self.heard.append(await self.client.reply())


def test_a_server_at_every_step_of_a_session(backend: Backend) -> None:
    # RFC 5321 3.8: 421, where it still gets through; what was accepted stays accepted.
    async def step(turns: int) -> bool:
        handler = Slow(backend)
        tasks, sockets = backend.tasks(), descriptors()
        opened: list[Any] = []
        holding = backend.beside(backend.hold, opened.append, handler, config=CONFIG)
        await backend.until(lambda: opened)
        (server,) = opened
        client = await backend.connect(server)
        visit = Visit(client)
        visiting = backend.beside(visit.run)
        for _ in range(turns):
            await backend.turn()
        complete = visiting.done
        holding.cancel()
        await backend.until(lambda: holding.done)
        await visiting
        client.close()
        await backend.until(lambda: backend.tasks() <= tasks and descriptors() <= sockets)
        stats = server.statistics
        assert server.connections == stats.handler_failures == 0
        codes = [reply[:3] for reply in visit.heard if reply]
        assert codes[-1] in ("221", "421") if stats.connections or stats.refused else codes == []
        # On asyncio leaving is close(0), which cuts who is busy; on trio the scope cuts all, on_disconnect too.
        assert stats.cut <= codes[-1:].count("421")
        assert len(handler.gone) <= stats.connections
        if backend.library == "asyncio":
            assert len(handler.gone) == stats.connections
        else:
            assert stats.cut == codes[-1:].count("421") - stats.refused
        assert len(handler.kept) >= codes[5:6].count("250")  # the reply to the content
        return complete

    backend.run(lambda: at_every_turn(step))
    gc.collect()


async def at_every_turn(step: Callable[[int], Awaitable[bool]]) -> None:
    """``step`` says whether there was nothing more to interrupt after so many turns of the loop."""
    turns = 0
    while not await step(turns):
        turns += 1
        assert turns < 2000, "it never ends"
    assert turns > 10


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_a_server_at_every_step_of_a_session_in_tls(
    backend: Backend, kind: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    theirs, ours = tls
    options: dict[str, Any] = {
        "config": CLIENT,
        "tls": "implicit" if kind == "implicit" else "required",
        "ssl_context": ours,
        "auth": (USER, PASSWORD),
    }
    config = CONFIG.replace(tls=kind, auth=["SCRAM-SHA-256"])

    async def step(turns: int) -> bool:
        handler = Slow(backend)
        tasks, sockets = backend.tasks(), descriptors()
        opened: list[Any] = []
        accepted: list[bool] = []
        holding = backend.beside(backend.hold, opened.append, handler, config=config, tls=theirs)
        await backend.until(lambda: opened)

        async def visit() -> None:
            async with backend.adapter.connect("127.0.0.1", opened[0].port, **options) as client:
                accepted.append((await client.send(CONTENT, A, B)).all_accepted)

        visiting = backend.beside(visit)
        for _ in range(turns):
            await backend.turn()
        complete = visiting.done
        holding.cancel()
        await backend.until(lambda: holding.done and visiting.done)
        with contextlib.nullcontext() if complete else contextlib.suppress(ehlo.SMTPException):
            await visiting
        await backend.until(lambda: backend.tasks() <= tasks and descriptors() <= sockets)
        assert opened[0].connections == opened[0].statistics.handler_failures == 0
        assert len(handler.kept) >= len(accepted)
        return complete

    backend.run(lambda: at_every_turn(step))
    gc.collect()


@pytest.mark.parametrize("leave", ["FIN", "RST"])
def test_a_client_that_vanishes_at_every_step(backend: Backend, leave: str) -> None:
    # RFC 5321 4.1.1.10: the handler is cancelled wherever it waits, and that is no failure.
    handler = Slow(backend)

    async def main() -> None:
        server = await backend.serve(handler, config=CONFIG)
        await backend.turn()
        tasks, sockets = backend.tasks(), descriptors()

        async def step(turns: int) -> bool:
            client = await backend.connect(server)
            visiting = backend.beside(Visit(client).run)
            for _ in range(turns + 1):
                await backend.turn()
            complete = visiting.done
            visiting.cancel()
            await backend.until(lambda: visiting.done)
            LEAVE[leave](client)
            await backend.until(
                lambda: not server.connections and backend.tasks() <= tasks and descriptors() <= sockets
            )
            return complete

        await at_every_turn(step)
        await server.close()
        stats = server.statistics
        assert stats.handler_failures == stats.cut == 0
        assert len(handler.gone) == stats.connections
        assert len(handler.kept) >= stats.messages >= 1

    backend.run(main)
    gc.collect()


def test_leaving_a_server_that_drains(backend: Backend) -> None:
    # Who is cancelled there does not want to wait for open transactions any more.
    async def main() -> None:
        tasks = backend.tasks()
        server = await backend.serve(Keep(), config=CONFIG)
        client = await backend.ready(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")

        async def leave() -> None:
            async with server:
                pass

        leaving = backend.beside(leave)
        await backend.until(lambda: not server._accepting)
        leaving.cancel()
        assert (await client.reply()).startswith("421 4.3.2 ")
        assert await client.rest() == b""
        await server.serve_forever()
        assert (server.connections, server.statistics.cut) == (0, 1)
        await backend.until(lambda: backend.tasks() == tasks)
        assert leaving.cancelled

    backend.run(main)
