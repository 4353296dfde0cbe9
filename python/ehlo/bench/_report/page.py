"""Reports as one HTML page, which holds all that it shows: no script, no network, no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from ehlo._words import counted
from ehlo.bench._compare.peers import bare_of, is_bare
from ehlo.bench._load.histogram import told_percentile
from ehlo.bench._load.outcome import not_accepted
from ehlo.bench._report.plots import bars, lines_by_percentile, lines_over_time, time_label
from ehlo.bench._report.settings import settings_of

__all__ = ["page"]

_SHOWN: Final = ("p50", "p90", "p99", "p99.9", "max")


def page(report: dict[str, Any]) -> str:
    """The page of a report of load, core or compare, or of several that ``ehlo bench report`` put side by side.

    Example::

        Path("report.html").write_text(page(report), encoding="utf-8")
    """
    tool = str(report.get("tool", "ehlo bench"))
    makers = {
        "ehlo bench load": _load,
        "ehlo bench capacity": _capacity,
        "ehlo bench core": _core,
        "ehlo bench compare": _compare,
        "ehlo bench report": _report,
    }
    body = makers[tool](report)
    where = report.get("machine", {})
    build = where.get("build", {})
    sub = " · ".join(
        str(part)
        for part in (
            report.get("ended"),
            build and f"ehlo {build['version']} ({build['profile']})",
            where.get("python"),
            where.get("system"),
            where.get("processor"),
            where.get("cpus") and f"{where['cpus']} CPUs",
        )
        if part
    )
    warnings = "".join(f'<p class="warn">{escape(str(warning))}</p>' for warning in report.get("warnings", ()))
    return Template(_package_file("page.html")).substitute(
        title=escape(tool), style=_package_file("page.css"), sub=escape(sub), warnings=warnings, body=body
    )


def _package_file(name: str) -> str:
    """The text of a file that lies beside this one."""
    return files("ehlo.bench._report").joinpath(name).read_text(encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _facts(pairs: list[tuple[str, str]]) -> str:
    items = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in pairs)
    return f'<div class="facts">{items}</div>'


def _size(octets: int) -> str:
    for limit, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if octets >= limit:
            return f"{octets / limit:.3g} {unit}"
    return counted(octets, "octet")


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}x"


def _phase_rows(phases: dict[str, Any]) -> list[list[str]]:
    return [
        [phase, f"{figures['count']}", *(told_percentile(figures, name, time_label) for name in _SHOWN)]
        for phase, figures in phases.items()
    ]


def _curve(figures: dict[str, Any]) -> list[tuple[float, float]]:
    """Latency by percentile, with the greatest of N values at the middle of the last Nth."""
    last = 100 - 50 / figures["count"]
    return [(min(mark, last), value) for mark, value in figures["plot"]]


def _run_facts(report: dict[str, Any]) -> str:
    """What was run: so that a page that is found in a year still says what it shows."""
    rows = [[name, value] for name, value in settings_of(report)]
    command = f"<p><code>{escape(report['command'])}</code></p>" if report.get("command") else ""
    return "<h2>What was run</h2>" + command + _table(["setting", "value"], rows)


def _whole_seconds(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The seconds of a run; the last one is cut short, and would look as if the rate had dropped."""
    series: list[dict[str, Any]] = report["series"]
    return [row for row in series if row["second"] + 1 <= report["seconds"]] or series


