"""Sessions that are kept for the next mail, by any thread: :class:`Shelf`."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any, NamedTuple

from ehlo.compat.smtplib import (
    SMTP,
    SMTP_SSL,
    Answer,
    SMTPOutcomeUnknown,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

__all__ = ["KeptSMTP", "KeptSMTPS", "Session", "Shelf"]


class Session(SMTP):
    """A session that may have been kept. The server may have ended it meanwhile: then it is begun anew, and the message
    goes out once more (C-CLI-19). After the end of the content nothing is ever sent again (C-CLI-17).

    Attributes:
        renew: connects again, with TLS and AUTH as before.
        kept: it was taken from a shelf, and has sent nothing since.
    """

    renew: Callable[[], object] | None = None
    kept: bool = False

    def sendmail(self, *arguments: Any, **options: Any) -> dict[str, Answer]:
        kept, self.kept = self.kept, False
        try:
            return super().sendmail(*arguments, **options)
        except SMTPOutcomeUnknown:
            raise
        except (SMTPServerDisconnected, SMTPSenderRefused) as exc:
            stale = isinstance(exc, SMTPServerDisconnected) or exc.smtp_code == 421
            if not (kept and stale and self.renew is not None):
                raise
        self.close()
        self.renew()
        return super().sendmail(*arguments, **options)


class KeptSMTP(Session):
    """A session that begins in clear."""


class KeptSMTPS(Session, SMTP_SSL):
    """A session that begins with TLS."""


class _Idle(NamedTuple):
    key: Hashable
    session: Session
    since: float


class Shelf:
    """Where idle sessions wait. One of another process, before a fork, is never taken.

    Arguments:
        now: the clock, in seconds.

    Example::

        shelf.put(key, session, seconds=30.0, most=10)
        session = shelf.take(key, seconds=30.0)
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._idle: deque[_Idle] = deque()  # the one used last is at the right
        self._process = os.getpid()
        atexit.register(self.clear)

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, key: Hashable, *, seconds: float) -> Session | None:
        """The session of this key that was used last; ``None`` without one."""
        old = self._old(seconds)
        found = None
        with self._lock:
            for idle in reversed(self._idle):
                if idle.key == key:
                    self._idle.remove(idle)
                    found = idle.session
                    break
        _say_goodbye(old)
        if found is not None:
            found.kept = True
        return found

    def put(self, key: Hashable, session: Session, *, seconds: float, most: int) -> None:
        """Keep a session, and close what is too old or too many."""
        old = self._old(seconds)
        with self._lock:
            self._idle.append(_Idle(key, session, self._now()))
            while len(self._idle) > most:
                old.append(self._idle.popleft().session)
        _say_goodbye(old)

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            sessions = [idle.session for idle in self._idle]
            self._idle.clear()
            ours = self._process == os.getpid()
        if ours:
            _say_goodbye(sessions)

    def _old(self, seconds: float) -> list[Session]:
        with self._lock:
            if self._process != os.getpid():  # they are the parent's, and it goes on with them
                self._process = os.getpid()
                self._idle.clear()
            before = self._now() - seconds
            old = []
            while self._idle and self._idle[0].since <= before:
                old.append(self._idle.popleft().session)
            return old


def _say_goodbye(sessions: list[Session]) -> None:
    """QUIT, and close without waiting for the reply: no mail waits for it."""
    for session in sessions:
        try:
            session.putcmd("QUIT")
        except SMTPServerDisconnected:
            pass
        finally:
            session.close()
