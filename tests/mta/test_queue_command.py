"""``ehlo queue`` on both engines, beside a server that delivers and without one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from kit import CONTENT, Sink, serving, until

import ehlo
from ehlo.cli import main
from ehlo.mta import Hold, Queue, SmartHost
from ehlo.mta._model import Message, Outcome, Recipient
from ehlo.mta._schema import LATEST
from ehlo.mta._spool import Selection, Suspension
from ehlo.mta._sqlite_spool import SqliteSpool
from loops import run as run_on

BUSY = ehlo.Reply(451, "4.2.1", "try later\x1b[2J")
Run = Callable[..., tuple[int, list[Any]]]


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A queue: what --queue takes."""
    if request.param == "sqlite":
        return str(tmp_path / "spool")
    url: str = request.getfixturevalue("fresh")
    return url


def spool(where: str, **options: Any) -> Any:
    if "://" not in where:
        return SqliteSpool(where, reserve=0, **options)
    from ehlo.mta._postgres_spool import PostgresSpool

    return PostgresSpool(where, **options)


@pytest.fixture
def run(where: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb; gives the exit status, and the objects or lines that it printed."""

    def run(*words: str, text: bool = False) -> tuple[int, list[Any]]:
        capsys.readouterr()
        status = main(["queue", words[0], "--queue", where, *([] if text else ["--json"]), *words[1:]])
        lines = capsys.readouterr().out.splitlines()
        return status, lines if text else [json.loads(line) for line in lines]

    return run


@pytest.fixture
def queued(where: str) -> list[str]:
    """Ids: a message that was deferred, one that is held, and one in large that was not tried, with two recipients."""

    async def fill() -> list[str]:
        async with spool(where) as one:
            messages = []
            for at, size in enumerate((10, 10, 300_000)):
                about = Message(one.new_id(), f"s{at}@b.example", time.time() - 7200 + at, size, peer="192.0.2.1")
                rows = [Recipient(one.new_id(), f"c@d{at}.example", due=time.time() + 600, route=None)]
                if at == 2:
                    rows.append(Recipient(one.new_id(), "e@d0.example", due=time.time() + 600))
                await one.accept(about, rows, b"x" * size, at == 0)
                if at == 0:
                    rows[0].route = "relay:mx:25"
                    rows[0].attempts = 1
                    stored = anyio.Event()
                    outcome = Outcome(rows[0], "deferred", BUSY, "mx", due=time.time() + 300)
                    one.finish(about, [outcome], [], lambda error, stored=stored: stored.set())
                    await stored.wait()
                messages.append(about)
            await one.hold(Selection([messages[1].id]), "looked at")
            return [about.ident for about in messages]

    return anyio.run(fill)


def test_looking(run: Run, queued: list[str]) -> None:
    status, found = run("list")
    assert status == 0
    assert [one["id"] for one in found] == [queued[0], queued[1], queued[2], queued[2]]
    assert [one["state"] for one in found] == ["ready", "held", "ready", "ready"]
    assert [one["id"] for one in run("list", "--domain", "d0.example", "--limit", "1")[1]] == [queued[0]]
    for words, number in (
        (("--sender", "S1@b.example"), 1),
        (("--recipient", "e@d0.example"), 1),
        (("--route", "relay:mx:25"), 1),
        (("--state", "held"), 1),
        (("--reply", "TRY later"), 1),
        (("--older", "1h"), 4),
        (("--older", "1d"), 0),
        (("--id", queued[2]), 2),
        (("--id", queued[2], "--id", queued[1], "--domain", "d0.example"), 1),
    ):
        assert len(run("list", *words)[1]) == number, words
    assert {one["route"]: one["recipients"] for one in run("summary", "--by", "route")[1]} == {"": 3, "relay:mx:25": 1}
    for by in ("sender", "age", "reply", "domain", "state"):
        assert sum(one["recipients"] for one in run("summary", "--by", by)[1]) == 4
    assert [one["recipient"] for one in run("show", queued[2])[1]] == ["c@d2.example", "e@d0.example"]
    _, lines = run("show", queued[0], text=True)
    assert lines[0] == f"id        {queued[0]}"
    assert not any("\x1b" in line for line in lines)
    assert run("nodes")[1] == []
    assert run("verify")[1] == []
    assert run("verify", text=True) == (0, ["all is as it must be"])


def test_why(run: Run, queued: list[str], where: str) -> None:
    assert run("suspend", "relay:mx:25", "--for", "1h", "--reason", "asked by its owner")[0] == 0
    [found] = run("why", queued[0])[1]
    why = "\n".join(found["why"])
    for part in ("It is due in 4 min", "suspended for 59 min", "asked by its owner", "after 1 attempt, ", "try later"):
        assert part in why
    assert "No node is running: start the server." in why
    assert "It is held: looked at." in run("why", queued[1], text=True)[1][1]
    assert [one["route"] for one in run("suspensions")[1]] == ["relay:mx:25"]
    assert run("resume", "relay:mx:25")[0] == 0
    assert run("resume", "relay:mx:25")[0] == 1
    assert "suspended" not in str(run("why", queued[0])[1])

    async def own() -> None:
        async with spool(where) as one:
            await one.claim(time.time() + 1000, 10)
            one.note_route("relay:mx:25", time.time() + 60, "connection refused")
            await one.next_due()
            text = str(await anyio.to_thread.run_sync(run, "why", queued[0]))
            assert "has it, last heard of" in text
            assert "lets the route relay:mx:25 rest for" in text
            assert "connection refused" in text

    anyio.run(own)


def test_a_suspension_says_whether_mail_goes_by_the_route(run: Run, queued: list[str]) -> None:
    assert run("suspend", "relay:mx:25") == (0, [{"route": "relay:mx:25", "seconds": 3600.0, "recipients": 1}])
    said = "relay:mx:25 is suspended; 1 recipient in the queue went by it last"
    assert run("suspend", "relay:mx:25", text=True) == (0, [said])
    # A route that has no mail yet may be suspended. A name with a typing error looks the same, so it is said.
    status, [found] = run("suspend", "relay:mx:52")
    assert (status, found["recipients"]) == (0, 0)
    status, [line] = run("suspend", "relay:mx:52", text=True)
    assert status == 0
    assert line.startswith("relay:mx:52 is suspended, but nothing in the queue went by it yet; ")
    assert run("resume", "relay:mx:53", text=True) == (1, ["there was no suspension of relay:mx:53"])


def test_cat(where: str, queued: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for ident, size in zip(queued, (10, 10, 300_000), strict=True):
        assert main(["queue", "cat", "--queue", where, ident]) == 0
        assert capfdbinary.readouterr().out == b"x" * size


def test_changing(run: Run, queued: list[str]) -> None:
    assert run("hold", "--domain", "d0.example", "--dry-run")[1] == [
        {"done": "would be held", "recipients": 2, "busy": 0}
    ]
    assert run("list", "--state", "held")[1][0]["id"] == queued[1]
    assert run("hold", "--domain", "d0.example", "--limit", "1")[1][0]["recipients"] == 1
    assert len(run("list", "--state", "held")[1]) == 2
    assert run("release", queued[1])[1][0]["recipients"] == 1
    assert run("release", "--all")[1][0]["recipients"] == 1
    assert run("release", "--all")[1][0]["recipients"] == 0
    assert run("retry", "--all")[1][0]["recipients"] == 4
    assert run("redirect", queued[1], "--to", "n@e.example")[1][0]["recipients"] == 1
    assert [one["id"] for one in run("list", "--recipient", "n@e.example")[1]] == [queued[1]]
    assert run("fail", queued[2], "--with", "550 5.1.2 gone", "--dry-run")[1][0]["recipients"] == 2
    assert run("fail", queued[2], "--with", "550 5.1.2 gone", "--hostname", "mx.example")[1][0]["recipients"] == 2
    bounces = run("list", "--sender", "")[1]
    assert [(one["recipient"], one["state"]) for one in bounces] == [("s2@b.example", "ready")]
    assert run("drop", "--recipient", "n@e.example", text=True) == (0, ["1 recipient dropped"])
    assert {one["id"] for one in run("list")[1]} == {queued[0], bounces[0]["id"]}


def test_a_change_needs_a_choice(run: Run, queued: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("hold", "release", "retry", "fail", "drop"):
        with pytest.raises(SystemExit) as raised:
            run(verb)
        assert raised.value.code == 2
        assert capsys.readouterr().err == f"ehlo queue: {verb} needs a filter, an ID, or --all\n"


def test_looking_writes_nothing(where: str, run: Run, queued: list[str]) -> None:
    if "://" in where:
        pytest.skip("a server writes by itself")
    folder = Path(where)
    before = (folder / "queue.db").read_bytes(), sorted(path.name for path in folder.rglob("*"))
    for verb in ("list", "summary", "nodes", "verify", "suspensions"):
        assert run(verb)[0] == 0
    for verb in ("show", "why", "cat"):
        assert main(["queue", verb, "--queue", where, queued[0]]) == 0
    after = (
        (folder / "queue.db").read_bytes(),
        sorted(path.name for path in folder.rglob("*") if path.name not in ("queue.db-wal", "queue.db-shm")),
    )
    assert after == before


def test_beside_a_server_that_notices(where: str, loop: str, run: Run) -> None:
    async def command(*words: str) -> list[Any]:
        _, lines = await anyio.to_thread.run_sync(run, *words)
        return lines

    async def main() -> None:
        sink, tries = Sink(), []

        def route(recipient: ehlo.Recipient) -> Any:
            tries.append(str(recipient.path))
            if str(recipient.path).startswith("held"):
                return Hold("wait")
            return SmartHost("127.0.0.1", server.port, tls="off")

        async with serving(sink) as server, spool(where) as one:
            queue = Queue(one, hostname="mx.example", route=route)
            async with anyio.create_task_group() as group:
                group.start_soon(queue.run)
                await queue.submit(("a@b.example", ["held@d.example"]), CONTENT)
                while (await one.totals()).held != 1:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert len(await command("nodes")) == 1
                await command("redirect", "--to", "free@d.example", "--all")
                await command("release", "--all")
                await until(lambda: len(sink.got) == 1)
                await command("suspend", f"relay:127.0.0.1:{server.port}")
                await until(lambda: queue._delivery.suspended)
                await command("resume", f"relay:127.0.0.1:{server.port}")
                await until(lambda: not queue._delivery.suspended)
                # A bounce that an administrator makes is delivered by the server.
                await queue.submit(("a@b.example", ["held@d.example"]), CONTENT)
                while (await one.totals()).held != 1:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert (await command("fail", "--all"))[0]["recipients"] == 1
                await until(lambda: len(sink.got) == 2)
                group.cancel_scope.cancel()

    run_on(loop, main)


def test_one_line_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def make() -> None:
        async with SqliteSpool(tmp_path / "spool", reserve=0) as one:
            await one.suspend(Suspension("r", 0, "", 0))

    def version(number: int) -> None:
        connection = sqlite3.connect(tmp_path / "spool/queue.db")
        with connection:
            connection.execute("UPDATE schema_version SET version = ?", (number,))
        connection.close()

    anyio.run(make)

    def said(*words: str) -> str:
        assert main(["queue", *words]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    version(99)
    assert f"newer ehlo (schema 99, this program knows {LATEST}): update this program" in said(
        "list", "--queue", str(tmp_path / "spool")
    )
    version(1)
    assert "run ehlo queue migrate" in said("list", "--queue", str(tmp_path / "spool"))
    assert "there is no spool in" in said("list", "--queue", str(tmp_path / "none"))
    assert "give a folder, or postgresql://" in said("list", "--queue", "mysql://x")
    assert "cannot be opened" in said("list", "--queue", f"postgresql:///x?host={tmp_path}")
    with pytest.raises(SystemExit):
        main(["queue", "list"])
    assert "which queue? give --queue" in capsys.readouterr().err


@pytest.fixture
def old(where: str) -> str:
    """A queue as schema 1 made it, with one message."""
    from ehlo.mta._schema import steps

    [first] = [statements for number, statements in steps(_engine(where), 0) if number == 1]
    rows = [
        "INSERT INTO message (id, sender, arrived, size, flags, priority, recipients, stored)"
        " VALUES (1, 'a@b.example', 1, 4, 0, 0, 1, 0)",
        "INSERT INTO recipient (message, id, path, owner, due, attempts, warned)"
        " VALUES (1, 2, 'c@d.example', 0, 1, 0, 0)",
        "INSERT INTO body VALUES (1, 'text')" if "://" in where else "INSERT INTO body VALUES (1, x'74657874')",
    ]
    version = ["CREATE TABLE schema_version (version INTEGER NOT NULL)", "INSERT INTO schema_version VALUES (1)"]
    if "://" in where:
        import psycopg

        with psycopg.connect(where) as connection:
            connection.execute("CREATE SCHEMA ehlo")
            connection.execute("SET search_path = ehlo")
            for statement in (*version, *first, *rows):
                connection.execute(statement.encode())
    else:
        Path(where).mkdir()
        database = sqlite3.connect(Path(where) / "queue.db")
        with database:
            for statement in (*version, *first, *rows):
                database.execute(statement)
        database.close()
    return where


def _engine(where: str) -> Any:
    return "postgres" if "://" in where else "sqlite"


def test_migrate(old: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", "list", "--queue", old]) == 1
    assert "run ehlo queue migrate" in capsys.readouterr().err
    assert run("migrate") == (0, [{"before": 1, "after": LATEST}])
    assert run("migrate") == (0, [{"before": LATEST, "after": LATEST}])
    assert [one["recipient"] for one in run("list")[1]] == ["c@d.example"]


def test_the_statements_of_the_version_before_run_on_this_schema(where: str, queued: list[str]) -> None:
    """Version N-1 runs on schema N: so nodes may be updated one after the other."""

    async def insert() -> None:
        async with spool(where) as one:
            row = (7, 8, "c@d.example", None, 0, 1.0, 0, 0, None)
            await one._change(
                lambda db: db.change(
                    "INSERT INTO recipient (message, id, path, facts, owner, due, attempts, warned, route)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            )

    anyio.run(insert)


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is made read-only for another user, by root")
def test_a_folder_that_may_only_be_read() -> None:
    # Not below tmp_path: pytest keeps its folders from all other users, and another run may do so at any time.
    with tempfile.TemporaryDirectory() as path:
        look_at_a_folder_that_may_only_be_read(Path(path))


def look_at_a_folder_that_may_only_be_read(folder: Path) -> None:
    async def make() -> str:
        async with SqliteSpool(folder / "spool", reserve=0) as one:
            about = Message(one.new_id(), "a@b.example", time.time(), 4)
            await one.accept(about, [Recipient(one.new_id(), "c@d.example")], b"text", False)
            return about.ident

    ident = anyio.run(make)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
        # Another user may not read this installation: so all is imported before.
        modules = "anyio._backends._asyncio, ehlo.cli._queue_text, ehlo.mta._open, os, sys"
        setting = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
        script = f"import {modules}; {setting}; sys.exit(ehlo.cli.main({['queue', *words]!r}))"
        # Coverage would have it write its figures, which that user may not.
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    queue = str(folder / "spool")
    listed = as_nobody("list", "--queue", queue)
    assert listed.stderr == ""
    assert listed.stdout.split()[0] == ident
    assert as_nobody("cat", "--queue", queue, ident).stdout == "text"
    held = as_nobody("hold", "--queue", queue, "--all")
    assert held.returncode == 1
    assert held.stderr.count("\n") == 1
    assert "readonly" in held.stderr
