"""What the package offers to other people's tests."""

import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import pytest

import ehlo
from ehlo.testing import (
    ScriptedClient,
    ScriptedPeer,
    ScriptedServer,
    ScriptError,
    SMTPServer,
    Transcript,
    Wire,
    assert_dialogue,
)

pytest_plugins = ["pytester"]

CLIENT = ehlo.ClientConfig("c.example")
SERVER = ehlo.ServerConfig("mx.example")


def wire(cut: int | None = None, handler: object | None = None, **settings: object) -> Wire:
    config = SERVER
    if handler is not None:
        decisions, content = ehlo.decisions_of(handler)
        config = config.replace(decisions=decisions, content=content)
    client = ehlo.ClientConnection(CLIENT.replace(**settings))
    return Wire(client, ehlo.ServerConnection(config), handler=handler, cut=cut)


# ---- the wire ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [None, 1, 7, lambda octets: [octets[:3], octets[3:]]])
def test_a_message_over_the_wire(cut: int | None) -> None:
    pair = wire(cut, chunking=False)
    assert isinstance(pair.client, ehlo.ClientConnection)
    pair.client.send_message("a@b", ["c@d"], b".hi\r\n")
    pair.client.quit()
    pair.run()
    ready, result, _, end = pair.client_events
    assert isinstance(ready, ehlo.Ready)
    assert isinstance(result, ehlo.SendResult)
    assert result.all_accepted
    assert isinstance(end, ehlo.ClientDisconnect)
    assert [message.content for message in pair.messages] == [b".hi\r\n"]
    assert_dialogue(
        pair.transcript,
        """
        S: 220 mx.example *
        C: EHLO c.example
        S: 250-PIPELINING
        C: MAIL FROM:<a@b> SIZE=5
        C: DATA
        S: 354 *
        C: ..hi
        C: .
        C: QUIT
        S: 250 2.0.0 OK
        S: 221 *
        """,
    )


class Picky(ehlo.Handler):
    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return None if str(recipient.path) == "c@d" else "550 5.1.1 no such user"

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str:
        return "250 2.0.0 kept"


def test_a_handler_decides() -> None:
    pair = wire(handler=Picky())
    assert isinstance(pair.client, ehlo.ClientConnection)
    pair.client.send_message("a@b", ["c@d", "e@f"], b"hi\r\n")
    result = pair.run().client_events[-1]
    assert isinstance(result, ehlo.SendResult)
    assert [str(one.path) for one in result.refused] == ["e@f"]
    assert str(result.reply) == "250 2.0.0 kept"


def test_delay_and_join() -> None:
    pair = wire()
    pair.hold("S")
    pair.run()
    assert pair.client_events == []
    assert pair.transcript.of("S") == ["220 mx.example ESMTP"]
    pair.release("S")
    pair.run()
    assert [type(event) for event in pair.client_events] == [ehlo.Ready]


@pytest.mark.parametrize("octets", range(0, 52, 7))
def test_a_wire_that_breaks(octets: int) -> None:
    pair = wire(chunking=False)
    assert isinstance(pair.client, ehlo.ClientConnection)
    pair.run()
    pair.client.send_message("a@b", ["c@d"], b"hi\r\n")
    pair.break_after("C", octets)
    pair.run()
    result, end = pair.client_events[-2:]
    assert isinstance(result, ehlo.SendResult)
    assert result.failure in ("lost", "unknown")
    assert isinstance(end, ehlo.ClientDisconnect)
    assert end.reason == "eof"
    assert pair.messages == []


def test_time_passes_when_it_is_told() -> None:
    pair = wire()
    pair.run()
    pair.advance(299)
    assert not pair.server.closed
    pair.advance(2)
    pair.run()
    assert_dialogue(pair.transcript, "S: 421 4.4.2 *Timeout")
    assert isinstance(pair.client_events[-1], ehlo.ClientDisconnect)


def test_a_script_in_an_engines_place() -> None:
    peer = ScriptedPeer("S: 220 mx\nC: EHLO *\nS< 1\nS: 250 mx\nC: NOOP\nS> 250 o\\x6b\\r\\n\nwait", "S")
    pair = Wire(ehlo.ClientConnection(CLIENT), peer)
    assert isinstance(pair.client, ehlo.ClientConnection)
    pair.client.noop()
    pair.run()
    assert [type(event) for event in pair.client_events] == [ehlo.Ready, ehlo.CommandReply]
    with pytest.raises(ScriptError, match="before 'wait'"):
        peer.check()


def test_an_async_handler_is_refused() -> None:
    class Waiting(ehlo.Handler):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            pass

    pair = wire(handler=Waiting())
    assert isinstance(pair.client, ehlo.ClientConnection)
    pair.client.send_message("a@b", ["c@d"], b"hi\r\n")
    with pytest.raises(ehlo.LocalProtocolError, match="plain methods"):
        pair.run()


# ---- scripts -------------------------------------------------------------------------------------


def test_a_scripted_server() -> None:
    script = """
        # a server that does not like mail
        S: 220 mx
        C: EHLO *
        S: 250 mx
        C: MAIL FROM:<a@b>*
        S: 550 5.7.1 no
        C: RSET
        S: 250 ok
        C: QUIT
        S: 221 bye
        close
    """
    with (
        ScriptedServer(script) as server,
        smtplib.SMTP(server.host, server.port) as client,
        pytest.raises(smtplib.SMTPSenderRefused),
    ):
        client.sendmail("a@b", ["c@d"], "hi")
    assert server.transcript.of("C")[-1].upper() == "QUIT"


