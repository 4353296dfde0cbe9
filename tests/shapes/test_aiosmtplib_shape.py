"""``ehlo.compat.aiosmtplib`` where aiosmtplib's own tests do not look; these are run by tests/suites/run.py."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pickle
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_type_hints

import pytest

import ehlo
from authority import Authority
from ehlo.compat import aiosmtplib, stand_in
from ehlo.compat._aiosmtplib_settings import Options
from ehlo.testing import ScriptedServer, SMTPServer

original = pytest.importorskip("aiosmtplib")

A, B, C = "a@b.example", "c@d.example", "e@f.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
HELLO = "S: 220 mx.example\nC: EHLO *\nS: 250-mx.example\nS: 250-SIZE\nS: 250 PIPELINING\n"
GROUP = f"C: MAIL FROM:<{A}>*\nC: RCPT TO:<{B}>\nC: DATA\n"


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


def run(function: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(20):
            return await function()

    return asyncio.run(main())


def client_of(peer: Any, **options: Any) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(hostname=peer.host, port=peer.port, **options)


# ---- the face ------------------------------------------------------------------------------------


def test_every_name_is_there() -> None:
    assert {*original.__all__} <= {*aiosmtplib.__all__}
    public = {name for name in dir(original.SMTP) if not name.startswith("_")}
    assert public <= {*dir(aiosmtplib.SMTP)}
    for name in public - {"connect", "starttls"}:  # these take their keywords as a TypedDict
        theirs, ours = getattr(original.SMTP, name), getattr(aiosmtplib.SMTP, name)
        if callable(theirs):
            assert [*inspect.signature(theirs).parameters] == [*inspect.signature(ours).parameters], name
    keywords = {*inspect.signature(original.SMTP).parameters}
    assert keywords == get_type_hints(Options).keys()


@pytest.mark.parametrize("name", [name for name in original.__all__ if isinstance(getattr(original, name), type)])
def test_the_tree_of_exceptions(name: str) -> None:
    theirs, ours = getattr(original, name), getattr(aiosmtplib, name)
    if issubclass(theirs, Exception):
        above = {base.__name__ for base in theirs.__mro__}
        assert {base.__name__ for base in ours.__mro__} - above == {"EhloError"}


def test_exceptions_pickle() -> None:
    refused = aiosmtplib.SMTPRecipientRefused(550, "no", B)
    error = pickle.loads(pickle.dumps(aiosmtplib.SMTPRecipientsRefused([refused])))
    assert [(one.code, one.message, one.recipient) for one in error.recipients] == [(550, "no", B)]


# ---- messages ------------------------------------------------------------------------------------


def test_a_message_goes_out_in_two_round_trips() -> None:
    script = HELLO + GROUP.replace("C: DATA", f"C: RCPT TO:<{C}>\nC: DATA")
    script += "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 354 go\nC...\nS: 250 2.0.0 as 7\nC: QUIT\nS: 221 bye\n"

    async def main() -> None:
        async with client_of(peer) as client:
            refused, text = await client.sendmail(A, [B, C], CONTENT)
            assert refused == {C: (550, "5.1.1 no")}
            assert text == "2.0.0 as 7"

    with ScriptedServer(script) as peer:
        run(main)


def test_much_mail(server: SMTPServer) -> None:
    content = b"x" * 998 + b"\r\n"

    async def main() -> None:
        async with client_of(server) as client:
            await client.sendmail(A, B, content * 5000)
            await client.sendmail(A, B, "a\nb\n.c")

    run(main)
    assert [message.content for message in server.wait(2)] == [content * 5000, b"a\r\nb\r\n.c\r\n"]


def test_a_method_that_the_program_changes_is_called(server: SMTPServer) -> None:
    said = []

    class Mine(aiosmtplib.SMTP):
        async def rcpt(self, recipient: str, /, **options: Any) -> aiosmtplib.SMTPResponse:
            said.append(recipient)
            return await super().rcpt(recipient, **options)

    async def main() -> None:
        async with Mine(hostname=server.host, port=server.port) as client:
            await client.sendmail(A, [B, C], CONTENT)

    run(main)
    assert said == [B, C]


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (GROUP + "close\n", aiosmtplib.SMTPServerDisconnected),
        (GROUP + "S: 421 4.3.2 later\nclose\n", aiosmtplib.SMTPSenderRefused),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nclose\n", aiosmtplib.SMTPServerDisconnected),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nwait\n", aiosmtplib.SMTPReadTimeoutError),
        (GROUP + "wait\n", aiosmtplib.SMTPReadTimeoutError),
        (GROUP + "S: what?\nclose\n", aiosmtplib.SMTPServerDisconnected),
    ],
)
def test_how_a_connection_ends(rest: str, kind: type[aiosmtplib.SMTPException]) -> None:
    async def main() -> None:
        client = client_of(peer, timeout=1 if "wait" in rest else 20)
        await client.connect()
        with pytest.raises(aiosmtplib.SMTPException) as caught:
            await client.sendmail(A, B, CONTENT)
        assert type(caught.value) is kind
        assert not client.is_connected
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await client.noop()

    with ScriptedServer(HELLO + rest) as peer:
        run(main)


def test_a_send_that_is_cancelled_closes_the_connection() -> None:
    async def main() -> None:
        client = client_of(peer)
        await client.connect()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.sendmail(A, B, CONTENT)
        assert not client.is_connected

    with ScriptedServer(HELLO + GROUP + "wait\n") as peer:
        run(main)


@pytest.mark.parametrize("kind", ["implicit", "starttls"])
def test_tls(authority: Authority, kind: Any) -> None:
    async def main() -> None:
        options = {"use_tls": True} if kind == "implicit" else {"start_tls": True}
        async with client_of(server, tls_context=authority.client(), **options) as client:
            assert await client.sendmail(A, B, CONTENT * 20000) == ({}, "2.0.0 OK")
            assert await client.sendmail(A, B, CONTENT) == ({}, "2.0.0 OK")
            protocol = client.protocol
        assert protocol is not None
        await protocol._closed  # the end of TLS takes a moment, and no transport may be left when the loop ends

    with SMTPServer(config=ehlo.ServerConfig("mx.example", tls=kind), tls=authority.server()) as server:
        run(main)
        assert [message.protocol for message in server.wait(2)] == ["ESMTPS"] * 2


def test_without_a_loop_of_its_own(server: SMTPServer) -> None:
    assert client_of(server).sendmail_sync(A, B, CONTENT) == ({}, "2.0.0 OK")
    assert len(server.wait(1)) == 1


@pytest.mark.parametrize(
    "address", ["a@b.example> AUTH=<>", "a@b.example NOTIFY=NEVER", "a@b.example\r\nRSET", "a b@c"]
)
def test_an_address_smuggles_nothing(server: SMTPServer, address: str) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with pytest.raises(ValueError, match="not permitted"):
                await client.sendmail(address, B, CONTENT)
            with pytest.raises(ValueError, match="not permitted"):
                await client.rcpt(address)

    run(main)


def test_it_stands_in_for_the_library() -> None:
    names = [f"aiosmtplib.{part.name}" for part in pkgutil.iter_modules(original.__path__) if part.name != "__main__"]
    public = {name: {*getattr(importlib.import_module(name), "__all__", ())} - {"_default"} for name in names}
    before = dict(sys.modules)
    try:
        assert stand_in("aiosmtplib") is aiosmtplib
        for name in names:
            assert public[name] <= {*dir(importlib.import_module(name))}
        assert stand_in("smtplib").__name__ == "ehlo.compat.smtplib"
    finally:
        sys.modules.update(before)
