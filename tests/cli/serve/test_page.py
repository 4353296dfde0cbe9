"""[metrics]: one truth in three forms (the queue's summary, /metrics, the page), for those who may see it."""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from html import unescape
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import ehlo
import ehlo.mta
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.check_machine import check_places
from ehlo.cli._serve.figures import Figures, Hour, counts_by_minute, parse_ident, refusals_by_command
from ehlo.cli._serve.findings import Finding
from ehlo.cli._serve.page import STYLE_HASH
from ehlo.cli._serve.sockets import Place
from ehlo.cli._serve.web import check_listen, open_web
from ehlo.mta import Hold, Selection, SmartHost

TOKEN = "correct-horse-battery-staple"
HOSTILE = '"<script>alert(1)</script>"@x.example'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def route(recipient: ehlo.Recipient) -> ehlo.mta.Route:
    if recipient.domain == "held.example":
        return Hold("<b>asked by its owner</b>")
    # A route for each: what comes second to a dead route may have to wait a minute for the next attempt.
    return SmartHost("127.0.0.1", 1 + int(str(recipient.path)[1]))


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[tuple[ehlo.mta.Queue, Figures, Hour]]:
    """A queue with mail that waits, mail that is held, and routes that are dead."""
    hour = Hour(time.time)
    async with ehlo.mta.open_queue(str(folder), hostname="mx.example", route=route) as queue:
        for number in range(5):
            sender = "a@b.example" if number else HOSTILE
            to = [f"r{number}@held.example", f"r{number}@dead.example"]
            await queue.submit((sender, to), b"Subject: x\r\n\r\n" + b"x" * 1000 * number)
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run)
            while (await queue.spool.totals()).owned or queue.counters.attempts["deferred"] < 5:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            for one in queue.routes:
                await queue.suspend(one.name, 60, "nobody listens")
            await queue.suspend("mx:other.example", 3600, "asked & waited for")
            for event in ("accepted", "relayed", "deferred", "refused", "turned-away"):
                for _ in range(3):
                    hour(event, {"command": "RCPT"})

            def servers() -> tuple[ehlo.Statistics, int]:
                return ehlo.Statistics(connections=7, messages=5, refused_rcpt=3), 2

            yield queue, Figures("mx.example", queue, servers, hour, lambda: 4, time.time), hour
            group.cancel_scope.cancel()


