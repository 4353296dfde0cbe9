"""The driver without any event loop: coroutines are turned by hand here."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any

import pytest

import ehlo
from ehlo._server.answers import Call
from ehlo._server.driver import ServerDriver
from ehlo._server.handler import plan_of

MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"


class Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


class ManualEvent:
    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    async def wait(self) -> None:
        while not self.is_set:
            await Turn()


class Manual:
    """An adapter whose every step is taken by the test."""

    def __init__(self, handler: object, **config: Any) -> None:
        plan = plan_of(handler)
        options = {"hostname": "mx.example", **config}
        self.conn = ehlo.ServerConnection(ehlo.ServerConfig(decisions=plan.decisions, content=plan.content, **options))
        self.plan = plan
        self.driver = ServerDriver(self.conn, plan, self)
        self.running: list[tuple[Call, Generator[Any, Any, Any]]] = []
        self.advancing = False
        self.advance()

    def peer(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 1234)

    def local(self) -> tuple[str, int] | None:
        return ("192.0.2.2", 25)

    def make_event(self) -> ManualEvent:
        return ManualEvent()

    def wake(self) -> None:
        self.advance()

    def advance(self) -> None:
        if self.advancing:
            return
        self.advancing = True
        try:
            while (call := self.driver.step()) is not None:
                self.running.append((call, call.awaitable.__await__()))
        finally:
            self.advancing = False

    def feed(self, octets: bytes) -> None:
        self.conn.receive_data(octets)
        self.advance()

    def turn(self) -> None:
        """Each waiting handler goes on up to its next wait."""
        for pair in list(self.running):
            call, generator = pair
            try:
                next(generator)
            except StopIteration as stop:
                self.running.remove(pair)
                call.resume(stop.value)
            except Exception as exc:
                self.running.remove(pair)
                call.fail(exc)
        self.advance()

    def codes(self) -> list[str]:
        """The codes of the replies that have not been looked at, one a reply."""
        lines = self.conn.data_to_send().decode().split("\r\n")
        return [line[:3] for line in lines if line[3:4] == " "]

    def greet(self, verb: bytes = b"EHLO") -> None:
        self.feed(verb + b" client.example\r\n")
        self.codes()


def test_a_plain_handler_is_answered_at_once() -> None:
    class Mine(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
            return None if recipient.path == ehlo.Address("<c@d.example>") else "550 5.1.1 no such user"

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Reply:
            assert session.message is not None
            assert session.message.size == len(content)
            assert len(envelope.recipients) == 1
            assert content == b"Subject: x\r\n\r\n.\r\n"
            return ehlo.Reply(250, "2.0.0", "kept")

    manual = Manual(Mine())
    assert manual.codes() == ["220"]
    manual.greet()
    manual.feed(MAIL + b"RCPT TO:<no@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\n")
    assert b"250 2.0.0 kept" in manual.conn.data_to_send()
    assert manual.conn.messages == 1
    assert not manual.running
    assert not manual.driver.blocked


def test_nothing_is_made_for_a_handler_that_asks_nothing() -> None:
    manual = Manual(ehlo.Handler())
    manual.greet()
    manual.feed(MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
    assert manual.codes() == ["250", "250", "354", "250", "221"]
    assert manual.driver._session is None
    assert manual.conn.messages == 1
    assert manual.driver.reason == "quit"


def test_an_awaitable_blocks_the_session_until_it_is_answered() -> None:
    # Engine rule "one decision at a time": what is pipelined waits.
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str:
            await Turn()
            return "550 5.7.1 no"

    manual = Manual(Mine())
    manual.greet()
    manual.feed(MAIL + b"NOOP\r\n")
    assert manual.driver.blocked
    assert manual.conn.timeout is None
    manual.turn()
    assert manual.codes() == []
    manual.turn()
    assert manual.codes() == ["550", "503", "250"]
    assert not manual.driver.blocked


def test_every_method_is_called() -> None:
    seen: list[tuple[str, Any]] = []

    class Mine(ehlo.Handler):
        def on_connect(self, session: ehlo.Session) -> None:
            seen.append(("connect", session.peer))

        def on_hello(self, session: ehlo.Session, hello: ehlo.Hello) -> None:
            seen.append(("hello", (hello.verb, hello.name)))

        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            seen.append(("mail", str(sender.path)))

        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
            seen.append(("rcpt", None))

        def on_data(self, session: ehlo.Session, envelope: ehlo.Envelope) -> str:
            seen.append(("data", len(envelope.recipients)))
            return "452 4.3.1 full"

        def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            seen.append(("vrfy", argument))
            return "250 2.1.5 <joe@d.example>"

        def on_expn(self, session: ehlo.Session, argument: str) -> str:
            seen.append(("expn", argument))
            return "550 5.1.1 no such list"

        async def on_reset(self, session: ehlo.Session) -> None:
            await Turn()
            seen.append(("reset", None))

        async def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            seen.append(("disconnect", reason))

    manual = Manual(Mine())
    assert manual.codes() == ["220"]
    manual.feed(b"EHLO client.example\r\n" + MAIL + b"DATA\r\nVRFY joe\r\nEXPN all\r\nRSET\r\nQUIT\r\n")
    for _ in range(5):
        manual.turn()
    assert manual.codes() == ["250", "250", "250", "452", "250", "550", "250", "221"]
    assert [name for name, _ in seen] == [
        "connect", "hello", "mail", "rcpt", "data", "vrfy", "expn", "reset", "disconnect",
    ]  # fmt: skip
    assert seen[1] == ("hello", ("EHLO", "client.example"))
    assert seen[-1] == ("disconnect", "quit")


@pytest.mark.parametrize("late", [False, True])
def test_an_exception_is_logged_and_answered_without_its_text(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    # RFC 5321 4.2.3; RULES group 0: the program failed
    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> Awaitable[None]:
            async def fail() -> None:
                await Turn()
                raise RuntimeError("secret")

            if late:
                return fail()
            raise RuntimeError("secret")

    manual = Manual(Mine())
    manual.greet()
    with caplog.at_level(logging.ERROR, "ehlo"):
        manual.feed(b"MAIL FROM:<a@b.example>\r\n")
        manual.turn()
        manual.turn()
    out = manual.conn.data_to_send()
    assert out.startswith(b"451 4.3.0 ")
    assert b"secret" not in out
    assert caplog.records[0].exc_info is not None
    assert "192.0.2.1" in caplog.text
    assert manual.plan.failures == 1


@pytest.mark.parametrize("wrong", [42, b"250 ok", "hello", "250 ok\r\n250 more", ["250 ok"], "199 x", object()])
def test_an_answer_that_is_none_is_a_failure(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> Any:
            return wrong

    manual = Manual(Mine())
    manual.greet()
    manual.feed(b"MAIL FROM:<a@b.example>\r\nNOOP\r\n")
    assert manual.codes() == ["451", "250"]
    assert manual.plan.failures == 1


def test_421_of_a_handler_closes() -> None:
    # S-SES-32, RFC 5321 3.8
    class Mine(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str:
            return "421 4.7.0 bye"

    manual = Manual(Mine())
    manual.greet()
    manual.feed(MAIL + b"NOOP\r\n")
    assert manual.codes() == ["250", "421"]
    assert manual.conn.closed
    assert manual.driver.reason == "program"


def test_lmtp_answers_for_each_recipient() -> None:
    # S-LMT-03, RFC 2033 4.2
    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
            return [None, "550 5.1.1 no", ehlo.Reply(452, "4.2.2", "full")]

    manual = Manual(Mine(), lmtp=True)
    manual.greet(b"LHLO")
    manual.feed(MAIL + b"RCPT TO:<e@d.example>\r\nRCPT TO:<f@d.example>\r\nDATA\r\nx\r\n.\r\n")
    manual.turn()
    assert manual.codes() == ["250", "250", "250", "250", "354", "250", "550", "452"]


def test_lmtp_wrong_number_of_answers(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
            return [None, None, None]

    manual = Manual(Mine(), lmtp=True)
    manual.greet(b"LHLO")
    manual.feed(MAIL + b"RCPT TO:<e@d.example>\r\nDATA\r\nx\r\n.\r\n")
    assert manual.codes() == ["250", "250", "250", "354", "451", "451"]
    assert "expected 2 answers" in caplog.text


class Streamer(ehlo.Handler):
    def __init__(self, answer: str | None = None, early: int = -1) -> None:
        self.chunks: list[bytes] = []
        self.answer = answer
        self.early = early
        self.error: str | None = None
        self.ended = False

    async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str | None:
        if self.early == 0:
            return self.answer
        try:
            async for chunk in body:
                self.chunks.append(chunk)
                if len(self.chunks) == self.early:
                    return self.answer
                await Turn()
        except ehlo.ContentAbortedError as exc:
            self.error = exc.reason
            raise
        self.ended = True
        return self.answer


def test_streaming_is_whole_and_holds_back() -> None:
    handler = Streamer("250 2.0.0 kept")
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\n")
    assert manual.codes() == ["250", "250", "354"]
    lines = [b"%06d %s\r\n" % (n, b"x" * 60) for n in range(4000)]
    content = b"".join(lines)
    tenth = len(content) // 10
    manual.feed(content[:tenth])
    assert manual.driver.blocked  # one chunk waits for the handler
    for start in range(tenth, len(content), tenth):
        manual.feed(content[start : start + tenth])
    manual.feed(b".\r\nNOOP\r\n")
    # One chunk is in the body, one in the engine; the rest is as it came, so that the adapter can see it and stop.
    assert manual.conn.buffered > 7 * tenth
    assert handler.chunks == []
    for _ in range(1000):
        if handler.ended:
            break
        manual.turn()
    manual.turn()
    assert b"".join(handler.chunks) == content
    assert manual.codes() == ["250", "250"]
    assert manual.conn.buffered == 0
    assert manual.conn.messages == 1


def test_streaming_an_empty_message() -> None:
    handler = Streamer()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\n.\r\n")
    manual.turn()
    manual.turn()
    assert handler.chunks == []
    assert handler.ended
    assert manual.codes() == ["250", "250", "354", "250"]


@pytest.mark.parametrize("early", [0, 1])
@pytest.mark.parametrize(("answer", "code"), [(None, "250"), ("554 5.6.0 no", "554"), ("250 2.0.0 enough", "250")])
def test_a_handler_that_returns_early(early: int, answer: str | None, code: str) -> None:
    # S-DAT-15: the rest is drained, then answered; the session stays in sync
    handler = Streamer(answer, early)
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\n")
    manual.codes()
    manual.feed(b"one\r\n")
    manual.turn()
    manual.turn()
    manual.feed(b"two\r\n" * 1000)
    manual.turn()
    assert manual.codes() == []
    manual.feed(b".\r\nNOOP\r\n")
    manual.turn()
    assert manual.codes() == [code, "250"]
    assert not handler.ended
    assert not manual.driver.busy


def test_a_body_that_becomes_no_message() -> None:
    # RFC 5321 2.3.8: a bare LF, found while streaming
    handler = Streamer()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\n")
    manual.codes()
    manual.feed(b"fine\r\n")
    manual.turn()
    manual.feed(b"bad\nline\r\nmore\r\n.\r\nNOOP\r\n")
    for _ in range(10):
        manual.turn()
    assert handler.error == "forbidden"
    assert manual.codes() == ["550", "250"]
    assert manual.plan.failures == 0
    assert not manual.driver.busy


def test_a_body_whose_client_leaves() -> None:
    # RFC 5321 4.1.1.10; S-SES-33
    handler = Streamer()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\nhalf a li")
    manual.turn()
    manual.turn()
    manual.conn.receive_eof()
    manual.advance()
    for _ in range(5):
        manual.turn()
    assert handler.error == "disconnected"
    assert manual.driver.reason == "eof"
    assert manual.plan.failures == 0
    assert not manual.driver.busy


def test_vrfy_between_chunks_while_the_body_is_read() -> None:
    # RFC 3030 2: other commands may come between two BDATs
    class Mine(Streamer):
        async def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            await Turn()
            return "252 2.0.0 perhaps"

    handler = Mine()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"BDAT 3\r\nabcVRFY joe\r\nBDAT 3 LAST\r\ndef")
    for _ in range(10):
        manual.turn()
    assert manual.codes() == ["250", "250", "250", "252", "250"]
    assert b"".join(handler.chunks) == b"abcdef"
    assert handler.ended


def test_bdat_that_is_reset() -> None:
    handler = Streamer()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"BDAT 3\r\nabcRSET\r\n" + MAIL + b"BDAT 2 LAST\r\nhi")
    for _ in range(10):
        manual.turn()
    assert handler.error == "reset"
    assert handler.chunks == [b"abc", b"hi"]
    assert manual.codes() == ["250", "250", "250", "250", "250", "250", "250"]


def test_lost_connection_names_the_calls_to_cancel() -> None:
    ended: list[str] = []

    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await Turn()

        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            ended.append(reason)

    manual = Manual(Mine())
    manual.greet()
    manual.feed(MAIL + b"DATA\r\nx\r\n.\r\nNOOP\r\n")
    manual.turn()
    calls = manual.driver.lost()
    assert len(calls) == 1
    manual.advance()
    assert ended == []  # it is the last call: the one that runs ends first
    calls[0].fail(GeneratorExit())
    manual.advance()
    assert ended == ["eof"]
    assert manual.plan.failures == 0
    assert manual.conn.messages == 0
    manual.driver.detach()


def test_lost_connection_wakes_a_body_instead() -> None:
    handler = Streamer()
    manual = Manual(handler)
    manual.greet()
    manual.feed(MAIL + b"DATA\r\n")
    manual.turn()
    assert manual.driver.lost() == []
    manual.turn()
    assert handler.error == "disconnected"
    assert not manual.driver.busy


def test_what_comes_after_an_answer_is_ignored() -> None:
    class Mine(ehlo.Handler):
        async def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            await Turn()

    manual = Manual(Mine())
    manual.greet()
    manual.feed(MAIL)
    manual.turn()
    call = manual.driver.waiting_for
    assert call is not None
    call.fail(TimeoutError("late"))
    manual.advance()
    call.resume(None)
    manual.advance()
    assert manual.codes() == ["451", "503"]


def test_an_answer_split_at_every_octet() -> None:
    class Mine(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
            return f"250 2.0.0 {len(content)}"

    whole = b"EHLO client.example\r\n" + MAIL + b"DATA\r\nx\r\n..y\r\n.\r\nQUIT\r\n"
    manual = Manual(Mine())
    manual.feed(whole)
    expected = manual.conn.data_to_send()
    for cut in range(1, len(whole)):
        manual = Manual(Mine())
        manual.feed(whole[:cut])
        manual.feed(whole[cut:])
        assert manual.conn.data_to_send() == expected
    manual = Manual(Mine())
    for octet in whole:
        manual.feed(bytes([octet]))
    assert manual.conn.data_to_send() == expected


# ---- AUTH, TLS and trusted fronts ----------------------------------------------------------------

PLAIN = {"auth": ["PLAIN", "SCRAM-SHA-256", "LOGIN", "X-OWN"], "auth_in_clear": ["PLAIN", "SCRAM-SHA-256", "X-OWN"]}


class Door(ehlo.Handler):
    """Lets test/1234 in, at once."""

    def __init__(self) -> None:
        self.seen: list[ehlo.Credentials] = []

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        self.seen.append(credentials)
        if isinstance(credentials, ehlo.ScramCredentials):
            return ehlo.ScramKeys.from_password("1234") if credentials.username == "test" else None
        assert isinstance(credentials, ehlo.PasswordCredentials)
        return credentials.check("1234" if credentials.username == "test" else None)


def auth(mechanism: str, *messages: bytes) -> bytes:
    """AUTH and the lines behind it, the first on its own line."""
    lines = [base64.b64encode(message).decode() for message in messages]
    return "".join(f"{line}\r\n" for line in [f"AUTH {mechanism}", *lines]).encode()


def test_on_auth_lets_in_who_says_true() -> None:
    manual = Manual(door := Door(), **PLAIN)
    manual.greet()
    manual.feed(auth("PLAIN", b"\0test\x00wrong"))
    assert (manual.codes(), manual.conn.identity, manual.conn.auth_failures) == (["334", "535"], None, 1)
    manual.feed(auth("PLAIN", b"\0test\x001234") + MAIL)
    assert manual.codes() == ["334", "235", "250", "250"]
    assert (manual.driver.session.identity, manual.driver.session.protocol) == ("test", "ESMTPA")
    assert [type(credentials) for credentials in door.seen] == [ehlo.PasswordCredentials] * 2


def test_on_auth_may_wait() -> None:
    class Slow(Door):
        async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            await Turn()
            return super().on_auth(session, credentials)

    manual = Manual(Slow(), **PLAIN)
    manual.greet()
    manual.feed(auth("PLAIN", b"\0test\x001234") + MAIL)
    assert (manual.codes(), manual.driver.blocked) == (["334"], True)
    manual.turn()
    assert manual.codes() == []
    manual.turn()
    assert (manual.codes(), manual.driver.blocked) == (["235", "250", "250"], False)


def test_a_connection_lost_in_on_auth() -> None:
    class Slow(Door):
        async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            await Turn()
            return True

    manual = Manual(Slow(), **PLAIN)
    manual.greet()
    manual.feed(auth("PLAIN", b"\0test\x001234"))
    (call,) = manual.driver.lost()
    for _, generator in manual.running:
        generator.close()
    call.resume(True)
    assert manual.conn.identity is None


def test_scram_over_the_wire() -> None:
    manual = Manual(Door(), **PLAIN)
    manual.greet()
    client = ehlo.client_mechanism("SCRAM-SHA-256", username="test", password="1234")
    manual.feed(auth("SCRAM-SHA-256", client.initial() or b""))
    first, challenge = manual.conn.data_to_send().splitlines()
    assert first == b"334 "
    for _ in range(2):  # B-AUT-24: the last is answered by an empty line
        answer = client.respond(base64.b64decode(challenge[4:]))
        manual.feed(base64.b64encode(answer) + b"\r\n")
        challenge = manual.conn.data_to_send().strip()
    assert challenge.startswith(b"235 2.7.0 ")
    client.verify()
    assert manual.conn.identity == "test"


def test_an_auth_handler_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ehlo.Handler):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            if credentials.username == "raises":
                raise RuntimeError("database is down")
            return {"jane": "250 2.0.0 welcome", "joe": 1, "jim": None}[credentials.username]

    manual = Manual(Broken(), **PLAIN)
    manual.greet()
    with caplog.at_level(logging.ERROR, "ehlo"):
        for user in (b"raises", b"jane", b"joe"):
            manual.feed(auth("PLAIN", b"\0" + user + b"\0s3cret"))
            assert manual.codes() == ["334", "454"]
        manual.feed(auth("PLAIN", b"\0jim\0s3cret"))
        assert manual.codes() == ["334", "535"]
    assert manual.plan.failures == 3
    # B-AUT-34
    logged = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "s3cret" not in logged
    assert base64.b64encode(b"s3cret").decode() not in logged


def test_auth_without_a_handler_or_a_mechanism() -> None:
    manual = Manual(ehlo.Handler(), **PLAIN)
    manual.greet()
    manual.feed(b"AUTH PLAIN AHRlc3QAMTIzNA==\r\n")
    assert manual.codes() == ["454"]
    manual = Manual(Door(), **PLAIN)
    manual.greet()
    manual.feed(b"AUTH X-OWN\r\n")
    assert manual.codes() == ["504"]


def test_a_cancelled_exchange_is_forgotten() -> None:
    manual = Manual(door := Door(), **PLAIN)
    manual.greet()
    manual.feed(b"AUTH PLAIN\r\n*\r\n" + auth("PLAIN", b"\0test\x001234"))
    assert manual.codes() == ["334", "501", "334", "235"]
    assert len(door.seen) == 1


def test_starttls() -> None:
    # S-TLS-06, S-TLS-11
    manual = Manual(Door(), tls="starttls", auth=["PLAIN", "SCRAM-SHA-256-PLUS", "EXTERNAL"])
    manual.feed(b"EHLO client.example\r\n")
    assert b"AUTH" not in manual.conn.data_to_send()
    manual.driver.session.state["mine"] = 1
    manual.feed(b"STARTTLS\r\n")
    assert manual.conn.handshaking
    assert manual.codes() == ["220"]
    manual.driver.tls_established("the ssl object", channel_bindings={"tls-exporter": b"x" * 32}, certificate="cert")
    manual.advance()
    assert manual.conn.data_to_send() == b""
    manual.feed(MAIL + b"EHLO client.example\r\n")
    said = manual.conn.data_to_send()
    assert said.startswith(b"503 ")
    assert b"250 AUTH PLAIN SCRAM-SHA-256-PLUS EXTERNAL\r\n" in said
    session = manual.driver.session
    assert (session.tls, session.protocol, session.state) == ("the ssl object", "ESMTPS", {"mine": 1})


def test_scram_plus_over_the_wire() -> None:
    class Keys(ehlo.Handler):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            assert isinstance(credentials, ehlo.ScramCredentials)
            assert credentials.channel_bound
            return ehlo.ScramKeys.from_password("1234")

    manual = Manual(Keys(), tls="implicit", auth=["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
    binding = ("tls-exporter", b"x" * 32)
    manual.driver.tls_established(object(), channel_bindings=dict([binding]))
    manual.advance()
    manual.greet()
    client = ehlo.client_mechanism("SCRAM-SHA-256-PLUS", username="t", password="1234", channel_binding=binding)
    manual.feed(auth(client.name, client.initial() or b""))
    challenge = manual.conn.data_to_send().splitlines()[-1]
    while challenge.startswith(b"334 "):
        manual.feed(base64.b64encode(client.respond(base64.b64decode(challenge[4:]))) + b"\r\n")
        challenge = manual.conn.data_to_send().strip()
    assert challenge.startswith(b"235 ")
    client.verify()


def test_a_handshake_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(ehlo.Handler):
        reason = ""

        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            self.reason = reason

    manual = Manual(mine := Mine(), tls="implicit")
    assert manual.conn.handshaking
    with caplog.at_level(logging.INFO, "ehlo"):
        manual.driver.tls_failed("certificate unknown")
    manual.advance()
    # FAULTS D9: on_connect was not asked, so on_disconnect is not told
    assert (manual.conn.closed, manual.conn.data_to_send(), mine.reason) == (True, b"", "")
    assert manual.driver.reason == "tls"
    assert "certificate unknown" in caplog.text


def test_injected_octets_end_the_session() -> None:
    manual = Manual(ehlo.Handler(), tls="starttls")
    manual.greet()
    manual.feed(b"STARTTLS\r\nMAIL FROM:<evil@b.example>\r\n")
    assert (manual.codes(), manual.driver.reason, manual.conn.handshaking) == (["554"], "injection", False)


HEADER = b"PROXY TCP4 192.0.2.99 198.51.100.1 56324 25\r\n"


def test_the_proxy_header_is_the_peer() -> None:
    # S-PXY-11: it outlives STARTTLS
    manual = Manual(ehlo.Handler(), proxy=True, tls="starttls")
    seen = []
    manual.driver.judge_proxy = lambda header: seen.append(header.source)
    assert manual.conn.data_to_send() == b""
    manual.feed(HEADER + b"EHLO c.example\r\nSTARTTLS\r\n")
    assert (manual.codes(), seen) == (["220", "250", "220"], [("192.0.2.99", 56324)])
    manual.driver.tls_established()
    session = manual.driver.session
    assert session.peer == ("192.0.2.99", 56324)
    assert session.proxy is not None
    assert session.proxy.destination == ("198.51.100.1", 25)


def test_a_proxied_client_may_be_turned_away() -> None:
    manual = Manual(ehlo.Handler(), proxy=True)
    manual.driver.judge_proxy = lambda header: ehlo.Reply(421, None, "mx.example too many connections")
    manual.feed(HEADER)
    assert (manual.conn.data_to_send(), manual.conn.closed) == (b"421 mx.example too many connections\r\n", True)
    manual = Manual(ehlo.Handler(), proxy=True, tls="implicit")
    manual.feed(HEADER + b"\x16\x03\x01")
    assert manual.conn.handshaking
    assert manual.conn.take_tls_input() == b"\x16\x03\x01"


def test_xclient_is_the_peer_and_trust_is_judged_anew() -> None:
    manual = Manual(ehlo.Handler(), xclient=["ADDR", "PORT", "LOGIN", "NAME"], xforward=["NAME"])
    manual.greet()
    manual.feed(b"XCLIENT ADDR=192.0.2.7\r\n")
    assert manual.codes() == ["550"]
    manual.conn.trusted = True
    judged = []

    def judge(attributes: ehlo.ClientAttributes) -> bool:
        judged.append(attributes.addr)
        return attributes.addr == "192.0.2.7"

    manual.driver.judge_xclient = judge
    manual.feed(b"XCLIENT ADDR=192.0.2.7 LOGIN=jane\r\nEHLO c.example\r\nXFORWARD NAME=a.example\r\n")
    assert manual.codes() == ["220", "250", "250"]
    session = manual.driver.session
    assert (session.peer, session.identity) == (("192.0.2.7", 0), "jane")
    assert session.xforward is not None
    assert session.xforward.name == "a.example"
    manual.feed(b"XCLIENT ADDR=192.0.2.8\r\nXCLIENT ADDR=192.0.2.7\r\n")
    assert (manual.codes(), judged) == (["220", "550"], ["192.0.2.7", "192.0.2.8"])


@pytest.mark.parametrize("waits", [False, True])
def test_failures_are_slowed(waits: bool) -> None:
    # S-AUT-16
    class Slow(Door):
        async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            await Turn()
            return super().on_auth(session, credentials)

    async def pause(failures: int) -> None:
        slept.append(failures)
        await Turn()

    slept: list[int] = []
    manual = Manual(Slow() if waits else Door(), **PLAIN)
    manual.driver.slow_down = pause
    manual.greet()
    for failures in (1, 2, 3):
        manual.feed(auth("PLAIN", b"\0test\x00wrong") + b"NOOP\r\n")
        for _ in range(2 if waits else 0):
            manual.turn()
        assert (manual.codes(), manual.driver.blocked) == (["334"], True)
        manual.turn()
        assert slept == list(range(1, failures + 1))
        manual.turn()
        assert manual.codes() == (["535", "250"] if failures < 3 else ["535", "421"])
    assert manual.driver.reason == "limit"


def test_a_success_is_not_slowed_nor_is_a_client_that_left_told() -> None:
    async def pause(failures: int) -> None:
        await Turn()

    manual = Manual(Door(), **PLAIN)
    manual.driver.slow_down = pause
    manual.greet()
    manual.feed(auth("PLAIN", b"\0test\x00wrong"))
    (call,) = manual.driver.lost()
    for _, generator in manual.running:
        generator.close()
    call.fail(RuntimeError("cancelled"))
    assert manual.codes() == ["334"]
    manual = Manual(Door(), **PLAIN)
    manual.driver.slow_down = pause
    manual.greet()
    manual.feed(auth("PLAIN", b"\0test\x001234"))
    assert manual.codes() == ["334", "235"]
