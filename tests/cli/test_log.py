"""Lines of a log are written beside the loop: bounded, dropped and counted (FAULTS A14, B9)."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ehlo.cli._log import FileTarget, LogWriter, StreamTarget, SyslogTarget, escaped


def lost(count: int) -> str:
    return f"dropped lines={count}"


class Scripted:
    """A target that stands still, or fails, as long as it is told to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.go = threading.Event()
        self.began = threading.Event()
        self.fails: OSError | None = None
        self.reopened = 0

    def write(self, lines: Sequence[tuple[int, str]]) -> None:
        self.began.set()
        assert self.go.wait(20)
        if self.fails is not None:
            raise self.fails
        self.lines += [line for _, line in lines]

    def reopen(self) -> None:
        self.reopened += 1


def test_lines_come_out_in_order() -> None:
    target = Scripted()
    target.go.set()
    writer = LogWriter(target, lost)
    for number in range(5000):
        writer.write(f"line {number}")
    assert writer.close()
    assert target.lines == [f"line {number}" for number in range(5000)]


def test_faults_b9_beyond_the_bound_lines_are_dropped_and_counted() -> None:
    target = Scripted()
    writer = LogWriter(target, lost, bound=1000)
    writer.write("x" * 100)
    assert target.began.wait(20)
    for _ in range(100):
        writer.write("y" * 100)
    assert writer.dropped == 91  # what is being written counts, too
    target.go.set()
    assert writer.close()
    assert target.lines == ["x" * 100, "dropped lines=91"] + ["y" * 100] * 9


def test_what_cannot_be_written_is_counted_and_told_when_there_is_room(capfd: pytest.CaptureFixture[str]) -> None:
    target = Scripted()
    target.go.set()
    target.fails = OSError(errno.ENOSPC, "No space left on device")
    writer = LogWriter(target, lost)
    writer.write("one")
    writer.write("two")
    assert writer.close()
    assert writer.dropped == 2

    target.fails = None
    again = LogWriter(target, lost)
    target.go.clear()
    again.write("three")
    assert target.began.wait(20)
    target.fails = OSError(errno.ENOSPC, "No space left on device")
    target.go.set()
    assert again.close()
    assert again.dropped == 1
    # The words are said once, however many lines are lost.
    assert capfd.readouterr().err.count("No space left") <= 2


def test_a_reader_that_stands_still_does_not_hold_up_the_end(tmp_path: Path) -> None:
    target = Scripted()
    writer = LogWriter(target, lost)
    writer.write("x")
    assert not writer.close(0.01)
    writer.write("after the end")
    assert writer.dropped == 1
    target.go.set()


def test_a_file_is_opened_anew_when_it_was_rotated(tmp_path: Path) -> None:
    path = tmp_path / "log"
    target = FileTarget(str(path))
    target.write([(6, "before")])
    path.rename(tmp_path / "log.1")
    target.write([(6, "after")])
    target.reopen()
    target.write([(6, "again \udcff é")])
    assert (tmp_path / "log.1").read_text() == "before\n"
    assert path.read_text() == "after\nagain \\udcff é\n"
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_torn_line_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "log"
    target = FileTarget(str(path))
    real: Callable[..., int] = os.write
    written = 0

    def full(number: int, octets: bytes) -> int:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(errno.ENOSPC, "full")
        return real(number, octets[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="full"):
            target.write([(6, "a line that does not fit")])
    target.write([(6, "the next")])
    assert path.read_text() == "a lin\nthe next\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes as on Unix")
def test_a_narrow_charset_escapes(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as stream:
        StreamTarget(stream).write([(6, "to=<jürgen@bücher.example>")])
    assert path.read_text() == "to=<j\\xfcrgen@b\\xfccher.example>\n"


def test_a_stream_that_is_closed_loses_lines() -> None:
    StreamTarget(None).write([(6, "x")])


def test_the_journal_gets_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with path.open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        target = StreamTarget(stream)
        assert target.is_journal
        target.write([(4, "refused"), (6, "accepted")])
    assert path.read_text() == "<4>refused\n<6>accepted\n"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_syslog_gets_a_datagram_a_line_also_after_its_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    target = SyslogTarget(path)
    for turn in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            server.settimeout(20)
            target.write([(4, f"refused {turn}")])
            assert server.recv(1000) == f"<20>ehlo[{os.getpid()}]: refused {turn}".encode()
        os.unlink(path)
    with pytest.raises(OSError, match="o such file"):
        target.write([(6, "lost")])
    target.reopen()


def test_control_characters_are_escaped_and_blanks_are_not() -> None:
    assert escaped("a b\r\n\x1b[1m\u202eö") == "a b\\r\\n\\x1b[1m\\u202eö"
