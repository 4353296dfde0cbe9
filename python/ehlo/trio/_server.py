"""Listening sockets and the nursery of all connections, on trio: the backend of :mod:`ehlo._server.listener`."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import trio
from trio.lowlevel import notify_closing, wait_readable

from ehlo._core import ReceiveBuffer, ServerConfig
from ehlo._server.handler import HandlerPlan
from ehlo._server.limits import Connections, Limits
from ehlo._server.listener import Listener, open_server
from ehlo._server.trust import Networks
from ehlo._sockets import accepted
from ehlo._types import Wakeup
from ehlo.trio._server_connection import ServerTask

__all__ = ["Server", "serve"]

log: Final = logging.getLogger("ehlo")

# No descriptor or no memory for one more connection: the time to wait for another to end, in seconds.
_FULL_WAIT: Final = 1.0


class Server(Listener[ServerTask]):
    """What :func:`serve` hands over when it listens. ``async with`` closes it; so does cancelling ``serve``.

    Example::

        async with await nursery.start(serve, handler) as server:
            print(server.port)
    """

    _make_event = trio.Event
    _sleep = staticmethod(trio.sleep)

    def __init__(
        self,
        plan: HandlerPlan,
        config: ServerConfig,
        limits: Limits,
        tls: ssl.SSLContext | None,
        trusted: Networks,
    ) -> None:
        super().__init__(plan, config, limits, tls, trusted, trio.lowlevel.current_clock().current_time)
        self._buffer = ReceiveBuffer()
        self._nursery: trio.Nursery

    async def _wait(self, event: Wakeup, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await event.wait()

    def _stop_listening(self) -> None:
        socks, self._sockets = self._sockets, []
        for sock in socks:
            notify_closing(sock)
            sock.close()

    def _begin_to_close(self) -> None:
        """``_run`` waits for it."""

    async def _run(self, backlog: int, task_status: trio.TaskStatus[Server]) -> None:
        try:
            for sock in self._sockets:
                sock.listen(backlog)
            async with trio.open_nursery() as self._nursery:
                for sock in self._sockets:
                    self._nursery.start_soon(self._accept, sock)
                task_status.started(self)
                while self._accepting:
                    await self._change()
                await self._drain()
                # on_disconnect, and handlers that were cancelled
                self._nursery.cancel_scope.deadline = max(self._now() + 1.0, self._cut_at)
        finally:
            self._accepting = False
            self._stop_listening()
            self._unlink()
            self._closed.set()

    async def _accept(self, listener: socket.socket) -> None:
        while self._accepting:
            try:
                await wait_readable(listener)
                sock, peername = accepted(listener)
            except trio.ClosedResourceError:
                return
            except (BlockingIOError, InterruptedError, ConnectionError):
                continue
            except OSError as exc:  # no descriptor or no memory for one more
                await trio.sleep(self._cannot_accept(exc))
                continue
            self._welcome(sock, peername)

    def _welcome(self, sock: socket.socket, peername: Any) -> None:
        connection = ServerTask(self, sock, peername)
        refusal = self._admit(connection)
        if refusal is not None:
            with contextlib.suppress(OSError):
                sock.send(refusal)
            sock.close()
            return
        connection._open()
        self._nursery.start_soon(connection.run)


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
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, and serve SMTP (or LMTP, by the config) with ``handler``, until cancelled or closed.

    ``nursery.start`` returns the :class:`Server` as soon as it listens. Cancelling ends each session at once, with a
    421 where one still gets through (RFC 5321 3.8), and cancels its handler, which lives in a nursery of the server.

    Arguments:
        handler, host, port, config, limits, sockets, path, reuse_port, backlog, tls, trusted, connections: as
            :func:`ehlo.asyncio.serve` has them.
        task_status: how ``nursery.start`` is told.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense; LMTP on port 25 (RFC 2033 5).
        OSError: the address is taken, not ours or not allowed.

    Example::

        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ehlo.trio.serve, Mine(), "0.0.0.0", 25))
    """
    getaddrinfo = trio.socket.getaddrinfo
    server = await open_server(
        Server, getaddrinfo, handler, host, port, config, limits, sockets, path, reuse_port, tls, trusted, connections
    )
    await server._run(backlog, task_status)
