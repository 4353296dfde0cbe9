"""The tasks of one connection of a server, on trio. All else is :mod:`ehlo._io.server_connection`."""

from __future__ import annotations

import logging
from typing import Final, Protocol

import trio

from ehlo._hooks import by_signal, is_torn_down
from ehlo._io.server_connection import LoopOwner, ServerStream
from ehlo._server.answers import Call
from ehlo.trio._loop import Place, TrioLoop

__all__ = ["ServerProtocol", "TrioOwner"]

log: Final = logging.getLogger("ehlo")


class TrioOwner(LoopOwner, Protocol):
    """The server that a connection belongs to, with the tasks of its run.

    Attributes:
        _loop: of the run.
        _nursery: of the calls of handlers that wait.
    """

    @property
    def _loop(self) -> TrioLoop: ...

    _nursery: trio.Nursery

    def _crash(self, exc: BaseException) -> bool:
        """Raise it in the nursery. False if that is over."""


class ServerProtocol(ServerStream, Place):
    """One connection, with a task for each call of its handler that waits. Private: a :class:`Server` makes them."""

    __slots__ = ()

    _server: TrioOwner

    def cut_now(self) -> None:
        """Cut it, and count it. It is gone when this returns: what is cancelled with it is no failure."""
        self._server._loop.turn(self._cut_and_count)

    def _crash(self, exc: BaseException) -> bool:
        return self._server._crash(exc)

    def _cut_and_count(self) -> None:
        self._server._totals.cut += self.cut()

    def _start(self, call: Call) -> None:
        scope = trio.CancelScope()
        call.cancel = lambda reason: scope.cancel()
        self._server._nursery.start_soon(self._run, call, scope)

    async def _run(self, call: Call, scope: trio.CancelScope) -> None:
        try:
            with scope:
                try:
                    result = await call.awaitable
                except BaseException as exc:
                    goes_on = _what_goes_on(exc)
                    if goes_on is not None and not (scope.cancel_called or self._lost):  # it comes from further out
                        self.cut_now()
                    call.fail(exc)
                    if goes_on is not None:
                        raise goes_on from exc.__cause__
                else:
                    call.resume(result)
        finally:
            try:
                self._called()
            except Exception:
                log.exception("a session ended by a fault of ehlo")


def _what_goes_on(exc: BaseException) -> BaseException | None:
    """What of a handler's exception is not the handler's failure alone: a cancellation, or the work of a signal."""
    if by_signal(exc) or is_torn_down(exc):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(trio.Cancelled)
    return exc if isinstance(exc, trio.Cancelled) else None
