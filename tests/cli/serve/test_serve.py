"""The command ``ehlo serve``, run as users run it."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.cli
from ehlo.cli._engine import engine_options
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.listeners import Served, served
from ehlo.cli._serve.offers import Offers
from ehlo.cli._serve.settings import parse_address, read_settings
from ehlo.cli._serve.site import Site
from ehlo.testing import SMTPServer
from programs import AS_ROOT, ehlo_command, program

trustme = pytest.importorskip("trustme")

PASSWORD = "pencil, sharp"  # nothing but a test's
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
LISTENING = re.compile(r"ehlo serve: listening on (?:[0-9.]+:(?P<port>\d+)|(?P<path>/\S+)) \((?P<words>.*)\)\n")
LOOPS = ["asyncio", "trio"]


def line_of(name: str) -> str:
    return f"{name}:{ehlo.hash_password(PASSWORD, scram=True)}"


def write_users(file: Path, *lines: str) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))
    file.chmod(0o600)


class Place:
    """A directory with all that a server needs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ca = trustme.CA()
        self.new_certificate()
        write_users(path / "users", "# who may come in", "", line_of("jane"))

    def new_certificate(self) -> None:
        certificate = self.ca.issue_cert("mx.example", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(self.path / "key.pem"))
        (self.path / "key.pem").chmod(0o600)
        for number, part in enumerate(certificate.cert_chain_pems):
            part.write_to_path(str(self.path / "cert.pem"), append=number > 0)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def write(self, text: str) -> str:
        file = self.path / "serve.toml"
        file.write_text(text)
        return str(file)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


TLS_AND_USERS = """
hostname = "mx.example"
[tls]
certificate = "cert.pem"
key = "key.pem"
[auth]
users = "users"
"""

ALL = f"""{TLS_AND_USERS}
[[route]]
domains = ["d.example"]
to = "maildir:box"
[[route]]
from = "users"
to = "fail:550 5.7.1 Only local mail"
[[listener]]
port = 0
[[listener]]
protocol = "submission"
port = 0
[[listener]]
protocol = "submissions"
port = 0
[[listener]]
protocol = "lmtp"
path = "lmtp"
mode = "600"
"""


