"""STARTTLS and implicit TLS of a server, on every backend, with clients that know nothing of us."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import ehlo
from authority import Authority
from backends import MAIL, Backend, Keep
from programs import program

pytestmark = pytest.mark.tcp  # the clients are programs that know TCP only

STARTTLS = ehlo.ServerConfig("mx.example", tls="starttls")
IMPLICIT = ehlo.ServerConfig("mx.example", tls="implicit")


def serve_and(
    backend: Backend,
    authority: Authority,
    client: Callable[[int], Any],
    config: ehlo.ServerConfig = STARTTLS,
    handler: object | None = None,
    **options: Any,
) -> Any:
    """Run ``client`` with the server's port in a thread; give what it returned."""

    async def main() -> Any:
        options.setdefault("tls", authority.server())
        async with await backend.serve(handler or Keep(), config=config, **options) as server:
            return await backend.thread(client, server.port)

    return backend.run(main)


def talk(sock: socket.socket, octets: bytes) -> bytes:
    """Send, then read until the line that ends a reply."""
    sock.sendall(octets)
    reply = b""
    while not reply.endswith(b"\r\n") or reply.splitlines()[-1][3:4] != b" ":
        more = sock.recv(65536)
        if not more:
            break
        reply += more
    return reply


def dial(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    assert talk(sock, b"").startswith(b"220 mx.example")
    return sock


# ---- it works ------------------------------------------------------------------------------------


def test_smtplib_by_starttls(backend: Backend, authority: Authority) -> None:
    handler = Keep()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
            client.starttls(context=authority.client())
            assert not client.has_extn("starttls")  # S-TLS-07
            client.sendmail("a@b.example", ["c@d.example"], b"Subject: x\r\n\r\n" + b"y" * 200_000 + b"\r\n")

    serve_and(backend, authority, send, handler=handler)
    ((_, content),) = handler.kept
    assert len(content) == 200_000 + 16


def test_smtplib_by_implicit_tls(backend: Backend, authority: Authority) -> None:
    # B-TLS-15, RFC 8314 3.3: the handshake comes first, then the greeting; STARTTLS is not listed.
    handler = Keep()

    def send(port: int) -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, "client.example", context=authority.client()) as client:
            client.ehlo()
            assert not client.has_extn("starttls")
            client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")

    serve_and(backend, authority, send, IMPLICIT, handler)
    assert [content for _, content in handler.kept] == [b"x\r\n"]


