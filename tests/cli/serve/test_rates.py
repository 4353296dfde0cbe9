"""Messages and recipients an hour in ``ehlo serve``: who is counted, the replies, and the file."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.networks import Gatekeeper
from ehlo.cli._serve.rates import Kind, RateFile, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def client(address: str | None = "192.0.2.1", user: str | None = None) -> Any:
    peer = None if address is None else (address, 1)
    return SimpleNamespace(peer=peer, counted_address=address, identity=user)


ALL: dict[Kind, int] = {
    "network_messages": 2,
    "network_recipients": 3,
    "user_messages": 1,
    "user_recipients": 2,
}


@contextmanager
def rates_of(limits: dict[Kind, int] = ALL, **options: Any) -> Iterator[Rates]:
    options.setdefault("clock", Clock())
    rates = Rates(limits, **options)
    try:
        yield rates
    finally:
        rates.close()


def test_networks_and_users_are_counted_apart() -> None:
    with rates_of() as rates:
        assert rates.message(client("192.0.2.1")) is None
        assert rates.message(client("::ffff:192.0.2.1")) is None
        refusal = rates.message(client("192.0.2.1"))
        assert refusal == "451 4.7.1 Too many messages from your network: 2 an hour, try again in 61 min"
        assert rates.message(client("192.0.2.2")) is None
        assert rates.message(client("2001:db8::1")) is None
        assert rates.message(client("2001:db8::2")) is None
        assert rates.message(client("2001:db8::3")) is not None  # one network
        assert rates.message(client("192.0.2.1", "jane")) is None
        refusal = rates.message(client("192.0.2.9", "jane"))
        assert refusal == "451 4.7.1 Too many messages from you: 1 an hour, try again in 61 min"
        assert rates.message(client("192.0.2.1", "joe")) is None
        for _ in range(3):
            assert rates.recipient(client()) is None
        assert (rates.recipient(client()) or "").startswith(
            "452 4.7.1 Too many recipients from your network: 3 an hour"
        )
        assert rates.refused == {"network_messages": 2, "user_messages": 1, "network_recipients": 1}


def test_who_is_not_counted() -> None:
    with rates_of({"network_messages": 0}, exempt=["10.0.0.0/8"]) as rates:
        assert rates.message(client("192.0.2.1")) == "451 4.7.1 Too many messages from your network: 0 an hour"
        assert rates.message(client("10.1.2.3")) is None
        assert rates.message(client(None)) is None
        assert rates.message(client("192.0.2.1", "jane")) is None
        assert rates.recipient(client("192.0.2.1")) is None


def test_clients_without_an_address_count_at_their_proxy() -> None:
    def hidden(proxy: str) -> Any:
        return SimpleNamespace(peer=("unknown", 0), counted_address=proxy, identity=None)

    with rates_of({"network_messages": 1}, exempt=["10.0.0.0/8"]) as rates:
        assert rates.message(hidden("192.0.2.1")) is None
        assert rates.message(hidden("192.0.2.1")) is not None
        assert rates.message(hidden("192.0.2.2")) is None
        assert rates.message(hidden("10.0.0.1")) is None
        assert rates.message(hidden("10.0.0.1")) is not None  # the proxy is exempt, and not its clients


def test_the_hour_slides() -> None:
    clock = Clock()
    with rates_of(clock=clock) as rates:
        rates.message(client())
        clock.now += 1800
        rates.message(client())
        clock.now += 1800 - 60
        assert rates.message(client()) is not None
        clock.now += 120
        assert rates.message(client()) is None
        assert rates.message(client()) is not None


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    for count in range(2):
        with rates_of(clock=clock, path=path) as rates:
            assert rates.message(client()) is None, count
            rates.message(client(user="jane"))
    assert stat.S_IMODE((tmp_path / "rates").stat().st_mode) == 0o600
    clock.now += 1800
    with rates_of(clock=clock, path=path) as rates:
        assert rates.message(client()) is not None
        assert rates.message(client("192.0.2.2")) is None
        assert rates.message(client(user="jane")) is not None
    clock.now += 2000
    with rates_of(clock=clock, path=path) as rates:
        assert rates.message(client()) is None
    file = RateFile(path)
    assert file.read(0) == [
        ("network_messages", "192.0.2.2/32", 28333363, 1),
        ("network_messages", "192.0.2.1/32", 28333396, 1),
    ]  # the old ones are gone
    file.close()


def test_after_kill_9_what_was_flushed_is_there(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of(clock=clock, path=path) as rates:
        rates.message(client())
        rates.message(client())
        rates.flush()
        rates.message(client("192.0.2.2"))
        with rates_of(clock=clock, path=path) as other:  # what another process finds there
            assert other.message(client()) is not None
            assert other.message(client("192.0.2.2")) is None


def test_processes_keep_to_the_limit_together(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with (
        rates_of({"network_messages": 4}, clock=clock, path=path, shared=True) as one,
        rates_of({"network_messages": 4}, clock=clock, path=path, shared=True) as two,
    ):
        for rates in (one, two, two, one):
            assert rates.message(client()) is None
        for rates in (one, two):
            assert (rates.message(client()) or "").endswith(": 4 an hour, try again in 61 min")
            rates.flush()
        assert two.message(client("192.0.2.2")) is None
        clock.now += 3700
        assert two.message(client()) is None
    with rates_of({"network_messages": 1}, clock=clock, path=path) as rates:
        assert rates.message(client()) is not None


COUNTING = """
import sys, types
from ehlo.cli._serve.rates import Rates

