"""A server that passes mail on: the Received field, XFORWARD for the next hop, call-outs, LIMITS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import ehlo
from backends import Backend, Keep, Peer

A, B = "a@b.example", "c@d.example"
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
CONTENT = b"Subject: hi\r\n\r\nhi\r\n"
CLIENT = ehlo.ClientConfig("client.example")
NAMES = ["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"]


class Tell(ehlo.Handler):
    """Keeps the Received field of each message, and the XFORWARD that came with it."""

    def __init__(self) -> None:
        self.fields: list[bytes] = []
        self.xforward: list[ehlo.ClientAttributes | None] = []
        self.sessions: list[tuple[Any, ...]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.fields.append(session.received(envelope, ident="x1", now=NOW))
        self.xforward.append(session.xforward)
        assert b"Received: from client.example" in session.received(envelope)
        with pytest.raises(ehlo.LocalProtocolError):
            session.received(envelope, ident="x\r\ny")
        assert session.hello is not None
        peer = None if session.peer is None else session.peer[0]
        self.sessions.append((session.hello[1], peer, session.protocol))


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
def test_session_received_has_what_the_session_knows(backend: Backend, lmtp: bool) -> None:
    async def main() -> None:
        tell = Tell()
        settings = ehlo.ServerConfig("mx.example", lmtp=lmtp, mt_priority="MIXER")
        async with (
            await backend.serve(tell, "127.0.0.1", 0, config=settings) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=CLIENT.replace(lmtp=lmtp)) as client,
        ):
            await client.send(CONTENT, ehlo.Sender(A, mt_priority=3), B)
            await client.send(CONTENT, A, [B, "e@f.example"])
            await client.send(CONTENT, "jürgen@b.example", B)
        for field, recipients, priority, (hello, peer, protocol) in zip(
            tell.fields, ([B], [], [B]), (3, None, None), tell.sessions, strict=True
        ):
            assert field == ehlo.received(
                now=NOW,
                by="mx.example",
                hello=hello,
                peer=peer,
                protocol=protocol,
                ident="x1",
                recipients=[ehlo.Address(one) for one in recipients],
                smtputf8=protocol.startswith("UTF8"),
                priority=priority,
            )

    backend.run(main)


@pytest.mark.tcp  # who is trusted is said by networks
def test_xforward_is_passed_on(backend: Backend) -> None:
    told = {
        "name": "c.example",
        "addr": "2001:db8::1",
        "port": 40000,
        "proto": "ESMTP",
        "helo": "c",
        "source": "REMOTE",
    }

    async def main() -> None:
        last = Tell()
        settings = ehlo.ServerConfig("mx.example", xforward=NAMES)

        class Proxy(ehlo.Handler):
            async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
                assert session.xforward is not None
                async with backend.adapter.connect("127.0.0.1", behind.port, config=CLIENT) as next_hop:
                    assert (await next_hop.xforward(session.xforward, ident="7")).code == 250
                    await next_hop.send(content, envelope.sender, list(envelope.recipients))
                    await next_hop.xforward(session.xforward)
                    await next_hop.send(content, envelope.sender, list(envelope.recipients))
                    with pytest.raises(ehlo.LocalProtocolError, match="nothing to tell"):
                        await next_hop.xforward(None)

        trusted = ["127.0.0.0/8"]
        async with (
            await backend.serve(last, "127.0.0.1", 0, config=settings, trusted=trusted) as behind,
            await backend.serve(Proxy(), "127.0.0.1", 0, config=settings, trusted=trusted) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=CLIENT) as client,
        ):
            await client.xforward(**told, ident=None)
            await client.send(CONTENT, A, B)
        first, second = last.xforward
        assert first is not None
        assert second is not None
        for one, ident, unavailable in ((first, "7", set()), (second, None, {"IDENT"})):
            assert {name: getattr(one, name) for name in told} == told
            assert (one.ident, {name.upper() for name in one.unavailable}) == (ident, unavailable)

    backend.run(main)


def test_pool_verify(backend: Backend) -> None:
    class Picky(Keep):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
            return "550 5.1.1 no such user" if "nobody" in str(recipient.path) else None

    async def main() -> None:
        keep = Picky()
        async with (
            await backend.serve(keep, "127.0.0.1", 0, config=ehlo.ServerConfig("mx.example")) as server,
            backend.adapter.Pool("127.0.0.1", server.port, config=CLIENT) as pool,
        ):
            assert (await pool.verify(B)).code == 250
            assert (await pool.verify("nobody@d.example", A)).code == 550
            assert (await pool.send(CONTENT, A, B)).all_accepted
            assert pool.statistics.connections == 1
        assert len(keep.kept) == 1

    backend.run(main)


def test_limits_rcptmax_in_a_transaction(backend: Backend) -> None:
    async def main() -> None:
        keep = Keep()
        settings = ehlo.ServerConfig("mx.example", max_recipients=2)
        async with (
            await backend.serve(keep, "127.0.0.1", 0, config=settings) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=CLIENT) as client,
        ):
            assert client.capabilities.limits["RCPTMAX"] == 2
            async with client.transaction(A) as transaction:
                replies = await transaction.rcpt(B, "e@f.example", "g@h.example")
                assert [reply.code for reply in replies] == [250, 250, 452]
                assert (await transaction.rcpt("i@j.example")).enhanced == "4.5.3"
                result = await transaction.send(CONTENT)
            assert [one.accepted for one in result.recipients] == [True, True, False, False]
            assert "RCPT TO:<g@h.example>" not in client.transcript
            assert (await client.send(CONTENT, A, B)).all_accepted
        assert [len(envelope.recipients) for envelope, _ in keep.kept] == [2, 1]

    backend.run(main)


@pytest.mark.parametrize("verb", ["XFORWARD", "XCLIENT"])
def test_a_server_may_end_the_session_between_two_commands_with_attributes(backend: Backend, verb: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(f"250-mx.example\r\n250 {verb} NAME HELO\r\n".encode())
        assert (await peer.line()).startswith(verb.encode())
        if verb == "XFORWARD":
            peer.say(b"250 ok\r\n421 4.3.2 bye\r\n")
        else:
            peer.say(b"220 mx.example\r\n")
            assert (await peer.line()).startswith(b"EHLO")
            peer.say(b"250 mx.example\r\n421 4.3.2 bye\r\n")

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=CLIENT) as client,
        ):
            tell = client.xforward if verb == "XFORWARD" else client.xclient
            with pytest.raises(ehlo.SMTPServerDisconnected, match=r"4\.3\.2 bye"):
                await tell(name="n" * 300, helo="h" * 300)

    backend.run(main)
