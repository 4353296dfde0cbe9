"""A PostgreSQL of our own on a Unix socket, with an empty database."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ehlo.bench._compare.peers import find_program, pin

__all__ = ["OwnPostgres", "find_postgres", "own_postgres"]

_PATIENCE: Final = 30.0
_NOBODY: Final = 65534


@dataclass(frozen=True)
class OwnPostgres:
    """A PostgreSQL that runs.

    Attributes:
        url: of its database, for the owner of all in it.
        master: the process id of its first process, the parent of all others.
    """

    url: str
    master: int


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs; ``None`` if they are not installed, or if we are root and cannot become
    another user: PostgreSQL refuses root.

    Example::

        find_postgres()  # Path("/usr/lib/postgresql/15/bin")
    """
    if os.geteuid() == 0 and find_program("setpriv") is None:
        return None
    found = find_program("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if (one / "initdb").exists()), None)


@contextlib.contextmanager
def own_postgres(cpus: set[int] | None = None) -> Iterator[OwnPostgres]:
    """Start a PostgreSQL, and stop it at the end.

    Args:
        cpus: the processors that it may use; ``None``: all.

    Raises:
        OSError: it is not installed, or does not start.

    Example::

        with own_postgres() as server:
            psycopg.connect(server.url)
    """
    programs = find_postgres()
    if programs is None:
        raise OSError("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="ehlo-pg-") as folder:
        os.chmod(folder, 0o755)
        prefix: list[Any] = []
        if os.geteuid() == 0:
            prefix = [find_program("setpriv"), f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            os.chown(folder, _NOBODY, _NOBODY)
        data = f"{folder}/data"
        made = [*prefix, programs / "initdb", "-D", data, "-U", "ehlo", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder)
        server = subprocess.Popen(
            [*prefix, programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
            stderr=subprocess.DEVNULL,
            cwd=folder,
            preexec_fn=pin(cpus),
        )
        try:
            end = time.monotonic() + _PATIENCE
            while subprocess.run([programs / "pg_isready", "-q", "-h", folder], check=False).returncode:
                if time.monotonic() > end:
                    raise OSError("PostgreSQL did not start")
                time.sleep(0.05)
            yield OwnPostgres(f"postgresql://ehlo@/postgres?host={folder}", server.pid)
        finally:
            server.send_signal(signal.SIGINT)  # it cuts its clients off
            server.wait()
