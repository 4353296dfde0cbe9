"""What the README and the pages split from it show, works. docs/ has the pages; each block of Python is a test."""

from __future__ import annotations

import asyncio
import importlib
import re
import smtplib
import socket
import ssl
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

import ehlo
import ehlo.asyncio
from ehlo.testing import SMTPServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "client",
    "extensions",
    "figures",
    "limits",
    "limits-and-timeouts",
    "server",
    "state-machine",
    "strictness",
    "testing",
)


def blocks(page: str) -> list[str]:
    """The blocks of Python of a file, in their order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


# Each block of each page has a test. A new block makes the unpacking fail, and needs a test of its own.
SHORT_HANDLER, SHORT_SENDING, WITHOUT_LOOP, SHORT_TESTING = blocks("README.md")
HANDLER, ON_TRIO, USERS, WITHOUT_IO = blocks("docs/server.md")
SENDING, SEND_MANY = blocks("docs/client.md")
(TESTING,) = blocks("docs/testing.md")


@pytest.mark.parametrize("block", [HANDLER, SHORT_HANDLER])
def test_the_handler(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    exec(block, names)
    handler = names["Mailroom"]()  # type: ignore[operator]

    def send(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=30) as client:
            recipients = ["b@Example.org", "x@example.net"]
            return client.sendmail("a@client.example", recipients, b"Subject: hi\r\n\r\nhello\r\n")

    async def main() -> dict[str, tuple[int, bytes]]:
        async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0) as server:
            return await asyncio.to_thread(send, server.port)

    assert asyncio.run(main()) == {"x@example.net": (550, b"5.7.1 we do not relay")}
    assert capsys.readouterr().out == "a@client.example sent 22 octets to 1\n"


def test_on_trio(capsys: pytest.CaptureFixture[str]) -> None:
    trio = pytest.importorskip("trio")
    names: dict[str, object] = {"__name__": "readme"}
    exec(HANDLER, names)
    exec(ON_TRIO.replace(", 2525", ", 0"), names)
    main: Any = names["main"]

    async def patient() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            while not (said := capsys.readouterr().out):
                await trio.lowlevel.checkpoint()
            assert said.startswith("listening on port ")
            with socket.create_connection(("127.0.0.1", int(said.split()[-1])), 30) as client:
                reply = await trio.to_thread.run_sync(client.recv, 100)
            assert reply.startswith(b"220 ")
            nursery.cancel_scope.cancel()

    trio.run(patient)


def test_users(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's code to the letter, but for the port."""
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    client_tls = ssl.create_default_context()
    ca.configure_trust(client_tls)
    certificate = ca.issue_cert("smtp.example.org")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    monkeypatch.chdir(tmp_path)
    ehlo.Users("users", create=True).add("jane", "pencil", scram=True)
    ready = asyncio.Event()
    ports: list[int] = []
    real = ehlo.asyncio.serve

    async def serve(handler: object, host: str, port: int, **options: Any) -> Any:
        server = await real(handler, host, 0, **options)
        ports.append(server.port)
        ready.set()
        return server

    monkeypatch.setattr(ehlo.asyncio, "serve", serve)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(USERS, names)

    async def send(mechanism: str, password: str) -> None:
        login = ehlo.Login("jane", password, mechanisms=[mechanism])
        options: dict[str, Any] = {"tls": "required", "ssl_context": client_tls, "server_hostname": "smtp.example.org"}
        async with ehlo.asyncio.connect("127.0.0.1", ports[0], auth=login, **options) as client:
            await client.send(b"Subject: hi\r\n\r\nhello\r\n", "jane@example.org", ["joe@example.net"])

    async def main() -> None:
        serving = asyncio.ensure_future(names["main"]())
        await ready.wait()
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            await send(mechanism, "pencil")
            with pytest.raises(ehlo.SMTPAuthenticationError):
                await send(mechanism, "wrong")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())
    assert re.fullmatch(r"(jane sent \d+ octets\n){2}", capsys.readouterr().out)


