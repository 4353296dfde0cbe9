"""What only trio has: nurseries, cancellation, task_status."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from test_faults import HELLO, HOOKS, STATES, Watch, handler_of

import ehlo
from backends import CONFIG, MAIL, Keep, Peer, Trio, TrioTasks, descriptors
from ehlo._io.loop import Loop
from ehlo._io.server_connection import ServerStream
from ehlo._io.watch import EpollWatch

trio = pytest.importorskip("trio")
import ehlo.trio  # noqa: E402


@pytest.fixture(params=[Trio, TrioTasks])
def backend(request: pytest.FixtureRequest) -> Trio:
    backend = request.param()
    assert isinstance(backend, Trio)
    return backend


async def cancelled_while(backend: Trio, handler: Any, condition: Any, *octets: bytes) -> list[bytes]:
    """Serve in a nursery of its own, send, cancel that nursery when ``condition(server)``; all that the clients got."""
    tasks, sockets = backend.tasks(), descriptors()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, config=CONFIG))
        clients = []
        for each in octets:
            clients.append(await backend.connect(server))
            await clients[-1].send(each)
        await backend.until(lambda: condition(server))
        nursery.cancel_scope.cancel()
    # Nothing outlives the nursery: no turn of the loop is needed.
    assert backend.tasks() == tasks
    assert descriptors() == sockets + len(clients)
    assert server.connections == 0
    assert server.statistics.cut == len(clients)
    assert server.statistics.handler_failures == 0
    await server.serve_forever()
    assert await server.close() == len(clients)
    with pytest.raises(OSError, match="Errno"):
        await backend.connect(server)
    return [await client.rest() for client in clients]


@pytest.mark.parametrize("state", STATES)
def test_cancelling_serve_says_421_in_every_state(backend: Trio, state: str) -> None:
    # RFC 5321 3.8
    handler = Watch()

    async def main() -> None:
        (got,) = await cancelled_while(
            backend,
            handler,
            lambda server: server.statistics.octets == len(STATES[state]) and server.connections,
            STATES[state],
        )
        assert got.split(b"\r\n")[-2].startswith(b"421 4.3.2 mx.example")

    backend.run(main)
    assert handler.kept == []


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "on_disconnect"])
def test_cancelling_serve_cancels_every_handler(backend: Trio, hook: str) -> None:
    hanging: list[bool] = []
    cancelled: list[bool] = []

    async def hang() -> None:
        hanging.append(True)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(True)
            raise

    async def main() -> None:
        (got,) = await cancelled_while(backend, handler_of(hook, hang), lambda server: hanging, HOOKS[hook])
        assert got.split(b"\r\n")[-2].startswith(b"421 4.3.2 mx.example")

    backend.run(main)
    assert cancelled == [True]


def test_each_call_of_a_pipeline_has_the_time_of_a_handler(backend: Trio) -> None:
    class Slow(ehlo.Handler):
        async def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
            await trio.sleep(backend.span * 0.6)

    async def main() -> None:
        config = CONFIG.replace(command_timeout=3600)
        async with await backend.serve(
            Slow(), config=config, limits=ehlo.Limits(handler_seconds=backend.span)
        ) as server:
            client = await backend.ready(server)
            recipients = b"".join(b"RCPT TO:<%d@d.example>\r\n" % number for number in range(5))
            await client.send(b"MAIL FROM:<a@b.example>\r\n" + recipients + b"RSET\r\n")
            assert await client.codes(7) == ["250"] * 7
            assert server.statistics.handler_timeouts == 0

    backend.run(main, timed=True)


def test_cancelling_while_on_body_waits(backend: Trio) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            try:
                async for _ in body:
                    seen.append("chunk")
            except (trio.Cancelled, ehlo.ContentAbortedError) as exc:
                seen.append(type(exc).__name__)
                raise

    async def main() -> None:
        await cancelled_while(backend, Mine(), lambda server: seen, HELLO + MAIL + b"DATA\r\nx\r\ny\r\n")

    backend.run(main)
    assert seen in (["chunk", "Cancelled"], ["chunk", "ContentAbortedError"])


def test_cancelling_many(backend: Trio) -> None:
    async def main() -> None:
        states = [state for _ in range(10) for state in STATES.values()]
        octets = sum(map(len, states))
        got = await cancelled_while(backend, Watch(), lambda server: server.statistics.octets == octets, *states)
        assert all(b"\r\n421 4.3.2" in each or each.startswith(b"421 4.3.2") for each in got)

    backend.run(main)


def test_cancelling_while_a_reply_is_half_written(backend: Trio) -> None:
    async def main() -> None:
        tasks = backend.tasks()
        async with trio.open_nursery() as nursery:
            config = CONFIG.replace(max_junk=None)
            server = await nursery.start(partial(ehlo.trio.serve, ehlo.Handler(), config=config))
            client = await backend.connect(server, receive_buffer=4096)
            (connection,) = await some(backend, server)
            while not connection._pauses:
                client.send_now(b"HELP\r\n" * 1000)
                await backend.turn()
            nursery.cancel_scope.cancel()
        assert backend.tasks() == tasks
        assert server.statistics.cut == 1

    backend.run(main)


async def some(backend: Trio, server: Any) -> set[Any]:
    await backend.until(lambda: server._live)
    return set(server._live)


def test_cancelling_while_it_lingers(backend: Trio) -> None:
    async def main() -> None:
        tasks = backend.tasks()
        async with trio.open_nursery() as nursery:
            config = CONFIG.replace(max_messages=1)
            server = await nursery.start(partial(ehlo.trio.serve, ehlo.Handler(), config=config))
            client = await backend.connect(server)
            await client.send(HELLO + 2 * (MAIL + b"DATA\r\nx\r\n.\r\n"))
            await backend.until(lambda: server.statistics.messages)
            assert b"421" in await client.rest()
            assert server.connections == 1
            nursery.cancel_scope.cancel()
        assert backend.tasks() == tasks
        assert server.statistics.cut == 0  # its session had ended

    backend.run(main)


def test_serve_returns_when_closed(backend: Trio) -> None:
    returned: list[bool] = []

    async def main() -> None:
        async def serve(*, task_status: Any) -> None:
            await ehlo.trio.serve(Keep(), config=CONFIG, task_status=task_status)
            returned.append(True)

        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            await backend.ready(server)
            assert not returned
            assert await server.close() == 0
        assert returned

    backend.run(main)


def test_serve_without_start_runs_until_cancelled(backend: Trio) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def visit() -> None:
                    with socket.socket() as client:
                        client.setblocking(False)
                        await backend.dial(client, sock.getsockname())
                        assert (await backend.receive(client)).startswith(b"220")
                    scope.cancel()

                nursery.start_soon(visit)
                await ehlo.trio.serve(ehlo.Handler(), config=CONFIG, sockets=[sock])
        assert scope.cancelled_caught
        assert sock.fileno() == -1

    backend.run(main)


async def serve_one(backend: Trio, handler: ehlo.Handler, clients: list[Any]) -> None:
    """Serve a client that says MAIL, and is put into the list, until something is raised."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, config=CONFIG))
        clients.append(await backend.ready(server))
        await clients[0].send(b"MAIL FROM:<a@b.example>\r\n")
        await trio.sleep_forever()


