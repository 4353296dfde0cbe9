"""A process that is killed at one of its calls of the system, for tests of what a kill leaves behind.

A program that uses it forks: so it is a process of its own, without threads. The calls are counted where Python makes
them; a statement of SQLite counts as one. A kill falls before a call. A write that is killed has written a part of its
octets, as Linux does it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["killed", "run_alone"]

CALLS = ["chmod", "close", "fchmod", "fstat", "fsync", "ftruncate", "link", "listdir", "lstat", "mkdir", "open"]
CALLS += ["pread", "pwrite", "read", "readlink", "rename", "stat", "statvfs", "unlink", "write"]


class _Killer:
    def __init__(self, at: int, tear: int | None, begins: bytes) -> None:
        self.left = at
        self.tear = tear
        self.begins = begins
        self.lock = threading.Lock()

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self.wrapped(name, getattr(os, name)))
        fcntl.fcntl = self.wrapped("fcntl", fcntl.fcntl)
        fcntl.flock = self.wrapped("flock", fcntl.flock)
        connect, killer = sqlite3.connect, self

        class Connection(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                killer.count("execute", args)
                return super().execute(*args)

            def executemany(self, *args: Any) -> sqlite3.Cursor:
                killer.count("executemany", args)
                return super().executemany(*args)

        sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)  # type: ignore[assignment]

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.count(name, args, real)
            return real(*args, **options)

        return call

    def count(self, name: str, args: tuple[Any, ...], real: Callable[..., Any] = lambda *args: None) -> None:
        with self.lock:
            if self.tear is not None:
                is_last = name == "write" and bytes(args[1][: len(self.begins)]) == self.begins
            else:
                self.left -= 1
                is_last = self.left == 0
            if is_last:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2 if self.tear is None else self.tear])
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def killed(act: Callable[[], object], at: int, *, tear: int | None = None, begins: bytes = b"") -> bool:
    """Whether a process that acts was killed at its call of this number. If not, it made fewer calls.

    Arguments:
        act: what the process does.
        at: the number of the call; 0: none.
        tear: the number does not count; the kill falls into the first write of octets that begin with ``begins``, when
            so many are written.
    """
    child = os.fork()
    if child == 0:
        _Killer(at, tear, begins).install()
        try:
            act()
        except BaseException as exc:
            sys.excepthook(type(exc), exc, exc.__traceback__)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def run_alone(program: Path, *arguments: object) -> list[int]:
    """Run a program that forks; gives the numbers that it prints."""
    path = os.pathsep.join([str(Path(__file__).parent), str(program.parent)])
    command = [sys.executable, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]
