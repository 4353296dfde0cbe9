"""Each block of Python in the README and on every page parses, and each name of ehlo in it is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parsed(page: Path) -> list[ast.Module]:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [compile(block, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT) for block in blocks]


def dotted(node: ast.expr) -> list[str] | None:
    """``a.b.c`` as a list; ``None`` for every other expression."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return [*before, node.attr]
    return None


def look_up(names: list[str]) -> None:
    """Fail if a public name of ehlo does not exist. A module of a backend that is missing is left out."""
    found = importlib.import_module("ehlo")
    for at, name in enumerate(names[1:], 2):
        if not hasattr(found, name):
            try:
                importlib.import_module(".".join(names[:at]))
            except ModuleNotFoundError as exc:
                if exc.name and not exc.name.startswith("ehlo"):
                    return
                raise
        found = getattr(found, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_names_of_a_page_are_there(page: Path) -> None:
    for block in parsed(page):
        for node in ast.walk(block):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ehlo":
                for alias in node.names:
                    look_up([*node.module.split("."), alias.name])
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "ehlo":
                        look_up(alias.name.split("."))
            elif isinstance(node, ast.Attribute) and (names := dotted(node)) and names[0] == "ehlo":
                look_up(names)
