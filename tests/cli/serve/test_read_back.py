"""What happened is read back from the log alone: who sent what to whom, and why the refused were refused.

Also the reader of the log who stands still (FAULTS B9), and the disk of the log that is full (FAULTS A14).
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.testing
from programs import AS_ROOT, ehlo_command

trustme = pytest.importorskip("trustme")

PASSWORD = "pencil, sharp"  # nothing but a test's
MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\nhello\r\n"
WHERE = re.compile(r"at http://([0-9.:]+)/|on 127\.0\.0\.1:(\d+) ")


class Running:
    """A server as a process: its ports, and the address of its figures."""

    def __init__(self, process: subprocess.Popen[str], listeners: int, figures: bool) -> None:
        self.process = process
        self.ports: list[int] = []
        self.figures = ""
        assert process.stdout is not None
        for _ in range(listeners + figures):
            line = process.stdout.readline()
            found = WHERE.search(line)
            assert found is not None, line
            if found[1]:
                self.figures = found[1]
            else:
                self.ports.append(int(found[2]))

    def smtp(self, number: int = 0) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.ports[number], "client.example", timeout=20)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.figures}{path}", timeout=20) as answer:
            read: bytes = answer.read()
        return read.decode()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


@contextmanager
def running(
    folder: Path, text: str, *options: str, listeners: int = 1, figures: bool = False, **how: Any
) -> Iterator[Running]:
    file = folder / "serve.toml"
    file.write_text(text)
    with ehlo_command("serve", *AS_ROOT, *options, file, **how) as process:
        yield Running(process, listeners, figures)


class Hop(ehlo.Handler):
    """The next hop: it knows one of two."""

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return None if str(recipient.path).startswith("good") else "550 5.1.1 no such user"

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
        return "250 2.0.0 kept as 4711"


SITE = """
hostname = "mx.example"
[tls]
certificate = "cert.pem"
key = "key.pem"
[auth]
users = "users"
[queue]
path = "spool"
[[route]]
domains = ["b.example"]
to = "maildir:box"
[[route]]
from = "users"
to = "smtp:127.0.0.1:{hop}"
tls = "off"
[log]
format = "{form}"
file = "mail.log"
[metrics]
listen = "127.0.0.1:0"
[limits]
max_size = 5000
max_errors = 3
auth_delay_seconds = 0
[[listener]]
port = 0
[[listener]]
protocol = "submission"
port = 0
"""


def act(server: Running, client: ssl.SSLContext) -> None:
    """What is to be read back."""
    with server.smtp() as mx:  # a stranger: mail for us, mail for others, too much, and a bare LF
        assert mx.sendmail("s@strange.example", ["jane@b.example"], MESSAGE) == {}
        mx.mail("s@strange.example")
        assert mx.rcpt("victim@far.example")[0] == 550
        mx.rset()
        assert mx.docmd("MAIL", "FROM:<s@strange.example> SIZE=9000")[0] == 552
        mx.mail("s@strange.example")
        mx.rcpt("jane@b.example")
        assert mx.docmd("DATA")[0] == 354
        mx.send(b"Subject: x\r\n\r\nbare\nline\r\n.\r\n")
        assert mx.getreply()[0] == 550
    with suppress(smtplib.SMTPServerDisconnected), server.smtp() as fool:  # somebody who does not speak SMTP
        for _ in range(5):
            fool.docmd("FROB", "secret")
    for name in ("jane", "nobody"):
        with server.smtp(1) as user:
            user.starttls(context=client)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                user.login(name, "wrong")
    with server.smtp(1) as user:
        user.starttls(context=client)
        user.login("jane", PASSWORD)
        assert user.sendmail("jane@b.example", ["good@far.example", "bad@far.example"], MESSAGE) == {}


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_all_is_read_back_from_the_log_alone(tmp_path: Path, loop: str) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("mx.example", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    client = ssl.create_default_context()
    ca.configure_trust(client)
    users = tmp_path / "users"
    users.write_text(f"jane:{ehlo.hash_password(PASSWORD)}\n")
    users.chmod(0o600)
    log = tmp_path / "mail.log"
    with (
        ehlo.testing.SMTPServer(handler=Hop()) as hop,
        running(tmp_path, SITE.format(hop=hop.port, form="json"), "--loop", loop, listeners=2, figures=True) as server,
    ):
        act(server, client)
        while log.read_text().count('"delivered"') < 2:  # to jane, and jane's bounce
            time.sleep(0.02)
        metrics = server.get("/metrics")
        assert "mx.example" in server.get("/")
        server.stop()
    text = log.read_text()
    assert PASSWORD not in text
    assert "secret" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)

    # Who sent what to whom.
    first, second = (line for line in lines if line["event"] == "accepted")
    assert (first["sender"], first["to"], first["client"]) == ("<s@strange.example>", ["<jane@b.example>"], "127.0.0.1")
    assert "user" not in first
    assert (second["user"], second["protocol"], second["hello"]) == ("jane", "ESMTPSA", "client.example")
    assert second["tls"].startswith("TLS_")
    assert second["to"] == ["<good@far.example>", "<bad@far.example>"]
    mine = [line for line in lines if line.get("id") == second["id"]]
    fates = {line["to"][0]: line for line in mine if line["event"] in ("relayed", "failed")}
    assert (fates["<good@far.example>"]["event"], fates["<good@far.example>"]["reply"]) == (
        "relayed",
        "250 2.0.0 kept as 4711",
    )
    assert fates["<bad@far.example>"]["reply"] == "550 5.1.1 no such user"
    assert all(line["host"] == "127.0.0.1" and line["seconds"] >= 0 for line in fates.values())
    (bounce,) = (line for line in lines if line["event"] == "notified")
    assert (bounce["id"], bounce["to"], bounce["kind"]) == (second["id"], ["<jane@b.example>"], "failed")
    arrived = {line["id"] for line in lines if line["event"] == "delivered"}
    assert arrived == {first["id"], bounce["notice"]}

    # The id is that of Received and of the 250.
    received = [file.read_bytes() for file in (tmp_path / "box" / "new").iterdir()]
    assert any(f"id {first['id']}".encode() in re.sub(rb"\s+", b" ", one) for one in received)

    # Why the refused were refused.
    refused = [
        (line["command"], line["reply"][:3], line.get("attempted")) for line in lines if line["event"] == "refused"
    ]
    assert refused == [
        ("RCPT", "550", None),
        ("MAIL", "552", None),
        ("DATA", "550", None),
        *[("none", "500", None)] * 3,
        ("none", "421", None),
        *[("AUTH", "535", "jane")] * 2,  # smtplib tries PLAIN, then LOGIN
        *[("AUTH", "535", "nobody")] * 2,
    ]
    relay = next(line for line in lines if line.get("command") == "RCPT")
    assert (relay["sender"], relay["to"]) == ("<s@strange.example>", ["<victim@far.example>"])
    assert relay["reply"] == "550 5.7.1 No mail for that domain here"
    assert next(line for line in lines if line.get("command") == "DATA")["to"] == ["<jane@b.example>"]
    assert {line["mechanism"] for line in lines if line.get("command") == "AUTH"} == {"PLAIN", "LOGIN"}

    # The connections, and their ends.
    ends = [line for line in lines if line["event"] == "connection"]
    assert [(line["reason"], line["messages"]) for line in ends] == [
        ("quit", 1),
        ("limit", 0),
        ("quit", 0),
        ("quit", 0),
        ("quit", 1),
    ]
    assert ends[-1]["user"] == "jane"
    # The figures say the same.
    assert 'ehlo_server_refusals_total{command="auth"} 4.0' in metrics
    assert 'ehlo_server_refusals_total{command="other"} 4.0' in metrics
    assert "ehlo_server_messages_total 2.0" in metrics
    assert lines[-1]["event"] == "stopped"
    look_into_docs(lines, log)


DOCS = (Path(__file__).parents[3] / "docs" / "log.md").read_text(encoding="utf-8")


def look_into_docs(lines: list[dict[str, Any]], log: Path) -> None:
    """Each event and each field is explained, and the questions of the docs have answers."""
    for line in lines:
        assert f"| `{line['event']}` |" in DOCS
        if line["event"] != "stopped":
            assert [key for key in line if f"`{key}`" not in DOCS] == []
    if shutil.which("jq") is None:
        return
    ident = next(line["id"] for line in lines if "id" in line)
    questions = re.findall(r"^    journalctl -u ehlo -o cat \| (jq .*)$", DOCS, re.MULTILINE)
    assert len(questions) == 6
    for question in questions:
        command = question.replace("0192f3c2d4e5a6b7", ident)
        with log.open() as source:
            done = subprocess.run(["sh", "-c", command], stdin=source, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert done.stdout, question


@pytest.mark.parametrize("folder", ["mta", "cli/_serve"])
def test_each_event_is_in_the_docs(folder: str) -> None:
    words = r"""(?:LogLine|\.tell)\(\s*"([a-z-]+)\""""
    for file in (Path(ehlo.__file__).parent / folder).glob("*.py"):
        for event in re.findall(words, file.read_text(encoding="utf-8")):
            assert f"| `{event}` |" in DOCS, (file.name, event)


DISCARD = '[[route]]\nto = "discard"\n[[listener]]\nport = 0\n'


@pytest.mark.parametrize("form", ["text", "json"])
def test_faults_b9_a_reader_that_stands_still_stops_nothing(tmp_path: Path, form: str) -> None:
    """Nobody reads standard output, nor standard error: 5,000 messages are accepted all the same."""
    pattern = '"listening"' if form == "json" else "listening on"
    file = tmp_path / "serve.toml"
    file.write_text(f'[log]\nformat = "{form}"\n{DISCARD}[limits]\nmax_messages = 0\n')
    with ehlo_command("serve", *AS_ROOT, file) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert pattern in line
        port = int(re.findall(r":(\d+)[ \"]", line)[0])
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=60) as client:
            client.ehlo()
            for _ in range(100):  # 50 messages at a time, so that the test is quick
                one = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
                one += b"BDAT 6 LAST\r\nx: y\r\n"
                client.send(one * 50)
                assert [client.getreply()[0] for _ in range(150)] == [250] * 150
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0  # and it ends


