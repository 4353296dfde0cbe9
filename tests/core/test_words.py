"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from ehlo._words import counted


@pytest.mark.parametrize(
    ("count", "form", "text"),
    [
        (0, "", "0 messages"),
        (1, "", "1 message"),
        (2, "", "2 messages"),
        (12_345, ",", "12,345 messages"),
        (0.6, ".0f", "1 message"),
        (1.0, "", "1.0 messages"),
    ],
)
def test_the_singular_stands_after_1_only(count: float, form: str, text: str) -> None:
    assert counted(count, "message", form) == text
