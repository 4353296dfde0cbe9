"""The client's side of ``ehlo._core``: what crosses the border to Python, and how. The protocol is tested in Rust."""

import sys
from collections.abc import Iterator

import pytest

import ehlo

OFFER = b"220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 1000\r\n"


def client(**settings: object) -> ehlo.ClientConnection:
    return ehlo.ClientConnection(ehlo.ClientConfig("c.example", **settings))  # type: ignore[arg-type]


@pytest.fixture
def ready() -> ehlo.ClientConnection:
    """A session behind EHLO with nothing outstanding."""
    conn = client()
    conn.receive_data(OFFER)
    assert [type(event) for event in conn] == [ehlo.Ready]
    assert conn.data_to_send() == b"EHLO c.example\r\n"
    return conn


def sent(conn: ehlo.ClientConnection, *replies: bytes) -> list[object]:
    """The events that these replies lead to, each taken when all that could be sent was."""
    events: list[object] = []
    for reply in replies:
        while conn.data_to_send():
            pass
        conn.receive_data(reply)
        events.extend(conn)
    return events


def result_of(conn: ehlo.ClientConnection, *replies: bytes) -> ehlo.SendResult:
    [result] = [event for event in sent(conn, *replies) if isinstance(event, ehlo.SendResult)]
    return result


# ---- config --------------------------------------------------------------------------------------


def test_every_setting_is_readable_and_replaceable() -> None:
    config = ehlo.ClientConfig("c.example")
    changes: dict[str, object] = {
        "hostname": "[192.0.2.1]",
        "lmtp": True,
        "tls": "required",
        "pipelining": False,
        "chunking": True,
        "newlines": "exact",
        "force_8bit": True,
        "drop_dsn": True,
        "relay_auth": True,
        "max_recipients": 7,
        "window": 3,
        "chunk_size": 512,
        "lenient_replies": True,
        "max_reply_line": 600,
        "max_reply": 6000,
        "max_reply_lines": 60,
    }
    timers = ("greeting", "hello", "mail", "rcpt", "data", "content", "end_of_data", "reset", "quit", "other")
    changes |= {f"{name}_timeout": 0.5 + at for at, name in enumerate(timers)}
    public = {name for name in dir(config) if not name.startswith("_")} - {"replace"}
    assert public == set(changes)
    changed = config.replace(**changes)
    assert {name: getattr(changed, name) for name in changes} == changes
    assert config.chunking == "auto"
    assert config.replace(chunking=False).chunking is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hostname": "no name"}, "host name"),
        ({"tls": "perhaps"}, "tls: .*'opportunistic'|tls: .*opportunistic"),
        ({"chunking": "always"}, "chunking"),
        ({"newlines": "exact", "chunking": False}, "BDAT"),
        ({"window": 0}, "window"),
        ({"mail_timeout": 0}, "mail_timeout"),
    ],
)
def test_settings_that_make_no_client(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ehlo.ClientConfig(**settings)  # type: ignore[arg-type]


def test_an_unknown_setting() -> None:
    with pytest.raises(TypeError, match="speed"):
        ehlo.ClientConfig(speed=9)  # type: ignore[call-arg]


# ---- envelope ------------------------------------------------------------------------------------


def test_a_sender_with_parameters() -> None:
    sender = ehlo.Sender(
        "jane@example.org",
        body="8BITMIME",
        smtputf8=True,
        ret="HDRS",
        envid="order 7",
        auth="<>",
        deliver_by=(60, "R", True),
        hold_for=30,
        mt_priority=-3,
        requiretls=True,
    )
    assert (sender.body, sender.smtputf8, sender.ret, sender.envid) == ("8BITMIME", True, "HDRS", "order 7")
    assert (sender.auth, sender.deliver_by, sender.hold_for) == ("<>", (60, "R", True), 30)
    assert (sender.mt_priority, sender.requiretls, sender.size) == (-3, True, None)
    assert ("ENVID", "order+207") in sender.parameters
    assert ehlo.Sender("a@b", auth="x+y@z").auth == "x+y@z"
    assert ehlo.Sender("a@b", hold_until="2030-01-01T00:00:00Z").hold_until == "2030-01-01T00:00:00Z"
    assert ehlo.Sender("").path is ehlo.NULL
    assert ehlo.Sender(ehlo.NULL).path is ehlo.NULL
    assert ehlo.Sender(ehlo.Address("a@b")).path == ehlo.Address("a@b")


def test_a_recipient_with_parameters() -> None:
    recipient = ehlo.Recipient("joe@example.org", notify={"SUCCESS", "DELAY"}, orcpt=("rfc822", "x+y@z"))
    assert recipient.notify == frozenset({"SUCCESS", "DELAY"})
    assert recipient.orcpt == ("rfc822", "x+y@z")
    assert ehlo.Recipient("a@b", orcpt=("utf-8", "ü@z")).orcpt == ("utf-8", "ü@z")
    assert ehlo.Recipient("a@b", rrvs=("2024-01-01T00:00:00Z", "C")).rrvs == ("2024-01-01T00:00:00Z", "C")
    assert ehlo.Recipient("postmaster").path == ehlo.Recipient("Postmaster").path
    assert ehlo.Recipient("joe@Example.ORG").domain == "example.org"
    assert ehlo.Recipient("joe@[IPv6:::1]").domain == "[ipv6:::1]"
    assert ehlo.Recipient("Postmaster").domain is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ehlo.Sender("a@@b"),
        lambda: ehlo.Sender("a@b>\r\nRCPT TO:<x"),
        lambda: ehlo.Sender("a@b", ret="SOME"),  # type: ignore[arg-type]
        lambda: ehlo.Sender("a@b", envid="a\r\nb"),
        lambda: ehlo.Sender("a@b", envid="x" * 101),
        lambda: ehlo.Sender("a@b", mt_priority=10),
        lambda: ehlo.Sender("a@b", hold_for=1, hold_until="2030-01-01T00:00:00Z"),
        lambda: ehlo.Recipient(""),
        lambda: ehlo.Recipient("a@b", notify=("NEVER", "DELAY")),
        lambda: ehlo.Recipient("a@b", notify=()),
        lambda: ehlo.Recipient("a@b", rrvs=("yesterday", None)),
        lambda: ehlo.Recipient("a@b", orcpt=("rf c822", "x@y")),
    ],
)
def test_what_cannot_be_sent_cannot_be_made(wrong: object) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        wrong()  # type: ignore[operator]


