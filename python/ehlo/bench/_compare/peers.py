"""The programs that a comparison can run: which are on this machine, how each is started, and what it costs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ehlo.bench._compare.children import as_nobody, bound, own_folder
from ehlo.bench._compare.ports import kept_ports

__all__ = [
    "CLIENTS",
    "SERVERS",
    "Server",
    "Tls",
    "bare_of",
    "clients_here",
    "find_program",
    "is_bare",
    "make_certificate",
    "run_client",
    "servers_here",
    "speaks_tls",
    "versions",
]

SERVERS: Final = (
    "ehlo",
    "ehlo-uvloop",
    "ehlo-trio",
    "ehlo-awaits",
    "ehlo-awaits-uvloop",
    "smtp-sink",
    "aiosmtpd",
    "aiosmtpd-uvloop",
    "bare-asyncio",
    "bare-uvloop",
    "bare-trio",
)
CLIENTS: Final = (
    "ehlo-load",
    "ehlo-load-pipelined",
    "ehlo",
    "ehlo-uvloop",
    "ehlo-trio",
    "ehlo-many",
    "ehlo-many-uvloop",
    "ehlo-many-trio",
    "smtp-source",
    "smtplib",
    "aiosmtplib",
    "aiosmtplib-uvloop",
    "smtpproto",
    "bare-sockets",
    "bare-asyncio",
    "bare-uvloop",
    "bare-trio",
)
_WITHOUT_LOOP: Final = ("ehlo-load", "ehlo-load-pipelined", "smtp-sink", "smtp-source", "smtplib", "bare-sockets")
_PATIENCE: Final = 120.0  # seconds for a server to listen
_PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def find_program(name: str) -> str | None:
    """Where a program is, if it is installed: also where only root looks."""
    return shutil.which(name, path=_PATH)


def _needs(name: str) -> bool:
    """Whether all that a peer needs is here."""
    if name.endswith("-uvloop") and not _has("uvloop"):
        return False
    if name.endswith("-trio"):
        return _has("trio")
    base = name.removesuffix("-uvloop")
    if base in ("smtp-sink", "smtp-source"):
        return find_program(base) is not None
    if base in ("aiosmtpd", "aiosmtplib", "smtpproto"):
        return _has(base)
    return True


def servers_here() -> list[str]:
    """The servers that can be compared on this machine.

    Example::

        servers_here()  # ["ehlo", "ehlo-uvloop", "smtp-sink", "aiosmtpd", "aiosmtpd-uvloop"]
    """
    return [name for name in SERVERS if _needs(name)]


def clients_here() -> list[str]:
    """The clients that can be compared on this machine.

    Example::

        clients_here()  # ["ehlo-load", "ehlo-load-pipelined", "smtp-source", "smtplib", …]
    """
    return [name for name in CLIENTS if _needs(name)]


def is_bare(name: str) -> bool:
    """Whether a server or a client of this name is the loop alone, which is measured only when it is asked for."""
    return name.startswith("bare-")


def bare_of(name: str) -> str:
    """The bare peer on the same event loop as a server or a client of this name, or on sockets as a client without one.

    Example::

        bare_of("ehlo-awaits-uvloop")  # "bare-uvloop"
    """
    if name.endswith(("-uvloop", "-trio")):
        return f"bare-{name.rpartition('-')[2]}"
    return "bare-sockets" if name in _WITHOUT_LOOP else "bare-asyncio"


def speaks_tls(name: str) -> bool:
    """Whether a server of this name speaks TLS from the start, or a client of this name knows STARTTLS."""
    return name not in ("smtp-sink", "smtp-source", "bare-trio")


def make_certificate(folder: str) -> str:
    """A key and a certificate for 127.0.0.1, good for a day, in one file of this folder.

    Raises:
        OSError: without the program ``openssl``, or if it fails.
    """
    path = str(Path(folder) / "server.pem")
    program = find_program("openssl")
    if program is None:
        raise OSError("openssl is not installed: nothing is measured with TLS")
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    done = subprocess.run([*command, "-keyout", path, "-out", path + ".crt"], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"openssl made no certificate: {done.stderr.strip().splitlines()[-1:]}")
    with open(path, "a", encoding="ascii") as file:
        file.write(Path(path + ".crt").read_text(encoding="ascii"))
    return path


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server speaks TLS: from the start or by STARTTLS, and the file with its key and certificate."""

    mode: Literal["implicit", "starttls"]
    certificate: str


