"""The command ``ehlo send``, run as users run it, through TLS and with AUTH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import pty
import ssl
import subprocess
import sys
from typing import Any, Literal

import pytest

import ehlo
import ehlo.asyncio

trustme = pytest.importorskip("trustme")

USER, PASSWORD = "jane", "pass word"


class Users(ehlo.Handler):
    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.seen: list[str] = []

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        self.seen.append(credentials.mechanism)
        if isinstance(credentials, ehlo.ScramCredentials):
            return ehlo.ScramKeys.from_password(PASSWORD, algorithm=credentials.algorithm)
        return isinstance(credentials, ehlo.PasswordCredentials) and credentials.check(PASSWORD)

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.kept.append(content)


def send(
    tmp_path: pathlib.Path,
    *arguments: str,
    tls: Literal["starttls", "implicit"] = "starttls",
    typed: str | None = None,
    **environment: str,
) -> tuple[int, str, Users]:
    """Exit status, all that was said, and what came."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "message").write_bytes(b"Subject: hi\r\n\r\nhi\r\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    handler = Users()

    def run(port: int) -> tuple[int, str]:
        command = [sys.executable, "-m", "ehlo", "send", "--server", f"127.0.0.1:{port}"]
        command += ["--from", "a@b.example", "--to", "c@d.example", "--file", str(tmp_path / "message"), "-v"]
        command += ["--ca-file", str(tmp_path / "ca.pem"), *arguments]
        options: Any = {"env": os.environ | environment}
        if typed is None:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False, **options
            )
            return done.returncode, done.stdout + done.stderr
        # Without a controlling terminal getpass takes standard input, if that is a terminal.
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, **options
        ) as process:
            os.close(theirs)
            said = b""
            while b"password of jane: " not in said:
                said += os.read(ours, 4096)
            os.write(ours, typed.encode() + b"\n")
            with contextlib.suppress(OSError):  # the other end was closed
                while more := os.read(ours, 4096):
                    said += more
            os.close(ours)
        return process.returncode, said.decode()

    async def main() -> tuple[int, str]:
        config = ehlo.ServerConfig("mx.example", tls=tls, auth=["SCRAM-SHA-256", "PLAIN"])
        async with await ehlo.asyncio.serve(handler, config=config, tls=context) as server:
            return await asyncio.to_thread(run, server.port)

    status, said = asyncio.run(main())
    assert PASSWORD not in said
    return status, said, handler


@pytest.mark.parametrize(("tls", "option"), [("starttls", "required"), ("implicit", "implicit")])
def test_the_password_from_the_environment(
    tmp_path: pathlib.Path, tls: Literal["starttls", "implicit"], option: str
) -> None:
    status, said, handler = send(
        tmp_path, "--tls", option, "--user", USER, "--password-env", "SECRET", tls=tls, SECRET=PASSWORD
    )
    assert status == 0, said
    assert (handler.seen, len(handler.kept)) == (["SCRAM-SHA-256"], 1)


def test_the_password_from_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n", encoding="utf-8")
    arguments = ["--tls", "required", "--user", USER, "--password-file", str(tmp_path / "secret")]
    status, said, handler = send(tmp_path, *arguments, "--mechanism", "plain")
    assert status == 0, said
    assert handler.seen == ["PLAIN"]


def test_the_password_from_a_prompt(tmp_path: pathlib.Path) -> None:
    status, said, handler = send(tmp_path, "--tls", "required", "--user", USER, typed=PASSWORD)
    assert status == 0, said
    assert len(handler.kept) == 1


def test_what_goes_wrong_is_said(tmp_path: pathlib.Path) -> None:
    user = ["--user", USER, "--password-env", "SECRET"]
    status, said, _ = send(tmp_path, "--tls", "required", *user, SECRET="wrong")
    assert status == 3
    assert "the server refused AUTH SCRAM-SHA-256: 535 5.7.8" in said
    assert "check --user and the password" in said
    status, said, _ = send(tmp_path, "--tls", "required", "--server-name", "mx.example.org")
    assert status == 3
    assert "'mx.example.org'" in said
    status, said, _ = send(tmp_path, "--tls", "implicit")
    assert status == 3
    assert "is it --tls implicit (port 465), or required (ports 25, 587)?" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", USER, "--password-env", "SECRET", "--password-file", "x"], "not both"),
        (["--user", USER, "--password-env", "NOT_THERE"], "has no password"),
        (["--user", USER, "--password-file", "/nonexistent"], "No such file"),
        (["--auth", "PLAIN"], "AUTH needs --user"),
        (["--user", USER, "--auth", "GSSAPI"], "no such mechanism"),
    ],
)
def test_wrong_usage(tmp_path: pathlib.Path, arguments: list[str], expected: str) -> None:
    status, said, _ = send(tmp_path, "--tls", "required", *arguments, SECRET=PASSWORD)
    assert status == 2
    assert expected in said
    assert "--tls" in send(tmp_path)[1]  # --ca-file without it
