"""Messages and recipients an hour in ``ehlo serve``: who is counted, the replies, and the file."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
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


def test_processes_learn_of_each_other(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "rates")
    with (
        rates_of({"network_messages": 4}, clock=clock, path=path, shared=True) as one,
        rates_of({"network_messages": 4}, clock=clock, path=path, shared=True) as two,
    ):
        for rates in (one, two):
            assert rates.message(client()) is None
            rates.flush()
        assert one.message(client()) is None
        one.flush()  # one has counted two, and learns of the third
        assert one.message(client()) is None
        assert one.message(client()) is not None
        one.flush()
        assert two.message(client()) is None  # it was not told yet: some seconds late
        two.flush()
        assert two.message(client()) is not None


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
        assert rates._file.of("network_messages", "192.0.2.1/32") == [(28333333, 2)]


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
