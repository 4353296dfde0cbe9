"""What ``ehlo serve --check`` found: one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from ehlo._words import counted

__all__ = ["Finding", "Level", "report"]

Level: TypeAlias = Literal["OK", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: how bad it is. With an error the server would not start, or would lose or refuse mail.
        about: what was looked at.
        text: what was found, and for a warning or an error how to mend it.

    Example::

        Finding("OK", "listener 1", "0.0.0.0:25 is free")
    """

    level: Level
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level + ':':9}{self.about}: {self.text}"


def report(findings: Iterable[Finding], as_json: bool) -> tuple[str, int]:
    """All findings as text or as a line of JSON, and the exit status: 1 with an error, else 0.

    Example::

        text, status = report(findings, as_json=False)
    """
    found = list(findings)
    errors = sum(one.level == "error" for one in found)
    warnings = sum(one.level == "warning" for one in found)
    status = 1 if errors else 0
    if as_json:
        return json.dumps({"errors": errors, "warnings": warnings, "findings": [asdict(one) for one in found]}), status
    counts = [(len(found), "look"), (warnings, "warning"), (errors, "error")]
    last = ", ".join(counted(count, word) for count, word in counts)
    return "\n".join([*map(str, found), last]), status