def test_an_envelope_that_was_received_can_be_sent(ready: ehlo.ClientConnection) -> None:
    server = ehlo.ServerConnection(ehlo.ServerConfig("mx.example", dsn=True))
    server.receive_data(
        b"EHLO c.example\r\nMAIL FROM:<a@b> SIZE=99 BODY=8BITMIME RET=FULL\r\n"
        b'RCPT TO:<"c"@d> NOTIFY=NEVER\r\nDATA\r\nhi\r\n.\r\n'
    )
    [message] = [event for event in server if isinstance(event, ehlo.Message)]
    ready.send_message(message.envelope.sender, message.envelope.recipients, message.content)
    # SIZE follows from the content; all else is passed on.
    assert ready.data_to_send().startswith(
        b"MAIL FROM:<a@b> SIZE=4 BODY=8BITMIME RET=FULL\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nDATA\r\n"
    )


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_content(ready: ehlo.ClientConnection, kind: type) -> None:
    content = bytearray(b"hi\r\n")
    ready.send_message("a@b", ["c@d"], kind(content))
    content[:2] = b"no"  # what can change is copied at once
    replies = (b"250 ok\r\n250 ok\r\n354 go\r\n",)
    assert sent(ready, *replies) == []
    assert ready.data_to_send() == b"hi\r\n.\r\n"


def test_large_content_is_not_copied() -> None:
    conn = client()
    content = b"a line\r\n" * 4000
    conn.send_message("a@b", ["c@d"], content)
    sent(conn, OFFER.replace(b"SIZE 1000", b"SIZE"), b"250 ok\r\n250 ok\r\n")
    conn.receive_data(b"354 go\r\n")
    assert conn.data_to_send() is content
    assert conn.data_to_send() == b".\r\n"
    assert conn.data_to_send() == b""


@pytest.mark.parametrize("recipients", ["c@d", ("c@d",), [ehlo.Address("c@d")], iter([ehlo.Recipient("c@d")])])
def test_recipients_as_they_may_be_given(recipients: object) -> None:
    conn = client()
    conn.send_message("a@b", recipients, b"")  # type: ignore[arg-type]
    conn.receive_data(OFFER)
    list(conn)
    assert b"RCPT TO:<c@d>\r\n" in conn.data_to_send()


