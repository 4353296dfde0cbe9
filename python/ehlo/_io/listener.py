"""A server that accepts connections by itself: the sockets of :mod:`ehlo._server.listener`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from ehlo._io.loop import Loop, Timer
from ehlo._io.server_connection import ServerStream
from ehlo._io.shared import Shared
from ehlo._io.transport import SocketTransport
from ehlo._io.watch import READ, Watch
from ehlo._server.listener import Listener, Setup
from ehlo._sockets import acceptor

__all__ = ["SocketListener"]

# The most connections that are accepted in one turn of the loop. Open connections wait meanwhile.
_ACCEPTS: Final = 64
# While connections come one by one, each so many-th call looks whether more wait.
_EVERY: Final = 8

C = TypeVar("C", bound=ServerStream)


class SocketListener(Listener[C]):
    """What the servers of both adapters have in common beyond :class:`ehlo._server.listener.Listener`.

    Arguments:
        setup, now: as :class:`ehlo._server.listener.Listener` has them.
        loop: the loop of all its connections.
        shared: what the connections of the loop share.
        door: watches the listening sockets; ``None`` where the loop accepts by itself.
    """

    def __init__(self, setup: Setup, now: Callable[[], float], loop: Loop, shared: Shared, door: Watch | None) -> None:
        super().__init__(setup, now)
        self._loop = loop
        self._shared = shared
        self._buffer = shared.buffer
        self._view = shared.buffer.view
        self._full_read: int | None = None
        shared.span(self._tick)  # made before the first connection comes
        self._door = door
        self._watched: list[int] = []  # listening sockets
        self._calls = 0  # of _accept
        self._every = 1  # each so many-th of them may accept several
        self._resting: Timer | None = None

    # ---- what the backend provides ---------------------------------------------------------------

    # Makes a connection, of the server and the name of the peer, that has no transport yet.
    _kind: Callable[[Any, Any], C]

    def _let_loop_welcome(self, sock: socket.socket, peername: Any) -> None:
        """Let the loop make a transport of its own. Only where the loop's sockets cannot be watched."""
        raise NotImplementedError

    # ---- accepting -------------------------------------------------------------------------------

    def _go_on_accepting(self) -> None:
        if self._door is not None:
            for sock in self._sockets:
                descriptor = sock.fileno()
                self._door.add(descriptor, READ, partial(self._accept, acceptor(sock)))
                self._watched.append(descriptor)

    def _end_rest(self) -> None:
        self._resting = None
        try:
            self._go_on_accepting()
        except OSError as exc:  # the system watches no more sockets, or has no memory
            self._rest_for(exc)

    def _rest_for(self, exc: OSError) -> None:
        """Accept nothing for a while."""
        self._rest()
        self._resting = self._loop.call_later(self._cannot_accept(exc), self._end_rest)

    def _rest(self) -> None:
        """Stop watching the listening sockets."""
        watched, self._watched = self._watched, []
        for descriptor in watched:
            assert self._door is not None
            self._door.remove(descriptor)

    def _stop_listening(self) -> None:
        self._rest()
        if self._resting is not None:
            self._resting.cancel()
        socks, self._sockets = self._sockets, []
        for sock in (*socks, *self._given):
            sock.close()

    def _accept(self, accept: Callable[[], tuple[socket.socket, Any]], events: int) -> None:
        """Accept a connection, or all that wait while several come at once. To ask in vain costs the system nearly as
        much as to accept, so that is tried only now and then.

        asyncio's own way fills the log if no descriptor is free. uvloop's own way forgets the address of a client that
        resets at once.
        """
        if not self._watched:  # another listening socket of this turn found no descriptor, or all were closed
            return
        self._calls += 1
        most = 1 if self._calls % self._every else _ACCEPTS
        for count in range(most):
            try:
                sock, peername = accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                self._every = 1 if count > 1 else _EVERY
                return
            except OSError as exc:
                self._rest_for(exc)
                return
            self._welcome(sock, peername)

    def _welcome(self, sock: socket.socket, peername: Any) -> None:
        watch = self._shared.watch
        if watch is None:
            self._let_loop_welcome(sock, peername)
            return
        SocketTransport(self._loop, watch, sock, self._kind(self, peername), peername).begin()
