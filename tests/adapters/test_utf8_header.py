"""Header sections with 8-bit octets, sent with and without SMTPUTF8, from every kind of content (FAULTS C10)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from typing import Any

import pytest

import ehlo
from backends import Backend

A, B = "a@b.example", "c@d.example"
UTF8 = "Subject: Grüße\r\n\r\nhi\r\n".encode()
LATIN_1 = "Subject: Grüße\r\n\r\nhi\r\n".encode("latin-1")
KINDS = ["octets", "bytearray", "file", "large file", "iterable", "async iterable"]
WAYS = ["send", "send_many", "pool", "transaction"]


class Keep(ehlo.Handler):
    """Keeps what came, and whether MAIL said SMTPUTF8."""

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bool]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.found.append((content, envelope.sender.smtputf8))


async def pieces(octets: bytes) -> AsyncIterator[bytes]:
    yield octets


def given(kind: str, octets: bytes) -> Any:
    if kind == "large file":
        return io.BytesIO(octets + (b"x" * 78 + b"\r\n") * 4000)
    made: dict[str, Any] = {
        "octets": octets,
        "bytearray": bytearray(octets),
        "file": io.BytesIO(octets),
        "iterable": [octets],
        "async iterable": pieces(octets),
    }
    return made[kind]


async def send(
    backend: Backend, way: str, port: int, message: Any, sender: Any, utf8_header: bool | None, lmtp: bool = False
) -> None:
    settings = ehlo.ClientConfig("client.example", lmtp=lmtp)
    if way == "pool":
        async with backend.adapter.Pool("127.0.0.1", port, config=settings) as pool:
            await pool.send(message, sender, B, utf8_header=utf8_header)
        return
    async with backend.adapter.connect("127.0.0.1", port, config=settings) as client:
        if way == "send":
            await client.send(message, sender, B, utf8_header=utf8_header)
        elif way == "send_many":
            results = [one async for one in client.send_many([(message, sender, B)], utf8_header=utf8_header)]
            assert [one.failure for one in results] == [None]
        else:
            async with client.transaction(sender, eight_bit=True, utf8_header=utf8_header) as transaction:
                await transaction.rcpt(B)
                await transaction.send(message)


@contextlib.asynccontextmanager
async def served(backend: Backend, **options: Any) -> AsyncIterator[tuple[Keep, int]]:
    keep = Keep()
    settings = ehlo.ServerConfig("mx.example", max_recipients=1000, **options)
    async with await backend.serve(keep, "127.0.0.1", 0, config=settings) as server:
        yield keep, server.port


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [{}, {"chunking": False, "binarymime": False}, {"lmtp": True}], ids=["BDAT", "DATA", "LMTP"]
)
def test_faults_c10_eight_bit_header_fields_go_without_smtputf8(
    backend: Backend, way: str, options: dict[str, Any]
) -> None:
    lmtp = options.get("lmtp", False)

    async def main() -> None:
        async with served(backend, **options) as (keep, port):
            for kind in KINDS:
                for octets in (UTF8, LATIN_1):
                    for utf8_header in (None, False):
                        await send(backend, way, port, given(kind, octets), A, utf8_header, lmtp)
                        content, smtputf8 = keep.found.pop()
                        assert content.startswith(octets)
                        assert not smtputf8
                    # False goes before the parameter of a sender.
                    await send(backend, way, port, given(kind, octets), ehlo.Sender(A, smtputf8=True), False, lmtp)
                    assert not keep.found.pop()[1]

    backend.run(main)


@pytest.mark.parametrize("way", WAYS[:3])
def test_faults_c10_smtputf8_where_the_program_asks_and_the_header_is_utf8(backend: Backend, way: str) -> None:
    async def main() -> None:
        async with served(backend) as (keep, port):
            for kind in KINDS:
                await send(backend, way, port, given(kind, UTF8), A, True)
                assert keep.found.pop()[1]
            for kind in KINDS[:4]:  # of the others the octets are not known when MAIL is said
                await send(backend, way, port, given(kind, LATIN_1), A, True)
                assert not keep.found.pop()[1]
                await send(backend, way, port, given(kind, LATIN_1), ehlo.Sender(A, smtputf8=True), None)
                assert not keep.found.pop()[1]
        async with served(backend, smtputf8=False) as (keep, port):
            for kind in KINDS:  # a server without SMTPUTF8 gets it as it came
                await send(backend, way, port, given(kind, UTF8), A, None)
                assert keep.found.pop()[0].startswith(UTF8)

    backend.run(main)


@pytest.mark.parametrize("kind", [policy.default, policy.SMTP, policy.compat32])
def test_faults_c10_an_email_message(backend: Backend, kind: Any) -> None:
    raw = 'From: "Jürgen" <jürgen@b.example>\r\nSubject: Grüße\r\n\r\nhi\r\n'.encode()
    has_utf8 = hasattr(kind, "utf8")

    async def main() -> None:
        message = message_from_bytes(raw, policy=kind)
        async with served(backend) as (keep, port):
            for utf8_header, smtputf8 in ((None, has_utf8), (True, has_utf8), (False, False)):
                await send(backend, "send", port, message, A, utf8_header)
                content, said = keep.found.pop()
                assert (said, "Subject: Grüße".encode() in content) == (smtputf8, smtputf8)

    backend.run(main)
