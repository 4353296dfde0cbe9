"""An event loop that is closed while connections are open: nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref
from typing import Any

import pytest

import ehlo
import ehlo.asyncio

FACTORIES = ("asyncio", "uvloop")


async def of_server(listener: socket.socket) -> tuple[socket.socket, object]:
    """The other end of an open connection of a server that is never closed."""
    config = ehlo.ServerConfig("mx.example", content="discard")
    server = await ehlo.asyncio.serve(ehlo.Handler(), sockets=[listener], config=config)
    other = socket.create_connection(("127.0.0.1", server.port))
    other.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(other, 100)
    server._stop_listening()
    return other, None


async def of_client(listener: socket.socket) -> tuple[socket.socket, object]:
    """Likewise, of a client."""
    loop = asyncio.get_running_loop()
    listener.listen()
    listener.setblocking(False)
    connecting = loop.create_task(_connect(listener.getsockname()[1]))
    other, _ = await loop.sock_accept(listener)
    await loop.sock_sendall(other, b"220 mx.example\r\n")
    assert await loop.sock_recv(other, 100)
    await loop.sock_sendall(other, b"250 mx.example\r\n")
    return other, await connecting


async def _connect(port: int) -> ehlo.asyncio.Client:
    return await ehlo.asyncio.connect("127.0.0.1", port, hostname="client.example")


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("open_one", [of_server, of_client])
@pytest.mark.tcp
def test_a_closed_loop_is_not_kept_by_its_connections(open_one: Any, factory: str) -> None:
    new_loop = pytest.importorskip("uvloop").new_event_loop if factory == "uvloop" else asyncio.new_event_loop

    async def main() -> tuple[socket.socket, weakref.ref[asyncio.AbstractEventLoop]]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            other, _ = await open_one(listener.dup())
        return other, weakref.ref(asyncio.get_running_loop())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # "unclosed socket" is the program's fault here
        with asyncio.Runner(loop_factory=new_loop) as runner:
            other, loop = runner.run(main())
        del runner
        gc.collect()
    with other:
        assert loop() is None
        other.setblocking(True)
        other.settimeout(20)
        assert other.recv(100) in (b"", b"QUIT\r\n"), "the peer is told"
