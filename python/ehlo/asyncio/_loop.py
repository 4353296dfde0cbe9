"""What servers and clients of one event loop share."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final, TypeVar

from ehlo._io.shared import Shared
from ehlo.asyncio._watch import watch_of_loop

__all__ = ["in_thread", "shared_of", "spawn"]

T = TypeVar("T")


# The loop itself has it, by this name. Open connections hold their loop: a dictionary of ours, even a weak one, would
# keep a loop for ever that was closed before they were, and their sockets. It is not set by way of ``loop.__dict__``:
# CPython 3.11 finds each attribute more slowly from then on, and a connection takes 7 % more instructions.
_NAME: Final = "_ehlo_shared"


def shared_of(loop: asyncio.AbstractEventLoop) -> Shared:
    """What the connections of ``loop`` share, clients and servers alike."""
    shared: Shared | None = getattr(loop, _NAME, None)
    if shared is None:
        shared = Shared(watch_of_loop(loop), monotonic)
        setattr(loop, _NAME, shared)
    return shared


def spawn(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task; where Python can (3.12), it runs at once up to its first real wait. A task factory is respected."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(coro, loop=loop, eager_start=True)
    return loop.create_task(coro)


async def in_thread(function: Callable[[], T]) -> T:
    """What the function gives, run in a thread that nobody has to wait for: ``asyncio.run`` waits in its end for the
    threads of its own executor, however long they take.

    Example::

        name = await in_thread(socket.getfqdn)
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[..., None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome: tuple[Callable[..., None], Any] = future.set_result, function()
        except Exception as exc:
            outcome = future.set_exception, exc
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await future
