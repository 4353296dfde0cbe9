"""`ehlo.mta.Filters`: the name is there without the package behind it; our name in what comes in; the queue's hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripted import ScriptedFilter, frame
from served import Keep, codes, send, serve, talk_to

import ehlo
import ehlo.mta
from backends import Backend
from ehlo.milter.filters import Filters
from ehlo.mta import Selection

CLAIMS = (
    b"Authentication-Results: mx.example; dkim=pass header.d=bank.example\r\n"
    b"authentication-results : MX.example;\r\n spf=pass\r\n"
    b"Authentication-Results: other.example; spf=pass\r\n"
)


def test_the_name_is_lazy() -> None:
    code = "import sys, ehlo.mta; assert 'ehlo.milter' not in sys.modules; ehlo.mta.Filters; 'Filters' in dir(ehlo.mta)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert ehlo.mta.Filters is Filters


def test_fields_that_claim_our_name_never_reach_a_filter(backend: Backend) -> None:
    keep = Keep()
    with ScriptedFilter() as one:
        filters = Filters([one.address], keep, authserv_id="mx.example")
        replies = serve(backend, filters, lambda client: send(client, CLAIMS + b"From: a@b.example\r\n\r\nx\r\n"))
        assert codes(replies[0])[-1] == 250
        names = [payload.partition(b"\0")[0] for payload in one.payloads(b"L")]
        assert names == [b"Authentication-Results", b"From"]
    assert keep.kept[0][2] == CLAIMS.splitlines(keepends=True)[3] + b"From: a@b.example\r\n\r\nx\r\n"


def test_quarantine_goes_to_the_hold_of_the_queue(backend: Backend, tmp_path: Path) -> None:
    async def main() -> None:
        opened = ehlo.mta.open_queue(str(tmp_path), hostname="mx.example", route=lambda recipient: ehlo.mta.Mx())
        async with opened as queue:
            filters = Filters(
                [one.address],
                ehlo.mta.QueueHandler(queue),
                hold=lambda session, envelope, body, why: queue.receive_body(session, envelope, body, hold=why),
            )
            async with filters, await backend.serve(filters, "127.0.0.1", 0) as server:
                port = int(server.addresses[0][1])
                assert (await backend.thread(lambda: talk_to(port, send)))[-1][0] == 250
            [entry] = await queue.spool.entries(Selection(), 10)
            assert (entry.state, entry.reply) == ("held", "a virus, perhaps")

    with ScriptedFilter({b"E": frame(b"q", b"a virus, perhaps\0") + frame(b"c")}) as one:
        backend.run(main)


def test_every_method_of_a_handler_is_called_or_passed_on() -> None:
    names = {name for name in vars(ehlo.Handler) if name.startswith("on_")}
    handler = type("All", (), {name: lambda self, *args: None for name in names - {"on_body"}})()
    assert {name for name in names if hasattr(Filters([], handler), name)} == names - {"on_message"}
