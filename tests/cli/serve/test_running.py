"""``ehlo serve`` as a service: its user, systemd, workers, and settings that are read again."""

from __future__ import annotations

import json
import os
import pwd
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_check import write_certificate
from test_serve import LOOPS, Serve, line_of, write_users

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.privileges import find_account
from ehlo.cli._serve.running import check_python, places_of
from ehlo.cli._serve.settings import read_settings
from programs import AS_ROOT, free_port, started, wait_until

root = pytest.mark.skipif(not AS_ROOT, reason="needs root")
FOR_ALL = {**os.environ, "PYTHONPATH": str(Path(ehlo.__file__).parents[1])}
DISCARD = """
hostname = "mx.example"
[[route]]
domains = ["d.example"]
to = "discard"
[[listener]]
port = 0
"""


def command(*arguments: str, python: str = sys.executable) -> list[str]:
    return [python, "-m", "ehlo", "serve", *arguments]


def python_of_everybody() -> str:
    """A Python that every user can read; without one the test is skipped."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        if Path(python).exists():
            code = "import os; os.setuid(65534); import ehlo, asyncio, concurrent.futures.thread"
            done = subprocess.run([python, "-c", code], env=FOR_ALL, capture_output=True, check=False, timeout=60)
            if done.returncode == 0:
                return python
    pytest.skip("no Python here can be read by every user")


@contextmanager
def serving(
    *arguments: str, count: int = 1, env: Mapping[str, str] | None = None, python: str = sys.executable
) -> Iterator[Serve]:
    with started(*command(*arguments, python=python), env={**os.environ, **(env or {})}) as process:
        yield Serve(process, count)


def refused(*arguments: str) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def write(folder: Path, text: str, name: str = "serve.toml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def send(port: int, recipient: str = "c@d.example", host: str = "127.0.0.1") -> None:
    with smtplib.SMTP(host, port, "c.example", timeout=20) as client:
        client.sendmail("a@b.example", [recipient], "Subject: x\r\n\r\nx\r\n")


def status_of(pid: int) -> dict[str, str]:
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


# ---- the user ------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into; those of pytest are for its own user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@root
def test_root_is_refused_unless_told(tmp_path: Path) -> None:
    assert '[run] with user = "ehlo"' in refused(write(tmp_path, DISCARD))


@root
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize(("workers", "port"), [(1, 998), (2, 999)])
def test_the_ports_are_bound_as_root_and_mail_is_taken_as_the_user(open_folder: Path, workers: int, port: int) -> None:
    nobody, python = pwd.getpwnam("nobody"), python_of_everybody()
    (open_folder / "mail").mkdir()
    os.chown(open_folder / "mail", nobody.pw_uid, nobody.pw_gid)
    secret = open_folder / "users"
    write_users(secret, line_of("jane"))
    # All of 127.0.0.0/8 is this machine. On an address of our own no test of another run takes the port.
    pid = os.getpid()
    host = f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            pytest.skip(f"port {port} is taken")
    settings = f"""
    hostname = "mx.example"
    auth.users = "users"
    run.user = "nobody"
    run.workers = {workers}
    [[route]]
    domains = ["d.example"]
    to = "maildir:mail/{{local_part}}"
    [[listener]]
    host = "{host}"
    port = {port}
    """
    with serving(write(open_folder, settings), python=python, env=FOR_ALL) as server:
        status = status_of(server.process.pid)
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert "0" not in status["Groups"].split()
        send(port, host=host)
        [message] = (open_folder / "mail" / "c" / "new").iterdir()
        assert message.stat().st_uid == nobody.pw_uid
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        assert "nothing was changed: users " in server.process.stderr.readline()
        server.stop()


@root
def test_a_place_that_the_user_cannot_write_to_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir(mode=0o700)
    settings = 'run.user = "nobody"\n' + DISCARD.replace("discard", "maildir:mail")
    done = subprocess.run(
        command(write(tmp_path, settings), python=python_of_everybody()),
        capture_output=True,
        text=True,
        timeout=60,
        env=FOR_ALL,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot be written to" in done.stderr


@root
def test_a_python_that_the_user_cannot_read_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["ehlo.cli._serve.running"], "_PYTHON", ("/root",))
    with pytest.raises(UsageError, match="nobody cannot read"):
        check_python(find_account("nobody"))


# ---- systemd -------------------------------------------------------------------------------------


@contextmanager
def manager(folder: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager's socket, and the variable that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "notify"))
        sock.settimeout(60)
        yield sock, {"NOTIFY_SOCKET": str(folder / "notify")}


def heard(sock: socket.socket, word: bytes) -> bytes:
    while not (said := sock.recv(4096)).startswith(word):
        pass
    return said


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("loop", LOOPS)
def test_the_service_manager_is_told_of_each_step(tmp_path: Path, loop: str, workers: str) -> None:
    with manager(tmp_path) as (sock, env):
        # A signal of life each second: more than ten that nobody has read would push the next message out.
        env["WATCHDOG_USEC"] = "2000000"
        file = write(tmp_path, DISCARD)
        with serving(*AS_ROOT, "--loop", loop, "--workers", workers, file, env=env) as server:
            assert heard(sock, b"READY=1") == b"READY=1\nSTATUS=1 listening"
            heard(sock, b"WATCHDOG=1")
            server.process.send_signal(signal.SIGHUP)
            assert b"MONOTONIC_USEC=" in heard(sock, b"RELOADING=1")
            heard(sock, b"READY=1")
            server.process.send_signal(signal.SIGTERM)
            heard(sock, b"STOPPING=1")
            assert server.process.wait(30) == 0


ACTIVATE = """
import os, socket, sys
names = sys.argv[1].split(":")
socks = [socket.create_server(("127.0.0.1", 0)) for _ in names]
for number, sock in enumerate(socks, 3):
    os.dup2(sock.fileno(), 100 + number)
