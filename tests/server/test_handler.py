"""What a handler overrides decides what is asked of it."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from typing import Any

import pytest

import ehlo


def test_nothing_overridden_asks_nothing() -> None:
    assert ehlo.decisions_of(ehlo.Handler()) == (frozenset(), "discard")


@pytest.mark.parametrize(
    "name", ["connect", "hello", "mail", "rcpt", "data", "message", "vrfy", "expn", "etrn", "reset"]
)
def test_each_method_is_one_decision(name: str) -> None:
    handler = type("Mine", (ehlo.Handler,), {f"on_{name}": lambda *args: None})()
    decisions, content = ehlo.decisions_of(handler)
    assert decisions == {name}
    assert content == ("collect" if name == "message" else "discard")


def test_on_body_streams() -> None:
    class Mine(ehlo.Handler):
        async def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> None:
            pass

    assert ehlo.decisions_of(Mine()) == (frozenset({"message"}), "stream")


def test_any_object_may_be_a_handler() -> None:
    assert ehlo.decisions_of(object()) == (frozenset(), "discard")
    handler = types.SimpleNamespace(on_rcpt=lambda session, recipient: None)
    assert ehlo.decisions_of(handler)[0] == {"rcpt"}


def test_inherited_overrides_count() -> None:
    class Base(ehlo.Handler):
        def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str:
            return "250 ok"

    class Mine(Base):
        def on_disconnect(self, session: ehlo.Session, reason: str) -> None:
            pass

    assert ehlo.decisions_of(Mine())[0] == {"mail"}


def test_both_ways_to_take_a_message_are_misuse() -> None:
    handler = types.SimpleNamespace(on_message=lambda *a: None, on_body=lambda *a: None)
    with pytest.raises(ehlo.LocalProtocolError, match="both on_message and on_body"):
        ehlo.decisions_of(handler)


def test_a_class_is_misuse() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match=r"Handler\(\)"):
        ehlo.decisions_of(ehlo.Handler)


def test_an_attribute_that_is_no_method_is_misuse() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="on_rcpt must be a method"):
        ehlo.decisions_of(types.SimpleNamespace(on_rcpt="550 no"))


def test_the_decisions_fit_the_config() -> None:
    decisions, content = ehlo.decisions_of(types.SimpleNamespace(on_rcpt=print, on_message=print))
    config = ehlo.ServerConfig("mx.example").replace(decisions=decisions, content=content)
    assert config.decisions == {"rcpt", "message"}
    assert config.content == "collect"


def test_session() -> None:
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example"))
    session = ehlo.Session(conn, "mx.example", ("192.0.2.1", 1234), ("192.0.2.2", 25))
    before = session.hello
    assert before is None
    assert session.messages == session.errors == session.commands == 0
    session.state["user"] = 1
    assert session.state == {"user": 1}
    conn.receive_data(b"EHLO client.example\r\n")
    assert conn.next_event() is None
    assert session.hello == ("EHLO", "client.example")
    assert session.protocol == "ESMTP"
    assert session.message is None
    assert "192.0.2.1" in repr(session)


@pytest.mark.parametrize(
    "wrong",
    [{"ipv4_prefix": 33}, {"ipv6_prefix": -1}, {"max_connections": -1}, {"handler_seconds": 0}, {"content_rate": -1.0}],
)
def test_limits_out_of_range_are_misuse(wrong: dict[str, Any]) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match=next(iter(wrong))):
        ehlo.Limits(**wrong)


def test_networks() -> None:
    limits = ehlo.Limits(ipv4_prefix=24)
    assert limits.network_of("192.0.2.7") == "192.0.2.0/24"
    assert limits.network_of("::ffff:192.0.2.7") == "192.0.2.0/24"
    assert limits.network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert limits.network_of("fe80::1%eth0") == "fe80::/64"
    assert limits.network_of("127.0.0.1") is None
    assert limits.network_of("") is None
    assert ehlo.Limits(limit_loopback=True).network_of("::1") == "::/64"
    assert ehlo.Limits(max_connections_per_network=None).network_of("192.0.2.7") is None


def test_statistics_add_up() -> None:
    total = ehlo.Statistics(messages=1, octets=10) + ehlo.Statistics(messages=2, cut=1)
    assert total == ehlo.Statistics(messages=3, octets=10, cut=1)
