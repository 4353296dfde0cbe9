"""docs/state-machine.md and its drawings show the tables. The engine's own tests compare the tables with the engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools/draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAW = load()


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
    assert DRAW.page() == (ROOT / "docs/state-machine.md").read_text(encoding="utf-8")