async def get(
    port: int, target: str, host: str | None = None, token: str | None = None
) -> tuple[int, str, dict[str, str]]:
    def ask() -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        headers = {} if host is None else {"Host": host}
        if token is not None:
            headers["Authorization"] = token
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        found = response.status, response.read().decode(), dict(response.getheaders())
        connection.close()
        return found

    return await anyio.to_thread.run_sync(ask)


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def cells(text: str, head: str) -> list[str]:
    """The cells of the row with this head."""
    found = re.search(rf"<t[hd][^>]*>{re.escape(head)}</t[hd]>(.*?)</tr>", text)
    assert found is not None, head
    return [unescape(one) for one in re.findall(r"<td[^>]*>(.*?)</td>", found[1])]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_page_the_metrics_and_the_summary_are_equal(tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        async with filled(tmp_path) as (queue, figures, _), open_web("127.0.0.1", 0, figures) as (_, port):
            status, shown, headers = await get(port, "/")
            assert status == 200
            _, metrics, _ = await get(port, "/metrics")
            totals = await queue.spool.totals()
            by_state = {one.key: one.recipients for one in await queue.spool.summary("state", 0, Selection())}
            assert (totals.ready, totals.held) == (5, 5)
            for state in ("ready", "owned", "held"):
                count = by_state.get(state, 0)
                assert cells(shown, state)[0] == str(count)
                assert metric(metrics, f'ehlo_queue_recipients{{state="{state}"}}') == count
            groups = await queue.spool.summary("route", 0, Selection())
            assert groups
            for one in groups:
                mark = " (suspended)" if one.key else ""
                assert cells(shown, (one.key or "not tried yet") + mark)[0] == str(one.recipients)
                assert metric(metrics, f'ehlo_queue_route_recipients{{route="{one.key}"}}') == one.recipients
            assert metric(metrics, "ehlo_queue_messages") == totals.messages == 5
            assert metric(metrics, "ehlo_queue_octets") == totals.octets
            assert metric(metrics, "ehlo_queue_oldest_timestamp_seconds") == totals.oldest
            assert metric(metrics, "ehlo_server_start_time_seconds") > 1e9
            assert metric(metrics, 'ehlo_server_refusals_total{command="rcpt"}') == 3
            assert metric(metrics, "ehlo_server_open_connections") == 2
            assert metric(metrics, "ehlo_log_dropped_lines_total") == 4
            assert cells(shown, "RCPT") == cells(shown, "connection") == ["3"]
            assert "asked &amp; waited for" in shown
            assert "mx:other.example" in shown
            assert (await get(port, "/healthz"))[:2] == (200, "ok\n")
            assert STYLE_HASH in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"

    anyio.run(main, backend=backend)


def test_why_explains_and_escapes(tmp_path: Path) -> None:
    async def main() -> None:
        async with filled(tmp_path) as (queue, figures, _), open_web("127.0.0.1", 0, figures) as (_, port):
            first = (await queue.spool.entries(Selection(), 2))[0].message
            _, shown, _ = await get(port, f"/?why={first.ident}")
            assert "<script" not in shown
            assert "It is held: " in shown
            assert "&lt;b&gt;asked by its owner&lt;/b&gt;" in shown
            assert "The last reply, after 1 attempt, " in shown
            assert "It is due in " in shown
            for nothing in ("0" * 16, "f" * 16, "%3Cscript%3E", "a" * 9000, "%00"):
                status, shown, _ = await get(port, f"/?why={nothing}")
                assert status == 200
                assert "The queue has no such message" in shown
                assert "<script" not in shown

    anyio.run(main)


def test_who_may_look(tmp_path: Path) -> None:
    async def main() -> None:
        figures = Figures("mx.example", None, lambda: (ehlo.Statistics(), 0), Hour(time.time), lambda: 0, time.time)
        async with open_web("127.0.0.1", 0, figures, TOKEN) as (_, port):
            assert (await get(port, "/"))[0] == 401
            assert (await get(port, "/metrics", token="Bearer wrong"))[0] == 401
            assert (await get(port, "/metrics", token="Basic %%%"))[0] == 401
            assert (await get(port, "/metrics", token=f"Bearer {TOKEN}"))[0] == 200
            basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
            assert (await get(port, "/", token=f"Basic {basic}"))[0] == 200
            assert (await get(port, "/healthz"))[0] == 200
            # A page elsewhere whose name points here (DNS rebinding) sees nothing.
            for host, status in (
                ("evil.example", 421),
                ("evil.example:80", 421),
                ("", 421),
                ("[::1]:9925", 200),
                ("127.0.0.1", 200),
                ("localhost:9925", 200),
                ("MX.example.", 200),
            ):
                assert (await get(port, "/healthz", host=host))[0] == status, host
            assert (await get(port, "/etc/passwd", token=f"Bearer {TOKEN}"))[0] == 404

    anyio.run(main)


def test_a_check_recognises_the_figures_of_the_running_server() -> None:
    async def main() -> Finding:
        figures = Figures("mx.example", None, lambda: (ehlo.Statistics(), 0), Hour(time.time), lambda: 0, time.time)
        async with open_web("127.0.0.1", 0, figures) as (_, port):
            place = Place("metrics", "metrics.listen", port=port)
            [found] = await anyio.to_thread.run_sync(lambda: list(check_places([], "mx.example", place)))
            return found

    found = anyio.run(main)
    assert found.level == "warning"
    assert "probably this one, running" in found.text


def test_without_a_token_it_is_for_this_machine_only() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        check_listen(host, None)
    for host in ("0.0.0.0", "::", "192.0.2.1", "mx.example"):
        with pytest.raises(UsageError, match="everybody who reaches it"):
            check_listen(host, None)
        check_listen(host, TOKEN)
    with pytest.raises(UsageError, match="at least 16 characters"):
        check_listen("127.0.0.1", "secret")


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", b"501"),
        (b"GET / HTTP/1.1\r\n\r\n", b"421"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b""),
        (b"GET " + b"/" * 20000 + b" HTTP/1.1\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n", b""),
        (b"", b""),
    ],
)
def test_strange_requests_are_turned_away(octets: bytes, answer: bytes) -> None:
    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            try:
                sock.sendall(octets)
                sock.shutdown(socket.SHUT_WR)
                return sock.recv(4096)
            except OSError:  # it was closed before all was sent
                return b""

    async def main() -> None:
        figures = Figures("mx.example", None, lambda: (ehlo.Statistics(), 0), Hour(time.time), lambda: 0, time.time)
        async with open_web("127.0.0.1", 0, figures) as (_, port):
            got = await anyio.to_thread.run_sync(talk, port)
            assert b"<html" not in got
            assert answer in got[:20]
            assert (await get(port, "/healthz"))[0] == 200

    anyio.run(main)


