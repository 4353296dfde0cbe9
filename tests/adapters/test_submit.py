"""Submission (RFC 6409) by ``serve``: what it adds, how long it takes, what a handler may refuse. On every backend."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Client

RELAY = CONFIG.replace(auth=["PLAIN"], auth_in_clear=["PLAIN"])
SUBMISSION = RELAY.replace(submission=True)
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0jane\0x") + b"\r\n"


class Door(ehlo.Handler):
    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
        return True

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
        assert session.message is not None
        self.kept.append(content)


async def submit(client: Client, content: bytes) -> str:
    await client.send(MAIL + b"DATA\r\n")
    assert await client.codes(3) == ["250", "250", "354"]
    return await client.ask(content + b".\r\n")


async def log_in(backend: Backend, server: Any) -> Client:
    client = await backend.ready(server)
    assert (await client.ask(PLAIN)).startswith("235 ")
    return client


@pytest.mark.parametrize("top", [b" for <evil@x>\r\n", b"\tx\r\n", b"\xef\xbb\xbf"])
def test_the_top_of_content_stays_below_what_is_added(backend: Backend, top: bytes) -> None:
    # FAULTS A7: it is no part of our Message-ID
    handler = Door()
    content = top + b"Subject: x\r\n\r\nhi\r\n"

    async def main() -> None:
        async with await backend.serve(handler, config=SUBMISSION) as server:
            client = await log_in(backend, server)
            assert (await submit(client, content)).startswith("250 ")

    backend.run(main)
    (kept,) = handler.kept
    fields, _, rest = kept.partition(b"\r\n\r\n")
    assert rest == content
    assert re.fullmatch(rb"Date: [^\r]+\r\nMessage-ID: <[^\r]+>", fields)


def test_an_mbox_line_above_a_header_becomes_a_field(backend: Backend) -> None:
    # FAULTS A7
    handler = Door()

    async def main() -> None:
        async with await backend.serve(handler, config=SUBMISSION) as server:
            client = await log_in(backend, server)
            content = b"From a@b Tue Nov 24 03:00:00 2026\r\nSubject: x\r\n\r\nhi\r\n"
            assert (await submit(client, content)).startswith("250 ")

    backend.run(main)
    (kept,) = handler.kept
    assert re.search(rb">\r\nMailbox-Line: From a@b [^\r]+\r\nSubject: x\r\n\r\nhi\r\n\Z", kept)


def test_s_sub_07_only_submission_adds(backend: Backend) -> None:
    # S-SUB-07, RFC 6409 8.2 and 8.3; RFC 5321 6.4
    handlers = Door(), Door()
    whole = b"Date: x\r\nMessage-ID: y\r\n\r\nhi\r\n"

    async def main() -> None:
        for handler, config in zip(handlers, (SUBMISSION, RELAY), strict=True):
            async with await backend.serve(handler, config=config) as server:
                client = await log_in(backend, server)
                for content in (b"Subject: x\r\n\r\nhi\r\n", whole):
                    assert (await submit(client, content)).startswith("250 ")

    backend.run(main)
    without, unchanged = handlers[0].kept
    assert re.fullmatch(
        rb"Date: \w{3}, .* \+0000\r\nMessage-ID: <[0-9.a-f]+@mx\.example>\r\nSubject: x\r\n\r\nhi\r\n", without
    )
    assert unchanged == whole
    assert handlers[1].kept == [b"Subject: x\r\n\r\nhi\r\n", whole]


def test_s_sub_08_answers_come_within_two_minutes(backend: Backend) -> None:
    # S-SUB-08, RFC 6409 5.3
    assert ehlo.Limits().submission_handler_seconds == 110
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Limits(submission_handler_seconds=0)

    class Slow(Door):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await backend.forever()

    limits = ehlo.Limits(submission_handler_seconds=backend.span, handler_seconds=None)

    async def main() -> None:
        async with await backend.serve(Slow(), config=SUBMISSION, limits=limits) as server:
            client = await log_in(backend, server)
            await client.send(MAIL + b"DATA\r\n")
            assert await client.codes(3) == ["250", "250", "354"]
            await client.send(b"hi\r\n.\r\n")
            (connection,) = server._live
            await backend.begun(lambda: connection._driver.blocked)
            for _ in range(10):  # it has begun to wait
                await backend.turn()
            await backend.later(lambda: server.statistics.handler_timeouts)
            assert (await client.reply()).startswith("451 4.3.0")

    backend.run(main, timed=True)


def test_s_sub_10_a_handler_refuses_header_and_policy(backend: Backend) -> None:
    # S-SUB-10, RFC 6409 5.1 and 6.3; S-SUB-06, 6.1: the hooks
    class Strict(Door):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str | None:
            return None if session.identity == "jane" else "550 5.7.1 not yours"

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str | None:
            if b"\r\nFrom:" not in content.partition(b"\r\n\r\n")[0]:
                return "554 5.6.0 a message needs a From field"
            return "550 5.7.1 not that" if b"casino" in content else None

    async def main() -> None:
        async with await backend.serve(Strict(), config=SUBMISSION) as server:
            client = await log_in(backend, server)
            assert (await submit(client, b"Subject: x\r\n\r\nhi\r\n")).startswith("554 5.6.0")
            assert (await submit(client, b"Subject: x\r\nFrom: a@b\r\n\r\ncasino\r\n")).startswith("550 5.7.1")
            assert (await submit(client, b"Subject: x\r\nFrom: a@b\r\n\r\nhi\r\n")).startswith("250 ")

    backend.run(main)
