"""What the tests of the MTA kit share."""

from __future__ import annotations

import pytest
from loops import LOOPS


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)
