"""Who uses a connection: one call at a time, whatever thread it comes from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from threading import get_ident
from time import monotonic
from typing import Any, Final, TypeVar

from ehlo._client.paths import Recipients, SenderLike
from ehlo._core import SendResult
from ehlo._errors import LocalProtocolError
from ehlo.sync._blocking import BlockingClient
from ehlo.sync._run import run

__all__ = ["Use"]

T = TypeVar("T")

# Seconds after which a server may have ended a connection that nobody used: before a command one looks for a 421, or
# for the end (RFC 5321 3.8).
_REST: Final = 1.0


class Use:
    """The use of a client by one call after the other. Private: each :class:`ehlo.sync.Client` has one.

    Example::

        reply = use.run(client.noop())
    """

    __slots__ = ("_client", "_cut", "_lock", "_owner")

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._owner = 0
        # Another thread cuts it short: it holds the lock for a moment only.
        self._cut = False

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives. If it is interrupted, the connection is closed.

        Raises:
            LocalProtocolError: another call uses the client.
        """
        try:
            result: T = self._alone(run, coro)
        except LocalProtocolError:
            coro.close()  # beside another call it has not begun
            raise
        return result

    def send(self, message: bytes, sender: SenderLike | None, recipients: Recipients | None) -> SendResult:
        """``run`` for the ``send`` of octets without options."""
        return self._alone(self._client.send_now, message, sender, recipients)

    def _alone(self, call: Callable[..., T], *args: Any) -> T:
        if not self._lock.acquire(self._cut):
            raise LocalProtocolError(
                "another call still uses this connection: one thread uses a connection at a time; "
                "open several, or use a Pool"
            )
        try:
            self._owner = get_ident()
            link = self._client._link
            if monotonic() - link.seen > _REST:
                link.look()
            return call(*args)
        except Exception:
            raise
        except BaseException:
            self._client.abort()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Say QUIT and close; cut short what another call does."""
        if not self._lock.acquire(blocking=False):
            self._cut_short()
            return
        try:
            self._owner = get_ident()
            run(self._client.close())
        except BaseException:
            self._client.abort()
            raise
        finally:
            self._lock.release()

    def abort(self) -> None:
        """Close at once; cut short what another call does."""
        if not self._lock.acquire(blocking=False):
            self._cut_short()
            return
        try:
            self._client.abort()
        finally:
            self._lock.release()

    def _cut_short(self) -> None:
        """End the call that goes on. That of another thread is waited for; our own finds out when it goes on."""
        self._cut = True
        self._client.interrupt()
        if self._owner != get_ident():
            with self._lock:
                self._client.abort()
