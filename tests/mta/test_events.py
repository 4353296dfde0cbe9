"""What is told: log lines and figures."""

from __future__ import annotations

import json
import logging

import pytest
from kit import CONTENT, Sink, relaying, until
from memory_spool import MemorySpool

from ehlo.mta import JsonFormatter
from ehlo.mta._events import BUCKETS, Histogram, LogLine
from ehlo.mta._spool import Totals
from loops import run


def test_s_que_23_each_event_is_a_line_with_the_queue_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ehlo.mta")

    async def main() -> None:
        sink = Sink(rcpt={"bad@d.example": "550 5.1.1 no"})
        async with relaying(sink) as (queue, spool, _):
            ident = await queue.submit(("a@b.example", ["c@d.example", "bad@d.example"]), CONTENT)
            await until(lambda: len(sink.got) == 2 and not spool.rows)
        lines = [record for record in caplog.records if isinstance(record.msg, LogLine)]
        said = [line.msg for line in lines if isinstance(line.msg, LogLine)]
        events = [line.event for line in said if line.ident == ident]
        assert events == ["accepted", "notified", "relayed", "failed"]
        assert lines[1].getMessage().startswith(f"{ident} notified kind=failed to=a@b.example notice=")
        formatted = json.loads(JsonFormatter().format(lines[0]))
        assert (formatted["id"], formatted["event"], formatted["recipients"]) == (ident, "accepted", 2)

    run("asyncio", main)


def test_s_que_23_nobody_forges_a_line() -> None:
    line = str(LogLine("relayed", "1", to='a"b\n@c', reply="250 ok", host="mx"))
    assert line == '1 relayed to="a\\"b\\n@c" reply="250 ok" host=mx'
    plain = logging.LogRecord("x", logging.INFO, "f", 1, "hello %s", ("you",), None)
    assert json.loads(JsonFormatter().format(plain))["message"] == "hello you"


def test_a_histogram_has_a_place_for_everything() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 1e9):
        histogram.add(seconds)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[len(BUCKETS)] == 1


def test_the_figures_for_prometheus() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    from ehlo.mta.metrics import QueueCollector

    class Counting(MemorySpool):
        async def totals(self) -> Totals:
            return Totals(1, 2, 3, 4, 5, 6.0, 7)

    async def main() -> str:
        async with relaying(Sink(), spool=Counting()) as (queue, spool, _):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: spool.ended)
            registry = prometheus_client.CollectorRegistry()
            collector = QueueCollector(queue)
            registry.register(collector)
            await collector.refresh()
            return str(prometheus_client.generate_latest(registry).decode())

    text = run("asyncio", main)
    assert "ehlo_queue_messages_accepted_total 1.0" in text
    assert 'ehlo_queue_attempts_total{result="relayed"} 1.0' in text
    assert 'ehlo_queue_delivery_seconds_bucket{le="+Inf"} 1.0' in text
    assert 'ehlo_queue_recipients{state="held"} 3.0' in text
    # A Unix time has the suffix _timestamp_seconds (https://prometheus.io/docs/practices/naming); an age has not.
    assert "ehlo_queue_oldest_timestamp_seconds 6.0" in text
