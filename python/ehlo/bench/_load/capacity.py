"""The capacity of a server: the highest rate at which a percentile of the latency stays below a bound.

Each step is a run of the open loop at one rate. The rate doubles until a step fails; then the gap between the highest
rate that passed and the lowest that failed is halved, until it is small enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from ehlo._words import counted
from ehlo.bench._load.histogram import enough_for
from ehlo.bench._load.outcome import late_messages, outcome
from ehlo.bench._load.plan import LoadPlan
from ehlo.bench._load.run import LoadRun
from ehlo.bench._machine import SCHEMA, machine

__all__ = ["CapacityPlan", "CapacityRun"]

_SHORT: Final = 0.9  # of the rate that was asked for: a server that takes less does not bear it


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What to search for.

    Arguments:
        load: the run of each step; its ``rate``, ``messages`` and ``duration`` are not looked at.
        percentile: of the latency of a message: 50, 75, 90, 95, 99, 99.9 or 99.99. below: its bound, in microseconds.
        start: messages a second of the first step. highest: messages a second that are never exceeded.
        seconds: of the measured part of each step; a step is longer where its rate is too low for the percentile.
        within: how close the answer is to be, as a share of it.

    Example::

        CapacityPlan(LoadPlan("127.0.0.1", 2525), percentile=99, below=200_000)
    """

    load: LoadPlan
    percentile: float = 99.0
    below: float = 200_000.0
    start: float = 10.0
    highest: float = 100_000.0
    seconds: float = 5.0
    within: float = 0.05


class CapacityRun:
    """A search that can be watched and stopped.

    Arguments:
        plan: what to search for. on_step: called with each step as it is told in the report.
        begin: makes the run of a step; ``None``: a :class:`ehlo.bench.LoadRun`. A test gives its own.

    Raises:
        OSError, ValueError, LocalProtocolError: as :class:`ehlo.bench.LoadRun` does.

    Example::

        CapacityRun(plan, print).run()["rate"]  # messages a second, or None
    """

    def __init__(
        self,
        plan: CapacityPlan,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        begin: Callable[[LoadPlan], LoadRun] | None = None,
    ) -> None:
        self.plan = plan
        self._begin = begin or LoadRun
        self._on_step = on_step
        self._run: LoadRun | None = None
        self._stopped = False
        self._steps: list[dict[str, Any]] = []
        self._begin(self._load_at(plan.start))  # what is wrong with the plan is said before the first step

    def stop(self) -> None:
        """End it now; :meth:`run` returns what was found so far. For signal handlers."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()

    def run(self) -> dict[str, Any]:
        """Search, and tell the report; docs/bench.md has its fields."""
        plan = self.plan
        passed, failed = 0.0, None
        rate = min(plan.start, plan.highest)
        while not self._stopped:
            if self._step(rate):
                passed = rate
                if rate >= plan.highest:
                    break
                rate = min(rate * 2, plan.highest) if failed is None else (passed + failed) / 2
            else:
                failed = rate
                rate = (passed + failed) / 2
            if failed is not None and (failed - passed <= plan.within * failed or rate < plan.start / 64):
                break
        steps = sorted(self._steps, key=lambda step: float(step["rate"]))
        return {
            "tool": "ehlo bench capacity",
            "schema": SCHEMA,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "plan": plan.load.public() | {"rate": None, "messages": None, "duration": plan.seconds},
            "percentile": plan.percentile,
            "below": plan.below,
            "rate": passed or None,
            "reached_highest": passed >= plan.highest,
            "steps": steps,
            "interrupted": self._stopped,
            "warnings": self._warnings(),
        }

    def _load_at(self, rate: float) -> LoadPlan:
        # The percentile needs ten messages above it to be more than chance.
        seconds = self.plan.seconds
        least = 1000 / (100 - self.plan.percentile)
        return replace(self.plan.load, rate=rate, messages=None, duration=max(seconds, min(10 * seconds, least / rate)))

    def _step(self, rate: float) -> bool:
        load = self._load_at(rate)
        self._run = run = self._begin(load)
        tally = run.run()
        if self._stopped:
            return False
        report = outcome(load, tally)
        why = self._why_not(report, rate)
        message = report["phases"].get("message", {})
        step = {
            "rate": round(rate, 3),
            "reached": report["rate"]["messages"],
            "count": message.get("count", 0),
            "p50": message.get("p50"),
            "percentile": message.get(f"p{self.plan.percentile:g}"),
            "max": message.get("max"),
            "cpu_of_a_core": report["cpu"]["of_a_core"],
            "passed": not why,
            "why": why,
            "tool": late_messages(tally) > 0,
        }
        self._steps.append(step)
        if self._on_step is not None:
            self._on_step(step)
        return not why

    def _why_not(self, report: dict[str, Any], rate: float) -> str:
        """Why the server does not bear a rate; empty if it does."""
        messages = report["messages"]
        bad = messages["partly"] + messages["refused"] + messages["failed"]
        message = report["phases"].get("message")
        if message is None:
            kinds = ", ".join(list(report["errors"])[:2])
            return "no message was accepted" + (f": {kinds}" if kinds else "")
        if bad:
            return f"{bad} of {counted(messages['attempted'], 'message')} not accepted"
        if messages["unsent"]:
            return f"{counted(messages['unsent'], 'message')} due and never begun"
        if message[f"p{self.plan.percentile:g}"] > self.plan.below:
            return f"p{self.plan.percentile:g} is above the bound"
        # In a short step a queue may grow and still stay below a long bound; then the end of the run comes late.
        if report["rate"]["messages"] < _SHORT * rate:
            return f"it took {report['rate']['messages']:,.0f} messages/s, and its queue grew"
        return ""

    def _warnings(self) -> list[str]:
        found = []
        if any(step["tool"] for step in self._steps if not step["passed"]):
            found.append(
                "in a step that failed, the tool itself was late: the limit may be the tool's; "
                "add --workers, or give it a core of its own"
            )
        thin = [step for step in self._steps if step["count"] and not enough_for(self.plan.percentile, step["count"])]
        if thin:
            found.append(f"{counted(len(thin), 'step')} had too few messages for this percentile; add --seconds")
        return found
