"""``ehlo bench`` that is killed: no program that it started is left."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ehlo.bench._compare.own_postfix import find_postfix, own_postfix
from ehlo.bench._compare.own_postgres import find_postgres
from ehlo.bench._compare.peers import servers_here
from programs import ehlo_command, started, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")

HOLD = "\nprint('up', flush=True)\ntime.sleep(1000)"
IMPORTS = "import os, sys, time\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
SERVER = IMPORTS + "from ehlo.bench._compare.peers import Server\nserver = Server(sys.argv[2])" + HOLD
POSTFIX = f"""{IMPORTS}
from ehlo.bench._compare.own_postfix import own_postfix
stack = ExitStack()
stack.enter_context(own_postfix(Path(sys.argv[1]))){HOLD}"""
POSTGRES = f"""{IMPORTS}
from ehlo.bench._compare.own_postgres import own_postgres
stack = ExitStack()
stack.enter_context(own_postgres()){HOLD}"""


class Place:
    """A folder for all that a program writes. What it starts has the folder in its environment, or works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "TMPDIR": str(folder)}

    def processes(self) -> dict[int, str]:
        """What runs and belongs here, with its command."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                works_here = Path(os.readlink(process / "cwd")).is_relative_to(self.folder)
                command = (process / "cmdline").read_bytes()
            except OSError:  # it has ended, or is not ours
                continue
            if works_here or f"TMPDIR={self.folder}\0".encode() in environment:
                found[int(process.name)] = command.replace(b"\0", b" ").decode()
        return found

    def await_end(self) -> None:
        """Wait until nothing runs here any more."""
        wait_until(lambda: not self.processes())


@pytest.fixture
def place() -> Iterator[Place]:
    # Not below tmp_path: the users of Postfix and PostgreSQL must be able to go there.
    with tempfile.TemporaryDirectory(prefix="ehlo-killed-") as folder:
        Path(folder).chmod(0o755)
        made = Place(Path(folder))
        yield made
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)


def programs() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = [
        (name, SERVER) for name in ("ehlo", "bench-sink", "smtp-sink") if name in (*servers_here(), "bench-sink")
    ]
    found += [("postfix", POSTFIX)] if find_postfix() else []
    return found + ([("postgres", POSTGRES)] if find_postgres() else [])


@pytest.mark.parametrize(("name", "program"), [pytest.param(*one, id=one[0]) for one in programs()])
def test_a_program_ends_with_the_one_that_started_it(name: str, program: str, place: Place) -> None:
    with started(sys.executable, "-c", program, str(place.folder), name, env=place.env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.communicate()[1]
        assert len(place.processes()) > 1
        process.kill()
        place.await_end()
    if name != "postfix":  # the test has made its folder
        assert not list(place.folder.iterdir())


@pytest.mark.skipif(find_postfix() is None, reason="needs Postfix, and root")
def test_nothing_of_postfix_runs_when_it_was_stopped(place: Place) -> None:
    """Its first process ends before the others, and those may still write to the folder."""
    with own_postfix(place.folder, {"default_transport": "discard"}) as server:
        with smtplib.SMTP("127.0.0.1", server.port, "c.example", timeout=20) as client:
            client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\nx\r\n")
        assert len(place.processes()) > 1
    assert not place.processes()


@pytest.mark.parametrize("case", ["server_connections('asyncio', 100000)", "client_connections('sync', 100000)"])
def test_the_other_side_of_counted_connections(case: str, place: Place) -> None:
    program = f"from benches.connections import *; {case}()"
    env = {**place.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    with started(sys.executable, "-c", program, env=env) as process:
        wait_until(lambda: len(place.processes()) > 1)
        process.kill()
        place.await_end()


def test_a_program_whose_parent_ended_early_is_not_started(place: Place) -> None:
    """A parent that is killed between the fork and the call of the system: here a process between does it."""
    program = IMPORTS + (
        "from ehlo.bench._compare.children import bound\n"
        "prepare = bound()\n"
        "if os.fork() == 0:\n"
        "    prepare()\n"
        "    print('left', flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "if os.fork() == 0:\n"
        "    reading, writing = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        os.close(writing)\n"
        "        os.read(reading, 1)\n"
        "        prepare()\n"
        "        print('never', flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=place.env, timeout=60)
    assert (done.stdout, done.stderr) == ("left\n", "")
    place.await_end()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_comparison(number: signal.Signals, place: Place) -> None:
    arguments = ("--parts", "servers", "--sizes", "1k", "--modes", "lock-step", "--seconds", "0.05", "--rounds", "1000")
    with ehlo_command("bench", "compare", *arguments, "--servers", "ehlo", "--plain", env=place.env) as process:
        assert process.stdout is not None
        while "round" not in (line := process.stdout.readline()):
            assert line, process.communicate()[1]
        process.send_signal(number)
        place.await_end()

        out, err = process.communicate()
    assert process.returncode == (130 if number == signal.SIGTERM else -number), err
    assert not list(place.folder.iterdir())
    if number == signal.SIGTERM:
        assert "servers, 1024 octets, lock-step" in out  # what was measured until then


@pytest.mark.slow
def test_a_load_with_workers(place: Place) -> None:
    with ehlo_command("bench", "sink", "--port", "0", "--plain") as sink:
        assert sink.stdout is not None
        target = sink.stdout.readline().split()[-2]
        arguments = ("-d", "1000", "-c", "4", "--workers", "2", "--plain")
        with ehlo_command("bench", "load", target, *arguments, env=place.env) as process:
            wait_until(lambda: len(place.processes()) > 2)
            process.kill()
            place.await_end()


@pytest.mark.parametrize("command", [("bench", "sink"), ("sink", "--discard")], ids=["bench sink", "sink"])
def test_a_sink_with_workers(command: tuple[str, ...], place: Place) -> None:
    with ehlo_command(*command, "--port", "0", "--workers", "2", env=place.env) as process:
        assert process.stdout is not None
        assert "listening on" in process.stdout.readline()
        wait_until(lambda: len(place.processes()) > 2)
        process.kill()
        place.await_end()
