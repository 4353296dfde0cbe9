"""What ``ehlo bench`` prints: a view of a run while it goes on, and its outcome as lines."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ehlo._words import counted
from ehlo.cli._receive import printable, printable_line

if TYPE_CHECKING:
    from ehlo.bench import CapacityPlan, LoadPlan, SinkCounts, Tally

__all__ = [
    "SinkView",
    "View",
    "build_lines",
    "capacity_head",
    "capacity_lines",
    "capacity_step",
    "compare_lines",
    "core_line",
    "load_lines",
    "octets",
    "report_lines",
    "say",
    "sink_lines",
    "time",
    "view_of",
]


def say(lines: Iterable[str]) -> None:
    """Lines on standard output; one that nobody reads is no reason to fail."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def time(microseconds: float) -> str:
    """A time with three digits and its unit.

    Example::

        time(12345)  # "12.3 ms"
    """
    if microseconds < 1000:
        return f"{microseconds:.0f} us"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.3g} ms" if microseconds < 999_500 else "1 s"
    return f"{microseconds / 1_000_000:.4g} s"


def octets(count: float) -> str:
    """Octets with a decimal unit.

    Example::

        octets(2_500_000)  # "2.5 MB"
    """
    units = ["B", "kB", "MB", "GB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}" if count < 1000 else f"{count:.0f} {units[0]}"


def plan_line(plan: LoadPlan) -> str:
    """One line that says what a run does."""
    much = " and ".join(
        ([counted(plan.messages, "message")] if plan.messages else [])
        + ([f"{plan.duration:g} s"] if plan.duration else [])
    )
    loop = "closed loop" if plan.rate is None else f"open loop of {plan.rate:g} messages/s ({plan.arrivals})"
    what = f"from {printable(plan.corpus)}" if plan.corpus else f"of {plan.sizes} octets"
    how = ["LMTP" if plan.lmtp else "SMTP", "pipelined" if plan.pipelining else "lock-step"]
    how += ["BDAT"] if plan.chunking else []
    how += [] if plan.tls == "off" else ["STARTTLS" if plan.tls == "starttls" else "TLS"]
    how += [f"{plan.depth} under way"] if plan.depth > 1 else []
    how += [f"{plan.recipients} recipients"] if plan.recipients > 1 else []
    how += [f"{plan.workers} workers"] if plan.workers > 1 else []
    where = f"{plan.host}:{plan.port}, {counted(plan.connections, 'connection')}"
    return f"ehlo bench load: {where}, {loop}, {much} {what}, {', '.join(how)}"


class View(Protocol):
    """Something that shows a run while it goes on."""

    def tick(self, tally: Tally) -> None:
        """What was counted so far."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Plain:
    """A line a second."""

    def __init__(self, plan: LoadPlan, quiet: bool) -> None:
        self._plan = plan
        self._quiet = quiet
        self._shown = 0

    def __enter__(self) -> Self:
        if not self._quiet:
            say([plan_line(self._plan)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tick(self, tally: Tally) -> None:
        if self._quiet:
            return
        while self._shown + 1 <= tally.seconds:
            row = tally.series.get(self._shown) or [0, 0, 0]
            self._shown += 1
            median, late = _percentiles_of(tally.phases.get("message", {}))
            say(
                [
                    f"{self._shown:5} s {row[0]:9} messages/s {octets(row[1]):>9}/s   p50 {time(median):>8}   "
                    f"p99 {time(late):>8}   {row[2]} not accepted"
                ]
            )


class _Rich:
    """A table that changes, on a terminal."""

    def __init__(self, plan: LoadPlan, rich: Any) -> None:
        self._plan = plan
        self._live = rich.Live(refresh_per_second=4, transient=True)
        self._table = importlib.import_module("rich.table").Table
        self._bar = importlib.import_module("rich.progress_bar").ProgressBar
        self._escape = importlib.import_module("rich.markup").escape

    def __enter__(self) -> Self:
        say([plan_line(self._plan)])
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tick(self, tally: Tally) -> None:
        plan = self._plan
        done = 0.0
        if plan.messages:
            done = tally.attempted / plan.messages
        if plan.duration:
            done = max(done, tally.seconds / plan.duration)
        table = self._table.grid(padding=(0, 2))
        table.add_row("done", self._bar(total=1.0, completed=min(done, 1.0), width=40), f"{min(done, 1.0):.0%}")
        last = [tally.series[second] for second in sorted(tally.series)[-2:]]
        row = last[0] if last else [0, 0, 0]
        table.add_row("rate", f"{row[0]} messages/s", f"{octets(row[1])}/s")
        table.add_row("accepted", str(tally.accepted))
        table.add_row("not accepted", str(tally.refused + tally.partly + tally.failed))
        for phase, counts in tally.phases.items():
            median, late = _percentiles_of(counts)
            table.add_row(phase, f"p50 {time(median)}", f"p99 {time(late)}")
        for kind, count in tally.errors.most_common(5):
            table.add_row("[red]error[/red]", self._escape(kind), str(count))
        if tally.seconds > 1:
            busy = tally.cpu / tally.seconds / max(1, min(plan.workers, plan.connections))
            table.add_row("this tool", f"{busy:.0%} of a core", "the bottleneck" if busy > 0.9 else "")
        self._live.update(table)


def _percentiles_of(counts: dict[int, int]) -> list[int]:
    from ehlo.bench._load.histogram import percentiles_of

    return percentiles_of(counts)


def view_of(plan: LoadPlan, *, plain: bool, quiet: bool) -> View:
    """The best view there can be: rich's on a terminal, lines elsewhere, nothing where standard output is a report."""
    if not plain and not quiet and sys.stdout.isatty():
        try:
            return _Rich(plan, importlib.import_module("rich.live"))
        except ImportError:
            pass  # lines are as true
    return _Plain(plan, quiet)


class SinkView:
    """A line for each second in which something came."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = 0

    def tick(self, counts: SinkCounts) -> None:
        """What was counted so far."""
        while not self._quiet and self._shown + 1 <= counts.seconds:
            row = counts.series.get(self._shown, [0, 0, 0, 0])
            self._shown += 1
            if any(row):
                say(
                    [
                        f"{self._shown:5} s {row[0]:9} messages/s {octets(row[1]):>9}/s   "
                        f"{counted(row[2], 'new connection')}, {counts.open} open   {counted(row[3], 'fault')}"
                    ]
                )


def sink_lines(report: dict[str, Any]) -> list[str]:
    """What a sink received."""
    lines = [
        f"ehlo bench sink: received {counted(report['messages'], 'message')}, {counted(report['octets'], 'octet')}, "
        f"{counted(report['connections'], 'connection')} in {report['seconds']:.1f} s; "
        f"{report['cpu']['seconds']:.2f} s of CPU"
    ]
    lines += [f"  {count:9}  refused with {code}" for code, count in report["refused"].items()]
    return lines + [f"  {count:9}  {fault}" for fault, count in report["faults"].items()]


def core_line(result: dict[str, Any]) -> str:
    """One figure of ``ehlo bench core``."""
    if "gb_per_second" in result:
        return f"  {result['name']:45} {result['gb_per_second']:10.2f} GB/s"
    return f"  {result['name']:45} {result['ns']:10.0f} ns a {result['unit']:8} {result['per_second']:12,.0f} /s"


def build_lines() -> list[str]:
    """What is measured, and on what."""
    from ehlo.bench._machine import machine

    here = machine()
    build = here["build"]
    return [
        f"ehlo {build['version']}, {build['profile']} build (opt-level {build['opt_level']}) for {build['target']}",
        f"{here['python']}, {here['system']}, {here['processor']}, {here['cpus']} CPUs",
        "",
    ]


def compare_lines(report: dict[str, Any]) -> list[str]:
    """The tables of a comparison."""
    from ehlo.bench._compare.peers import bare_of, is_bare

    lines = []
    for cell in report["cells"]:
        connections = counted(cell["connections"], "connection")
        lines += ["", f"{cell['part']}, {counted(cell['size'], 'octet')}, {cell['mode']}, {connections}"]
        for name, costs in cell["peers"].items():
            spread = "" if costs["spread"] is None else f"max/min {costs['spread']:.2f}"
            rate = "" if costs["median_rate"] is None else f"{costs['median_rate']:10,.0f} messages/s"
            ratios = cell["ratios"].get(name, {})
            if not name.startswith("ehlo"):
                ratios = {}
            beside = "  ".join(
                f"{ratio:.3f}x {peer}"
                for peer, ratio in ratios.items()
                if (peer == bare_of(name) if is_bare(peer) else not peer.endswith("-uvloop"))
            )
            beside += "".join(f"  {more:+.1f} us on {base}" for base, more in costs.get("adds_us", {}).items())
            if name in cell.get("rate_ratios", {}):
                beside += f"  {cell['rate_ratios'][name]:.2f}x the rate of postfix"
            lines.append(f"  {name:20} {costs['median_cpu_us']:10.1f} us a message  {spread:14}{rate:22}  {beside}")
    if report.get("stall"):
        lines += ["", "ten large messages at once: the longest stall of the loop"]
        for name, costs in report["stall"].items():
            lines.append(f"  {name:20} {time(costs['stall_us']):>10}   peak memory {costs['peak_kib'] / 1024:.0f} MiB")
    if report.get("idle"):
        lines += ["", "memory of an idle connection"]
        lines += [f"  {name:20} {count / 1024:10.2f} KiB" for name, count in report["idle"].items()]
    lines += ["", "versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items())]
    lines += [f"not installed, and left out: {', '.join(report['missing'])}"] if report["missing"] else []
    return lines + [f"warning: {warning}" for warning in report["warnings"]]


def report_lines(report: dict[str, Any]) -> list[str]:
    """Reports side by side."""
    names = [name[:18] for name, _ in report["runs"]]
    width = max([len(row["what"]) for row in report["rows"]] + [10])
    lines = [f"  {report['runs'][0][1]['tool']}", f"  {'':{width}}" + "".join(f"{name:>20}" for name in names)]
    for row in report["rows"]:
        values = "".join(f"{value:>20}" for value in row["values"])
        lines.append(f"  {row['what']:{width}}{values}   {row['change']}".rstrip())
    if report["differs"]:
        lines += ["", "  set differently"]
        for row in report["differs"]:
            lines.append(f"  {row['what']:{width}}" + "".join(f"{value[:18]:>20}" for value in row["values"]))
    return lines + [f"  warning: {warning}" for warning in report["warnings"]]


def load_lines(report: dict[str, Any]) -> list[str]:
    """The outcome of a load run."""
    from ehlo.bench._load.histogram import told_percentile

    messages = report["messages"]
    wanted = report["plan"]["messages"] or messages["attempted"] + messages["unsent"]
    rate = report["rate"]
    lines = [
        f"accepted {messages['accepted']} of {counted(wanted, 'message')} in {report['seconds']:.3f} s: "
        f"{rate['messages']:.1f} messages/s, {octets(rate['octets'])}/s"
        + (f"; {messages['warmup']} more in the warm-up" if messages["warmup"] else "")
    ]
    for name, word in (
        ("partly", "accepted for some of their recipients"),
        ("refused", "refused"),
        ("failed", "lost with their connection, or not to be sent"),
        ("unsent", "never begun"),
    ):
        if messages[name]:
            lines.append(f"  {messages[name]} {word}")
    if report["interrupted"]:
        lines.append("  interrupted: this is what was measured so far")
    if report["gave_up"]:
        lines.append(f"  gave up: {report['gave_up']}")
    lines.append("")
    lines.append(
        f"  {'phase':10}{'count':>9}" + "".join(f"{name:>10}" for name in ("p50", "p90", "p99", "p99.9", "max"))
    )
    for phase, figures in report["phases"].items():
        lines.append(
            f"  {phase:10}{figures['count']:9}"
            + "".join(f"{told_percentile(figures, name, time):>10}" for name in ("p50", "p90", "p99", "p99.9", "max"))
        )
    lines.append("")
    if report["errors"]:
        lines.append("  errors")
        for kind, count in report["errors"].items():
            lines.append(f"  {count:9}  {printable_line(kind)}: {printable_line(report['samples'].get(kind, ''))}")
        lines.append("")
    cpu = report["cpu"]
    made = report["connections"]
    lines.append(
        f"  {counted(made['made'], 'connection')}, {made['failed']} failed; "
        f"this tool: {cpu['of_a_core']:.0%} of a core, {cpu['per_message']:.1f} us of CPU a message"
    )
    lines += [f"  warning: {warning}" for warning in report["warnings"]]
    lines += [
        f"  --fail-if {one['condition']}: {'it holds, so this run fails' if one['holds'] else 'it does not hold'}"
        for one in report.get("fail_if", ())
    ]
    return lines


def capacity_head(plan: CapacityPlan) -> str:
    """One line that says what is searched for."""
    load = plan.load
    return (
        f"ehlo bench capacity: {load.host}:{load.port}, {counted(load.connections, 'connection')}, "
        f"{load.sizes} octets; the highest rate with p{plan.percentile:g} below {time(plan.below)}"
    )


def capacity_step(step: dict[str, Any]) -> str:
    """One step of the search."""
    late = "–" if step["percentile"] is None else time(step["percentile"])
    verdict = "passed" if step["passed"] else f"failed: {step['why']}"
    return f"  {step['rate']:12,.1f} messages/s   percentile {late:>8}   {verdict}"


def capacity_lines(report: dict[str, Any]) -> list[str]:
    """What was found."""
    bound = f"p{report['percentile']:g} below {time(report['below'])}"
    if report["rate"] is None:
        lines = [f"no rate was found with {bound}"]
    else:
        more = " or more" if report["reached_highest"] else ""
        lines = [f"{report['rate']:,.1f} messages/s{more} with {bound}, in {counted(len(report['steps']), 'step')}"]
    if report["interrupted"]:
        lines.append("  interrupted: this is what was found so far")
    return lines + [f"  warning: {warning}" for warning in report["warnings"]]
