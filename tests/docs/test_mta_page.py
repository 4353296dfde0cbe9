"""docs/mta.md has every public name of the kit, and every setting with its default."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import ehlo.mta
from ehlo.mta._sqlite_spool import SqliteSpool

PAGE = (Path(__file__).resolve().parents[2] / "docs/mta.md").read_text("utf-8")
ROWS = {found[1]: found[2] for found in re.finditer(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", PAGE, re.MULTILINE)}


def test_every_public_name_is_on_the_page() -> None:
    missing = [name for name in ehlo.mta.__all__ if not re.search(rf"`{name}[`(]", PAGE)]
    assert missing == []


@pytest.mark.parametrize("kind", [ehlo.mta.RetrySchedule, ehlo.mta.DeliveryLimits])
def test_every_limit_is_on_the_page_with_its_default(kind: Any) -> None:
    for one in fields(kind):
        numbers = one.default if isinstance(one.default, tuple) else (one.default,)
        assert ROWS[one.name].startswith(
            ", ".join(f"{number:g}" if number < 1e5 else str(int(number)) for number in numbers)
        )


@pytest.mark.parametrize("kind", [ehlo.mta.Queue, SqliteSpool])
def test_every_setting_is_on_the_page(kind: Any) -> None:
    names = set(inspect.signature(kind).parameters) - {"spool", "folder"}
    assert names <= set(ROWS)
