"""The other tools of ``ehlo bench``: core, compare and report, and the page that shows them."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ehlo.bench
import ehlo.cli
from ehlo.bench import (
    MODES,
    ComparePlan,
    LoadPlan,
    clients_here,
    compare,
    page,
    run_core,
    run_load,
    servers_here,
    side_by_side,
)
from ehlo.bench._compare.compare import Cell
from ehlo.cli._bench_text import compare_lines, report_lines
from slow_server import slow_server, usual

SVG = "{http://www.w3.org/2000/svg}"


def parsed(report: dict[str, Any]) -> tuple[str, ET.Element]:
    """The page, and its tree: it is well-formed XML but for its first line. Nothing in it points outside."""
    html = page(report)
    first, _, rest = html.partition("\n")
    assert first == "<!doctype html>"
    for outside in ("http:", "https:", "<script", "@import", "url("):
        assert outside not in html.replace("http://www.w3.org/2000/svg", ""), outside
    return html, ET.fromstring(rest)


def titles(tree: ET.Element) -> list[str]:
    return [str(svg.findtext(f"{SVG}title")) for svg in tree.iter(f"{SVG}svg")]


@pytest.fixture(scope="module")
def load_report() -> Iterator[dict[str, Any]]:
    def answer(verb: str, before: int) -> bytes:
        return b"550 5.1.1 <script>nobody\r\n" if verb == "RCPT" and before % 10 == 0 else usual(verb)

    with slow_server(answer) as server:
        yield run_load(LoadPlan("127.0.0.1", server.port, messages=100, pipelining=False))


@pytest.fixture(scope="module")
def core_report() -> dict[str, Any]:
    return run_core(0.001)


def some_comparison() -> dict[str, Any]:
    cells = []
    measured: list[tuple[str, str, dict[str, list[float | None]]]] = [
        (
            "servers",
            "lock-step",
            {
                "ehlo": [20.0, 22.0, 21.0],
                "ehlo-awaits": [40.0, 44.0, 40.5],
                "smtp-sink": [30.0, None, 32.0],
                "aiosmtpd": [200, 210, 190],
            },
        ),
        ("servers", "TLS", {"ehlo": [30.0, 33.0], "aiosmtpd": [300.0, 310.0]}),
        (
            "clients",
            "kept connection",
            {"ehlo-load": [20.0, 22.0], "smtp-source": [40.0, 41.0], "smtpproto": [1e3, 1e3]},
        ),
    ]
    for part, mode, peers in measured:
        cell = Cell(part, 1024, mode, 20)
        for name, costs in peers.items():
            for cost in costs:
                cell.put(name, cost, None if cost is None else 1e6 / cost)
        cells.append(cell.as_report())
    return {
        "tool": "ehlo bench compare",
        "schema": 1,
        "machine": ehlo.bench._machine.machine(),
        "versions": {"ehlo": "0"},
        "rounds": 3,
        "connections": 20,
        "missing": ["aiosmtplib"],
        "interrupted": False,
        "cells": cells,
        "stall": {"ehlo": {"stall_us": 2000, "peak_kib": 1000}, "aiosmtpd": {"stall_us": 90_000, "peak_kib": 9000}},
        "idle": {"ehlo": 2000.0, "smtp-sink": 200_000.0},
        "warnings": ["only a test"],
    }


def test_the_page_of_a_load(load_report: dict[str, Any]) -> None:
    html, tree = parsed(load_report)
    assert titles(tree) == ["Latency by percentile", "Latency over time", "Rate over time"]
    assert "&lt;script&gt;nobody" in html
    lines = [line.findtext(f"{SVG}title") for line in tree.iter(f"{SVG}polyline")]
    assert {"mail", "rcpt", "content", "message"} <= set(lines)


def test_the_page_of_a_load_says_what_was_run(load_report: dict[str, Any]) -> None:
    html, _ = parsed(load_report | {"command": "ehlo bench load 127.0.0.1:25 --to '<a>'"})
    for said in (
        f"127.0.0.1:{load_report['plan']['port']}",
        "<td>connections</td><td>10</td>",
        "<td>size, octets</td><td>1024</td>",
        "<td>TLS</td><td>off</td>",
        "ehlo bench load 127.0.0.1:25 --to &#x27;&lt;a&gt;&#x27;",
    ):
        assert said in html


def test_a_line_ends_where_its_samples_end(load_report: dict[str, Any]) -> None:
    _, tree = parsed(load_report)
    plot = next(svg for svg in tree.iter(f"{SVG}svg") if svg.findtext(f"{SVG}title") == "Latency by percentile")
    ends = {
        line.findtext(f"{SVG}title"): float(line.get("points", "").split()[-1].split(",")[0])
        for line in plot.iter(f"{SVG}polyline")
    }
    # Ten connections, 90 or 100 messages: ten values are drawn to the middle of the last tenth, 95 %.
    assert ends["connect"] < ends["message"]
    html = page(load_report)
    assert re.search(r"<td>connect</td><td>10</td>(<td>[^<]+s</td>){2}<td>–</td><td>–</td><td>[^<]+s</td>", html)


def test_ratios_in_the_page_are_those_of_the_rounds() -> None:
    html = page(some_comparison())
    # The median of 20/30 and 21/32, in the bars and in the table; not 21/31, the ratio of the medians.
    assert "21.0 µs · 0.66x" in html.replace("21 µs", "21.0 µs")
    assert "<td>0.661x</td>" in html
    assert "<th>ratio to smtp-sink</th><th>ratio to aiosmtpd</th><th>adds, µs</th>" in html
    assert "beside</th>" not in html


def test_the_page_of_a_capacity() -> None:
    html, tree = parsed(some_capacity())
    assert titles(tree) == ["Latency by rate"]
    for said in ("<b>320</b>", "the bound, 200 ms", "p99 is above the bound", "without 1 step above five times"):
        assert said in html


def some_capacity() -> dict[str, Any]:
    def step(rate: float, late: int | None, why: str = "") -> dict[str, Any]:
        times = {"p50": late and late // 2, "percentile": late, "max": late}
        counts = {"rate": rate, "reached": rate, "count": 1000, "cpu_of_a_core": 0.1, "tool": False}
        return counts | times | {"passed": not why, "why": why}

    return {
        "tool": "ehlo bench capacity",
        "schema": 1,
        "plan": LoadPlan("127.0.0.1", 25).public(),
        "percentile": 99.0,
        "below": 200_000.0,
        "rate": 320.0,
        "reached_highest": False,
        "steps": [
            step(160, 2000),
            step(320, 90_000),
            step(340, 300_000, "p99 is above the bound"),
            step(640, 4_000_000, "p99 is above the bound"),
            step(1280, None, "no message was accepted"),
        ],
        "interrupted": False,
        "warnings": [],
    }


def test_the_page_of_core(core_report: dict[str, Any]) -> None:
    _, tree = parsed(core_report)
    assert titles(tree) == ["Codec, time beside memcpy"]


def test_the_page_of_a_comparison() -> None:
    html, tree = parsed(some_comparison())
    assert titles(tree) == [
        "1 KiB, lock-step",
        "1 KiB, TLS",
        "1 KiB, kept connection",
        "Longest stall",
        "Memory of an idle connection",
    ]
    for said in ("only a test", "+20.0 on ehlo", "smtpproto", "left out: aiosmtplib"):
        assert said in html


def test_the_lines_of_a_comparison() -> None:
    lines = compare_lines(some_comparison())
    assert [line for line in lines if line.endswith("20 connections")] == [
        "servers, 1024 octets, lock-step, 20 connections",
        "servers, 1024 octets, TLS, 20 connections",
        "clients, 1024 octets, kept connection, 20 connections",
    ]
    assert any(
        re.match(r"  ehlo-awaits +40\.5 us a message .* 1\.\d+x smtp-sink .*  \+20\.0 us on ehlo$", line)
        for line in lines
    )
    assert "not installed, and left out: aiosmtplib" in lines


def test_ratios_are_taken_within_a_round() -> None:
    servers, _, clients = some_comparison()["cells"]
    # 20/30 and 21/32; the round in which smtp-sink failed counts for nobody.
    assert servers["ratios"]["ehlo"]["smtp-sink"] == pytest.approx((20 / 30 + 21 / 32) / 2, abs=1e-3)
    assert servers["peers"]["smtp-sink"]["median_cpu_us"] == 31
    assert clients["ratios"]["ehlo-load"]["smtp-source"] == pytest.approx((20 / 40 + 22 / 41) / 2, abs=1e-3)
    assert servers["peers"]["ehlo-awaits"]["adds_us"] == {"ehlo": 20.0}  # of 20, 22 and 19.5
    assert all("adds_us" not in told for name, told in servers["peers"].items() if name != "ehlo-awaits")


def test_ratios_to_the_bare_loop_of_the_same_kind() -> None:
    bare = ("bare-asyncio", "bare-uvloop", "bare-trio")
    names = ("ehlo", "ehlo-awaits-uvloop", "ehlo-trio", "smtp-sink", "aiosmtpd-uvloop")
    cell = Cell("servers", 1024, "lock-step", 20)
    for cost, name in enumerate(names + bare, 10):
        cell.put(name, cost, 1e6 / cost)
    report = some_comparison() | {"cells": [cell.as_report()]}
    lines = {line.split()[0]: line for line in compare_lines(report) if " us a message " in line}
    for ours, own in zip(names[:3], bare, strict=True):
        assert re.findall(r"\d\.\d{3}x (bare-\S+)", lines[ours]) == [own]
        assert " smtp-sink" in lines[ours]
        assert "aiosmtpd-uvloop" not in lines[ours]
    html = page(report)
    assert "<th>ratio to its bare loop</th>" in html
    assert re.search(r"<td>aiosmtpd-uvloop</td>.*?<td>0.875x</td></tr>", html)  # 14/16


def test_core_measures_everything(core_report: dict[str, Any]) -> None:
    names = [told["name"] for told in core_report["results"]]
    assert len(set(names)) == len(names) > 15
    assert all(told["ns"] > 0 for told in core_report["results"])
    assert any("gb_per_second" in told for told in core_report["results"])
    debug = ehlo.build_info()["profile"] != "release"
    assert any("without optimisation" in warning for warning in core_report["warnings"]) == debug


def test_side_by_side(load_report: dict[str, Any]) -> None:
    faster = json.loads(json.dumps(load_report))
    faster["rate"]["messages"] = load_report["rate"]["messages"] * 2
    both = side_by_side([("before", load_report), ("after", faster)])
    row = next(row for row in both["rows"] if row["what"] == "messages/s")
    assert row["change"] == "2.000x"
    html, tree = parsed(both)
    assert titles(tree) == ["Latency by percentile", "Rate over time"]
    assert "the same settings, on the same machine" in html
    faster["plan"] |= {"connections": 20, "tls": "implicit"}
    both = side_by_side([("before", load_report), ("after", faster)])
    assert both["differs"] == [
        {"what": "plan.connections", "values": ["10", "20"]},
        {"what": "plan.tls", "values": ["off", "implicit"]},
    ]
    assert "What was set differently" in page(both)
    assert "set differently" in "\n".join(report_lines(both))
    with pytest.raises(ValueError, match=r"different tools"):
        side_by_side([("a", load_report), ("b", some_comparison())])


def test_report_command(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], load_report: dict[str, Any]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(load_report))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert ehlo.cli.main(["bench", "report", *files, "--html", str(tmp_path / "x.html")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"message p99 .* 1\.000x", out)
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "is no JSON"), ("{}", "is no report"), ('{"tool": "ehlo bench load", "schema": 99}', "has schema 99")],
)
def test_what_is_no_report(tmp_path: pathlib.Path, usage: Callable[..., str], content: str, says: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert says in usage("bench", "report", str(tmp_path / "a.json"))


def test_core_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.html")]
    assert ehlo.cli.main(["bench", "core", "--seconds", "0.001", *files]) == 0
    out = capsys.readouterr().out
    assert f"ehlo {ehlo.__version__}, {ehlo.build_info()['profile']} build" in out
    assert re.search(r"parse_command DATA +\d+ ns a command", out)
    assert json.loads((tmp_path / "x.json").read_text())["tool"] == "ehlo bench core"
    assert (tmp_path / "x.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs /proc or getrusage of children")
@pytest.mark.skipif(not pathlib.Path("/proc/self/schedstat").exists(), reason="no /proc")
@pytest.mark.timeout(900)  # forty programs are started, which a busy machine does slowly
def test_compare_runs(tmp_path: pathlib.Path) -> None:
    lines: list[str] = []
    servers = tuple(name for name in ("ehlo", "ehlo-awaits", "smtp-sink") if name in servers_here())
    clients = tuple(name for name in ("ehlo-load", "smtplib", "smtpproto") if name in clients_here())
    with_tls = tuple(name for name in servers if name != "smtp-sink") if shutil.which("openssl") else ()
    plan = ComparePlan(
        parts=("servers", "clients", "stall", "idle"),
        servers=servers,
        clients=clients,
        sizes=(1024,),
        rounds=1,
        seconds=0.05,
        connections=2,
        idle=20,
        stall_messages=2,
        stall_size=1_000_000,
    )
    report = compare(plan, lines.append)
    cells = {(cell["part"], cell["mode"]): cell for cell in report["cells"]}
    for mode in MODES:
        peers = cells["servers", mode]["peers"] if "TLS" not in mode or with_tls else {}
        assert set(peers) == set(with_tls if "TLS" in mode else servers), report["warnings"]
        assert all(told["median_cpu_us"] > 0 for told in peers.values())
    assert cells["servers", "lock-step"]["peers"]["ehlo-awaits"]["adds_us"].keys() == {"ehlo"}
    # A round this short may cost a client less than its start did; then it is left out, and that is said.
    for mode in ("kept connection", "kept TLS connection") if with_tls else ("kept connection",):
        left_out = set(clients) - set(cells["clients", mode]["peers"])
        assert all(
            any(warning.startswith(f"{name}, 1024 octets: its start") for warning in report["warnings"])
            for name in left_out
        )
    assert len(cells) == len(report["cells"]) == (7 if with_tls else 4)
    assert report["missing"] == []
    assert report["stall"]["ehlo"]["stall_us"] >= 0
    assert set(report["idle"]) == set(servers) - {"ehlo-awaits"}
    assert len(lines) >= 3 * len(servers) + 2
    counted = [
        re.match(r"(\d+) of (\d+), (1 (second|minute)|(?!1 )\d+ (seconds|minutes)) left  ", line) for line in lines
    ]
    assert all(counted)
    done = [(int(found[1]), int(found[2])) for found in counted if found is not None]
    assert len({total for _, total in done}) == 1
    assert done[-1][0] == done[-1][1]
    parsed(report)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--parts", "x"), "--parts: 'x' is not here"),
        (("--servers", "nobody"), "--servers: 'nobody' is not here"),
        (("--sizes", "1q"), "no size"),
        (("--html", "/nonexistent/x.html"), "cannot be written"),
    ],
)
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...], says: str) -> None:
    assert says in usage("bench", "compare", *arguments)


# ---- a real browser --------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
@pytest.mark.parametrize("kind", ["load", "compare"])
def test_a_browser_shows_the_page(tmp_path: pathlib.Path, load_report: dict[str, Any], kind: str) -> None:
    assert BROWSER is not None
    report = load_report if kind == "load" else some_comparison()
    (tmp_path / "page.html").write_text(page(report), encoding="utf-8")
    asked: list[str] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(str(args[0]))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        done = subprocess.run(
            [
                BROWSER,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr",
                "--window-size=900,1600",
                f"--screenshot={tmp_path / 'page.png'}",
                "--dump-dom",
                f"http://127.0.0.1:{server.server_port}/page.html",
            ],
            capture_output=True,
            text=True,
            timeout=90,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 0, done.stderr
    assert ":CONSOLE" not in done.stderr, done.stderr
    assert asked == ["GET /page.html HTTP/1.1"], asked
    assert done.stdout.count("<svg") == (3 if kind == "load" else 5)
    assert re.search(r"<polyline|<rect", done.stdout)
