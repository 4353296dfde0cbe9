"""pytest fixtures: ``smtp_server``, ``lmtp_server`` and ``smtp_servers``. The package registers them by itself.

Each test gets a server of its own on a port that the system chose, so they run side by side (pytest-xdist) as well.
``--ehlo-backend trio`` runs the servers on trio; given twice, each test runs on both.

Example::

    def test_mail_goes_out(smtp_server):
        send_welcome(host=smtp_server.host, port=smtp_server.port)
        assert smtp_server.wait(1)[0].recipients == ["new@user.example"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ehlo.testing import SMTPServer
    from ehlo.testing._server import Backend

__all__ = ["ehlo_backend", "lmtp_server", "smtp_server", "smtp_servers"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("ehlo").addoption(
        "--ehlo-backend",
        action="append",
        choices=("asyncio", "trio"),
        help="what the servers of the fixtures smtp_server and lmtp_server run on; may be given twice (asyncio)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ehlo_backend" in metafunc.fixturenames:
        backends = metafunc.config.getoption("--ehlo-backend") or ["asyncio"]
        metafunc.parametrize("ehlo_backend", backends, indirect=True)


@pytest.fixture
def ehlo_backend(request: pytest.FixtureRequest) -> Backend:
    """What the servers run on: ``"asyncio"`` or ``"trio"``."""
    backend: Backend = request.param
    return backend


@pytest.fixture
def smtp_servers(ehlo_backend: Backend) -> Iterator[Callable[..., SMTPServer]]:
    """Makes servers, with the arguments of :class:`ehlo.testing.SMTPServer`; they are stopped after the test.

    Example::

        def test_relay(smtp_servers):
            first, second = smtp_servers(), smtp_servers(MyHandler())
    """
    # Not at the top: a plugin is imported before what measures coverage.
    from ehlo.testing import SMTPServer

    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> SMTPServer:
            return stack.enter_context(SMTPServer(*args, **{"backend": ehlo_backend, **options}))

        yield make


@pytest.fixture
def smtp_server(smtp_servers: Callable[..., SMTPServer]) -> SMTPServer:
    """A server that accepts all and keeps it: ``.host``, ``.port``, ``.messages``, ``.wait(count)``.

    Example::

        def test_mail(smtp_server):
            assert send_to(smtp_server.port) and smtp_server.wait(1)
    """
    return smtp_servers()


@pytest.fixture
def lmtp_server(smtp_servers: Callable[..., SMTPServer]) -> SMTPServer:
    """The same for LMTP (RFC 2033).

    Example::

        def test_delivery(lmtp_server):
            assert deliver_to(lmtp_server.port) and lmtp_server.wait(1)
    """
    from ehlo import ServerConfig

    return smtp_servers(config=ServerConfig(lmtp=True))
