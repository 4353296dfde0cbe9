"""What the page about stores shows, works."""

from __future__ import annotations

from pathlib import Path

from pages import blocks, executed, send

from ehlo.testing import SMTPServer

HANDLER, EXPAND = blocks("store.md")


def test_the_handler(tmp_path: Path) -> None:
    handler = executed(HANDLER)["Inbox"](str(tmp_path / "box"))

    with SMTPServer(handler) as server:
        assert send(server.port, "c@d.example") == {}
    (file,) = (tmp_path / "box" / "new").iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <a@example.net>\nReceived: from client.example by ")
    assert b"\nDelivered-To: c@d.example\nSubject: hi\n\nhello\n" in file.read_bytes()


def test_expand() -> None:
    code, _, comment = EXPAND.partition("  # ")
    assert eval(code, executed("import ehlo.store")) == comment.strip()
