"""Opening a queue: :func:`open_queue`."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from ehlo.mta._queue import Queue
from ehlo.mta._spool import Spool
from ehlo.mta._sqlite_spool import SqliteSpool

__all__ = ["open_queue"]

_POSTGRES: Final = ("postgresql://", "postgres://")


@asynccontextmanager
async def open_queue(where: str | os.PathLike[str] | Spool, **settings: Any) -> AsyncIterator[Queue]:
    """Open a queue; to be used with ``async with``.

    Arguments:
        where: the folder of the spool, or ``postgresql://…``, or a spool.
        settings: those of :class:`ehlo.mta.Queue`: ``hostname`` and ``route`` are needed.

    Raises:
        SpoolError: the spool cannot be opened; the message says what to do.

    Example::

        async with ehlo.mta.open_queue("spool", hostname="mx.example.org", route=route) as queue:
            await queue.run()
    """
    spool = _spool(where) if isinstance(where, str | os.PathLike) else where
    queue = Queue(spool, **settings)
    await spool.open()
    try:
        yield queue
    finally:
        await spool.close()


def _spool(where: str | os.PathLike[str]) -> Spool:
    if isinstance(where, str) and where.startswith(_POSTGRES):
        module = importlib.import_module("ehlo.mta._postgres_spool")  # psycopg is an extra of its own
        spool: Spool = module.PostgresSpool(where)
        return spool
    return SqliteSpool(where)