rates = Rates({"user_messages": 100}, path=sys.argv[1], shared=True)
session = types.SimpleNamespace(peer=None, counted_address=None, identity="jane")
print("ready", flush=True)
sys.stdin.readline()
print(sum(rates.message(session) is None for _ in range(60)))
rates.close()
"""


def test_real_processes_keep_to_the_limit_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "rates")]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        for one in processes:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in processes:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        assert sum(int(one.communicate(timeout=60)[0]) for one in processes) == 100


def test_a_shared_file_forgets_what_is_old(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of({"user_messages": 5}, clock=clock, path=path, shared=True) as rates:
        for number in range(1201):
            assert rates.message(client(user=f"user{number}")) is None
        clock.now += 3720
        assert rates.message(client(user="jane")) is None
        rates.flush()
        assert rates._file is not None
        assert [row[1] for row in rates._file.read(0)] == ["jane"]


def test_a_shared_file_that_fails_stops_no_mail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of({"network_messages": 3}, clock=clock, path=path, shared=True) as rates:
        assert rates.message(client()) is None
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE rates RENAME TO away")
        assert rates.message(client()) is None
        rates.flush()
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE away RENAME TO rates")
        assert rates.message(client()) is None  # what waits for the file counts
        assert rates.message(client()) is not None
        rates.flush()
        assert rates._file is not None
        assert [row[3] for row in rates._file.read(0)] == [3]
        assert capsys.readouterr().err.count("and each worker counts alone") == 1


def test_a_disk_that_fails_stops_no_mail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of(clock=clock, path=path) as rates:
        assert rates._file is not None
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DROP TABLE rates")
        for _ in range(2):
            rates.message(client())
            rates.flush()
        assert rates.message(client()) is not None  # counted in memory all the same
        assert capsys.readouterr().err.count("ehlo serve: the rates cannot be written") == 1
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("CREATE TABLE rates (kind, key, minute, count, PRIMARY KEY (kind, key, minute))")
        rates.flush()
        assert rates._file.read(0) == [("network_messages", "192.0.2.1/32", 28333333, 2)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_full_disk_is_named(shared: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of({"user_messages": 3}, clock=clock, path=path, shared=shared) as rates:
        assert rates._file is not None
        connections = [one._connection for one in (rates._file, rates._shared) if one is not None]
        for one in connections:
            one.execute("PRAGMA max_page_count = 3")
        for number in range(500):
            assert rates.message(client(user=f"user{number}")) is None
        rates.flush()
        assert "database or disk is full" in capsys.readouterr().err
        for one in connections:
            one.execute("PRAGMA max_page_count = 1000")
        rates.flush()
        assert len(rates._file.read(0)) == 500


def test_a_commit_that_fails_leaves_no_transaction_open(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with rates_of(clock=clock, path=path) as rates, closing(sqlite3.connect(path)) as other:
        assert rates._file is not None
        rates._file._connection.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN")
        other.execute("SELECT * FROM rates").fetchall()  # a reader keeps others from a commit
        rates.message(client())
        rates.flush()
        other.execute("COMMIT")
        rates.flush()
        assert len(other.execute("SELECT * FROM rates").fetchall()) == 1


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"this is no database, but a file of mail" * 100)
    for path in (other, tmp_path / "nothing" / "rates", tmp_path):
        with pytest.raises(UsageError, match=f"rates.file {path}: .*; name a file that can be written to"):
            Rates(ALL, path=str(path))


# ---- networks ------------------------------------------------------------------------------------


def test_deny_goes_before_allow() -> None:
    gatekeeper = Gatekeeper(deny=["192.0.2.0/24", "2001:db8::/32"])
    assert gatekeeper.connection(client("192.0.2.1")) == "554 5.7.1 Mail from your network is not accepted here"
    assert gatekeeper.connection(client("::ffff:192.0.2.1")) is not None
    assert gatekeeper.connection(client("2001:db8::1")) is not None
    for address in ("198.51.100.1", None):
        assert gatekeeper.connection(client(address)) is None
    assert gatekeeper.refused == 3
    few = Gatekeeper(deny=["10.1.0.0/16"], allow=["10.0.0.0/8"])
    for address, refused in (("192.0.2.1", True), ("10.0.0.1", False), ("10.1.0.1", True), (None, False)):
        assert (few.connection(client(address)) is not None) is refused
