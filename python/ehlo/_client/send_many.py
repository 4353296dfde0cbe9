"""Many messages over one connection, without a wait between them: :class:`SendMany` (RFC 2920 3.1).

It takes items while there is room in the window, gives each to the engine, and hands out the results in order.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeAlias

from ehlo._client.link import Link
from ehlo._client.message import Letter, SendableMessage
from ehlo._client.paths import Recipients, SenderLike, is_plain, naming_address
from ehlo._client.session import ClientSession
from ehlo._core import SendResult
from ehlo._errors import LocalProtocolError
from ehlo._types import Wakeup

__all__ = ["Item", "SendMany"]

Item: TypeAlias = tuple[SendableMessage, SenderLike | None, Recipients | None]
"""What ``send_many`` takes: a message, its sender, its recipients."""


class SendMany:
    """What :meth:`ehlo.asyncio.Client.send_many` gives: an async iterator of results, in the order of the items.

    Example::

        sending = client.send_many(items)
        async for result in sending: ...
    """

    __slots__ = (
        "_budget",
        "_client",
        "_error",
        "_for_nobody",
        "_held",
        "_incomplete",
        "_items",
        "_kept",
        "_late",
        "_more",
        "_open",
        "_over",
        "_pulled",
        "_pump",
        "_refuse_invalid",
        "_utf8_header",
        "_window",
    )

    def __init__(
        self,
        client: ClientSession,
        items: Iterable[Item] | AsyncIterable[Item],
        utf8_header: bool | None,
        refuse_invalid: bool,
    ) -> None:
        self._client = client
        self._items = items
        self._utf8_header = utf8_header
        self._refuse_invalid = refuse_invalid
        # Letters with recipients that are no addresses, by the number of their result.
        self._incomplete: dict[int, Letter] = {}
        # A letter with no other recipients: its result is due when those before it have theirs.
        self._for_nobody: Letter | None = None
        # Where items are taken from: an iterator, or what a task beside took from an async one.
        self._pulled: Iterator[Item] | None = None
        self._pump: _Pump | None = None
        self._held: Item | None = None
        self._more = True
        self._open = 0
        self._over = False
        self._window = 0
        self._error: BaseException | None = None
        # For servers that limit the transactions of a connection.
        self._budget = 0
        self._kept: dict[int, Letter] = {}
        self._late: deque[SendResult] = deque()

    def __aiter__(self) -> AsyncIterator[SendResult]:
        return self

    async def __anext__(self) -> SendResult:
        client = self._client
        if self._over:
            raise StopAsyncIteration
        if self._pulled is None:
            self._start()
        link = client._link
        results = link.results
        try:
            while True:
                if self._late:
                    return self._late.popleft()
                while not results:
                    if self._more:
                        self._fill(link)
                    if self._open == 0:
                        if self._for_nobody is not None:
                            letter, self._for_nobody = self._for_nobody, None
                            return letter.completed(None)
                        if not self._more:
                            raise self._end()
                        if link.limited and self._budget == 0:
                            if self._held is None:
                                self._held = self._take()
                            if self._held is not None:  # only for what there is a new connection
                                await client._reopen()
                                link = client._link
                                results = link.results
                                continue
                            if self._pump is None or self._pump.ended:
                                continue  # there is nothing to wait for: it was the end
                    if link.sources:
                        await link.feed()
                    await link.progress()
                self._open -= 1
                result = results.popleft()
                if link.sources or link.failures:
                    error = await link.settle(result)
                    if error is not None:
                        self._fail(error)
                        continue
                if link.limited:
                    letter = self._kept.pop(result.id)
                    if result.failure == "mailmax" and client._open is not None:
                        await self._reorder(letter, result)
                        link = client._link
                        results = link.results
                        continue
                return self._completed(result)
        except BaseException as exc:
            self._leave()
            if self._open and not isinstance(exc, StopAsyncIteration):
                await client._link.give_up(exc)
            raise

    async def aclose(self) -> None:
        """Leave before the end. The connection is closed, because the results of messages on their way are not known.

        Example::

            await sending.aclose()
        """
        if self._is_going_on:
            self._leave()
            await self._client._link.give_up()

    def __del__(self) -> None:
        if self._is_going_on:
            self._leave()
            self._client._link.abort()

    # ---- the engine room -------------------------------------------------------------------------

    def _start(self) -> None:
        client = self._client
        client._free_link()
        self._window = client._link.conn.config.window
        items = self._items
        if isinstance(items, AsyncIterable):
            pump = _Pump(client)
            pump.stop = client._spawn(pump.run, items)
            self._pulled = self._pump = pump
        else:
            self._pulled = iter(items)
        client._busy = "send_many"

    def _fill(self, link: Link) -> None:
        """Queue messages until the window is full."""
        conn = link.conn
        room = self._window - self._open
        if link.limited:
            if self._open == 0:
                left = conn.mail_left
                self._budget = room if left is None or self._client._open is None else left
            room = min(room, self._budget)
        while room > 0 and self._for_nobody is None:
            item = self._held
            if item is None:
                item = self._take()
                if item is None:
                    break
            self._held = None
            if link.is_over():
                self._fail(link.error())
                break
            try:
                message, sender, recipients = item
                plain = type(message) is bytes and not link.limited and not self._refuse_invalid
                if plain and is_plain(sender, recipients):
                    # The envelope is ASCII and has no parameters.
                    conn.send_message(sender, recipients, message, utf8_header=self._utf8_header)  # type: ignore[arg-type]
                    self._open += 1
                    room -= 1
                    continue
                letter = Letter(
                    message, sender, recipients, utf8_header=self._utf8_header, refuse_invalid=self._refuse_invalid
                )
                if letter.is_for_nobody:
                    self._for_nobody = letter
                    break
                number = letter.queue(conn)
            except LocalProtocolError as exc:  # the program's mistake: told after the results of earlier messages
                self._fail(naming_address(exc, sender, recipients) if is_plain(sender, recipients) else exc)  # type: ignore[arg-type]
                break
            except Exception as exc:
                self._fail(exc)
                break
            if letter.source is not None:
                link.sources[number] = letter.source
            if self._refuse_invalid:
                self._incomplete[number] = letter
            if link.limited:
                self._kept[number] = letter
                self._budget -= 1
            self._open += 1
            room -= 1

    def _take(self) -> Item | None:
        """The next item; ``None`` at the end, and where an async iterable has none yet."""
        assert self._pulled is not None
        try:
            return next(self._pulled)
        except StopIteration:
            self._more = self._pump is not None and not self._pump.ended
        except Exception as exc:
            self._fail(exc)
        return None

    async def _reorder(self, letter: Letter, result: SendResult) -> None:
        """A message needs more transactions than the server takes on this connection: take the results of those behind
        it first, then send the rest of each over new connections.
        """
        client = self._client
        link = client._link
        waiting = [(letter, result)]
        while self._open:
            while not link.results:
                if link.sources:
                    await link.feed()
                await link.progress()
            self._open -= 1
            result = link.results.popleft()
            if (error := await link.settle(result)) is not None:
                self._fail(error)
            else:
                waiting.append((self._kept.pop(result.id), result))
        for letter, result in waiting:
            if result.failure == "mailmax":
                result = await client._complete(letter, result)
            self._late.append(self._completed(result))

    def _completed(self, result: SendResult) -> SendResult:
        """The result with the recipients that were left out."""
        letter = self._incomplete.pop(result.id, None)
        return result if letter is None else letter.completed(result)

    def _fail(self, error: BaseException) -> None:
        """No more items; to be raised when all results were taken."""
        self._more = False
        if self._error is None:
            self._error = error

    def _end(self) -> BaseException:
        error, self._error = self._error, None
        return StopAsyncIteration() if error is None else error

    def _leave(self) -> None:
        self._over = True
        self._client._busy = None
        if self._pump is not None and not self._pump.ended:
            self._pump.stop()

    @property
    def _is_going_on(self) -> bool:
        return self._pulled is not None and not self._over


class _Pump:
    """Takes items from an async iterable beside, no more of them than fit in the window. An iterator of what it has."""

    __slots__ = ("_client", "_error", "_pulled", "_room", "ended", "stop")

    stop: Callable[[], object]

    def __init__(self, client: ClientSession) -> None:
        self._client = client
        self._pulled: deque[Item] = deque()
        self._room: Wakeup | None = None
        self._error: Exception | None = None
        self.ended = False

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._pulled:
            if self._error is not None:
                raise self._error
            raise StopIteration
        if self._room is not None:
            self._room.set()
        return self._pulled.popleft()

    async def run(self, items: AsyncIterable[Item]) -> None:
        client = self._client
        try:
            async for item in items:
                self._pulled.append(item)
                client._link.wake()
                while len(self._pulled) >= client._link.conn.config.window:
                    self._room = client._make_event()
                    await self._room.wait()
        except Exception as exc:
            self._error = exc
        finally:
            self.ended = True
            client._link.wake()
            if isinstance(items, types.AsyncGeneratorType):  # it may clean up
                await items.aclose()
