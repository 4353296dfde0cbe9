"""Reports read back from their files, and put side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ehlo.bench._load.outcome import not_accepted
from ehlo.bench._machine import SCHEMA
from ehlo.bench._report.plots import time_label
from ehlo.bench._report.settings import differences

__all__ = ["read_report", "side_by_side"]


def read_report(path: str) -> dict[str, Any]:
    """A report that ``--json`` wrote.

    Raises:
        OSError: if it cannot be read. ValueError: if it is no report, or one of a newer version.

    Example::

        read_report("before.json")["rate"]
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{path} is no JSON") from None
    if not isinstance(report, dict) or not str(report.get("tool", "")).startswith("ehlo bench "):
        raise ValueError(f"{path} is no report of ehlo bench")
    if report.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {report.get('schema')!r}; this program reads {SCHEMA}")
    return report


def _figures(report: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """What can be compared: name -> (value, how it reads)."""
    tool = report["tool"]
    found: dict[str, tuple[float, str]] = {}
    if tool == "ehlo bench load":
        found["messages/s"] = (report["rate"]["messages"], f"{report['rate']['messages']:,.1f}")
        bad = not_accepted(report)
        found["not accepted"] = (bad, str(bad))
        for phase, figures in report["phases"].items():
            for name in ("p50", "p99", "max"):
                found[f"{phase} {name}"] = (figures[name], time_label(figures[name]))
        cost = report["cpu"]["per_message"]
        found["CPU of the tool a message"] = (cost, time_label(cost))
    elif tool == "ehlo bench capacity":
        rate = report["rate"]
        found["capacity, messages/s"] = (rate or 0.0, "none" if rate is None else f"{rate:,.0f}")
    elif tool == "ehlo bench core":
        for result in report["results"]:
            text = f"{result['gb_per_second']:.2f} GB/s" if "gb_per_second" in result else f"{result['ns']:,.0f} ns"
            found[result["name"]] = (result["ns"], text)
    elif tool == "ehlo bench sink":
        found["messages"] = (report["messages"], str(report["messages"]))
        found["octets"] = (report["octets"], str(report["octets"]))
        found |= {f"refused with {code}": (count, str(count)) for code, count in report["refused"].items()}
    elif tool == "ehlo bench compare":
        for cell in report["cells"]:
            for name, costs in cell["peers"].items():
                what = f"{cell['part'][:-1]} {name}, {cell['size']} octets, {cell['mode']}"
                found[what] = (costs["median_cpu_us"], time_label(costs["median_cpu_us"]))
    return found


def side_by_side(named: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Several reports of one tool as one.

    Raises:
        ValueError: if they are of different tools.

    Example::

        side_by_side([("before", read_report("a.json")), ("after", read_report("b.json"))])["rows"]
    """
    tools = {report["tool"] for _, report in named}
    if len(tools) != 1:
        raise ValueError(f"these are reports of different tools: {', '.join(sorted(tools))}")
    all_figures = [_figures(report) for _, report in named]
    names = list(dict.fromkeys(name for figures in all_figures for name in figures))
    rows = []
    for name in names:
        first, last = all_figures[0].get(name), all_figures[-1].get(name)
        change = f"{last[0] / first[0]:.3f}x" if first is not None and last is not None and first[0] else ""
        rows.append(
            {
                "what": name,
                "values": [figures[name][1] if name in figures else "" for figures in all_figures],
                "change": change if len(named) > 1 else "",
            }
        )
    warnings = []
    machines = {json.dumps(report.get("machine"), sort_keys=True) for _, report in named}
    if len(machines) > 1:
        warnings.append("these runs are of different machines, builds or interpreters: their ratios say little")
    for name, report in named:
        warnings += [f"{name}: {warning}" for warning in report.get("warnings", ())]
    return {
        "tool": "ehlo bench report",
        "schema": SCHEMA,
        "machine": named[-1][1].get("machine", {}),
        "runs": named,
        "rows": rows,
        "differs": differences(named),
        "warnings": warnings,
    }
