"""Fixtures that all tests share: the backends of the contract suite, certificates, the command line."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import ehlo.cli
from authority import Authority
from backends import BACKENDS, Backend, MemoryAsyncio, MemoryTrio
from blocking import Blocking
from loops import LOOPS
from storages import fresh, make, make_with_journal, postgres  # noqa: F401 (fixtures)

CLIENT_MODULES = ("test_client", "test_client_tls", "test_client_waits", "test_transaction")
"""Modules about the client: ``ehlo.sync`` runs them, too, but for tests of the mark ``waits``."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run whole folders in parallel, where pytest-xdist is installed; ``-n 0`` turns it off.

    The tests wait for sockets and programs more than they compute: so there are two workers for each processor. A
    single file runs in this process, because its tests take less time than the workers need to start.
    """
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:  # a worker starts no workers
        return
    if not config.pluginmanager.hasplugin("xdist") or config.option.numprocesses is not None:
        return
    if config.option.usepdb or config.option.collectonly or not all(Path(arg).is_dir() for arg in config.args):
        return
    config.option.numprocesses = 2 * (os.cpu_count() or 1)
    if config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Make the tests, and the programs that they start, the same on every build, from every shell, on a busy machine.

    Hypothesis measures by a clock: on a busy machine each example, and the making of examples, may be slow by chance.
    A build without optimisation warns when ``ehlo`` is imported. ``filterwarnings`` does not reach programs, and the
    warning would be their first line. A shell starts background programs with SIGINT ignored, and they hand that on.
    """
    settings.register_profile("ehlo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ehlo")
    quiet = "ignore:ehlo was built without optimisation:RuntimeWarning"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quiet)))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every backend; over memory, too, but for tests of the mark ``tcp``; tests of clients by ``ehlo.sync``, too."""
    if "backend_kind" in metafunc.fixturenames:
        tcp = any(metafunc.definition.iter_markers("tcp"))
        kinds = [kind for kind in BACKENDS.values() if kind not in (MemoryAsyncio, MemoryTrio) or not tcp]
        if metafunc.module.__name__ in CLIENT_MODULES and not any(metafunc.definition.iter_markers("waits")):
            kinds.append(Blocking)
        metafunc.parametrize("backend_kind", kinds, ids=[kind.name for kind in kinds])


@pytest.fixture
def backend(backend_kind: type[Backend]) -> Backend:
    return backend_kind()


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """The name of an event loop; ``loops.run`` runs a function on it."""
    return str(request.param)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def tls(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, with a certificate for mx.example and 127.0.0.1, and that of a client that trusts it."""
    return authority.server(), authority.client()


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command with these arguments; it must call them wrong. Gives the one line that it said."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            ehlo.cli.main(list(arguments))
        assert caught.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("ehlo")
        return captured.err

    return run


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our socket and that of the peer. Neither blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs
