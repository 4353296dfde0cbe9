"""What ``ehlo serve --check`` looks at, one look at a time."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ehlo
from ehlo.cli._serve.certificate import check_certificate, check_end
from ehlo.cli._serve.check import look_at_places
from ehlo.cli._serve.check_machine import (
    check_folder,
    check_places,
    check_queue,
    check_readable,
    check_room,
    check_secret,
)
from ehlo.cli._serve.check_network import check_hops, check_name
from ehlo.cli._serve.findings import Finding, report
from ehlo.cli._serve.privileges import find_account
from ehlo.cli._serve.settings import Settings, read_settings
from ehlo.cli._serve.sockets import Place
from ehlo.testing import SMTPServer
from programs import free_port

trustme = pytest.importorskip("trustme")
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def levels(findings: Any) -> list[str]:
    return [one.level for one in findings]


# ---- the report ----------------------------------------------------------------------------------


def test_each_finding_is_a_line_and_errors_give_status_1() -> None:
    good = Finding("OK", "listener 1", "0.0.0.0:25 is free")
    bad = Finding("error", "tls.certificate", "it ended; get a new one")
    assert report([good], False) == ("OK:      listener 1: 0.0.0.0:25 is free\n1 look, 0 warnings, 0 errors", 0)
    text, status = report([good, bad], True)
    assert status == 1
    found = json.loads(text)
    assert found["errors"] == 1
    assert found["findings"][1] == {"level": "error", "about": "tls.certificate", "text": "it ended; get a new one"}


# ---- ports ---------------------------------------------------------------------------------------


def test_free_and_taken_and_doubled_ports_and_addresses_of_others() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = [
            Place("smtp", "listener 1", port=port),
            Place("smtp", "listener 2", port=port),
            Place("smtp", "listener 3", port=taken.getsockname()[1]),
            Place("smtp", "listener 4", "192.0.2.1", port),
        ]
        found = list(check_places(places, "mx.example"))
    assert levels(found) == ["OK", "error", "error", "error"]
    assert "is already that of listener 1" in found[1].text
    assert "is taken" in found[2].text
    assert "no address of this machine" in found[3].text


def test_nothing_stays_bound() -> None:
    port = free_port()
    list(check_places([Place("smtp", "listener 1", port=port)], "mx.example"))
    socket.create_server(("127.0.0.1", port)).close()


def test_the_running_server_itself_is_recognised() -> None:
    with SMTPServer(config=ehlo.ServerConfig("mx.example")) as server:
        [found] = check_places([Place("smtp", "listener 1", port=server.port)], "mx.example")
        assert found.level == "warning"
        assert "probably this one, running" in found.text


@pytest.fixture
def metrics(tmp_path: Path) -> Callable[..., Settings]:
    """Settings with [metrics], and a listener at a port of its own."""
    pytest.importorskip("prometheus_client")

    def metrics(listen: str, port: int = 0) -> Settings:
        table = {"metrics": {"listen": listen}, "listener": [{"port": port}], "route": [{"to": "discard"}]}
        return read_settings({"hostname": "mx.example"} | table, str(tmp_path))

    return metrics


def of_metrics(settings: Settings) -> Finding:
    """What is found about [metrics]."""
    *_, found = look_at_places(settings, None)
    return found


def test_the_port_of_the_figures(metrics: Callable[..., Settings]) -> None:
    port = free_port()
    assert of_metrics(metrics(f"127.0.0.1:{port}")) == Finding("OK", "metrics.listen", f"127.0.0.1:{port} is free")
    found = of_metrics(metrics(f"127.0.0.1:{port}", port))
    assert found.level == "error"
    assert "is already that of [[listener]] 1" in found.text
    with SMTPServer() as server:
        found = of_metrics(metrics(f"127.0.0.1:{server.port}"))
    assert found.level == "error"
    assert "is taken" in found.text


def test_an_address_where_figures_may_not_be_shown(metrics: Callable[..., Settings]) -> None:
    first, *_ = look_at_places(metrics("0.0.0.0:9925"), None)
    assert (first.level, first.about) == ("error", "metrics")
    assert "everybody who reaches it" in first.text


def test_packages_of_the_figures_that_are_missing(
    metrics: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "ehlo.cli._serve.show", raising=False)
    monkeypatch.delitem(sys.modules, "ehlo.cli._serve.web", raising=False)
    first, *_ = look_at_places(metrics("127.0.0.1:0"), None)
    assert first == Finding("error", "metrics", "prometheus_client is not installed; pip install 'ehlo[mta,metrics]'")


def test_paths_of_unix_sockets(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "there"))
        paths = [str(tmp_path / name) for name in ("free", "none/lmtp", "file", "there")]
        before = sorted(tmp_path.iterdir())
        found = list(check_places([Place("lmtp", path, path=path) for path in paths], "mx.example"))
    assert levels(found) == ["OK", "error", "error", "warning"]
    assert sorted(tmp_path.iterdir()) == before


# ---- folders and files ---------------------------------------------------------------------------


def test_folders_are_looked_at_and_not_made(tmp_path: Path) -> None:
    assert check_folder("queue.path", str(tmp_path), None).level == "OK"
    found = check_folder("queue.path", str(tmp_path / "a" / "b"), None)
    assert found.level == "OK"
    assert "will be made in" in found.text
    (tmp_path / "file").write_text("x")
    assert check_folder("queue.path", str(tmp_path / "file"), None).level == "error"
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    assert check_folder("queue.path", str(open_folder), None).level == "warning"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "open"]


@root
def test_a_disk_without_room_for_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(
        os, "statvfs", lambda path: SimpleNamespace(f_bavail=10, f_frsize=1 << 20, f_files=9, f_favail=0)
    )
    files, room = check_room("queue.path", str(tmp_path / "spool"))
    assert (files.level, room.level) == ("error", "error")
    assert "inodes" in files.text
    assert room.text == f"10 MiB are free on the disk of {tmp_path}; below 64 MiB all mail is answered 452; make room"
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert list(check_room("queue.path", str(tmp_path))) == []


def test_folders_are_looked_at_as_the_user_of_the_server(tmp_path: Path) -> None:
    found = check_folder("queue.path", str(tmp_path), find_account("nobody"))
    assert found.level == "error"
    assert f"install -d -o nobody -m 700 {tmp_path}" in found.text


@pytest.mark.parametrize(("mode", "level"), [(0o600, "OK"), (0o640, "warning"), (0o620, "warning"), (0o604, "error")])
def test_files_with_secrets_are_private(tmp_path: Path, mode: int, level: str) -> None:
    path = tmp_path / "users"
    path.write_text("x")
    path.chmod(mode)
    assert check_secret("auth.users", str(path), None).level == level


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert check_secret("auth.users", str(tmp_path / "none"), None).level == "error"
    assert check_readable("aliases.file", str(tmp_path / "none"), None).level == "error"


@root
def test_a_file_that_only_root_can_read_cannot_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("x")
    path.chmod(0o600)
    found = check_secret("auth.users", str(path), find_account("nobody"))
    assert found.level == "warning"
    assert "cannot read it again at SIGHUP" in found.text


# ---- the certificate -----------------------------------------------------------------------------


def write_certificate(folder: Path, *names: str, ends: datetime | None = None) -> tuple[str, str]:
    made = trustme.CA().issue_cert(*names, not_after=ends)
    made.private_key_pem.write_to_path(folder / "key.pem")
    for number, part in enumerate(made.cert_chain_pems):
        part.write_to_path(folder / "cert.pem", append=number > 0)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_a_certificate_that_fits(tmp_path: Path) -> None:
    files = write_certificate(tmp_path, "mx.example.org")
    assert check_certificate("tls.certificate", *files, "mx.example.org").level == "OK"
    found = check_certificate("tls.certificate", *files, "other.example.org")
    assert found.level == "warning"
    assert "is for mx.example.org, not for other.example.org" in found.text


def test_a_certificate_for_all_names_below(tmp_path: Path) -> None:
    files = write_certificate(tmp_path, "*.example.org")
    assert check_certificate("tls.certificate", *files, "mx.example.org").level == "OK"


def test_a_certificate_that_ends_soon(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = write_certificate(tmp_path, "mx.example.org", ends=now + timedelta(days=13, hours=12))
    found = check_certificate("tls.certificate", *files, "mx.example.org", now)
    assert found.level == "warning"
    assert "ends in 13 days, on" in found.text
    assert "ends in 1 day, on" in check_certificate("", *files, "mx.example.org", now + timedelta(days=12)).text
    assert check_certificate("tls.certificate", *files, "mx.example.org", now - timedelta(days=5)).level == "OK"


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    files = write_certificate(tmp_path, "mx.example.org", ends=datetime.now(UTC) - timedelta(days=1))
    found = check_certificate("tls.certificate", *files, "mx.example.org")
    assert found.level == "error"
    assert "expired" in found.text


def test_only_the_end_of_a_certificate_matters_once_it_serves(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = write_certificate(tmp_path, "other.example.org", ends=now + timedelta(days=30))
    assert check_end("tls.certificate", *files, now) is None
    soon = check_end("tls.certificate", *files, now + timedelta(days=17))
    assert soon is not None
    assert soon.level == "warning"
    assert "renew it" in soon.text
    late = check_end("tls.certificate", *files, now + timedelta(days=31))
    assert late is not None
    assert late.level == "error"
    assert check_end("tls.certificate", str(tmp_path / "none"), None) is None


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "mx.example.org")
    other = tmp_path / "other"
    other.mkdir()
    _, other_key = write_certificate(other, "mx.example.org")
    assert check_certificate("tls.certificate", certificate, other_key, "mx.example.org").level == "error"
    assert check_certificate("tls.certificate", certificate, str(tmp_path / "none"), "mx.example.org").level == "error"


# ---- the queue -----------------------------------------------------------------------------------


def test_packages_of_the_queue_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the queue is there, too: the start would fail."""
    monkeypatch.setitem(sys.modules, "ehlo.mta._schema", None)
    found = check_queue("queue.path", str(tmp_path), None)
    assert found.level == "error"
    assert "pip install 'ehlo[mta]'" in found.text