def test_a_script_that_is_not_followed() -> None:
    server = ScriptedServer("S: 220 mx\nC: HELO *\nclose")
    with (
        pytest.raises(ScriptError, match="expected 'HELO \\*', heard 'ehlo"),
        server,
        smtplib.SMTP(server.host, server.port) as client,
        pytest.raises(smtplib.SMTPServerDisconnected),
    ):
        client.ehlo()


@pytest.mark.parametrize("step", ["X: hm", "S hm", "C> raw", "later"])
def test_a_step_that_is_none(step: str) -> None:
    with pytest.raises(ScriptError, match="no step of a script"):
        ScriptedPeer(step, "S").check()


def test_a_scripted_client() -> None:
    script = "S: 220 *\nC: EHLO x\nS: 250-*\nS: 250-PIPELINING\nC> QUIT\\r\\n\nS...\nclose"
    with SMTPServer() as server, ScriptedClient(script, server.host, server.port) as client:
        pass
    assert_dialogue(client.transcript, "C: QUIT\nS: 221 *")


def test_content_in_a_script() -> None:
    peer = ScriptedPeer("C: DATA\nS: 354 go\nC...\nS: 250 ok", "S")
    for piece in (b"DATA\r\n", b"a\r\n.", b"\r", b"\n"):
        peer.receive_data(piece)
    assert peer.done
    assert peer.data_to_send() == b"354 go\r\n250 ok\r\n"


def test_the_transcript() -> None:
    transcript = Transcript()
    for party, octets in [("C", b"NO"), ("S", b"250 a\r\n250"), ("C", b"OP\r\n"), ("S", b" \xe9\n")]:
        transcript.add(party, octets)  # type: ignore[arg-type]
    assert list(transcript) == ["C: NOOP", "S: 250 a", "S: 250 \\xe9"]
    with pytest.raises(AssertionError, match="'S: 5\\*' was not said"):
        assert_dialogue(transcript, "C: NOOP\nS: 5*")


# ---- the server and its fixtures -----------------------------------------------------------------


def test_the_server_keeps_what_it_gets(smtp_server: SMTPServer) -> None:
    message = EmailMessage()
    message["Subject"] = "hi"
    message.set_content("text\n.\n")
    with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
        client.send_message(message, "", ["c@d.example", "Postmaster"])
    [received] = smtp_server.wait(1)
    assert (received.sender, received.recipients) == ("", ["c@d.example", "Postmaster"])
    assert received.message["Subject"] == "hi"
    assert received.message.get_content() == "text\r\n.\r\n"
    assert received.protocol == "ESMTP"
    smtp_server.clear()
    assert smtp_server.messages == []
    with pytest.raises(TimeoutError, match="0 of 1"):
        smtp_server.wait(1, timeout=0.01)


def test_the_lmtp_server(lmtp_server: SMTPServer) -> None:
    with smtplib.LMTP(lmtp_server.host, lmtp_server.port) as client:
        client.sendmail("a@b.example", ["c@d.example"], "hi")
    assert lmtp_server.wait(1)[0].protocol == "LMTP"


def test_servers_with_handlers(smtp_servers: Callable[..., SMTPServer]) -> None:
    class Refusing:
        def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str:
            return "550 5.1.1 nobody"

    open_server, closed_server = smtp_servers(), smtp_servers(Refusing())
    assert open_server.port != closed_server.port
    with smtplib.SMTP(closed_server.host, closed_server.port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("a@b.example", ["c@d.example"], "hi")
    assert closed_server.messages == []


def test_a_server_that_cannot_start() -> None:
    class Both(ehlo.Handler):
        def on_message(self, session: object, envelope: object, content: bytes) -> None: ...
        def on_body(self, session: object, envelope: object, body: object) -> None: ...

    both = SMTPServer(Both())
    with pytest.raises(ehlo.LocalProtocolError, match="both on_message and on_body"):
        both.start()
    server = SMTPServer().start()
    with pytest.raises(ehlo.LocalProtocolError, match="already"):
        server.start()
    server.stop()
    server.stop()


ONE_MAIL = """
    import smtplib

    import pytest

    @pytest.mark.parametrize("number", range({count}))
    def test_it(smtp_server, number):
        with smtplib.SMTP(smtp_server.host, smtp_server.port, "client.example") as client:
            client.sendmail(f"{{number}}@b.example", ["c@d.example"], "hi")
        assert [message.sender for message in smtp_server.wait(1)] == [f"{{number}}@b.example"]
    """


def test_the_plugin_for_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ONE_MAIL.format(count=1))
    pytester.runpytest_subprocess("--ehlo-backend", "asyncio", "-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_plugin_under_xdist(pytester: pytest.Pytester) -> None:
    """Workers beside each other, on both backends: each test has a server, a port and messages of its own."""
    pytest.importorskip("xdist")
    pytest.importorskip("trio")
    pytester.makepyfile(ONE_MAIL.format(count=20))
    backends = ("--ehlo-backend", "asyncio", "--ehlo-backend", "trio")
    result = pytester.runpytest_subprocess("-n", "2", "-v", *backends, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=40)
    result.stdout.fnmatch_lines_random(["*[[]gw0[]]*PASSED*", "*[[]gw1[]]*PASSED*"])
