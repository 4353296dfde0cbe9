"""A load run on one process or on several: starts them, watches them, adds up what they counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ehlo.bench._contents import contents
from ehlo.bench._load.load import Load
from ehlo.bench._load.outcome import outcome
from ehlo.bench._load.plan import LoadPlan, resolve
from ehlo.bench._load.tally import Tally
from ehlo.bench._workers import Workers, alone_heeds_interrupts, report_to

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

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
        self._workers: Workers[Tally] | None = None
        if min(plan.workers, plan.connections) == 1:
            found = contents(plan.sizes, plan.corpus, plan.seed)
            self._load = Load(plan, self._address, found, self._count)
        else:
            Load(plan, self._address, [b""]).poller.close()  # what is wrong with it is said here, not in the workers

    def _count(self, load: Load) -> None:
        if self._on_tick is not None:
            self._on_tick(load.tally)

    def stop(self) -> None:
        """End it now; :meth:`run` returns what was counted. For signal handlers."""
        self._stopped = True
        if self._load is not None:
            self._load.stop()
        if self._workers is not None:
            self._workers.tell("stop")

    def run(self) -> Tally:
        """Do it.

        Raises:
            RuntimeError: if a worker process died.
        """
        if self._load is not None:
            return self._load.run()
        shares = ((share, self._address) for share in self.plan.shares())
        self._workers = workers = Workers(Tally, _work, shares)
        try:
            workers.wait_until_ready()
            workers.tell("stop" if self._stopped else "go")  # all at once
            return workers.gather(self._on_tick)
        finally:
            workers.close()


def _work(plan: LoadPlan, address: tuple[str, int], pipe: Connection) -> None:
    """A worker process: says "ready", waits for "go", then sends tallies, the last one marked."""
    alone_heeds_interrupts()

    def tick(load: Load) -> None:
        # Latencies by second are for the end: in a long run they would be most of what is sent four times a second.
        report_to(pipe, replace(load.tally, latencies={}), load.stop)

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
    return outcome(plan, LoadRun(plan).run())
