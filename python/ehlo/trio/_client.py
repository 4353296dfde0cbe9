"""Sockets, reads, writes and one deadline for :class:`ehlo._link.ClientDriver`, on trio: :func:`connect`.

No protocol decision is made here. There is no task: whoever waits for the server moves the octets. A turn is one
``wait_readable``, which is its checkpoint, one ``recv_into`` and at most one ``send``; neither of these two blocks, so
all connections share one buffer.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from math import inf
from typing import Any, Final, Unpack

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from ehlo._client import BaseClient
from ehlo._connect import Connecting, ConnectOptions, Opening
from ehlo._core import ReceiveBuffer
from ehlo._errors import LocalProtocolError
from ehlo._link import ClientDriver
from ehlo._listener import no_delay
from ehlo.trio._nursed import Nursed

__all__ = ["Client", "connect", "dial"]

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
        self._scope = trio.CancelScope()
        self._socket = sock
        self._unsent = b""
        self.start(sock.getsockname())

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
                sent = self._socket.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:  # what the server said before it went is still to be read
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
            with trio.move_on_after(self.opening.config.quit_timeout):
                while self._unsent and not self.lost:
                    await wait_writable(self._socket)
                    self._flush()
        finally:
            self.drop()


class Client(Nursed, BaseClient):
    __doc__ = BaseClient.__doc__

    def __init__(self, open_link: Callable[[], Awaitable[ClientDriver]] | None, link: ClientDriver) -> None:
        super().__init__(open_link, link)
        self._nursery = None

    _make_event = trio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        if self._nursery is None:
            raise LocalProtocolError(
                "on trio, send_many takes from an async iterable in the nursery of the client, which is there inside "
                "`async with client`"
            )
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self._nursery.start_soon(run)
        return scope.cancel


async def dial(opening: Opening) -> ClientSocket:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = await dial(Opening("127.0.0.1", 2525))
    """
    await opening.learn_own_name(trio.to_thread.run_sync)
    try:
        with trio.fail_after(inf if opening.connect_timeout is None else opening.connect_timeout):
            sock = opening.sock if opening.sock is not None else await _connected(opening)
    except (trio.TooSlowError, OSError) as exc:
        opening.failed(exc)
    sock.setblocking(False)
    no_delay(sock)
    return ClientSocket(sock, opening)


async def _connected(opening: Opening) -> socket.socket:
    """trio's own means find the way; the socket itself is the system's."""
    if opening.path is not None:
        stream = await trio.open_unix_socket(opening.path)
    else:
        assert opening.host is not None
        address, port = opening.source_address or (None, 0)
        if port:
            return await _from_port(opening.host, opening.port, opening.source_address)
        stream = await trio.open_tcp_stream(opening.host, opening.port, local_address=address)
    return socket.socket(fileno=stream.socket.detach())


async def _from_port(host: str, port: int, source: tuple[str, int] | None) -> socket.socket:
    """``open_tcp_stream`` knows no port of ours."""
    missing: OSError | None = None
    for family, kind, proto, _, address in await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = trio.socket.socket(family, kind, proto)
        try:
            await sock.bind(source)
            await sock.connect(address)
            return socket.socket(fileno=sock.detach())
        except OSError as exc:
            missing = exc
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise missing or OSError(f"{host!r} has no address")


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Connecting[Client]:
    """Connect to a server by SMTP, or LMTP by the config, and say hello. ``await`` it, or use ``async with``, which
    says QUIT in the end. No task is left behind: the octets move while the program waits for the server.

    Arguments:
        host, port: as :func:`ehlo.asyncio.connect` has them.
        options: likewise, each of them.

    Raises:
        SMTPException, LocalProtocolError: as :func:`ehlo.asyncio.connect`; SMTP's own are of RFC 5321 3.1 and 4.2.

    Example::

        async with ehlo.trio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
