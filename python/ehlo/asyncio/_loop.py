"""What servers and clients of one event loop share."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ehlo._core import ReceiveBuffer

__all__ = ["buffer_of", "in_thread", "spawn"]

T = TypeVar("T")

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, ReceiveBuffer] = WeakKeyDictionary()


def buffer_of(loop: asyncio.AbstractEventLoop) -> ReceiveBuffer:
    """The one buffer that all transports of ``loop`` read into: each hands over what it got before another reads."""
    buffer = _buffers.get(loop)
    if buffer is None:
        _buffers[loop] = buffer = ReceiveBuffer()
    return buffer


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
