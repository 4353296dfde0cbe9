"""Programs that we did not write: found, run, waited for; and a Postfix of a test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

PATIENCE = 30.0
"""Seconds until something that has not happened is not going to happen."""


def program(name: str) -> str:
    """Where it is; without it the test is skipped."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*arguments: str | Path, stdin: bytes = b"") -> None:
    done = subprocess.run(arguments, input=stdin, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def free_port() -> int:
    """For programs that cannot say which port they got."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], bool]) -> None:
    """For programs that cannot tell that something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline


def await_port(port: int) -> None:
    """Until somebody listens there."""

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_until(listens)


MAIN_CF = """\
compatibility_level = 3.6
config_directory = {base}/etc
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/mail.log
maillog_file_prefixes = {base}
myhostname = relay.example
mydestination =
local_recipient_maps =
local_transport = error:no local delivery
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = {restrictions}
smtpd_peername_lookup = no
# It would keep a client waiting that is refused again and again.
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_tls_security_level = {tls}
smtpd_tls_chain_files = {chain}
smtpd_tls_loglevel = 1
relayhost = [127.0.0.1]:{relay_port}
smtp_host_lookup = native
disable_dns_lookups = yes
smtp_tls_security_level = none
# The server it relays to offers CHUNKING, and nothing of that is hidden from it.
smtp_discard_ehlo_keywords =
"""

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
smtp      unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A Postfix that runs: the port it listens on, and its log."""

    port: int
    log: Path

    def lines(self, part: str) -> list[str]:
        """The lines of its log that hold this."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if part in line]


@contextlib.contextmanager
def postfix(
    relay_port: int, chain: bytes | None = None, refused: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Postfix]:
    """A Postfix of its own, that relays all mail to ``relay_port``. With ``chain``, a key and its certificates in PEM,
    it insists on TLS. ``refused`` are recipients, and the reply that each gets.
    """
    if os.geteuid() != 0:
        pytest.skip("Postfix must be started as root")
    command = program("postfix")
    port = free_port()
    # Not below tmp_path: Postfix's own user must be able to go there.
    with tempfile.TemporaryDirectory(prefix="ehlo-postfix-") as directory:
        base = Path(directory)
        base.chmod(0o755)
        for name in ("etc", "queue", "data"):
            (base / name).mkdir()
        shutil.chown(base / "data", "postfix")
        pem = base / "etc/chain.pem"
        pem.write_bytes(chain or b"")
        tls = {"tls": "none", "chain": ""} if chain is None else {"tls": "encrypt", "chain": pem}
        pairs = ", ".join(f"{{ {recipient} = {reply} }}" for recipient, reply in refused.items())
        restrictions = f"check_recipient_access inline:{{ {pairs} }}" if pairs else ""
        settings = {"base": base, "relay_port": relay_port, "restrictions": restrictions, **tls}
        (base / "etc/main.cf").write_text(MAIN_CF.format(**settings))
        (base / "etc/master.cf").write_text(MASTER_CF.format(port=port))
        server = Postfix(port, base / "mail.log")
        try:
            run(command, "-c", base / "etc", "start")
            yield server
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                print(server.log.read_text(errors="replace"))
            raise
        finally:
            run(command, "-c", base / "etc", "stop")
