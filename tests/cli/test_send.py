"""The command ``ehlo send``, run as users run it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ehlo
from ehlo.testing import SMTPServer
from programs import free_port

MAIL = b"Subject: hi\r\n\r\nhello\r\n"
ENVELOPE = ("--from", "a@b.example", "--to", "c@d.example")


def send(*arguments: object, stdin: bytes = MAIL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ehlo", "send", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


class Picky(ehlo.Handler):
    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return "550 5.1.1 no such user" if "nobody" in str(recipient.path) else None


@contextmanager
def served(lmtp: bool = False, config: ehlo.ServerConfig | None = None) -> Iterator[SMTPServer]:
    with SMTPServer(Picky(), config=config or ehlo.ServerConfig("mx.example", lmtp=lmtp)) as server:
        yield server


def where(server: SMTPServer) -> tuple[str, str]:
    return ("--server", f"{server.host}:{server.port}")


def test_all_accepted() -> None:
    with served() as server:
        done = send(*where(server), *ENVELOPE, "--to", "e@f.example")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "<c@d.example> accepted: 250 2.0.0 OK",
            "<e@f.example> accepted: 250 2.0.0 OK",
        ]
        assert [message.content for message in server.messages] == [MAIL]


def test_some_refused_and_none_accepted() -> None:
    with served() as server:
        done = send(*where(server), *ENVELOPE, "--to", "nobody@d.example")
        assert (done.returncode, done.stderr) == (1, "")
        assert "<nobody@d.example> refused: 550 5.1.1 no such user" in done.stdout
        done = send(*where(server), "--from", "", "--to", "nobody@d.example")
        assert (done.returncode, done.stderr) == (3, "")
        assert done.stdout == "<nobody@d.example> refused: 550 5.1.1 no such user\n"


def test_the_dialogue(tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(MAIL)
    with served(lmtp=True) as server:
        options = ("--lmtp", "-v", "--file", tmp_path / "mail", "--hostname", "c.example", "--chunking", "never")
        done = send(*where(server), *ENVELOPE, *options)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[0].startswith("S: 220 ")
    assert lines[1] == "C: LHLO c.example"
    assert "C: DATA" in lines
    assert lines[-2] == "C: QUIT"
    assert "hello" not in done.stderr


def test_many_over_several_connections() -> None:
    with served() as server:
        done = send(*where(server), *ENVELOPE, "--to", "nobody@d.example", "--count", 100, "--connections", 4)
        assert done.returncode == 1
        *refused, last = done.stdout.splitlines()
        assert refused == ["<nobody@d.example> refused: 550 5.1.1 no such user"] * 100
        assert re.fullmatch(r"ehlo send: 100 of 100 messages in [0-9.]+ s: 100 recipients accepted, 100 refused", last)
        assert len(server.messages) == 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--from, --to"),
        (("--from", "a@b"), "--to"),
        (ENVELOPE, "--server HOST:PORT"),
        ((*ENVELOPE, "--server", "h:0"), "mx.example:25"),
        ((*ENVELOPE, "--server", "2001:db8::1"), r"\[2001:db8::1\]:25"),
        ((*ENVELOPE, "--server", "h:25", "--unix", "/p"), "--unix"),
        (("--from", "no mailbox", "--to", "a@b", "--server", "h"), "--from 'no mailbox' is no mailbox"),
        ((*ENVELOPE, "--server", "h", "--file", "/nonexistent"), "--file /nonexistent: No such file"),
        ((*ENVELOPE, "--server", "h", "--hostname", "no name"), "--hostname 'no name'"),
        ((*ENVELOPE, "--server", "h", "--count", "0"), "a count"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = send(*arguments)
    assert done.returncode == 2
    assert re.search(words, done.stderr)
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_reached_is_one_line_that_says_how_to_mend_it() -> None:
    port = free_port()
    done = send("--server", f"127.0.0.1:{port}", *ENVELOPE)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "nothing listens there: check --server" in done.stderr
    done = send("--unix", "/nonexistent/socket", *ENVELOPE)
    assert done.returncode == 3
    assert "No such file" in done.stderr


def test_silence_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = send("--server", f"127.0.0.1:{silent.getsockname()[1]}", *ENVELOPE, "--timeout", "0.1")
    assert done.returncode == 3
    assert "did not answer in time" in done.stderr
    assert "or give a longer --timeout" in done.stderr


def test_what_the_server_may_have_is_said() -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 x\r\n")
            stream.readline()
            stream.write(b"250 x\r\n")
            for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                stream.readline()
                stream.write(reply)
            while stream.readline() != b".\r\n":
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        done = send("--server", f"127.0.0.1:{listener.getsockname()[1]}", *ENVELOPE)
        thread.join()
    assert done.returncode == 3
    assert "the server may have the message" in done.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals")
@pytest.mark.parametrize("rich", [False, True], ids=["lines", "rich"])
def test_progress_on_a_terminal(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if rich:
        pytest.importorskip("rich")
    from ehlo.cli import _send

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_send, "_QUIET", 0.0)
    if not rich:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with _send._Progress(3) as progress:
            for _ in range(3):
                progress.step()
    written = ""
    with contextlib.suppress(OSError):  # so a terminal ends on Linux
        while part := os.read(ours, 65536):
            written += part.decode(errors="replace")
    os.close(ours)
    assert "2 of 3" in written if not rich else "3/3" in written
