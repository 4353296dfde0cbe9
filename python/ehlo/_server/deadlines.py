"""The limits of a connection that have to do with time. The clock is told from outside, as in the engine.

Nothing on the usual path of a connection touches a timer. Its backend looks at the limits from time to time: each look
says how far away the next one may be.
"""

from __future__ import annotations

from typing import Final, Protocol

from ehlo._core import Reply, ServerConfig, ServerConnection
from ehlo._server.answers import Call
from ehlo._server.limits import Limits, Statistics

__all__ = ["TICK", "Deadlines"]

# The limits of a connection are looked at least this often, in seconds: the time that a limit may act too late.
TICK: Final = 30.0


class TimedOwner(Protocol):
    """The server that a connection belongs to, as far as it has to do with time."""

    _config: ServerConfig
    _limits: Limits
    _handler_seconds: float | None
    _tick: float
    _totals: Statistics


class TimedDriver(Protocol):
    """The driver of a connection, as far as it has to do with time."""

    blocked: bool

    @property
    def waiting_for(self) -> Call | None: ...


class Deadlines:
    """The part of a :class:`ehlo._server.connection.Connection` that judges how long things may take.

    Attributes:
        _born: when the session began, in seconds of the server's clock; so are the others.
        _seen: when something moved last. Of what an exchange moved the engine knows the time itself.
        _phase: how many commands came, and whether a handshake goes on, at the last look.
        _phase_since: when that was so first, or when a handler ended.
        _held_since: since when a handler keeps the session waiting; ``None`` while none does.
        _expired: the session has lasted too long, and was told so.
        _content_mark: the number of commands at the first look at a content; ``None`` while there is no content.
        _content_since: when that look was.
        _content_base: the octets of content that had come by then.
    """

    __slots__ = (
        "_born",
        "_conn",
        "_content_base",
        "_content_mark",
        "_content_since",
        "_driver",
        "_expired",
        "_held_since",
        "_phase",
        "_phase_since",
        "_seen",
        "_server",
    )

    _conn: ServerConnection
    _driver: TimedDriver
    _born: float
    _seen: float
    _phase: tuple[int, bool]
    _phase_since: float

    def __init__(self, server: TimedOwner) -> None:
        self._server: TimedOwner = server
        self._expired = False
        self._held_since: float | None = None
        self._content_since = 0.0
        self._content_base = 0
        self._content_mark: int | None = None

    def _called(self) -> None:
        """A call is over: go on."""
        raise NotImplementedError

    def _judge(self, now: float) -> float:
        """Judge every limit that has to do with time; ``_advance`` comes next. Returns the seconds until the next look.

        Nothing on the usual path touches a timer: a look never lies further away than the shortest span that might
        begin meanwhile (``Listener._tick``).
        """
        server, limits, driver, conn = self._server, self._server._limits, self._driver, self._conn
        wait = server._tick
        if driver.blocked:
            call = driver.waiting_for
            if server._handler_seconds is not None and call is not None and self._held_since is not None:
                left = self._held_since + server._handler_seconds - now
                if left <= 0:
                    self._handler_late(call, server._handler_seconds)
                else:
                    wait = min(wait, left)
            self._content_mark = None
        else:
            timeout = conn.timeout
            if timeout is not None:
                left = self._since(now) + timeout - now
                if left <= 0:
                    server._totals.idle_timeouts += 1
                    conn.receive_timeout()
                else:
                    wait = min(wait, left)
            if conn.in_content and not conn.closed:
                wait = min(wait, self._judge_content(now))
        if limits.session_seconds is not None and not conn.closed:
            left = self._born + limits.session_seconds - now
            if left > 0:
                wait = min(wait, left)
            elif not self._expired:
                self._expired = True
                server._totals.session_timeouts += 1
                conn.shutdown(Reply(421, "4.7.0", f"{server._config.hostname} Session lasted too long"))
            elif left <= -server._config.command_timeout and not driver.blocked:
                conn.receive_timeout()  # it had its time to end the transaction
        return max(wait, 0.001)

    def _since(self, now: float) -> float:
        """The begin of the wait that ``conn.timeout`` bounds. It is for a whole: a command, a header, a handshake.
        An octet now and then makes it no longer (RFC 5321 4.5.3.2.7). Only content is judged by its last octet.
        """
        conn = self._conn
        if conn.in_content:
            self._phase_since = max(self._seen, conn.exchanged_at)
            return self._phase_since
        phase = (conn.commands, conn.handshaking)
        if phase != self._phase:
            # First seen now: it began at most one tick ago, and gets that tick for nothing.
            self._phase, self._phase_since = phase, now
        return self._phase_since

    def _judge_content(self, now: float) -> float:
        """End a session whose content comes too slowly. Returns the seconds after which to look again."""
        limits, conn = self._server._limits, self._conn
        mark = conn.commands
        octets = conn.content_octets
        if mark != self._content_mark or octets < self._content_base:
            # First seen now: it began at most one tick ago, and gets that tick for nothing.
            self._content_mark, self._content_since, self._content_base = mark, now, octets
            elapsed = 0.0
        else:
            elapsed = now - self._content_since
        late = limits.content_seconds is not None and elapsed >= limits.content_seconds
        slow = (
            limits.content_rate is not None
            and elapsed > 0
            and elapsed >= limits.content_grace_seconds
            and octets - self._content_base < limits.content_rate * elapsed
        )
        if late or slow:
            self._server._totals.content_timeouts += 1
            conn.receive_timeout()
        return min(
            (limits.content_seconds if limits.content_seconds is not None else TICK) - elapsed,
            max(limits.content_grace_seconds - elapsed, 1.0),
            TICK,
        )

    def _judge_rest(self, now: float) -> float | None:
        """A handler that outlives its connection, ``on_disconnect`` among them, has the time of any other. Returns the
        seconds until the next look; ``None`` if there is nothing to wait for.
        """
        seconds = self._server._handler_seconds
        while seconds is not None and self._held_since is not None and (call := self._driver.waiting_for) is not None:
            left = self._held_since + seconds - now
            if left > 0:
                return left
            self._handler_late(call, seconds)
            self._called()  # on_disconnect may follow
        return None

    def _handler_late(self, call: Call, seconds: float) -> None:
        self._server._totals.handler_timeouts += 1
        call.fail(TimeoutError(f"the handler kept the session waiting for more than {seconds:g} s"))
        if call.cancel is not None:
            call.cancel("the handler took too long")
