"""Sockets, reads, writes and one timer for :class:`ehlo._link.ClientDriver`, on asyncio: :func:`connect`.

No protocol decision is made here. What costs is kept off the usual path: a wake-up is one ``receive_from``, the events,
one ``data_to_send`` and one ``transport.write``; a send waits on one future at a time; the timer of a connection is
armed again only when it fires.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from time import monotonic
from typing import Any, Final, Unpack

from ehlo._client import BaseClient
from ehlo._connect import Connecting, ConnectOptions, Opening
from ehlo._link import ClientDriver
from ehlo._listener import no_delay
from ehlo.asyncio._dial import connected
from ehlo.asyncio._loop import buffer_of

__all__ = ["Client", "connect", "dial"]


class _Done:
    """Awaitable without a wait."""

    def __await__(self) -> Iterator[None]:
        return iter(())


_DONE: Final[Any] = _Done()


class ClientProtocol(ClientDriver, asyncio.BufferedProtocol):
    """One connection. Private: :func:`connect` makes them."""

    __slots__ = ("_backlog", "_closed", "_loop", "_timer", "_transport", "_view", "_waiter", "write", "writelines")

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        super().__init__(opening, buffer_of(loop), monotonic)
        self._loop = loop
        self._view = self.buffer.view
        self._backlog = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.write, self.writelines = self._transport.write, self._transport.writelines
        no_delay(transport.get_extra_info("socket"))
        self.start(transport.get_extra_info("sockname"))
        self._arm(self.opening.tick)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.seen = monotonic()
        if self.tls is None:
            self.conn.receive_from(self.buffer, nbytes)
        else:
            self.receive_tls(self._view[:nbytes])
        self.advance()

    def eof_received(self) -> bool:
        self.receive_end()
        return False

    def pause_writing(self) -> None:
        self.held = True

    def resume_writing(self) -> None:
        self.held = False
        self.seen = monotonic()
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if exc is not None:
            self._read_rest()
        self.gone()
        if not self._closed.done():
            self._closed.set_result(None)

    def _read_rest(self) -> None:
        """A write failed, and asyncio reads no more. What the server said before it went, a 421 above all, is still
        there (RFC 5321 3.8).
        """
        with contextlib.suppress(OSError), self._transport.get_extra_info("socket").dup() as sock:
            while count := sock.recv_into(self._view):
                self.buffer_updated(count)

    # ---- for ClientDriver ------------------------------------------------------------------------

    def progress(self) -> Awaitable[None]:
        self.advance()
        if self.news:
            self.news = False
            # A content that is always there must not keep the loop from reading: the server may have had enough.
            return asyncio.sleep(0) if self.sources else _DONE
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def notify(self) -> None:
        if (waiter := self._waiter) is not None:
            self.news = False
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        self.news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hurry(self) -> None:
        self._arm(min(self.opening.tick, self.opening.config.quit_timeout))

    def close(self) -> None:
        self._transport.close()
        if not self.lost:
            self._arm(self.opening.config.quit_timeout)  # to take what is left

    def drop(self) -> None:
        self._transport.abort()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    # ---- time ------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(seconds, 0.001), self._on_timer)

    def _on_timer(self) -> None:
        """Nothing on the usual path touches the timer: it never sleeps longer than the shortest span that might begin
        meanwhile (:attr:`ehlo._connect.Opening.tick`).
        """
        # Octets that the transport still holds, and that become fewer, are progress, too (C-CLI-32).
        backlog = self._transport.get_write_buffer_size()
        if backlog != self._backlog:
            self._backlog = backlog
            self.seen = monotonic()
        left = self.seen + self.opening.config.quit_timeout - monotonic() if self.closing else self.left()
        if left is not None and left <= 0:  # or the server does not take what is left
            self.time_is_up()
            self._transport.abort()
            return
        self._arm(self.opening.tick if left is None else min(left, self.opening.tick))


class Client(BaseClient):
    __doc__ = BaseClient.__doc__

    __slots__ = ("_tasks",)

    def __init__(self, open_link: Callable[[], Awaitable[ClientDriver]] | None, link: ClientDriver) -> None:
        super().__init__(open_link, link)
        self._tasks: set[asyncio.Task[None]] = set()

    _make_event = asyncio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        task = asyncio.get_running_loop().create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel


async def dial(opening: Opening) -> ClientProtocol:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = await dial(Opening("127.0.0.1", 2525))
    """
    loop = asyncio.get_running_loop()
    await opening.learn_own_name(lambda function: loop.run_in_executor(None, function))

    def factory() -> ClientProtocol:
        return ClientProtocol(loop, opening)

    try:
        async with asyncio.timeout(opening.connect_timeout):
            if opening.path is not None:
                _, link = await loop.create_unix_connection(factory, opening.path)
            else:
                sock = opening.sock
                if sock is None:
                    assert opening.host is not None
                    sock = await connected(opening.host, opening.port, opening.source_address)
                _, link = await loop.create_connection(factory, sock=sock)
    except OSError as exc:
        opening.failed(exc)
    return link


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Connecting[Client]:
    """Connect to a server by SMTP, or LMTP by the config, and say hello. ``await`` it, or use ``async with``, which
    says QUIT in the end.

    Arguments:
        host: name or address. Of several addresses the first that answers is taken (RFC 8305).
        port: TCP port; by default 25, for LMTP 24, with implicit TLS 465.
        config: how the engine speaks; its timers too, each with the RFC's span (RFC 5321 4.5.3.2).
        hostname: what to say in EHLO; by default the config's, or where that is "localhost", this machine's domain name
            or else the literal of the connection's own address (RFC 5321 4.1.4).
        path: a Unix socket to connect to instead.
        sock: a connected stream socket to use instead.
        source_address: the address, or address and port, to connect from.
        tls: "off"; "opportunistic": STARTTLS where it is offered; "required": no MAIL, AUTH or content without it (RFC
            3207); "implicit": TLS before the greeting (RFC 8314 3.3). By default what ``config.tls`` says: "off".
            A handshake that fails is an error: whether to try again in clear is the program's to say.
        ssl_context: for the handshake. By default the certificate and the host name are verified (RFC 8314 5.3), but
            under "opportunistic" without ``auth`` they are not: see :func:`ehlo.unverified_context`.
        server_hostname: the name to send (SNI) and to verify the certificate by; by default ``host``.
        handshake_timeout: seconds until TLS must be established; by default 60.
        auth: a :class:`ehlo.Login`, or user name and password, to say AUTH with as soon as the hello is done (RFC
            4954).
        proxy: the :class:`ehlo.ProxyHeader` to send first, before TLS too; ``proxy_version`` is 2 by default, or 1.
        connect_timeout: seconds until TCP must be connected, by default 30; ``None``: as long as the system tries.
        trace: called with the new lines of the dialogue as they come, without content and secrets.

    Raises:
        SMTPConnectError: the server cannot be reached, or refuses in its greeting (RFC 5321 3.1), or TLS fails; then
            the reason is named, and ``__cause__`` is an :class:`ssl.SSLError`.
        SMTPHeloError: it refuses EHLO and HELO.
        SMTPNotSupportedError: it does not offer STARTTLS, which is required, or no AUTH that may be used.
        SMTPAuthenticationError: it refuses AUTH.
        SMTPTimeoutError: it does not answer in time.
        SMTPServerDisconnected, RemoteProtocolError: it closes, or speaks something else.
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        async with ehlo.asyncio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
