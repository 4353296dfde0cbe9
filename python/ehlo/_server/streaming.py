"""A content that the handler reads while it comes: the call of ``on_body``, its chunks, its end and its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import Chunk, ContentAborted, ContentStart, Reply
from ehlo._errors import LocalProtocolError
from ehlo._hooks import by_signal
from ehlo._server.answers import FAILED, Body, Call, CallKind, is_awaitable, replies_of
from ehlo._server.authentication import Authentication
from ehlo._server.session import Answer

__all__ = ["Streaming"]

_BODY: Final = CallKind.BODY


class Streaming(Authentication):
    """The part of a :class:`ehlo._server.driver.ServerDriver` that runs ``on_body``.

    Attributes:
        _body: the content that a handler reads; ``None`` without one.
    """

    __slots__ = ("_body",)

    _body: Body | None

    if TYPE_CHECKING:  # the driver has these
        _answer: Callable[..., None]
        resume_call: Callable[[Call, Any], None]
        fail_call: Callable[[Call, BaseException], None]

    def _content_start(self, event: ContentStart) -> Call | None:
        method = self._plan.on_body
        if method is None:
            return None
        envelope = event.envelope
        self._body = body = Body(self, len(envelope.recipients))
        try:
            result = method(self.session, envelope, body)
        except BaseException as exc:
            if by_signal(exc):
                raise
            rescue = self._rescue(method, exc)
            if is_awaitable(rescue):
                body._call = call = Call(self, _BODY, self._plan.on_error, rescue)
                return call
            self._body_over(body, rescue)
            return None
        if is_awaitable(result):
            body._call = call = Call(self, _BODY, method, result)
            return call
        self._body_over(body, result)
        return None

    def _chunk(self, event: Chunk) -> Call | None:
        body = self._body
        if body is not None and not body._finished:
            data = event.data
            if data:
                body._chunk = data
                self.blocked = True
                body._wake()
        return None

    def _content_aborted(self, event: ContentAborted) -> Call | None:
        body = self._body
        if body is not None:
            body._error = event.reason
            if body._call is None:
                self._body = None
            else:
                # One call at a time: the handler ends before anything else of this session is asked.
                self.blocked = True
                body._wake()
        return None

    def _body_over(self, body: Body, result: Answer) -> None:
        """The handler's word on a body is known."""
        body._call = None
        body._finished = True
        body._chunk = None
        if body._error is not None:
            self._body = None
        elif body._ended:
            self._body = None
            self._answer(self._plan.on_body, result, body._recipients)
        else:
            body._answer = self._early(result, body._recipients)
        # A decision on another command (VRFY between two BDAT chunks) may be open at the same time.
        self._go_on()

    def _early(self, result: Answer, recipients: int | None) -> Answer:
        """An answer before the content's end: a refusal is given to the engine, which drains the rest (S-DAT-15)."""
        try:
            if isinstance(result, str):
                result = Reply.parse(result)
            elif result is not None and not isinstance(result, Reply):
                result = replies_of(result, recipients)
        except Exception as exc:
            self._log_failure(self._plan.on_body, exc)
            result = FAILED
        if isinstance(result, Reply) and not result.is_positive and not self._lost:
            # If all of it has come by now, the answer waits for its event as it does anyway.
            with contextlib.suppress(LocalProtocolError):
                self.conn.refuse_content(result)
        return result

    def chunk_taken(self) -> None:
        """The handler took the chunk that the body held: the session can go on."""
        self._go_on()
        self._adapter.wake()
