"""A Postfix of our own on loopback: in a folder, with its own queue and log. Root must start it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ehlo.bench._compare.children import bound
from ehlo.bench._compare.peers import find_program
from ehlo.bench._compare.ports import kept_ports

__all__ = ["OwnPostfix", "find_postfix", "own_postfix"]

_PATIENCE: Final = 120.0
_SETTINGS: Final = """\
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = relay.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtp_tls_security_level = none
smtpd_tls_security_level = none
"""
# It ends a process when its own input ends: we close that, or are gone.
_GUARD: Final = ("/bin/sh", "-c", 'read -r line; kill "$0"')
# A service that gets no work starts no process.
_SERVICES: Final = """\
anvil     unix  - - n -     1 anvil
bounce    unix  - - n -     0 bounce
cleanup   unix  n - n -     0 cleanup
defer     unix  - - n -     0 bounce
discard   unix  - - n -     - discard
error     unix  - - n -     - error
flush     unix  n - n 1000? 0 flush
postlog   unix-dgram n - n - 1 postlogd
proxymap  unix  - - n -     - proxymap
qmgr      unix  n - n 300   1 qmgr
relay     unix  - - n -     - smtp
retry     unix  - - n -     - error
rewrite   unix  - - n -     - trivial-rewrite
scache    unix  - - n -     1 scache
showq     unix  n - n -     - showq
smtp      unix  - - n -     - smtp
tlsmgr    unix  - - n 1000? 1 tlsmgr
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
"""


@dataclass(frozen=True)
class OwnPostfix:
    """A Postfix that runs.

    Attributes:
        ports: where it listens, one for each listener.
        log: the file of its log.
        master: the process id of its first process, the parent of all others.
    """

    ports: list[int]
    log: Path
    master: int

    @property
    def port(self) -> int:
        """The first of its ports."""
        return self.ports[0]

    def lines(self, part: str) -> list[str]:
        """The lines of its log that hold this text."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if part in line]


def find_postfix() -> str | None:
    """Where the command ``postfix`` is; ``None`` if it is not installed, or if we are not root and cannot start it.

    Example::

        find_postfix()  # "/usr/sbin/postfix"
    """
    return find_program("postfix") if os.geteuid() == 0 else None


@contextlib.contextmanager
def own_postfix(
    folder: Path,
    settings: Mapping[str, object] = MappingProxyType({}),
    *,
    listeners: Sequence[str] = ("",),
    cpus: set[int] | None = None,
) -> Iterator[OwnPostfix]:
    """Start a Postfix, and stop it at the end.

    Args:
        folder: keeps all that is its own. Postfix' own user must be able to enter it.
        settings: lines of ``main.cf``, besides ours.
        listeners: options of each port's ``smtpd``, such as ``-o smtpd_milters=unix:/run/filter``.
        cpus: the processors that it may use; ``None``: all.

    Raises:
        OSError: it is not installed, we are not root, or it does not start.

    Example::

        with own_postfix(folder, {"default_transport": "discard"}) as server:
            socket.create_connection(("127.0.0.1", server.port))
    """
    if find_postfix() is None:
        raise OSError("Postfix is not installed, or we are not root")
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir(exist_ok=True)
    shutil.chown(folder / "data", "postfix")
    with (
        kept_ports(len(listeners)) as ports,  # it cannot tell which ones it got
        _running(folder, settings, listeners, ports, cpus) as server,
    ):
        yield server


@contextlib.contextmanager
def _running(
    folder: Path, settings: Mapping[str, object], listeners: Sequence[str], ports: list[int], cpus: set[int] | None
) -> Iterator[OwnPostfix]:
    own = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "etc/main.cf").write_text(_SETTINGS.format(folder=folder) + own)
    ours = (
        f"127.0.0.1:{port} inet n - n - - smtpd {options}\n" for port, options in zip(ports, listeners, strict=True)
    )
    (folder / "etc/master.cf").write_text("".join(ours) + _SERVICES)

    _run("postfix", "-c", folder / "etc", "check")  # makes what is missing in the queue's folder
    command = [
        f"{_run('postconf', '-c', folder / 'etc', '-h', 'daemon_directory')}/master",
        "-c",
        str(folder / "etc"),
        "-s",
    ]
    log, said = folder / "postfix.log", folder / "master.log"
    with (
        contextlib.ExitStack() as stack,
        said.open("wb") as output,
        # At its end the first process ends its process group: that must not be ours.
        subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, preexec_fn=bound(cpus, signal.SIGTERM)
        ) as master,
        # It becomes another user for a moment, and then Linux would not end it with us any more.
        subprocess.Popen([*_GUARD, str(master.pid)], stdin=subprocess.PIPE, start_new_session=True),
    ):
        stack.callback(_await_end, master.pid)
        end = time.monotonic() + _PATIENCE
        while not (log.exists() and "daemon started" in log.read_text(errors="replace")):
            if time.monotonic() > end or master.poll() is not None:
                raise OSError(f"Postfix did not start: {said.read_text(errors='replace')[-300:]}")
            time.sleep(0.01)
        yield OwnPostfix(ports, log, master.pid)


def _await_end(group: int) -> None:
    """Wait for the processes that the first one has started: they end after it, and may still write to the folder."""
    end = time.monotonic() + _PATIENCE
    while _is_alive(group):
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.01)


def _is_alive(group: int) -> bool:
    """Whether a process of the group runs (proc(5)). A zombie does not."""
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, _, own, *_ = process.read_text(errors="replace").rpartition(")")[2].split()
            if int(own) == group and state not in "ZX":
                return True
    return False


def _run(name: str, *arguments: str | Path) -> str:
    """What a command of Postfix prints."""
    command = [find_program(name) or name, *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_PATIENCE)
    if done.returncode:
        raise OSError(f"{name}: {done.stdout}{done.stderr}")
    return done.stdout.strip()
