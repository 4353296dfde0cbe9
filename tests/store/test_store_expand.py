"""Paths made of mailboxes."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo.store import expand

TEMPLATE = "/mail/{domain}/{local_part}"


@pytest.mark.parametrize(
    ("mailbox", "path"),
    [
        ("jane@example.org", "example.org/jane"),
        ("Jane@Example.ORG", "example.org/jane"),
        ('"jane"@example.org', "example.org/jane"),
        ("jane+list@example.org", "example.org/jane+list"),
        ('".."@example.org', "example.org/%2E."),
        ('"."@example.org', "example.org/%2E"),
        ('""@example.org', "example.org/%"),
        ('"../../etc/passwd"@example.org', "example.org/%2E.%2F..%2Fetc%2Fpasswd"),
        ("a/b@example.org", "example.org/a%2Fb"),
        ("-rf@example.org", "example.org/%2Drf"),
        ('"a b"@example.org', "example.org/a%20b"),
        ("a%2Fb@example.org", "example.org/a%252fb"),
        ("jane@[127.0.0.1]", "%5B127.0.0.1%5D/jane"),
        ("jane@bücher.example", "xn--bcher-kva.example/jane"),
        ("jane@BÜCHER.example", "xn--bcher-kva.example/jane"),
        ("jane@xn--bcher-kva.example", "xn--bcher-kva.example/jane"),
        ("jane@fußball.example", "xn--fuball-cta.example/jane"),  # IDNA 2008; fussball.example is somebody else
        ("jane@fussball.example", "fussball.example/jane"),
        ("Ü@example.org", "example.org/%C3%BC"),
        ("U\u0308@example.org", "example.org/%C3%BC"),
    ],
)
def test_paths(mailbox: str, path: str) -> None:
    assert expand(TEMPLATE, ehlo.Address(mailbox)) == f"/mail/{path}"


def test_case_may_count() -> None:
    assert expand("{local_part}", ehlo.Address("Jane@example.org"), fold_case=False) == "Jane"


def test_long_names_differ() -> None:
    one, two = (expand("{local_part}", ehlo.Address("ü" * 31 + end + "@example.org")) for end in ("a", "b"))
    assert one != two
    assert len(one) < 180
    assert re.fullmatch(r"(%C3%BC)+.{0,5}%-[0-9a-f]{64}", one)


def test_postmaster_has_no_domain() -> None:
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", decisions=["rcpt"]))
    conn.receive_data(b"EHLO c.example\r\nMAIL FROM:<a@b>\r\nRCPT TO:<PostMaster>\r\n")
    event = conn.next_event()
    assert isinstance(event, ehlo.Rcpt)
    path = event.recipient.path
    assert isinstance(path, ehlo.Postmaster)
    assert expand(TEMPLATE, path, domain="mx.example") == "/mail/mx.example/postmaster"
    assert expand("/mail/{local_part}", path) == "/mail/postmaster"
    with pytest.raises(ehlo.LocalProtocolError, match="no domain"):
        expand(TEMPLATE, path)


@pytest.mark.parametrize("template", ["{user}", "{}", "{local_part.__class__}", "{local_part!r}"])
def test_other_names_are_refused(template: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="template"):
        expand(template, ehlo.Address("a@b"))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_two_stay_in_their_place_and_apart(one: str, two: str) -> None:
    paths = []
    for local in (one, two):
        quoted = local.replace("\\", "\\\\").replace('"', '\\"')
        try:
            address = ehlo.Address(f'"{quoted}"@example.org')
        except ehlo.LocalProtocolError:
            return
        path = expand(TEMPLATE, address, fold_case=False)
        head, name = os.path.split(path)
        assert head == "/mail/example.org"
        assert os.path.normpath(path) == path
        assert name.isascii()
        assert "\0" not in name
        assert 0 < len(name) <= 180
        paths.append((address.local_part, path))
    same = paths[0][0] == paths[1][0]
    assert same <= (paths[0][1] == paths[1][1])
    if all(local.isascii() for local, _ in paths):
        assert same == (paths[0][1] == paths[1][1])
