"""systemd's protocol with its services: sockets that it opened, messages about the state, the watchdog.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). Without systemd nothing here has an effect.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from ehlo._words import counted
from ehlo.cli._receive import UsageError

__all__ = ["Notifier", "given_sockets", "watchdog_seconds"]

# The first descriptor that systemd hands over (SD_LISTEN_FDS_START).
_FIRST: Final = 3


def given_sockets(environ: MutableMapping[str, str], first: int = _FIRST) -> list[tuple[str, socket.socket]]:
    """The sockets that systemd opened for this process, with their names. The variables that tell of them are removed.

    Arguments:
        environ: the environment, :data:`os.environ`.
        first: the number of the first descriptor.

    Raises:
        UsageError: the variables make no sense.

    Example::

        given_sockets(os.environ)  # [("smtp", <socket>), ("submission", <socket>)]
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count:
        return []
    if not count.isdecimal():
        raise UsageError(f"LISTEN_FDS={count} is no number; let systemd start the server, or remove the variable")
    named = names.split(":") if names else ["unknown"] * int(count)
    if len(named) != int(count):
        raise UsageError(
            f"LISTEN_FDNAMES has {counted(len(named), 'name')} for {counted(int(count), 'socket')}; start it by systemd"
        )
    given = []
    for descriptor, name in enumerate(named, first):
        try:
            os.set_inheritable(descriptor, False)
            given.append((name, socket.socket(fileno=descriptor)))
        except OSError as exc:
            raise UsageError(f"systemd's descriptor {descriptor} ({name}) is no socket: {exc.strerror}") from None
    return given


def watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """Seconds within which systemd waits for a sign of life; ``None`` where it does not.

    Example::

        watchdog_seconds(os.environ)  # 30.0, for WatchdogSec=30
    """
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(text) / 1e6


class Notifier:
    """Tells the service manager about this process, if there is one. What cannot be sent is lost: mail goes on.

    Arguments:
        environ: the environment, :data:`os.environ`.

    Example::

        Notifier(os.environ).ready("2 listeners")
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An abstract name is written with @ in front.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return

    def close(self) -> None:
        """Nothing more is sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """All listeners listen, or a reload is over."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """A line for ``systemctl status``."""
        self._send(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """The settings are being read again. ``READY=1`` must follow (Type=notify-reload)."""
        # CLOCK_MONOTONIC is the clock that systemd compares with.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float) -> None:
        """It ends within so many seconds; systemd may wait as long."""
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={int((seconds + 5) * 1e6)}")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")


def _line(text: str) -> str:
    return " ".join(text.split())
