"""Envelopes to deliver, and mailboxes read back with the standard library."""

from __future__ import annotations

import mailbox
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ehlo

NOW = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)
MESSAGE = b"Subject: s\r\n\r\nhi\r\n"


def envelope(sender: str = "<a@b>", *recipients: str) -> ehlo.Envelope:
    """What a server makes of this dialogue."""
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", decisions=["message"]))
    rcpt = "".join(f"RCPT TO:{path}\r\n" for path in recipients or ("<r@d.example>",))
    smtputf8 = "" if (sender + rcpt).isascii() else " SMTPUTF8"
    conn.receive_data(f"EHLO c.example\r\nMAIL FROM:{sender}{smtputf8}\r\n{rcpt}DATA\r\nx\r\n.\r\n".encode())
    event: Any = conn.next_event()
    assert isinstance(event, ehlo.Message)
    return event.envelope


def in_maildir(path: Path | str) -> list[bytes]:
    """The files in ``new``."""
    new = os.path.join(path, "new")
    return [Path(new, name).read_bytes() for name in sorted(os.listdir(new))]


def in_mbox(path: Path | str) -> list[bytes]:
    """The messages, as Python's ``mailbox`` finds them."""
    box = mailbox.mbox(os.fspath(path), create=False)
    try:
        return [box.get_bytes(key) for key in box.iterkeys()]
    finally:
        box.close()
