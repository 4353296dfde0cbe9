"""Filters around a handler, on asyncio, uvloop and trio: scripted filters that answer, change and die."""

from __future__ import annotations

import smtplib
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from scripted import ScriptedFilter, frame
from served import MESSAGE, Keep, codes, send, serve

import ehlo
from backends import CONFIG, Asyncio, Backend
from ehlo.milter import MilterClient, Steps
from ehlo.milter._conversation import Conversation
from ehlo.milter._link import FilterDownError, Link, Pool
from ehlo.milter.filters import Filters, Milter

pytestmark = pytest.mark.tcp


class KeepStream(Keep):
    on_message = ehlo.Handler.on_message  # type: ignore[assignment]

    async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str:
        content = b"".join([piece async for piece in body])
        return Keep.on_message(self, session, envelope, content)


def test_a_filter_hears_all_and_the_connection_serves_the_next_session(backend: Backend, tmp_path: Path) -> None:
    keep = Keep()
    with ScriptedFilter(path=tmp_path / "s") as heard:
        replies = serve(backend, Filters([heard.address], keep), send, send)
        assert heard.sessions == 1
    assert [codes(one) for one in replies] == [[250, 250, 250, 250]] * 2
    assert replies[0][-1][1] == b"2.0.0 kept"
    assert heard.kinds() == b"O" + b"CHMRTLLLLLNBEK" * 2 + b"Q"
    assert [one[2] for one in keep.kept] == [MESSAGE] * 2
    assert heard.payloads(b"H")[0] == b"client.example\0"
    assert heard.payloads(b"M")[0] == b"<a@b.example>\0BODY=8BITMIME\0"
    assert heard.payloads(b"L")[4] == b"Subject\0 two\n lines\0"
    assert heard.payloads(b"B")[0] == b"body\r\n"
    assert heard.macros(b"C")["j"] == "mx.example"
    assert heard.macros(b"M")["{mail_addr}"] == "a@b.example"
    assert heard.macros(b"R")["i"] == heard.macros(b"E")["i"]


def test_two_messages_in_a_session_have_an_abort_between_them(backend: Backend) -> None:
    with ScriptedFilter() as heard:
        serve(backend, Filters([heard.address], Keep()), lambda client: (send(client), send(client)))
    assert heard.kinds() == b"OC" + b"HMRTLLLLLNBE" + b"A" + b"HMRTLLLLLNBE" + b"KQ"


def test_an_empty_chain_and_a_handler_with_on_body(backend: Backend) -> None:
    keep = KeepStream()
    assert codes(serve(backend, Filters([], keep), send)[0]) == [250] * 4
    assert keep.kept == [("a@b.example", ["c@d.example"], MESSAGE)]


REFUSALS = {
    "reject": (frame(b"r"), 550),
    "tempfail": (frame(b"t"), 451),
    "reply": (frame(b"y", b"553 5.1.8 by the filter\0"), 553),
    "shutdown": (frame(b"4"), 421),
}


