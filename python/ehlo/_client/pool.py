"""Pools of clients without I/O, event loop and clock: what backends share."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ehlo._client.client import BaseClient
from ehlo._client.connecting import Connecting
from ehlo._client.message import Letter, SendableMessage
from ehlo._client.paths import RecipientLike, Recipients, SenderLike
from ehlo._client.transaction import Transaction
from ehlo._core import NULL, Reply, SendResult
from ehlo._errors import LocalProtocolError, SMTPException, SMTPSenderRefused, SMTPServerDisconnected
from ehlo._types import Wakeup

__all__ = ["BasePool", "PoolStatistics"]

ClientT = TypeVar("ClientT", bound=BaseClient)
T = TypeVar("T")


@dataclass
class PoolStatistics:
    """What a pool has done so far.

    Attributes:
        connections: connections that were opened.
        messages: messages that got a result, whatever it was.
        reused: messages that went over a connection that had carried one before.
        retried: messages that were sent again because the connection turned out to be stale (C-CLI-19).
        checked: connections that were tested with NOOP.
        dropped: connections that were found dead.
        waited: sends that had to wait for a connection.
    """

    connections: int = 0
    messages: int = 0
    reused: int = 0
    retried: int = 0
    checked: int = 0
    dropped: int = 0
    waited: int = 0


@dataclass
class _Idle(Generic[ClientT]):
    client: ClientT
    since: float
    messages: int


class BasePool(Generic[ClientT]):
    """Connections to one server, kept and shared by any number of tasks.

    Sends get connections in the order in which they asked. A connection is made when it is first needed.

    A ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks. A ``SenderLike`` is a
    text like ``"a@b.example"``, an :class:`ehlo.Address` or an :class:`ehlo.Sender`. A ``RecipientLike`` is a text, an
    ``Address`` or an :class:`ehlo.Recipient`. ``Recipients`` are one of these, or several.

    Arguments:
        host, port: as for ``connect``. All other arguments of ``connect`` are allowed, too, except ``sock``.
        max_connections: the most open connections; 10 by default.
        max_messages: the most messages over a connection, 1000 by default; ``None``: no limit. A lower limit of the
            server (LIMITS MAILMAX, RFC 9422) also counts.
        idle: seconds after which an unused connection is closed, 60 by default; ``None``: never.
        check_after: a connection that was unused for so many seconds is tested with NOOP before its next use, 20 by
            default; ``None``: never.
        check_seconds: the longest wait for the reply to this NOOP, 3 seconds by default. After that the connection
            counts as dead, and a new one is made.

    Raises:
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        async with ehlo.asyncio.Pool("mx.example", 25, max_connections=4) as pool:
            await pool.send(octets, sender="a@b.example", recipients=["c@d.example"])
    """

    def __init__(
        self,
        opening: Connecting[ClientT],
        now: Callable[[], float],
        max_connections: int,
        max_messages: int | None,
        idle: float | None,
        check_after: float | None,
        check_seconds: float,
    ) -> None:
        if max_connections < 1 or (max_messages is not None and max_messages < 1):
            raise LocalProtocolError("a pool needs max_connections and max_messages of at least 1")
        self._opening = opening
        self._now = now
        self._max_connections = max_connections
        self._max_messages = max_messages
        self._idle_seconds = idle
        self._check_after = check_after
        self._check_seconds = check_seconds
        # The one used last is at the right, and is used next: those beyond the load grow old and are closed.
        self._idle: deque[_Idle[ClientT]] = deque()
        self._busy: dict[ClientT, int] = {}
        self._slots = max_connections
        self._waiting: deque[Wakeup] = deque()
        # Those that are not used again: QUIT is said to them beside, so that no send waits for its reply.
        self._leaving: set[ClientT] = set()
        self._all_left: Wakeup | None = None
        self._closed = False
        self._sweeping = False
        self._statistics = PoolStatistics()

    # ---- what the backend provides ---------------------------------------------------------------

    _make_event: Callable[[], Wakeup]
    # Seconds.
    _sleep: Callable[[float], Awaitable[object]]

    async def _within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T | None:
        """What the function gives; ``None`` if it takes longer than so many seconds, and then it is cancelled."""
        raise NotImplementedError

    def _run_beside(self, function: Callable[[ClientT], Coroutine[Any, Any, None]], client: ClientT) -> bool:
        """Start it as a task of its own; False if nothing can run beside."""
        raise NotImplementedError

    def _start_sweeping(self) -> bool:
        """Run :meth:`_sweep` beside; False if nothing can be run."""
        raise NotImplementedError

    def _stop_sweeping(self) -> None:
        """Cancel it."""

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def statistics(self) -> PoolStatistics:
        """What the pool has done so far."""
        return self._statistics

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._idle) + len(self._busy)

    @property
    def idle(self) -> int:
        """Connections that are open and unused now."""
        return len(self._idle)

    # ---- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, Exception):
            self.abort()
        else:
            await self.close()

    async def close(self) -> None:
        """Say QUIT on idle connections and close them. Used connections are closed when they come back. Sends that wait
        for a connection raise :class:`ehlo.LocalProtocolError`, and so do later ones.

        Example::

            await pool.close()
        """
        self._closed = True
        for event in self._waiting:
            event.set()
        self._stop_sweeping()
        try:
            while self._idle:
                await self._discard(self._idle.pop().client)
            if self._leaving:
                self._all_left = self._make_event()
                await self._all_left.wait()
        except BaseException:
            self.abort()  # nobody comes back for the rest
            raise

    def abort(self) -> None:
        """Close all connections at once.

        Example::

            pool.abort()
        """
        self._closed = True
        self._stop_sweeping()
        for event in self._waiting:
            event.set()
        for client in (*(idle.client for idle in self._idle), *self._leaving, *self._busy):
            client.abort()
        self._idle.clear()

    # ---- sending ---------------------------------------------------------------------------------

    async def send(
        self,
        message: SendableMessage,
        sender: SenderLike | None = None,
        recipients: Recipients | None = None,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
        check: bool = True,
        refuse_invalid: bool = False,
    ) -> SendResult:
        """Send one message over a connection of the pool. If all are in use, wait in turn for one.

        A connection that was kept may be stale: the server ended it, and we hear of it only now. If it answers 421, or
        closes, before anything of the message was answered, the message goes out once more over a new connection
        (C-CLI-19). After the end of the content was sent nothing is ever sent again (C-CLI-17).

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Client.send`; and:

        Raises:
            SMTPConnectError: no new connection can be made.
            LocalProtocolError: the pool is closed.

        Example::

            results = await asyncio.gather(*(pool.send(octets, "a@b.example", [to]) for to in recipients))
        """
        letter = Letter(message, sender, recipients, size, eight_bit, utf8_header, refuse_invalid)
        return await self._send(letter, check)

    async def _send(self, letter: Letter, check: bool) -> SendResult:
        client = await self._acquire()
        try:
            reused = client._link.served
            if reused and letter.source is not None and not await self._lives(client):
                # What comes in pieces comes once: the connection has to be a good one.
                client, reused = await self._replace(client), False
            result = None if letter.is_for_nobody else await self._attempt(client, letter, reused)
            if result is None and not letter.is_for_nobody:
                self._statistics.retried += 1
                client = await self._replace(client)
                result = await client._deliver(letter)
            result = letter.completed(result)
        except BaseException:
            if client in self._busy and client._link.disconnect is None and client._busy is None:
                await self._release(client)  # the mistake was the program's, the connection is good
            else:
                self._drop(client)
            raise
        self._statistics.messages += 1
        self._statistics.reused += reused
        error = None
        if not result.all_accepted and not result.accepted and (check or result.failure is not None):
            error = client._link.error_of(result, letter.sender)
        await self._release(client)
        if error is not None:
            raise error
        return result

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        sender: SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> AsyncIterator[Transaction]:
        """One mail transaction step by step, over a connection that the pool lends for its time. A connection that
        turns out to be stale at MAIL is replaced, as in :meth:`send` (C-CLI-19).

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Client.transaction`; and:

        Raises:
            SMTPConnectError: no new connection can be made.
            LocalProtocolError: the pool is closed.

        Example::

            async with pool.transaction("a@b.example") as transaction:
                if (await transaction.rcpt("c@d.example")).is_positive: await transaction.send(octets)
        """
        client = await self._acquire()
        transaction: Transaction | None = None
        reused = client._link.served
        try:
            async with contextlib.AsyncExitStack() as stack:

                async def begin() -> Transaction:
                    begun = client.transaction(sender, size=size, eight_bit=eight_bit, utf8_header=utf8_header)
                    return await stack.enter_async_context(begun)

                try:
                    transaction = await begin()
                except (SMTPServerDisconnected, SMTPSenderRefused) as exc:
                    if not (reused and _ended_at_mail(client, exc)):
                        raise
                    self._statistics.retried += 1
                    client, reused = await self._replace(client), False
                    transaction = await begin()
                yield transaction
        except BaseException:
            self._count(transaction, reused)
            if client in self._busy and client._link.disconnect is None and client._busy is None:
                await self._release(client)
            else:
                self._drop(client)
            raise
        self._count(transaction, reused)
        await self._release(client)

    async def verify(self, recipient: RecipientLike, sender: SenderLike = NULL) -> Reply:
        """Ask whether the server takes mail for a recipient, by MAIL, RCPT and RSET, over a connection of the pool.
        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Client.verify` and :meth:`transaction`.

        Example::

            (await pool.verify("c@d.example")).is_positive
        """
        async with self.transaction(sender, eight_bit=False) as transaction:
            return await transaction.rcpt(recipient)

    # ---- the engine room -------------------------------------------------------------------------

    async def _attempt(self, client: ClientT, letter: Letter, reused: bool) -> SendResult | None:
        """The result; ``None`` if the connection was stale and the message can go out again."""
        try:
            result = await client._deliver(letter)
        except SMTPServerDisconnected:  # it was over before
            if reused and letter.can_repeat:
                return None
            raise
        if reused and letter.can_repeat and _is_stale(client, result):
            return None
        return result

    def _count(self, transaction: Transaction | None, reused: bool) -> None:
        if transaction is not None and transaction.result is not None:
            self._statistics.messages += 1
            self._statistics.reused += reused

    async def _acquire(self) -> ClientT:
        """A connection: the one used last, else a new one; else wait in turn for one."""
        if self._slots == 0 or self._waiting:
            event = self._make_event()
            self._waiting.append(event)
            self._statistics.waited += 1
            try:
                await event.wait()
            except BaseException:
                if event in self._waiting:
                    self._waiting.remove(event)
                else:  # a slot was handed over meanwhile
                    self._free_slot()
                raise
        elif not self._closed:
            self._slots -= 1
        if self._closed:
            raise LocalProtocolError("the pool is closed")
        try:
            while self._idle:
                kept = self._idle.pop()
                age = self._now() - kept.since
                self._busy[kept.client] = kept.messages
                kept.client._link.look()
                if (
                    not kept.client.is_closed
                    and (self._idle_seconds is None or age < self._idle_seconds)
                    and (self._check_after is None or age < self._check_after or await self._lives(kept.client))
                ):
                    return kept.client
                self._statistics.dropped += 1
                self._let_go(kept.client)
            return await self._new()
        except BaseException:
            self._free_slot()
            raise

    async def _new(self) -> ClientT:
        client = await self._opening
        self._busy[client] = 0
        self._statistics.connections += 1
        return client

    async def _lives(self, client: ClientT) -> bool:
        """Ask with NOOP (RFC 5321 4.1.1.9)."""
        self._statistics.checked += 1
        try:
            reply = await self._within(self._check_seconds, client.noop)
            return reply is not None and reply.is_positive
        except SMTPException:
            return False
        except BaseException:
            self._busy.pop(client, None)
            raise

    async def _replace(self, client: ClientT) -> ClientT:
        """A new connection instead of a stale one, in the same slot."""
        self._statistics.dropped += 1
        client.abort()
        new = await self._new()
        self._busy.pop(client, None)
        return new

    async def _release(self, client: ClientT) -> None:
        messages = self._busy.pop(client) + 1
        worn = self._max_messages is not None and messages >= self._max_messages
        keep = not (worn or self._closed or client.is_closed)
        if keep:
            self._idle.append(_Idle(client, self._now(), messages))
            if self._idle_seconds is not None and not self._sweeping:
                self._sweeping = True
                if not self._start_sweeping():
                    self._sweeping = False
        self._free_slot()
        if not keep:
            self._let_go(client)

    def _let_go(self, client: ClientT) -> None:
        """Say QUIT beside and close. A result is never kept waiting for the server's answer to QUIT."""
        self._busy.pop(client, None)
        self._leaving.add(client)
        if client.is_closed or not self._run_beside(self._say_goodbye, client):
            self._leaving.discard(client)
            client._link.leave()

    async def _say_goodbye(self, client: ClientT) -> None:
        try:
            with contextlib.suppress(SMTPException, OSError):
                await client.close()
        finally:
            client.abort()
            self._leaving.discard(client)
            if self._all_left is not None and not self._leaving:
                self._all_left.set()

    def _drop(self, client: ClientT) -> None:
        client.abort()
        self._busy.pop(client, None)
        self._free_slot()

    def _free_slot(self) -> None:
        """Give it to who waits longest."""
        self._slots += 1
        if self._waiting and self._slots > 0 and not self._closed:
            self._slots -= 1
            self._waiting.popleft().set()

    async def _discard(self, client: ClientT) -> None:
        self._busy.pop(client, None)
        await client.close()

    async def _sweep(self) -> None:
        """Close those that have been idle too long, until none is left."""
        assert self._idle_seconds is not None
        try:
            while self._idle:
                oldest = self._idle[0]
                left = oldest.since + self._idle_seconds - self._now()
                if left > 0 and not oldest.client.is_closed:
                    await self._sleep(left)
                else:
                    self._idle.popleft()
                    with contextlib.suppress(SMTPException, OSError):
                        await oldest.client.close()
        finally:
            self._sweeping = False


def _is_stale(client: BaseClient, result: SendResult) -> bool:
    """Whether the connection had ended before the server looked at the message: nothing of it was answered, or MAIL
    with 421 (C-CLI-19).
    """
    end = client._link.disconnect
    if end is None or end.reason not in ("eof", "closing"):
        return False
    if result.failure == "lost":
        return all(one.rcpt is None and one.reply is None for one in result.recipients)
    return all(one.stage == "mail" and one.reply is not None and one.reply.code == 421 for one in result.recipients)


def _ended_at_mail(client: BaseClient, error: SMTPServerDisconnected | SMTPSenderRefused) -> bool:
    """Likewise, of a transaction step by step."""
    end = client._link.disconnect
    if end is None or end.reason not in ("eof", "closing"):
        return False
    return isinstance(error, SMTPServerDisconnected) or (error.reply is not None and error.reply.code == 421)
