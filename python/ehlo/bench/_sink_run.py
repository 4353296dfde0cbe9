"""A measuring sink on one process or on several that share a port, and its report."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import TYPE_CHECKING, Any

from ehlo.bench._faults import parse_fault, parse_limit
from ehlo.bench._outcome import SCHEMA, machine
from ehlo.bench._sink import BenchSink, SinkCounts

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

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
        self._workers: list[tuple[SpawnProcess, Connection]] = []
        self._count = workers
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The parent of several workers binds without listening: the port is theirs from the first moment on.
        self._listener = _bind(family, where, shared=workers > 1)
        if workers == 1:
            self._listener.listen(4096)
        name = self._listener.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self._family = int(family)
        if workers > 1:
            self._start()

    def stop(self) -> None:
        """End it; for signal handlers."""
        self._stopped = True
        if self._sink is not None:
            self._sink.stop()
        for _, pipe in self._workers:
            with contextlib.suppress(OSError):
                pipe.send("stop")

    def run(self) -> dict[str, Any]:
        """Receive, and tell what came as the JSON report does.

        Raises:
            RuntimeError: if a worker process died.
        """
        if self._workers:
            counts = self._gather()
        else:
            self._sink = _make(self._listener, self._options, self._seed, self._told)
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
            "faults": dict(counts.faults.most_common()),
            "series": [
                {"second": second, "messages": row[0], "octets": row[1], "connections": row[2], "faults": row[3]}
                for second, row in sorted(counts.series.items())
            ],
        }

    def _told(self, sink: BenchSink) -> None:
        if self._on_tick is not None:
            self._on_tick(sink.counts)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for number in range(self._count):
            ours, theirs = context.Pipe()
            arguments = (self._family, self.address, self._options, self._seed + number, theirs)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        for _, pipe in self._workers:
            try:
                pipe.recv()
            except (EOFError, OSError):
                raise OSError("a worker process did not start") from None

    def _gather(self) -> SinkCounts:
        latest: dict[Connection, SinkCounts] = {}
        waiting = [pipe for _, pipe in self._workers]
        shown = monotonic()
        while waiting:
            for ready in wait(waiting):
                pipe = next(one for one in waiting if one is ready)
                try:
                    last, counts = pipe.recv()
                except (EOFError, OSError):
                    raise RuntimeError("a worker process died") from None
                latest[pipe] = counts
                if last:
                    waiting.remove(pipe)
            if self._on_tick is not None and monotonic() - shown > 0.25:
                shown = monotonic()
                self._on_tick(_sum(list(latest.values())))
        for process, pipe in self._workers:
            pipe.close()
            process.join(5)
        self._listener.close()
        return _sum(list(latest.values()))


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


def _sum(all_counts: list[SinkCounts]) -> SinkCounts:
    total = SinkCounts()
    for counts in all_counts:
        total.add(counts)
    return total


def _work(family: int, address: tuple[str, int], options: dict[str, Any], seed: int, pipe: Connection) -> None:
    """A worker process: says "ready", then sends counts, the last ones marked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all: the parent alone heeds it

    def tick(sink: BenchSink) -> None:
        pipe.send((False, sink.counts))
        if pipe.poll():
            with contextlib.suppress(EOFError):
                pipe.recv()
            sink.stop()

    with contextlib.suppress(BrokenPipeError):
        listener = _bind(family, address, shared=True)
        listener.listen(4096)
        sink = _make(listener, options, seed, tick)
        pipe.send("ready")
        pipe.send((True, sink.run()))
