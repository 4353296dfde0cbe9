"""A finished load run as the JSON report tells it: rates, percentiles, and what makes them doubtful."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from ehlo._core import build_info
from ehlo._words import counted
from ehlo.bench._load.histogram import Counts, percentiles_of, summary
from ehlo.bench._load.phases import PHASES
from ehlo.bench._load.plan import LoadPlan
from ehlo.bench._load.tally import SERIES, Tally
from ehlo.bench._machine import SCHEMA, machine

__all__ = ["complete", "late_messages", "not_accepted", "outcome", "warnings_of"]

_LATE: Final = 10_000  # microseconds: a tool that is later than that has measured itself
_BUSY: Final = 0.9  # of a core: above it, the tool itself is what was measured


def outcome(plan: LoadPlan, tally: Tally) -> dict[str, Any]:
    """The report of one load run, ready for ``json.dumps``. Times are in microseconds unless a name says seconds.

    Example::

        outcome(plan, tally)["rate"]["messages"]  # a second
    """
    seconds = tally.seconds or 1e-9
    return {
        "tool": "ehlo bench load",
        "schema": SCHEMA,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": plan.public(),
        "seconds": round(tally.seconds, 6),
        "messages": {
            "attempted": tally.attempted,
            "accepted": tally.accepted,
            "partly": tally.partly,
            "refused": tally.refused,
            "failed": tally.failed,
            "unsent": tally.unsent,
            "warmup": tally.warmup,
        },
        "recipients": {"accepted": tally.recipients_accepted, "refused": tally.recipients_refused},
        "connections": {"made": tally.connections, "failed": tally.connections_failed},
        "octets": tally.octets,
        "rate": {"messages": round(tally.accepted / seconds, 2), "octets": round(tally.octets / seconds, 1)},
        "errors": dict(tally.errors.most_common()),
        "samples": dict(tally.samples),
        "phases": {phase: summary(tally.phases[phase]) for phase in PHASES if tally.phases.get(phase)},
        "series": [
            {"second": second} | dict(zip(SERIES, row, strict=True)) | _latency(tally.latencies.get(second))
            for second, row in sorted(tally.series.items())
        ],
        "cpu": {
            "seconds": round(tally.cpu, 6),
            "of_a_core": round(tally.cpu / seconds / max(1, min(plan.workers, plan.connections)), 4),
            "per_message": round(tally.cpu / max(1, tally.attempted) * 1e6, 3),
        },
        "interrupted": tally.interrupted,
        "gave_up": tally.gave_up,
        "complete": complete(tally),
        "warnings": warnings_of(plan, tally),
    }


def _latency(counts: Counts | None) -> dict[str, int]:
    """Percentiles of the messages that ended in one second."""
    if not counts:
        return {}
    return dict(zip(("p50", "p99", "max"), percentiles_of(counts, (50.0, 99.0, 100.0)), strict=True))


def not_accepted(report: dict[str, Any]) -> int:
    """How many messages of a report were not accepted for all of their recipients, those that were never begun among
    them.

    Example::

        not_accepted(outcome(plan, tally))
    """
    messages = report["messages"]
    return int(messages["partly"] + messages["refused"] + messages["failed"] + messages["unsent"])


def late_messages(tally: Tally) -> int:
    """How many messages the tool itself began too late, in the open loop; 0 if that is less than one in a thousand.

    Example::

        late_messages(tally)
    """
    lag = tally.phases.get("lag", {})
    late = sum(count for took, count in lag.items() if took > _LATE)
    return late if late * 1000 > sum(lag.values()) else 0


def complete(tally: Tally) -> bool:
    """Whether every message that was asked for was accepted, for every recipient.

    Example::

        sys.exit(0 if complete(tally) else 1)
    """
    bad = tally.partly + tally.refused + tally.failed + tally.unsent
    return not bad and tally.accepted > 0 and not tally.gave_up and not tally.interrupted


def warnings_of(plan: LoadPlan, tally: Tally) -> list[str]:
    """Why the figures may not be what they seem, a sentence each.

    Example::

        for warning in warnings_of(plan, tally): print(warning)
    """
    found = []
    workers = max(1, min(plan.workers, plan.connections))
    busy = tally.cpu / tally.seconds / workers if tally.seconds else 0.0
    if busy > _BUSY and tally.seconds > 0.2:
        found.append(
            f"this tool used {busy:.0%} of a core in each of its processes: it may be the bottleneck, not the server; "
            f"add --workers, or read these figures as the tool's own"
        )
    if build_info()["profile"] != "release":
        found.append("ehlo was built without optimisation: the tool is many times slower than it can be")
    if tally.unsent and plan.rate is not None and not tally.accepted:
        found.append(f"{counted(tally.unsent, 'message')} due and never begun, and none was accepted: see the errors")
    elif tally.unsent and plan.rate is not None:
        found.append(
            f"{counted(tally.unsent, 'message')} due and never begun: the server cannot bear this rate, "
            "and the latencies would be higher with all messages"
        )
    if late := late_messages(tally):
        found.append(
            f"the tool itself was more than 10 ms late for {counted(late, 'message')}; that is counted in the latency: "
            f"add --workers, or give it a core of its own"
        )
    if (
        plan.phases
        and tally.phases.get("message")
        and not any(tally.phases.get(phase) for phase in ("mail", "envelope"))
    ):
        found.append("with content sent ahead of replies, only whole messages and the end of content can be timed")
    return found
