"""The server that a connection belongs to, as the connection sees it: :class:`Owner`."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ehlo._core import ReceiveBuffer, Reply, ServerConfig
from ehlo._server.handler import HandlerPlan
from ehlo._server.limits import Limits, Statistics
from ehlo._server.trust import Networks
from ehlo._types import Wakeup

__all__ = ["Owner"]


class Owner(Protocol):
    """The server that a connection belongs to, as the connection sees it. :class:`ehlo._server.listener.Listener` is
    one; there all of this is explained.
    """

    _plan: HandlerPlan
    _config: ServerConfig
    _limits: Limits
    _tls: ssl.SSLContext | None
    _trusted: Networks
    _proxied: bool
    _fronted: bool
    _slows: bool
    _handler_seconds: float | None
    _tick: float
    _bye: Reply
    _totals: Statistics
    _buffer: ReceiveBuffer

    @property
    def _now(self) -> Callable[[], float]: ...

    @property
    def _make_event(self) -> Callable[[], Wakeup]: ...

    @property
    def _sleep(self) -> Callable[[float], Awaitable[object]]: ...

    def _admit(self, connection: Any) -> bytes | None: ...

    def _admit_client(self, connection: Any, peer: tuple[str, int] | None) -> Reply | None: ...

    def _forget(self, connection: Any) -> None: ...
