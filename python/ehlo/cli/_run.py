"""Servers of a command on one of the event loops, from their start to the signal that ends them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final, TypeAlias

import ehlo.asyncio
from ehlo._errors import LocalProtocolError
from ehlo._server.limits import Statistics
from ehlo._server.listener import Listener
from ehlo.cli._log import lines_beside
from ehlo.cli._receive import UsageError

__all__ = ["LOOPS", "Job", "Tools", "Wanted", "hangup_waits", "heed_hangup", "loop_module", "run_job"]

LOOPS: Final = ("asyncio", "uvloop", "trio")

Wanted: TypeAlias = tuple[object, dict[str, Any]]
"""A server to be: the handler, and what else ``serve`` is called with."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the event loop has for a command.

    Attributes:
        adapter: :mod:`ehlo.asyncio` or :mod:`ehlo.trio`.
        in_thread: calls a function that blocks, with arguments.
    """

    adapter: Any
    in_thread: Callable[..., Awaitable[Any]]


class Job(ABC):
    """What is to be served. A signal (SIGINT, SIGTERM) ends it, a second one at once.

    Arguments:
        loop: one of :data:`LOOPS`.
        deadline: seconds that open transactions have to end (RFC 5321 3.8).
    """

    # SIGHUP: look at files again. ``None`` leaves the signal alone.
    reload: Callable[[], None] | None = None
    # Called in the event loop every so many seconds: the loop is alive.
    beat: tuple[float, Callable[[], None]] | None = None

    def __init__(self, loop: str, deadline: float) -> None:
        self.loop = loop
        self.deadline = deadline

    @abstractmethod
    def open(self, tools: Tools) -> AbstractAsyncContextManager[list[Wanted]]:
        """What the servers need, as long as they are there."""

    @abstractmethod
    def cannot_listen(self, number: int, exc: OSError) -> UsageError:
        """What to say when a server (by its place in the list) cannot listen."""

    @abstractmethod
    def ready(self, servers: Sequence[Listener[Any]]) -> None:
        """All servers listen."""

    def stopping(self) -> None:  # noqa: B027 - most jobs have nothing to do here
        """A signal came, and open transactions are about to end."""


def loop_module(name: str) -> Any:
    """The module of an event loop.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"--loop {name}: {name} is not installed; pip install {name}, or use --loop asyncio") from None


def run_job(job: Job, lifeline: Connection | None = None) -> Statistics:
    """Serve until a signal; with a lifeline, until the parent writes to it or is gone, and signals are the parent's.

    Returns:
        What all servers did, together.

    Raises:
        UsageError: it cannot listen, or the arguments make no sense.
    """
    module = loop_module(job.loop)
    try:
        with lines_beside():
            return _run(job, module, lifeline)
    except LocalProtocolError as exc:
        raise UsageError(str(exc)) from None


@contextlib.contextmanager
def hangup_waits() -> Iterator[None]:
    """SIGHUP waits until :func:`heed_hangup`. Without a handler it would end a process that still starts.

    It is not blocked: the programs that a handler of the program starts would inherit that. A handler they do not.

    Example::

        with hangup_waits(): run_job(job)
    """
    global _hung_up
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    _hung_up = False
    before = signal.signal(signal.SIGHUP, _remember_hangup)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)


_hung_up = False


def _remember_hangup(number: int, frame: FrameType | None) -> None:
    global _hung_up
    _hung_up = True


def heed_hangup() -> None:
    """SIGHUP has another handler now: let the signal come that came before.

    Example::

        heed_hangup()
    """
    global _hung_up
    if _hung_up:
        _hung_up = False
        signal.raise_signal(signal.SIGHUP)


def _run(job: Job, module: Any, lifeline: Connection | None) -> Statistics:
    if job.loop == "trio":
        return module.run(_on_trio, job, lifeline)  # type: ignore[no-any-return]
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        return runner.run(_on_asyncio(job, lifeline))


def _total(servers: Sequence[Listener[Any]]) -> Statistics:
    return sum((server.statistics for server in servers), Statistics())