for number, sock in enumerate(socks, 3):
    os.dup2(100 + number, number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.executable, [sys.executable, "-m", "ehlo", "serve", *sys.argv[2:]])
"""


def test_sockets_of_systemd_are_used(tmp_path: Path) -> None:
    file = write(tmp_path, DISCARD + '[[listener]]\nname = "inside"\nport = 1\n')
    program = (sys.executable, "-c", ACTIVATE, "inside:smtp", *AS_ROOT, file)
    with started(*program) as process:
        server = Serve(process, 2)
        for port in server.ports:
            send(port)
        server.stop()


# ---- workers -------------------------------------------------------------------------------------


def test_workers_serve_and_their_messages_are_added(tmp_path: Path) -> None:
    with serving(*AS_ROOT, "--workers", "2", write(tmp_path, DISCARD)) as server:
        for _ in range(4):
            send(server.ports[0])
        lines, errors = server.stop()
    assert errors == ""
    assert "ehlo serve: received 4 messages" in lines[-1]


def messages_of(port: int) -> float:
    """What Prometheus reads; -1 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1
    return next(float(line.split()[1]) for line in lines if line.startswith("ehlo_server_messages_total "))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_one_port_shows_the_figures_of_all_workers(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    port, mail = free_port(), free_port()
    settings = f'quiet = true\nmetrics.listen = "127.0.0.1:{port}"\n' + DISCARD.replace("port = 0", f"port = {mail}")
    with serving(*AS_ROOT, "--workers", "3", write(tmp_path, settings), count=0) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")

        def pids() -> list[int]:
            return [int(pid) for pid in children.read_text().split()]

        wait_until(lambda: messages_of(port) == 0)
        first = pids()
        for _ in range(12):
            send(mail)
        wait_until(lambda: messages_of(port) == 12)
        for pid in first:  # counters do not go back with a worker that dies
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(pids()) == 3 and not set(pids()) & set(first))
        send(mail)
        wait_until(lambda: messages_of(port) == 13)
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=60)


@pytest.mark.slow
def test_workers_share_a_queue_in_postgresql(tmp_path: Path, fresh: str) -> None:
    settings = f"""
    hostname = "mx.example"
    quiet = true
    queue.url = "{fresh}"
    run.workers = 2
    [[route]]
    domains = ["d.example"]
    to = "maildir:mail"
    [[listener]]
    port = 0
    """

    def arrived() -> int:
        return len(list((tmp_path / "mail" / "new").glob("*")))

    with serving(*AS_ROOT, write(tmp_path, settings)) as server:
        for _ in range(10):
            send(server.ports[0])
        # One of the workers dies; what it had not delivered is delivered by another.
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if children.exists():
            os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        for _ in range(10):
            send(server.ports[0])
        wait_until(lambda: arrived() >= 20)
        server.stop()