@pytest.mark.parametrize(("answer", "code"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize(
    ("command", "place"), [(b"M", 1), (b"R", 2), (b"T", 3), (b"L", 3), (b"N", 3), (b"B", 3), (b"E", 3)]
)
def test_every_refusal_at_every_step(answer: bytes, code: int, command: bytes, place: int) -> None:
    keep = Keep()
    with ScriptedFilter({command: answer}) as heard:
        (replies,) = serve(Asyncio(), Filters([heard.address], keep), send)
    assert replies[place][0] == code
    if code == 553:
        assert replies[place][1] == b"5.1.8 by the filter"
    assert all(one == 250 for one in codes(replies[:place]))
    assert keep.kept == []


@pytest.mark.parametrize(
    ("answer", "code"), [(frame(b"r"), 554), (frame(b"t"), 421), (frame(b"y", b"550 5.7.1 no\0"), 554)]
)
def test_a_refused_connection(backend: Backend, answer: bytes, code: int) -> None:
    with ScriptedFilter({b"C": answer}) as heard:
        assert codes(serve(backend, Filters([heard.address], Keep()), send)[0]) == [code]


def test_accept_ends_this_filter_only_and_discard_drops(backend: Backend) -> None:
    keep = Keep()
    with ScriptedFilter({b"M": frame(b"a")}) as first, ScriptedFilter({b"N": frame(b"d")}) as second:
        (replies,) = serve(backend, Filters([first.address, second.address], keep), send)
    assert codes(replies) == [250] * 4
    assert first.kinds() == b"OCHMAQ"
    assert second.kinds() == b"OCHMRTLLLLLNAQ"
    assert keep.kept == []


NUMBER = partial(struct.pack, "!I")


def test_each_filter_sees_what_the_former_changed(backend: Backend) -> None:
    changes = (
        frame(b"h", b"X-End\0last\0")
        + frame(b"i", NUMBER(1) + b"X-Top\0first\n\tfolded\0")
        + frame(b"m", NUMBER(2) + b"x-a\0changed\0")
        + frame(b"m", NUMBER(3) + b"X-A\0\0")
        + frame(b"m", NUMBER(9) + b"X-New\0new\0")
        + frame(b"e", b"<new@b.example>\0")
        + frame(b"+", b"<e@f.example>\0")
        + frame(b"2", b"<g@h.example>\0NOTIFY=NEVER\0")
        + frame(b"-", b"<c@d.example>\0")
        + frame(b"b", b"new ")
        + frame(b"b", b"body\r\n")
        + frame(b"p")
        + frame(b"c")
    )
    expected = (
        b"X-Top: first\r\n\tfolded\r\nFrom: a@b.example\r\nX-A: 1\r\nx-a: changed\r\nSubject:  two\r\n lines\r\n"
        b"X-End: last\r\nX-New: new\r\n\r\nnew body\r\n"
    )
    for keep in (Keep(), KeepStream()):
        with ScriptedFilter({b"E": changes}) as first, ScriptedFilter(steps=Steps.LEADING_SPACE) as second:
            serve(backend, Filters([first.address, second.address], keep, memory=4), send)
        assert keep.kept == [("new@b.example", ["e@f.example", "g@h.example"], expected)]
        assert second.payloads(b"L")[0] == b"X-Top\0 first\n\tfolded\0"
        assert second.payloads(b"B") == [b"new body\r\n"]
        assert second.payloads(b"M") == [b"<a@b.example>\0BODY=8BITMIME\0"]


def test_a_message_without_recipients_is_dropped_and_odd_paths_change_nothing(backend: Backend) -> None:
    keep = Keep()
    with ScriptedFilter(
        {b"E": frame(b"-", b"<C@D.EXAMPLE>\0") + frame(b"-", b"<c@d.example>\0") + frame(b"c")}
    ) as gone:
        assert codes(serve(backend, Filters([gone.address], keep), send)[0]) == [250] * 4
    assert keep.kept == []
    odd = frame(b"+", b"no path\0") + frame(b"e", b"a>\r\nRCPT TO:<x\0") + frame(b"c")
    with ScriptedFilter({b"E": odd}) as strange:
        serve(backend, Filters([strange.address], keep), send)
    assert keep.kept == [("a@b.example", ["c@d.example"], MESSAGE)]


def test_quarantine_goes_to_who_holds(backend: Backend) -> None:
    keep = Keep()
    held: list[tuple[str, bytes]] = []

    async def hold(session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes], reason: str) -> str:
        held.append((reason, b"".join([piece async for piece in body])))
        return "250 2.0.0 held"

    with ScriptedFilter({b"E": frame(b"q", b"odd\0") + frame(b"c")}) as odd:
        assert serve(backend, Filters([odd.address], keep, hold=hold), send)[0][-1] == (250, b"2.0.0 held")
        assert serve(backend, Filters([odd.address], keep), send)[0][-1][0] == 451
    assert held == [("odd", MESSAGE)]
    assert keep.kept == []


def test_no_words_of_others_begin_a_line_of_the_log(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """Filters make reasons of the names of attachments, for example."""
    caplog.set_level("INFO", "ehlo.milter")
    with ScriptedFilter({b"E": frame(b"q", b"odd\n2026 accepted\0") + frame(b"c")}) as one:
        serve(backend, Filters([one.address], Keep()), send)
    assert caplog.messages == [r"a filter wants a message kept back: 'odd\n2026 accepted'"]
    caplog.clear()
    with ScriptedFilter({b"E": frame(b"d")}) as one:
        serve(backend, Filters([one.address], Keep()), send)
    [line] = caplog.messages
    assert line == f"a message from 'a@b.example' to ['c@d.example'] goes nowhere: filter {one.address} threw it away"


@pytest.mark.parametrize("command", [b"O", b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B", b"E"])
@pytest.mark.parametrize("when_down", ["accept", "tempfail"])
def test_a_filter_that_dies_at_each_step(command: bytes, when_down: Any) -> None:
    keep = Keep()
    with ScriptedFilter(dies_at=command) as mortal, ScriptedFilter() as other:
        mortal_one = Milter(address=mortal.address, when_down=when_down)
        (replies,) = serve(Asyncio(), Filters([mortal_one, other.address], keep), send)
    if when_down == "accept":
        assert codes(replies) == [250] * 4
        assert [content for _, _, content in keep.kept] == [MESSAGE]
        assert b"BE" in other.kinds()
    else:
        place = {b"O": 1, b"C": 1, b"H": 1, b"M": 1, b"R": 2}.get(command, 3)
        assert replies[place][0] == 451
        assert keep.kept == []


def test_what_a_dying_filter_had_changed_is_not_changed(backend: Backend) -> None:
    keep = Keep()
    with ScriptedFilter({b"E": frame(b"h", b"X\0y\0") + frame(b"b", b"new") + b"\0\0\0\0"}) as mortal:
        serve(backend, Filters([Milter(address=mortal.address, when_down="accept")], keep), send)
    assert [content for _, _, content in keep.kept] == [MESSAGE]


def test_nobody_listens_and_a_pooled_connection_that_has_ended(backend: Backend, tmp_path: Path) -> None:
    keep = Keep()
    nobody = f"unix:{tmp_path}/none"
    assert codes(serve(backend, Filters([nobody], keep), send)[0]) == [250, 451]
    assert codes(serve(backend, Filters([Milter(address=nobody, when_down="accept")], keep), send)[0]) == [250] * 4
    with ScriptedFilter(dies_at=b"K") as forgetful:
        replies = serve(backend, Filters([forgetful.address], keep), send, send)
        assert forgetful.sessions == 2
    assert [codes(one) for one in replies] == [[250] * 4] * 2


def test_a_filter_that_does_not_answer_in_time(backend: Backend) -> None:
    with ScriptedFilter(unanswered=b"B") as silent:
        slow = Milter(address=silent.address, content_timeout=0.05, longest=0.05)
        assert codes(serve(backend, Filters([slow], Keep()), send)[0]) == [250, 250, 250, 451]


def test_the_connection_and_the_negotiation_have_one_time(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wire:
        """Its clock stands still, and it cannot talk."""

        def now(self) -> float:
            return 0.0

        async def converse(self) -> None:
            raise OSError("no talk")

        async def send(self, deadline: float) -> None: ...

        def close(self) -> None: ...

    links: list[Any] = []

    async def open_wire(_: object, link: Any) -> Wire:
        links.append(link)
        began = anyio.current_time()
        while anyio.current_time() - began < 0.001:
            await backend.turn()
        return Wire()

    monkeypatch.setattr("ehlo.milter._link.open_wire", open_wire)

    async def main() -> None:
        with pytest.raises(FilterDownError, match="no talk"):
            await Link.open(Milter(address="inet:127.0.0.1:1", connect_timeout=30))

    backend.run(main)
    assert 20 < links[0].deadline <= 29.999


@pytest.mark.parametrize("when_down", ["accept", "tempfail"])
def test_mail_goes_past_no_filter_after_a_call_was_cancelled(backend: Backend, when_down: Any) -> None:
    async def main() -> Any:
        with ScriptedFilter(unanswered=b"M") as silent:
            conversation = Conversation(Pool(Milter(address=silent.address, when_down=when_down)))
            await conversation.connect(partial(MilterClient.connect, name="x", address=None))
            asking = backend.beside(conversation.ask, partial(MilterClient.mail, path="a@b.example"))
            await backend.until(lambda: silent.kinds().endswith(b"M"))
            asking.cancel()
            await backend.until(lambda: asking.cancelled)
            await conversation.abort()
            outcome = await conversation.ask(partial(MilterClient.mail, path="a@b.example"))
            await conversation.leave()
            return outcome

    outcome = backend.run(main)
    assert getattr(outcome, "code", None) == (451 if when_down == "tempfail" else None)


# Behind its end the connection may serve another session.
A_MESSAGE = (partial(MilterClient.mail, path=""), MilterClient.end_of_headers, MilterClient.end)


@pytest.mark.parametrize("when_down", ["accept", "tempfail"])
def test_mail_goes_past_no_filter_after_a_new_connection_was_cancelled(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, when_down: Any
) -> None:
    async def main() -> Any:
        with ScriptedFilter({b"C": b""}, steps=0x1002) as filtering:  # it answers no CONNECT, and leaves out HELO
            pool = Pool(Milter(address=filtering.address, when_down=when_down))
            conversation = Conversation(pool)
            await conversation.connect(partial(MilterClient.connect, name="x", address=None))
            await conversation.ask(*A_MESSAGE)
            await conversation.leave()
            await conversation.connect(partial(MilterClient.connect, name="x", address=None))
            assert conversation.link is not None
            conversation.link.client.receive_eof()
            opening: list[object] = []

            async def hangs(milter: object) -> Any:
                opening.append(milter)
                await anyio.sleep_forever()

            monkeypatch.setattr(Link, "open", hangs)
            asking = backend.beside(conversation.ask, partial(MilterClient.mail, path="a@b.example"))
            await backend.until(lambda: bool(opening))
            asking.cancel()
            await backend.until(lambda: asking.cancelled)
            await conversation.abort()
            return await conversation.ask(partial(MilterClient.mail, path="a@b.example"))

    outcome = backend.run(main)
    assert getattr(outcome, "code", None) == (451 if when_down == "tempfail" else None)


def test_a_waiting_connection_that_ends_within_the_next_session(backend: Backend) -> None:
    async def main() -> Any:
        # It answers no CONNECT, and leaves out HELO.
        with ScriptedFilter({b"C": b"", b"R": frame(b"r")}, steps=0x1002) as refusing:
            pool = Pool(Milter(address=refusing.address))
            for number in range(2):
                conversation = Conversation(pool)
                await conversation.connect(partial(MilterClient.connect, name="x", address=None))
                if number:
                    assert conversation.link is not None
                    conversation.link.client.receive_eof()
                    await conversation.abort()
                    assert await conversation.ask(partial(MilterClient.mail, path="a@b.example")) is None
                    outcome = await conversation.ask(partial(MilterClient.rcpt, path="c@d.example"))
                else:
                    await conversation.ask(*A_MESSAGE)
                await conversation.leave()
            await pool.close()
            return outcome, refusing.sessions

    outcome, sessions = backend.run(main)
    assert (outcome.code, sessions) == (550, 2)


def test_after_xclient_a_filter_hears_of_the_other_client(backend: Backend) -> None:
    async def main() -> None:
        config = CONFIG.replace(xclient=["ADDR"])
        async with (
            Filters([filtering.address], Keep()) as filters,
            await backend.serve(filters, "127.0.0.1", 0, config=config, trusted=["127.0.0.1"]) as server,
        ):
            client = await backend.connect(server)
            await client.send(b"XCLIENT ADDR=192.0.2.1\r\nEHLO c.example\r\nMAIL FROM:<a@b.example>\r\nQUIT\r\n")
            assert await client.codes(5) == ["220", "220", "250", "250", "221"]
            await backend.until(lambda: filtering.kinds().count(b"Q") == 2)

    with ScriptedFilter() as filtering:
        backend.run(main)
        assert filtering.sessions == 2
        first, second = [content for kind, content in filtering.heard if kind == b"D" and content.startswith(b"C")]
        assert first.endswith(b"\0_\0[127.0.0.1]\0")
        assert second.endswith(b"\0_\0[192.0.2.1]\0")


def test_what_needs_no_answer_is_not_waited_for(backend: Backend) -> None:
    keep = Keep()
    bits = Steps.UNANSWERED_HEADER | Steps.UNANSWERED_BODY | Steps.UNANSWERED_END_OF_HEADERS | Steps.UNANSWERED_RCPT
    body = b"x" * 70 + b"\r\n" + (b"y" * 998 + b"\r\n") * 2000
    content = b"A: b\r\n\r\n" + body
    with ScriptedFilter(steps=bits, unanswered=b"LBNR") as quiet:
        serve(backend, Filters([quiet.address], keep), lambda client: send(client, content))
    assert (
        b"".join(quiet.payloads(b"B")) == content.partition(b"\r\n\r\n")[2] == keep.kept[0][2].partition(b"\r\n\r\n")[2]
    )
    assert max(map(len, quiet.payloads(b"B"))) <= 65535


@pytest.mark.parametrize(
    ("content", "fields", "body"),
    [
        (b"\r\nonly body\r\n", [], b"only body\r\n"),
        (b"A: b\r\n", [b"A\0b\0"], b""),
        (b"no field\r\nA: b\r\n", [], b"no field\r\nA: b\r\n"),
        (b"A : b\r\nnone\r\n\r\nx\r\n", [b"A\0b\0"], b"none\r\n\r\nx\r\n"),
    ],
)
def test_odd_header_sections_come_through_unchanged(content: bytes, fields: list[bytes], body: bytes) -> None:
    keep = Keep()
    with ScriptedFilter() as heard:
        serve(Asyncio(), Filters([heard.address], keep), lambda client: send(client, content))
    assert (heard.payloads(b"L"), b"".join(heard.payloads(b"B"))) == (fields, body)
    assert keep.kept[0][2] == content


def test_a_header_section_has_a_limit(backend: Backend) -> None:
    content = b"A: " + b"x" * 5000 + b"\r\n\r\nbody\r\n"
    with ScriptedFilter() as heard:
        (replies,) = serve(backend, Filters([heard.address], Keep(), header_limit=4096), lambda one: send(one, content))
    assert replies[-1][0] == 552


def test_rejected_recipients_and_the_handlers_own_answers(backend: Backend) -> None:
    class Picky(Keep):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
            return "550 5.1.1 unknown" if str(recipient.path).startswith("x") else "250 2.1.5 welcome"

        def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            return "252 2.5.0 perhaps"

    def talk(client: smtplib.SMTP) -> list[Any]:
        replies = [client.verify("c"), client.ehlo("x.example"), client.mail("")]
        return [*replies, client.rcpt("x@d.example"), client.rcpt("c@d.example"), client.rset()]

    with ScriptedFilter() as plain, ScriptedFilter(steps=Steps.REJECTED_RECIPIENTS) as curious:
        (replies,) = serve(backend, Filters([plain.address, curious.address], Picky()), talk)
    assert codes(replies) == [252, 250, 250, 550, 250, 250]
    assert replies[4][1] == b"2.1.5 welcome"
    assert plain.payloads(b"R") == [b"<c@d.example>\0"]
    assert curious.payloads(b"R") == [b"<x@d.example>\0", b"<c@d.example>\0"]


def test_lmtp_answers_the_recipients_that_the_client_named(backend: Backend) -> None:
    class Each(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> list[str]:
            return [f"550 5.2.2 {one.path}" for one in envelope.recipients]

    def talk(client: smtplib.SMTP) -> bytes:
        client.ehlo("client.example")
        client.mail("a@b.example")
        for one in ("c@d.example", "e@f.example"):
            client.rcpt(one)
        client.docmd("DATA")
        client.send(b"A: b\r\n\r\nx\r\n.\r\n")
        return b"".join(client.getreply()[1] + b"|" for _ in range(2))

    changes = frame(b"-", b"<c@d.example>\0") + frame(b"+", b"<g@h.example>\0") + frame(b"c")
    with ScriptedFilter({b"E": changes}) as mover:
        (said,) = serve(
            backend, Filters([mover.address], Each()), talk, config=ehlo.ServerConfig("mx.example", lmtp=True)
        )
    assert said == b"2.0.0 Ok|5.2.2 e@f.example|"


def test_submission_adds_its_fields_before_the_filters_look(backend: Backend) -> None:
    class Own(Keep):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
            return True

    def talk(client: smtplib.SMTP) -> list[Any]:
        client.ehlo("client.example")
        client.login("jane", "x")
        return send(client)

    keep = Own()
    config = CONFIG.replace(auth=["PLAIN"], auth_in_clear=["PLAIN"], submission=True)
    with ScriptedFilter() as heard:
        assert codes(serve(backend, Filters([heard.address], keep), talk, config=config)[0]) == [250] * 4
    assert {payload.split(b"\0")[0] for payload in heard.payloads(b"L")} >= {b"Date", b"Message-ID"}
    assert heard.macros(b"M")["{auth_authen}"] == "jane"
    assert keep.kept[0][2].endswith(MESSAGE)


def test_settings() -> None:
    given = {"milter": "inet:8891@[::1]", "when_down": "accept", "macros": {"mail": ["i"]}, "limits": {"body": 5}}
    milter = Milter.from_settings(given)
    assert (milter.address, milter.when_down, milter.limits.body) == ("inet:8891@[::1]", "accept", 5)
    for wrong in (
        {"milter": "nowhere"},
        {"milter": "unix:/x", "macros": {"moon": []}},
        {"milter": "unix:/x", "colour": 1},
        {"milter": "unix:/x", "when_down": "panic"},
        {"milter": "unix:/x", "version": 1},
    ):
        with pytest.raises(ehlo.LocalProtocolError):
            Milter.from_settings(wrong)
    with pytest.raises(ehlo.LocalProtocolError):
        Filters([], Keep)
    assert ehlo.decisions_of(Filters([], Keep()))[1] == "stream"
