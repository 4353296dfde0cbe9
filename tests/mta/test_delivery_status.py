"""Delivery status notifications: RFC 3464, 6522, 6533."""

from __future__ import annotations

import contextlib
import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehlo.mta.delivery_status import (
    DeliveryStatus,
    DeliveryStatusError,
    RecipientStatus,
    build_report,
    explain,
    parse_report,
)

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
CONTENT = b"From: a@b.example\r\nSubject: hi\r\n\r\ntext\r\n"
JOE = RecipientStatus(
    "joe@d.example",
    "failed",
    "5.1.1",
    original_recipient=("rfc822", "joe+x@d.example"),
    remote_mta="mx.d.example",
    diagnostic=("smtp", "550 5.1.1 no such user"),
    last_attempt=NOW,
    final_log_id="abc",
)
STATUS = DeliveryStatus("mx.example", (JOE,), envelope_id="order 7", received_from="client.example", arrival=NOW)


def report(status: DeliveryStatus = STATUS, original: bytes = CONTENT, **options: object) -> bytes:
    given: dict[str, object] = {"recipient": "a@b.example", "now": NOW, **options}
    return build_report(status, original=original, **given)  # type: ignore[arg-type]


def test_b_dsn_01_what_is_written_is_read_again() -> None:
    read = parse_report(report())
    assert read.status == STATUS
    assert read.original == CONTENT
    assert read.is_full
    assert read.text.replace("\r\n", "\n") == explain(STATUS)


def parts_of(message: Message) -> list[Message]:
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


def test_b_dsn_01_pythons_own_parser_reads_it() -> None:
    message = email.message_from_bytes(report(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert not message.defects
    _, status, returned = message.iter_parts()
    assert status.get_content_type() == "message/delivery-status"
    first, second = parts_of(status)
    assert first["Reporting-MTA"] == "dns; mx.example"
    assert first["Original-Envelope-Id"] == "order+207"
    assert second["Action"] == "failed"
    assert second["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert returned.get_content_type() == "message/rfc822"
    assert parts_of(returned)[0]["Subject"] == "hi"


def test_b_dsn_02_no_more_than_the_header_comes_back() -> None:
    header = b"From: a@b.example\r\nSubject: hi\r\n"
    for octets in (
        report(full=False),
        report(original=CONTENT + b"x" * 51200),
        report(replace(STATUS, recipients=(replace(JOE, action="delayed", status="4.4.1"),))),
    ):
        read = parse_report(octets)
        assert read.original == header
        assert not read.is_full
    assert parse_report(report(original=b"\r\nno header")).is_full
    assert parse_report(report(original=b"\r\nno header", full=False)).original == b""
    long = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 70) for n in range(2000))
    returned = parse_report(report(original=long + b"\r\n", full=False)).original
    assert returned is not None
    assert returned.endswith(b"y\r\n")
    assert len(returned) <= 51200


def test_b_dsn_03_addresses_of_other_scripts() -> None:
    recipient = replace(
        JOE, final_recipient="jürgen@bücher.example", original_recipient=("utf-8", "jürgen@bücher.example")
    )
    status = replace(STATUS, recipients=(recipient,))
    header = b"Subject: \xc3\xbc\r\n\r\n"
    octets = report(status, header, smtputf8=True)
    assert b"message/global-delivery-status" in octets
    assert b"Content-Type: message/global\r\n" in octets
    assert "Final-Recipient: utf-8; jürgen@bücher.example".encode() in octets
    assert parse_report(octets).status == status
    octets = report(status, header)
    assert b"Final-Recipient: utf-8; j\\x{FC}rgen@b\\x{FC}cher.example" in octets
    assert parse_report(octets).status == status
    assert b"message/global" in report(recipient="ü@b.example")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Action: failed", b"Action: lost"),
        (b"Action: failed\r\n", b""),
        (b"Action: failed\r\n", b"Action: failed\r\nAction: failed\r\n"),
        (b"Status: 5.1.1", b"Status: 5"),
        (b"Status: 5.1.1", b"Status: 4.1.1"),
        (b"Final-Recipient: rfc822; joe@d.example\r\n", b""),
        (b"Final-Recipient: rfc822; joe@d.example", b"Final-Recipient: joe@d.example"),
        (b"Final-Recipient: rfc822; joe@d.example", b"Final-Recipient: rfc822;"),
        (b"Final-Recipient: rfc822; joe@d.example", b"Final-Recipient: utf-8; \\x{110000}"),
        (b"Reporting-MTA: dns; mx.example\r\n", b""),
        (b"order+207", b"order+2"),
        (b"04:05:06", b"99:05:06"),
        (b"Status: ", b"Status "),
        (b"report-type", b"report-kind"),
        (b"multipart/report", b"multipart/mixed"),
        (b"message/delivery-status", b"text/plain"),
        (b"message/rfc822", b"image/png"),
        (b"--\r\n", b""),
        (b"boundary=", b"border="),
        (b"Content-Transfer-Encoding: 7bit", b"Content-Transfer-Encoding: rot13"),
        (b"Content-Transfer-Encoding: 7bit", b"Content-Transfer-Encoding: base64"),
    ],
)
def test_b_dsn_04_what_breaks_a_rule_is_refused(old: bytes, new: bytes) -> None:
    octets = report()
    assert old in octets
    with pytest.raises(DeliveryStatusError):
        parse_report(octets.replace(old, new))


@given(st.binary(max_size=300), st.integers(0, 900), st.integers(0, 40))
def test_b_dsn_04_no_octets_break_the_parser(noise: bytes, at: int, cut: int) -> None:
    octets = report()
    with contextlib.suppress(DeliveryStatusError):
        parse_report(octets[:at] + noise + octets[at + cut :])


_words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=30)
_ascii = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="+=\\;"), min_size=1, max_size=30
)
_dates = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(microsecond=0, tzinfo=UTC))
_statuses = st.builds(
    RecipientStatus,
    final_recipient=_words,
    action=st.just("failed"),
    status=st.just("5.7.1"),
    original_recipient=st.none() | st.tuples(st.just("rfc822"), _ascii),
    remote_mta=st.none() | _ascii,
    diagnostic=st.none() | st.tuples(st.just("smtp"), st.lists(_ascii, min_size=1, max_size=40).map(" ".join)),
    last_attempt=st.none() | _dates,
    final_log_id=st.none() | _ascii,
)


@given(st.lists(_statuses, min_size=1, max_size=4), st.none() | _words, st.booleans())
def test_b_dsn_01_any_status_survives(recipients: list[RecipientStatus], envid: str | None, utf8: bool) -> None:
    status = DeliveryStatus("mx.example", tuple(recipients), envelope_id=envid, arrival=NOW)
    octets = status.to_bytes(utf8=utf8)
    assert DeliveryStatus.parse(octets) == status
    assert utf8 or octets.isascii()


def test_b_dsn_01_what_a_server_says_cannot_break_the_report() -> None:
    said = "550 no\r\nSubject: x\n\n--\x00 " + "y" * 5000
    one = replace(
        JOE, diagnostic=("smtp", said), last_attempt=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    )
    read = parse_report(report(replace(STATUS, recipients=(one, JOE))))
    assert len(read.status.recipients) == 2
    assert read.status.recipients[0].diagnostic is not None


def test_encoded_parts_are_read() -> None:
    octets = report().replace(b"Content-Type: text/plain; charset=utf-8", b"Content-Type: text/plain; charset=no-such")
    octets = octets.replace(b"7bit", b"quoted-printable", 1)
    assert parse_report(octets).status == STATUS
