"""How the methods of a program run: at once as far as they do not wait, then in the task of their connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from ehlo._server.answers import Call
from ehlo._server.session import Raw
from ehlo.asyncio._server_protocol import ServerProtocol
from ehlo.compat.aiosmtpd._worker import Rest, Worker, raising

__all__ = ["Working"]

log: Final = logging.getLogger("mail.log")


class Working:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` that runs the program's methods."""

    _worker: Worker | None = None
    _at_once: bool

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop
        _data_hook: Any
        _handle_hooks: dict[str, Any]
        _watching: bool
        _pushed: list[bytes] | None

        async def _perform(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw: ...

        def _flush(self, pushed: list[bytes]) -> None: ...

        _server: Any
        _transport: Any

        @property
        def _s(self) -> Any: ...

        def _end(self) -> None: ...

        async def _run(self, call: Call) -> None: ...

    def _find_worker(self) -> None:
        """The connection begins. Where it is likely that nothing waits, and where the loop makes tasks of its own kind,
        there is no worker: each thing that waits gets a task.
        """
        if (self._watching or self._handle_hooks or self._data_hook) and self.loop.get_task_factory() is None:
            self._worker = Worker(self.loop)

    def _do(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw | Awaitable[Raw]:
        """The answer of a method that pushes its replies."""
        return self._now(self._perform(action, *args))

    def _now(self, coroutine: Coroutine[Any, Any, Raw]) -> Raw | Awaitable[Raw]:
        """The result of a coroutine that does not wait, or what is left to await."""
        self._at_once = self._worker is not None and self._worker.is_free
        try:
            answer = coroutine if self._worker is None else self._worker.begin(coroutine)
        except asyncio.CancelledError as exc:
            return raising(exc)
        finally:
            self._at_once = False
        if self._pushed and type(answer) is Rest:
            self._flush(self._pushed)
        return answer

    def _keep_rest(self, rest: Rest[Any], awaitable: Awaitable[Raw]) -> Awaitable[Raw]:
        """It awaits the rest."""
        assert self._worker is not None
        self._worker.keep(rest, awaitable)
        return awaitable

    def _start(self, call: Call) -> None:
        protocol: Any = self
        worker = self._worker
        if worker is not None and worker.takes(call.awaitable):
            call.cancel = worker.go_on(self._run(call)).cancel
        else:
            ServerProtocol._start(protocol, call)

    def _handler_late(self, call: Call, seconds: float) -> None:
        """A method has had its time. As in aiosmtpd the connection ends, without a word, and with it the method."""
        self._server._totals.handler_timeouts += 1
        self._time_out()

    def _time_out(self) -> None:
        """End the connection without a word."""
        if self._transport.is_closing():  # the client does not take what was written
            self._transport.abort()
            return
        log.info("%r connection timeout", self._s.peer)
        self._end()

    def _judge_rest(self, now: float) -> float | None:
        """A method that goes on when its client has left may take as long as it likes, as in aiosmtpd."""
        return None
