"""``ehlo.sync`` in the contract suite: the test and its server run on asyncio, each call of the client in a thread.

A call that is cancelled is cut short by ``abort``, which is how a program ends one from another thread. A test that
gives it something async is skipped, once that was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import ehlo.sync
from backends import Asyncio
from ehlo._client.options import Opening
from ehlo.sync._client import connected

_END = object()
# Methods that do not wait.
_PLAIN = frozenset(("take_transcript",))


class Blocking(Asyncio):
    name = "sync"
    dialling = "_blocking"

    def __init__(self) -> None:
        super().__init__()
        self.adapter = Adapter(self)

    def run_loop(self, main: Callable[[], Awaitable[Any]], timed: bool) -> Any:
        with ThreadPoolExecutor(64) as self.threads:
            return super().run_loop(main, timed)

    async def call(self, abort: Callable[[], object], function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        future = self.loop.run_in_executor(self.threads, lambda: function(*args, **options))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            abort()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # it was looked at
            raise
        except TypeError as exc:
            if "ehlo.sync" in str(exc):
                pytest.skip("ehlo.sync refuses what is async, and it did")
            raise


class Adapter:
    """The names of ``ehlo.asyncio``, over ``ehlo.sync``."""

    __name__ = "ehlo.sync"

    def __init__(self, backend: Blocking) -> None:
        self._backend = backend

    def connect(self, host: str | None = None, port: int | None = None, **options: Any) -> Connecting:
        opening = Opening(host, port, **options)  # what makes no sense raises at once, as on the other backends
        return Connecting(self._backend, lambda: connected(opening))

    def Pool(self, *args: Any, **options: Any) -> InThreads:  # noqa: N802
        return InThreads(self._backend, ehlo.sync.Pool(*args, **options))


class Connecting:
    def __init__(self, backend: Blocking, connect: Callable[[], ehlo.sync.Client]) -> None:
        self._backend = backend
        self._connect = connect

    async def _connected(self) -> InThreads:
        return InThreads(self._backend, await self._backend.call(lambda: None, self._connect))

    def __await__(self) -> Generator[Any, None, InThreads]:
        return self._connected().__await__()

    async def __aenter__(self) -> InThreads:
        self._client = await self._connected()
        return self._client

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)


class InThreads:
    """A client, a pool or a transaction whose methods are awaited."""

    def __init__(self, backend: Blocking, target: Any) -> None:
        self._backend = backend
        self._target = target

    async def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        abort = getattr(self._target, "abort", lambda: None)
        return await self._backend.call(abort, function, *args, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name, _END)
        if found is _END:  # a test looks inside
            return getattr(self._target._inner, name)
        if not callable(found) or name in _PLAIN:
            return found

        async def call(*args: Any, **options: Any) -> Any:
            return await self._call(found, *args, **options)

        return call

    def abort(self) -> None:
        self._target.abort()

    def transaction(self, *args: Any, **options: Any) -> InThreads:
        return InThreads(self._backend, self._target.transaction(*args, **options))

    def send_many(self, items: Any) -> Results:
        try:
            return Results(self._backend, self._target, self._target.send_many(items))
        except TypeError:
            pytest.skip("ehlo.sync refuses what is async, and it did")

    async def __aenter__(self) -> InThreads:
        entered = await self._call(self._target.__enter__)
        return self if entered is self._target else InThreads(self._backend, entered)

    async def __aexit__(self, *error: Any) -> None:
        await self._call(self._target.__exit__, *error)


class Results:
    def __init__(self, backend: Blocking, client: ehlo.sync.Client, results: ehlo.sync.SendMany) -> None:
        self._backend = backend
        self._client = client
        self._results = results

    def __aiter__(self) -> AsyncIterator[ehlo.SendResult]:
        return self

    async def __anext__(self) -> ehlo.SendResult:
        result = await self._backend.call(self._client.abort, next, self._results, _END)
        if result is _END:
            raise StopAsyncIteration
        assert isinstance(result, ehlo.SendResult)
        return result

    async def aclose(self) -> None:
        await self._backend.call(self._client.abort, self._results.close)
