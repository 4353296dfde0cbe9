"""Listening sockets and the nursery of all handlers, on trio: the backend of :mod:`ehlo._server.listener`."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import update_wrapper

import trio
from trio.lowlevel import disable_ki_protection

from ehlo._core import ServerConfig
from ehlo._io.listener import SocketListener
from ehlo._server.handler import HandlerPlan
from ehlo._server.limits import Connections, Limits
from ehlo._server.listener import Setup, open_server
from ehlo._server.session import Result
from ehlo._types import Wakeup
from ehlo.trio._loop import Place, TrioLoop, loop_of_run
from ehlo.trio._server_protocol import ServerProtocol

__all__ = ["Server", "serve"]


class Server(SocketListener[ServerProtocol], Place):
    """A listening server, from :func:`serve`. ``async with`` closes it. If ``serve`` is cancelled, it is closed, too.

    Example::

        async with await nursery.start(serve, handler) as server:
            print(server.port)
    """

    _kind = ServerProtocol
    _make_event = trio.Event
    _sleep = staticmethod(trio.sleep)

    def __init__(self, setup: Setup) -> None:
        _let_ctrl_c_in(setup.plan)
        self._loop: TrioLoop
        loop = loop_of_run()
        super().__init__(setup, loop.now, loop, loop.shared, loop.watch)
        self._nursery: trio.Nursery

    async def _wait(self, event: Wakeup, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await event.wait()

    def _begin_to_close(self) -> None:
        """``_run`` waits for it."""

    async def _run(self, backlog: int, task_status: trio.TaskStatus[Server]) -> None:
        try:
            for sock in self._sockets:
                sock.listen(backlog)
            async with trio.open_nursery() as self._nursery:
                self._loop.servers[self] = None
                try:
                    self._go_on_accepting()
                    task_status.started(self)
                    while self._accepting:
                        await self._change()
                    await self._drain()
                except BaseException:
                    self._cut()
                    raise
                # on_disconnect, and handlers that were cancelled
                self._nursery.cancel_scope.deadline = max(self._now() + 1.0, self._cut_at)
        finally:
            self._loop.servers.pop(self, None)
            self._accepting = False
            self._stop_listening()
            self._unlink()
            self._closed.set()

    def _cut(self) -> None:
        """It was cancelled: nothing of a connection may outlive the nursery, not for a turn."""
        self._accepting = False
        self._stop_listening()
        for connection in tuple(self._live):
            connection.cut_now()

    def _crash(self, exc: BaseException) -> bool:
        try:
            self._nursery.start_soon(_raise, exc)
        except RuntimeError:  # the nursery is closed
            return False
        return True


def _let_ctrl_c_in(plan: HandlerPlan) -> None:
    """A plain method of a handler is called by a system task, which trio protects from Ctrl-C. It may work for long."""
    for each in fields(plan):
        method = getattr(plan, each.name)
        if each.name.startswith("on_") and method is not None:
            setattr(plan, each.name, _unprotected(method))


def _unprotected(method: Callable[..., Result]) -> Callable[..., Result]:
    """The method as a function of our own. To give the method itself to trio would mark its code for good: it would
    lose its protection in the program's own calls, too.
    """

    @disable_ki_protection
    def call(*args: object) -> Result:
        return method(*args)

    return update_wrapper(call, method)


async def _raise(exc: BaseException) -> None:
    raise exc


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
    """Listen, and serve with ``handler`` until cancelled or closed. ``config`` chooses SMTP or LMTP.

    ``nursery.start`` returns the :class:`Server` as soon as it listens. If ``serve`` is cancelled, each
    session ends at once, with a 421 if possible (RFC 5321 3.8). Its handler, which lives in a nursery of the server, is
    cancelled.

    Arguments:
        handler, host, port, config, limits, sockets, path, reuse_port, backlog, tls, trusted, connections: as
            :func:`ehlo.asyncio.serve` has them.
        task_status: the argument of ``nursery.start``.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense, or LMTP is on port 25 (RFC 2033
            5).
        OSError: the address is in use, not of this machine, or not allowed.

    Example::

        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ehlo.trio.serve, Mine(), "0.0.0.0", 25))
    """
    getaddrinfo = trio.socket.getaddrinfo
    server = await open_server(
        Server, getaddrinfo, handler, host, port, config, limits, sockets, path, reuse_port, tls, trusted, connections
    )
    await server._run(backlog, task_status)
