"""Output that cannot be written, or must not be, and arguments that are not text (FAULTS D5, D6)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ehlo
from ehlo.testing import ScriptedServer, SMTPServer

MAIL = b"Subject: hi\r\n\r\nhello\r\n"
ENVELOPE = ("--from", "a@b.example", "--to", "c@d.example")
COMMAND = [sys.executable, "-m", "ehlo", "send"]


def run(*arguments: str | bytes, environment: dict[str, str] | None = None, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "input": MAIL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "check": False,
    } | options
    command: list[str | bytes] = [*COMMAND, *arguments]
    return subprocess.run(command, timeout=60, env=os.environ | (environment or {}), **settings)


class Rude(ehlo.Handler):
    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> ehlo.Reply | None:
        if "rude" in str(recipient.path):
            return ehlo.Reply(550, "5.1.1", "no\x1b[2Jsuch\x07user")
        return None

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
        return "250 2.0.0 Gr\u00fc\u00dfe"


def test_faults_d5_control_characters_do_not_reach_the_terminal() -> None:

    script = """
        S: 220 mx
        C: EHLO *
        S: 250 mx
        C: MAIL *
        S: 250 ok
        C: RCPT *
        S: 550 no \x1b[2Jsuch\x07 user
        C: QUIT
        S: 221 bye
    """
    with ScriptedServer(script) as server:
        done = run("--server", f"127.0.0.1:{server.port}", *ENVELOPE)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\x07" not in done.stdout + done.stderr
    assert b"\\x1b[2Jsuch\\x07" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_faults_d6_output_that_fails_changes_nothing(stream: str) -> None:
    with SMTPServer() as server, open("/dev/full", "wb", buffering=0) as full:
        streams: dict[str, Any] = {stream: full}
        done = run("--server", f"127.0.0.1:{server.port}", *ENVELOPE, "-v", **streams)
        assert done.returncode == 0, done
        assert [message.content for message in server.messages] == [MAIL]


def test_faults_d6_a_charset_that_is_too_narrow() -> None:
    with SMTPServer(Rude(), config=ehlo.ServerConfig("mx.example")) as server:
        narrow = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
        done = run("--server", f"127.0.0.1:{server.port}", *ENVELOPE, environment=narrow)
        assert done.returncode == 0, done
        assert done.stderr == b""


def test_faults_d6_standard_input_is_closed() -> None:
    script = f"exec 0<&-; exec {' '.join(COMMAND)} --server 127.0.0.1:1 {' '.join(ENVELOPE)}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == "ehlo send: standard input is closed: name a file with --file\n"


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_faults_d6_arguments_that_are_not_utf8(option: str) -> None:
    done = run("--server", "127.0.0.1:1", *ENVELOPE, option, b"j\xfcrgen@b.example")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"its octets are not UTF-8" in done.stderr
