"""What the page about stores shows, works."""

from __future__ import annotations

import asyncio
import re
import smtplib
from pathlib import Path

import ehlo
import ehlo.asyncio

PAGE = (Path(__file__).resolve().parents[2] / "docs/store.md").read_text(encoding="utf-8")
HANDLER, EXPAND = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_handler(tmp_path: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec(HANDLER, names)
    handler = names["Inbox"](str(tmp_path / "box"))  # type: ignore[operator]

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=30) as client:
            client.sendmail("a@b.example", ["c@d.example"], b"Subject: hi\r\n\r\nhello\r\n")

    async def main() -> None:
        async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0) as server:
            await asyncio.to_thread(send, server.port)

    asyncio.run(main())
    (file,) = (tmp_path / "box" / "new").iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <a@b.example>\nReceived: from client.example by ")
    assert b"\nDelivered-To: c@d.example\nSubject: hi\n\nhello\n" in file.read_bytes()


def test_expand() -> None:
    code, _, comment = EXPAND.partition("  # ")
    assert eval(code) == comment.strip()
