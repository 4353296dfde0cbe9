"""The binding: each class and function of ``ehlo._core`` as its stub says, and the memory it shares with Python.

What the engine decides is tested in rust/ehlo; here it is tested that it arrives.
"""

from __future__ import annotations

import copy
import gc
import inspect
import mmap
import pickle
import sys
import threading
import tracemalloc
import weakref
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

import ehlo
from ehlo import _core

ROOT = Path(__file__).resolve().parents[2]
HELLO = b"EHLO client.example\r\n"
End: TypeAlias = tuple[str, int] | bytes | None
"""One end of a connection, as a PROXY header names it."""

ENVELOPE = b"MAIL FROM:<jane@client.example>\r\nRCPT TO:<joe@mx.example>\r\n"


def connect(hello: bytes = HELLO, **settings: Any) -> ehlo.ServerConnection:
    """A session behind its greeting and hello."""
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", **settings))
    conn.receive_data(hello)
    conn.next_event()
    conn.data_to_send()
    return conn


def events(conn: ehlo.ServerConnection, octets: bytes) -> list[Any]:
    conn.receive_data(octets)
    return list(conn)


def one(conn: ehlo.ServerConnection, octets: bytes) -> Any:
    (event,) = events(conn, octets)
    return event


def replies(conn: ehlo.ServerConnection, octets: bytes) -> list[bytes]:
    assert events(conn, octets) == []
    return conn.data_to_send().splitlines()


# ---- the module ----


def test_build_info() -> None:
    info = ehlo.build_info()
    assert set(info) == {"version", "profile", "opt_level", "target", "abi"}
    assert all(isinstance(text, str) for text in info.values())
    assert info["profile"] in {"debug", "release", "profiling"}


def test_the_version_is_that_of_cargo() -> None:
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    assert f'version = "{ehlo.build_info()["version"]}"' in cargo
    assert ehlo.__version__[0].isdigit()


CLASSES = [thing for thing in vars(_core).values() if isinstance(thing, type)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_classes_are_final_and_small(cls: type) -> None:
    assert cls.__module__ == "ehlo"
    assert not cls.__dictoffset__
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})


