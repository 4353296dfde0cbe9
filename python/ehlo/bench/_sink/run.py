"""A measuring sink on one process or on several that share a port, and its report."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ehlo.bench._machine import SCHEMA, machine
from ehlo.bench._sink.faults import parse_fault, parse_limit
from ehlo.bench._sink.sink import BenchSink, SinkCounts
from ehlo.bench._workers import Workers, alone_heeds_interrupts, report_to

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["SinkRun"]


class SinkRun:
    """Listens at once; receives in :meth:`run` until :meth:`stop`.

    Arguments:
        host, port: where to listen; port 0 is any free one.
        workers: processes. lmtp: LMTP (RFC 2033). max_size: octets of a message, ``None`` for no limit.
        faults, limits: as :func:`ehlo.bench.parse_fault` and ``parse_limit`` read them. seed: of the faults.
        on_tick: called a few times a second with what was counted so far.

    Raises:
        OSError: if it cannot listen there. ValueError: for a fault or a limit that is none.

    Example::

        run = SinkRun("127.0.0.1", 0, faults=["rcpt:550:0.1"])
        report = run.run()
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 2525,
        *,
        workers: int = 1,
        lmtp: bool = False,
        max_size: int | None = None,
        faults: Sequence[str] = (),
        limits: Sequence[str] = (),
        seed: int = 1,
        on_tick: Callable[[SinkCounts], None] | None = None,
    ) -> None:
        for fault in faults:
            parse_fault(fault)
        for limit in limits:
            parse_limit(limit)
        if workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise OSError("this system has no SO_REUSEPORT; use one worker")
        self._options: dict[str, Any] = {
            "lmtp": lmtp,
            "max_size": max_size,
            "faults": list(faults),
            "limits": list(limits),
        }
        self._seed = seed
        self._on_tick = on_tick
        self._stopped = False
        self._sink: BenchSink | None = None
        self._workers: Workers[SinkCounts] | None = None
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The parent of several workers binds without listening: the port is theirs from the first moment on.
        self._listener = _bind(family, where, shared=workers > 1)
        if workers == 1:
            self._listener.listen(4096)
        name = self._listener.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        if workers > 1:
            shares = ((int(family), self.address, self._options, seed + number) for number in range(workers))
            self._workers = Workers(SinkCounts, _work, shares)
            try:
                self._workers.wait_until_ready()
            except RuntimeError as exc:
                raise OSError(str(exc)) from None

    def stop(self) -> None:
        """End it; for signal handlers."""
        self._stopped = True
        if self._sink is not None:
            self._sink.stop()
        if self._workers is not None:
            self._workers.tell("stop")

    def run(self) -> dict[str, Any]:
        """Receive, and tell what came as the JSON report does.

        Raises:
            RuntimeError: if a worker process died.
        """
        if self._workers is not None:
            try:
                counts = self._workers.gather(self._on_tick)
            finally:
                self._workers.close()
                self._listener.close()
        else:
            self._sink = _make(self._listener, self._options, self._seed, self._count)
            if self._stopped:
                self._sink.stop()
            counts = self._sink.run()
        return {
            "tool": "ehlo bench sink",
            "schema": SCHEMA,
            "machine": machine(),
            "messages": counts.messages,
            "connections": counts.connections,
            "octets": counts.octets,
            "seconds": round(counts.seconds, 3),
            "cpu": {"seconds": round(counts.cpu, 6)},
            "refused": dict(counts.refused.most_common()),
            "faults": dict(counts.faults.most_common()),
            "series": [
                {"second": second, "messages": row[0], "octets": row[1], "connections": row[2], "faults": row[3]}
                for second, row in sorted(counts.series.items())
            ],
        }

    def _count(self, sink: BenchSink) -> None:
        if self._on_tick is not None:
            self._on_tick(sink.counts)


def _bind(family: int, where: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _make(
    listener: socket.socket, options: dict[str, Any], seed: int, on_tick: Callable[[BenchSink], None]
) -> BenchSink:
    faults = [parse_fault(fault) for fault in options["faults"]]
    limits = [parse_limit(limit) for limit in options["limits"]]  # each process has its own bucket
    return BenchSink(listener, seed=seed, on_tick=on_tick, **{**options, "faults": faults, "limits": limits})


def _work(family: int, address: tuple[str, int], options: dict[str, Any], seed: int, pipe: Connection) -> None:
    """A worker process: says "ready", then sends counts, the last ones marked."""
    alone_heeds_interrupts()

    def tick(sink: BenchSink) -> None:
        report_to(pipe, sink.counts, sink.stop)

    with contextlib.suppress(BrokenPipeError):
        listener = _bind(family, address, shared=True)
        listener.listen(4096)
        sink = _make(listener, options, seed, tick)
        pipe.send("ready")
        pipe.send((True, sink.run()))
