"""Each block of Python in the README and on every page parses, has a test, and names only what ehlo has."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from pages import DOCS, blocks

PAGES = ["README.md", *sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))]
TESTS = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("*.py"))


def parsed(page: str) -> list[ast.Module]:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return [compile(block, page, "exec", flags) for block in blocks(page)]


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


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_a_page_with_code_has_a_test_that_runs_it(page: str) -> None:
    """A new page needs a test in this folder; two pages of one form share a test."""
    name = re.sub("moving-from-(smtplib|aiosmtplib)", "moving-from-{name}", page)
    assert f'"{name}"' in TESTS


@pytest.mark.parametrize("page", PAGES)
def test_the_names_of_a_page_are_there(page: str) -> None:
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
