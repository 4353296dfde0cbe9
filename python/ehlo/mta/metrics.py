"""The figures of a queue for Prometheus; needs the extra ``ehlo[metrics]``.

Example::

    prometheus_client.REGISTRY.register(ehlo.mta.metrics.QueueCollector(queue))
    prometheus_client.start_http_server(9100)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ehlo.mta._events import BUCKETS, Histogram
from ehlo.mta._queue import Queue
from ehlo.mta._spool import Totals

__all__ = ["QueueCollector"]

_COUNTERS: Final = {
    "accepted": ("messages_accepted", "Messages that were accepted."),
    "refused": ("messages_refused", "Messages that were refused, since there was no room or the storage failed."),
    "octets": ("octets_accepted", "Octets of accepted messages."),
    "double_bounces": ("double_bounces", "Failures that the null sender was not told of."),
    "doubles_possible": ("doubles_possible", "Attempts whose outcome is unknown: the next hop may have the message."),
    "crashes": ("crashes", "Attempts that ended by an error of the program."),
    "suspensions": ("suspensions", "Routes that were found dead."),
    "connections": ("connections", "Connections that were opened to next hops."),
}


class QueueCollector(Collector):
    """Collects a queue's counters when Prometheus asks, so that they cost nothing in between.

    Arguments:
        queue: the queue.

    Example::

        collector = QueueCollector(queue)
        prometheus_client.REGISTRY.register(collector)
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._totals: Totals | None = None

    async def refresh(self) -> Totals:
        """Ask the spool how much is queued: what :meth:`collect` cannot, since it may not wait. Call it now and then.

        Returns:
            The figures that :meth:`collect` gives from now on.

        Example::

            while True: await collector.refresh(); await asyncio.sleep(15)
        """
        self._totals = totals = await self._queue.spool.totals()
        return totals

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        counters = self._queue.counters
        for name, (metric, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"ehlo_queue_{metric}", text, value=getattr(counters, name))
        attempts = CounterMetricFamily("ehlo_queue_attempts", "Attempts for one recipient.", labels=["result"])
        for result, count in counters.attempts.items():
            attempts.add_metric([result], count)
        yield attempts
        notices = CounterMetricFamily("ehlo_queue_notices", "Notifications that were sent.", labels=["kind"])
        for kind, count in counters.notices.items():
            notices.add_metric([kind], count)
        yield notices
        yield _histogram("commit_seconds", "From a message's end to its commit.", counters.commit_seconds)
        yield _histogram("delivery_seconds", "From arrival to the next hop's 250.", counters.delivery_seconds)
        routes = self._queue.routes
        suspended = sum(route.suspended_for > 0 for route in routes)
        yield GaugeMetricFamily("ehlo_queue_routes_suspended", "Routes without attempts.", value=suspended)
        busy = sum(route.busy for route in routes)
        yield GaugeMetricFamily("ehlo_queue_transactions", "Transactions that go on.", value=busy)
        if self._totals is not None:
            yield from _of_totals(self._totals)


def _of_totals(totals: Totals) -> Iterator[Metric]:
    states = GaugeMetricFamily("ehlo_queue_recipients", "Recipients in the queue.", labels=["state"])
    for state in ("ready", "owned", "held"):
        states.add_metric([state], getattr(totals, state))
    yield states
    yield GaugeMetricFamily("ehlo_queue_messages", "Messages in the queue.", value=totals.messages)
    yield GaugeMetricFamily("ehlo_queue_octets", "Octets in the queue.", value=totals.octets)
    if totals.oldest is not None:
        text = "When the oldest message arrived, Unix time."
        yield GaugeMetricFamily("ehlo_queue_oldest_timestamp_seconds", text, value=totals.oldest)
    if totals.free is not None:
        yield GaugeMetricFamily("ehlo_queue_free_octets", "Octets that are free for the queue.", value=totals.free)


def _histogram(name: str, text: str, values: Histogram) -> HistogramMetricFamily:
    buckets, total = [], 0
    for end, count in zip((*BUCKETS, float("inf")), values.counts, strict=True):
        total += count
        buckets.append(("+Inf" if end == float("inf") else str(end), float(total)))
    return HistogramMetricFamily(f"ehlo_queue_{name}", text, buckets=buckets, sum_value=values.total)
