"""``ehlo.contrib.django``: what is not Django's own. Django's tests are run by tests/suites/run.py."""

from __future__ import annotations

import os
import smtplib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ehlo
from ehlo.testing import ScriptedServer, SMTPServer

django = pytest.importorskip("django")

from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(EMAIL_BACKEND="ehlo.contrib.django.EmailBackend", EMAIL_HOST="127.0.0.1")

from django.core import mail  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from ehlo.contrib.django import EmailBackend  # noqa: E402
from ehlo.contrib.django import _backend as module  # noqa: E402
from ehlo.contrib.django._kept import KeptSMTP, Shelf  # noqa: E402

HELLO = "S: 220 mx.example\nC: ehlo *\nS: 250-mx.example\nS: 250 PIPELINING\n"
GROUP = "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\n"
TAKEN = GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nS: 250 ok\n"


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    shelf = Shelf()
    monkeypatch.setattr(module, "_shelf", shelf)
    yield shelf
    shelf.clear()


class Sessions(ehlo.Handler):
    def __init__(self) -> None:
        self.sessions: set[int] = set()
        self.messages = 0

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.sessions.add(id(session))
        self.messages += 1


def send(port: int, **options: Any) -> int:
    connection = EmailBackend(host="127.0.0.1", port=port, **options)
    sent: int = mail.EmailMessage("hi", "hi", "a@b.example", ["c@d.example"], connection=connection).send()
    return sent


def test_connections_are_kept_for_the_next_mail(shelf: Shelf) -> None:
    handler = Sessions()
    with SMTPServer(handler) as server:
        for _ in range(3):
            assert send(server.port) == 1
        thread = threading.Thread(target=send, args=(server.port,))
        thread.start()
        thread.join()
        assert (handler.messages, len(handler.sessions)) == (4, 1)
        assert send(server.port, timeout=7) == 1  # other settings have another connection
        assert len(handler.sessions) == 2
        assert len(shelf) == 2
        shelf.clear()


def test_connections_that_are_not_kept(shelf: Shelf) -> None:
    with SMTPServer() as server, override_settings(EHLO_EMAIL_KEEP_SECONDS=0):
        assert send(server.port) == 1
        assert len(shelf) == 0
    with SMTPServer() as server, override_settings(EHLO_EMAIL_KEEP_CONNECTIONS=0):
        assert send(server.port) == 1
        assert len(shelf) == 0


def test_connections_grow_old() -> None:
    now = [100.0]
    shelf = Shelf(lambda: now[0])
    session = KeptSMTP()
    shelf.put("key", session, seconds=30.0, most=10)
    now[0] += 29
    assert shelf.take("other", seconds=30.0) is None
    assert shelf.take("key", seconds=30.0) is session
    shelf.put("key", session, seconds=30.0, most=10)
    now[0] += 31
    assert shelf.take("key", seconds=30.0) is None
    assert len(shelf) == 0


def test_a_process_does_not_take_those_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.put("key", KeptSMTP(), seconds=30.0, most=10)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert shelf.take("key", seconds=30.0) is None


@pytest.mark.parametrize("end", [GROUP + "close\n", GROUP + "S: 421 4.4.2 idle\nclose\n", "close\n"])
def test_c_cli_19_a_stale_connection_is_replaced(shelf: Shelf, end: str) -> None:
    with ScriptedServer(HELLO + TAKEN + end) as peer:
        assert send(peer.port) == 1
        with SMTPServer() as server:
            (idle,) = shelf._idle
            session: Any = idle.session
            session.connect = lambda *_, real=session.connect: real(server.host, server.port)
            assert send(peer.port) == 1
            assert len(server.wait(1)) == 1
            shelf.clear()


def test_c_cli_17_nothing_is_sent_again_behind_the_end_of_the_content(shelf: Shelf) -> None:
    unknown = GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go\nC...\nclose\n"
    with ScriptedServer(HELLO + TAKEN + unknown) as peer:
        assert send(peer.port) == 1
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(peer.port)


@pytest.mark.parametrize("silently", [True, False])
def test_fail_silently(silently: bool) -> None:
    script = HELLO + GROUP + "S: 550 no\nS: 503 no\nS: 503 no\nC: quit\nS: 221 bye\n"
    with ScriptedServer(script) as peer, override_settings(EHLO_EMAIL_KEEP_SECONDS=0):
        if silently:
            assert send(peer.port, fail_silently=True) == 0
        else:
            with pytest.raises(smtplib.SMTPSenderRefused):
                send(peer.port)
