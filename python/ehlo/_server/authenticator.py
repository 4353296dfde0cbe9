"""Passwords are checked beside the event loop, by few threads of their own: what is the same on every event loop."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Protocol

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
from ehlo._sasl.credentials import Credentials, PasswordCredentials, Verdict
from ehlo._server.limits import network_of
from ehlo._server.session import Session
from ehlo._server.turns import Turns
from ehlo._types import Wakeup

__all__ = ["AuthenticatorBase", "Checker"]

_BUSY: Final = Reply(454, "4.7.0", "Too many logins at once; try again later")  # RFC 4954 6
# The event loop goes before the work that an attacker can ask for.
_NICENESS: Final = 5
_MOST_WORKERS: Final = 4
_PLACES: Final = 100


class Checker(Protocol):
    """What an authenticator asks: :class:`ehlo.Users`, or an object of a program's own."""

    def check(self, credentials: Credentials, /) -> Verdict:
        """The answer of ``on_auth``. It is called in a thread for a password, and in the event loop for all else."""


class AuthenticatorBase:
    """Answers ``on_auth``, with bounded work. A password takes much work on purpose, so a client that tries many
    passwords must not take the server's time.

    Passwords are checked in threads of their own, so other work in threads does not wait for them. A client waits in
    the event loop, not in a thread. The client networks take turns: one attacker does not keep honest users out. When
    too many wait, the reply is ``454 4.7.0``, and a mail program tries again (RFC 4954 6).

    Arguments:
        users: :class:`ehlo.Users`, or an object with a method ``check(credentials)``.
        workers: number of threads. ``None``: one for two processors, 4 at most.
        waiting: clients that may wait. ``None``: 100 for each worker, so nobody waits longer than for 100 checks.
        busy_seconds: seconds before the reply 454, so that a client does not ask again and again.

    Raises:
        LocalProtocolError: ``workers`` or ``waiting`` is less than 1, or ``busy_seconds`` is less than 0.

    Example::

        async def on_auth(self, session, credentials):
            return await self.authenticator.check(session, credentials)
    """

    _make_event: Callable[[], Wakeup]
    # Until so many seconds went by.
    _sleep: Callable[[float], Awaitable[object]]

    def __init__(
        self, users: Checker, *, workers: int | None = None, waiting: int | None = None, busy_seconds: float = 5.0
    ) -> None:
        count = max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // 2)) if workers is None else workers
        places = _PLACES * count if waiting is None else waiting
        if count < 1 or places < 1:
            raise LocalProtocolError(f"an authenticator needs a worker and a place to wait, not {count} and {places}")
        if busy_seconds < 0:
            raise LocalProtocolError(f"an authenticator's busy_seconds must be 0 or more, not {busy_seconds}")
        self._busy_seconds = busy_seconds
        self.users = users
        self.refused: int = 0
        """Clients that were answered ``454`` because too many waited."""
        self._turns = Turns(count, places, self._make_event)
        self._threads = ThreadPoolExecutor(count, "ehlo-passwords", _step_back)

    def _soon(self) -> Callable[[Callable[[], object]], object]:
        """The running loop's way to be called from a thread."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Clients whose password waits to be checked now."""
        return self._turns.waiting

    async def check(self, session: Session, credentials: Credentials) -> Verdict:
        """The answer of ``on_auth``.

        Arguments:
            session: whose client network takes turns with the others.
            credentials: as ``on_auth`` got them.

        Raises:
            Exception: whatever ``users.check`` raises.

        Example::

            return await self.authenticator.check(session, credentials)
        """
        if not isinstance(credentials, PasswordCredentials):
            return self.users.check(credentials)
        address = session.counted_address
        turn = self._turns.ask("" if address is None else network_of(address) or address)
        if not (turn.granted or turn.refused):
            try:
                await turn.event.wait()
            except BaseException:
                self._turns.withdraw(turn)
                raise
        if turn.refused:
            self.refused += 1
            await self._sleep(self._busy_seconds)
            return _BUSY
        return await self._in_thread(credentials)

    async def _in_thread(self, credentials: Credentials) -> Verdict:
        """The turn is over when the thread is done, even if nobody waits for its result any more."""
        over = self._make_event()

        def in_loop() -> None:
            self._turns.done()
            over.set()

        soon = self._soon()
        try:
            future = self._threads.submit(self.users.check, credentials)
        except BaseException:
            self._turns.done()
            raise

        def in_thread(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                soon(in_loop)

        future.add_done_callback(in_thread)
        await over.wait()
        return future.result()


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere it would be for the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
