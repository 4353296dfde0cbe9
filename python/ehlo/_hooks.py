"""What a program's own function may raise without ending the server around it.

An ``Exception`` is the failure of one transaction. So is nearly everything else: ``SystemExit`` out of a library that
calls ``sys.exit()``, for example. Only a cancellation and the exception of a signal must go on their way.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any, TypeVar

__all__ = ["HookError", "await_hook", "by_signal", "call_hook", "is_cancellation", "is_torn_down"]

T = TypeVar("T")


class HookError(Exception):
    """A program's function raised what is no ``Exception``; ``__cause__`` has it."""


def call_hook(function: Callable[..., T], *arguments: Any) -> T:
    """Call a program's function. What it raises comes out as an ``Exception``.

    Raises:
        HookError: it raised another ``BaseException``, which is neither a cancellation nor the work of a signal.

    Example::

        limits = call_hook(route_limits, "mx:mx.example")
    """
    try:
        return function(*arguments)
    except Exception:
        raise
    except BaseException as exc:
        if by_signal(exc):
            raise
        raise _error(exc) from exc


async def await_hook(awaitable: Awaitable[T]) -> T:
    """Await what a program's function returned. What it raises comes out as an ``Exception``, as in :func:`call_hook`.

    Raises:
        HookError: it raised another ``BaseException``, which is neither a cancellation nor the work of a signal.

    Example::

        route = await await_hook(program_route(recipient))
    """
    try:
        return await awaitable
    except Exception:
        raise
    except BaseException as exc:
        if is_cancellation(exc) or by_signal(exc) or is_torn_down(exc):
            raise
        raise _error(exc) from exc


def _error(exc: BaseException) -> HookError:
    return HookError(f"a function of the program raised {type(exc).__name__}: {exc}")


def is_cancellation(exc: BaseException) -> bool:
    """Whether the event loop raised it to end what waits. Alone, or in a group beside others."""
    if isinstance(exc, BaseExceptionGroup):
        return any(map(is_cancellation, exc.exceptions))
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and isinstance(exc, asyncio.CancelledError):
        return True
    return trio is not None and isinstance(exc, trio.Cancelled)


def is_torn_down(exc: BaseException) -> bool:
    """Whether a coroutine is closed because its event loop is gone. While the loop runs, nobody closes one."""
    if not isinstance(exc, GeneratorExit):
        return False
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return False
    return trio is None or not trio.lowlevel.in_trio_run()


def by_signal(exc: BaseException) -> bool:
    """Whether the handler of a signal raised it, while a function of the program ran by chance.

    Python runs the handlers of signals in the main thread, wherever that is: a ``KeyboardInterrupt`` of Ctrl-C comes
    out of any function. asyncio, trio and most programs set handlers of their own, which are seen in the traceback.
    Python's own handler is not seen there. Where that one is set, each ``KeyboardInterrupt`` counts as Ctrl-C.
    """
    if isinstance(exc, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    if isinstance(exc, BaseExceptionGroup):
        return any(map(by_signal, exc.exceptions))
    if isinstance(exc, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    traceback = exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _code(handler: object) -> CodeType | None:
    """The code of a handler in Python: a function, a method, or a ``functools.partial`` of one."""
    handler = getattr(handler, "func", handler)
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None
