"""The spool against a model, on both engines: any order of what delivery and administrators do, with restarts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import ehlo
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._spool import Selection
from ehlo.mta._sqlite_spool import SqliteSpool

NOW = 1_700_000_000.0
BUSY = ehlo.Reply(451, "4.2.1", "try later")
RESULTS = ("relayed", "failed", "deferred", "held", "postponed")


class SpoolMachine(RuleBasedStateMachine):
    """Each recipient is in one state, both in the model and in the spool; messages go with their last recipient."""

    url: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        if self.url is not None:
            import psycopg

            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA IF EXISTS ehlo CASCADE")
        self._context = anyio.from_thread.start_blocking_portal()
        self.portal = self._context.__enter__()
        self.states: dict[int, str] = {}
        self.message_of: dict[int, int] = {}
        self.owned: dict[int, tuple[Message, dict[int, Recipient]]] = {}
        self.spool = self.opened()

    def opened(self) -> Any:
        if self.url is None:
            spool: Any = SqliteSpool(self.folder / "spool", reserve=0)
        else:
            from ehlo.mta._postgres_spool import PostgresSpool

            spool = PostgresSpool(self.url, journal=self.folder / "journal")
        self.portal.call(spool.open)
        return spool

    def teardown(self) -> None:
        self.portal.call(self.spool.close)
        self._context.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    # ---- rules -----------------------------------------------------------------------------------

    @rule(number=st.integers(1, 3), octets=st.sampled_from([5, 300_000]), owned=st.booleans())
    def accept(self, number: int, octets: int, owned: bool) -> None:
        message = Message(self.spool.new_id(), "a@b.example", NOW, octets)
        rows = [Recipient(self.spool.new_id(), f"u{at}@d.example", due=NOW) for at in range(number)]
        self.portal.call(self.spool.accept, message, rows, b"x" * octets, owned)
        for one in rows:
            self.states[one.id] = "owned" if owned else "ready"
            self.message_of[one.id] = message.id
        if owned:
            self.owned[message.id] = (message, {one.id: one for one in rows})

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        ready = sum(state == "ready" for state in self.states.values())
        claimed = self.portal.call(self.spool.claim, NOW + 1e6, limit)
        assert sum(len(rows) for _, rows in claimed) == min(limit, ready)
        for message, rows in claimed:
            _, known = self.owned.setdefault(message.id, (message, {}))
            for one in rows:
                assert self.states[one.id] == "ready"
                self.states[one.id] = "owned"
                known[one.id] = one

    @precondition(lambda self: self.owned)
    @rule(data=st.data(), bounces=st.booleans())
    def finish(self, data: st.DataObject, bounces: bool) -> None:
        message, known = self.owned[data.draw(st.sampled_from(sorted(self.owned)))]
        chosen = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, unique=True))
        outcomes = [Outcome(known.pop(number), data.draw(st.sampled_from(RESULTS)), BUSY, due=NOW) for number in chosen]
        if not known:
            del self.owned[message.id]
        notices: list[Any] = []
        if bounces:
            report = Message(self.spool.new_id(), "", NOW, 6)
            to = Recipient(self.spool.new_id(), "a@b.example", due=NOW)
            notices = [(report, [to], b"report")]
        assert self.portal.call(self.finished, message, outcomes, notices) is None
        for one in outcomes:
            number = one.recipient.id
            if one.result in ("relayed", "failed"):
                del self.states[number]
            else:
                self.states[number] = "held" if one.result == "held" else "ready"
        if bounces:
            self.states[to.id] = "owned"
            self.message_of[to.id] = report.id
            self.owned[report.id] = (report, {to.id: to})

    async def finished(self, message: Message, outcomes: list[Outcome], notices: list[Any]) -> BaseException | None:
        event, errors = anyio.Event(), []

        def done(error: BaseException | None) -> None:
            errors.append(error)
            event.set()

        self.spool.finish(message, outcomes, notices, done)
        await event.wait()
        [error] = errors
        return error

    @rule()
    def hold(self) -> None:
        changed = self.portal.call(self.spool.hold, Selection(), "reason")
        assert changed.busy == sum(state == "owned" for state in self.states.values())
        self.states = {number: "owned" if state == "owned" else "held" for number, state in self.states.items()}

    @rule()
    def release(self) -> None:
        changed = self.portal.call(self.spool.unhold, Selection(), NOW)
        assert changed.recipients == sum(state == "held" for state in self.states.values())
        self.states = {number: "ready" if state == "held" else state for number, state in self.states.items()}

    @rule(limit=st.integers(1, 3))
    def drop(self, limit: int) -> None:
        free = sorted((self.message_of[one], one) for one, state in self.states.items() if state != "owned")[:limit]
        assert self.portal.call(self.spool.drop, Selection(limit=limit)).recipients == len(free)
        for _, number in free:
            del self.states[number]

    @rule()
    def restart(self) -> None:
        """What was owned is ready again."""
        self.portal.call(self.spool.close)
        self.spool = self.opened()
        self.states = {number: "ready" if state == "owned" else state for number, state in self.states.items()}
        self.owned.clear()

    # ---- what always holds -------------------------------------------------------------------------

    @invariant()
    def the_spool_is_as_the_model(self) -> None:
        entries = self.portal.call(self.spool.entries, Selection(), 1000)
        assert {one.recipient.id: one.state for one in entries} == self.states
        totals = self.portal.call(self.spool.totals)
        assert totals.messages == len({self.message_of[number] for number in self.states})
        assert self.portal.call(self.verified) == []

    async def verified(self) -> list[Any]:
        findings: list[Any] = await self.spool.verify(repair=False)
        return findings


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


def test_any_order_of_operations(url: str | None) -> None:
    machine = type("Machine", (SpoolMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=8, stateful_step_count=15, suppress_health_check=list(HealthCheck)),
    )
