"""What a client may say of a message whose fate is not known, and what it may do about it (C-CLI-17, C-CLI-21)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import ehlo
import ehlo.asyncio
from ehlo.testing import ScriptedServer, SMTPServer

ONE_EACH = """
    S: 220 mx
    C: EHLO *
    S: 250-mx
    S: 250-PIPELINING
    S: 250 LIMITS MAILMAX=1 RCPTMAX=1
    C: MAIL *
    S: 250 ok
    C: RCPT TO:<p@d>
    S: 250 ok
    C: DATA
    S: 354 go
    C...
"""


def test_what_may_have_been_taken_is_not_sent_again() -> None:
    # The rest is for another connection (RFC 9422 MAILMAX), the message to p@d for none: nobody knows whether it went.
    async def main(server: ScriptedServer) -> None:
        async with asyncio.timeout(10):
            async with ehlo.asyncio.connect(server.host, server.port, hostname="c.example") as client:
                with pytest.raises(ehlo.OutcomeUnknown) as caught:
                    await client.send(b"hi\r\n", "a@b", ["p@d", "q@d"])
        result = caught.value.result
        assert isinstance(result, ehlo.SendResult)
        assert [(one.stage, one.reply) for one in result.recipients] == [("content", None), (None, None)]
        assert not result.is_temporary

    with ScriptedServer(ONE_EACH + "close") as server:
        asyncio.run(main(server))


def test_items_that_come_late_do_not_stop_the_loop() -> None:
    turns: list[int] = []

    async def items() -> AsyncIterator[tuple[bytes, str, list[str]]]:
        for number in range(2):
            yield b"hi\r\n", "a@b.example", ["c@d.example"]
            for _ in range(10):
                await asyncio.sleep(0)
            turns.append(number)

    async def main(port: int) -> list[bool]:
        async with asyncio.timeout(10):
            async with ehlo.asyncio.connect("127.0.0.1", port, hostname="c.example") as client:
                return [result.all_accepted async for result in client.send_many(items())]

    with SMTPServer(config=ehlo.ServerConfig("mx.example", max_messages=1)) as server:
        assert asyncio.run(main(server.port)) == [True, True]
        assert len(server.messages) == 2
    assert turns == [0, 1]


def test_content_given_up_is_not_the_head_of_the_next_message(smtp_server: SMTPServer) -> None:
    # C-DAT-25: between two chunks of BDAT, in one pipeline with the next message.
    def broken() -> object:
        yield b"x" * 100_000 + b"\r\n"
        yield b"y" * 100_000 + b"\r\n"
        raise RuntimeError("the disk is gone")

    results: list[ehlo.SendResult] = []

    async def main() -> None:
        async with asyncio.timeout(10):
            async with ehlo.asyncio.connect(smtp_server.host, smtp_server.port, hostname="c.example") as client:
                items = [(broken(), "a@b.example", ["victim@d.example"]), (b"two\r\n", "a@b.example", ["c@d.example"])]
                async for result in client.send_many(items):  # type: ignore[arg-type]
                    results.append(result)

    with pytest.raises(RuntimeError, match="disk"):
        asyncio.run(main())
    assert [result.all_accepted for result in results] == [True]
    [received] = smtp_server.wait(1)
    assert (received.recipients, received.content) == (["c@d.example"], b"two\r\n")


@pytest.mark.parametrize("reply", ["354 hm", "hm"])
def test_a_command_that_gets_no_reply_is_told(reply: str) -> None:
    async def main(server: ScriptedServer) -> None:
        async with asyncio.timeout(10):
            client = await ehlo.asyncio.connect(server.host, server.port, hostname="c.example")
            with pytest.raises(ehlo.RemoteProtocolError):
                await client.noop()
            await client.close()

    with ScriptedServer(f"S: 220 mx\nC: EHLO *\nS: 250 mx\nC: NOOP\nS: {reply}\nwait") as server:
        asyncio.run(main(server))
