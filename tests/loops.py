"""The event loops on which the MTA kit's tests run: asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

LOOPS = ("asyncio", "uvloop", "trio")
PATIENCE = 120.0
"""Real seconds after which a test has failed, as in ``backends``."""


def run(loop: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run ``function`` on a fresh loop of that name; gives what it returns."""
    if loop == "trio":
        trio = pytest.importorskip("trio")

        async def patient() -> Any:
            with trio.fail_after(PATIENCE):
                return await function(*args)

        return trio.run(patient)

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await function(*args)

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    """Let others run until it holds. The test's own timeout ends it otherwise."""
    import anyio

    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.001)
