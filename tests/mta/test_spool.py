"""What every spool must do, on every engine and loop."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import ehlo
from ehlo.mta import _sqlite_store
from ehlo.mta._journal import Journal, alone
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._schema import LATEST
from ehlo.mta._selection import dropped, keys, redirected
from ehlo.mta._spool import Changed, NotOwned, Selection, SpoolError, Suspension
from ehlo.mta._sqlite_spool import SqliteSpool
from ehlo.mta._store import Accept, Finish
from loops import run, until

NOW = 1_700_000_000.0
BUSY = ehlo.Reply(451, "4.2.1", "try later")
OK = ehlo.Reply(250, "2.0.0", "ok")
Make = Callable[[], Any]


def message(spool: Any, content: bytes = b"text", **fields: Any) -> Message:
    return Message(spool.new_id(), "a@b.example", NOW, len(content), **fields)


def recipient(spool: Any, path: str = "c@d.example", **fields: Any) -> Recipient:
    return Recipient(spool.new_id(), path, due=NOW, **fields)


async def finish(spool: Any, about: Message, outcomes: list[Outcome], notices: Any = ()) -> None:
    assert await finished(spool, about, outcomes, notices) is None


async def begin(spool: Any, about: Message, rows: list[Recipient]) -> None:
    counted = spool.begun(about, rows)
    if counted is not None:
        await counted


def kill(spool: Any) -> None:
    """It goes as with kill -9: the server and the kernel end its sessions and its locks, and nothing else."""
    if hasattr(spool, "folder"):
        spool._listener.close()
        spool._unlock()
    else:
        spool._alive.stop()
    if spool._journal is not None:
        spool._journal.close()
    spool._committer.close()
    spool._store._connection.close()


async def finished(spool: Any, about: Message, outcomes: list[Outcome], notices: Any = ()) -> BaseException | None:
    event, errors = anyio.Event(), []

    def done(error: BaseException | None) -> None:
        errors.append(error)
        event.set()

    spool.finish(about, outcomes, notices, done)
    await event.wait()
    [error] = errors
    return error


def test_what_is_accepted_is_there_after_a_restart(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            one = message(
                spool,
                b"x" * 10,
                eight_bit=True,
                utf8_header=True,
                body="8BITMIME",
                smtputf8=True,
                ret="HDRS",
                envid="é+1",
                priority=-3,
                requiretls=True,
                hello="h",
                peer="192.0.2.1",
                parameters=(("BY", "120;R"), ("X-NEW", None)),
            )
            to = recipient(
                spool, notify=frozenset({"NEVER"}), orcpt=("rfc822", "o@d.example"), parameters=(("X", "1"),)
            )
            await spool.accept(one, [to, recipient(spool, "e@f.example")], b"x" * 10, True)
            assert await spool.claim(NOW, 10) == []
        async with make() as spool:
            [(again, recipients)] = await spool.claim(NOW, 10)
            for name in set(Message.__slots__) - {"owner"}:
                assert getattr(again, name) == getattr(one, name), name
            assert len(recipients) == 2
            same = next(each for each in recipients if each.id == to.id)
            for name in Recipient.__slots__:
                assert getattr(same, name) == getattr(to, name), name
            assert await spool.read(again) == b"x" * 10
            assert await spool.claim(NOW, 10) == []

    run(loop, main)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("octets", [100, 262144, 262145, 1_000_000])
def test_contents_of_any_size_and_nothing_is_left_of_them(loop: str, make: Make, octets: int, streamed: bool) -> None:
    async def main() -> None:
        content = os.urandom(1000) * (octets // 1000) + b"y" * (octets % 1000)
        async with make() as spool:
            one, to = message(spool, content), recipient(spool)
            given: Any = content
            if streamed:
                given = await spool.stage()
                for at in range(0, octets, 70000):
                    await given.write(content[at : at + 70000])
            await spool.accept(one, [to], given, True)
        async with make() as spool:
            [(again, [one_recipient])] = await spool.claim(NOW, 10)
            read = await spool.read(again)
            if not isinstance(read, bytes):
                read = b"".join([chunk async for chunk in read()])
            assert read == content
            assert await spool.head(again, 50) == content[:50]
            await finish(spool, again, [Outcome(one_recipient, "relayed", OK)])
            assert (await spool.totals()).messages == 0
            assert await spool.verify(repair=False) == []
            if isinstance(spool, SqliteSpool):
                assert list((spool.folder / "bodies").iterdir()) == []

    run(loop, main)


def test_outcomes_and_their_notification_are_one(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            one = message(spool)
            rows = [recipient(spool, f"{name}@d.example") for name in "abcd"]
            await spool.accept(one, rows, b"text", True)
            report, to = Message(spool.new_id(), "", NOW, 6), recipient(spool, "a@b.example")
            rows[1].attempts = 1
            outcomes = [
                Outcome(rows[0], "failed", ehlo.Reply(550, "5.1.1", "no")),
                Outcome(rows[1], "deferred", BUSY, "mx", due=NOW + 60),
                Outcome(rows[2], "held", BUSY),
                Outcome(rows[3], "postponed", BUSY, due=NOW + 30),
            ]
            await finish(spool, one, outcomes, [(report, [to], b"report")])
            assert await spool.next_due() == NOW + 30
            totals = await spool.totals()
            assert (totals.ready, totals.owned, totals.held, totals.messages) == (2, 1, 1, 2)
            [(_, [due])] = await spool.claim(NOW + 60, 1)
            assert due.id == rows[3].id
            [entry] = await spool.entries(Selection(recipient="B@d.example"))
            assert (entry.reply, entry.host, entry.recipient.attempts) == (str(BUSY), "mx", 1)
            assert entry.first_reply == str(BUSY)
        async with make() as spool:
            assert {one.id for one, _ in await spool.claim(NOW, 9)} >= {report.id}

    run(loop, main)


def test_an_operation_that_breaks_a_constraint_fails_alone(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            first = message(spool)
            await spool.accept(first, [recipient(spool)], b"text", False)
            errors: list[SpoolError] = []

            async def submit(one: Message) -> None:
                try:
                    await spool.accept(one, [recipient(spool)], b"text", False)
                except SpoolError as exc:
                    errors.append(exc)

            async with anyio.create_task_group() as group:
                for at in range(64):
                    group.start_soon(submit, first if at == 20 else message(spool))
            assert len(errors) == 1
            assert (await spool.totals()).messages == 64
            assert spool._committer.groups < 40

    run(loop, main)


def test_a_message_whose_accept_is_cancelled_is_not_queued(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            for octets in (10, 300_000):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await spool.accept(message(spool), [recipient(spool)], b"x" * octets, True)
        async with make() as spool:
            assert (await spool.totals()).messages == 0
            assert await spool.verify(repair=False) == []

    run(loop, main)


def test_an_administrator_changes_what_is_chosen(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            for at in range(20):
                await spool.accept(message(spool), [recipient(spool, f"u{at}@d{at % 2}.example")], b"t", at >= 16)
            chosen = Selection(domain="D0.example")
            assert (await spool.count(chosen)).recipients == 8
            assert (await spool.count(chosen)).busy == 2
            assert (await spool.hold(chosen, "reason")).recipients == 8
            assert (await spool.totals()).held == 8
            assert [(one.key, one.recipients) for one in await spool.summary("domain", NOW, Selection())] == [
                ("d0.example", 10),
                ("d1.example", 10),
            ]
            for by in ("route", "sender", "age", "reply", "state"):
                assert sum(one.recipients for one in await spool.summary(by, NOW, Selection())) == 20
            assert (await spool.unhold(chosen, NOW + 5)).recipients == 8
            assert (await spool.redirect(Selection(recipient="u1@d1.example"), "n@e.example", NOW)).recipients == 1
            [entry] = await spool.entries(Selection(recipient="n@e.example"))
            assert entry.recipient.orcpt == ("rfc822", "u1@d1.example")
            assert (await spool.drop(Selection(state="ready", domain="d1.example"))).recipients == 7
            assert (await spool.totals()).messages == 13
            taken = await spool.claim(NOW + 9, 100)
            assert len(taken) == 9
            await spool.release(taken)
            assert (await spool.totals()).ready == 9
            rule = Suspension("mx.example", NOW, "why", NOW)
            await spool.suspend(rule)
            assert await spool.suspensions() == [rule]
            assert await spool.resume("mx.example")
            assert len(await spool.nodes()) == 1

    run(loop, main)


@pytest.mark.parametrize("killed", [True, False])
def test_nobody_owns_what_a_process_that_is_gone_left(loop: str, make: Make, killed: bool) -> None:
    async def main() -> None:
        spool = make()
        await spool.open()
        for octets in (b"text", b"more"):
            await spool.accept(message(spool, octets), [recipient(spool)], octets, True)
        spool.note_route("r", NOW, "no answer")
        await spool.next_due()  # behind the note
        where = {"folder": spool.folder} if isinstance(spool, SqliteSpool) else {"url": spool._postgres.url}
        administrator = type(spool)(**where, administers=True)
        administrator._store._clock = clock = FakeMonotonic()
        clock.wall = time.time()
        async with administrator:
            assert [one.state for one in await administrator.entries(Selection())] == ["owned", "owned"]
            assert (await administrator.hold(Selection(), "look")).busy == 2
            if killed:
                kill(spool)
            else:
                await spool.close()
            clock.wall += 31  # after so long a node is dead, if it is not known that its process is gone
            found = await administrator.entries(Selection(state="ready"))
            assert [(one.state, one.owner) for one in found] == [("ready", None), ("ready", None)]
            assert await administrator.entries(Selection(state="owned")) == []
            totals = await administrator.totals()
            assert (totals.ready, totals.owned, totals.held) == (2, 0, 0)
            assert [one.key for one in await administrator.summary("state", NOW, Selection())] == ["ready"]
            assert await administrator.count(Selection()) == Changed(2, 0)
            assert await administrator.dead_routes() == []
            # It may be changed, and ended with a notification.
            assert await administrator.hold(Selection(messages=[found[0].message.id]), "look") == Changed(1, 0)
            report = Message(administrator.new_id(), "", NOW, 6)
            notices = [(report, [recipient(administrator)], b"report")]
            await finish(administrator, found[1].message, [Outcome(found[1].recipient, "failed", BUSY)], notices)
            totals = await administrator.totals()
            assert (totals.ready, totals.owned, totals.held) == (1, 0, 1)
        async with make() as again:
            assert [about.id for about, _ in await again.claim(NOW, 10)] == [report.id]

    run(loop, main)


def test_what_the_journal_has_is_not_delivered_again(loop: str, make_with_journal: Make) -> None:
    async def main() -> None:
        spool = make_with_journal()
        await spool.open()
        one, rows = message(spool), [recipient(spool), recipient(spool)]
        await spool.accept(one, rows, b"text", True)
        spool._journal.end(one.id, [rows[0].id], [])
        await spool.close()
        async with make_with_journal() as again:
            [(_, left)] = await again.claim(NOW, 10)
            assert [each.id for each in left] == [rows[1].id]

    run(loop, main)


def test_a_spool_knows_when_it_was_last_written_by_the_clock_of_that_time(loop: str, make: Make) -> None:
    async def main() -> None:
        clock = FakeMonotonic()
        noted = [0.0]
        for wall in (NOW, NOW + 59, NOW + 61, NOW - 5000, NOW - 5000):
            spool = make()
            spool._store._clock = clock
            async with spool:
                assert spool.last_write == noted[-1]
                clock.wall = wall
                await spool.accept(message(spool), [recipient(spool)], b"text", True)
            noted.append(wall if abs(wall - noted[-1]) >= 60 else noted[-1])
        assert noted == [0.0, NOW, NOW, NOW + 61, NOW - 5000, NOW - 5000]

    run(loop, main)


# ---- PostgreSQL alone ----------------------------------------------------------------------------------


def test_two_nodes_share_what_is_due_and_a_dead_one_is_replaced(loop: str, fresh: str) -> None:
    from ehlo.mta._liveness import DEAD, Liveness
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import connect

    async def main() -> None:
        async with PostgresSpool(fresh, node="one") as one, PostgresSpool(fresh, node="two") as two:
            assert one._slot() != two._slot()
            for at in range(10):
                await one.accept(message(one), [recipient(one)], b"text", at >= 5)
            first = await one.claim(NOW, 2)
            second = await two.claim(NOW, 10)
            assert (len(first), len(second)) == (2, 3)
            assert [node.owned for node in await two.nodes()] == [7, 3]
            # The first node stands still for so long that the second one takes its place.
            for each in (one, two):
                each._alive.stop()
                each._alive = None
            clock = FakeMonotonic()
            watcher = Liveness(two._postgres, clock, lambda: None, lambda owner: None)
            watcher._machine = "elsewhere"
            with connect(fresh) as connection, connect(fresh) as standing:
                standing.execute("SELECT pg_advisory_lock(%s, %s)", (0x65686C6F, one._store.owner))
                assert not watcher.beat(connection)
                clock.now += DEAD - 1
                assert not watcher.beat(connection)
                clock.now += 1
                assert watcher.beat(connection)
            assert len(await two.claim(NOW, 10)) == 7
            # What the first node says now has no effect, and no notification of it is stored.
            before = one._store.owner
            report = Message(one.new_id(), "", NOW, 6)
            for (about, [to]), notices in zip(first, ([], [(report, [recipient(one)], b"report")]), strict=True):
                error = await finished(one, about, [Outcome(to, "failed", BUSY)], notices)
                assert isinstance(error, NotOwned)
            totals = await two.totals()
            assert (totals.owned, totals.messages) == (10, 10)
            # It is another node from then on, with another part of the ids.
            assert one._store.owner != before
            again = message(one)
            await one.accept(again, [recipient(one)], b"text", True)
            assert one.owns(again)
            assert not any(one.owns(about) for about, _ in first)
            assert [(node.id, node.owned) for node in await two.nodes()] == [
                (two._store.owner, 10),
                (one._store.owner, 1),
            ]

    run(loop, main)


def test_who_takes_over_from_a_killed_process_knows_what_that_had_delivered(
    loop: str, fresh: str, tmp_path: Path
) -> None:
    from ehlo.mta._liveness import DEAD
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import connect

    async def main() -> None:
        clock = FakeMonotonic()
        killed: Any = PostgresSpool(fresh, node="killed", journal=tmp_path / "journal")
        async with PostgresSpool(fresh, node="two", journal=tmp_path / "journal", clock=clock) as two:
            await killed.open()
            one, rows = message(killed), [recipient(killed) for _ in range(3)]
            await killed.accept(one, rows, b"text", True)
            killed.begun(one, rows[:2])
            killed._journal.end(one.id, [rows[0].id], [])
            kill(killed)
            two._alive.stop()
            with connect(fresh) as connection:
                assert not two._alive.beat(connection)
                clock.now += DEAD
                two._alive._last = clock.now
                assert two._alive.beat(connection)
            two._alive = None
            [(_, left)] = await two.claim(NOW, 10)
            assert {each.id: each.crashes for each in left} == {rows[1].id: 1, rows[2].id: 0}
            with closing(Journal.in_folder(tmp_path / "journal")) as started_again:
                assert started_again.entries() == ([], [])

    run(loop, main)


def test_nobody_takes_over_from_a_killed_process_while_another_one_reads_its_journal(
    loop: str, fresh: str, tmp_path: Path
) -> None:
    from ehlo.mta._liveness import DEAD
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import connect

    async def main() -> None:
        clock = FakeMonotonic()
        killed: Any = PostgresSpool(fresh, node="killed", journal=tmp_path)
        async with PostgresSpool(fresh, node="two", journal=tmp_path, clock=clock) as two:
            await killed.open()
            one, rows = message(killed), [recipient(killed), recipient(killed)]
            await killed.accept(one, rows, b"text", True)
            killed._journal.end(one.id, [rows[0].id], [])
            kill(killed)
            alive, two._alive = two._alive, None
            alive.stop()
            with connect(fresh) as connection:
                assert not alive.beat(connection)
                clock.now += DEAD
                alive._last = clock.now
                with alone(tmp_path), closing(Journal.in_folder(tmp_path)) as restarted:
                    assert restarted.entries() == ([(one.id, rows[0].id)], [])
                    assert not alive.beat(connection)
                # It was killed before it had stored anything.
                assert await two.claim(NOW, 10) == []
                assert alive.beat(connection)
            [(_, left)] = await two.claim(NOW, 10)
            assert [each.id for each in left] == [rows[1].id]

    run(loop, main)


def test_a_process_that_is_stopped_while_it_reads_journals_stops_nobody_else(
    loop: str, fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SIGSTOP it keeps its locks for as long as it likes."""
    from ehlo.mta import _postgres_spool
    from ehlo.mta._liveness import DEAD
    from ehlo.mta._postgres_store import connect

    monkeypatch.setattr(_postgres_spool, "_READS", 0.0)

    async def main() -> None:
        clock = FakeMonotonic()
        killed: Any = _postgres_spool.PostgresSpool(fresh, node="killed")
        await killed.open()
        one, rows = message(killed), [recipient(killed)]
        await killed.accept(one, rows, b"text", True)
        kill(killed)
        with alone(tmp_path) as is_alone:
            assert is_alone
            async with _postgres_spool.PostgresSpool(fresh, node="two", journal=tmp_path, clock=clock) as two:
                alive, two._alive = two._alive, None
                alive.stop()
                with connect(fresh) as connection:
                    for seconds, adopted in ((0.0, False), (2 * DEAD - 1, False), (1.0, True)):
                        clock.now += seconds
                        alive._last = clock.now
                        assert alive.beat(connection) == adopted
                [(_, left)] = await two.claim(NOW, 10)
                assert [each.id for each in left] == [rows[0].id]

    run(loop, main)