class Serve:
    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.ports: list[int] = []
        self.words: list[str] = []
        for _ in range(count):
            line = process.stdout.readline()
            match = LISTENING.fullmatch(line)
            assert match is not None, line + process.stderr.read()
            self.ports.append(int(match["port"] or 0))
            self.words.append(match["words"])

    def smtp(self, number: int = 0) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.ports[number], "client.example", timeout=20)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self, number: int = signal.SIGTERM, status: int = 0) -> tuple[list[str], str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == status, err
        return out.splitlines(), err


@contextmanager
def serve(*arguments: str, count: int = 1) -> Iterator[Serve]:
    with ehlo_command("serve", *AS_ROOT, *arguments) as process:
        yield Serve(process, count)


def delivered(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in (path / "new").iterdir()]


# ---- everything at once --------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_s_sub_09_submission_on_both_ports(place: Place, loop: str) -> None:
    # S-SUB-09, RFC 8314 3.3: 587 with STARTTLS and 465 with implicit TLS; an MX and a delivery agent beside them.
    with serve(place.write(ALL), "--loop", loop, count=4) as server:
        assert server.words == ["SMTP, STARTTLS", "submission, STARTTLS", "submissions, TLS", "LMTP"]
        with server.smtp() as client:  # the MX: for its domain, without users
            client.ehlo()
            assert client.has_extn("starttls")
            assert not client.has_extn("auth")
            refused = client.sendmail("a@b.example", ["c@D.example", "c@e.example"], MESSAGE)
            assert refused == {"c@e.example": (550, b"5.7.1 No mail for that domain here")}
        with server.smtp(1) as client:
            client.ehlo()
            assert client.mail("a@b.example")[0] == 530
            client.starttls(context=place.client())
            client.ehlo()
            assert set(client.esmtp_features["auth"].split()) == {"SCRAM-SHA-256", "PLAIN", "LOGIN"}
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("jane", "wrong")
            client.login("jane", PASSWORD)
            assert client.sendmail("a@b.example", ["c@d.example"], MESSAGE) == {}
        with smtplib.SMTP_SSL(
            "127.0.0.1", server.ports[2], "client.example", context=place.client(), timeout=20
        ) as client:
            client.login("jane", PASSWORD)
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            assert client.mail("a@b.example")[0] == 250
            assert client.rcpt("c@elsewhere.example") == (550, b"5.7.1 Only local mail")
        assert (place.path / "lmtp").stat().st_mode & 0o777 == 0o600
        with smtplib.LMTP(str(place.path / "lmtp")) as client:
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        lines, err = server.stop()
    assert err == ""
    assert lines[-1].startswith("ehlo serve: received 4 messages, ")
    found = sorted(delivered(place.path / "box"))
    assert len(found) == 4
    by = {re.search(rb"with (\w+)", octets.replace(b"\n", b""))[1]: octets for octets in found}  # type: ignore[index]
    assert set(by) == {b"ESMTP", b"ESMTPSA", b"LMTP"}
    # B-TRC-12; S-SUB-07: Date and Message-ID for what was submitted, and for that alone; B-TRC-10: the tls clause
    assert by[b"ESMTP"].startswith(b"Return-Path: <a@b.example>\nReceived: from client.example")
    assert b"Message-ID: <" not in by[b"ESMTP"]
    assert re.search(rb"\nDate: .*\nMessage-ID: <[0-9.a-f]+@mx\.example>\nSubject: x\n\nhello\n$", by[b"ESMTPSA"])
    assert re.search(rb"\stls\sTLS_\w+;", by[b"ESMTPSA"])
    assert b"\nMessage-ID" not in by[b"LMTP"]


def test_our_client_by_scram(place: Place) -> None:
    # The stored keys are enough: the password never comes over.
    import asyncio

    import ehlo.asyncio

    async def send(port: int) -> None:
        login = ehlo.Login("jane", PASSWORD, mechanisms=["SCRAM-SHA-256"])
        options: dict[str, Any] = {"tls": "implicit", "ssl_context": place.client(), "auth": login}
        async with ehlo.asyncio.connect("127.0.0.1", port, **options) as client:
            await client.send(MESSAGE, "a@b.example", ["c@d.example"])

    arguments = ["--submissions", "0", "--discard", "--cert", str(place.path / "cert.pem")]
    arguments += ["--key", str(place.path / "key.pem"), "--users", str(place.path / "users")]
    with serve(*arguments) as server:
        asyncio.run(send(server.ports[0]))
        for user, password in (("jane", "wrong"), ("joe", PASSWORD)):
            login = ehlo.Login(user, password, mechanisms=["SCRAM-SHA-256"])

            async def fail(login: ehlo.Login) -> None:
                options: dict[str, Any] = {"tls": "implicit", "ssl_context": place.client(), "auth": login}
                async with ehlo.asyncio.connect("127.0.0.1", server.ports[0], **options):
                    pass

            with pytest.raises(ehlo.SMTPAuthenticationError):
                asyncio.run(fail(login))
        lines, err = server.stop()
    assert err == ""
    assert " user=jane " in lines[1]
    assert " sender=<a@b.example> to=<c@d.example> " in lines[1]


@pytest.mark.parametrize("loop", LOOPS)
def test_sighup_reads_certificate_and_users_again(place: Place, loop: str) -> None:
    with serve(place.write(ALL), "--loop", loop, count=4) as server:

        def serial() -> int:
            plain = socket.create_connection(("127.0.0.1", server.ports[2]), 20)
            with place.client().wrap_socket(plain, server_hostname="mx.example") as sock:
                certificate = sock.getpeercert()
                assert certificate is not None
                return int(str(certificate["serialNumber"]), 16)

        before = serial()
        assert serial() == before
        place.new_certificate()
        write_users(place.path / "users", line_of("joe"))
        server.process.send_signal(signal.SIGHUP)
        assert server.line() == "ehlo serve: read the settings again, and all files that they name\n"
        after = serial()
        assert after != before
        with smtplib.SMTP_SSL("127.0.0.1", server.ports[2], "c.example", context=place.client(), timeout=20) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("jane", PASSWORD)
            client.login("joe", PASSWORD)
        (place.path / "cert.pem").write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        assert server.process.stderr.readline().startswith("ehlo serve: nothing was changed: tls.certificate ")
        assert serial() == after  # what is wrong changes nothing
        server.stop()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_cuts_at_once(loop: str) -> None:
    with serve("--smtp", "0", "--lmtp", "0", "--discard", "--deadline", "3600", "--loop", loop, count=2) as server:
        client, idle = server.smtp(0), server.smtp(1)
        client.ehlo()
        client.mail("a@b.example")
        server.process.send_signal(signal.SIGINT)
        assert idle.getreply()[0] == 421  # the first was heard, by both
        lines, _ = server.stop(status=3)
        client.close()
        idle.close()
    assert lines[-1].endswith("2 connections, 1 cut")


def test_mbox_and_limits(tmp_path: Path) -> None:
    with serve("--smtp", "0", "--mbox", str(tmp_path / "box"), "--max-size", "1000", "--quiet") as server:
        with server.smtp() as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "1000"
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        lines, err = server.stop()
    assert err == ""
    assert len(lines) == 1
    assert (tmp_path / "box").read_bytes().startswith(b"From a@b.example ")


def test_a_proxy_in_front(place: Place) -> None:
    settings = """
    hostname = "mx.example"
    [[route]]
    to = "maildir:box"
    [[listener]]
    port = 0
    proxy = true
    xclient = true
    trusted = ["127.0.0.0/8"]
    """
    with serve(place.write(settings)) as server:
        assert server.words == ["SMTP, PROXY"]
        with socket.create_connection(("127.0.0.1", server.ports[0]), 20) as sock, sock.makefile("rb") as file:
            sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nEHLO c.example\r\nMAIL FROM:<a@b>\r\n")
            sock.sendall(b"RCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
            assert file.read().endswith(b"221 2.0.0 Bye\r\n")
        lines, _ = server.stop()
    assert " accepted id=" in lines[1]
    assert " client=192.0.2.7 port=56324 " in lines[1]
    assert " sender=<a@b> to=<c@d.example> " in lines[1]
    assert b"([192.0.2.7])" in delivered(place.path / "box")[0]


NAMELESS = {
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
    "UNSPEC": ehlo.ProxyHeader(unknown=True).to_bytes(2),
    "UNIX": ehlo.ProxyHeader(b"/client", b"/server").to_bytes(2),
}


def test_a_proxy_is_no_open_relay(place: Place) -> None:
    # The proxy has the address of those who may relay. A client that it cannot name does not.
    settings = """
    hostname = "mx.example"
    [[route]]
    domains = ["d.example"]
    to = "maildir:box"
    [[route]]
    from = ["127.0.0.0/8"]
    to = "discard"
    [[listener]]
    port = 0
    proxy = true
    xclient = true
    trusted = ["127.0.0.0/8"]
    """
    local = ehlo.ProxyHeader().to_bytes(2)
    with serve(place.write(settings)) as server:
        for header in (*NAMELESS.values(), local):
            with socket.create_connection(("127.0.0.1", server.ports[0]), 20) as sock, sock.makefile("rb") as file:
                sock.sendall(
                    header + b"EHLO c.example\r\nXCLIENT ADDR=127.0.0.1\r\nEHLO c.example\r\nMAIL FROM:<a@b>\r\n"
                )
                sock.sendall(b"RCPT TO:<c@far.example>\r\nQUIT\r\n")
                codes = [line[:3] for line in file.read().splitlines() if line[3:4] == b" "]
            trusted = [b"220", b"250", b"220", b"250", b"250", b"250", b"221"]
            nameless = [b"220", b"250", b"550", b"250", b"250", b"550", b"221"]
            assert codes == (trusted if header is local else nameless)


# ---- the next hop --------------------------------------------------------------------------------


class Hop(ehlo.Handler):
    """Has its own view of each recipient."""

    def __init__(self) -> None:
        self.kept: list[tuple[ehlo.Envelope, bytes]] = []

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        local = str(recipient.path).partition("@")[0].strip("<")
        return {"gone": "550 5.1.1 gone", "later": "452 4.2.2 full", "bye": "421 4.3.2 bye"}.get(local)

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
        self.kept.append((envelope, content))
        if session.protocol == "LMTP":
            return ["250 2.0.0 kept by the hop"] * len(envelope.recipients)
        return "250 2.0.0 queued by the hop"


@pytest.mark.parametrize("loop", LOOPS)
def test_smtp_to_smtp(loop: str) -> None:
    # B-TRC-13: Received and nothing else. Each RCPT has the next hop's reply (FAULTS A2 was: one reply for all).
    hop = Hop()
    with SMTPServer(hop) as next_hop:
        arguments = ["--smtp", "0", "--to-smtp", f"127.0.0.1:{next_hop.port}", "--domain", "d.example", "--loop", loop]
        with serve(*arguments, "--hostname", "mx.example") as server:
            with server.smtp() as client:
                client.ehlo()
                client.mail("a@b.example", ["RET=HDRS", "ENVID=1"])
                assert client.rcpt("c@d.example", ["NOTIFY=NEVER"])[0] == 250
                assert client.rcpt("gone@d.example") == (550, b"5.1.1 gone")
                assert client.rcpt("later@d.example") == (452, b"4.2.2 full")
                assert client.rcpt("c@other.example")[0] == 550
                code, words = client.data(MESSAGE)
                assert code == 250
                assert re.fullmatch(rb"2\.0\.0 Taken as [0-9a-f]{16}: queued by the hop", words)
                client.mail("a@b.example")
                assert client.rcpt("bye@d.example")[0] == 451
                client.rset()
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            lines, _ = server.stop()
    words_of = [line.split()[1] for line in lines[:-1]]
    assert words_of.count("accepted") == words_of.count("relayed") == 2
    assert words_of.count("refused") == 4
    assert len(hop.kept) == 2
    envelope, content = hop.kept[0]
    ident = words.split()[3].rstrip(b":")  # the same in the reply, in Received and in the log
    assert sum(f" id={ident.decode()} " in line for line in lines) == 2
    assert re.fullmatch(
        rb"Received: from client\.example \(\[127\.0\.0\.1\]\) by mx\.example with ESMTP id "
        + ident
        + rb"\s+for <c@d\.example>;[^;]*\r\n"
        + MESSAGE,
        content.replace(b"\r\n ", b" "),
    )
    assert (envelope.sender.ret, envelope.sender.envid) == ("HDRS", "1")
    assert envelope.recipients[0].notify is not None


@pytest.mark.parametrize("loop", LOOPS)
def test_lmtp_to_lmtp_each_recipient_has_its_own_reply(tmp_path: Path, loop: str) -> None:
    hop, path = Hop(), str(tmp_path / "in")
    with SMTPServer(hop, config=ehlo.ServerConfig("hop.example", lmtp=True)) as next_hop:
        arguments = ["--lmtp", f"unix:{path}", "--to-lmtp", f"127.0.0.1:{next_hop.port}", "--loop", loop]
        with serve(*arguments) as server:
            with smtplib.LMTP(path) as client:
                client.ehlo()
                client.mail("a@b.example")
                names = ("c", "gone", "later", "e")
                assert [client.rcpt(f"{name}@d.example")[0] for name in names] == [250, 550, 452, 250]
                client.putcmd("data")
                assert client.getreply()[0] == 354
                client.send(MESSAGE + b".\r\n")
                replies = [client.getreply() for _ in range(2)]
            server.stop()
    assert [code for code, _ in replies] == [250, 250]
    assert all(re.fullmatch(rb"2\.0\.0 Taken as [0-9a-f]{16}: kept by the hop", words) for _, words in replies)
    assert len(hop.kept) == 1


def test_the_next_hop_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with serve("--smtp", "0", "--to-smtp", f"127.0.0.1:{port}", "--domain", "d.example") as server:
        with server.smtp() as client:
            client.ehlo()
            assert "dsn" not in client.esmtp_features
            client.mail("a@b.example")
            code, text = client.rcpt("c@d.example")
            assert (code, text[:5]) == (451, b"4.4.1")
        _, err = server.stop()
    assert err.startswith(f"ehlo serve: --to-smtp: 127.0.0.1:{port} does not say what it offers (")


def test_a_smarthost_with_a_password(place: Place) -> None:
    class Smart(Hop):
        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            assert isinstance(credentials, ehlo.PasswordCredentials)
            return credentials.check(PASSWORD)

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            self.kept.append((envelope, content))
            assert session.identity == "us"

    (place.path / "secret").write_text(PASSWORD + "\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place.path / "cert.pem", place.path / "key.pem")
    config = ehlo.ServerConfig("hop.example", auth=["PLAIN"], submission=True, tls="implicit")
    place.ca.cert_pem.write_to_path(str(place.path / "ca.pem"))
    with SMTPServer(smart := Smart(), config=config, tls=context) as next_hop:
        settings = f"""{TLS_AND_USERS}
        [[route]]
        from = "users"
        to = "smtp:127.0.0.1:{next_hop.port}"
        tls = "implicit"
        user = "us"
        password_file = "secret"
        [[listener]]
        protocol = "submissions"
        port = 0
        """
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(place.path / "ca.pem"))  # whom the system trusts
            with serve(place.write(settings)) as server:
                with smtplib.SMTP_SSL("127.0.0.1", server.ports[0], "c.example", context=place.client()) as client:
                    client.login("jane", PASSWORD)
                    client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
                _, err = server.stop()
    assert err == ""
    assert len(smart.kept) == 1


# ---- users ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scram", [False, True])
def test_hash_password(scram: bool) -> None:
    command = [sys.executable, "-m", "ehlo", "serve", "--hash-password", "jane", *(["--scram"] if scram else [])]
    done = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("jane:$scram-sha-256$i=" if scram else "jane:$scrypt$ln=")
    assert ehlo.verify_password(PASSWORD, done.stdout)
    assert PASSWORD not in done.stdout + done.stderr


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "port", "address"),
    [
        ("2525", None, ("127.0.0.1", 2525, None)),
        ("0.0.0.0:25", None, ("0.0.0.0", 25, None)),
        ("[::1]:25", None, ("::1", 25, None)),
        ("unix:/run/s", None, ("127.0.0.1", 0, "/run/s")),
        ("mx.example", 25, ("mx.example", 25, None)),
        ("[2001:db8::1]", 24, ("2001:db8::1", 24, None)),
    ],
)
def test_addresses(text: str, port: int | None, address: tuple[str, int, str | None]) -> None:
    found = parse_address(text, "--smtp", port)
    assert (found.host, found.port, found.path) == address


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1:", "127.0.0.1:70000", "::1:25", "unix:", "a b:25", ":25"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is no address; say it like"):
        parse_address(text, "--smtp")


