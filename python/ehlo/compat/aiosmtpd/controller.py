"""Controllers: a server in a thread of its own (:class:`Controller`), or in a loop of the program's.

Example::

    controller = Controller(Sink(), hostname="127.0.0.1", port=0)
    controller.start(); print(controller.port); controller.stop()
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import AF_INET6, SOCK_STREAM, create_connection, has_ipv6
from socket import socket as makesock
from typing import Any, Final

from ehlo.compat.aiosmtpd._room import close_sessions
from ehlo.compat.aiosmtpd.smtp import SMTP

__all__ = [
    "BaseController",
    "BaseThreadedController",
    "BaseUnthreadedController",
    "Controller",
    "InetMixin",
    "UnixSocketController",
    "UnixSocketMixin",
    "UnixSocketUnthreadedController",
    "UnthreadedController",
    "get_localhost",
]

DEFAULT_READY_TIMEOUT: Final = 5.0


class IP6_IS:  # noqa: N801
    """What the system says of an address of IPv6: that there is none, or that it is taken."""

    NO: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
    YES: Final = frozenset({errno.EADDRINUSE})


def _has_ipv6() -> bool:
    return has_ipv6


def get_localhost() -> str:
    """``::1`` where the system has it, else ``127.0.0.1``.

    Raises:
        OSError: the system says neither yes nor no.
    """
    if not _has_ipv6():
        return "127.0.0.1"
    try:
        with makesock(AF_INET6, SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError as exc:
        if exc.errno in IP6_IS.NO:
            return "127.0.0.1"
        if exc.errno not in IP6_IS.YES:
            raise
    return "::1"


def _server_to_client_ssl_ctx(server_ctx: ssl.SSLContext) -> ssl.SSLContext:
    """A context for our own connection to our own server: there is nobody to verify."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.options = server_ctx.options
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _FakeServer(asyncio.Protocol):
    """It stands for a server that could not be made."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class BaseController(ABC):
    """What all controllers have in common.

    Arguments:
        handler: as for :class:`ehlo.compat.aiosmtpd.smtp.SMTP`.
        loop: the loop; a new one by default.
        ssl_context: for TLS before the greeting (RFC 8314 3.3).
        server_hostname: the name that the server gives itself.
        SMTP_parameters: arguments of :class:`ehlo.compat.aiosmtpd.smtp.SMTP`.
    """

    smtpd: Any = None
    server: asyncio.AbstractServer | None = None
    server_coro: Coroutine[Any, Any, asyncio.AbstractServer] | None = None
    _thread_exception: BaseException | None = None

    def __init__(
        self,
        handler: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        **SMTP_parameters: Any,  # noqa: N803
    ) -> None:
        self.handler = handler
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop() if loop is None else loop
        self.ssl_context = ssl_context
        self.SMTP_kwargs: dict[str, Any] = {}
        if "server_kwargs" in SMTP_parameters:
            warnings.warn(
                "server_kwargs will be removed in version 2.0. Just specify the keyword arguments to forward to SMTP "
                "as kwargs to this __init__ method.",
                DeprecationWarning,
                stacklevel=2,
            )
            self.SMTP_kwargs = SMTP_parameters.pop("server_kwargs")
        self.SMTP_kwargs.update(SMTP_parameters)
        if server_hostname:
            self.SMTP_kwargs["hostname"] = server_hostname
        self.SMTP_kwargs.setdefault("enable_SMTPUTF8", True)
        self._factory_invoked = threading.Event()

    def factory(self) -> Any:
        """Make the protocol of one connection. Override it for a server class of your own."""
        return SMTP(self.handler, **self.SMTP_kwargs)

    def _factory_invoker(self) -> Any:
        try:
            self.smtpd = self.factory()
            if self.smtpd is None:
                raise RuntimeError("factory() returned None")
            return self.smtpd
        except Exception as exc:
            self._thread_exception = exc
            return _FakeServer(self.loop)
        finally:
            self._factory_invoked.set()

    @abstractmethod
    def _create_server(self) -> Coroutine[Any, Any, asyncio.AbstractServer]:
        """Bind and listen, with ``_factory_invoker``."""

    async def _open(self) -> None:
        self.server_coro = self._create_server()
        self.server = await self.server_coro

    def _closed(self) -> None:
        self.server = None

    def _cleanup(self) -> None:
        self._thread_exception = None
        self._factory_invoked.clear()
        self.server_coro = None
        self.server = None
        self.smtpd = None

    def cancel_tasks(self, stop_loop: bool = True) -> None:
        """Cancel all tasks of the loop, and stop it. To be called in the loop's thread."""
        if stop_loop:
            self.loop.stop()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()


