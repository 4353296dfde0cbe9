"""Replies: read as a client reads them, written as a server writes them.

Reading: ehlo checks that all lines have one code, that the code is one of SMTP's, and takes the enhanced status code
out of each line. smtplib, aiosmtplib and smtpproto look for the end of the reply and read its code.

Writing: ehlo checks code, enhanced status code and text, and folds what is too long for a line. A reply that is written
many times is made once. aiosmtpd has no type for a reply: its handlers return strings, as the f-string does.
"""

from __future__ import annotations

import asyncio
import io
import smtplib
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import ehlo
from benches import plain

SHORT = b"250 2.1.0 OK\r\n"
OFFER = (
    b"250-mx.example.org at your service\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n"
    b"250-AUTH PLAIN LOGIN\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
)
KEYWORDS = ["8bitmime", "auth", "enhancedstatuscodes", "pipelining", "size", "smtputf8", "starttls"]

Read = Callable[[bytes], tuple[int, int]]
"""Octets to the code and the number of lines. The text is at hand, too, in each stand's own form."""

# ---- reading -----------------------------------------------------------------------------------------


def ehlo_reads() -> Read:
    def read(octets: bytes) -> tuple[int, int]:
        reply = ehlo.parse_reply(octets)
        return reply.code, len(reply.lines)

    return read


def smtplib_reads() -> Read:
    client = smtplib.SMTP()

    def read(octets: bytes) -> tuple[int, int]:
        client.file = io.BytesIO(octets)
        code, text = client.getreply()
        return code, text.count(b"\n") + 1

    return read


def aiosmtplib_reads() -> Read:
    module = pytest.importorskip("aiosmtplib.protocol")
    loop = asyncio.new_event_loop()
    protocol = module.SMTPProtocol(loop=loop)
    loop.close()

    def read(octets: bytes) -> tuple[int, int]:
        protocol._buffer.extend(octets)
        response = protocol._read_response_from_buffer()
        return response.code, response.message.count("\n") + 1

    return read


def smtpproto_reads() -> Read:
    module = pytest.importorskip("smtpproto.protocol")
    client = module.SMTPClientProtocol()

    def read(octets: bytes) -> tuple[int, int]:
        client._state, client._command_sent = module.ClientState.ready, "NOOP"
        response = client.feed_bytes(octets)
        return response.code, response.message.count("\n") + 1

    return read


def regular_expression_reads() -> Read:
    def read(octets: bytes) -> tuple[int, int]:
        code, text = plain.read_reply(octets)
        return code, text.count(b"\n") + 1

    return read


READERS = {
    "ehlo": ehlo_reads,
    "smtplib": smtplib_reads,
    "aiosmtplib": aiosmtplib_reads,
    "smtpproto": smtpproto_reads,
    "regular expression": regular_expression_reads,
}


@pytest.mark.benchmark(group="read a reply of one line")
@pytest.mark.parametrize("stand", READERS)
def test_read_one_line(benchmark: BenchmarkFixture, stand: str) -> None:
    assert benchmark(READERS[stand](), SHORT) == (250, 1)


@pytest.mark.benchmark(group="read a reply of eight lines")
@pytest.mark.parametrize("stand", READERS)
def test_read_many_lines(benchmark: BenchmarkFixture, stand: str) -> None:
    assert benchmark(READERS[stand](), OFFER) == (250, 8)


# ---- what a server offers ------------------------------------------------------------------------------


def ehlo_offer() -> list[str]:
    return [name for name, _ in ehlo.Capabilities.parse(ehlo.parse_reply(OFFER)).keywords]


def smtplib_offer() -> list[str]:
    client = smtplib.SMTP(local_hostname=plain.CLIENT_NAME)
    client.file = io.BytesIO(OFFER)
    client.putcmd = lambda cmd, args="": None  # type: ignore[method-assign]
    client.ehlo()
    return list(client.esmtp_features)


def aiosmtplib_offer() -> Callable[[], list[str]]:
    module = pytest.importorskip("aiosmtplib.esmtp")
    protocol_module = pytest.importorskip("aiosmtplib.protocol")
    loop = asyncio.new_event_loop()
    protocol = protocol_module.SMTPProtocol(loop=loop)
    loop.close()

    def offer() -> list[str]:
        protocol._buffer.extend(OFFER)
        extensions, _ = module.parse_esmtp_extensions(protocol._read_response_from_buffer().message)
        return list(extensions)

    return offer


def smtpproto_offer() -> Callable[[], list[str]]:
    module = pytest.importorskip("smtpproto.protocol")
    client = module.SMTPClientProtocol()

    def offer() -> list[str]:
        client._state, client._command_sent = module.ClientState.greeting_received, "EHLO"
        client.feed_bytes(OFFER)
        return list(client.extensions)

    return offer


OFFERS: dict[str, Callable[[], Callable[[], list[str]]]] = {
    "ehlo": lambda: ehlo_offer,
    "smtplib": lambda: smtplib_offer,
    "aiosmtplib": aiosmtplib_offer,
    "smtpproto": smtpproto_offer,
}


@pytest.mark.benchmark(group="read the reply to EHLO and its keywords")
@pytest.mark.parametrize("stand", OFFERS)
def test_read_offer(benchmark: BenchmarkFixture, stand: str) -> None:
    """smtplib's figure has the making of its client in it, which is a few attributes."""
    assert sorted(name.lower() for name in benchmark(OFFERS[stand]())) == KEYWORDS


# ---- writing -----------------------------------------------------------------------------------------


def ehlo_kept() -> Callable[[], bytes]:
    return ehlo.Reply(550, "5.1.1", "no such user here").to_bytes


def ehlo_made() -> Callable[[], bytes]:
    return lambda: ehlo.Reply(550, "5.1.1", "no such user here").to_bytes()


def f_string() -> Callable[[], bytes]:
    code, enhanced, text = 550, "5.1.1", "no such user here"
    return lambda: f"{code} {enhanced} {text}\r\n".encode("ascii")


WRITERS = {"ehlo, made once": ehlo_kept, "ehlo, made each time": ehlo_made, "f-string": f_string}


@pytest.mark.benchmark(group="write a reply")
@pytest.mark.parametrize("stand", WRITERS)
def test_write(benchmark: BenchmarkFixture, stand: str) -> None:
    assert benchmark(WRITERS[stand]()) == b"550 5.1.1 no such user here\r\n"
