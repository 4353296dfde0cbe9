"""The programs that a comparison should have measured, and did not: each is named, with a reason if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ehlo._words import counted
from ehlo.bench._compare.peers import is_bare, speaks_tls

__all__ = ["left_out", "without_part"]

_OF_SERVERS: Final = ("servers", "stall", "idle")


def left_out(
    part: str, names: Sequence[str], cells: Iterable[Mapping[str, Any]], *, named: bool, found: Iterable[str] = ()
) -> list[str]:
    """A warning for each program of a part without a figure.

    Arguments:
        part: of "servers", "clients", "stall", "idle" and "queue". names: the programs that it is about.
        cells: the cells of a report; of other parts, too. found: the names with a figure, of a part without cells.
        named: whether somebody named the programs. If nobody did, a program without TLS is no surprise.

    Example::

        left_out("idle", ["ehlo", "ehlo-awaits"], [], named=True, found=["ehlo"])
        # ["idle: ehlo-awaits was not measured: ehlo stands for it"]
    """
    warnings = []
    own = [cell for cell in cells if cell["part"] == part]
    for name in names:
        missing = [cell for cell in own if name not in cell["peers"]]
        if len(missing) == len(own):  # in no cell, or the part has none
            if own or name not in found:
                warnings.append(f"{part}: {name} was not measured{_why(part, name, missing)}")
            continue
        if not named:
            missing = [cell for cell in missing if not _no_tls(name, cell)]
        if missing:
            places = "; ".join(f"{counted(cell['size'], 'octet')}, {cell['mode']}" for cell in missing)
            warnings.append(f"{part}: {name} was not measured with {places}{_why(part, name, missing)}")
    return warnings


def without_part(servers: Sequence[str] | None, clients: Sequence[str] | None, parts: Sequence[str]) -> list[str]:
    """A warning for programs that were named, although no part is about them.

    Example::

        without_part(["ehlo"], None, ["clients"])  # ["servers: ehlo was not measured: no part is about servers"]
    """
    warnings = []
    for kind, names, about in (("servers", servers, _OF_SERVERS), ("clients", clients, ("clients",))):
        if names and not set(about) & set(parts):
            were = "was" if len(names) == 1 else "were"
            warnings.append(f"{kind}: {', '.join(names)} {were} not measured: no part is about {kind}")
    return warnings


def _no_tls(name: str, cell: Mapping[str, Any]) -> bool:
    clear = not speaks_tls(name) or (cell["part"] == "clients" and is_bare(name))
    return clear and "TLS" in cell["mode"]


def _why(part: str, name: str, missing: Sequence[Mapping[str, Any]]) -> str:
    if missing and all(_no_tls(name, cell) for cell in missing):
        return ": it speaks no TLS here"
    if part in ("stall", "idle") and "-awaits" in name:
        return f": {name.replace('-awaits', '')} stands for it"
    if part == "stall" and (is_bare(name) or name == "smtp-sink"):
        return ": it does not watch its event loop"
    return ""
