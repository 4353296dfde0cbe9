"""A pool of clients for threads: :class:`Pool`.

The shared pool was written for tasks, which change only where one waits. Here a lock does the same for threads: who
holds it runs the pool's own code, and everything that waits lets go of it meanwhile (:class:`_Outside`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ehlo._client.connecting import Connecting
from ehlo._client.link import Link
from ehlo._client.message import Letter, SendableMessage
from ehlo._client.options import Opening, PoolOptions
from ehlo._client.paths import RecipientLike, Recipients, SenderLike
from ehlo._client.pool import BasePool, PoolStatistics
from ehlo._client.transaction import Transaction as AsyncTransaction
from ehlo._core import NULL, Reply, SendResult
from ehlo.sync._blocking import BlockingClient, dial
from ehlo.sync._client_connection import PatienceError, patience
from ehlo.sync._run import refuse_async, run
from ehlo.sync._transaction import Transaction

__all__ = ["Pool"]

T = TypeVar("T")


class _Outside:
    """Lets go of the lock inside ``with``: other threads run the pool's code meanwhile."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        self._lock.acquire()


class _Event:
    """A thread waits for it without the lock until another one sets it."""

    __slots__ = ("_event", "_outside")

    def __init__(self, outside: _Outside) -> None:
        self._event = threading.Event()
        self._outside = outside

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        with self._outside:
            self._event.wait()


