"""What the tests of the MTA kit share."""

from __future__ import annotations

import pytest
from loops import LOOPS

from authority import Authority


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()
