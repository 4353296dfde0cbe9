"""Our servers and clients beside others: each alone on a processor, in interleaved rounds, told as ratios.

What the machine does meanwhile hits all of a round alike; so ratios are taken within a round, and their median counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from ehlo._core import build_info
from ehlo._words import counted
from ehlo.bench._compare.children import bound, own_folder
from ehlo.bench._compare.left_out import left_out, without_part
from ehlo.bench._compare.peers import (
    CLIENTS,
    SERVERS,
    Server,
    Tls,
    clients_here,
    is_bare,
    make_certificate,
    run_client,
    servers_here,
    speaks_tls,
    versions,
)
from ehlo.bench._compare.queues import RELAYS, measure, relays_here
from ehlo.bench._compare.steps import Steps
from ehlo.bench._contents import contents
from ehlo.bench._machine import SCHEMA, machine

__all__ = ["MODES", "PARTS", "ComparePlan", "compare", "processors"]

PARTS: Final = ("servers", "clients", "stall", "idle", "queue")
_DEFAULT: Final = PARTS[:4]
MODES: Final = ("lock-step", "pipelined", "TLS", "new connection", "new TLS connection")
_OF_THE_SMALLEST: Final = ("new connection", "new TLS connection")  # a connection costs the same whatever it carries
_LEAST: Final = 20  # messages of one measurement
_MOST: Final = 200_000
_LARGE: Final = 1 << 20  # octets: clients send fewer of these, on fewer connections


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """What to compare, and how long.

    Arguments:
        parts: of "servers", "clients", "stall" (ten large messages at once) "idle" (memory of idle connections)
            and "queue" (ehlo.mta beside Postfix); all but "queue" by default.
        servers, clients: which; ``None`` for all that are here but the bare ones.
        sizes: octets of a message.
        modes: of "lock-step", "pipelined" and "TLS" (lock-step; clients: by STARTTLS), and for the smallest size "new
            connection" and "new TLS connection".
        rounds: how often each is measured. seconds: about how long one measurement takes.
        connections: at once. idle: connections that idle.
        stall_messages, stall_size: how many messages at once, and their octets.

    Example::

        report = compare(ComparePlan(parts=("servers",), sizes=(1024,), rounds=3))
    """

    parts: tuple[str, ...] = _DEFAULT
    servers: tuple[str, ...] | None = None
    clients: tuple[str, ...] | None = None
    sizes: tuple[int, ...] = (1024, 10240, 102400, 10485760)
    modes: tuple[str, ...] = MODES
    rounds: int = 5
    seconds: float = 1.0
    connections: int = 20
    idle: int = 1000
    stall_messages: int = 10
    stall_size: int = 20_000_000


@dataclass(slots=True)
class Cell:
    part: str
    size: int
    mode: str
    connections: int
    cpu: dict[str, list[float | None]] = field(default_factory=dict)  # microseconds a message, by round
    rate: dict[str, list[float | None]] = field(default_factory=dict)  # messages a second, by round

    def put(self, name: str, cpu: float | None, rate: float | None) -> None:
        self.cpu.setdefault(name, []).append(cpu)
        self.rate.setdefault(name, []).append(rate)

    def as_report(self) -> dict[str, Any]:
        peers: dict[str, dict[str, Any]] = {}
        for name, costs in self.cpu.items():
            known = [cost for cost in costs if cost is not None]
            rates = [rate for rate in self.rate[name] if rate is not None]
            if not known:
                continue
            peers[name] = {
                "cpu_us": [None if cost is None else round(cost, 3) for cost in costs],
                "median_cpu_us": round(statistics.median(known), 3),
                "spread": round(max(known) / min(known), 3) if min(known) > 0 else None,
                "median_rate": round(statistics.median(rates), 1) if rates else None,
            }
            base = name.replace("-awaits", "")
            if base != name and base in self.cpu:
                more = [a - b for a, b in zip(costs, self.cpu[base], strict=True) if a and b]
                if more:
                    peers[name]["adds_us"] = {base: round(statistics.median(more), 3)}
        ratios: dict[str, dict[str, float]] = {}
        for ours in peers:
            for theirs in peers:
                if theirs.startswith("ehlo") or theirs == ours:
                    continue
                pairs = [(a, b) for a, b in zip(self.cpu[ours], self.cpu[theirs], strict=True) if a and b]
                if pairs:
                    ratios.setdefault(ours, {})[theirs] = round(statistics.median(a / b for a, b in pairs), 4)
        faster: dict[str, float] = {}
        if self.part == "queue" and "postfix" in peers:
            for name in peers:
                rated = [(a, b) for a, b in zip(self.rate[name], self.rate["postfix"], strict=True) if a and b]
                if rated and name != "postfix":
                    faster[name] = round(statistics.median(a / b for a, b in rated), 3)
        place: dict[str, Any] = {"part": self.part, "size": self.size, "mode": self.mode}
        return (
            place
            | {"connections": self.connections, "peers": peers, "ratios": ratios}
            | ({"rate_ratios": faster} if faster else {})
        )


@dataclass(slots=True)
class _Run:
    """One comparison: what all its parts know, and what they add to."""

    plan: ComparePlan
    steps: Steps
    ours: set[int] | None  # the processors of what is measured
    others: set[int] | None  # and of the load
    certificate: str | None = None
    cells: list[Cell] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def processors() -> tuple[set[int] | None, set[int] | None]:
    """A processor for what is measured, and another for the load; None where there is only one, or no way to choose.

    Example::

        ours, others = processors()
    """
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    here = sorted(os.sched_getaffinity(0))
    return (set(here[:1]), set(here[1:2])) if len(here) > 1 else (None, None)


def _load(port: int, messages: int, size: int, mode: str, connections: int, cpus: set[int] | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "ehlo", "bench", "load", f"127.0.0.1:{port}", "--json", "-", "--no-phases"]
    command += ["-c", str(connections), "-m", str(messages), "-s", str(size)]
    command += ["--depth", "2"] if mode == "pipelined" else ["--no-pipelining"]
    command += ["--messages-per-connection", "1"] if mode in _OF_THE_SMALLEST else []
    command += ["--tls"] if "TLS" in mode else []
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound(cpus))
    report: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {"complete": False}
    return report


def compare(plan: ComparePlan, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Do it, and tell the report. What fails on the way is told in ``warnings``, and the rest goes on.

    Arguments:
        plan: what to do. say: called with a line for each measurement; it begins with how far the comparison is.

    Example::

        compare(ComparePlan(parts=("idle",)))["idle"]["ehlo"]  # octets a connection
    """
    ours, others = processors()
    run = _Run(plan, Steps(say), ours, others)
    if ours is None:
        run.warnings.append("what is measured and its load share one processor: rates mean little, CPU a little more")
    if build_info()["profile"] != "release":
        run.warnings.append("ehlo was built without optimisation: its figures say nothing about a release build")
    report: dict[str, Any] = {
        "tool": "ehlo bench compare",
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "rounds": plan.rounds,
        "connections": plan.connections,
        "missing": [],
        "interrupted": False,
    }
    servers = list(plan.servers) if plan.servers is not None else _by_default(servers_here())
    clients = list(plan.clients) if plan.clients is not None else _by_default(clients_here())
    for names, known, given in ((servers, SERVERS, plan.servers), (clients, CLIENTS, plan.clients)):
        report["missing"] += [name for name in _by_default(known) if given is None and name not in names]
    relays = relays_here()
    if "queue" in plan.parts:
        report["missing"] += [name for name in RELAYS if name not in relays]
    # What awaits keeps no more in memory and loop than what does not.
    alike = [name for name in servers if "-awaits" not in name]
    run.steps.total = _steps_of(plan, servers, clients, alike)
    try:
        with own_folder() as folder:
            if any("TLS" in mode for mode in plan.modes) and {"servers", "clients"} & set(plan.parts):
                try:
                    run.certificate = make_certificate(folder)
                except OSError as exc:
                    run.warnings.append(str(exc))
            if "servers" in plan.parts:
                _compare_servers(run, servers)
            if "queue" in plan.parts:
                _compare_queues(run, relays)
            if "clients" in plan.parts:
                _compare_clients(run, clients)
        if "stall" in plan.parts:
            report["stall"] = _stalls(run, _stalling(alike))
        if "idle" in plan.parts:
            report["idle"] = _idle(run, alike)
    except KeyboardInterrupt:
        report["interrupted"] = True
    report["cells"] = [cell.as_report() for cell in run.cells]
    run.warnings += without_part(plan.servers, plan.clients, plan.parts)
    for part, names, named in (
        ("servers", servers, plan.servers is not None),
        ("clients", clients, plan.clients is not None),
        ("stall", servers if plan.servers is not None else _stalling(alike), plan.servers is not None),
        ("idle", servers if plan.servers is not None else alike, plan.servers is not None),
        ("queue", relays, False),
    ):
        if part in plan.parts:
            run.warnings += left_out(part, names, report["cells"], named=named, found=report.get(part, ()))
    report["warnings"] = list(dict.fromkeys(run.warnings))
    report["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
    return report


def _steps_of(plan: ComparePlan, servers: Sequence[str], clients: Sequence[str], alike: Sequence[str]) -> int:
    """How many measurements there will be, if none fails."""
    total = 0
    if "servers" in plan.parts:
        places = [mode for mode in plan.modes for _ in range(1 if mode in _OF_THE_SMALLEST else len(plan.sizes))]
        total += plan.rounds * sum("TLS" not in mode or speaks_tls(name) for mode in places for name in servers)
    if "clients" in plan.parts:
        over_tls = [name for name in clients if "TLS" in plan.modes and speaks_tls(name) and not is_bare(name)]
        total += plan.rounds * len(plan.sizes) * (len(clients) + len(over_tls))
    if "queue" in plan.parts:
        total += plan.rounds * len(relays_here()) * len(plan.sizes)
    return total + len(_stalling(alike)) * ("stall" in plan.parts) + len(alike) * ("idle" in plan.parts)


def _stalling(servers: Sequence[str]) -> list[str]:
    return [name for name in _by_default(servers) if name != "smtp-sink"]


def _by_default(names: Sequence[str]) -> list[str]:
    return [name for name in names if not is_bare(name)]


def _worth(rate: float, seconds: float, least: int) -> int:
    """How many messages take about so long."""
    return int(min(_MOST, max(least, rate * seconds)))


def _order(names: Sequence[str], turn: int) -> list[str]:
    """There and back again, so that what drifts hits all alike."""
    return list(names) if turn % 2 == 0 else list(names)[::-1]


def _compare_servers(run: _Run, names: Sequence[str]) -> None:
    modes = [mode for mode in run.plan.modes if run.certificate is not None or "TLS" not in mode]
    places = [(size, mode) for size in run.plan.sizes for mode in modes if mode not in _OF_THE_SMALLEST]
    places += [(min(run.plan.sizes), mode) for mode in modes if mode in _OF_THE_SMALLEST]
    wanted = [Cell("servers", size, mode, run.plan.connections) for size, mode in places]
    run.cells += wanted
    tls = None if run.certificate is None else Tls("implicit", run.certificate)
    kinds = {tls if "TLS" in mode else None for mode in modes}
    counts: dict[tuple[str, int, str], int] = {}
    for turn in range(run.plan.rounds):
        order = _order(names, turn)
        with contextlib.ExitStack() as stack:
            running: list[tuple[str, Tls | None, Server]] = []
            for name in order:
                for kind in kinds if speaks_tls(name) else kinds & {None}:
                    try:
                        running.append((name, kind, stack.enter_context(Server(name, run.ours, tls=kind))))
                    except OSError as exc:
                        run.warnings.append(str(exc))
            for cell in wanted:
                for name, kind, server in running:
                    if (kind is not None) != ("TLS" in cell.mode):
                        continue
                    key = (name, cell.size, cell.mode)
                    arguments = (cell.size, cell.mode, run.plan.connections, run.others)
                    if key not in counts or turn > 0:  # the first also tells how many messages a second is worth
                        warm = _load(server.port, max(_LEAST, run.plan.connections), *arguments)
                        if key not in counts:
                            rate = warm["rate"]["messages"] if warm["complete"] else 0.0
                            counts[key] = _worth(rate, run.plan.seconds, _LEAST)
                    before = server.cpu()
                    load = _load(server.port, counts[key], *arguments)
                    if not load["complete"]:
                        run.warnings.append(
                            f"{name}, {counted(cell.size, 'octet')}, {cell.mode}: not every message was accepted"
                        )
                        cell.put(name, None, None)
                        run.steps.skipped()
                        continue
                    cost = (server.cpu() - before) / load["messages"]["accepted"] * 1e6
                    cell.put(name, cost, load["rate"]["messages"])
                    # A short run is mostly its warm-up: the next round is told better.
                    counts[key] = _worth(load["rate"]["messages"], run.plan.seconds, _LEAST)
                    run.steps.done(
                        f"round {turn + 1}/{run.plan.rounds}  server {name:16} {cell.size:9} octets {cell.mode:18} "
                        f"{cost:9.1f} us of CPU a message  {load['rate']['messages']:9.0f} messages/s"
                    )


def _compare_queues(run: _Run, names: Sequence[str]) -> None:
    wanted = [Cell("queue", size, "accept and relay", run.plan.connections) for size in run.plan.sizes]
    run.cells += wanted
    counts: dict[tuple[str, int], int] = {}
    for turn in range(run.plan.rounds):
        for cell in wanted:
            for name in _order(names, turn):
                messages = counts.get((name, cell.size), 10 * max(_LEAST, run.plan.connections))
                try:
                    done = measure(
                        name,
                        messages=messages,
                        size=cell.size,
                        connections=run.plan.connections,
                        ours=run.ours,
                        others=run.others,
                    )
                except (OSError, subprocess.SubprocessError) as exc:
                    run.warnings.append(f"{name}, {counted(cell.size, 'octet')}: {exc}")
                    cell.put(name, None, None)
                    run.steps.skipped()
                    continue
                counts[name, cell.size] = _worth(done.rate, run.plan.seconds, 10 * max(_LEAST, run.plan.connections))
                cell.put(name, done.cpu, done.rate)
                run.steps.done(
                    f"round {turn + 1}/{run.plan.rounds}  queue {name:16} {cell.size:9} octets "
                    f"{done.cpu:9.1f} us of CPU a message  {done.rate:9.0f} messages/s"
                )


def _compare_clients(run: _Run, names: Sequence[str]) -> None:
    wanted = []
    over_tls = run.certificate is not None and "TLS" in run.plan.modes
    modes = ["kept connection"] + (["kept TLS connection"] if over_tls else [])
    for size in run.plan.sizes:
        connections = run.plan.connections if size <= _LARGE else min(run.plan.connections, 2)
        wanted += [Cell("clients", size, mode, connections) for mode in modes]
    run.cells += wanted
    counts: dict[tuple[str, int, str], int] = {}
    with contextlib.ExitStack() as stack:
        try:
            ports = {"kept connection": stack.enter_context(Server("bench-sink", run.others)).port}
            if run.certificate is not None:
                # The sink speaks no TLS; every client has this one to send to, and its own CPU is what counts.
                server = Server("ehlo", run.others, tls=Tls("starttls", run.certificate))
                ports["kept TLS connection"] = stack.enter_context(server).port
        except OSError as exc:
            run.warnings.append(str(exc))
            return
        for turn in range(run.plan.rounds):
            order = _order(names, turn)
            for cell in wanted:
                starttls = cell.mode == "kept TLS connection"
                for name in order:
                    if starttls and (is_bare(name) or not speaks_tls(name)):
                        continue
                    base = cell.connections
                    least = (20 if cell.size <= _LARGE else 10) * base
                    count = counts.get((name, cell.size, cell.mode), least)
                    measure_it = partial(run_client, name, ports[cell.mode], cpus=run.ours, starttls=starttls)
                    try:
                        # The start of the program is left out: the same run with one message a connection is taken off.
                        small_cpu, small_wall = measure_it(base, cell.size, base)
                        cpu, wall = measure_it(count + base, cell.size, base)
                        if turn == 0:  # too short to be told, but it tells how many are worth it
                            count = _worth(count / max(wall - small_wall, 1e-3), run.plan.seconds, least)
                            cpu, wall = measure_it(count + base, cell.size, base)
                    except OSError as exc:
                        run.warnings.append(str(exc))
                        cell.put(name, None, None)
                        run.steps.skipped()
                        continue
                    cost = (cpu - small_cpu) / count * 1e6
                    rate = count / max(wall - small_wall, 1e-3)
                    counts[name, cell.size, cell.mode] = _worth(rate, run.plan.seconds, least)
                    if cost <= 0 or wall <= small_wall:
                        run.warnings.append(
                            f"{name}, {counted(cell.size, 'octet')}: its start cost more than its messages; "
                            "add --seconds"
                        )
                        cell.put(name, None, None)
                        run.steps.skipped()
                        continue
                    cell.put(name, cost, rate)
                    run.steps.done(
                        f"round {turn + 1}/{run.plan.rounds}  client {name:20} {cell.size:9} octets {cell.mode:19} "
                        f"{cost:9.1f} us of CPU a message  {rate:9.0f} messages/s"
                    )


def _stalls(run: _Run, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    (content,) = contents(str(run.plan.stall_size))
    wire = content + b".\r\n"
    for name in names:
        try:
            server = Server(name, run.ours, collect=True)
        except OSError as exc:
            run.warnings.append(str(exc))
            run.steps.skipped()
            continue
        try:
            bad = _send_at_once(server.port, wire, run.plan.stall_messages)
        finally:
            figures = server.stop()
        if bad or "stall_us" not in figures:
            run.warnings.append(f"{name}: {bad} of {counted(run.plan.stall_messages, 'large message')} not accepted")
            run.steps.skipped()
            continue
        found[name] = figures
        stall, peak = figures["stall_us"] / 1000, figures["peak_kib"] / 1024
        run.steps.done(f"stall   {name:16} {stall:9.1f} ms at worst, peak {peak:.0f} MiB")
    return found


def _send_at_once(port: int, wire: bytes, count: int) -> int:
    """So many clients, each with one message; how many of them failed."""
    failed = []

    def one() -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as sock, sock.makefile("rb") as replies:
                replies.readline()
                for line in (b"HELO x", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA"):
                    sock.sendall(line + b"\r\n")
                    if replies.readline()[:1] not in (b"2", b"3"):
                        raise OSError
                sock.sendall(wire)
                if not replies.readline().startswith(b"250"):
                    raise OSError
        except OSError:
            failed.append(1)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failed)


def _idle(run: _Run, names: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in names:
        try:
            with Server(name, run.ours) as server, contextlib.ExitStack() as stack:
                warm = _open_idle(stack, server.port, min(100, run.plan.idle))
                before = server.memory()
                more = _open_idle(stack, server.port, run.plan.idle)
                if warm + more < min(100, run.plan.idle) + run.plan.idle:
                    raise OSError(f"{name}: only {more} of {run.plan.idle} idle connections could be made")
                found[name] = max(0, server.memory() - before) / run.plan.idle
        except OSError as exc:
            run.warnings.append(str(exc))
            run.steps.skipped()
            continue
        run.steps.done(f"idle    {name:16} {found[name] / 1024:9.2f} KiB a connection")
    return found


def _open_idle(stack: contextlib.ExitStack, port: int, count: int) -> int:
    made = 0
    for _ in range(count):
        try:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            sock.recv(1000)
            sock.sendall(b"EHLO idle.example.org\r\n")
            if sock.recv(4000).startswith(b"250"):
                made += 1
        except OSError:
            break
    return made
