"""The least that serves and sends mail on each loop: what the loop itself costs, as a peer of ``ehlo bench compare``.

The other side is trusted to make no mistake. The servers answer from a table, find the end of a content and drop it.
The clients count replies and look at the first digit of each. None of them has a limit or a deadline.
"""

from __future__ import annotations

import asyncio
import importlib
import selectors
import socket
from typing import Any, Final

__all__ = ["BareProtocol", "BareSession", "send_from_sockets", "send_on_asyncio", "send_on_trio", "serve_on_trio"]

_GREETING: Final = b"220 bare.example ESMTP\r\n"
_REPLIES: Final = {
    b"EHLO": b"250-bare.example\r\n250 PIPELINING\r\n",
    b"HELO": b"250 bare.example\r\n",
    b"MAIL": b"250 2.1.0 OK\r\n",
    b"RCPT": b"250 2.1.5 OK\r\n",
    b"DATA": b"354 go on\r\n",
    b"RSET": b"250 2.0.0 OK\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}
_END: Final = b"\r\n.\r\n"
_HELLO: Final = b"EHLO load.example.org\r\n"
_ENVELOPE: Final = (b"MAIL FROM:<load@example.org>\r\n", b"RCPT TO:<user@example.org>\r\n", b"DATA\r\n")


class BareSession:
    """A server's side of one connection, without the connection.

    Example::

        BareSession().receive(b"RSET\\r\\n")  # b"250 2.0.0 OK\\r\\n"
    """

    __slots__ = ("_in_content", "_rest", "over")

    def __init__(self) -> None:
        self._rest = b""
        self._in_content = False
        self.over = False

    def receive(self, data: bytes) -> bytes:
        """The replies to these octets; ``over`` is true after QUIT."""
        data = self._rest + data
        start, replies = 0, b""
        while True:
            mark = _END if self._in_content else b"\r\n"
            at = data.find(mark, start)
            if at < 0:
                # Of a content nothing is kept but the octets that may begin its end.
                self._rest = data[max(start, len(data) - len(_END) + 1) if self._in_content else start :]
                return replies
            if self._in_content:
                self._in_content = False
                replies += b"250 2.0.0 OK\r\n"
                start = at + len(mark)
                continue
            verb = data[start : start + 4].upper()
            replies += _REPLIES.get(verb, b"500 5.5.2 unknown command\r\n")
            self._in_content = verb == b"DATA"
            self.over = self.over or verb == b"QUIT"
            # The CRLF of DATA is the beginning of the end of an empty content.
            start = at if self._in_content else at + len(mark)


class BareProtocol(asyncio.Protocol):
    """A :class:`BareSession` on asyncio and uvloop.

    Example::

        server = await loop.create_server(BareProtocol, "127.0.0.1", 0)
    """

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._session = BareSession()
        transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        if replies := self._session.receive(data):
            self._transport.write(replies)
        if self._session.over:
            self._transport.close()


async def serve_on_trio(stream: Any) -> None:
    """A :class:`BareSession` on a stream of trio.

    Example::

        await trio.serve_tcp(serve_on_trio, 0)
    """
    session = BareSession()
    await stream.send_all(_GREETING)
    while not session.over and (data := await stream.receive_some(65536)):
        if replies := session.receive(data):
            await stream.send_all(replies)
    await stream.aclose()


def _judge(replies: bytes) -> None:
    if replies[:1] not in (b"2", b"3"):
        raise SystemExit(f"refused: {replies[:100]!r}")


async def send_on_asyncio(port: int, messages: int, wire: bytes) -> None:
    """Send over one connection of asyncio's streams, and wait for the reply to each command.

    Arguments:
        port: on 127.0.0.1. messages: how many.
        wire: a content, dot-stuffed, with the line of the dot.

    Example::

        await send_on_asyncio(2525, 1000, dot_stuff(content))
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(octets: bytes) -> None:
        writer.write(octets)
        _judge(await reader.read(65536))

    await ask(b"")
    await ask(_HELLO)
    for _ in range(messages):
        for octets in (*_ENVELOPE, wire):
            await ask(octets)
    await ask(b"QUIT\r\n")
    writer.close()


async def send_on_trio(port: int, messages: int, wire: bytes) -> None:
    """As :func:`send_on_asyncio`, by a stream of trio.

    Example::

        await send_on_trio(2525, 1000, dot_stuff(content))
    """
    trio = importlib.import_module("trio")
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _judge(await stream.receive_some())
    for octets in (_HELLO, *((*_ENVELOPE, wire) * messages), b"QUIT\r\n"):
        await stream.send_all(octets)
        _judge(await stream.receive_some())
    await stream.aclose()


class _Pipelined:
    """One connection of :func:`send_from_sockets`: the end of a content goes out with the next envelope."""

    def __init__(self, port: int, messages: int, wire: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.socket.makefile("rb") as replies:
            _judge(replies.readline())
            self.socket.sendall(_HELLO)
            while replies.readline()[3:4] == b"-":
                pass
        envelope = b"".join(_ENVELOPE)
        self._steps = [wire] + [wire + envelope] * (messages - 1)  # taken from the end
        self._wanted = 3
        self._buffer = b""
        self.out = memoryview(envelope)
        self.socket.setblocking(False)
        self.write()

    def read(self) -> bool:
        """Take replies; false when all messages were answered."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the server closed the connection")
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            _judge(line)
        self._wanted -= len(lines)
        if self._wanted == 0:
            if not self._steps:
                return False
            self.out = memoryview(self._steps.pop())
            self._wanted = 4 if self._steps else 1
            self.write()
        return True

    def write(self) -> None:
        try:
            self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            return


def send_from_sockets(port: int, shares: list[int], wire: bytes) -> None:
    """Send over plain sockets and a selector, with one round trip a message (RFC 2920).

    Arguments:
        port: on 127.0.0.1. shares: messages of each connection.
        wire: a content, dot-stuffed, with the line of the dot.

    Example::

        send_from_sockets(2525, [500, 500], dot_stuff(content))
    """
    with selectors.DefaultSelector() as selector:
        for share in shares:
            connection = _Pipelined(port, share, wire)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while selector.get_map():
            ready = selector.select(30)
            if not ready:
                raise SystemExit("the server does not answer")
            for key, events in ready:
                connection = key.data
                if events & selectors.EVENT_READ and not connection.read():
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    continue
                if events & selectors.EVENT_WRITE:
                    connection.write()
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
                if wanted != key.events:
                    selector.modify(connection.socket, wanted, connection)
