"""The public face of the package changes only on purpose: then its snapshot changes in the same commit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from public_api import public_api

SNAPSHOT = Path(__file__).resolve().parents[1] / "data/public-api.txt"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the standard library's signatures differ between versions")
def test_the_public_face_is_that_of_the_snapshot() -> None:
    renew = "renew it with: python tests/docs/public_api.py > tests/data/public-api.txt"
    assert public_api() == SNAPSHOT.read_text(encoding="utf-8"), renew
