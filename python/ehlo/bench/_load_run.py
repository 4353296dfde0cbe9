"""A load run on one process or on several: starts them, watches them, adds up what they counted."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import TYPE_CHECKING, Any

from ehlo.bench._contents import contents
from ehlo.bench._load import Load
from ehlo.bench._plan import LoadPlan, resolve
from ehlo.bench._tally import Tally

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["LoadRun", "run_load"]


class LoadRun:
    """A load run that can be watched and stopped.

    Arguments:
        plan: what to do.
        on_tick: called a few times a second with what was counted so far.

    Raises:
        OSError: if the host cannot be resolved or the corpus not be read.
        ValueError: for sizes that are none. LocalProtocolError: for a mailbox or a host name that is none.

    Example::

        tally = LoadRun(plan, lambda tally: print(tally.accepted)).run()
    """

    def __init__(self, plan: LoadPlan, on_tick: Callable[[Tally], None] | None = None) -> None:
        self.plan = plan
        self._on_tick = on_tick
        self._address = (resolve(plan.host, plan.port)[0], plan.port)
        self._stopped = False
        self._load: Load | None = None
        self._workers: list[tuple[SpawnProcess, Connection]] = []
        if min(plan.workers, plan.connections) == 1:
            found = contents(plan.sizes, plan.corpus, plan.seed)
            self._load = Load(plan, self._address, found, self._told)
        else:
            Load(plan, self._address, [b""]).poller.close()  # what is wrong with it is said here, not in the workers

    def _told(self, load: Load) -> None:
        if self._on_tick is not None:
            self._on_tick(load.tally)

    def stop(self) -> None:
        """End it now; :meth:`run` returns what was counted. For signal handlers."""
        self._stopped = True
        if self._load is not None:
            self._load.stop()
        for _, pipe in self._workers:
            with contextlib.suppress(OSError):
                pipe.send("stop")

    def run(self) -> Tally:
        """Do it.

        Raises:
            RuntimeError: if a worker process died.
        """
        if self._load is not None:
            return self._load.run()
        context = multiprocessing.get_context("spawn")
        for share in self.plan.shares():
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(share, self._address, theirs), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        try:
            return self._gather()
        finally:
            for process, pipe in self._workers:
                pipe.close()
                process.join(5)
                if process.is_alive():
                    process.terminate()

    def _gather(self) -> Tally:
        latest: dict[Connection, Tally] = {}
        waiting = [pipe for _, pipe in self._workers]
        for _, pipe in self._workers:  # all at once, when all are up
            try:
                pipe.recv()
            except (EOFError, OSError):
                raise RuntimeError("a worker process did not start") from None
        for _, pipe in self._workers:
            pipe.send("stop" if self._stopped else "go")
        shown = monotonic()
        while waiting:
            for ready in wait(waiting):
                pipe = next(one for one in waiting if one is ready)
                try:
                    last, tally = pipe.recv()
                except (EOFError, OSError):
                    raise RuntimeError("a worker process died") from None
                latest[pipe] = tally
                if last:
                    waiting.remove(pipe)
            if self._on_tick is not None and monotonic() - shown > 0.25:
                shown = monotonic()
                self._on_tick(_sum(latest.values()))
        return _sum(latest.values())


def _sum(tallies: Any) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _work(plan: LoadPlan, address: tuple[str, int], pipe: Connection) -> None:
    """A worker process: says "ready", waits for "go", then sends tallies, the last one marked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all: the parent alone heeds it

    def tick(load: Load) -> None:
        pipe.send((False, load.tally))
        if pipe.poll():
            with contextlib.suppress(EOFError):
                pipe.recv()
            load.stop()

    with contextlib.suppress(BrokenPipeError, EOFError):
        load = Load(plan, address, contents(plan.sizes, plan.corpus, plan.seed), tick)
        pipe.send("ready")
        if pipe.recv() == "stop":
            load.stop()
        pipe.send((True, load.run()))


def run_load(plan: LoadPlan) -> dict[str, Any]:
    """Run a load and tell the outcome as the JSON report does; see docs/bench.md for its fields.

    Raises:
        OSError, ValueError, LocalProtocolError: as :class:`LoadRun` does.

    Example::

        outcome = run_load(LoadPlan("127.0.0.1", 2525, messages=1000))
        outcome["phases"]["message"]["p99"]  # microseconds
    """
    from ehlo.bench._outcome import outcome

    return outcome(plan, LoadRun(plan).run())
