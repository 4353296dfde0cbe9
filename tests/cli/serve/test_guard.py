"""[networks], [rates] and the limits over all listeners, in a server that runs."""

from __future__ import annotations

import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ehlo
from programs import AS_ROOT, ehlo_command

PASSWORD = "pencil, sharp"  # nothing but a test's
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
BASE = """
hostname = "mx.example"
quiet = true
[auth]
users = "users"
in_clear = true
[[route]]
to = "discard"
[[listener]]
port = 0
[[listener]]
protocol = "submission"
port = 0
"""


@contextmanager
def serve(directory: Path, more: str, loop: str = "asyncio") -> Iterator[list[int]]:
    """A server with these tables; gives its ports."""
    if not (directory / "users").exists():
        ehlo.Users(directory / "users", create=True).add("jane", PASSWORD)
    (directory / "serve.toml").write_text(f'loop = "{loop}"\n{BASE}{more}')
    with ehlo_command("serve", *AS_ROOT, directory / "serve.toml") as process:
        assert process.stdout is not None
        ports = []
        for _ in range(2):
            line = process.stdout.readline()
            found = re.search(r"listening on 127.0.0.1:(\d+) ", line)
            assert found is not None, line + process.communicate()[1]
            ports.append(int(found[1]))
        yield ports
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")


def connect(port: int, address: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port, "client.example", 20, source_address=(address, 0))


def send(client: smtplib.SMTP, *recipients: str) -> None:
    client.sendmail("a@b.example", recipients or ["c@d.example"], MESSAGE)


def test_networks_that_may_not_connect(tmp_path: Path, loop: str) -> None:
    with serve(tmp_path, '[networks]\nallow = ["127.0.0.0/24"]\ndeny = ["127.0.0.9"]', loop) as (port, _):
        for address in ("127.0.0.9", "127.0.1.1"):
            with pytest.raises(smtplib.SMTPConnectError, match=r"554.*Mail from your network is not accepted"):
                connect(port, address)
        with connect(port) as client:
            send(client)


def test_rates_are_kept_over_a_restart(tmp_path: Path, loop: str) -> None:
    rates = '[rates]\nnetwork_messages = 2\nuser_recipients = 3\nexempt = ["127.0.0.7"]\nfile = "rates"'
    with serve(tmp_path, rates, loop) as (port, submission):
        with connect(port) as client:
            send(client)
        with connect(submission) as client:
            client.login("jane", PASSWORD)
            send(client, "c@d.example", "e@d.example")
    with serve(tmp_path, rates, loop) as (port, submission):
        with connect(port) as client:
            send(client)
            with pytest.raises(
                smtplib.SMTPSenderRefused, match=r"451.*4.7.1 Too many messages from your network: 2 an"
            ):
                send(client)
        with connect(submission, "127.0.0.8") as client:
            client.login("jane", PASSWORD)
            for _ in range(3):  # messages of users have no limit
                client.docmd("MAIL FROM:<a@b.example>")
                client.docmd("RSET")
            send(client)
            with pytest.raises(
                smtplib.SMTPRecipientsRefused, match=r"452.*4.7.1 Too many recipients from you: 3 an hour"
            ):
                send(client)
        with connect(port, "127.0.0.7") as client:
            for _ in range(3):
                send(client)


def test_workers_keep_to_the_rates_together(tmp_path: Path, loop: str) -> None:
    tables = '[rates]\nnetwork_messages = 3\nfile = "rates"\n[run]\nworkers = 2'
    with serve(tmp_path, tables, loop) as (port, _):
        accepted = 0
        for _ in range(8):  # the system gives each connection to one of the workers
            with connect(port) as client:
                client.ehlo()
                accepted += client.mail("a@b.example")[0] == 250
        assert accepted == 3


def test_rates_lie_in_the_folder_of_the_queue(tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    pytest.importorskip("dns")
    tables = '[queue]\npath = "spool"\n[rates]\nnetwork_messages = 1'
    with serve(tmp_path, tables) as (port, _), connect(port) as client:
        send(client)
    assert (tmp_path / "spool" / "rates.sqlite3").exists()
    with serve(tmp_path, tables) as (port, _), connect(port) as client, pytest.raises(smtplib.SMTPSenderRefused):
        send(client)


def test_limits_of_connections_are_for_all_listeners(tmp_path: Path, loop: str) -> None:
    with serve(tmp_path, "[limits]\nmax_connections = 2", loop) as ports, connect(ports[0]), connect(ports[1]):
        for port in ports:
            with pytest.raises(smtplib.SMTPConnectError, match=r"421.*Too many connections"):
                connect(port)


def test_a_file_of_rates_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("nonsense " * 1000)
    (tmp_path / "serve.toml").write_text(
        '[[route]]\nto = "discard"\n[[listener]]\nport = 0\n[rates]\nnetwork_messages = 1\nfile = "users"'
    )
    command = [sys.executable, "-m", "ehlo", "serve", *AS_ROOT, str(tmp_path / "serve.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"rates.file {tmp_path / 'users'}: file is not a database; name a file" in done.stderr
