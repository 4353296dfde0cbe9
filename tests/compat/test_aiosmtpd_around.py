"""``ehlo.compat.aiosmtpd``: methods of a program around what the engine does itself."""

from __future__ import annotations

import asyncio
import select
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ehlo.compat.aiosmtpd.controller import Controller
from ehlo.compat.aiosmtpd.handlers import Sink
from ehlo.compat.aiosmtpd.lmtp import LMTP
from ehlo.compat.aiosmtpd.smtp import SMTP, TLSSetupException

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Controllers make a loop of this kind."""
    if request.param == "uvloop":
        monkeypatch.setattr(asyncio, "new_event_loop", pytest.importorskip("uvloop").new_event_loop)


@contextmanager
def serving(kind: type[SMTP], handler: Any = None, **options: Any) -> Iterator[int]:
    """The port of a server that makes a protocol of this class for each connection."""

    class Mine(Controller):
        def factory(self) -> Any:
            return kind(self.handler, **self.SMTP_kwargs)

    controller = Mine(handler or Sink(), "127.0.0.1", 0, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, Any]]:
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as file:
        yield sock, file


def secured(port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    """A client inside TLS."""
    client = smtplib.SMTP("127.0.0.1", port)
    assert client.starttls(context=context)[0] == 220
    return client


class OwnHandshake(SMTP):
    """As smtpdfix does it."""

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
        await self.push("220 Ready to start TLS")
        try:
            transport: Any = await self.loop.start_tls(
                self.transport,  # type: ignore[arg-type]
                self,
                self.tls_context,
                server_side=True,
            )
        except Exception as exc:
            raise TLSSetupException from exc
        self._reader._transport = transport
        self._writer._transport = transport
        self._tls_protocol = transport.get_protocol()


# ---- STARTTLS ------------------------------------------------------------------------------------


def test_starttls_by_super_returns_when_there_is_tls(tls: Contexts) -> None:
    seen: list[object] = []

    class Mine(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            seen.append(self._s.ssl)
            await super().smtp_STARTTLS(arg)
            await asyncio.sleep(0)
            seen.append(self._s.ssl is not None and self._s.host_name is None)

    with serving(Mine, tls_context=tls[0]) as port, secured(port, tls[1]) as client:
        assert client.sendmail("a@b.example", "c@d.example", "hi") == {}
    assert seen == [None, True]


@pytest.mark.parametrize("own", [False, True])
def test_a_program_hears_of_a_handshake_that_failed(tls: Contexts, own: bool) -> None:
    seen: list[object] = []

    class Told:
        async def handle_exception(self, error: Exception) -> str:
            seen.append(type(error))
            return "500 nobody reads this"

    class Super(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            await super().smtp_STARTTLS(arg)

    with serving(OwnHandshake if own else Super, Told(), tls_context=tls[0]) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\n")
        while not file.readline().startswith(b"250 "):
            pass
        sock.sendall(b"STARTTLS\r\n")
        assert file.readline().startswith(b"220 ")
        sock.sendall(b"this is no handshake\r\n")
        assert b"500" not in file.read()
    assert seen == [TLSSetupException]


def test_a_handshake_of_the_programs_own(tls: Contexts) -> None:
    with serving(OwnHandshake, tls_context=tls[0], require_starttls=True) as port:
        with secured(port, tls[1]) as client:
            assert "starttls" not in client.esmtp_features
            assert client.sendmail("a@b.example", "c@d.example", "hi") == {}
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo()
            assert client.docmd("MAIL FROM:<a@b.example>")[0] == 530


@pytest.mark.parametrize("own", [False, True])
def test_octets_in_the_clear_behind_starttls_have_no_effect(tls: Contexts, own: bool) -> None:
    # S-TLS-04, RFC 3207 4.2
    class Super(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            await super().smtp_STARTTLS(arg)

    with serving(OwnHandshake if own else Super, tls_context=tls[0]) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\nSTARTTLS\r\nNOOP\r\n")
        replies = file.read()
    assert b"\r\n220 " not in replies
    assert replies.count(b"\r\n250 ") == 1


def test_octets_in_the_clear_while_a_program_gets_ready_end_the_session(tls: Contexts) -> None:
    # S-TLS-04: they come behind the 220, and before the handshake has begun.
    class Slow(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            await self.push("220 Ready to start TLS")
            await self._handler_coroutine

    with serving(Slow, tls_context=tls[0]) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\n")
        while not file.readline().startswith(b"250 "):
            pass
        sock.sendall(b"STARTTLS\r\n")
        assert file.readline().startswith(b"220 ")
        sock.sendall(b"MAIL FROM:<a@b.example>\r\n")
        with suppress(ConnectionResetError):
            assert file.read() == b""


@pytest.mark.parametrize("own", [False, True])
def test_a_client_that_does_not_shake_hands_is_cut_off(tls: Contexts, own: bool) -> None:
    class Super(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            await super().smtp_STARTTLS(arg)

    kind = OwnHandshake if own else Super
    with serving(kind, tls_context=tls[0], timeout=1) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\n")
        while not file.readline().startswith(b"250 "):
            pass
        sock.sendall(b"STARTTLS\r\n")
        assert file.readline().startswith(b"220 ")
        with suppress(ConnectionResetError):
            assert file.read() == b""


def test_starttls_may_be_refused(tls: Contexts) -> None:
    class Mine(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            await self.push("454 not today")

    with serving(Mine, tls_context=tls[0]) as port, smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        assert client.docmd("STARTTLS") == (454, b"not today")
        assert client.sendmail("a@b.example", "c@d.example", "hi") == {}


# ---- DATA ----------------------------------------------------------------------------------------


def test_data_by_super_returns_when_the_content_has_its_reply() -> None:
    seen: list[str] = []

    class Mine(SMTP):
        async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
            seen.append("before")
            await super().smtp_DATA(arg)
            await asyncio.sleep(0)
            seen.append("after")

    class Keeps:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            seen.append(envelope.content.decode())
            return "250 kept"

    with serving(Mine, Keeps()) as port, smtplib.SMTP("127.0.0.1", port) as client:
        for _ in range(2):
            assert client.sendmail("a@b.example", "c@d.example", "hi") == {}
    assert seen == ["before", "hi\r\n", "after"] * 2


def test_data_may_be_refused() -> None:
    class Mine(SMTP):
        async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
            await self.push("451 not today")

    with serving(Mine) as port, smtplib.SMTP("127.0.0.1", port) as client:
        for _ in range(2):
            with pytest.raises(smtplib.SMTPDataError, match="not today"):
                client.sendmail("a@b.example", "c@d.example", "hi")
            client.rset()


def test_data_around_content_that_is_too_large() -> None:
    over: list[bool] = []

    class Mine(SMTP):
        async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
            await super().smtp_DATA(arg)
            over.append(True)

    with serving(Mine, data_size_limit=10) as port, smtplib.SMTP("127.0.0.1", port) as client:
        client.helo()
        client.mail("a@b.example")
        client.rcpt("c@d.example")
        assert client.data("more than ten octets")[0] == 552
        assert client.noop()[0] == 250
    assert over == [True]


def test_data_around_a_client_that_leaves() -> None:
    ended = threading.Event()

    class Mine(SMTP):
        async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
            try:
                await super().smtp_DATA(arg)
            finally:
                ended.set()

    with serving(Mine) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi")
        while not file.readline().startswith(b"354"):
            pass
        sock.shutdown(socket.SHUT_WR)
        file.read()
        assert ended.wait(10)


def test_data_that_reads_by_itself_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Mine\.smtp_DATA: .*on_body"):

        class Mine(SMTP):
            async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
                await self._reader.readuntil()


# ---- the session ---------------------------------------------------------------------------------


def test_a_session_around_the_engines() -> None:
    began, over = threading.Semaphore(0), threading.Semaphore(0)

    class Mine(SMTP):
        async def _handle_client(self) -> None:
            began.release()
            await super()._handle_client()
            over.release()

    with serving(Mine) as port:
        with smtplib.SMTP("127.0.0.1", port) as client:
            assert client.sendmail("a@b.example", "c@d.example", "hi") == {}
        for _ in range(2):  # the controller connects once, too
            assert began.acquire(timeout=10)
            assert over.acquire(timeout=10)


def test_a_session_that_never_begins() -> None:
    class Mine(SMTP):
        async def _handle_client(self) -> None:
            await self.push("554 no mail here")

    with serving(Mine) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\n")
        assert file.readline() == b"554 no mail here\r\n"


def test_what_was_pushed_goes_out_before_the_transport_is_closed() -> None:
    class Mine(SMTP):
        async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: N802
            await self.push("421 come back later")
            assert self.transport is not None
            self.transport.close()

    with serving(Mine) as port, connected(port) as (sock, file):
        sock.sendall(b"NOOP\r\n")
        assert file.read().endswith(b"421 come back later\r\n")


def test_an_overridden_push_sees_every_reply_of_the_program() -> None:
    said: list[Any] = []

    class Mine(LMTP):
        async def push(self, status: str | bytes) -> None:
            said.append(status)
            await super().push(status)

    with serving(Mine) as port, connected(port) as (sock, file):
        sock.sendall(b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
        assert file.read().endswith(b"250 OK\r\n250 OK\r\n221 Bye\r\n")
    assert said[-6:] == ["250 OK"] * 5 + ["221 Bye"]


async def _exits_later(*_: Any) -> Any:
    await asyncio.sleep(0)
    raise SystemExit("out of a library")


class _AroundExit(SMTP):
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        await super().smtp_DATA(arg)
        await _exits_later()


class _DataExit(SMTP):
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        await _exits_later()


class _ClientExit(SMTP):
    _handle_client = _exits_later


MESSAGE = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"


@pytest.mark.parametrize(
    ("kind", "options", "octets", "codes"),
    [
        (_DataExit, {}, MESSAGE + b"QUIT\r\n", "220 250 250 250 451 221"),
        (_AroundExit, {}, MESSAGE + b"hi\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221"),
        (_ClientExit, {}, b"", ""),
        (SMTP, {"proxy_protocol_timeout": 30}, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", ""),
    ],
)
def test_a_method_that_exits_does_not_end_the_server(
    kind: type[SMTP], options: dict[str, Any], octets: bytes, codes: str
) -> None:
    class Handler:
        handle_PROXY = _exits_later  # noqa: N815

    with serving(kind, Handler(), **options) as port:
        for _ in range(2):
            with connected(port) as (sock, file):
                sock.sendall(octets)
                heard = [line[:3].decode() for line in file.read().splitlines() if line[3:4] != b"-"]
                assert heard == codes.split()


@pytest.mark.parametrize("fault", [SystemExit, ValueError])
def test_a_handle_starttls_that_fails_lets_nobody_in(tls: Contexts, fault: type[BaseException]) -> None:
    class Handler:
        def handle_STARTTLS(self, *_: Any) -> bool:  # noqa: N802
            raise fault

    with serving(SMTP, Handler(), tls_context=tls[0]) as port:
        for _ in range(2):
            with secured(port, tls[1]) as client:
                assert client.ehlo()[0] == 554


def test_the_session_waits_for_smtp_data_after_refused_content() -> None:
    seen: list[str] = []

    class Mine(SMTP):
        async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
            await super().smtp_DATA(arg)
            for _ in range(20):
                await asyncio.sleep(0)
            seen.append("DATA")

        async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: N802
            seen.append("NOOP")
            await super().smtp_NOOP(arg)

    with serving(Mine, data_size_limit=9) as port, connected(port) as (sock, file):
        sock.sendall(MESSAGE + b"this is too much\r\n.\r\nNOOP\r\nQUIT\r\n")
        assert b"\r\n552 Error: Too much mail data\r\n250 OK\r\n221 Bye\r\n" in file.read()
    assert seen == ["DATA", "NOOP"]


# ---- the PROXY header ----------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [False, True])
def test_handle_proxy_ends_with_its_client_or_its_time(leaves: bool) -> None:
    over = threading.Event()

    class Handler:
        async def handle_PROXY(self, *_: Any) -> bool:  # noqa: N802
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                over.set()
            return True

    seconds = 60 if leaves else 0.1
    with serving(SMTP, Handler(), proxy_protocol_timeout=seconds) as port, connected(port) as (sock, file):
        sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n")
        if leaves:
            sock.shutdown(socket.SHUT_RDWR)
        assert file.read() == b""
        assert over.wait(30)


def test_a_client_may_not_fill_the_memory_while_handle_proxy_thinks() -> None:
    held: list[int] = []
    go = threading.Event()
    commands = b"NOOP\r\n" * 1_000_000

    class Handler:
        async def handle_PROXY(self, server: Any, *_: Any) -> bool:  # noqa: N802
            await asyncio.to_thread(go.wait)
            held.append(len(server._proxy_octets))
            return True

    with serving(SMTP, Handler(), proxy_protocol_timeout=60) as port, connected(port) as (sock, file):
        sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n")
        sock.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while select.select([], [sock], [], 1)[1] and sent < len(commands):
                sent += sock.send(commands[sent : sent + 65536])
        go.set()
        assert sent < len(commands)
        sock.setblocking(True)
        assert file.readline().startswith(b"220 ")
        assert file.readline() == b"250 OK\r\n"
    assert held[0] < 1 << 20


def test_a_client_that_leaves_in_the_handshake_ends_smtp_starttls(tls: Contexts) -> None:
    over = threading.Event()

    class Mine(SMTP):
        async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
            try:
                await super().smtp_STARTTLS(arg)
            finally:
                over.set()

    with serving(Mine, tls_context=tls[0]) as port, connected(port) as (sock, file):
        sock.sendall(b"EHLO c\r\nSTARTTLS\r\n")
        while not file.readline().startswith(b"220 Ready"):
            pass
        sock.shutdown(socket.SHUT_WR)
        assert file.read() == b""
        assert over.wait(30)