async def _beat(sleep: Callable[[float], Awaitable[object]], seconds: float, beat: Callable[[], None]) -> None:
    while True:
        beat()
        await sleep(seconds)


async def _on_asyncio(job: Job, lifeline: Connection | None) -> Statistics:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    hurry = asyncio.Event()
    servers: list[ehlo.asyncio.Server] = []

    def asked() -> None:
        (hurry if stop.is_set() else stop).set()

    def read_lifeline() -> None:
        assert lifeline is not None
        try:
            lifeline.recv()
        except (EOFError, OSError):  # the parent is gone
            loop.remove_reader(lifeline.fileno())
            stop.set()
        else:
            asked()

    async def close(deadline: float) -> None:
        await asyncio.gather(*(server.close(deadline) for server in servers))

    async with job.open(Tools(ehlo.asyncio, asyncio.to_thread)) as wanted, AsyncExitStack() as stack:
        for number, (handler, options) in enumerate(wanted):
            try:
                server = await ehlo.asyncio.serve(handler, **options)
            except OSError as exc:
                raise job.cannot_listen(number, exc) from None
            servers.append(await stack.enter_async_context(server))
        if lifeline is None:
            for signum in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError, ValueError):
                    loop.add_signal_handler(signum, asked)
        else:
            loop.add_reader(lifeline.fileno(), read_lifeline)
        if job.reload is not None:
            with contextlib.suppress(NotImplementedError, ValueError, AttributeError):
                loop.add_signal_handler(signal.SIGHUP, job.reload)
        job.ready(servers)
        if job.reload is not None:
            heed_hangup()
        heart = None if job.beat is None else asyncio.ensure_future(_beat(asyncio.sleep, *job.beat))
        await stop.wait()
        job.stopping()
        closing = asyncio.ensure_future(close(job.deadline))
        hurrying = asyncio.ensure_future(hurry.wait())
        await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
        if hurry.is_set():
            await close(0)
        hurrying.cancel()
        await closing
        if heart is not None:
            heart.cancel()
        if lifeline is not None:
            loop.remove_reader(lifeline.fileno())
    return _total(servers)


async def _on_trio(job: Job, lifeline: Connection | None) -> Statistics:
    import trio

    import ehlo.trio

    servers: list[ehlo.trio.Server] = []
    failure: Exception | None = None
    asked = False

    def close(deadline: float) -> None:
        nonlocal asked
        if not asked:
            job.stopping()
        asked = True
        for server in servers:
            nursery.start_soon(server.close, deadline)

    async def heed(pipe: Connection | None, *, task_status: trio.TaskStatus[None]) -> None:
        """Close when asked by a signal or by the parent, and sooner when asked again."""
        deadline = job.deadline
        if pipe is None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    close(deadline)
                    deadline = 0.0
        task_status.started()
        while pipe is not None:
            await trio.lowlevel.wait_readable(pipe.fileno())
            try:
                pipe.recv()
            except (EOFError, OSError):  # the parent is gone
                pipe = None
            close(deadline)
            deadline = 0.0

    async def reload(*, task_status: trio.TaskStatus[None]) -> None:
        assert job.reload is not None
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                job.reload()

    async with job.open(Tools(ehlo.trio, trio.to_thread.run_sync)) as wanted:
        async with trio.open_nursery() as nursery:
            try:
                for number, (handler, options) in enumerate(wanted):
                    try:
                        servers.append(await nursery.start(partial(ehlo.trio.serve, handler, **options)))
                    except OSError as exc:
                        raise job.cannot_listen(number, exc) from None
            except (UsageError, LocalProtocolError) as exc:
                failure = exc  # out of the nursery it would come in a group
            else:
                await nursery.start(heed, lifeline)
                if job.reload is not None and hasattr(signal, "SIGHUP"):
                    await nursery.start(reload)
                job.ready(servers)
                if job.reload is not None:
                    heed_hangup()
                if job.beat is not None:
                    nursery.start_soon(_beat, trio.sleep, *job.beat)
                for server in servers:
                    await server.serve_forever()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    return _total(servers)
