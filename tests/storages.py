"""Storages for tests of the kit: a folder, and a PostgreSQL server of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ehlo.bench._compare.own_postgres import find_postgres, own_postgres
from ehlo.mta._sqlite_spool import SqliteSpool

Make = Callable[[], Any]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server of its own."""
    pytest.importorskip("psycopg")
    if find_postgres() is None:
        pytest.skip("PostgreSQL is not installed, or cannot be started by root")
    with own_postgres() as server:
        yield server.url


@pytest.fixture
def fresh(postgres: str) -> str:
    """A database without a spool; gives its URL."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS ehlo CASCADE")
    return postgres


@pytest.fixture(params=["sqlite", "postgres", "postgres-alone"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes spools over the same storage: another one each time."""
    return _maker(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def make_with_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The same, but for a spool that has no delivered journal."""
    return _maker(request, tmp_path)


def _maker(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "sqlite":
        return lambda: SqliteSpool(tmp_path / "spool", reserve=0)
    url = request.getfixturevalue("fresh")
    from ehlo.mta._postgres_spool import PostgresSpool

    journal = None if request.param == "postgres-alone" else tmp_path / "delivered"
    return lambda: PostgresSpool(url, journal=journal)
