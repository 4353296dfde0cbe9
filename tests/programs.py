"""Programs that we did not write: found, run, waited for; and a Postfix of a test's own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ehlo.bench._compare.own_postfix import OwnPostfix, find_postfix, own_postfix
from ehlo.bench._compare.peers import find_program
from ehlo.bench._compare.ports import kept_ports

AS_ROOT = ["--as-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
"""The option of ``ehlo serve`` without which root may not start it."""
PATIENCE = 120.0
"""Seconds until something that has not happened is not going to happen."""
_KEPT = contextlib.ExitStack()


def program(name: str) -> str:
    """Where it is; without it the test is skipped."""
    path = find_program(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*arguments: str | Path, stdin: bytes = b"") -> None:
    done = subprocess.run(arguments, input=stdin, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


@contextlib.contextmanager
def started(*arguments: str | Path, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the block ends. Its output is text in pipes; ``how`` (of ``Popen``) may change this."""
    process = subprocess.Popen(arguments, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **how})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process that it started may hold the pipes
            process.communicate(timeout=10)


@contextlib.contextmanager
def shown_on_failure(log: Path) -> Iterator[None]:
    """If the block fails, the test's output has this file."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            print(log.read_text(errors="replace"))
        raise


def ehlo_command(*arguments: str | Path, **how: Any) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """``ehlo`` with these arguments, :func:`started`."""
    return started(sys.executable, "-m", "ehlo", *arguments, **how)


def free_port() -> int:
    """For programs that cannot say which port they got. On Linux nobody else gets it while this process lives."""
    [port] = _KEPT.enter_context(kept_ports(1))
    return port


def wait_until(true: Callable[[], bool]) -> None:
    """For programs that cannot tell that something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # what is waited for needs the processor, too


def await_listener(place: int | str | Path) -> None:
    """Until somebody listens on this port of loopback, or at this path.

    The file of a Unix socket is there as soon as the socket is bound, and that is before somebody listens.
    """
    family, address = (socket.AF_INET, ("127.0.0.1", place)) if isinstance(place, int) else (socket.AF_UNIX, str(place))

    def listens() -> bool:
        with socket.socket(family) as probe:
            probe.settimeout(1)
            return probe.connect_ex(address) == 0

    wait_until(listens)


@contextlib.contextmanager
def postfix(
    relay_port: int,
    chain: bytes | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
    listeners: Sequence[str] = ("",),
) -> Iterator[OwnPostfix]:
    """A Postfix of its own, that relays all mail to ``relay_port``. With ``chain``, a key and its certificates in PEM,
    it insists on TLS. ``refused`` are recipients, and the reply that each gets. ``listeners`` are those of
    ``own_postfix``.
    """
    if find_postfix() is None:
        pytest.skip("Postfix is not installed, or we are not root")
    pairs = ", ".join(f"{{ {recipient} = {reply} }}" for recipient, reply in refused.items())
    # Not below tmp_path: Postfix's own user must be able to go there.
    with tempfile.TemporaryDirectory(prefix="ehlo-postfix-") as directory:
        base = Path(directory)
        base.chmod(0o755)
        settings: dict[str, object] = {
            "local_transport": "error:no local delivery",
            "relayhost": f"[127.0.0.1]:{relay_port}",
            "smtp_host_lookup": "native",
            # The server it relays to offers CHUNKING, and nothing of that is hidden from it.
            "smtp_discard_ehlo_keywords": "",
            "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {pairs} }}" if pairs else "",
            # It would keep a client waiting that is refused again and again.
            "smtpd_soft_error_limit": 1000,
            "smtpd_hard_error_limit": 1000,
        }
        if chain is not None:
            pem = base / "chain.pem"
            pem.write_bytes(chain)
            settings |= {
                "smtpd_tls_security_level": "encrypt",
                "smtpd_tls_chain_files": pem,
                "smtpd_tls_loglevel": 1,
            }
        with shown_on_failure(base / "postfix.log"), own_postfix(base, settings, listeners=listeners) as server:
            yield server
