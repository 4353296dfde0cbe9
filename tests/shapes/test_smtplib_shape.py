"""``ehlo.compat.smtplib`` where smtplib's own tests do not look; these are run by tests/suites/run.py."""

from __future__ import annotations

import inspect
import smtplib as original
import socket
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

import ehlo
from authority import Authority
from ehlo.compat import smtplib
from ehlo.testing import ScriptedServer, SMTPServer

A, B, C = "a@b.example", "c@d.example", "e@f.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
HELLO = "S: 220 mx.example\nC: ehlo *\nS: 250-mx.example\nS: 250-SIZE\nS: 250 PIPELINING\n"


class Refusing(ehlo.Handler):
    """Refuses those with "nobody" in their name."""

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> ehlo.Reply | None:
        return ehlo.Reply(550, "5.1.1", ["no such user", "sorry"]) if "nobody" in str(recipient.path) else None


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


# ---- the face ------------------------------------------------------------------------------------


def test_every_name_of_smtplib_is_there() -> None:
    assert {*original.__all__} <= {*smtplib.__all__}
    for kind in ("SMTP", "SMTP_SSL", "LMTP"):
        theirs, ours = getattr(original, kind), getattr(smtplib, kind)
        public = {name for name in dir(theirs) if not name.startswith("_")}
        assert public <= {*dir(ours), "keyfile", "certfile"}
        for name in public:
            if callable(getattr(theirs, name)) and name not in ("starttls",):
                have = [*inspect.signature(getattr(ours, name)).parameters]
                assert [*inspect.signature(getattr(theirs, name)).parameters] == have, name


@pytest.mark.parametrize("name", [name for name in original.__all__ if name.startswith("SMTP") and "_" not in name[4:]])
def test_an_exception_is_smtplibs_and_ours(name: str) -> None:
    theirs, ours = getattr(original, name), getattr(smtplib, name)
    if issubclass(theirs, Exception):
        assert issubclass(ours, theirs)
        assert issubclass(ours, ehlo.EhloError)
        assert issubclass(ours, smtplib.SMTPException)


def test_exceptions_have_smtplibs_attributes() -> None:
    error = smtplib.SMTPSenderRefused(550, b"no", A)
    assert (error.smtp_code, error.smtp_error, error.sender, error.args) == (550, b"no", A, (550, b"no", A))
    refused = smtplib.SMTPRecipientsRefused({B: (550, b"no")})
    assert (refused.recipients, refused.args) == ({B: (550, b"no")}, ({B: (550, b"no")},))


# ---- messages ------------------------------------------------------------------------------------


def test_a_message_goes_out_in_two_round_trips() -> None:
    script = (
        HELLO
        + f"C: MAIL FROM:<{A}> SIZE=*\nC: RCPT TO:<{B}>\nC: RCPT TO:<{C}>\nC: DATA\n"
        + "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 354 go\nC...\nS: 250 ok\nC: quit\nS: 221 bye\n"
    )
    with ScriptedServer(script) as peer:
        smtp = smtplib.SMTP(peer.host, peer.port)
        assert smtp.sendmail(A, [B, C], CONTENT) == {C: (550, b"5.1.1 no")}
        assert smtp.quit() == (221, b"bye")


def test_what_was_refused_is_told_as_by_smtplib() -> None:
    nobody, nothing = "nobody@d.example", "nobody@f.example"
    answer = (550, b"5.1.1 no such user\n5.1.1 sorry")
    with SMTPServer(Refusing()) as server:
        for module in (original, smtplib):
            with module.SMTP(server.host, server.port) as smtp:
                assert smtp.sendmail(A, [B, nobody], CONTENT) == {nobody: answer}
                with pytest.raises(original.SMTPRecipientsRefused) as caught:
                    smtp.sendmail(A, [nobody, nothing], CONTENT)
                assert caught.value.recipients == {nobody: answer, nothing: answer}
                assert smtp.sendmail(A, f"Jane <{B}>", CONTENT) == {}
                assert smtp.mail(A) == (250, b"2.1.0 OK"), "no transaction is left"