def test_workers_with_a_queue_in_a_folder_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, 'queue.path = "spool"\nrun.workers = 2\n' + DISCARD.replace("discard", "hold"))
    assert 'write url = "postgresql://' in refused(*AS_ROOT, file)


# ---- settings that are read again ----------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("loop", LOOPS)
def test_the_file_is_read_again(tmp_path: Path, loop: str, workers: str) -> None:
    file = write(tmp_path, DISCARD)
    with serving(*AS_ROOT, "--loop", loop, "--workers", workers, file) as server:
        port = server.ports[0]
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(port, "c@new.example")
        more = DISCARD.replace('"d.example"', '"d.example", "new.example"')
        write(tmp_path, more + "mode = 5\n[limits]\nmax_size = 5\n")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        assert "nothing was changed" in server.process.stderr.readline()
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(port, "c@new.example")
        write(tmp_path, more.replace("port = 0", "port = 1") + "[limits]\nmax_size = 5000\n")
        server.process.send_signal(signal.SIGHUP)
        line = ""
        while "read the settings again" not in line:
            line = server.line()
        assert line.endswith("; these need a new start: listener\n")
        wait_until(lambda: is_read(port))  # each worker reads by itself
        server.stop()


def is_read(port: int) -> bool:
    """Whether the worker that takes this connection has the new settings."""
    with smtplib.SMTP("127.0.0.1", port, "c.example", timeout=20) as client:
        client.ehlo()
        client.mail("a@b.example")
        return client.rcpt("c@new.example")[0] == 250 and client.esmtp_features["size"] == "5000"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_says_that_settings_were_not_read_again(tmp_path: Path, workers: str) -> None:
    file = write(tmp_path, DISCARD + '[log]\nfile = "log"\nformat = "json"\n')
    with serving(*AS_ROOT, "--workers", workers, file) as server:
        write(tmp_path, "[quue]\n")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        said = server.process.stderr.readline()
        assert said.startswith("ehlo serve: nothing was changed: ")
        server.stop()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["text"] for line in lines if line["event"] == "not-reloaded"] == [said.rstrip()]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_log_writes_an_address_as_the_line_on_the_terminal(
    tmp_path: Path, host: str, shown: str, form: str
) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    tables = f'host = "{host}"\n[log]\nfile = "log"\nformat = "{form}"\n[metrics]\nlisten = "{shown}:0"\n'
    with started(*command(*AS_ROOT, write(tmp_path, DISCARD + tables))) as process:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    address = said.partition("listening on ")[2].split()[0]
    figures = said.partition("http://")[2].partition("/")[0]
    assert address.startswith(f"{shown}:")
    log = (tmp_path / "log").read_text()
    if form == "text":
        assert f" listening address={address} protocol=smtp\n" in log
        assert f" listening figures={figures}\n" in log
    else:
        lines = [json.loads(line) for line in log.splitlines()]
        assert address in [line.get("address") for line in lines]
        assert figures in [line.get("figures") for line in lines]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_says_that_a_certificate_has_ended_or_ends_soon(tmp_path: Path, workers: str) -> None:
    now = datetime.now(UTC)
    write_certificate(tmp_path, "mx.example", ends=now - timedelta(days=1))
    tables = '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n[log]\nfile = "log"\nformat = "json"\n'
    file = write(tmp_path, DISCARD + tables)
    with serving(*AS_ROOT, "--workers", workers, file) as server:
        assert server.process.stderr is not None
        said = [server.process.stderr.readline()]
        write_certificate(tmp_path, "mx.example", ends=now + timedelta(days=5, hours=12))
        server.process.send_signal(signal.SIGHUP)
        said.append(server.process.stderr.readline())
        write_certificate(tmp_path, "mx.example", ends=now + timedelta(days=90))
        server.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            assert "read the settings again" in server.line()
        server.stop()
    assert said[0] == f"ehlo serve: tls.certificate: {tmp_path}/cert.pem: certificate has expired; get a new one\n"
    assert said[1].startswith(f"ehlo serve: tls.certificate: {tmp_path}/cert.pem ends in 5 days, on ")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [f"{line['text']}\n" for line in lines if line["event"] == "certificate"] == said


