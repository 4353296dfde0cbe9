"""What only asyncio has: futures, tasks that cancel themselves, task factories."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from backends import BACKENDS, CONFIG, MAIL, PATIENCE, Asyncio, descriptors
from ehlo._sockets import no_delay
from ehlo.asyncio._client_protocol import ClientProtocol
from ehlo.asyncio._dial import connected
from programs import free_port


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


def test_a_client_with_much_to_say_lets_others_have_their_turn(backend: Asyncio) -> None:
    reads: list[int] = []

    async def count_octets(server: ehlo.asyncio.Server) -> None:
        before = server.statistics.octets
        while True:
            await asyncio.sleep(0)
            octets = server.statistics.octets
            reads.append(octets - before)
            before = octets

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.setblocking(False)
                for words in (
                    b"",
                    b"HELO x\r\n",
                    b"MAIL FROM:<a@b.example>\r\n",
                    b"RCPT TO:<c@d.example>\r\n",
                    b"DATA\r\n",
                ):
                    await loop.sock_sendall(sock, words)
                    assert (await loop.sock_recv(sock, 1000))[:1] in b"23"
                counting = loop.create_task(count_octets(server))
                rest = memoryview((b"x" * 78 + b"\r\n") * 100_000 + b".\r\n")
                while rest:
                    try:
                        rest = rest[sock.send(rest) :]
                    except BlockingIOError:  # there is much to read, and only now somebody reads
                        await asyncio.sleep(0)
                assert (await loop.sock_recv(sock, 1000)).startswith(b"250")
                counting.cancel()

    backend.run(main)
    assert 0 < max(reads) <= 4 * 65536  # in a turn of the loop


def test_why_no_address_answers(backend: Asyncio, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no way to the first: why the second refuses is what the program wants to know.
    errors = [OSError(errno.ENETUNREACH, "no way"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")]

    async def attempt(info: Any, source: Any) -> socket.socket:
        raise info[4]

    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", error) for error in errors]
    monkeypatch.setattr("ehlo.asyncio._dial.numeric", lambda host, port: found)
    monkeypatch.setattr("ehlo.asyncio._dial._attempt", attempt)

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await connected("mx.example", 25, None)

    backend.run(main)


def test_the_first_address_that_answers(backend: Asyncio, monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 8305, and no socket is left of the others, nor when it is cancelled
    closed = ("127.0.0.1", free_port())
    addresses: list[Any] = []
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    monkeypatch.setattr("ehlo.asyncio._dial.numeric", lambda host, port: [(*kind, address) for address in addresses])

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
                # An eager task may find the way without a single wait.
                assert number > 1 or backend.name == "asyncio-eager"
            addresses[:] = [closed, closed]
            with pytest.raises(ConnectionRefusedError):
                await connect()
            # One port of ours for one attempt at a time.
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            addresses[:] = [closed, second.getsockname()]
            with await connected("mx.example", 25, ("127.0.0.1", port)) as sock:
                assert sock.getsockname()[1] == port
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


@pytest.mark.parametrize("asked_first", [False, True])
def test_an_end_from_a_handler_is_told_behind_the_input_of_its_turn(backend: Asyncio, asked_first: bool) -> None:
    # An eager task begins in the callback of one connection, when the same turn has read for others already.
    chunks: list[bytes] = []
    ends: list[asyncio.Task[int]] = []
    server: Any = None

    class Mine(ehlo.Handler):
        def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            ends.append(asyncio.get_running_loop().create_task(server.close(5)))
            return "252 2.1.5 ok"

        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            async for chunk in body:
                chunks.append(chunk)

    async def main() -> None:
        nonlocal server
        server = await backend.serve(Mine(), config=ehlo.ServerConfig("mx.example"))
        async with server:
            asks, sends = await backend.ready(server), await backend.ready(server)
            no_delay(sends.sock)
            await sends.send(MAIL + b"DATA\r\n")
            assert await sends.codes(3) == ["250", "250", "354"]
            await sends.send(b"one\r\n")
            await backend.until(lambda: len(chunks) == 1)
            steps = [(asks, b"VRFY joe\r\n"), (sends, b"two\r\n.\r\n")]
            for client, octets in steps if asked_first else reversed(steps):
                assert client.send_now(octets)
            assert await sends.codes(2) == ["250", "421"]
            assert await asks.codes(2) == ["252", "421"]
            asks.close()
            sends.close()
            await asyncio.gather(*ends)
        assert chunks == [b"one\r\n", b"two\r\n"]

    backend.run(main)


class Bare:
    """A future by the protocol that tasks ask for, and nothing more: another loop may have its own kind."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        inner = asyncio.Future[Any](loop=loop)
        self.add_done_callback, self.remove_done_callback = inner.add_done_callback, inner.remove_done_callback
        self.cancel, self.cancelled, self.done, self.get_loop = (
            inner.cancel,
            inner.cancelled,
            inner.done,
            inner.get_loop,
        )
        self.result, self.exception = inner.result, inner.exception
        self.set_result, self.set_exception = inner.set_result, inner.set_exception

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()


