"""PROXY, XCLIENT and XFORWARD of a server: whom it believes who the client is. On every backend."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Keep
from ehlo._server.trust import Networks

pytestmark = pytest.mark.tcp  # whom a server believes goes by addresses

PROXY = CONFIG.replace(proxy=True)
XCLIENT = CONFIG.replace(xclient=["NAME", "ADDR", "PORT", "DESTADDR", "DESTPORT", "LOGIN", "HELO", "PROTO"])
XFORWARD = CONFIG.replace(xforward=["NAME", "ADDR"])
LOOPBACK = ["127.0.0.1"]
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"
# Of clients that have no address.
NAMELESS = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 25\r\n",
    ehlo.ProxyHeader(unknown=True).to_bytes(2),
    ehlo.ProxyHeader(b"/client", b"/server").to_bytes(2),
]


class See(Keep):
    """Keeps what each session says of its two ends, too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, Any]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        super().on_message(session, envelope, content)
        self.seen.append((session.peer, session.local))


# ---- networks ------------------------------------------------------------------------------------


def test_networks() -> None:
    networks = Networks(["192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "::ffff:203.0.113.0/120"])
    inside = ("192.0.2.1", "10.255.0.1", "2001:db8::1", "203.0.113.9", "::ffff:10.0.0.1", "2001:db8::1%eth0")
    for host in inside:
        assert host in networks
    for outside in ("192.0.2.2", "11.0.0.1", "2001:db9::1", "::ffff:11.0.0.1", "", "mx.example", None):
        assert outside not in networks
    assert not Networks()
    assert "127.0.0.1" not in Networks()


@pytest.mark.parametrize("trusted", [["10.0.0.1/8"], ["mx.example"], [""], "10.0.0.0/8"])
def test_what_is_no_network(backend: Backend, trusted: Any) -> None:
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="trusted"):
            await backend.serve(Keep(), config=PROXY, trusted=trusted)

    backend.run(main)


@pytest.mark.parametrize("config", [PROXY, XCLIENT, XFORWARD])
def test_somebody_has_to_be_trusted(backend: Backend, config: ehlo.ServerConfig, tmp_path: Path) -> None:
    # S-PXY-01, S-PXY-13: not by oversight anybody; whom a Unix socket lets in is trusted.
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="trusted networks only: name them"):
            await backend.serve(Keep(), config=config)
        async with await backend.serve(Keep(), config=config, path=tmp_path / "s"):
            pass

    backend.run(main)


# ---- PROXY ---------------------------------------------------------------------------------------


def test_the_proxied_client_is_the_peer(backend: Backend) -> None:
    # S-PXY-11; S-PXY-10: what is behind the header in one segment is the session.
    handler = See()

    async def main() -> None:
        async with await backend.serve(handler, config=PROXY, trusted=LOOPBACK) as server:
            for header in (HEADER, ehlo.ProxyHeader(("2001:db8::7", 1), ("2001:db8::25", 25)).to_bytes(2)):
                client = await backend.connect(server)
                await client.send(header + b"EHLO c.example\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nQUIT\r\n")
                assert await client.codes(7) == ["220", "250", "250", "250", "354", "250", "221"]
            for header in (*NAMELESS, ehlo.ProxyHeader().to_bytes(2)):
                client = await backend.connect(server)
                await client.send(header + b"EHLO c.example\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nQUIT\r\n")
                assert await client.rest()

    backend.run(main)
    first, second, *nameless, local = handler.seen
    assert first == (("192.0.2.7", 56324), ("198.51.100.1", 25))
    assert second == (("2001:db8::7", 1), ("2001:db8::25", 25))
    assert [peer for peer, _ in nameless] == [("unknown", 0)] * 4  # S-PXY-05: it has no right of the proxy's address
    assert local[0][0] == "127.0.0.1"  # S-PXY-07, LOCAL: the connection is the proxy's own


@pytest.mark.parametrize("number", range(4))
def test_a_client_that_the_proxy_cannot_name_is_not_trusted(backend: Backend, number: int) -> None:
    # S-PXY-05, S-PXY-13: the proxy is trusted, and may use XCLIENT. A client behind it may not.
    async def main() -> None:
        config = XCLIENT.replace(proxy=True)
        async with await backend.serve(See(), config=config, trusted=LOOPBACK) as server:
            client = await backend.connect(server)
            await client.send(NAMELESS[number] + b"XCLIENT ADDR=127.0.0.1\r\n")
            assert await client.codes(2) == ["220", "550"]
            client = await backend.connect(server)
            await client.send(ehlo.ProxyHeader().to_bytes(2) + b"XCLIENT ADDR=192.0.2.1\r\n")
            assert await client.codes(2) == ["220", "220"]

    backend.run(main)


