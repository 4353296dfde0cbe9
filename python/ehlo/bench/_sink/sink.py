"""The fastest receiver that there is here: the engine over plain sockets, content counted and thrown away.

A message costs no Python object: without faults nothing is decided here, and the engines are asked for their counts.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, process_time
from typing import Any, Final

from ehlo._core import (
    Connect,
    Data,
    Disconnect,
    Hello,
    Mail,
    Message,
    Rcpt,
    ReceiveBuffer,
    ServerConfig,
    ServerConnection,
)
from ehlo.bench._poller import READ, WRITE, Poller, make_poller
from ehlo.bench._sink.faults import At, Fault, Limit

__all__ = ["BenchSink", "SinkCounts"]

_PLACE: Final[dict[type, At]] = {
    Connect: "connect",
    Hello: "hello",
    Mail: "mail",
    Rcpt: "rcpt",
    Data: "data",
    Message: "message",
}
_YES: Final = ord("3")  # replies that begin with a higher digit refuse
_REFUSALS: Final = re.compile(rb"^([45]\d\d) ", re.MULTILINE).findall  # the last line of each
_TICK: Final = 0.25  # seconds between two looks at the counts


@dataclass(slots=True)
class SinkCounts:
    """What a sink counted. Plain data.

    Example::

        counts.messages / counts.seconds
    """

    messages: int = 0
    connections: int = 0
    octets: int = 0  # received, commands and all
    open: int = 0  # connections, now
    seconds: float = 0.0
    cpu: float = 0.0  # seconds
    refused: Counter[str] = field(default_factory=Counter)  # "550" -> how often it was said
    faults: Counter[str] = field(default_factory=Counter)  # "rcpt:550:0.1" -> how often
    series: dict[int, list[int]] = field(default_factory=dict)  # second -> messages, octets, connections, faults

    def add(self, other: SinkCounts) -> None:
        """Add what another process counted in the same time."""
        self.messages += other.messages
        self.connections += other.connections
        self.octets += other.octets
        self.open += other.open
        self.seconds = max(self.seconds, other.seconds)
        self.cpu += other.cpu
        self.refused += other.refused
        self.faults += other.faults
        for second, row in other.series.items():
            mine = self.series.setdefault(second, [0, 0, 0, 0])
            self.series[second] = [a + b for a, b in zip(mine, row, strict=True)]


class SinkConnection:
    """One connection."""

    __slots__ = ("busy", "conn", "counted", "fd", "greeted", "out", "sink", "sock")

    def __init__(self, sink: BenchSink, sock: socket.socket) -> None:
        self.sink: BenchSink = sink
        self.sock: socket.socket = sock
        self.fd: int = sock.fileno()
        self.conn: ServerConnection = ServerConnection(sink.config)
        self.counted: int = 0  # messages, as of the last look
        self.out: memoryview | None = None  # what the kernel would not take, or what drips
        self.busy: bool = False  # a delay or a drip is on

    def on_ready(self, mask: int) -> None:
        if mask & WRITE and self.out is not None:
            self._flush()
        if mask == WRITE or self.fd < 0:
            return
        sink = self.sink
        try:
            count = self.sock.recv_into(sink.view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not count:
            self.conn.receive_eof()
        else:
            sink.octets += count
            self.conn.receive_from(sink.buffer, count)
        if not self.busy:
            self.advance()

    def advance(self) -> None:
        conn = self.conn
        while (event := conn.next_event()) is not None:
            at = _PLACE.get(type(event))
            if at is not None:
                if not self.sink.decide(self, at):
                    return
            elif type(event) is Disconnect and event.reason == "eof":
                self.close()
                return
        out = conn.data_to_send()
        if out:
            if out[0] > _YES or b"\n4" in out or b"\n5" in out:
                self.sink.count_refusals(out)
            if self.out is None:
                self._send(out)
            else:
                self.out = memoryview(bytes(self.out) + out)
        if conn.closed and self.out is None:
            self.close()

    def _send(self, out: bytes) -> None:
        try:
            count = self.sock.send(out)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self.close()
            return
        if count < len(out):
            self.out = memoryview(out)[count:]
            self._watch(WRITE)  # who does not read is not read from

    def _flush(self) -> None:
        out = self.out
        if out is None or self.busy:
            return
        self.out = None
        self._send(bytes(out))
        self._go_on()

    def _go_on(self) -> None:
        """After the kernel took all."""
        if self.out is None and self.fd >= 0:
            self._watch(READ)
            self.advance()

    def drip(self, seconds: float) -> None:
        """Send what there is to send octet by octet."""
        self.busy = True
        self._watch(0)
        out = self.conn.data_to_send()
        self.sink.count_refusals(out)
        self._drip(memoryview(out), seconds)

    def _drip(self, out: memoryview, seconds: float) -> None:
        if self.fd < 0:
            return
        try:
            count = self.sock.send(out[:1])
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self.close()
            return
        out = out[count:]
        if out:
            self.sink.later(seconds, lambda: self._drip(out, seconds))
        else:
            self.resume()

    def hold(self, seconds: float) -> None:
        """Answer the open decision only after so long."""
        self.busy = True
        self._watch(0)

        def answer() -> None:
            if self.fd >= 0:
                self.conn.accept()
                self.resume()

        self.sink.later(seconds, answer)

    def resume(self) -> None:
        self.busy = False
        self._watch(READ)
        self.advance()

    def _watch(self, mask: int) -> None:
        if self.fd >= 0:
            self.sink.poller.change(self.fd, mask)

    def close(self) -> None:
        if self.fd >= 0:
            self.sink.forget(self)
            self.fd = -1
            self.sock.close()


class BenchSink:
    """A receiver in one process.

    Arguments:
        listener: a listening socket; the sink closes it.
        lmtp: speak LMTP (RFC 2033).
        faults, limits: what goes wrong, where, and how often; see :mod:`ehlo.bench._sink.faults`.
        max_size: octets of a message, ``None`` for no limit.
        seed: of the faults.
        on_tick: called four times a second with this object.

    Example::

        BenchSink(socket.create_server(("127.0.0.1", 2525))).run()
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        lmtp: bool = False,
        faults: Sequence[Fault] = (),
        limits: Sequence[Limit] = (),
        max_size: int | None = None,
        seed: int = 1,
        on_tick: Callable[[BenchSink], None] | None = None,
    ) -> None:
        self._listener = listener
        listener.setblocking(False)
        self._faults: dict[At, list[Fault]] = {}
        self._limits: dict[At, list[Limit]] = {}
        for fault in faults:
            self._faults.setdefault(fault.at, []).append(fault)
        for limit in limits:
            self._limits.setdefault(limit.at, []).append(limit)
        decisions: Any = [at for at in _PLACE.values() if at in self._faults or at in self._limits]
        self.config: ServerConfig = ServerConfig(
            "sink.example.org",
            lmtp=lmtp,
            decisions=decisions,
            content="discard",
            max_message_size=max_size,
            max_messages=None,
            max_errors=None,
            max_junk=None,
            bare_newlines="allow",
        )
        self.buffer: ReceiveBuffer = ReceiveBuffer(262144)
        self.view: memoryview[int] = self.buffer.view
        self.poller: Poller = make_poller()
        self.octets = 0
        self.counts: SinkCounts = SinkCounts()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._connections: set[SinkConnection] = set()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._random = random.Random(seed)
        self._on_tick = on_tick
        self._stopped = False
        self._ended = 0  # messages of connections that are over, not yet in the counts
        self._last_total = [0, 0, 0, 0]

    def stop(self) -> None:
        """End it; may be called by a signal handler."""
        self._stopped = True

    def run(self) -> SinkCounts:
        """Receive until :meth:`stop`, and tell what came."""
        begun, cpu = monotonic(), process_time()
        fd = self._listener.fileno()
        self.poller.add(fd, READ)
        handlers = self._handlers
        handlers[fd] = self._accept
        tick = begun + _TICK
        wait, later = self.poller.wait, self._later
        try:
            while not self._stopped:
                seconds = _TICK if not later else max(0.0, min(_TICK, later[0][0] - monotonic()))
                for ready, mask in wait(seconds):
                    handler = handlers.get(ready)
                    if handler is not None:
                        handler(mask)
                now = monotonic()
                while later and later[0][0] <= now:
                    heapq.heappop(later)[2]()
                if now >= tick:
                    tick = now + _TICK
                    self._settle(now - begun, cpu)
                    if self._on_tick is not None:
                        self._on_tick(self)
        finally:
            self._settle(monotonic() - begun, cpu)
            for connection in list(self._connections):
                connection.close()
            self._listener.close()
            self.poller.close()
        return self.counts

    def decide(self, peer: SinkConnection, at: At) -> bool:
        """Answer the open decision, or not yet: then False."""
        conn = peer.conn
        now = monotonic()
        for limit in self._limits.get(at, ()):
            if not limit.spend(now):
                self.counts.faults[str(limit)] += 1
                conn.send_reply(limit.reply)
                return True
        for fault in self._faults.get(at, ()):
            if not fault.strikes(self._random):
                continue
            self.counts.faults[str(fault)] += 1
            if fault.action == "disconnect":
                peer.close()
                return False
            if fault.action == "delay":
                peer.hold(fault.seconds)
                return False
            if fault.action == "drip":
                conn.accept()
                peer.drip(fault.seconds)
                return False
            assert fault.reply is not None
            conn.send_reply(fault.reply)
            return True
        conn.accept()
        return True

    def count_refusals(self, out: bytes) -> None:
        """Count the replies 4yz and 5yz in this output by their code."""
        self.counts.refused.update(code.decode() for code in _REFUSALS(out))

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it after so long."""
        heapq.heappush(self._later, (monotonic() + seconds, next(self._numbers), call))

    def forget(self, peer: SinkConnection) -> None:
        """A connection is over."""
        self._ended += peer.conn.messages - peer.counted
        self._connections.discard(peer)
        del self._handlers[peer.fd]
        self.poller.remove(peer.fd)

    def _accept(self, mask: int) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except OSError:  # no more, or no more descriptors: those that wait keep waiting
                return
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = SinkConnection(self, sock)
            self.counts.connections += 1
            self._connections.add(connection)
            self._handlers[connection.fd] = connection.on_ready
            self.poller.add(connection.fd, READ)
            connection.advance()

    def _settle(self, seconds: float, cpu: float) -> None:
        """Bring the counts up to date. What came since the last look is put into the second it is noticed in."""
        counts = self.counts
        messages, self._ended = self._ended, 0
        for connection in self._connections:
            now = connection.conn.messages
            messages += now - connection.counted
            connection.counted = now
        counts.messages += messages
        counts.octets = self.octets
        counts.open = len(self._connections)
        counts.seconds = seconds
        counts.cpu = process_time() - cpu
        total = [counts.messages, counts.octets, counts.connections, counts.faults.total()]
        row = counts.series.setdefault(int(seconds), [0, 0, 0, 0])
        counts.series[int(seconds)] = [a + b - c for a, b, c in zip(row, total, self._last_total, strict=True)]
        self._last_total = total
