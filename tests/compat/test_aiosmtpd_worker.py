"""``ehlo.compat.aiosmtpd``: the task that the methods of a program run in."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from ehlo.compat.aiosmtpd import _room
from ehlo.compat.aiosmtpd.smtp import SMTP

MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n"

Waits = Callable[[], Awaitable[object]]


class Handler:
    """Says 250, after it has waited."""

    def __init__(self, wait: Waits | None = None) -> None:
        self.wait = wait
        self.tasks: list[tuple[object, object]] = []
        self.fault: BaseException | None = None
        self.over = asyncio.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        before = asyncio.current_task()
        try:
            if self.wait is not None:
                await self.wait()
        except BaseException as exc:
            self.fault = exc
            raise
        finally:
            self.tasks.append((before, asyncio.current_task()))
            self.over.set()
        return "250 kept"


async def talk(handler: Any, octets: bytes, *, leave: bool = False) -> bytes:
    """What a client hears that sends these octets on one connection, and then FIN."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="mx.example"), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.readuntil(b"\r\n")
        writer.write(octets)
        if leave:
            await reader.readuntil(b"354 ")
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await handler.over.wait()
            return b""
        heard = await reader.read()
        writer.close()
        return heard


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_it(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine)

    return run_it


Run = Callable[[Coroutine[Any, Any, None]], None]


async def _timeout() -> None:
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)


async def _group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))


async def _expires() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()


async def _raises_and_goes_on() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.create_task(fail())
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "wait",
    [
        None,
        lambda: asyncio.sleep(0),
        lambda: asyncio.to_thread(int),
        lambda: asyncio.wait_for(asyncio.sleep(0), 30),
        _timeout,
        _group,
        _expires,
        _raises_and_goes_on,
    ],
    ids=["nothing", "a-turn", "a-thread", "wait_for", "timeout", "a-group", "a-timeout-that-is-over", "a-fault"],
)
def test_all_methods_of_a_connection_run_in_one_task(run: Run, wait: Waits | None) -> None:
    async def main() -> None:
        handler = Handler(wait)
        heard = await talk(handler, b"EHLO c\r\n" + MAIL * 3 + b"QUIT\r\n")
        assert heard.count(b"250 kept\r\n") == 3
        assert len({task for pair in handler.tasks for task in pair}) == 1
        assert None not in handler.tasks[0]

    run(main())


def test_context_variables_stay_for_the_connection(run: Run) -> None:
    count: contextvars.ContextVar[int] = contextvars.ContextVar("count", default=0)
    seen: list[int] = []

    class Counts:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            count.set(count.get() + 1)
            if len(seen) != 1:
                await asyncio.sleep(0)
            seen.append(count.get())
            return "250 kept"

    async def main() -> None:
        for _ in range(2):
            await talk(Counts(), b"EHLO c\r\n" + MAIL * 3 + b"QUIT\r\n")
        assert count.get() == 0

    run(main())
    assert seen == [1, 2, 3] * 2


def test_a_client_that_leaves_cancels_the_method_that_waits(run: Run) -> None:
    async def main() -> None:
        handler = Handler(lambda: asyncio.get_running_loop().create_future())
        await talk(handler, b"EHLO c\r\n" + MAIL, leave=True)
        assert isinstance(handler.fault, asyncio.CancelledError)

    run(main())


@pytest.mark.parametrize("turn", [False, True])
def test_a_method_that_exits_fails_one_message(run: Run, turn: bool) -> None:
    seen: list[list[str]] = []

    class Exits:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            seen.append(envelope.rcpt_tos)
            if turn:
                await asyncio.sleep(0)
            if len(seen) == 1:
                sys.exit("by mistake")
            return "250 kept"

    async def main() -> None:
        heard = await talk(Exits(), b"EHLO c\r\n" + MAIL * 2 + b"QUIT\r\n")
        assert heard.count(b"\r\n451 ") == 1
        assert heard.count(b"\r\n250 kept\r\n") == 1
        assert seen == [["c@d.example"]] * 2

    run(main())


@pytest.mark.parametrize("turn", [False, True])
def test_a_method_that_cancels_itself_before_it_waits(run: Run, turn: bool) -> None:
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if turn:
            await asyncio.sleep(0)
        else:
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        handler = Handler(cancel)
        heard = await talk(handler, b"EHLO c\r\n" + MAIL + b"QUIT\r\n")
        assert isinstance(handler.fault, asyncio.CancelledError)
        assert b"250 kept" not in heard

    run(main())


def test_a_task_factory_of_the_program_is_respected(run: Run) -> None:
    made: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            task = asyncio.Task(coro, loop=loop, **options)
            made.append(task)
            return task

        loop.set_task_factory(factory)
        handler = Handler()
        assert b"250 kept" in await talk(handler, b"EHLO c\r\n" + MAIL + b"QUIT\r\n")
        assert handler.tasks[0][0] in made

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
def test_eager_tasks() -> None:
    # Not on uvloop: its tasks do not take the arguments of this factory.
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        handler = Handler(lambda: asyncio.sleep(0))
        assert b"250 kept" in await talk(handler, b"EHLO c\r\n" + MAIL * 2 + b"QUIT\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("octets", [b"", b"EHLO c\r\n", b"QUIT\r\n"])
def test_a_connection_that_ended_is_forgotten(run: Run, octets: bytes) -> None:
    async def main() -> None:
        over = asyncio.Event()

        class Mine(SMTP):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                over.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Mine(Handler(), hostname="mx.example"), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(octets)
            writer.write_eof()
            assert (await reader.read()).startswith(b"220 ")
            writer.close()
            await over.wait()
            assert [len(room._live) for room in _room.rooms_of(loop).values()] == [0]

    run(main())
