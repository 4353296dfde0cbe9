"""Latencies: counted cheaply while a run goes on, and put into an HDR histogram when somebody looks."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, Final

__all__ = [
    "PERCENTILES",
    "Counts",
    "MissingExtraError",
    "coarse",
    "enough_for",
    "histogram",
    "merge",
    "percentiles_of",
    "quantise",
    "since",
    "summary",
    "told_percentile",
]

PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_HIGHEST: Final = 24 * 3600 * 1_000_000  # microseconds
_DIGITS: Final = 3
_EXACT: Final = 2048  # below it, microseconds are kept as they are; above, to one part in 1024

# Microseconds and how often. A dict costs a run 60 ns a value, a histogram in Python fifty times as much.
Counts = dict[int, int]


class MissingExtraError(ImportError):
    """Something is not installed. The text is one line that says what to install."""


def quantise(microseconds: int) -> int:
    """A value to the precision that is kept: an HDR histogram's of three digits.

    Example::

        quantise(1_234_567)  # 1234176
    """
    if microseconds < _EXACT:
        return microseconds
    shift = microseconds.bit_length() - 11
    return microseconds >> shift << shift


def histogram(counts: Counts) -> Any:
    """An ``hdrh.histogram.HdrHistogram`` of these, in microseconds.

    Raises:
        MissingExtraError: if ``hdrhistogram`` is not installed.

    Example::

        histogram({100: 2}).get_value_at_percentile(50)  # 100
    """
    try:
        module = importlib.import_module("hdrh.histogram")
    except ImportError:
        raise MissingExtraError("hdrhistogram is not installed; pip install 'ehlo[bench]'") from None
    made = module.HdrHistogram(1, _HIGHEST, _DIGITS)
    for value, count in counts.items():
        made.record_value(min(max(value, 1), _HIGHEST), count)
    return made


def merge(all_counts: list[Counts]) -> Counts:
    """One for many.

    Example::

        merge([{1: 2}, {1: 3}])  # {1: 5}
    """
    whole: Counts = {}
    for counts in all_counts:
        for value, count in counts.items():
            whole[value] = whole.get(value, 0) + count
    return whole


def coarse(counts: Counts) -> Counts:
    """The same with one part in 16 for precision: some hundred values at most, so that each second can keep its own.

    Example::

        coarse({1000: 1, 1001: 2})  # {992: 3}
    """
    rough: Counts = {}
    for value, count in counts.items():
        shift = max(0, value.bit_length() - 5)
        rough[value >> shift << shift] = rough.get(value >> shift << shift, 0) + count
    return rough


def since(before: Counts, now: Counts) -> Counts:
    """What was counted between two looks.

    Example::

        since({1: 2}, {1: 5, 3: 1})  # {1: 3, 3: 1}
    """
    return {value: count - before.get(value, 0) for value, count in now.items() if count > before.get(value, 0)}


def percentiles_of(counts: Counts, percentiles: tuple[float, ...] = (50.0, 99.0)) -> list[int]:
    """Percentiles without a histogram, for a look while the run goes on: microseconds, 0 where nothing was counted.

    Example::

        percentiles_of({100: 1, 200: 1}, (50.0, 100.0))  # [100, 200]
    """
    total = sum(counts.values())
    found: list[int] = []
    seen = 0
    values = iter(sorted(counts.items()))
    value = 0
    for percentile in percentiles:
        while total and (seen < total * percentile / 100 or not seen):
            value, count = next(values)
            seen += count
        found.append(value)
    return found


def enough_for(percentile: float, count: int) -> bool:
    """Whether so many values say anything about a percentile: one at least lies above it.

    Example::

        enough_for(99.0, 50)  # False: the 99th percentile of 50 values is their greatest
    """
    return count * (100 - percentile) >= 100 - 1e-9


def told_percentile(figures: dict[str, Any], name: str, told: Callable[[float], str]) -> str:
    """A percentile of a :func:`summary` as it is shown: a dash where there are too few values for it.

    Arguments:
        figures: the summary. name: "p99" or "max". told: how a time reads.

    Example::

        told_percentile(summary({100: 5}), "p99", str)  # "–"
    """
    enough = name == "max" or enough_for(float(name[1:]), figures["count"])
    return told(figures[name]) if enough else "–"


def summary(counts: Counts) -> dict[str, Any]:
    """What a report holds of one phase, in microseconds. ``plot`` is [percentile, microseconds], denser to the end.
    ``hdr`` is the whole histogram in its usual encoding (base64), None without ``hdrhistogram``.

    Example::

        summary({100: 2})["p50"]  # 100
    """
    total = sum(counts.values())
    mean = sum(value * count for value, count in counts.items()) / total
    spread = sum((value - mean) ** 2 * count for value, count in counts.items()) / total
    # Four points for each halving of what is left, as far as there are values to show: as is usual.
    marks = [100 * (1 - 0.5 ** (step / 4)) for step in range(100)]
    worth = (*(round(mark, 6) for mark in marks if enough_for(mark, total)), 100.0)
    try:
        hdr = histogram(counts).encode().decode("ascii")
    except MissingExtraError:
        hdr = None
    return {
        "count": total,
        "min": min(counts),
        "mean": round(mean, 1),
        "stddev": round(math.sqrt(spread), 1),
        **{f"p{mark:g}": value for mark, value in zip(PERCENTILES, percentiles_of(counts, PERCENTILES), strict=True)},
        "max": max(counts),
        "plot": [[mark, value] for mark, value in zip(worth, percentiles_of(counts, worth), strict=True)],
        "hdr": hdr,
    }