BASE: dict[str, Any] = {"hostname": "mx.example", "route": [{"to": "discard"}], "listener": [{"port": 0}]}


def ready(values: dict[str, Any], base: str) -> list[Served]:
    """All that is looked at before anything listens."""
    return served(Site.open(read_settings(values, base)), Offers(dsn=False, binarymime=False, smtputf8=False))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"listener": []}, "listener is missing; write [[listener]], or give --smtp"),
        ({"listener": {}}, "listener is a list of tables; write each as [[listener]]"),
        ({"listener": [{"protocl": 25}]}, "[[listener]] 1: protocl is no setting: did you mean protocol?"),
        ({"listener": [{"port": 70000}]}, "[[listener]] 1: port is a whole number from 0 to 65535"),
        ({"listener": [{"port": "25"}]}, "[[listener]] 1: port is a whole number"),
        ({"listener": [{"port": True}]}, "[[listener]] 1: port is a whole number"),
        ({"listener": [{"protocol": "imap"}]}, "is one of smtp, submission, submissions, lmtp"),
        ({"listener": [{"path": "x", "port": 25}]}, "has a path, and also a host or port"),
        ({"listener": [{"protocol": "lmtp", "port": 25}]}, "must not be served on port 25"),  # B-LMT-10
        ({"listener": [{"mode": "660"}]}, "[[listener]] 1: mode needs a path"),
        ({"listener": [{"path": "x", "mode": "rw"}]}, "[[listener]] 1: mode is like"),
        ({"listener": [{"proxy": True}]}, "[[listener]] 1: proxy needs trusted"),
        ({"listener": [{"trusted": ["10.0.0.1/8"]}]}, "is no network"),
        ({"listener": [{"trusted": "10.0.0.0/8"}]}, "is a list of networks"),
        ({"listener": [{"protocol": "submission"}]}, "needs users; give --users FILE"),
        ({"listener": [{"require_tls": True}]}, "needs a certificate"),
        ({"deliver": {}}, "deliver is no table any more: each way of mail is a [[route]]"),
        ({"route": []}, "route is missing; write [[route]]"),
        ({"route": [{"to": "maildir"}]}, "[[route]] 1: to is maildir:PATH"),
        ({"route": [{"to": "maildir:{user}"}]}, "has {domain} and {local_part}"),
        ({"route": [{"to": "fail:450 4.1.1 x"}]}, 'to is like "fail:550 5.1.1 No such user"'),
        ({"route": [{"to": "mx", "from": "users"}]}, "'mx' needs a queue"),
        ({"route": [{"to": "smtp:a.example:25"}]}, "[[route]] 1 would relay for everybody; name the domains"),
        ({"route": [{"to": "smtp:a.example:0"}]}, "no port 0"),
        ({"route": [{"to": "lmtp:a b"}]}, "[[route]] 1: to 'a b' is no address"),
        ({"route": [{"to": "lmtp:unix:x", "user": "a"}]}, "go together"),
        ({"route": [{"to": "lmtp:unix:x", "tls": "maybe"}]}, "is one of off, opportunistic"),
        ({"route": [{"to": "maildir:x", "folder": "y"}]}, "[[route]] 1: folder is no setting"),
        ({"route": [{"to": "maildir:x", "tls": "off"}]}, "[[route]] 1: tls has no meaning with to = 'maildir:x'"),
        ({"route": [{"to": "discard"}, {"to": "hold"}]}, "needs a queue"),
        ({"route": [{"to": "discard"}, {"to": "maildir:x"}]}, "[[route]] 2 is never reached"),
        ({"route": [{"to": "discard", "domains": ["a b"]}]}, "domains has 'a b', which is no domain"),
        ({"route": [{"to": "discard", "from": ["x"]}]}, "is no network"),
        ({"route": [{"to": "discard", "recipients": "/nonexistent"}]}, "name a file that can be read"),
        ({"smtp": {"lenint": []}}, "smtp.lenint is no option of the engine: did you mean lenient?"),
        ({"smtp": {"lenient": ["x"]}}, "smtp.lenient does not fit: "),
        ({"smtp": {"tls": "off"}}, "smtp.tls is decided elsewhere"),
        ({"smtp": {"max_errors": 1}, "limits": {"max_errors": 1}}, "are one setting: keep one"),
        ({"queue": {}}, "queue needs one of path and url"),
        ({"auth": {"from": "jane"}}, 'auth.from is "any", "own" or "table:FILE"'),
        ({"hostname": "a b"}, "hostname 'a b' is no domain name"),
        ({"hostname": 5}, "hostname is a string"),
        ({"loop": "gevent"}, "loop is one of asyncio, uvloop, trio"),
        ({"deadline": -1}, "deadline is a number of seconds, 0 or more"),
        ({"quiet": 1}, "quiet is true or false"),
        ({"tls": {"key": "x"}}, "tls.key needs tls.certificate, too"),
        ({"tls": {"certificate": "/nonexistent"}}, "name files that can be read"),
        ({"tls": {"certificate": __file__}}, "name PEM files that belong together"),
        ({"auth": {"users": "/nonexistent"}}, "name a file that can be read"),
        ({"limits": {"max_conections": 1}}, "limits.max_conections is no setting: did you mean max_connections?"),
        ({"limits": {"max_recipients": 0}}, "limits.max_recipients is a whole number, 1 or more"),
        ({"colour": "red"}, "colour is no setting"),
    ],
)
def test_settings_that_are_wrong(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        ready(BASE | changes, "/")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_submission_needs_tls(place: Place) -> None:
    values = BASE | {"auth": {"users": "users"}, "listener": [{"protocol": "submission"}]}
    with pytest.raises(UsageError, match="needs a certificate"):
        ready(values, str(place.path))
    # Unless somebody else ends TLS for us.
    values["auth"] = {"users": "users", "in_clear": True}
    (one,) = ready(values, str(place.path))
    assert one.config.auth_in_clear == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert one.config.submission


def test_a_key_with_a_password_is_not_asked_for(place: Place) -> None:
    openssl = program("openssl")
    key, locked = str(place.path / "key.pem"), str(place.path / "locked.pem")
    subprocess.run([openssl, "rsa", "-aes128", "-passout", "pass:x", "-in", key, "-out", locked], check=False)
    if not os.path.exists(locked):
        subprocess.run([openssl, "ec", "-aes128", "-passout", "pass:x", "-in", key, "-out", locked], check=True)
    with pytest.raises(UsageError, match="has a password; store the key without one"):
        ready(BASE | {"tls": {"certificate": "cert.pem", "key": "locked.pem"}}, str(place.path))


def test_limits() -> None:
    limits = {"max_connections": 5, "max_size": 0, "command_seconds": 1.5, "handler_seconds": 0, "max_recipients": 100}
    (one,) = ready(BASE | {"limits": limits}, "/")
    config = one.config
    assert (one.limits.max_connections, one.limits.handler_seconds) == (5, None)
    assert (config.max_message_size, config.command_timeout, config.max_recipients) == (None, 1.5, 100)


def test_c5_every_option_of_the_engine() -> None:
    defaults = {name: value for name, value in engine_options().items() if value is not None}
    (one,) = ready(BASE | {"smtp": {name: _toml(value) for name, value in defaults.items()}}, "/")
    assert one.config.bare_newlines == "reject"
    smtp = {"lenient": ["bare_paths"], "unknown_parameters": "ignore", "max_junk": 0, "bare_newlines": "normalize"}
    listeners = [{"port": 0}, {"port": 0, "smtp": {"lenient": [], "max_junk": 7}}]
    one, two = ready(BASE | {"smtp": smtp, "listener": listeners}, "/")
    assert (one.config.lenient, one.config.max_junk) == (frozenset({"bare_paths"}), None)
    assert (two.config.lenient, two.config.max_junk, two.config.bare_newlines) == (frozenset(), 7, "normalize")


def _toml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_the_help_has_every_table_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ehlo.cli.main(["serve", "--help"])
    said = capsys.readouterr().out
    for word in ("[queue]", "[[route]]", "[smtp]", "recipient_field:", "lenient", "from: who may use it"):
        assert word in said


# ---- usage ---------------------------------------------------------------------------------------


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, str]]]:
    status = ehlo.cli.main(["serve", *AS_ROOT, "--check", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)["findings"]


def test_check(place: Place, capsys: pytest.CaptureFixture[str], usage: Callable[..., str]) -> None:
    status, found = check(capsys, place.write(ALL))
    assert status == 0, found
    (settings,) = (one["text"] for one in found if one["about"] == "settings")
    assert settings == "4 listeners; routes: maildir, fail; all their files were read"
    assert not (place.path / "box").exists()  # it only looks
    status, found = check(capsys, place.write(ALL), "--maildir", "/nonexistent/dir/box", "--smtp", "0")
    assert status == 1
    (error,) = (one["text"] for one in found if one["level"] == "error")
    assert "cannot be written to" in error
    assert "is no TOML" in usage("serve", place.write("x"), "--check")
    assert "name a TOML file that can be read" in usage("serve", "/nonexistent", "--check")
    assert "--json goes with --check" in usage("serve", "--json")


def test_the_whole_file_of_the_page(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/serve.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"## A whole file\n\n```toml\n(.*?)```", page, re.DOTALL)
    (place.path / "cert.pem").rename(place.path / "fullchain.pem")
    (place.path / "key.pem").rename(place.path / "privkey.pem")
    _, found = check(capsys, place.write(settings))
    (text,) = (one["text"] for one in found if one["about"] == "settings")
    assert text == "4 listeners; routes: maildir, mx; all their files were read"


def test_options_go_before_the_file(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys, place.write(ALL), "--discard", "--smtp", "0")
    assert status == 0, found
    (text,) = (one["text"] for one in found if one["about"] == "settings")
    assert text == "1 listener; routes: discard; all their files were read"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "listener is missing; write [[listener]]"),
        (("--smtp", "0"), "route is missing; write [[route]]"),
        (("--discard", "--smtp", "x y"), "--smtp 'x y' is no address"),
        (("--discard", "--submission", "0"), "--submission 0: submission needs users"),
        (("--discard", "--maildir", "x"), "not allowed with"),
        (("--to-smtp", "a.example", "--smtp", "0"), "--to-smtp would relay for everybody"),
        (("--maildir", "/dev/null/x", "--smtp", "0"), "name a place that can be written to"),
        (("--scram",), "--scram goes with --hash-password"),
        (("--hash-password", "a:b"), "cannot be a user's name"),
        (("--nonsense",), "unrecognized arguments"),
    ],
)
def test_bad_usage(usage: Callable[..., str], arguments: tuple[str, ...], says: str) -> None:
    assert says in usage("serve", *AS_ROOT, *arguments)


