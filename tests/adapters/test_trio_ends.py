"""How a run of trio ends: by Ctrl-C and other signals at bad moments, or with connections that are still open."""

from __future__ import annotations

import errno
import gc
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Peer, Trio, TrioTasks, descriptors

trio = pytest.importorskip("trio")
import ehlo.trio  # noqa: E402
from ehlo.trio._loop import loop_of_run  # noqa: E402


@pytest.fixture(params=[Trio, TrioTasks])
def backend(request: pytest.FixtureRequest) -> Trio:
    backend = request.param()
    assert isinstance(backend, Trio)
    return backend


class Stop(BaseException):
    """As the handler of a signal raises it."""


@pytest.fixture
def stopping() -> Iterator[None]:
    """SIGUSR1 raises Stop."""

    def stop(number: int, frame: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    yield
    signal.signal(signal.SIGUSR1, before)


async def serve_and_say_mail(backend: Trio, handler: ehlo.Handler) -> None:
    """It ends by what the handler raises."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ehlo.trio.serve, handler, config=CONFIG))
        client = await backend.ready(server)
        await client.send(b"MAIL FROM:<a@b.example>\r\n")
        assert (await client.rest()).startswith(b"421 4.3.2")
        await trio.sleep_forever()


@pytest.mark.usefixtures("stopping")
def test_of_two_servers_that_one_ends_whose_handler_the_signal_came_to(backend: Trio) -> None:
    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            signal.raise_signal(signal.SIGUSR1)

    async def main() -> None:
        async with await backend.serve(ehlo.Handler(), config=CONFIG) as other:
            with pytest.raises(BaseExceptionGroup) as caught:
                await serve_and_say_mail(backend, Mine())
            assert caught.group_contains(Stop)
            await backend.ready(other)

    backend.run(main)


def test_ctrl_c_interrupts_a_plain_handler(backend: Trio) -> None:
    # A system task calls it, and trio protects system tasks. But the handler may work for long.
    went_on: list[bool] = []

    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            signal.raise_signal(signal.SIGINT)
            went_on.append(True)

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve_and_say_mail(backend, Mine())
        assert caught.group_contains(KeyboardInterrupt)

    backend.run(main)
    assert not went_on


def test_ctrl_c_reaches_handlers_in_the_server_only(backend: Trio) -> None:
    protected: list[bool] = []

    class Rcpt:
        def __call__(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())

    class Mine(ehlo.Handler):
        on_rcpt = Rcpt()

        def on_mail(self, session: Any, sender: Any) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())

    handler = Mine()

    async def main() -> None:
        async with await backend.serve(handler, config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(MAIL)
            assert await client.codes(2) == ["250", "250"]
            trio.lowlevel.enable_ki_protection(lambda: handler.on_mail(None, None))()
            client.close()  # in its transaction, which the server would wait for
        assert protected == [False, False, True]

    backend.run(main)


def test_ctrl_c_while_a_client_goes_to_sleep(backend: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        await backend.until(lambda: interrupted)
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b""

    interrupted: list[bool] = []
    sleep = trio.lowlevel.wait_task_rescheduled

    async def falls_asleep(unpark: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return await sleep(unpark)

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await ehlo.trio.connect("127.0.0.1", port, hostname="c.example")
            link: Any = client._link
            link._quiet = -1  # as if others waited, too
            monkeypatch.setattr("ehlo.trio._client_protocol.wait_task_rescheduled", falls_asleep)
            with pytest.raises(KeyboardInterrupt):
                await client.noop()
            interrupted.append(True)
            assert link._task is None

    backend.run(main)


@pytest.mark.parametrize("how", ["alone", "parked"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_a_trace_raises_comes_out_of_the_call(backend: Trio, kind: type[BaseException], how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        peer.say(b"250 now\r\n")
        assert await peer.line() == b""

    def trace(lines: str) -> None:
        if "now" in lines:
            raise kind

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await ehlo.trio.connect("127.0.0.1", port, hostname="c.example", trace=trace)
            link: Any = client._link
            if how == "parked":
                link._quiet = -1  # as if others waited, too
            with pytest.raises(kind):
                await client.noop()
            assert client.is_closed

    backend.run(main)


@pytest.mark.parametrize("answers", [True, False])
def test_a_task_that_outlives_the_main_task_says_quit(backend: Trio, answers: bool) -> None:
    said: list[object] = []

    async def peer_of(ours: Any) -> None:
        with trio.CancelScope(shield=True):
            peer = Peer(backend, ours)
            await peer.hello()
            assert await peer.line() == b"NOOP"
            await backend.until(lambda: loop_of_run().ended)
            peer.say(b"250 ok\r\n")
            said.append(await peer.line())
            if answers:
                peer.say(b"221 bye\r\n")
            assert await peer.line() == b""
            peer.close()

    async def client_of(theirs: Any, ready: Any) -> None:
        config = ehlo.ClientConfig("c.example", quit_timeout=20.0 if answers else 0.01)
        client = await ehlo.trio.connect(sock=theirs, config=config)
        with trio.CancelScope(shield=True):
            ready.set()
            said.append((await client.noop()).code)
            await client.close()

    async def main() -> None:
        for _ in range(2):
            (ours, theirs), ready = socket.socketpair(), trio.Event()
            ours.setblocking(False)
            trio.lowlevel.spawn_system_task(peer_of, ours)
            trio.lowlevel.spawn_system_task(client_of, theirs, ready)
            await ready.wait()

    with backend.surroundings():
        trio.run(main)
    assert sorted(map(str, said)) == ["250", "250", "b'QUIT'", "b'QUIT'"]


def test_a_server_that_the_main_task_leaves_open_leaves_no_descriptor() -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell the descriptors")

    class Started:
        def __init__(self) -> None:
            self.event = trio.Event()

        def started(self, value: Any = None) -> None:
            self.server = value
            self.event.set()

    async def main() -> None:
        started = Started()
        serve = partial(ehlo.trio.serve, ehlo.Handler(), config=CONFIG, task_status=started)
        trio.lowlevel.spawn_system_task(serve)
        await started.event.wait()
        client = await ehlo.trio.connect("127.0.0.1", started.server.port, hostname="c.example")
        await client.noop()
        client.abort()

    trio.run(main)
    before = len(list(Path("/proc/self/fd").iterdir()))
    gc.disable()  # trio's own cycles keep what belongs to a run until the collector comes
    try:
        for _ in range(3):
            trio.run(main)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    finally:
        gc.enable()


def test_no_descriptor_is_left_for_what_the_connections_share(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            before = descriptors()
            with pytest.raises(ehlo.SMTPConnectError, match="cannot connect"):
                await ehlo.trio.connect("127.0.0.1", listener.getsockname()[1], hostname="c.example")
            assert descriptors() == before

    def none_left(now: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("ehlo.trio._loop.EpollWatch", none_left)
    trio.run(main)
