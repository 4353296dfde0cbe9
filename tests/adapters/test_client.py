"""The client on every backend, against servers that behave, misbehave, or answer from a script, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ehlo
from backends import Backend, Peer, Script, descriptors
from programs import free_port

A, B, C = "a@b.example", "c@d.example", "e@f.example"
CONTENT = b"Subject: hi\r\n\r\nhello\r\n"
GREETING = b"220 mx.example ESMTP\r\n"
PLAIN = b"250 mx.example\r\n"
PIPELINING = b"250-mx.example\r\n250 PIPELINING\r\n"
SOON = 0.05
"""A time limit for what never comes, in seconds."""


def config(**changes: Any) -> ehlo.ClientConfig:
    return ehlo.ClientConfig("client.example", **changes)


async def send_to(
    backend: Backend, *scripts: Script, settings: ehlo.ClientConfig | None = None, recipients: Any = B
) -> ehlo.SendResult:
    async with (
        backend.scripted(*scripts) as port,
        backend.adapter.connect("127.0.0.1", port, config=settings or config()) as client,
    ):
        result: ehlo.SendResult = await client.send(CONTENT, A, recipients)
        return result


class Collect(ehlo.Handler):
    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str], bytes]] = []

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return "550 5.1.1 no such user" if "nobody" in str(recipient.path) else None

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        to = [str(recipient.path) for recipient in envelope.recipients]
        self.messages.append((str(envelope.sender.path), to, content))


@contextlib.asynccontextmanager
async def served(backend: Backend, handler: ehlo.Handler, **options: Any) -> AsyncIterator[Any]:
    settings = ehlo.ServerConfig("mx.example", **options)
    async with await backend.serve(handler, "127.0.0.1", 0, config=settings) as server:
        yield server


# ---- one message ---------------------------------------------------------------------------------


def test_every_recipient_has_its_reply(backend: Backend) -> None:
    async def main() -> None:
        handler = Collect()
        async with served(backend, handler) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            result = await client.send(CONTENT, sender=A, recipients=[B, "nobody@d.example", C])
            assert [str(one.path) for one in result.accepted] == [B, C]
            (refused,) = result.refused
            assert (refused.stage, str(refused.reply)) == ("rcpt", "550 5.1.1 no such user")
            assert not result.all_accepted
            assert handler.messages == [(A, [B, C], CONTENT)]

    backend.run(main)


@pytest.mark.parametrize("null", ["", "<>", ehlo.NULL, ehlo.Sender(ehlo.NULL)])
def test_c_cli_36_a_bounce_goes_out_with_the_null_reverse_path(backend: Backend, null: Any) -> None:
    # RFC 5321 4.5.5
    async def script(peer: Peer) -> None:
        await peer.hello(PLAIN)
        assert await peer.line() == b"MAIL FROM:<>"
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"RCPT TO:<c@d.example>"
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"DATA"
        peer.say(b"354 go\r\n")
        await peer.content()
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            assert (await client.send(CONTENT, null, B)).all_accepted

    backend.run(main)


def test_c_cli_26_a_labels_before_smtputf8(backend: Backend) -> None:
    # RFC 6531 3.2: a domain alone needs no SMTPUTF8, a local part does.
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        assert await peer.lines(3) == [
            b"MAIL FROM:<info@xn--bcher-kva.example>",
            b"RCPT TO:<c@xn--mller-kva.example>",
            b"DATA",
        ]
        peer.say(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.content()
        peer.say(b"250 ok\r\n")
        assert await peer.farewell() == b"QUIT\r\n"

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            assert (await client.send(CONTENT, "info@bücher.example", [ehlo.Address("c@müller.example")])).all_accepted
            with pytest.raises(ehlo.SMTPNotSupportedError, match="SMTPUTF8") as caught:
                await client.send(CONTENT, "jürgen@bücher.example", B)
            assert caught.value.result is not None
            assert caught.value.result.failure == "need"
            assert not caught.value.is_temporary

    backend.run(main)


def test_an_email_message_names_its_envelope_and_loses_bcc(backend: Backend) -> None:
    from email.message import EmailMessage

    message = EmailMessage()
    message["From"] = "Jürgen <a@b.example>"
    message["To"] = "c@d.example, Group: e@f.example, g@h.example;"
    message["Bcc"] = "secret@d.example"
    message["Subject"] = "Grüße"
    message.set_content("From here\n.\nGrüße\n", cte="8bit")

    async def main() -> None:
        handler = Collect()
        async with served(backend, handler) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            assert (await client.send(message)).all_accepted
        ((sender, recipients, content),) = handler.messages
        assert sender == A
        assert recipients == ["c@d.example", "e@f.example", "g@h.example", "secret@d.example"]
        assert b"secret" not in content
        assert content.isascii() is False
        assert "\r\n\r\nFrom here\r\n.\r\nGrüße\r\n".encode() in content
        assert b"Subject: =?utf-8?" in content
        assert message["Bcc"] == "secret@d.example", "the program's message stays as it is"

    backend.run(main)


# ---- messages that come in pieces ----------------------------------------------------------------


def lines(count: int, octets: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"%08d " % number + b"x" * (octets - 11) + b"\r\n"


async def aline(backend: Backend, count: int, octets: int) -> AsyncIterator[bytes]:
    for line in lines(count, octets):
        await backend.turn()
        yield line


@pytest.mark.parametrize("chunking", [False, "auto"], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("kind", ["list", "generator", "async", "file", "short file", "bytearray", "memoryview"])
def test_sources(backend: Backend, kind: str, chunking: Any, tmp_path: Path) -> None:
    whole = b"".join(lines(100 if kind == "short file" else 4000, 100))
    (tmp_path / "message").write_bytes(whole)

    async def main() -> None:
        handler = Collect()
        with (tmp_path / "message").open("rb") as file:
            source: Any = {
                "list": list(lines(4000, 100)),
                "generator": lines(4000, 100),
                "async": aline(backend, 4000, 100),
                "file": file,
                "short file": file,
                "bytearray": bytearray(whole),
                "memoryview": memoryview(whole),
            }[kind]
            async with (
                served(backend, handler) as server,
                backend.adapter.connect("127.0.0.1", server.port, config=config(chunking=chunking)) as client,
            ):
                assert (await client.send(source, A, B)).all_accepted
                assert (await client.send(CONTENT, A, B)).all_accepted
        assert [content for _, _, content in handler.messages] == [whole, CONTENT]

    backend.run(main)


@pytest.mark.parametrize("message", ["text", 7, None, object()])
def test_what_is_no_message(backend: Backend, message: Any) -> None:
    async def main() -> None:
        async with served(backend, Collect()) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            with pytest.raises(TypeError, match=r"octets|a message is"):
                await client.send(message, A, B)
            with pytest.raises(TypeError):  # behind a 354 only the end of the connection says so
                await client.send(iter(["text"]), A, B)

    backend.run(main)


@pytest.mark.parametrize("chunking", [False, "auto"], ids=["DATA", "BDAT"])
def test_a_source_that_fails_leaves_no_message(backend: Backend, chunking: Any) -> None:
    # C-DAT-25: behind DATA only the end of the connection says it, between chunks RSET does.
    def source() -> Iterator[bytes]:
        yield from lines(2000, 100)
        raise ZeroDivisionError

    async def main() -> None:
        handler = Collect()
        async with (
            served(backend, handler) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=config(chunking=chunking)) as client,
        ):
            with pytest.raises(ZeroDivisionError):
                await client.send(source(), A, B)
            if chunking is False:
                assert client.is_closed
                with pytest.raises(ehlo.SMTPServerDisconnected):
                    await client.send(CONTENT, A, B)
            else:
                assert (await client.send(CONTENT, A, B)).all_accepted
        assert [content for _, _, content in handler.messages] == ([] if chunking is False else [CONTENT])

    backend.run(main)


def test_a_refused_message_closes_its_generator(backend: Backend) -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.append(True)

    async def main() -> None:
        async with served(backend, Collect()) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            pieces = source()
            assert await anext(pieces)
            with pytest.raises(ehlo.SMTPRecipientsRefused):
                await client.send(pieces, A, "nobody@d.example")
            assert closed == [True]

    backend.run(main)


@pytest.mark.parametrize("chunking", [False, "auto"], ids=["DATA", "BDAT"])
def test_a_large_message_in_little_memory(backend: Backend, chunking: Any) -> None:
    size = 32 << 20
    piece = b"x" * 998 + b"\r\n"

    class Count(ehlo.Handler):
        octets = 0

        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            async for chunk in body:
                self.octets += len(chunk)

    async def main() -> None:
        handler = Count()
        async with (
            served(backend, handler, max_message_size=None) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=config(chunking=chunking)) as client,
        ):
            await client.send(CONTENT, A, B)
            tracemalloc.start()
            try:
                result = await client.send((piece for _ in range(size // len(piece))), A, B)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert result.all_accepted
            assert handler.octets == len(CONTENT) + size // len(piece) * len(piece)
            assert peak < 4 << 20

    backend.run(main)


# ---- many messages -------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("chunking", [False, "auto"], ids=["DATA", "BDAT"])
def test_send_many_in_order(backend: Backend, chunking: Any, asynchronous: bool) -> None:
    count = 200

    def items() -> Iterator[Any]:
        for number in range(count):
            content: Any = b"%d\r\n" % number
            if number % 7 == 3:
                content = iter([content])  # in pieces
            to = ["nobody@d.example"] if number % 5 == 0 else [B, "nobody@d.example"]
            yield content, A, to

    async def aitems() -> AsyncIterator[Any]:
        for item in items():
            await backend.turn()
            yield item

    async def main() -> None:
        handler = Collect()
        async with (
            served(backend, handler, max_errors=10000) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=config(chunking=chunking)) as client,
        ):
            source = aitems() if asynchronous else items()
            results = [result async for result in client.send_many(source)]
            assert [len(result.accepted) for result in results] == [int(n % 5 != 0) for n in range(count)]
            assert (await client.noop()).code == 250, "in step"
        assert [content for _, _, content in handler.messages] == [b"%d\r\n" % n for n in range(count) if n % 5]

    backend.run(main)


def test_one_round_trip_a_message(backend: Backend) -> None:
    # RFC 2920 3.1: the end of a content, and the next envelope, in one group.
    trips = 0

    async def script(peer: Peer) -> None:
        nonlocal trips
        await peer.hello()
        await peer.envelope()
        for left in range(9, -1, -1):
            group = await peer.read_until(b"\r\n.\r\n")
            if left:
                group += await peer.read_until(b"DATA\r\n")
            trips += 1
            peer.say(b"250 ok\r\n", *([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"] if left else []))
        assert await peer.farewell() == b"QUIT\r\n"

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            results = [result async for result in client.send_many((CONTENT, A, B) for _ in range(10))]
            assert all(result.all_accepted for result in results)

    backend.run(main)
    assert trips == 10


def test_what_the_items_raise_comes_behind_the_results(backend: Backend) -> None:
    def items() -> Iterator[Any]:
        yield CONTENT, A, B
        yield CONTENT, A, C
        raise ZeroDivisionError

    async def main() -> None:
        async with served(backend, Collect()) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            sending = client.send_many(items())
            assert (await anext(sending)).all_accepted
            assert (await anext(sending)).all_accepted
            with pytest.raises(ZeroDivisionError):
                await anext(sending)
            with pytest.raises(StopAsyncIteration):
                await anext(sending)
            results = [result async for result in client.send_many([(CONTENT, A, B), (CONTENT, "no mailbox", B)][:1])]
            assert len(results) == 1
            sending = client.send_many([(CONTENT, A, B), (CONTENT, "no mailbox", B)])
            assert (await anext(sending)).all_accepted
            with pytest.raises(ehlo.LocalProtocolError):
                await anext(sending)
            assert (await client.send(CONTENT, A, B)).all_accepted, "a mistake of the program costs no connection"

    backend.run(main)


def test_an_async_source_that_waits_holds_no_result_back(backend: Backend) -> None:
    async def main() -> None:
        go_on = backend.event()

        async def items() -> AsyncIterator[Any]:
            yield CONTENT, A, B
            await go_on.wait()
            yield CONTENT, A, C

        async with served(backend, Collect()) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            sending = client.send_many(items())
            assert str((await anext(sending)).recipients[0].path) == B
            go_on.set()
            assert str((await anext(sending)).recipients[0].path) == C
            with pytest.raises(StopAsyncIteration):
                await anext(sending)

    backend.run(main)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
def test_leaving_early_closes_the_connection(backend: Backend, asynchronous: bool) -> None:
    async def endless() -> AsyncIterator[Any]:
        while True:
            yield CONTENT, A, B

    async def main() -> None:
        async with (
            served(backend, Collect()) as server,
            backend.adapter.connect("127.0.0.1", server.port) as client,
        ):
            source: Any = endless() if asynchronous else iter(lambda: (CONTENT, A, B), None)
            async for result in client.send_many(source):
                assert result.all_accepted
                break
            gc.collect()
            assert client.is_closed

    backend.run(main)


def test_a_connection_that_ends_ends_send_many_behind_its_results(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.lines(3)
        peer.say(b"421 enough\r\n")

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config(window=2))
            sending = client.send_many((CONTENT, A, B) for _ in range(100))
            assert (await anext(sending)).all_accepted
            results = []

            async def take() -> None:
                async for result in sending:
                    results.append(result)

            with pytest.raises(ehlo.SMTPServerDisconnected) as caught:
                await take()
            assert caught.value.reply is not None
            assert caught.value.reply.code == 421
            assert 1 <= len(results) <= 2
            assert not any(result.accepted for result in results)
            await client.close()

    backend.run(main)


@pytest.mark.parametrize("begun", [False, True])
def test_a_content_that_could_not_be_sent_is_lost_and_not_unknown(backend: Backend, begun: bool) -> None:
    # C-CLI-17: whose dot never left us may be sent again.
    line = b"x" * 78 + b"\r\n"

    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        if begun:
            await peer.read_until(line)
        peer.reset()

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config())
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await client.send(line * 400_000, A, B)
            assert client.is_closed

    backend.run(main)


def test_a_refusal_stops_a_content_that_the_server_does_not_read(backend: Backend) -> None:
    # C-CLI-33, and memory: what the kernel does not take stays in the engine
    line = b"x" * 78 + b"\r\n"
    rest = b""

    async def script(peer: Peer) -> None:
        nonlocal rest
        await peer.hello()
        await peer.envelope()
        await peer.read_until(line)
        peer.say(b"552 5.3.4 too big\r\n")
        rest = await peer.rest()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            with pytest.raises(ehlo.SMTPDataError):
                await client.send(line * 400_000, A, B)

    backend.run(main)
    assert len(rest) < 24_000_000  # of 32
    assert not rest.endswith(b"\r\n.\r\n")


# ---- C-CLI-21: limits of a connection ------------------------------------------------------------

LIMITED = b"250-mx.example\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2 RCPTMAX=2\r\n"


def limited(transactions: list[int]) -> Script:
    """A server that takes two transactions a connection, of as many recipients as said."""

    async def script(peer: Peer) -> None:
        await peer.hello(LIMITED)
        for number, recipients in enumerate(transactions):
            await peer.envelope(recipients=recipients)
            await peer.content()
            peer.say(b"250 ok %d\r\n" % number)
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")

    return script


def test_c_cli_21_mailmax_makes_a_new_connection(backend: Backend) -> None:
    # RFC 9422 4.1
    async def main() -> None:
        async with (
            backend.scripted(limited([1, 1]), limited([1])) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            for _ in range(3):
                assert (await client.send(CONTENT, A, B)).all_accepted

    backend.run(main)


def test_c_cli_21_send_many_over_several_connections(backend: Backend) -> None:
    async def main() -> None:
        async with (
            backend.scripted(limited([1, 1]), limited([1, 1]), limited([1])) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            results = [result async for result in client.send_many([(b"%d\r\n" % n, A, B) for n in range(5)])]
            assert [result.all_accepted for result in results] == [True] * 5

    backend.run(main)


@pytest.mark.parametrize("many", [False, True], ids=["send", "send_many"])
def test_c_cli_21_the_rest_of_the_recipients_over_a_new_connection(backend: Backend, many: bool) -> None:
    # RCPTMAX=2 makes three transactions of five recipients, MAILMAX=2 two connections of those.
    recipients = [f"r{number}@d.example" for number in range(5)]

    async def main() -> None:
        async with (
            backend.scripted(limited([2, 2]), limited([1, 1] if many else [1])) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            if many:
                items = [(CONTENT, A, recipients), (CONTENT, A, B)]
                first, second = [result async for result in client.send_many(items)]
                assert second.all_accepted
            else:
                first = await client.send(CONTENT, A, recipients)
            assert [str(one.path) for one in first.accepted] == recipients
            assert first.failure is None

    backend.run(main)


@pytest.mark.tcp
def test_without_a_way_to_connect_again_mailmax_is_an_error(backend: Backend) -> None:
    async def main() -> None:
        async with backend.scripted(limited([1, 1])) as port:
            sock = socket.create_connection(("127.0.0.1", port))
            async with backend.adapter.connect(sock=sock, config=config()) as client:
                await client.send(CONTENT, A, B)
                await client.send(CONTENT, A, B)
                with pytest.raises(ehlo.SMTPServerDisconnected, match="9422") as caught:
                    await client.send(CONTENT, A, B)
                assert caught.value.is_temporary

    backend.run(main)


@pytest.mark.tcp
def test_nothing_is_written_to_a_socket_that_has_the_number_of_ours_now(backend: Backend) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            theirs.sendall(b"for another\r\n")
            async with served(backend, Collect()) as server:
                sock = socket.create_connection(("127.0.0.1", server.port))
                client = await backend.adapter.connect(sock=sock, config=config())
                number = sock.fileno()
                sock.close()  # by the program, which is wrong; and its next socket gets the number
                os.dup2(ours.fileno(), number)
                try:
                    with pytest.raises((OSError, ehlo.EhloError)):
                        await client.send(CONTENT, A, B)
                finally:
                    os.close(number)
                with pytest.raises(BlockingIOError):
                    theirs.recv(1)

    backend.run(main)


# ---- connecting ----------------------------------------------------------------------------------


@pytest.mark.tcp
def test_c_cli_05_the_name_in_ehlo(backend: Backend) -> None:
    # RFC 5321 4.1.4
    from ehlo._client.options import hostname_of

    address = ("192.0.2.1", 40000)
    assert hostname_of("host.example", address) == "host.example"
    assert hostname_of("host.example.", address) == "host.example"
    assert hostname_of("host", address) == "[192.0.2.1]"
    assert hostname_of("localhost.localdomain", address) == "[192.0.2.1]"
    assert hostname_of("höst.example", address) == "[192.0.2.1]"
    assert hostname_of("host", ("2001:db8::1", 4, 0, 0)) == "[IPv6:2001:db8::1]"
    assert hostname_of("host", ("fe80::1%eth0", 4, 0, 2)) == "[IPv6:fe80::1]"
    assert hostname_of("host", "/run/mail.sock") == "localhost"

    said: list[bytes] = []

    async def script(peer: Peer) -> None:
        said.append(await peer.hello())
        await peer.farewell()

    async def main() -> None:
        async with backend.scripted(script, script, script) as port:
            async with backend.adapter.connect("127.0.0.1", port):
                pass
            async with backend.adapter.connect("127.0.0.1", port, hostname="me.example"):
                pass
            async with backend.adapter.connect("127.0.0.1", port, config=ehlo.ClientConfig("[192.0.2.7]")):
                pass

    backend.run(main)
    assert said[0] == f"EHLO {hostname_of(socket.getfqdn(), ('127.0.0.1', 1))}".encode()
    assert said[1:] == [b"EHLO me.example", b"EHLO [192.0.2.7]"]


def test_c_cli_04_a_server_that_closes_at_ehlo_is_not_asked_again(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        peer.say(GREETING)
        await peer.line()

    async def main() -> None:
        async with backend.scripted(script) as port:
            with pytest.raises(ehlo.SMTPServerDisconnected) as caught:
                await backend.adapter.connect("127.0.0.1", port, config=config())
            assert "C: EHLO client.example" in caught.value.transcript

    backend.run(main)


@pytest.mark.tcp
def test_nobody_listens(backend: Backend) -> None:
    port = free_port()

    async def main() -> None:
        with pytest.raises(ehlo.SMTPConnectError, match=f"127.0.0.1:{port}") as caught:
            await backend.adapter.connect("127.0.0.1", port)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.is_temporary
        with pytest.raises(ehlo.SMTPConnectError):
            await backend.adapter.connect(path="/nonexistent/socket")

    backend.run(main)


@pytest.mark.tcp
def test_arguments_that_make_no_sense(backend: Backend) -> None:
    places: list[dict[str, Any]] = [{}, {"host": "h", "path": "/p"}, {"path": "/p", "sock": socket.socket()}]
    for arguments in places:
        with pytest.raises(ehlo.LocalProtocolError, match="give a host"):
            backend.adapter.connect(**arguments)
        if "sock" in arguments:
            arguments["sock"].close()


@pytest.mark.tcp
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_a_unix_socket_by_lmtp(backend: Backend) -> None:
    async def main() -> None:
        handler = Collect()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "lmtp")
            settings = ehlo.ServerConfig("mx.example", lmtp=True)
            async with (
                await backend.serve(handler, path=path, config=settings),
                backend.adapter.connect(path=path, config=ehlo.ClientConfig(lmtp=True)) as client,
            ):
                result = await client.send(CONTENT, A, [B, "nobody@d.example", C])
                assert [one.accepted for one in result.recipients] == [True, False, True]

    backend.run(main)


@pytest.mark.tcp
def test_a_source_address(backend: Backend) -> None:
    seen: list[Any] = []

    class Look(Collect):
        def on_hello(self, session: ehlo.Session, hello: ehlo.Hello) -> None:
            seen.append(session.peer)

    async def main() -> None:
        async with (
            served(backend, Look()) as server,
            backend.adapter.connect("127.0.0.1", server.port, source_address="127.0.0.2"),
        ):
            assert seen[0][0] == "127.0.0.2"

    if not os.path.exists("/proc"):
        pytest.skip("only Linux has all of 127/8")
    backend.run(main)


# ---- any command ---------------------------------------------------------------------------------


def test_a_command_of_the_servers_own(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello(PIPELINING)
        for line, reply in (
            (b"XFOO bar baz", b"250-one\r\n250 two\r\n"),
            (b"xbar", b"599 no\r\n"),
            (b"NOOP", b"250 ok\r\n"),
        ):
            assert await peer.line() == line
            peer.say(reply)
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            assert (await client.command("XFOO bar baz")).lines == (b"one", b"two")
            assert (await client.command("xbar")).code == 599
            assert (await client.command("noop")).code == 250
            for line in (
                "",
                "MAIL FROM:<a@b.example>",
                "DATA",
                "EHLO x",
                "XFOO\r\nRSET",
                "XFOO a\nb",
                "RCPT TO:x",
                " x",
            ):
                with pytest.raises(ehlo.LocalProtocolError):
                    await client.command(line)
            assert (await client.send(CONTENT, A, B)).all_accepted

    backend.run(main)


# ---- one task at a time --------------------------------------------------------------------------


def test_a_second_task_is_told(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.lines(3)
        told.set()
        await told_back.wait()
        peer.say(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    told, told_back = backend.event(), backend.event()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            task = backend.beside(client.send, CONTENT, A, B)
            await told.wait()
            for use in (client.send(CONTENT, A, B), client.noop(), client.quit(), anext(client.send_many([]))):
                with pytest.raises(ehlo.LocalProtocolError, match=r"one (task|thread) uses a connection at a time"):
                    await use
            told_back.set()
            assert (await task).all_accepted

    backend.run(main)


@pytest.mark.waits
@pytest.mark.parametrize("how", ["send", "send_many", "noop"])
def test_a_cancelled_use_closes_the_connection(backend: Backend, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        asked.set()
        await peer.farewell()

    asked = backend.event()

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config())
            use: Any = {
                "send": lambda: client.send(CONTENT, A, B),
                "send_many": lambda: anext(client.send_many([(CONTENT, A, B)])),
                "noop": client.noop,
            }[how]
            task = backend.beside(use)
            await asked.wait()
            task.cancel()
            await backend.until(lambda: task.done)
            assert task.cancelled
            assert client.is_closed
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await client.send(CONTENT, A, B)
            await client.close()

    backend.run(main)


# ---- the end -------------------------------------------------------------------------------------


def test_c_cli_31_close_says_quit_and_waits_for_221(backend: Backend) -> None:
    # RFC 5321 4.1.1.10
    async def script(peer: Peer) -> None:
        await peer.hello()
        assert await peer.line() == b"QUIT"
        peer.say(b"221 bye\r\n")
        assert await peer.rest() == b""

    async def main() -> None:
        async with backend.scripted(script, script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config())
            await client.close()
            await client.close()
            assert client.is_closed
            client = await backend.adapter.connect("127.0.0.1", port, config=config())
            reply = await client.quit()
            assert reply is not None
            assert reply.code == 221
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await client.quit()

    backend.run(main)


def test_c_cli_31_no_reply_to_quit_is_waited_for_shortly(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        assert await peer.rest() == b"QUIT\r\n"

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config(quit_timeout=SOON))
            assert await client.quit() is None

    backend.run(main)


# ---- bad servers ---------------------------------------------------------------------------------


STAGES: dict[str, tuple[Script, Any]] = {}


def stage(*expected: type[Exception]) -> Callable[[Script], Script]:
    def keep(script: Script) -> Script:
        STAGES[script.__name__] = (script, expected)
        return script

    return keep


@stage(ehlo.SMTPServerDisconnected)
async def closes_at_once(peer: Peer) -> None:
    pass


@stage(ehlo.SMTPServerDisconnected)
async def closes_in_the_greeting(peer: Peer) -> None:
    peer.say(b"220-mx.exa")


@stage(ehlo.SMTPServerDisconnected)
async def closes_after_the_greeting(peer: Peer) -> None:
    peer.say(GREETING)


@stage(ehlo.SMTPServerDisconnected)
async def closes_in_the_reply_to_ehlo(peer: Peer) -> None:
    await peer.hello(b"250-mx.example\r\n250-PIPE")


@stage(ehlo.SMTPServerDisconnected)
async def closes_at_mail(peer: Peer) -> None:
    await peer.hello()
    await peer.lines(3)


@stage(ehlo.SMTPServerDisconnected)
async def closes_after_rcpt(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"250 ok\r\n")


@stage(ehlo.SMTPServerDisconnected)
async def closes_between_commands(peer: Peer) -> None:
    await peer.hello(PLAIN)
    await peer.line()
    peer.say(b"250 ok\r\n")


@stage(ehlo.OutcomeUnknown)
async def closes_behind_the_content(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope()
    await peer.content()


@stage(ehlo.OutcomeUnknown)
async def closes_in_the_last_reply(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope()
    await peer.content()
    peer.say(b"250-accepted\r\n25")


@stage(ehlo.SMTPConnectError)
async def refuses_in_the_greeting(peer: Peer) -> None:
    peer.say(b"554 go away\r\n")
    assert await peer.farewell() == b"QUIT\r\n"


@stage(ehlo.SMTPConnectError)
async def is_busy_in_the_greeting(peer: Peer) -> None:
    peer.say(b"421 later\r\n")
    assert await peer.farewell() == b""


@stage(ehlo.SMTPHeloError)
async def refuses_every_hello(peer: Peer) -> None:
    await peer.hello(b"502 what?\r\n")
    assert (await peer.line()).startswith(b"HELO ")
    peer.say(b"550 no\r\n")
    assert await peer.farewell() == b"QUIT\r\n"


@stage(ehlo.RemoteProtocolError)
async def greets_with_web_pages(peer: Peer) -> None:
    peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.farewell()


@stage(ehlo.RemoteProtocolError)
async def mixes_codes(peer: Peer) -> None:
    await peer.hello(b"250-mx.example\r\n550 no\r\n")
    await peer.farewell()


@stage(ehlo.RemoteProtocolError)
async def never_ends_a_reply(peer: Peer) -> None:
    peer.say(GREETING)
    await peer.line()
    with contextlib.suppress(ConnectionError):
        while True:
            await peer.send(b"250-X-" + b"y" * 100 + b"\r\n")


@stage(ehlo.RemoteProtocolError)
async def never_ends_a_line(peer: Peer) -> None:
    peer.say(b"220 ")
    with contextlib.suppress(ConnectionError):
        while True:
            await peer.send(b"y" * 1000)


@stage(ehlo.RemoteProtocolError)
async def says_354_to_mail(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"354 go\r\n", b"250 ok\r\n", b"250 ok\r\n")
    assert CONTENT not in await peer.farewell()


@stage(ehlo.OutcomeUnknown)
async def says_354_to_the_content(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope()
    await peer.content()
    peer.say(b"354 more\r\n")
    await peer.farewell()


@stage(ehlo.RemoteProtocolError)
async def says_250_to_data(peer: Peer) -> None:
    # C-CLI-14, RFC 5321 4.2: no content goes out.
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n")
    assert await peer.farewell() == b""


@stage(ehlo.RemoteProtocolError)
async def talks_before_it_is_asked(peer: Peer) -> None:
    # C-CLI-18: a reply too many is not kept as the answer to what comes next. It comes in one packet with the end of
    # the one before: if the client had read that alone, it would ask, and then nobody knows which reply is too many.
    peer.say(GREETING + PIPELINING[:-1])
    Peer.say(peer, PIPELINING[-1:] + b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
    await peer.farewell()


@stage(ehlo.SMTPSenderRefused)
async def refuses_mail(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"550 no\r\n", b"503 no\r\n", b"503 no\r\n")
    await peer.farewell()


@stage(ehlo.SMTPSenderRefused)
async def refuses_mail_and_goes_on(peer: Peer) -> None:
    # C-CLI-12: the lone dot
    await peer.hello()
    await peer.envelope(b"550 no\r\n", b"250 ok\r\n", b"354 go\r\n")
    assert await peer.line() == b"."
    peer.say(b"554 nobody\r\n")
    await peer.farewell()


@stage(ehlo.SMTPRecipientsRefused)
async def refuses_rcpt(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"550 no\r\n", b"554 nobody\r\n")
    await peer.farewell()


@stage(ehlo.SMTPRecipientsRefused)
async def refuses_rcpt_and_takes_data(peer: Peer) -> None:
    # C-CLI-11: nothing counts as delivered
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"550 no\r\n", b"354 go\r\n")
    assert await peer.line() == b"."
    peer.say(b"250 delivered\r\n")
    await peer.farewell()


@stage(ehlo.SMTPDataError)
async def refuses_data(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"250 ok\r\n", b"451 later\r\n")
    await peer.farewell()


@stage(ehlo.SMTPDataError)
async def refuses_the_content(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope()
    await peer.content()
    peer.say(b"554-\xe4\xf6\xfc\r\n554\r\n")
    await peer.farewell()


@stage(ehlo.SMTPRecipientsRefused)
async def says_421_to_rcpt(peer: Peer) -> None:
    await peer.hello(PLAIN)
    await peer.line()
    peer.say(b"250 ok\r\n")
    await peer.line()
    peer.say(b"421 bye\r\n")


@stage(ehlo.SMTPServerDisconnected)
async def says_421_unasked(peer: Peer) -> None:
    await peer.hello()
    peer.say(b"421 bye\r\n")


@pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", STAGES)
def test_a_bad_server_ends_in_a_clear_exception(backend: Backend, name: str, byte_by_byte: bool) -> None:
    script, expected = STAGES[name]
    if byte_by_byte and name.startswith("never_ends"):
        pytest.skip("that takes too long")

    async def slow(peer: Peer) -> None:
        class Slow(Peer):
            pending = b""

            def say(self, *replies: bytes) -> None:
                for reply in replies:
                    for octet in reply:
                        super().say(bytes([octet]))

        await script(Slow(peer.backend, peer.sock))

    async def main() -> None:
        with pytest.raises(ehlo.EhloError) as caught:
            await send_to(backend, slow if byte_by_byte else script)
        error = caught.value
        kinds = expected if isinstance(expected, tuple) else (expected,)
        if name == "says_421_unasked" and (byte_by_byte or backend.name == "sync"):
            # In a thread, or with a 421 in several packets, the client may have said MAIL before the 421 is there.
            kinds += (ehlo.SMTPSenderRefused,)
        assert type(error) in kinds
        assert isinstance(error, ehlo.SMTPException)
        assert "\n" not in str(error)
        assert "hello" not in error.transcript, "content is in no transcript"
        if name == "closes_behind_the_content":
            assert not error.is_temporary

    backend.run(main)


def test_replies_in_odd_forms_are_understood(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        peer.say(b"220\r\n")
        await peer.line()
        peer.say(b"250-\r\n250-PiPeLiNiNg\r\n250-AUTH=LOGIN\r\n250-SIZE\r\n250- \r\n250-X-\xff\r\n250 8bitmime\r\n")
        await peer.envelope(b"250\r\n", b"251-moved\r\n251 <x@y.example>\r\n", b"354\r\n")
        await peer.content()
        peer.say(b"2", b"50 ")
        peer.say(b"\xe4\r\n")
        await peer.farewell()

    async def main() -> None:
        result = await send_to(backend, script)
        assert result.all_accepted
        assert result.recipients[0].rcpt is not None
        assert result.recipients[0].rcpt.code == 251

    backend.run(main)


def test_several_replies_in_one_segment_and_the_next_message_works(backend: Backend) -> None:
    # C-CLI-10: the group's replies are all read, also behind a refusal.
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope(b"550 no\r\n", b"503 no\r\n", b"503 no\r\n")
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            with pytest.raises(ehlo.SMTPSenderRefused) as caught:
                await client.send(CONTENT, A, B)
            assert (caught.value.sender, caught.value.smtp_code) == (A, 550)
            assert (await client.send(CONTENT, A, B)).all_accepted

    backend.run(main)


# ---- C-CLI-32: timers ----------------------------------------------------------------------------

SILENT: dict[str, tuple[str, Script, type[Exception]]] = {}


async def _silence(peer: Peer) -> None:
    await peer.farewell()


async def _silent_at_hello(peer: Peer) -> None:
    peer.say(GREETING)
    await peer.farewell()


async def _silent_at_mail(peer: Peer) -> None:
    await peer.hello()
    await peer.farewell()


async def _silent_at_rcpt(peer: Peer) -> None:
    await peer.hello()
    await peer.lines(3)
    peer.say(b"250 ok\r\n")
    await peer.farewell()


async def _silent_at_data(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope(b"250 ok\r\n", b"250 ok\r\n")
    await peer.farewell()


async def _silent_at_the_end(peer: Peer) -> None:
    await peer.hello()
    await peer.envelope()
    await peer.farewell()


@pytest.mark.parametrize(
    ("timer", "script", "expected"),
    [
        ("greeting_timeout", _silence, ehlo.SMTPTimeoutError),
        ("hello_timeout", _silent_at_hello, ehlo.SMTPTimeoutError),
        ("mail_timeout", _silent_at_mail, ehlo.SMTPTimeoutError),
        ("rcpt_timeout", _silent_at_rcpt, ehlo.SMTPTimeoutError),
        ("data_timeout", _silent_at_data, ehlo.SMTPTimeoutError),
        ("end_of_data_timeout", _silent_at_the_end, ehlo.OutcomeUnknown),
    ],
)
def test_c_cli_32_silence_ends_in_its_time(
    backend: Backend, timer: str, script: Script, expected: type[Exception]
) -> None:
    # RFC 5321 4.5.3.2
    async def main() -> None:
        with pytest.raises(expected) as caught:
            await send_to(backend, script, settings=config(**{timer: SOON}))
        assert "in time" in str(caught.value)

    backend.run(main)


def test_c_cli_32_a_server_that_takes_no_content(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await gone.wait()

    gone = backend.event()

    async def main() -> None:
        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config(content_timeout=SOON))
            with pytest.raises(ehlo.SMTPTimeoutError):
                await client.send((b"x" * 65534 + b"\r\n" for _ in range(1000)), A, B)
            gone.set()
            await client.close()

    backend.run(main)


def test_c_cli_32_an_upload_that_moves_does_not_time_out(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await go_on.wait()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.farewell()

    go_on = backend.event()

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config(content_timeout=100.0)) as client,
        ):
            pieces = (b"x" * 65534 + b"\r\n" for _ in range(400))
            task = backend.beside(client.send, pieces, A, B)
            link = client._link
            await backend.until(lambda: link.held and link.conn.timeout == 100.0)
            link.seen -= 1000  # nothing was read for long,
            if hasattr(link, "on_time"):
                link._backlog += 1  # and the kernel took octets since the last look
                link.on_time()
                assert not client.is_closed
            go_on.set()
            assert (await task).all_accepted

    backend.run(main)


def test_an_idle_connection_does_not_time_out(backend: Backend) -> None:
    async def main() -> None:
        async with (
            served(backend, Collect()) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=config(mail_timeout=1.0)) as client,
        ):
            assert (await client.noop()).code == 250
            client._link.seen -= 1000  # as if that was long ago
            if hasattr(client._link, "on_time"):
                client._link.on_time()
            assert not client.is_closed
            assert (await client.send(CONTENT, A, B)).all_accepted

    backend.run(main)


def test_c_cli_33_an_early_refusal_stops_the_upload(backend: Backend) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.read_until(b"x" * 65534)
        peer.say(b"552 too much\r\n")
        await peer.farewell()

    async def main() -> None:
        taken = 0

        def source() -> Iterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 65534 + b"\r\n"

        async with backend.scripted(script) as port:
            client = await backend.adapter.connect("127.0.0.1", port, config=config())
            with pytest.raises(ehlo.SMTPDataError, match="552 too much"):
                await client.send(source(), A, B)
            assert client.is_closed
            await client.close()

    backend.run(main)


# ---- the pool ------------------------------------------------------------------------------------


def test_a_pool_is_bounded_and_shared(backend: Backend) -> None:
    async def main() -> None:
        handler = Collect()
        async with (
            served(backend, handler) as server,
            backend.adapter.Pool("127.0.0.1", server.port, max_connections=3) as pool,
        ):
            sends = [backend.beside(pool.send, b"%d\r\n" % n, A, B) for n in range(50)]
            assert all([(await send).all_accepted for send in sends])
            assert (pool.statistics.connections, pool.statistics.messages) == (3, 50)
            assert (pool.connections, pool.idle, server.connections) == (3, 3, 3)
            with pytest.raises(ehlo.SMTPRecipientsRefused):
                await pool.send(CONTENT, A, "nobody@d.example")
            with pytest.raises(ehlo.LocalProtocolError):
                await pool.send(CONTENT, "no mailbox", B)
            assert pool.idle == 3
        with pytest.raises(ehlo.LocalProtocolError, match="closed"):
            await pool.send(CONTENT, A, B)
        assert sorted(int(content) for _, _, content in handler.messages) == list(range(50))

    backend.run(main)


def test_a_pool_replaces_connections_that_are_worn(backend: Backend) -> None:
    async def main() -> None:
        async with (
            served(backend, Collect()) as server,
            backend.adapter.Pool("127.0.0.1", server.port, max_connections=1, max_messages=2) as pool,
        ):
            for _ in range(5):
                await pool.send(CONTENT, A, B)
            assert pool.statistics.connections == 3
            assert pool.statistics.reused == 2

    backend.run(main)


@pytest.mark.waits
def test_a_pool_is_fair(backend: Backend) -> None:
    go_on = backend.event()

    class Hold(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            await go_on.wait()

    async def main() -> None:
        order: list[int] = []

        async def send(number: int) -> None:
            await pool.send(CONTENT, A, B)
            order.append(number)

        async with served(backend, Hold()) as server:
            async with backend.adapter.Pool("127.0.0.1", server.port, max_connections=1) as pool:
                tasks = []
                for number in range(10):
                    tasks.append(backend.beside(send, number))
                    await backend.until(lambda: pool.statistics.waited == len(tasks) - 1 and not pool._slots)
                tasks[4].cancel()
                go_on.set()
                await backend.until(lambda: all(task.done for task in tasks))
            assert order == [0, 1, 2, 3, 5, 6, 7, 8, 9]

    backend.run(main)


def good(messages: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.hello()
        for _ in range(messages):
            await peer.envelope()
            await peer.content()
            peer.say(b"250 ok\r\n")
        await peer.farewell()

    return script


@pytest.mark.parametrize("how", ["421", "eof", "421 to the group"])
def test_c_cli_19_a_stale_connection_is_tried_once_more(backend: Backend, how: str) -> None:
    async def stale(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.lines(3)
        if how == "421":
            peer.say(b"421 idle too long\r\n")
        elif how == "421 to the group":
            peer.say(*[b"421 idle too long\r\n"] * 3)

    async def main() -> None:
        async with (
            backend.scripted(stale, good(1)) as port,
            backend.adapter.Pool("127.0.0.1", port, config=config()) as pool,
        ):
            assert (await pool.send(CONTENT, A, B)).all_accepted
            assert (await pool.send(CONTENT, A, B)).all_accepted
            assert (pool.statistics.retried, pool.statistics.connections) == (1, 2)

    backend.run(main)


def test_c_cli_19_only_once(backend: Backend) -> None:
    async def closes(peer: Peer) -> None:
        await peer.hello()
        await peer.lines(3)

    async def stale(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        await peer.lines(3)

    async def main() -> None:
        async with (
            backend.scripted(stale, closes) as port,
            backend.adapter.Pool("127.0.0.1", port, config=config()) as pool,
        ):
            await pool.send(CONTENT, A, B)
            with pytest.raises(ehlo.SMTPServerDisconnected):
                await pool.send(CONTENT, A, B)
            assert pool.connections == 0

    backend.run(main)


def test_c_cli_17_nothing_is_sent_again_behind_the_end_of_the_content(backend: Backend) -> None:
    # RFC 5321 4.5.3.2.6
    async def script(peer: Peer) -> None:
        await peer.hello()
        for reply in (b"250 ok\r\n", b""):
            await peer.envelope()
            await peer.content()
            peer.say(reply)

    async def main() -> None:
        async with backend.scripted(script) as port, backend.adapter.Pool("127.0.0.1", port, config=config()) as pool:
            await pool.send(CONTENT, A, B)
            with pytest.raises(ehlo.OutcomeUnknown):
                await pool.send(CONTENT, A, B)
            assert pool.statistics.connections == 1

    backend.run(main)


def test_a_pool_asks_old_connections_and_closes_idle_ones(backend: Backend) -> None:
    async def main() -> None:
        gone: list[str] = []

        class Watch(Collect):
            def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
                gone.append(reason)

        async with served(backend, Watch()) as server:
            async with backend.adapter.Pool("127.0.0.1", server.port, check_after=0.0) as pool:
                await pool.send(CONTENT, A, B)
                await pool.send(CONTENT, A, B)
                assert (pool.statistics.checked, pool.statistics.connections) == (1, 1)
            async with backend.adapter.Pool("127.0.0.1", server.port, idle=SOON) as pool:
                await pool.send(CONTENT, A, B)
                await backend.until(lambda: len(gone) == 2 and pool.connections == 0)
                assert gone == ["quit", "quit"]
                await pool.send(CONTENT, A, B)
                assert pool.statistics.connections == 2

    backend.run(main)


def test_a_pool_gives_content_in_pieces_a_connection_that_lives(backend: Backend) -> None:
    async def stale(peer: Peer) -> None:
        await peer.hello()
        await peer.envelope()
        await peer.content()
        peer.say(b"250 ok\r\n")
        assert await peer.line() == b"NOOP"

    async def main() -> None:
        async with (
            backend.scripted(stale, good(1)) as port,
            backend.adapter.Pool("127.0.0.1", port, config=config()) as pool,
        ):
            await pool.send(CONTENT, A, B)
            assert (await pool.send(iter([CONTENT]), A, B)).all_accepted
            assert pool.statistics.connections == 2

    backend.run(main)


@pytest.mark.waits
def test_a_cancelled_send_costs_the_pool_its_connection(backend: Backend) -> None:
    async def hangs(peer: Peer) -> None:
        await peer.hello()
        await peer.line()
        asked.set()
        await peer.farewell()

    asked = backend.event()

    async def main() -> None:
        async with (
            backend.scripted(hangs, good(1)) as port,
            backend.adapter.Pool("127.0.0.1", port, max_connections=1, config=config()) as pool,
        ):
            task = backend.beside(pool.send, CONTENT, A, B)
            await asked.wait()
            waits = backend.beside(pool.send, CONTENT, A, B)
            await backend.until(lambda: pool.statistics.waited)
            task.cancel()
            assert (await waits).all_accepted
            await backend.until(lambda: task.done)
            assert task.cancelled

    backend.run(main)


def test_the_transcript_can_be_taken_live(backend: Backend) -> None:
    async def main() -> None:
        async with served(backend, Collect()) as server, backend.adapter.connect("127.0.0.1", server.port) as client:
            assert re.match(r"S: 220 .*\nC: EHLO ", client.take_transcript())
            await client.noop()
            assert client.take_transcript() == "C: NOOP\nS: 250 2.0.0 OK\n"
            assert client.transcript == ""

    backend.run(main)


@pytest.mark.waits  # of ehlo.sync nothing runs while nobody calls it: see test_sync.py
def test_what_the_server_said_while_nobody_listened(backend: Backend) -> None:
    # RFC 5321 3.8: a 421 to an idle connection is what its next use tells.
    async def script(peer: Peer) -> None:
        await peer.hello()
        assert await peer.line() == b"NOOP"
        peer.say(b"250 ok\r\n", b"421 4.4.2 idle too long\r\n")

    async def main() -> None:
        async with (
            backend.scripted(script) as port,
            backend.adapter.connect("127.0.0.1", port, config=config()) as client,
        ):
            assert (await client.noop()).code == 250
            with pytest.raises(ehlo.SMTPServerDisconnected) as caught:
                await client.send(CONTENT, A, B)
            assert caught.value.reply is not None
            assert caught.value.reply.code == 421

    backend.run(main)


def test_nothing_is_left(backend: Backend) -> None:
    # Neither tasks nor sockets, however a session ends.
    async def dies(peer: Peer) -> None:
        await peer.hello()
        await peer.line()  # NOOP

    async def endless() -> AsyncIterator[Any]:
        while True:
            await backend.turn()
            yield CONTENT, A, B

    async def main() -> None:
        async with served(backend, Collect()) as server:
            await backend.turn()
            tasks, before = backend.tasks(), descriptors()
            for _ in range(3):
                async with backend.adapter.connect("127.0.0.1", server.port) as client:
                    await client.send(CONTENT, A, B)
                    async for _ in client.send_many(endless()):
                        break
                with pytest.raises(ZeroDivisionError):
                    async with backend.adapter.connect("127.0.0.1", server.port) as client:
                        raise ZeroDivisionError
                async with backend.adapter.Pool("127.0.0.1", server.port) as pool:
                    await pool.send(CONTENT, A, B)
                async with backend.scripted(dies) as port:
                    with pytest.raises(ehlo.SMTPServerDisconnected):
                        async with backend.adapter.connect("127.0.0.1", port, config=config()) as client:
                            await client.noop()
            gc.collect()
            await backend.until(lambda: server.connections == 0)
            await backend.until(lambda: backend.tasks() <= tasks and descriptors() <= before)

    backend.run(main)
