"""The socket and the deadline of one connection of a client, on trio.

No protocol decision is made here. There is no task: whoever waits for the server moves the octets. A turn is one
``wait_readable``, which is its checkpoint, one ``recv_into`` and at most one ``send``; neither of these two blocks, so
all connections share one buffer.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from ehlo._client.driver import ClientDriver
from ehlo._client.options import Opening
from ehlo._core import ReceiveBuffer
from ehlo._sockets import send_lines

__all__ = ["ClientSocket"]

_buffer: Final[trio.lowlevel.RunVar[ReceiveBuffer]] = trio.lowlevel.RunVar("ehlo buffer")


class ClientSocket(ClientDriver):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_scope", "_socket", "_unsent")

    def __init__(self, sock: socket.socket, opening: Opening) -> None:
        try:
            buffer = _buffer.get()
        except LookupError:
            _buffer.set(buffer := ReceiveBuffer())
        super().__init__(opening, buffer, trio.lowlevel.current_clock().current_time)
        self._scope: trio.CancelScope | None = None  # of the wait that goes on
        self._socket = sock
        self._unsent = b""
        self.start(sock.getsockname)

    # ---- octets ----------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            count = self._socket.recv_into(self.buffer.view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # it was reset
            count = 0
        if not count:
            self.receive_end()
            return
        self.seen = self.now()
        if self.tls is None:
            self.conn.receive_from(self.buffer, count)
        else:
            self.receive_tls(self.buffer.view[:count])

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
            self.seen = self.now()

    # ---- for ClientDriver ------------------------------------------------------------------------

    async def progress(self) -> None:
        self.advance()
        if self.news and self.sources:
            await checkpoint()
            self.look()  # while the kernel takes all that is sent, nothing else would read (C-CLI-33)
        while not (self.news or self.lost):
            await self._turns()
        self.news = False

    async def _turns(self) -> None:
        """Move octets until there is news, or it is time to look at the clock. A scope costs as much as a turn, so one
        does for several: it lasts no longer than the shortest span that might begin meanwhile.
        """
        left, tick = self.left(), self.opening.tick
        seconds = tick if left is None else min(max(left, 0.0), tick)
        with trio.CancelScope(deadline=self.now() + seconds) as self._scope:
            while not self.news:
                try:
                    if self._unsent:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._until, wait_readable, nursery.cancel_scope)
                            await self._until(wait_writable, nursery.cancel_scope)
                    else:
                        await wait_readable(self._socket)
                except trio.ClosedResourceError:  # another task closed it, and that is news
                    return
                if self._unsent:
                    self._flush()
                self._receive()
                self.advance()
        if (left := self.left()) is not None and left <= 0 and not self.conn.closed:
            self.time_is_up()

    async def _until(self, wait: Callable[[socket.socket], Awaitable[None]], scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # another task closed it
            await wait(self._socket)
        scope.cancel()

    def wake(self) -> None:
        self.news = True
        if self._scope is not None:
            self._scope.cancel()

    def look(self) -> None:
        if not self.lost:
            self._receive()
            self.advance()

    def close(self) -> None:
        if not self._unsent:
            self.drop()

    def drop(self) -> None:
        if not self.lost:
            self._unsent = b""
            notify_closing(self._socket)
            self._socket.close()
            self.gone()

    async def wait_closed(self) -> None:
        try:
            if self._unsent and not self.lost:
                with trio.move_on_after(self.opening.config.quit_timeout):
                    while self._unsent and not self.lost:
                        await wait_writable(self._socket)
                        self._flush()
        finally:
            self.drop()
