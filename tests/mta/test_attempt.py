"""One attempt, where the next hop fails at each step of the dialogue: SMTP and LMTP, every loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from kit import CONTENT, Sink, serving

import ehlo
from ehlo.mta._attempt import Attempt
from ehlo.mta._link import Link, Target, open_link, reply_of
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._tls_policy import TlsPolicy
from ehlo.testing import ScriptedServer
from loops import run

GREET = "S: 220 mx\nC: {hello} *\nS: 250 mx\n"
MAIL = GREET + "C: MAIL *\nS: 250 ok\n"
RCPT = MAIL + "C: RCPT *\nS: 250 ok\n"
DATA = RCPT + "C: DATA\nS: 354 go\nC...\n"
QUIT = "C: QUIT\nS: 221 bye\nclose"


@dataclass
class Case:
    """What a server does, and what follows: ``next``: another server gets the message."""

    script: str
    result: str
    reply: str = ""
    is_unknown: bool = False


CASES = {
    "closed before the greeting": Case("close", "next"),
    "421 greeting": Case("S: 421 4.3.2 not now\nclose", "next"),
    "554 greeting": Case("S: 554 5.3.2 no\nC: QUIT\nclose", "next"),
    "521 greeting": Case("S: 521 no mail here\nC: QUIT\nclose", "next"),
    "garbage greeting": Case("S: hello there\nclose", "next"),
    "closed at EHLO": Case("S: 220 mx\nC: {hello} *\nclose", "next"),
    "421 at EHLO": Case("S: 220 mx\nC: {hello} *\nS: 421 4.3.2 busy\nclose", "next"),
    "451 at MAIL": Case(GREET + "C: MAIL *\nS: 451 4.3.0 sick\n" + QUIT, "next"),
    "421 at MAIL": Case(GREET + "C: MAIL *\nS: 421 4.3.0 sick\nclose", "next"),
    "550 at MAIL": Case(GREET + "C: MAIL *\nS: 550 5.7.1 not you\n" + QUIT, "failed", "550 5.7.1 not you"),
    "closed at MAIL": Case(GREET + "C: MAIL *\nclose", "next"),
    "550 at RCPT": Case(MAIL + "C: RCPT *\nS: 550 5.1.1 nobody\n" + QUIT, "failed", "550 5.1.1 nobody"),
    "451 at RCPT": Case(MAIL + "C: RCPT *\nS: 451 4.7.1 grey\n" + QUIT, "deferred", "451 4.7.1 grey"),
    "421 at RCPT": Case(MAIL + "C: RCPT *\nS: 421 4.7.0 bye\nclose", "next"),
    "closed at RCPT": Case(MAIL + "C: RCPT *\nclose", "next"),
    "451 at DATA": Case(RCPT + "C: DATA\nS: 451 4.3.0 not now\n" + QUIT, "deferred", "451 4.3.0 not now"),
    "554 at DATA": Case(RCPT + "C: DATA\nS: 554 5.3.0 no\n" + QUIT, "failed", "554 5.3.0 no"),
    "closed at DATA": Case(RCPT + "C: DATA\nclose", "next"),
    "closed behind the content": Case(DATA + "close", "deferred", is_unknown=True),
    "421 to the content": Case(DATA + "S: 421 4.3.0 bye\nclose", "deferred"),
    "451 to the content": Case(DATA + "S: 451 4.3.0 again\n" + QUIT, "deferred", "451 4.3.0 again"),
    "554 to the content": Case(DATA + "S: 554 5.6.0 spam\n" + QUIT, "failed", "554 5.6.0 spam"),
    "250 and closed": Case(DATA + "S: 250 2.0.0 ok\nclose", "taken", "250 2.0.0 ok"),
}


async def attempt(
    targets: list[Target],
    *,
    lmtp: bool = False,
    message: Message | None = None,
    link: Link | None = None,
    content: Any = CONTENT,
) -> tuple[Attempt, list[Outcome]]:
    config = ehlo.ClientConfig("mx.example", lmtp=lmtp, drop_dsn=True)
    message = Message(1, "a@b.example", 0.0, size=len(CONTENT)) if message is None else message

    async def connect(target: Target) -> Link:
        return await open_link(target, TlsPolicy("off"), config)

    one = Attempt(message, [Recipient(1, "c@d.example")], content, targets, connect, link, is_final=lmtp)
    outcomes = await one.run()
    if one.link is not None:
        await one.link.client.close()
    await anyio.sleep(0.01)  # a script is waited for in this thread: let transports close
    return one, outcomes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_c_que_20_each_step_may_fail(loop: str, lmtp: bool, name: str) -> None:
    case = CASES[name]

    async def main() -> None:
        script = case.script.format(hello="LHLO" if lmtp else "EHLO")
        sink = Sink()
        with ScriptedServer(script) as server:
            async with serving(sink, config=ehlo.ServerConfig("backup.example", lmtp=lmtp)) as backup:
                targets = [Target("first", "127.0.0.1", server.port), Target("second", "127.0.0.1", backup.port)]
                one, [outcome] = await attempt(targets, lmtp=lmtp)
        accepted = "delivered" if lmtp else "relayed"
        assert outcome.is_unknown == case.is_unknown
        if case.result == "next":
            assert (outcome.result, outcome.host) == (accepted, "second")
            assert len(sink.got) == 1
        else:
            assert (outcome.result, outcome.host) == (accepted if case.result == "taken" else case.result, "first")
            assert not sink.got
            assert case.reply in str(outcome.reply)
        assert one.reached

    run(loop, main)


@pytest.mark.parametrize(
    ("name", "result", "reply"),
    [
        ("closed before the greeting", "deferred", "4.4.2"),
        ("421 greeting", "deferred", "421 4.3.2"),
        ("521 greeting", "failed", "521"),
        ("garbage greeting", "deferred", "4.5.0"),
        ("451 at MAIL", "deferred", "451 4.3.0"),
        ("closed at DATA", "deferred", "4.4.2"),
    ],
)
def test_c_que_20_the_last_server_decides(name: str, result: str, reply: str) -> None:
    """C-OTH-04: a 521 is permanent."""

    async def main() -> None:
        with ScriptedServer(CASES[name].script.format(hello="EHLO")) as server:
            one, [outcome] = await attempt([Target("first", "127.0.0.1", server.port)])
        assert outcome.result == result
        assert reply in str(outcome.reply)
        assert one.reached == (name == "451 at MAIL")

    run("asyncio", main)


def test_c_que_20_a_server_that_may_recover_outweighs_one_that_refuses() -> None:
    async def main() -> None:
        with (
            ScriptedServer(CASES["421 greeting"].script) as first,
            ScriptedServer(CASES["554 greeting"].script) as second,
        ):
            targets = [Target("first", "127.0.0.1", first.port), Target("second", "127.0.0.1", second.port)]
            _, [outcome] = await attempt(targets)
        assert (outcome.result, outcome.host, outcome.reply.code) == ("deferred", "first", 421)

    run("asyncio", main)


def test_c_que_20_a_port_that_nobody_listens_on(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with serving(sink) as server:
            targets = [Target("dead", "127.0.0.1", 1), Target("alive", "127.0.0.1", server.port)]
            _, [outcome] = await attempt(targets)
            assert (outcome.result, outcome.host) == ("relayed", "alive")
        one, [outcome] = await attempt([Target("dead", "127.0.0.1", 1)])
        assert (outcome.result, outcome.reply.enhanced, one.reached) == ("deferred", "4.4.1", False)
        _, [outcome] = await attempt([])
        assert (outcome.result, outcome.reply.enhanced) == ("deferred", "4.4.4")

    run(loop, main)


def test_c_que_21_a_connection_that_went_stale_is_replaced(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        script = GREET.format(hello="EHLO") + "C: MAIL *\nclose"
        with ScriptedServer(script) as stale:
            async with serving(sink) as server:
                link = await open_link(
                    Target("old", "127.0.0.1", stale.port), TlsPolicy("off"), ehlo.ClientConfig("mx.example")
                )
                _, [outcome] = await attempt([Target("new", "127.0.0.1", server.port)], link=link)
        assert (outcome.result, outcome.host) == ("relayed", "new")

    run(loop, main)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Message(1, "a@b.example", 0.0, size=99, requiretls=True), "550 5.7.30"),
        (Message(1, "ä@b.example", 0.0, size=99, smtputf8=True), "553 5.6.7"),
        (Message(1, "a@b.example", 0.0, size=99, body="BINARYMIME"), "554 5.6.3"),
    ],
)
def test_c_que_22_what_no_server_can_take_comes_back(message: Message, code: str) -> None:
    async def main() -> None:
        with ScriptedServer(GREET.format(hello="EHLO") + QUIT) as server:
            one, [outcome] = await attempt([Target("old", "127.0.0.1", server.port)], message=message)
        assert outcome.result == "failed"
        assert str(outcome.reply).startswith(code)
        assert one.reached

    run("asyncio", main)


@pytest.mark.parametrize("smtputf8", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_faults_c10_what_came_without_smtputf8_goes_on_without_it(loop: str, smtputf8: bool, streamed: bool) -> None:
    octets = b"Subject: Gr\xfc\xdfe\r\n\r\nhi\r\n" if not smtputf8 else "Subject: Grüße\r\n\r\nhi\r\n".encode()
    message = Message(1, "a@b.example", 0.0, size=len(octets), eight_bit=True, utf8_header=True, smtputf8=smtputf8)

    async def stream() -> AsyncIterator[bytes]:
        yield octets

    async def main() -> None:
        for offered in (True, False):
            sink = Sink()
            async with serving(sink, config=ehlo.ServerConfig("mx.example", smtputf8=offered)) as server:
                content = stream if streamed else octets
                _, [outcome] = await attempt([Target("mx", "127.0.0.1", server.port)], message=message, content=content)
            assert outcome.result == ("failed" if smtputf8 and not offered else "relayed")
            assert [sent for _, sent in sink.got] == [octets] * (outcome.result == "relayed")

    run(loop, main)


def test_c_que_22_a_message_above_the_size_that_is_offered() -> None:
    async def main() -> None:
        with ScriptedServer("S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 SIZE 10\n" + QUIT) as server:
            _, [outcome] = await attempt([Target("small", "127.0.0.1", server.port)])
        assert str(outcome.reply).startswith("552 5.3.4")

    run("asyncio", main)


def test_lmtp_answers_for_each_recipient(loop: str) -> None:
    async def main() -> None:
        class Agent(ehlo.Handler):
            def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> list[str]:
                return ["250 2.1.5 kept", "452 4.2.2 full", "550 5.2.1 closed"]

        async with serving(Agent(), config=ehlo.ServerConfig("lmtp.example", lmtp=True)) as server:
            config = ehlo.ClientConfig("mx.example", lmtp=True)

            async def connect(target: Target) -> Link:
                return await open_link(target, TlsPolicy("off"), config)

            recipients = [Recipient(n, f"c{n}@d.example") for n in range(3)]
            message = Message(1, "a@b.example", 0.0, size=len(CONTENT))
            target = Target("lmtp", "127.0.0.1", server.port)
            one = Attempt(message, recipients, CONTENT, [target], connect, None, is_final=True)
            outcomes = await one.run()
            assert one.link is not None
            await one.link.client.close()
        assert [outcome.result for outcome in outcomes] == ["delivered", "deferred", "failed"]

    run(loop, main)


def test_reasons_as_replies() -> None:
    assert str(reply_of(ehlo.SMTPTimeoutError("late"))) == "451 4.4.1 late"
    assert reply_of(ehlo.SMTPAuthenticationError("no", reply=ehlo.Reply(535, "5.7.8", "no"))).is_temporary
    assert reply_of(ehlo.SMTPNotSupportedError("no STARTTLS")).enhanced == "4.7.4"
    assert reply_of(ehlo.SMTPException("a\r\nb\0")).text == "a b?"
    assert reply_of(ehlo.SMTPException("")).text
