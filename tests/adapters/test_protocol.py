"""``ehlo.asyncio.server_protocol``: a protocol for each connection of a socket that the program listens on itself."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from backends import BACKENDS, Asyncio


@pytest.fixture(params=[name for name, kind in BACKENDS.items() if issubclass(kind, Asyncio)])
def backend(request: pytest.FixtureRequest) -> Asyncio:
    backend = BACKENDS[request.param]()
    assert isinstance(backend, Asyncio)
    return backend


class Box(ehlo.Handler):
    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.protocols: list[str] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.contents.append(content)
        self.protocols.append(session.protocol)

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
        return isinstance(credentials, ehlo.PasswordCredentials) and credentials.password == "pencil"


def test_a_listener_of_the_program(backend: Asyncio) -> None:
    box = Box()

    def send(port: int) -> None:
        for text in ("one", "two"):
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.sendmail("a@b.example", ["c@d.example"], text)

    async def main() -> None:
        factory = ehlo.asyncio.server_protocol(box, config=ehlo.ServerConfig("mx.example"))
        listener = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        await asyncio.to_thread(send, listener.sockets[0].getsockname()[1])
        listener.close()
        await factory.server.close()
        assert factory.server.statistics.messages == 2

    backend.run(main)
    assert box.contents == [b"one\r\n", b"two\r\n"]


def test_tls_of_the_transport(backend: Asyncio, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    # RFC 8314 3.3: the session knows that it is inside TLS, and offers AUTH.
    server, client = tls
    box = Box()

    def send(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=client) as smtp:
            smtp.login("jane", "pencil")
            assert "starttls" not in smtp.esmtp_features
            smtp.sendmail("a@b.example", ["c@d.example"], "hi")

    async def main() -> None:
        config = ehlo.ServerConfig("mx.example", auth=["PLAIN"], tls="implicit")
        factory = ehlo.asyncio.server_protocol(box, config=config)
        listener = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=server)
        await asyncio.to_thread(send, listener.sockets[0].getsockname()[1])
        listener.close()
        await factory.server.close()

    backend.run(main)
    assert box.protocols == ["ESMTPSA"]


def test_tls_of_the_transport_with_a_config_without_tls(
    backend: Asyncio, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box = Box()

    def send(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=tls[1]) as smtp:
            smtp.sendmail("a@b.example", ["c@d.example"], "hi")

    async def main() -> None:
        factory = ehlo.asyncio.server_protocol(box)
        listener = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=tls[0])
        await asyncio.to_thread(send, listener.sockets[0].getsockname()[1])
        listener.close()
        await factory.server.close()

    backend.run(main)
    assert box.protocols == ["ESMTPS"]


def test_a_unix_socket(backend: Asyncio, tmp_path: Path) -> None:
    async def main() -> None:
        factory = ehlo.asyncio.server_protocol(Box())
        path = str(tmp_path / "socket")
        listener = await asyncio.get_running_loop().create_unix_server(factory, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"QUIT\r\n")
        assert (await reader.read()).endswith(b"221 2.0.0 Bye\r\n")
        writer.close()
        listener.close()
        await factory.server.close()

    backend.run(main)


def test_an_own_mechanism_that_does_not_wait_for_the_response(backend: Asyncio) -> None:
    # Its verdict is the answer to the response, whenever that comes.
    over = asyncio.Event()

    class Hasty(Box):
        async def on_sasl(self, session: ehlo.Session, mechanism: str, initial: bytes | None, challenge: Any) -> Any:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(challenge(b""), 0.001)
            over.set()
            return "454 4.7.0 too late"

    async def main() -> None:
        config = ehlo.ServerConfig(auth=["XSLOW"], auth_in_clear=["XSLOW"])
        async with await backend.serve(Hasty(), config=config) as server:
            client = await backend.connect(server)
            await client.send(b"EHLO c.example\r\nAUTH XSLOW\r\n")
            assert await client.codes(3) == ["220", "250", "334"]
            await over.wait()
            assert await client.ask(b"eA==\r\n") == "454 4.7.0 too late"
            assert (await client.ask(b"NOOP\r\n"))[:3] == "250"

    backend.run(main)


def test_wrong_arguments(backend: Asyncio) -> None:
    async def main() -> None:
        wrong: Any = ehlo.ServerConfig(tls="starttls")
        with pytest.raises(ehlo.LocalProtocolError, match="needs an ssl"):
            ehlo.asyncio.server_protocol(Box(), config=wrong)
        with pytest.raises(ehlo.LocalProtocolError, match="on_message nor on_body"):
            ehlo.asyncio.server_protocol(ehlo.Handler())

    backend.run(main)
