"""Listening sockets and the tasks of all connections, on asyncio: the backend of :mod:`ehlo._server.listener`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from ehlo._core import ServerConfig
from ehlo._io.listener import SocketListener
from ehlo._server.limits import Connections, Limits
from ehlo._server.listener import Setup, open_server
from ehlo._types import Wakeup
from ehlo.asyncio._loop import shared_of
from ehlo.asyncio._server_protocol import ServerProtocol
from ehlo.asyncio._watch import LoopWatch

__all__ = ["Server", "serve"]


class Server(SocketListener[ServerProtocol]):
    """What :func:`serve` returns: a listening server. ``async with`` closes it.

    Example::

        async with await serve(handler, port=2525) as server:
            await server.serve_forever()
    """

    _kind = ServerProtocol
    _make_event = asyncio.Event
    _sleep = staticmethod(asyncio.sleep)

    def __init__(self, setup: Setup, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop: asyncio.AbstractEventLoop
        loop = asyncio.get_running_loop() if loop is None else loop
        shared = shared_of(loop)
        # Where the loop cannot watch sockets (Windows), it has to accept by itself.
        reads = not hasattr(asyncio, "ProactorEventLoop") or not isinstance(loop, asyncio.ProactorEventLoop)
        door = LoopWatch(loop) if reads else None  # by way of an epoll it is a call more
        super().__init__(setup, monotonic, loop, shared, door)
        # uvloop reads from one transport up to 32 times in a turn, and all others wait; asyncio itself reads once.
        self._full_read = None if isinstance(loop, asyncio.BaseEventLoop) else len(self._view)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._closer: asyncio.Task[None] | None = None

    async def _wait(self, event: Wakeup, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await event.wait()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        super()._stop_listening()

    def _begin_to_close(self) -> None:
        self._closer = self._loop.create_task(self._close())

    async def _close(self) -> None:
        try:
            # An eager task (3.12) begins in a callback: in the midst of a connection, or of accepting several.
            await asyncio.sleep(0)
            await self._drain()
            if self._tasks:  # on_disconnect, and handlers that were cancelled
                _, late = await asyncio.wait(tuple(self._tasks), timeout=max(1.0, self._cut_at - self._now()))
                for task in late:
                    task.cancel("the server is closed")
        finally:
            self._closed.set()

    async def _listen(self, backlog: int) -> None:
        try:
            if self._door is None:
                for sock in self._sockets:
                    factory = partial(ServerProtocol, self)
                    self._listeners.append(await self._loop.create_server(factory, sock=sock, backlog=backlog))
                return
            for sock in self._sockets:
                sock.listen(backlog)
            self._go_on_accepting()
        except BaseException:
            self._stop_listening()
            self._unlink()
            raise

    def _let_loop_welcome(self, sock: socket.socket, peername: Any) -> None:
        task = self._loop.create_task(self._hand_over(sock, peername))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, sock: socket.socket, peername: Any) -> None:
        """Let the loop make a transport of its own."""
        try:
            await self._loop.connect_accepted_socket(partial(ServerProtocol, self, peername), sock)
        except OSError:  # the client is gone
            sock.close()
        except BaseException:
            sock.close()
            raise


async def serve(
    handler: object,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int = 0,
    *,
    config: ServerConfig | None = None,
    limits: Limits | None = None,
    sockets: Iterable[socket.socket] | None = None,
    path: str | os.PathLike[str] | None = None,
    reuse_port: bool = False,
    backlog: int = 1024,
    tls: ssl.SSLContext | None = None,
    trusted: Iterable[str] = (),
    connections: Connections | None = None,
) -> Server:
    """Listen, and serve with ``handler`` in the running loop. ``config`` chooses SMTP or LMTP.

    Arguments:
        handler: an :class:`ehlo.Handler`, or any object with some of its methods. Its methods set ``decisions`` and
            ``content`` of ``config``.
        host: an address, a name, or several of them; ``None`` for all interfaces.
        port: the TCP port; 0 lets the system choose, see :attr:`Server.port`.
        config: the settings of the engine; by default the handler's ``config``, if it has one.
        limits: the limits of connections, times and rates, see :class:`ehlo.Limits`.
        sockets: listening or bound stream sockets, in place of ``host`` and ``port``. The server listens on copies of
            them, and closes both.
        path: the path of a Unix socket, in place of ``host`` and ``port``.
        reuse_port: set SO_REUSEPORT, so that several processes share the port.
        backlog: the number of connections that the system queues before they are accepted.
        tls: a context with the certificate, made by :func:`ssl.create_default_context` with ``Purpose.CLIENT_AUTH``.
            The server then offers STARTTLS (RFC 3207), or TLS comes first with ``ServerConfig(tls="implicit")`` (RFC
            8314). A new certificate (``load_cert_chain``) counts from the next handshake on.
        trusted: networks, like ``"10.0.0.0/8"``, whose clients may name the real client by XCLIENT, XFORWARD or a
            PROXY header. XCLIENT and XFORWARD are not offered to others. If the config has ``proxy``, connections of
            others are closed without a reply. Clients of a Unix socket are always trusted.
        connections: counts that several servers share, so that ``limits`` holds for all of them together.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense, or LMTP is on port 25 (RFC 2033
            5).
        OSError: the address is in use, not of this machine, or not allowed.

    Example::

        async with await ehlo.asyncio.serve(Mine(), "0.0.0.0", 25) as server:
            await server.serve_forever()
    """
    getaddrinfo = asyncio.get_running_loop().getaddrinfo
    server = await open_server(
        Server, getaddrinfo, handler, host, port, config, limits, sockets, path, reuse_port, tls, trusted, connections
    )
    await server._listen(backlog)
    return server
