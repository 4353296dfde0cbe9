"""Driving the coroutines of the client's wing without an event loop: where they wait, they block."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

__all__ = ["DONE", "in_thread", "no_loop", "refuse_async", "run"]

T = TypeVar("T")


class _Done:
    """Awaitable without a wait."""

    def __await__(self) -> Iterator[None]:
        return iter(())


DONE: Final[Any] = _Done()
"""What an ``await`` gets that has waited already: it blocked."""


def run(coro: Coroutine[Any, Any, T]) -> T:
    """What ``coro`` gives. It blocks where it waits, so it needs no loop, and a loop that runs is no obstacle.

    Raises:
        TypeError: it waits for something of an event loop, such as a token from a function that is async.

    Example::

        reply = run(client.noop())
    """
    try:
        coro.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coro.close()
    raise no_loop()


def no_loop() -> TypeError:
    """What is raised where something waits for an event loop.

    Example::

        raise no_loop()
    """
    return TypeError("this waits for an event loop, and ehlo.sync has none: use ehlo.asyncio or ehlo.trio")


def refuse_async(given: object) -> None:
    """Raise where a message, or what messages are taken from, is async: nothing here can wait for it.

    Raises:
        TypeError: it is.

    Example::

        refuse_async(message)
    """
    if isinstance(given, AsyncIterable):
        raise TypeError("ehlo.sync takes no async iterable: give an iterable, or use ehlo.asyncio or ehlo.trio")


def in_thread(function: Callable[[], T], seconds: float) -> T:
    """What ``function`` gives, run in a thread that nobody waits for when the time is up: the resolver knows no limit.

    Raises:
        TimeoutError: it takes longer than so many seconds.

    Example::

        name = in_thread(socket.getfqdn, 3.0)
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def call() -> None:
        try:
            outcome.put((True, function()))
        except Exception as exc:
            outcome.put((False, exc))

    threading.Thread(target=call, name="ehlo resolver", daemon=True).start()
    try:
        good, value = outcome.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise TimeoutError from None
    if not good:
        raise value
    result: T = value
    return result
