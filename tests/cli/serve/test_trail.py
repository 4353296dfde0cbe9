"""The trail: events become lines that can be read back, whatever a client writes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo.cli._log import LogWriter
from ehlo.cli._serve.trail import Format, Trail, json_line, text_line


class Kept:
    """A target that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        self.lines += lines

    def reopen(self) -> None: ...


def events(form: Format, tell: Any, **options: Any) -> list[str]:
    kept = Kept()
    writer = LogWriter(kept, str)
    with Trail(writer, form, clock=lambda: 1.5, **options) as trail:
        tell(trail)
    assert writer.close()
    return [line for _, line in kept.lines]


VALUE = re.compile(r' ([a-z]+)=("(?:[^"\\]|\\.)*"|[^ ]*)')


@given(st.text(max_size=60))
def test_a_value_is_one_value_whatever_it_is(value: str) -> None:
    line = text_line(0, "refused", [("argument", value), ("reply", "550 no")])
    assert line.isprintable()
    assert [key for key, _ in VALUE.findall(line)] == ["argument", "reply"]
    assert json.loads(json_line(0, "x", [("argument", value)]))["argument"] == value
    assert json_line(0, "x", [("argument", value)]).isascii()


def test_faults_d2_plain_words() -> None:
    line = text_line(0, "refused", [("reply", "554 5.6.1 the peer lacks BINARYMIME"), ("to", ["<a@b>", "<c@d>"])])
    assert line == ('1970-01-01T00:00:00.000Z refused reply="554 5.6.1 the peer lacks BINARYMIME" to=<a@b>,<c@d>')


def test_what_is_not_known_is_left_out_and_long_values_are_cut() -> None:
    (line,) = events("json", lambda trail: trail.tell("x", user=None, hello="h" * 5000))
    read = json.loads(line)
    assert "user" not in read
    assert len(read["hello"]) == 1201


def test_the_library_is_heard_and_afterwards_left_alone() -> None:
    logger = logging.getLogger("ehlo.mta")

    def tell(trail: Trail) -> None:
        logging.getLogger("ehlo").info("TLS with %s failed", "x y")
        told = {"client": ("192.0.2.1", 99), "reason": "too many connections"}
        logging.getLogger("ehlo").info("anything", extra=told)
        try:
            raise ValueError("a\nb")
        except ValueError:
            logger.exception("crashed")

    lines = [json.loads(line) for line in events("json", tell)]
    assert [line["event"] for line in lines] == ["log", "turned-away", "log"]
    assert lines[0]["text"] == "TLS with x y failed"
    assert (lines[1]["client"], lines[1]["port"]) == ("192.0.2.1", 99)
    assert lines[2]["exception"].startswith("ValueError: a\nb at ")
    root = logging.getLogger("ehlo")
    assert root.propagate
    assert not root.handlers


def test_quiet_is_warnings_only() -> None:
    def tell(trail: Trail) -> None:
        trail.tell("accepted")
        trail.tell("refused", 4)

    assert events("text", tell, quiet=True) == ["1970-01-01T00:00:01.500Z refused"]


def session_of(octets: bytes, handler: Any) -> None:
    """Play octets to a server without a network."""
    decisions, content = ehlo.decisions_of(handler)
    config = ehlo.ServerConfig("mx.example", decisions=decisions, content=content)
    from ehlo._server.driver import ServerDriver
    from ehlo._server.handler import plan_of

    conn = ehlo.ServerConnection(config)
    driver = ServerDriver(conn, plan_of(handler), _Nowhere())
    conn.receive_data(octets)
    assert driver.step() is None
    conn.receive_eof()
    driver.step()


class _Nowhere:
    def peer(self) -> tuple[str, int]:
        return ("192.0.2.7", 4711)

    def local(self) -> None:
        return None

    def make_event(self) -> Any:
        raise AssertionError

    def wake(self) -> None: ...


@pytest.mark.parametrize("form", ["text", "json"])
def test_refusals_and_the_end_of_a_connection(form: Format) -> None:
    octets = (
        b"EHLO c.example\r\nMAIL FROM:<a@b.example> FOO=1\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@no.example>\r\n"
        b"RCPT TO:<c@d.example>\r\nDATA\r\nbare\nnewline\r\n.\r\nAUTH PLAIN c2VjcmV0\r\n"
    )

    def tell(trail: Trail) -> None:
        class Mine(ehlo.Handler):
            def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
                return "550 5.7.1 No relaying" if recipient.domain == "no.example" else None

            def on_refused(self, session: ehlo.Session, refused: ehlo.Refused) -> None:
                trail.refused(session, refused)

            def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
                trail.ended(session, reason)

        session_of(octets, Mine())

    lines = events(form, tell)
    assert len(lines) == 5
    assert not any("c2VjcmV0" in line for line in lines)
    if form == "text":
        assert lines[1].endswith(
            'refused command=RCPT reply="550 5.7.1 No relaying" client=192.0.2.7 port=4711 hello=c.example '
            "sender=<a@b.example> argument=TO:<x@no.example> to=<x@no.example>"
        )
        return
    read = [json.loads(line) for line in lines]
    assert [one.get("command") for one in read] == ["MAIL", "RCPT", "DATA", "AUTH", None]
    assert read[2]["sender"] == "<a@b.example>"
    assert read[2]["to"] == ["<c@d.example>"]
    assert read[2]["reply"].startswith("550 5.5.2")
    assert read[4] | {"time": ""} == {
        "time": "",
        "event": "connection",
        "client": "192.0.2.7",
        "port": 4711,
        "hello": "c.example",
        "reason": "eof",
        "messages": 0,
        "refused": 4,
        "commands": 7,
    }
