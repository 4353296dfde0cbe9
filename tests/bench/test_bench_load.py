"""``ehlo bench load``: its counts against the receiver's own, its latencies against a server of known slowness."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import mailbox
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
import ehlo.cli
from ehlo.bench import LoadPlan, LoadRun, MissingExtraError, SinkRun, contents, parse_size, run_load
from ehlo.bench._compare.own_postfix import OwnPostfix
from ehlo.bench._load.histogram import histogram, percentiles_of, quantise, summary
from programs import PATIENCE, await_listener, free_port, postfix, program, wait_until
from slow_server import delaying, slow_server, usual


@contextmanager
def sink(*arguments: str) -> Iterator[tuple[int, list[str]]]:
    """The port of a real sink, and a list that holds its closing line when it is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ehlo", "sink", "--port", "0", "--quiet", *arguments], stdout=subprocess.PIPE, text=True
    )
    closing: list[str] = []
    try:
        assert process.stdout is not None
        match = re.search(r":(\d+) \(", process.stdout.readline())
        assert match is not None
        yield int(match[1]), closing
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        closing.append(out)


def load(port: int, **options: Any) -> dict[str, Any]:
    return run_load(LoadPlan("127.0.0.1", port, **{"connections": 3, "messages": 50, "timeout": 20.0, **options}))


# ---- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipelining": False},
        {"depth": 2},
        {"depth": 8, "chunking": True},
        {"chunking": True, "pipelining": False},
        {"messages_per_connection": 1},
        {"messages_per_connection": 7, "depth": 2},
        {"recipients": 5, "pipelining": False},
        {"recipients": 150},
        {"rate": 500.0},
        {"rate": 2000.0, "arrivals": "poisson", "messages_per_connection": 1},
        {"rate": 2000.0, "depth": 3, "messages_per_connection": 10},
        {"sizes": "1k:3,200k:1"},
        {"sizes": "3000000", "messages": 4},
        {"sizes": "3000000", "messages": 4, "chunking": True},
        {"warmup": 0.3},
        {"sources": ("127.0.0.1", "127.0.0.2")} if sys.platform == "linux" else {"sources": ("127.0.0.1",)},
    ],
    ids=str,
)
def test_counts_agree_with_our_sink(options: dict[str, Any]) -> None:
    with sink() as (port, closing):
        report = load(port, **options)
    messages = options.get("messages", 50)
    counted = report["messages"]
    assert counted["accepted"] == counted["attempted"] == messages, report["errors"]
    assert report["complete"]
    assert not report["errors"]
    assert report["recipients"]["accepted"] == messages * options.get("recipients", 1)
    assert f"received {messages + counted['warmup']} messages," in closing[0]
    assert sum(row["messages"] for row in report["series"]) == messages
    assert report["phases"]["message"]["count"] == messages
    if options.get("messages_per_connection") == 1 and "rate" not in options:
        assert report["connections"]["made"] >= messages
    per = {"mail": messages, "rcpt": messages * options.get("recipients", 1), "content": messages}
    if options.get("pipelining") is False:
        for phase, count in per.items():
            assert report["phases"][phase]["count"] == count
        assert ("data" in report["phases"]) == (not options.get("chunking"))


@pytest.mark.parametrize("tls", ["off", "starttls"])
@pytest.mark.parametrize("options", [{"pipelining": False}, {"depth": 2}, {"messages_per_connection": 1}], ids=str)
def test_without_phases_messages_alone_are_timed(options: dict[str, Any], tls: str) -> None:
    options = {"messages": 12, "phases": False, **options}
    if tls == "off":
        with sink() as (port, _):
            report = load(port, **options)
    else:
        report, _ = load_with_tls(tls, **options)
    assert report["complete"], report["errors"]
    made = report["connections"]["made"]
    counts = {"connect": made, "banner": made, "ehlo": made, "message": 12}
    if tls != "off":
        counts |= {"ehlo": 2 * made, "starttls": made, "tls": made}
    assert {name: told["count"] for name, told in report["phases"].items()} == counts


def test_without_phases_errors_are_told_by_their_place() -> None:
    with slow_server(lambda verb, before: None if verb == "." else usual(verb)) as server:
        report = load(server.port, connections=1, messages=3, phases=False)
    assert report["errors"] == {"message unknown": 3, "connection message eof": 3}


