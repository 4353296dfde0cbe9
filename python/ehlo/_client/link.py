"""The connection of a client as the methods that send see it: :class:`Link`.

:class:`ehlo._client.driver.ClientDriver` is one. There every name is explained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from ehlo._client.paths import SenderLike
from ehlo._client.source import Source
from ehlo._core import Challenge, ClientConnection, ClientDisconnect, Reply, SendResult
from ehlo._errors import EhloError

if TYPE_CHECKING:
    from ehlo._tls import Tls

__all__ = ["Link"]


class Link(Protocol):
    """One connection: the engine, what the engine said, and how to wait for more."""

    conn: ClientConnection
    results: deque[SendResult]
    replies: dict[int, Reply | None]
    challenge: Challenge | None
    sources: dict[int, Source]
    failures: dict[int, Exception]
    ready: bool
    disconnect: ClientDisconnect | None
    served: bool
    limited: bool
    given: bool
    tls: Tls | None
    seen: float

    @property
    def server_address(self) -> tuple[str | None, int | None]: ...

    @property
    def transcript(self) -> str: ...

    @property
    def is_private(self) -> bool: ...

    @property
    def channel_binding(self) -> tuple[str, bytes] | None: ...

    def is_over(self) -> bool: ...

    def progress(self) -> Awaitable[None]: ...

    def wake(self) -> None: ...

    def hurry(self) -> None: ...

    def look(self) -> None: ...

    def abort(self) -> None: ...

    def leave(self) -> None: ...

    async def ask(self, number: int) -> Reply: ...

    async def quit(self) -> Reply | None: ...

    async def until_ready(self) -> None: ...

    async def wait_closed(self) -> None: ...

    async def feed(self) -> None: ...

    async def settle(self, result: SendResult) -> Exception | None: ...

    async def give_up(self, why: BaseException | None = None) -> None: ...

    def error(self, result: SendResult | None = None) -> EhloError: ...

    def error_of(self, result: SendResult, sender: SenderLike) -> EhloError: ...
