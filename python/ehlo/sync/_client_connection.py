"""The socket and the deadline of one connection of a client, without an event loop.

No protocol decision is made here. Whoever waits for the server moves the octets, and blocks meanwhile. The socket
itself does not block: while the client writes, it reads, so a server that answers early never stops both sides
(C-CLI-33). A turn is one ``poll``, one ``recv_into`` and at most one ``send``.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Awaitable, Iterator, Sequence
from time import monotonic
from typing import Final

from ehlo._client.driver import ClientDriver
from ehlo._client.options import Opening
from ehlo._core import ReceiveBuffer
from ehlo._sockets import send_lines
from ehlo.sync._run import DONE

__all__ = ["ClientSocket", "PatienceError", "patience"]


class PatienceError(Exception):
    """The time of :func:`patience` is up."""


class _OfThread(threading.local):
    """What belongs to a thread: the buffer that all its connections read into, and how long it waits at most.

    While a socket is read, other threads run: so the buffer cannot belong to all.
    """

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer()
        self.until: float | None = None


_mine: Final = _OfThread()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Inside, this thread waits for servers no longer than so many seconds in all.

    Raises:
        PatienceError: the time is up. The connection is closed.

    Example::

        with patience(3.0): run(client.noop())
    """
    _mine.until = monotonic() + seconds
    try:
        yield
    finally:
        _mine.until = None


class _Select:
    """``select.poll`` where the system has none: it waits for one socket."""

    def __init__(self) -> None:
        self._number = -1
        self._writing = False

    def register(self, number: int, events: int) -> None:
        self._number = number
        self._writing = events != _READABLE

    modify = register

    def poll(self, milliseconds: int) -> list[tuple[int, int]]:
        reading = (self._number,)
        found, writable, _ = select.select(reading, reading if self._writing else (), (), milliseconds / 1000)
        events = (_READABLE if found else 0) | (_WRITABLE if writable else 0)
        return [(self._number, events)] if events else []


_READABLE: Final[int] = getattr(select, "POLLIN", 1)
_WRITABLE: Final[int] = getattr(select, "POLLOUT", 4)


class ClientSocket(ClientDriver):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_number", "_poll", "_poller", "_socket", "_tick", "_unsent", "fileno")

    def __init__(self, sock: socket.socket, opening: Opening) -> None:
        super().__init__(opening, _mine.buffer, monotonic)
        self._socket = sock
        self.fileno = sock.fileno
        self._poller = select.poll() if hasattr(select, "poll") else _Select()
        self._number = sock.fileno()
        self._poller.register(self._number, _READABLE)
        self._poll = self._poller.poll
        self._tick = opening.tick  # seconds
        self._unsent = b""
        self.start(sock.getsockname)

    # ---- octets ----------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Receive once, and go on with what that brings."""
        if self.direct:
            try:
                what = self.conn.exchange(self.fileno())
            except (BlockingIOError, InterruptedError):
                self.advance()
            except (OSError, EOFError):  # it was reset, or is at its end
                self.receive_end()
            else:
                self.seen = monotonic()
                # With a number all is sent, and there is nothing to tell.
                if type(what) is not int or self.sources or self.trace is not None:
                    self.advance(what)
            return
        self.buffer = buffer = _mine.buffer
        try:
            count = self._socket.recv_into(buffer.view)
        except (BlockingIOError, InterruptedError):
            self.advance()
            return
        except OSError:  # it was reset
            count = 0
        if not count:
            self.receive_end()
            return
        self.seen = monotonic()
        if self.tls is None:
            self.conn.receive_from(buffer, count)
        else:
            self.receive_tls(buffer.view[:count])
        self.advance()

    def write(self, octets: bytes) -> None:
        if self._unsent:
            self._unsent += octets
            return
        try:
            sent = self._socket.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # what the server said before it went is still to be read
            self.held = True
            return
        if sent != len(octets):
            self._keep(octets[sent:])

    def writelines(self, pieces: Sequence[bytes]) -> None:
        if self._unsent:
            self._unsent += b"".join(pieces)
            return
        try:
            sent = send_lines(self._socket, pieces)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.held = True
            return
        if sent != sum(map(len, pieces)):
            self._keep(b"".join(pieces)[sent:])

    def _keep(self, octets: bytes) -> None:
        """The system takes no more at the moment."""
        self._unsent = octets
        self.held = True
        self._poller.modify(self._number, _READABLE | _WRITABLE)

    def _flush(self) -> None:
        octets, self._unsent = self._unsent, b""
        self.held = False
        self._poller.modify(self._number, _READABLE)
        self.write(octets)
        if len(self._unsent) != len(octets):  # progress (C-CLI-32)
            self.seen = monotonic()

    # ---- for ClientDriver ------------------------------------------------------------------------

    def is_free(self) -> bool:
        return not self._unsent

    def progress(self) -> Awaitable[None]:
        """Block until there is news."""
        self.advance()
        if self.news and self.sources:
            self.look()  # while the kernel takes all that is sent, nothing else would read (C-CLI-33)
        if not (self.news or self.lost):
            self._wait()
        self.news = False
        return DONE  # type: ignore[no-any-return]

    def _wait(self) -> None:
        """Move what can be moved, until there is news."""
        until = _mine.until
        while not (self.news or self.lost):
            if self.is_taken_away:  # its number may be that of another socket now
                self.end_taken_away()
                break
            # No timeout is shorter than a tick. So the engine need not be asked before a tick is over.
            seconds = self.seen + self._tick - monotonic()
            if seconds <= 0 or self.tls is not None:
                left = self.left()
                seconds = self._tick if left is None else min(left, self._tick)
            if until is not None:
                seconds = min(seconds, until - monotonic())
            # Where no time is left, too: the program may have been busy, and what came meanwhile counts.
            found = self._poll(int(seconds * 1000) + 1 if seconds > 0 else 0)
            if found:
                ((_, events),) = found
                if events & _WRITABLE:
                    self._flush()
                if events != _WRITABLE:
                    self._receive()
                else:
                    self.advance()
            elif (left := self.left()) is not None and left <= 0 and not self.conn.closed:
                self.time_is_up()
            elif until is not None and until <= monotonic():
                raise PatienceError

    def receive_end(self) -> None:
        if self.is_taken_away and not self.lost:  # another thread closed it, after we had looked
            self.end_taken_away()
        else:
            super().receive_end()

    def wake(self) -> None:
        """Nothing runs beside: nobody calls it."""
        self.news = True

    def hurry(self) -> None:
        self._tick = min(self._tick, self.opening.config.quit_timeout)

    def look(self) -> None:
        if not self.lost:
            self._receive()

    def interrupt(self) -> None:
        """End the use by another thread: that finds the connection at its end, and cleans up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if not self._unsent:
            self.drop()

    def drop(self) -> None:
        if not self.lost:
            self._unsent = b""
            self._socket.close()
            self.gone()

    async def wait_closed(self) -> None:
        try:
            if self._unsent and not self.lost:
                self._socket.settimeout(self.opening.config.quit_timeout)
                with contextlib.suppress(OSError):
                    self._socket.sendall(self._unsent)
        finally:
            self.drop()