@pytest.mark.parametrize("number", range(4))
def test_a_client_that_the_proxy_cannot_name_counts_at_the_proxy(backend: Backend, number: int) -> None:
    class Count(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str:
            return f"250 {session.peer} {session.counted_address}"

    async def main() -> None:
        limits = ehlo.Limits(max_connections_per_network=1, limit_loopback=True)
        async with await backend.serve(Count(), config=PROXY, trusted=LOOPBACK, limits=limits) as server:
            client = await backend.connect(server)
            await client.send(NAMELESS[number] + b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n")
            assert await client.codes(3) == ["220", "250", "250"]
            assert await client.ask(b"RCPT TO:<c@d.example>\r\n") == "250 2.0.0 ('unknown', 0) 127.0.0.1"
            other = await backend.connect(server)
            await other.send(NAMELESS[number])
            assert await other.codes(1) == ["421"]
            named = await backend.connect(server)
            await named.send(HEADER)
            assert await named.codes(1) == ["220"]
            assert server.statistics.refused_network == 1
            assert (await client.ask(b"QUIT\r\n")).startswith("221")

    backend.run(main)


@pytest.mark.parametrize("number", range(5))
def test_nameless_clients_of_a_proxy_on_a_unix_socket_count_together(
    backend: Backend, number: int, tmp_path: Path
) -> None:
    """Else they would have no limit at all. LOCAL is the proxy itself, and a Unix socket is not counted."""
    header = (*NAMELESS, ehlo.ProxyHeader().to_bytes(2))[number]

    class Count(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str:
            return f"250 {session.counted_address}"

    async def main() -> None:
        limits = ehlo.Limits(max_connections_per_network=1, limit_loopback=True)
        async with await backend.serve(Count(), config=PROXY, path=tmp_path / "s", limits=limits) as server:
            for _ in range(2):
                client = await backend.connect(server)
                await client.send(header + b"EHLO c.example\r\n")
                assert await client.codes(2) == ["220", "250"]
                reply = await client.ask(b"MAIL FROM:<a@b.example>\r\n")
                assert reply == f"250 2.0.0 {'unknown' if number < 4 else None}"
                await client.send(b"QUIT\r\n")

    backend.run(main)


def test_local_counts_as_the_proxy_itself(backend: Backend) -> None:
    async def main() -> None:
        limits = ehlo.Limits(max_connections_per_network=1, limit_loopback=True)
        async with await backend.serve(Keep(), config=PROXY, trusted=LOOPBACK, limits=limits) as server:
            codes = []
            for _ in range(2):
                client = await backend.connect(server)
                await client.send(ehlo.ProxyHeader().to_bytes(2))
                codes += await client.codes(1)
            assert codes == ["220", "421"]
            await client.rest()

    backend.run(main)


def test_a_proxy_on_a_unix_socket(backend: Backend, tmp_path: Path) -> None:
    handler = See()

    async def main() -> None:
        async with await backend.serve(handler, config=PROXY, path=tmp_path / "s") as server:
            for header in (HEADER, ehlo.ProxyHeader(b"/client", b"/server").to_bytes(2)):
                client = await backend.connect(server)
                await client.send(header + b"EHLO c.example\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nQUIT\r\n")
                assert (await client.rest()).startswith(b"220 ")

    backend.run(main)
    assert handler.seen == [(("192.0.2.7", 56324), ("198.51.100.1", 25)), (("unknown", 0), "/server")]


def test_others_are_closed_without_a_word(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    # S-PXY-01
    async def main() -> Any:
        async with await backend.serve(Keep(), config=PROXY, trusted=["192.0.2.0/24"]) as server:
            client = await backend.connect(server)
            assert await client.rest() == b""
            return server.statistics

    statistics = backend.run(main)
    assert (statistics.refused_proxy, statistics.connections) == (1, 0)
    assert "turned away the client at ('127.0.0.1', " in caplog.text
    assert "not among the trusted proxies" in caplog.text


def test_no_header_no_word(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    # S-PXY-01: from a trusted address, too
    async def main() -> None:
        async with await backend.serve(Keep(), config=PROXY, trusted=LOOPBACK) as server:
            client = await backend.connect(server)
            await client.send(b"EHLO c.example\r\n")
            assert await client.rest() == b""

    backend.run(main)
    assert "it sent no good PROXY header" in caplog.text


def test_the_network_of_the_proxied_client_counts(backend: Backend) -> None:
    # S-PXY-11: two from one network, however many the proxy carries in all
    limits = ehlo.Limits(max_connections_per_network=2, ipv4_prefix=24, limit_loopback=True, linger_seconds=0)

    def header(host: str) -> bytes:
        return ehlo.ProxyHeader((host, 1000), ("198.51.100.1", 25)).to_bytes(1)

    async def main() -> None:
        async with await backend.serve(Keep(), config=PROXY, limits=limits, trusted=LOOPBACK) as server:
            clients = [await backend.connect(server) for _ in range(5)]
            for client, host in zip(clients[:3], ("192.0.2.1", "192.0.2.2", "203.0.113.1"), strict=False):
                assert (await client.ask(header(host))).startswith("220 ")
            # RFC 2034 4: a greeting has no enhanced status code
            assert await clients[3].ask(header("192.0.2.3")) == "421 mx.example Too many connections from your network"
            assert await clients[3].rest() == b""
            assert (server.statistics.refused_network, server.statistics.connections) == (1, 3)
            assert (await clients[0].ask(b"QUIT\r\n")).startswith("221 ")
            await clients[0].rest()
            await backend.until(lambda: server.connections == 3)  # two greeted, one without a header as yet
            assert (await clients[4].ask(header("192.0.2.4"))).startswith("220 ")

    backend.run(main)


def test_b_tls_16_the_header_comes_before_the_handshake(backend: Backend, tls: tuple[Any, Any]) -> None:
    # B-TLS-16, PROXY protocol 2: the header and the ClientHello in one write.
    server_context, client_context = tls
    handler = See()

    def speak(port: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        layer = client_context.wrap_bio(incoming, outgoing, server_hostname="mx.example")
        with socket.create_connection(("127.0.0.1", port), 10) as sock:

            def until(step: Any) -> Any:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))

            with pytest.raises(ssl.SSLWantReadError):
                layer.do_handshake()
            sock.sendall(HEADER + outgoing.read())
            until(layer.do_handshake)
            greeting = until(lambda: layer.read(4096))
            layer.write(b"EHLO c.example\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\n")
            said = b""
            while b"250 2.0.0 OK" not in said:
                said += until(lambda: layer.read(4096))
            return bytes(greeting)

    async def main() -> bytes:
        config = PROXY.replace(tls="implicit")
        async with await backend.serve(handler, config=config, tls=server_context, trusted=LOOPBACK) as server:
            return await backend.thread(speak, server.port)

    assert backend.run(main).startswith(b"220 mx.example")
    assert handler.seen == [(("192.0.2.7", 56324), ("198.51.100.1", 25))]


# ---- XCLIENT and XFORWARD ------------------------------------------------------------------------


def test_xclient_of_a_trusted_client(backend: Backend) -> None:
    # S-PXY-13, S-PXY-16: trust is judged anew by the new address
    handler = See()

    async def main() -> None:
        async with await backend.serve(handler, config=XCLIENT, trusted=["127.0.0.1", "192.0.2.0/24"]) as server:
            client = await backend.ready(server)
            assert "XCLIENT" in await client.ask(b"EHLO c.example\r\n")
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.7 PORT=99 DESTADDR=198.51.100.1\r\n")).startswith("220 ")
            assert "XCLIENT" in await client.ask(b"EHLO c.example\r\n")
            await client.send(MAIL + b"DATA\r\nhi\r\n.\r\n")
            assert await client.codes(4) == ["250", "250", "354", "250"]
            assert (await client.ask(b"XCLIENT NAME=a.example DESTPORT=587\r\n")).startswith("220 ")
            assert (await client.ask(b"XCLIENT ADDR=203.0.113.1\r\n")).startswith("220 ")
            assert "XCLIENT" not in await client.ask(b"EHLO c.example\r\n")
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.7\r\n")).startswith("550 5.7.0")
            await client.send(MAIL + b"DATA\r\nhi\r\n.\r\n")
            assert await client.codes(4) == ["250", "250", "354", "250"]
            client = await backend.ready(server)
            assert (await client.ask(b"XCLIENT ADDR=[UNAVAILABLE]\r\n")).startswith("220 ")
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.7\r\n")).startswith("550 5.7.0")

    backend.run(main)
    assert handler.seen == [
        (("192.0.2.7", 99), ("198.51.100.1", 0)),
        (("203.0.113.1", 99), ("198.51.100.1", 587)),
    ]


@pytest.mark.parametrize("before", [b"", b"XCLIENT ADDR=192.0.2.7 PORT=99\r\n"])
def test_a_client_without_an_address_is_not_its_proxy(backend: Backend, before: bytes) -> None:
    handler = See()

    async def main() -> None:
        async with await backend.serve(handler, config=XCLIENT, trusted=["127.0.0.1", "192.0.2.7"]) as server:
            client = await backend.ready(server)
            for line in filter(None, (before, b"XCLIENT ADDR=[UNAVAILABLE]\r\n")):
                assert (await client.ask(line)).startswith("220 ")
            assert "XCLIENT" not in await client.ask(b"EHLO c.example\r\n")
            await client.send(MAIL + b"DATA\r\nhi\r\n.\r\n")
            assert await client.codes(4) == ["250", "250", "354", "250"]

    backend.run(main)
    ((peer, _),) = handler.seen
    assert peer == ("unknown", 0)


@pytest.mark.parametrize("config", [XCLIENT, XFORWARD])
def test_others_are_refused(backend: Backend, config: ehlo.ServerConfig) -> None:
    # S-PXY-13, S-PXY-18
    async def main() -> None:
        async with await backend.serve(Keep(), config=config, trusted=["192.0.2.0/24"]) as server:
            client = await backend.ready(server)
            hello = await client.ask(b"EHLO c.example\r\n")
            assert "XCLIENT" not in hello
            assert "XFORWARD" not in hello
            verb = b"XCLIENT" if config is XCLIENT else b"XFORWARD"
            assert (await client.ask(verb + b" NAME=a.example\r\n")).startswith("550 5.7.0")

    backend.run(main)


def test_trust_behind_a_proxy_is_the_clients(backend: Backend) -> None:
    # Everybody comes through the proxy: who is behind it decides about XCLIENT.
    config = XCLIENT.replace(proxy=True)

    async def main() -> None:
        async with await backend.serve(Keep(), config=config, trusted=["127.0.0.1", "192.0.2.0/24"]) as server:
            for host, code in (("192.0.2.7", "220"), ("203.0.113.1", "550")):
                client = await backend.connect(server)
                header = ehlo.ProxyHeader((host, 1000), ("198.51.100.1", 25)).to_bytes(1)
                assert (await client.ask(header + b"EHLO c.example\r\n")).startswith("220 ")
                await client.reply()
                assert (await client.ask(b"XCLIENT NAME=a.example\r\n")).startswith(code)

    backend.run(main)


def test_xforward_on_a_unix_socket(backend: Backend, tmp_path: Path) -> None:
    seen: list[str | None] = []

    class Mine(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            seen.append(None if session.xforward is None else session.xforward.addr)

    async def main() -> None:
        async with await backend.serve(Mine(), config=XFORWARD, path=tmp_path / "s") as server:
            client = await backend.ready(server)
            assert (await client.ask(b"XFORWARD ADDR=192.0.2.7\r\n")).startswith("250 ")
            for _ in range(2):  # S-PXY-19
                await client.send(MAIL + b"DATA\r\nhi\r\n.\r\n")
                assert await client.codes(4) == ["250", "250", "354", "250"]

    backend.run(main)
    assert seen == ["192.0.2.7", None]


# ---- strangers -----------------------------------------------------------------------------------


def swaks(port: int, *options: str) -> str:
    command = [shutil.which("swaks") or pytest.skip("swaks is not installed"), "--server", "127.0.0.1"]
    command += ["--port", str(port), "--helo", "c.example", "--from", "a@b.example", "--to", "c@d.example", *options]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False, text=True, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_behind_a_proxy(backend: Backend, version: str) -> None:
    handler = See()
    options = ["--proxy-version", version, "--proxy-source", "192.0.2.7", "--proxy-source-port", "56324"]
    options += ["--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25"]
    options += ["--proxy-family", "TCP4" if version == "1" else "AF_INET"]
    options += ["--proxy-protocol", "STREAM"] if version == "2" else []

    async def main() -> str:
        async with await backend.serve(handler, config=PROXY, trusted=LOOPBACK) as server:
            return await backend.thread(swaks, server.port, *options)

    said = backend.run(main)
    assert handler.seen == [(("192.0.2.7", 56324), ("198.51.100.1", 25))], said


def test_swaks_by_xclient(backend: Backend) -> None:
    handler = See()
    options = ["--xclient-addr", "192.0.2.7", "--xclient-port", "99", "--xclient-name", "a.example"]
    options += ["--xclient-destaddr", "198.51.100.1", "--xclient-destport", "25", "--xclient-login", "jane"]

    async def main() -> str:
        async with await backend.serve(handler, config=XCLIENT, trusted=LOOPBACK) as server:
            return await backend.thread(swaks, server.port, *options)

    said = backend.run(main)
    assert handler.seen == [(("192.0.2.7", 99), ("198.51.100.1", 25))], said
