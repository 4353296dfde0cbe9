"""Storages for tests of the kit: a folder, and a PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ehlo.mta._sqlite_spool import SqliteSpool

Make = Callable[[], Any]


def _postgres_bin() -> Path | None:
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if (one / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server of its own on a Unix socket; gives its URL. As root it runs as another user, since it refuses root."""
    pytest.importorskip("psycopg")
    programs = _postgres_bin()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    prefix: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ehlo-pg-") as name:
        os.chmod(name, 0o755)
        if os.geteuid() == 0:
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
            prefix = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
            os.chown(name, 65534, 65534)
        data = f"{name}/data"
        subprocess.run(
            [*prefix, programs / "initdb", "-D", data, "-U", "ehlo", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=name,
        )
        server = subprocess.Popen(
            [*prefix, programs / "postgres", "-D", data, "-k", name, "-c", "listen_addresses="],
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        try:
            url = f"postgresql://ehlo@/postgres?host={name}"
            _wait_for(url)
            yield url
        finally:
            server.terminate()
            server.wait()


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(200):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    pytest.fail("PostgreSQL does not start")


@pytest.fixture
def fresh(postgres: str) -> str:
    """A database without a spool; gives its URL."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS ehlo CASCADE")
    return postgres


@pytest.fixture(params=["sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes spools over the same storage: another one each time."""
    if request.param == "sqlite":
        return lambda: SqliteSpool(tmp_path / "spool", reserve=0)
    url = request.getfixturevalue("fresh")
    from ehlo.mta._postgres_spool import PostgresSpool

    return lambda: PostgresSpool(url, journal=tmp_path / "delivered")