@pytest.mark.parametrize("content", [b"a\nb\r.c\r\n..d", "a\nb\r.c\r\n..d", b"a\r\nb\r\n.c\r\n..d\r\n"])
def test_line_ends_are_made_right(server: SMTPServer, content: bytes | str) -> None:
    class Stepping(smtplib.SMTP):
        def rset(self) -> smtplib.Answer:  # a program with a step of its own
            return super().rset()

    for kind in (smtplib.SMTP, Stepping):
        with kind(server.host, server.port) as smtp:
            smtp.sendmail(A, B, content)
    assert [message.content for message in server.wait(2)] == [b"a\r\nb\r\n.c\r\n..d\r\n"] * 2


def test_a_method_that_the_program_changes_is_called(server: SMTPServer) -> None:
    said = []

    class Mine(smtplib.SMTP):
        def rcpt(self, recip: str, options: Any = ()) -> smtplib.Answer:
            said.append(recip)
            return super().rcpt(recip, options)

    with Mine(server.host, server.port) as smtp:
        smtp.sendmail(A, [B, C], CONTENT)
    assert said == [B, C]


def test_parameters_of_mail_and_rcpt() -> None:
    script = (
        HELLO.replace("PIPELINING", "PIPELINING\nS: 250 DSN").replace("250 PIPE", "250-PIPE")
        + f"C: MAIL FROM:<{A}> * RET=HDRS*\nC: RCPT TO:<{B}> NOTIFY=NEVER\nC: DATA\n"
        + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nS: 250 ok\nC: quit\nS: 221 bye\n"
    )
    with ScriptedServer(script) as peer:
        smtp = smtplib.SMTP(peer.host, peer.port)
        assert smtp.sendmail(A, B, CONTENT, ["RET=HDRS"], ["NOTIFY=NEVER"]) == {}
        smtp.quit()


def test_international_mail(server: SMTPServer) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "jürgen@b.example", B, C
    message.set_content("hi\n")
    with smtplib.SMTP(server.host, server.port) as smtp:
        assert smtp.send_message(message) == {}
    (received,) = server.wait(1)
    assert received.sender == "jürgen@b.example"
    assert received.recipients == [B, C]
    assert b"Bcc" not in received.content
    assert received.envelope.sender.smtputf8


def test_a_command_between_messages(server: SMTPServer) -> None:
    with smtplib.SMTP(server.host, server.port) as smtp:
        smtp.sendmail(A, B, CONTENT)
        assert smtp.noop()[0] == 250
        smtp.esmtp_features.pop("pipelining")
        smtp.sendmail(A, B, CONTENT)
        assert smtp.ehlo()[0] == 250
        smtp.sendmail(A, B, CONTENT)
    assert len(server.wait(3)) == 3


def test_much_mail(server: SMTPServer) -> None:
    content = b"x" * 998 + b"\r\n"
    with smtplib.SMTP(server.host, server.port) as smtp:
        smtp.sendmail(A, B, content * 3000)
    assert server.wait(1)[0].content == content * 3000


def test_the_dialogue_is_printed(server: SMTPServer, capsys: pytest.CaptureFixture[str]) -> None:
    with smtplib.SMTP(server.host, server.port) as smtp:
        smtp.set_debuglevel(1)
        smtp.sendmail(A, B, CONTENT)
    printed = capsys.readouterr().err
    assert "send: b'MAIL FROM:<a@b.example>" in printed
    assert "reply: b'250" in printed


# ---- the end -------------------------------------------------------------------------------------

