"""Odd mail files, by every way of sending, to servers that offer nothing, 8BITMIME, and everything (issue 12, 4).

The oracle for octets: what arrives is what was sent, with CRLF at the end of each line. A message with octets above 127
is refused by a server without 8BITMIME before MAIL, with SMTPNotSupportedError (RFC 6152 3). No MAIL says SMTPUTF8.

The oracle for an email.message: the same octets in each part, and ASCII where the server does not offer 8BITMIME.

Whatever is raised is an EhloError. The server here is written without ehlo.
"""

from __future__ import annotations

import asyncio
import itertools
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from corpus import as_lines
from ehlo.cli import main as command

A, B = "a@b.example", "c@d.example"
CONFIG = ehlo.ClientConfig("client.example")
OFFERS: dict[str, tuple[str, ...]] = {
    "bare": (),
    "8BITMIME": ("8BITMIME",),
    "everything": ("8BITMIME", "SMTPUTF8", "PIPELINING", "CHUNKING", "BINARYMIME", "DSN", "SIZE 33554432"),
}

HEADERS: dict[str, bytes] = {
    "none": b"",
    "plain": b"From: a@b.example\r\nTo: c@d.example\r\nSubject: hi\r\n",
    "UTF-8": "From: Jürgen <a@b.example>\r\nSubject: Grüße\r\n".encode(),
    "Latin-1": "From: J\xfcrgen <a@b.example>\r\nSubject: Gr\xfc\xdfe\r\n".encode("latin-1"),
    "Shift-JIS": "To: 日本 <c@d.example>\r\nSubject: 日本語\r\n".encode("shift-jis"),
    "KOI8-R": "From: Иван <a@b.example>\r\nSubject: привет\r\n".encode("koi8-r"),
    "groups": b"To: A (one) Group:Ed (x) <e@f.example>,c@d.example (y);\r\nCc: none:; (no To-header on input)\r\n",
    "mbox line": b"From a@b.example Sat Nov 28 00:00:00 2026\r\nSubject: hi\r\n",
    "BOM": b"\xef\xbb\xbfSubject: hi\r\n",
    "NUL": b"Subject: h\x00i\r\n",
    "long field": b"Subject: " + b"x" * 2000 + b"\r\nX-Folded: a\r\n\t" + b"b " * 1000 + b"c\r\n",
    "bare CR": b"Subject: h\ri\r\nX-Two: 2\r\n",
    "bare LF": b"Subject: hi\nX-Two: 2\n",
    "broken date": b"Date: yesterday, 99:99 +9999\r\nMessage-ID: <<>>\r\nReferences: <\r\n",
    "empty fields": b"From:\r\nTo: \r\nCc:\t\r\nSubject:\r\nContent-Type:\r\nContent-Transfer-Encoding:\r\n",
    "no colon": b"Subject: hi\r\nthis is no field\r\nX-Late: 1\r\n",
    "broken words": b"From: =?x?y?z?= <>\r\nSubject: =?utf-8?b?!?= =?utf-8?q?=FF?=\r\n",
    "twice": b"From: a@b.example\r\nFrom: <a@b.example\r\nTo: c@d.example,,\r\nTo: x\r\n",
    "unknown charset": b"Content-Type: text/plain; charset=nope; format\r\nContent-Transfer-Encoding: 8bit\r\n",
    "broken type": b"MIME-Version: 1\r\nContent-Type: text; charset\r\nContent-Disposition: ;;=\r\n",
    "multipart": b"Content-Type: multipart/mixed; boundary=x\r\n",
}
BODIES: dict[str, bytes] = {
    "no body": b"",
    "empty": b"\r\n",
    "text": b"\r\nhi\r\n",
    "UTF-8": "\r\nGrüße\r\n".encode(),
    "Latin-1": b"\r\nGr\xfc\xdfe\r\n",
    "NUL": b"\r\nh\x00i\r\n",
    "long line": b"\r\n" + b"y" * 2000 + b"\r\n",
    "bare CR": b"\r\nhel\rlo\r\n",
    "bare LF": b"\r\nhel\nlo\n.\n",
    "dots": b"\r\n.\r\n..\r\nFrom me\r\n.",
    "parts": b"\r\n--x\r\n\r\n\xff\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>\r\n--x--\r\nepilogue\r\n",
}
FILES = {f"{head}, {body}": HEADERS[head] + BODIES[body] for head, body in itertools.product(HEADERS, BODIES)}
assert len(FILES) > 200


