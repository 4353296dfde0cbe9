"""Lines of a log, written beside the event loop: whatever happens to a line, the loop and the mail go on.

A line goes into a buffer, and a thread writes it. Beyond the bound lines are dropped and counted. The count is written
when there is room again.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, Protocol, TextIO

from ehlo._words import counted

__all__ = [
    "ERROR",
    "INFO",
    "WARNING",
    "FileTarget",
    "LogWriter",
    "StreamTarget",
    "SyslogTarget",
    "Target",
    "console_writer",
    "escaped",
    "is_stuck",
    "lines_beside",
]

# Levels as syslog numbers them (RFC 5424 6.2.1).
ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6

# Octets that may wait. At 200 octets a line that is 20,000 lines.
_BOUND: Final = 4 * 1024 * 1024
# Octets for one write: a whole number of lines.
_BATCH: Final = 65536
# Seconds between two tries to write to a pipe that nobody reads.
_REST: Final = 0.1
# Seconds that a reader who stands still has at the end.
_PATIENCE: Final = 2.0
# Syslog's facility "mail" (RFC 5424 6.2.1).
_MAIL: Final = 2
# A line for syslog may have so many octets (RFC 5424 6.1: 2048 should be accepted).
_SYSLOG_LINE: Final = 8192


def escaped(text: str) -> str:
    """``text`` on one line of a log or a terminal: what is not printable is escaped, and blanks stay.

    Example::

        >>> escaped("a b\\n")
        'a b\\\\n'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Target(Protocol):
    """Where lines go. Its methods are called in the writer's thread, and may block."""

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        """Write lines, each with its level.

        Raises:
            OSError: some could not be written.
        """

    def reopen(self) -> None:
        """Look for the place again: it may have been moved."""


class StreamTarget:
    """Standard output or standard error: written to below Python's own buffer, so that a reader who stands still stops
    nobody else.

    Arguments:
        stream: with a file descriptor; ``None``: it was closed before we began, and lines are lost.
    """

    def __init__(self, stream: TextIO | None) -> None:
        try:
            self._number = -1 if stream is None else stream.fileno()
        except (OSError, ValueError):  # no file, or closed
            self._number = -1
        self._encoding = (None if stream is None else stream.encoding) or "ascii"
        self._journal = self._is_journal()
        self._torn = False

    @property
    def is_usable(self) -> bool:
        """Whether it has a file descriptor."""
        return self._number >= 0

    @property
    def is_journal(self) -> bool:
        """Whether the journal reads it: it adds the time itself, and understands levels (sd-daemon(3))."""
        return self._journal

    def _is_journal(self) -> bool:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        if self._number < 0 or not inode:
            return False
        try:
            found = os.fstat(self._number)
        except OSError:
            return False
        return (str(found.st_dev), str(found.st_ino)) == (device, inode)

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        """Write them, however long it takes."""
        if self._number < 0:
            return
        text = "".join(f"<{level}>{line}\n" if self._journal else line + "\n" for level, line in lines)
        octets = text.encode(self._encoding, "backslashreplace")
        _write_all(self._number, b"\n" + octets if self._torn else octets, self)

    def reopen(self) -> None:
        """It stays."""

    def torn(self, is_torn: bool) -> None:
        """Whether the last line is half there."""
        self._torn = is_torn


class FileTarget:
    """A file, opened anew when another file has its name, as after a rotation. It is made with mode 0640.

    Arguments:
        path: its name.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._number = self._open()
        self._torn = False

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
        return os.open(self._path, flags, 0o640)

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        """Append them."""
        if self._was_moved():
            self.reopen()
        octets = "".join(line + "\n" for _, line in lines).encode("utf-8", "backslashreplace")
        _write_all(self._number, b"\n" + octets if self._torn else octets, self)

    def _was_moved(self) -> bool:
        try:
            named, ours = os.stat(self._path), os.fstat(self._number)
        except FileNotFoundError:
            return True
        return (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)

    def reopen(self) -> None:
        """Open what has the name now. Where that fails, the old file stays in use."""
        fresh = self._open()
        os.close(self._number)
        self._number = fresh
        self._torn = False

    def torn(self, is_torn: bool) -> None:
        """Whether the last line is half there."""
        self._torn = is_torn


class SyslogTarget:
    """The machine's syslog, facility ``mail``.

    Arguments:
        path: of its socket.
        name: of this program.
    """

    def __init__(self, path: str = "/dev/log", name: str = "ehlo") -> None:
        self._path = path
        self._head = f"{name}[{os.getpid()}]: "
        self._socket: socket.socket | None = None

    def check(self) -> None:
        """Whether somebody listens.

        Raises:
            OSError: nobody does.
        """
        self._connected()

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        """One datagram a line."""
        for level, line in lines:
            octets = f"<{_MAIL * 8 + level}>{self._head}{line}".encode("utf-8", "backslashreplace")[:_SYSLOG_LINE]
            try:
                self._connected().send(octets)
            except OSError:  # it was started again
                self.reopen()
                self._connected().send(octets)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                raise
            self._socket = sock
        return self._socket

    def reopen(self) -> None:
        """Connect again with the next line."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Tearable(Protocol):
    def torn(self, is_torn: bool) -> None: ...


def _write_all(number: int, octets: bytes, target: _Tearable) -> None:
    view = memoryview(octets)
    try:
        while view:
            try:
                view = view[os.write(number, view) :]
            except BlockingIOError:  # another program shares the file, and made it non-blocking
                select.select([], [number], [])
    except OSError:
        written = len(octets) - len(view)
        if written:
            target.torn(octets[written - 1 : written] != b"\n")
        raise
    target.torn(False)


