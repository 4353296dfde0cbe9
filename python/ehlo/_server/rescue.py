"""A handler's method that raised: what is logged, and what the client hears."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast

from ehlo._core import Reply
from ehlo._hooks import by_signal
from ehlo._server.answers import CONNECT_FAILED, FAILED, Body, Call, Caller, CallKind
from ehlo._server.handler import HandlerPlan
from ehlo._server.session import Method, Result, Session

__all__ = ["Rescue"]

log: Final = logging.getLogger("ehlo")


class Rescue:
    """The part of a :class:`ehlo._server.driver.ServerDriver` for methods that raise."""

    __slots__ = ("_pending",)

    _body: Body | None
    _pending: Call | None
    _plan: HandlerPlan

    if TYPE_CHECKING:  # the driver has it

        @property
        def session(self) -> Session: ...

    def _rescue(self, method: Method, exc: BaseException) -> Result:
        """What the client hears of a method that raised: the word of ``on_error``, if the handler has it.

        ``on_error`` takes an ``Exception``. What is none, such as ``SystemExit``, is logged and answered without it.
        """
        on_error = self._plan.on_error
        if on_error is None or method is on_error or not isinstance(exc, Exception):
            self._log_failure(method, exc)
            return self._failed(method)
        self._plan.failures += 1
        try:
            result = on_error(self.session, exc)
        except BaseException as another:
            if by_signal(another):
                raise
            self._log_failure(on_error, another)
            return self._failed(method)
        return self._failed(method) if result is None else result

    def _rescue_later(self, call: Call, rescue: Awaitable[Any]) -> Call:
        """``on_error`` waits, and takes the place of the call that failed."""
        another = Call(cast(Caller, self), call._kind, self._plan.on_error, rescue, call._recipients)
        if call._kind is CallKind.BODY and self._body is not None:
            self._body._call = another
        else:
            self._pending = another
        return another

    def _failed(self, method: Method) -> Reply:
        """What the client hears of a handler that raised."""
        return CONNECT_FAILED if method is self._plan.on_connect else FAILED

    def _log_failure(self, method: Method, exc: BaseException) -> None:
        self._plan.failures += 1
        name = getattr(method, "__qualname__", None) or type(method).__name__
        log.error("handler %s failed for the client at %s", name, self.session.peer, exc_info=exc)
