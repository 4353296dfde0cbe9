"""What clients have in common, without sockets: our client's engine and our server's, one process, no event loop."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage, Message
from typing import Any

import pytest

import ehlo
from corpus import CORPUS, as_lines
from ehlo._client.client import BaseClient
from ehlo._client.driver import ClientDriver
from ehlo._client.email import flatten, recipients_of, sender_of
from ehlo._client.message import Letter
from ehlo._client.options import Opening
from ehlo._client.paths import ascii_path
from ehlo._client.source import Source

A, B = "a@b.example", "c@d.example"


class Done:
    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class Wired(ClientDriver):
    """A backend whose server is in the same process."""

    def __init__(self, config: ehlo.ClientConfig, server: ehlo.ServerConnection, cut: int) -> None:
        super().__init__(Opening("mx.example", 25, config=config), ehlo.ReceiveBuffer(), lambda: 0.0)
        self.conn = ehlo.ClientConnection(config)
        self.server = server
        self.cut = cut
        self.contents: list[bytes] = []

    def progress(self) -> Awaitable[None]:
        moved = True
        while moved and not self.news:
            moved = False
            for event in self.conn:
                self.on_event(event)
            if out := self.conn.data_to_send():
                moved = True
                for at in range(0, len(out), self.cut):
                    self.server.receive_data(out[at : at + self.cut])
                    for step in self.server:
                        if isinstance(step, ehlo.Message):
                            self.contents.append(step.content)
                            self.server.accept()
                        elif isinstance(step, ehlo.Rcpt):
                            if "nobody" in str(step.recipient.path):
                                self.server.reply(550, "5.1.1", "no such user")
                            else:
                                self.server.accept()
            if back := self.server.data_to_send():
                moved = True
                for at in range(0, len(back), self.cut):
                    self.conn.receive_data(back[at : at + self.cut])
            if self.sources and self.conn.content_wanted is not None:
                self.news = True
        assert self.news, "both sides wait for each other"
        self.news = False
        return Done()

    def wake(self) -> None:
        self.news = True

    def abort(self) -> None:
        self.conn.receive_eof()
        for event in self.conn:
            self.on_event(event)

    async def wait_closed(self) -> None:
        assert self.conn.closed


class Client(BaseClient):
    _link: Wired

    _make_event = asyncio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        return asyncio.get_running_loop().create_task(function(*args)).cancel


async def wired(*, cut: int = 1 << 20, lmtp: bool = False, server: Any = None, **settings: Any) -> Client:
    served = ehlo.ServerConfig(
        "mx.example",
        lmtp=lmtp,
        decisions={"message", "rcpt"},
        max_errors=1000000,
        bare_newlines="reject",
        **server or {},
    )
    link = Wired(ehlo.ClientConfig("c.example", lmtp=lmtp, **settings), ehlo.ServerConnection(served), cut)
    client = Client(None, link)
    while not link.ready:
        await link.progress()
    return client


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("name", CORPUS)
def test_real_shaped_mail_arrives_octet_by_octet(name: str, chunking: bool, lmtp: bool) -> None:
    async def main() -> None:
        client = await wired(chunking=chunking, lmtp=lmtp)
        octets = CORPUS[name]
        for message in (octets, bytearray(octets), io.BytesIO(octets), iter([octets[:7], octets[7:]])):
            assert (await client.send(message, A, B)).all_accepted
        assert client._link.contents == [as_lines(octets)] * 4
        await client.close()

    run(main)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_every_cut_gives_the_same(chunking: bool, cut: int) -> None:
    async def main() -> None:
        client = await wired(chunking=chunking, cut=cut)
        items = []
        for number in range(40):
            recipients = ["nobody@d.example"] * (number % 3) + [B] * (number % 4 != 0)
            items.append((b"%d\r\n.\r\n" % number, A, recipients or [B]))
        results = [result async for result in client.send_many(items)]
        assert [len(result.accepted) for result in results] == [sum(r == B for r in item[2]) for item in items]
        assert client._link.contents == [octets for octets, _, to in items if B in to]
        assert (await client.vrfy("x")).code == 252

    run(main)


def test_exact_octets_by_bdat() -> None:
    async def main() -> None:
        client = await wired(newlines="exact")
        for octets in CORPUS.values():
            await client.send(octets, A, B)
        assert client._link.contents == list(CORPUS.values())

    run(main)


def test_rejected_newlines() -> None:
    async def main() -> None:
        client = await wired(newlines="reject")
        with pytest.raises(ehlo.LocalProtocolError, match="bare CR or LF"):
            await client.send(CORPUS["bare LF"], A, B)
        assert (await client.send(CORPUS["lone dots"], A, B)).all_accepted

    run(main)


# ---- exceptions ----------------------------------------------------------------------------------


def test_exceptions_are_smtplibs_and_of_one_root() -> None:
    import pickle
    import smtplib

    for name in ehlo.__all__:
        thing = getattr(ehlo, name)
        if name.startswith("SMTP") and name != "SMTPTimeoutError":
            assert hasattr(smtplib, name), name
            assert issubclass(thing, ehlo.SMTPException)
        if isinstance(thing, type) and issubclass(thing, ehlo.SMTPException) and thing is not ehlo.CommandSyntaxError:
            error = thing("text", transcript="S: 220 hi\n")
            assert (error.reply, error.result, str(error)) == (None, None, "text")
            again = pickle.loads(pickle.dumps(error))
            assert (type(again), str(again), again.transcript) == (thing, "text", "S: 220 hi\n")
    assert issubclass(ehlo.SMTPTimeoutError, TimeoutError)
    assert issubclass(ehlo.SMTPServerDisconnected, ConnectionError)
    assert issubclass(ehlo.SMTPConnectError, OSError)


def test_a_refusal_tells_the_reply_of_each_recipient() -> None:
    async def main() -> None:
        client = await wired()
        with pytest.raises(ehlo.SMTPRecipientsRefused) as caught:
            await client.send(b"x\r\n", A, ["nobody@d.example", "nobody@e.example"])
        error = caught.value
        assert str(error) == "the server refused all 2 recipients, the last one: 550 5.1.1 no such user"
        assert {path: reply.code for path, reply in error.recipients.items()} == {
            "nobody@d.example": 550,
            "nobody@e.example": 550,
        }
        assert (error.smtp_code, error.smtp_error, error.is_temporary) == (550, "5.1.1 no such user", False)
        assert error.result is not None
        assert "C: RCPT TO:<nobody@d.example>\n" in error.transcript
        assert "S: 550 5.1.1 no such user\n" in error.transcript

    run(main)


# ---- envelopes and messages ----------------------------------------------------------------------


def test_c_cli_26_domains_in_a_labels() -> None:
    # RFC 6531 3.2
    assert ascii_path("info@bücher.example") == "info@xn--bcher-kva.example"
    assert ascii_path(A) == A
    assert ascii_path("jürgen@bücher.example") == "jürgen@bücher.example"
    assert ascii_path("no at") == "no at"
    assert ascii_path("x@" + "ü" * 64 + ".example").startswith("x@ü"), "no A-label is that long"
    address = ehlo.Address('"a b"@bücher.example')
    assert str(ascii_path(address)) == '"a b"@xn--bcher-kva.example'
    sender = ascii_path(ehlo.Sender("i@bücher.example", ret="HDRS", envid="e", requiretls=True, mt_priority=3))
    assert (str(sender.path), sender.ret, sender.envid, sender.requiretls, sender.mt_priority) == (
        "i@xn--bcher-kva.example",
        "HDRS",
        "e",
        True,
        3,
    )
    recipient = ascii_path(ehlo.Recipient("i@bücher.example", notify=["NEVER"], orcpt=("rfc822", "o@p.example")))
    assert (str(recipient.path), recipient.notify, recipient.orcpt) == (
        "i@xn--bcher-kva.example",
        frozenset(["NEVER"]),
        ("rfc822", "o@p.example"),
    )
    for same in (ehlo.NULL, ehlo.Sender(""), ehlo.Recipient("Postmaster"), ehlo.Address(A)):
        assert ascii_path(same) is same


def message(**fields: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    made.set_content("text\n")
    return made


def test_the_envelope_that_a_header_names() -> None:
    # RFC 5322 3.6.2, 3.6.3, 3.6.6; as smtplib's send_message does
    plain = message(From="A <a@b.example>, x@y.example", To="c@d.example", Cc="E <e@f.example>", Bcc="c@d.example")
    assert (sender_of(plain), recipients_of(plain)) == ("a@b.example", ["c@d.example", "e@f.example"])
    plain["Sender"] = "s@b.example"
    assert sender_of(plain) == "s@b.example"
    resent = message(From=A, To=B, Resent_Date="Tue, 24 Nov 2026 03:00:00 +0000", Resent_From="r@b.example")
    resent["Resent-To"] = "rt@d.example"
    assert (sender_of(resent), recipients_of(resent)) == ("r@b.example", ["rt@d.example"])
    old = Message()
    old["From"] = "A <a@b.example>"
    old["To"] = "c@d.example, E <e@f.example>"
    assert (sender_of(old), recipients_of(old)) == (A, [B, "e@f.example"])
    with pytest.raises(ehlo.LocalProtocolError, match="From"):
        sender_of(message(To=B))
    with pytest.raises(ehlo.LocalProtocolError, match="To field"):
        recipients_of(message(From=A))
    again = Message()
    again["Resent-Date"] = again["Resent-Date"] = "Tue, 24 Nov 2026 03:00:00 +0000"
    with pytest.raises(ehlo.LocalProtocolError, match="Resent-"):
        sender_of(again)
    with pytest.raises(ehlo.LocalProtocolError, match="no sender"):
        Letter(b"", None, B)
    with pytest.raises(ehlo.LocalProtocolError, match="no recipients"):
        Letter(b"", A, None)


def offer(*keywords: str) -> ehlo.Capabilities:
    lines = ["mx.example", *keywords]
    reply = "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines)
    return ehlo.Capabilities.parse(ehlo.parse_reply(reply.encode()))


def test_bodies_by_what_the_server_offers() -> None:
    # RFC 6152 3: what is not offered is encoded, in parts deep down as well.
    mail = message(From=A, To=B, Subject="Grüße")
    mail.set_content("Grüße\nFrom here\n", cte="8bit")
    mail.add_attachment("anhänglich\n", cte="8bit", filename="ä.txt")
    eight = flatten(mail, offer("8BITMIME"))
    assert "\r\nGrüße\r\nFrom here\r\n".encode() in eight
    assert "\r\nanhänglich\r\n".encode() in eight
    seven = flatten(mail, offer())
    assert seven.isascii()
    for octets in (eight, seven):
        assert octets.replace(b"\r\n", b"").count(b"\n") == 0
        assert b"Subject: =?utf-8?" in octets


def test_header_addresses() -> None:
    # RFC 6532 where a local part needs it, A-labels where a domain does
    mail = message(From="info@bücher.example", To="Bücher: x@bücher.example, y@d.example;")
    octets = flatten(mail, offer("8BITMIME", "SMTPUTF8"))
    assert b"From: info@xn--bcher-kva.example\r\n" in octets
    assert b"x@xn--bcher-kva.example" in octets
    assert octets.isascii()
    assert str(mail["From"]) == "info@bücher.example", "the program's message stays as it is"
    mail = EmailMessage()
    mail["From"] = HeaderAddress("Jürgen", "jürgen", "b.example")
    octets = flatten(mail, offer("8BITMIME", "SMTPUTF8"))
    assert "jürgen@b.example".encode() in octets


def test_a_message_that_needs_smtputf8() -> None:
    async def main() -> None:
        mail = message(From="jürgen@b.example", To=B, Subject="x")
        client = await wired()
        assert (await client.send(mail)).all_accepted
        assert "From: jürgen@b.example\r\n".encode() in client._link.contents[0]
        assert "SMTPUTF8" in client.transcript
        client = await wired(server={"smtputf8": False})
        with pytest.raises(ehlo.SMTPNotSupportedError, match="SMTPUTF8"):
            await client.send(mail)

    run(main)


# ---- sources -------------------------------------------------------------------------------------


def test_short_pieces_are_put_together() -> None:
    async def main() -> None:
        source = Source(b"x" * 100 for _ in range(2000))
        begun = [source.begun]
        pieces = []
        while (piece := await source.next()) is not None:
            pieces.append(bytes(piece))
        assert [*begun, source.begun] == [False, True]
        assert b"".join(pieces) == b"x" * 200000
        assert len(pieces) == 4
        big = b"x" * 100000
        assert await Source([big, b"y"]).next() is big

    run(main)


def test_a_file_in_text_mode_is_told() -> None:
    with pytest.raises(TypeError, match="binary"):
        Letter(io.StringIO("text"), A, B)


@pytest.mark.parametrize("size", [0, 1, 262143, 262144, 262145, 300000, 1000000])
def test_files(size: int) -> None:
    class Slow(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:  # as raw files may do
            return super().read(min(count or 0, 100000))

    async def main() -> None:
        octets = as_lines(b"x" * max(0, size - 2))[:size] if size else b""
        letter = Letter(Slow(octets), A, B)
        assert (letter.source is None) == (size <= 262144)
        assert letter.can_repeat
        client = await wired()
        await client.send(Slow(octets), A, B)
        assert client._link.contents == [as_lines(octets)]

    run(main)


def test_a_source_is_closed_when_it_is_not_wanted() -> None:
    closed = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100000
        finally:
            closed.append("generator")

    async def apieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100000
        finally:
            closed.append("async generator")

    async def main() -> None:
        client = await wired()
        for source in (pieces(), apieces()):
            begun = next(source) if isinstance(source, Iterator) else await anext(source)
            assert begun
            with pytest.raises(ehlo.SMTPRecipientsRefused):
                await client.send(source, A, "nobody@d.example")
        gc.collect()
        assert closed == ["generator", "async generator"]

    run(main)
