"""Worker processes that share the listening sockets: started, watched, started again, and ended by their parent.

The workers inherit the sockets, and accept from the same queues of the system. With SO_REUSEPORT each worker would have
a queue of its own: the clients in it would be lost when the worker dies, and would wait when it is stuck. Inherited
sockets also work for Unix sockets and for those of systemd, and a new worker needs no right to bind a port.

A worker is a fork of the parent. So it has what was read with root's rights, though it can no longer read that itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final, Literal

from ehlo._server.limits import Statistics
from ehlo.cli._receive import UsageError
from ehlo.cli._run import heed_hangup

__all__ = ["BEAT", "Ended", "Plan", "check_workers", "run_workers", "tell_parent"]

BEAT: Final = 1.0
"""Seconds between two signs of life of a worker."""
# Deaths within so many seconds after which the parent gives up.
_WINDOW: Final = 60.0
_DEATHS: Final = 5
# Seconds that a worker has to start, at least.
_START: Final = 60.0
# Seconds beyond the deadline that a worker has to end.
_GRACE: Final = 5.0


@dataclass(slots=True)
class Plan:
    """What workers do, and what their parent does.

    Attributes:
        count: how many workers.
        deadline: seconds that open transactions have at the end.
        work: called in a worker, with its number from 0 and the pipe to the parent. By
            :func:`tell_parent` it says that it serves, and every :data:`BEAT` seconds that it is alive. It drains when
            something comes by the pipe.
        ready: called in the parent when all workers serve.
        reload: called in the parent at SIGHUP; whether the workers are to read their settings again.
        stopping: called in the parent at the first SIGTERM or SIGINT.
        alive: called in the parent about every second, or every ``tick`` seconds.
        complain: takes a line about a worker that died.
        patience: seconds without a sign of life after which a worker is killed.
        pause: seconds before the second start of a worker; each further one waits twice as long.
        tick: seconds.

    Example::

        Plan(4, 10, lambda number, pipe: run_job(Mine(), pipe))
    """

    count: int
    deadline: float
    work: Callable[[int, Connection], Statistics]
    ready: Callable[[], None] = lambda: None
    reload: Callable[[], bool] = lambda: False
    stopping: Callable[[], None] = lambda: None
    alive: Callable[[], None] = lambda: None
    complain: Callable[[str], None] = lambda line: None
    patience: float = 60.0
    pause: float = 1.0
    tick: float = 1.0


@dataclass(slots=True)
class Ended:
    """How it ended.

    Attributes:
        statistics: of all workers together, those that died left out.
        failure: why it ended without being asked; ``None``: it was asked.

    Example::

        run_workers(plan).failure is None
    """

    statistics: Statistics = field(default_factory=Statistics)
    failure: str | None = None


def check_workers(count: int) -> None:
    """Whether this system can have workers.

    Raises:
        UsageError: it cannot.

    Example::

        check_workers(4)
    """
    if count > 1 and "fork" not in multiprocessing.get_all_start_methods():
        raise UsageError("workers: this system cannot fork; remove workers")
    if count > 1 and threading.current_thread() is not threading.main_thread():
        raise UsageError("workers: they need the main thread; remove workers")


def tell_parent(pipe: Connection, word: Literal["ready", "alive"]) -> None:
    """In a worker: it serves, or it is alive. Where the parent is gone, the other end of the pipe tells that.

    Example::

        tell_parent(pipe, "ready")
    """
    with contextlib.suppress(OSError):
        pipe.send((word, None))


def run_workers(plan: Plan) -> Ended:
    """Start the workers, and watch them until a signal ends them. SIGINT and SIGTERM drain, a second one cuts.

    Raises:
        UsageError: a worker could not start.

    Example::

        run_workers(Plan(4, 10, work))
    """
    with _signals() as signals:
        return _Parent(plan, signals).run()


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket with one octet for each signal that comes: its number."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    heed_hangup()
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """The socket tells."""


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    seen: float
    generation: int
    serves: bool = False
    killed: bool = False
    done: bool = False


class _Parent:
    def __init__(self, plan: Plan, signals: socket.socket) -> None:
        self._plan = plan
        self._signals = signals
        self._context: Any = multiprocessing.get_context("fork")
        self._workers: list[_Worker] = []
        # Workers to start again: when, and their numbers.
        self._due: list[tuple[float, int]] = []
        self._deaths: deque[float] = deque()
        self._generation = 0
        self._asked = 0
        self._kill_at = float("inf")
        self._was_ready = False
        self._unusable: str | None = None
        self._ended = Ended()

    def run(self) -> Ended:
        for number in range(self._plan.count):
            self._start(number)
        while self._workers or (self._due and not self._asked):
            pipes = {worker.pipe: worker for worker in self._workers}
            for one in wait([*pipes, self._signals], self._plan.tick):
                if isinstance(one, Connection):
                    self._read(pipes[one])
                else:
                    self._heed()
            self._look_at_clock()
        if self._unusable is not None:
            raise UsageError(self._unusable)
        return self._ended

    # ---- workers ---------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=self._be_worker, args=(number, ours, theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(number, process, ours, time.monotonic(), self._generation))

    def _be_worker(self, number: int, ours: Connection, theirs: Connection) -> None:
        signal.set_wakeup_fd(-1)
        # A terminal's Ctrl-C and systemd's SIGTERM may reach all processes: the parent alone heeds them. With SIG_IGN
        # the programs that the worker starts would ignore them, too.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, _ignore)
        # The pipe must end with the parent: no worker may hold the parent's side of one.
        ours.close()
        for worker in self._workers:
            worker.pipe.close()
        with contextlib.suppress(BrokenPipeError):
            try:
                statistics = self._plan.work(number, theirs)
            except UsageError as exc:
                theirs.send(("error", str(exc)))
            else:
                theirs.send(("totals", {one.name: getattr(statistics, one.name) for one in fields(statistics)}))

    def _read(self, worker: _Worker) -> None:
        try:
            word, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        worker.seen = time.monotonic()
        match word:
            case "ready":
                worker.serves = True
                if worker.generation != self._generation:  # the settings were read again meanwhile
                    self._signal(worker, signal.SIGHUP)
                if not self._was_ready and all(one.serves for one in self._workers):
                    self._was_ready = True
                    self._plan.ready()
            case "error":
                worker.done = not self._was_ready
                if self._was_ready:
                    self._plan.complain(f"worker {worker.number}: {value}")
                else:
                    self._unusable = self._unusable or value
                    self._stop()
            case "totals":
                worker.done = True
                self._ended.statistics += Statistics(**value)

    def _bury(self, worker: _Worker) -> None:
        """A worker is gone."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.done and self._asked:
            return
        code = worker.process.exitcode
        words = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        if self._asked:
            self._plan.complain(f"worker {worker.number} ended {words} while it drained")
            self._ended.failure = self._ended.failure or "a worker died while it drained"
            return
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - _WINDOW:
            self._deaths.popleft()
        count = len(self._deaths)
        if count > _DEATHS:
            self._ended.failure = f"{count} workers died within {_WINDOW:.0f} seconds"
            self._plan.complain(f"worker {worker.number} died {words}; {self._ended.failure}: giving up")
            self._stop()
            return
        pause = 0.0 if count == 1 else self._plan.pause * 2 ** (count - 2)
        self._plan.complain(f"worker {worker.number} died {words}; it is started again")
        self._due.append((now + pause, worker.number))

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if not self._asked:
            for one in [one for one in self._due if one[0] <= now]:
                self._due.remove(one)
                self._start(one[1])
        for worker in self._workers:
            patience = self._plan.patience if worker.serves else max(self._plan.patience, _START)
            stuck = not self._asked and now - worker.seen > patience
            if (stuck or now > self._kill_at) and not worker.killed:
                worker.killed = True
                self._plan.complain(f"worker {worker.number} gives no sign of life; it is killed")
                self._signal(worker, signal.SIGKILL)
        self._plan.alive()

    @staticmethod
    def _signal(worker: _Worker, number: int) -> None:
        if worker.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid, number)

    # ---- signals ---------------------------------------------------------------------------------

    def _heed(self) -> None:
        for number in self._signals.recv(64):
            if number == signal.SIGHUP:
                if not self._asked and self._plan.reload():
                    self._generation += 1
                    for worker in self._workers:
                        if worker.serves:
                            self._signal(worker, signal.SIGHUP)
                            worker.generation = self._generation
            elif number in (signal.SIGINT, signal.SIGTERM):
                if not self._asked:
                    self._plan.stopping()
                self._stop()

    def _stop(self) -> None:
        """Ask all workers to drain; asked again, they cut."""
        self._asked += 1
        grace = _GRACE + (self._plan.deadline if self._asked == 1 else 0.0)
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send("stop")
