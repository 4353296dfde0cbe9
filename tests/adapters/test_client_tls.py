"""TLS, AUTH, PROXY, XCLIENT and XFORWARD of the clients, on every backend."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import pytest

import ehlo
from authority import Authority
from backends import Backend, Keep, Peer
from programs import free_port

A, B = "a@b.example", "c@d.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
USER, PASSWORD = "jane", "Grüße und 7 Rätsel"
CONFIG = ehlo.ClientConfig("client.example")
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
TOKEN = "ya29.a0-secret~token"


class Users(Keep):
    """Knows one user, and how each mechanism lets it prove itself."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = {name: ehlo.ScramKeys.from_password(PASSWORD, algorithm=name) for name in ("sha1", "sha256")}
        self.seen: list[str] = []

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        self.seen.append(credentials.mechanism)
        known = credentials.username == USER
        match credentials:
            case ehlo.ScramCredentials():
                return self.keys[credentials.algorithm] if known else None
            case ehlo.TokenCredentials():
                return ehlo.Identity(USER) if credentials.check(TOKEN) else ehlo.OAuthError("invalid_token")
            case ehlo.PasswordCredentials() | ehlo.CramCredentials():
                return credentials.check(PASSWORD if known else None)
        return ehlo.Identity("certified")


Mode: TypeAlias = Literal["off", "starttls", "implicit"]
"""When TLS begins at the server."""


def with_server(
    backend: Backend,
    authority: Authority,
    main: Callable[[Any, dict[str, Any]], Awaitable[None]],
    handler: object | None = None,
    tls: Mode = "starttls",
    certificate: Any = None,
    **settings: Any,
) -> None:
    """``main`` with a server's port and what ``connect`` needs to trust it."""

    async def run() -> None:
        config = ehlo.ServerConfig("mx.example", tls=tls, **settings)
        context = None if tls == "off" else authority.server(certificate)
        limits = ehlo.Limits(auth_delay_seconds=0)
        async with await backend.serve(handler or Keep(), config=config, tls=context, limits=limits) as server:
            await main(server.port, {"config": CONFIG, "ssl_context": authority.client()})

    backend.run(run)


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "policy"), [("starttls", "required"), ("implicit", "implicit")])
def test_mail_through_tls(backend: Backend, authority: Authority, server: Mode, policy: str) -> None:
    handler = Keep()

    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.connect("127.0.0.1", port, tls=policy, **options) as client:
            assert client.is_tls
            assert client.ssl_object.version().startswith("TLSv1.")
            assert "STARTTLS" not in client.capabilities  # C-TLS-19: what it said in clear is forgotten
            assert (await client.send(CONTENT, A, B)).all_accepted
            large = [b"x" * 998 + b"\r\n"] * 2000
            assert (await client.send(iter(large), A, B)).all_accepted
            results = [result async for result in client.send_many((CONTENT, A, B) for _ in range(50))]
            assert all(result.all_accepted for result in results)
        assert len(handler.kept) == 52
        assert len(handler.kept[1][1]) == 2_000_000

    with_server(backend, authority, main, handler, server)


def test_opportunistic_goes_on_in_clear_and_required_does_not(backend: Backend, authority: Authority) -> None:
    # C-TLS-21, C-TLS-22
    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.connect("127.0.0.1", port, tls="opportunistic", config=CONFIG) as client:
            assert not client.is_tls
            assert client.ssl_object is None
            assert (await client.send(CONTENT, A, B)).all_accepted
        with pytest.raises(ehlo.SMTPNotSupportedError, match="does not offer STARTTLS"):
            await backend.adapter.connect("127.0.0.1", port, tls="required", **options)

    with_server(backend, authority, main, tls="off")


def test_opportunistic_takes_any_certificate(backend: Backend, authority: Authority) -> None:
    # RFC 7435: hidden from those who listen, though nobody knows who the server is.
    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.connect("127.0.0.1", port, tls="opportunistic", config=CONFIG) as client:
            assert client.is_tls
        # With a password to lose it is not good enough.
        with pytest.raises(ehlo.SMTPConnectError, match="certificate"):
            await backend.adapter.connect("127.0.0.1", port, tls="opportunistic", auth=(USER, PASSWORD), config=CONFIG)

    with_server(backend, authority, main, certificate=authority.wrong)


