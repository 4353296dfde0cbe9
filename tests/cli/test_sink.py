"""The command ``ehlo sink``, run as users run it."""

from __future__ import annotations

import importlib.util
import mailbox
import pathlib
import re
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ehlo.cli._receive import printable
from ehlo.cli._run import LOOPS
from programs import ehlo_command

LISTENING = re.compile(r"ehlo sink: listening on (?:(?P<host>[0-9.]+):(?P<port>\d+)|(?P<path>/\S+)) \(")


class Sink:
    def __init__(self, process: subprocess.Popen[str], first: str) -> None:
        self.process = process
        match = LISTENING.match(first)
        assert match is not None, first + (process.stderr.read() if process.stderr else "")
        self.first = first
        self.port = int(match["port"] or 0)

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=20)

    def stop(self, number: int = signal.SIGTERM) -> tuple[list[str], str]:
        """The lines between the first and the end, and what was said on standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return out.splitlines(), err


@contextmanager
def sink(*arguments: str) -> Iterator[Sink]:
    with ehlo_command("sink", "--port", "0", "--hostname", "mx.example", *arguments) as process:
        assert process.stdout is not None
        yield Sink(process, process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_discard_says_one_line_a_message_and_the_totals(number: int) -> None:
    with sink() as server:
        with server.smtp() as client:
            client.sendmail("a@b.example", ["c@d.example", '"x y"@d.example'], b"Subject: x\r\n\r\nhello\r\n")
            client.sendmail("", ["c@d.example"], b"x\r\n")
        lines, err = server.stop(number)
        assert server.process.returncode == 0
    assert err == ""
    assert len(lines) == 3
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d \[127\.0\.0\.1\]:\d+ <a@b\.example> -> "
        r'<c@d\.example>,<"x\\x20y"@d\.example> 21',
        lines[0],
    )
    assert " <> -> <c@d.example> 3" in lines[1]
    assert re.fullmatch(r"ehlo sink: received 2 messages, \d+ octets, 1 connection, 0 cut", lines[2])


@pytest.mark.parametrize("loop", LOOPS)
def test_quiet_discard(loop: str) -> None:
    if importlib.util.find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")
    with sink("--quiet", "--discard", "--loop", loop) as server:
        with server.smtp() as client:
            for _ in range(10):
                client.sendmail("a@b.example", ["c@d.example"], b"x" * 50 + b"\r\n")
        lines, err = server.stop()
    assert err == ""
    assert len(lines) == 1
    assert lines[0].startswith("ehlo sink: received 10 messages, ")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_maildir(tmp_path: pathlib.Path, loop: str) -> None:
    # B-TRC-01, B-TRC-02, B-TRC-12, RFC 5321 4.4
    content = b"Received: from p by q; date\r\nSubject: s\r\n\r\n.dot\r\nFrom me\r\n"
    with sink("--maildir", str(tmp_path / "box"), "--loop", loop) as server:
        with server.smtp() as client:
            client.sendmail("a@b.example", ["c@d.example"], content)
        server.stop()
    (path,) = (tmp_path / "box" / "new").iterdir()
    octets = path.read_bytes()
    assert octets.startswith(b"Return-Path: <a@b.example>\nReceived: from client.example ([127.0.0.1])")
    assert octets.endswith(b"\n" + content.replace(b"\r\n", b"\n"))
    header = octets.split(b"\n\n")[0].replace(b"\n ", b" ")
    assert re.search(rb" by mx\.example with ESMTP id [0-9a-f]+ for <c@d\.example>; \w{3}, ", header)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_mbox_in_two_processes(tmp_path: pathlib.Path, loop: str) -> None:
    # B-TRC-16, RFC 4155 App. A
    with sink("--mbox", str(tmp_path / "box"), "--workers", "2", "--loop", loop) as server:
        assert "2 workers" in server.first
        for _ in range(8):
            with server.smtp() as client:
                client.sendmail("", ["c@d.example"], b"Subject: s\r\n\r\nFrom x\r\n")
        lines, err = server.stop()
        assert server.process.returncode == 0
    assert err == ""
    assert lines[-1].startswith("ehlo sink: received 8 messages, ")
    assert len(lines) == 9
    octets = (tmp_path / "box").read_bytes()
    assert octets.startswith(b"From MAILER-DAEMON ")
    assert octets.count(b"\n>From x\n") == 8
    box = mailbox.mbox(tmp_path / "box")
    assert len(box) == 8
    box.close()


def test_loops_are_refused(tmp_path: pathlib.Path) -> None:
    # B-TRC-14, RFC 5321 6.3: 99 pass, 100 get 554
    with sink("--maildir", str(tmp_path / "box")) as server:
        with server.smtp() as client:
            client.sendmail("a@b.example", ["c@d.example"], b"Received: x\r\n" * 99 + b"\r\nbody\r\n")
            with pytest.raises(smtplib.SMTPDataError) as caught:
                client.sendmail("a@b.example", ["c@d.example"], b"Received: x\r\n" * 100 + b"\r\nbody\r\n")
            assert caught.value.smtp_code == 554
            assert "5.4.6" in str(caught.value.smtp_error)
        lines, _ = server.stop()
    assert lines[1].endswith(
        " <a@b.example> -> <c@d.example> refused: 554 5.4.6 Routing loop: too many Received fields"
    )
    assert "received 1 message, " in lines[2]
    assert ", 1 message refused with 554" in lines[2]
    assert len(list((tmp_path / "box" / "new").iterdir())) == 1


BARE, LARGE = b"a\nb\r\n", b"x" * 998 + b"\r\n" + b"y\r\n"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_refused_messages_are_told_and_counted(loop: str, workers: str) -> None:
    said = []
    with sink("--loop", loop, "--workers", workers, "--max-size", "1000") as server:
        for content in (BARE, LARGE, BARE, b"fine\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), 20) as sock, sock.makefile("rb") as file:
                sock.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + content + b".\r\nQUIT\r\n")
                said.append(file.read().splitlines()[-2].decode())
        with socket.create_connection(("127.0.0.1", server.port), 20) as sock, sock.makefile("rb") as file:
            sock.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nbroken off")
            sock.shutdown(socket.SHUT_WR)
            file.read()
        lines, err = server.stop()
    assert err == ""
    assert [reply[:3] for reply in said] == ["550", "552", "550", "250"]
    # What the client was told stands in the line. One that went away within its content is a cut, and no refusal.
    told = sorted(line.partition(" <a@b> -> <c@d> ")[2] for line in lines[:-1])
    assert told == sorted(["6", *(f"refused: {reply}" for reply in said[:3])])
    assert re.search(r"received 1 message, .*, 2 messages refused with 550, 1 message refused with 552", lines[-1])


def test_lmtp_on_a_unix_socket(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    with sink("--lmtp", "--unix", str(path), "--maildir", str(tmp_path / "box")) as server:
        assert str(path) in server.first
        with smtplib.LMTP(str(path)) as client:
            client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")
        lines, _ = server.stop()
    assert " unix <a@b.example> -> <c@d.example> 3" in lines[0]
    (file,) = (tmp_path / "box" / "new").iterdir()
    assert b" with LMTP " in file.read_bytes().replace(b"\n", b"")


def test_the_dialogue() -> None:
    with sink("--max-size", "1000", "--quiet") as server:
        with server.smtp() as client:
            assert client.ehlo()[0] == 250
            assert client.esmtp_features["size"] == "1000"
            assert client.docmd("MAIL From:<a@b> SIZE=57")[1].startswith(b"2.1.0")
            assert client.docmd("RSET")[0] == 250
            assert client.docmd("MAIL FROM:<a@b> SIZE=1001")[0] == 552
        server.stop()


def test_bare_newlines_option() -> None:
    message = b"a\nb\r\n"
    for policy, code in (("reject", b"550"), ("allow", b"250")):
        with sink("--bare-newlines", policy, "--quiet") as server:
            with socket.create_connection(("127.0.0.1", server.port), 20) as sock, sock.makefile("rb") as file:
                sock.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + message + b".\r\nQUIT\r\n")
                assert file.read().splitlines()[-2].startswith(code)
            server.stop()


def test_c5_lenient_and_options() -> None:
    with sink("--lenient", "--option", "unknown_parameters=ignore", "--option", "max_local_part=70") as server:
        with server.smtp() as client:
            client.ehlo()
            assert client.docmd("MAIL FROM: <a@b.example> NONSENSE=1")[0] == 250
            assert client.docmd(f"RCPT TO: {'x' * 70}@d.example")[0] == 250
        server.stop()
    with sink("--lenient", "space_after_colon") as server:
        with server.smtp() as client:
            client.ehlo()
            assert client.docmd("MAIL FROM: <a@b.example>")[0] == 250
            assert client.docmd("RCPT TO:c@d.example")[0] == 501
        server.stop()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_open_transactions_are_cut_at_the_deadline(loop: str) -> None:
    with sink("--deadline", "0", "--loop", loop) as server:
        client = server.smtp()
        client.ehlo()
        client.mail("a@b.example")
        lines, _ = server.stop()
        client.close()
    assert lines[-1].endswith("1 connection, 1 cut")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_second_signal_cuts_at_once(loop: str) -> None:
    with sink("--deadline", "3600", "--loop", loop) as server:
        client, idle = server.smtp(), server.smtp()
        client.ehlo()
        client.mail("a@b.example")
        server.process.send_signal(signal.SIGTERM)
        assert idle.getreply()[0] == 421  # the first was heard
        lines, _ = server.stop()
        client.close()
        idle.close()
    assert lines[-1].endswith("2 connections, 1 cut")


def test_port_taken(usage: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for loop in ("asyncio", "trio"):
            said = usage("sink", "--port", port, "--loop", loop)
            assert f"port {port} on 127.0.0.1 is taken; choose another with --port" in said
        assert "is taken" in usage("sink", "--port", port, "--workers", "2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--lmtp", "--port", "25"), "must not be served on port 25"),  # B-LMT-10
        (("--port", "70000"), "a port is a whole number from 0 to 65535"),
        (("--port", "x"), "a port is a whole number"),
        (("--workers", "0"), "a count is a whole number"),
        (("--max-size", "-1"), "a size in octets"),
        (("--timeout", "soon"), "seconds are a number"),
        (("--timeout", "0"), "command_timeout: expected seconds above 0"),
        (("--unix", "/tmp/x", "--workers", "2"), "cannot share a Unix socket"),
        (("--host", "192.0.2.1", "--port", "0"), "no address of this machine"),
        (("--unix", "/nonexistent/dir/socket"), "choose another path"),
        (("--maildir", "/dev/null"), "name a place that can be written to"),
        (("--mbox", "/nonexistent/box"), "name a place that can be written to"),
        (("--hostname", "a b"), "is no domain name"),
        (("--maildir", "x", "--discard"), "not allowed with"),
        (("--bare-newlines", "maybe"), "invalid choice"),
        (("--lenient", "bare_path"), "--lenient does not fit"),
        (("--option", "lenint=1"), "--option lenint=1 is no option of the engine: did you mean lenient?"),
        (("--option", "max_errors=x"), "--option max_errors=x does not fit"),
        (("--nonsense",), "unrecognized arguments"),
    ],
)
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...], says: str) -> None:
    assert says in usage("sink", *arguments)


@pytest.mark.parametrize("loop", ["uvloop", "trio"])
def test_a_loop_is_missing(usage: Callable[..., str], monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    monkeypatch.setitem(sys.modules, loop, None)
    assert f"pip install {loop}" in usage("sink", "--loop", loop)


def test_no_command(usage: Callable[..., str]) -> None:
    usage()


def test_printable() -> None:
    assert printable("a b\\\r\n\x1b[31m\u202eü") == r"a\x20b\\\r\n\x1b[31m\u202eü"


def test_output_that_nobody_reads_does_not_refuse_mail() -> None:
    with sink() as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        with server.smtp() as client:
            assert client.sendmail("a@b.example", ["c@d.example"], b"x\r\n") == {}
            assert client.sendmail("a@b.example", ["c@d.example"], b"x\r\n") == {}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        server.process.stdout = None
