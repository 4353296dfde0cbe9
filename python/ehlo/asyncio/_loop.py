"""What servers and clients of one event loop share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from ehlo._core import ReceiveBuffer

__all__ = ["buffer_of", "spawn"]

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
