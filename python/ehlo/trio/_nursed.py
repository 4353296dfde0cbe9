"""A nursery that belongs to an object, for what has to run beside it on trio."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import trio

__all__ = ["Nursed"]


class Nursed:
    """Has a nursery of its own inside ``async with``: what runs beside ends with it.

    Example::

        class Pool(Nursed, BasePool[Client]): ...
    """

    _manager: Any
    _nursery: trio.Nursery | None

    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, exc, traceback)  # type: ignore[misc]
        finally:
            # An exception of the program must not pass through the nursery, which would wrap it in a group.
            nursery, self._nursery = self._nursery, None
            assert nursery is not None
            nursery.cancel_scope.cancel()
            await self._manager.__aexit__(None, None, None)
