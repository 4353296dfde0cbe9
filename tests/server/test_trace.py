"""Trace fields: RULES group 13 (RFC 5321 4.4, 6.3; RFC 3848; RFC 6531 3.7.3, 4.3)."""

from __future__ import annotations

import email.utils
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo._server.trace_fields import _fold

NOW = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)

LITERAL = r"\[(?:IPv6:[0-9a-f:.]+|\d+\.\d+\.\d+\.\d+)\]"
DOMAIN = r"[^\s()<>@,;:\\\"\[\]]+"
COMMENT = r"\((?:[^()\\\r\n]|\\.)*\)"
# RFC 5321 4.4: From-domain By-domain Opt-info ";" FWS date-time, unfolded.
RECEIVED = re.compile(
    rf"Received: from (?P<hello>{DOMAIN}|{LITERAL})(?: \((?:(?P<rdns>{DOMAIN}) )?(?P<ip>{LITERAL})\))?"
    rf"(?P<comments>(?: {COMMENT})*)"
    rf" by (?P<by>{DOMAIN}) with (?P<with>[A-Z0-9]+)(?: id (?P<id>[^\s;]+))?(?: for (?P<for><[^>]+>))?"
    r"(?P<more>(?: tls \S+| PRIORITY -?\d)*); (?P<date>.+)"
)


def parse(field: bytes) -> dict[str, str | None]:
    """The field's parts; fails when it is not what RFC 5321 4.4 allows."""
    text = field.decode()
    assert text.endswith("\r\n")
    lines = text[:-2].split("\r\n")
    assert all(line.startswith(" ") for line in lines[1:])
    assert not re.search(r"[\r\n]", "".join(lines))
    match = RECEIVED.fullmatch("".join(lines))
    assert match is not None, text
    return match.groupdict()


def test_grammar_in_full() -> None:
    # B-TRC-02, RFC 5321 4.4
    field = ehlo.received(
        now=NOW,
        by="mx.example.org",
        hello="client.example.net",
        peer="192.0.2.1",
        rdns="host.example.net",
        protocol="ESMTPS",
        ident="4f2a",
        recipients=[ehlo.Address("<user@example.org>")],
    )
    assert parse(field) == {
        "hello": "client.example.net",
        "rdns": "host.example.net",
        "ip": "[192.0.2.1]",
        "comments": "",
        "by": "mx.example.org",
        "with": "ESMTPS",
        "id": "4f2a",
        "for": "<user@example.org>",
        "more": "",
        "date": "Tue, 24 Nov 2026 03:00:00 +0000",
    }


def test_the_parser_reads_the_rfc_example() -> None:
    # B-TRC-02, RFC 5321 App. D.3 (unfolded, with the id and protocol in their places)
    example = (
        b"Received: from bar.com (bar.com [192.0.2.9]) by foo.com with ESMTP id x1"
        b" for <Jones@xyz.com>; Thu, 21 May 1998 05:33:29 -0700\r\n"
    )
    assert parse(example)["for"] == "<Jones@xyz.com>"


@pytest.mark.parametrize(
    "hello",
    [
        "my_host",
        "evil) (by mx",
        "a(b",
        "back\\",
        "x\r\nBcc: y",
        "é.example",
        "",
        ".",
        "-a-",
        "[300.1.1.1]",
        "a b; c",
        "x" * 900,
        "\x00\x7f",
    ],
)
def test_the_clients_words_are_made_safe(hello: str) -> None:
    # B-TRC-03, RFC 5321 4.4, 7.6: what is no domain goes into a comment, escaped
    parts = parse(ehlo.received(now=NOW, by="mx.example", hello=hello, peer="192.0.2.1"))
    assert parts["ip"] == "[192.0.2.1]"
    assert parts["by"] == "mx.example"
    if not re.fullmatch(r"[A-Za-z0-9.-]+", parts["hello"] or ""):
        assert parts["hello"] == "[192.0.2.1]"


def test_a_name_that_is_no_domain_is_kept_in_a_comment() -> None:
    # B-TRC-03
    parts = parse(ehlo.received(now=NOW, by="mx.example", hello="my_host(1)", peer="192.0.2.1"))
    assert parts["hello"] == "[192.0.2.1]"
    assert parts["comments"] == r" (hello my_host\(1\))"


@pytest.mark.parametrize(
    ("peer", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
    ],
)
def test_address_literals(peer: str, literal: str) -> None:
    # B-TRC-04, RFC 5321 4.1.3
    assert parse(ehlo.received(now=NOW, by="mx.example", hello="c.example", peer=peer))["ip"] == literal