def versions() -> dict[str, str]:
    """What is compared: names and versions, as far as they can be known.

    Example::

        versions()["aiosmtpd"]  # "1.4.6"
    """
    found = {"python": sys.version.split()[0]}
    for name in ("ehlo", "uvloop", "trio", "aiosmtpd", "aiosmtplib", "smtpproto"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    postconf = find_program("postconf")
    if postconf is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([postconf, "-d", "-h", "mail_version"], capture_output=True, text=True, timeout=10)
            if done.returncode == 0:
                found["postfix"] = done.stdout.strip()
    return found


class Server:
    """A server process on processors of its own.

    Arguments:
        name: one of :func:`servers_here`, or "bench-sink".
        cpus: where it may run, ``None`` for anywhere.
        collect: whether it is to hold whole messages in memory, and to watch its event loop.
        tls: how it speaks TLS, ``None`` for in the clear; not for smtp-sink and bench-sink.

    Raises:
        OSError: if it does not start.

    Example::

        with Server("ehlo", {0}) as server: print(server.port, server.cpu())
    """

    def __init__(
        self, name: str, cpus: set[int] | None = None, *, collect: bool = False, tls: Tls | None = None
    ) -> None:
        self.name = name
        self._held = contextlib.ExitStack()  # its port and its folder
        self.port = 0
        options: dict[str, Any] = {"preexec_fn": bound(cpus), "start_new_session": True}
        if name == "smtp-sink":
            [self.port] = self._held.enter_context(kept_ports(1))  # it cannot tell which one it got
            # It wants a folder that it can enter as another user.
            folder = self._held.enter_context(own_folder())
            os.chmod(folder, 0o755)
            command = [find_program("smtp-sink") or name, "-m", "8192", f"127.0.0.1:{self.port}", "1024"]
            options |= {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            options |= as_nobody()
        elif name == "bench-sink":
            command = [sys.executable, "-m", "ehlo", "bench", "sink", "--port", "0"]
            options |= {"stdout": subprocess.PIPE, "text": True}
        else:
            command = [
                sys.executable,
                "-m",
                "ehlo.bench._compare.peer_servers",
                name,
                "collect" if collect else "discard",
            ]
            command += [] if tls is None else [tls.mode, tls.certificate]
            options |= {"stdout": subprocess.PIPE, "text": True}
        self._process: subprocess.Popen[str] = subprocess.Popen(command, **options)
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise

    def _wait_until_up(self) -> None:
        if self._process.stdout is not None:
            line = self._process.stdout.readline()
            if not line:
                raise OSError(f"{self.name} did not start")
            self.port = int(line.split()[-2].rsplit(":", 1)[-1] if self.name == "bench-sink" else line.split()[-1])
            return
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    client.recv(100)
                    client.sendall(b"QUIT\r\n")
                    client.recv(100)
                    return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise OSError(f"{self.name} did not start") from None
                time.sleep(0.01)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def cpu(self) -> float:
        """Seconds of CPU of all its threads, to the nanosecond where the system says it."""
        try:
            total = 0
            for task in Path(f"/proc/{self._process.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
            return total / 1e9
        except (OSError, ValueError, IndexError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Its resident memory in octets."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> dict[str, Any]:
        """End it; what it told at its end, if anything."""
        figures: dict[str, Any] = {}
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            out, _ = self._process.communicate(timeout=10)
            last = (out or "").strip().splitlines()
            if last and last[-1].startswith("{"):
                figures = json.loads(last[-1])
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._held.close()
        return figures


def run_client(
    name: str,
    port: int,
    messages: int,
    size: int,
    connections: int,
    cpus: set[int] | None = None,
    *,
    starttls: bool = False,
) -> tuple[float, float]:
    """Let a client send; its seconds of CPU and of the clock, with its start.

    Raises:
        OSError: if it fails.

    Example::

        cpu, wall = run_client("smtplib", 2525, 1000, 1024, 10)
    """
    if name == "smtp-source":
        command = [find_program("smtp-source") or name, "-d", "-M", "localhost", "-s", str(connections)]
        command += ["-m", str(messages), "-l", str(size), f"127.0.0.1:{port}"]
    else:
        command = [sys.executable, "-m", "ehlo.bench._compare.peer_clients", name, str(port), str(messages), str(size)]
        command += [str(connections), "starttls" if starttls else "clear"]
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, preexec_fn=bound(cpus)) as process:
            try:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            last = said.read().strip().splitlines()[-1:]
            raise OSError(": ".join([f"{name} ended with status {process.returncode}", *last]))
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun
