"""What one turn of an event loop has read for several connections, and what comes between the reading and the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

import ehlo
import ehlo.asyncio
from backends import BACKENDS, MAIL, Asyncio, Peer
from ehlo._sockets import no_delay

CONFIG = ehlo.ServerConfig("mx.example")


@pytest.fixture(params=[name for name, kind in BACKENDS.items() if issubclass(kind, Asyncio)])
def backend(request: pytest.FixtureRequest) -> Asyncio:
    backend = BACKENDS[request.param]()
    assert isinstance(backend, Asyncio)
    return backend


@pytest.mark.parametrize("answered_first", [False, True])
def test_a_handler_that_goes_on_in_the_turn_does_not_overtake_its_session(
    backend: Asyncio, answered_first: bool
) -> None:
    # on_body waits for another server, whose reply comes in the same turn as RSET and the next message. The task of
    # on_body goes on within the turn that has read both.
    contents: list[bytes] = []
    aborted: list[str] = []
    asked: asyncio.Event
    other: ehlo.asyncio.Client
    peer: Peer

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            content = await anext(body)
            if content == b"first":
                await other.noop()
                return
            try:
                async for chunk in body:
                    content += chunk
            except ehlo.ContentAbortedError as exc:
                aborted.append(exc.reason)
                raise
            contents.append(content)

    async def script(playing: Peer) -> None:
        nonlocal peer
        peer = playing
        await peer.hello()
        assert await peer.line() == b"NOOP"
        asked.set()
        await peer.farewell()

    async def main() -> None:
        nonlocal asked, other
        asked = asyncio.Event()
        async with (
            await backend.serve(Mine(), config=CONFIG) as server,
            backend.scripted(script) as port,
            ehlo.asyncio.connect("127.0.0.1", port, hostname="client.example") as other,
        ):
            client = await backend.ready(server)
            no_delay(client.sock)
            await client.send(MAIL + b"BDAT 5\r\nfirst")
            assert await client.codes(3) == ["250"] * 3
            await asked.wait()
            steps: list[tuple[Callable[[bytes], object], bytes]] = [
                (peer.say, b"250 ok\r\n"),
                (client.send_now, b"RSET\r\n" + MAIL + b"BDAT 6\r\n"),
            ]
            for say, octets in steps if answered_first else reversed(steps):
                say(octets)
            assert await client.codes(3) == ["250"] * 3
            await client.send(b"secondBDAT 5 LAST\r\n-more")
            assert await client.codes(2) == ["250"] * 2
            assert (contents, aborted) == ([b"second-more"], [])
            client.close()

    backend.run(main)