def test_the_log_says_that_a_worker_died(tmp_path: Path) -> None:
    file = write(tmp_path, DISCARD + '[log]\nfile = "log"\n')
    with serving(*AS_ROOT, "--workers", "2", file) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert server.process.stderr is not None
        said = server.process.stderr.readline().rstrip()
        assert said.endswith("died by signal 9; it is started again")
        server.stop()
    assert f' worker text="{said}"\n' in (tmp_path / "log").read_text()


HANGUP = """
import ehlo, os, pathlib, signal

file = pathlib.Path(__file__).with_name("serve.toml")
file.write_text(file.read_text().replace("d.example", "new.example"))
os.kill(os.getpid(), signal.SIGHUP)

class Rules(ehlo.Handler):
    pass
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_hangup_while_it_starts_is_heeded_when_it_serves(loop: str, tmp_path: Path) -> None:
    write(tmp_path, HANGUP, "rules.py")
    settings = DISCARD.replace("[[route]]", '[handler]\nuse = "rules:Rules"\n[[route]]')
    with serving(*AS_ROOT, write(tmp_path, f'loop = "{loop}"\n' + settings)) as server:
        assert "read the settings again" in server.line()
        send(server.ports[0], "c@new.example")
        server.stop()


def test_a_hangup_hides_no_reason_why_it_cannot_start(tmp_path: Path) -> None:
    write(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\n", "rules.py")
    settings = DISCARD.replace("[[route]]", '[handler]\nuse = "rules:Missing"\n[[route]]')
    command = [sys.executable, "-m", "ehlo", "serve", *AS_ROOT, write(tmp_path, settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "Missing" in done.stderr


CHILD = '''
import ehlo, subprocess, sys

SHOW = """
from signal import *
print([number for number in (SIGHUP, SIGINT, SIGTERM) if getsignal(number) == SIG_IGN], pthread_sigmask(SIG_BLOCK, ()))
"""

def show(when):
    with open(__file__ + "." + when, "w") as file:
        subprocess.run([sys.executable, "-c", SHOW], stdout=file, check=True)

show("start")

class Rules(ehlo.Handler):
    def on_connect(self, session):
        show("service")
'''


@pytest.mark.parametrize("workers", [1, 2])
def test_programs_that_a_handler_starts_have_the_usual_signals(workers: int, tmp_path: Path) -> None:
    rules = Path(write(tmp_path, CHILD, "rules.py"))
    settings = DISCARD.replace("[[route]]", '[handler]\nuse = "rules:Rules"\n[[route]]')
    with serving(*AS_ROOT, "--workers", str(workers), write(tmp_path, settings)) as server:
        send(server.ports[0], "c@d.example")
        server.stop()
    for when in ("start", "service"):
        assert rules.with_name(f"rules.py.{when}").read_text() == "[] set()\n"  # ignored, blocked


def test_a_new_next_hop_needs_a_new_start(tmp_path: Path) -> None:
    file = write(tmp_path, DISCARD)
    with serving(*AS_ROOT, file) as server:
        write(tmp_path, DISCARD.replace("discard", "lmtp:127.0.0.1:1"))
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        assert "goes to a new next hop: this needs a new start" in server.process.stderr.readline()
        send(server.ports[0])
        server.stop()


def test_workers_count_rates_in_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, "run.workers = 2\nrates.user_messages = 5\n" + DISCARD)
    assert "with [rates] needs rates.file: all workers count in it" in refused(*AS_ROOT, file)


def test_the_name_of_a_listener_is_its_protocol_unless_it_has_one() -> None:
    listeners = [
        {"port": 2525},
        {"port": 2526, "name": "inside"},
        {"protocol": "lmtp", "path": "/run/x", "mode": "660"},
    ]
    settings = read_settings({"listener": listeners, "route": [{"to": "discard"}]}, "/")
    places = places_of(settings)
    assert [place.name for place in places] == ["smtp", "inside", "lmtp"]
    assert places[2].mode == 0o660
