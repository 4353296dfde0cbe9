"""The examples of the docs, run as programs, as they stand, on asyncio and on trio."""

from __future__ import annotations

import contextlib
import json
import smtplib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ehlo.testing import SMTPServer
from programs import await_listener, free_port, shown_on_failure, started

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"
MESSAGE = b"From: jane@own.example\r\nTo: joe@far.example\r\nSubject: hi\r\n\r\nhello\r\n"


@pytest.fixture(params=["asyncio", "trio"])
def event_loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextlib.contextmanager
def running(name: str, folder: Path, loop: str, **config: Any) -> Iterator[int]:
    """An example as a program; gives its port."""
    port = free_port()
    file = folder / "config.json"
    file.write_text(
        json.dumps({"hostname": "mx.own.example", "port": port, "spool": str(folder / "spool"), "loop": loop, **config})
    )
    program = (sys.executable, EXAMPLES / f"{name}.py", file)
    path = folder / "log"
    with path.open("wb") as log, shown_on_failure(path), started(*program, stdout=log, stderr=log):
        await_listener(config.get("socket", port))
        yield port


def test_a_submission_server_with_a_smart_host(tmp_path: Path, event_loop_name: str) -> None:
    with SMTPServer() as end:
        config = {"users": {"jane": "secret"}, "smart_host": "127.0.0.1", "smart_port": end.port}
        with running("submission", tmp_path, event_loop_name, **config) as port:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                with pytest.raises(smtplib.SMTPSenderRefused):
                    client.sendmail("jane@own.example", ["joe@far.example"], MESSAGE)
                client.login("jane", "secret")
                client.sendmail("jane@own.example", ["joe@far.example"], MESSAGE)
            [arrived] = end.wait(1)
            assert arrived.recipients == ["joe@far.example"]
            assert arrived.content.startswith(b"Received: ")


def test_a_delivery_agent_by_lmtp(tmp_path: Path, event_loop_name: str) -> None:
    socket = str(tmp_path / "lmtp")
    mail = tmp_path / "mail"
    config = {"mailboxes": ["jane", "bad"], "socket": socket, "maildirs": str(mail)}
    with running("lmtp_agent", tmp_path, event_loop_name, **config), smtplib.LMTP(socket) as client:
        (mail / "own.example").mkdir(parents=True)
        (mail / "own.example/bad").write_text("no folder")
        client.ehlo("mx.own.example")
        assert client.mail("joe@far.example")[0] == 250
        codes = [client.rcpt(f"{name}@own.example")[0] for name in ("jane", "no", "bad")]
        assert codes == [250, 550, 250]
        assert client.docmd("DATA")[0] == 354
        client.send(MESSAGE + b".\r\n")
        # One reply for each recipient that was accepted (RFC 2033 4.2).
        assert [client.getreply()[0] // 100 for _ in range(2)] == [2, 4]
        [path] = (mail / "own.example/jane/new").iterdir()
        assert path.read_bytes().startswith(b"Return-Path: <joe@far.example>\n")


def test_a_list_sends_one_message_to_many(tmp_path: Path, event_loop_name: str) -> None:
    members = [f"m{number}@far.example" for number in range(250)]
    with SMTPServer() as end:
        config = {
            "list": "all@own.example",
            "owner": "owner@own.example",
            "members": members,
            "smart_host": "127.0.0.1",
            "smart_port": end.port,
        }
        with running("mailing_list", tmp_path, event_loop_name, **config) as port:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                client.sendmail("joe@far.example", ["all@own.example"], MESSAGE)
                with pytest.raises(smtplib.SMTPDataError):
                    client.sendmail("joe@far.example", ["all@own.example"], b"List-Id: <all.own.example>\r\n" + MESSAGE)
            arrived = end.wait(3)
            assert sorted(to for one in arrived for to in one.recipients) == sorted(members)
            assert {one.sender for one in arrived} == {"owner@own.example"}
            assert all(b"List-Id: <all.own.example>" in one.content for one in arrived)
