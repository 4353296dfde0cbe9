"""Reports as one HTML page, which holds all that it shows: no script, no network, no file beside it."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from ehlo.bench._plots import bars, lines_by_percentile, lines_over_time, time_label

__all__ = ["page"]

_STYLE: Final = """
:root{color-scheme:light dark;--fg:#1d2330;--dim:#667085;--bg:#fff;--grid:#e4e7ec;--card:#f7f8fa}
@media (prefers-color-scheme:dark){:root{--fg:#e6e9ef;--dim:#98a2b3;--bg:#14171d;--grid:#2b313c;--card:#1b2028}}
*{box-sizing:border-box}body{margin:0 auto;max-width:860px;padding:24px;color:var(--fg);background:var(--bg);
font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}
h3{font-size:15px;margin:20px 0 4px}p.sub{color:var(--dim);margin:0 0 16px}
.plot{width:100%;height:auto;display:block}.plot text{font-size:12px;fill:var(--dim)}
.plot .grid{stroke:var(--grid)}.plot .one{stroke:var(--fg);stroke-dasharray:3 3}.plot .line{fill:none;stroke-width:2}
.c0{stroke:#2563eb;fill:#2563eb;background:#2563eb}.c1{stroke:#d97706;fill:#d97706;background:#d97706}
.c2{stroke:#059669;fill:#059669;background:#059669}.c3{stroke:#dc2626;fill:#dc2626;background:#dc2626}
.c4{stroke:#7c3aed;fill:#7c3aed;background:#7c3aed}.c5{stroke:#0891b2;fill:#0891b2;background:#0891b2}
.c6{stroke:#be185d;fill:#be185d;background:#be185d}.c7{stroke:#4d7c0f;fill:#4d7c0f;background:#4d7c0f}
.c8{stroke:#92400e;fill:#92400e;background:#92400e}.c9{stroke:#475569;fill:#475569;background:#475569}
.c10{stroke:#db2777;fill:#db2777;background:#db2777}.c11{stroke:#98a2b3;fill:#98a2b3;background:#98a2b3}
.plot .bar{stroke:none}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0 0;
padding:0 0 0 70px;font-size:13px;color:var(--dim)}
.key{display:inline-block;width:12px;height:3px;margin:0 6px 3px 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:8px 0;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--grid)}
th:first-child,td:first-child{text-align:left}
th{color:var(--dim);font-weight:600}
.warn{background:var(--card);border-left:3px solid #d97706;padding:8px 12px;margin:8px 0}
.facts{display:flex;flex-wrap:wrap;gap:8px}.facts div{background:var(--card);border-radius:6px;padding:8px 14px}
.facts b{display:block;font-size:20px}.facts span{color:var(--dim);font-size:12px}
"""


def page(report: dict[str, Any]) -> str:
    """The page of a report of load, core or compare, or of several that ``ehlo bench report`` put side by side.

    Example::

        Path("report.html").write_text(page(report), encoding="utf-8")
    """
    tool = str(report.get("tool", "ehlo bench"))
    makers = {
        "ehlo bench load": _load,
        "ehlo bench core": _core,
        "ehlo bench compare": _compare,
        "ehlo bench report": _report,
    }
    body = makers[tool](report)
    told = report.get("machine", {})
    build = told.get("build", {})
    sub = " · ".join(
        str(part)
        for part in (
            report.get("ended"),
            build and f"ehlo {build['version']} ({build['profile']})",
            told.get("python"),
            told.get("system"),
            told.get("processor"),
            told.get("cpus") and f"{told['cpus']} CPUs",
        )
        if part
    )
    warnings = "".join(f'<p class="warn">{escape(str(warning))}</p>' for warning in report.get("warnings", ()))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<link rel="icon" href="data:,"/>'
        f"<title>{escape(tool)}</title><style>{_STYLE}</style></head>\n<body><h1>{escape(tool)}</h1>"
        f'<p class="sub">{escape(sub)}</p>{warnings}{body}</body></html>\n'
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
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
    return f"{octets} octets"


def _phase_rows(phases: dict[str, Any]) -> list[list[str]]:
    names = ("p50", "p90", "p99", "p99.9", "max")
    return [[phase, f"{told['count']}", *(time_label(told[name]) for name in names)] for phase, told in phases.items()]


def _whole_seconds(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The seconds of a run; the last one is cut short, and would look as if the rate had dropped."""
    series: list[dict[str, Any]] = report["series"]
    return [row for row in series if row["second"] + 1 <= report["seconds"]] or series


def _load(report: dict[str, Any]) -> str:
    counted, plan = report["messages"], report["plan"]
    loop = "closed loop" if plan["rate"] is None else f"open loop, {plan['rate']:g} messages/s"
    facts = [
        ("messages/s", f"{report['rate']['messages']:,.0f}"),
        ("octets/s", f"{report['rate']['octets']:,.0f}"),
        ("accepted", f"{counted['accepted']:,}"),
        ("not accepted", f"{counted['partly'] + counted['refused'] + counted['failed'] + counted['unsent']:,}"),
        ("this tool, of a core", f"{report['cpu']['of_a_core']:.0%}"),
        (f"{plan['connections']} connections", loop),
    ]
    series = _whole_seconds(report)
    over_time: list[tuple[str, list[tuple[float, float]]]] = [
        ("accepted", [(row["second"], row["messages"]) for row in series])
    ]
    if any(row["not_accepted"] for row in series):
        over_time.append(("not accepted", [(row["second"], row["not_accepted"]) for row in series]))
    shown = [(phase, [(mark, value) for mark, value in told["plot"]]) for phase, told in report["phases"].items()]
    errors = [[kind, str(count), report["samples"].get(kind, "")] for kind, count in report["errors"].items()]
    return (
        _facts(facts)
        + "<h2>Latency by percentile</h2>"
        + lines_by_percentile("Latency by percentile", shown)
        + _table(["phase", "count", "p50", "p90", "p99", "p99.9", "max"], _phase_rows(report["phases"]))
        + "<h2>Rate over time</h2>"
        + lines_over_time("Rate over time", over_time, "messages in each second")
        + (("<h2>Errors</h2>" + _table(["kind", "count", "the first said"], errors)) if errors else "")
    )


def _core(report: dict[str, Any]) -> str:
    rows = [
        [
            told["name"],
            f"{told['gb_per_second']:.2f} GB/s" if "gb_per_second" in told else f"{told['ns']:,.0f} ns",
            "" if told["unit"] == "octet" else f"{told['per_second']:,.0f} /s",
        ]
        for told in report["results"]
    ]
    codec = [told for told in report["results"] if told["unit"] == "octet"]
    copy = next((told["ns"] for told in codec if told["name"].startswith("memcpy")), 1.0)
    shown = [(told["name"], told["ns"] / copy, f"{told['gb_per_second']:.1f} GB/s") for told in codec]
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
    ):
        cells = [cell for cell in report["cells"] if cell["part"] == part and cell["peers"]]
        if cells:
            parts.append(f"<h2>{escape(title)}</h2>")
        for cell in cells:
            peers = cell["peers"]
            one = next((name for name in references if name in peers), next(iter(peers)))
            base = peers[one]["median_cpu_us"] or 1.0
            label = f"{_size(cell['size'])}, {cell['mode']}"
            shown = [
                (
                    name,
                    told["median_cpu_us"] / base,
                    f"{time_label(told['median_cpu_us'])} · {told['median_cpu_us'] / base:.2f}x",
                )
                for name, told in sorted(peers.items(), key=lambda item: item[1]["median_cpu_us"])
            ]
            rows = [
                [
                    name,
                    f"{told['median_cpu_us']:.1f}",
                    "" if told["spread"] is None else f"{told['spread']:.2f}",
                    "" if told["median_rate"] is None else f"{told['median_rate']:,.0f}",
                    *(
                        f"{ratio:.3f}x {peer}"
                        for peer, ratio in cell["ratios"].get(name, {}).items()
                        if peer in references
                    ),
                    *(f"{more:+.1f} µs on {base}" for base, more in told.get("adds_us", {}).items()),
                ]
                for name, told in peers.items()
            ]
            width = max(len(row) for row in rows)
            head = ["peer", "µs a message", "max/min", "messages/s", *["beside"] * (width - 4)]
            parts.append(f"<h3>{escape(label)}, beside {escape(one)}</h3>" + bars(label, shown, one))
            parts.append(_table(head, [row + [""] * (width - len(row)) for row in rows]))
    if report.get("stall"):
        told = report["stall"]
        least = min(max(1, figures["stall_us"]) for figures in told.values())
        shown = [
            (name, max(1, figures["stall_us"]) / least, time_label(figures["stall_us"]))
            for name, figures in told.items()
        ]
        parts.append(
            "<h2>Longest stall of the loop, ten 20 MB messages at once</h2>" + bars("Longest stall", shown, "the best")
        )
        rows = [
            [name, time_label(figures["stall_us"]), f"{figures['peak_kib'] / 1024:.0f} MiB"]
            for name, figures in told.items()
        ]
        parts.append(_table(["server", "longest stall", "peak memory"], rows))
    if report.get("idle"):
        told = report["idle"]
        least = min(max(1.0, octets) for octets in told.values())
        shown = [(name, max(1.0, octets) / least, f"{octets / 1024:.2f} KiB") for name, octets in told.items()]
        parts.append("<h2>Memory of an idle connection</h2>" + bars("Memory of an idle connection", shown, "the best"))
    if report.get("missing"):
        parts.append(f'<p class="sub">not installed, and left out: {escape(", ".join(report["missing"]))}</p>')
    return "".join(parts)


def _report(report: dict[str, Any]) -> str:
    """Several runs side by side."""
    parts = []
    loads = [(name, told) for name, told in report["runs"] if told["tool"] == "ehlo bench load"]
    if loads:
        shown = [
            (name, [(mark, value) for mark, value in told["phases"]["message"]["plot"]])
            for name, told in loads
            if "message" in told["phases"]
        ]
        rate: list[tuple[str, list[tuple[float, float]]]] = [
            (name, [(row["second"], row["messages"]) for row in _whole_seconds(told)]) for name, told in loads
        ]
        parts.append(
            "<h2>Latency of a message by percentile</h2>" + lines_by_percentile("Latency by percentile", shown)
        )
        parts.append("<h2>Rate over time</h2>" + lines_over_time("Rate over time", rate, "messages in each second"))
    rows = [[row["what"], *row["values"], row["change"]] for row in report["rows"]]
    parts.append("<h2>Figures</h2>" + _table(["what", *(name for name, _ in report["runs"]), "last to first"], rows))
    return "".join(parts)
