"""``ehlo bench compare`` measures each program that it was asked for, or names it in a warning."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ehlo.bench import ComparePlan, clients_here, compare, servers_here
from ehlo.bench._compare import compare as module
from ehlo.bench._compare import queues
from ehlo.bench._compare.left_out import left_out, without_part
from ehlo.cli._bench_text import compare_lines

SHORT: dict[str, Any] = {"sizes": (1024,), "rounds": 1, "seconds": 0.05, "connections": 2}
needs_proc = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no /proc")


@needs_proc
@pytest.mark.parametrize("name", ["smtp-sink", "bare-trio"])
def test_a_server_without_tls_is_measured_when_no_mode_has_tls(name: str) -> None:
    if name not in servers_here():
        pytest.skip(f"what {name} needs is not installed")
    report = compare(ComparePlan(parts=("servers",), servers=(name,), modes=("lock-step",), **SHORT))
    assert list(report["cells"][0]["peers"]) == [name]
    assert not any(name in warning for warning in report["warnings"])


@needs_proc
def test_a_server_without_tls_is_named_when_only_tls_is_measured() -> None:
    if "bare-trio" not in servers_here() or shutil.which("openssl") is None:
        pytest.skip("trio or openssl is not installed")
    report = compare(ComparePlan(parts=("servers", "stall"), servers=("bare-trio",), modes=("TLS",), **SHORT))
    said = [
        "servers: bare-trio was not measured: it speaks no TLS here",
        "stall: bare-trio was not measured: it does not watch its event loop",
    ]
    assert [warning for warning in report["warnings"] if "bare-trio" in warning] == said
    assert [f"warning: {warning}" for warning in said] == compare_lines(report)[-2:]


def test_clients_are_named_when_their_server_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, *_: object, **__: object) -> None:
        raise OSError(f"{name} did not start")

    monkeypatch.setattr(module, "Server", fails)
    clients = tuple(clients_here()[:2])
    report = compare(ComparePlan(parts=("clients",), clients=clients, modes=("lock-step",), **SHORT))
    assert "bench-sink did not start" in report["warnings"]
    assert [f"clients: {name} was not measured" for name in clients] == report["warnings"][-2:]


def test_a_relay_that_is_not_here_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "relays_here", list)
    report = compare(ComparePlan(parts=("queue",), **SHORT))
    assert set(queues.RELAYS) <= set(report["missing"])


def cell(part: str, mode: str, *peers: str) -> dict[str, Any]:
    return {"part": part, "size": 1024, "mode": mode, "peers": {name: {} for name in peers}}


def test_a_mode_without_a_figure_is_named() -> None:
    cells = [cell("servers", "lock-step", "ehlo", "smtp-sink"), cell("servers", "TLS")]
    failed = "servers: ehlo was not measured with 1024 octets, TLS"
    no_tls = "servers: smtp-sink was not measured with 1024 octets, TLS: it speaks no TLS here"
    assert left_out("servers", ["ehlo", "smtp-sink"], cells, named=True) == [failed, no_tls]
    assert left_out("servers", ["ehlo", "smtp-sink"], cells, named=False) == [failed]


def test_bare_clients_are_named_where_tls_is_measured() -> None:
    cells = [cell("clients", "kept connection", "bare-sockets"), cell("clients", "kept TLS connection")]
    [warning] = left_out("clients", ["bare-sockets"], cells, named=True)
    assert warning.endswith("with 1024 octets, kept TLS connection: it speaks no TLS here")


def test_what_idles_and_stalls() -> None:
    names = ["ehlo", "ehlo-awaits-uvloop", "smtp-sink"]
    assert left_out("stall", names, [], named=True, found=["ehlo"]) == [
        "stall: ehlo-awaits-uvloop was not measured: ehlo-uvloop stands for it",
        "stall: smtp-sink was not measured: it does not watch its event loop",
    ]
    assert left_out("idle", ["ehlo"], [], named=False) == ["idle: ehlo was not measured"]


def test_programs_that_no_part_is_about() -> None:
    assert without_part(["ehlo", "aiosmtpd"], None, ["clients"]) == [
        "servers: ehlo, aiosmtpd were not measured: no part is about servers"
    ]
    assert without_part(["ehlo"], ["smtplib"], ["idle", "clients"]) == []
