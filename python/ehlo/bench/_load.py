"""The load of one process: many :class:`ehlo.ClientConnection` over plain non-blocking sockets and one poller.

No event loop, no task and no timer stands between a reply and the command behind it: a wake-up is one ``recv_into``,
the engine, and one ``send``. That costs as much as uvloop and a quarter less than asyncio, and knows the time to the
microsecond, which an event loop on epoll does not.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import random
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from time import perf_counter_ns, process_time
from typing import Any, Final

from ehlo._core import (
    Challenge,
    ClientConfig,
    ClientConnection,
    ClientDisconnect,
    CommandReply,
    Ready,
    ReceiveBuffer,
    Recipient,
    Sender,
    SendResult,
    StartTls,
    Unsolicited,
)
from ehlo._errors import LocalProtocolError
from ehlo._tls import unverified_context
from ehlo.bench._histogram import quantise
from ehlo.bench._plan import LoadPlan
from ehlo.bench._poller import READ, WRITE, make_poller
from ehlo.bench._tally import PHASES, Tally

__all__ = ["Load"]

_TICK: Final = 250_000_000  # nanoseconds between two looks at deadlines, and at how far the run is
_NONE: Final = -1  # no phase: nothing is waited for, or it cannot be told apart
_CONNECT, _TLS, _BANNER, _EHLO, _STARTTLS, _AUTH, _MAIL, _RCPT, _DATA, _ENVELOPE, _CONTENT, _MESSAGE, _LAG = range(13)
_RSET, _QUIT = 13, 14
# What is waited for after these octets went out. All else is content.
_PHASE_OF: Final = {
    b"EHLO": _EHLO,
    b"HELO": _EHLO,
    b"LHLO": _EHLO,
    b"STAR": _STARTTLS,
    b"AUTH": _AUTH,
    b"MAIL": _MAIL,
    b"RCPT": _RCPT,
    b"DATA": _DATA,
    b"BDAT": _CONTENT,
    b"RSET": _RSET,
    b"QUIT": _QUIT,
}
_OF_A_MESSAGE: Final = (_MAIL, _RCPT, _DATA, _ENVELOPE, _CONTENT, _RSET)
_AGAIN: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_UNBOUNDED: Final = 1 << 62
_SAMPLE: Final = 200  # characters of a reply kept beside the count of its kind


def _name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, f"errno {number}")


class _Slot:
    """One connection at a time, made anew when it ends. A run has a fixed number of them."""

    __slots__ = (
        "accepted",
        "conn",
        "data_to_send",
        "failures",
        "fd",
        "free",
        "left",
        "load",
        "merged",
        "next_event",
        "over",
        "pending",
        "phase",
        "quitting",
        "ready",
        "receive_from",
        "recv_into",
        "seen",
        "send",
        "sent",
        "sock",
        "starts",
        "tls",
        "trouble",
    )

    conn: ClientConnection
    receive_from: Callable[[ReceiveBuffer, int], None]
    next_event: Callable[[], Any]
    data_to_send: Callable[[], bytes]
    recv_into: Callable[[memoryview], int]
    send: Callable[[Any], int]
    sock: socket.socket

    def __init__(self, load: Load) -> None:
        self.load = load
        self.fd = -1
        self.failures = 0
        self.free = False
        self.starts: dict[int, tuple[int, int]] = {}  # message -> its start (0: in the warm-up), its octets

    # ---- up to the session -------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        load = self.load
        self.pending: memoryview | None = None
        self.merged = False
        self.over = False
        self.quitting = False
        self.ready = False
        self.tls = False
        self.accepted = 0
        self.left = load.plan.messages_per_connection or _UNBOUNDED
        self.trouble = ""
        self.phase = _CONNECT
        load.tally.connections += 1
        self.sent = self.seen = perf_counter_ns()
        try:
            sock = socket.socket(load.family, socket.SOCK_STREAM)
        except OSError as exc:
            load.failed(self, _name(exc.errno), str(exc))
            return
        self.sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if load.sources is not None:
                sock.bind((next(load.sources), 0))
            code = sock.connect_ex(load.address)
        except OSError as exc:
            code = exc.errno or 0
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            sock.close()
            load.failed(self, _name(code), "")
            return
        self._bind(sock)
        load.poller.add(self.fd, WRITE)
        load.handlers[self.fd] = self._on_connected

    def _bind(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recv_into = sock.recv_into
        self.send = sock.send

    def _on_connected(self, mask: int) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(_name(code))
            return
        now = perf_counter_ns()
        self._record(_CONNECT, now)
        if self.load.plan.tls == "implicit":
            self._shake_hands(now)
        else:
            self._begin(now)

    def _shake_hands(self, now: int) -> None:
        load = self.load
        assert load.context is not None
        self.phase = _TLS
        self.sent = self.seen = now
        fd = self.fd
        wrapped = load.context.wrap_socket(
            self.sock, do_handshake_on_connect=False, server_hostname=load.plan.host or None
        )
        self._bind(wrapped)
        assert self.fd == fd
        self.tls = True
        load.handlers[fd] = self._on_handshake
        self._on_handshake(WRITE)

    def _on_handshake(self, mask: int) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.load.poller.change(self.fd, READ)
            return
        except ssl.SSLWantWriteError:
            self.load.poller.change(self.fd, WRITE)
            return
        except OSError as exc:
            self._fail(getattr(exc, "reason", None) or _name(exc.errno), str(exc))
            return
        now = perf_counter_ns()
        self._record(_TLS, now)
        if self.load.plan.tls == "implicit":
            self._begin(now)
            return
        self.load.poller.change(self.fd, READ)
        self.load.handlers[self.fd] = self._on_readable_tls
        self.phase = _NONE
        self.conn.tls_established()
        self.pump(now, self.next_event())

    def _begin(self, now: int) -> None:
        """The transport is there; the server speaks first."""
        load = self.load
        self.conn = conn = ClientConnection(load.config)
        self.receive_from = conn.receive_from
        self.next_event = conn.next_event
        self.data_to_send = conn.data_to_send
        if self.tls:
            conn.tls_established()
        self.phase = _BANNER
        self.sent = self.seen = now
        load.poller.change(self.fd, READ)
        load.handlers[self.fd] = self._on_readable_tls if self.tls else self._on_readable
        if self.tls:
            self._on_readable_tls(READ)

    # ---- the session -------------------------------------------------------------------------

    def _on_readable_tls(self, mask: int) -> None:
        """TLS keeps what it has decrypted, and the poller does not know of it."""
        self._on_readable(mask)
        sock = self.sock
        while isinstance(sock, ssl.SSLSocket) and self.fd >= 0 and sock is self.sock and sock.pending():
            self._on_readable(READ)

    def _on_readable(self, mask: int) -> None:
        if mask & WRITE and self.pending is not None:
            self._flush()
        if mask == WRITE:
            return
        try:
            count = self.recv_into(self.load.view)
        except _AGAIN:
            return
        except OSError as exc:
            self.trouble = _name(exc.errno)
            count = 0
        now = perf_counter_ns()
        self.seen = now
        if count:
            self.receive_from(self.load.buffer, count)
        else:
            self.conn.receive_eof()
        self.pump(now, self.next_event())

    def _usual(self) -> Callable[[int], None]:
        """:meth:`_on_readable` for what nearly every wake-up of a session is, made once a connection: a reply has come,
        which is no event, and the next command goes out. All else goes to :meth:`pump`.

        Replies count as of the wake-up, which is when they were here: what the tool did meanwhile for others is not the
        server's time. A connection is looked at once a wake-up, so what it has sent before was sent before that.
        """
        load = self.load
        view, buffer, counts, timed = load.view, load.buffer, load.counts, load.plan.phases
        recv_into, send = self.recv_into, self.send
        receive_from, next_event, data_to_send = self.receive_from, self.next_event, self.data_to_send
        clock, phase_of, slow, pump = perf_counter_ns, _PHASE_OF.get, self._on_readable, self.pump

        def on_readable(mask: int) -> None:
            if mask != READ or self.pending is not None:
                slow(mask)
                return
            try:
                count = recv_into(view)
            except _AGAIN:
                return
            except OSError as exc:
                self.trouble = _name(exc.errno)
                count = 0
            now = self.seen = load.now
            if count:
                receive_from(buffer, count)
            else:
                self.conn.receive_eof()
            event = next_event()
            if event is not None:
                pump(now, event)
                return
            out = data_to_send()
            if not out:
                return
            if timed:
                phase = self.phase
                if phase < 0:
                    self.phase = phase_of(out[:4], _CONTENT)
                else:
                    if phase != _CONTENT:  # else: BDAT, and not the last chunk
                        took = (now - self.sent) // 1000
                        counts[phase][took if took < 2048 else quantise(took)] += 1
                    # What follows DATA is content, whatever it begins with.
                    self.phase = _CONTENT if phase == _DATA or phase == _ENVELOPE else phase_of(out[:4], _CONTENT)  # noqa: SIM109
                self.sent = clock()
            try:
                count = send(out)
            except _AGAIN:
                count = 0
            except OSError as exc:  # the reason comes by the next read, with what the server said before it
                self.trouble = _name(exc.errno)
                return
            if count < len(out):
                self.pending = memoryview(out)[count:]
                load.poller.change(self.fd, READ | WRITE)
            elif out := data_to_send():
                self._write(out)

        return on_readable

    def pump(self, now: int, event: Any = None) -> None:
        """Events, this one first, then output. ``now`` is when the replies came."""
        load = self.load
        happened = event is not None
        while event is not None:
            if type(event) is SendResult:
                start, size = self.starts.pop(event.id)
                if event.all_accepted:
                    self.accepted += 1
                    if start:
                        took = (now - start) // 1000
                        load.latencies[took if took < 2048 else quantise(took)] += 1
                        row = load.row
                        row[0] += 1
                        row[1] += size
                    else:
                        load.tally.warmup += 1
                else:
                    load.not_accepted(self, event, start)
                load.last = now
                load.next(self, now)
            else:
                self._other(event, now)
            event = self.next_event()
        if self.phase == _TLS:  # it goes on when hands are shaken
            return
        if self.pending is None:
            out = self.data_to_send()
            phase = self.phase
            if phase != _MESSAGE:
                if phase >= 0 and (happened or (out and phase != _CONTENT)) and not self.over:
                    took = (now - self.sent) // 1000
                    load.counts[phase][took if took < 2048 else quantise(took)] += 1
                    self.phase = _NONE
                if out:
                    if not happened and phase in (_DATA, _ENVELOPE):
                        phase = _CONTENT
                    else:
                        phase = _PHASE_OF.get(out[:4], _CONTENT)
                        if phase == _MAIL and self.merged:
                            phase = _NONE if load.plan.chunking else _ENVELOPE
                    self.phase = phase
            if out:
                self._write(out)
        if self.over:
            self._end(now)

    def _write(self, out: bytes) -> None:
        """Write, and ask for more, until there is none or the kernel is full."""
        while True:
            if self.phase != _MESSAGE:
                self.sent = perf_counter_ns()
            try:
                count = self.send(out)
            except _AGAIN:
                count = 0
            except OSError as exc:  # the reason comes by the next read, with what the server said before it
                self.trouble = _name(exc.errno)
                return
            if count < len(out):
                self.pending = memoryview(out)[count:]
                self.load.poller.change(self.fd, READ | WRITE)
                return
            out = self.data_to_send()
            if not out:
                return

    def _flush(self) -> None:
        pending = self.pending
        assert pending is not None
        self.seen = self.sent = perf_counter_ns()
        try:
            count = self.send(pending)
        except _AGAIN:
            return
        except OSError as exc:
            self.trouble = _name(exc.errno)
            count = len(pending)
        if count < len(pending):
            self.pending = pending[count:]
            return
        self.pending = None
        self.load.poller.change(self.fd, READ)
        out = self.data_to_send()
        if out:
            self._write(out)

    def _other(self, event: object, now: int) -> None:
        load = self.load
        match event:
            case Ready():
                if load.plan.user is not None and not self.conn.authenticated:
                    self._authenticate()
                else:
                    self._become_ready(now)
            case StartTls():
                self._record(self.phase, now)
                self.phase = _NONE
                self._shake_hands(now)
            case Challenge(_, challenge):
                asked = load.plan.password if b"pass" in challenge.lower() else load.plan.user
                self.conn.respond((asked or "").encode())
            case CommandReply(_, verb, reply):
                if verb == "AUTH" and reply is not None:
                    if reply.is_positive:
                        self._become_ready(now)
                    else:
                        load.error(f"connection auth {reply.code}", str(reply))
                        self.quit()
            case Unsolicited():
                pass  # the disconnect that follows tells of it
            case ClientDisconnect(reason):
                self.over = True
                if reason != "quit":
                    reply = event.reply
                    what = str(reply.code) if reply is not None else (self.trouble or reason)
                    said = str(reply) if reply is not None else event.explanation
                    load.error(f"connection {'idle' if self.phase == _NONE else PHASES[self.phase]} {what}", said)

    def _authenticate(self) -> None:
        plan = self.load.plan
        if plan.mechanism == "PLAIN":
            self.conn.auth("PLAIN", f"\0{plan.user}\0{plan.password or ''}".encode())
        else:
            self.conn.auth("LOGIN")

    def _become_ready(self, now: int) -> None:
        load = self.load
        self.ready = True
        if not load.plan.phases:
            self._record(self.phase, now)
            self.phase = _MESSAGE  # it stays at that: nothing that a message consists of is timed
        if not self.tls:
            load.handlers[self.fd] = self._usual()
        capabilities = self.conn.capabilities
        self.merged = load.plan.pipelining and "PIPELINING" in capabilities
        limit = self.conn.mail_left
        if limit is not None:
            self.left = min(self.left, max(1, limit))
        for _ in range(load.plan.depth):
            load.next(self, now)

    def quit(self) -> None:
        """Say QUIT when all that was handed over is answered."""
        if not self.quitting:
            self.quitting = True
            with contextlib.suppress(LocalProtocolError):  # over already, and the event that says so is on its way
                self.conn.quit()

    # ---- the end -----------------------------------------------------------------------------

    def check(self, now: int, limit: int) -> None:
        """Judge the deadlines. ``limit``: nanoseconds for a connection to be made."""
        if self.fd < 0:
            return
        if self.phase in (_CONNECT, _TLS):
            if now - self.seen > limit:
                self._fail("timeout")
            return
        timeout = self.conn.timeout
        if timeout is not None and now - self.seen > timeout * 1e9:
            self.conn.receive_timeout()
            self.pump(now, self.next_event())

    def _record(self, phase: int, now: int) -> None:
        if phase >= 0:
            self.load.counts[phase][quantise((now - self.sent) // 1000)] += 1

    def _fail(self, what: str, said: str = "") -> None:
        """There was no session yet, or the handshake inside of it broke."""
        self.close()
        starts, self.starts = self.starts, {}
        for start, _ in starts.values():
            self.load.lost(start)
        self.load.failed(self, what, said)

    def _end(self, now: int) -> None:
        out = self.data_to_send()
        if out and self.pending is None:
            with contextlib.suppress(OSError):
                self.send(out)
        self.close()
        self.load.ended(self, now)

    def close(self) -> None:
        """Let the socket go."""
        if self.fd >= 0:
            self.load.poller.remove(self.fd)
            del self.load.handlers[self.fd]
            self.fd = -1
            self.free = False
            self.sock.close()


class Load:
    """One process' part of a load run.

    Arguments:
        plan: what to do; ``workers`` is not looked at.
        address: where to, already resolved.
        contents: the contents of the messages, taken in turns.
        on_tick: called four times a second with this object; whatever it does delays the run.

    Example::

        tally = Load(plan, ("127.0.0.1", 2525), [b"Subject: x\\r\\n\\r\\nx\\r\\n"]).run()
    """

    def __init__(
        self,
        plan: LoadPlan,
        address: tuple[str, int],
        contents: list[bytes],
        on_tick: Callable[[Load], None] | None = None,
    ) -> None:
        self.plan = plan
        self.address = address
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.tally = Tally()
        self.buffer = ReceiveBuffer(262144)
        self.view = self.buffer.view
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.counts: list[defaultdict[int, int]] = [defaultdict(int) for _ in PHASES]
        self.latencies = self.counts[_MESSAGE]
        self.row = [0, 0, 0]
        self.now = 0  # when the poller last woke us
        self.last = 0  # when the last result came
        self.begin = 0  # when the measured part began; 0 before
        self.sources = itertools.cycle(plan.sources) if plan.sources else None
        self.config = _config(plan)
        self.context = _context(plan)
        self._on_tick = on_tick
        self._sender = Sender(plan.sender)
        self._recipients = [Recipient(plan.recipient.replace("{n}", str(n))) for n in range(plan.recipients)]
        self._next_content = itertools.cycle(contents).__next__
        self._random = random.Random(plan.seed)
        self._closed_loop = plan.rate is None
        self._gap = 0 if plan.rate is None else max(1, round(1e9 / plan.rate))
        self._budget = plan.messages if plan.messages is not None else _UNBOUNDED
        self._end = _UNBOUNDED
        self._next_start = 0
        self._backlog: deque[int] = deque()
        self._free: deque[_Slot] = deque()
        self._shut: list[_Slot] = []  # open loop: slots that are connected when there is work for them
        self._delayed: list[tuple[int, int, _Slot]] = []  # when to try again, a number that breaks ties, which
        self._tries = itertools.count()
        self._open = 0  # slots with a connection, or in wait for one
        self._barren = 0  # connections in a row that led to nothing
        self._patience = max(10, 2 * plan.connections)
        self._stopped = False
        self._cpu = 0.0

    def stop(self) -> None:
        """End the run now; may be called by a signal handler. What is under way counts for nothing."""
        self._stopped = True
        self.tally.interrupted = True

    def run(self) -> Tally:
        """Do it, and tell what came of it."""
        slots = [_Slot(self) for _ in range(self.plan.connections)]
        started = perf_counter_ns()
        self._cpu = process_time()
        warm = started + int(self.plan.warmup * 1e9)
        if self.plan.warmup <= 0:
            self._start_measuring(started)
        self._next_start = started
        early = self._closed_loop or (self.plan.messages_per_connection or 2) > 1
        for slot in slots:
            if early:
                self._connect(slot)
            else:
                self._shut.append(slot)
        limit = int(self.plan.timeout * 1e9)
        tick = started + _TICK
        handlers = self.handlers
        closed_loop = self._closed_loop
        wait = self.poller.doze if closed_loop else self.poller.wait
        seconds = 0.1 if closed_loop else 0.0
        try:
            while not self._stopped:
                ready = wait(seconds)
                now = self.now = perf_counter_ns()
                for fd, mask in ready:
                    try:
                        handler = handlers[fd]
                    except KeyError:  # closed by one that came before it
                        continue
                    handler(mask)
                if now >= tick:
                    tick = max(tick + _TICK, now + _TICK // 2)
                    self._tick(now, warm, limit, slots)
                if closed_loop:
                    if not self._open:
                        break
                else:
                    now = perf_counter_ns()
                    if self._arrive(now, limit):
                        break
                    due = min(self._next_start if self._arriving(now) else tick, tick)
                    seconds = max(0.0, (due - perf_counter_ns()) / 1e9)
        finally:
            self._finish(slots)
        return self.tally

    # ---- what the slots ask ----------------------------------------------------------------------

    def next(self, slot: _Slot, now: int) -> None:
        """Give a connection that has room for one its next message, or let it end."""
        if self._closed_loop:
            if slot.left > 0 and self._budget > 0 and now < self._end:
                if not slot.quitting and not slot.over:
                    self._hand(slot, now if self.begin else 0)
            else:
                slot.quit()
        elif slot.quitting or slot.over:
            return
        elif slot.left <= 0:
            if not slot.starts:
                slot.quit()
        elif self._backlog:
            self._hand_late(slot)
        elif not slot.free:
            slot.free = True
            self._free.append(slot)

    def _hand(self, slot: _Slot, start: int) -> None:
        content = self._next_content()
        try:
            number = slot.conn.send_message(self._sender, self._recipients, content)
        except LocalProtocolError:  # the session is over; the event that says so is on its way
            return
        if start and self._closed_loop:
            self._budget -= 1
        slot.left -= 1
        slot.starts[number] = (start, len(content))

    def _hand_late(self, slot: _Slot) -> None:
        start = self._backlog.popleft()
        before = len(slot.starts)
        self._hand(slot, start if start >= self.begin > 0 else 0)
        if len(slot.starts) == before:
            self._backlog.appendleft(start)

    def not_accepted(self, slot: _Slot, result: SendResult, start: int) -> None:
        """A message that not every recipient got."""
        tally = self.tally
        accepted = len(result.accepted)
        for one in result.refused:
            reply = one.reply
            if reply is not None:
                self.error(f"{one.stage} {reply.code}", str(reply))
            else:
                phase = "idle" if slot.phase == _NONE else PHASES[slot.phase]
                self.error(f"{phase} {result.failure}", result.explanation or "")
        if any(one.reply is not None for one in result.recipients):
            self._barren = 0
        if not start:
            return
        tally.recipients_accepted += accepted
        tally.recipients_refused += len(result.recipients) - accepted
        self.row[2] += 1
        if accepted:
            tally.partly += 1
        elif result.failure is None:
            tally.refused += 1
        else:
            tally.failed += 1

    def lost(self, start: int) -> None:
        """A message whose connection broke before the engine could say anything."""
        if start:
            self.tally.failed += 1
            self.tally.recipients_refused += self.plan.recipients
            self.row[2] += 1

    def error(self, kind: str, said: str) -> None:
        """Count what went wrong, and keep the first text of each kind."""
        self.tally.errors[kind] += 1
        self.tally.samples.setdefault(kind, said[:_SAMPLE])

    def failed(self, slot: _Slot, what: str, said: str) -> None:
        """A connection was not made."""
        self.error(f"connection {PHASES[slot.phase]} {what}", said)
        self._after(slot, perf_counter_ns(), well=False)

    def ended(self, slot: _Slot, now: int) -> None:
        """A connection is over."""
        starts, slot.starts = slot.starts, {}
        for start, _ in starts.values():
            self.lost(start)
        self._after(slot, now, well=slot.accepted > 0 or (slot.ready and slot.quitting))

    def _after(self, slot: _Slot, now: int, *, well: bool) -> None:
        self._open -= 1
        if well:
            self._barren = 0
            slot.failures = 0
        else:
            if not slot.ready:
                self.tally.connections_failed += 1
            self._barren += 1
            slot.failures += 1
            if self._barren >= self._patience and not self._stopped:
                self.tally.gave_up = f"{self._barren} connections in a row led to nothing"
                self._stopped = True
                return
        if not self._wants_more(now):
            return
        if slot.failures:
            self._open += 1
            delay = min(1.0, 0.02 * 2**slot.failures)
            heapq.heappush(self._delayed, (now + int(delay * 1e9), next(self._tries), slot))
        elif self._closed_loop or (self.plan.messages_per_connection or 2) > 1:
            self._connect(slot)
        else:
            self._shut.append(slot)

    def _wants_more(self, now: int) -> bool:
        if self._closed_loop:
            return self._budget > 0 and now < self._end
        return bool(self._backlog) or self._arriving(now)

    def _connect(self, slot: _Slot) -> None:
        self._open += 1
        slot.open()

    # ---- time --------------------------------------------------------------------------------

    def _start_measuring(self, now: int) -> None:
        self.begin = now
        self._cpu = process_time()
        for phase in _OF_A_MESSAGE:
            self.counts[phase].clear()
        self.counts[_LAG].clear()
        if self.plan.duration is not None:
            self._end = now + int(self.plan.duration * 1e9)
        self.row = self.tally.series.setdefault(0, [0, 0, 0])

    def _tick(self, now: int, warm: int, limit: int, slots: list[_Slot]) -> None:
        if not self.begin and now >= warm:
            self._start_measuring(now)
        if self.begin:
            self.row = self.tally.series.setdefault((now - self.begin) // 1_000_000_000, [0, 0, 0])
        while self._delayed and self._delayed[0][0] <= now:
            slot = heapq.heappop(self._delayed)[2]
            if self._wants_more(now):
                slot.open()
            else:
                self._open -= 1
        for slot in slots:
            slot.check(now, limit)
        if self._on_tick is not None:
            self.settle(now)
            self._on_tick(self)

    def settle(self, now: int) -> None:
        """Bring the tally up to date."""
        tally = self.tally
        rows = tally.series.values()
        tally.accepted = sum(row[0] for row in rows)
        tally.octets = sum(row[1] for row in rows)
        tally.phases = {name: dict(counts) for name, counts in zip(PHASES, self.counts, strict=True) if counts}
        if self.begin:
            tally.seconds = max(now - self.begin, 1) / 1e9
            tally.cpu = process_time() - self._cpu

    def _arriving(self, now: int) -> bool:
        """Whether the open loop still has messages to start."""
        return self._budget > 0 and self._next_start < self._end

    def _arrive(self, now: int, limit: int) -> bool:
        """Start what is due in the open loop; True when the run is over."""
        backlog = self._backlog
        while self._next_start <= now and self._budget > 0 and self._next_start < self._end:
            backlog.append(self._next_start)
            self.counts[_LAG][quantise((now - self._next_start) // 1000)] += 1
            if self.begin and self._next_start >= self.begin:
                self._budget -= 1
            self._next_start += (
                self._gap if self.plan.arrivals == "constant" else int(self._random.expovariate(1 / self._gap))
            )
        free = self._free
        while backlog and free:
            slot = free.popleft()
            if not slot.free or slot.fd < 0:
                continue
            slot.free = False
            self._hand_late(slot)
            slot.seen = now
            if slot.left > 0 and len(slot.starts) < self.plan.depth:
                slot.free = True
                free.append(slot)
            slot.pump(now)
        while len(backlog) > self._open - len(free) and self._shut:
            self._connect(self._shut.pop())
        if self._arriving(now) or (backlog and now < min(self._end, self._next_start) + limit):
            return False
        if backlog and not self.tally.unsent:
            self.tally.unsent += sum(1 for start in backlog if start >= self.begin)
            backlog.clear()
        while free:
            slot = free.popleft()
            if slot.fd >= 0 and slot.free:
                slot.free = False
                slot.quit()
                slot.pump(now)
        return not self._open

    def _finish(self, slots: list[_Slot]) -> None:
        for slot in slots:
            slot.close()
        self.poller.close()
        tally = self.tally
        self.settle(max(self.last, self.begin) if not self._stopped else perf_counter_ns())
        tally.recipients_accepted += tally.accepted * self.plan.recipients
        tally.unsent += sum(1 for start in self._backlog if start >= self.begin)
        if self.plan.messages is not None:
            tally.unsent = max(0, self.plan.messages - tally.attempted)


def _config(plan: LoadPlan) -> ClientConfig:
    patience = plan.timeout
    return ClientConfig(
        plan.hostname,
        lmtp=plan.lmtp,
        tls="required" if plan.tls == "starttls" else "off",
        pipelining=plan.pipelining,
        chunking=plan.chunking,
        newlines="normalize",
        max_recipients=max(100, plan.recipients),
        greeting_timeout=patience,
        hello_timeout=patience,
        mail_timeout=patience,
        rcpt_timeout=patience,
        data_timeout=patience,
        content_timeout=patience,
        end_of_data_timeout=patience,
        reset_timeout=patience,
        quit_timeout=min(5.0, patience),
        other_timeout=patience,
    )


def _context(plan: LoadPlan) -> ssl.SSLContext | None:
    if plan.tls == "off":
        return None
    return ssl.create_default_context() if plan.verify else unverified_context()