class _Lent(BlockingClient):
    """A client of a pool: whatever waits for the server is outside of the lock."""

    __slots__ = ("_outside", "used")

    def __init__(
        self, outside: _Outside, open_link: Callable[[], Coroutine[Any, Any, Link]] | None, link: Link
    ) -> None:
        super().__init__(open_link, link)
        self._outside = outside
        # A thread uses it, and has no lock.
        self.used = False

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Outside of the lock; what is interrupted there closes the connection."""
        self.used = True
        try:
            with self._outside:
                try:
                    yield
                except Exception:
                    raise
                except BaseException:
                    super().abort()
                    raise
        finally:
            self.used = False

    async def _deliver(self, letter: Letter) -> SendResult:
        with self.away():
            return await super()._deliver(letter)

    async def noop(self) -> Reply:
        with self.away():
            return await super().noop()

    async def close(self) -> None:
        with self.away():
            await super().close()

    def abort(self) -> None:
        if self.used:
            self.interrupt()
        else:
            super().abort()

    def transaction(
        self,
        sender: SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> AsyncTransaction:
        return _LentTransaction(self, sender, size, eight_bit, utf8_header)


class _LentTransaction(AsyncTransaction):
    """Begun and ended outside of the lock."""

    __slots__ = ("_lent",)

    def __init__(
        self, lent: _Lent, sender: SenderLike, size: int | None, eight_bit: bool | None, utf8_header: bool | None
    ) -> None:
        super().__init__(lent, sender, size, eight_bit, utf8_header)
        self._lent = lent

    async def __aenter__(self) -> Self:
        with self._lent.away():
            await super().__aenter__()
        self._lent.used = True  # until it is over
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lent.away():
            await super().__aexit__(kind, exc, traceback)


class _Connecting(Connecting[_Lent]):
    """Connects outside of the lock."""

    __slots__ = ("_outside",)

    def __init__(self, opening: Opening, outside: _Outside) -> None:
        super().__init__(opening, lambda open_link, link: _Lent(outside, open_link, link), dial)
        self._outside = outside

    async def _connect(self) -> _Lent:
        with self._outside:
            return await super()._connect()


class _Inner(BasePool[_Lent]):
    """The pool behind :class:`Pool`: its coroutines are run with the lock."""

    def __init__(
        self,
        opening: Opening,
        lock: threading.Lock,
        max_connections: int,
        max_messages: int | None,
        idle: float | None,
        check_after: float | None,
        check_seconds: float,
    ) -> None:
        self._lock = lock
        self._outside = outside = _Outside(lock)
        self._make_event = lambda: _Event(outside)
        self._sleep = self._wait_for_stop
        self._stop = threading.Event()
        connecting = _Connecting(opening, outside)
        super().__init__(connecting, monotonic, max_connections, max_messages, idle, check_after, check_seconds)

    async def _within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T | None:
        try:
            with patience(seconds):
                return await function()
        except PatienceError:
            return None

    def _run_beside(self, function: Callable[[_Lent], Coroutine[Any, Any, None]], client: _Lent) -> bool:
        return False  # a thread for a QUIT is too much: it is said, and its reply is not waited for

    def _start_sweeping(self) -> bool:
        if self._closed:
            return False

        def sweep() -> None:
            with self._lock:
                run(self._sweep())

        threading.Thread(target=sweep, name="ehlo pool", daemon=True).start()
        return True

    def _stop_sweeping(self) -> None:
        self._stop.set()

    async def _wait_for_stop(self, seconds: float) -> None:
        with self._outside:
            self._stop.wait(seconds)


class Pool:
    """Connections to one server, kept and shared by any number of threads.

    Sends get connections in the order in which they asked. A connection is made when it is first needed. A thread of
    the pool's own closes those that are idle; it lasts as long as there are such.

    A ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks. A ``SenderLike`` is a
    text like ``"a@b.example"``, an :class:`ehlo.Address` or an :class:`ehlo.Sender`. A ``RecipientLike`` is a text, an
    ``Address`` or an :class:`ehlo.Recipient`. ``Recipients`` are one of these, or several.

    Arguments:
        host, port: as for ``connect``, and so are all arguments that are not named here, but for ``sock``.
        max_connections: connections at once; 10 by default.
        max_messages: messages after which a connection is replaced, 1000 by default; ``None``: never. Where the server
            says LIMITS MAILMAX, that is kept, too (RFC 9422).
        idle: seconds after which a connection that nobody uses is closed, 60 by default; ``None``: never.
        check_after: seconds after which a kept connection is asked with NOOP before it is used, 20 by default;
            ``None``: never.
        check_seconds: how long the reply to this NOOP is waited for, 3 by default; after that the connection counts
            as dead, and a new one is made.

    Raises:
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        with ehlo.sync.Pool("mx.example", 25, max_connections=4) as pool:
            pool.send(octets, sender="a@b.example", recipients=["c@d.example"])
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        max_connections: int = 10,
        max_messages: int | None = 1000,
        idle: float | None = 60.0,
        check_after: float | None = 20.0,
        check_seconds: float = 3.0,
        **options: Unpack[PoolOptions],
    ) -> None:
        self._lock = threading.Lock()
        opening = Opening(host, port, **options)
        self._inner = _Inner(opening, self._lock, max_connections, max_messages, idle, check_after, check_seconds)

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def statistics(self) -> PoolStatistics:
        """What it has done so far."""
        return self._inner.statistics

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return self._inner.connections

    @property
    def idle(self) -> int:
        """Of these, those that nobody uses."""
        return self._inner.idle

    # ---- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, Exception):
            self.abort()
        else:
            self.close()

    def close(self) -> None:
        """Say QUIT on idle connections and close them; those in use are closed when they are given back. Sends that
        wait for a connection get a :class:`ehlo.LocalProtocolError`, and so do later ones.

        Example::

            pool.close()
        """
        self._run(self._inner.close())

    def abort(self) -> None:
        """Close all connections at once. Sends that go on are cut short.

        Example::

            pool.abort()
        """
        with self._lock:
            self._inner.abort()

    # ---- sending ---------------------------------------------------------------------------------

    def send(
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
        """Send one message over a connection of the pool; waits for one in turn if all are in use.

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Pool.send`; and:

        Raises:
            TypeError: the message is an async iterable.

        Example::

            with ThreadPoolExecutor() as threads:
                results = list(threads.map(lambda to: pool.send(octets, "a@b.example", [to]), recipients))
        """
        refuse_async(message)
        letter = Letter(message, sender, recipients, size, eight_bit, utf8_header, refuse_invalid)
        return self._run(self._inner._send(letter, check))

    @contextlib.contextmanager
    def transaction(
        self,
        sender: SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> Iterator[Transaction]:
        """One mail transaction step by step, over a connection that the pool lends for its time.

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Pool.transaction`.

        Example::

            with pool.transaction("a@b.example") as transaction:
                if transaction.rcpt("c@d.example").is_positive: transaction.send(octets)
        """
        lent = self._inner.transaction(sender, size=size, eight_bit=eight_bit, utf8_header=utf8_header)
        begun = self._run(lent.__aenter__())
        try:
            yield Transaction(begun, run)
        except BaseException as exc:
            if not self._run(lent.__aexit__(type(exc), exc, exc.__traceback__)):
                raise
        else:
            self._run(lent.__aexit__(None, None, None))

    def verify(self, recipient: RecipientLike, sender: SenderLike = NULL) -> Reply:
        """Ask whether the server takes mail for a recipient, by MAIL, RCPT and RSET. Nothing is sent.

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Pool.verify`.

        Example::

            pool.verify("c@d.example").is_positive
        """
        return self._run(self._inner.verify(recipient, sender))

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            return run(coro)
