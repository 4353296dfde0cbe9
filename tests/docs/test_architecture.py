"""ARCHITECTURE.md names every room."""

from __future__ import annotations

import re

import pytest
from pages import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PACKAGE = ROOT / "python/ehlo"


@pytest.mark.parametrize("wing", ["_server", "_client"])
def test_every_file_of_a_wing_is_in_its_table(wing: str) -> None:
    table = TEXT.partition(f"| room of `{wing}/` |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == {file.stem for file in (PACKAGE / wing).glob("*.py")} - {"__init__"}


def test_every_part_of_the_package_is_in_the_table_of_floors() -> None:
    floors = TEXT.partition("| floor |")[2].partition("\n\n")[0]
    parts = {file.stem for file in PACKAGE.iterdir() if file.suffix == ".py" or (file / "__init__.py").exists()}
    assert {part for part in parts if not re.search(rf"`(?:python/ehlo/)?{part}(?:\.py)?`", floors)} == {
        "__init__",
        "__main__",
    }


def test_every_command_is_in_the_table_of_floors() -> None:
    from ehlo.cli import _parser

    (commands,) = (one.choices for one in _parser()._actions if one.dest == "command")
    row = re.findall(r"^\| commands \|.*$", TEXT, re.MULTILINE)[0]
    assert commands is not None
    assert {name for name in commands if not re.search(rf"`(?:ehlo )?{name}`", row)} == set()