GROUP = f"C: MAIL FROM:<{A}>*\nC: RCPT TO:<{B}>\nC: DATA\n"


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (GROUP + "close\n", smtplib.SMTPServerDisconnected),
        (GROUP + "S: 421 4.3.2 later\nclose\n", smtplib.SMTPSenderRefused),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nclose\n", smtplib.SMTPOutcomeUnknown),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nwait\n", smtplib.SMTPOutcomeUnknown),
        (GROUP + "wait\n", smtplib.SMTPServerDisconnected),
        (GROUP + "S: what?\nclose\n", smtplib.SMTPServerDisconnected),
    ],
)
def test_how_a_connection_ends(rest: str, kind: type[smtplib.SMTPException]) -> None:
    with ScriptedServer(HELLO + rest) as peer:
        smtp = smtplib.SMTP(peer.host, peer.port, timeout=1 if "wait" in rest else 20)
        with pytest.raises(kind) as caught:
            smtp.sendmail(A, B, CONTENT)
        assert type(caught.value) is kind
        assert smtp.sock is None
        with pytest.raises(smtplib.SMTPServerDisconnected, match="connect"):
            smtp.noop()


def test_an_early_refusal_stops_the_content() -> None:
    # C-CLI-33: the server answers in the middle of the content, and closes when it likes.
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, theirs.makefile("rb") as lines:
            theirs.sendall(b"220 mx\r\n")
            lines.readline()
            theirs.sendall(b"250-mx\r\n250 CHUNKING\r\n")
            lines.readline()
            theirs.sendall(b"250 ok\r\n")
            lines.readline()
            theirs.sendall(b"250 ok\r\n")
            size = int(lines.readline().split()[1])
            theirs.sendall(b"552 too much\r\n")
            lines.read(size)
            while line := lines.readline():
                if line.startswith(b"BDAT"):
                    lines.read(int(line.split()[1]))
                    theirs.sendall(b"503 no\r\n")
                elif line.upper().startswith((b"QUIT", b"RSET")):
                    theirs.sendall(b"250 ok\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    smtp = smtplib.SMTP()
    smtp.sock, smtp.timeout = ours, 5.0
    ours.settimeout(5.0)
    assert smtp.getreply() == (220, b"mx")
    with pytest.raises(smtplib.SMTPDataError, match="552"):
        smtp.sendmail(A, B, b"x" * 998 + b"\r\n" * 1000)
    smtp.close()
    thread.join()


# ---- TLS, AUTH, LMTP -----------------------------------------------------------------------------


def test_tls(authority: Authority) -> None:
    config = ehlo.ServerConfig("mx.example", tls="implicit")
    with SMTPServer(config=config, tls=authority.server()) as server:
        with smtplib.SMTP_SSL(server.host, server.port, context=authority.client()) as smtp:
            assert smtp.sendmail(A, B, CONTENT) == {}
        with smtplib.SMTP_SSL(server.host, server.port) as smtp:  # nobody verifies, as in smtplib
            assert smtp.sendmail(A, B, CONTENT * 10000) == {}
        with pytest.raises(ssl.SSLCertVerificationError):
            smtplib.SMTP_SSL(server.host, server.port, context=ssl.create_default_context())
        assert [message.protocol for message in server.wait(2)] == ["ESMTPS", "ESMTPS"]


def test_starttls_forgets_what_came_before(authority: Authority) -> None:
    config = ehlo.ServerConfig("mx.example", tls="starttls")
    with SMTPServer(config=config, tls=authority.server()) as server:
        with smtplib.SMTP(server.host, server.port) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("starttls")
            assert smtp.starttls(context=authority.client())[0] == 220
            assert smtp.esmtp_features == {}
            assert smtp.sendmail(A, B, CONTENT) == {}
            assert not smtp.has_extn("starttls")
        assert server.wait(1)[0].protocol == "ESMTPS"


def test_by_lmtp_each_recipient_has_an_answer(tmp_path: Path) -> None:
    class Half(ehlo.Handler):
        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
            return [None, "452 4.2.2 full"]

    config = ehlo.ServerConfig("mx.example", lmtp=True)
    with SMTPServer(Half(), config=config) as server, smtplib.LMTP(server.host, server.port) as lmtp:
        assert lmtp.sendmail(A, [B, C], CONTENT) == {C: (452, b"4.2.2 full")}
