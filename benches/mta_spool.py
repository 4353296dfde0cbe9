"""A spool with very many recipients: open, claim, summary, list, and memory. ``mta_spool.py FOLDER [RECIPIENTS]``."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from ehlo.mta._spool import Selection
from ehlo.mta._sqlite_spool import SqliteSpool


def fill(folder: Path, number: int) -> None:
    """Ten recipients a message, all due, at 1000 domains."""
    with sqlite3.connect(folder / "queue.db") as db:
        messages = range(1, number // 10 + 1)
        db.executemany(
            "INSERT INTO message VALUES (?, 'a@b.example', 1e9, 500, 0, 0, 10, 0, 'h', '192.0.2.1', NULL)",
            ((one,) for one in messages),
        )
        db.executemany("INSERT INTO body VALUES (?, ?)", ((one, b"x" * 500) for one in messages))
        db.executemany(
            "INSERT INTO recipient (message, id, path, owner, due, attempts, warned, route)"
            " VALUES (?, ?, ?, 0, ?, 1, 0, ?)",
            (
                (one, at, f"u{at}@d{one % 1000}.example", 1e9 + one, f"mx{one % 1000}.example")
                for one in messages
                for at in range(10)
            ),
        )


async def main(folder: Path, number: int) -> None:
    """Fill it, and measure."""
    async with SqliteSpool(folder):
        pass
    fill(folder, number)
    spool = SqliteSpool(folder)

    async def measure(what: str, function: Callable[[], Awaitable[Any]]) -> None:
        began = time.perf_counter()
        await function()
        print(f"{what:30} {(time.perf_counter() - began) * 1000:10.2f} ms")

    await measure("open", spool.open)
    for limit in (1, 100, 500):
        await measure(f"claim {limit}", lambda limit=limit: spool.claim(time.time(), limit))  # type: ignore[misc]
    await measure("next due", spool.next_due)
    await measure("list 100", lambda: spool.entries(Selection(), 100))
    await measure("summary by route", lambda: spool.summary("route", time.time(), Selection()))
    await measure("totals", spool.totals)
    await spool.close()
    print(f"{'memory at most':30} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:10.0f} MiB")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
