"""The example MTA beside Postfix, in both directions; and a dead MX, a null MX, greylisting, a bounce, a kill.

docs/examples/mta.py is run as a program, as it stands.
"""

from __future__ import annotations

import contextlib
import email
import json
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ehlo
from ehlo.mta.delivery_status import parse_report
from ehlo.testing import SMTPServer
from name_server import NameServer
from programs import await_listener, free_port, postfix, shown_on_failure, wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/mta.py"
MESSAGE = b"From: jane@own.example\r\nTo: joe@far.example\r\nSubject: hi\r\n\r\nhello\r\n"


class Mta:
    """The example as a program."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = {
            "hostname": "mx.own.example",
            "domains": ["own.example"],
            "mailboxes": ["jane", "postmaster"],
            "users": {"jane": "secret"},
            "clear": True,
            "port": self.port,
            "spool": str(folder / "spool"),
            "maildirs": str(folder / "mail"),
            **config,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, EXAMPLE, path], stdout=log, stderr=log)
        await_listener(self.port)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def mailbox(self, name: str = "jane") -> list[bytes]:
        folder = self.folder / f"mail/own.example/{name}/new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def send(self, *recipients: str, sender: str = "jane@own.example", login: bool = True) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
            if login:
                client.login("jane", "secret")
            client.sendmail(sender, recipients, MESSAGE)


@contextlib.contextmanager
def mta(folder: Path, **config: Any) -> Iterator[Mta]:
    one = Mta(folder, **config)
    one.start()
    try:
        with shown_on_failure(folder / "log"):
            yield one
    finally:
        one.kill()


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_mail_from_postfix_arrives(tmp_path: Path) -> None:
    with mta(tmp_path) as own, postfix(own.port) as other:
        with smtplib.SMTP("127.0.0.1", other.port, timeout=20) as client:
            client.sendmail("joe@far.example", ["jane@own.example"], MESSAGE)
        wait_until(lambda: len(own.mailbox()) == 1)
        message = email.message_from_bytes(own.mailbox()[0])
        assert message["Return-Path"] == "<joe@far.example>"
        first, second = message.get_all("Received", [])
        assert "by mx.own.example with ESMTP" in " ".join(first.split())
        assert "by relay.example" in " ".join(second.split())
        wait_until(lambda: bool(other.lines("status=sent")))  # it logs what it was told after it was told


def test_a_refusal_is_told_by_postfix(tmp_path: Path) -> None:
    with mta(tmp_path) as own, pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        own.send("joe@far.example", login=False)
    assert caught.value.recipients["joe@far.example"][0] == 550


def test_mail_to_postfix_and_its_bounce(tmp_path: Path) -> None:
    """The second recipient is refused by Postfix; the bounce lands in the sender's mailbox."""
    with SMTPServer() as end, postfix(end.port, refused={"bad@far.example": "550 5.1.1 no such user"}) as other:
        records: Any = {"far.example": {"MX": ["10 mx.far.example."]}, "mx.far.example": {"A": ["127.0.0.1"]}}
        with NameServer(records) as names, mta(tmp_path, dns_port=names.port, mx_port=other.port) as own:
            own.send("joe@far.example", "bad@far.example")
            [arrived] = end.wait(1)
            assert arrived.recipients == ["joe@far.example"]
            wait_until(lambda: len(own.mailbox()) == 1)
            report = own.mailbox()[0].replace(b"\n", b"\r\n")
            [one] = parse_report(report).status.recipients
            assert (one.final_recipient, one.status, one.remote_mta) == ("bad@far.example", "5.1.1", "mx.far.example")
            assert not email.message_from_bytes(report).defects


def test_a_bounce_that_postfix_accepts(tmp_path: Path) -> None:
    with SMTPServer() as end, postfix(end.port) as other:
        records: Any = {"far.example": {"A": ["127.0.0.1"]}}
        with NameServer(records) as names, mta(tmp_path, dns_port=names.port, mx_port=other.port) as own:
            own.send("nobody@own.example", sender="joe@far.example", login=False)
            [bounce] = end.wait(1)
            assert (bounce.sender, bounce.recipients) == ("", ["joe@far.example"])
            assert parse_report(bounce.content).status.recipients[0].status == "5.1.1"


def test_a_dead_first_mx_and_a_null_mx(tmp_path: Path) -> None:
    with SMTPServer() as end:
        records: Any = {
            "far.example": {"MX": ["10 dead.example.", "20 alive.example."]},
            "dead.example": {"A": ["127.0.0.9"]},
            "alive.example": {"A": ["127.0.0.1"]},
            "null.example": {"MX": ["0 ."]},
        }
        with NameServer(records) as names, mta(tmp_path, dns_port=names.port, mx_port=end.port) as own:
            own.send("joe@far.example", "joe@null.example")
            [arrived] = end.wait(1)
            assert arrived.recipients == ["joe@far.example"]
            wait_until(lambda: len(own.mailbox()) == 1)
            [one] = parse_report(own.mailbox()[0].replace(b"\n", b"\r\n")).status.recipients
            assert (one.final_recipient, one.status) == ("joe@null.example", "5.1.10")


class Grey(ehlo.Handler):
    """Greylisting: the first attempt of a recipient is deferred."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.got: list[str] = []

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        name = str(recipient.path)
        if name in self.seen:
            return None
        self.seen.add(name)
        return "451 4.7.1 greylisted, try again later"

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.got += [str(one.path) for one in envelope.recipients]


def test_s_que_19_greylisting_and_kill(tmp_path: Path) -> None:
    """451 defers; the program is killed; what is due when it starts again is delivered."""
    grey = Grey()
    with SMTPServer(grey) as end:
        records: Any = {"far.example": {"MX": ["10 mx.far.example."]}, "mx.far.example": {"A": ["127.0.0.1"]}}
        with NameServer(records) as names, mta(tmp_path, dns_port=names.port, mx_port=end.port) as own:
            own.send("joe@far.example")
            wait_until(lambda: "deferred" in (tmp_path / "log").read_text())
            own.kill()
            make_due(tmp_path / "spool")
            own.start()
            wait_until(lambda: bool(grey.got))
    assert grey.got == ["joe@far.example"]


def make_due(spool: Path) -> None:
    """What waits in a spool is due now."""
    import anyio

    from ehlo.mta import SqliteSpool
    from ehlo.mta._spool import Selection

    async def main() -> None:
        one = SqliteSpool(spool)
        await one.open()
        try:
            await one.retry(Selection(), 0.0)
        finally:
            await one.close()

    anyio.run(main)
