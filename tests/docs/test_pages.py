"""The code and the commands of README.md and of the pages work. The pages about moving have test_moving.py."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pages import (
    DOCS,
    MESSAGE,
    ROOT,
    Backend,
    World,
    awaited,
    blocks,
    executed,
    names_of,
    run,
    send,
    serving,
    serving_on_trio,
    world,
)

import ehlo
import ehlo.asyncio
import ehlo.cli
import ehlo.sync
from ehlo.testing import ScriptedServer, SMTPServer
from programs import PATIENCE, free_port, wait_until


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    pytest.importorskip(request.param)
    name: Backend = request.param
    return name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend) -> Iterator[World]:
    with world(tmp_path, monkeypatch, backend) as made:
        yield made


# ---- README, and the pages in docs/ ------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "server.md"])
def test_a_handler(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def use(port: int) -> None:
        assert send(port, "b@Example.org", "x@example.net") == {"x@example.net": (550, b"5.7.1 we do not relay")}

    first, second, *_ = blocks(page)
    serving(monkeypatch, executed(first)["main"], use)
    assert capsys.readouterr().out == "a@example.net sent 22 octets to 1\n"
    if page == "server.md":
        pytest.importorskip("trio")
        serving_on_trio(executed(first, second.replace(", 2525", ", 0"))["main"], lambda: capsys.readouterr().out, use)


def test_a_server_for_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def use(port: int) -> None:
        options: dict[str, Any] = {"tls": "required", "server_hostname": "smtp.example.org"}
        options["ssl_context"] = around.client_tls
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            good, wrong = (ehlo.Login("jane", password, mechanisms=[mechanism]) for password in ("pencil", "wrong"))
            with ehlo.sync.connect("127.0.0.1", port, auth=good, **options) as client:
                assert client.send(MESSAGE, "jane@example.org", ["joe@example.net"]).all_accepted
            with pytest.raises(ehlo.SMTPAuthenticationError):
                ehlo.sync.connect("127.0.0.1", port, auth=wrong, **options)

    with world(tmp_path, monkeypatch) as around:
        ehlo.Users("users", create=True).add("jane", "pencil", scram=True)
        serving(monkeypatch, executed(blocks("server.md")[2])["main"], use)
    assert re.fullmatch(r"(jane sent \d+ octets\n){2}", capsys.readouterr().out)


def test_a_session_without_io(capsys: pytest.CaptureFixture[str]) -> None:
    executed(blocks("server.md")[3])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["220 mx.example.org ESMTP", "250-mx.example.org"]
    replies = ["354 End data with <CRLF>.<CRLF>", "250 2.0.0 OK", "221 2.0.0 Bye"]
    assert [line for line in lines if line][-3:] == replies


def test_users(tmp_path: Path) -> None:
    names = names_of("users.md")
    users = ehlo.Users(tmp_path / "users", create=True)
    users.add("jane", "pencil")

    async def main() -> None:
        handlers = [names["Submission"](users), names["Submission"](names["Table"]())]
        session = SimpleNamespace(counted_address="192.0.2.1")
        for handler in handlers:
            for name, password in (("jane", "pencil"), ("jane", "wrong"), ("joe", "pencil")):
                credentials = ehlo.PasswordCredentials(mechanism="PLAIN", username=name, password=password)
                assert await handler.on_auth(session, credentials) is ((name, password) == ("jane", "pencil"))

    asyncio.run(main())


def test_sending(
    here: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "secret")
    names = names_of("client.md", backend)
    run(backend, names["main"])
    assert capsys.readouterr().out == "joe@example.net 250 2.0.0 OK\n"

    async def many() -> None:
        adapter = importlib.import_module(f"ehlo.{backend}")
        async with adapter.connect("smtp.example.org", 587, tls="required", auth=("x", "secret")) as client:
            await names["deliver"](client, [(b"x\r\n", "a@b.example", ["c@d.example"])] * 3)

    run(backend, many)
    assert len(here.server.messages) == 4


def test_sending_from_the_shell(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SMTP_PASSWORD", "secret")  # at a terminal the command asks for it
    (tmp_path / "message.eml").write_bytes(MESSAGE)
    (command,) = blocks("client.md", "sh")
    command = command.replace("smtp.example.org:587", f"127.0.0.1:{here.server.port}")
    done = shell(command.replace("--user jane", "--user jane --password-env SMTP_PASSWORD"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert [one.content for one in here.server.messages] == [MESSAGE]
    assert "secret" not in done.stderr


def test_short_sending(here: World, backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    _, sending, without_loop, _ = blocks("README.md")
    names = executed(sending, without_loop, backend=backend, ehlo=ehlo)
    message = EmailMessage()
    message["From"], message["To"] = "jane@example.org", "joe@example.net"
    message.set_content("hello")
    run(backend, names["deliver"], [message, message])
    names["notify"](message)
    assert len(here.server.messages) == 3
    assert capsys.readouterr().out.count("250 2.0.0 OK") == 2


@pytest.mark.parametrize("page", ["README.md", "testing.md"])
def test_mail_in_a_test(page: str, backend: Backend) -> None:
    with SMTPServer(backend=backend) as server:
        executed(blocks(page)[-1])["test_mail_goes_out"](server)


def test_a_handler_before_serve(backend: Backend) -> None:
    with SMTPServer(executed(*blocks("serve.md"), ehlo=ehlo)["Filter"](), backend=backend) as server:
        assert send(server.port, "b@example.org") == {}
        with pytest.raises(smtplib.SMTPDataError, match="no advertisement here"):
            send(server.port, "b@example.org", content=b"Subject: x\r\n\r\nCasino\r\n")


def test_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anyio")
    monkeypatch.chdir(tmp_path)
    importlib.import_module("ehlo.mta")

    def use(port: int) -> None:
        refused = send(port, "jane@example.org", "x@example.com")
        assert refused == {"x@example.com": (550, b"5.7.1 no relaying here")}

    (code,) = blocks("mta.md")
    code = code.replace("/var/mail/", f"{tmp_path}/mail/")
    serving(monkeypatch, awaited(code, {"ehlo": ehlo, "LOCAL": {"example.org"}}), use)


def test_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anyio")
    around, holding, signing = blocks("filters.md")

    class End(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
            return "250 2.0.0 taken"

    def use(port: int) -> None:  # rspamd cannot be asked, and its filter says nothing of that: tempfail
        with pytest.raises(smtplib.SMTPSenderRefused, match=r"4\.7\.1"):
            send(port, "b@example.org")

    stop = "await asyncio.Event().wait()"
    elsewhere = around.replace("...", stop).replace("/run/opendkim", str(tmp_path)).replace("11332", str(free_port()))
    serving(monkeypatch, awaited(elsewhere, {"ehlo": ehlo, "asyncio": asyncio, "handler": End()}), use)

    queue = SimpleNamespace(receive_body=lambda *given, hold: (given, hold))
    hold = executed(holding, queue=queue)["hold"]
    assert hold("session", "envelope", "body", "a virus") == (("session", "envelope", "body"), "a virus")

    pytest.importorskip("cryptography")
    monkeypatch.chdir(tmp_path)
    for name, kind in (("mail", "rsa"), ("ed", "ed25519")):
        ehlo.cli.main(["dkim", "keygen", "example.org", "--selector", name, "--type", kind])
    content = executed(signing, Path=Path, content=b"From: a@example.org\r\n\r\nhi\r\n")["content"]
    assert content.count(b"DKIM-Signature: ") == 2


# ---- tutorial --------------------------------------------------------------------------------------


def test_a_server(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    said = []
    for code in blocks("tutorial/server.md"):
        exec(code, names)
        if "class Mailroom" in code:
            with SMTPServer(names["Mailroom"](), backend=backend) as server:
                refused = send(server.port, "b@example.org", "c@example.com", "postmaster@example.org")
            said.append(sorted(refused))
    assert said == [[], ["c@example.com"], ["c@example.com"]]
    assert capsys.readouterr().out.startswith("a@example.net sent 22 octets\n")


def test_the_main_functions_of_a_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, on_trio = blocks("tutorial/server.md")

    def use(port: int) -> None:
        assert send(port, "b@example.org") == {}

    serving(monkeypatch, executed(first)["main"], use)
    pytest.importorskip("trio")
    main = executed(first, on_trio.replace(", 2525", ", 0"))["main_on_trio"]
    serving_on_trio(main, lambda: capsys.readouterr().out, use)


def test_a_client(here: World, backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    names = names_of("tutorial/client.md", backend)
    names["send_it"]()
    run(backend, names["main"])
    assert capsys.readouterr().out == "joe@example.net 250 2.0.0 OK\n" * 2

    async def others() -> None:
        adapter = importlib.import_module(f"ehlo.{backend}")
        async with adapter.connect("127.0.0.1", 2525) as client:
            result = await names["send_to_two"](client)
            assert [str(one.path) for one in result.accepted] == ["joe@example.net"]
            await names["send_or_tell"](client)
            await names["send_all"](client, ["x@example.net", "nobody@example.net"])

    run(backend, others)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["refused", "nobody got it", "refused"]
    assert len(here.server.messages) == 4


def test_a_test(backend: Backend) -> None:
    names = names_of("tutorial/testing.md")
    with SMTPServer(backend=backend) as server:
        names["test_a_new_customer_is_welcomed"](server)
    names["test_an_unknown_customer_is_an_error"]()
    names["test_the_script_is_followed"]()


def test_an_mta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anyio")
    monkeypatch.chdir(tmp_path)
    names = names_of("tutorial/mta.md")
    new = tmp_path / "mail/example.org/jane/new"

    def use(port: int) -> None:
        assert list(send(port, "jane@example.org", "x@example.com")) == ["x@example.com"]
        wait_until(lambda: new.is_dir() and any(new.iterdir()))

    serving(monkeypatch, names["main"], use)
    for command in blocks("tutorial/mta.md", "sh")[1].splitlines():
        assert shell(command, tmp_path).returncode == 0
    assert isinstance(names["route"](ehlo.Recipient("x@example.com")), names["ehlo"].mta.SmartHost)
    assert isinstance(names["route"](ehlo.Recipient("x@example.org")), names["ehlo"].mta.Fail)


# ---- how-to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["how-to/unknown-users.md", "how-to/refused.md"])
def test_handlers(page: str, backend: Backend) -> None:
    names = names_of(page)
    with SMTPServer(names["Mailroom"](), backend=backend) as server:
        if page == "how-to/unknown-users.md":
            refused = send(server.port, "jane@example.org", "x@example.org", "postmaster@example.org")
            assert refused == {"x@example.org": (550, b"5.1.1 no such user here")}
        else:
            assert send(server.port, "jane@example.org") == {}


def test_tls_and_auth(here: World, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "secret")
    names = names_of("how-to/tls-and-auth.md", backend)
    run(backend, names["main"])
    assert here.everyone.logins == [("PLAIN", "jane")]
    ehlo.Users("users", create=True).add("jane", "secret", scram=True)
    if backend == "trio":
        return

    def use(port: int) -> None:
        options: dict[str, Any] = {"tls": "required", "ssl_context": here.client_tls}
        options["server_hostname"] = "smtp.example.org"
        with ehlo.sync.connect("127.0.0.1", port, auth=("jane", "secret"), **options) as client:
            client.send(MESSAGE, "jane@example.org", ["joe@example.net"])

    serving(monkeypatch, names["serve"], use)


def test_oauth(here: World, backend: Backend) -> None:
    names = names_of("how-to/oauth.md", backend)
    message = b"From: jane@gmail.com\r\nTo: joe@example.net\r\n\r\nhello\r\n"
    import email

    result = run(backend, names["send"], email.message_from_bytes(message, policy=email.policy.default))
    assert result.all_accepted
    assert here.everyone.logins == [("OAUTHBEARER", "jane@gmail.com")]
    session = SimpleNamespace(peer=None)
    for token in ("ya29.a-token", "old"):
        credentials = ehlo.TokenCredentials(mechanism="XOAUTH2", username="jane@gmail.com", token=token)
        assert run(backend, names["Submission"]().on_auth, session, credentials) == (
            ehlo.Identity("jane@gmail.com") if token != "old" else None
        )


def test_streaming(here: World, backend: Backend, tmp_path: Path) -> None:
    names = names_of("how-to/streaming.md", backend)
    (tmp_path / "message").write_bytes(MESSAGE)
    assert run(backend, names["send_file"], "message").all_accepted
    assert run(backend, names["send_report"]).all_accepted
    assert [len(one.content) for one in here.server.messages] == [len(MESSAGE), 19 + 10 * 8 + 90 * 9 + 900 * 10]
    with SMTPServer(names["Store"](), backend=backend) as server:
        assert send(server.port, "b@example.org") == {}


def test_an_lmtp_agent(tmp_path: Path) -> None:
    names = names_of("how-to/lmtp-agent.md")
    path = tmp_path / "agent"
    with (
        SMTPServer(names["Agent"](str(path)), config=names["CONFIG"]) as server,
        smtplib.LMTP("127.0.0.1", server.port) as client,
    ):
        refused = client.sendmail("a@example.net", ["jane@example.org", "x@example.org"], MESSAGE)
    assert list(refused) == ["x@example.org"]
    assert len(list((path / "example.org/jane/new").iterdir())) == 1


def test_a_filter(backend: Backend) -> None:
    pytest.importorskip("anyio")
    names = names_of("how-to/filter.md")

    class Queue:
        received = 0

        def server_config(self) -> ehlo.ServerConfig:
            return ehlo.ServerConfig("mx.example.org")

        def refusal(self, size: int) -> None:
            return None

        async def receive(self, *_: Any, **__: Any) -> str:
            self.received += 1
            return "250 2.0.0 queued"

    handler = names["Filtered"](Queue())
    session, envelope = SimpleNamespace(), SimpleNamespace()
    assert run(backend, handler.on_message, session, envelope, b"a CASINO") == "550 5.7.1 no advertisement here"
    assert run(backend, handler.on_message, session, envelope, MESSAGE) == "250 2.0.0 queued"


def test_a_smart_host() -> None:
    pytest.importorskip("anyio")
    names = names_of("how-to/smart-host.md")
    assert names["route"](ehlo.Recipient("a@b.example")).host == "smtp.example.net"


def test_a_list(backend: Backend) -> None:
    names = names_of("how-to/list.md")
    submitted: list[Any] = []

    class Queue:
        def refusal(self, size: int) -> None:
            return None

        async def submit(self, envelope: Any, content: bytes) -> str:
            submitted.append((envelope, content))
            return "1"

    with SMTPServer(names["MailingList"](Queue()), backend=backend) as server:
        assert send(server.port, "friends@lists.example.org", "x@lists.example.org").keys() == {"x@lists.example.org"}
        with pytest.raises(smtplib.SMTPDataError, match="came from the list"):
            send(server.port, "friends@lists.example.org", content=submitted[0][1])
    assert submitted[0][0] == (names["OWNER"], names["MEMBERS"])


def test_a_proxy(backend: Backend) -> None:
    names = names_of("how-to/proxy.md", backend)
    seen: list[Any] = []

    class End(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str | None:
            assert session.xforward is not None
            seen.append(session.xforward.addr)
            return "550 5.7.1 not you" if "bad" in str(sender.path) else None

        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
            return "550 5.1.1 no such user" if "x@" in str(recipient.path) else None

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
            return f"250 2.0.0 took {len(content)}"

    config = ehlo.ServerConfig("mx.example.org", xforward=["NAME", "ADDR", "PORT", "HELO"])
    with (
        SMTPServer(End(), config=config, backend=backend, trusted=["127.0.0.0/8"]) as end,
        SMTPServer(names["Proxy"]("127.0.0.1", end.port), backend=backend) as proxy,
        smtplib.SMTP("127.0.0.1", proxy.port, "client.example", timeout=PATIENCE) as client,
    ):
        client.ehlo()
        assert client.mail("bad@example.net") == (550, b"5.7.1 not you")
        assert client.mail("a@example.net")[0] == 250
        assert client.rcpt("x@example.org") == (550, b"5.1.1 no such user")
        assert client.rset()[0] == 250
        assert client.mail("a@example.net")[0] == 250
        assert client.rcpt("b@example.org")[0] == 250
        assert client.data(MESSAGE) == (250, b"2.0.0 took 22")
    assert seen == ["127.0.0.1"] * 3


def test_the_server_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            return None

    names = names_of("how-to/proxy.md")
    serving(monkeypatch, lambda: names["serve_behind"](Plain()), lambda port: send(port, "b@example.org"))


def test_your_own_loop() -> None:
    names = names_of("how-to/own-loop.md")
    ours, theirs = socket.socketpair()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.extend(names["serve_one"](theirs)))
    thread.start()
    with ours:
        result = names["send_one"](ours, MESSAGE)
    thread.join(PATIENCE)
    theirs.close()
    assert result.all_accepted
    assert [content for _, content in got] == [MESSAGE]


def test_threads(here: World) -> None:
    names = names_of("how-to/threads.md")
    assert names["send_one"](MESSAGE).all_accepted
    assert names["send_all"]([MESSAGE] * 5) == [True] * 5
    assert names["send_now"](MESSAGE).all_accepted
    assert len(here.server.messages) == 7


def test_many_messages(here: World) -> None:
    send_all = names_of("how-to/many-messages.md")["send_all"]
    people = [("Jane", "jane@example.net"), ("Nobody", "nobody@example.net"), ("Joe", "joe@example.net")]
    assert send_all(people) == ([("nobody@example.net", "550 5.1.1 no such user")], [])
    assert [one.message["Subject"] for one in here.server.messages] == ["News for Jane", "News for Joe"]


def test_many_messages_and_a_connection_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "S: 220 mx ESMTP\nC: ehlo *\nS: 250 mx\n"
    script += "C: mail *\nS: 250 ok\nC: rcpt *\nS: 250 ok\nC: data\nS: 354 go on\n"
    names = names_of("how-to/many-messages.md")
    people = [("Jane", "jane@example.net"), ("Joe", "joe@example.net")]
    real = ehlo.sync.connect
    with ScriptedServer(script) as server:
        monkeypatch.setattr(ehlo.sync, "connect", lambda *_: real(server.host, server.port))
        assert names["send_all"](people) == ([("jane@example.net", "unknown"), ("joe@example.net", "lost")], [])


def test_rate_limits(backend: Backend) -> None:
    handler = names_of("how-to/rate-limits.md")["Submission"]()
    handler.rates = ehlo.RateLimit(1)
    with SMTPServer(handler, backend=backend) as server:
        assert send(server.port, "joe@example.net") == {}
        with pytest.raises(smtplib.SMTPSenderRefused, match="too many messages"):
            send(server.port, "joe@example.net")


def test_dovecot(backend: Backend, tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    names = names_of("how-to/dovecot.md", backend)
    assert str(names["route"](ehlo.Recipient("a@b.example")).where) == "unix:/run/dovecot/lmtp"

    class Dovecot(ehlo.Handler):
        config = ehlo.ServerConfig("mail.example.org", lmtp=True)

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> list[str]:
            return ["250 2.0.0 Saved", "452 4.2.2 Mailbox full"]

    path = str(tmp_path / "lmtp")

    async def deliver() -> dict[str, str]:
        answers: dict[str, str] = await names["deliver"](
            MESSAGE, "a@example.net", ["jane@example.org", "full@example.org"], path
        )
        return answers

    async def main() -> dict[str, str]:
        if backend == "asyncio":
            async with await ehlo.asyncio.serve(Dovecot(), path=path):
                return await deliver()
        trio = importlib.import_module("trio")
        serve = partial(importlib.import_module("ehlo.trio").serve, Dovecot(), path=path)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            answers = await deliver()
            nursery.cancel_scope.cancel()
        return answers

    assert run(backend, main) == {
        "jane@example.org": "250 2.0.0 Saved",
        "full@example.org": "452 4.2.2 Mailbox full",
    }


# ---- all others: they run by themselves --------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        "how-to/tuning.md",
        "explanation/sans-io.md",
        "explanation/strict.md",
        "explanation/smuggling.md",
        "reference/replies.md",
    ],
)
def test_pages_that_run_by_themselves(page: str) -> None:
    if page == "how-to/tuning.md":
        pytest.importorskip("anyio")
    assert len(names_of(page)) > 2


# ---- commands ----------------------------------------------------------------------------------------

# They make environments and builds, which .ci/run does. Those about users ask for a password on a terminal.
NOT_HERE = ("python3 -m venv", "cargo doc", "ehlo user add")
# One recipient of two is refused; without a network the name of the smart host is unknown.
STATUS = {"--to c@example.com": 1, "relay.toml": 1}
COMMANDS = [
    (str(page.relative_to(DOCS)), block)
    for folder in ("tutorial", "how-to", "explanation", "reference")
    for page in sorted((DOCS / folder).glob("*.md"))
    for block in blocks(str(page.relative_to(DOCS)), "sh")
    if not block.startswith((*NOT_HERE, "ehlo queue"))
]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands(page: str, command: str, tmp_path: Path) -> None:
    if shutil.which("bash") is None or shutil.which("ehlo", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("needs bash, and the command ehlo beside python")
    (tmp_path / "docs").symlink_to(DOCS)

    class Mailroom(ehlo.Handler):
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
            return "550 5.7.1 we do not relay" if recipient.domain == "example.com" else None

    with SMTPServer(Mailroom()) as server:
        here = command.replace(":2525", f":{server.port}")
        if os.geteuid() == 0:
            here = here.replace("--check", "--check --as-root")
        done = shell(here, tmp_path)
    expected = next((status for words, status in STATUS.items() if words in command), 0)
    assert done.returncode == expected, done.stdout + done.stderr
    assert [len(one.content) for one in server.messages] == ([22] if "ehlo send" in command else [])


# ---- the site itself -----------------------------------------------------------------------------------


def test_every_page_has_its_place() -> None:
    """`mkdocs build --strict` says so, too; this says it without MkDocs."""
    nav = set(re.findall(r"([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    made = {"project/architecture.md", "project/contributing.md", "project/changes.md", "reference/commands.md"}
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert nav - made == there


def test_every_public_module_has_a_page() -> None:
    pages = "".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    snapshot = (ROOT / "tests/data/public-api.txt").read_text("utf-8")
    # ehlo.compat has no names of its own.
    assert set(re.findall(r"^\[([\w.]+)\]$", snapshot, re.MULTILINE)) - {"ehlo.compat"} <= shown
