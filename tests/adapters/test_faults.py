"""What goes wrong, on every backend: nothing is left, nothing is miscounted, and the others do not notice."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Keep, descriptors
from ehlo._hooks import by_signal

HELLO = b"EHLO client.example\r\n"

# What the client has sent when it goes. No message is whole.
STATES = {
    "before the greeting": b"",
    "in its first line": b"EHLO cli",
    "after EHLO": HELLO,
    "after MAIL": HELLO + b"MAIL FROM:<a@b.example>\r\n",
    "after RCPT": HELLO + MAIL,
    "after DATA": HELLO + MAIL + b"DATA\r\n",
    "in the content": HELLO + MAIL + b"DATA\r\nSubject: x\r\n\r\nhal",
    "at the last dot": HELLO + MAIL + b"DATA\r\nx\r\n.\r",
    "in a chunk": HELLO + MAIL + b"BDAT 100\r\nx",
    "between two chunks": HELLO + MAIL + b"BDAT 3\r\nx\r\n",
    "in a refused content": HELLO
    + b"MAIL FROM:<a@b.example> SIZE=1\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    + b"x" * 5000,
}

LEAVE: dict[str, Callable[[Any], None]] = {
    "FIN": lambda client: client.close(),
    "half FIN": lambda client: client.finish(),
    "RST": lambda client: client.reset(),
}


class Watch(Keep):
    """Keeps what comes, and who went."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[str] = []
        self.peers: list[tuple[str, int] | None] = []

    async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
        self.gone.append(reason)
        self.peers.append(session.peer)


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("state", STATES)
def test_the_peer_vanishes(backend: Backend, state: str, leave: str) -> None:
    handler = Watch()

    async def main() -> None:
        async with await backend.serve(handler, config=CONFIG) as server:
            tasks, sockets = backend.tasks(), descriptors()
            client = await backend.connect(server)
            await client.send(STATES[state])
            await backend.until(lambda: server.statistics.octets == len(STATES[state]) and server.connections == 1)
            LEAVE[leave](client)
            await backend.until(lambda: not server.connections)
            client.close()
            await backend.until(lambda: backend.tasks() == tasks and descriptors() == sockets)
            assert server.statistics.cut == server.statistics.handler_failures == 0

    backend.run(main)
    assert handler.kept == []
    assert handler.gone == ["eof"]
    assert (handler.peers == [None]) == (backend.memory is not None)  # a reset socket has forgotten its peer, we not


@pytest.mark.parametrize("leave", LEAVE)
def test_the_peer_vanishes_while_on_body_reads(backend: Backend, leave: str) -> None:
    # RFC 5321 4.1.1.10: what is not whole is no message, and the handler hears of it
    seen: list[str] = []

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            seen.append("begins")
            try:
                async for _ in body:
                    pass
            except ehlo.ContentAbortedError as exc:
                await backend.turn()  # it is not cancelled, and may still clean up
                seen.append(exc.reason)
                raise

    async def main() -> None:
        async with await backend.serve(Mine(), config=CONFIG) as server:
            tasks = backend.tasks()
            client = await backend.connect(server)
            await client.send(HELLO + MAIL + b"DATA\r\nx\r\n")
            await backend.until(lambda: seen)
            LEAVE[leave](client)
            await backend.until(lambda: not server.connections and backend.tasks() == tasks)
            assert server.statistics.handler_failures == 0

    backend.run(main)
    assert seen == ["begins", "disconnected"]


HOOKS = {
    "on_connect": b"",
    "on_hello": HELLO,
    "on_mail": HELLO + b"MAIL FROM:<a@b.example>\r\n",
    "on_rcpt": HELLO + MAIL,
    "on_data": HELLO + MAIL + b"DATA\r\n",
    "on_message": HELLO + MAIL + b"DATA\r\nx\r\n.\r\n",
    "on_body": HELLO + MAIL + b"DATA\r\nx\r\n.\r\n",
    "on_vrfy": HELLO + b"VRFY x\r\n",
    "on_expn": HELLO + b"EXPN x\r\n",
    "on_etrn": HELLO + b"ETRN x.example\r\n",
    "on_reset": HELLO + MAIL + b"RSET\r\n",
    "on_disconnect": HELLO,
}
NO_ANSWER = ("on_reset", "on_disconnect")


def handler_of(hook: str, method: Callable[..., Any]) -> Any:
    return type("Mine", (), {hook: lambda self, *args: method()})()