def test_a_disk_without_locks_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS without its daemon, for example."""

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(SpoolError, match="cannot be written: No locks available"), alone(tmp_path):
        pass


def test_a_journal_that_cannot_be_stored_is_let_go(loop: str, make_with_journal: Make) -> None:
    async def main() -> None:
        def fail(*arguments: Any) -> None:
            raise SpoolError("it is full")

        spool = make_with_journal()
        spool._learn = fail
        with pytest.raises(SpoolError, match="it is full"):
            await spool.open()
        async with make_with_journal() as again:
            assert again._journal._path.name in ("delivered", "delivered-1")

    run(loop, main)


def test_a_node_that_was_late_gives_back_what_it_owns_and_is_another_one(loop: str, fresh: str) -> None:
    from ehlo.mta._liveness import DEAD, Liveness
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import connect

    async def main() -> None:
        async with PostgresSpool(fresh) as spool:
            assert spool._alive is not None
            spool._alive.stop()
            clock = FakeMonotonic()
            asked: list[int] = []
            spool._alive = alive = Liveness(spool._postgres, clock, lambda: None, asked.append)
            alive.stop = lambda: None  # type: ignore[method-assign]
            owned = message(spool)
            await spool.accept(owned, [recipient(spool)], b"text", True)
            with connect(fresh) as connection:
                alive.beat(connection)
                assert spool.owns(owned)
                clock.now += DEAD - 4
                assert not spool.owns(owned)
                assert await spool.claim(NOW, 10) == []
                before = spool._store.owner
                alive.beat(connection)
                assert asked == [before]
                await spool._call(lambda store: store.become_anew(before))
                await spool._call(lambda store: store.become_anew(before))  # asked again: nothing to do
                assert alive.beat(connection)
            assert not spool.owns(owned)
            [(again, _)] = await spool.claim(NOW, 10)
            assert spool.owns(again)
            assert again.id == owned.id
            assert len(await spool.nodes()) == 1

    run(loop, main)


def test_a_notification_is_not_stored_for_an_outcome_that_is_not(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            about, rows = message(spool), [recipient(spool), recipient(spool)]
            await spool.accept(about, rows, b"text", True)
            await spool._change(lambda db: db.change("DELETE FROM recipient WHERE id = ?", [rows[0].id]))
            report = Message(spool.new_id(), "", NOW, 6)
            outcomes = [Outcome(one, "failed", BUSY) for one in rows]
            error = await finished(spool, about, outcomes, [(report, [recipient(spool)], b"report")])
            assert isinstance(error, NotOwned)
            [(again, [left])] = await spool.claim(NOW, 10)
            assert (again.id, left.id) == (about.id, rows[1].id)

    run(loop, main)


def test_an_administrator_ends_what_nobody_owns(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            for owned in (False, True):
                await spool.accept(message(spool), [recipient(spool)], b"text", owned)
            results = []
            for entry in await spool.entries(Selection()):
                report = Message(spool.new_id(), "", NOW, 6)
                outcomes = [Outcome(entry.recipient, "failed", BUSY)]
                results.append(
                    await finished(spool, entry.message, outcomes, [(report, [recipient(spool)], b"report")])
                )
            assert results[0] is None
            assert isinstance(results[1], NotOwned)
            assert (await spool.totals()).messages == 2

    run(loop, main)


class FakeMonotonic:
    now = 1000.0
    wall = NOW

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    async def wait(self, event: Any, seconds: float) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize("who", ["node", "administrator"])
def test_a_message_goes_with_its_last_recipients_although_two_end_them_at_once(loop: str, fresh: str, who: str) -> None:
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import Postgres, connect

    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%FOR UPDATE%%'"

    async def main() -> None:
        async with PostgresSpool(fresh) as node, PostgresSpool(fresh, administers=True) as administrator:
            one, rows = message(node), [recipient(node), recipient(node)]
            await node.accept(one, rows, b"text", True)
            later = NOW + 1 if who == "administrator" else NOW
            await finish(node, one, [Outcome(each, "deferred", BUSY, due=later) for each in rows])
            await node.claim(NOW, 10)
            done: list[bool] = []

            async def end_the_other() -> None:
                if who == "node":
                    await finish(node, one, [Outcome(rows[1], "relayed", OK)])
                else:
                    await administrator.drop(Selection(recipient="c@d.example"))
                done.append(True)

            with connect(fresh) as other, connect(fresh) as looking:
                async with anyio.create_task_group() as group:
                    with other.transaction():
                        assert dropped(Postgres(other), [(one.id, rows[0].id)], also_owned=True) == []
                        group.start_soon(end_the_other)
                        await until(lambda: bool(done) or looking.execute(waits).fetchone() == (1,))
            totals = await node.totals()
            assert (totals.messages, totals.ready + totals.owned) == (0, 0)

    run(loop, main)


def test_what_an_administrator_changes_is_not_claimed_meanwhile(loop: str, fresh: str) -> None:
    from ehlo.mta._postgres_spool import PostgresSpool
    from ehlo.mta._postgres_store import Postgres, connect

    async def main() -> None:
        async with PostgresSpool(fresh) as node:
            one = message(node)
            await node.accept(one, [recipient(node)], b"text", False)
            with connect(fresh) as other, other.transaction():
                chosen = keys(Postgres(other), Selection(), (0, 0))
                assert await node.claim(NOW, 10) == []
                redirected(Postgres(other), "new@d.example", NOW, chosen)
            [(_, [to])] = await node.claim(NOW, 10)
            assert to.path == "new@d.example"

    run(loop, main)


def test_a_session_that_the_server_ends_is_begun_anew(loop: str, postgres: str) -> None:
    import psycopg

    from ehlo.mta._postgres_spool import PostgresSpool

    async def main() -> None:
        async with PostgresSpool(postgres) as spool:
            for _ in range(3):
                with psycopg.connect(postgres, autocommit=True) as admin:
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'ehlo' AND pid <> pg_backend_pid()"
                    )
                one, to = message(spool), recipient(spool)
                await spool.accept(one, [to], b"text", True)
                await finish(spool, one, [Outcome(to, "relayed", OK)])

    run(loop, main)


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    from ehlo.mta._postgres_spool import PostgresSpool

    async def main() -> None:
        for url in (f"postgresql:///x?host={tmp_path}", "postgresql://:bad:port/x"):
            with pytest.raises(SpoolError, match=r"^the spool in PostgreSQL cannot be opened: ") as raised:
                await PostgresSpool(url).open()
            assert "\n" not in str(raised.value)

    run("asyncio", main)


# ---- SQLite alone --------------------------------------------------------------------------------------


def test_a_look_at_the_lock_keeps_no_process_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    refused = []

    def flock(file: Any, how: int) -> None:
        try:
            real(file, how)
        except BlockingIOError:
            refused.append(how & ~fcntl.LOCK_NB)
            real(looking, fcntl.LOCK_UN)
            raise

    async def main() -> None:
        async with SqliteSpool(tmp_path, reserve=0) as spool:
            assert [node.pid for node in await spool.nodes()] == [os.getpid()]

    (tmp_path / "lock").write_text("1\n")
    with open(tmp_path / "lock", "rb") as looking:
        real(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(fcntl, "flock", flock)
        run("asyncio", main)
    assert refused[0] == fcntl.LOCK_EX


def test_a_folder_in_use_is_refused_with_the_pid(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with SqliteSpool(tmp_path):
            with pytest.raises(SpoolError, match=f"in use by process {os.getpid()}: stop it first$"):
                await SqliteSpool(tmp_path).open()
            async with SqliteSpool(tmp_path, administers=True) as beside:
                assert (await beside.totals()).messages == 0

    run(loop, main)


_CHILD = """
import os, sys, time
import anyio
from ehlo.mta._model import Message, Recipient
from ehlo.mta._sqlite_spool import SqliteSpool