def test_a_queue_that_is_not_there_yet(tmp_path: Path) -> None:
    assert check_queue("queue.path", str(tmp_path / "spool"), None).level == "OK"
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(("version", "level"), [(1, "OK"), (999, "error")])
def test_the_version_of_a_queue(tmp_path: Path, version: int, level: str) -> None:
    with sqlite3.connect(tmp_path / "queue.db") as db:
        db.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        db.execute("INSERT INTO schema_version VALUES (?)", (version,))
    db.close()
    assert check_queue("queue.path", str(tmp_path), None).level == level


def test_a_queue_that_is_no_queue(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"something else" * 100)
    assert check_queue("queue.path", str(tmp_path), None).level == "error"


def test_a_database_that_does_not_answer_and_whose_password_is_not_shown() -> None:
    pytest.importorskip("psycopg")
    found = check_queue("queue.url", "postgresql://ehlo:secret@127.0.0.1:1/mail", None)
    assert found.level == "error"
    assert "secret" not in found.text


# ---- the network ---------------------------------------------------------------------------------


def test_the_name_in_dns() -> None:
    pytest.importorskip("dns")
    from name_server import NameServer

    records: dict[str, dict[str, list[str] | str]] = {
        "mx.example.org": {"A": ["192.0.2.1"]},
        "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.org."]},
        "other.example.org": {"A": ["192.0.2.1"]},
        "broken.example.org": {"*": "SERVFAIL"},
    }
    with NameServer(records) as names:
        resolver = names.resolver()
        assert levels(check_name("mx.example.org", resolver)) == ["OK", "OK"]
        assert levels(check_name("other.example.org", resolver)) == ["OK", "warning"]
        assert levels(check_name("none.example.org", resolver)) == ["warning"]
        assert levels(check_name("broken.example.org", resolver)) == ["warning"]
    assert levels(check_name("localhost")) == ["warning"]


def test_an_ipv6_address_of_a_next_hop_is_in_brackets() -> None:
    port = free_port()
    [found] = check_hops([("route 1", {"host": "::1", "port": port, "hostname": "mx.example"})])
    assert found.level == "error"
    assert found.text.startswith(f"[::1]:{port}: ")


def test_next_hops_are_asked_and_get_no_mail() -> None:
    config = ehlo.ClientConfig("mx.example.org")
    with SMTPServer() as server:
        good = {"host": "127.0.0.1", "port": server.port, "config": config}
        bad = good | {"port": 1}
        strict = good | {"tls": "required"}
        found = check_hops([("route 1", good), ("route 2", bad), ("route 3", strict)])
        assert levels(found) == ["OK", "error", "error"]
        assert not server.messages
