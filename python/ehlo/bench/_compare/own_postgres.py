"""A PostgreSQL of our own on a Unix socket, with an empty database."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ehlo.bench._compare.children import as_nobody, bound, own_folder
from ehlo.bench._compare.peers import find_program

__all__ = ["OwnPostgres", "find_postgres", "own_postgres"]

_PATIENCE: Final = 120.0
_STOP: Final = signal.SIGINT  # it cuts its clients off


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
    """The folder of PostgreSQL's programs; ``None`` if they are not installed.

    Example::

        find_postgres()  # Path("/usr/lib/postgresql/15/bin")
    """
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
    with own_folder("ehlo-pg-") as folder:
        os.chmod(folder, 0o755)
        user = as_nobody()  # PostgreSQL refuses root
        if user:
            os.chown(folder, user["user"], user["group"])
        data = f"{folder}/data"
        made = [str(programs / "initdb"), "-D", data, "-U", "ehlo", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, preexec_fn=bound(cpus), **user)
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
            stderr=subprocess.DEVNULL,
            cwd=folder,
            preexec_fn=bound(cpus, _STOP),
            **user,
        )
        try:
            end = time.monotonic() + _PATIENCE
            while subprocess.run([programs / "pg_isready", "-q", "-h", folder], check=False).returncode:
                if time.monotonic() > end or server.poll() is not None:
                    raise OSError("PostgreSQL did not start")
                time.sleep(0.05)
            yield OwnPostgres(f"postgresql://ehlo@/postgres?host={folder}", server.pid)
        finally:
            server.send_signal(_STOP)
            server.wait()
