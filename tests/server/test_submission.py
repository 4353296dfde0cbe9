"""What submission adds, and nothing else does (RFC 6409)."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime, timedelta, timezone

import pytest

import ehlo
from ehlo import submission_fields
from ehlo._tls import _OPENSSL, cipher_suite

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=timezone(timedelta(hours=1)))
DATE = b"Date: Tue, 24 Nov 2026 03:00:00 +0100\r\n"
ID = b"Message-ID: <1@mx.example>\r\n"


def fields(content: bytes) -> bytes:
    return submission_fields(content, domain="mx.example", now=NOW, ident="1")


@pytest.mark.parametrize(
    ("content", "added"),
    [
        (b"Subject: x\r\n\r\nhi\r\n", DATE + ID),
        (b"Date: whatever\r\nSubject: x\r\n\r\nhi\r\n", ID),
        (b"Subject: x\r\nDATE : whatever\r\n\r\n", ID),
        (b"Subject: x\r\nmessage-id: <2@c.example>\r\n\r\nhi\r\n", DATE),
        (b"Date: x\r\nMessage-ID: y\r\n\r\nhi\r\n", b""),
        (b"Date: x\r\nMessage-ID: y\r\n", b""),
        (b"Resent-Date: x\r\nX-Message-ID: y\r\nSubject: a\r\n Date: folded\r\n\r\n", DATE + ID),
        (b"Subject: x\r\n\r\nDate: in the text\r\nMessage-ID: <2@c.example>\r\n", DATE + ID),
        (b"Subject: x\n\nDate: in the text\n", DATE + ID),
        (b"\r\nhi\r\n", DATE + ID),
        (b"hi there: no header\r\n", DATE + ID + b"\r\n"),
        (b"", DATE + ID + b"\r\n"),
    ],
)
def test_s_sub_07_what_is_missing_is_added(content: bytes, added: bytes) -> None:
    assert fields(content) == added  # S-SUB-07, RFC 6409 8.2 and 8.3
    assert fields(added + content) == b""


def test_message_ids_are_not_the_same_twice() -> None:
    made = {submission_fields(b"\r\n", domain="bücher.example", now=datetime.now(UTC)) for _ in range(100)}
    assert len(made) == 100
    assert all(re.search(rb"\r\nMessage-ID: <\d{14}\.[0-9a-f]{16}@xn--bcher-kva\.example>\r\n$", one) for one in made)


def test_now_needs_an_offset() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="offset"):
        submission_fields(b"", domain="mx.example", now=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("openssl", "registered"),
    [
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("DHE-RSA-AES128-SHA256", "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"),
        ("ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
        ("NULL-MD5", None),
    ],
)
def test_b_trc_10_registered_names(openssl: str, registered: str | None) -> None:
    # B-TRC-10, RFC 8314 7.4: not what OpenSSL calls them
    class Fake(ssl.SSLObject):
        def cipher(self) -> tuple[str, str, int]:
            return openssl, "TLSv1.2", 128

    assert cipher_suite(ssl.SSLObject.__new__(Fake)) == registered


def test_the_suites_that_are_offered_have_names() -> None:
    usual = {one["name"] for one in ssl.create_default_context().get_ciphers()}
    for name in usual:
        if re.match("(ECDHE|DHE)-(ECDSA|RSA)-(AES.*SHA|CHACHA)", name):
            assert _OPENSSL.fullmatch(name), name
    assert cipher_suite(None) is None


@pytest.mark.parametrize("text", ["x\r\nX: y", "a b", "a>", "", "a..b"])
def test_no_argument_makes_a_line(text: str) -> None:
    """FAULTS D18"""
    with pytest.raises(ehlo.LocalProtocolError, match="ident"):
        ehlo.submission_fields(b"A: b\r\n", domain="b.example", now=NOW, ident=text)
    with pytest.raises(ehlo.LocalProtocolError, match="domain"):
        ehlo.submission_fields(b"A: b\r\n", domain=text, now=NOW)
    assert b"@[IPv6:::1]>" in ehlo.submission_fields(b"A: b\r\n", domain="[IPv6:::1]", now=NOW)
