"""Command lines: read as a server reads them, written as a client writes them.

Reading: ehlo checks the whole grammar of RFC 5321, and the value of each parameter that it knows. aiosmtpd parses the
path by the standard library's parser of header fields, and looks at the names of the parameters alone. The regular
expression knows where a path begins and ends.

Writing: ehlo writes a command that it checked when the command was made. smtplib, smtpproto and the f-string build the
command from its parts, and check no grammar.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import ehlo

MAIL = b"MAIL FROM:<jane@example.org> SIZE=12345 BODY=8BITMIME\r\n"
RCPT = b"RCPT TO:<joe@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;joe@example.org\r\n"
SHORT_MAIL = b"MAIL FROM:<jane@example.org> BODY=8BITMIME\r\n"
SHORT_RCPT = b"RCPT TO:<joe@example.org>\r\n"

Read = Callable[[bytes], tuple[str, list[str]]]
"""A line to its mailbox and the names of its parameters."""
Write = Callable[[], bytes]

# ---- reading -----------------------------------------------------------------------------------------


def ehlo_reads() -> Read:
    def read(line: bytes) -> tuple[str, list[str]]:
        command = ehlo.parse_command(line)
        what = command.sender or command.recipient
        assert what is not None
        path = what.path
        assert isinstance(path, ehlo.Address)
        return path.mailbox, [name for name, _ in what.parameters]

    return read


def aiosmtpd_reads() -> Read:
    module = pytest.importorskip("aiosmtpd.smtp")
    loop = asyncio.new_event_loop()
    smtp = module.SMTP(object(), loop=loop)
    loop.close()

    def read(line: bytes) -> tuple[str, list[str]]:
        # As its _handle_client, smtp_MAIL and smtp_RCPT do, one after the other.
        verb, _, rest = line.rstrip(b"\r\n").partition(b" ")
        argument = str(rest.strip(), encoding="utf-8", errors="surrogateescape")
        keyword = "FROM:" if verb.upper().decode("ascii") == "MAIL" else "TO:"
        address, words = smtp._getaddr(smtp._strip_command_keyword(keyword, argument))
        parameters = smtp._getparams(words.upper().split())
        return address, list(parameters)

    return read


def regular_expression_reads() -> Read:
    pattern = re.compile(rb"(?:MAIL FROM|RCPT TO):<([^<>\s]*)>((?: [A-Z0-9-]+(?:=[!-<>-~]+)?)*)\r\n", re.IGNORECASE)

    def read(line: bytes) -> tuple[str, list[str]]:
        found = pattern.fullmatch(line)
        assert found is not None
        return found[1].decode(), [word.partition("=")[0] for word in found[2].decode().split()]

    return read


READERS = {"ehlo": ehlo_reads, "aiosmtpd": aiosmtpd_reads, "regular expression": regular_expression_reads}


@pytest.mark.benchmark(group="read MAIL FROM")
@pytest.mark.parametrize("stand", READERS)
def test_read_mail(benchmark: BenchmarkFixture, stand: str) -> None:
    assert benchmark(READERS[stand](), MAIL) == ("jane@example.org", ["SIZE", "BODY"])


@pytest.mark.benchmark(group="read RCPT TO with parameters of DSN")
@pytest.mark.parametrize("stand", READERS)
def test_read_rcpt(benchmark: BenchmarkFixture, stand: str) -> None:
    assert benchmark(READERS[stand](), RCPT) == ("joe@example.org", ["NOTIFY", "ORCPT"])


# ---- writing -----------------------------------------------------------------------------------------


def ehlo_writes(line: bytes) -> Write:
    return ehlo.parse_command(line).to_bytes


def smtplib_writes(line: bytes) -> Write:
    class Captured(smtplib.SMTP):
        written = b""

        def send(self, s: Any) -> None:
            self.written = s.encode(self.command_encoding)

        def getreply(self) -> tuple[int, bytes]:
            return 250, b"OK"

    client = Captured()
    client.does_esmtp = True  # as the reply to EHLO would say

    def mail() -> bytes:
        client.mail("jane@example.org", ["BODY=8BITMIME"])
        return client.written

    def rcpt() -> bytes:
        client.rcpt("joe@example.org")
        return client.written

    return mail if line == SHORT_MAIL else rcpt


def smtpproto_writes(line: bytes) -> Write:
    module = pytest.importorskip("smtpproto.protocol")
    client = module.SMTPClientProtocol()
    client._extensions = frozenset({"8BITMIME"})

    def mail() -> bytes:
        client._state, client._command_sent = module.ClientState.ready, None  # as a reply would leave it
        client.mail("jane@example.org")
        octets: bytes = client.get_outgoing_data()
        return octets

    def rcpt() -> bytes:
        client._state, client._command_sent = module.ClientState.mailtx, None
        client.recipient("joe@example.org")
        octets: bytes = client.get_outgoing_data()
        return octets

    return mail if line == SHORT_MAIL else rcpt


def f_string_writes(line: bytes) -> Write:
    sender, recipient, body = "jane@example.org", "joe@example.org", "8BITMIME"

    def mail() -> bytes:
        return f"MAIL FROM:<{sender}> BODY={body}\r\n".encode("ascii")

    def rcpt() -> bytes:
        return f"RCPT TO:<{recipient}>\r\n".encode("ascii")

    return mail if line == SHORT_MAIL else rcpt


WRITERS = {"ehlo": ehlo_writes, "smtplib": smtplib_writes, "smtpproto": smtpproto_writes, "f-string": f_string_writes}


def same(written: bytes, line: bytes) -> bool:
    """smtplib writes verbs in lower case."""
    return written.upper() == line.upper()


@pytest.mark.benchmark(group="write MAIL FROM")
@pytest.mark.parametrize("stand", WRITERS)
def test_write_mail(benchmark: BenchmarkFixture, stand: str) -> None:
    assert same(benchmark(WRITERS[stand](SHORT_MAIL)), SHORT_MAIL)


@pytest.mark.benchmark(group="write RCPT TO")
@pytest.mark.parametrize("stand", WRITERS)
def test_write_rcpt(benchmark: BenchmarkFixture, stand: str) -> None:
    assert same(benchmark(WRITERS[stand](SHORT_RCPT)), SHORT_RCPT)