def test_ctrl_c_while_a_handler_runs_ends_the_server(backend: Trio) -> None:
    # trio raises KeyboardInterrupt wherever the program is. It goes to the nursery, as trio's users expect.
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            await trio.lowlevel.checkpoint()
            signal.raise_signal(signal.SIGINT)

    clients: list[Any] = []

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve_one(backend, Mine(), clients)
        assert caught.group_contains(KeyboardInterrupt)
        assert (await clients[0].reply()).startswith("421 4.3.2")

    backend.run(main)


class Stop(BaseException):
    """As the handler of a signal raises it."""


def test_what_a_signal_raises_in_a_plain_handler_comes_out_of_the_server(backend: Trio) -> None:
    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            signal.raise_signal(signal.SIGUSR1)

    def stop(number: int, frame: Any) -> None:
        raise Stop

    clients: list[Any] = []

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve_one(backend, Mine(), clients)
        assert caught.group_contains(Stop)
        assert (await clients[0].reply()).startswith("421 4.3.2")
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as server:  # the run goes on
            await backend.ready(server)

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        backend.run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_a_signal_raises_in_a_connection_that_a_client_waits_for_comes_out_there(backend: Trio) -> None:
    def trace(lines: str) -> None:
        if "now" in lines:
            signal.raise_signal(signal.SIGUSR1)

    def stop(number: int, frame: Any) -> None:
        raise Stop

    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        peer.say(b"250 now\r\n")
        assert await peer.line() == b""

    async def other(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        await backend.until(lambda: stopped)
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    stopped: list[bool] = []

    async def main() -> None:
        async with (
            backend.scripted(other, script) as port,
            ehlo.trio.connect("127.0.0.1", port, hostname="c.example") as first,
        ):
            second = await ehlo.trio.connect("127.0.0.1", port, hostname="c.example", trace=trace)
            waits = backend.beside(first.noop)
            await backend.turn()
            with pytest.raises(Stop):
                await second.noop()
            stopped.append(True)
            assert (await waits).code == 250

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        backend.run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_client_that_waits_by_itself_is_woken_while_its_octets_wait(backend: Trio) -> None:
    # RFC 5321 4.5.3.2.5: the server takes no content
    gone: list[bool] = []

    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await backend.until(lambda: gone)

    async def main() -> None:
        config = ehlo.ClientConfig("c.example", content_timeout=0.01)
        async with backend.scripted(script) as port:
            client = await ehlo.trio.connect("127.0.0.1", port, config=config)
            for_long = (b"x" * 65534 + b"\r\n" for _ in range(1000))
            with pytest.raises(ehlo.SMTPTimeoutError):
                await client.send(for_long, "a@b.example", ["c@d.example"])
            gone.append(True)

    backend.run(main)


def test_one_client_waits_by_itself_and_many_are_served_together(backend: Trio) -> None:
    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG.replace(max_junk=None)) as server:
            connect = partial(ehlo.trio.connect, "127.0.0.1", server.port, hostname="c.example")
            async with connect() as first, connect() as second:

                def watched() -> list[bool]:
                    return [cast(Any, client._link)._transport.is_reading() for client in (first, second)]

                for _ in range(20):
                    await first.noop()
                assert not watched()[0]
                for _ in range(20):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(first.noop)
                        nursery.start_soon(second.noop)
                assert any(watched())
                for client in (first, second):
                    for _ in range(20):
                        assert (await client.noop()).code == 250
                assert not any(watched())

    backend.run(main)


