"""``SocketTransport``: asyncio's own kind of transport, as far as the adapters use it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ehlo._io.transport import SocketTransport
from ehlo._sockets import acceptor, no_delay, numeric
from ehlo.asyncio._watch import LoopWatch, watch_of_loop

MUCH = b"x" * 1_000_000


class Protocol(asyncio.BufferedProtocol):
    def __init__(self, stays: bool = False, fails: bool = False) -> None:
        self.buffer = memoryview(bytearray(65536))
        self.said: list[str] = []
        self.octets = b""
        self.stays = stays
        self.fails = fails
        self.ended = asyncio.Event()
        self.came = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.said.append("made")

    def buffer_updated(self, nbytes: int) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.octets += self.buffer[:nbytes]
        self.came.set()

    def eof_received(self) -> bool:
        self.said.append("eof")
        self.ended.set()
        return self.stays

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")
        if self.fails:
            raise ZeroDivisionError

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")
        self.lost.set_result(exc)


Test = Callable[[SocketTransport, Protocol, socket.socket], Coroutine[Any, Any, None]]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return listener.accept()[0], theirs


def on_a_pair(
    test: Test,
    *,
    stays: bool = False,
    fails: bool = False,
    pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
) -> None:
    """On every kind of loop, and where there is no epoll, too."""

    async def main(watch_of: Callable[[asyncio.AbstractEventLoop], Any]) -> None:
        ours, theirs = pair()
        ours.setblocking(False)
        theirs.setblocking(False)
        protocol = Protocol(stays, fails)
        loop = asyncio.get_running_loop()
        transport = SocketTransport(loop, watch_of(loop), ours, protocol)
        transport.begin()
        with theirs:
            await asyncio.wait_for(test(transport, protocol, theirs), 20)
            transport.abort()
            await protocol.lost
        assert ours.fileno() == -1
        assert protocol.said[0] == "made"
        assert protocol.said.count("lost") == 1

    asyncio.run(main(watch_of_loop), debug=False)
    asyncio.run(main(LoopWatch), debug=False)
    with asyncio.Runner(loop_factory=pytest.importorskip("uvloop").new_event_loop) as runner:
        runner.run(main(watch_of_loop))


async def read_all(sock: socket.socket) -> bytes:
    octets = b""
    while part := await asyncio.get_running_loop().sock_recv(sock, 1_000_000):
        octets += part
    return octets


@pytest.mark.parametrize("end", ["close", "write_eof"])
@pytest.mark.parametrize("lines", [False, True])
def test_all_is_sent_before_the_end(end: str, lines: bool) -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        if lines:
            transport.writelines([b"first", MUCH])
            transport.writelines([b"and", b"last"])
        else:
            transport.write(b"first")
            transport.write(MUCH)
            transport.write(b"andlast")
        assert protocol.said == ["made", "pause"]
        assert transport.get_write_buffer_size() > 0
        getattr(transport, end)()
        getattr(transport, end)()
        assert await read_all(theirs) == b"first" + MUCH + b"andlast"
        assert transport.get_write_buffer_size() == 0
        assert protocol.said[:3] == ["made", "pause", "resume"]
        if end == "close":
            assert await protocol.lost is None
            transport.write(b"nobody gets this")
            transport.writelines([b"nor", b"this"])

    on_a_pair(test)


@pytest.mark.parametrize("kind", [ZeroDivisionError, BaseException])
def test_a_fault_of_the_engine_ends_its_connection(kind: type[BaseException]) -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        told: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        fault = kind("in the engine")
        with pytest.raises(kind) if kind is BaseException else contextlib.nullcontext():
            transport._on_left(fault)  # as Exchange.turn tells it; a panic is no Exception
        assert await read_all(theirs) == b""
        assert told == ([] if kind is BaseException else [fault])

    on_a_pair(test)


@pytest.mark.parametrize("stays", [False, True])
def test_the_end_of_the_input_is_told_once(stays: bool) -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        theirs.sendall(b"octets")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.ended.wait()
        assert protocol.octets == b"octets"
        transport.resume_reading()
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.said.count("eof") == 1
        assert transport.is_closing() is not stays
        if stays:
            transport.write(b"answer")
            assert await asyncio.get_running_loop().sock_recv(theirs, 10) == b"answer"

    on_a_pair(test, stays=stays)


def test_reading_is_paused() -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        theirs.sendall(b"octets")
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.octets == b""
        transport.resume_reading()
        await protocol.came.wait()
        assert protocol.octets == b"octets"

    on_a_pair(test)


def test_an_aborted_transport_forgets_what_it_holds() -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        transport.write(MUCH)
        transport.abort()
        transport.abort()
        transport.close()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None

    on_a_pair(test)


@pytest.mark.parametrize("held", [False, True])
def test_a_peer_that_is_gone(held: bool) -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        transport.pause_reading()
        if held:
            transport.write(MUCH)
        theirs.close()
        if not held:
            transport.write(b"octets")
        assert isinstance(await protocol.lost, BrokenPipeError | ConnectionResetError)

    on_a_pair(test)


def test_a_protocol_that_fails_loses_its_connection() -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        theirs.sendall(b"octets")
        assert isinstance(await protocol.lost, ZeroDivisionError)
        assert [context["message"] for context in said] == ["a protocol failed"]

    on_a_pair(test, fails=True)


def test_a_protocol_that_fails_when_it_may_write_again_loses_its_connection() -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        transport.write(MUCH)
        assert protocol.said == ["made", "pause"]
        await read_all(theirs)
        assert isinstance(await protocol.lost, ZeroDivisionError)
        assert [context["message"] for context in said] == ["a protocol failed"]

    on_a_pair(test, fails=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the reset may come later")
@pytest.mark.parametrize("held", [False, True])
def test_a_peer_that_resets_just_before_our_fin(held: bool) -> None:
    """The system refuses to send a FIN (ENOTCONN). That is the end of the connection, and no fault of ours."""

    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        transport.pause_reading()
        if held:
            while not transport.get_write_buffer_size():  # until the system takes no more
                transport.write(MUCH[:10_000])
            transport.write_eof()
            with contextlib.suppress(BlockingIOError):
                while theirs.recv(65536):
                    pass
            theirs.close()  # the next segment is answered by a reset
        else:
            theirs.close()
            transport.get_extra_info("socket").send(b"x")
            transport.write_eof()
        assert isinstance(await protocol.lost, OSError)
        assert said == []

    on_a_pair(test, pair=tcp_pair)


@pytest.mark.parametrize("lines", [False, True])
def test_a_socket_that_the_system_does_not_watch_ends(lines: bool) -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        transport.pause_reading()
        transport._watch = SimpleNamespace(add=full)
        transport.writelines([MUCH, b"more"]) if lines else transport.write(MUCH)
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert isinstance(await protocol.lost, OSError)
        assert "pause" not in protocol.said

    on_a_pair(test)


def test_what_is_told_of_the_socket() -> None:
    async def test(transport: SocketTransport, protocol: Protocol, theirs: socket.socket) -> None:
        assert transport.get_extra_info("socket").fileno() >= 0
        assert transport.get_extra_info("sockname") == ""
        assert transport.get_extra_info("peername") == ""
        assert transport.get_extra_info("ssl_object") is None
        assert transport.can_write_eof()

    on_a_pair(test)


def test_an_acceptor_gives_what_accept_gives() -> None:
    """Without a wait for the system, and without Nagle's algorithm: a listening socket hands its option on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        no_delay(listener)
        with socket.create_connection(listener.getsockname()) as client:
            sock, peername = acceptor(listener)()
            with sock:
                assert peername == client.getsockname()
                assert sock.family == socket.AF_INET
                assert sock.type == socket.SOCK_STREAM
                assert not sock.getblocking()
                assert not sock.get_inheritable()
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.1"])
def test_an_address_needs_no_resolver(host: str) -> None:
    assert numeric(host, 25) == socket.getaddrinfo(host, 25, type=socket.SOCK_STREAM)
    assert numeric("mx.example", 25) == []
