"""``ehlo.compat.aiosmtpd``: what programs that were written for aiosmtpd rely on."""

from __future__ import annotations

import asyncio
import gc
import importlib
import re
import smtplib
import socket
import ssl
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd_program import controller_of

import ehlo
from ehlo.compat import stand_in
from ehlo.compat.aiosmtpd.controller import Controller, UnixSocketController, UnthreadedController
from ehlo.compat.aiosmtpd.handlers import Mailbox, Message, Sink
from ehlo.compat.aiosmtpd.lmtp import LMTP
from ehlo.compat.aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, Session
from programs import free_port


@contextmanager
def running(controller: Any) -> Iterator[Any]:
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def serve(handler: Any, **options: Any) -> Any:
    return running(Controller(handler, "127.0.0.1", 0, server_hostname="mx.example", **options))


@contextmanager
def connected(controller: Any) -> Iterator[tuple[socket.socket, Any]]:
    with socket.create_connection(("127.0.0.1", controller.port)) as sock, sock.makefile("rb") as file:
        yield sock, file


class Box:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 kept"


def session_of(package: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[list[Any], list[Any]]:
    """All that a client hears of the program, and all that the program sees of the client."""
    pytest.importorskip(package.partition(".")[0])
    modules = [importlib.import_module(f"{package}.{name}") for name in ("controller", "smtp")]
    controller, handler = controller_of(modules[0], modules[1], tls[0])
    controller.port = free_port()  # aiosmtpd does not tell which port 0 became
    heard: list[Any] = []
    with running(controller), smtplib.SMTP("127.0.0.1", controller.port) as client:
        heard += [client.docmd("MAIL FROM:<a@b.example>"), client.ehlo("c.example"), client.docmd("XVERSION")]
        client._host = "localhost"  # type: ignore[attr-defined]
        heard += [client.starttls(context=tls[1])[0], client.ehlo("c.example"), client.docmd("XVERSION")]
        heard += [client.docmd("MAIL FROM:<a@b.example>"), client.docmd("AUTH XTOKEN"), client.docmd("bm8=")]
        heard += [client.docmd("AUTH", "PLAIN AGphbmUAd3Jvbmc="), client.login("jane", "pencil")]
        heard += [client.mail("a@b.example"), client.rcpt("c@elsewhere.example"), client.rcpt("d@mx.example")]
        heard += [client.data(b"Subject: hi\r\n\r\n.dot\r\n"), client.docmd("FOO"), client.docmd("RSET"), client.quit()]
    return heard, handler.seen


def test_a_program_that_changes_its_imports_only(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    # AUTH, STARTTLS, a command and a mechanism of its own, a handler: the same outcomes with both.
    theirs = session_of("aiosmtpd", tls)
    ours = session_of("ehlo.compat.aiosmtpd", tls)
    assert ours == theirs
    assert len(ours[1]) == 1


@pytest.mark.parametrize("name", ["smtp_AUTH", "connection_made", "data_received"])
def test_what_cannot_be_kept_is_refused_when_the_class_is_made(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{name}: .* cannot keep this, since .*(handler|Handler|methods)"):
        type("Mine", (SMTP,), {name: lambda self, *args: None})


def test_a_message() -> None:
    box = Box()
    with serve(box) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        client.sendmail("a@b.example", ["c@d.example", "e@f.example"], b".one\r\ntwo\r\n")
    (envelope,) = box.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("a@b.example", ["c@d.example", "e@f.example"])
    assert envelope.content == envelope.original_content == b".one\r\ntwo\r\n"
    assert envelope.mail_options[0].startswith("SIZE=")


def test_decoded_content() -> None:
    box = Box()
    with serve(box, decode_data=True) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        client.sendmail("a@b.example", "c@d.example", "caf\u00e9".encode())
    assert box.envelopes[0].content == "caf\u00e9\r\n"


def test_hooks_may_change_the_envelope() -> None:
    class Rewriting(Box):
        async def handle_RCPT(  # noqa: N802
            self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
        ) -> str:
            if address.startswith("no"):
                return "550 no such user"
            envelope.rcpt_tos.append(address.upper())
            return "250 rewritten"

    box = Rewriting()
    with serve(box) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        refused = client.sendmail("a@b.example", ["c@d.example", "no@d.example"], b"hi")
    assert refused == {"no@d.example": (550, b"no such user")}
    assert box.envelopes[0].rcpt_tos == ["C@D.EXAMPLE"]


def test_pipelined_commands_with_hooks_keep_their_order() -> None:
    class Slow(Box):
        async def handle_MAIL(  # noqa: N802
            self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
        ) -> Any:
            await asyncio.sleep(0)
            envelope.mail_from = address
            await server.push("250-first")
            await asyncio.sleep(0)
            return "250 mail"

    with serve(Slow()) as controller, socket.create_connection(("127.0.0.1", controller.port)) as sock:
        sock.sendall(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\nQUIT\r\n")
        with sock.makefile("rb") as file:
            lines = file.read().decode().splitlines()
    assert lines[-7:] == [
        "250-first",
        "250 mail",
        "250 OK",
        "354 End data with <CR><LF>.<CR><LF>",
        "250 kept",
        "250 OK",
        "221 Bye",
    ]


def test_an_exception_is_told_as_aiosmtpd_tells_it_on_one_line() -> None:
    class Broken:
        async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
            raise ValueError("two\r\n250 lines")

    with serve(Broken()) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            client.sendmail("a@b.example", "c@d.example", b"hi")
        assert caught.value.args == (500, b"Error: (ValueError) two 250 lines")
        assert client.noop() == (250, b"OK")


def test_a_client_that_leaves_auth() -> None:
    seen: list[Any] = []

    class Peculiar(SMTP):
        async def auth_XMAGIC(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
            seen.append(await self.challenge_auth(b"?"))
            return AuthResult(success=False, handled=seen[-1] is MISSING)

    class Mine(Controller):
        def factory(self) -> SMTP:
            return Peculiar(self.handler, auth_require_tls=False)

    with running(Mine(Sink(), "127.0.0.1", 0)) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        client.ehlo("c.example")
        assert client.docmd("AUTH XMAGIC")[0] == 334
        assert client.docmd("*") == (501, b"5.7.0 Auth aborted")
        assert client.docmd("AUTH XMAGIC")[0] == 334
        assert client.docmd("bm8=") == (535, b"5.7.8 Authentication credentials invalid")
        assert client.docmd("AUTH XMAGIC")[0] == 334
        client.close()
    assert seen == [MISSING, b"no"] or seen == [MISSING, b"no", MISSING]


def test_lmtp_has_a_reply_for_each_recipient() -> None:
    # RFC 2033 4.2. aiosmtpd sends one for all.
    class Mine(Controller):
        def factory(self) -> LMTP:
            return LMTP(self.handler)

    with running(Mine(Box(), "127.0.0.1", 0)) as controller, connected(controller) as (sock, file):
        sock.sendall(b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
        assert file.read().endswith(b"250 kept\r\n250 kept\r\n221 Bye\r\n")


def test_implicit_tls_knows_that_it_is_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    # aiosmtpd offers no AUTH there.
    options: dict[str, Any] = {"ssl_context": tls[0], "auth_callback": lambda *_: True}
    with serve(Sink(), **options) as made, smtplib.SMTP_SSL("localhost", made.port, context=tls[1]) as client:
        assert client.login("jane", "pencil")[0] == 235


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(UnixSocketController(Sink(), path)), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"QUIT\r\n")
        with sock.makefile("rb") as file:
            assert file.read().endswith(b"221 Bye\r\n")


def test_nothing_of_a_stopped_controller_stays() -> None:
    """A suite of tests starts one for each test: its loop has descriptors."""
    with serve(Sink()) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
        assert client.noop() == (250, b"OK")
        loop = weakref.ref(controller.loop)
    del controller, client
    gc.collect()
    assert loop() is None


def test_a_loop_of_the_program() -> None:
    loop = asyncio.new_event_loop()
    controller = UnthreadedController(Sink(), "127.0.0.1", 0, loop=loop)
    controller.begin()

    def talk() -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", controller.port) as client:
            return client.noop()

    assert loop.run_until_complete(loop.run_in_executor(None, talk)) == (250, b"OK")
    controller.end()
    assert controller.ended.is_set()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_mailboxes_and_messages(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Keep(Message):
        def handle_message(self, message: Any) -> None:
            seen.append((message["X-MailFrom"], message["X-RcptTo"], message["Subject"]))

    for handler in (Keep(), Mailbox(tmp_path / "box")):
        with serve(handler) as controller, smtplib.SMTP("127.0.0.1", controller.port) as client:
            client.sendmail("a@b.example", "c@d.example", b"Subject: hi\r\n\r\nhi\r\n")
    assert seen == [("a@b.example", "c@d.example", "hi")]
    assert len(list((tmp_path / "box/new").iterdir())) == 1


def test_limits_of_commands() -> None:
    with serve(Sink(), command_call_limit={"NOOP": 2}) as controller, connected(controller) as (sock, file):
        sock.sendall(b"NOOP\r\n" * 5)
        assert file.read().endswith(b"250 OK\r\n250 OK\r\n421 4.7.0 NOOP sent too many times\r\n")


def test_bogus_commands_end_the_session() -> None:
    with serve(Sink()) as controller, connected(controller) as (sock, file):
        sock.sendall(b"FOO\r\n" * 9)
        assert file.read().endswith(b"502 5.5.1 Too many unrecognized commands, goodbye.\r\n")


def test_it_imports_nothing_of_aiosmtpd() -> None:
    for path in (Path(ehlo.__file__).parent / "compat/aiosmtpd").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) aiosmtpd", text, re.MULTILINE), path


def test_it_stands_in_for_the_library() -> None:
    before = dict(sys.modules)
    try:
        assert stand_in("aiosmtpd").__name__ == "ehlo.compat.aiosmtpd"
        assert importlib.import_module("aiosmtpd.smtp").SMTP is SMTP
        assert importlib.import_module("aiosmtpd.controller").Controller is Controller
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
        sys.modules.update(before)