def test_a_loop_may_have_futures_of_its_own() -> None:
    async def main() -> ehlo.SendResult:
        loop: Any = asyncio.get_running_loop()
        async with await ehlo.asyncio.serve(ehlo.Handler(), config=CONFIG) as server:
            loop.create_future = lambda: Bare(loop)
            async with ehlo.asyncio.connect(*server.addresses[0], hostname="client.example") as client:
                result = await client.send(b"hi\r\n", "a@b.example", ["c@d.example"])
            del loop.create_future
            return result

    assert asyncio.run(main()).all_accepted


def test_a_send_goes_on_in_the_turn_that_read_its_reply(backend: Asyncio, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    exchanged = ClientProtocol.exchanged

    def marked(protocol: ClientProtocol) -> None:
        order.append("read")
        exchanged(protocol)
        order.append("done")

    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:
            monkeypatch.setattr(ClientProtocol, "exchanged", marked)
            client = await ehlo.asyncio.connect(*server.addresses[0], hostname="client.example")
            await client.send(b"hi\r\n", "a@b.example", ["c@d.example"])
            assert order[-1] == "read"
            # Who is woken by another task has a turn of its own.
            other = asyncio.create_task(client.noop())
            await asyncio.sleep(0)
            client.abort()
            assert not other.done()
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await other

    backend.run(main)


async def say_hello(listener: socket.socket) -> socket.socket:
    """The side of a server that has answered to EHLO."""
    loop = asyncio.get_running_loop()
    theirs, _ = await loop.sock_accept(listener)
    await loop.sock_sendall(theirs, b"220 mx.example\r\n")
    assert (await loop.sock_recv(theirs, 1000)).startswith(b"EHLO")
    await loop.sock_sendall(theirs, b"250-mx.example\r\n250-AUTH XOAUTH2\r\n250 PIPELINING\r\n")
    return theirs


class Shared:
    """Two clients, whose sockets are read in one call: the reply to a message of the first, and the end of the second.
    The task of the first goes on before the second is told.
    """

    def __init__(self, turned: bool) -> None:
        self.turned = turned
        self.first: ehlo.asyncio.Client
        self.second: ehlo.asyncio.Client
        self.theirs: socket.socket
        self.its_server: socket.socket

    async def __aenter__(self) -> Shared:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            address = listener.getsockname()
            hello = asyncio.create_task(say_hello(listener))
            self.first = await ehlo.asyncio.connect(*address, hostname="client.example")
            self.theirs = await hello
            hello = asyncio.create_task(say_hello(listener))
            config = ehlo.ClientConfig("client.example", window=1)
            self.second = await ehlo.asyncio.connect(*address, config=config)
            self.its_server = await hello
        return self

    async def __aexit__(self, *raised: object) -> None:
        for client in (self.first, self.second):
            client.abort()
            await client.close()
        self.theirs.close()
        self.its_server.close()

    async def answer(self, end: bytes, octets: bytes) -> None:
        """The server of the second reads as far as this, and answers."""
        loop = asyncio.get_running_loop()
        heard = b""
        while not heard.endswith(end):
            more = await loop.sock_recv(self.its_server, 1000)
            assert more
            heard += more
        await loop.sock_sendall(self.its_server, octets)

    async def turn(self) -> None:
        """Come back in the turn that has read the end of the second, most often before it is told."""
        said = asyncio.create_task(self._say())
        await self.first.send(b"hi\r\n", "a@b.example", ["c@d.example"])
        await said

    async def _say(self) -> None:
        loop = asyncio.get_running_loop()
        assert (await loop.sock_recv(self.theirs, 1000)).endswith(b"DATA\r\n")
        await loop.sock_sendall(self.theirs, b"250 ok\r\n250 ok\r\n354 go\r\n")
        assert await loop.sock_recv(self.theirs, 1000) == b"hi\r\n.\r\n"
        said = [(self.its_server, b"421 4.3.2 bye\r\n", self.second), (self.theirs, b"250 ok\r\n", self.first)]
        for peer, reply, client in reversed(said) if self.turned else said:  # both are ready before the loop looks
            peer.send(reply)
            select.select([client._link._transport.get_extra_info("socket")], [], [], PATIENCE)  # type: ignore[attr-defined]


async def send(shared: Shared) -> None:
    await shared.turn()
    await shared.second.send(b"hi\r\n", "a@b.example", ["c@d.example"])


async def noop(shared: Shared) -> None:
    await shared.turn()
    await shared.second.noop()


async def quit_(shared: Shared) -> None:
    await shared.turn()
    await shared.second.quit()


async def begin(shared: Shared) -> None:
    await shared.turn()
    async with shared.second.transaction("a@b.example"):
        pass


async def rcpt(shared: Shared) -> None:
    answer = asyncio.create_task(shared.answer(b"\r\n", b"250 ok\r\n"))
    async with shared.second.transaction("a@b.example") as transaction:
        await answer
        await shared.turn()
        await transaction.rcpt("c@d.example")


async def content(shared: Shared) -> None:
    answer = asyncio.create_task(shared.answer(b"\r\n", b"250 ok\r\n"))
    async with shared.second.transaction("a@b.example") as transaction:
        await answer
        answer = asyncio.create_task(shared.answer(b"\r\n", b"250 ok\r\n"))
        await transaction.rcpt("c@d.example")
        await answer
        await shared.turn()
        await transaction.send(b"hi\r\n")


async def send_many(shared: Shared) -> None:
    items = [(b"hi\r\n", "a@b.example", ["c@d.example"])]

    def some() -> Generator[tuple[bytes, str, list[str]]]:
        yield from items
        # The second is asked for when the first has its result: the window of this client is 1.
        yield from items

    answers = [asyncio.create_task(shared.answer(b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"))]
    answers.append(asyncio.create_task(answer_content(shared, answers[0])))
    async for _ in shared.second.send_many(some()):
        await asyncio.gather(*answers)
        await shared.turn()


async def answer_content(shared: Shared, before: asyncio.Task[None]) -> None:
    await before
    await shared.answer(b".\r\n", b"250 ok\r\n")


async def login(shared: Shared) -> None:
    async def token() -> str:
        await shared.turn()
        return "token"

    await shared.second.authenticate(ehlo.Login("jane", token=token, allow_clear=True))


@pytest.mark.tcp
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("use", [send, noop, quit_, begin, rcpt, content, send_many, login])
def test_a_connection_that_ended_in_this_turn_is_known_to_be_over(
    backend: Asyncio, use: Callable[[Shared], Awaitable[None]], turned: bool
) -> None:
    async def main() -> None:
        async with Shared(turned) as shared:
            with pytest.raises(ehlo.SMTPServerDisconnected, match=r"4\.3\.2 bye"):
                await use(shared)
            assert shared.second.is_closed

    backend.run(main)


@pytest.mark.tcp
@pytest.mark.parametrize("turned", [False, True])
def test_a_transaction_may_be_left_in_the_turn_that_ends_its_connection(backend: Asyncio, turned: bool) -> None:
    async def main() -> None:
        async with Shared(turned) as shared:
            answer = asyncio.create_task(shared.answer(b"\r\n", b"250 ok\r\n"))
            async with shared.second.transaction("a@b.example"):
                await answer
                await shared.turn()
            with pytest.raises(ehlo.SMTPServerDisconnected, match=r"4\.3\.2 bye"):
                await shared.second.noop()

    backend.run(main)


def test_a_task_that_ends_the_loop_leaves_no_socket(backend: Asyncio) -> None:
    kept: list[socket.socket] = []

    async def main() -> None:
        server = await backend.serve(ehlo.Handler(), config=CONFIG)
        client = await ehlo.asyncio.connect(*server.addresses[0], hostname="client.example")
        kept.append(client._link._transport.get_extra_info("socket"))  # type: ignore[attr-defined]
        await client.send(b"hi\r\n", "a@b.example", ["c@d.example"])
        client.abort()
        server._stop_listening()
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        backend.run(main)
    assert kept[0].fileno() == -1
