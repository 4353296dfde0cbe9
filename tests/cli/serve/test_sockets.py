"""Listening sockets of ``ehlo serve``, and those that systemd opened."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.privileges import find_account
from ehlo.cli._serve.sockets import Place, Sockets, open_sockets
from ehlo.cli._serve.systemd import Notifier, given_sockets, watchdog_seconds


@pytest.fixture
def opened() -> Iterator[list[Sockets]]:
    made: list[Sockets] = []
    yield made
    for one in made:
        one.close()


def test_a_port_is_bound_and_listens_at_once(opened: list[Sockets]) -> None:
    opened.append(open_sockets([Place("smtp", "[[listener]] 1")]))
    address = opened[0].groups[0][0].getsockname()
    with socket.create_connection(address, 10):
        pass
    with pytest.raises(
        UsageError, match=rf"port {address[1]} on 127.0.0.1 is taken; .* the port of \[\[listener\]\] 2"
    ):
        open_sockets([Place("smtp", "[[listener]] 2", port=address[1])])


def test_nothing_is_left_open_where_one_address_cannot_be_had(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 is no address of this machine"):
        open_sockets(
            [Place("lmtp", "[[listener]] 1", path=str(path)), Place("smtp", "--smtp 192.0.2.1:25", "192.0.2.1")]
        )
    assert not path.exists()


def test_a_unix_socket_has_its_mode_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    account = find_account("nobody")
    opened = open_sockets([Place("lmtp", "[[listener]] 1", path=str(path), mode=0o660)], account=account)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    if os.geteuid() == 0:
        assert (path.stat().st_uid, path.stat().st_gid) == (account.uid, account.gid)
    with pytest.raises(UsageError, match="choose another path"):
        open_sockets([Place("lmtp", "[[listener]] 1", path=str(path))])
    opened.close()
    assert not path.exists()


def test_sockets_of_systemd_go_to_the_listeners_with_their_names(opened: list[Sockets]) -> None:
    given = [(name, socket.create_server(("127.0.0.1", 0))) for name in ("smtp", "submission", "smtp")]
    opened.append(open_sockets([Place("submission", "[[listener]] 1"), Place("smtp", "[[listener]] 2")], given))
    assert opened[0].groups == [[given[1][1]], [given[0][1], given[2][1]]]


def test_a_listener_that_systemd_gave_nothing_binds_by_itself(opened: list[Sockets]) -> None:
    given = [("smtp", socket.create_server(("127.0.0.1", 0)))]
    opened.append(open_sockets([Place("smtp", "[[listener]] 1"), Place("lmtp", "[[listener]] 2")], given))
    assert opened[0].groups[1][0].getsockname()[1] > 0


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (socket.SOCK_STREAM, "ehlo.socket", "FileDescriptorName=lmtp|smtp in the .socket file"),
        (socket.SOCK_DGRAM, "smtp", "use ListenStream="),
    ],
)
def test_sockets_of_systemd_that_nobody_can_use_are_refused(kind: int, name: str, text: str) -> None:
    with socket.socket(socket.AF_INET, kind) as sock, pytest.raises(UsageError) as caught:
        open_sockets([Place("smtp", "[[listener]] 1"), Place("lmtp", "[[listener]] 2")], [(name, sock)])
    assert text in str(caught.value)


# ---- what systemd tells --------------------------------------------------------------------------


def test_descriptors_become_sockets_with_names() -> None:
    one, two = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    address = two.getsockname()
    first = 100
    os.dup2(one.fileno(), first)
    os.dup2(two.fileno(), first + 1)
    one.close()
    two.close()
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp:submission", "x": "y"}
    given = given_sockets(environ, first)
    assert [name for name, _ in given] == ["smtp", "submission"]
    assert given[1][1].getsockname() == address
    assert not os.get_inheritable(first)
    assert environ == {"x": "y"}
    for _, sock in given:
        sock.close()


def test_descriptors_of_another_process_are_not_taken() -> None:
    assert given_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == []
    assert given_sockets({}) == []


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS=many is no number"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "one"}, "1 name for 2 sockets"),
        ({"LISTEN_FDS": "1"}, r"descriptor 9999 \(unknown\) is no socket"),
    ],
)
def test_variables_that_make_no_sense_are_refused(environ: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        given_sockets({"LISTEN_PID": str(os.getpid()), **environ}, 9999)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"ehlo-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(10)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name})
        notifier.ready("2 listeners\nand a queue")
        assert manager.recv(4096) == b"READY=1\nSTATUS=2 listeners and a queue"
        notifier.reloading()
        first, second = manager.recv(4096).split(b"\n")
        assert first == b"RELOADING=1"
        assert int(second.removeprefix(b"MONOTONIC_USEC=")) > 0
        notifier.status("busy")
        assert manager.recv(4096) == b"STATUS=busy"
        notifier.alive()
        assert manager.recv(4096) == b"WATCHDOG=1"
        notifier.stopping(10)
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=15000000"
    notifier.alive()  # nobody is there any more
    notifier.close()


def test_without_a_service_manager_nothing_is_said() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    notifier.close()


def test_the_watchdog_is_asked_for_by_the_environment() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_seconds({}) is None
