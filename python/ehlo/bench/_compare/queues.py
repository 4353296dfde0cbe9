"""Queues beside Postfix: mail is accepted, made durable, relayed, and forgotten durably.

Each relay has one processor; the load and the sink have another one. A figure is messages a second from the first
submission to the last delivery, and the CPU of all processes of the relay. smtp-source sends, where it is installed.
Without it, the start of ``ehlo bench load`` is in the figures: then take long measurements.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ehlo._words import counted
from ehlo.bench._compare.children import bound, own_folder
from ehlo.bench._compare.own_postfix import find_postfix, own_postfix
from ehlo.bench._compare.own_postgres import find_postgres, own_postgres
from ehlo.bench._compare.peers import find_program

__all__ = ["RELAYS", "Relayed", "measure", "relays_here"]

RELAYS: Final = ("postfix", "ehlo-sqlite", "ehlo-postgres")

_PATIENCE: Final = 60.0
_PROGRAMS: Final = "ehlo.bench._compare.relay_programs"
# One client has many connections, and each may have a process of the relay.
_POSTFIX: Final = {
    "smtpd_recipient_restrictions": "permit_mynetworks, reject",
    "smtpd_client_connection_count_limit": 0,
    "default_process_limit": 100,
    "smtputf8_enable": "no",
}


def relays_here() -> list[str]:
    """Those whose programs are here, in the order of :data:`RELAYS`.

    Example::

        relays_here()  # ["postfix", "ehlo-sqlite"]
    """
    here = {
        "postfix": find_postfix() is not None,
        "ehlo-sqlite": _has("anyio"),
        "ehlo-postgres": _has("anyio") and _has("psycopg") and find_postgres() is not None,
    }
    return [name for name in RELAYS if here[name]]


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


class Relayed:
    """What one measurement gave.

    Attributes:
        rate: messages a second.
        cpu: microseconds of CPU a message.
    """

    def __init__(self, rate: float, cpu: float) -> None:
        self.rate = rate
        self.cpu = cpu


def measure(
    name: str, *, messages: int, size: int, connections: int, ours: set[int] | None, others: set[int] | None
) -> Relayed:
    """Start a relay on an empty queue, warm it up, and send through it.

    Raises:
        OSError: it does not start, or does not deliver in time.

    Example::

        measure("ehlo-sqlite", messages=1000, size=4096, connections=20, ours={0}, others={1}).rate
    """
    with own_folder("ehlo-relay-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        folder.chmod(0o755)
        count = folder / "count"
        sink = stack.enter_context(_python(folder / "sink.log", others, "sink", str(count)))[0]
        port, roots = stack.enter_context(_relay(name, folder, sink, ours))
        _send(port, min(100, messages), size, connections, others)
        _wait(count, min(100, messages))
        before, spent, began = _delivered(count), _cpu(roots), time.monotonic()
        _send(port, messages, size, connections, others)
        _wait(count, before + messages)
        seconds = time.monotonic() - began
        return Relayed(messages / seconds, (_cpu(roots) - spent) / messages * 1e6)


def _delivered(count: Path) -> int:
    return int(count.read_bytes() or b"0")


def _wait(count: Path, number: int) -> None:
    end = time.monotonic() + _PATIENCE
    while _delivered(count) < number:
        if time.monotonic() > end:
            raise OSError(f"{counted(number - _delivered(count), 'message')} not delivered in {_PATIENCE:.0f} s")
        time.sleep(0.005)


def _send(port: int, messages: int, size: int, connections: int, cpus: set[int] | None) -> None:
    source = find_program("smtp-source")
    if source is not None:  # it starts in no time
        command = [source, "-d", "-s", str(min(connections, messages)), "-m", str(messages), "-l", str(size)]
        command += ["-f", "a@b.example", "-t", "x@y.example", f"127.0.0.1:{port}"]
    else:
        command = [sys.executable, "-m", "ehlo", "bench", "load", f"127.0.0.1:{port}", "--no-phases", "--no-pipelining"]
        command += ["-c", str(min(connections, messages)), "-m", str(messages), "-s", str(size)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=bound(cpus))


@contextlib.contextmanager
def _python(log: Path, cpus: set[int] | None, *arguments: str) -> Iterator[tuple[int, int]]:
    """One of our programs; gives its port and its process id."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAMS, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=bound(cpus),
        )
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if not words:
                raise OSError(f"{arguments[0]} did not start: {log.read_text(errors='replace')[-300:]}")
            yield int(words[-1]), process.pid
        finally:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def _relay(name: str, folder: Path, sink: int, cpus: set[int] | None) -> Iterator[tuple[int, list[int]]]:
    """A relay; gives its port, and the processes whose trees make it up."""
    with contextlib.ExitStack() as stack:
        if name == "postfix":
            settings = {**_POSTFIX, "relayhost": f"[127.0.0.1]:{sink}"}
            server = stack.enter_context(own_postfix(folder, settings, cpus=cpus))
            yield server.port, [server.master]
            return
        roots = []
        where = str(folder / "spool")
        if name == "ehlo-postgres":
            postgres = stack.enter_context(own_postgres(cpus))
            where = postgres.url
            roots.append(postgres.master)
        port, relay = stack.enter_context(_python(folder / "relay.log", cpus, "relay", where, str(sink)))
        yield port, [relay, *roots]


def _cpu(roots: list[int]) -> float:
    """Seconds of CPU of processes and of all that they started, the ended ones included."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            children.setdefault(int(fields[1]), []).append(pid)
            spent[pid] = sum(map(int, fields[11:15]))
    total, left = 0, list(roots)
    while left:
        pid = left.pop()
        total += spent.get(pid, 0)
        left += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")
