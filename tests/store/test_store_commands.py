"""The stores as ``ehlo sink`` and ``ehlo serve`` use them: FAULTS A7, A9, A11 to A15, D17."""

from __future__ import annotations

import contextlib
import mailbox
import os
import pathlib
import re
import smtplib
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from typing import IO

import pytest

import ehlo
import ehlo.cli
import ehlo.store
from ehlo.cli._receive import StoreHandler
from ehlo.testing import SMTPServer
from programs import AS_ROOT, ehlo_command, free_port

MESSAGE = b"Subject: x\r\n\r\nhi\r\n"


class Running:
    """A command that listens; its lines go to ``stdout``, or are read here."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def send(self, *recipients: str, content: bytes = MESSAGE) -> int:
        """The code of the reply to one message."""
        with smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=60) as smtp:
            smtp.ehlo()
            smtp.mail("a@b.example")
            for recipient in recipients or ("r@d.example",):
                smtp.rcpt(recipient)
            return smtp.data(content)[0]


@contextmanager
def running(
    *arguments: str,
    command: str = "sink",
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Running]:
    port = free_port()
    listen = ("--port", str(port)) if command == "sink" else (*AS_ROOT, "--smtp", str(port))
    how = {"stdout": stdout or subprocess.PIPE, "stderr": stderr or subprocess.PIPE}
    options = (*listen, "--hostname", "mx.example", *arguments)
    with ehlo_command(command, *options, env={**os.environ, **(env or {})}, **how) as process:
        if stdout is None:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ehlo"), process.stderr and process.stderr.read()
        else:  # nothing says when it is ready
            for _ in range(600):
                with contextlib.suppress(ConnectionRefusedError):
                    smtplib.SMTP("127.0.0.1", port, timeout=60).close()
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"it ended with status {process.wait(0.1)}")
        yield Running(process, port)


def read_mbox(path: pathlib.Path) -> list[mailbox.mboxMessage]:
    box = mailbox.mbox(path, create=False)
    try:
        return list(box)
    finally:
        box.close()


def test_who_the_recipients_were(tmp_path: pathlib.Path) -> None:
    # FAULTS A9
    with running("--mbox", str(tmp_path / "box")) as server:
        assert server.send("one@d.example", "two@d.example") == 250
    (message,) = read_mbox(tmp_path / "box")
    assert message.get_all("Delivered-To") == ["one@d.example", "two@d.example"]
    assert message.keys()[:4] == ["Return-Path", "Received", "Delivered-To", "Delivered-To"]
    with running("--maildir", str(tmp_path / "dir")) as server:
        assert server.send("one@d.example", "two@d.example") == 250
    (file,) = (tmp_path / "dir" / "new").iterdir()
    assert message_from_bytes(file.read_bytes()).get_all("Delivered-To") == ["one@d.example", "two@d.example"]
    with running("--maildir", str(tmp_path / "none"), "--recipient-field", "none") as server:
        assert server.send("one@d.example") == 250
    (file,) = (tmp_path / "none" / "new").iterdir()
    assert b"Delivered-To" not in file.read_bytes()


@pytest.mark.parametrize("command", ["sink", "serve"])
def test_content_that_begins_with_white_space(tmp_path: pathlib.Path, command: str) -> None:
    # FAULTS A7
    with running("--maildir", str(tmp_path / "box"), command=command) as server:
        assert server.send(content=b" for <evil@x>\r\nSubject: x\r\n\r\nhi\r\n") == 250
    (file,) = (tmp_path / "box" / "new").iterdir()
    assert b"\n\n for <evil@x>\nSubject: x\n\nhi\n" in file.read_bytes()


def test_mbox_deleted_and_rotated_while_the_server_runs(tmp_path: pathlib.Path) -> None:
    # FAULTS A11
    box = tmp_path / "box"
    with running("--mbox", str(box)) as server:
        assert server.send() == 250
        box.rename(tmp_path / "old")
        assert server.send() == 250
        assert (len(read_mbox(box)), len(read_mbox(tmp_path / "old"))) == (1, 1)
        box.unlink()
        assert server.send() == 250
        assert len(read_mbox(box)) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["sink", "serve"])
def test_a_log_that_is_full_changes_no_reply(tmp_path: pathlib.Path, command: str) -> None:
    # FAULTS A14
    with (
        open("/dev/full", "wb") as full,
        running("--maildir", str(tmp_path / "box"), command=command, stdout=full) as server,
    ):
        assert [server.send() for _ in range(5)] == [250] * 5
    assert len(list((tmp_path / "box" / "new").iterdir())) == 5


def test_a_charset_that_is_too_narrow_changes_no_reply(tmp_path: pathlib.Path) -> None:
    # FAULTS A14
    with running("--maildir", str(tmp_path / "box"), env={"PYTHONIOENCODING": "ascii"}) as server:
        with smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=60) as smtp:
            smtp.ehlo()
            assert smtp.sock is not None
            smtp.sock.sendall("MAIL FROM:<é@b.example> SMTPUTF8\r\nRCPT TO:<ü@d.example>\r\nDATA\r\n".encode())
            codes = [smtp.getreply()[0] for _ in range(3)]
            assert codes == [250, 250, 354]
            smtp.sock.sendall(MESSAGE + b".\r\n")
            assert smtp.getreply()[0] == 250
        assert server.process.stdout is not None
        assert "<\\xfc@d.example>" in server.process.stdout.readline()
    assert len(list((tmp_path / "box" / "new").iterdir())) == 1


def test_modes_and_links(tmp_path: pathlib.Path) -> None:
    # FAULTS D17
    box = tmp_path / "box"
    umask = os.umask(0o022)
    try:
        with running("--mbox", str(box)) as server:
            assert server.send() == 250
        with running("--maildir", str(tmp_path / "dir"), "--mode", "660") as server:
            assert server.send() == 250
    finally:
        os.umask(umask)
    assert stat.S_IMODE(box.stat().st_mode) == 0o600
    (file,) = (tmp_path / "dir" / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "dir" / "new").stat().st_mode) == 0o770

    with running("--mbox", str(box)) as server:
        box.rename(tmp_path / "real")
        box.symlink_to(tmp_path / "real")
        assert server.send() == 451
    with running("--mbox", str(box), "--follow-symlink") as server:
        assert server.send() == 250
    assert len(read_mbox(tmp_path / "real")) == 2


def test_a_relay_adds_received_above_odd_content(tmp_path: pathlib.Path) -> None:
    # FAULTS A7
    with (
        running("--maildir", str(tmp_path / "box")) as hop,
        running("--to-smtp", f"127.0.0.1:{hop.port}", "--domain", "d.example", command="serve") as relay,
    ):
        assert relay.send(content=b" for <evil@x>\r\nSubject: x\r\n\r\nhi\r\n") == 250
    (file,) = (tmp_path / "box" / "new").iterdir()
    header, _, text = file.read_bytes().partition(b"\n\n")
    assert text == b" for <evil@x>\nSubject: x\n\nhi\n"
    assert len(re.findall(rb"^Received: ", header, re.MULTILINE)) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_standard_error_that_is_full_changes_no_reply(tmp_path: pathlib.Path) -> None:
    # FAULTS A14: the reply still says what the store said
    with open("/dev/full", "wb") as full, running("--mbox", str(tmp_path / "box"), stderr=full) as server:
        (tmp_path / "box").unlink()
        (tmp_path / "box").symlink_to("elsewhere")
        assert server.send() == 451
        (tmp_path / "box").unlink()
        assert server.send() == 250
    assert len(read_mbox(tmp_path / "box")) == 1


def test_a_report_that_raises_changes_no_reply(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    # FAULTS A14: whatever it raises
    def report(line: str) -> None:
        raise RuntimeError(line)

    class Keeper(StoreHandler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Result:
            return self.take(session, envelope, content)

    handler = Keeper("test", ehlo.store.Maildir(tmp_path / "box"), report)
    with SMTPServer(handler=handler) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
        assert smtp.sendmail("a@b.example", ["r@d.example"], MESSAGE) == {}
    assert "could not be written" in caplog.text
    assert len(list((tmp_path / "box" / "new").iterdir())) == 1


def test_settings_of_serve(tmp_path: pathlib.Path) -> None:
    # FAULTS A9, D17
    file = tmp_path / "serve.toml"
    file.write_text(
        '[[route]]\nto = "maildir:box"\nmode = "660"\nrecipient_field = "X-Original-To"\nfollow_symlink = true\n'
    )
    (tmp_path / "real").mkdir()
    (tmp_path / "box").symlink_to("real")
    with running(str(file), command="serve") as server:
        assert server.send("one@d.example") == 250
    (path,) = (tmp_path / "real" / "new").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert b"\nX-Original-To: one@d.example\n" in path.read_bytes()
    file.write_text('[[route]]\nto = "maildir:box"\n[[listener]]\nport = 0\n')
    check = [sys.executable, "-m", "ehlo", "serve", str(file), "--check", *AS_ROOT]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "symbolic link" in done.stdout


@pytest.mark.parametrize(
    ("option", "path", "reason"),
    [
        ("--maildir", "/proc/nope", "No such file"),
        ("--maildir", "/dev/null", "Not a directory"),
        ("--mbox", "/proc/nope", "No such file"),
        ("--mbox", "/dev/null", "no regular file"),
        ("--mbox", "/proc", "Is a directory"),
        ("--maildir", "missing/box", "No such file"),
        ("--mbox", "missing/box", "No such file"),
    ],
)
def test_check_looks(
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    option: str,
    path: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # FAULTS D15
    monkeypatch.chdir(tmp_path)
    assert ehlo.cli.main(["serve", *AS_ROOT, "--smtp", "0", "--check", option, path]) == 1
    assert f"cannot be written to ({reason}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--maildir", "--mbox"])
def test_check_leaves_nothing(tmp_path: pathlib.Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # FAULTS D15
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        before = sorted(str(path) for path in tmp_path.rglob("*"))
        assert ehlo.cli.main(["serve", *AS_ROOT, "--smtp", "0", "--check", option, "box"]) == 0
        assert sorted(str(path) for path in tmp_path.rglob("*")) == before
        ehlo.store.Maildir("box") if option == "--maildir" else ehlo.store.Mbox("box")
