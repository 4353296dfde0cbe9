"""Header fields on top of content: FAULTS A7."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo._server.prepend import header_of

FIELDS = b"Received: from a by b;\r\n Tue, 24 Nov 2026 03:00:00 +0000\r\n"
MBOX = b"From jane@c.example Tue Nov 24 03:00:00 2026\r\n"
HEADED = b"Subject: x\r\n\r\nhi\r\n"

# content, what stands between the fields and it, and the content as it goes on
TABLE = [
    pytest.param(HEADED, b"", HEADED, id="header"),
    pytest.param(b"SUBJECT \t: x\r\n\r\n", b"", b"SUBJECT \t: x\r\n\r\n", id="space before the colon"),
    pytest.param(b"From : jane@c.example\r\n\r\n", b"", b"From : jane@c.example\r\n\r\n", id="a field From"),
    pytest.param(b"\r\nhi\r\n", b"", b"\r\nhi\r\n", id="empty header"),
    pytest.param(b"\nhi\n", b"", b"\nhi\n", id="empty header, LF"),
    pytest.param(b"", b"", b"", id="nothing"),
    pytest.param(b"Subject: x\r\n", b"", b"Subject: x\r\n", id="header only"),
    pytest.param(b" for <me@x>\r\n" + HEADED, b"\r\n", b" for <me@x>\r\n" + HEADED, id="space"),
    pytest.param(b"\tx\r\n" + HEADED, b"\r\n", b"\tx\r\n" + HEADED, id="tab"),
    pytest.param(b" \r\n" + HEADED, b"\r\n", b" \r\n" + HEADED, id="a line of one space"),
    pytest.param(b"\xef\xbb\xbf" + HEADED, b"\r\n", b"\xef\xbb\xbf" + HEADED, id="byte order mark"),
    pytest.param(b"\xff\xfeS\x00", b"\r\n", b"\xff\xfeS\x00", id="UTF-16"),
    pytest.param(b"hi there: no header\r\n", b"\r\n", b"hi there: no header\r\n", id="text"),
    pytest.param("Grüße: x\r\n".encode(), b"\r\n", "Grüße: x\r\n".encode(), id="8-bit name"),
    pytest.param(b": x\r\n", b"\r\n", b": x\r\n", id="no name"),
    pytest.param(b"\x00Subject: x\r\n", b"\r\n", b"\x00Subject: x\r\n", id="NUL"),
    pytest.param(b"\rSubject: x\r\n", b"\r\n", b"\rSubject: x\r\n", id="bare CR"),
    pytest.param(b"\r", b"\r\n", b"\r", id="nothing but CR"),
    pytest.param(b"hel\nlo", b"\r\n", b"hel\nlo", id="bare LF"),
    pytest.param(b"x" * 2000 + b": y\r\n", b"\r\n", b"x" * 2000 + b": y\r\n", id="2000 octets of name"),
    pytest.param(b"S: " + b"x" * 6000, b"", b"S: " + b"x" * 6000, id="long field"),
    pytest.param(MBOX + HEADED, b"Mailbox-Line: " + MBOX, HEADED, id="mbox line"),
    pytest.param(b">" + MBOX + HEADED, b"Mailbox-Line: >" + MBOX, HEADED, id="quoted mbox line"),
    pytest.param(
        MBOX + b">>" + MBOX + HEADED, b"Mailbox-Line: " + MBOX + b"Mailbox-Line: >>" + MBOX, HEADED, id="two mbox lines"
    ),
    pytest.param(b"From a\rb\n" + HEADED, b"Mailbox-Line: From a\rb\n", HEADED, id="mbox line, CR inside"),
    pytest.param(MBOX + b" x\r\n" + HEADED, b"\r\n", MBOX + b" x\r\n" + HEADED, id="mbox line, then space"),
    pytest.param(b"From here on\r\nit is text\r\n", b"\r\n", b"From here on\r\nit is text\r\n", id="text: From"),
    pytest.param(b"From here on", b"\r\n", b"From here on", id="text: one line"),
    pytest.param(b"From " + b"x" * 6000 + HEADED, b"\r\n", b"From " + b"x" * 6000 + HEADED, id="no end of the line"),
]


@pytest.mark.parametrize(("content", "between", "rest"), TABLE)
def test_what_stands_between(content: bytes, between: bytes, rest: bytes) -> None:
    # FAULTS A7
    assert ehlo.prepend_fields(FIELDS, content) == FIELDS + between + rest
    assert ehlo.prepend_fields(b"", content) == content
    parsed = message_from_bytes(FIELDS + between + rest, policy=SMTP)
    assert str(parsed["Received"]).endswith("03:00:00 +0000")  # nothing became a part of our field


@pytest.mark.parametrize(("content", "between", "rest"), TABLE)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size_give_the_same(content: bytes, between: bytes, rest: bytes, size: int) -> None:
    prepender = ehlo.FieldPrepender(FIELDS)
    pieces = [prepender.feed(content[at : at + size]) for at in range(0, len(content), size)]
    assert b"".join([*pieces, prepender.finish()]) == FIELDS + between + rest


@given(
    st.lists(st.sampled_from([b"From ", b">", b"x", b":", b" ", b"\r\n", b"\n", b"\r", b"Subject: s", b"\x00"])),
    st.lists(st.integers(0, 60)),
)
def test_any_cuts(words: list[bytes], cuts: list[int]) -> None:
    content = b"".join(words)
    prepender = ehlo.FieldPrepender(FIELDS)
    places = [0, *sorted(cuts), len(content)]
    out = b"".join(prepender.feed(content[a:b]) for a, b in pairwise(places)) + prepender.finish()
    assert out == ehlo.prepend_fields(FIELDS, content)
    assert out.replace(b"Mailbox-Line: ", b"").endswith(content)  # nothing is lost


def test_little_is_held_back() -> None:
    prepender = ehlo.FieldPrepender(FIELDS)
    out = b"".join(prepender.feed(b">") for _ in range(5000))
    assert out == FIELDS + b"\r\n" + b">" * 5000


def test_two_hops_and_submission() -> None:
    # FAULTS A7: Date and Message-ID stand in the header, and the mbox line does not end it
    now = datetime(2026, 11, 24, 3, tzinfo=UTC)
    for content in (MBOX + HEADED, HEADED):
        more = ehlo.submission_fields(content, domain="mx.example", now=now, ident="1")
        once = ehlo.prepend_fields(more, content)
        parsed = message_from_bytes(ehlo.prepend_fields(FIELDS, ehlo.prepend_fields(FIELDS, once)), policy=SMTP)
        assert parsed["Subject"] == "x"
        assert parsed["Message-ID"] == "<1@mx.example>"
        assert len(parsed.get_all("Received", [])) == 2
        assert ehlo.submission_fields(once, domain="mx.example", now=now) == b""
    for content in (b" x\r\n" + HEADED, b"\xef\xbb\xbf" + HEADED, b"hi\r\n", b""):
        more = ehlo.submission_fields(content, domain="mx.example", now=now, ident="1")
        once = ehlo.prepend_fields(more, content)
        assert once == more + content
        assert ehlo.prepend_fields(FIELDS, once) == FIELDS + once


def test_fields_end_with_crlf() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="CRLF"):
        ehlo.prepend_fields(b"Received: x", b"")


def test_header_of() -> None:
    assert header_of(HEADED) == b"Subject: x"
    assert header_of(MBOX + HEADED) == b"Subject: x"
    assert header_of(b"Subject: x") == b"Subject: x"
    assert header_of(b"Subject: x\r\n\ny") == header_of(b"Subject: x\n\r\ny") == b"Subject: x"
    assert header_of(b"Subject: x\r\r\n\r\ny") == b"Subject: x\r"
    assert header_of(b" x\r\n\r\ny") == b""


@pytest.mark.parametrize(
    "fields", [b"A: b\r\n\r\nC: d\r\n", b"text\r\n", b" A: b\r\n", b"A: b\n\nC: d\r\n", b"A: b\rC: d\r\n", b"A: \0\r\n"]
)
def test_only_fields_are_put_above_content(fields: bytes) -> None:
    """FAULTS D18"""
    with pytest.raises(ehlo.LocalProtocolError, match="RFC 5322"):
        ehlo.prepend_fields(fields, b"E: f\r\n")
