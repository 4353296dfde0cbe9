"""AUTH of a server, with clients that we did not write, and the delay of what fails. On every backend."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Peer
from programs import program

pytestmark = pytest.mark.tcp  # the clients are programs that know TCP only

MECHANISMS = ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]
AUTH = CONFIG.replace(auth=MECHANISMS, auth_in_clear=MECHANISMS)
SUBMISSION = CONFIG.replace(auth=["PLAIN", "LOGIN"], submission=True, tls="starttls")
PASSWORD = "pencil, sharp"  # nothing but a test's
KEYS = ehlo.ScramKeys.from_password(PASSWORD)


class Door(ehlo.Handler):
    """Lets jane in."""

    def __init__(self) -> None:
        self.mechanisms: list[str] = []
        self.identities: list[str | None] = []
        self.protocols: list[str] = []

    async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        self.mechanisms.append(credentials.mechanism)
        if isinstance(credentials, ehlo.ScramCredentials):
            return KEYS if credentials.username == "jane" else None
        if isinstance(credentials, ehlo.TokenCredentials):
            return ehlo.Identity("jane") if credentials.check("token") else None  # a token says whose it is
        assert isinstance(credentials, ehlo.PasswordCredentials | ehlo.CramCredentials)
        return credentials.check(PASSWORD if credentials.username == "jane" else None)

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.identities.append(session.identity)
        self.protocols.append(session.protocol)


def serve_and(
    backend: Backend, client: Callable[[int], Any], config: ehlo.ServerConfig = AUTH, **options: Any
) -> tuple[Door, Any]:
    door = Door()
    options.setdefault("limits", ehlo.Limits(auth_delay_seconds=0))

    async def main() -> Any:
        async with await backend.serve(door, config=config, **options) as server:
            return await backend.thread(client, server.port)

    return door, backend.run(main)


def plain(password: str, user: str = "jane") -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"


# ---- the server's own ----------------------------------------------------------------------------


def test_auth_needs_somebody_who_judges(backend: Backend) -> None:
    async def main() -> None:
        with pytest.raises(ehlo.LocalProtocolError, match="needs a handler with on_auth"):
            await backend.serve(ehlo.Handler(), config=AUTH)

    backend.run(main)


def test_failures_wait_longer_and_longer(backend: Backend) -> None:
    # S-AUT-16, RFC 4954 9: each by its own time; then 421. In between the session goes on.
    slept: list[float] = []

    async def main() -> None:
        limits = ehlo.Limits(auth_delay_seconds=20, linger_seconds=0)
        async with await backend.serve(Door(), config=AUTH, limits=limits) as server:

            async def sleep(seconds: float) -> None:
                slept.append(seconds)
                await backend.turn()

            server._sleep = sleep
            client = await backend.ready(server)
            for said in ("535 5.7.8", "535 5.7.8", "535 5.7.8"):
                assert (await client.ask(plain("wrong"))).startswith(said)
            assert (await client.reply()).startswith("421 4.7.0")
            assert server.statistics.handler_failures == 0
            client = await backend.ready(server)
            assert (await client.ask(plain(PASSWORD))).startswith("235 ")

    backend.run(main)
    assert slept == [20, 30, 30]  # growing, and never more than 30


def test_the_delay_is_real_and_no_handler_is_blamed_for_it(backend: Backend) -> None:
    limits = ehlo.Limits(auth_delay_seconds=backend.span, handler_seconds=backend.span / 4)

    async def main() -> None:
        async with await backend.serve(Door(), config=AUTH, limits=limits) as server:
            client = await backend.ready(server)
            await client.send(plain("wrong"))
            (connection,) = server._live
            await backend.begun(lambda: connection._driver.blocked and connection._driver.waiting_for is None)
            for _ in range(10):  # it has begun to wait
                await backend.turn()
            assert not client.buffer
            await backend.later(lambda: not connection._driver.blocked)
            assert (await client.reply()).startswith("535 ")
            assert server.statistics.handler_timeouts == 0

    backend.run(main, timed=True)


def test_the_delay_ends_when_the_client_leaves(backend: Backend) -> None:
    ended: list[BaseException] = []

    async def main() -> None:
        async with await backend.serve(Door(), config=AUTH) as server:
            waiting: list[float] = []

            async def sleep(seconds: float) -> None:
                waiting.append(seconds)
                try:
                    await backend.forever()
                except BaseException as exc:
                    ended.append(exc)
                    raise

            server._sleep = sleep
            client = await backend.ready(server)
            await client.send(plain("wrong"))
            await backend.until(lambda: waiting)
            client.reset()
            await backend.until(lambda: ended and not server.connections)

    backend.run(main)
    assert isinstance(ended[0], backend.cancelled)


# ---- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks(backend: Backend, mechanism: str) -> None:
    swaks = program("swaks")

    def send(password: str) -> Callable[[int], str]:
        def run(port: int) -> str:
            command = [swaks, "--server", "127.0.0.1", "--port", str(port), "--helo", "c.example"]
            command += ["--from", "a@b.example", "--to", "c@d.example", "--auth", mechanism]
            command += ["--auth-user", "jane", "--auth-password", password]
            done = subprocess.run(
                command, capture_output=True, timeout=20, check=False, text=True, stdin=subprocess.DEVNULL
            )
            return done.stdout + done.stderr

        return run

    door, said = serve_and(backend, send(PASSWORD))
    if "not available" in said:
        pytest.skip(f"this swaks has no {mechanism}")
    assert (door.mechanisms, door.identities, door.protocols) == ([mechanism], ["jane"], ["ESMTPA"]), said
    door, said = serve_and(backend, send("wrong"))
    assert "535 5.7.8" in said
    assert door.identities == []


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram_md5"])
def test_smtplib(backend: Backend, mechanism: str) -> None:
    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
            client.ehlo()
            client.user, client.password = "jane", PASSWORD
            client.auth(mechanism.upper().replace("_", "-"), getattr(client, f"auth_{mechanism}"))
            client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")

    door, _ = serve_and(backend, send)
    assert door.identities == ["jane"]


def test_smtplib_logs_in_by_submission(backend: Backend, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    # S-SUB-01, S-TLS-14: AUTH is listed inside TLS only, and mail needs it.
    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
            client.ehlo()
            assert not client.has_extn("auth")
            client.starttls(context=tls[1])
            client.ehlo()
            assert client.mail("a@b.example")[0] == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("jane", "wrong")
            client.login("jane", PASSWORD)
            client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")

    door, _ = serve_and(backend, send, SUBMISSION, tls=tls[0])
    assert (door.identities, door.protocols) == (["jane"], ["ESMTPSA"])


@pytest.mark.parametrize("mechanism", ["plain", "login", "crammd5", None])
def test_aiosmtplib(backend: Backend, mechanism: str | None) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")

    def send(port: int) -> None:
        async def main() -> None:
            client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, local_hostname="client.example", start_tls=False)
            async with client:
                if mechanism is None:
                    await client.login("jane", PASSWORD)
                else:
                    await client.ehlo()
                    await getattr(client, f"auth_{mechanism}")("jane", PASSWORD)
                await client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")

        asyncio.run(main())

    door, _ = serve_and(backend, send)
    assert door.identities == ["jane"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"])
def test_curl(backend: Backend, mechanism: str) -> None:
    curl = program("curl")
    token = mechanism in ("OAUTHBEARER", "XOAUTH2")

    def send(port: int) -> str:
        command = [curl, "--silent", "--show-error", f"smtp://127.0.0.1:{port}/client.example", "--login-options"]
        command += [f"AUTH={mechanism}", "--mail-from", "a@b.example", "--mail-rcpt", "c@d.example"]
        command += ["--user", "jane" if token else f"jane:{PASSWORD}", *(["--oauth2-bearer", "token"] if token else [])]
        command += ["--upload-file", "-"]
        done = subprocess.run(command, input=b"x\r\n", capture_output=True, timeout=20, check=False)
        return done.stderr.decode()

    # One alone: for a token it takes OAUTHBEARER whatever it is told.
    config = AUTH.replace(auth=[mechanism], auth_in_clear=[mechanism])
    door, said = serve_and(backend, send, config)
    if not door.mechanisms and mechanism.startswith("SCRAM"):
        pytest.skip("this curl has no SCRAM: it was built without libgsasl")
    assert (door.mechanisms, door.identities) == ([mechanism], ["jane"]), said


def test_auth_in_the_clear_is_not_to_be_had(backend: Backend, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    # S-AUT-06
    async def main() -> None:
        async with await backend.serve(Door(), config=SUBMISSION, tls=tls[0]) as server:
            client = await backend.ready(server)
            assert (await client.ask(plain(PASSWORD))).startswith("538 5.7.11")
            assert (await client.ask(MAIL[:27])).startswith("530 5.7.0")

    backend.run(main)


@pytest.mark.parametrize("prompt", [b"User Name", b"VXNlcm5hbWU6 ", b"\xff", b""])
def test_faults_c14_login_goes_on_whatever_the_prompts_say(backend: Backend, prompt: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250 AUTH LOGIN\r\n")
        for line in (b"AUTH LOGIN", b"amFuZQ=="):
            assert await peer.lines(1) == [line]
            peer.say(b"334 " + prompt + b"\r\n")
        assert await peer.lines(1) == [b"c2VjcmV0"]
        peer.say(b"235 ok\r\n")
        assert await peer.farewell() == b"QUIT\r\n"

    async def main() -> None:
        config = ehlo.ClientConfig("client.example")
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config) as client,
        ):
            assert (await client.login("jane", "secret", allow_clear=True)).code == 235

    backend.run(main)