@pytest.mark.parametrize("loop", LOOPS)
def test_port_taken(usage: Callable[..., str], loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = usage("serve", *AS_ROOT, "--discard", "--lmtp", "0", "--smtp", port, "--loop", loop)
    assert f"port {port} on 127.0.0.1 is taken; choose another with --smtp" in said


# ---- strangers -----------------------------------------------------------------------------------


def test_msmtp(place: Place) -> None:
    msmtp = program("msmtp")
    place.ca.cert_pem.write_to_path(str(place.path / "ca.pem"))
    with serve(place.write(ALL), count=4) as server:
        for port, implicit in ((server.ports[1], "off"), (server.ports[2], "on")):
            command = [msmtp, "--host=127.0.0.1", f"--port={port}", "--auth=plain", "--user=jane", "--tls=on"]
            command += [f"--tls-starttls={'off' if implicit == 'on' else 'on'}", "--from=a@b.example"]
            command += [f"--tls-trust-file={place.path / 'ca.pem'}", f"--passwordeval=echo '{PASSWORD}'", "c@d.example"]
            subprocess.run(command, input=MESSAGE.replace(b"\r\n", b"\n"), timeout=30, check=True)
        server.stop()
    assert len(delivered(place.path / "box")) == 2


def test_mutt(place: Place) -> None:
    mutt = program("mutt")
    place.ca.cert_pem.write_to_path(str(place.path / "ca.pem"))
    with serve(place.write(ALL), count=4) as server:
        (place.path / "muttrc").write_text(
            f'set smtp_url="smtps://jane@127.0.0.1:{server.ports[2]}"\nset smtp_pass="{PASSWORD}"\n'
            f'set certificate_file="{place.path}/ca.pem"\nset ssl_ca_certificates_file="{place.path}/ca.pem"\n'
            f'set from="a@b.example"\nset copy=no\nset ssl_usesystemcerts=no\n'
        )
        command = [mutt, "-n", "-F", str(place.path / "muttrc"), "-s", "x", "c@d.example"]
        subprocess.run(command, input=b"hello\n", timeout=30, check=True, env=os.environ | {"HOME": str(place.path)})
        server.stop()
    assert len(delivered(place.path / "box")) == 1


def test_swaks(place: Place) -> None:
    swaks = program("swaks")
    with serve(place.write(ALL), count=4) as server:
        for port, option in ((server.ports[1], "--tls"), (server.ports[2], "--tls-on-connect")):
            command = [swaks, "--server", "127.0.0.1", "--port", str(port), "--from", "a@b.example", option]
            command += ["--to", "c@d.example", "--auth", "PLAIN", "--auth-user", "jane", "--auth-password", PASSWORD]
            done = subprocess.run(
                command, capture_output=True, timeout=30, check=False, text=True, stdin=subprocess.DEVNULL
            )
            if "Net::SSLeay" in done.stdout + done.stderr:
                pytest.skip("this swaks has no TLS: it lacks Net::SSLeay")
            assert done.returncode == 0, done.stdout
        server.stop()
    assert len(delivered(place.path / "box")) == 2


def test_curl(place: Place) -> None:
    place.ca.cert_pem.write_to_path(str(place.path / "ca.pem"))
    curl = program("curl")
    with serve(place.write(ALL), count=4) as server:
        for url in (f"smtp://127.0.0.1:{server.ports[1]}", f"smtps://127.0.0.1:{server.ports[2]}"):
            command = [curl, "--silent", "--show-error", "--ssl-reqd", "--cacert", str(place.path / "ca.pem"), url]
            command += ["--user", f"jane:{PASSWORD}", "--mail-from", "a@b.example", "--mail-rcpt", "c@d.example"]
            subprocess.run([*command, "--upload-file", "-"], input=MESSAGE, timeout=30, check=True)
        server.stop()
    assert len(delivered(place.path / "box")) == 2
