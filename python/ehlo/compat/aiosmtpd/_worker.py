"""The task of a connection: the program's methods run in it, one after the other, as in aiosmtpd.

A method that does not wait is over before the call returns: no task is made for it, and no turn of the loop passes.
A method that waits goes on in the task of its connection, and it is inside this task from its first step on. So
``asyncio.current_task``, ``asyncio.timeout`` and context variables are what they are in aiosmtpd.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import _enter_task, _leave_task
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Generic, NoReturn, TypeVar

__all__ = ["Rest", "Worker", "raising"]

T = TypeVar("T")


class Rest(Awaitable[T], Generic[T]):
    """What is left of a coroutine whose first step has been made. Its worker awaits it.

    Arguments:
        coroutine: it waits.
        waits_for: what it gave to its task.
    """

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as exc:
                    waits_for = coroutine.throw(exc)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def close(self) -> None:
        """It is not to go on."""
        self._coroutine.close()

    def cancel(self) -> None:
        """It was cancelled before it went on: so is what it waits for, as in :meth:`asyncio.Task.cancel`."""
        if self._waits_for is None or not self._waits_for.cancel():
            self._waits_for = _cancelled()


def _cancelled() -> asyncio.Future[None]:
    """What raises at once in who waits for it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    future._asyncio_future_blocking = True  # as a future's own __await__ says
    return future


class Worker:
    """Runs methods of the program in one task.

    Arguments:
        loop: the running loop. It has no task factory of its own.
    """

    __slots__ = ("_context", "_ended", "_expected", "_free", "_job", "_loop", "_rest", "_task", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self._ended = False
        self._free = False  # until it runs: a task that is cancelled before that never runs
        self._rest: Rest[Any] | None = None
        self._expected: Awaitable[Any] | None = None
        self._job: Coroutine[Any, Any, None] | None = None
        self._wake: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._work(), context=self._context)

    @property
    def is_free(self) -> bool:
        """Whether it can begin something now."""
        return self._free and asyncio.current_task(self._loop) is None

    def begin(self, awaitable: Awaitable[T]) -> T | Awaitable[T]:
        """Make the first step of a coroutine. Gives its result, or what is left of it: a :class:`Rest`.

        It gives the awaitable itself where it cannot begin now: a task is running, or it is no coroutine.

        Raises:
            BaseException: what the coroutine raises in its first step.
        """
        if not self._free or type(awaitable) is not CoroutineType:
            return awaitable
        try:
            _enter_task(self._loop, self._task)
        except RuntimeError:  # in another task
            return awaitable
        try:
            waits_for = self._context.run(awaitable.send, None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            _leave_task(self._loop, self._task)
        rest = Rest(awaitable, waits_for)
        self.keep(rest, rest)
        return rest

    def keep(self, rest: Rest[Any], awaitable: Awaitable[Any]) -> None:
        """This is what awaits the rest."""
        self._rest, self._expected = rest, awaitable

    def takes(self, awaitable: object) -> bool:
        """Whether something that waits belongs to this task: it began here, or it follows from what is over here."""
        if self._free:
            return awaitable is self._expected
        return self._job is None and asyncio.current_task(self._loop) is self._task

    def go_on(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what awaits the thing that waits. Gives the task."""
        self._job = job
        self._free = False
        if not self._wake.done():
            self._wake.set_result(None)
        return self._task

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        if self._free:
            self._task.cancel()

    async def _work(self) -> None:
        self._free = True
        try:
            while not self._ended:
                try:
                    await self._wake
                except asyncio.CancelledError:
                    if self._job is None or self._rest is None:
                        return
                    self._rest.cancel()
                while self._job is not None:
                    job, self._job = self._job, None
                    await job
                    self._rest = self._expected = None
                self._wake = self._loop.create_future()
                self._free = True
        finally:
            self._free = False


async def raising(exc: BaseException) -> NoReturn:
    """A method that raised before it could be awaited, as one that raises when it is."""
    raise exc
