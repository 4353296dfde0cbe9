"""One suite, every backend."""

from __future__ import annotations

import ssl

import pytest
from authority import Authority
from backends import BACKENDS, Backend


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def tls(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, with a certificate for mx.example and 127.0.0.1, and that of a client that trusts it."""
    return authority.server(), authority.client()