def test_readers_that_stand_still_are_bounded() -> None:
    """One more than the slots is closed at once; the loop does not notice any of them."""

    async def main() -> None:
        figures = Figures("mx.example", None, lambda: (ehlo.Statistics(), 0), Hour(time.time), lambda: 0, time.time)
        async with open_web("127.0.0.1", 0, figures) as (_, port):
            held = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(9)]
            try:
                assert await anyio.to_thread.run_sync(held[8].recv, 10) == b""
            finally:
                for one in held:
                    one.close()

    anyio.run(main)


def test_an_error_of_the_server_comes_out_as_it_is() -> None:
    async def main() -> None:
        figures = Figures("mx.example", None, lambda: (ehlo.Statistics(), 0), Hour(time.time), lambda: 0, time.time)
        async with open_web("127.0.0.1", 0, figures):
            raise UsageError("the port is taken")

    with pytest.raises(UsageError, match="is taken"):
        anyio.run(main)


def test_an_hour_forgets() -> None:
    now = 0.0
    hour = Hour(lambda: now)
    hour("refused", {"command": "DATA"})
    now = 59 * 60
    hour("accepted", {})
    hour("delayed", {})
    assert counts_by_minute(hour.minutes, now)["refused"] == [1] + [0] * 59
    assert refusals_by_command(hour.minutes, now) == {"content": 1}
    now = 60 * 60
    assert sum(counts_by_minute(hour.minutes, now)["refused"]) == 0
    assert refusals_by_command(hour.minutes, now) == {}
    assert counts_by_minute(hour.minutes, now)["accepted"][-2] == 1


def test_a_queue_id() -> None:
    assert parse_ident("0" * 15 + "1 ") == 1
    assert parse_ident("8" + "0" * 15) is None


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [420, 1200])
def test_a_browser_shows_the_page(tmp_path: Path, width: int) -> None:
    """No error in its console, nothing asked from elsewhere, and nothing wider than the window."""

    def look(port: int, ident: str) -> subprocess.CompletedProcess[str]:
        assert BROWSER is not None
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--enable-logging=stderr", f"--window-size={width},1800", f"--screenshot={tmp_path / 'page.png'}"]
        command += ["--dump-dom", f"http://127.0.0.1:{port}/?why={ident}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=90)

    async def main() -> None:
        async with filled(tmp_path / "spool") as (queue, figures, _), open_web("127.0.0.1", 0, figures) as (_, port):
            ident = (await queue.spool.entries(Selection(), 1))[0].message.ident
            done = await anyio.to_thread.run_sync(partial(look, port, ident))
            assert done.returncode == 0, done.stderr
            assert ":CONSOLE" not in done.stderr, done.stderr
            assert done.stdout.count("<svg") == 5
            assert f"Message {ident}" in done.stdout
            assert (tmp_path / "page.png").stat().st_size > 10_000

    anyio.run(main)
