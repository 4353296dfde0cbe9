"""Recipients that are no addresses: refused in the result, while the others get the mail (FAULTS C15)."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest

import ehlo
from backends import Backend, Keep

A = "a@b.example"
CONTENT = b"Subject: hi\r\n\r\nhi\r\n"
MIXED: list[Any] = ["jane@exa mple", "c@d.example", "", ehlo.Address("e@f.example"), "x\ud800@y.example", "a@b@c"]
WRONG = ["jane@exa mple", "", "x\\ud800@y.example", "a@b@c"]
SETTINGS = ehlo.ServerConfig("mx.example")


def fates(result: ehlo.SendResult) -> list[tuple[str, bool]]:
    return [(str(one.path), one.accepted) for one in result.recipients]


EXPECTED = [
    ("jane@exa mple", False),
    ("c@d.example", True),
    ("", False),
    ("e@f.example", True),
    ("x\\ud800@y.example", False),
    ("a@b@c", False),
]


async def send(backend: Backend, way: str, config: ehlo.ClientConfig, port: int, to: Any, **options: Any) -> Any:
    if way == "pool":
        async with backend.adapter.Pool("127.0.0.1", port, config=config) as pool:
            return await pool.send(CONTENT, A, to, **options)
    async with backend.adapter.connect("127.0.0.1", port, config=config) as client:
        if way == "send":
            return await client.send(CONTENT, A, to, **options)
        (result,) = [one async for one in client.send_many([(CONTENT, A, to)], **options)]
        return result


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("way", ["send", "send_many", "pool"])
def test_faults_c15_the_others_get_the_mail(backend: Backend, way: str, lmtp: bool) -> None:
    async def main() -> None:
        keep = Keep()
        config = ehlo.ClientConfig("client.example", lmtp=lmtp)
        async with await backend.serve(keep, "127.0.0.1", 0, config=SETTINGS.replace(lmtp=lmtp)) as server:
            result = await send(backend, way, config, server.port, MIXED, refuse_invalid=True)
            assert fates(result) == EXPECTED
            assert (len(result.accepted), len(result.refused), result.failure) == (2, 4, None)
            for one in result.refused:
                assert (one.stage, one.reply.code, one.reply.enhanced) == ("rcpt", 553, "5.1.3")
                assert one.recipient == one.path
            assert result.worst.code == 553
            assert result.reply.code == 250
            assert not result.is_temporary
            again = pickle.loads(pickle.dumps(result))
            assert again == result
            assert fates(again) == EXPECTED
            with pytest.raises(ehlo.EhloError):
                await send(backend, way, config, server.port, MIXED)

    backend.run(main)


@pytest.mark.parametrize("way", ["send", "pool"])
def test_faults_c15_nobody_is_left(backend: Backend, way: str) -> None:
    async def main() -> None:
        config = ehlo.ClientConfig("client.example")
        async with await backend.serve(Keep(), "127.0.0.1", 0, config=SETTINGS) as server:
            with pytest.raises(ehlo.SMTPRecipientsRefused) as caught:
                await send(backend, way, config, server.port, WRONG[:2], refuse_invalid=True)
            assert list(caught.value.recipients) == WRONG[:2]
            result = await send(backend, way, config, server.port, "no address", refuse_invalid=True, check=False)
            assert fates(result) == [("no address", False)]
            with pytest.raises(ehlo.LocalProtocolError, match="recipient"):
                await send(backend, way, config, server.port, [], refuse_invalid=True)

    backend.run(main)


@pytest.mark.parametrize("options", [{}, {"max_messages": 2}], ids=["plain", "MAILMAX"])
@pytest.mark.parametrize("beside", [False, True], ids=["iterable", "async iterable"])
def test_faults_c15_send_many_keeps_the_order(backend: Backend, options: dict[str, Any], beside: bool) -> None:
    lists = [["c@d.example"], ["no address"], MIXED, ["e@f.example", "nope"], ["?"], ["c@d.example"]]

    async def items() -> AsyncIterator[Any]:
        for to in lists:
            yield CONTENT, A, to

    async def main() -> None:
        config = ehlo.ClientConfig("client.example")
        keep = Keep()
        async with (
            await backend.serve(keep, "127.0.0.1", 0, config=SETTINGS.replace(**options)) as server,
            backend.adapter.connect("127.0.0.1", server.port, config=config) as client,
        ):
            given: Any = items() if beside else [(CONTENT, A, to) for to in lists]
            results = [one async for one in client.send_many(given, refuse_invalid=True)]
            accepted = [len(one.accepted) for one in results]
            assert accepted == [1, 0, 2, 1, 0, 1]
            assert [len(one.recipients) for one in results] == [len(to) for to in lists]

    backend.run(main)


def test_an_address_that_is_not_utf8_is_an_error_of_ours(backend: Backend) -> None:
    for make in (ehlo.Address, ehlo.Sender, ehlo.Recipient):
        with pytest.raises(ehlo.LocalProtocolError, match="surrogate"):
            make("x\ud800@y.example")

    async def main() -> None:
        config = ehlo.ClientConfig("client.example")
        async with await backend.serve(Keep(), "127.0.0.1", 0, config=SETTINGS) as server:
            for way in ("send", "send_many", "pool"):
                with pytest.raises(ehlo.InvalidAddressError) as caught:
                    await send(backend, way, config, server.port, ["x\ud800@y.example"])
                assert caught.value.address == "x\ud800@y.example"

    backend.run(main)
