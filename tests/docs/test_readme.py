"""README.md is short, its commands can be copied, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import DOCS, ROOT, text_of

README = text_of("README.md")


def test_its_commands_are_single_lines_that_make_their_own_environment() -> None:
    for name in ("sink", "tests"):
        (command,) = re.findall(rf"<!-- the {name} -->\n```sh\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
        assert command.startswith("python3 -m venv .venv && ")
        assert "\n" not in command


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda file: file.name)
def test_its_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / link).exists(), link