def _load(report: dict[str, Any]) -> str:
    messages, plan = report["messages"], report["plan"]
    loop = "closed loop" if plan["rate"] is None else f"open loop, {plan['rate']:g} messages/s"
    held = [
        f'<p class="warn">--fail-if {escape(one["condition"])}: it holds</p>'
        for one in report.get("fail_if", ())
        if one["holds"]
    ]
    facts = [
        ("messages/s", f"{report['rate']['messages']:,.0f}"),
        ("octets/s", f"{report['rate']['octets']:,.0f}"),
        ("accepted", f"{messages['accepted']:,}"),
        ("not accepted", f"{not_accepted(report):,}"),
        ("this tool, of a core", f"{report['cpu']['of_a_core']:.0%}"),
        (counted(plan["connections"], "connection"), loop),
    ]
    series = _whole_seconds(report)
    over_time: list[tuple[str, list[tuple[float, float]]]] = [
        ("accepted", [(row["second"], row["messages"]) for row in series])
    ]
    if any(row["not_accepted"] for row in series):
        over_time.append(("not accepted", [(row["second"], row["not_accepted"]) for row in series]))
    if any(row.get("offered") for row in series):
        over_time.append(("due", [(row["second"], row["offered"]) for row in series]))
    timed = [row for row in report["series"] if "p50" in row]
    latency = [(name, [(row["second"], row[name]) for row in timed]) for name in ("p50", "p99", "max")]
    shown = [(phase, _curve(figures)) for phase, figures in report["phases"].items()]
    errors = [[kind, str(count), report["samples"].get(kind, "")] for kind, count in report["errors"].items()]
    return (
        _facts(facts)
        + "".join(held)
        + "<h2>Latency by percentile</h2>"
        + lines_by_percentile("Latency by percentile", shown)
        + _table(["phase", "count", *_SHOWN], _phase_rows(report["phases"]))
        + "<h2>Latency over time</h2>"
        + lines_over_time("Latency over time", latency, "messages that ended in each second", upwards=time_label)
        + "<h2>Rate over time</h2>"
        + lines_over_time("Rate over time", over_time, "messages in each second")
        + (("<h2>Errors</h2>" + _table(["kind", "count", "the first said"], errors)) if errors else "")
        + _run_facts(report)
    )


def _capacity(report: dict[str, Any]) -> str:
    steps, percentile = report["steps"], f"p{report['percentile']:g}"
    bound = time_label(report["below"])
    answer = "none" if report["rate"] is None else f"{report['rate']:,.0f}"
    facts = [
        ("messages/s", answer + (" or more" if report["reached_highest"] else "")),
        (f"{percentile} below", bound),
        ("steps", str(len(steps))),
        ("connections", str(report["plan"]["connections"])),
    ]
    timed = [step for step in steps if step["percentile"] is not None]
    # A step that was far beyond the server's strength would press all others to the ground.
    near = [step for step in timed if step["percentile"] <= 5 * report["below"]] or timed
    curves = [
        (percentile, [(step["rate"], float(step["percentile"])) for step in near]),
        ("p50", [(step["rate"], float(step["p50"])) for step in near]),
    ]
    rows = [
        [
            f"{step['rate']:,.1f}",
            f"{step['reached']:,.1f}",
            str(step["count"]),
            *("–" if step[name] is None else time_label(step[name]) for name in ("p50", "percentile", "max")),
            f"{step['cpu_of_a_core']:.0%}",
            "yes" if step["passed"] else step["why"],
        ]
        for step in steps
    ]
    left = len(timed) - len(near)
    return (
        _facts(facts)
        + "<h2>Latency by rate</h2>"
        + lines_over_time(
            "Latency by rate",
            curves,
            "messages/s that were due"
            + (f"; without {counted(left, 'step')} above five times the bound" if left else ""),
            across=lambda value: f"{value:,.0f}",
            upwards=time_label,
            mark=(f"the bound, {bound}", report["below"]),
        )
        + "<h2>Steps</h2>"
        + _table(["due, messages/s", "accepted", "count", "p50", percentile, "max", "this tool", "passed"], rows)
        + _run_facts(report)
    )


def _core(report: dict[str, Any]) -> str:
    rows = [
        [
            result["name"],
            f"{result['gb_per_second']:.2f} GB/s" if "gb_per_second" in result else f"{result['ns']:,.0f} ns",
            "" if result["unit"] == "octet" else f"{result['per_second']:,.0f} /s",
        ]
        for result in report["results"]
    ]
    codec = [result for result in report["results"] if result["unit"] == "octet"]
    copy = next((result["ns"] for result in codec if result["name"].startswith("memcpy")), 1.0)
    shown = [(result["name"], result["ns"] / copy, f"{result['gb_per_second']:.1f} GB/s") for result in codec]
    return (
        "<h2>Codec, time beside memcpy</h2>"
        + bars("Codec, time beside memcpy", shown, "memcpy")
        + "<h2>All figures</h2>"
        + _table(["what", "time", "rate"], rows)
    )


