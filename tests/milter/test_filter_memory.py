"""The memory of a chain of filters is bounded, however large the message is."""

from __future__ import annotations

import smtplib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scripted import ScriptedFilter, frame
from served import serve

import ehlo
from backends import CONFIG, Backend
from ehlo.milter.filters import Filters

pytestmark = [pytest.mark.tcp, pytest.mark.slow]

SIZE = 50 << 20
HEAD = b"From: a@b.example\r\nSubject: large\r\n\r\n"
LINE = b"x" * 998 + b"\r\n"
BODY_LINES = SIZE // len(LINE)


class Counts(ehlo.Handler):
    """Takes content piece by piece and keeps none of it."""

    def __init__(self) -> None:
        self.octets = 0
        self.peak = 0

    async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> str:
        async for piece in body:
            self.octets += len(piece)
        self.peak = tracemalloc.get_traced_memory()[1]
        return "250 2.0.0 counted"


class Counting(ScriptedFilter):
    """Counts the octets of bodies and keeps none, so that the peak is not its own."""

    octets = 0

    def note(self, kind: bytes, payload: bytes) -> None:
        if kind == b"B":
            self.octets += len(payload)


def deliver(client: smtplib.SMTP) -> int:
    """Send 50 MiB, a MiB at a time."""
    client.ehlo("client.example")
    client.mail("a@b.example")
    client.rcpt("c@d.example")
    assert client.docmd("DATA")[0] == 354
    assert client.sock is not None
    client.sock.settimeout(110)
    client.sock.sendall(HEAD)
    thousand = LINE * 1000
    for _ in range(BODY_LINES // 1000):
        client.sock.sendall(thousand)
    client.sock.sendall(LINE * (BODY_LINES % 1000) + b".\r\n")
    return client.getreply()[0]


def test_50_mib_through_three_filters(backend: Backend, tmp_path: Path) -> None:
    # The second one replaces the body by one of 5 MiB, so both ways are there: content out, and content in.
    chunk = frame(b"b", b"y" * 65000)
    answers = {b"E": frame(b"h", b"X-One\0yes\0") + chunk * 80 + frame(b"c")}
    handler = Counts()
    config = CONFIG.replace(max_message_size=None)
    with Counting() as one, Counting(answers, path=tmp_path / "s") as two, Counting() as three:
        filters = Filters([one.address, two.address, three.address], handler, memory=1 << 20)
        tracemalloc.start()
        try:
            assert serve(backend, filters, deliver, config=config) == [250]
        finally:
            tracemalloc.stop()
    assert one.octets == two.octets == BODY_LINES * len(LINE)
    assert three.octets == 80 * 65000
    assert handler.octets == len(HEAD) + len("X-One: yes\r\n") + three.octets
    # The client's own pieces are among them: a MiB, and as much again while it sends.
    assert handler.peak < 8 << 20
