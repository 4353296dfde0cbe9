"""Sockets, reads, writes and one timer for :class:`ehlo._client.ClientDriver`, on asyncio: :func:`connect`.

No protocol decision is made here. What costs is kept off the usual path: a wake-up is one ``receive_from``, the events,
one ``data_to_send`` and one ``transport.write``; a send waits on one future at a time; the timer of a connection is
armed again only when it fires.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ehlo._client import FULL, BaseClient, ClientDriver, Wakeable, hostname_of, tick_of
from ehlo._core import ClientConfig, ClientConnection, SendResult
from ehlo._errors import LocalProtocolError, SMTPConnectError, SMTPTimeoutError
from ehlo.asyncio._loop import buffer_of

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Client", "Connecting", "connect"]


class _Done:
    """Awaitable without a wait."""

    def __await__(self) -> Iterator[None]:
        return iter(())


_DONE: Final[Any] = _Done()


class ClientProtocol(ClientDriver, asyncio.BufferedProtocol):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = (
        "_backlog",
        "_buffer",
        "_closed",
        "_closing",
        "_config",
        "_fqdn",
        "_loop",
        "_lost",
        "_paused",
        "_seen",
        "_tick",
        "_timer",
        "_transport",
        "_view",
        "_waiter",
    )

    _transport: asyncio.Transport
    _seen: float

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: ClientConfig,
        fqdn: str | None,
        trace: Callable[[str], object] | None,
    ) -> None:
        super().__init__(trace)
        self._loop = loop
        self._config = config
        self._fqdn = fqdn
        self._buffer = buffer_of(loop)
        self._view = self._buffer.view
        self._backlog = 0
        self._closing = False
        self._lost = False
        self._paused = False
        self._tick = tick_of(config)
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = self._config
        if self._fqdn is not None:
            config = config.replace(hostname=hostname_of(self._fqdn, transport.get_extra_info("sockname")))
        self.conn = ClientConnection(config)
        self._seen = monotonic()
        self._arm(self._tick)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._seen = monotonic()
        self.conn.receive_from(self._buffer, nbytes)
        self.advance()

    def eof_received(self) -> bool:
        self.conn.receive_eof()
        self.advance()
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._seen = monotonic()
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.conn.receive_eof()
        self.advance()
        if not self._closed.done():
            self._closed.set_result(None)

    # ---- one wake-up -----------------------------------------------------------------------------

    def advance(self) -> None:
        """Take what the engine says, write once, and tell who waits."""
        conn = self.conn
        while True:
            while (event := conn.next_event()) is not None:
                if type(event) is SendResult:
                    self.results.append(event)
                    self.news = True
                else:
                    self.on_event(event)
            if self._paused or self._lost:
                break
            out = conn.data_to_send()
            if out:
                self._seen = monotonic()
                self._transport.write(out)
                if len(out) >= FULL:
                    continue
            break
        # While the transport is full, too: the engine takes some, and then knows that it is the server we wait for.
        if self.sources and conn.content_wanted is not None:
            self.news = True
        if self.trace is not None:
            self.tell()
        if self.news and (waiter := self._waiter) is not None:
            self.news = False
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if self.disconnect is not None and not self._closing:
            self._closing = True
            self._transport.close()
            if not self._lost:
                self._arm(self._config.quit_timeout)  # to take what is left

    def progress(self) -> Awaitable[None]:
        self.advance()
        if self.news:
            self.news = False
            # A content that is always there must not keep the loop from reading: the server may have had enough.
            return asyncio.sleep(0) if self.sources else _DONE
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def wake(self) -> None:
        self.news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hurry(self) -> None:
        self._arm(min(self._tick, self._config.quit_timeout))

    def abort(self) -> None:
        if not self._lost:
            self.conn.receive_eof()
            self._transport.abort()
            self._paused = True  # nothing of what is left goes out
            self.advance()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    # ---- time ------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(seconds, 0.001), self._on_timer)

    def _on_timer(self) -> None:
        """Nothing on the usual path touches the timer: it never sleeps longer than the shortest span that might begin
        meanwhile (:func:`tick_of`).
        """
        now = monotonic()
        # Octets that the transport still holds, and that become fewer, are progress, too (C-CLI-32).
        backlog = self._transport.get_write_buffer_size()
        if backlog != self._backlog:
            self._backlog = backlog
            self._seen = now
        timeout = self.conn.timeout
        wait = self._tick
        if self._closing:
            wait = self._seen + self._config.quit_timeout - now
            if wait <= 0:  # the server does not take what is left
                self._transport.abort()
                return
        elif timeout is not None:
            left = self._seen + timeout - now
            if left <= 0:
                self.conn.receive_timeout()
                self.advance()
                self._transport.abort()
                return
            wait = min(wait, left)
        self._arm(wait)

    # ---- the opening -----------------------------------------------------------------------------

    async def open(self, tls: SSLContext | None, server_hostname: str | None) -> None:
        """Greeting, hello, STARTTLS if the config wants it: until messages may go out."""
        try:
            while not self.ready:
                if self.disconnect is not None:
                    raise self.error()
                if self.start_tls:
                    self.start_tls = False
                    await self._shake_hands(tls, server_hostname)
                await self.progress()
        except BaseException:
            self.abort()
            raise

    async def _shake_hands(self, tls: SSLContext | None, server_hostname: str | None) -> None:
        if tls is None:
            import ssl

            tls = ssl.create_default_context()
        try:
            transport = await self._loop.start_tls(self._transport, self, tls, server_hostname=server_hostname)
        except OSError as exc:  # an ssl.SSLError is one
            raise SMTPConnectError(f"the TLS handshake failed: {exc}", transcript=self.transcript) from exc
        assert transport is not None
        self._transport = transport
        self.conn.tls_established()


class Client(BaseClient):
    __doc__ = BaseClient.__doc__

    __slots__ = ("_tasks",)

    _link: ClientProtocol

    def __init__(self, open_link: Callable[[], Awaitable[ClientProtocol]] | None, link: ClientProtocol) -> None:
        super().__init__(open_link)
        self._link = link
        self._tasks: set[asyncio.Task[None]] = set()

    def _make_event(self) -> Wakeable:
        return asyncio.Event()

    def _spawn(self, coro: Coroutine[Any, Any, None]) -> Callable[[], object]:
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel


class Connecting:
    """What :func:`connect` gives: await it, or use it with ``async with``."""

    __slots__ = ("_client", "_opening")

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, ClientProtocol]], again: bool) -> None:
        self._opening = (opening, again)
        self._client: Client | None = None

    async def _connect(self) -> Client:
        opening, again = self._opening
        return Client(opening if again else None, await opening())

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connect()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._client is not None
        await self._client.__aexit__(kind, exc, traceback)


# The name of this machine; asking for it may take as long as the DNS does, so it is asked once.
_fqdn: str | None = None


async def _own_name(loop: asyncio.AbstractEventLoop) -> str:
    global _fqdn
    if _fqdn is None:
        _fqdn = await loop.run_in_executor(None, socket.getfqdn)
    return _fqdn


def connect(
    host: str | None = None,
    port: int | None = None,
    *,
    config: ClientConfig | None = None,
    hostname: str | None = None,
    path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    source_address: str | tuple[str, int] | None = None,
    tls: SSLContext | None = None,
    connect_timeout: float | None = 30.0,
    trace: Callable[[str], object] | None = None,
) -> Connecting:
    """Connect to a server by SMTP, or LMTP by the config, and say hello. ``await`` it, or use ``async with``, which
    says QUIT in the end.

    Arguments:
        host: name or address. Of several addresses the first that answers is taken (RFC 8305).
        port: TCP port; by default 25, for LMTP 24.
        config: how the engine speaks; its timers too, each with the RFC's span (RFC 5321 4.5.3.2).
        hostname: what to say in EHLO; by default the config's, or where that is "localhost", this machine's domain name
            or else the literal of the connection's own address (RFC 5321 4.1.4).
        path: a Unix socket to connect to instead.
        sock: a connected stream socket to use instead.
        source_address: the address, or address and port, to connect from.
        tls: for the handshake, where ``config.tls`` asks for STARTTLS; by default ``ssl.create_default_context()``.
        connect_timeout: seconds until TCP must be connected; ``None``: as long as the system tries.
        trace: called with the new lines of the dialogue as they come, without content and secrets.

    Raises:
        SMTPConnectError: the server cannot be reached, or refuses in its greeting (RFC 5321 3.1).
        SMTPHeloError: it refuses EHLO and HELO.
        SMTPTimeoutError: it does not answer in time.
        SMTPServerDisconnected, RemoteProtocolError: it closes, or speaks something else.
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        async with ehlo.asyncio.connect("127.0.0.1", 2525) as client:
            await client.send(octets, sender="a@b.example", recipients=["c@d.example"])
    """
    if (host is not None) + (path is not None) + (sock is not None) != 1:
        raise LocalProtocolError("connect: give a host, or path, or sock")
    config = ClientConfig() if config is None else config
    if hostname is not None:
        config = config.replace(hostname=hostname)
    # LMTP has no port of its own; 25 it must not be (RFC 2033 5).
    number = port if port is not None else 24 if config.lmtp else 25
    where = f"{host}:{number}" if host is not None else os.fspath(path) if path is not None else "the socket's peer"
    local = (source_address, 0) if isinstance(source_address, str) else source_address

    async def opening() -> ClientProtocol:
        loop = asyncio.get_running_loop()
        fqdn = await _own_name(loop) if config.hostname == "localhost" and hostname is None else None

        def factory() -> ClientProtocol:
            return ClientProtocol(loop, config, fqdn, trace)

        link: ClientProtocol
        try:
            async with asyncio.timeout(connect_timeout):
                if path is not None:
                    _, link = await loop.create_unix_connection(factory, os.fspath(path))
                elif sock is not None:
                    _, link = await loop.create_connection(factory, sock=sock)
                elif host is None:
                    raise AssertionError
                elif isinstance(loop, asyncio.BaseEventLoop):
                    _, link = await loop.create_connection(
                        factory, host, number, local_addr=local, happy_eyeballs_delay=0.25
                    )
                else:  # uvloop knows no happy eyeballs
                    _, link = await loop.create_connection(factory, host, number, local_addr=local)
        except TimeoutError as exc:
            raise SMTPTimeoutError(f"cannot connect to {where}: no answer in {connect_timeout:g} s") from exc
        except OSError as exc:
            raise SMTPConnectError(f"cannot connect to {where}: {exc.strerror or exc}") from exc
        await link.open(tls, host)
        return link

    return Connecting(opening, again=sock is None)