async def submit(spool, octets):
    while True:
        message = Message(spool.new_id(), "a@b.example", time.time(), octets)
        await spool.accept(message, [Recipient(spool.new_id(), "c@d.example")], b"x" * octets, True)
        os.write(1, b"%20d\\n" % message.id)

async def main():
    async with SqliteSpool(sys.argv[1], reserve=0) as spool, anyio.create_task_group() as group:
        for octets in (100, 100, 5000, 5000, 300000):
            group.start_soon(submit, spool, octets)

anyio.run(main)
"""


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for at in range(8):
        with subprocess.Popen([sys.executable, "-c", _CHILD, tmp_path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            acknowledged.update(int(child.stdout.readline()) for _ in range(5 + 7 * at))
            child.kill()
            acknowledged.update(int(line) for line in child.stdout if line.endswith(b"\n"))

    async def main() -> None:
        async with SqliteSpool(tmp_path, reserve=0) as spool:
            found = await spool.claim(1.0, 100_000)
            assert {one.id for one, _ in found} >= acknowledged
            for one, _ in found:
                content = await spool.read(one)
                octets = len(content) if isinstance(content, bytes) else sum([len(part) async for part in content()])
                assert octets == one.size
            assert [each for each in await spool.verify(repair=False) if each.kind != "orphaned content"] == []

    run("asyncio", main)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("octets", [1000, 300_000])
def test_the_flush_comes_before_the_answer(tmp_path: Path, octets: int) -> None:
    script = _CHILD.replace("while True", "for _ in range(1)").replace("(100, 100, 5000, 5000, 300000)", f"({octets},)")
    log = tmp_path / "calls"
    calls = "trace=fsync,fdatasync,rename,write,pwrite64"
    traced = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", log, sys.executable, "-c", script, tmp_path / "spool"],
        stdout=subprocess.PIPE,
        check=False,
    )
    if traced.returncode:
        pytest.skip("strace may not trace here")
    lines = log.read_text().splitlines()
    answer = next(at for at, line in enumerate(lines) if " write(1<" in line)
    before = lines[:answer]
    commit = max(at for at, line in enumerate(before) if "sync(" in line and "queue.db-wal" in line)
    assert commit > max(at for at, line in enumerate(before) if "pwrite64(" in line and "queue.db-wal" in line)
    if octets > 262144:
        content = next(at for at, line in enumerate(before) if "fsync(" in line and ".tmp>" in line)
        renamed = next(at for at, line in enumerate(before) if " rename(" in line)
        folder = next(at for at, line in enumerate(before) if "fsync(" in line and "/bodies>" in line)
        assert content < renamed < folder < commit


def test_no_content_waits_for_a_collection(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            for _ in range(3):
                one, to = message(spool), recipient(spool)
                await spool.accept(one, [to], b"text", True)
                await finish(spool, one, [Outcome(to, "relayed", OK)])

    gc.collect()
    gc.disable()
    try:
        run(loop, main)
        assert [found for found in gc.get_objects() if type(found) in (Accept, Finish)] == []
    finally:
        gc.enable()


def test_a_deleted_content_is_not_written_once_more(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with SqliteSpool(tmp_path) as spool:
            log, content = tmp_path / "queue.db-wal", os.urandom(200_000)
            one, to = message(spool, content), recipient(spool)
            await spool.accept(one, [to], content, True)
            stored = log.stat().st_size
            assert stored > len(content)
            await finish(spool, one, [Outcome(to, "relayed", OK)])
            assert log.stat().st_size - stored < len(content) / 2

    run(loop, main)


def modes(folder: Path) -> dict[str, int]:
    """Of a spool and all in it."""
    return {file.name: file.stat().st_mode & 0o777 for file in (folder, *folder.rglob("*"))}


def test_nobody_else_reads_the_mail(loop: str, tmp_path: Path) -> None:
    """Whatever the umask is."""
    folder = tmp_path / "spool"

    async def main() -> None:
        async with SqliteSpool(folder) as spool:
            for octets in (5, 500_000):
                stage = await spool.stage()
                await stage.write(b"x" * octets)
                await spool.accept(message(spool), [recipient(spool)], stage, owned=False)
            found = modes(folder)
            assert {"spool", "bodies", "queue.db", "queue.db-wal", "queue.db-shm"} < set(found)
            assert [name for name, mode in found.items() if mode & 0o077] == []

    before = os.umask(0o022)
    try:
        run(loop, main)
    finally:
        os.umask(before)


def test_a_spool_that_others_could_read_is_closed_to_them(loop: str, tmp_path: Path) -> None:
    """Version 0.2.0 left it to the umask. The folder around it may be one of the system, and stays as it is."""

    async def main() -> None:
        async with SqliteSpool(tmp_path):
            pass
        for name, mode in (("", 0o755), ("bodies", 0o755), ("queue.db", 0o644)):
            (tmp_path / name).chmod(mode)
        async with SqliteSpool(tmp_path):
            found = modes(tmp_path)
            assert (found[tmp_path.name], found["bodies"]) == (0o755, 0o750)
            assert {found[name] for name in ("queue.db", "queue.db-wal", "queue.db-shm")} == {0o640}

    run(loop, main)


def test_a_group_that_reads_the_folder_reads_new_contents(loop: str, tmp_path: Path) -> None:
    """Whatever the umask is: SQLite does the same for its files."""

    async def main() -> None:
        async with SqliteSpool(tmp_path):
            pass
        (tmp_path / "bodies").chmod(0o2750)
        async with SqliteSpool(tmp_path) as spool:
            await spool.accept(message(spool), [recipient(spool)], b"x" * 500_000, owned=False)
        [content] = (tmp_path / "bodies").iterdir()
        assert content.stat().st_mode & 0o777 == 0o640

    before = os.umask(0o077)
    try:
        run(loop, main)
    finally:
        os.umask(before)


def test_files_of_another_user_do_not_stop_the_start(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A group may write the queue that another user has made."""

    def fail(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    async def main() -> None:
        async with SqliteSpool(tmp_path):
            pass
        (tmp_path / "queue.db").chmod(0o664)
        monkeypatch.setattr(os, "chmod", fail)
        async with SqliteSpool(tmp_path) as spool:
            await spool.accept(message(spool), [recipient(spool)], b"text", owned=False)
        assert f"others may read {tmp_path / 'queue.db'}" in caplog.text

    run(loop, main)


def test_the_start_ends_no_lock_of_another_connection_of_the_process(loop: str, tmp_path: Path) -> None:
    """POSIX ends all locks of a process on a file when the process closes it once. Without them, another process may
    take the log of the database away while it is in use."""
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b');"
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"  # SQLite's shared range
    )

    async def main() -> None:
        async with SqliteSpool(tmp_path):
            pass
        async with SqliteSpool(tmp_path, administers=True) as administrator:
            await administrator.suspend(Suspension("mx.example", NOW, "why", NOW))
            async with SqliteSpool(tmp_path):
                command = [sys.executable, "-c", program, str(tmp_path / "queue.db")]
                found = await anyio.run_process(command, check=False)
                assert b"BlockingIOError" in found.stderr

    run(loop, main)


