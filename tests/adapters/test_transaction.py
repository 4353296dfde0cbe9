"""A client's transaction step by step, on every backend: MAIL, RCPT and the content, and its end at each step."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from test_cancel import (
    cancel_everywhere,
    connected,
    fresh,
    in_pieces,
    is_not_poisoned,
    is_over_or_good,
    on_a_server,
    used,
)

import ehlo
from backends import Backend, Peer

A, B, C = "a@b.example", "c@d.example", "e@f.example"
NOBODY = "nobody@d.example"
CONTENT = b"Subject: hi\r\n\r\n.hello\r\n"
PLAIN = b"250 mx.example\r\n"
PIPELINING = b"250-mx.example\r\n250 PIPELINING\r\n"
OK = b"250 ok\r\n"


class Collect(ehlo.Handler):
    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str], bytes]] = []
        self.resets = 0
        self.refuse_mail = False
        self.refuse_message = False

    def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str | None:
        return "550 5.7.1 not you" if self.refuse_mail else None

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return "550 5.1.1 no such user" if "nobody" in str(recipient.path) else None

    def on_reset(self, session: ehlo.Session) -> None:
        self.resets += 1

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str | None:
        if self.refuse_message:
            return "554 5.6.0 no"
        to = [str(recipient.path) for recipient in envelope.recipients]
        self.messages.append((str(envelope.sender.path), to, content))
        return None


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(CONTENT), 5):
        yield CONTENT[at : at + 5]


WAYS = [
    pytest.param({"lmtp": lmtp, "chunking": chunking, "pipelining": pipelining}, id=name)
    for name, lmtp, chunking, pipelining in [
        ("SMTP-DATA", False, False, False),
        ("SMTP-DATA-PIPELINING", False, False, True),
        ("SMTP-BDAT", False, True, False),
        ("SMTP-BDAT-PIPELINING", False, True, True),
        ("LMTP-DATA", True, False, True),
        ("LMTP-BDAT", True, True, False),
        ("LMTP-BDAT-PIPELINING", True, True, True),
    ]
]


def on_our_server(backend: Backend, way: dict[str, bool], main: Any) -> None:
    """``main(client, handler)``, with a client that speaks this way."""

    async def run() -> None:
        handler = Collect()
        settings = ehlo.ServerConfig("mx.example", lmtp=way["lmtp"])
        async with await backend.serve(handler, "127.0.0.1", 0, config=settings) as server:
            config = ehlo.ClientConfig("client.example", **way)  # type: ignore[arg-type]
            async with backend.adapter.connect("127.0.0.1", server.port, config=config) as client:
                await main(client, handler)

    backend.run(run)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [CONTENT, pieces], ids=["whole", "streamed"])
def test_step_by_step(backend: Backend, way: dict[str, bool], body: Any) -> None:
    async def main(client: Any, handler: Collect) -> None:
        for _ in range(2):  # the connection is as good as before
            async with client.transaction(A) as transaction:
                assert (await transaction.rcpt(B)).code == 250
                replies = await transaction.rcpt(NOBODY, C)
                assert [reply.code for reply in replies] == [550, 250]
                result = await transaction.send(body() if callable(body) else body)
                assert [str(one.path) for one in result.recipients] == [B, NOBODY, C]
                assert [one.accepted for one in result.recipients] == [True, False, True]
                assert transaction.result is result
        assert (await client.send(CONTENT, A, B)).all_accepted
        assert sum(to.count(B) for _, to, _ in handler.messages) == 3
        assert all(content == CONTENT for _, _, content in handler.messages)

    on_our_server(backend, way, main)


@pytest.mark.parametrize("way", WAYS)
def test_refused_at_each_step(backend: Backend, way: dict[str, bool]) -> None:
    async def main(client: Any, handler: Collect) -> None:
        handler.refuse_mail = True
        with pytest.raises(ehlo.SMTPSenderRefused, match="not you") as refused:
            async with client.transaction(A):
                pytest.fail("MAIL was refused")
        assert (refused.value.sender, str(refused.value.reply)) == (A, "550 5.7.1 not you")
        handler.refuse_mail = False
        for check in (True, False):
            async with client.transaction(A) as transaction:
                assert (await transaction.rcpt(NOBODY)).code == 550
                if check:
                    with pytest.raises(ehlo.SMTPRecipientsRefused):
                        await transaction.send(CONTENT)
                else:
                    result = await transaction.send(CONTENT, check=False)
                    assert [one.stage for one in result.recipients] == ["rcpt"]
        handler.refuse_message = True
        for check in (True, False):
            async with client.transaction(A) as transaction:
                assert (await transaction.rcpt(B)).is_positive
                if check:
                    with pytest.raises(ehlo.SMTPDataError, match=r"5\.6\.0"):
                        await transaction.send(CONTENT)
                else:
                    result = await transaction.send(CONTENT, check=False)
                    assert [one.stage for one in result.recipients] == ["content"]
        handler.refuse_message = False
        assert (await client.send(CONTENT, A, B)).all_accepted
        assert len(handler.messages) == 1

    on_our_server(backend, way, main)


@pytest.mark.parametrize("way", WAYS)
def test_left_early(backend: Backend, way: dict[str, bool]) -> None:
    async def main(client: Any, handler: Collect) -> None:
        async with client.transaction(A):
            pass
        async with client.transaction(A) as transaction:
            await transaction.rcpt(B)

        async def fail() -> None:
            async with client.transaction(A) as transaction:
                await transaction.rcpt(B)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await fail()
        assert client.transcript.count("C: RSET") == 3
        assert (await client.send(CONTENT, A, B)).all_accepted
        assert client.transcript.count("C: RSET") == 3, "one RSET for one transaction"
        assert handler.messages == [(A, [B], CONTENT)]

    on_our_server(backend, way, main)


@pytest.mark.parametrize("way", WAYS)
def test_verify(backend: Backend, way: dict[str, bool]) -> None:
    async def main(client: Any, handler: Collect) -> None:
        assert (await client.verify(B)).code == 250
        assert str(await client.verify(NOBODY, sender=A)) == "550 5.1.1 no such user"
        assert "C: MAIL FROM:<>\n" in client.transcript.replace("\r", "")
        assert client.transcript.count("C: RSET") == 2
        assert handler.messages == []

    on_our_server(backend, way, main)


@pytest.mark.parametrize("check", [True, False])
def test_send_without_check_gives_the_refusal(backend: Backend, check: bool) -> None:
    async def main(client: Any, handler: Collect) -> None:
        if check:
            with pytest.raises(ehlo.SMTPRecipientsRefused):
                await client.send(CONTENT, A, [NOBODY])
        else:
            result = await client.send(CONTENT, A, [NOBODY], check=False)
            assert [str(one.reply) for one in result.refused] == ["550 5.1.1 no such user"]
            handler.refuse_mail = True
            assert (await client.send(pieces(), A, B, check=False)).reply.code == 550

    on_our_server(backend, {"lmtp": False, "chunking": True, "pipelining": True}, main)


def test_mistakes_of_the_program(backend: Backend) -> None:
    async def main(client: Any, handler: Collect) -> None:
        async with client.transaction(A) as transaction:
            with pytest.raises(ehlo.LocalProtocolError, match="no recipients"):
                await transaction.rcpt()
            with pytest.raises(ehlo.LocalProtocolError, match="at least one recipient"):
                await transaction.send(CONTENT)
            with pytest.raises(ehlo.InvalidAddressError):
                await transaction.rcpt("no address")
            with pytest.raises(TypeError):
                await transaction.send("text")
            with pytest.raises(ehlo.LocalProtocolError, match="a transaction of another task"):
                await client.noop()
            with pytest.raises(ehlo.LocalProtocolError, match="once"):
                await transaction.__aenter__()
            assert (await transaction.rcpt(B)).is_positive
            assert (await transaction.send(CONTENT)).all_accepted
            with pytest.raises(ehlo.LocalProtocolError, match="over"):
                await transaction.rcpt(B)
            with pytest.raises(ehlo.LocalProtocolError, match="over"):
                await transaction.send(CONTENT)
        with pytest.raises(ehlo.LocalProtocolError, match="begun"):
            await client.transaction(A).rcpt(B)
        with pytest.raises(ehlo.InvalidAddressError):
            async with client.transaction("no address"):
                pytest.fail("it is no address")
        assert (await client.noop()).is_positive

    on_our_server(backend, {"lmtp": False, "chunking": True, "pipelining": True}, main)


# ---- servers from a script -----------------------------------------------------------------------


async def on_a_script(backend: Backend, script: Any, main: Any, **settings: Any) -> None:
    config = ehlo.ClientConfig("client.example", **settings)
    async with backend.scripted(script) as port, backend.adapter.connect("127.0.0.1", port, config=config) as client:
        await main(client)


def test_several_recipients_go_out_in_one_group(backend: Backend) -> None:
    # RFC 2920 3.1
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        assert await peer.line() == b"MAIL FROM:<a@b.example>"
        peer.say(OK)
        assert await peer.lines(2) == [b"RCPT TO:<c@d.example>", b"RCPT TO:<e@f.example>"]
        peer.say(OK, b"452 4.5.3 too many\r\n")
        assert await peer.line() == b"DATA"
        peer.say(b"354 go\r\n")
        assert await peer.content() == b"Subject: hi\r\n\r\n..hello\r\n.\r\n"
        peer.say(OK)
        assert await peer.farewell() == b"QUIT\r\n", "no second transaction: the program decides"

    async def main(client: Any) -> None:
        async with client.transaction(A) as transaction:
            assert [reply.code for reply in await transaction.rcpt(B, C)] == [250, 452]
            result = await transaction.send(CONTENT)
            assert [one.accepted for one in result.recipients] == [True, False]

    backend.run(lambda: on_a_script(backend, script, main))


def test_what_mail_did_not_say(backend: Backend) -> None:
    # RFC 6152 3, RFC 6531 3.4, RFC 1870 6.1: nothing is sent that the server was not told of.
    async def script(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250 SIZE 100\r\n")
        for line in [b"MAIL FROM:<a@b.example> BODY=8BITMIME", b"RCPT TO:<c@d.example>", b"RSET"] * 3:
            assert await peer.line() == line
            peer.say(OK)
        assert await peer.farewell() == b"QUIT\r\n"

    async def main(client: Any) -> None:
        for body in ("Subject: grüße\r\n\r\nhi\r\n".encode(), CONTENT * 10):
            async with client.transaction(A) as transaction:
                await transaction.rcpt(B)
                with pytest.raises(ehlo.SMTPNotSupportedError):
                    await transaction.send(body, check=False)
            await client.rset()
        async with client.transaction(A) as transaction:
            await transaction.rcpt(B)
            with pytest.raises(ehlo.SMTPNotSupportedError, match="SMTPUTF8"):
                await transaction.rcpt("jürgen@d.example")
        await client.rset()

    backend.run(lambda: on_a_script(backend, script, main))


def test_a_parameter_that_the_server_lacks(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(PLAIN)
        assert await peer.farewell() == b"QUIT\r\n"

    async def main(client: Any) -> None:
        with pytest.raises(ehlo.SMTPNotSupportedError, match="DSN"):
            async with client.transaction(ehlo.Sender(A, ret="HDRS")):
                pytest.fail("there is no DSN")

    backend.run(lambda: on_a_script(backend, script, main))


CLOSING = b"421 4.3.2 going\r\n"
STEPS = ["mail", "rcpt", "data", "end"]


@pytest.mark.parametrize("last", [CLOSING, b""], ids=["421", "EOF"])
@pytest.mark.parametrize("step", STEPS)
def test_the_end_at_each_step(backend: Backend, step: str, last: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        for name in STEPS:
            await (peer.content() if name == "end" else peer.line())
            if name == step:
                peer.say(last)
                return
            peer.say(b"354 go\r\n" if name == "data" else OK)

    async def main(client: Any) -> None:
        if step == "mail":
            with pytest.raises(ehlo.SMTPSenderRefused if last else ehlo.SMTPServerDisconnected):
                async with client.transaction(A):
                    pytest.fail("MAIL was not accepted")
        elif step == "rcpt" and last:
            async with client.transaction(A) as transaction:
                assert (await transaction.rcpt(B)).code == 421
                with pytest.raises(ehlo.SMTPServerDisconnected):
                    await transaction.send(CONTENT)
        elif step == "rcpt":
            with pytest.raises(ehlo.SMTPServerDisconnected):
                async with client.transaction(A) as transaction:
                    await transaction.rcpt(B)
        else:
            kind = {"data": ehlo.SMTPServerDisconnected, "end": ehlo.OutcomeUnknown}[step]
            async with client.transaction(A) as transaction:
                assert (await transaction.rcpt(B)).is_positive
                with pytest.raises(ehlo.SMTPDataError if last else kind):
                    await transaction.send(CONTENT)
        assert client.is_closed

    backend.run(lambda: on_a_script(backend, script, main))


def test_one_of_several_recipients_has_the_421(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        await peer.line()
        peer.say(OK)
        await peer.lines(2)
        peer.say(CLOSING)

    async def main(client: Any) -> None:
        with pytest.raises(ehlo.SMTPServerDisconnected) as ended:
            async with client.transaction(A) as transaction:
                await transaction.rcpt(B, C)
        assert str(ended.value.reply) == "421 4.3.2 going"

    backend.run(lambda: on_a_script(backend, script, main))


def test_no_reply_in_time(backend: Backend) -> None:
    # RFC 5321 4.5.3.2.3
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        await peer.line()
        peer.say(OK)
        await peer.farewell()

    async def main(client: Any) -> None:
        async with client.transaction(A) as transaction:
            with pytest.raises(ehlo.SMTPTimeoutError):
                await transaction.rcpt(B)
        assert client.is_closed

    backend.run(lambda: on_a_script(backend, script, main, rcpt_timeout=0.05))


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_a_source_that_fails(backend: Backend, chunking: bool) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield CONTENT
        raise KeyError("mine")

    async def main(client: Any, handler: Collect) -> None:
        async with client.transaction(A) as transaction:
            await transaction.rcpt(B)
            with pytest.raises(KeyError, match="mine"):
                await transaction.send(failing())
        assert client.is_closed is not chunking  # behind DATA there is no other way
        assert handler.messages == []
        if chunking:
            assert (await client.send(CONTENT, A, B)).all_accepted

    on_our_server(backend, {"lmtp": False, "chunking": chunking, "pipelining": True}, main)


# ---- pools ---------------------------------------------------------------------------------------


def test_a_pool_lends_a_connection(backend: Backend) -> None:
    async def run() -> None:
        handler = Collect()
        async with await backend.serve(handler, "127.0.0.1", 0, config=ehlo.ServerConfig("mx.example")) as server:
            config = ehlo.ClientConfig("client.example")
            async with backend.adapter.Pool("127.0.0.1", server.port, config=config, max_connections=1) as pool:
                for number in range(3):
                    async with pool.transaction(A) as transaction:
                        assert pool.idle == 0
                        assert (await transaction.rcpt(B)).is_positive
                        if number:
                            await transaction.send(CONTENT)

                async def to_nobody() -> None:
                    async with pool.transaction(A) as transaction:
                        await transaction.rcpt(NOBODY)
                        await transaction.send(CONTENT)

                with pytest.raises(ehlo.SMTPRecipientsRefused):
                    await to_nobody()
                handler.refuse_mail = True
                with pytest.raises(ehlo.SMTPSenderRefused):
                    async with pool.transaction(A):
                        pytest.fail("MAIL was refused")
                assert (await pool.send(CONTENT, A, B, check=False)).reply.code == 550
                assert (pool.idle, pool.connections) == (1, 1)
                stats = pool.statistics
                assert (stats.connections, stats.messages, stats.retried) == (1, 4, 0)
            assert len(handler.messages) == 2

    backend.run(run)


@pytest.mark.parametrize("last", [CLOSING, b""], ids=["421", "EOF"])
def test_c_cli_19_a_stale_connection_is_replaced(backend: Backend, last: bytes) -> None:
    async def deliver(peer: Peer) -> None:
        for reply in (OK, OK, b"354 go\r\n"):
            await peer.line()
            peer.say(reply)
        await peer.content()
        peer.say(OK)

    async def stale(peer: Peer) -> None:
        await peer.hello(PLAIN)
        await deliver(peer)
        await peer.line()
        peer.say(last)

    async def good(peer: Peer) -> None:
        await peer.hello(PLAIN)
        await deliver(peer)
        await peer.farewell()

    async def run() -> None:
        config = ehlo.ClientConfig("client.example")
        async with (
            backend.scripted(stale, good) as port,
            backend.adapter.Pool("127.0.0.1", port, config=config, max_connections=1) as pool,
        ):
            for _ in range(2):
                async with pool.transaction(A) as transaction:
                    await transaction.rcpt(B)
                    assert (await transaction.send(CONTENT)).all_accepted
            assert (pool.statistics.retried, pool.statistics.connections) == (1, 2)

    backend.run(run)


# ---- cancelled -----------------------------------------------------------------------------------

BODY = b"Subject: hi\r\n\r\nhello\r\n"


async def step_by_step(backend: Backend, client: Any) -> None:
    async with client.transaction(A) as transaction:
        assert (await transaction.rcpt(B)).is_positive
        await transaction.send(BODY)


async def stream(backend: Backend, client: Any) -> None:
    async with client.transaction(A) as transaction:
        await transaction.rcpt(B, C)
        await transaction.send(in_pieces(backend))


async def leave_early(backend: Backend, client: Any) -> None:
    async with client.transaction(A) as transaction:
        await transaction.rcpt(B)


@pytest.mark.waits
@pytest.mark.parametrize("use", [step_by_step, stream, leave_early])
@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_cancelled_anywhere(backend: Backend, use: Any, chunking: bool) -> None:
    async def main(place: Any) -> None:
        place.options["config"] = ehlo.ClientConfig("client.example", chunking=chunking)
        assert await cancel_everywhere(place, connected, partial(use, backend), is_over_or_good) >= 3

    on_a_server(backend, main)
    gc.collect()


@pytest.mark.waits
@pytest.mark.parametrize("setup", [fresh, used])
@pytest.mark.parametrize("use", [step_by_step, stream, leave_early])
def test_cancelled_anywhere_in_a_pool(backend: Backend, setup: Any, use: Any) -> None:
    async def main(place: Any) -> None:
        assert await cancel_everywhere(place, setup, partial(use, backend), is_not_poisoned) >= 3

    on_a_server(backend, main)
    gc.collect()
