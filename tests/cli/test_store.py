"""Maildir and mbox: RULES B-TRC-01, 12, 16 (RFC 5321 4.4, RFC 4155 App. A)."""

from __future__ import annotations

import mailbox
import pathlib
from datetime import UTC, datetime
from typing import Any

import pytest

import ehlo
from ehlo.cli._store import MaildirStore, MboxStore, trace_of

NOW = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)
CONTENT = b"Received: from x by y; date\r\nSubject: s\r\n\r\nFrom here\r\n>From there\r\n\xff\x00 8bit\r\n.\r\nend"


def envelope(sender: bytes = b"<a@b>", recipients: int = 1) -> tuple[ehlo.Session, ehlo.Envelope]:
    config = ehlo.ServerConfig("mx.example", decisions=["message"])
    conn = ehlo.ServerConnection(config)
    rcpt = b"".join(b"RCPT TO:<r%d@d.example>\r\n" % n for n in range(recipients))
    conn.receive_data(b"EHLO client.example\r\nMAIL FROM:" + sender + b"\r\n" + rcpt + b"DATA\r\nx\r\n.\r\n")
    event: Any = conn.next_event()
    assert isinstance(event, ehlo.Message)
    return ehlo.Session(conn, "mx.example", ("192.0.2.1", 1234)), event.envelope


def test_trace_of() -> None:
    # B-TRC-12: Return-Path on the very top, then our Received (B-TRC-01)
    session, env = envelope()
    trace = trace_of(session, env, NOW)
    assert trace.startswith(b"Return-Path: <a@b>\r\nReceived: from client.example ([192.0.2.1])")
    assert b" with ESMTP " in trace.replace(b"\r\n", b"")
    assert b"<r0@d.example>" in trace
    session, env = envelope(b"<>", 2)
    trace = trace_of(session, env, NOW)
    assert trace.startswith(b"Return-Path: <>\r\n")
    assert b"d.example>" not in trace


def test_maildir(tmp_path: pathlib.Path) -> None:
    # B-TRC-01, B-TRC-12, RFC 5321 4.4: the rest is unchanged but for the line ends of files
    session, env = envelope()
    store = MaildirStore(tmp_path / "box")
    trace = trace_of(session, env, NOW)
    store.deliver(env, CONTENT, trace, NOW)
    store.deliver(env, CONTENT, trace, NOW)
    store.close()
    files = list((tmp_path / "box" / "new").iterdir())
    assert len(files) == 2
    octets = files[0].read_bytes()
    assert octets.startswith(b"Return-Path: <a@b>\nReceived: from client.example")
    assert octets == (trace + CONTENT).replace(b"\r\n", b"\n")
    assert not list((tmp_path / "box" / "tmp").iterdir())


@pytest.mark.parametrize(
    ("sender", "separator"),
    [(b"<a@b>", b"From a@b "), (b"<>", b"From MAILER-DAEMON "), (b'<"a b"@c>', b'From "a_b"@c ')],
)
def test_mbox(tmp_path: pathlib.Path, sender: bytes, separator: bytes) -> None:
    # B-TRC-16, RFC 4155 App. A
    session, env = envelope(sender)
    store = MboxStore(tmp_path / "box")
    trace = trace_of(session, env, NOW)
    store.deliver(env, CONTENT, trace, NOW)
    store.deliver(env, b"Subject: two\r\n\r\nlast\r\n", trace, NOW)
    octets = (tmp_path / "box").read_bytes()  # on the disk before close
    store.close()
    first = octets.split(b"\n", 1)[0]
    assert first.startswith(separator)
    assert first.endswith(b" Tue Nov 24 03:00:00 2026")
    assert b"\n>From here\n>>From there\n" in octets
    assert len([line for line in octets.split(b"\n") if line.startswith(b"From ")]) == 2
    box = mailbox.mbox(tmp_path / "box")
    assert len(box) == 2
    first_message, second_message = box
    assert first_message["Return-Path"] == sender.decode()
    assert second_message["Subject"] == "two"
    box.close()


def test_mbox_is_appended_to(tmp_path: pathlib.Path) -> None:
    session, env = envelope()
    for _ in range(2):
        store = MboxStore(tmp_path / "box")
        store.deliver(env, b"Subject: s\r\n\r\nno line end", trace_of(session, env, NOW), NOW)
        store.close()
    box = mailbox.mbox(tmp_path / "box")
    assert len(box) == 2
    box.close()


def test_places_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        MboxStore(tmp_path / "missing" / "box")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"(exists|Not a directory)"):
        MaildirStore(tmp_path / "file")
