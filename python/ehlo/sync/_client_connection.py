"""The socket and the deadline of one connection of a client, without an event loop.

No protocol decision is made here. Whoever waits for the server moves the octets, and blocks meanwhile. The socket
itself does not block: while the client writes, it reads, so a server that answers early never stops both sides
(C-CLI-33). A turn is one ``poll``, one ``recv_into`` and at most one ``send``.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
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


def _waiting_by_poll(sock: socket.socket) -> Callable[[bool, float], tuple[bool, bool]]:
    """A function that waits until a socket is readable, or writable if that is asked for, or the seconds are over."""
    poll = select.poll()
    number = sock.fileno()
    readable, both = select.POLLIN, select.POLLIN | select.POLLOUT
    poll.register(number, readable)
    writing_before = False

    def wait(writing: bool, seconds: float) -> tuple[bool, bool]:
        nonlocal writing_before
        if writing is not writing_before:
            poll.modify(number, both if writing else readable)
            writing_before = writing
        found = poll.poll(math.ceil(seconds * 1000))
        if not found:
            return False, False
        event = found[0][1]
        return event != select.POLLOUT, event & select.POLLOUT != 0

    return wait


def _waiting_by_select(sock: socket.socket) -> Callable[[bool, float], tuple[bool, bool]]:
    """Likewise, where the system has no ``poll``."""

    def wait(writing: bool, seconds: float) -> tuple[bool, bool]:
        readable, writable, _ = select.select((sock,), (sock,) if writing else (), (), seconds)
        return bool(readable), bool(writable)

    return wait


class ClientSocket(ClientDriver):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_socket", "_unsent", "_wait")

    def __init__(self, sock: socket.socket, opening: Opening) -> None:
        super().__init__(opening, _mine.buffer, monotonic)
        self._socket = sock
        self._wait = _waiting_by_poll(sock) if hasattr(select, "poll") else _waiting_by_select(sock)
        self._unsent = b""
        self.start(sock.getsockname())

    # ---- octets ----------------------------------------------------------------------------------

    def _receive(self) -> None:
        self.buffer = buffer = _mine.buffer
        try:
            count = self._socket.recv_into(buffer.view)
        except (BlockingIOError, InterruptedError):
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

    def write(self, octets: bytes) -> None:
        self.writelines((octets,))

    def writelines(self, pieces: Sequence[bytes]) -> None:
        sent = 0
        if not self._unsent:
            try:
                sent = send_lines(self._socket, pieces)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:  # what the server said before it went is still to be read
                self.held = True
                return
            if sent == sum(map(len, pieces)):
                return
        self._unsent += b"".join(pieces)[sent:]
        self.held = True

    def _flush(self) -> None:
        octets, self._unsent = self._unsent, b""
        self.held = False
        self.write(octets)
        if len(self._unsent) != len(octets):  # progress (C-CLI-32)
            self.seen = monotonic()

    # ---- for ClientDriver ------------------------------------------------------------------------

    def progress(self) -> Awaitable[None]:
        """Block until there is news."""
        self.advance()
        if self.news and self.sources:
            self.look()  # while the kernel takes all that is sent, nothing else would read (C-CLI-33)
        while not (self.news or self.lost):
            self._turn()
        self.news = False
        return DONE  # type: ignore[no-any-return]

    def _turn(self) -> None:
        """Wait once, and move what can be moved."""
        seconds = self.left()
        if seconds is None:
            seconds = self.opening.tick
        elif seconds < 0.0:  # the program was busy: what came meanwhile counts
            seconds = 0.0
        until = _mine.until
        if until is not None:
            seconds = max(min(seconds, until - monotonic()), 0.0)
        readable, writable = self._wait(self._unsent != b"", seconds)
        if writable:
            self._flush()
        if readable:
            self._receive()
        if readable or writable:
            self.advance()
        elif (left := self.left()) is not None and left <= 0 and not self.conn.closed:
            self.time_is_up()
        elif until is not None and until <= monotonic():
            raise PatienceError

    def wake(self) -> None:
        """Nothing runs beside: nobody calls it."""
        self.news = True

    def look(self) -> None:
        if not self.lost:
            self._receive()
            self.advance()

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
