"""What only trio has: nurseries, cancellation, task_status."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from test_faults import HELLO, HOOKS, STATES, Watch, handler_of

import ehlo
from backends import CONFIG, MAIL, Keep, Trio, descriptors

trio = pytest.importorskip("trio")
import ehlo.trio  # noqa: E402


@pytest.fixture
def backend() -> Trio:
    return Trio()


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


def test_ctrl_c_while_a_handler_runs_ends_the_server(backend: Trio) -> None:
    # trio raises KeyboardInterrupt wherever the program is. It goes to the nursery, as trio's users expect.
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            await trio.lowlevel.checkpoint()
            signal.raise_signal(signal.SIGINT)

    clients: list[Any] = []

    async def serve_one() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ehlo.trio.serve, Mine(), config=CONFIG))
            clients.append(await backend.ready(server))
            await clients[0].send(b"MAIL FROM:<a@b.example>\r\n")
            await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve_one()
        assert caught.group_contains(KeyboardInterrupt)
        assert (await clients[0].reply()).startswith("421 4.3.2")

    backend.run(main)


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
    import asyncio

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
