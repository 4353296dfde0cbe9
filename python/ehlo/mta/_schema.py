"""The tables of a spool: numbered SQL files for each engine, each run once, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Final, Literal

from ehlo.mta._spool import SpoolError

__all__ = ["LATEST", "check", "steps"]

LATEST: Final = 3
"""The number of the last file."""


def steps(engine: Literal["sqlite", "postgres"], version: int) -> Iterator[tuple[int, list[str]]]:
    """The files that a spool of this version has not seen: number and statements.

    Example::

        for number, statements in steps("sqlite", 0): ...
    """
    folder = resources.files("ehlo.mta") / "schema" / engine
    for number in range(version + 1, LATEST + 1):
        text = (folder / f"{number:03}.sql").read_text("utf-8")
        bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
        yield number, [one.strip() for one in bare.split(";") if one.strip()]


def check(where: object, version: int, *, old_is_refused: bool = False) -> None:
    """Refuse a spool of a newer program.

    Arguments:
        where: the spool, for the error.
        version: the number of its schema.
        old_is_refused: refuse one of an older program, too, since nothing may be written.

    Raises:
        SpoolError: it is one.

    Example::

        check("spool", 1)
    """
    if version > LATEST:
        raise SpoolError(
            f"the spool {where} was written by a newer ehlo (schema {version}, this program knows {LATEST}):"
            " update this program"
        )
    if old_is_refused and version < LATEST:
        raise SpoolError(
            f"the spool {where} has schema {version}, and this program needs {LATEST}: run ehlo queue migrate"
        )