class LogWriter:
    """Writes lines beside the loop.

    Arguments:
        target: where they go.
        lost: makes the line that says how many lines were dropped.
        bound: octets that may wait.

    Attributes:
        dropped: lines that were dropped so far.
        lost: as the argument.

    Example::

        writer = LogWriter(StreamTarget(sys.stdout), lambda count: f"dropped lines={count}")
        writer.write("listening")
        writer.close()
    """

    def __init__(self, target: Target, lost: Callable[[int], str], bound: int = _BOUND) -> None:
        self.lost = lost
        self._target = target
        self._bound = bound
        self._lines: deque[tuple[int, str]] = deque()
        self._waiting = 0
        self._untold = 0
        self._idle = True
        self._closing = False
        self._reopen = False
        self._complained = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self.dropped = 0

    @property
    def is_journal(self) -> bool:
        """Whether the journal reads it."""
        return isinstance(self._target, StreamTarget) and self._target.is_journal

    def write(self, line: str, level: int = INFO) -> None:
        """Give it a line, without its end. Never waits and never raises.

        Arguments:
            line: one line; see :func:`escaped`.
            level: one of :data:`ERROR`, :data:`WARNING` and :data:`INFO`.
        """
        size = len(line)
        with self._changed:
            if self._waiting + size > self._bound or self._closing:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append((level, line))
            self._waiting += size
            if self._idle:
                self._wake()

    def reopen(self) -> None:
        """The file may have been moved: open it anew before the next line."""
        with self._changed:
            self._reopen = True
            self._wake()

    def _wake(self) -> None:
        self._idle = False
        if self._thread is None or self._pid != os.getpid():  # a thread does not survive a fork
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="ehlo log", daemon=True)
            self._thread.start()
        self._changed.notify()

    def close(self, seconds: float = _PATIENCE) -> bool:
        """Write what waits, and end the thread. Gives whether all was written in that time.

        Arguments:
            seconds: to wait for a reader who stands still. What is left then is lost.
        """
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(seconds)
            return not thread.is_alive()
        return True

    # ---- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            lines, size, reopen = batch
            try:
                if reopen:
                    self._target.reopen()
                if lines:
                    self._target.write(lines)
            except OSError as exc:
                self._done(size, len(lines))
                self._complain(exc)
            else:
                self._complained = False
                self._tell_lost(self._done(size, 0))

    def _next(self) -> tuple[list[tuple[int, str]], int, bool] | None:
        """The next lines, with their octets; ``None`` at the end. They count as waiting until they are written: a
        reader who stands still makes no room."""
        with self._changed:
            while not self._lines and not self._reopen:
                if self._closing:
                    return None
                self._idle = True
                self._changed.wait()
            self._idle = False
            batch: list[tuple[int, str]] = []
            size = 0
            while self._lines and size < _BATCH:
                batch.append(self._lines.popleft())
                size += len(batch[-1][1])
            reopen, self._reopen = self._reopen, False
        return batch, size, reopen

    def _done(self, size: int, lost: int) -> int:
        """Lines are out of hand: written, or lost. Gives the number of lost lines that nobody was told of."""
        with self._changed:
            self._waiting -= size
            self.dropped += lost
            self._untold += lost
            return self._untold

    def _tell_lost(self, count: int) -> None:
        if count:
            try:
                self._target.write([(WARNING, self.lost(count))])
            except OSError as exc:
                self._complain(exc)
                return
            with self._changed:
                self._untold -= count

    def _complain(self, exc: OSError) -> None:
        """Standard error hears of it once, until lines get through again."""
        if isinstance(exc, BrokenPipeError):
            time.sleep(_REST)  # nobody reads: do not spin while lines come
        elif not self._complained:
            self._complained = True
            _say_once(f"ehlo: the log cannot be written: {exc.strerror or exc}")


def _say_once(line: str) -> None:
    """Standard error, where it is no pipe that could hold this thread up."""
    try:
        number = sys.stderr.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            os.write(number, line.encode("utf-8", "backslashreplace") + b"\n")
    except (AttributeError, OSError, ValueError):  # there is none
        return


# ---- what a command says while it serves ---------------------------------------------------------

_consoles: Final[dict[str, LogWriter]] = {}
# Streams whose reader stood still at the end: to write to them once more would never return.
_stuck: Final[set[str]] = set()


if hasattr(os, "register_at_fork"):  # a child has no threads, and so it needs writers of its own
    os.register_at_fork(after_in_child=_consoles.clear)


@contextmanager
def lines_beside() -> Iterator[None]:
    """Inside, standard output and standard error are written beside the loop. A block inside another changes nothing.

    Example::

        with lines_beside():
            serve_until_a_signal()
    """
    if _consoles:
        yield
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        target = StreamTarget(stream)
        if target.is_usable:
            stream.flush()
            _consoles[name] = LogWriter(target, lambda count: f"ehlo: {counted(count, 'line')} dropped: nobody read")
    try:
        yield
    finally:
        writers = dict(_consoles)
        _consoles.clear()
        for name, writer in writers.items():
            if not writer.close():
                _stuck.add(name)


def console_writer(name: Literal["stdout", "stderr"]) -> LogWriter | None:
    """What writes a standard stream beside the loop; ``None`` outside of :func:`lines_beside`."""
    return _consoles.get(name)


def is_stuck(name: Literal["stdout", "stderr"]) -> bool:
    """Whether the reader of a standard stream stood still when the server ended."""
    return name in _stuck
