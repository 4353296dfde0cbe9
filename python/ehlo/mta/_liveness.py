"""The life of a node in PostgreSQL: its heartbeat, news from others, and what dead nodes leave behind."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg

from ehlo.mta._clock import Clock
from ehlo.mta._postgres_store import DEAD, LOCK, PostgresStore, connect, is_gone, machine

__all__ = ["BEAT", "DEAD", "Liveness"]

BEAT: Final = 5.0
"""Seconds between two heartbeats of a node."""

_UNLOCKED: Final = 10.0
# Seconds without a heartbeat, after which what a dead node owned waits no more for who reads its journal: that process
# may be stopped. A second delivery is better than none.
_UNREAD: Final = 2 * DEAD


class Liveness:
    """A thread with a session of its own: it holds the node's lock, beats, hears of news, and adopts what dead nodes
    owned.

    Another node is dead when its counter of beats stood still for so long while this one looked: so no two clocks are
    compared, and a server that was away kills nobody.

    Arguments:
        store: of this node.
        clock: the time.
        news: called when something may be due.
        begin_anew: called with the id of this node when it was late.
        before_adoption: called before the recipients of a dead node are ready again. Gives whether they may be: if
            not, it is called again at the next heartbeat, until a minute has gone by without one of the dead node.
    """

    def __init__(
        self,
        store: PostgresStore,
        clock: Clock,
        news: Callable[[], object],
        begin_anew: Callable[[int], object],
        before_adoption: Callable[[psycopg.Connection[Any]], bool] = lambda connection: True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._news = news
        self._begin_anew = begin_anew
        self._before_adoption = before_adoption
        self._owner = store.owner
        self._machine = machine()
        self._seen: dict[int, tuple[int, float]] = {}
        self._last = clock.monotonic()
        self._locked = 0
        self._end, self._stop = os.pipe()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="ehlo-spool-node", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    @property
    def is_in_time(self) -> bool:
        """Whether the last heartbeat is young enough for nobody to think this node dead."""
        return self._clock.monotonic() - self._last < DEAD - BEAT

    def stop(self) -> None:
        """End the thread. Blocks for a moment."""
        os.write(self._stop, b"x")
        self._thread.join()
        os.close(self._end)
        os.close(self._stop)

    def _run(self) -> None:
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._store.url)
                    self._connection.execute("LISTEN ehlo_queue")
                    self._seen.clear()
                    self._locked = 0
                if self.beat(self._connection):
                    self._news()
                ready, _, _ = select.select([self._end, self._connection.fileno()], [], [], BEAT)
                if self._end not in ready and ready and any(True for _ in self._connection.notifies(timeout=0)):
                    self._news()
            except psycopg.Error:  # the server is away: it is asked again until it answers
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                ready, _, _ = select.select([self._end], [], [], 1.0)
            except RuntimeError:  # the loop is over
                ready = [self._end]
            if self._end in ready:
                if self._connection is not None:
                    self._connection.close()
                return

    def beat(self, connection: psycopg.Connection[Any]) -> bool:
        """One heartbeat, and a look at the others. Gives whether something may be due by it.

        A node that was late gives back what it owns, and becomes another one: so nothing that it began before can have
        an effect, whether or not the others took it for dead. Until then it is late.
        """
        now = self._clock.monotonic()
        owner = self._store.owner
        if owner != self._locked:
            connection.execute("SELECT pg_advisory_unlock_all()")
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK, owner))
            self._locked = owner
        alive = connection.execute(
            "UPDATE node SET beats = beats + 1, heartbeat = %s WHERE id = %s", (self._clock.time(), owner)
        ).rowcount
        adopted = owner != self._owner
        if adopted:  # it is another node since the last beat
            self._owner = owner
            self._last = now
        elif alive and self.is_in_time:
            self._last = now
        else:
            self._begin_anew(owner)

        for number, beats, where, pid, locked in connection.execute(
            "SELECT n.id, n.beats, n.machine, n.pid, EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND"
            " l.classid = %s AND l.objid = n.id) FROM node n WHERE n.id <> %s",
            (LOCK, self._store.owner),
        ).fetchall():
            before, since = self._seen.get(number, (-1, now))
            if beats != before:
                since = now
            self._seen[number] = (beats, since)
            gone = is_gone(where == self._machine, pid)
            is_dead = now - since >= DEAD or (not locked and (gone or now - since >= _UNLOCKED))
            if is_dead and (self._before_adoption(connection) or now - since >= _UNREAD):
                adopted = _adopt(connection, number) or adopted
                del self._seen[number]
        return adopted


def _adopt(connection: psycopg.Connection[Any], number: int) -> bool:
    """What a dead node owned is ready again. Gives whether this node was the one that did it."""
    with connection.transaction():
        if not connection.execute("DELETE FROM node WHERE id = %s", (number,)).rowcount:
            return False
        connection.execute("UPDATE recipient SET owner = 0 WHERE owner = %s", (number,))
        connection.execute("DELETE FROM dead_route WHERE node = %s", (number,))
    return True
