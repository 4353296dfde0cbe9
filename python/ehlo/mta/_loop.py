"""Which event loop runs, and the adapter of ehlo that belongs to it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Literal

__all__ = ["Tasks", "adapter", "event_class", "library", "open_tasks"]


def library() -> Literal["asyncio", "trio"]:
    """The library of the running loop.

    Example::

        library()  # "trio"
    """
    trio = sys.modules.get("trio")
    return "trio" if trio is not None and trio.lowlevel.in_trio_run() else "asyncio"


def adapter() -> ModuleType:
    """:mod:`ehlo.asyncio` or :mod:`ehlo.trio`.

    Example::

        client = await adapter().connect("mx.example")
    """
    if library() == "trio":
        import ehlo.trio

        return ehlo.trio
    import ehlo.asyncio

    return ehlo.asyncio


def event_class() -> Callable[[], Any]:
    """The event of the running loop.

    Example::

        event = event_class()()
    """
    if library() == "trio":
        import trio

        return trio.Event
    return asyncio.Event


class Tasks:
    """Tasks that run beside. Unlike a group of anyio it may be given a task from a callback of the loop, too.

    Attributes:
        start: runs a function in a task of its own.
        cancel: cancels all tasks.
    """

    def __init__(self, start: Callable[..., object], cancel: Callable[[], object]) -> None:
        self.start = start
        self.cancel = cancel


@asynccontextmanager
async def open_tasks() -> AsyncIterator[Tasks]:
    """Tasks of which none outlives the ``async with`` block. One that fails cancels the others.

    Example::

        async with open_tasks() as tasks: tasks.start(work, 1)
    """
    if library() == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            yield Tasks(nursery.start_soon, nursery.cancel_scope.cancel)
        return
    running: set[asyncio.Task[Any]] = set()
    async with asyncio.TaskGroup() as group:

        def start(function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> None:
            task = group.create_task(function(*args))
            running.add(task)
            task.add_done_callback(running.discard)

        def cancel() -> None:
            for task in list(running):
                task.cancel()

        yield Tasks(start, cancel)
