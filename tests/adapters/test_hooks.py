"""Hooks of a server: own commands, own words, own mechanisms, a handler that raises, PROXY. On every backend."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Client

Challenge = Callable[[bytes], Awaitable[bytes]]
MAGIC = CONFIG.replace(auth=["XMAGIC", "PLAIN"], auth_in_clear=["XMAGIC", "PLAIN"])
QUICK = ehlo.Limits(auth_delay_seconds=0)


def talk(backend: Backend, handler: object, dialogue: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        options.setdefault("config", CONFIG)
        async with await backend.serve(handler, **options) as server:
            client = await backend.connect(server)
            try:
                await dialogue(client)
            finally:
                client.close()

    backend.run(main)


async def soon(backend: Backend, answer: Any) -> Any:
    await backend.turn()
    return answer


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets) + b"\r\n"


@pytest.mark.parametrize("waits", [False, True])
def test_own_commands(backend: Backend, waits: bool) -> None:
    seen: list[tuple[str, str]] = []

    class Mine(ehlo.Handler):
        def on_command(self, session: ehlo.Session, command: str, argument: str) -> Any:
            seen.append((command, argument))
            answer = "250 2.0.0 3.1" if command == "XVERSION" else None
            return soon(backend, answer) if waits else answer

    async def dialogue(client: Client) -> None:
        assert await client.reply() == "220 mx.example ESMTP"
        await client.send(b"xversion please\r\nNOOP\r\nXFOO\r\nQUIT\r\n")
        replies = [await client.reply() for _ in range(4)]
        assert replies == ["250 2.0.0 3.1", "250 2.0.0 OK", "500 5.5.2 Command not recognized", "221 2.0.0 Bye"]

    talk(backend, Mine(), dialogue)
    assert seen == [("XVERSION", "please"), ("NOOP", ""), ("XFOO", ""), ("QUIT", "")]


def test_own_words(backend: Backend) -> None:
    class Mine(ehlo.Handler):
        def on_refusal(self, session: ehlo.Session, command: bytes, reply: ehlo.Reply) -> Any:
            return f"{reply.code} {reply.enhanced} never {command.decode()}" if reply.code == 503 else None

        def on_hello(self, session: ehlo.Session, hello: ehlo.Hello) -> Any:
            return ehlo.Reply(250, None, ["mx.example hello", "XFOO"]) if hello.name == "c.example" else None

    async def dialogue(client: Client) -> None:
        assert await client.reply() == "220 mx.example good day"
        assert await client.ask(b"EHLO c.example\r\n") == "250-mx.example hello\n250 XFOO"
        assert await client.ask(b"DATA\r\n") == "503 5.5.1 never DATA"
        assert await client.ask(b"FOO\r\n") == "500 5.5.2 What?"
        assert (await client.ask(b"EHLO d.example\r\n")).endswith("\n250 XBAR 1")

    texts = {"greeting": "good day", "unknown_command": "What?"}
    talk(backend, Mine(), dialogue, config=CONFIG.replace(texts=texts, ehlo_keywords=["XBAR 1"]))


@pytest.mark.parametrize("waits", [False, True])
def test_a_handler_that_raises_chooses_the_reply(backend: Backend, waits: bool) -> None:
    seen: list[Exception] = []

    class Mine(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            raise OSError("the disk is full")

        async def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:
            raise ValueError("no")

        def on_error(self, session: ehlo.Session, exception: Exception) -> Any:
            seen.append(exception)
            answer = "452 4.3.1 later" if isinstance(exception, OSError) else None
            return soon(backend, answer) if waits else answer

        def on_vrfy(self, session: ehlo.Session, argument: str) -> None:
            raise ValueError

    async def dialogue(client: Client) -> None:
        await client.reply()
        await client.ask(b"EHLO c.example\r\n")
        assert await client.ask(b"MAIL FROM:<a@b.example>\r\n") == "452 4.3.1 later"
        assert await client.ask(b"VRFY x\r\n") == "451 4.3.0 Local error in processing"
        assert await client.ask(b"NOOP\r\n") == "250 2.0.0 OK"

    talk(backend, Mine(), dialogue)
    assert [type(exc) for exc in seen] == [OSError, ValueError]


@pytest.mark.parametrize("waits", [False, True])
def test_a_body_that_raises(backend: Backend, waits: bool) -> None:
    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: Any) -> None:
            raise OSError("full")

        def on_error(self, session: ehlo.Session, exception: Exception) -> Any:
            return soon(backend, "452 4.3.1 later") if waits else "452 4.3.1 later"

    async def dialogue(client: Client) -> None:
        await client.send(b"EHLO c.example\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nNOOP\r\n")
        assert await client.codes(7) == ["220", "250", "250", "250", "354", "452", "250"]

    talk(backend, Mine(), dialogue)


class Magic(ehlo.Handler):
    """Speaks a mechanism of its own; PLAIN is left to the engine."""

    def __init__(self) -> None:
        self.cancelled = 0

    def on_sasl(self, session: ehlo.Session, mechanism: str, initial: bytes | None, challenge: Challenge) -> Any:
        return self.magic(initial, challenge) if mechanism == "XMAGIC" else NotImplemented

    async def magic(self, initial: bytes | None, challenge: Challenge) -> Any:
        try:
            name = initial if initial is not None else await challenge(b"name?")
            word = await challenge(b"word for " + name)
        except ehlo.SaslCancelledError:
            self.cancelled += 1
            raise
        if word == b"raise":
            raise ValueError
        return ehlo.Identity(name.decode(), reply="235 2.7.0 Welcome back") if word == b"abracadabra" else None

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
        return isinstance(credentials, ehlo.PasswordCredentials) and credentials.password == "pencil"

    def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
        return f"250 2.0.0 {session.identity}"


def test_an_own_mechanism(backend: Backend) -> None:
    async def dialogue(client: Client) -> None:
        await client.reply()
        assert "AUTH XMAGIC PLAIN" in await client.ask(b"EHLO c.example\r\n")
        assert await client.ask(b"AUTH XMAGIC\r\n") == "334 " + b64(b"name?").decode().strip()
        assert await client.ask(b64(b"jane")) == "334 " + b64(b"word for jane").decode().strip()
        assert (await client.ask(b64(b"wrong")))[:9] == "535 5.7.8"
        await client.send(b"AUTH XMAGIC " + b64(b"joe") + b64(b"abracadabra") + b"VRFY x\r\n")
        assert (await client.reply())[:3] == "334"
        assert await client.reply() == "235 2.7.0 Welcome back"
        assert await client.reply() == "250 2.0.0 joe"

    talk(backend, Magic(), dialogue, config=MAGIC, limits=QUICK)


def test_the_engine_keeps_the_mechanisms_it_is_left(backend: Backend) -> None:
    async def dialogue(client: Client) -> None:
        await client.send(b"EHLO c.example\r\nAUTH PLAIN " + b64(b"\0jane\0pencil") + b"VRFY x\r\n")
        await client.codes(2)
        assert await client.reply() == "235 2.7.0 Authentication succeeded"
        assert await client.reply() == "250 2.0.0 jane"

    talk(backend, Magic(), dialogue, config=MAGIC, limits=QUICK)


@pytest.mark.parametrize("line", [b"*\r\n", b"!!!\r\n"])
def test_a_client_that_ends_an_own_exchange(backend: Backend, line: bytes) -> None:
    magic = Magic()

    async def dialogue(client: Client) -> None:
        await client.send(b"EHLO c.example\r\nAUTH XMAGIC\r\n" + line + b"NOOP\r\n")
        assert await client.codes(5) == ["220", "250", "334", "501", "250"]
        assert magic.cancelled == 1
        await client.send(b"AUTH XMAGIC =\r\n" + b64(b"raise") + b"NOOP\r\n")
        assert await client.codes(3) == ["334", "454", "250"]

    talk(backend, magic, dialogue, config=MAGIC, limits=QUICK)


def test_a_client_that_leaves_an_own_exchange(backend: Backend) -> None:
    magic = Magic()

    async def dialogue(client: Client) -> None:
        await client.send(b"EHLO c.example\r\nAUTH XMAGIC\r\n")
        assert await client.codes(3) == ["220", "250", "334"]

    talk(backend, magic, dialogue, config=MAGIC, limits=QUICK)
    assert magic.cancelled == 1


def test_no_positive_reply_lets_anybody_in(backend: Backend) -> None:
    class Wrong(ehlo.Handler):
        def on_sasl(self, session: ehlo.Session, mechanism: str, initial: bytes | None, challenge: Challenge) -> Any:
            answers = {b"yes": True, b"reply": "235 2.7.0 in", b"code": ehlo.Identity("x", reply="250 2.0.0 in")}
            return answers[initial or b""]

        def on_vrfy(self, session: ehlo.Session, argument: str) -> str:
            return f"250 2.0.0 {session.identity}"

    async def dialogue(client: Client) -> None:
        await client.send(b"EHLO c.example\r\n")
        await client.codes(2)
        for word in (b"yes", b"reply", b"code"):
            assert (await client.ask(b"AUTH XMAGIC " + b64(word)))[:3] == "454"
        assert await client.ask(b"VRFY x\r\n") == "250 2.0.0 None"

    talk(backend, Wrong(), dialogue, config=MAGIC, limits=QUICK)


HEADERS = {
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n": (1, "TCP4"),
    b"PROXY UNKNOWN\r\n": (1, "UNKNOWN"),
    ehlo.ProxyHeader(("2001:db8::1", 1), ("2001:db8::2", 2)).to_bytes(2): (2, "TCP6"),
    ehlo.ProxyHeader().to_bytes(2): (2, "UNKNOWN"),
}


@pytest.mark.tcp
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:12].decode().split()[0])
def test_what_the_proxy_said(backend: Backend, header: bytes) -> None:
    seen: list[Any] = []

    class Front(ehlo.Handler):
        def on_proxy(self, session: ehlo.Session, header: ehlo.ProxyHeader | None) -> Any:
            seen.append((header is not None, session.proxy_version, session.proxy_family, session.proxy_octets))
            return "554 5.7.1 not today" if header is not None and session.proxy_version == 2 else None

    async def dialogue(client: Client) -> None:
        await client.send(header)
        assert (await client.reply())[:3] == ("554" if HEADERS[header][0] == 2 else "220")

    talk(backend, Front(), dialogue, config=CONFIG.replace(proxy=True), trusted=["127.0.0.1"])
    assert seen == [(True, *HEADERS[header], header)]


@pytest.mark.tcp
def test_a_bad_proxy_header_is_told(backend: Backend) -> None:
    seen: list[Any] = []

    class Front(ehlo.Handler):
        async def on_proxy(self, session: ehlo.Session, header: ehlo.ProxyHeader | None) -> None:
            seen.append((header, session.proxy_version, session.proxy_octets))

    async def dialogue(client: Client) -> None:
        await client.send(b"PROXY TCP4 oops\r\nNOOP\r\n")
        assert await client.rest() == b""

    talk(backend, Front(), dialogue, config=CONFIG.replace(proxy=True), trusted=["127.0.0.1"])
    assert seen == [(None, None, b"PROXY TCP4 oops\r\n")]
