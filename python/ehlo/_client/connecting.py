"""How a connection comes about on every backend: dialled, greeted, with TLS and AUTH as they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from ehlo._client.auth import authenticate
from ehlo._client.link import Link
from ehlo._client.options import Opening

if TYPE_CHECKING:
    from ehlo._client.login import Login

__all__ = ["Connecting"]


class _Client(Protocol):
    """What is connected: it closes itself at the end of ``async with``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


ClientT = TypeVar("ClientT", bound=_Client)


class Connecting(Generic[ClientT]):
    """What ``connect`` gives: await it, or use it with ``async with``.

    Example::

        client = await ehlo.asyncio.connect("mx.example")
    """

    __slots__ = ("_client", "_kind", "_open", "_opening")

    def __init__(
        self,
        opening: Opening,
        kind: Callable[[Callable[[], Coroutine[Any, Any, Any]] | None, Any], ClientT],
        dial: Callable[[Opening], Coroutine[Any, Any, Link]],
    ) -> None:
        async def open_link() -> Link:
            link = await dial(opening)
            await _say_hello(link, opening.auth)
            return link

        self._opening = opening
        self._kind = kind
        self._open = open_link
        self._client: ClientT | None = None

    async def _connect(self) -> ClientT:
        return self._kind(self._open if self._opening.sock is None else None, await self._open())

    def __await__(self) -> Generator[Any, None, ClientT]:
        return self._connect().__await__()

    async def __aenter__(self) -> ClientT:
        client = await self._connect()
        self._client = client
        return await client.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._client is not None
        await self._client.__aexit__(kind, exc, traceback)


async def _say_hello(link: Link, login: Login | None) -> None:
    """Greeting, hello, STARTTLS if the config wants it, AUTH: until messages may go out."""
    try:
        await link.until_ready()
        if login is not None:
            await authenticate(link, login)
    except Exception:
        if not link.conn.closed:
            await link.quit()
        link.abort()
        raise
    except BaseException:
        link.abort()
        raise