def test_the_page_about_users(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/users.md").read_text(encoding="utf-8")
    submission, table = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    users = ehlo.Users(tmp_path / "users", create=True)
    users.add("jane", "pencil")
    names: dict[str, Any] = {}
    exec(submission, names)
    exec(table, names)

    async def main() -> None:
        handlers = [names["Submission"](users), names["Submission"](names["Table"]())]
        session = SimpleNamespace(peer=("192.0.2.1", 1))
        for handler in handlers:
            for name, password in (("jane", "pencil"), ("jane", "wrong"), ("joe", "pencil")):
                credentials = ehlo.PasswordCredentials(mechanism="PLAIN", username=name, password=password)
                assert await handler.on_auth(session, credentials) is ((name, password) == ("jane", "pencil"))

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sending(backend: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's code to the letter, but for the place, and for who is trusted."""
    trustme = pytest.importorskip("trustme")
    pytest.importorskip(backend)
    adapter = importlib.import_module(f"ehlo.{backend}")
    ca = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.configure_trust(ours)
    ca.issue_cert("smtp.example.org").configure_cert(theirs)
    monkeypatch.setenv("SMTP_PASSWORD", "secret")

    class Users(ehlo.Handler):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
            return isinstance(credentials, ehlo.PasswordCredentials) and credentials.check("secret")

    config = ehlo.ServerConfig("smtp.example.org", tls="starttls", auth=["PLAIN"], require_auth=True)
    with SMTPServer(Users(), config=config, tls=theirs) as server:
        real = adapter.connect

        def connect(host: str, port: int, **options: Any) -> Any:
            assert (host, port) == ("smtp.example.org", 587)
            return real(server.host, server.port, ssl_context=ours, server_hostname=host, **options)

        monkeypatch.setattr(adapter, "connect", connect)
        names: dict[str, Any] = {"__name__": "readme"}
        exec(SENDING.replace("asyncio.connect", f"{backend}.connect"), names)
        names["ehlo"] = ehlo
        loop = importlib.import_module(backend)
        loop.run(names["main"]() if backend == "asyncio" else names["main"])
        assert capsys.readouterr().out == "joe@example.net 250 2.0.0 OK\n"

        exec(SEND_MANY, names)

        async def many() -> None:
            async with real(
                server.host,
                server.port,
                tls="required",
                ssl_context=ours,
                server_hostname="smtp.example.org",
                auth=("x", "secret"),
            ) as client:
                await names["deliver"](client, [(b"x\r\n", "a@b.example", ["c@d.example"])] * 3)

        loop.run(many() if backend == "asyncio" else many)
        assert len(server.messages) == 4


def test_short_sending(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's two blocks to the letter, but for the place, and for who is trusted."""
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.configure_trust(ours)
    ca.issue_cert("smtp.example.org").configure_cert(theirs)

    class Users(ehlo.Handler):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
            return isinstance(credentials, ehlo.PasswordCredentials) and credentials.check("secret")

    message = EmailMessage()
    message["From"], message["To"] = "jane@example.org", "joe@example.net"
    message.set_content("hello")
    config = ehlo.ServerConfig("smtp.example.org", tls="starttls", auth=["PLAIN"], require_auth=True)
    with SMTPServer(Users(), config=config, tls=theirs) as server:
        for owner, name in ((ehlo.asyncio, "connect"), (ehlo, "send")):
            real = getattr(owner, name)

            def elsewhere(*given: Any, real: Any = real, **options: Any) -> Any:
                *message, host, port = given
                assert (host, port) == ("smtp.example.org", 587)
                options |= {"ssl_context": ours, "server_hostname": host}
                return real(*message, server.host, server.port, **options)

            monkeypatch.setattr(owner, name, elsewhere)
        names: dict[str, Any] = {}
        exec(SHORT_SENDING, names)
        asyncio.run(names["deliver"]([message, message]))
        exec(WITHOUT_LOOP, names)
        names["notify"](message)
        assert len(server.messages) == 3
    assert capsys.readouterr().out.count("250 2.0.0 OK") == 2


@pytest.mark.parametrize("block", [TESTING, SHORT_TESTING])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_testing(backend: Literal["asyncio", "trio"], block: str) -> None:
    pytest.importorskip(backend)
    names: dict[str, Any] = {}
    exec(block, names)
    with SMTPServer(backend=backend) as server:
        names["test_mail_goes_out"](server)


def test_without_io(capsys: pytest.CaptureFixture[str]) -> None:
    exec(WITHOUT_IO, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["220 mx.example.org ESMTP", "250-mx.example.org"]
    replies = ["354 End data with <CRLF>.<CRLF>", "250 2.0.0 OK", "221 2.0.0 Bye"]
    assert [line for line in lines if line][-3:] == replies


def test_its_commands_are_single_lines_that_make_their_own_environment() -> None:
    for name in ("sink", "tests"):
        (command,) = re.findall(rf"<!-- the {name} -->\n```sh\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
        assert command.startswith("python3 -m venv .venv && ")
        assert "\n" not in command


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_its_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / link).exists(), link


def test_other_pages_without_python_have_none() -> None:
    for name in set(PAGES) - {"client", "server", "testing"}:
        assert blocks(f"docs/{name}.md") == []
