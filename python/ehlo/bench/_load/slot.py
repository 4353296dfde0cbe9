"""One connection of a load run, over a plain non-blocking socket: dialled, greeted, and timed phase by phase.

A wake-up is one ``recv_into``, the engine, and one ``send``. The load that a connection belongs to gives it its
messages, and counts; a connection knows it by the interface :class:`SlotOwner`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from math import inf
from time import perf_counter_ns
from typing import Any, Final, Protocol

from ehlo._core import (
    Challenge,
    ClientConfig,
    ClientConnection,
    ClientDisconnect,
    CommandReply,
    Ready,
    ReceiveBuffer,
    SendResult,
    StartTls,
    Unsolicited,
)
from ehlo._errors import LocalProtocolError
from ehlo.bench._load.histogram import quantise
from ehlo.bench._load.phases import Phase
from ehlo.bench._load.plan import LoadPlan
from ehlo.bench._load.tally import Tally
from ehlo.bench._poller import READ, WRITE, Poller

__all__ = ["Slot", "SlotOwner"]

# Bound here, since a name of the module is found faster than a member of an enum.
_CONNECT: Final = Phase.CONNECT
_TLS: Final = Phase.TLS
_BANNER: Final = Phase.BANNER
_EHLO: Final = Phase.EHLO
_STARTTLS: Final = Phase.STARTTLS
_AUTH: Final = Phase.AUTH
_MAIL: Final = Phase.MAIL
_RCPT: Final = Phase.RCPT
_DATA: Final = Phase.DATA
_ENVELOPE: Final = Phase.ENVELOPE
_CONTENT: Final = Phase.CONTENT
_MESSAGE: Final = Phase.MESSAGE
_LAG: Final = Phase.LAG
_RSET: Final = Phase.RSET
_QUIT: Final = Phase.QUIT
# What is waited for after these octets went out. All else is content.
_PHASE_OF: Final[dict[bytes, Phase]] = {
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
_AGAIN: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class SlotOwner(Protocol):
    """The load that a connection belongs to. :class:`ehlo.bench._load.load.Load` is one; there all of
    this is explained.
    """

    plan: LoadPlan
    address: tuple[str, int]
    family: int
    tally: Tally
    buffer: ReceiveBuffer
    view: memoryview
    poller: Poller
    handlers: dict[int, Callable[[int], None]]
    counts: list[defaultdict[int, int]]
    latencies: defaultdict[int, int]
    row: list[int]
    now: int
    last: int
    sources: Iterator[str] | None
    config: ClientConfig
    context: ssl.SSLContext | None

    def next(self, slot: Slot, now: int) -> None: ...

    def not_accepted(self, slot: Slot, result: SendResult, start: int | None) -> None: ...

    def lost(self, start: int | None) -> None: ...

    def error(self, kind: str, said: str) -> None: ...

    def failed(self, slot: Slot, what: str, said: str) -> None: ...

    def ended(self, slot: Slot, now: int) -> None: ...


def _errno_name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, f"errno {number}")


class Slot:
    """One connection at a time, made anew when it ends. A run has a fixed number of them."""

    __slots__ = (
        "accepted",
        "alive",
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
    fd: int

    def __init__(self, load: SlotOwner) -> None:
        self.load = load
        self.alive = False
        self.failures = 0
        self.free = False
        self.starts: dict[int, tuple[int | None, int]] = {}  # message -> its start (None in the warm-up), its octets

    @property
    def waits_for(self) -> str:
        """The name of the phase, or "idle" where there is none."""
        return "idle" if self.phase is None else self.phase.label

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
        self.left: float = load.plan.messages_per_connection or inf
        self.trouble = ""
        self.phase: Phase | None = _CONNECT
        load.tally.connections += 1
        self.sent = self.seen = perf_counter_ns()
        try:
            sock = socket.socket(load.family, socket.SOCK_STREAM)
        except OSError as exc:
            load.failed(self, _errno_name(exc.errno), str(exc))
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
            load.failed(self, _errno_name(code), "")
            return
        self._bind(sock)
        load.poller.add(self.fd, WRITE)
        load.handlers[self.fd] = self._on_connected

    def _bind(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.alive = True
        self.recv_into = sock.recv_into
        self.send = sock.send

    def _on_connected(self, mask: int) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(_errno_name(code))
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
            self._fail(getattr(exc, "reason", None) or _errno_name(exc.errno), str(exc))
            return
        now = perf_counter_ns()
        self._record(_TLS, now)
        if self.load.plan.tls == "implicit":
            self._begin(now)
            return
        self.load.poller.change(self.fd, READ)
        self.load.handlers[self.fd] = self._on_readable_tls
        self.phase = None
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
        while isinstance(sock, ssl.SSLSocket) and self.alive and sock is self.sock and sock.pending():
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
            self.trouble = _errno_name(exc.errno)
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
                self.trouble = _errno_name(exc.errno)
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
                if phase is None:
                    self.phase = phase_of(out[:4], _CONTENT)
                else:
                    if phase is not _CONTENT:  # else: BDAT, and not the last chunk
                        took = (now - self.sent) // 1000
                        counts[phase][took if took < 2048 else quantise(took)] += 1
                    # What follows DATA is content, whatever it begins with.
                    self.phase = _CONTENT if phase is _DATA or phase is _ENVELOPE else phase_of(out[:4], _CONTENT)
                self.sent = clock()
            try:
                count = send(out)
            except _AGAIN:
                count = 0
            except OSError as exc:  # the reason comes by the next read, with what the server said before it
                self.trouble = _errno_name(exc.errno)
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
                    if start is not None:
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
        if self.phase is _TLS:  # it goes on when hands are shaken
            return
        if self.pending is None:
            out = self.data_to_send()
            phase: Phase | None = self.phase
            if phase is not _MESSAGE:
                if phase is not None and (happened or (out and phase is not _CONTENT)) and not self.over:
                    took = (now - self.sent) // 1000
                    load.counts[phase][took if took < 2048 else quantise(took)] += 1
                    self.phase = None
                if out:
                    if not happened and phase in (_DATA, _ENVELOPE):
                        phase = _CONTENT
                    else:
                        phase = _PHASE_OF.get(out[:4], _CONTENT)
                        if phase is _MAIL and self.merged:
                            phase = None if load.plan.chunking else _ENVELOPE
                    self.phase = phase
            if out:
                self._write(out)
        if self.over:
            self._end(now)

    def _write(self, out: bytes) -> None:
        """Write, and ask for more, until there is none or the kernel is full."""
        while True:
            if self.phase is not _MESSAGE:
                self.sent = perf_counter_ns()
            try:
                count = self.send(out)
            except _AGAIN:
                count = 0
            except OSError as exc:  # the reason comes by the next read, with what the server said before it
                self.trouble = _errno_name(exc.errno)
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
            self.trouble = _errno_name(exc.errno)
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
                self.phase = None
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
                    load.error(f"connection {self.waits_for} {what}", said)

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
        if not self.alive:
            return
        if self.phase in (_CONNECT, _TLS):
            if now - self.seen > limit:
                self._fail("timeout")
            return
        timeout = self.conn.timeout
        if timeout is not None and now - self.seen > timeout * 1e9:
            self.conn.receive_timeout()
            self.pump(now, self.next_event())

    def _record(self, phase: Phase | None, now: int) -> None:
        if phase is not None:
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
        if self.alive:
            self.load.poller.remove(self.fd)
            del self.load.handlers[self.fd]
            self.alive = False
            self.free = False
            self.sock.close()