class BaseThreadedController(BaseController):
    """A server whose loop runs in a thread of its own.

    Arguments:
        options: as for :class:`BaseController`.
        ready_timeout: seconds that :meth:`start` waits. The environment variable AIOSMTPD_CONTROLLER_TIMEOUT has the
            last word.
    """

    _thread: threading.Thread | None = None

    def __init__(
        self,
        handler: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ready_timeout: float = DEFAULT_READY_TIMEOUT,
        **options: Any,
    ) -> None:
        super().__init__(handler, loop, **options)
        self.ready_timeout: float = float(os.getenv("AIOSMTPD_CONTROLLER_TIMEOUT", ready_timeout))

    @abstractmethod
    def _trigger_server(self) -> None:
        """Connect once, so that a fault in :meth:`factory` shows before :meth:`start` returns."""

    def _run(self, ready_event: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._open())
        except Exception as exc:
            self._thread_exception = exc
            ready_event.set()
            return
        self._listens()
        self.loop.call_soon(ready_event.set)
        self.loop.run_forever()
        if self.server is not None:
            self.server.close()
        self.loop.run_until_complete(self._end_sessions())
        self.loop.close()
        self._closed()

    async def _end_sessions(self) -> None:
        """Close what is still connected, and let the loop forget it."""
        close_sessions(self.loop)
        for _ in range(3):
            await asyncio.sleep(0)

    def _listens(self) -> None:
        """The server listens: look where."""

    def start(self) -> None:
        """Start the thread, and return when the server listens.

        Raises:
            OSError: it cannot listen there.
            TimeoutError: it takes longer than ``ready_timeout``.
        """
        assert self._thread is None, "SMTP daemon already running"
        self._factory_invoked.clear()
        ready_event = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready_event,), daemon=True)
        self._thread.start()
        started = time.monotonic()
        ready = ready_event.wait(self.ready_timeout)
        if self._thread_exception is not None:
            raise self._thread_exception
        if not ready:
            raise TimeoutError(
                "SMTP server failed to start within allotted time. This might happen if the system is too busy. "
                "Try increasing the `ready_timeout` parameter."
            )
        left = self.ready_timeout - (time.monotonic() - started)
        with suppress(TimeoutError):
            self._trigger_server()
        if not self._factory_invoked.wait(left):
            raise TimeoutError(
                "SMTP server started, but not responding within allotted time. This might happen if the system is too "
                "busy. Try increasing the `ready_timeout` parameter."
            )
        if self._thread_exception is not None:
            raise self._thread_exception
        if self.smtpd is None:
            raise RuntimeError("Unknown Error, failed to init SMTP server")

    def stop(self, no_assert: bool = False) -> None:
        """Stop the loop and its tasks, and end the thread. Sessions are cut."""
        assert no_assert or self._thread is not None, "SMTP daemon not running"
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.cancel_tasks)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._cleanup()


