"""A handler's call and its answer: what a server waits for, and how a Python value becomes a reply.

:class:`Call` is a call that has not ended. :class:`Body` is the content that ``on_body`` reads. Both belong to a
driver, and know it by the interface :class:`Caller` only. Their fields with a leading underscore are the driver's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
from ehlo._server.session import Answer, ContentAbortedError, Method, Result
from ehlo._types import Wakeup

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "AUTH_FAILED",
    "CONNECT_FAILED",
    "FAILED",
    "OK",
    "Body",
    "Call",
    "CallKind",
    "Caller",
    "is_awaitable",
    "replies_of",
]

# RFC 5321 4.2.3: 451 "Requested action aborted: local error in processing". Nothing of the exception goes out.
FAILED: Final = Reply(451, "4.3.0", "Local error in processing")
# RFC 4954 6: the same for AUTH.
AUTH_FAILED: Final = Reply(454, "4.7.0", "Temporary authentication failure")
# RFC 5321 3.1: a server that cannot serve says so instead of its greeting, and closes.
CONNECT_FAILED: Final = Reply(421, "4.3.0", "Local error in processing, try again later")
OK: Final = Reply(250, "2.0.0", "Ok")


class CallKind(Enum):
    """The reason for a call, which says what its result is good for."""

    DECISION = auto()
    """The client waits for the reply to a command or to a message."""
    NOTICE = auto()
    """Nobody waits for the result, but the session goes on only when the call has ended."""
    BODY = auto()
    """``on_body``: it runs while the content comes."""
    AUTH = auto()
    """``on_auth``: the result is a verdict on credentials."""
    SASL = auto()
    """``on_sasl``: it runs while the client answers its challenges; the result is a verdict."""
    DELAY = auto()
    """No handler at all: a client whose AUTH failed has to wait (RFC 4954 9)."""


class Caller(Protocol):
    """The driver, as a call and a body see it."""

    def resume_call(self, call: Call, result: Any) -> None:
        """A call has returned ``result``."""

    def fail_call(self, call: Call, exc: BaseException) -> None:
        """A call has raised ``exc``."""

    def chunk_taken(self) -> None:
        """The handler took the chunk that the body held: the session can go on."""

    def make_event(self) -> Wakeup: ...


class Call:
    """A handler call that is not finished. The adapter awaits ``awaitable``, then calls :meth:`resume` or :meth:`fail`.

    Attributes:
        awaitable: what the handler returned.
        cancel: put here by the adapter: cancels what awaits, given the reason.
        done: it was answered; what comes later is ignored.

    Example::

        while (call := driver.step()) is not None:
            call.resume(await call.awaitable)
    """

    __slots__ = ("_driver", "_kind", "_method", "_recipients", "awaitable", "cancel", "done")

    def __init__(
        self, driver: Caller, kind: CallKind, method: Method, awaitable: Awaitable[Any], recipients: int | None = None
    ) -> None:
        self._driver = driver
        self._kind = kind
        self._method = method
        self._recipients = recipients
        self.awaitable = awaitable
        self.cancel: Callable[[str], object] | None = None
        self.done = False

    def resume(self, result: Any) -> None:
        """The handler returned ``result``. Never raises; a result of the wrong type is logged and answered 451."""
        if not self.done:
            self.done = True
            self._driver.resume_call(self, result)

    def fail(self, exc: BaseException) -> None:
        """The handler raised ``exc``: logged, and answered ``451 4.3.0`` if the peer waits. Never raises."""
        if not self.done:
            self.done = True
            self._driver.fail_call(self, exc)


class Body(AsyncIterator[bytes]):
    """The content as :meth:`ehlo.Handler.on_body` reads it. Holds one chunk at most.

    Raises :class:`ehlo.ContentAbortedError` out of the iteration when the content will not become a message.

    Example::

        async for chunk in body:
            digest.update(chunk)
    """

    __slots__ = (
        "_answer",
        "_call",
        "_chunk",
        "_driver",
        "_ended",
        "_error",
        "_error_seen",
        "_finished",
        "_recipients",
        "_waiter",
    )

    def __init__(self, driver: Caller, recipients: int) -> None:
        self._driver = driver
        self._recipients = recipients
        self._chunk: bytes | None = None
        self._waiter: Wakeup | None = None
        self._call: Call | None = None
        self._error: str | None = None
        self._answer: Answer = None
        self._ended = False
        self._finished = False
        self._error_seen = False

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._error is not None:
                self._error_seen = True
                raise ContentAbortedError(self._error)
            chunk = self._chunk
            if chunk is not None:
                self._chunk = None
                self._driver.chunk_taken()
                return chunk
            if self._ended:
                raise StopAsyncIteration
            if self._finished:
                raise LocalProtocolError("the body of a message is read inside on_body, not after it returned")
            if self._waiter is not None:
                raise LocalProtocolError("the body of a message has one reader; two tasks iterate it at once")
            self._waiter = waiter = self._driver.make_event()
            try:
                await waiter.wait()
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()


def is_awaitable(result: Result) -> TypeIs[Awaitable[Answer]]:
    return hasattr(type(result), "__await__")


def replies_of(result: object, recipients: int | None) -> list[Reply]:
    """One reply a recipient, for LMTP (RFC 2033 4.2)."""
    if not isinstance(result, Sequence) or isinstance(result, bytes | bytearray | memoryview):
        raise TypeError(f"a handler answers with None, str or ehlo.Reply, not {type(result).__name__}")
    if recipients is None:
        raise TypeError("only on_message and on_body may answer with a sequence, and only in LMTP")
    if len(result) != recipients:
        raise LocalProtocolError(f"expected {recipients} answers, one a recipient; the handler gave {len(result)}")
    replies = []
    for one in result:
        if isinstance(one, str):
            one = Reply.parse(one)
        elif one is None:
            one = OK
        elif not isinstance(one, Reply):
            raise TypeError(f"an answer for a recipient is None, str or ehlo.Reply, not {type(one).__name__}")
        replies.append(one)
    return replies
