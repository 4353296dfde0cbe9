"""`ehlo serve` with a queue: durable mail, members of aliases, MX, asking the next hop, and a program's own rules."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from site_kit import CONTENT, connect, serving, site, tell

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.mta._rows import HELD
from ehlo.mta._spool import Selection
from ehlo.mta._sqlite_spool import SqliteSpool
from ehlo.testing import SMTPServer
from loops import LOOPS, run, until
from name_server import NameServer

FILTER = """
import ehlo

class Filter(ehlo.Handler):
    def __init__(self, word):
        self.word = word

    def on_rcpt(self, session, recipient):
        return "550 5.7.1 not to him" if recipient.path.local_part == "nobody" else None

    def on_message(self, session, envelope, content):
        return "550 5.7.1 spam" if self.word.encode() in content else None
"""


def kept(folder: Path, name: str) -> list[bytes]:
    new = folder / "mail" / name / "new"
    return [file.read_bytes() for file in new.iterdir()] if new.exists() else []


def tables(**changes: Any) -> dict[str, Any]:
    local = {"domains": ["example.org"], "to": "maildir:mail/{local_part}", "recipient_field": "Delivered-To"}
    return {"hostname": "mx.example.org", "queue": {"path": "spool"}, "route": [local]} | changes


@pytest.mark.parametrize("loop", LOOPS)
def test_from_the_client_to_mailboxes_and_by_mx(loop: str, tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("info: jane, joe, x@far.example\nall: info, jane\n")
    records: Any = {"far.example": {"MX": ["10 mx.far.example."]}, "mx.far.example": {"A": ["127.0.0.1"]}}
    with SMTPServer() as far, NameServer(records) as names:
        routes = tables()["route"] + [
            {"domains": ["gone.example"], "to": "discard"},
            {"from": ["127.0.0.0/8"], "to": "mx", "port": far.port, "tls": "off"},
        ]
        queue = {"path": "spool", "nameserver": f"127.0.0.1:{names.port}"}
        values = tables(route=routes, queue=queue, aliases={"file": "aliases"})

        async def main() -> None:
            async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
                assert "DSN" in client.capabilities
                assert "BINARYMIME" not in client.capabilities
                told = await tell(client, "a@b.example", ["all@example.org", "jane+tag@example.org", "y@gone.example"])
                assert all(str(reply).startswith("250 2.0.0 queued as ") for reply in told.values())
                await until(lambda: kept(tmp_path, "jane") and kept(tmp_path, "joe") and far.messages)

        run(loop, main)
        assert [message.recipients for message in far.messages] == [["x@far.example"]]
    assert len(kept(tmp_path, "jane")) == 1  # named three times: one copy
    (octets,) = kept(tmp_path, "joe")
    assert octets.startswith(b"Return-Path: <a@b.example>\nDelivered-To: joe@example.org\nReceived: ")
    assert octets.endswith(CONTENT.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("loop", LOOPS)
def test_an_mbox_and_a_message_that_is_held(loop: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ehlo.mta")
    routes = [{"domains": ["a.example"], "to": "mbox:boxes/{local_part}"}, {"domains": ["b.example"], "to": "hold"}]

    async def main() -> None:
        async with site(loop, tables(route=routes), str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["jane@a.example", "joe@b.example"])
            assert all(reply.is_positive for reply in told.values())
            await until((tmp_path / "boxes" / "jane").exists)

    run(loop, main)
    assert b"Subject: hi\n" in (tmp_path / "boxes" / "jane").read_bytes()
    lines: list[Any] = [record.msg for record in caplog.records]
    told = {line.event: line.fields for line in lines if hasattr(line, "event")}
    assert told["delivered"]["host"] == str(tmp_path / "boxes" / "jane")
    assert "host" not in told["held"]  # there is none


class Hop(ehlo.Handler):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        self.asked.append(str(recipient.path))
        answers = {"gone": "550 5.1.1 gone", "full": "452 4.2.2 full", "secret": "530 5.7.0 log in"}
        return answers.get(getattr(recipient.path, "local_part", ""))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_ask_the_next_hop(loop: str, protocol: str, tmp_path: Path) -> None:
    hop = Hop()
    with SMTPServer(hop, config=ehlo.ServerConfig("hop.example", lmtp=protocol == "lmtp")) as server:
        to = f"{protocol}:127.0.0.1:{server.port}"
        values = tables(route=[{"domains": ["example.org"], "to": to, "tls": "off", "ask": True}])

        async def main() -> None:
            async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
                names = [f"{name}@example.org" for name in ("jane", "gone", "full", "secret", "joe")]
                told = await tell(client, "a@b.example", names)
                assert [told[name].code for name in names] == [250, 550, 452, 450, 250]
                assert told[names[1]].text == "gone"
                await until(lambda: len(server.messages) == 1)
                before = len(hop.asked)
                await tell(client, "a@b.example", names[:1])  # it is believed for an hour
                await until(lambda: len(server.messages) == 2)
                assert len(hop.asked) == before + 1

        run(loop, main)
        assert sorted(server.messages[0].recipients) == ["jane@example.org", "joe@example.org"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_a_filter_in_front(loop: str, queued: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rules.py").write_text(FILTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_rules", raising=False)
    values = tables(handler={"use": "own_rules:Filter", "options": {"word": "BUY"}})
    if not queued:
        del values["queue"]

    async def main() -> None:
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["nobody@example.org", "jane@example.org", "x@far.example"])
            assert [reply.code for reply in told.values()] == [550, 250, 550]
            told = await tell(client, "a@b.example", ["jane@example.org"], CONTENT + b"BUY\r\n")
            assert str(told["jane@example.org"]) == "550 5.7.1 spam"
            await tell(client, "a@b.example", ["jane@example.org"])
            await until(lambda: len(kept(tmp_path, "jane")) == 2)

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_for_a_route_that_now_discards_is_held(loop: str, tmp_path: Path) -> None:
    def reasons() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "spool" / "queue.db")) as db:
            return [reply for (reply,) in db.execute("SELECT reply FROM recipient WHERE owner = -1")]

    async def main() -> None:
        values = tables(route=[{"domains": ["a.example"], "to": "hold"}])
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            await tell(client, "a@b.example", ["jane@a.example"])
            await until(reasons)
        values["route"][0]["to"] = "discard"
        async with site(loop, values, str(tmp_path)):
            async with SqliteSpool(tmp_path / "spool", administers=True) as administrator:
                await administrator.unhold(Selection(), time.time())
            await until(lambda: any("throws new mail away" in one for one in reasons()))

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_for_a_route_that_now_fails_is_returned(loop: str, tmp_path: Path) -> None:
    def states() -> list[int]:
        with closing(sqlite3.connect(tmp_path / "spool" / "queue.db")) as db:
            return [owner for (owner,) in db.execute("SELECT owner FROM recipient")]

    async def main() -> None:
        values = tables(route=[*tables()["route"], {"domains": ["a.example"], "to": "hold"}])
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            await tell(client, "jane@example.org", ["joe@a.example"])
            await until(lambda: states() == [HELD])
        values["route"][1]["to"] = "fail:550 5.1.2 closed down"
        async with SqliteSpool(tmp_path / "spool", administers=True) as administrator:
            await administrator.unhold(Selection(), time.time())
        async with site(loop, values, str(tmp_path)):
            await until(lambda: kept(tmp_path, "jane"))

    run(loop, main)
    (bounce,) = kept(tmp_path, "jane")
    assert b"550 5.1.2 closed down" in bounce


@pytest.mark.parametrize("loop", LOOPS)
def test_a_queue_that_cannot_be_opened(loop: str, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")

    async def main() -> None:
        async with site(loop, tables(), str(tmp_path)):
            raise AssertionError

    with pytest.raises(Exception, match="queue cannot be opened: "):
        run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_fails_behind_the_queue_is_one_clear_error(loop: str, tmp_path: Path) -> None:
    """The tasks of the queue wrap no error that stops the start."""
    (tmp_path / "rates").write_bytes(b"something else" * 100)
    rates = {"network_messages": 5, "file": "rates"}

    async def main() -> None:
        async with site(loop, tables(rates=rates), str(tmp_path)):
            raise AssertionError

    with pytest.raises(UsageError, match=r"rates\.file .* is not a database"):
        run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("hop", ["smtp", "lmtp"])
@pytest.mark.parametrize("listener", ["smtp", "lmtp"])
def test_a2_one_is_taken_and_one_refused(loop: str, listener: str, hop: str, tmp_path: Path) -> None:
    # The client is told 250 for both, once. The one is delivered once, and for the other its sender gets a bounce.
    with SMTPServer(Hop(), config=ehlo.ServerConfig("hop.example", lmtp=hop == "lmtp")) as server:
        routes = [
            {"domains": ["far.example"], "to": f"{hop}:127.0.0.1:{server.port}", "tls": "off"},
            *tables()["route"],
        ]
        values = tables(route=routes, listener=[{"protocol": listener, "port": 0}])

        async def main() -> None:
            async with (
                site(loop, values, str(tmp_path)) as (port,),
                await connect(loop, port, lmtp=listener == "lmtp") as client,
            ):
                told = await tell(client, "jane@example.org", ["c@far.example", "gone@far.example"])
                assert {str(reply)[:20] for reply in told.values()} == {"250 2.0.0 queued as "}
                await until(lambda: server.messages and kept(tmp_path, "jane"))

        run(loop, main)
        assert [message.recipients for message in server.messages] == [["c@far.example"]]
    (bounce,) = kept(tmp_path, "jane")
    assert bounce.startswith(b"Return-Path: <>\n")
    assert b"gone@far.example" in bounce
    assert b"550 5.1.1 gone" in bounce


@pytest.mark.parametrize("loop", LOOPS)
def test_servers_on_unix_sockets_with_a_password(loop: str, tmp_path: Path) -> None:
    class Agent(ehlo.Handler):
        def __init__(self) -> None:
            self.got: list[bytes] = []

        def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
            assert isinstance(credentials, ehlo.PasswordCredentials)
            return credentials.check("secret")

        def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            assert session.identity == "us"
            self.got.append(content)

    (tmp_path / "password").write_text("secret\n")
    relay, agent = Agent(), Agent()
    config = ehlo.ServerConfig("hop.example", auth=["PLAIN"], auth_in_clear=["PLAIN"], require_auth=True)
    login = {"user": "us", "password_file": "password", "tls": "off"}
    routes: list[dict[str, Any]] = [
        {"domains": ["a.example"], "to": "smtp:unix:smtp", **login},
        {"domains": ["b.example"], "to": "lmtp:unix:lmtp", **login},
    ]

    async def main() -> None:
        async with (
            serving(loop, relay, config=config, path=str(tmp_path / "smtp")),
            serving(loop, agent, config=config.replace(lmtp=True), path=str(tmp_path / "lmtp")),
        ):
            for number, values in enumerate((tables(route=routes), {"route": routes}), 1):
                async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
                    for name in ("x@a.example", "x@b.example"):
                        told = await tell(client, "a@b.example", [name])
                        assert told[name].is_positive, told
                    await until(partial(lambda n: len(relay.got) == len(agent.got) == n, number))

    run(loop, main)


class Nobody(ehlo.Handler):
    """A server that knows nobody."""

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str:
        return "550 5.1.1 no"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("sender", "mailbox"), [("info@example.org", "jane"), ("jane+tag@example.org", "jane"), ("no@example.org", None)]
)
def test_a_bounce_goes_where_mail_to_the_sender_goes(
    loop: str, sender: str, mailbox: str | None, tmp_path: Path
) -> None:
    # It must not lie in a mailbox that nobody reads: behind an alias, with a tag, or of nobody at all.
    (tmp_path / "aliases").write_text("info: jane\n")
    (tmp_path / "recipients").write_text("jane\n")
    with SMTPServer(Nobody()) as far:
        local = tables()["route"][0] | {"recipients": "recipients"}
        hop = {"domains": ["far.example"], "to": f"smtp:127.0.0.1:{far.port}"}
        values = tables(route=[local, hop], aliases={"file": "aliases"})

        async def main() -> None:
            async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
                (reply,) = (await tell(client, sender, ["x@far.example"])).values()
                assert reply.code == 250
                (reply,) = (await tell(client, "jane@example.org", ["x@far.example"])).values()
                assert reply.code == 250
                await until(lambda: len(kept(tmp_path, "jane")) == (1 if mailbox is None else 2))

        run(loop, main)
    assert [folder.name for folder in (tmp_path / "mail").iterdir()] == ["jane"]