def test_who_may_not_open_the_lock_takes_no_process_for_gone(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is its owner's. A group may read the rest."""

    def fail(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    async def main() -> None:
        async with SqliteSpool(tmp_path) as spool:
            await spool.accept(message(spool), [recipient(spool)], b"text", True)
            monkeypatch.setattr(_sqlite_store, "open", fail, raising=False)
            async with SqliteSpool(tmp_path, administers=True) as administrator:
                totals = await administrator.totals()
                assert (totals.ready, totals.owned) == (0, 1)
                assert [(one.state, one.owner) for one in await administrator.entries(Selection())] == [("owned", "?")]
                assert await administrator.hold(Selection(), "look") == Changed(0, 1)
                assert await administrator.nodes() == []

    run(loop, main)


def test_a_newer_spool_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with SqliteSpool(tmp_path):
            pass
        connection = sqlite3.connect(tmp_path / "queue.db")
        with connection:
            connection.execute("UPDATE schema_version SET version = 7")
        connection.close()
        with pytest.raises(SpoolError, match=rf"newer ehlo \(schema 7, this program knows {LATEST}\)"):
            await SqliteSpool(tmp_path).open()

    run("asyncio", main)


@pytest.mark.parametrize(("files", "is_full"), [(0, False), (9, True)])
def test_a_disk_that_counts_no_files_is_not_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, is_full: bool
) -> None:
    """Btrfs is one."""
    disk = SimpleNamespace(f_bavail=1 << 20, f_frsize=4096, f_files=files, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    (tmp_path / "bodies").touch()

    async def main() -> None:
        with pytest.raises(SpoolError, match="cannot be opened: ") as raised:
            await SqliteSpool(tmp_path).open()
        assert str(raised.value).endswith("; its disk is full") == is_full

    run("asyncio", main)


def test_a_full_disk_is_a_temporary_error_and_what_is_there_stays(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with SqliteSpool(tmp_path, reserve=0) as spool:
            kept = message(spool)
            await spool.accept(kept, [recipient(spool)], b"text", False)
            await spool._call(lambda store: store._connection.execute("PRAGMA max_page_count = 40"))
            with pytest.raises(SpoolError) as raised:
                await spool.accept(message(spool), [recipient(spool)], b"x" * 250_000, True)
            assert raised.value.is_temporary
            assert raised.value.reply.code == 452
            [(again, rows)] = await spool.claim(NOW, 10)
            await finish(spool, again, [Outcome(rows[0], "relayed", OK)])

    run(loop, main)


# ---- what a process leaves that is killed ----------------------------------------------------------------


def test_an_attempt_with_which_the_process_ends_is_counted(loop: str, make: Make) -> None:
    async def main() -> None:
        for times in range(1, 4):
            spool = make()
            await spool.open()
            if times == 1:
                one, rows = message(spool), [recipient(spool), recipient(spool)]
                await spool.accept(one, rows, b"text", True)
            else:
                [(one, rows)] = await spool.claim(NOW, 10)
                rows.sort(key=lambda row: row.id)
                assert [row.crashes for row in rows] == [times - 1, 0]
            await begin(spool, one, rows[:1])
            await spool.close()
        async with make() as spool:
            assert (await spool.unhold(Selection(), NOW)).recipients == 0
            [(one, rows)] = await spool.claim(NOW, 10)
            assert max(row.crashes for row in rows) == 3
            await finish(spool, one, [Outcome(row, "held", BUSY) for row in rows])
            await spool.unhold(Selection(), NOW)
            claimed = [row for _, rows in await spool.claim(NOW, 10) for row in rows]
            # An attempt may have delivered the message: so that is known, although the crashes are forgiven.
            assert sorted((row.crashes, row.attempts) for row in claimed) == [(0, 0), (0, 1)]

    run(loop, main)


def test_an_attempt_that_ends_is_not_counted(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            one, rows = message(spool), [recipient(spool), recipient(spool), recipient(spool)]
            await spool.accept(one, rows, b"text", True)
            await begin(spool, one, rows)
            assert {entry.recipient.crashes for entry in await spool.entries(Selection())} <= {0, 1}
            rows[1].crashes = 2  # an error of the program's, for the second time
            outcomes = [Outcome(rows[0], "deferred", BUSY, due=NOW), Outcome(rows[1], "deferred", BUSY, due=NOW)]
            await finish(spool, one, [*outcomes, Outcome(rows[2], "relayed", OK)])
            [(one, rows)] = await spool.claim(NOW, 10)
            assert sorted(row.crashes for row in rows) == [0, 2]

    run(loop, main)


def test_an_attempt_that_cannot_be_counted_is_made(loop: str, fresh: str) -> None:
    from ehlo.mta._postgres_spool import PostgresSpool

    async def main() -> None:
        async with PostgresSpool(fresh) as spool:
            one, rows = message(spool), [recipient(spool)]
            await spool.accept(one, rows, b"text", True)
            await spool._change(lambda db: db.change("ALTER TABLE recipient RENAME COLUMN crashes TO other"))
            await begin(spool, one, rows)
            await spool._change(lambda db: db.change("ALTER TABLE recipient RENAME COLUMN other TO crashes"))

    run(loop, main)


def test_a_delivery_that_is_to_be_notified_is_open_until_both_are_stored(
    loop: str, make_with_journal: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NOTIFY=SUCCESS: the next attempt must look for the message everywhere, since a reader may have moved it
    async def main() -> None:
        async with make_with_journal() as spool:
            one, rows = message(spool), [recipient(spool), recipient(spool)]
            await spool.accept(one, rows, b"text", True)
            spool.begun(one, rows)
            notices = [(Message(spool.new_id(), "", NOW, 6), [recipient(spool)], b"report")]
            with monkeypatch.context() as patch:
                patch.setattr(spool._committer, "put", lambda operation: None)  # the process dies before the commit
                outcomes = [Outcome(rows[0], "delivered", OK), Outcome(rows[1], "deferred", BUSY)]
                spool.finish(one, outcomes, notices, lambda error: None)
        async with make_with_journal() as spool:
            [(one, rows)] = await spool.claim(NOW, 10)
            rows.sort(key=lambda row: row.id)
            assert [row.crashes for row in rows] == [1, 0]
            spool.begun(one, rows)
            await finish(spool, one, [Outcome(rows[0], "delivered", OK), Outcome(rows[1], "relayed", OK)], notices)
            assert spool._journal.entries() == ([], [])

    run(loop, main)


def test_contents_that_nothing_needs_are_removed_at_the_start(loop: str, make: Make) -> None:
    async def main() -> None:
        async with make() as spool:
            kept = message(spool)
            await spool.accept(kept, [recipient(spool)], b"x" * 300_000, True)
            if isinstance(spool, SqliteSpool):
                for suffix in ("", ".tmp"):
                    (spool.folder / "bodies" / f"{kept.stored - 1:016x}{suffix}").write_bytes(b"left")
            else:
                insert = "INSERT INTO chunk (body, number, content) VALUES (?, 0, 'x')"
                await spool._change(lambda db: db.change(insert, [1]))
        async with make() as spool:
            await spool.next_due()  # behind the sweep
            [(again, _)] = await spool.claim(NOW, 10)
            assert await spool.head(again, 5) == b"xxxxx"
            if isinstance(spool, SqliteSpool):
                assert [path.name for path in (spool.folder / "bodies").iterdir()] == [f"{again.stored:016x}"]
            assert await spool.verify(repair=False) == []

    run(loop, main)


def test_the_processes_of_a_machine_share_the_folder_of_the_journal(tmp_path: Path) -> None:
    first, second = Journal.in_folder(tmp_path), Journal.in_folder(tmp_path)
    first.end(1, [2], [])
    second.begin(3, [4, 5])
    second.end(3, [], [5])
    third = Journal.in_folder(tmp_path)
    assert third.entries() == ([], [])
    for each in (first, second, third):
        each.close()
    again = Journal.in_folder(tmp_path)
    assert again.entries() == ([(1, 2)], [(3, 4)])
    again.clear()
    assert len(list(tmp_path.iterdir())) == 1
    again.close()


def test_processes_that_start_at_once_take_no_file_from_each_other(tmp_path: Path) -> None:
    killed = [Journal.in_folder(tmp_path) for _ in range(2)]
    for number, each in enumerate(killed, 1):
        each.end(number, [1], [])
        each.close()
    with closing(Journal.in_folder(tmp_path)) as one, closing(Journal.in_folder(tmp_path)) as two:
        assert (one.entries(), two.entries()) == (([(1, 1), (2, 1)], []), ([], []))
        assert list(Journal.of_the_dead(tmp_path)) == []
        two.end(7, [1], [])
        one.clear()
    with closing(Journal.in_folder(tmp_path)) as again:
        assert again.entries() == ([(7, 1)], [])


@pytest.mark.parametrize("taken", [True, False])
def test_a_journal_that_another_process_takes_or_removes_first(
    tmp_path: Path, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    others: list[int] = []

    def slow(path: Path, *arguments: Any) -> int:
        """Another process does it between two of our calls."""
        descriptor = real(path, *arguments)
        if not others:
            others.append(real(path, os.O_RDWR))
            fcntl.flock(others[0], fcntl.LOCK_EX)
            if not taken:
                path.unlink()
                os.close(others[0])
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with closing(Journal.in_folder(tmp_path)) as journal:
        journal.end(1, [1], [])
    if taken:
        os.close(others[0])
    with closing(Journal.in_folder(tmp_path)) as again:
        assert again.entries() == ([(1, 1)], [])


def test_a_long_journal_is_begun_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "delivered")
    journal.begin(1, [1])
    for at in range(40_000):
        journal.begin(2, [at + 1])
        journal.end(2, [at + 1], [])
        journal.remove(2, [at + 1])
    assert (tmp_path / "delivered").stat().st_size < 1_100_000
    journal.close()
    assert (1, 1) in Journal(tmp_path / "delivered").entries()[1]
