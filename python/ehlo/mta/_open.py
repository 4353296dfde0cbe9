"""Opening a queue: :func:`open_queue`."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ehlo.mta._queue import Queue
from ehlo.mta._spool import Spool, SpoolError
from ehlo.mta._sqlite_spool import SqliteSpool

__all__ = ["administered", "open_queue"]

_POSTGRES: Final = ("postgresql://", "postgres://")


@asynccontextmanager
async def open_queue(
    where: str | os.PathLike[str] | Spool, *, journal: str | os.PathLike[str] | None = None, **settings: Any
) -> AsyncIterator[Queue]:
    """Open a queue. Use it with ``async with``.

    Arguments:
        where: the folder of the spool, or ``postgresql://…``, or a spool.
        journal: for ``postgresql://…``: the folder of this machine for the delivered journal. By default it is below
            ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~/.local/state``. A spool in a folder has its own.
        settings: those of :class:`ehlo.mta.Queue`: ``hostname`` and ``route`` are needed.

    Raises:
        SpoolError: the spool cannot be opened; the message says what to do.

    Example::

        async with ehlo.mta.open_queue("spool", hostname="mx.example.org", route=route) as queue:
            await queue.run()
    """
    spool = _spool(where, journal) if isinstance(where, str | os.PathLike) else where
    queue = Queue(spool, **settings)
    await spool.open()
    try:
        yield queue
    finally:
        await spool.close()


def administered(where: str) -> Spool:
    """A spool for a process that looks at it, and changes what no node owns; it delivers nothing.

    Raises:
        SpoolError: it is the URL of something else.

    Example::

        async with administered("spool") as spool: print(await spool.totals())
    """
    if where.startswith(_POSTGRES):
        spool: Spool = _postgres().PostgresSpool(where, administers=True)
        return spool
    if "://" in where:
        raise SpoolError(f"{where!r} is no spool: give a folder, or postgresql://USER@HOST/DATABASE")
    return SqliteSpool(where, administers=True)


def _postgres() -> Any:
    try:
        return importlib.import_module("ehlo.mta._postgres_spool")
    except ImportError as exc:  # psycopg is an extra of its own; without a name it lacks the library libpq
        raise SpoolError(f"a spool in PostgreSQL needs {exc.name or 'libpq'}: pip install 'ehlo[postgres]'") from None


def _spool(where: str | os.PathLike[str], journal: str | os.PathLike[str] | None) -> Spool:
    if isinstance(where, str) and where.startswith(_POSTGRES):
        postgres = _postgres()
        spool: Spool = postgres.PostgresSpool(where, journal=_journal(where) if journal is None else journal)
        return spool
    if isinstance(where, str) and "://" in where:
        raise SpoolError(f"{where!r} is no spool: give a folder, or postgresql://USER@HOST/DATABASE")
    return SqliteSpool(where)


def _journal(url: str) -> Path:
    """The folder of the journal of one database."""
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except ValueError as exc:
        raise SpoolError(f"the spool in PostgreSQL cannot be opened: {' '.join(str(exc).split())}") from exc
    name = " ".join(str(parts.get(key)) for key in ("host", "port", "dbname"))
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local/state"
    return base / "ehlo" / f"queue-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
