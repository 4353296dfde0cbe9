"""``ehlo bench capacity`` and ``--fail-if``."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import ehlo.cli
from ehlo.bench import CapacityPlan, CapacityRun, LoadPlan, LoadRun, Tally, parse_condition, run_load
from programs import free_port
from slow_server import delaying, slow_server

REPORT: dict[str, Any] = {
    "messages": {"accepted": 990, "partly": 1, "refused": 2, "failed": 3, "unsent": 4},
    "rate": {"messages": 500.0},
    "errors": {"rcpt 550": 3, "connect ECONNREFUSED": 1},
    "cpu": {"of_a_core": 0.5},
    "phases": {"message": {"p50": 1000, "p99": 250_000, "p99.9": 2_000_000, "max": 3_000_000, "mean": 2000.5}},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99 > 200ms", True),
        ("p99>0.25s", False),
        ("p99 >= 250000us", True),
        ("message.p99.9 < 2s", False),
        ("message.p99.9 <= 2s", True),
        ("max > 1s", True),
        ("mean < 3ms", True),
        ("rcpt.p50 > 1us", False),  # it was not measured
        ("rcpt.p50 < 1s", False),
        ("rate < 501", True),
        ("rate < 500", False),
        ("accepted < 991", True),
        ("not-accepted > 9", True),
        ("not-accepted > 1%", False),
        ("not-accepted >= 1%", True),
        ("errors > 3", True),
        ("cpu > 40%", True),
        ("cpu > 0.6", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert parse_condition(text).holds(REPORT) is holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no condition"),
        ("p99", "is no condition"),
        ("p99 = 1ms", "is no condition"),
        ("p99 > 200", "a time needs one of the units"),
        ("p98 > 200ms", "'p98' is no figure"),
        ("nobody.p99 > 1ms", "'nobody' is no phase"),
        ("rate < 5ms", "rate has no unit ms"),
        ("rate < 5%", "rate has no unit %"),
        ("rcpt.rate < 5", "is no figure"),
    ],
)
def test_what_is_no_condition(text: str, says: str, usage: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=says):
        parse_condition(text)
    assert says in usage("bench", "load", "127.0.0.1:2525", "--fail-if", text)


def test_a_condition_that_holds_fails_the_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with slow_server(delaying(0, "DATA")) as server:
        where = f"127.0.0.1:{server.port}"
        arguments = ["bench", "load", where, "-m", "20", "--plain", "--json", str(tmp_path / "a.json")]
        assert ehlo.cli.main([*arguments, "--fail-if", "not-accepted > 0"]) == 0
        assert "--fail-if not-accepted > 0: it does not hold" in capsys.readouterr().out
        assert ehlo.cli.main([*arguments, "--fail-if", "not-accepted > 0", "--fail-if", "accepted < 21"]) == 1
        assert "--fail-if accepted < 21: it holds, so this run fails" in capsys.readouterr().out
    report = json.loads((tmp_path / "a.json").read_text())
    assert [one["holds"] for one in report["fail_if"]] == [False, True]
    assert report["command"].startswith(f"ehlo bench load {where} -m 20 --plain --json ")


class Queue(LoadRun):
    """A server that is known: it takes so many messages a second, one after the other, and nothing takes time."""

    def __init__(self, plan: LoadPlan, capacity: float) -> None:
        self.plan = plan
        self._capacity = capacity

    def run(self) -> Tally:
        assert self.plan.rate is not None
        assert self.plan.duration is not None
        tally = Tally()
        waits: dict[int, int] = {}
        free = 0.0
        for number in range(int(self.plan.rate * self.plan.duration)):
            due = number / self.plan.rate
            free = max(free, due) + 1 / self._capacity
            wait = int((free - due) * 1e6)
            waits[wait] = waits.get(wait, 0) + 1
            tally.accepted += 1
        tally.seconds = max(free, self.plan.duration)
        tally.series = {0: [tally.accepted, 0, 0, tally.accepted]}
        tally.phases = {"message": waits}
        return tally


@pytest.mark.parametrize("capacity", [7.0, 100.0, 1234.5])
@pytest.mark.parametrize("below", [300_000.0, 60_000_000.0])
def test_the_capacity_of_a_server_that_is_known(capacity: float, below: float) -> None:
    """The answer is close to it, whether the bound is tight or longer than a step: then the queue tells."""
    steps: list[dict[str, Any]] = []
    plan = CapacityPlan(LoadPlan("127.0.0.1", 25), percentile=90, below=below, seconds=20, within=0.02)
    report = CapacityRun(plan, steps.append, lambda load: Queue(load, capacity)).run()
    assert report["rate"] == pytest.approx(capacity, rel=0.13)
    verdicts = [step["passed"] for step in report["steps"]]
    assert verdicts == sorted(verdicts, reverse=True)  # the steps are by rate: first those that passed
    assert len(steps) == len(report["steps"])


def test_the_highest_rate_is_never_exceeded() -> None:
    plan = CapacityPlan(LoadPlan("127.0.0.1", 25), start=20, highest=50)
    report = CapacityRun(plan, begin=lambda load: Queue(load, 1000)).run()
    assert [step["rate"] for step in report["steps"]] == [20, 40, 50]
    assert (report["rate"], report["reached_highest"]) == (50, True)


def test_the_capacity_of_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seconds", "0.2", "--start", "50", "--timeout", "0.2"]
    assert ehlo.cli.main(["bench", "capacity", f"127.0.0.1:{free_port()}", *arguments]) == 1
    out = capsys.readouterr().out
    assert "no message was accepted: connection connect ECONNREFUSED" in out
    assert "no rate was found with p99 below 200 ms" in out


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with slow_server(delaying(0, "DATA")) as server:
        where = f"127.0.0.1:{server.port}"
        arguments = ["--seconds", "0.3", "--start", "20", "--highest", "50", "--percentile", "50", "--below", "5s"]
        files = ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
        status = ehlo.cli.main(["bench", "capacity", where, *arguments, *files])
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "a.json").read_text())
    assert status == (1 if report["rate"] is None else 0)  # a busy machine may not bear 20 messages/s
    assert "with p50 below 5 s" in out
    assert max(step["rate"] for step in report["steps"]) <= 50
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert ehlo.cli.main(["bench", "report", str(tmp_path / "a.json")]) == 0
    assert "capacity, messages/s" in capsys.readouterr().out


def test_a_search_that_is_stopped_tells_what_it_found() -> None:
    with slow_server(delaying(0, "DATA")) as server:
        plan = CapacityPlan(LoadPlan("127.0.0.1", server.port), start=20, seconds=0.2, below=5e6)
        run = CapacityRun(plan, lambda step: run.stop())
        report = run.run()
    assert report["interrupted"]
    assert len(report["steps"]) == 1


def test_latency_and_offered_rate_over_time() -> None:
    with slow_server(delaying(0.001, "DATA")) as server:
        report = run_load(LoadPlan("127.0.0.1", server.port, rate=100.0, duration=1.5, pipelining=False))
    assert sum(row["offered"] for row in report["series"]) == report["messages"]["attempted"]
    timed = [row for row in report["series"] if "p50" in row]
    assert timed
    assert all(1000 * 15 // 16 <= row["p50"] <= row["p99"] <= row["max"] for row in timed)


def test_a_server_that_is_down_is_not_called_weak() -> None:
    report = run_load(LoadPlan("127.0.0.1", free_port(), rate=100.0, duration=0.2, timeout=0.2))
    assert any("none was accepted: see the errors" in warning for warning in report["warnings"])
    assert not any("cannot bear" in warning for warning in report["warnings"])


@pytest.mark.parametrize("arguments", [("--below", "200"), ("--below", "0ms"), ("--percentile", "98")])
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...]) -> None:
    assert arguments[0] in usage("bench", "capacity", "127.0.0.1:2525", *arguments)
