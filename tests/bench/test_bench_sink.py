"""``ehlo bench sink``: it counts what came, and goes wrong as it was asked to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ehlo.cli
from ehlo.bench import LoadPlan, SinkRun, parse_fault, parse_limit, run_load


@contextmanager
def sink(**options: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """A sink in a thread: its port, and its report when it is over."""
    run = SinkRun(port=0, **options)
    report: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: report.update(run.run()))
    thread.start()
    try:
        yield run.address[1], report
    finally:
        run.stop()
        thread.join(20)


def load(port: int, **options: Any) -> dict[str, Any]:
    return run_load(LoadPlan("127.0.0.1", port, **{"connections": 2, "messages": 100, "timeout": 20.0, **options}))


@pytest.mark.parametrize(
    "options", [{}, {"pipelining": False}, {"depth": 4, "chunking": True}, {"messages_per_connection": 3}], ids=str
)
def test_counts(options: dict[str, Any]) -> None:
    with sink() as (port, report):
        sent = load(port, **options)
    assert sent["complete"]
    assert report["messages"] == 100
    assert report["connections"] == sent["connections"]["made"]
    assert report["octets"] > sent["octets"]
    assert sum(row["messages"] for row in report["series"]) == 100
    assert sum(row["octets"] for row in report["series"]) == report["octets"]
    assert report["faults"] == report["refused"] == {}


def test_lmtp() -> None:
    with sink(lmtp=True) as (port, report):
        assert load(port, lmtp=True, recipients=2)["complete"]
    assert report["messages"] == 200


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("mail:451", "mail 451"),
        ("rcpt:550", "rcpt 550"),
        ("data:554", "data 554"),
        ("message:552", "content 552"),
        ("mail:421", "mail 421"),
        ("message:disconnect", "content unknown"),
        ("rcpt:disconnect", "rcpt lost"),
    ],
)
def test_faults_are_made_and_seen(fault: str, kind: str) -> None:
    with sink(faults=[f"{fault}:0.3"]) as (port, report):
        sent = load(port, pipelining=False)
    made = report["faults"][f"{fault}:0.3"]
    assert 0 < made < 100
    assert sent["errors"][kind] == made
    assert sent["messages"]["accepted"] == 100 - made
    assert sum(row["faults"] for row in report["series"]) == made


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("connect:554", "connection banner 554"),
        ("connect:421", "connection banner 421"),
        ("connect:disconnect", "connection banner eof"),
        ("hello:disconnect", "connection ehlo eof"),
    ],
)
def test_faults_before_any_message(fault: str, kind: str) -> None:
    with sink(faults=[fault]) as (port, report):
        sent = load(port)
    assert set(sent["errors"]) <= {kind, kind.replace("eof", "ECONNRESET")}
    assert report["messages"] == 0
    assert report["faults"][f"{fault}:1"] == sent["connections"]["made"]


def test_delay_and_drip() -> None:
    with sink(faults=["rcpt:delay=0.02", "message:drip=0.002"]) as (port, report):
        sent = load(port, messages=6, pipelining=False)
    assert sent["complete"]
    assert sent["phases"]["rcpt"]["min"] >= 19_800
    assert sent["phases"]["content"]["min"] >= 10 * 2000  # a reply has more octets than that
    assert report["faults"] == {"rcpt:delay=0.02:1": 6, "message:drip=0.002:1": 6}


def test_a_limit_by_rate() -> None:
    with sink(limits=["mail:2:450"]) as (port, report):  # a busy machine sends more, too
        sent = load(port, messages=200, pipelining=False)
    assert report["refused"] == {"450": sent["errors"]["mail 450"]}
    refused = sent["errors"]["mail 450"]
    assert refused == report["faults"]["mail:2:450"]
    assert sent["messages"]["accepted"] == 200 - refused
    assert sent["messages"]["accepted"] <= 2 + 2 * (sent["seconds"] + 0.5)


@pytest.mark.parametrize("options", [{"pipelining": False}, {}, {"depth": 3}, {"depth": 2, "chunking": True}], ids=str)
def test_refused_messages_are_counted_by_code(options: dict[str, Any]) -> None:
    faults = {"451": "mail:451:0.2", "550": "rcpt:550:0.2", "452": "message:452:0.3"}
    with sink(faults=list(faults.values())) as (port, report):
        sent = load(port, **options)
    by_code = Counter[str]()
    for kind, count in sent["errors"].items():
        by_code[kind.split()[-1]] += count
    # In a pipeline, what follows a refused MAIL or RCPT is refused as well, with 503 or 554.
    assert set(by_code) == set(faults) <= set(report["refused"]) <= {*faults, "503", "554"}
    for code, fault in faults.items():
        assert report["refused"][code] == by_code[code] == report["faults"][fault]
    assert report["messages"] == sent["messages"]["accepted"] == 100 - by_code.total()


def test_what_drips_and_what_the_engine_refuses_is_counted() -> None:
    commands = ["EHLO x", "DATA", "MAIL FROM:<a@b>", "NO", "RCPT TO:<c@d>", "NO", "DATA", "0123456789", ".", "QUIT", ""]
    with (
        sink(faults=["rcpt:drip=0"], max_size=10) as (port, report),
        socket.create_connection(("127.0.0.1", port), 20) as client,
    ):
        client.sendall("\r\n".join(commands).encode())
        with client.makefile("rb") as replies:
            assert [line[:3] for line in replies][-9:] == [
                b"250",
                b"503",
                b"250",
                b"500",
                b"250",
                b"500",
                b"354",
                b"552",
                b"221",
            ]
    assert report["refused"] == {"500": 2, "503": 1, "552": 1}


def test_words() -> None:
    assert str(parse_fault("RCPT:550:0.1")) == "rcpt:550:0.1"
    assert str(parse_fault("message:delay=0.5s")) == "message:delay=0.5:1"
    assert str(parse_limit("connect:5")) == "connect:5:421"
    limit = parse_limit("mail:2")
    assert [limit.spend(0.0), limit.spend(0.0), limit.spend(0.0), limit.spend(0.5)] == [True, True, False, True]
    for wrong in ("", "rcpt", "rcpt:250", "rcpt:550:2", "vrfy:550", "rcpt:delay", "rcpt:delay=x", "rcpt:550:1:1"):
        with pytest.raises(ValueError, match=r"give|none of|probability"):
            parse_fault(wrong)
    for wrong in ("mail", "mail:0", "mail:x", "mail:1:250", "x:1"):
        with pytest.raises(ValueError, match=r"give|none of"):
            parse_limit(wrong)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command(workers: str) -> None:
    command = [sys.executable, "-m", "ehlo", "bench", "sink", "--port", "0", "--workers", workers, "--json", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        match = re.search(r"listening on 127\.0\.0\.1:(\d+) \(SMTP\)", process.stderr.readline())
        assert match is not None
        assert load(int(match[1]), connections=8, messages=80)["complete"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert err == ""
    assert process.returncode == 0
    report = json.loads(out)
    assert report["tool"] == "ehlo bench sink"
    assert report["messages"] == 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fault", "rcpt"), "give COMMAND:ACTION"),
        (("--limit", "mail"), "give COMMAND:PER_SECOND"),
        (("--port", "x"), "a port is a whole number"),
        (("--host", "192.0.2.1", "--port", "0"), "cannot listen"),
    ],
)
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...], says: str) -> None:
    assert says in usage("bench", "sink", *arguments)


def test_port_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        ehlo.cli.main(["bench", "sink", "--port", str(taken.getsockname()[1])])
    assert "choose others" in capsys.readouterr().err
