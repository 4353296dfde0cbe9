"""docs/state-machine.md and its drawings show the tables. The engine's own tests compare the tables with the engine."""

from __future__ import annotations

import pytest
from pages import DOCS, tool

DRAW = tool("draw_states")


@pytest.mark.parametrize("machine", DRAW.MACHINES)
def test_the_drawing_is_of_the_table(machine: str) -> None:
    assert DRAW.drawn(machine) == DRAW.source(machine), "python tools/draw_states.py renews it"


@pytest.mark.parametrize("machine", DRAW.MACHINES)
def test_the_drawing_has_every_state(machine: str) -> None:
    svg = DRAW.drawing(machine).read_text(encoding="utf-8")
    for line in DRAW.source(machine).splitlines():
        if "[label=" in line and "->" not in line:
            for part in line.split('label="')[1].split('"')[0].split("\\n"):
                assert f">{part}</text>" in svg


def test_the_page_has_the_tables() -> None:
    assert DRAW.page() == (DOCS / "state-machine.md").read_text(encoding="utf-8")