class Stranger(socketserver.StreamRequestHandler):
    """An SMTP server by the book."""

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self) -> None:
        server: Any = self.server
        self.say("220 mx.example")
        mail, content = "", b""
        while line := self.rfile.readline():
            words = line.decode("latin-1").split()
            match words[0]:
                case "EHLO":
                    for keyword in server.offer:
                        self.say(f"250-{keyword}")
                    self.say("250 HELP")
                    continue
                case "MAIL":
                    mail, content = line.decode().strip(), b""
                case "DATA":
                    self.say("354 go")
                    content = b""
                    while (line := self.rfile.readline()) != b".\r\n":
                        content += line[1:] if line.startswith(b".") else line
                    server.got.append((mail, content))
                case "BDAT":
                    content += self.rfile.read(int(words[1]))
                    if words[-1] == "LAST":
                        server.got.append((mail, content))
                case "QUIT":
                    self.say("221 bye")
                    return
            self.say("250 ok")


@contextmanager
def stranger(offer: str) -> Iterator[Any]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Stranger) as server:
        made: Any = server
        made.offer, made.got = ("mx.example", *OFFERS[offer]), []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def expected(octets: bytes, offer: str) -> bytes | None:
    """What has to arrive; None where the server lacks 8BITMIME."""
    return as_lines(octets) if octets.isascii() or "8BITMIME" in OFFERS[offer] else None


def check(octets: bytes, offer: str, server: Any, result: ehlo.SendResult | None) -> None:
    """The oracle for octets."""
    wanted = expected(octets, offer)
    if wanted is None:
        assert result is None or result.failure == "need"
        assert not server.got
        return
    assert result is not None
    assert result.all_accepted
    [(mail, content)] = server.got
    server.got.clear()
    assert content == wanted
    assert "SMTPUTF8" not in mail
    assert ("BODY=8BITMIME" in mail) == (not octets.isascii())


def leaves(message: Message[Any, Any]) -> list[bytes]:
    """The octets of each part, without a difference between line ends."""
    parts = [part for part in message.walk() if not part.is_multipart()]
    found: list[Any] = [part.get_payload(decode=True) for part in parts]
    return [as_lines(octets).removesuffix(b"\r\n") for octets in found]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("way", ["send", "pool"])
def test_octets_arrive_as_they_were_sent(offer: str, way: str) -> None:
    async def main() -> None:
        with stranger(offer) as server:
            port = server.server_address[1]
            opening: Any = ehlo.asyncio.connect if way == "send" else ehlo.asyncio.Pool
            async with opening("127.0.0.1", port, config=CONFIG) as client:
                for octets in FILES.values():
                    result = None
                    with suppress(ehlo.SMTPNotSupportedError):
                        result = await client.send(octets, A, B)
                    check(octets, offer, server, result)

    asyncio.run(main())


@pytest.mark.parametrize("offer", OFFERS)
def test_send_many_sends_what_can_be_sent(offer: str) -> None:
    async def main() -> None:
        with stranger(offer) as server:
            async with ehlo.asyncio.connect("127.0.0.1", server.server_address[1], config=CONFIG) as client:
                items = [(octets, A, B) for octets in FILES.values()]
                results = [result async for result in client.send_many(items)]
        wanted = [expected(octets, offer) for octets in FILES.values()]
        assert [result.all_accepted for result in results] == [one is not None for one in wanted]
        assert [content for _, content in server.got] == [one for one in wanted if one is not None]

    asyncio.run(main())


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("kind", [policy.default, policy.SMTP, policy.compat32], ids=["default", "SMTP", "compat32"])
def test_an_email_message_keeps_its_parts(offer: str, kind: Any) -> None:
    async def main() -> None:
        with stranger(offer) as server:
            async with ehlo.asyncio.connect("127.0.0.1", server.server_address[1], config=CONFIG) as client:
                for name, octets in FILES.items():
                    message = message_from_bytes(octets, policy=kind)
                    result = await client.send(message, A, B)
                    assert result.all_accepted, name
                    mail, content = server.got.pop()
                    assert "SMTPUTF8" not in mail
                    assert content.isascii() or "8BITMIME" in OFFERS[offer], name
                    again = message_from_bytes(content, policy=policy.compat32)
                    assert leaves(again) == leaves(message_from_bytes(octets, policy=policy.compat32)), name
                    for fields in ((), (A,), (A, B)):  # with the addresses of its own fields
                        try:
                            await client.send(message, *fields)
                        except ehlo.EhloError:
                            continue
                    server.got.clear()

    asyncio.run(main())


@pytest.mark.parametrize("offer", OFFERS)
def test_ehlo_send_sends_the_file(offer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stranger(offer) as server:
        place = ["--server", f"127.0.0.1:{server.server_address[1]}", "--from", A, "--to", B, "--hostname", "c.example"]
        for name, octets in list(FILES.items())[::3]:
            path = tmp_path / "mail"
            path.write_bytes(octets)
            status = command(["send", *place, "--file", str(path)])
            wanted = expected(octets, offer)
            assert status == (3 if wanted is None else 0), name
            assert [content for _, content in server.got] == [wanted] * (wanted is not None), name
            server.got.clear()
            said = capsys.readouterr()
            assert "Traceback" not in said.out + said.err
