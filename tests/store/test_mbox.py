"""mbox under faults: FAULTS A11, A12, A13, A15, D17; two writers, other programs' locks, torn ends."""

from __future__ import annotations

import errno
import fcntl
import mailbox
import os
import pathlib
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from boxes import MESSAGE, NOW, envelope, in_mbox

import ehlo
from ehlo.store import Mbox, failure_reply
from ehlo.store._mbox_repair import journal_for


def subjects(path: pathlib.Path) -> list[str]:
    box = mailbox.mbox(path, create=False)
    try:
        return [str(message["Subject"]) for message in box]
    finally:
        box.close()


def message(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\ntext\r\n".encode()


# ---- the file behind the name --------------------------------------------------------------------


def test_renamed_removed_and_replaced(tmp_path: pathlib.Path) -> None:
    # FAULTS A11
    box, old = tmp_path / "box", tmp_path / "old"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    box.rename(old)
    store.deliver(envelope(), message("2"))
    box.unlink()
    store.deliver(envelope(), message("3"))
    (tmp_path / "fresh").write_bytes(b"")
    (tmp_path / "fresh").rename(box)
    store.deliver(envelope(), message("4"))
    with box.open("wb"):
        pass  # emptied, as "copytruncate" does it
    store.deliver(envelope(), message("5"))
    assert (subjects(old), subjects(box)) == (["1"], ["5"])


def test_renamed_while_the_lock_is_waited_for(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # FAULTS A11: the name is looked at again when the lock is there
    box = tmp_path / "box"
    store = Mbox(box)
    real, calls = os.link, 0

    def link(*args: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            box.rename(tmp_path / "old")
        real(*args)

    monkeypatch.setattr(os, "link", link)
    store.deliver(envelope(), message("1"))
    assert subjects(box) == ["1"]
    assert (tmp_path / "old").read_bytes() == b""


def test_removed_during_the_append(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # FAULTS A11: by somebody who takes no lock
    box = tmp_path / "box"
    store = Mbox(box)
    real = os.fsync
    removed: list[pathlib.Path] = []

    def fsync(fd: int) -> None:
        if not removed:
            box.unlink()
            removed.append(box)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    store.deliver(envelope(), message("1"))
    assert subjects(box) == ["1"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_modes(tmp_path: pathlib.Path, umask: int, mode: int) -> None:
    # FAULTS D17
    before = os.umask(umask)
    try:
        Mbox(tmp_path / "box", mode=mode).deliver(envelope(), MESSAGE)
        (tmp_path / "own").touch(0o640)
        theirs = stat.S_IMODE((tmp_path / "own").stat().st_mode)
        Mbox(tmp_path / "own", mode=mode).deliver(envelope(), MESSAGE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "box").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == theirs  # as its owner has it


def test_links(tmp_path: pathlib.Path) -> None:
    # FAULTS D17
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    for _ in range(2):
        with pytest.raises(OSError, match="symbolic link") as caught:
            Mbox(link)
        assert caught.value.errno == errno.ELOOP
    assert not real.exists()
    Mbox(link, follow_symlink=True).deliver(envelope(), MESSAGE)
    assert link.is_symlink()
    assert len(in_mbox(real)) == 1
    store = Mbox(real)
    real.rename(tmp_path / "moved")
    real.symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match="symbolic link"):
        store.deliver(envelope(), MESSAGE)


def test_what_is_no_regular_file(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", pathlib.Path("/dev/null")):
        with pytest.raises(OSError, match="no regular file"):
            Mbox(path)
    with pytest.raises(IsADirectoryError):
        Mbox(tmp_path)
    with pytest.raises(FileNotFoundError):
        Mbox(tmp_path / "missing" / "box")
    Mbox(tmp_path / "missing" / "box", parents=True).deliver(envelope(), MESSAGE)


# ---- torn ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"Fro", b"From x@y Tue Nov 24 03:00:00 2026", b"\r\n", b"\0\0"])
def test_a_torn_end_of_unknown_origin_is_ended(tmp_path: pathlib.Path, end: bytes) -> None:
    # FAULTS A12: nothing that somebody else may want is cut off, and the next message can be read
    box = tmp_path / "box"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    with box.open("ab") as file:
        file.write(b"From x@y Tue Nov 24 03:00:00 2026\nSubject: torn\n\nhalf a li" + end)
    before = box.read_bytes()
    store.deliver(envelope(), message("2"))
    assert box.read_bytes().startswith(before)
    assert subjects(box)[:2] == ["1", "torn"]
    assert subjects(box)[-1] == "2"
    assert b"\n\nFrom a@b " in box.read_bytes()[len(before) - 2 :]


def die_inside(box: pathlib.Path, written: int, *, size: int = 0) -> None:
    """A process that is killed after it has written so many octets of a message."""
    script = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from boxes import envelope\n"
        "from ehlo.store import Mbox, _mbox\n"
        "left = int(sys.argv[2])\n"
        "def write_all(fd, octets):\n"
        "    global left\n"
        "    os.write(fd, octets[:left])\n"
        "    left -= len(octets)\n"
        "    if left <= 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "_mbox.write_all = write_all\n"
        "Mbox(sys.argv[1]).deliver(envelope(), b'Subject: torn\\r\\n\\r\\n' + b'text\\r\\n' * int(sys.argv[4]))\n"
    )
    arguments = [sys.executable, "-c", script, str(box), str(written), os.path.dirname(__file__), str(size)]
    assert subprocess.run(arguments, check=False).returncode == -9


@pytest.mark.parametrize("written", [0, 3, 30, 60, 100_000, 300_000])
def test_what_a_dead_process_has_written_is_cut_off(tmp_path: pathlib.Path, written: int) -> None:
    # FAULTS A12, A13: at once, and nothing of a message that was not acknowledged is read
    box = tmp_path / "box"
    store = Mbox(box)
    for subject in ("1", "2"):
        store.deliver(envelope(), message(subject), now=NOW)
        whole = box.read_bytes()
        die_inside(box, written, size=200_000)
        assert (tmp_path / "box.lock").exists()
        assert len(box.read_bytes()) == len(whole) + written
    store.deliver(envelope(), message("3"))
    assert subjects(box) == ["1", "2", "3"]
    assert box.read_bytes().startswith(whole)
    assert sorted(os.listdir(tmp_path)) == ["box"]


def test_mail_behind_a_torn_message_stays(tmp_path: pathlib.Path) -> None:
    # FAULTS A12: a program that looks at no dot lock has appended meanwhile, in the middle of a line
    box = tmp_path / "box"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    die_inside(box, 62, size=10)
    with box.open("ab") as file:
        file.write(b"From x@y Tue Nov 24 03:00:00 2026\nSubject: other\n\nhi\n\n")
    before = box.read_bytes()
    store.deliver(envelope(), message("2"))
    assert box.read_bytes().startswith(before)
    assert subjects(box)[-1] == "2"


@pytest.mark.parametrize("change", ["boot", "inode", "host", "size"])
def test_a_journal_that_is_not_about_this_file_cuts_nothing(tmp_path: pathlib.Path, change: str) -> None:
    # FAULTS A12: a lock that reappears when the machine starts again, or one of a file that was rotated
    box = tmp_path / "box"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    with box.open("rb") as file:
        journal = replace(journal_for(file.fileno()), size=0)
    value: object = {"boot": "another", "inode": journal.inode + 1, "host": "another", "size": 10**9}[change]
    lock = tmp_path / "box.lock"
    lock.write_bytes(replace(journal, **{change: value}).to_octets())  # type: ignore[arg-type]
    os.utime(lock, (time.time() - 600,) * 2)
    store.deliver(envelope(), message("2"))
    assert subjects(box) == ["1", "2"]
    assert not lock.exists()


def test_a_number_without_end_in_a_lock_is_no_journal(tmp_path: pathlib.Path) -> None:
    # int() refuses more than 4300 digits with a ValueError
    box = tmp_path / "box"
    store = Mbox(box, lock_timeout=0.1)
    with box.open("rb") as file:
        journal = replace(journal_for(file.fileno()), size=int("9" * 4000))
    lock = tmp_path / "box.lock"
    lock.write_bytes(journal.to_octets().replace(b"9" * 4000, b"9" * 5000))
    with pytest.raises(TimeoutError):
        store.deliver(envelope(), MESSAGE)
    os.utime(lock, (time.time() - 600,) * 2)
    store.deliver(envelope(), message("1"))
    assert subjects(box) == ["1"]


# ---- full disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_what_is_refused_is_not_stored_later(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # FAULTS A15
    box = tmp_path / "box"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    real = getattr(os, call)

    def full(fd: int, *octets: bytes) -> int:
        if os.fstat(fd).st_ino != box.stat().st_ino:
            return int(real(fd, *octets) or 0)
        if octets:
            real(fd, octets[0][:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    before = box.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space") as caught:
            store.deliver(envelope(), message("2"))
    assert str(failure_reply(caught.value)).startswith("452 4.3.1")
    assert box.read_bytes() == before
    store.deliver(envelope(), message("3"))
    store.close()
    assert subjects(box) == ["1", "3"]
    assert sorted(os.listdir(tmp_path)) == ["box"]


def test_a_file_that_may_not_grow(tmp_path: pathlib.Path) -> None:
    # FAULTS A15, without a mock: the system takes a part of the message, and then no more
    import resource

    box = tmp_path / "box"
    store = Mbox(box)
    store.deliver(envelope(), message("1"))
    before = box.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            store.deliver(envelope(), message("2") + b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(failure_reply(caught.value)).startswith("452 4.2.2")
    assert box.read_bytes() == before


# ---- locks ---------------------------------------------------------------------------------------


def test_two_processes_with_threads(tmp_path: pathlib.Path) -> None:
    box = tmp_path / "box"
    script = (
        "import sys, threading\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from boxes import envelope\n"
        "from ehlo.store import Mbox\n"
        "def run(n):\n"
        "    store = Mbox(sys.argv[1])\n"
        "    for i in range(10):\n"
        "        store.deliver(envelope(), f'Subject: {sys.argv[3]}.{n}.{i}\\r\\n\\r\\n'.encode() + b'x\\r\\n' * 999)\n"
        "for thread in [threading.Thread(target=run, args=(n,)) for n in range(4)]: thread.start()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(box), os.path.dirname(__file__), name]) for name in "ab"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(subjects(box)) == sorted(f"{p}.{n}.{i}" for p in "ab" for n in range(4) for i in range(10))
    assert all(octets.count(b"\nx") == 999 for octets in in_mbox(box))
    assert sorted(os.listdir(tmp_path)) == ["box"]


@pytest.mark.parametrize("content", [b"", b"0", b"12345\n", None], ids=["postfix", "procmail", "liblockfile", "link"])
def test_a_dot_lock_of_another_program(tmp_path: pathlib.Path, content: bytes | None) -> None:
    # FAULTS A13: waited for, with an end; taken away when it is 500 seconds old
    box, lock = tmp_path / "box", tmp_path / "box.lock"
    store = Mbox(box, lock_timeout=0.05)
    assert "waited 1 second:" in str(Mbox(box, lock_timeout=1.0)._timed_out())
    if content is None:
        lock.symlink_to("somebody:1")
    else:
        lock.write_bytes(content)
    with pytest.raises(TimeoutError, match="locked by another program") as caught:
        store.deliver(envelope(), MESSAGE)
    assert str(failure_reply(caught.value)).startswith("451 4.2.0")
    assert os.path.lexists(lock)
    assert box.read_bytes() == b""
    os.utime(lock, (time.time() - 490,) * 2, follow_symlinks=False)
    with pytest.raises(TimeoutError):
        store.deliver(envelope(), MESSAGE)
    os.utime(lock, (time.time() - 510,) * 2, follow_symlinks=False)
    store.deliver(envelope(), MESSAGE)
    assert len(in_mbox(box)) == 1
    assert not os.path.lexists(lock)


@pytest.mark.parametrize("kind", ["lock", "directory"])
def test_the_log_says_once_what_is_in_the_way(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    # A lock that ehlo 0.1 left by a crash, and a directory, which nobody removes: not even when it is old.
    box, lock = tmp_path / "box", tmp_path / "box.lock"
    store = Mbox(box, lock_timeout=0)
    for _ in range(2):
        if kind == "lock":
            lock.write_bytes(b"12345\n")
        else:
            lock.mkdir()
            os.utime(lock, (time.time() - 600,) * 2)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="locked by another program"):
                store.deliver(envelope(), MESSAGE)
        lock.rmdir() if lock.is_dir() else lock.unlink()
        store.deliver(envelope(), MESSAGE)
    begin = f"no mail can be delivered into the mbox {box}: {lock} is a "
    said = "lock of another program (process 12345), or of ehlo 0.1: remove it if" if kind == "lock" else "directory"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all(record.getMessage().startswith(begin + said) for record in caplog.records)


def test_a_record_lock_of_another_program(tmp_path: pathlib.Path) -> None:
    # FAULTS A13: as mutt takes it; it goes with its process
    box = tmp_path / "box"
    store = Mbox(box, lock_timeout=0.05)
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(box)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(TimeoutError):
        store.deliver(envelope(), MESSAGE)
    assert not (tmp_path / "box.lock").exists()  # nobody waits with one lock held
    other.kill()
    other.communicate()
    store.deliver(envelope(), MESSAGE)
    assert len(in_mbox(box)) == 1


def test_others_wait_for_our_locks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box, lock = tmp_path / "box", tmp_path / "box.lock"
    store = Mbox(box)
    real = os.fsync
    seen: list[bytes | int] = []

    def fsync(fd: int) -> None:
        seen.append(lock.read_bytes().partition(b"\n")[0])
        python = mailbox.mbox(box, create=False)
        with pytest.raises(mailbox.ExternalClashError):
            python.lock()
        python.close()  # this closes the file for the process: the lock must not go with it
        probe = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        seen.append(subprocess.run([sys.executable, "-c", probe, str(box)], capture_output=True).returncode)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    Mbox(tmp_path / "other")
    store.deliver(envelope(), MESSAGE)
    held = 1 if hasattr(fcntl, "F_OFD_SETLK") else 0
    assert seen[:2] == [str(os.getpid()).encode(), held]
    assert not lock.exists()


def test_a_directory_without_room_for_a_lock(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as /var/mail often is: the record lock has to do
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    store = Mbox(tmp_path / "box")
    monkeypatch.setattr(os, "link", refuse)
    store.deliver(envelope(), MESSAGE)
    assert len(in_mbox(tmp_path / "box")) == 1
    assert sorted(os.listdir(tmp_path)) == ["box"]


def test_a_slow_client_holds_no_lock(tmp_path: pathlib.Path) -> None:
    store = Mbox(tmp_path / "box", lock_timeout=0.05)
    with store.begin(envelope()) as slow:
        slow.write(message("slow"))
        store.deliver(envelope(), message("quick"))
        slow.commit()
    with store.begin(envelope()) as given_up:
        given_up.write(message("given up"))
    assert subjects(tmp_path / "box") == ["quick", "slow"]


def test_threads_have_their_turns(tmp_path: pathlib.Path) -> None:
    box = tmp_path / "box"
    stores = [Mbox(box) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda store: [store.deliver(envelope(), MESSAGE) for _ in range(20)], args=(store,))
        for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(in_mbox(box)) == 80


def test_no_descriptor_is_left_open(tmp_path: pathlib.Path) -> None:
    store = Mbox(tmp_path / "box", lock_timeout=0.01)
    here = "/proc/self/fd"
    before = len(os.listdir(here)) if os.path.isdir(here) else 0
    store.deliver(envelope(), MESSAGE)
    (tmp_path / "box.lock").write_bytes(b"")
    with pytest.raises(TimeoutError):
        store.deliver(envelope(), MESSAGE)
    assert (len(os.listdir(here)) if before else 0) == before


def test_mode_is_looked_at(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="mode"):
        Mbox(tmp_path / "box", mode=0o644 | 0o022)
