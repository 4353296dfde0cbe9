"""``ehlo.compat.aiosmtpd``: a method that does not come to its end is cut off at the ``timeout``, as in aiosmtpd."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from ehlo.compat.aiosmtpd.smtp import SMTP

WORDS = {
    "HELO": b"HELO c\r\n",
    "NOOP": b"EHLO c\r\nNOOP\r\n",
    "MAIL": b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n",
    "RCPT": b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n",
    "DATA": b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n",
    "RSET": b"EHLO c\r\nRSET\r\n",
    "AUTH": b"EHLO c\r\nAUTH PLAIN AGEAYg==\r\n",
    "VRFY": b"EHLO c\r\nVRFY jane\r\n",
    "QUIT": b"EHLO c\r\nQUIT\r\n",
    "STARTTLS": b"EHLO c\r\nSTARTTLS\r\n",
}
HANDLED = [command for command in WORDS if command != "STARTTLS"]


class Hangs:
    """Its method for one command waits for ever."""

    def __init__(self, command: str) -> None:
        self.over = asyncio.Event()
        self.began = asyncio.Event()
        setattr(self, f"handle_{command}", self.hang)

    async def hang(self, *_: object) -> str:
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.over.set()
        raise AssertionError


async def cut_off(kind: Callable[..., Any], command: str, **options: Any) -> bytes:
    """What a client hears that stays and waits, until it is cut off. The method is cancelled then."""
    loop, handler = asyncio.get_running_loop(), Hangs(command)
    server = await loop.create_server(lambda: kind(handler, hostname="mx.example", **options), "127.0.0.1", 0)
    async with asyncio.timeout(30), server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for line in WORDS[command].splitlines(keepends=True):
            writer.write(line)
        heard = await reader.read()
        writer.close()
        assert handler.began.is_set()
        await handler.over.wait()
        return heard


@pytest.mark.parametrize("command", HANDLED)
def test_a_method_that_hangs_is_cut_off_as_in_aiosmtpd(command: str) -> None:
    aiosmtpd = pytest.importorskip("aiosmtpd.smtp")
    options = {"timeout": 0.1, "auth_require_tls": False}
    heard = [asyncio.run(cut_off(kind, command, **options)) for kind in (aiosmtpd.SMTP, SMTP)]
    codes = [[line[:4] for line in octets.splitlines()] for octets in heard]
    assert codes[0] == codes[1]


def test_a_method_for_starttls_that_hangs_is_cut_off_as_in_aiosmtpd() -> None:
    aiosmtpd = pytest.importorskip("aiosmtpd.smtp")

    def hanging(kind: type[Any]) -> Callable[..., Any]:
        class Mine(kind):  # type: ignore[misc]
            async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
                await self.event_handler.hang()

        return Mine

    options = {"timeout": 0.1, "tls_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}
    heard = [asyncio.run(cut_off(hanging(kind), "STARTTLS", **options)) for kind in (aiosmtpd.SMTP, SMTP)]
    codes = [[line[:4] for line in octets.splitlines()] for octets in heard]
    assert codes[0] == codes[1]


async def silent_in_handshake(kind: Callable[..., Any]) -> bytes:
    """What a client hears that asks for TLS, and then says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(Hangs("NOOP"), hostname="mx.example", timeout=0.1, tls_context=context), "127.0.0.1", 0
    )
    async with asyncio.timeout(30), server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for line in WORDS["STARTTLS"].splitlines(keepends=True):
            writer.write(line)
        heard = await reader.read()
        writer.close()
        return heard


def test_a_client_that_is_silent_in_the_handshake_is_cut_off_as_in_aiosmtpd() -> None:
    aiosmtpd = pytest.importorskip("aiosmtpd.smtp")
    heard = [asyncio.run(silent_in_handshake(kind)) for kind in (aiosmtpd.SMTP, SMTP)]
    assert [octets.splitlines()[-1][:4] for octets in heard] == [b"220 ", b"220 "]


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock can jump."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Slow:
    """AUTH STEPS: two challenges, and a wait behind the last response."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()

    async def auth_STEPS(self, server: Any, args: list[str]) -> None:  # noqa: N802
        for _ in range(2):
            await server.challenge_auth("")
        self.waits.set()
        await asyncio.get_running_loop().create_future()


async def steps(kind: Callable[..., Any], slow_steps: list[int]) -> list[bytes]:
    """What a client hears of AUTH, if the clock jumps by 60 seconds at some of the three steps. The timeout is 100."""
    loop, handler = asyncio.get_running_loop(), Slow()
    assert isinstance(loop, JumpingLoop)
    options: dict[str, Any] = {"hostname": "mx.example", "auth_require_tls": False, "timeout": 100}
    server = await loop.create_server(lambda: kind(handler, **options), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.readline()  # the greeting
        writer.write(b"EHLO c\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        heard = []
        for step, line in enumerate((b"AUTH STEPS\r\n", b"eA==\r\n", b"eA==\r\n")):
            writer.write(line)
            if step < 2:
                heard.append(await reader.readline())
            else:
                await handler.waits.wait()
            if step in slow_steps:
                loop.ahead += 60
                if step == slow_steps[-1]:
                    break
        heard.append(await asyncio.wait_for(reader.read(), 30))
        writer.close()
        return heard


@pytest.mark.parametrize("slow_steps", [[0, 1], [0, 2], [1, 2]])
def test_an_exchange_of_auth_has_the_timeout_once_as_in_aiosmtpd(slow_steps: list[int]) -> None:
    aiosmtpd = pytest.importorskip("aiosmtpd.smtp")
    heard = []
    for kind in (aiosmtpd.SMTP, SMTP):
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            heard.append(runner.run(steps(kind, slow_steps)))
    assert heard[0] == heard[1]
    assert heard[0][-1] == b""