@pytest.mark.parametrize(("server", "policy"), [("starttls", "required"), ("implicit", "implicit")])
def test_c_tls_25_a_wrong_name_is_named(backend: Backend, authority: Authority, server: Mode, policy: str) -> None:
    # RFC 8314 3.3, 5.3; RFC 7817
    async def main(port: int, options: dict[str, Any]) -> None:
        for name in (None, "mail.example.org"):
            with pytest.raises(ehlo.SMTPConnectError, match="is not valid for") as caught:
                await backend.adapter.connect("127.0.0.1", port, tls=policy, server_hostname=name, **options)
            assert f"'{name or '127.0.0.1'}'" in str(caught.value)
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        async with backend.adapter.connect(
            "127.0.0.1", port, tls=policy, server_hostname="other.example", **options
        ) as client:
            assert client.is_tls
        # An authority that nobody knows, with the context that is made by default.
        with pytest.raises(ehlo.SMTPConnectError, match="the certificate was not accepted"):
            await backend.adapter.connect("127.0.0.1", port, tls=policy, server_hostname="other.example", config=CONFIG)

    with_server(backend, authority, main, tls=server, certificate=authority.wrong)


INJECTED = b"250-evil.example\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n250 ok\r\n"


@pytest.mark.parametrize("separately", [False, True], ids=["one segment", "the next segment"])
def test_octets_in_clear_behind_the_220_have_no_effect(
    backend: Backend, authority: Authority, separately: bool
) -> None:
    # C-TLS-20, RFC 3207 6, by the socket: for each number of injected octets an error, and no octet of TLS content.
    heard: list[bytes] = []

    def script(cut: int) -> Callable[[Peer], Awaitable[None]]:
        async def play(peer: Peer) -> None:
            await peer.hello(b"250-mx.example\r\n250 STARTTLS\r\n")
            assert await peer.line() == b"STARTTLS"
            if separately:
                peer.say(b"220 go\r\n")
                await peer.backend.receive(peer.sock)  # the ClientHello
                peer.say(INJECTED[:cut])
            else:
                peer.say(b"220 go\r\n" + INJECTED[:cut])
            peer.finish()
            heard.append(await peer.rest())

        return play

    async def main() -> None:
        cuts = range(1, len(INJECTED) + 1)
        context = authority.client()
        async with backend.scripted(*[script(cut) for cut in cuts]) as port:
            for _ in cuts:
                with pytest.raises(ehlo.SMTPException) as caught:
                    await backend.adapter.connect("127.0.0.1", port, tls="required", ssl_context=context, config=CONFIG)
                expected = ehlo.SMTPConnectError if separately else ehlo.RemoteProtocolError
                assert type(caught.value) is expected
                assert "evil" not in caught.value.transcript

    backend.run(main)
    assert not any(b"EHLO" in octets or b"QUIT" in octets for octets in heard)


@pytest.mark.parametrize("policy", ["required", "implicit"])
def test_a_silent_handshake_ends_in_its_time(backend: Backend, authority: Authority, policy: str) -> None:
    # S-TLS-13's counterpart: its own deadline
    async def script(peer: Peer) -> None:
        if policy == "required":
            await peer.hello(b"250-mx.example\r\n250 STARTTLS\r\n")
            await peer.line()
            peer.say(b"220 go\r\n")
        await peer.rest()

    async def main() -> None:
        async with backend.scripted(script) as port:
            with pytest.raises(ehlo.SMTPTimeoutError, match="TLS handshake"):
                await backend.adapter.connect(
                    "127.0.0.1",
                    port,
                    tls=policy,
                    ssl_context=authority.client(),
                    handshake_timeout=0.05,
                    config=CONFIG,
                )

    backend.run(main)


