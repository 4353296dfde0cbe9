"""What messages look like in a Maildir and in an mbox: RULES B-TRC-01, 12, 16 (RFC 5321 4.4, RFC 4155 App. A)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from boxes import MESSAGE, NOW, envelope, in_maildir, in_mbox
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo.store import Maildir, Mbox
from ehlo.store._content import FileContent, MboxContent

FIELD = b"Received: from c.example by mx.example;\r\n Tue, 24 Nov 2026 03:00:00 +0000\r\n"
CONTENT = b"Received: from x by y; date\r\nSubject: s\r\n\r\nFrom here\r\n>From there\r\n\xff\x00 8bit\r\n.\r\nend"

# A7: what may stand at the top of content, and odd content besides
ODD = {
    "no header": b"hello there\r\nhow are you\r\n",
    "header only": b"Subject: s\r\n",
    "nothing": b"",
    "white space": b" for <x@y>\r\nSubject: s\r\n\r\nhi\r\n",
    "byte order mark": b"\xef\xbb\xbfSubject: s\r\n\r\nhi\r\n",
    "NUL": b"Subject: s\r\n\r\na\x00b\r\n",
    "bare CR": b"Subject: s\r\n\r\na\rb\r\r\n\r",
    "bare LF": b"Subject: s\n\na\nb",
    "long line": b"Subject: s\r\n\r\n" + b"x" * 2000 + b"\r\n",
    "long field": b"Subject: " + b"x" * 2000 + b"\r\n\r\n",
    "8-bit": "Subject: ü\r\n\r\n€\r\n".encode() + b"\xff\xfe\r\n",
    "From lines": b"Subject: s\r\n\r\nFrom a\r\n>From b\r\n>>From c\r\nFrom\r\n From d\r\n>>>\r\n\r\nFrom e",
    "many >": b"Subject: s\r\n\r\n" + b">" * 100_000 + b"From x\r\n",
    "dots": b"Subject: s\r\n\r\n.\r\n..\r\n",
}


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def test_maildir(tmp_path: pathlib.Path) -> None:
    # B-TRC-01, B-TRC-12, RFC 5321 4.4: the rest is unchanged but for the line ends of files
    store = Maildir(tmp_path / "box")
    paths = [store.deliver(envelope(), CONTENT, fields=FIELD, now=NOW) for _ in range(2)]
    store.close()
    assert {str(path) for path in (tmp_path / "box" / "new").iterdir()} == set(paths)
    assert in_maildir(tmp_path / "box") == [(b"Return-Path: <a@b>\r\n" + FIELD + CONTENT).replace(b"\r\n", b"\n")] * 2
    assert not list((tmp_path / "box" / "tmp").iterdir())


@pytest.mark.parametrize(
    ("sender", "separator"),
    [
        ("<a@b>", "From a@b "),
        ("<>", "From MAILER-DAEMON "),
        ('<"a b"@c>', 'From "a_b"@c '),
        ("<é@b.example>", "From é@b.example "),
    ],
)
def test_mbox(tmp_path: pathlib.Path, sender: str, separator: str) -> None:
    # B-TRC-16, RFC 4155 App. A
    store = Mbox(tmp_path / "box")
    store.deliver(envelope(sender), CONTENT, fields=FIELD, now=NOW)
    store.deliver(envelope(sender), b"Subject: two\r\n\r\nlast\r\n", now=NOW)
    octets = (tmp_path / "box").read_bytes()  # on the disk before close
    store.close()
    first = octets.split(b"\n", 1)[0]
    assert first == separator.encode() + b"Tue Nov 24 03:00:00 2026"
    assert b"\n>From here\n>>From there\n" in octets
    assert octets.endswith(b"\nlast\n\n")
    one, two = in_mbox(tmp_path / "box")
    assert one.startswith(f"Return-Path: {sender}\nReceived: ".encode())
    assert b"Subject: two" in two


def test_the_date_is_now_by_default(tmp_path: pathlib.Path) -> None:
    Mbox(tmp_path / "box").deliver(envelope(), MESSAGE)
    assert re.match(rb"From a@b \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n", (tmp_path / "box").read_bytes())


def test_recipients(tmp_path: pathlib.Path) -> None:
    # FAULTS A9: who it was for, once each; Return-Path stays on the very top (B-TRC-12)
    several = envelope(
        "<a@b>", "<one@d.example>", '<"two 2"@d.example>', "<ü@d.example>", "<Postmaster>", "<one@d.example>"
    )
    Maildir(tmp_path / "dir", recipient_field="Delivered-To").deliver(several, MESSAGE, fields=FIELD)
    Mbox(tmp_path / "box", recipient_field="X-Original-To").deliver(several, MESSAGE, fields=FIELD)
    values = ("one@d.example", '"two 2"@d.example', "ü@d.example", "Postmaster")
    for name, (octets,) in (
        ("Delivered-To", in_maildir(tmp_path / "dir")),
        ("X-Original-To", in_mbox(tmp_path / "box")),
    ):
        lines = "".join(f"{name}: {value}\n" for value in values).encode()
        top = (b"Return-Path: <a@b>\r\n" + FIELD).replace(b"\r\n", b"\n")
        assert octets.startswith(top + lines + b"Subject: s\n\n")
    Maildir(tmp_path / "none").deliver(several, MESSAGE)
    assert b"one@d" not in in_maildir(tmp_path / "none")[0]


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_nothing_is_lost(tmp_path: pathlib.Path, content: bytes) -> None:
    # FAULTS A7: each content comes back as it was, below our fields
    top = (b"Return-Path: <a@b>\r\n" + FIELD).replace(b"\r\n", b"\n")
    file = content.replace(b"\r\n", b"\n")
    between = b"" if content[:1] in (b"S", b"") else b"\n"
    Maildir(tmp_path / "dir").deliver(envelope(), content, fields=FIELD)
    assert in_maildir(tmp_path / "dir") == [top + between + file]

    store = Mbox(tmp_path / "box")
    for _ in range(2):
        store.deliver(envelope(), content, fields=FIELD)
    for octets in in_mbox(tmp_path / "box"):
        unquoted = re.sub(rb"^>(>*From )", rb"\1", octets, flags=re.MULTILINE)
        assert unquoted.rstrip(b"\n") == (top + between + file).rstrip(b"\n")


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_pieces(tmp_path: pathlib.Path, content: bytes, size: int) -> None:
    if len(content) > 50_000 and size < 1000:
        content = content[:300] + content[-20:]
    for kind in (Maildir, Mbox):
        store = kind(tmp_path / kind.__name__)
        store.deliver(envelope(), content, fields=FIELD, now=NOW)
        store.deliver(envelope(), cut(content, size), fields=FIELD, now=NOW)
    one, two = in_maildir(tmp_path / "Maildir")
    assert one == two
    one, two = in_mbox(tmp_path / "Mbox")
    assert one.rstrip(b"\n") == two.rstrip(b"\n")


@given(
    st.lists(st.sampled_from([b"From ", b"From", b"F", b">", b"x", b"\r\n", b"\n", b"\r", b"S: s\r\n"]), max_size=30),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_any_cuts_give_the_same_file(words: list[bytes], cuts: list[int]) -> None:
    content = b"".join(words)
    places = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    pieces = [content[a:b] for a, b in pairwise(places)]
    for kind in (FileContent, MboxContent):
        whole, parts = kind(FIELD), kind(FIELD)
        expected = whole.feed(content) + whole.finish()
        assert b"".join([*map(parts.feed, pieces), parts.finish()]) == expected
    file = FileContent(FIELD)
    plain = file.feed(content) + file.finish()
    assert not re.search(rb"^From ", expected, re.MULTILINE)
    ended = plain if plain.endswith(b"\n") else plain + b"\n"
    assert re.sub(rb"^>(>*From )", rb"\1", expected, flags=re.MULTILINE) == ended + b"\n"


def test_fields_are_looked_at(tmp_path: pathlib.Path) -> None:
    for kind in (Maildir, Mbox):
        for name in ("Delivered-To", None):
            store = kind(tmp_path / kind.__name__, recipient_field=name)
            with pytest.raises(ehlo.LocalProtocolError, match="CRLF"):
                store.deliver(envelope(), MESSAGE, fields=b"X: y")
    assert in_maildir(tmp_path / "Maildir") == []
    assert in_mbox(tmp_path / "Mbox") == []