async def talk(backend: Backend, server: Any, hook: str) -> list[str]:
    """The codes of all replies to what leads to ``hook``, and to QUIT."""
    client = await backend.connect(server)
    await client.send(HOOKS[hook] + b"QUIT\r\n")
    codes = []
    while code := (await client.reply())[:3]:
        codes.append(code)
    return codes


@pytest.mark.parametrize(
    "error", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit, type("Own", (BaseException,), {})]
)
@pytest.mark.parametrize("kind", ["at once", "later"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_handler_raises(
    backend: Backend, hook: str, kind: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def now() -> None:
        raise error("secret")

    async def later() -> None:
        await backend.turn()
        raise error("secret")

    async def main() -> None:
        handler = handler_of(hook, now if kind == "at once" else later)
        async with await backend.serve(handler, config=CONFIG) as server:
            tasks = backend.tasks()
            codes = await talk(backend, server, hook)
            assert codes[-1] in (("421",) if hook == "on_connect" else ("221", "451"))  # FAULTS C8
            assert ("451" in codes) == (hook not in (*NO_ANSWER, "on_connect"))
            await backend.until(lambda: not server.connections and backend.tasks() == tasks)
            assert server.statistics.handler_failures == 1

    with caplog.at_level(logging.ERROR, "ehlo"), signal_handler(signal.SIGINT, lambda number, frame: None):
        backend.run(main)
    assert f"{error.__name__}: secret" in caplog.text


INTERRUPTED = """
import os, signal, socket, sys, threading
import ehlo

loop, kind = sys.argv[1:]

class Mine(ehlo.Handler):
    def on_message(self, session, envelope, content):
        return "550 5.7.1 no"

    def now(self, *args):
        for _ in range(2):  # asyncio.run takes the first one for a cancellation of the program
            signal.raise_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT)

    async def on_mail(self, session, sender):
        self.now()

if kind == "at once":
    Mine.on_mail = Mine.now
if kind == "SIGTERM":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))

def visit(port):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"EHLO x.example\\r\\nMAIL FROM:<a@b.example>\\r\\n")
        while sock.recv(1000):
            pass

async def serve(adapter):
    async with await adapter.serve(Mine(), port=0) as server:
        threading.Thread(target=visit, args=(server.port,), daemon=True).start()
        await server.serve_forever()

if loop == "trio":
    import trio, ehlo.trio
    async def main():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(ehlo.trio.serve, Mine())
            threading.Thread(target=visit, args=(server.port,), daemon=True).start()
    trio.run(main)
else:
    import asyncio, ehlo.asyncio
    if loop == "uvloop":
        import uvloop as module
    else:
        module = asyncio
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(serve(ehlo.asyncio))
"""


@pytest.mark.parametrize("kind", ["at once", "later", "SIGTERM"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_signal_while_a_handler_runs_ends_the_server(loop: str, kind: str) -> None:
    # Python runs the handler of a signal wherever the main thread is. Its exception is not the hook's failure.
    pytest.importorskip(loop)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, loop, kind], timeout=60, capture_output=True, text=True, check=False
    )
    if kind == "SIGTERM":
        assert done.returncode == 7 or "SystemExit: 7" in done.stderr  # trio puts it into a group
    else:
        assert "KeyboardInterrupt" in done.stderr
    assert done.returncode


def test_an_interrupt_counts_as_ctrl_c_where_python_handles_it() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert by_signal(KeyboardInterrupt())
    assert by_signal(BaseExceptionGroup("", [SystemExit(), KeyboardInterrupt()]))
    assert not by_signal(SystemExit())
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(by_signal, KeyboardInterrupt()).result()


@contextlib.contextmanager
def signal_handler(number: signal.Signals, handler: Callable[[int, Any], object]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "on_disconnect"])
def test_a_handler_hangs(backend: Backend, hook: str) -> None:
    cancelled: list[bool] = []

    async def hang() -> None:
        try:
            await backend.forever()
        except backend.cancelled:
            cancelled.append(True)
            raise

    async def main() -> None:
        config = CONFIG.replace(command_timeout=3600)
        limits = ehlo.Limits(handler_seconds=backend.span, linger_seconds=0)
        async with await backend.serve(handler_of(hook, hang), config=config, limits=limits) as server:
            codes = await talk(backend, server, hook)
            assert codes[-1] in (("421",) if hook == "on_connect" else ("221", "451"))  # FAULTS C8
            assert ("451" in codes) == (hook not in (*NO_ANSWER, "on_connect"))
            await backend.until(lambda: not server.connections)
            stats = server.statistics
            assert (stats.handler_timeouts, stats.handler_failures) == (1, 1)

    backend.run(main, timed=True)
    assert cancelled == [True]


@pytest.mark.parametrize("hooks", [("on_disconnect",), ("on_body",), ("on_body", "on_disconnect")], ids=" and ".join)
def test_a_handler_that_hangs_when_the_client_is_gone(backend: Backend, hooks: tuple[str, ...]) -> None:
    # It has the time of any other: connections that come and go must not pile up tasks.
    seen: list[str] = []

    async def hang(hook: str) -> None:
        if hook in hooks:
            seen.append(f"{hook} hangs")
            try:
                await backend.forever()
            except backend.cancelled:
                seen.append(f"{hook} cancelled")
                raise

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            seen.append("on_body")
            try:
                async for _ in body:
                    pass
            except ehlo.ContentAbortedError:
                await hang("on_body")

        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            await hang("on_disconnect")

    def hangs(hook: str) -> bool:
        return f"{hook} hangs" in seen

    def timed_out(server: Any, number: int) -> bool:
        return bool(server.statistics.handler_timeouts >= number)

    async def main() -> None:
        limits = ehlo.Limits(handler_seconds=backend.span)
        async with await backend.serve(Mine(), config=CONFIG.replace(command_timeout=3600), limits=limits) as server:
            tasks, sockets = backend.tasks(), descriptors()
            client = await backend.connect(server)
            await client.send(HELLO + MAIL + b"DATA\r\nx\r\n")
            await backend.until(lambda: seen)
            client.close()
            for number, hook in enumerate(hooks, 1):
                await backend.until(partial(hangs, hook))
                await backend.later(partial(timed_out, server, number))
            await backend.until(lambda: backend.tasks() == tasks and descriptors() == sockets)
            assert server.statistics.handler_failures == len(hooks)

    backend.run(main, timed=True)
    # Nobody waits for the end of what is late: it may come after the beginning of the next.
    assert sorted(seen[1:]) == sorted(f"{hook} {what}" for hook in hooks for what in ("hangs", "cancelled"))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_handler_that_hangs_does_not_outlive_its_server(backend: Backend, hook: str) -> None:
    hanging: list[bool] = []

    async def hang() -> None:
        hanging.append(True)
        try:
            await backend.forever()
        finally:
            hanging.clear()

    async def main() -> None:
        tasks, sockets = backend.tasks(), descriptors()
        server = await backend.serve(handler_of(hook, hang), config=CONFIG)
        client = await backend.connect(server)
        await client.send(HOOKS[hook] + b"QUIT\r\n" * (hook == "on_disconnect"))
        await backend.until(lambda: hanging)
        # After a notice nobody waits for: the session has ended, and the handler is given a second.
        assert await server.close(0) == (hook not in NO_ANSWER)
        client.close()
        await backend.until(lambda: not hanging and backend.tasks() == tasks and descriptors() == sockets)

    backend.run(main, timed=hook in NO_ANSWER)


def test_a_handler_that_will_not_be_cancelled_is_answered_for(backend: Backend) -> None:
    # The client waits no longer than it must; what the handler says afterwards is ignored.
    ended: list[bool] = []

    async def main() -> None:
        go = backend.event()

        class Mine(ehlo.Handler):
            async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str:
                try:
                    await backend.forever()
                except backend.cancelled:
                    if backend.library == "trio":  # there, a cancellation cannot be swallowed
                        raise
                await go.wait()
                ended.append(True)
                return "250 2.1.0 at last"

        config = CONFIG.replace(command_timeout=3600)
        async with await backend.serve(
            Mine(), config=config, limits=ehlo.Limits(handler_seconds=backend.span)
        ) as server:
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.0")
            go.set()
            await backend.until(lambda: ended or backend.library == "trio")
            assert (await client.ask(b"QUIT\r\n")).startswith("221")

    backend.run(main, timed=True)


@pytest.mark.parametrize("state", STATES)
def test_cut_in_every_state(backend: Backend, state: str) -> None:
    # A 421 still gets through, whatever the state (RFC 5321 3.8)
    handler = Watch()

    async def main() -> None:
        tasks, sockets = backend.tasks(), descriptors()
        server = await backend.serve(handler, config=CONFIG)
        client = await backend.connect(server)
        await client.send(STATES[state])
        await backend.until(lambda: server.statistics.octets == len(STATES[state]) and server.connections == 1)
        busy = next(iter(server._live))._conn.in_transaction
        assert await server.close(0) == busy == server.statistics.cut
        assert server.connections == 0
        assert (await client.rest()).split(b"\r\n")[-2].startswith(b"421 4.3.2 mx.example")
        client.close()
        await backend.until(lambda: backend.tasks() == tasks and descriptors() == sockets)

    backend.run(main)
    assert handler.kept == []
    assert handler.gone in (["shutdown"], ["eof"])


def test_drain_counts(backend: Backend) -> None:
    class Mine(Watch):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> Any:
            return backend.forever()

    handler = Mine()

    async def main() -> None:
        server = await backend.serve(handler, config=CONFIG)
        for _ in range(7):
            await backend.ready(server)
        for _ in range(5):
            client = await backend.ready(server)
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
        for _ in range(3):
            client = await backend.ready(server)
            await client.send(MAIL)
            assert (await client.reply()).startswith("250")
        assert server.connections == 15
        assert await server.close(0) == 8
        assert await server.close(0) == 8
        stats = server.statistics
        assert (stats.connections, stats.cut, server.connections) == (15, 8, 0)
        assert (stats.handler_failures, stats.handler_timeouts) == (0, 0)

    backend.run(main)
    assert sorted(handler.gone) == ["eof"] * 8 + ["shutdown"] * 7


def test_two_thousand_are_opened_and_dropped(backend: Backend) -> None:
    """In every state and every way, fifty at a time: nothing is left of them, and the counts are right to the last."""
    total, batch = 2000, 50
    gone: Counter[str] = Counter()

    class Mine(Keep):
        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            gone[reason] += 1

    def objects() -> Counter[str]:
        gc.collect()
        kinds = (type(one) for one in gc.get_objects())
        ours = (kind for kind in kinds if str(kind.__module__).startswith("ehlo"))
        return Counter(kind.__qualname__ for kind in ours)

    def all_gone(server: Any, count: int) -> bool:
        return sum(gone.values()) == count and not server.connections

    async def main() -> None:
        handler = Mine()
        server = await backend.serve(handler, config=CONFIG)
        tasks, sockets, before = backend.tasks(), descriptors(), objects()
        states, ways = list(STATES.values()), list(LEAVE.values())
        for first in range(0, total, batch):
            numbers = range(first, first + batch)
            clients = []
            for number in numbers:
                clients.append(await backend.connect(server))
                await clients[-1].send(states[number % len(states)])
            for number, client in zip(numbers, clients, strict=True):
                ways[number % len(ways)](client)
            await backend.until(partial(all_gone, server, first + batch))
            clients.clear()
            backend.close_clients()
            await backend.until(lambda: backend.tasks() == tasks and descriptors() == sockets)
        for _ in range(3):  # tasks that are done say so
            await backend.turn()
        left = objects() - before
        assert left.pop("_Timer", 0) <= 2  # that of all sessions, and one that was cancelled
        assert left == Counter(), "something is left of the sessions"
        assert server._open.networks == {}
        stats = server.statistics
        assert (stats.connections, stats.messages, stats.cut, stats.refused) == (total, 0, 0, 0)
        assert stats.handler_failures == stats.handler_timeouts == 0
        assert gone == {"eof": total}
        assert handler.kept == []

        # It still serves, and says how many it cuts.
        client = await backend.ready(server)
        await client.send(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
        assert await client.codes(5) == ["250", "250", "354", "250", "221"]
        assert len(handler.kept) == 1
        idle = [await backend.ready(server) for _ in range(7)]
        busy = [await backend.ready(server) for _ in range(5)]
        for client in busy:
            assert await client.ask(b"MAIL FROM:<a@b.example>\r\n") == "250 2.1.0 OK"
        await backend.until(lambda: server.connections == 12)
        assert await server.close(0) == 5
        for client in (*idle, *busy):
            assert (await client.reply()).startswith("421 4.3.2")
        assert (server.connections, server.statistics.connections) == (0, total + 13)
        assert gone == {"eof": total + 5, "quit": 1, "shutdown": 7}

    backend.run(main)


def test_refused_connections_leave_nothing(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(max_connections=1)
        async with await backend.serve(Watch(), config=CONFIG, limits=limits) as server:
            await backend.ready(server)
            tasks, sockets = backend.tasks(), descriptors()
            for _ in range(50):
                client = await backend.connect(server)
                assert (await client.reply()).startswith("421 4.3.2")
                client.close()
            await backend.until(lambda: backend.tasks() == tasks and descriptors() == sockets)
            assert (server.connections, server.statistics.refused) == (1, 50)

    backend.run(main)