def test_a_server_that_leaves_in_the_handshake(backend: Backend, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.backend.receive(peer.sock)

    async def speaks_smtp(peer: Peer) -> None:
        peer.say(b"220 mx.example ESMTP\r\n")
        await peer.rest()

    async def main() -> None:
        options: Any = {"tls": "implicit", "ssl_context": authority.client(), "config": CONFIG}
        async with backend.scripted(script, speaks_smtp) as port:
            with pytest.raises(ehlo.SMTPConnectError, match="closed the connection in the TLS handshake"):
                await backend.adapter.connect("127.0.0.1", port, **options)
            with pytest.raises(ehlo.SMTPConnectError, match="the TLS handshake failed: wrong version number"):
                await backend.adapter.connect("127.0.0.1", port, **options)

    backend.run(main)


class Inside:
    """A server's end of TLS, by hand, that knows nothing of ours."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def do(self, step: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                if out := self.outgoing.read():
                    await self.peer.send(out)
                octets = await self.peer.backend.receive(self.peer.sock)
                if octets:
                    self.incoming.write(octets)
                else:
                    self.incoming.write_eof()
                continue
            if out := self.outgoing.read():
                await self.peer.send(out)
            return result


@pytest.mark.parametrize("alert", [False, True])
def test_b_tls_18_the_end_of_tls(backend: Backend, authority: Authority, alert: bool) -> None:
    # RFC 8314 3.4: we close with an alert; that the server's is missing behind its 221 is no error.
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        inside = Inside(peer, authority.server())
        await inside.do(inside.object.do_handshake)
        await inside.do(inside.object.write, b"220 mx.example\r\n")
        assert (await inside.do(inside.object.read, 4096)).startswith(b"EHLO ")
        await inside.do(inside.object.write, b"250 mx.example\r\n")
        assert await inside.do(inside.object.read, 4096) == b"QUIT\r\n"
        await inside.do(inside.object.write, b"221 bye\r\n")
        if alert:
            ends.append(await inside.do(inside.object.read, 4096))  # b"": an alert; without one it raises

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect(
                "127.0.0.1", port, tls="implicit", ssl_context=authority.client(), config=CONFIG
            )
            reply = await client.quit()
            assert reply.code == 221
            await client.close()

    backend.run(main)
    assert ends == ([b""] if alert else [])


def test_garbage_inside_tls(backend: Backend, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        inside = Inside(peer, authority.server())
        await inside.do(inside.object.do_handshake)
        await inside.do(inside.object.write, b"220 mx.example\r\n")
        await inside.do(inside.object.read, 4096)
        peer.say(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await peer.rest()

    async def main() -> None:
        async with backend.scripted(script) as port:
            with pytest.raises(ehlo.SMTPServerDisconnected, match="TLS broke"):
                await backend.adapter.connect(
                    "127.0.0.1", port, tls="implicit", ssl_context=authority.client(), config=CONFIG
                )

    backend.run(main)


def test_arguments_of_tls_that_make_no_sense(backend: Backend, authority: Authority) -> None:
    connect = backend.adapter.connect
    with pytest.raises(ehlo.LocalProtocolError, match="ssl_context"):
        connect("localhost", tls=authority.client())
    with pytest.raises(ehlo.LocalProtocolError, match="server_hostname"):
        connect(path="/run/mail", tls="required")
    with pytest.raises(TypeError):
        connect("localhost", tsl="off")
    with pytest.raises(ehlo.LocalProtocolError, match="not UNKNOWN"):
        connect("localhost", proxy=ehlo.ProxyHeader(), proxy_version=1)


# ---- AUTH ----------------------------------------------------------------------------------------


def test_c_aut_29_the_order_of_mechanisms(backend: Backend, authority: Authority) -> None:
    # RFC 4954 4, 9
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        left = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"]
        async with backend.adapter.connect(
            "127.0.0.1", port, tls="required", auth=(USER, PASSWORD), **options
        ) as client:
            assert client.is_authenticated
            assert (await client.send(CONTENT, A, B)).all_accepted
            with pytest.raises(ehlo.LocalProtocolError, match="authenticated already"):
                await client.login(USER, PASSWORD)
        for name in left:
            login = ehlo.Login(USER, PASSWORD, mechanisms=[name])
            async with backend.adapter.connect("127.0.0.1", port, tls="required", auth=login, **options):
                assert handler.seen[-1] == name
        # In clear the server offers SCRAM only.
        async with backend.adapter.connect("127.0.0.1", port, auth=(USER, PASSWORD), config=CONFIG) as client:
            assert (handler.seen[-1], client.is_tls) == ("SCRAM-SHA-256", False)
        assert handler.seen[0] == "SCRAM-SHA-256"

    with_server(backend, authority, main, handler, auth=MECHANISMS, auth_in_clear=["SCRAM-SHA-256", "SCRAM-SHA-1"])


def test_c_aut_29_plus_where_the_channel_can_be_named(backend: Backend, authority: Authority) -> None:
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        options["ssl_context"].maximum_version = ssl.TLSVersion.TLSv1_2
        async with backend.adapter.connect("127.0.0.1", port, tls="required", auth=(USER, PASSWORD), **options):
            assert handler.seen == ["SCRAM-SHA-256-PLUS"]
        login = ehlo.Login(USER, PASSWORD, mechanisms=["SCRAM-SHA-256"])  # it must not look like a downgrade
        async with backend.adapter.connect("127.0.0.1", port, tls="required", auth=login, **options):
            assert handler.seen[1:] == ["SCRAM-SHA-256"]

    with_server(backend, authority, main, handler, auth=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))


def test_c_aut_29_no_password_in_clear(backend: Backend, authority: Authority) -> None:
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        with pytest.raises(ehlo.SMTPNotSupportedError, match=r"PLAIN and LOGIN would show the secret without TLS"):
            await backend.adapter.connect("127.0.0.1", port, auth=(USER, PASSWORD), config=CONFIG)
        assert handler.seen == []
        login = ehlo.Login(USER, PASSWORD, allow_clear=True)
        async with backend.adapter.connect("127.0.0.1", port, auth=login, config=CONFIG):
            assert handler.seen == ["PLAIN"]

    with_server(backend, authority, main, handler, "off", auth=["PLAIN", "LOGIN"], auth_in_clear=["PLAIN", "LOGIN"])


def test_c_aut_29_no_password_to_a_server_nobody_verified(backend: Backend, authority: Authority) -> None:
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.connect("127.0.0.1", port, tls="opportunistic", config=CONFIG) as client:
            with pytest.raises(ehlo.SMTPNotSupportedError, match="that was not verified"):
                await client.login(USER, PASSWORD)
            assert (await client.login(USER, PASSWORD, allow_clear=True)).code == 235

    with_server(backend, authority, main, handler, auth=["PLAIN"])


@pytest.mark.parametrize("code", [504, 534, 538])
def test_c_aut_30_another_mechanism_only_where_that_may_help(backend: Backend, code: int) -> None:
    # RFC 4954 4, 6
    async def script(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250 AUTH CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256\r\n")
        assert (await peer.line()).startswith(b"AUTH SCRAM-SHA-256 ")
        peer.say(b"%d no\r\n" % code)
        assert (await peer.line()).startswith(b"AUTH SCRAM-SHA-1 ")
        peer.say(b"%d no\r\n" % code)
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")

    async def stops(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250 AUTH SCRAM-SHA-1 SCRAM-SHA-256\r\n")
        assert (await peer.line()).startswith(b"AUTH SCRAM-SHA-256 ")
        peer.say(b"535 5.7.8 no\r\n")
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")

    async def main() -> None:
        async with backend.scripted(script, stops) as port:
            for expected in (code, 535):
                with pytest.raises(ehlo.SMTPAuthenticationError) as caught:
                    await backend.adapter.connect("127.0.0.1", port, auth=(USER, PASSWORD), config=CONFIG)
                assert caught.value.smtp_code == expected

    backend.run(main)


def test_a_refused_login_leaves_the_session(backend: Backend, authority: Authority) -> None:
    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.connect("127.0.0.1", port, tls="required", **options) as client:
            with pytest.raises(ehlo.SMTPAuthenticationError, match=r"535 5\.7\.8") as caught:
                await client.login(USER, "wrong")
            assert caught.value.reply is not None
            assert caught.value.reply.code == 535
            assert not client.is_authenticated
            assert (await client.login(USER, PASSWORD)).code == 235

    with_server(backend, authority, main, Users(), auth=MECHANISMS)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("kind", ["text", "plain", "async"])
def test_tokens(backend: Backend, authority: Authority, mechanism: str, kind: str) -> None:
    # RFC 7628 3.2.3: a token that is refused is fetched once more.
    handler, fetched = Users(), []

    def fetch() -> str:
        fetched.append(True)
        return "stale" if len(fetched) == 1 else TOKEN

    async def fetch_async() -> str:
        await backend.turn()
        return fetch()

    async def main(port: int, options: dict[str, Any]) -> None:
        source: Any = {"text": TOKEN, "plain": fetch, "async": fetch_async}[kind]
        login = ehlo.Login(USER, token=source, mechanisms=[mechanism])
        async with backend.adapter.connect("127.0.0.1", port, tls="required", auth=login, **options) as client:
            assert client.is_authenticated
            assert len(fetched) == (0 if kind == "text" else 2)
        refused = ehlo.Login(USER, token=lambda: "always-the-same", mechanisms=[mechanism])
        before = len(handler.seen)
        with pytest.raises(ehlo.SMTPAuthenticationError, match="invalid_token"):
            await backend.adapter.connect("127.0.0.1", port, tls="required", auth=refused, **options)
        assert len(handler.seen) == before + 1

    with_server(backend, authority, main, handler, auth=MECHANISMS)


def test_external_by_certificate(backend: Backend, authority: Authority) -> None:
    handler = Users()

    async def main() -> None:
        server_side, client_side = authority.server(), authority.client()
        authority.ca.configure_trust(server_side)
        server_side.verify_mode = ssl.CERT_OPTIONAL
        authority.jane.configure_cert(client_side)
        config = ehlo.ServerConfig("mx.example", tls="starttls", auth=MECHANISMS)
        async with (
            await backend.serve(handler, config=config, tls=server_side) as server,
            backend.adapter.connect(
                "127.0.0.1", server.port, tls="required", ssl_context=client_side, auth=ehlo.Login(), config=CONFIG
            ) as client,
        ):
            assert client.is_authenticated
        assert handler.seen == ["EXTERNAL"]

    backend.run(main)


@pytest.mark.parametrize("how", ["235 at once", "wrong signature", "235 all the same"])
def test_b_aut_23_a_server_that_proves_nothing(backend: Backend, how: str) -> None:
    # RFC 5802 3: though 235 came, the session is not used.
    async def script(peer: Peer) -> None:
        await peer.hello(b"250-mx.example\r\n250 AUTH SCRAM-SHA-256\r\n")
        first = base64.b64decode((await peer.line()).split()[2]).decode()
        if how != "235 at once":
            nonce = first.partition("r=")[2] + "server"
            peer.say(b"334 " + base64.b64encode(f"r={nonce},s=c2FsdA==,i=4096".encode()) + b"\r\n")
            await peer.line()
            peer.say(b"334 " + base64.b64encode(b"v=" + base64.b64encode(b"x" * 32)) + b"\r\n")
            assert await peer.line() == b"*"
            if how == "wrong signature":
                peer.say(b"501 5.7.0 cancelled\r\n")
                assert await peer.line() == b"QUIT"
                peer.say(b"221 bye\r\n")
                return
        peer.say(b"235 welcome\r\n")
        assert await peer.rest() == b""  # nothing more is said

    async def main() -> None:
        async with backend.scripted(script) as port:
            match = "before the exchange was over" if how == "235 at once" else "does not know the password"
            with pytest.raises(ehlo.SMTPAuthenticationError, match=match):
                await backend.adapter.connect("127.0.0.1", port, auth=(USER, PASSWORD), config=CONFIG)

    backend.run(main)


def test_b_aut_34_secrets_are_nowhere(backend: Backend, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    # RFC 4954 9
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def main(port: int, options: dict[str, Any]) -> None:
        for mechanism in MECHANISMS[:-1]:
            token = mechanism in ("OAUTHBEARER", "XOAUTH2")
            for secret in (TOKEN if token else PASSWORD, "wrong-" + (TOKEN if token else PASSWORD)):
                login = (
                    ehlo.Login(USER, token=secret, mechanisms=mechanism)
                    if token
                    else ehlo.Login(USER, secret, mechanisms=[mechanism])
                )
                said.append(repr(login))
                try:
                    async with backend.adapter.connect(
                        "127.0.0.1", port, tls="required", auth=login, trace=said.append, **options
                    ) as client:
                        said.extend((client.transcript, repr(client)))
                except ehlo.SMTPAuthenticationError as exc:
                    said.extend((str(exc), repr(exc), exc.transcript))

    with_server(backend, authority, main, Users(), auth=MECHANISMS)
    text = "\n".join((*said, caplog.text))
    assert "AUTH PLAIN" in text
    for secret in (PASSWORD, TOKEN, f"\0{USER}\0{PASSWORD}"):
        assert secret not in text
        for offset in range(3):  # base64 in each alignment
            assert base64.b64encode(b"x" * offset + secret.encode())[4:-4].decode() not in text


def test_c_aut_35_a_relay_says_who_submitted(backend: Backend, authority: Authority) -> None:
    # RFC 4954 5
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        options["config"] = CONFIG.replace(relay_auth=True)
        async with backend.adapter.connect(
            "127.0.0.1", port, tls="required", auth=(USER, PASSWORD), **options
        ) as client:
            await client.send(CONTENT, A, B)
            await client.send(CONTENT, ehlo.Sender(A, auth="jane@example.org"), B)
        assert [envelope.sender.auth for envelope, _ in handler.kept] == ["<>", "jane@example.org"]

    with_server(backend, authority, main, handler, auth=MECHANISMS)


def test_a_pool_logs_in(backend: Backend, authority: Authority) -> None:
    handler = Users()

    async def main(port: int, options: dict[str, Any]) -> None:
        async with backend.adapter.Pool(
            "127.0.0.1", port, max_connections=2, tls="required", auth=(USER, PASSWORD), **options
        ) as pool:
            sends = [backend.beside(pool.send, CONTENT, A, B) for _ in range(10)]
            assert all([(await send).all_accepted for send in sends])
        assert handler.seen == ["SCRAM-SHA-256"] * 2

    with_server(backend, authority, main, handler, auth=MECHANISMS, require_auth=True)


def test_a_further_connection_logs_in_again(backend: Backend) -> None:
    # C-CLI-21, RFC 9422 4.1
    offer = b"250-mx.example\r\n250-LIMITS MAILMAX=1\r\n250 AUTH PLAIN\r\n"

    async def script(peer: Peer) -> None:
        await peer.hello(offer)
        assert (await peer.line()).startswith(b"AUTH PLAIN ")
        peer.say(b"235 ok\r\n")
        for expected in (b"MAIL", b"RCPT", b"DATA"):
            assert (await peer.line()).startswith(expected)
            peer.say(b"354 go\r\n" if expected == b"DATA" else b"250 ok\r\n")
        await peer.content()
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")

    async def main() -> None:
        async with (
            backend.scripted(script, script) as port,
            backend.adapter.connect("127.0.0.1", port, config=CONFIG) as client,
        ):
            await client.login(USER, PASSWORD, allow_clear=True)
            for _ in range(2):
                assert (await client.send(CONTENT, A, B)).all_accepted

    backend.run(main)


def test_logins_that_make_no_sense() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="not both"):
        ehlo.Login(USER, PASSWORD, token=TOKEN)
    with pytest.raises(ehlo.LocalProtocolError, match="GSSAPI"):
        ehlo.Login(USER, PASSWORD, mechanisms=["gssapi"])


# ---- PROXY, XCLIENT, XFORWARD --------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("policy", ["off", "implicit"])
def test_c_pxy_12_the_header_goes_first(backend: Backend, authority: Authority, version: int, policy: str) -> None:
    # PROXY protocol 2: before the greeting, and before TLS
    header = ehlo.ProxyHeader(("192.0.2.1", 56324), ("198.51.100.1", 25))
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        octets = header.to_bytes(version)
        while len(peer.buffer) < len(octets) + (policy == "implicit"):
            peer.buffer += await peer.backend.receive(peer.sock)
        heard.append(peer.buffer)
        if policy == "implicit":
            assert peer.buffer[len(octets)] == 0x16  # a handshake record
            return
        peer.buffer = peer.buffer[len(octets) :]
        assert await peer.hello() == b"EHLO client.example"
        await peer.farewell()

    async def main() -> None:
        async with backend.scripted(script) as port:
            opening = backend.adapter.connect(
                "127.0.0.1",
                port,
                proxy=header,
                proxy_version=version,
                tls=policy,
                ssl_context=authority.client(),
                config=CONFIG,
            )
            if policy == "implicit":
                with pytest.raises(ehlo.SMTPConnectError):
                    await opening
            else:
                async with opening:
                    pass

    backend.run(main)
    assert heard[0].startswith(header.to_bytes(version))


OFFER = b"250-mx.example\r\n250-XCLIENT NAME HELO ADDR PORT\r\n250 XFORWARD NAME ADDR SOURCE\r\n"


def test_c_pxy_20_only_what_is_listed_and_in_lines_that_fit(backend: Backend) -> None:
    # XCLIENT_README note 1
    long = "x" * 255

    async def script(peer: Peer) -> None:
        await peer.hello(OFFER)
        first = await peer.line()
        assert first == b"XCLIENT NAME=" + long.encode()
        peer.say(b"220 mx.example\r\n")
        assert await peer.line() == b"EHLO client.example"
        peer.say(OFFER)
        second = await peer.line()
        assert second == b"XCLIENT HELO=" + long.encode() + b" ADDR=IPV6:2001:db8::1"
        peer.say(b"220 mx.example\r\n")
        assert await peer.line() == b"EHLO client.example"
        peer.say(OFFER)
        assert await peer.line() == b"XFORWARD NAME=[UNAVAILABLE] SOURCE=a+2Bb ADDR=192.0.2.1"
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"XCLIENT PORT=7"
        peer.say(b"550 5.7.0 no\r\n")
        assert await peer.line() == b"NOOP"
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=CONFIG) as client,
        ):
            reply = await client.xclient(addr="2001:db8::1", name=long, helo=long, login="not listed")
            assert reply.code == 220
            assert (await client.xforward(addr="192.0.2.1", name=None, source="a+b", port=9)).code == 250
            assert (await client.xclient(port=7)).code == 550
            with pytest.raises(ehlo.LocalProtocolError, match="does not fit"):
                await client.xclient(name="ä" * 100)
            with pytest.raises(ehlo.SMTPNotSupportedError, match="only XCLIENT NAME HELO ADDR PORT"):
                await client.xclient(login="jane")
            assert (await client.noop()).code == 250

    backend.run(main)


def test_c_pxy_20_nothing_without_the_keyword(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        assert await peer.farewell() == b"QUIT\r\n"

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=CONFIG) as client,
        ):
            for command in (client.xclient, client.xforward):
                with pytest.raises(ehlo.SMTPNotSupportedError, match="the server offers no X"):
                    await command(addr="192.0.2.1")

    backend.run(main)


# ---- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("policy", ["required", "implicit"])
def test_aiosmtpd(backend: Backend, authority: Authority, mechanism: str, policy: str) -> None:
    controller = pytest.importorskip("aiosmtpd.controller")
    smtp = pytest.importorskip("aiosmtpd.smtp")
    kept: list[bytes] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            kept.append(envelope.content)
            return "250 OK"

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return smtp.AuthResult(success=good, handled=False)

    context, port = authority.server(), free_port()
    # Inside implicit TLS it does not know that there is TLS.
    options = {"ssl_context": context, "auth_require_tls": False} if policy == "implicit" else {"tls_context": context}
    server = controller.Controller(Handler(), hostname="127.0.0.1", port=port, authenticator=check, **options)

    async def main() -> None:
        login = ehlo.Login(USER, PASSWORD, mechanisms=[mechanism])
        client_side = authority.client()
        async with backend.adapter.connect(
            "127.0.0.1", port, tls=policy, ssl_context=client_side, auth=login, config=CONFIG
        ) as client:
            assert (await client.send(CONTENT, A, B)).all_accepted
        with pytest.raises(ehlo.SMTPAuthenticationError):
            await backend.adapter.connect(
                "127.0.0.1", port, tls=policy, ssl_context=client_side, auth=(USER, "wrong"), config=CONFIG
            )

    server.start()
    try:
        backend.run(main)
    finally:
        server.stop()
    assert kept == [CONTENT]
