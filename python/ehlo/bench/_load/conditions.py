"""Conditions on the outcome of a load run, as ``p99 > 200ms``: a run in CI fails when one of them is true."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ehlo.bench._load.outcome import not_accepted
from ehlo.bench._load.phases import PHASES

__all__ = ["MICROSECONDS", "Condition", "parse_condition"]

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_TIMES: Final = ("min", "mean", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max")
_COUNTS: Final = ("rate", "accepted", "not-accepted", "errors", "cpu")
MICROSECONDS: Final = {"us": 1.0, "ms": 1e3, "s": 1e6}
"""The units that a time may have."""
_WORDS: Final = re.compile(
    r"\s*(?:(?P<phase>[a-z]+)\.)?(?P<figure>[a-z][a-z0-9.-]*)\s*(?P<operator>>=|<=|>|<)"
    r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>us|ms|s|%)?\s*"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    Arguments:
        text: as it was written. phase: of which, for a time; ``""`` for the others.
        figure: what is looked at. compare: how. bound: microseconds for a time; a share for ``%``.
        share: whether ``not-accepted`` or ``cpu`` is a share of 1.

    Example::

        parse_condition("p99 > 200ms").holds(run_load(plan))
    """

    text: str
    phase: str
    figure: str
    compare: Callable[[float, float], bool]
    bound: float
    share: bool

    def holds(self, report: dict[str, Any]) -> bool:
        """Whether it is true of a report of :func:`ehlo.bench.run_load`.

        A time that was never measured is not below a bound, and not above one. So a run in which no message was
        accepted fails by ``rate < 1`` or by its own exit status, and not by a percentile.

        Example::

            parse_condition("rate < 100").holds(report)
        """
        found = self.value(report)
        return found is not None and self.compare(found, self.bound)

    def value(self, report: dict[str, Any]) -> float | None:
        """The figure in a report; ``None`` if it was not measured.

        Example::

            parse_condition("p99 > 200ms").value(report)  # microseconds
        """
        if self.phase:
            figures = report["phases"].get(self.phase)
            return None if figures is None else float(figures[self.figure])
        accepted, bad = report["messages"]["accepted"], not_accepted(report)
        values = {
            "rate": report["rate"]["messages"],
            "accepted": accepted,
            "not-accepted": bad / max(1, accepted + bad) if self.share else bad,
            "errors": sum(report["errors"].values()),
            "cpu": report["cpu"]["of_a_core"],
        }
        return float(values[self.figure])


def parse_condition(text: str) -> Condition:
    """Read ``FIGURE OPERATOR NUMBER[UNIT]``.

    Arguments:
        text: FIGURE is a percentile of messages (``p50``, ``p99.9``, ``max``, ``mean``), the same of a phase
            (``rcpt.p99``), ``rate`` (messages a second), ``accepted``, ``not-accepted``, ``errors`` or ``cpu`` (of a
            core). OPERATOR is one of ``> >= < <=``. A time has the unit ``us``, ``ms`` or ``s``; ``not-accepted`` and
            ``cpu`` may have ``%``.

    Raises:
        ValueError: it is no condition; the text says why.

    Example::

        parse_condition("not-accepted > 0.1%").bound  # 0.001
    """
    found = _WORDS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no condition; write it as 'p99 > 200ms' or 'rate < 500'")
    figure, unit, phase = found["figure"], found["unit"], found["phase"] or ""
    number = float(found["number"])
    if figure in _TIMES:
        phase = phase or "message"
        if phase not in PHASES:
            raise ValueError(f"{text!r}: {phase!r} is no phase; the phases are {', '.join(PHASES)}")
        if unit not in MICROSECONDS:
            raise ValueError(f"{text!r}: a time needs one of the units us, ms and s")
        return Condition(text, phase, figure, _OPERATORS[found["operator"]], number * MICROSECONDS[unit], False)
    if figure not in _COUNTS or phase:
        raise ValueError(f"{text!r}: {figure!r} is no figure; the figures are {', '.join(_TIMES + _COUNTS)}")
    if unit not in (None, "%") or (unit == "%" and figure not in ("not-accepted", "cpu")):
        raise ValueError(f"{text!r}: {figure} has no unit {unit}")
    share = unit == "%"
    return Condition(text, "", figure, _OPERATORS[found["operator"]], number / 100 if share else number, share)