def test_a_client_without_an_address() -> None:
    # A Unix socket, as LMTP has it: the hello name stands alone (Extended-Domain = Domain).
    parts = parse(ehlo.received(now=NOW, by="mx.example", hello="c.example", protocol="LMTP"))
    assert (parts["hello"], parts["ip"], parts["with"]) == ("c.example", None, "LMTP")
    assert parse(ehlo.received(now=NOW, by="mx.example"))["hello"] == "unknown"


def test_protocol_keywords() -> None:
    # B-TRC-05, RFC 3848 1, RFC 6531 4.3: the 17 combinations. B-TRC-06: tls may be implicit as well.
    keyword = ehlo.protocol_keyword
    assert keyword(esmtp=False) == "SMTP"
    table = {
        (lmtp, utf8): [
            keyword(lmtp=lmtp, smtputf8=utf8, tls=tls, auth=auth) for tls in (False, True) for auth in (False, True)
        ]
        for lmtp in (False, True)
        for utf8 in (False, True)
    }
    assert table == {
        (False, False): ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"],
        (False, True): ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"],
        (True, False): ["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
        (True, True): ["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
    }


def test_for_only_with_one_recipient() -> None:
    # B-TRC-07, RFC 5321 4.4, 7.2
    one, two = ehlo.Address("<a@b.example>"), ehlo.Address("<c@d.example>")
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[one]))["for"] == "<a@b.example>"
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[one, two]))["for"] is None
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[]))["for"] is None


def test_for_has_no_source_route() -> None:
    # B-TRC-07, RFC 5321 App. C
    path = ehlo.Address("<@relay.example:a@b.example>")
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[path]))["for"] == "<a@b.example>"


@pytest.mark.parametrize("minutes", [0, 330, -480])
def test_date(minutes: int) -> None:
    # B-TRC-08, RFC 5321 4.4: four-digit year, numeric offset
    now = NOW.astimezone(timezone(timedelta(minutes=minutes)))
    date = parse(ehlo.received(now=now, by="mx.example"))["date"]
    assert date is not None
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", date)
    assert email.utils.parsedate_to_datetime(date) == NOW


def test_a_date_without_offset_is_misuse() -> None:
    # B-TRC-08
    with pytest.raises(ehlo.LocalProtocolError, match="offset"):
        ehlo.received(now=datetime(2026, 11, 24), by="mx.example")


def test_an_id_that_is_no_atom_is_misuse() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="atom"):
        ehlo.received(now=NOW, by="mx.example", ident="a b")


def test_folding() -> None:
    # B-TRC-09, RFC 5322 2.1.1: below 78 where possible, never above 998
    label = "a" * 60
    name = ".".join([label] * 4)
    field = ehlo.received(
        now=NOW,
        by=name,
        hello=name,
        peer="2001:db8:1:2:3:4:5:6",
        rdns=name,
        ident="i" * 40,
        recipients=[ehlo.Address(f"<{'u' * 64}@{label}.example>")],
    )
    lines = field.split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert all(len(line) < 78 or line.count(b" ") <= 2 for line in lines)
    parse(field)
    short = ehlo.received(now=NOW, by="mx.example", hello="c.example", peer="192.0.2.1", ident="x")
    assert all(len(line) < 78 for line in short.split(b"\r\n"))


@given(st.lists(st.text("aé (", min_size=1, max_size=90), min_size=1, max_size=12))
def test_a_line_has_as_many_words_as_fit(words: list[str]) -> None:
    # B-TRC-09: words stay whole, whatever is in them
    expected = [words[0]]
    for word in words[1:]:
        if len(expected[-1].encode()) + 1 + len(word.encode()) > 77:
            expected.append("")
        expected[-1] += f" {word}"
    assert _fold(words) == "".join(f"{line}\r\n" for line in expected).encode()


def test_utf8_only_with_smtputf8() -> None:
    # B-TRC-15, RFC 6531 3.7.3
    plain = ehlo.received(now=NOW, by="bücher.example", hello="bücher.example", rdns=None, peer="192.0.2.1")
    assert plain.isascii()
    parts = parse(plain)
    assert parts["hello"] == parts["by"] == "xn--bcher-kva.example"
    path = ehlo.Address("<jürgen@bücher.example>")
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[path]))["for"] is None
    half = ehlo.Address("<j@bücher.example>")
    assert parse(ehlo.received(now=NOW, by="mx.example", recipients=[half]))["for"] == "<j@xn--bcher-kva.example>"
    utf8 = parse(ehlo.received(now=NOW, by="bücher.example", protocol="UTF8SMTP", recipients=[path], smtputf8=True))
    assert utf8["for"] == "<jürgen@bücher.example>"
    assert utf8["by"] == "bücher.example"


