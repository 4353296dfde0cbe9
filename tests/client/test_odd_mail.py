"""Addresses and messages as real mail has them: each goes out whole, or an EhloError says why (FAULTS A3, A4, C9 …)."""

from __future__ import annotations

import io
import pickle
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

import ehlo
from ehlo._client.email import flatten, recipients_of, sender_of
from ehlo._client.message import Letter
from ehlo._client.options import Opening
from ehlo._idna import a_label, domain_to_ascii

POLICIES = [policy.default, policy.SMTP, policy.compat32]
NOTHING = ehlo.ClientConnection(ehlo.ClientConfig("client.example")).capabilities


def offering(*keywords: str) -> ehlo.Capabilities:
    """What a server says that offers these keywords."""
    conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
    lines = "".join(f"250-{word}\r\n" for word in keywords)
    conn.receive_data(f"220 mx\r\n250-mx\r\n{lines}250 HELP\r\n".encode())
    list(conn)
    return conn.capabilities


# ---- domains -------------------------------------------------------------------------------------

DOMAINS = {
    "bücher.example": "xn--bcher-kva.example",
    "BÜCHER.example": "xn--bcher-kva.example",
    "fußball.test": "xn--fuball-cta.test",
    "βόλος.com": "xn--nxasmm1c.com",
    "日本。example": "xn--wgv71a.example",
    "plain.example": "plain.example",
}


@pytest.mark.parametrize(("domain", "ascii_domain"), DOMAINS.items())
def test_faults_a3_domains_are_those_of_idna_2008(domain: str, ascii_domain: str) -> None:
    pytest.importorskip("idna")
    assert domain_to_ascii(domain) == ascii_domain
    assert a_label(f"info@{domain}") == f"info@{ascii_domain}"


@pytest.mark.parametrize("domain", ["fußball.test", "βόλος.com", "نامه\u200cای.com", "bücher.example", "日本.example"])
def test_faults_a3_without_idna_a_name_stays_what_it_is(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec's answer counts only where it stands for the same name."""
    monkeypatch.setitem(sys.modules, "idna", None)
    found = domain_to_ascii(domain)
    assert found is None or found.encode("ascii").decode("idna") == domain
    assert (found is None) == (domain not in ("bücher.example", "日本.example"))


def test_faults_a3_header_fields_and_envelope_agree() -> None:
    message = EmailMessage()
    message["From"] = "info@fußball.test"
    message["To"] = "Jürgen <j@bücher.example>"
    message.set_content("hi")
    assert b"From: info@xn--fuball-cta.test\r\n" in flatten(message, NOTHING)
    letter = Letter(message, None, None)
    assert (letter.sender, letter.recipients) == ("info@xn--fuball-cta.test", ["j@xn--bcher-kva.example"])


def test_faults_a3_the_name_for_tls_is_that_of_the_host() -> None:
    opening = Opening("fußball.test", 25, tls="required")
    assert (opening.host, opening.server_hostname) == ("xn--fuball-cta.test", "xn--fuball-cta.test")


@pytest.mark.parametrize("host", ["a..b", ".", ".a", "", "a" * 64 + ".example", "a b.example", "a\x00.example"])
def test_faults_d7_a_host_that_is_no_name(host: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="is no host name"):
        Opening(host, 25)


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_faults_d7_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="port must be 1 to 65535"):
        Opening("mx.example", port)


# ---- the envelope of a message -------------------------------------------------------------------

BROKEN = [
    "jane@example.org.",
    "jane@exa mple.org",
    "a@b@c",
    "jane",
    "<>",
    "a@b.example; c@d.example",
    "unlisted-recipients:; (no To-header on input)",
    ".jane@example.org",
]


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("text", BROKEN)
def test_faults_a4_addresses_that_cannot_be_read_are_an_error(text: str, kind: Any) -> None:
    message = message_from_bytes(f"From: {text}\r\nTo: {text}\r\n\r\nhi\r\n".encode(), policy=kind)
    with pytest.raises(ehlo.LocalProtocolError, match="From: ") as caught:
        sender_of(message)
    assert repr(text) in str(caught.value)
    with pytest.raises(ehlo.LocalProtocolError, match="To: "):
        recipients_of(message)


GOOD = {
    "John Q. Public <a@b.example>": ["a@b.example"],
    "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>": ["pete@silly.test"],
    "A Group:Ed <joe@where.test>,John <jdoe@one.test>;": ["joe@where.test", "jdoe@one.test"],
    "=?utf-8?q?J=C3=BCrgen?= <j@b.example>, c@d.example": ["j@b.example", "c@d.example"],
    "a@b.example,, c@d.example": ["a@b.example", "c@d.example"],
    '"a b"@c.example': ['"a b"@c.example'],
    "a@[192.0.2.1]": ["a@[192.0.2.1]"],
}


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(("text", "mailboxes"), GOOD.items())
def test_addresses_of_odd_forms_are_read(text: str, mailboxes: list[str], kind: Any) -> None:
    message = message_from_bytes(f"From: {text}\r\nTo: {text}\r\n\r\nhi\r\n".encode(), policy=kind)
    assert recipients_of(message) == mailboxes


def test_faults_c15_the_error_names_the_address() -> None:
    conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
    letter = Letter(b"hi\r\n", "a@b.example", ["c@d.example", "jane@exa mple", "e@f.example"])
    with pytest.raises(ehlo.InvalidAddressError, match="the domain is malformed") as caught:
        letter.queue(conn)
    assert caught.value.address == "jane@exa mple"
    assert pickle.loads(pickle.dumps(caught.value)).address == "jane@exa mple"


