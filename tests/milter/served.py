"""What tests of filters share: a server with filters, its clients, and a handler that keeps what comes."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from functools import partial
from typing import Any

import ehlo
from backends import CONFIG, Backend
from ehlo.milter.filters import Filters

MESSAGE = b"From: a@b.example\r\nX-A: 1\r\nX-A: 2\r\nX-A: 3\r\nSubject:  two\r\n lines\r\n\r\nbody\r\n"


class Keep(ehlo.Handler):
    def __init__(self) -> None:
        self.kept: list[tuple[str, list[str], bytes]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
        self.kept.append((str(envelope.sender.path), [str(one.path) for one in envelope.recipients], content))
        return "250 2.0.0 kept"


Talk = Callable[[smtplib.SMTP], Any]


def talk_to(port: int, talk: Talk, lmtp: bool = False) -> Any:
    try:
        with (smtplib.LMTP if lmtp else smtplib.SMTP)("127.0.0.1", port, timeout=20) as client:
            return talk(client)
    except smtplib.SMTPConnectError as exc:
        return [(exc.smtp_code, exc.smtp_error)]


def send(client: smtplib.SMTP, content: bytes = MESSAGE, recipients: tuple[str, ...] = ("c@d.example",)) -> list[Any]:
    """The replies, up to the first refusal."""
    replies = [client.ehlo("client.example"), client.mail("a@b.example", ["BODY=8BITMIME"])]
    if replies[-1][0] < 400:
        replies += [client.rcpt(one) for one in recipients]
    if replies[-1][0] < 400:
        try:
            replies.append(client.data(content))
        except smtplib.SMTPDataError as exc:
            replies.append((exc.smtp_code, _octets(exc.smtp_error)))
    return replies


def serve(backend: Backend, filters: Filters, *talks: Talk, config: ehlo.ServerConfig = CONFIG) -> list[Any]:
    """What each of the clients, one after the other, gives."""

    async def main() -> list[Any]:
        async with filters, await backend.serve(filters, "127.0.0.1", 0, config=config) as server:
            port = server.addresses[0][1]
            return [await backend.thread(partial(talk_to, port, talk, config.lmtp)) for talk in talks]

    return backend.run(main)  # type: ignore[no-any-return]


def _octets(said: str | bytes) -> bytes:
    return said.encode() if isinstance(said, str) else said


def codes(replies: list[Any]) -> list[int]:
    return [code for code, _ in replies]
