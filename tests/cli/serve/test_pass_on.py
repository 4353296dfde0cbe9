"""Without a queue: what a client is told, and what the next hop has. Nothing is lost, nothing is told wrong (A2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_kit import CONTENT, connect, site, tell

import ehlo
from ehlo.cli._serve import command, pass_on
from ehlo.testing import ScriptedServer, SMTPServer
from loops import LOOPS, run

TWO = ["c@d.example", "e@d.example"]
TIMERS = {
    "greeting": ("greeting", 0.1),
    "hello": ("hello", 0.1),
    "mail": ("mail", 0.1),
    "rcpt 1": ("rcpt", 0.1),
    "rcpt 2": ("rcpt", 1.0),  # the first has the same one
    "data": ("data", 0.1),
    "content": ("end_of_data", 0.1),
}
"""For each step the timer that a silence there reaches, and its seconds in the test."""
STEPS = tuple(TIMERS)
FAULTS = ("4yz", "5yz", "421", "close", "malformed", "time out")


async def nothing_asked(*_: Any, **__: Any) -> dict[Any, Any]:
    """Next hops of a script have one connection, and it is not for asking."""
    return {}


class Script:
    """A next hop that has one fault at one step.

    Attributes:
        text: for :class:`ehlo.testing.ScriptedServer`.
        delivered: the recipients that it takes responsibility for.
    """

    def __init__(self, step: str, fault: str, *, lmtp: bool, recipients: list[str]) -> None:
        self.step, self.fault = step, fault
        self.lines: list[str] = []
        self.over = False
        self._say("greeting", "220 hop")
        self.lines += ["C: LHLO *"] if lmtp else ["C: EHLO *"]
        self._say("hello", "250 hop")
        self.lines += ["C: MAIL *"]
        mail = self._say("mail", "250 ok")
        taken = []
        for number, recipient in enumerate(recipients, 1):
            if mail and not self.over:
                self.lines += ["C: RCPT *"]
                if self._say(f"rcpt {number}", "250 ok"):
                    taken.append(recipient)
        self.delivered: list[str] = []
        if taken and not self.over:
            self.lines += ["C: DATA"]
            if self._say("data", "354 go"):
                self.lines += ["C..."]
                for _ in taken[: len(taken) if lmtp else 1]:
                    if self._say("content", "250 taken") and not self.over:
                        self.delivered += taken[len(self.delivered) :][: 1 if lmtp else len(taken)]
        if not self.over:
            self.lines += ["C: QUIT", "S: 221 bye", "close"]
        self.text = "\n".join(line for line in self.lines)

    def _say(self, step: str, reply: str) -> bool:
        if self.over:
            return False
        if step != self.step:
            self.lines += [f"S: {reply}"]
            return True
        match self.fault:
            case "4yz":
                self.lines += ["S: 451 4.3.0 not now"]
                self.over = step in ("greeting", "hello")
            case "5yz":
                self.lines += ["S: 554 5.3.0 never"]
                self.over = step in ("greeting", "hello")
            case "421":
                self.lines += ["S: 421 4.3.2 bye", "close"]
                self.over = True
            case "close":
                self.lines += ["close"]
                self.over = True
            case "malformed":
                self.lines += ["S: what is this", "close"]
                self.over = True
            case _:
                self.lines += ["wait"]
                self.over = True
        return False


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("hop", ["smtp", "lmtp"])
@pytest.mark.parametrize("listener", ["smtp", "lmtp"])
def test_a_fault_at_each_step(
    listener: str, hop: str, step: str, fault: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ask_offers", nothing_asked)
    if fault == "time out":
        # The steps before keep their time: a busy machine answers later than one would think.
        timer, seconds = TIMERS[step]
        monkeypatch.setattr(pass_on, "_HOP_SECONDS", {timer: seconds})
    # Behind an LMTP hop an SMTP client has one recipient a transaction: the second RCPT is not asked of the hop.
    alone = listener == "smtp" and hop == "lmtp"
    script = Script(step, fault, lmtp=hop == "lmtp", recipients=TWO[:1] if alone and step != "rcpt 1" else TWO)
    server = ScriptedServer(script.text)
    values = {
        "route": [{"to": f"{hop}:127.0.0.1:{server.port}", "domains": ["d.example"], "tls": "off"}],
        "listener": [{"protocol": listener, "port": 0}],
    }

    async def main() -> dict[str, ehlo.Reply]:
        async with site(loop, values) as (port,), await connect(loop, port, lmtp=listener == "lmtp") as client:
            return await tell(client, "a@b.example", TWO)

    server._thread.start()
    told = run(loop, main)
    server._thread.join()
    for recipient in TWO:
        has_it = recipient in script.delivered
        assert told[recipient].is_positive == has_it, (script.text, told)
    if alone and told[TWO[0]].is_positive:
        assert str(told[TWO[1]]).startswith("452 4.5.3")
    if fault == "5yz" and step in ("mail", "rcpt 1", "data", "content"):
        assert str(told[TWO[0]]) == "554 5.3.0 never"


@pytest.mark.parametrize("loop", LOOPS)
def test_recipients_of_two_ways(loop: str, tmp_path: Path) -> None:
    # RFC 5321 4.5.3.1.10: 452 to the second, and the client sends to it again. LMTP tells each of them its own.
    with SMTPServer() as one, SMTPServer(config=ehlo.ServerConfig("hop.example", lmtp=True)) as two:
        routes = [
            {"to": f"smtp:127.0.0.1:{one.port}", "domains": ["one.example"]},
            {"to": f"lmtp:127.0.0.1:{two.port}", "domains": ["two.example"]},
            {"to": "maildir:mail/{local_part}", "domains": ["three.example"], "recipient_field": "Delivered-To"},
            {"to": "mbox:box", "domains": ["four.example"]},
            {"to": "fail:550 5.1.2 closed down", "domains": ["five.example"]},
        ]
        names = ["a@one.example", "b@one.example", "a@two.example", "a@three.example", "b@three.example"]
        names += ["a@four.example", "b@four.example", "a@five.example", "a@six.example"]
        values = {"route": routes, "listener": [{"port": 0}, {"protocol": "lmtp", "port": 0}]}

        async def main() -> None:
            async with site(loop, values, str(tmp_path)) as (smtp, lmtp):
                async with await connect(loop, smtp) as client:
                    left = list(names)
                    rounds = 0
                    while left:
                        told = await tell(client, "s@b.example", left)
                        assert told["a@five.example"].text == "closed down" if "a@five.example" in left else True
                        left = [name for name in left if str(told[name]).startswith("452 4.5.3")]
                        rounds += 1
                    assert rounds == 5  # one, two, each Maildir, the mbox
                async with await connect(loop, lmtp, lmtp=True) as client:
                    told = await tell(client, "s@b.example", names)
                    good = [name for name in names if told[name].is_positive]
                    assert good == [*names[:2], *names[3:7]]
                    assert str(told["a@two.example"]).startswith("452 4.5.3")  # one next hop at a time
                    told = await tell(client, "s@b.example", names[2:3])
                    assert told["a@two.example"].is_positive
            assert [message.recipients for message in one.messages] == [names[:2]] * 2
            assert [message.recipients for message in two.messages] == [names[2:3]] * 2

        run(loop, main)
    for name in ("a", "b"):
        files = list((tmp_path / "mail" / name / "new").iterdir())
        assert len(files) == 2
        assert f"Delivered-To: {name}@three.example\n".encode() in files[0].read_bytes()
    assert (tmp_path / "box").read_bytes().count(b"\nSubject: hi\n") == 2


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a8_content_of_bdat_goes_on_unchanged(loop: str, protocol: str) -> None:
    content = b"Subject: x\r\n\r\nhel\nlo \r there\r\n"
    hop = ehlo.ServerConfig("hop.example", lmtp=protocol == "lmtp")
    for chunking, bare, kept in (
        (True, "normalize", content),
        (False, "normalize", content.replace(b"l\nl", b"l\r\nl").replace(b"\r t", b"\r\n t")),
        (False, "refuse", None),
    ):
        with SMTPServer(config=hop.replace(chunking=chunking, binarymime=chunking)) as server:
            route = {"to": f"{protocol}:127.0.0.1:{server.port}", "domains": ["d.example"], "bare_newlines": bare}

            async def main(route: dict[str, Any] = route) -> ehlo.Reply:
                config = ehlo.ClientConfig("client.example", newlines="exact")
                adapter: Any = ehlo.trio if loop == "trio" else ehlo.asyncio
                async with (
                    site(loop, {"route": [route]}) as (port,),
                    await adapter.connect("127.0.0.1", port, config=config) as client,
                ):
                    return (await tell(client, "a@b.example", TWO[:1], content))[TWO[0]]

            told = run(loop, main)
            if kept is None:
                assert str(told).startswith("554 5.6.0")
                assert server.messages == []
            else:
                assert told.is_positive
                (message,) = server.messages
                assert message.content.partition(b"\r\nSubject")[2] == kept.partition(b"Subject")[2]


@pytest.mark.parametrize("loop", LOOPS)
def test_c1_c2_offered_is_what_the_way_out_can_do(loop: str) -> None:
    async def offers(route: dict[str, Any], **tables: Any) -> set[str]:
        values = {"route": [route], **tables}
        async with site(loop, values) as (port,), await connect(loop, port) as client:
            return {name for name in ("DSN", "BINARYMIME", "SMTPUTF8") if name in client.capabilities}

    async def main() -> None:
        assert await offers({"to": "discard"}) == {"BINARYMIME", "SMTPUTF8"}
        assert await offers({"to": "mbox:box"}) == {"SMTPUTF8"}
        assert await offers({"to": "discard"}, smtp={"smtputf8": False, "dsn": True}) == {"BINARYMIME", "DSN"}
        full = ehlo.ServerConfig("hop.example")
        for config, found in (
            (full, {"DSN", "BINARYMIME", "SMTPUTF8"}),
            (full.replace(binarymime=False), {"DSN", "SMTPUTF8"}),
            (full.replace(dsn=False, smtputf8=False), {"BINARYMIME"}),
        ):
            with SMTPServer(config=config) as hop:
                assert await offers({"to": f"smtp:127.0.0.1:{hop.port}", "domains": ["d.example"]}) == found

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("body", [None, "8BITMIME"])
def test_content_goes_on_as_it_was_declared(loop: str, body: Any) -> None:
    content = "Subject: x\r\n\r\nä\r\n".encode()
    with SMTPServer() as hop:
        values = {"route": [{"to": f"smtp:127.0.0.1:{hop.port}", "domains": ["d.example"]}]}

        async def main() -> None:
            async with site(loop, values) as (port,), await connect(loop, port) as client:
                for text in (content, CONTENT):
                    await client.send(text, ehlo.Sender("a@b.example", body=body), TWO)

        run(loop, main)
        first, second = hop.messages
    assert first.envelope.sender.body == "8BITMIME"
    assert not first.envelope.smtputf8
    assert second.content.endswith(CONTENT)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_size_that_the_next_hop_takes_is_offered(loop: str) -> None:
    with SMTPServer(config=ehlo.ServerConfig("hop.example", max_message_size=5000)) as hop:
        values = {"route": [{"to": f"smtp:127.0.0.1:{hop.port}", "domains": ["d.example"]}]}

        async def main() -> None:
            async with site(loop, values) as (port,), await connect(loop, port) as client:
                assert client.capabilities.size == 3000
            async with (
                site(loop, values | {"limits": {"max_size": 0}}) as (port,),
                await connect(loop, port) as client,
            ):
                told = await tell(client, "a@b.example", TWO, CONTENT + b"x" * 5000)
                assert str(told[TWO[0]]).startswith("552 5.3.4")
                assert (await tell(client, "a@b.example", TWO))[TWO[1]].is_positive

        run(loop, main)
        assert len(hop.messages) == 1