class BaseUnthreadedController(BaseController):
    """A server in a loop that the program runs."""

    def __init__(self, handler: Any, loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> None:
        super().__init__(handler, loop, **options)
        self.ended: threading.Event = threading.Event()

    def begin(self) -> None:
        """Listen. The loop does not run yet: the program runs it."""
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._open())
        self._listens()

    def _listens(self) -> None:
        """The server listens: look where."""

    async def finalize(self) -> None:
        """Stop listening."""
        self.ended.clear()
        assert self.server is not None
        self.server.close()
        assert self.server_coro is not None
        self.server_coro.close()
        self._cleanup()
        self.ended.set()

    def end(self) -> None:
        """Call :meth:`finalize`, in the loop if it runs. ``ended`` is set when it is done."""
        self.ended.clear()
        if self.loop.is_running():
            self._ending = self.loop.create_task(self.finalize())
        else:
            self.loop.run_until_complete(self.finalize())


class InetMixin(BaseController):
    """Listens on TCP.

    Arguments:
        hostname: the address; loopback by default.
        port: 0 lets the system choose. After the start ``port`` is what it chose.
    """

    def __init__(
        self,
        handler: Any,
        hostname: str | None = None,
        port: int = 8025,
        loop: asyncio.AbstractEventLoop | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(handler, loop, **kwargs)
        self._localhost = get_localhost()
        self.hostname: str = self._localhost if hostname is None else hostname
        self.port: int = port

    def _create_server(self) -> Coroutine[Any, Any, asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, host=self.hostname, port=self.port, ssl=self.ssl_context)

    def _listens(self) -> None:
        sockets = getattr(self.server, "sockets", ())  # the server of uvloop is no asyncio.Server
        if not self.port and sockets:
            self.port = int(sockets[0].getsockname()[1])

    def _trigger_server(self) -> None:
        with ExitStack() as stack:
            sock = stack.enter_context(create_connection((self.hostname or self._localhost, self.port), 1.0))
            if self.ssl_context:
                context = _server_to_client_ssl_ctx(self.ssl_context)
                sock = stack.enter_context(context.wrap_socket(sock))
            sock.recv(1024)


class UnixSocketMixin(BaseController):
    """Listens on a Unix socket.

    Arguments:
        unix_socket: its path.
    """

    def __init__(
        self, handler: Any, unix_socket: str | Path, loop: asyncio.AbstractEventLoop | None = None, **kwargs: Any
    ) -> None:
        super().__init__(handler, loop, **kwargs)
        self.unix_socket: str = str(unix_socket)

    def _create_server(self) -> Coroutine[Any, Any, asyncio.AbstractServer]:
        return self.loop.create_unix_server(self._factory_invoker, path=self.unix_socket, ssl=self.ssl_context)

    def _trigger_server(self) -> None:
        from socket import AF_UNIX

        with ExitStack() as stack:
            sock = stack.enter_context(makesock(AF_UNIX, SOCK_STREAM))
            sock.settimeout(1.0)
            sock.connect(self.unix_socket)
            if self.ssl_context:
                context = _server_to_client_ssl_ctx(self.ssl_context)
                sock = stack.enter_context(context.wrap_socket(sock))
            sock.recv(1024)


class Controller(InetMixin, BaseThreadedController):
    """A server on TCP in a thread of its own.

    Example::

        controller = Controller(Debugging(), port=2525); controller.start()
    """

    def _listens(self) -> None:
        InetMixin._listens(self)


class UnthreadedController(InetMixin, BaseUnthreadedController):
    """A server on TCP in a loop of the program's.

    Example::

        controller = UnthreadedController(Debugging(), loop=loop); controller.begin(); loop.run_forever()
    """


class UnixSocketController(UnixSocketMixin, BaseThreadedController):
    """A server on a Unix socket in a thread of its own.

    Example::

        UnixSocketController(Debugging(), "/run/mail.socket").start()
    """


class UnixSocketUnthreadedController(UnixSocketMixin, BaseUnthreadedController):
    """A server on a Unix socket in a loop of the program's.

    Example::

        UnixSocketUnthreadedController(Debugging(), "/run/mail.socket", loop=loop).begin()
    """
