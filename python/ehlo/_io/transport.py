"""A transport over a connected socket that is only watched: :class:`SocketTransport`.

The transports of event loops take several turns of the loop, a task and a future until a connection is there. This one
is there at once, and it reads straight into the buffer that all connections share.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from ehlo._io.loop import Loop
from ehlo._io.watch import READ, WRITE, Engine, Watch
from ehlo._sockets import send_lines

__all__ = ["Exchanger", "Receiver", "SocketTransport", "Transport"]

# With more waiting octets than the first number the protocol must pause; at the second it goes on.
_HIGH: Final = 65536
_LOW: Final = 16384


def _asked(name: Callable[[], Any]) -> Any:
    try:
        return name()
    except OSError:  # the peer is gone, or the socket
        return None


def _raise(fault: BaseException) -> None:
    raise fault


class Transport(Protocol):
    """What a connection needs of a transport. :class:`asyncio.Transport` explains each method."""

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...

    def can_write_eof(self) -> bool: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes, /) -> None: ...

    def writelines(self, list_of_data: Iterable[bytes], /) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Receiver(Protocol):
    """What a transport calls: the methods of :class:`asyncio.BufferedProtocol`."""

    def connection_made(self, transport: Any, /) -> None: ...

    def get_buffer(self, sizehint: int, /) -> memoryview: ...

    def buffer_updated(self, nbytes: int, /) -> None: ...

    def eof_received(self) -> bool | None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...


class Exchanger(Receiver, Protocol):
    """A receiver whose engine gets its octets by :meth:`SocketTransport.exchange_for`."""

    def exchanged(self) -> None:
        """The engine has an event, or replies that the system did not take."""


class SocketTransport:
    """Moves octets between a connected socket, which does not block, and a protocol. It closes the socket at its end.

    Arguments:
        loop: the running loop.
        watch: watches sockets for the loop.
        sock: the socket. It belongs to the transport from here on.
        protocol: its ``get_buffer`` gives the same buffer each time.
        peername: the address of the peer, where it is known.

    Example::

        SocketTransport(loop, watch, sock, protocol).begin()
    """

    __slots__ = (
        "_backlog",
        "_closing",
        "_conn",
        "_ended",
        "_eof",
        "_fault",
        "_fd",
        "_full",
        "_loop",
        "_lost",
        "_peername",
        "_protocol",
        "_reading",
        "_recv_into",
        "_send",
        "_sock",
        "_sockname",
        "_turning",
        "_view",
        "_waiting",
        "_watch",
        "_watched",
    )

    def __init__(
        self,
        loop: Loop,
        watch: Watch,
        sock: socket.socket,
        protocol: Receiver,
        peername: Any = None,
    ) -> None:
        self._loop = loop
        self._watch = watch
        self._watched = 0  # events
        self._sock = sock
        self._fd = sock.fileno()
        self._send = sock.send
        self._recv_into = sock.recv_into
        self._protocol: Receiver | None = protocol
        self._view = protocol.get_buffer(-1)
        self._peername = peername
        self._conn: Engine | None = None
        self._backlog: deque[memoryview] = deque()
        self._waiting = 0  # octets of the backlog
        self._full = False  # the protocol was told to pause
        self._reading = False
        self._ended = False  # the peer sends no more
        self._eof = 0  # 1: to be sent behind the backlog; 2: sent
        self._closing = False
        self._lost = False
        self._fault: Exception | None = None  # why it was lost
        self._turning = False  # what was read is being handled: the end waits until that is done
        self._sockname: Any = None

    def begin(self) -> None:
        """Tell the protocol that it is connected, then read."""
        assert self._protocol is not None
        self._protocol.connection_made(self)
        self.resume_reading()

    def exchange_for(self, conn: Engine) -> None:
        """Let the watch read and write for this engine of the protocol. The protocol hears by ``exchanged`` what is for
        it, and of input only while the engine is ``held`` or has TLS. To be called before it reads."""
        self._conn = conn

    # ---- facts -----------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "socket":
                return self._sock
            case "sockname":
                if self._sockname is None:
                    self._sockname = _asked(self._sock.getsockname)
                return default if self._sockname is None else self._sockname
            case "peername":
                if self._peername is None:
                    self._peername = _asked(self._sock.getpeername)
                return default if self._peername is None else self._peername
            case _:
                return default

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def can_write_eof(self) -> bool:
        return True

    # ---- reading ---------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._watch_for(self._watched & ~READ)

    def resume_reading(self) -> None:
        if not (self._reading or self._ended or self._closing):
            self._reading = True
            self._watch_for(self._watched | READ)

    def read_now(self) -> None:
        """Read once, whether the socket is watched or not: somebody else has waited for it."""
        if not (self._ended or self._closing):
            self._on_readable()

    def _watch_for(self, events: int) -> None:
        conn = self._conn if events == READ else None  # a backlog goes out first
        if not self._watched:
            try:
                self._watch.add(self._fd, events, self._on_events if self._conn is None else self._on_left, conn)
            except OSError as exc:  # the system watches no more sockets, or has no memory
                self._reading = False
                self._break(exc)
                return
        elif events:
            self._watch.change(self._fd, events, conn)
        else:
            self._watch.remove(self._fd)
        self._watched = events

    def _on_events(self, events: int) -> None:
        if events & ~WRITE and self._reading:  # a read finds every error of the socket
            self._on_readable()
        if events & ~READ and self._watched & WRITE:
            self._on_writable()

    def _on_readable(self) -> None:
        try:
            count = self._recv_into(self._view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._break(exc)
            return
        protocol = self._protocol
        if protocol is not None:
            self._tell(protocol.buffer_updated, count) if count else self._tell(self._end_of_input, protocol)

    def _on_left(self, what: Any) -> None:
        """The watch has read and written. The result says what is left to do: see :meth:`ehlo.Exchange.turn`."""
        protocol: Any = self._protocol
        if isinstance(what, int):
            self._on_events(what)
        elif protocol is None or self._lost:  # it ended in this very turn
            return
        elif what is None:
            self._tell(protocol.exchanged)
        elif isinstance(what, bytes):
            self._tell(self._end_of_input, protocol)
        elif isinstance(what, OSError):
            self._break(what)
        else:
            try:
                self._tell(_raise, what)
            finally:  # a panic, which is no Exception, ends the connection, too: nobody knows the state of its engine
                self._break(None)

    def _tell(self, call: Callable[..., object], *what: Any) -> None:
        """Call the protocol because of input, or because it may write again."""
        self._turning = True
        try:
            call(*what)
        except Exception as exc:
            self._loop.call_exception_handler(
                {"message": "a protocol failed", "exception": exc, "transport": self, "protocol": self._protocol}
            )
            self._break(exc)
        finally:  # a task may have gone on meanwhile, and may end the loop
            self._turning = False
            if self._lost:  # no turn of the loop lies between
                self._end()

    def _end_of_input(self, protocol: Receiver) -> None:
        self._ended = True
        self.pause_reading()
        if not protocol.eof_received():
            self.close()

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or not data:
            return
        if not self._backlog:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self._break(exc)
                return
            if sent == len(data):
                return
            self._watch_for(self._watched | WRITE)
            self._keep(memoryview(data)[sent:])
        else:
            self._keep(memoryview(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        pieces = tuple(list_of_data)
        if self._lost or not pieces:
            return
        sent = 0
        if not self._backlog:
            try:
                sent = send_lines(self._sock, pieces)  # type: ignore[arg-type]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self._break(exc)
                return
            if sent == sum(map(len, pieces)):
                return
            self._watch_for(self._watched | WRITE)
        for piece in pieces:
            if sent < len(piece):
                self._keep(memoryview(piece)[sent:])
            sent = max(sent - len(piece), 0)

    def _keep(self, rest: memoryview) -> None:
        """The system takes no more octets at the moment."""
        if self._lost:  # nor does it watch the socket
            return
        self._backlog.append(rest)
        self._waiting += len(rest)
        if self._waiting > _HIGH and not self._full and self._protocol is not None:
            self._full = True
            self._protocol.pause_writing()

    def _on_writable(self) -> None:
        backlog = self._backlog
        try:
            while backlog:
                octets = backlog[0]
                sent = self._send(octets)
                self._waiting -= sent
                if sent != len(octets):
                    backlog[0] = octets[sent:]
                    break
                backlog.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            self._break(exc)
            return
        if not backlog:
            self._watch_for(self._watched & ~WRITE)
        if self._full and self._waiting <= _LOW and self._protocol is not None:
            self._full = False
            self._tell(self._protocol.resume_writing)
        if not self._backlog and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof == 1:
                self._shut()

    # ---- the end ---------------------------------------------------------------------------------

    def write_eof(self) -> None:
        if self._eof or self._closing:
            return
        self._eof = 1
        if not self._backlog:
            self._shut()

    def _shut(self) -> None:
        self._eof = 2
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:  # the peer has reset the connection
            self._break(exc)

    def close(self) -> None:
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if not self._backlog:
            self._lose(None)

    def abort(self) -> None:
        self._break(None)

    def _break(self, exc: Exception | None) -> None:
        """Close now; what is not sent is lost."""
        if self._lost:
            return
        if self._backlog:
            self._backlog.clear()
            self._waiting = 0
            self._watch_for(self._watched & ~WRITE)
        self.pause_reading()
        self._closing = True
        self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        self._lost = True
        self._fault = exc
        if not self._turning:  # the caller is not done yet
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        protocol, self._protocol = self._protocol, None
        try:
            if protocol is not None:
                protocol.connection_lost(self._fault)
        finally:
            self._sock.close()
