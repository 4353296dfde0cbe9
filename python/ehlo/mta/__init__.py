"""The MTA kit: a durable queue, the way to the next hop, retries and notifications.

Example::

    async with ehlo.mta.open_queue("spool", hostname="mx.example.org", route=route) as queue:
        async with await ehlo.asyncio.serve(ehlo.mta.QueueHandler(queue), "0.0.0.0", 25):
            await queue.run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehlo._lazy import lazy
from ehlo.mta import delivery_status, dns
from ehlo.mta._channel import Limits as DeliveryLimits
from ehlo.mta._clock import Clock, SystemClock
from ehlo.mta._events import Counters, JsonFormatter
from ehlo.mta._handler import QueueHandler, StreamingQueueHandler
from ehlo.mta._open import open_queue
from ehlo.mta._queue import Queue, RouteState
from ehlo.mta._retry import RetrySchedule
from ehlo.mta._routes import Fail, Hold, Lmtp, Maildir, Mbox, Mx, Route, SmartHost
from ehlo.mta._spool import Changed, Entry, Selection, Spool, SpoolError, Suspension, Totals
from ehlo.mta._sqlite_spool import SqliteSpool
from ehlo.mta._tls_policy import TlsPolicy

if TYPE_CHECKING:
    from ehlo.milter.filters import Filters

__all__ = [
    "Changed",
    "Clock",
    "Counters",
    "DeliveryLimits",
    "Entry",
    "Fail",
    "Filters",
    "Hold",
    "JsonFormatter",
    "Lmtp",
    "Maildir",
    "Mbox",
    "Mx",
    "Queue",
    "QueueHandler",
    "RetrySchedule",
    "Route",
    "RouteState",
    "Selection",
    "SmartHost",
    "Spool",
    "SpoolError",
    "SqliteSpool",
    "StreamingQueueHandler",
    "Suspension",
    "SystemClock",
    "TlsPolicy",
    "Totals",
    "delivery_status",
    "dns",
    "open_queue",
]

if not TYPE_CHECKING:  # for a type checker any name would be there
    __getattr__, __dir__ = lazy(__name__, {"Filters": "ehlo.milter.filters"})