def test_user_name_only_by_option() -> None:
    # B-TRC-17, RFC 5321 7.6
    assert b"joe" not in ehlo.received(now=NOW, by="mx.example", protocol="ESMTPSA")
    shown = parse(ehlo.received(now=NOW, by="mx.example", protocol="ESMTPSA", user="joe)("))
    assert shown["comments"] == r" (authenticated as joe\)\()"


def test_registered_clauses() -> None:
    # B-TRC-10, RFC 8314 4.3, 7.4; B-TRC-11, RFC 6710 4.1(2), 7
    field = ehlo.received(now=NOW, by="mx.example", protocol="ESMTPS", tls="TLS_AES_256_GCM_SHA384", priority=-3)
    assert parse(field)["more"] == " tls TLS_AES_256_GCM_SHA384 PRIORITY -3"
    with pytest.raises(ehlo.LocalProtocolError, match="tls"):
        ehlo.received(now=NOW, by="mx.example", tls="a;b")


def test_return_path() -> None:
    # B-TRC-12, RFC 5321 4.4
    assert ehlo.return_path(ehlo.Address("<a@b>")) == b"Return-Path: <a@b>\r\n"
    assert ehlo.return_path(ehlo.NULL) == b"Return-Path: <>\r\n"
    assert ehlo.return_path(ehlo.Address('<"a b"@c>')) == b'Return-Path: <"a b"@c>\r\n'


def test_return_path_cannot_be_split() -> None:
    # B-TRC-12: whatever an address may hold, it is one line
    assert ehlo.return_path(ehlo.Address('<"a\\"\\\\>"@c>')).count(b"\r\n") == 1


def test_count_received() -> None:
    # B-TRC-14, RFC 5321 6.3
    count = ehlo.count_received
    assert count(b"") == 0
    assert (
        count(b"Received: a\r\nreceived : b\r\nRECEIVED:c\r\n d\r\nSubject: Received: x\r\n\r\nReceived: body\r\n") == 3
    )
    assert count(b"\r\nReceived: body\r\n\r\n") == 0
    assert count(b"X-Received: a\r\nReceivedx: b\r\n Received: c\r\n\r\n") == 0
    assert count(b"Received: a\r\n" * 99) == 99
    assert count(b"Received: a\nReceived: b\n\nReceived: body\n") == 2
    assert count(b"Subject: x\rReceived: a\r\n\r\n") == 0


def test_ours_goes_on_top_and_the_rest_stays() -> None:
    # B-TRC-01, RFC 5321 4.4
    content = b"Received: from x by y; date\r\nReturn-Path: <odd@x>\r\nSubject: s\r\n\r\nbody\r\n"
    whole = ehlo.received(now=NOW, by="mx.example", hello="c.example", peer="192.0.2.1") + content
    assert whole.startswith(b"Received: from c.example ([192.0.2.1])")
    assert whole.endswith(content)
    assert ehlo.count_received(whole) == 2


@pytest.mark.parametrize("protocol", ["ESMTP\r\nX: y", "", "ESMTP x", "\u00e9", "a;b"])
def test_the_protocol_is_a_keyword(protocol: str) -> None:
    """FAULTS D18"""
    with pytest.raises(ehlo.LocalProtocolError, match="protocol"):
        ehlo.received(now=NOW, by="mx.example.org", protocol=protocol)


@pytest.mark.parametrize("priority", [10, -10, "1\r\nX: y"])
def test_the_priority_is_from_minus_9_to_9(priority: int) -> None:
    """FAULTS D18"""
    with pytest.raises(ehlo.LocalProtocolError, match="priority"):
        ehlo.received(now=NOW, by="mx.example.org", priority=priority)


@pytest.mark.parametrize("name", ["by", "hello", "peer", "rdns", "user"])
def test_no_other_argument_makes_a_line(name: str) -> None:
    """FAULTS D18"""
    arguments: dict[str, str] = {"by": "mx.example.org", name: "x\r\nX: y\0\ud800"}
    field = ehlo.received(now=NOW, **arguments)  # type: ignore[arg-type]
    assert b"\r\nX" not in field
    parse(field)


def test_faults_a3_domains_in_trace_fields_are_those_of_idna_2008() -> None:
    pytest.importorskip("idna")
    now = datetime(2026, 11, 28, tzinfo=UTC)
    field = ehlo.received(now=now, by="fußball.test", hello="fußball.test")
    assert field.count(b"xn--fuball-cta.test") == 2
    assert b"fussball" not in field
    assert b"@xn--fuball-cta.test>" in ehlo.submission_fields(b"Date: x\r\n\r\n", domain="fußball.test", now=now)