def test_the_first_octets_of_implicit_tls_are_a_record(backend: Backend, authority: Authority) -> None:
    # B-TLS-15: nothing is said in clear, not even to one who says nothing or speaks SMTP.
    def listen(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(b"EHLO x\r\n")
            return sock.recv(100)

    first = serve_and(backend, authority, listen, IMPLICIT)
    assert first[:1] in (b"", b"\x15")  # closed, or an alert (RFC 8446 5.1)


def test_a_session_says_how_it_came(backend: Backend, authority: Authority) -> None:
    seen: list[str] = []

    class Mine(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await backend.turn()
            seen.append(session.protocol)

    def send(port: int) -> None:
        for secure in (False, True):
            with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
                if secure:
                    client.starttls(context=authority.client())
                client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")

    serve_and(backend, authority, send, handler=Mine())
    assert seen == ["ESMTP", "ESMTPS"]  # RFC 3848 1


def test_content_is_streamed_through_tls(backend: Backend, authority: Authority) -> None:
    octets: list[int] = []

    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            async for chunk in body:
                await backend.turn()
                octets.append(len(chunk))

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
            client.starttls(context=authority.client())
            for _ in range(2):
                client.sendmail("a@b.example", ["c@d.example"], b"y" * 998 + b"\r\n" + b"z\r\n" * 100_000)

    serve_and(backend, authority, send, handler=Mine())
    assert sum(octets) == 2 * 301_000
    assert max(octets) <= 65536


# ---- RFC 3207 4.2: nothing from before is there after ---------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 9, 17])
def test_octets_behind_starttls_have_no_effect(backend: Backend, authority: Authority, cut: int) -> None:
    # S-TLS-04, S-TLS-05, by the socket: in one segment, and with the rest behind it.
    injected = b"MAIL FROM:<x@y>\r\nNO"

    def attack(port: int) -> bytes:
        with dial(port) as sock:
            talk(sock, b"EHLO x\r\n")
            octets = b"STARTTLS\r\n" + injected
            sock.sendall(octets[: 10 + 1 + cut])
            answer = b""
            while more := sock.recv(4096):
                answer += more
            return answer

    assert serve_and(backend, authority, attack).startswith(b"554 5.5.0 ")


def test_what_was_said_in_clear_is_forgotten(backend: Backend, authority: Authority) -> None:
    # S-TLS-06, S-TLS-11: no second greeting, and EHLO comes anew.
    def speak(port: int) -> list[bytes]:
        with dial(port) as plain:
            talk(plain, b"EHLO x\r\n")
            assert talk(plain, b"STARTTLS\r\n").startswith(b"220 ")  # S-TLS-03
            with authority.client().wrap_socket(plain, server_hostname="mx.example") as sock:
                return [talk(sock, MAIL[:27]), talk(sock, b"EHLO x\r\n"), talk(sock, b"STARTTLS\r\n")]

    mail, hello, again = serve_and(backend, authority, speak)
    assert mail.startswith(b"503 5.5.1 ")
    assert b"STARTTLS" not in hello
    assert again.startswith(b"503 5.5.1 ")


def test_pipelined_commands_in_one_record(backend: Backend, authority: Authority) -> None:
    def speak(port: int) -> bytes:
        with dial(port) as plain:
            talk(plain, b"EHLO x\r\n")
            talk(plain, b"STARTTLS\r\n")
            with authority.client().wrap_socket(plain, server_hostname="mx.example") as sock:
                sock.sendall(b"EHLO x\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nQUIT\r\n")
                answer = b""
                while more := sock.recv(65536):  # B-TLS-18: it ends with an alert, not with a broken connection
                    answer += more
                return answer

    answer = serve_and(backend, authority, speak)
    assert answer.endswith(b"354 End data with <CRLF>.<CRLF>\r\n250 2.0.0 OK\r\n221 2.0.0 Bye\r\n")


# ---- it fails well -------------------------------------------------------------------------------


def test_garbage_for_a_handshake(backend: Backend, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    # S-TLS-12: closed, nothing in clear after it, and the reason is logged.
    caplog.set_level("INFO", "ehlo")
    reasons: list[str] = []

    class Mine(Keep):
        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            reasons.append(reason)

    def speak(port: int) -> bytes:
        with dial(port) as sock:
            talk(sock, b"EHLO x\r\n")
            talk(sock, b"STARTTLS\r\n")
            sock.sendall(b"EHLO again\r\n")
            answer = b""
            while more := sock.recv(4096):
                answer += more
            return answer

    answer = serve_and(backend, authority, speak, handler=Mine())
    assert answer[:1] in (b"", b"\x15")
    assert reasons == ["tls"]
    assert "TLS with the client at ('127.0.0.1', " in caplog.text
    assert "failed: " in caplog.text


@pytest.mark.parametrize("config", [STARTTLS, IMPLICIT])
def test_a_silent_client_is_closed(backend: Backend, authority: Authority, config: ehlo.ServerConfig) -> None:
    # S-TLS-13: the handshake has its own deadline.
    config = config.replace(handshake_timeout=backend.span)

    async def main() -> None:
        limits = ehlo.Limits(linger_seconds=0)
        async with await backend.serve(Keep(), config=config, limits=limits, tls=authority.server()) as server:
            client = await backend.connect(server)
            if config.tls == "starttls":
                await client.reply()
                await client.ask(b"EHLO x\r\n")
                assert (await client.ask(b"STARTTLS\r\n")).startswith("220")
            await backend.begun(lambda: server.connections)
            for _ in range(10):  # its task has begun to wait
                await backend.turn()
            await backend.later(lambda: not server.connections)
            assert await client.rest() == b""

    backend.run(main, timed=True)


def test_old_tls_is_refused(backend: Backend, authority: Authority) -> None:
    # B-TLS-17, RFC 8314 4
    def speak(port: int) -> None:
        context = authority.client()
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with dial(port) as plain:
            talk(plain, b"EHLO x\r\n")
            talk(plain, b"STARTTLS\r\n")
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="mx.example")

    serve_and(backend, authority, speak)


def test_a_client_that_vanishes_inside_tls(backend: Backend, authority: Authority) -> None:
    # B-TLS-18: without an alert, in the middle of a message; the server goes on.
    handler = Keep()

    def speak(port: int) -> None:
        for _ in range(3):
            with dial(port) as plain:
                talk(plain, b"EHLO x\r\n")
                talk(plain, b"STARTTLS\r\n")
                sock = authority.client().wrap_socket(plain, server_hostname="mx.example")
                talk(sock, b"EHLO x\r\n")
                sock.sendall(MAIL + b"DATA\r\nhalf")
                sock.close()
        with smtplib.SMTP("127.0.0.1", port, "client.example") as client:
            client.starttls(context=authority.client())
            client.sendmail("a@b.example", ["c@d.example"], b"whole\r\n")

    serve_and(backend, authority, speak, handler=handler)
    assert [content for _, content in handler.kept] == [b"whole\r\n"]


def test_the_server_closes_inside_tls(backend: Backend, authority: Authority) -> None:
    # S-SES-31: the 421 of a shutdown comes through TLS.
    async def main() -> None:
        server = await backend.serve(Keep(), config=STARTTLS, tls=authority.server())
        ready = []

        def speak(port: int) -> bytes:
            with dial(port) as plain:
                talk(plain, b"EHLO x\r\n")
                talk(plain, b"STARTTLS\r\n")
                with authority.client().wrap_socket(plain, server_hostname="mx.example") as sock:
                    talk(sock, b"EHLO x\r\n")
                    ready.append(True)
                    return sock.recv(4096)

        async def close() -> None:
            await backend.until(lambda: ready)
            await server.close(5)

        backend.start(close)
        assert (await backend.thread(speak, server.port)).startswith(b"421 4.3.2 ")
        await server.close(0)

    backend.run(main)


def test_arguments_that_do_not_fit(backend: Backend, authority: Authority) -> None:
    async def main() -> None:
        for config in (STARTTLS, IMPLICIT):
            with pytest.raises(ehlo.LocalProtocolError, match=r"needs an ssl\.SSLContext"):
                await backend.serve(Keep(), config=config)
        async with await backend.serve(
            Keep(), config=ehlo.ServerConfig("mx.example"), tls=authority.server()
        ) as server:
            assert server.config.tls == "starttls"

    backend.run(main)


# ---- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("implicit", [False, True])
def test_openssl(backend: Backend, authority: Authority, tmp_path: Path, implicit: bool) -> None:
    openssl = program("openssl")
    ca = tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(ca))

    def speak(port: int) -> str:
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(ca), "-verify_return_error"]
        command += ["-verify_hostname", "mx.example", "-quiet", "-crlf", *([] if implicit else ["-starttls", "smtp"])]
        run = subprocess.run(command, input=b"EHLO x\nQUIT\n", capture_output=True, timeout=20, check=False)
        return run.stdout.decode()

    said = serve_and(backend, authority, speak, IMPLICIT if implicit else STARTTLS)
    assert "250-mx.example" in said
    assert "221 2.0.0 Bye" in said


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl(backend: Backend, authority: Authority, tmp_path: Path, scheme: str) -> None:
    curl = program("curl")
    ca = tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(ca))
    handler = Keep()

    def send(port: int) -> None:
        command = [curl, "--silent", "--show-error", "--ssl-reqd", "--cacert", str(ca), f"{scheme}://127.0.0.1:{port}"]
        command += ["--mail-from", "a@b.example", "--mail-rcpt", "c@d.example", "--upload-file", "-"]
        subprocess.run(command, input=b"Subject: x\r\n\r\nhi\r\n", timeout=20, check=True)

    serve_and(backend, authority, send, IMPLICIT if scheme == "smtps" else STARTTLS, handler)
    assert [content for _, content in handler.kept] == [b"Subject: x\r\n\r\nhi\r\n"]


@pytest.mark.parametrize("option", ["--tls", "--tls-on-connect"])
def test_swaks(backend: Backend, authority: Authority, option: str) -> None:
    swaks = program("swaks")
    handler = Keep()

    def send(port: int) -> str:
        command = [swaks, "--server", "127.0.0.1", "--port", str(port), "--helo", "c.example", "--from", "a@b.example"]
        command += ["--to", "c@d.example", "--body", "hi", option]
        run = subprocess.run(command, capture_output=True, timeout=20, check=False, text=True)
        return run.stdout + run.stderr

    said = serve_and(backend, authority, send, IMPLICIT if option == "--tls-on-connect" else STARTTLS, handler)
    if "Net::SSLeay" in said:
        pytest.skip("this swaks has no TLS: it lacks Net::SSLeay")
    assert len(handler.kept) == 1, said
