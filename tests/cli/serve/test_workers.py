"""Worker processes of ``ehlo serve``, and their parent: each test's parent is a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.workers import check_workers
from programs import wait_until

PARENT = """
import contextlib, json, os, sys
from ehlo import Handler
from ehlo._server.limits import Statistics
from ehlo.cli._receive import UsageError
from ehlo.cli._run import Job, run_job
from ehlo.cli._serve.sockets import Place, open_sockets
from ehlo.cli._serve.workers import Plan, run_workers, tell_parent

loop, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
opened = open_sockets([Place("smtp", "listener 1")])
port = opened.groups[0][0].getsockname()[1]

def tell(what, **more):
    os.write(1, (json.dumps({"what": what, **more}) + "\\n").encode())

class Mine(Handler):
    def on_mail(self, session, sender):
        return f"250 2.1.0 worker {os.getpid()}"
    def on_hello(self, session, hello):
        if kind == "dies":
            os._exit(3)
    def on_message(self, session, envelope, content):
        return None

class ServeJob(Job):
    def __init__(self, number, pipe):
        super().__init__(loop, 5)
        self.number, self.pipe = number, pipe
        self.beat = (0.05, self.alive)
        self.reload = lambda: tell("worker reloads", number=number)
    def alive(self):
        if kind == "stuck":
            import time
            time.sleep(3)
        tell_parent(self.pipe, "alive")
    @contextlib.asynccontextmanager
    async def open(self, tools):
        yield [(Mine(), {"sockets": opened.groups[0]})]
    def cannot_listen(self, number, exc):
        return UsageError(str(exc))
    def ready(self, servers):
        tell("worker", pid=os.getpid(), number=self.number)
        tell_parent(self.pipe, "ready")

def work(number, pipe):
    if kind == "unusable":
        raise UsageError("the queue cannot be opened")
    return run_job(ServeJob(number, pipe), pipe)

plan = Plan(
    count, 5, work, ready=lambda: tell("ready", port=port), reload=lambda: tell("parent reloads") or kind != "bad",
    stopping=lambda: tell("stopping"), complain=lambda line: tell("complaint", line=line), pause=0.0, tick=0.05,
    patience=0.5 if kind == "stuck" else 60.0,
)
try:
    ended = run_workers(plan)
except UsageError as exc:
    tell("usage", line=str(exc))
else:
    tell("ended", messages=ended.statistics.messages, failure=ended.failure)
"""


class Parent:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = 0
        self.pids: dict[int, int] = {}

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def until(self, what: str) -> dict[str, Any]:
        while (found := self.next())["what"] != what:
            if found["what"] == "worker":
                self.pids[found["number"]] = found["pid"]
        self.port = found.get("port", self.port)
        if what == "worker":
            self.pids[found["number"]] = found["pid"]
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> dict[str, Any]:
        self.send(signal.SIGTERM)
        return self.until("ended")


@contextlib.contextmanager
def parent(kind: str = "good", count: int = 2, loop: str = "asyncio") -> Iterator[Parent]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, loop, kind, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Parent(process)
    finally:
        process.kill()
        _, errors = process.communicate()
        assert "Traceback" not in errors


def answering(port: int) -> int:
    """The process that takes the next connection."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo("c.example")
        _, text = client.mail("a@b.example")
        return int(text.split()[-1])


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\nx\r\n")


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_workers_share_the_sockets_and_their_figures_are_added(loop: str) -> None:
    with parent(loop=loop) as family:
        family.until("ready")
        assert len(set(family.pids.values())) == 2
        assert answering(family.port) in family.pids.values()
        for _ in range(3):
            send(family.port)
        assert family.end() == {"what": "ended", "messages": 3, "failure": None}


def test_a_worker_that_dies_is_started_again() -> None:
    with parent() as family:
        family.until("ready")
        os.kill(family.pids[1], signal.SIGKILL)
        assert family.until("complaint")["line"] == "worker 1 died by signal 9; it is started again"
        before = dict(family.pids)
        assert family.until("worker")["number"] == 1
        assert family.pids[1] != before[1]
        os.kill(family.pids[0], signal.SIGKILL)
        family.until("worker")
        send(family.port)
        assert family.end()["messages"] == 1


def test_a_connection_that_waits_is_not_lost_with_a_worker() -> None:
    with parent(count=1) as family:
        family.until("ready")
        os.kill(family.pids[0], signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", family.port), 20) as client:
            os.kill(family.pids[0], signal.SIGKILL)
            assert client.recv(100).startswith(b"220 ")
        assert family.end()["failure"] is None


def test_workers_that_die_again_and_again_end_the_server() -> None:
    with parent("dies") as family:
        family.until("ready")
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", family.port), 20) as client:
                client.sendall(b"EHLO c.example\r\n")
                while client.recv(1000):
                    pass
        assert "6 workers died" in family.until("ended")["failure"]


def test_a_worker_whose_loop_is_stuck_is_killed() -> None:
    with parent("stuck", count=1) as family:
        family.until("ready")
        assert family.until("complaint")["line"] == "worker 0 gives no sign of life; it is killed"
        assert family.until("complaint")["line"] == "worker 0 died by signal 9; it is started again"


def test_a_worker_that_cannot_start_says_why() -> None:
    with parent("unusable") as family:
        assert family.until("usage")["line"] == "the queue cannot be opened"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_all_workers_read_the_settings_again(loop: str) -> None:
    with parent(loop=loop) as family:
        family.until("ready")
        family.send(signal.SIGHUP)
        family.until("parent reloads")
        assert {family.until("worker reloads")["number"] for _ in range(2)} == {0, 1}


def test_no_worker_reads_settings_that_the_parent_refused() -> None:
    with parent("bad") as family:
        family.until("ready")
        family.send(signal.SIGHUP)
        family.until("parent reloads")
        family.send(signal.SIGTERM)
        assert family.next()["what"] == "stopping"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_second_signal_cuts_open_sessions(loop: str) -> None:
    with parent(loop=loop) as family:
        family.until("ready")
        with socket.create_connection(("127.0.0.1", family.port), 20) as client:
            client.recv(1000)
            client.sendall(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            octets = b""
            while b"354" not in octets:
                octets += client.recv(1000)
            family.send(signal.SIGTERM)
            family.until("stopping")
            family.send(signal.SIGTERM)
            assert family.until("ended")["failure"] is None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_workers_end_with_their_parent() -> None:
    with parent() as family:
        family.until("ready")
        family.process.kill()
        # The workers hold the other end of its output: it ends with the last of them.
        assert family.process.stdout is not None
        assert family.process.stdout.read() == ""
        wait_until(lambda: not any(is_alive(pid) for pid in family.pids.values()))


def test_one_worker_needs_nothing() -> None:
    check_workers(1)


def test_a_system_without_fork_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UsageError, match="cannot fork"):
        check_workers(2)