def lmtp(path: str) -> smtplib.LMTP:
    """A client, as soon as somebody listens."""
    end = time.monotonic() + 30
    while True:
        try:
            return smtplib.LMTP(path)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("where", ["stdout", "file"])
def test_faults_a14_a_full_disk_changes_no_reply(tmp_path: Path, where: str) -> None:
    text = DISCARD if where == "stdout" else f'{DISCARD}[log]\nfile = "/dev/full"\n'
    socket_path = tmp_path / "s"
    text = text.replace("port = 0", 'protocol = "lmtp"\npath = "s"')
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with Path("/dev/full").open("w") as full, (tmp_path / "err").open("w+") as err:
        how: dict[str, Any] = {"stdout": full if where == "stdout" else subprocess.DEVNULL, "stderr": err}
        with ehlo_command("serve", *AS_ROOT, file, **how) as process:
            with lmtp(str(socket_path)) as client:
                for _ in range(50):
                    assert client.sendmail("a@b.example", ["c@d.example"], MESSAGE) == {}
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        err.seek(0)
        assert err.read().count("the log cannot be written: No space left on device") == 1


@pytest.mark.skipif(shutil.which("mv") is None, reason="as an administrator does it")
def test_the_file_of_the_log_may_be_rotated(tmp_path: Path) -> None:
    text = f'{DISCARD}[log]\nfile = "mail.log"\n'
    log = tmp_path / "mail.log"
    with running(tmp_path, text) as server:
        for _ in range(2):
            with server.smtp() as client:
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            while not log.exists() or " connection " not in log.read_text():
                time.sleep(0.02)
            log.rename(log.with_suffix(f".{_}"))
        server.stop()
    assert "accepted" in (tmp_path / "mail.0").read_text()
    assert "accepted" in (tmp_path / "mail.1").read_text()
    assert "stopped" in log.read_text()