def test_busy_connections_let_the_tasks_of_the_run_have_their_turns(
    backend: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = 0
    turn, update = EpollWatch.turn, ServerStream.buffer_updated

    def by_epoll(self: EpollWatch, loop: Loop) -> int:
        nonlocal served
        count = turn(self, loop)
        served += count
        return count

    def by_task(self: ServerStream, nbytes: int) -> None:
        nonlocal served
        served += 1
        update(self, nbytes)

    monkeypatch.setattr(EpollWatch, "turn", by_epoll)
    monkeypatch.setattr(ServerStream, "buffer_updated", by_task)
    monkeypatch.setattr("ehlo.trio._loop._MOST", 4)
    most = 0

    async def main() -> None:
        nonlocal most
        async with await backend.serve(ehlo.Handler(), config=CONFIG.replace(max_junk=None)) as server:
            clients = [await backend.ready(server) for _ in range(4)]
            for _ in range(100):
                for client in clients:
                    client.send_now(b"NOOP\r\n" * 1000)
                before = served
                await backend.turn()
                most = max(most, served - before)
                for client in clients:
                    await drained(client.sock)

    async def drained(sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while sock.recv(65536):
                pass

    backend.run(main)
    assert 0 < most <= 2 * (4 + 4)  # two turns may lie between two of this task's, and the last poll has four more


def test_a_client_that_floods_a_server_lets_the_tasks_have_their_turns(
    backend: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one socket is not many, but each turn of it is long."""
    served = 0
    client: Any = None

    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            nonlocal served
            served += 1
            # The next octets are there before the turn is over.
            client.send_now(b"RSET\r\nMAIL FROM:<a@b.example>\r\n")

    monkeypatch.setattr("ehlo.trio._loop.monotonic", count().__next__)  # each turn takes a second

    async def main() -> None:
        nonlocal client
        async with await backend.serve(Mine(), config=CONFIG.replace(max_junk=None)) as server:
            client = await backend.ready(server)
            client.send_now(b"MAIL FROM:<a@b.example>\r\n")
            for turns in range(20):
                await backend.turn()
                assert served <= turns + 2
            client.close()

    backend.run(main)
    assert served


def test_a_run_as_a_guest() -> None:
    """On asyncio, and twice: each run has what its connections share."""

    async def visit() -> str:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ehlo.trio.serve, ehlo.Handler(), config=CONFIG))
            async with ehlo.trio.connect("127.0.0.1", server.port, hostname="c.example") as client:
                reply = await client.noop()
            await server.close()
        return str(reply)

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            visit, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        return (await done).unwrap()

    for _ in range(2):
        assert asyncio.run(host()).startswith("250")


@pytest.mark.parametrize("end", ["close", "abort", "later"])
def test_runs_one_after_the_other_leave_no_descriptor(end: str) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell the descriptors")
    left: list[Any] = []

    async def visit() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ehlo.trio.serve, ehlo.Handler(), config=CONFIG))
            client = await ehlo.trio.connect("127.0.0.1", server.port, hostname="c.example")
            await client.noop()
            if end == "close":
                await client.close()
            elif end == "abort":
                client.abort()
            else:
                left.append(client)
            nursery.cancel_scope.cancel()

    trio.run(visit)
    before = len(list(Path("/proc/self/fd").iterdir()))
    gc.disable()  # trio's own cycles keep what belongs to a run until the collector comes
    try:
        for _ in range(3):
            trio.run(visit)
            for client in left:
                client.abort()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
    finally:
        gc.enable()


def test_a_fault_of_ehlo_ends_one_session_only(
    backend: Trio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with await backend.serve(Watch(), config=CONFIG) as server:
            tasks = backend.tasks()
            good, bad = await backend.ready(server), await backend.ready(server)
            (connection,) = (one for one in server._live if one.peer() == bad.sock.getsockname())

            def fail(event: Any = None) -> None:
                monkeypatch.undo()
                raise RuntimeError("a bug")

            monkeypatch.setattr(type(connection._driver), "step", lambda self, event=None: fail())
            await bad.send(b"QUIT\r\n")
            assert await bad.rest() == b""
            assert (await good.ask(b"NOOP\r\n")).startswith("250")
            good.close()
            await backend.until(lambda: backend.tasks() == tasks)

    backend.run(main)
    assert "a bug" in caplog.text


def test_a_coroutine_of_another_library_is_a_failed_handler(backend: Trio, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        handler = handler_of("on_mail", lambda: asyncio.sleep(1))
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")

    backend.run(main)
    assert caplog.text


def test_ehlo_does_not_import_trio() -> None:
    code = "import sys, ehlo, ehlo.asyncio, ehlo.cli; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_program_on_trio_imports_what_it_uses() -> None:
    """Neither asyncio, nor a server where there is only a client."""
    code = "import sys, ehlo.trio; ehlo.trio.{}; sys.exit(any(name in sys.modules for name in {!r}))"
    for name, others in (("connect", ["asyncio", "ehlo._server"]), ("serve", ["asyncio", "ehlo._client"])):
        assert subprocess.run([sys.executable, "-c", code.format(name, others)], check=False).returncode == 0


@pytest.mark.tcp
def test_an_address_is_connected_to_on_every_system(backend: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux says at once that a connection to this machine is there."""
    monkeypatch.setattr("ehlo._sockets.sys.platform", "other")

    async def main() -> None:
        async with (
            await backend.serve(ehlo.Handler(), config=CONFIG) as server,
            ehlo.trio.connect("127.0.0.1", server.port, hostname="c.example") as client,
        ):
            assert (await client.noop()).code == 250

    backend.run(main)