# ---- the octets of a message ---------------------------------------------------------------------

RAW = {
    "UTF-8 header": "Subject: Grüße\r\n\r\nhi\r\n".encode(),
    "Latin-1 header": "Subject: Grüße\r\n\r\nhi\r\n".encode("latin-1"),
    "Shift-JIS header": "Subject: 日本\r\n\r\nhi\r\n".encode("shift-jis"),
    "a group with a comment": b"To: unlisted-recipients:; (no To-header on input)\r\n\r\nhi\r\n",
    "8-bit display name": 'To: "Jürgen" <a@b.example>\r\n\r\nhi\r\n'.encode("latin-1"),
    "no header": b"\r\nhi\r\n",
    "nothing": b"",
    "a header only": b"Subject: hi\r\n",
    "mbox": b"From jane Sat Nov 28 00:00:00 2026\r\nSubject: hi\r\n\r\nhi\r\n",
    "BOM": b"\xef\xbb\xbfSubject: hi\r\n\r\nhi\r\n",
    "NUL": b"Subject: hi\r\n\r\nh\x00i\r\n",
    "a long line": b"Subject: " + b"x" * 3000 + b"\r\n\r\n" + b"y" * 3000 + b"\r\n",
    "bare CR": b"Subject: hi\r\n\r\nhel\rlo\r\n",
    "bare LF": b"Subject: hi\n\nhel\nlo\n",
    "unknown charset": b"Content-Type: text/plain; charset=nope\r\n\r\ncaf\xe9\r\n",
    "wrong charset": b"Content-Type: text/plain; charset=us-ascii\r\n\r\ncaf\xe9\r\n",
    "UTF-8 body": "Content-Type: text/plain; charset=utf-8\r\n\r\ncafé\r\n".encode(),
    "8-bit part": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\xff\r\n--x--\r\n",
    "8-bit message in it": b"Content-Type: message/rfc822\r\n\r\nSubject: \xff\r\n\r\n\xff\r\n",
    "broken encoded word": b"From: =?x?y?z?= <>\r\nSubject: =?utf-8?b?!?=\r\n\r\nhi\r\n",
    "empty fields": b"To:\r\nCc: \r\nFrom:\r\nContent-Type:\r\n\r\nhi\r\n",
    "a date that is none": b"Date: yesterday\r\nMessage-ID: <<>>\r\n\r\nhi\r\n",
}


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("keywords", [(), ("8BITMIME",), ("8BITMIME", "SMTPUTF8")])
def test_faults_c9_c11_c12_every_message_goes_out(name: str, kind: Any, keywords: tuple[str, ...]) -> None:
    message = message_from_bytes(RAW[name], policy=kind)
    octets = flatten(message, offering(*keywords))
    header = octets.partition(b"\r\n\r\n")[0]
    assert header.isascii() or name == "BOM"
    assert octets.isascii() or "8BITMIME" in keywords
    again = message_from_bytes(octets, policy=policy.default)
    bodies = [part.get_payload(decode=True) for part in again.walk() if not part.is_multipart()]
    if "charset" in name:
        assert bodies in ([b"caf\xe9\r\n"], [b"caf\xe9\n"])
    if name == "UTF-8 header":
        assert again["Subject"] == "Grüße"
    if name == "a group with a comment":
        assert b"unlisted-recipients:; (no To-header on input)" in header


def test_faults_c9_utf8_in_the_header_where_the_program_wants_it() -> None:
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = "Grüße"
    message.set_content("hi")
    everything = offering("8BITMIME", "SMTPUTF8")
    assert b"Subject: =?utf-8?" in flatten(message, everything)
    assert "Subject: Grüße".encode() in flatten(message, everything, international=True)


def test_faults_c12_a_signed_part_is_not_changed() -> None:
    raw = b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n\xff\r\n--x--\r\n"
    message = message_from_bytes(raw, policy=policy.default)
    with pytest.raises(ehlo.SMTPNotSupportedError, match="signature"):
        flatten(message, NOTHING)
    assert b"\xff" in flatten(message, offering("8BITMIME"))


def test_faults_c13_the_length_of_a_file_is_known(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 78 + b"\r\n" + b"y" * 600_000)
    conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
    conn.receive_data(b"220 mx\r\n")
    list(conn)
    conn.data_to_send()
    conn.receive_data(b"250-mx\r\n250 SIZE 1000\r\n")
    for source in (path.open("rb"), path.open("rb", buffering=0), io.BytesIO(path.read_bytes())):
        with source as file:
            file.seek(80)
            Letter(file, "a@b.example", ["c@d.example"]).queue(conn)
            (result,) = [event for event in conn if isinstance(event, ehlo.SendResult)]
            assert (result.failure, b"MAIL" in conn.data_to_send()) == ("need", False)
            assert "600000" in str(result.explanation)


@pytest.mark.parametrize("where", ["username", "password", "authzid", "token"])
def test_faults_d3_a_secret_that_utf8_cannot_carry(where: str) -> None:
    arguments: dict[str, Any] = {where: "hunter2\ud800"}
    with pytest.raises(ehlo.LocalProtocolError, match="lone surrogate") as caught:
        ehlo.Login(**arguments)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in repr(error)
        error = error.__context__