def _compare(report: dict[str, Any]) -> str:
    parts = [_facts([(name, version) for name, version in report["versions"].items()])]
    for part, title, references in (
        ("servers", "Servers: CPU a message", ("smtp-sink", "aiosmtpd")),
        ("clients", "Clients: CPU a message", ("smtp-source", "smtplib")),
        ("queue", "Queues: CPU a message, accepted and relayed", ("postfix",)),
    ):
        cells = [cell for cell in report["cells"] if cell["part"] == part and cell["peers"]]
        if cells:
            parts.append(f"<h2>{escape(title)}</h2>")
        for cell in cells:
            peers = cell["peers"]
            one = next((name for name in references if name in peers), next(iter(peers)))
            beside = {name: cell["ratios"].get(name, {}).get(one) for name in peers} | {one: 1.0}
            also = [name for name in references if name in peers]
            bare = any(is_bare(name) for name in peers)
            adds = any("adds_us" in costs for costs in peers.values())
            label = f"{_size(cell['size'])}, {cell['mode']}"
            shown = [
                (
                    name,
                    ratio,
                    f"{time_label(peers[name]['median_cpu_us'])} · {ratio:.2f}x",
                )
                for name, ratio in sorted(
                    ((name, ratio) for name, ratio in beside.items() if ratio is not None), key=lambda pair: pair[1]
                )
            ]
            rows = [
                [
                    name,
                    f"{costs['median_cpu_us']:.1f}",
                    "" if costs["spread"] is None else f"{costs['spread']:.2f}",
                    "" if costs["median_rate"] is None else f"{costs['median_rate']:,.0f}",
                    *(_ratio(cell["ratios"].get(name, {}).get(peer)) for peer in also),
                    *([_ratio(cell["ratios"].get(name, {}).get(bare_of(name)))] * bare),
                    *([", ".join(f"{more:+.1f} on {base}" for base, more in costs.get("adds_us", {}).items())] * adds),
                ]
                for name, costs in peers.items()
            ]
            head = ["peer", "µs a message", "max/min", "messages/s", *(f"ratio to {peer}" for peer in also)]
            head += ["ratio to its bare loop"] * bare + ["adds, µs"] * adds
            parts.append(f"<h3>{escape(label)}, beside {escape(one)}</h3>" + bars(label, shown, one))
            parts.append(_table(head, rows))
    if report.get("stall"):
        stalls = report["stall"]
        least = min(max(1, figures["stall_us"]) for figures in stalls.values())
        shown = [
            (name, max(1, figures["stall_us"]) / least, time_label(figures["stall_us"]))
            for name, figures in stalls.items()
        ]
        parts.append(
            "<h2>Longest stall of the loop, ten 20 MB messages at once</h2>" + bars("Longest stall", shown, "the best")
        )
        rows = [
            [name, time_label(figures["stall_us"]), f"{figures['peak_kib'] / 1024:.0f} MiB"]
            for name, figures in stalls.items()
        ]
        parts.append(_table(["server", "longest stall", "peak memory"], rows))
    if report.get("idle"):
        memory = report["idle"]
        least = min(max(1.0, octets) for octets in memory.values())
        shown = [(name, max(1.0, octets) / least, f"{octets / 1024:.2f} KiB") for name, octets in memory.items()]
        parts.append("<h2>Memory of an idle connection</h2>" + bars("Memory of an idle connection", shown, "the best"))
    if report.get("missing"):
        parts.append(f'<p class="sub">not installed, and left out: {escape(", ".join(report["missing"]))}</p>')
    return "".join(parts)


def _report(report: dict[str, Any]) -> str:
    """Several runs side by side."""
    parts = []
    loads = [(name, run) for name, run in report["runs"] if run["tool"] == "ehlo bench load"]
    if loads:
        shown = [(name, _curve(run["phases"]["message"])) for name, run in loads if "message" in run["phases"]]
        rate: list[tuple[str, list[tuple[float, float]]]] = [
            (name, [(row["second"], row["messages"]) for row in _whole_seconds(run)]) for name, run in loads
        ]
        parts.append(
            "<h2>Latency of a message by percentile</h2>" + lines_by_percentile("Latency by percentile", shown)
        )
        parts.append("<h2>Rate over time</h2>" + lines_over_time("Rate over time", rate, "messages in each second"))
    names = [name for name, _ in report["runs"]]
    if report["differs"]:
        rows = [[row["what"], *row["values"]] for row in report["differs"]]
        parts.append("<h2>What was set differently</h2>" + _table(["setting", *names], rows))
    elif len(names) > 1:
        parts.append('<p class="sub">These runs had the same settings, on the same machine and build.</p>')
    rows = [[row["what"], *row["values"], row["change"]] for row in report["rows"]]
    parts.append("<h2>Figures</h2>" + _table(["figure", *names, "last to first"], rows))
    return "".join(parts)
