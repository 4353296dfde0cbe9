"""Whole programs that are moved to our shapes: the lines that change, and the same outcomes."""

from __future__ import annotations

import difflib
import email
import email.policy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ehlo
from ehlo.testing import SMTPServer

PROGRAMS = Path(__file__).parent / "programs"


class Site(ehlo.Handler):
    """Knows one user, and nobody by the name of nobody."""

    auth_mechanisms = ("PLAIN", "LOGIN")

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> ehlo.Identity | None:
        good = isinstance(credentials, ehlo.PasswordCredentials) and credentials.password == "secret"
        return ehlo.Identity("jane") if good else None

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> ehlo.Reply | None:
        return ehlo.Reply(550, "5.1.1", "no such user") if "nobody" in str(recipient.path) else None


def outcome(source: str, folder: Path) -> tuple[str, list[Any]]:
    """What a program prints, and what the server got."""
    program = folder / "program.py"
    program.write_text(source)
    # aiosmtplib sends the messages of one connection in turn: their order is that of the program.
    config = ehlo.ServerConfig("mx.example", auth=["PLAIN", "LOGIN"], auth_in_clear=["PLAIN", "LOGIN"])
    with SMTPServer(Site(), config=config) as server:
        command = [sys.executable, str(program), str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout, [(one.sender, one.recipients, plain(one.content)) for one in server.messages]


def plain(content: bytes) -> Any:
    """A message without what is new each time."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    fields = [(name, value) for name, value in message.items() if name not in ("Date", "Message-ID", "Content-Type")]
    body = re.sub(rb"=+\d+==", b"", content.partition(b"\r\n\r\n")[2])
    return fields, body


@pytest.mark.parametrize(
    ("program", "module", "before", "after"),
    [
        (
            "django_site.py",
            "django",
            '    EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",',
            '    EMAIL_BACKEND="ehlo.contrib.django.EmailBackend",',
        ),
        ("aiosmtplib_sender.py", "aiosmtplib", "import aiosmtplib\n", "from ehlo.compat import aiosmtplib\n"),
    ],
)
def test_a_program_is_moved_by_one_line(program: str, module: str, before: str, after: str, tmp_path: Path) -> None:
    pytest.importorskip(module)
    source = (PROGRAMS / program).read_text()
    moved = source.replace(before, after)
    changed = [line for line in difflib.ndiff(source.splitlines(), moved.splitlines()) if line[0] == "+"]
    assert changed == [f"+ {after.strip()}" if after.endswith("\n") else f"+ {after}"]
    printed, messages = outcome(source, tmp_path)
    assert messages
    assert outcome(moved, tmp_path) == (printed, messages)