def test_lmtp_and_the_sink_in_agreement() -> None:
    with sink("--lmtp") as (port, closing):
        report = load(port, lmtp=True, recipients=3, messages=20)
    assert report["complete"]
    assert "received 60 messages," in closing[0]  # deliveries, in LMTP


def test_duration_and_workers() -> None:
    with sink() as (port, closing):
        command = [sys.executable, "-m", "ehlo", "bench", "load", f"127.0.0.1:{port}", "-d", "0.5", "--workers", "2"]
        done = subprocess.run([*command, "-c", "4", "--json", "-"], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert f"received {report['messages']['accepted']} messages," in closing[0]
    assert report["connections"]["made"] == 4
    assert report["seconds"] >= 0.4


@pytest.mark.skipif(importlib.util.find_spec("aiosmtpd") is None, reason="aiosmtpd is not installed")
@pytest.mark.parametrize("options", [{}, {"pipelining": False, "messages_per_connection": 10}], ids=str)
def test_counts_agree_with_aiosmtpd(options: dict[str, Any]) -> None:
    from aiosmtpd.controller import Controller

    taken: list[bytes] = []

    class Keep:
        async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802
            taken.append(envelope.content)
            return "250 2.0.0 OK"

    controller = Controller(Keep(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        report = load(controller.port, **options)
    finally:
        controller.stop()
    assert report["complete"], report["errors"]
    assert len(taken) == report["messages"]["accepted"] == 50
    assert all(len(content) == 1024 for content in taken)


@pytest.mark.parametrize("options", [{"pipelining": False}, {"depth": 2}, {"messages_per_connection": 1}], ids=str)
def test_counts_agree_with_smtp_sink(options: dict[str, Any], tmp_path: pathlib.Path) -> None:
    port = free_port()
    # With -M it ends by itself when it has that many messages, and does not answer the last: its own count.
    command = [program("smtp-sink"), "-c", "-M", "51", f"127.0.0.1:{port}", "100"]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        await_listener(port)
        report = load(port, **options)
        assert process.poll() is None
        assert load(port, messages=1)["messages"]["accepted"] == 0
        process.wait(20)
    finally:
        process.kill()
        process.communicate()
    assert report["messages"]["accepted"] == 50


REFUSED = {"nobody0@example.org": "550 5.1.1 no such user", "spam0@example.org": "554 5.7.1 not wanted"}


@contextmanager
def relaying() -> Iterator[tuple[OwnPostfix, SimpleQueue[int], dict[str, Any]]]:
    """A Postfix that relays to a sink of ours; the messages that the sink has, told now and then; its report when it
    is over.
    """
    counts: SimpleQueue[int] = SimpleQueue()
    run = SinkRun(port=0, on_tick=lambda told: counts.put(told.messages))
    report: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: report.update(run.run()))
    thread.start()
    try:
        with postfix(run.address[1], refused=REFUSED) as server:
            yield server, counts, report
    finally:
        run.stop()
        thread.join(PATIENCE)


def commands_of(server: OwnPostfix, connections: int) -> Counter[str]:
    """What Postfix counted of each command that it accepted, and under "!" of each that it refused."""
    wait_until(lambda: len(server.lines(": disconnect from ")) == connections)
    told: Counter[str] = Counter()
    for line in server.lines(": disconnect from "):
        for name, accepted, whole in re.findall(r" (\w+)=(\d+)(?:/(\d+))?", line):
            told[name] += int(accepted)
            told[f"!{name}"] += int(whole or accepted) - int(accepted)
    return told


@pytest.mark.parametrize(
    "options",
    [
        {"pipelining": False},
        {},
        {"depth": 3, "messages_per_connection": 10},
        {"recipients": 3, "chunking": True, "depth": 2},
    ],
    ids=str,
)
def test_counts_agree_with_a_running_postfix(options: dict[str, Any]) -> None:
    recipients = options.get("recipients", 1)
    with relaying() as (server, passed_on, report):
        sent = load(server.port, **options)
        assert sent["complete"], sent["errors"]
        commands = commands_of(server, sent["connections"]["made"])
        wait_until(lambda: passed_on.get(timeout=PATIENCE) >= 50)
        wait_until(lambda: len(server.lines("status=sent")) == 50 * recipients)
    assert sent["messages"]["accepted"] == 50
    assert commands["mail"] == commands["bdat" if options.get("chunking") else "data"] == 50
    assert commands["rcpt"] == sent["recipients"]["accepted"] == 50 * recipients
    assert not any(count for name, count in commands.items() if name.startswith("!"))
    assert report["messages"] == 50


@pytest.mark.parametrize("options", [{"pipelining": False}, {"depth": 2}], ids=str)
@pytest.mark.parametrize(("recipient", "kind"), [("nobody{n}", "rcpt 550"), ("spam{n}", "rcpt 554")])
def test_a_running_postfix_refuses(options: dict[str, Any], recipient: str, kind: str) -> None:
    with relaying() as (server, passed_on, report):
        alone = load(server.port, messages=12, recipient=f"{recipient}@example.org", **options)
        beside = load(server.port, messages=12, recipient=f"{recipient}@example.org", recipients=2, **options)
        commands = commands_of(server, alone["connections"]["made"] + beside["connections"]["made"])
        wait_until(lambda: passed_on.get(timeout=PATIENCE) >= 12)
        wait_until(lambda: len(server.lines(": reject: RCPT ")) == 24)
    assert alone["errors"] == beside["errors"] == {kind: 12}
    assert alone["samples"][kind].startswith(kind[-3:])
    assert (alone["messages"]["refused"], alone["messages"]["accepted"]) == (12, 0)
    assert (beside["messages"]["partly"], beside["messages"]["accepted"]) == (12, 0)
    assert beside["recipients"] == {"accepted": 12, "refused": 12}
    assert (commands["rcpt"], commands["!rcpt"]) == (12, 24)
    assert report["messages"] == 12


# ---- TLS and AUTH ----------------------------------------------------------------------------------


def load_with_tls(tls: str, **options: Any) -> tuple[dict[str, Any], list[bytes]]:
    """The report, and what a server with TLS and AUTH took."""
    trustme = pytest.importorskip("trustme")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    taken: list[bytes] = []

    class Users(ehlo.Handler):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            return isinstance(credentials, ehlo.PasswordCredentials) and credentials.check("secret")

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            taken.append(content)

    async def main() -> dict[str, Any]:
        config = ehlo.ServerConfig("mx.example", tls=tls, auth=["PLAIN", "LOGIN"])  # type: ignore[arg-type]
        limits = ehlo.Limits(auth_delay_seconds=0)  # a refused client does not wait
        address = ("127.0.0.1", 0)
        async with await ehlo.asyncio.serve(Users(), *address, config=config, tls=context, limits=limits) as server:
            return await asyncio.to_thread(lambda: load(server.port, tls=tls, **options))

    return asyncio.run(main()), taken


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(
    "options", [{"pipelining": False}, {"messages_per_connection": 2}, {"depth": 2, "sizes": "300k"}], ids=str
)
def test_tls(tls: str, options: dict[str, Any]) -> None:
    report, taken = load_with_tls(tls, messages=12, **options)
    assert report["complete"], report["errors"]
    assert len(taken) == 12
    phases = report["phases"]
    made = report["connections"]["made"]
    assert phases["tls"]["count"] == phases["connect"]["count"] == phases["banner"]["count"] == made
    assert phases["ehlo"]["count"] == (2 * made if tls == "starttls" else made)
    assert ("starttls" in phases) == (tls == "starttls")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_auth(mechanism: str) -> None:
    report, taken = load_with_tls("implicit", messages=9, user="jane", password="secret", mechanism=mechanism)
    assert report["complete"], report["errors"]
    assert len(taken) == 9
    assert report["phases"]["auth"]["count"] >= 3
    assert "secret" not in json.dumps(report)


def test_auth_refused() -> None:
    report, taken = load_with_tls("implicit", messages=9, user="jane", password="wrong", connections=1)
    assert set(report["errors"]) == {"connection auth 535"}
    assert taken == []
    assert report["gave_up"]
    assert "wrong" not in json.dumps(report)


def test_a_certificate_is_checked_when_asked() -> None:
    report, taken = load_with_tls("starttls", messages=9, verify=True)
    assert taken == []
    assert set(report["errors"]) == {"connection tls CERTIFICATE_VERIFY_FAILED"}


# ---- latency ---------------------------------------------------------------------------------------

DELAY = 20_000
"""Microseconds."""


class Clock:
    """The time of a load: it stands still, but where its server lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_000
        for module in ("load", "slot"):
            monkeypatch.setattr(f"ehlo.bench._load.{module}.perf_counter_ns", lambda: self.now)

    def go_on(self, microseconds: int) -> None:
        self.now += microseconds * 1000

    def slow(self, *verbs: str) -> Callable[[str, int], bytes]:
        """The answers of a server that takes ``DELAY`` for these verbs, and no time for others."""

        def answer(verb: str, before: int) -> bytes:
            if verb in verbs:
                self.go_on(DELAY)
            return usual(verb)

        return answer


def test_each_phase_of_a_slow_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_server(Clock(monkeypatch).slow("RCPT", ".")) as server:
        phases = load(server.port, connections=1, messages=4, pipelining=False)["phases"]
    for phase, took in (("rcpt", DELAY), ("content", DELAY), ("message", 2 * DELAY)):
        assert phases[phase]["min"] == phases[phase]["max"] == pytest.approx(took, rel=0.01), phase
    for phase in ("mail", "data", "ehlo", "banner", "connect"):
        assert phases[phase]["max"] == 0, phase


def test_a_slow_greeting_and_hello_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_server(Clock(monkeypatch).slow("", "EHLO")) as server:
        phases = load(server.port, connections=1, messages=3)["phases"]
    # The server's time begins when the kernel has made the connection, perhaps before we are told.
    assert phases["connect"]["max"] + phases["banner"]["max"] == pytest.approx(DELAY, rel=0.01)
    assert phases["ehlo"]["max"] == pytest.approx(DELAY, rel=0.01)
    assert phases["message"]["max"] == 0


def test_open_loop_shows_a_stall_that_a_closed_loop_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    stall = 0.5

    def stalling(stop: Callable[[], object]) -> Callable[[str, int], bytes]:
        def answer(verb: str, before: int) -> bytes:
            if verb == "." and before == 50:
                stop()
            return usual(verb)

        return answer

    with slow_server(stalling(lambda: time.sleep(stall))) as server:
        opened = load(server.port, connections=1, messages=200, rate=200.0)["phases"]["message"]
    clock = Clock(monkeypatch)
    with slow_server(stalling(lambda: clock.go_on(int(stall * 1e6)))) as server:
        closed = load(server.port, connections=1, messages=200)["phases"]["message"]
    assert opened["max"] >= stall * 1e6 * 0.99
    assert closed["max"] >= stall * 1e6 * 0.99
    # Of 200 messages, 100 have their intended start within the stall, and wait for a part of it.
    assert opened["p90"] >= stall * 1e6 / 4
    assert closed["p90"] == 0


def test_what_a_server_cannot_bear_is_not_hidden() -> None:
    with slow_server(delaying(0.05, ".")) as server:
        report = load(server.port, connections=1, messages=None, duration=0.5, rate=500.0, timeout=0.3)
    assert report["messages"]["unsent"] > 0
    assert not report["complete"]
    assert any("cannot bear this rate" in warning for warning in report["warnings"])


def test_histograms() -> None:
    counts = {quantise(value): 1 for value in range(1, 100_001)}
    assert sum(counts.values()) == len(counts)
    whole = dict.fromkeys(range(1, 1001), 1)
    assert percentiles_of(whole, (50.0, 99.0, 100.0)) == [500, 990, 1000]
    assert percentiles_of({}) == [0, 0]
    told = summary(whole)
    assert told["count"] == 1000
    assert abs(told["p50"] - 500) <= 1
    assert told["max"] == 1000
    assert told["plot"][0][1] == 1
    assert told["plot"][-1] == [100.0, 1000]
    assert abs(quantise(123_456_789) - 123_456_789) < 123_456_789 / 1000


# ---- contents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 79, 80, 81, 200, 1024, 10_000])
def test_a_size_is_exact(size: int) -> None:
    (content,) = contents(str(size))
    assert len(content) == size
    assert size < 2 or content.endswith(b"\r\n")
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_sizes() -> None:
    assert parse_size("10k") == 10240
    assert parse_size("1.5M") == 1572864
    lengths = [len(content) for content in contents("1k-2k")]
    assert min(lengths) < 1100
    assert max(lengths) > 1900
    mixed = [len(content) for content in contents("1k:3,2k:1")]
    assert mixed.count(1024) == 3 * mixed.count(2048)
    assert len({len(content) for content in contents("lognormal:10k:1")}) > 10
    for wrong in ("", "x", "-1", "2k-1k", "1k:x", "1k:0", "lognormal:1", "lognormal:1k:99", "9999g"):
        with pytest.raises(ValueError, match=r".+"):
            contents(wrong)


def test_corpus(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.eml").write_bytes(b"Subject: x\n\n.x\n")
    assert contents(corpus=str(tmp_path)) == [b"Subject: x\r\n\r\n.x\r\n"]
    maildir = mailbox.Maildir(tmp_path / "box", create=True)
    maildir.add(b"Subject: y\n\ny\n")
    assert contents(corpus=str(tmp_path / "box")) == [b"Subject: y\r\n\r\ny\r\n"]
    box = mailbox.mbox(tmp_path / "mbox")
    box.add(b"Subject: z\n\nz\n")
    box.flush()
    box.close()
    assert contents(corpus=str(tmp_path / "mbox"))[0].startswith(b"Subject: z\r\n\r\nz\r\n")
    with pytest.raises(OSError, match=r"no message"):
        contents(corpus=str(tmp_path / "box" / "new"))
    with sink("--maildir", str(tmp_path / "got")) as (port, _):
        assert load(port, corpus=str(tmp_path), messages=2)["complete"]
    files = list((tmp_path / "got" / "new").iterdir())
    assert len(files) == 2
    assert all(file.read_bytes().endswith(b"Subject: x\n\n.x\n") for file in files)


# ---- servers that are none, or do not want to --------------------------------------------------------


def test_nobody_there() -> None:
    report = load(free_port())
    assert report["messages"]["accepted"] == 0
    assert report["messages"]["unsent"] == 50
    assert set(report["errors"]) == {"connection connect ECONNREFUSED"}
    assert "led to nothing" in report["gave_up"]
    assert report["connections"]["failed"] == report["connections"]["made"]
    assert not report["complete"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "connection banner protocol"),
        (b"554 5.7.1 go away\r\n", "connection banner 554"),
        (b"421 4.3.2 too busy\r\n", "connection banner 421"),
        (None, "connection banner eof"),
    ],
)
@pytest.mark.parametrize("rate", [None, 1000.0])
def test_no_server_for_us(said: bytes | None, kind: str, rate: float | None) -> None:
    with slow_server(lambda verb, before: said) as server:
        report = load(server.port, rate=rate)
    assert set(report["errors"]) == {kind}
    assert report["messages"]["accepted"] == 0
    assert report["messages"]["unsent"] == 50
    assert not report["complete"]


def test_silence_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        report = load(listener.getsockname()[1], timeout=0.05, connections=10)
    assert set(report["errors"]) <= {"connection banner timeout", "connection connect timeout"}
    assert report["gave_up"]


@pytest.mark.parametrize("options", [{"pipelining": False}, {}, {"rate": 1000.0}, {"depth": 3}], ids=str)
def test_refusals_are_counted_by_phase_and_code(options: dict[str, Any]) -> None:
    def answer(verb: str, before: int) -> bytes:
        if verb == "RCPT" and before % 5 == 0:
            return b"550 5.1.1 nobody\r\n"
        if verb == "." and before % 4 == 0:
            return b"451 4.3.0 later\r\n"
        return usual(verb)

    with slow_server(answer) as server:
        report = load(server.port, messages=100, **options)
    counted = report["messages"]
    assert server.seen["RCPT"] == 100
    assert counted["attempted"] == 100
    assert report["errors"] == {"rcpt 550": 20, "content 451": 20}
    assert counted["refused"] == 40
    assert counted["accepted"] == 60
    assert report["samples"]["rcpt 550"] == "550 5.1.1 nobody"
    assert not report["complete"]


def test_some_recipients_refused() -> None:
    def answer(verb: str, before: int) -> bytes:
        return b"550 5.1.1 nobody\r\n" if verb == "RCPT" and before % 2 else usual(verb)

    with slow_server(answer) as server:
        report = load(server.port, messages=10, recipients=4, connections=1)
    assert report["messages"]["partly"] == 10
    assert report["recipients"] == {"accepted": 20, "refused": 20}
    assert not report["complete"]


def test_a_server_that_drops_connections() -> None:
    def answer(verb: str, before: int) -> bytes | None:
        if verb == "." and before % 3 == 2:
            return None
        if verb == "MAIL" and before % 7 == 6:
            return b"421 4.3.2 enough\r\n"
        return usual(verb)

    with slow_server(answer) as server:
        report = load(server.port, messages=40, pipelining=False)
    counted = report["messages"]
    assert counted["attempted"] == 40
    assert counted["accepted"] + counted["refused"] + counted["failed"] == 40
    assert counted["accepted"] == server.seen["."] - server.seen["."] // 3
    assert report["errors"]["content unknown"] == server.seen["."] // 3
    assert report["errors"]["mail 421"] == server.seen["MAIL"] // 7
    assert report["connections"]["made"] > 3


# ---- the command -----------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ehlo", "bench", "load", *arguments]


def test_the_command_prints_and_writes(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "report.json"
    with sink() as (port, _):
        done = subprocess.run(
            command(f"127.0.0.1:{port}", "-m", "20", "--no-pipelining", "--json", str(file)),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "accepted 20 of 20 messages" in done.stdout
    assert re.search(r"^  content +20 +\d", done.stdout, re.M)
    report = json.loads(file.read_text())
    assert report["schema"] == 1
    assert report["tool"] == "ehlo bench load"
    assert {"machine", "plan", "seconds", "messages", "recipients", "connections", "octets", "rate"} <= set(report)
    assert {"errors", "samples", "phases", "series", "cpu", "interrupted", "complete", "warnings"} <= set(report)
    HdrHistogram = pytest.importorskip("hdrh.histogram").HdrHistogram  # noqa: N806
    assert HdrHistogram.decode(report["phases"]["message"]["hdr"]).total_count == 20


def test_refused_messages_make_exit_status_1() -> None:
    def answer(verb: str, before: int) -> bytes:
        return b"554 5.7.1 no\x1b[31m\r\n" if verb == "MAIL" else usual(verb)

    with slow_server(answer) as server:
        done = subprocess.run(
            command(f"127.0.0.1:{server.port}", "-m", "5"), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert re.search(r"5 +mail 554: 554 5\.7\.1 no", done.stdout)
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_prints_what_was_measured(workers: str) -> None:
    with sink() as (port, _):
        process = subprocess.Popen(
            command(f"127.0.0.1:{port}", "-d", "60", "-c", "2", "--workers", workers),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        assert "1 s" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert err == ""
    assert process.returncode == 130
    match = re.search(r"accepted (\d+) of (\d+) messages", out)
    assert match is not None
    assert int(match[1]) > 0
    assert "interrupted" in out
    assert re.search(r"^  message +\d+", out, re.M)


def test_stop_from_another_thread_or_a_callback() -> None:
    with sink() as (port, _):
        run = LoadRun(LoadPlan("127.0.0.1", port, duration=60.0), lambda tally: run.stop())
        tally = run.run()
    assert tally.interrupted
    assert tally.accepted > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("192.0.2.1",), "give HOST:PORT"),
        (("::1:25",), "give HOST:PORT"),
        (("127.0.0.1:0",), "give HOST:PORT"),
        (("8.8.8.8:25",), "--i-own-this-server"),
        (("[2001:4860:4860::8888]:25",), "--i-own-this-server"),
        (("no.such.host.invalid:25",), "no such host"),
        (("127.0.0.1:25", "-c", "0"), "connections is a whole number"),
        (("127.0.0.1:25", "-r", "fast"), "messages a second: a number"),
        (("127.0.0.1:25", "-s", "2k-1k"), "the range begins above its end"),
        (("127.0.0.1:25", "--corpus", "/nonexistent"), "no such file"),
        (("127.0.0.1:25", "--to", "a b"), "--from, --to"),
        (("127.0.0.1:25", "--source", "192.0.2.1"), "address of this machine"),
        (("127.0.0.1:25", "--json", "/nonexistent/x"), "cannot be written"),
        (("127.0.0.1:25", "--tls", "--starttls"), "not allowed with"),
    ],
)
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...], says: str) -> None:
    assert says in usage("bench", "load", *arguments)


def test_without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    assert summary({100: 2})["hdr"] is None
    assert summary({100: 2})["p99"] == 100
    with pytest.raises(MissingExtraError, match=r"pip install 'ehlo\[bench\]'"):
        histogram({})