def test_results_tell_of_every_recipient(ready: ehlo.ClientConnection) -> None:
    id = ready.send_message("a@b", ["c@d", "e@f", "Postmaster"], b"hi\r\n")
    result = result_of(ready, b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n251 <x@y>\r\n354 go\r\n", b"250 2.0.0 queued\r\n")
    assert result.id == id
    assert [str(one.path) for one in result.accepted] == ["c@d", "Postmaster"]
    [refused] = result.refused
    match refused:
        case ehlo.RecipientResult(path, reply):
            assert path == ehlo.Address("e@f")
            assert reply == ehlo.Reply(550, "5.1.1", "no")
    assert (refused.accepted, refused.stage) == (False, "rcpt")
    assert result.recipients[0].stage == "content"
    assert result.recipients[2].rcpt == ehlo.Reply(251, None, "<x@y>")
    assert isinstance(result.recipients[0].recipient, ehlo.Recipient)
    assert result.recipients[0].recipient.notify is None
    assert result.reply == ehlo.Reply(250, "2.0.0", "queued")
    assert (result.all_accepted, result.is_temporary) == (False, False)
    assert (result.failure, result.explanation) == (None, None)
    assert repr(result) == "SendResult(2 of 3 accepted)"


def test_a_need_that_is_not_met(ready: ehlo.ClientConnection) -> None:
    ready.send_message("a@b", ["c@d"], b"x" * 2000)
    assert ready.data_to_send() == b""
    [result] = ready
    assert isinstance(result, ehlo.SendResult)
    assert result.failure == "need"
    assert "has 2002 octets, and the server takes 1000 at most" in str(result.explanation)
    assert result.reply is None
    assert result.recipients[0].stage is None


def test_lost_and_unknown(ready: ehlo.ClientConnection) -> None:
    ready.send_message("a@b", ["c@d"], b"1\r\n")
    ready.send_message("a@b", ["c@d"], b"2\r\n")
    assert sent(ready, b"250 ok\r\n250 ok\r\n354 go\r\n") == []
    assert ready.unfinished == 2
    ready.receive_eof()
    one, two, end = ready
    assert isinstance(one, ehlo.SendResult)
    assert isinstance(two, ehlo.SendResult)
    assert (one.failure, one.is_temporary) == ("unknown", False)
    assert (two.failure, two.is_temporary) == ("lost", True)
    match end:
        case ehlo.ClientDisconnect("eof"):
            assert end.reply is None
            assert end.explanation == "the server closed the connection"
    assert ready.closed
    assert ready.timeout is None
    with pytest.raises(ehlo.LocalProtocolError, match="over"):
        ready.send_message("a@b", ["c@d"], b"3\r\n")


def test_content_in_pieces(ready: ehlo.ClientConnection) -> None:
    id = ready.start_message("a@b", ["c@d"], size=10, eight_bit=False, utf8_header=False)
    output = b"MAIL FROM:<a@b> SIZE=10\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    assert (ready.content_wanted, ready.data_to_send()) == (None, output)
    assert sent(ready, b"250 ok\r\n250 ok\r\n354 go\r\n") == []
    assert ready.content_wanted == id
    assert ready.send_content(id, bytearray(b"one\r"))
    assert ready.send_content(id, memoryview(b"\n.two"))
    ready.end_content(id)
    assert ready.data_to_send() == b"one\r\n..two\r\n.\r\n"
    with pytest.raises(ehlo.LocalProtocolError, match="no more pieces"):
        ready.send_content(id, b"x")
    assert result_of(ready, b"250 ok\r\n").all_accepted
    assert ready.send_content(id, b"x") is False
    with pytest.raises(ehlo.LocalProtocolError, match="no such message"):
        ready.abort_content(99)


def test_content_that_is_given_up(ready: ehlo.ClientConnection) -> None:
    id = ready.start_message("a@b", ["c@d"])
    sent(ready, b"250 ok\r\n250 ok\r\n354 go\r\n")
    ready.send_content(id, b"half")
    ready.abort_content(id)
    result, end = ready
    assert isinstance(result, ehlo.SendResult)
    assert result.failure == "aborted"
    assert isinstance(end, ehlo.ClientDisconnect)
    assert end.reason == "aborted"


# ---- commands and events -------------------------------------------------------------------------


def test_commands(ready: ehlo.ClientConnection) -> None:
    ids = [ready.noop(), ready.vrfy("bob"), ready.expn("list"), ready.help(), ready.rset(), ready.quit()]
    events = sent(ready, b"250 ok\r\n", b"252 perhaps\r\n", b"550 no\r\n", b"214 help\r\n", b"250 ok\r\n221 bye\r\n")
    replies = [event for event in events if isinstance(event, ehlo.CommandReply)]
    assert [event.id for event in replies] == ids
    assert [event.verb for event in replies] == ["NOOP", "VRFY", "EXPN", "HELP", "RSET", "QUIT"]
    match replies[1]:
        case ehlo.CommandReply(_, "VRFY", reply):
            assert reply == ehlo.Reply(252, None, "perhaps")
    assert isinstance(events[-1], ehlo.ClientDisconnect)


@pytest.mark.parametrize("argument", ["a\r\nQUIT", "a\0b", ""])
def test_arguments_that_are_no_line(ready: ehlo.ClientConnection, argument: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        ready.vrfy(argument)


def test_an_auth_exchange(ready: ehlo.ClientConnection) -> None:
    id = ready.auth("PLAIN")
    [event] = sent(ready, b"334 YWJj\r\n")
    match event:
        case ehlo.Challenge(number, challenge):
            assert (number, challenge) == (id, b"abc")
    ready.respond(b"\0tim\0secret")
    assert ready.data_to_send() == b"AHRpbQBzZWNyZXQ=\r\n"
    [event] = sent(ready, b"235 2.7.0 in\r\n")
    assert isinstance(event, ehlo.CommandReply)
    assert ready.authenticated
    # B-AUT-34 for the client: secrets are in no repr and no transcript.
    assert "AHRpbQBz" not in ready.transcript + repr(event) + repr(ready)


def test_starttls_is_for_the_program() -> None:
    conn = client(tls="required")
    conn.receive_data(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n")
    assert conn.data_to_send().endswith(b"STARTTLS\r\n")
    conn.receive_data(b"220 go\r\n")
    assert [type(event) for event in conn] == [ehlo.StartTls]
    conn.tls_established()
    assert conn.is_tls
    assert conn.data_to_send() == b"EHLO c.example\r\n"
    with pytest.raises(ehlo.LocalProtocolError):
        conn.tls_established()


def test_an_unsolicited_421(ready: ehlo.ClientConnection) -> None:
    ready.receive_data(b"421 4.3.2 down\r\n")
    unsolicited, end = ready
    match unsolicited:
        case ehlo.Unsolicited(reply):
            assert reply.code == 421
    assert isinstance(end, ehlo.ClientDisconnect)
    assert (end.reason, end.reply) == ("closing", ehlo.Reply(421, "4.3.2", "down"))


def test_a_refusing_greeting() -> None:
    conn = client()
    conn.receive_data(b"554 5.7.1 no\r\n")
    [end] = conn
    assert isinstance(end, ehlo.ClientDisconnect)
    assert (end.reason, end.reply) == ("greeting", ehlo.Reply(554, "5.7.1", "no"))
    assert conn.greeting is None
    assert conn.data_to_send() == b"QUIT\r\n"


def test_facts(ready: ehlo.ClientConnection) -> None:
    assert ready.capabilities.size == 1000
    assert "dsn" in ready.capabilities
    assert ready.greeting == ehlo.Reply(220, None, "mx.example ESMTP")
    assert (ready.timeout, ready.mail_left, ready.is_tls, ready.authenticated) == (None, None, False, False)
    assert (ready.idle, ready.timeout) == (True, None)
    ready.noop()
    ready.data_to_send()
    assert (ready.timeout, ready.idle) == (20.0, False)
    ready.receive_timeout()
    events = list(ready)
    assert isinstance(events[-1], ehlo.ClientDisconnect)
    assert events[-1].reason == "timeout"


def test_the_transcript(ready: ehlo.ClientConnection) -> None:
    assert ready.transcript.startswith("S: 220 mx.example ESMTP\nC: EHLO c.example\nS: 250-mx.example\n")
    ready.send_message("a@b", ["c@d"], b"a secret\r\n")
    sent(ready, b"550 \xff\x1b[31m no\r\n")
    assert "S: 550 \\xff\\u{1b}[31m no\n" in ready.transcript  # what goes to a log is escaped
    assert "secret" not in ready.transcript
    assert ready.take_transcript()
    assert ready.take_transcript() == ""


def test_from_a_receive_buffer() -> None:
    conn, buffer = client(), ehlo.ReceiveBuffer(64)
    buffer.view[:8] = b"220 mx\r\n"
    conn.receive_from(buffer, 8)
    assert conn.data_to_send() == b"EHLO c.example\r\n"
    with pytest.raises(ValueError, match="not 65"):
        conn.receive_from(buffer, 65)


def test_bytes_are_not_copied_and_let_go(ready: ehlo.ClientConnection) -> None:
    content = b"hi\r\n" * 1000
    before = sys.getrefcount(content)
    ready.send_message("a@b", ["c@d"], memoryview(content)[:8])
    assert sys.getrefcount(content) == before
    assert result_of(ready, b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n").all_accepted
    conn = client()
    conn.send_message("a@b", ["c@d"], content)
    assert sys.getrefcount(content) == before + 1
    conn.receive_data(OFFER.replace(b"SIZE 1000", b"SIZE"))
    assert result_of(conn, b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n").all_accepted
    assert sys.getrefcount(content) == before


def parts(octets: bytes) -> Iterator[bytes]:
    return (octets[at : at + 1] for at in range(len(octets)))


def test_octet_by_octet() -> None:
    conn = client()
    conn.send_message("a@b", ["c@d"], b"hi\r\n")
    said = b""
    for octet in parts(OFFER + b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"):
        conn.receive_data(octet)
        said += conn.data_to_send()
    assert said == b"EHLO c.example\r\nMAIL FROM:<a@b> SIZE=4\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\n"
    ready, result = conn
    assert isinstance(ready, ehlo.Ready)
    assert isinstance(result, ehlo.SendResult)
