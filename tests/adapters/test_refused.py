"""Every refusal is told and counted: by the handler, by the engine, before the session begins (FAULTS D1)."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Keep


class Listening(Keep):
    """Notes each refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[tuple[Any, ...]] = []

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return "550 5.7.1 no relaying here" if recipient.domain == "other.example" else None

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool:
        assert isinstance(credentials, ehlo.PasswordCredentials)
        return credentials.check("good")

    def on_refused(self, session: ehlo.Session, refused: ehlo.Refused) -> str:
        sender = None if refused.envelope is None else str(refused.envelope.sender.path)
        self.refused.append((refused.command, refused.argument, refused.reply.code, sender, session.attempted))
        return "what a notice returns is ignored"


def plain(password: str) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0jane\0{password}".encode()) + b"\r\n"


def test_faults_d1_each_refusal_is_told_and_counted(backend: Backend) -> None:
    handler = Listening()
    config = CONFIG.replace(auth=["PLAIN"], auth_in_clear=["PLAIN"], max_message_size=1000)
    limits = ehlo.Limits(auth_delay_seconds=0)

    async def main() -> Any:
        async with await backend.serve(handler, config=config, limits=limits) as server:
            client = await backend.ready(server)
            for line in (
                plain("wrong"),
                b"FROB\r\n",
                b"MAIL FROM:<a@b.example> SIZE=2000\r\n",
                b"MAIL FROM:<a@b.example>\r\n",
                b"RCPT TO:<x@other.example>\r\n",
                b"DATA\r\n",
                b"RSET\r\n",
                plain("good"),
            ):
                reply = await client.ask(line)
            assert reply.startswith("235")
            assert (await client.ask(b"QUIT\r\n")).startswith("221")
            await backend.until(lambda: not server.connections)
            return server.statistics

    stats: ehlo.Statistics = backend.run(main)
    assert handler.refused == [
        ("AUTH", "PLAIN", 535, None, "jane"),
        (None, "", 500, None, "jane"),
        ("MAIL", "FROM:<a@b.example> SIZE=2000", 552, None, "jane"),
        ("RCPT", "TO:<x@other.example>", 550, "a@b.example", "jane"),
        ("DATA", "", 554, "a@b.example", "jane"),
    ]
    counted = (stats.refused_auth, stats.refused_commands, stats.refused_mail, stats.refused_rcpt)
    assert counted == (1, 1, 1, 1)
    assert (stats.refused_content, stats.refused_greetings) == (1, 0)


def test_a_notice_that_waits_holds_up_its_session_only(backend: Backend) -> None:
    order: list[str] = []

    class Slow(Keep):
        async def on_refused(self, session: ehlo.Session, refused: ehlo.Refused) -> None:
            order.append("begun")
            await backend.turn()
            order.append("done")

        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> None:
            order.append("mail")

    async def main() -> None:
        async with await backend.serve(Slow(), config=CONFIG) as server:
            client = await backend.ready(server)
            await client.send(b"FROB\r\n" + MAIL)
            assert (await client.reply()).startswith("500")
            await client.send(b"QUIT\r\n")
            await client.rest()

    backend.run(main)
    assert order == ["begun", "done", "mail"]


@pytest.mark.tcp
def test_a_client_that_is_turned_away_gets_a_line(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Any:
        async with await backend.serve(Keep(), config=CONFIG, limits=ehlo.Limits(max_connections=0)) as server:
            client = await backend.connect(server)
            assert (await client.rest()).startswith(b"421")
            return server.statistics.refused

    with caplog.at_level(logging.INFO, "ehlo"):
        assert backend.run(main) == 1
    (record,) = (record for record in caplog.records if hasattr(record, "reason"))
    assert record.reason == "too many connections"
    assert record.client[0] == "127.0.0.1"  # type: ignore[attr-defined]
