"""An event loop as the socket path sees it: :class:`Loop`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

__all__ = ["Loop", "Timer"]


class Timer(Protocol):
    """A call that comes later."""

    def cancel(self) -> object: ...


class Loop(Protocol):
    """An event loop. The loops of asyncio have these methods. :mod:`ehlo.trio` has such an object for each run of
    trio."""

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> object:
        """Call it in a later turn, by default in the present context."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call it after ``delay`` seconds."""

    def call_exception_handler(self, context: dict[str, Any]) -> object:
        """A callback has failed, as ``context`` tells by ``message`` and ``exception``."""