@pytest.mark.parametrize("name", ["Sender", "Envelope", "Message", "Disconnect", "NullPath", "Capabilities"])
def test_what_the_engine_makes_cannot_be_made(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(ehlo, name)()


# ---- addresses ----


def test_address() -> None:
    address = ehlo.Address('<@relay.example:"j.doe"@Example.org>')
    assert address.as_written == '@relay.example:"j.doe"@Example.org'
    assert address.mailbox == "j.doe@Example.org" == str(address)
    assert (address.local_part, address.domain) == ("j.doe", "Example.org")
    assert (address.source_route, ehlo.Address("a@b").source_route) == ("@relay.example", None)
    assert address.is_ascii
    assert not address.is_postmaster
    assert address.domain is address.domain
    assert repr(ehlo.Address("a@b")) == "Address('a@b')"


def test_addresses_are_equal_when_they_name_the_same_mailbox() -> None:
    a, b = ehlo.Address('"joe"@EXAMPLE.org'), ehlo.Address("joe@example.org")
    assert a == b
    assert hash(a) == hash(b)
    assert a != ehlo.Address("JOE@example.org")
    assert a != "joe@example.org"
    assert len({a, b}) == 1


def test_address_matches_by_position() -> None:
    match ehlo.Address("postMaster@example.org"):
        case ehlo.Address(local_part, domain):
            assert (local_part, domain) == ("postMaster", "example.org")
    assert ehlo.Address("postMaster@example.org").is_postmaster
    assert not ehlo.Address("jané@example.org").is_ascii


@pytest.mark.parametrize("path", ["", "<>", "joe", "a@b@c", "a b@c", "a@b\r\n", "a@[300.1.1.1]", "\udc80@b"])
def test_address_refuses(path: str) -> None:
    with pytest.raises((ehlo.LocalProtocolError, UnicodeEncodeError)):
        ehlo.Address(path)


def test_null_is_one() -> None:
    event = one(connect(decisions={"mail"}), b"MAIL FROM:<>\r\n")
    null = event.sender.path
    assert null is ehlo.NULL
    assert isinstance(null, ehlo.NullPath)
    assert null == ehlo.NULL != ehlo.Address("a@b")
    assert str(null) == "<>"
    assert repr(null) == "ehlo.NULL"
    assert copy.deepcopy(null) is pickle.loads(pickle.dumps(null)) is null
    assert hash(null) == hash(ehlo.NULL)


def test_postmaster() -> None:
    conn = connect(decisions={"rcpt"})
    conn.receive_data(b"MAIL FROM:<>\r\nRCPT TO:<postMASTER>\r\n")
    first = conn.next_event().recipient.path  # type: ignore[union-attr]
    conn.accept()
    second = one(conn, b"RCPT TO:<Postmaster>\r\n").recipient.path
    assert isinstance(first, ehlo.Postmaster)
    assert first == second
    assert hash(first) == hash(second)
    assert str(first) == "Postmaster"
    assert repr(first) == "Postmaster()"
    assert first.as_written == "postMASTER"


# ---- replies ----


def test_reply() -> None:
    reply = ehlo.Reply(550, "5.1.1", "no such user")
    assert (reply.code, reply.enhanced, reply.text, reply.lines) == (550, "5.1.1", "no such user", (b"no such user",))
    assert (reply.is_positive, reply.is_temporary, reply.is_permanent) == (False, False, True)
    assert reply.to_bytes() == b"550 5.1.1 no such user\r\n"
    assert str(reply) == "550 5.1.1 no such user"
    assert repr(reply) == "Reply(550, '5.1.1', 'no such user')"
    assert reply == ehlo.Reply.parse("550 5.1.1 no such user") != ehlo.Reply(550)
    assert hash(reply) == hash(ehlo.Reply(550, text="no such user", enhanced="5.1.1"))
    match reply:
        case ehlo.Reply(code, enhanced, text):
            assert (code, enhanced, text) == (550, "5.1.1", "no such user")


def test_reply_of_many_lines() -> None:
    reply = ehlo.Reply(250, None, ["mx.example", "SIZE 1000"])
    assert reply.text == "mx.example\nSIZE 1000"
    assert reply.to_bytes() == b"250-mx.example\r\n250 SIZE 1000\r\n"
    assert ehlo.parse_reply(reply.to_bytes()) == reply
    assert ehlo.Reply(250, None, ("mx.example", "SIZE 1000")) == reply
    assert reply.is_positive


@pytest.mark.parametrize(
    "arguments",
    [(199,), (600,), (260,), (-1,), (10**9,), (250, "5.0.0"), (250, "2.0"), (250, "2.0.0 "), (250, None, "a\r\nb"),
     (250, None, "a\nb"), (250, None, ["a", "b\r"]), (250, None, "\0"), (354, "3.0.0")],
)  # fmt: skip
def test_reply_refuses(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Reply(*arguments)
    conn = connect(decisions={"mail"})
    one(conn, b"MAIL FROM:<>\r\n")
    with pytest.raises(ehlo.LocalProtocolError):
        conn.reply(*arguments)
    assert conn.decision_open
    assert conn.data_to_send() == b""


@pytest.mark.parametrize("text", ["", "no", "99 x", "550\r\n", "5501 x"])
def test_reply_parse_refuses(text: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Reply.parse(text)


@pytest.mark.parametrize(
    "octets", [b"", b"250 x", b"250-x\r\n", b"250-x\r\n251 y\r\n", b"2x0 y\r\n", b"250 x\r\n250 y\r\n"]
)
def test_parse_reply_refuses(octets: bytes) -> None:
    with pytest.raises(ehlo.RemoteProtocolError):
        ehlo.parse_reply(octets)


def test_octets_that_are_not_utf8_are_escaped_in_text() -> None:
    reply = ehlo.parse_reply(b"250 caf\xe9\r\n")
    assert reply.lines == (b"caf\xe9",)
    assert reply.text.isprintable()


# ---- envelope and events ----


def test_sender_parameters() -> None:
    settings: dict[str, Any] = {
        "dsn": True,
        "deliver_by": True,
        "future_release": (3600, "2030-01-01T00:00:00Z"),
        "mt_priority": True,
        "submission": True,
        "auth": ["PLAIN"],
        "auth_in_clear": ["PLAIN"],
    }
    conn = connect(decisions={"mail"}, unknown_parameters="pass", **settings)
    one(conn, b"AUTH PLAIN =\r\n")
    conn.accept_identity("jane")
    sender = one(
        conn,
        b"MAIL FROM:<jane@client.example> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb by=120;NT "
        b"HOLDFOR=60 MT-PRIORITY=-3 X-Own=y Flag\r\n",
    ).sender
    assert sender.path == ehlo.Address("jane@client.example")
    assert sender.path is sender.path
    assert (sender.size, sender.body, sender.smtputf8, sender.ret, sender.envid) == (
        1000,
        "8BITMIME",
        True,
        "HDRS",
        "a+b",
    )
    assert sender.deliver_by == (120, "N", True)
    assert (sender.hold_for, sender.hold_until, sender.mt_priority) == (60, None, -3)
    assert (sender.auth, sender.requiretls) == (None, False)
    assert sender.parameters[0] == ("SIZE", "1000")
    assert sender.parameters[5] == ("by", "120;NT")
    assert sender.parameters[-2:] == (("X-Own", "y"), ("Flag", None))
    assert sender.parameters is sender.parameters
    assert repr(sender).startswith("Sender(Address('jane@client.example'), ")
    conn.accept()
    until = b"RSET\r\nMAIL FROM:<> HOLDUNTIL=2029-12-31T00:00:00Z BODY=7BIT RET=FULL\r\n"
    sender = one(conn, until).sender
    assert (sender.hold_until, sender.hold_for, sender.body, sender.ret) == (
        "2029-12-31T00:00:00Z",
        None,
        "7BIT",
        "FULL",
    )


def test_recipient_parameters() -> None:
    conn = connect(decisions={"rcpt"}, rrvs=True, dsn=True)
    conn.receive_data(
        b"MAIL FROM:<>\r\nRCPT TO:<joe@mx.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;j+2Bo@x.example "
        b"RRVS=2014-04-03T23:01:00Z;C\r\n"
    )
    (event,) = conn
    assert isinstance(event, ehlo.Rcpt)
    recipient = event.recipient
    assert recipient.path == ehlo.Address("joe@mx.example")
    assert recipient.notify == frozenset({"SUCCESS", "DELAY"})
    assert recipient.orcpt == ("rfc822", "j+o@x.example")
    assert recipient.rrvs == ("2014-04-03T23:01:00Z", "C")
    assert [keyword for keyword, _ in recipient.parameters] == ["NOTIFY", "ORCPT", "RRVS"]
    conn.accept()
    (event,) = events(conn, b"RCPT TO:<joe@mx.example>\r\n")
    assert (event.recipient.notify, event.recipient.orcpt, event.recipient.rrvs) == (None, None, None)
    assert event.recipient.parameters == ()
    assert repr(event) == "Rcpt(recipient=Recipient(Address('joe@mx.example')))"


def test_every_event() -> None:
    config = ehlo.ServerConfig(
        "mx.example",
        decisions=("connect", "hello", "mail", "rcpt", "data", "message", "vrfy", "expn", "etrn", "reset", "refused"),
    )
    conn = ehlo.ServerConnection(config)
    seen: list[Any] = []
    conn.receive_data(
        HELLO + b"VRFY joe\r\nEXPN list\r\nETRN @mx.example\r\n" + ENVELOPE + b"RSET\r\n" + ENVELOPE
        + b"DATA\r\nhi\r\n.\r\nQUIT\r\n"
    )  # fmt: skip
    while (event := conn.next_event()) is not None:
        seen.append(event)
        if conn.decision_open:
            conn.accept()
    names = ["Connect", "Hello", "Vrfy", "Expn", "Etrn", "Mail", "Rcpt", "Reset", "Mail", "Rcpt", "Data", "Message"]
    assert [type(event).__name__ for event in seen] == [*names, "Disconnect"]
    match seen[1]:
        case ehlo.Hello(verb, name):
            assert (verb, name) == ("EHLO", "client.example")
    match seen[2:5]:
        case [ehlo.Vrfy(user), ehlo.Expn(name), ehlo.Etrn(node)]:
            assert (user, name, node) == ("joe", "list", "@mx.example")
    match seen[5:7]:
        case [ehlo.Mail(sender), ehlo.Rcpt(recipient)]:
            assert (str(sender.path), str(recipient.path)) == ("jane@client.example", "joe@mx.example")
    match seen[10]:
        case ehlo.Data(envelope, started_by):
            assert (len(envelope.recipients), started_by) == (1, "DATA")
    match seen[11]:
        case ehlo.Message(envelope, content):
            assert content == b"hi\r\n"
            assert str(envelope.sender.path) == "jane@client.example"
            assert [str(recipient.path) for recipient in envelope.recipients] == ["joe@mx.example"]
            assert envelope.smtputf8 is False
    match seen[12]:
        case ehlo.Disconnect(reason):
            assert reason == "quit"
    assert conn.closed
    assert [repr(event).partition("(")[0] for event in seen] == [type(event).__name__ for event in seen]


def test_what_is_lazy_is_kept() -> None:
    message = one(connect(), ENVELOPE + b"DATA\r\n.\r\n")
    assert message.envelope is message.envelope
    assert message.envelope.sender is message.envelope.sender
    assert message.envelope.recipients is message.envelope.recipients
    assert message.envelope.sender.path is message.envelope.sender.path
    with pytest.raises(AttributeError):
        message.content = b""


def test_message_size_and_flags() -> None:
    message = one(connect(bare_newlines="allow"), ENVELOPE + b"DATA\r\n..a\rb\nc\0\xff" + b"x" * 1000 + b"\r\n.\r\n")
    assert message.content == b".a\rb\nc\0\xff" + b"x" * 1000 + b"\r\n"
    assert message.size == len(message.content)
    assert message.flags == {"bare-cr", "bare-lf", "nul", "8bit", "long-line"}
    assert one(connect(), ENVELOPE + b"BDAT 1 LAST\r\nx").flags == {"no-final-crlf"}
    assert one(connect(), ENVELOPE + b"DATA\r\n.\r\n").flags == frozenset()


def test_stream() -> None:
    conn = connect(content="stream")
    start, *chunks, message = events(conn, ENVELOPE + b"DATA\r\n..one\r\ntwo\r\n.\r\n")
    assert isinstance(start, ehlo.ContentStart)
    assert str(start.envelope.sender.path) == "jane@client.example"
    assert all(isinstance(chunk, ehlo.Chunk) for chunk in chunks)
    assert b"".join(chunk.data for chunk in chunks) == b".one\r\ntwo\r\n"
    assert (message.content, message.size) == (b"", 11)
    assert repr(chunks[0]).startswith("Chunk(<")


def test_stream_aborted() -> None:
    conn = connect(content="stream")
    *_, aborted = events(conn, ENVELOPE + b"DATA\r\nbare\nnewline\r\n.\r\n")
    assert isinstance(aborted, ehlo.ContentAborted)
    assert aborted.reason == "forbidden"
    assert conn.data_to_send().splitlines()[-1].startswith(b"550 ")
    conn = connect(content="stream")
    conn.receive_data(ENVELOPE + b"DATA\r\nhalf\r\n")
    conn.receive_eof()
    *_, aborted, gone = conn
    assert (aborted.reason, gone.reason) == ("disconnected", "eof")  # type: ignore[union-attr]


# ---- configuration ----

SETTINGS: dict[str, Any] = {
    "hostname": "mx.example.org",
    "lmtp": True,
    "decisions": frozenset({"rcpt", "message"}),
    "content": "stream",
    "greeting": "welcome",
    "texts": {"bye": "So long"},
    "pipelining": False,
    "enhanced_status_codes": False,
    "ehlo_keywords": ("XFOO bar",),
    "max_message_size": 12345,
    "chunking": False,
    "binarymime": False,
    "smtputf8": False,
    "dsn": False,
    "limits_keyword": False,
    "deliver_by": 60,
    "future_release": (3600, "2030-01-01T00:00:00Z"),
    "mt_priority": "STANAG4406",
    "rrvs": True,
    "help": False,
    "tls": "starttls",
    "require_tls": True,
    "injected_input": "drop",
    "requiretls": True,
    "auth": ("PLAIN", "SCRAM-SHA-256"),
    "auth_in_clear": ("SCRAM-SHA-256",),
    "require_auth": True,
    "proxy": True,
    "xclient": ("NAME", "ADDR"),
    "xforward": ("NAME", "SOURCE"),
    "submission": True,
    "single_labels": ("sales",),
    "bare_newlines": "normalize",
    "bdat_bare_newlines": "reject",
    "bare_lf_commands": True,
    "unknown_parameters": "ignore",
    "reject_nul": True,
    "reject_8bit": True,
    "reject_long_lines": True,
    "lenient": frozenset({"bare_paths", "extra_space"}),
    "max_local_part": 100,
    "max_command_line": 4096,
    "max_recipients": 7,
    "max_messages": None,
    "max_errors": 1,
    "max_junk": None,
    "max_refused_recipients": 3,
    "max_refusals": 4,
    "max_commands": 99,
    "max_auth_failures": 5,
    "max_auth_response": 20000,
    "command_timeout": 1.5,
    "content_timeout": 2.25,
    "handshake_timeout": 3.5,
    "proxy_timeout": 4.5,
}


def test_every_setting_arrives() -> None:
    config = ehlo.ServerConfig(**SETTINGS)
    assert {name: getattr(config, name) for name in SETTINGS} == SETTINGS
    default = ehlo.ServerConfig()
    assert all(getattr(default, name) != value for name, value in SETTINGS.items())
    again = default.replace(**SETTINGS)
    assert {name: getattr(again, name) for name in SETTINGS} == SETTINGS
    assert default.hostname == "localhost"


def test_the_signature_tells_the_defaults() -> None:
    parameters = inspect.signature(ehlo.ServerConfig).parameters
    assert set(parameters) == set(SETTINGS)
    default = ehlo.ServerConfig()
    for name, parameter in parameters.items():
        value = getattr(default, name)
        kind = type(value) if isinstance(value, frozenset | dict) else lambda default: default
        assert value == kind(parameter.default), name
        assert default.replace(**{name: parameter.default}).keywords == default.keywords


def test_offers_without_a_value() -> None:
    config = ehlo.ServerConfig(deliver_by=True, mt_priority=True)
    assert (config.deliver_by, config.mt_priority) == (True, True)
    assert {"DELIVERBY", "MT-PRIORITY"} <= set(config.keywords)
    config = config.replace(deliver_by=False, mt_priority=None)
    assert (config.deliver_by, config.mt_priority) == (None, None)
    assert config.keywords[0] == "PIPELINING"
    assert repr(config) == "ServerConfig(\"localhost\", decisions=frozenset({'message'}))"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"hostname": "no host"}, ValueError),
        ({"hostname": 5}, TypeError),
        ({"decisions": ("rcpt", "nothing")}, ValueError),
        ({"decisions": "rcpt"}, TypeError),
        ({"lenient": {"everything"}}, ValueError),
        ({"content": "keep"}, ValueError),
        ({"bare_newlines": "deny"}, ValueError),
        ({"unknown_parameters": "deny"}, ValueError),
        ({"max_message_size": -1}, OverflowError),
        ({"max_message_size": "1"}, TypeError),
        ({"max_recipients": 0}, ValueError),
        ({"max_command_line": 511}, ValueError),
        ({"future_release": (1, "tomorrow")}, ValueError),
        ({"greeting": "two\r\nlines"}, ValueError),
        ({"command_timeout": 0}, ValueError),
        ({"command_timeout": float("nan")}, ValueError),
        ({"content_timeout": -1}, ValueError),
        ({"chunking": False}, ValueError),
        ({"chunking": 1}, TypeError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_config_refuses(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ehlo.ServerConfig(**settings)
    with pytest.raises(error):
        ehlo.ServerConfig().replace(**settings)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r'decisions: expected "connect", "hello", .* or "refused", not "recipient"'):
        ehlo.ServerConfig(decisions=["recipient"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="colour: no such setting"):
        ehlo.ServerConfig(colour="red")  # type: ignore[call-arg]


# ---- the connection ----


def test_a_session() -> None:
    config = ehlo.ServerConfig("mx.example")
    conn = ehlo.ServerConnection(config)
    assert conn.config is config
    assert conn.data_to_send().startswith(b"220 mx.example ")
    assert conn.data_to_send() is conn.data_to_send()
    assert (conn.hello, conn.protocol, conn.timeout) == (None, "SMTP", 300.0)
    conn.receive_data(HELLO + ENVELOPE)
    assert conn.next_event() is None
    assert (conn.hello, conn.protocol, conn.in_transaction) == (("EHLO", "client.example"), "ESMTP", True)
    conn.receive_data(b"DATA\r\n12345\r\n")
    assert conn.next_event() is None
    assert (conn.in_content, conn.content_octets) == (True, 7)
    conn.receive_data(b".\r\nNOOP\r\nNOO")
    message = conn.next_event()
    assert isinstance(message, ehlo.Message)
    assert (conn.decision_open, conn.timeout, conn.buffered) == (True, None, 9)
    conn.accept()
    assert conn.next_event() is None
    assert (conn.decision_open, conn.messages, conn.errors, conn.buffered) == (False, 1, 0, 3)
    conn.receive_data(b"\r\nQUIT\r\n")
    assert [event.reason for event in conn] == ["quit"]  # type: ignore[union-attr]
    assert (conn.closed, conn.timeout, conn.errors, conn.commands) == (True, None, 1, 7)
    assert conn.data_to_send().splitlines()[-1].startswith(b"221 ")
    assert conn.data_to_send() == b""


def test_iteration_stops_at_a_decision_and_goes_on_behind_it() -> None:
    conn = connect(decisions={"mail", "rcpt"})
    conn.receive_data(b"NOOP\r\n" + ENVELOPE + b"NOOP\r\n")
    assert iter(conn) is conn
    assert [type(event) for event in conn] == [ehlo.Mail]
    assert list(conn) == []
    assert conn.data_to_send().count(b"\r\n") == 1
    conn.reply(250, "2.1.0", "go on")
    assert [type(event) for event in conn] == [ehlo.Rcpt]
    conn.send_reply(ehlo.Reply(550, "5.1.1", "no"))
    assert list(conn) == []
    assert conn.data_to_send() == b"250 2.1.0 go on\r\n550 5.1.1 no\r\n250 2.0.0 OK\r\n"


def test_lmtp_answers_each_recipient() -> None:
    conn = connect(b"LHLO client.example\r\n", lmtp=True)
    conn.receive_data(ENVELOPE + b"RCPT TO:<jim@mx.example>\r\nRCPT TO:<jan@mx.example>\r\nDATA\r\n.\r\n")
    assert isinstance(conn.next_event(), ehlo.Message)
    conn.data_to_send()
    conn.reply_recipients([ehlo.Reply(250, "2.0.0", "joe has it")])
    assert (conn.decision_open, conn.protocol) == (True, "LMTP")
    with pytest.raises(ehlo.LocalProtocolError):
        conn.reply_recipients([ehlo.Reply(250)] * 3)
    conn.reply_recipients((ehlo.Reply(450, "4.2.0", "jim is full"), ehlo.Reply(250, "2.0.0", "jan has it")))
    assert not conn.decision_open
    assert conn.data_to_send() == b"250 2.0.0 joe has it\r\n450 4.2.0 jim is full\r\n250 2.0.0 jan has it\r\n"
    assert conn.protocol == "LMTP"


def test_refusals_are_counted() -> None:
    conn = connect()
    assert conn.refused == 0
    replies(conn, b"MAIL FROM:<>x\r\nRCPT TO:<a@b>\r\nDATA\r\nbad\r\nbad\r\n")
    assert conn.refusals == {"connect": 0, "auth": 0, "mail": 1, "rcpt": 1, "content": 1, "other": 2}
    assert conn.refused == 5


def test_refuse_content() -> None:
    conn = connect(content="stream")
    conn.receive_data(ENVELOPE + b"DATA\r\nhalf\r\n")
    assert [type(event) for event in conn] == [ehlo.ContentStart, ehlo.Chunk]
    conn.refuse_content(ehlo.Reply(550, "5.7.1", "spam"))
    conn.data_to_send()
    assert not any(isinstance(event, ehlo.Chunk | ehlo.Message) for event in events(conn, b"half\r\n.\r\n"))
    assert conn.data_to_send() == b"550 5.7.1 spam\r\n"


def test_shutdown_waits_for_the_transaction() -> None:
    conn = connect()
    conn.receive_data(ENVELOPE)
    conn.shutdown(ehlo.Reply(421, "4.3.2", "back soon"))
    assert not conn.closed
    message = one(conn, b"DATA\r\n.\r\n")
    assert isinstance(message, ehlo.Message)
    conn.accept()
    assert [event.reason for event in conn] == ["shutdown"]  # type: ignore[union-attr]
    assert conn.data_to_send().endswith(b"421 4.3.2 back soon\r\n")
    idle = connect()
    idle.shutdown()
    assert [event.reason for event in idle] == ["shutdown"]  # type: ignore[union-attr]
    assert idle.data_to_send().startswith(b"421 4.3.2 ")


def test_timeout_and_eof() -> None:
    conn = connect(command_timeout=1.5)
    assert conn.timeout == 1.5
    conn.receive_timeout()
    assert [event.reason for event in conn] == ["timeout"]  # type: ignore[union-attr]
    assert conn.data_to_send().startswith(b"421 ")
    conn = connect()
    conn.receive_eof()
    assert [event.reason for event in conn] == ["eof"]  # type: ignore[union-attr]
    conn.receive_data(b"NOOP\r\n")
    conn.receive_eof()
    assert list(conn) == []


def misuses() -> list[Any]:
    reply = ehlo.Reply(250)
    return [
        pytest.param(lambda conn: conn.accept(), id="accept"),
        pytest.param(lambda conn: conn.reply(250), id="reply"),
        pytest.param(lambda conn: conn.send_reply(reply), id="send_reply"),
        pytest.param(lambda conn: conn.reply_recipients([reply]), id="reply_recipients"),
        pytest.param(lambda conn: conn.refuse_content(ehlo.Reply(550)), id="refuse_content"),
        pytest.param(lambda conn: conn.refuse_content(reply), id="refuse_content with 250"),
        pytest.param(lambda conn: conn.shutdown(reply), id="shutdown with 250"),
    ]


@pytest.mark.parametrize("misuse", misuses())
def test_misuse(misuse: Callable[[ehlo.ServerConnection], None]) -> None:
    conn = connect()
    with pytest.raises(ehlo.LocalProtocolError, match=r"\w+ \w+"):
        misuse(conn)
    assert replies(conn, b"NOOP\r\n") == [b"250 2.0.0 OK"]


def test_an_intermediate_reply_decides_nothing() -> None:
    conn = connect(decisions={"mail"})
    one(conn, b"MAIL FROM:<>\r\n")
    with pytest.raises(ehlo.LocalProtocolError, match="354"):
        conn.reply(354, None, "go ahead")
    conn.accept()


def test_errors_of_the_caller_are_type_errors() -> None:
    conn = connect()
    with pytest.raises(TypeError):
        conn.receive_data("NOOP\r\n")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        conn.send_reply("250 OK")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        conn.reply_recipients(["250 OK"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        conn.reply(250, None, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ehlo.ServerConnection("mx.example")  # type: ignore[arg-type]


# ---- buffers ----


class Subclass(bytes):
    pass


def mapped(octets: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(octets))
    memory[:] = octets
    return memory


def received(octets: bytes) -> memoryview:
    buffer = ehlo.ReceiveBuffer(1000)
    buffer.view[: len(octets)] = octets
    return buffer.view[: len(octets)]


BUFFERS = [bytes, bytearray, memoryview, Subclass, lambda octets: array("B", octets), lambda octets: array("b", octets),
           lambda octets: memoryview(b"xx" + octets)[2:], lambda octets: memoryview(octets).cast("c"),
           lambda octets: memoryview(octets).toreadonly(), mapped, received]  # fmt: skip


@pytest.mark.parametrize("buffer", BUFFERS)
def test_every_contiguous_buffer_is_read(buffer: Callable[[bytes], Any]) -> None:
    conn = connect()
    conn.receive_data(buffer(ENVELOPE + b"DATA\r\n..\r\n.\r\n"))
    assert next(conn).content == b".\r\n"  # type: ignore[union-attr]
    assert ehlo.parse_command(buffer(b"NOOP")).verb == "NOOP"
    assert ehlo.parse_reply(buffer(b"250 OK\r\n")).code == 250
    assert ehlo.dot_stuff(buffer(b".")) == b"..\r\n.\r\n"
    assert ehlo.dot_unstuff(buffer(b"..\r\n.\r\n")) == b".\r\n"
    assert ehlo.DotDecoder().feed(buffer(b".a")) == (b"a", 2)
    assert ehlo.DotEncoder().feed(buffer(b".a")) == b"..a"
    assert ehlo.xtext_encode(buffer(b"+")) == "+2B"
    assert ehlo.xtext_decode(buffer(b"+2B")) == b"+"


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b""), array("B")])
def test_an_empty_buffer_is_nothing(empty: Any) -> None:
    conn = connect()
    conn.receive_data(empty)
    assert list(conn) == []
    assert ehlo.dot_stuff(empty) == b".\r\n"
    assert ehlo.xtext_encode(empty) == ""


def test_a_buffer_with_gaps_is_refused() -> None:
    with pytest.raises(BufferError, match="contiguous"):
        connect().receive_data(memoryview(b"NNOOOOPP\r\r\n\n")[::2])


def test_a_buffer_is_given_back() -> None:
    octets = bytearray(b"NOOP\r\n")
    connect().receive_data(octets)
    octets += b"resizing would fail while the buffer is exported"


def test_receive_buffer() -> None:
    buffer = ehlo.ReceiveBuffer()
    view = buffer.view
    assert view is buffer.view
    assert (len(buffer), len(view), view.readonly, view.format) == (65536, 65536, False, "B")
    assert cast("object", view.obj) is buffer
    conn = connect()
    view[:6] = b"NOOP\r\n"
    conn.receive_from(buffer, 6)
    assert list(conn) == []
    assert conn.data_to_send() == b"250 2.0.0 OK\r\n"
    conn.receive_from(buffer, 0)
    conn.receive_from(buffer, 4)
    assert conn.buffered == 4
    view[:6] = b"xxxxxx"
    conn.receive_data(b"\r\n")
    assert list(conn) == []
    assert conn.data_to_send() == b"250 2.0.0 OK\r\n"
    assert repr(buffer) == "ReceiveBuffer(65536)"


def test_receive_buffer_has_a_size() -> None:
    buffer = ehlo.ReceiveBuffer(16)
    with pytest.raises(ValueError, match="at most 16 octets, the size of the buffer, not 17"):
        connect().receive_from(buffer, 17)
    with pytest.raises(OverflowError):
        connect().receive_from(buffer, -1)
    with pytest.raises(ValueError, match="size must be 1 or more"):
        ehlo.ReceiveBuffer(0)
    with pytest.raises((MemoryError, OverflowError)):
        ehlo.ReceiveBuffer(sys.maxsize)


# ---- memory ----


@pytest.mark.parametrize("size", [0, 1, 200, 255, 256, 257, 4096, 65536, 1_000_003])
@pytest.mark.parametrize("cut", [1 << 30, 65536, 997])
def test_collected_content_is_exact(size: int, cut: int) -> None:
    line = b"0123456789" * 7 + b"\r\n"
    content = (line * (size // len(line) + 1))[:size] + b"\r\n"
    conn = connect()
    wire = ENVELOPE + b"DATA\r\n" + ehlo.dot_stuff(content)
    for start in range(0, len(wire), cut):
        conn.receive_data(wire[start : start + cut])
    (message,) = conn
    assert message.content == content  # type: ignore[union-attr]
    assert sys.getsizeof(message.content) == sys.getsizeof(content)  # type: ignore[union-attr]


def test_content_is_one_object_and_ours_alone() -> None:
    message = one(connect(), ENVELOPE + b"DATA\r\n" + b"x" * 500 + b"\r\n.\r\n")
    content = message.content
    assert type(content) is bytes
    assert content is message.content
    # `content`, the event's own, and the argument.
    assert sys.getrefcount(content) == 3
    del message
    assert sys.getrefcount(content) == 2


def test_a_message_of_64_mib_is_not_held_twice() -> None:
    size, piece = 64 << 20, (b"x" * 78 + b"\r\n") * 800
    conn = connect(max_message_size=None)
    conn.receive_data(ENVELOPE + b"DATA\r\n")
    tracemalloc.start()
    try:
        for _ in range(size // len(piece)):
            conn.receive_data(piece)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        conn.receive_data(b".\r\n")
        (message,) = conn
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    content = message.content  # type: ignore[union-attr]
    length = size // len(piece) * len(piece)
    assert len(content) == length
    assert sys.getsizeof(content) == length + sys.getsizeof(b"")
    # The collecting object was there already, with room to grow; handing it over needs no second one.
    assert before < 2 * length
    assert peak < before + length // 100
    assert after < length + length // 100


def test_dropping_a_connection_gives_its_content_back() -> None:
    tracemalloc.start()
    try:
        conn = connect(max_message_size=None)
        conn.receive_data(ENVELOPE + b"DATA\r\n" + b"x" * (1 << 20))
        held, _ = tracemalloc.get_traced_memory()
        del conn
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held - left > 1 << 20


def test_a_connection_may_die_in_another_thread() -> None:
    conns = [connect() for _ in range(4)]
    for conn in conns:
        conn.receive_data(ENVELOPE + b"DATA\r\n" + b"x" * 100_000)
    threads = [threading.Thread(target=conns.pop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conns == []


def test_everything_is_collected() -> None:
    conn = connect()
    message = one(conn, ENVELOPE + b"DATA\r\nx\r\n.\r\n")
    buffer = ehlo.ReceiveBuffer(16)
    assert cast("object", buffer.view.obj) is buffer  # a cycle, through the cached view
    things = [conn, conn.config, message, message.envelope, message.envelope.sender, buffer]
    assert message.content in gc.get_referents(message)
    assert message.envelope in gc.get_referents(message)
    assert conn.config in gc.get_referents(conn)
    assert buffer.view in gc.get_referents(buffer)
    references = [weakref.ref(thing) for thing in things]
    del conn, message, buffer, things
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


# ---- the parts on their own ----


def test_dot_decoder() -> None:
    decoder = ehlo.DotDecoder()
    assert decoder.feed(b"a\r\n..b\r\n") == (b"a\r\n.b\r\n", 8)
    assert (decoder.done, decoder.octets, decoder.flags) == (False, 7, frozenset())
    assert decoder.feed(b".\r\nQUIT\r\n") == (b"", 3)
    assert decoder.done
    assert decoder.feed(b"QUIT\r\n") == (b"", 0)
    normalizing = ehlo.DotDecoder("normalize")
    assert normalizing.feed(b"a\nb\r\n.\r\n") == (b"a\r\nb\r\n", 8)
    assert normalizing.flags == {"bare-lf"}
    with pytest.raises(ValueError, match='"reject", "normalize" or "allow", not "deny"'):
        ehlo.DotDecoder("deny")  # type: ignore[arg-type]


def test_dot_encoder() -> None:
    encoder = ehlo.DotEncoder()
    assert (
        b"".join([encoder.feed(b"a\r"), encoder.feed(b"\n."), encoder.feed(b"b"), encoder.finish()])
        == b"a\r\n..b\r\n.\r\n"
    )
    with pytest.raises(ehlo.LocalProtocolError, match="finished"):
        encoder.finish()
    with pytest.raises(ehlo.LocalProtocolError, match="finished"):
        encoder.feed(b"x")
    strict = ehlo.DotEncoder("reject")
    with pytest.raises(ehlo.LocalProtocolError, match="octet 1"):
        strict.feed(b"a\nb")
    with pytest.raises(ehlo.LocalProtocolError):
        strict.finish()
    with pytest.raises(ValueError, match='"normalize" or "reject", not "allow"'):
        ehlo.DotEncoder("allow")  # type: ignore[arg-type]


@pytest.mark.parametrize("wire", [b"", b"a\r\n", b"a\r\n.\r", b"a\n.\n", b"a\r\n.\r\nQUIT\r\n"])
def test_dot_unstuff_refuses(wire: bytes) -> None:
    with pytest.raises(ehlo.RemoteProtocolError):
        ehlo.dot_unstuff(wire)


def test_xtext() -> None:
    assert ehlo.xtext_encode(b"a+b=c \xff") == "a+2Bb+3Dc+20+FF"
    assert ehlo.xtext_decode("a+2Bb+3Dc+20+FF") == b"a+b=c \xff"
    for wrong in ["+2", "+zz", "a b", "=", "é", "\udc80"]:
        with pytest.raises(ehlo.RemoteProtocolError):
            ehlo.xtext_decode(wrong)


def command(line: bytes, *lenient: str) -> ehlo.Command:
    return ehlo.parse_command(line, lenient=lenient)


def test_command_mail() -> None:
    mail = command(b"mail FROM:<jane@example.org> SIZE=1000 x-own=1\r\n")
    match mail:
        case ehlo.Command(verb, argument):
            assert (verb, argument) == ("MAIL", b"FROM:<jane@example.org> SIZE=1000 x-own=1")
    assert mail.sender is not None
    assert mail.sender is mail.sender
    assert (str(mail.sender.path), mail.sender.size) == ("jane@example.org", 1000)
    assert mail.sender.parameters == (("SIZE", "1000"), ("x-own", "1"))
    assert mail.recipient is None
    assert mail.to_bytes().startswith(b"MAIL FROM:<jane@example.org> SIZE=1000")
    assert repr(mail) == "Command('MAIL', b'FROM:<jane@example.org> SIZE=1000 x-own=1')"


def test_command_rcpt() -> None:
    rcpt = command(b"RCPT TO:<joe@example.org> NOTIFY=NEVER")
    assert rcpt.recipient is not None
    assert rcpt.recipient is rcpt.recipient
    assert (str(rcpt.recipient.path), rcpt.recipient.notify) == ("joe@example.org", frozenset({"NEVER"}))
    assert rcpt.sender is None
    assert rcpt.to_bytes() == b"RCPT TO:<joe@example.org> NOTIFY=NEVER\r\n"


@pytest.mark.parametrize(
    ("line", "verb", "field", "value"),
    [
        (b"ehlo client.example", "EHLO", "name", "client.example"),
        (b"HELO [192.0.2.1]", "HELO", "name", "[192.0.2.1]"),
        (b"LHLO client.example", "LHLO", "name", "client.example"),
        (b"BDAT 1000", "BDAT", "size", 1000),
        (b"BDAT 1000", "BDAT", "last", False),
        (b"BDAT 0 LAST", "BDAT", "last", True),
        (b"AUTH PLAIN", "AUTH", "mechanism", "PLAIN"),
        (b"AUTH PLAIN", "AUTH", "initial_response", None),
        (b"AUTH PLAIN =", "AUTH", "initial_response", b"="),
        (b"AUTH PLAIN AGEAYg==", "AUTH", "initial_response", b"AGEAYg=="),
        (
            b"XCLIENT LOGIN=a+2Bb ADDR=[UNAVAILABLE]",
            "XCLIENT",
            "attributes",
            (("LOGIN", "a+b"), ("ADDR", "[UNAVAILABLE]")),
        ),
        (b"NOOP what ever", "NOOP", "argument", b"what ever"),
        (b"quit", "QUIT", "argument", b""),
        (b"Wiz ard", "Wiz", "argument", b"ard"),
        (b"STARTTLS", "STARTTLS", "argument", b""),
        (b"SEND FROM:<a@b>", "SEND", "argument", b"FROM:<a@b>"),
    ],
)
def test_command_fields(line: bytes, verb: str, field: str, value: object) -> None:
    parsed = command(line)
    assert parsed.verb == verb
    assert getattr(parsed, field) == value
    others = {"sender", "recipient", "name", "size", "mechanism", "initial_response"} - {field}
    if verb not in {"AUTH", "BDAT"}:
        assert not any(getattr(parsed, other) for other in others)


def test_a_password_is_not_shown() -> None:
    parsed = command(b"AUTH PLAIN AGEAYg==")
    assert repr(parsed) == "Command('AUTH', <PLAIN ...>)"
    assert parsed.to_bytes() == b"AUTH PLAIN AGEAYg==\r\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"", 500), (b"MAIL", 501), (b"RCPT TO:<joe>", 501), (b"BDAT x", 501), (b"NO\rOP", 500), (b"\xff", 500)],
)
def test_command_refused(line: bytes, code: int) -> None:
    with pytest.raises(ehlo.CommandSyntaxError) as caught:
        command(line)
    reply = caught.value.reply
    assert isinstance(reply, ehlo.Reply)
    assert reply.code == code
    assert reply.enhanced is not None
    assert str(caught.value)
    assert isinstance(caught.value, ehlo.RemoteProtocolError)


def test_leniency_is_named() -> None:
    with pytest.raises(ehlo.CommandSyntaxError):
        command(b"EHLO my_host")
    assert command(b"EHLO my_host", "hello_underscore").name == "my_host"
    with pytest.raises(ehlo.CommandSyntaxError):
        command(b"MAIL FROM: <>")
    assert command(b"MAIL FROM: <>", "space_after_colon").sender is not None
    with pytest.raises(ValueError, match=r'expected "hello_underscore", .* or "no_domain", not "sloppy"'):
        command(b"NOOP", "sloppy")


def test_capabilities() -> None:
    lines = ["mx.example at your service", "size 1000", "AUTH=LOGIN", "auth PLAIN login", "X-OWN a  b", "8BITMIME"]
    offer = ehlo.Capabilities.parse(ehlo.Reply(250, None, [*lines, "LIMITS RCPTMAX=x MAILMAX=5 FOO"]))
    assert (offer.name, offer.greeting) == ("mx.example", "mx.example at your service")
    assert offer.keywords[0] == ("size", "1000")
    assert offer.keywords[3:5] == (("X-OWN", "a  b"), ("8BITMIME", ""))
    assert "SIZE" in offer
    assert "x-own" in offer
    assert "CHUNKING" not in offer
    assert (offer.size, offer.auth, offer.limits) == (1000, ("LOGIN", "PLAIN"), {"MAILMAX": 5})
    assert repr(offer).startswith('Capabilities("mx.example", (')


def test_capabilities_of_nothing() -> None:
    offer = ehlo.Capabilities.parse(ehlo.parse_reply(b"250 mx.example\r\n"))
    assert (offer.keywords, offer.size, offer.auth, offer.limits) == ((), None, (), {})
    with pytest.raises(ehlo.RemoteProtocolError, match="502"):
        ehlo.Capabilities.parse(ehlo.Reply(502, "5.5.1", "what?"))


def test_capabilities_of_our_own_server() -> None:
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example"))
    conn.data_to_send()
    conn.receive_data(HELLO)
    assert conn.next_event() is None
    offer = ehlo.Capabilities.parse(ehlo.parse_reply(conn.data_to_send()))
    assert [" ".join(filter(None, entry)) for entry in offer.keywords] == list(conn.config.keywords)


# ---- TLS, AUTH and trusted fronts ----


def auth_config(**settings: Any) -> dict[str, Any]:
    return {"auth": ("PLAIN", "CRAM-MD5"), "auth_in_clear": ("PLAIN", "CRAM-MD5"), **settings}


def test_auth() -> None:
    conn = connect(**auth_config())
    event = one(conn, b"AUTH plain\r\n")
    match event:
        case ehlo.Auth("PLAIN", None):
            conn.challenge(b"")
        case _:
            pytest.fail(repr(event))
    assert conn.data_to_send() == b"334 \r\n"
    event = one(conn, b"AHRlc3QAMTIzNA==\r\n")
    match event:
        case ehlo.AuthResponse(data):
            assert data == b"\0test\x001234"
    with pytest.raises(ehlo.LocalProtocolError, match="identity"):
        conn.accept()
    with pytest.raises(ehlo.LocalProtocolError, match="4yz or 5yz"):
        conn.reply(235, "2.7.0", "ok")
    conn.reply(535, "5.7.8", "no")
    assert (conn.auth_failures, conn.identity) == (1, None)
    event = one(conn, b"AUTH PLAIN =\r\n")
    assert event.initial_response == b""
    conn.accept_identity("jane")
    assert (conn.identity, conn.protocol) == ("jane", "ESMTPA")
    with pytest.raises(ehlo.LocalProtocolError):
        conn.challenge(b"x")


def test_b_aut_34_no_repr_shows_a_response() -> None:
    conn = connect(**auth_config())
    event = one(conn, b"AUTH PLAIN AHRlc3QAMTIzNA==\r\n")
    assert repr(event) == "Auth(mechanism='PLAIN', initial_response=<...>)"
    conn.challenge(memoryview(b"more"))
    event = one(conn, b"AHRlc3QAMTIzNA==\r\n")
    assert repr(event) == "AuthResponse(data=<...>)"


def test_tls() -> None:
    conn = connect(tls="starttls")
    assert isinstance(one(conn, b"STARTTLS\r\n"), ehlo.StartTls)
    conn.accept()
    assert (conn.handshaking, conn.tls, conn.timeout) == (True, False, 60.0)
    with pytest.raises(ehlo.LocalProtocolError, match="send the output"):
        conn.tls_established()
    assert conn.data_to_send().startswith(b"220 ")
    conn.tls_established()
    assert (conn.handshaking, conn.tls, conn.hello) == (False, True, None)
    with pytest.raises(ehlo.LocalProtocolError, match="no TLS handshake"):
        conn.tls_failed()
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", tls="implicit"))
    conn.tls_established(too_weak=True)
    assert conn.data_to_send().startswith(b"554 ")
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", tls="implicit"))
    conn.tls_failed()
    (event,) = conn
    assert isinstance(event, ehlo.Disconnect)
    assert event.reason == "tls"


def test_keywords_differ_inside_tls() -> None:
    config = ehlo.ServerConfig(tls="starttls", auth=["plain", "EXTERNAL"], requiretls=True, xclient=["addr"])
    assert "STARTTLS" in config.keywords
    assert not {"REQUIRETLS", "AUTH PLAIN"} & set(config.keywords)
    assert {"REQUIRETLS", "AUTH PLAIN"} <= set(config.tls_keywords)
    assert not any(keyword.startswith(("STARTTLS", "XCLIENT")) for keyword in config.tls_keywords)
    assert (config.auth, config.xclient) == (("PLAIN", "EXTERNAL"), ("ADDR",))


@pytest.mark.parametrize(
    "settings",
    [
        {"tls": "maybe"},
        {"injected_input": "keep"},
        {"require_tls": True},
        {"requiretls": True},
        {"auth": ["PLAIN"]},
        {"auth": ["PL AIN"], "tls": "starttls"},
        {"auth": ["PLAIN", "plain"], "tls": "starttls"},
        {"auth": ["PLAIN"], "auth_in_clear": ["LOGIN"]},
        {"require_auth": True},
        {"submission": True},
        {"xclient": ["SOURCE"]},
        {"xclient": ["COLOUR"]},
        {"xforward": ["LOGIN"]},
        {"single_labels": ["a.b"]},
        {"future_release": (1, "2030-01-01T00:00:00Z")},
        {"handshake_timeout": 0},
    ],
)
def test_settings_of_tls_and_auth_that_make_no_server(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ehlo.ServerConfig(**settings)


def test_a_single_string_is_no_list_of_words() -> None:
    for name in ("auth", "xclient", "single_labels"):
        setting: dict[str, Any] = {name: "PLAIN"}
        with pytest.raises(TypeError, match=f"{name}: "):
            ehlo.ServerConfig(**setting)


def test_c_pxy_12_proxy_headers_are_written_and_read() -> None:
    header = ehlo.ProxyHeader(("192.0.2.1", 56324), ("198.51.100.1", 25))
    line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n"
    assert header.to_bytes(version=1) == line
    assert ehlo.parse_proxy(line + b"EHLO x\r\n") == (header, len(line))
    assert ehlo.parse_proxy(line[:-1]) is None
    with pytest.raises(ehlo.RemoteProtocolError, match="no PROXY header"):
        ehlo.parse_proxy(b"EHLO x\r\n")
    tlvs = [(1, b"smtp"), (2, b"mx.example"), (5, b"id"), (0x30, b"blue"), (0xE0, b"own"), (3, b"    ")]
    ssl = b"\x01" + bytes(4) + b"\x21\0\x07TLSv1.3" + b"\x22\0\x04jane" + b"\x23\0\x03AES"
    ends: list[tuple[End, End]] = [
        (("192.0.2.1", 1), ("192.0.2.2", 2)),
        (("2001:db8::1", 1), ("2001:db8::2", 2)),
        (b"/run/a", b""),
        (None, None),
    ]
    for source, destination in ends:
        header = ehlo.ProxyHeader(source, destination, tlvs=[] if source is None else [*tlvs, (0x20, ssl)])
        wire = header.to_bytes()
        read, length = ehlo.parse_proxy(wire + b"x") or pytest.fail("more?")
        assert length == len(wire)
        assert (read.source, read.destination) == (source, destination)
        if source is not None:
            assert read.tlvs[:5] == tuple(tlvs[:5])
            assert (read.alpn, read.authority, read.unique_id, read.netns) == (b"smtp", "mx.example", b"id", "blue")
            assert (read.is_tls, read.tls_version, read.tls_cipher) == (True, "TLSv1.3", "AES")
            assert read.tls_common_name is None  # no certificate, says the bit field
    assert ehlo.ProxyHeader().to_bytes(1) == b"PROXY UNKNOWN\r\n"
    unknown = ehlo.ProxyHeader(unknown=True)
    assert repr(unknown) == "ProxyHeader(None, None, unknown=True)"
    for version in (1, 2):
        assert (ehlo.parse_proxy(unknown.to_bytes(version)) or pytest.fail("more?"))[0] == unknown
    assert not (ehlo.parse_proxy(ehlo.ProxyHeader().to_bytes(2)) or pytest.fail("more?"))[0].unknown
    with pytest.raises(ValueError, match="no address"):
        ehlo.ProxyHeader(("::1", 1), ("::2", 2), unknown=True)
    assert repr(ehlo.ProxyHeader(("::1", 1), ("::2", 2))) == "ProxyHeader(('::1', 1), ('::2', 2))"
    for wrong in [(("x", 1), ("y", 2)), (("192.0.2.1", 1), ("::1", 2)), (("192.0.2.1", 1), None)]:
        with pytest.raises(ValueError, match=r"\w"):
            ehlo.ProxyHeader(*wrong)
    with pytest.raises(ValueError, match="versions"):
        header.to_bytes(3)
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.ProxyHeader(("::1", 1), ("::2", 2), tlvs=[(0xE0, bytes(5000))]).to_bytes()


def test_proxy_and_xclient_events() -> None:
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", proxy=True, xclient=["NAME", "ADDR", "PORT", "LOGIN"]))
    assert (conn.data_to_send(), conn.timeout, conn.proxy) == (b"", 5.0, None)
    event = one(conn, b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n")
    match event:
        case ehlo.Proxy(header):
            assert header.source == ("2001:db8::1", 56324)
    conn.accept()
    assert (conn.client_address, conn.trusted) == (("2001:db8::1", 56324), False)
    conn.trusted = True
    event = one(conn, b"XCLIENT NAME=[TEMPUNAVAIL] ADDR=192.0.2.1 PORT=[UNAVAILABLE] LOGIN=jane\r\n")
    match event:
        case ehlo.Xclient(attributes):
            assert (attributes.addr, attributes.name, attributes.port, attributes.login) == (
                "192.0.2.1",
                None,
                None,
                "jane",
            )
            assert attributes.unavailable == {"PORT"}
            assert attributes.temporarily_unavailable == {"NAME"}
            assert (attributes.helo, attributes.proto, attributes.dest_addr, attributes.dest_port) == (None,) * 4
            assert (attributes.ident, attributes.source) == (None, None)
            assert "192.0.2.1" in repr(attributes)
            assert "jane" not in repr(event)
    assert (conn.client_address, conn.trusted, conn.identity) == (("192.0.2.1", None), False, "jane")
    assert conn.xclient is not None
    assert conn.xforward is None
    assert conn.proxy is not None


def test_auth_without_tls_says_what_to_write() -> None:
    """FAULTS D13"""
    with pytest.raises(ValueError, match=r'tls="starttls".*auth_in_clear'):
        ehlo.ServerConfig("mx.example", auth=["PLAIN"])


@pytest.mark.parametrize(
    ("decision", "command"),
    [
        ("vrfy", b"VRFY joe"),
        ("expn", b"EXPN staff"),
        ("etrn", b"ETRN b.example"),
        ("hello", b"EHLO c"),
        ("command", b"HELP"),
        ("command", b"NOOP"),
        ("connect", b"HELP"),
        ("connect", b"EHLO c"),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
def test_the_command_that_ends_a_session_has_no_other_answer(decision: str, command: bytes, answered: bool) -> None:
    settings: dict[str, Any] = {"decisions": [decision], "content": "discard", "max_junk": 1, "max_errors": 1}
    conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", **settings))
    conn.receive_data(b"EHLO c\r\n" + (command + b"\r\n") * 9)
    while not isinstance(conn.next_event(), ehlo.Disconnect):
        assert conn.decision_open
        if answered:
            conn.send_reply(ehlo.Reply(250, "2.0.0", "yes"))
        else:
            conn.accept()
    assert conn.closed
    assert conn.data_to_send().endswith(b"\r\n421 4.7.0 mx.example Too many errors\r\n")
