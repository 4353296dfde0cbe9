"""[[filter]] of `ehlo serve`: which listeners, a filter that is down, changes of the envelope, the queue's hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from site_kit import CONTENT, connect, site, tell

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.settings import read_settings
from ehlo.cli._serve.site import Site
from ehlo.testing import SMTPServer
from loops import LOOPS, run

sys.path.insert(0, str(Path(__file__).parents[2] / "milter"))
from scripted import ScriptedFilter, frame

CLAIMS = b"Authentication-Results: mx.example;\r\n dkim=pass header.d=bank.example\r\n"


def tables(folder: Path, *filters: dict[str, Any], queued: bool = True, **changes: Any) -> dict[str, Any]:
    local = {"domains": ["example.org"], "to": f"maildir:{folder}/mail/{{local_part}}"}
    values = {
        "filter": list(filters),
        "route": [local],
        **({"queue": {"path": str(folder / "spool")}} if queued else {}),
    }
    return values | changes


async def mail_of(folder: Path, name: str, count: int = 1) -> list[str]:
    """The mailbox, as soon as it has so many messages."""
    new = folder / "mail" / name / "new"
    while not new.exists() or len(list(new.iterdir())) < count:  # noqa: ASYNC110
        await anyio.sleep(0.005)
    return [file.read_text() for file in new.iterdir()]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_two_filters_in_order_and_claims_are_gone(loop: str, queued: bool, tmp_path: Path) -> None:
    added = frame(b"h", b"Authentication-Results\0mx.example; spf=pass\0") + frame(b"c")

    async def main() -> None:
        filters = ({"milter": one.address}, {"milter": "unix:two"})
        values = tables(tmp_path, *filters, queued=queued)
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["jane@example.org", "joe@far.example"], CLAIMS + CONTENT)
            assert [reply.code for reply in told.values()] == [250, 550]
            [text] = await mail_of(tmp_path, "jane")
            assert text.count("Authentication-Results:") == 1
            assert "Authentication-Results:mx.example; spf=pass\n" in text.replace(": mx", ":mx")

    with ScriptedFilter({b"E": added}) as one, ScriptedFilter(path=tmp_path / "two") as two:
        run(loop, main)
        assert one.macros(b"M")["{mail_addr}"] == "a@b.example"
        assert one.macros(b"C")["{daemon_name}"] == "smtp"
    heard = [payload.partition(b"\0")[0] for payload in one.payloads(b"L")]
    assert b"Authentication-Results" not in heard
    assert b"Authentication-Results" in [payload.partition(b"\0")[0] for payload in two.payloads(b"L")]


@pytest.mark.parametrize("loop", LOOPS)
def test_claims_are_gone_without_a_filter_too_and_stay_in_lmtp(loop: str, tmp_path: Path) -> None:
    values = tables(tmp_path, authserv_id="MX.example", queued=False)
    values["listener"] = [{"port": 0}, {"port": 0, "protocol": "lmtp"}]

    async def main() -> None:
        async with site(loop, values | {"hostname": "host.example"}) as (smtp, lmtp):
            async with await connect(loop, smtp) as client:
                await tell(client, "a@b.example", ["jane@example.org"], CLAIMS + CONTENT)
            async with await connect(loop, lmtp, lmtp=True) as client:
                await tell(client, "a@b.example", ["joe@example.org"], CLAIMS + CONTENT)
        assert "bank" not in (await mail_of(tmp_path, "jane"))[0]
        assert "bank" in (await mail_of(tmp_path, "joe"))[0]

    run(loop, main)


@pytest.mark.parametrize("when_down", ["accept", "tempfail"])
def test_a_filter_that_is_down_and_one_for_another_listener(when_down: str, tmp_path: Path) -> None:
    down = {"milter": "unix:nobody", "when_down": when_down, "listeners": ["smtp"]}
    values = tables(tmp_path, down, queued=False)
    values["listener"] = [{"port": 0}, {"port": 0, "protocol": "lmtp"}]

    async def main() -> None:
        async with site("asyncio", values, str(tmp_path)) as (smtp, lmtp):
            async with await connect("asyncio", smtp) as client:
                told = await tell(client, "a@b.example", ["jane@example.org"])
            async with await connect("asyncio", lmtp, lmtp=True) as client:
                assert (await tell(client, "a@b.example", ["jane@example.org"]))["jane@example.org"].code == 250
        assert told["jane@example.org"].code == (250 if when_down == "accept" else 451)

    run("asyncio", main)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_next_hop_gets_the_envelope_that_the_filters_left(loop: str, tmp_path: Path) -> None:
    # Without a queue the next hop hears MAIL and RCPT before the filters have said their last word.
    changes = frame(b"e", b"<new@b.example>\0") + frame(b"-", b"<c@far.example>\0") + frame(b"+", b"<e@far.example>\0")

    async def main() -> None:
        to = f"smtp:127.0.0.1:{hop.port}"
        values = tables(
            tmp_path,
            {"milter": one.address},
            queued=False,
            route=[{"domains": ["far.example"], "to": to, "tls": "off"}],
        )
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["c@far.example", "d@far.example"])
            assert told["d@far.example"].code == 250

    with SMTPServer() as hop, ScriptedFilter({b"E": changes + frame(b"c")}) as one:
        run(loop, main)
        [message] = hop.messages
        assert (message.sender, message.recipients) == ("new@b.example", ["d@far.example", "e@far.example"])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_a_recipient_that_a_filter_refuses_gets_nothing(loop: str, queued: bool, tmp_path: Path) -> None:
    async def main() -> None:
        values = tables(tmp_path, {"milter": one.address}, queued=queued)
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["jane@example.org"])
            assert told["jane@example.org"].code == 451
            one.answers.clear()
            told = await tell(client, "a@b.example", ["joe@example.org"])
            assert told["joe@example.org"].code == 250
        await mail_of(tmp_path, "joe")
        assert not (tmp_path / "mail" / "jane").exists()

    with ScriptedFilter({b"R": frame(b"t")}) as one:
        run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_recipient_that_a_filter_adds_goes_by_aliases(
    loop: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "aliases").write_text("archive: joe, bob\n")

    async def main() -> None:
        values = tables(tmp_path, {"milter": one.address}, aliases={"file": "aliases"})
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["jane@example.org"])
            assert told["jane@example.org"].code == 250
            for name in ("jane", "joe", "bob"):
                await mail_of(tmp_path, name)
            one.answers[b"E"] = frame(b"+", b"<x@nowhere.example>\0") + frame(b"c")
            told = await tell(client, "a@b.example", ["jane@example.org"])
            assert told["jane@example.org"].code == 451

    with ScriptedFilter({b"E": frame(b"+", b"<archive@example.org>\0") + frame(b"c")}) as one:
        run(loop, main)
    assert "a filter added <x@nowhere.example>, and no route takes it: " in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_quarantine(loop: str, queued: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ehlo.mta")

    async def main() -> None:
        values = tables(tmp_path, {"milter": one.address}, queued=queued)
        async with site(loop, values, str(tmp_path)) as (port,), await connect(loop, port) as client:
            told = await tell(client, "a@b.example", ["jane@example.org"])
            assert told["jane@example.org"].code == (250 if queued else 451)
            one.answers.clear()
            told = await tell(client, "a@b.example", ["joe@example.org"])
            assert told["joe@example.org"].code == 250
            await mail_of(tmp_path, "joe")
        assert not (tmp_path / "mail" / "jane").exists()

    with ScriptedFilter({b"E": frame(b"q", b"a virus, perhaps\0") + frame(b"c")}) as one:
        run(loop, main)
    if queued:
        import ehlo.mta

        async def look() -> None:
            async with ehlo.mta.open_queue(
                str(tmp_path / "spool"), hostname="x.example", route=lambda one: ehlo.mta.Mx()
            ) as q:
                [entry] = await q.spool.entries(ehlo.mta.Selection(), 10)
                assert (entry.state, entry.reply, entry.recipient.path) == (
                    "held",
                    "a virus, perhaps",
                    "jane@example.org",
                )

        run("asyncio", look)
        lines: list[Any] = [record.msg for record in caplog.records]
        [held] = [line for line in lines if getattr(line, "event", "") == "held"]
        assert held.fields == {"to": ["jane@example.org"], "reason": "a virus, perhaps"}


@pytest.mark.parametrize("loop", LOOPS)
def test_the_log_names_the_filter_that_refused(loop: str, tmp_path: Path) -> None:
    refusals: list[dict[str, Any]] = []

    def watch(event: str, fields: dict[str, Any]) -> None:
        if event == "refused":
            refusals.append(fields)

    async def main() -> None:
        values = tables(tmp_path, {"milter": one.address}, {"milter": two.address})
        async with site(loop, values, str(tmp_path), watch=watch) as (port,), await connect(loop, port) as client:
            for filtering, answers in ((two, {b"R": frame(b"r")}), (one, {b"E": frame(b"t")})):
                filtering.answers.update(answers)
                await tell(client, "a@b.example", ["jane@example.org"])
                filtering.answers.clear()
            await tell(client, "a@b.example", ["x@nowhere.example"])

    with ScriptedFilter() as one, ScriptedFilter() as two:
        run(loop, main)
        names = [two.address, one.address, None]
    assert [fields["command"] for fields in refusals] == ["RCPT", "BDAT", "RCPT"]
    assert [fields.get("filter") for fields in refusals] == names


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_mail_that_filters_throw_away_is_in_the_log(loop: str, queued: bool, tmp_path: Path) -> None:
    told_of: list[dict[str, Any]] = []

    def watch(event: str, fields: dict[str, Any]) -> None:
        if event == "discarded":
            told_of.append(fields)

    async def main() -> None:
        values = tables(tmp_path, {"milter": one.address}, queued=queued)
        async with (
            site(loop, values, str(tmp_path), watch=watch) as (port,),
            await connect(loop, port) as client,
        ):
            for answers in (
                {b"E": frame(b"d")},
                {b"R": frame(b"d")},
                {b"E": frame(b"-", b"<jane@example.org>\0") + frame(b"c")},
            ):
                one.answers.clear()
                one.answers.update(answers)
                told = await tell(client, "a@b.example", ["jane@example.org"])
                assert told["jane@example.org"].code == 250
        assert not (tmp_path / "mail" / "jane").exists()

    with ScriptedFilter() as one:
        run(loop, main)
        thrown = f"filter {one.address} threw it away"
    assert [fields["reason"] for fields in told_of] == [thrown, thrown, "filters removed every recipient"]
    for fields in told_of:
        assert (fields["sender"], fields["to"], fields["recipients"]) == ("<a@b.example>", ["<jane@example.org>"], 1)
        assert fields["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, r"\[\[filter\]\] 1: milter is missing"),
        ({"milter": "/run/x"}, r'\[\[filter\]\] 1: milter is "unix:PATH" or "inet:HOST:PORT"'),
        ({"milter": "inet:nobody"}, "is no filter's address"),
        ({"milter": "unix:x", "listeners": ["submision"]}, "listeners has 'submision': did you mean submission?"),
        ({"milter": "unix:x", "macros": {"mial": ["i"]}}, "'mial' is no stage of a filter"),
    ],
)
def test_wrong_settings(table: dict[str, Any], text: str, tmp_path: Path) -> None:
    values = tables(tmp_path, table) | {"hostname": "mx.example", "listener": [{"port": 0}]}
    with pytest.raises(UsageError, match=text):
        Site.open(read_settings(values, str(tmp_path)))
