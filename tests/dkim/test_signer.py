"""DKIM signatures: the RFCs' examples, random messages that others verify, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

import ehlo
from ehlo._core import DkimBody, dkim_fields, dkim_header
from ehlo.dkim import Signer, dns_record, generate_key, load_key, normalized, sign, write_key, zone_lines
from messages import message, on_the_wire

RSA = generate_key()
ED25519 = generate_key("ed25519")
CONTENT = b"From: joe@example.org\r\nSubject: a  b\r\n\r\nHello \r\n"


def verified(content: bytes, records: dict[str, str]) -> bool:
    """What dkimpy says about the first signature."""
    dkim = pytest.importorskip("dkim")

    def dns(name: bytes, timeout: int = 5) -> bytes:
        return records[name.decode().rstrip(".")].encode()

    return bool(dkim.verify(content, dnsfunc=dns, minkey=1024))


def tag(field: bytes, name: bytes) -> bytes:
    found = re.search(rb"[;\s]" + name + rb"=([^;]*)", field)
    assert found is not None
    return b"".join(found[1].split())


# ---- the examples of the RFCs --------------------------------------------------------------------

DINNER = (
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)
RFC_8463_ED25519 = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
    b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
)
RFC_8463_RSA = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    b" date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
    b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
    b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
)
RFC_8463_SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
RFC_8463_PUBLIC = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b"
    "yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l"
    "/K4w3QIDAQAB"
)


def signed_octets(content: bytes, field: bytes, form: str) -> bytes:
    """What a signature is made of (RFC 6376 3.7), for the h= of ``field``."""
    fields, _ = dkim_fields(content)
    stacks: dict[bytes, list[bytes]] = {}
    for one in fields:
        stacks.setdefault(one.split(b":")[0].lower(), []).append(one)
    out = b""
    for name in tag(field, b"h").split(b":"):
        if stacks.get(name.lower()):
            out += dkim_header(stacks[name.lower()].pop(), form) + b"\r\n"  # type: ignore[arg-type]
    return out + dkim_header(re.sub(rb"([;\s]b=)[^;]*$", rb"\1", field), form)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["simple", "relaxed"])
def test_the_body_hash_of_rfc_6376_a_2_and_rfc_8463_a_3(form: str) -> None:
    body = DkimBody(form)  # type: ignore[arg-type]
    # RFC 6376 prints one space in the middle, which "simple" keeps; RFC 8463 prints two, which "relaxed" reduces.
    content = DINNER.replace(b".  Are", b". Are") if form == "simple" else DINNER
    _, start = dkim_fields(content)
    octets = body.feed(content[start:]) + body.finish()
    assert base64.b64encode(hashlib.sha256(octets).digest()) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="


def test_the_signatures_of_rfc_8463_a_3() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_8463_SEED))
    assert dns_record(key) == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    digest = hashlib.sha256(signed_octets(DINNER, RFC_8463_ED25519, "relaxed")).digest()
    assert base64.b64encode(key.sign(digest)) == tag(RFC_8463_ED25519, b"b")
    public = load_der_public_key(base64.b64decode(RFC_8463_PUBLIC))
    assert isinstance(public, RSAPublicKey)
    signature = base64.b64decode(tag(RFC_8463_RSA, b"b"))
    public.verify(signature, signed_octets(DINNER, RFC_8463_RSA, "relaxed"), PKCS1v15(), SHA256())


def test_our_signature_of_the_example_is_what_the_rfc_would_sign() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_8463_SEED))
    for header in ("relaxed", "simple"):
        signer = Signer(key, "football.example.com", "brisbane", header=header, identity="@football.example.com")
        field = signer.sign(DINNER, now=1528637909)
        digest = hashlib.sha256(signed_octets(DINNER, field.removesuffix(b"\r\n"), header)).digest()
        assert base64.b64encode(key.sign(digest)) == tag(field, b"b")
        assert tag(field, b"t") == b"1528637909"
        assert max(map(len, field.split(b"\r\n"))) < 78


# ---- others verify -------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_dkimpy_verifies_random_messages(header: str, body: str, key: ehlo.dkim.Key) -> None:
    if key is ED25519:
        pytest.importorskip("nacl")
    records = {"mail._domainkey.example.org": dns_record(key)}
    signer = Signer(key, "example.org", "mail", header=header, body=body)  # type: ignore[arg-type]
    random = Random(f"{header}/{body}")
    for _ in range(150):
        content = message(random)
        signed = signer.sign(content) + on_the_wire(content)
        assert verified(signed, records), signed


def test_both_signatures_at_once_and_each_holds() -> None:
    pytest.importorskip("nacl")
    signers = [Signer(RSA, "example.org", "rsa"), Signer(ED25519, "example.org", "ed", body="simple")]
    fields = sign(signers, CONTENT, now=1)
    first, second = re.findall(rb"DKIM-Signature:.*?(?=DKIM-Signature:|\Z)", fields, re.DOTALL)
    assert [tag(first, b"a"), tag(second, b"a")] == [b"rsa-sha256", b"ed25519-sha256"]
    assert [tag(first, b"c"), tag(second, b"c")] == [b"relaxed/relaxed", b"relaxed/simple"]
    records = {"rsa._domainkey.example.org": dns_record(RSA), "ed._domainkey.example.org": dns_record(ED25519)}
    assert verified(first + CONTENT, records)
    assert verified(second + CONTENT, records)
    assert verified(fields + CONTENT, records)


def test_an_oversigned_field_cannot_be_added() -> None:
    signed = Signer(RSA, "example.org", "mail").sign(CONTENT) + CONTENT
    records = {"mail._domainkey.example.org": dns_record(RSA)}
    assert verified(signed, records)
    for added in (b"Subject: other\r\n", b"To: eve@example.org\r\n"):
        assert not verified(added + signed, records)
    assert verified(b"X-Other: free\r\n" + signed, records)


def test_the_tags_are_those_that_were_asked_for() -> None:
    signer = Signer(
        RSA, "example.org", "s1.x", signed=["Subject"], oversigned=[], identity="a@b.example.org", expires_after=60
    )
    field = signer.sign(CONTENT, now=100)
    assert (tag(field, b"h"), tag(field, b"x"), tag(field, b"i")) == (b"from:subject", b"160", b"a@b.example.org")
    assert tag(Signer(RSA, "example.org", "m", oversigned=[]).sign(b"\r\nno From"), b"h") == b"from"


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"From: a\nTo: b\r\n\r\n", "bare CR or LF .* header"),
        (b"From: a\r\n\r\nx\ry\r\n", "bare CR or LF .* body"),
        (b"From: a\r\n\r\nx\n", "bare CR or LF .* body"),
        (b"From : a\r\n\r\nx\r\n", "before a field's colon"),
        (b"From: a\r\nno field\r\n\r\n", "no field"),
        (b" From: a\r\n\r\n", "no field"),
    ],
)
def test_content_that_others_read_differently_is_refused_or_normalized(content: bytes, why: str) -> None:
    signer = Signer(RSA, "example.org", "mail")
    with pytest.raises(ehlo.LocalProtocolError, match=why):
        signer.sign(content)
    if "no field" not in why:
        changed = normalized(content)
        assert verified(signer.sign(changed) + changed, {"mail._domainkey.example.org": dns_record(RSA)})


def test_normalized_changes_nothing_else() -> None:
    for content in (CONTENT, b"", b"\r\nA : b\r\n", b"A: b\r\n c : d\r\n\r\nE : f\r\n"):
        assert normalized(content) == content
    assert normalized(b"A\t : b\nC : d\n\nE : f") == b"A: b\r\nC: d\r\n\r\nE : f"


@pytest.mark.parametrize(
    "settings",
    [
        {"domain": "ex ample"},
        {"domain": "bücher.example"},
        {"selector": ""},
        {"selector": "a;b"},
        {"signed": ["x;y"]},
        {"oversigned": ["DKIM-Signature"]},
        {"identity": "@other.example"},
        {"identity": "a;b@example.org"},
        {"key": b"no key"},
        {"key": generate_ec_key(SECP256R1())},
    ],
)
def test_settings_that_no_signature_can_have(settings: dict[str, object]) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        Signer(**{"key": RSA, "domain": "example.org", "selector": "mail", **settings})  # type: ignore[arg-type]


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(ValueError, match="nofws"):
        Signer(RSA, "example.org", "mail", body="nofws")  # type: ignore[arg-type]


# ---- keys ----------------------------------------------------------------------------------------


def test_a_signer_from_plain_settings(tmp_path: Path) -> None:
    path = tmp_path / "mail.private"
    write_key(RSA, path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_key(RSA, path)
    signer = Signer.from_settings({"domain": "example.org", "selector": "mail", "key": str(path), "body": "simple"})
    assert tag(signer.sign(CONTENT), b"c") == b"relaxed/simple"
    for wrong in ({"domain": "example.org", "key": path}, {"domain": "example.org"}, {"key": path, "colour": 1}):
        with pytest.raises(ehlo.LocalProtocolError, match="DKIM signer"):
            Signer.from_settings(wrong)


def test_keys_are_read_in_both_forms_and_short_ones_are_refused() -> None:
    old = RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert dns_record(load_key(old)) == dns_record(RSA)
    with pytest.raises(ehlo.LocalProtocolError, match="1024"):
        generate_key("rsa", 512)


def test_the_record_stands_in_strings_of_255_octets() -> None:
    lines = zone_lines(RSA, "example.org", "mail")
    strings = re.findall(r'"([^"]*)"', lines)
    assert "".join(strings) == dns_record(RSA)
    assert [len(strings[0]), len(strings) > 1] == [255, True]
    assert lines.startswith("mail._domainkey.example.org. IN TXT ( ")
    assert "(" not in zone_lines(ED25519, "example.org", "mail")
