"""Values of the arguments of ``ehlo bench``, its outputs, and how a tool is stopped."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ehlo.cli._receive import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ehlo.bench import Condition

__all__ = [
    "INTERRUPTED",
    "add_outputs",
    "check_outputs",
    "condition",
    "host_port",
    "number",
    "stopping",
    "time",
    "write_outputs",
]

INTERRUPTED: Final = 130  # the shell's convention for a command that SIGINT ended


def number(what: str, low: float, high: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{what}: a number from {low:g} to {high:g}, not {value!r}")
        return number

    return read


def host_port(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"give HOST:PORT, as 127.0.0.1:2525 or [::1]:2525, not {value!r}")
    return host, int(port)


def condition(value: str) -> Condition:
    from ehlo.bench import parse_condition

    try:
        return parse_condition(value)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def time(value: str) -> float:
    """A time with its unit, in microseconds."""
    from ehlo.bench._load.conditions import MICROSECONDS

    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)", value)
    microseconds = 0.0 if found is None else float(found[1]) * MICROSECONDS[found[2]]
    if microseconds <= 0:
        raise argparse.ArgumentTypeError(f"a time as 200ms or 1.5s, not {value!r}")
    return microseconds


def add_outputs(parser: argparse.ArgumentParser, *, html: bool = True) -> None:
    outputs = parser.add_argument_group("output")
    outputs.add_argument("--json", metavar="FILE", help="write the whole report to this file; - is standard output")
    if html:
        outputs.add_argument(
            "--html", metavar="FILE", help="write a page with plots to this file; the page needs no network"
        )
    outputs.add_argument("--plain", action="store_true", help="print plain lines, also on a terminal")


def check_outputs(arguments: argparse.Namespace) -> None:
    """A run of ten minutes is not to end with a file that cannot be written."""
    for flag in ("json", "html"):
        path = getattr(arguments, flag, None)
        if path is None or path == "-":
            continue
        folder = Path(path).parent
        if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"--{flag} {path}: cannot be written there; name a file in a folder that exists")


def write_outputs(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    if arguments.json is not None:
        document = json.dumps(report, indent=1)
        if arguments.json == "-":
            sys.stdout.write(document + "\n")
        else:
            Path(arguments.json).write_text(document + "\n", encoding="utf-8")
    if getattr(arguments, "html", None) is not None:
        from ehlo.bench import page

        Path(arguments.html).write_text(page(report), encoding="utf-8")


# Seconds in which a second signal is the first one again: timeout(1) sends its signal to the process and to its group.
_AGAIN: Final = 1.0


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call ``stop``; one that comes a second later ends the process as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first: float | None = None

    def heard(number: int, frame: object) -> None:
        nonlocal first
        if first is None:
            first = monotonic()
            stop()
        elif monotonic() - first >= _AGAIN:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
