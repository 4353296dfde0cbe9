"""What was acknowledged is there, whole and once: after ``kill -9`` under load, on a full disk; and the order of system
calls that makes it so. FAULTS A12, A13, A15, D19."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from boxes import MESSAGE, envelope, in_maildir, in_mbox

from ehlo.store import Maildir, Mbox, failure_reply

HERE = os.path.dirname(__file__)
ROUNDS = int(os.environ.get("EHLO_KILL_ROUNDS", "20"))  # of the slow test

# Four threads deliver messages of many sizes; each name is written to the pipe when deliver has returned.
WRITER = """
import hashlib, os, random, sys, threading
kind, path, seed, here = sys.argv[1:]
sys.path.insert(0, here)
from boxes import envelope
import ehlo.store

store = getattr(ehlo.store, kind)(path)

def run(n):
    dice = random.Random(f"{seed}.{n}")
    for i in range(10_000):
        lines = [b"From a@b Tue Nov 24 03:00:00 2026" if dice.random() < 0.01 else dice.randbytes(30).hex().encode()
                 for _ in range(int(dice.lognormvariate(3, 2)))]
        text = b"\\n".join([*lines, b"end"])
        name = f"{seed}.{n}.{i}.{hashlib.sha256(text).hexdigest()}"
        content = b"Subject: " + name.encode() + b"\\r\\n\\r\\n" + text.replace(b"\\n", b"\\r\\n") + b"\\r\\n"
        if i % 3:
            store.deliver(envelope(), content)
        else:
            store.deliver(envelope(), (content[at : at + 1000] for at in range(0, len(content), 1000)))
        os.write(1, name.encode() + b"\\n")

for thread in [threading.Thread(target=run, args=(n,)) for n in range(4)]:
    thread.start()
"""


def kill_rounds(kind: type[Maildir] | type[Mbox], path: pathlib.Path, rounds: int, writers: int = 1) -> list[str]:
    """Start, load and kill again and again; gives the names of all messages that were acknowledged."""
    acknowledged: list[str] = []
    dice = random.Random(rounds)
    for number in range(rounds):
        processes = []
        for writer in range(writers):
            seed = f"{number}-{writer}"
            arguments = [sys.executable, "-c", WRITER, kind.__name__, str(path), seed, HERE]
            processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE))
        first = processes[0].stdout
        assert first is not None
        for _ in range(dice.randint(1, 40)):
            acknowledged.append(first.readline().decode().strip())
        for _ in range(dice.randint(0, 20_000)):  # any instant between two messages
            pass
        for process in processes:
            process.kill()
        for process in processes:
            out, _ = process.communicate()
            # A line is written in one piece, or not at all.
            acknowledged += out.decode().split()
            assert process.returncode == -9
    return acknowledged


def check(messages: list[bytes], acknowledged: list[str], *, quoted: bool) -> None:
    names = []
    for octets in messages:
        match = re.search(rb"^Subject: (\S+)\n\n(.*?)\n+\Z", octets, re.DOTALL | re.MULTILINE)
        assert match is not None, octets[:300]
        text = re.sub(rb"^>(>*From )", rb"\1", match[2], flags=re.MULTILINE) if quoted else match[2]
        name = match[1].decode()
        assert hashlib.sha256(text).hexdigest() == name.rpartition(".")[2], name  # whole
        names.append(name)
    counted = Counter(names)
    assert [name for name in acknowledged if not counted[name]] == []  # there
    assert [name for name, times in counted.items() if times > 1] == []  # once
    assert len(set(acknowledged)) == len(acknowledged)


ROUND_COUNTS = [pytest.param(3, id="few"), pytest.param(ROUNDS, id="many", marks=[pytest.mark.slow])]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", ROUND_COUNTS)
def test_maildir_after_kill(tmp_path: pathlib.Path, rounds: int) -> None:
    acknowledged = kill_rounds(Maildir, tmp_path / "box", rounds)
    check(in_maildir(tmp_path / "box"), acknowledged, quoted=False)
    print(f"{rounds} rounds, {len(acknowledged)} acknowledged, {len(in_maildir(tmp_path / 'box'))} there")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("writers", [1, 2])
@pytest.mark.parametrize("rounds", ROUND_COUNTS)
def test_mbox_after_kill(tmp_path: pathlib.Path, rounds: int, writers: int) -> None:
    # FAULTS A12, A13: the next process finds a torn end and a lock of a dead one
    acknowledged = kill_rounds(Mbox, tmp_path / "box", rounds, writers)
    Mbox(tmp_path / "box").deliver(envelope(), MESSAGE)
    *messages, last = in_mbox(tmp_path / "box")
    assert b"Subject: s" in last
    check(messages, acknowledged, quoted=True)
    assert sorted(os.listdir(tmp_path)) == ["box"]
    print(f"{rounds} rounds, {writers} writers, {len(acknowledged)} acknowledged, {len(messages)} there")


# ---- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system with room for 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root and mount")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(("kind", "read"), [(Maildir, in_maildir), (Mbox, in_mbox)], ids=["maildir", "mbox"])
def test_a_full_disk(
    small_disk: pathlib.Path,
    kind: type[Maildir] | type[Mbox],
    read: Callable[[pathlib.Path], list[bytes]],
) -> None:
    # FAULTS A15: refused is not kept, also later; acknowledged is there once
    box = small_disk / "box"
    store = kind(box)
    fill = small_disk / "fill"
    accepted, refused = [], []

    def deliver(number: int) -> None:
        content = f"Subject: {number}\r\n\r\n".encode() + b"x" * 9000 + b"\r\nend\r\n"
        try:
            store.deliver(envelope(), content)
        except OSError as error:
            refused.append(str(failure_reply(error)))
        else:
            accepted.append(number)

    fill.write_bytes(b"x" * 100_000)
    for number in range(40):
        deliver(number)
    assert accepted
    assert set(refused) == {"452 4.3.1 Insufficient system storage"}
    assert sorted(os.listdir(small_disk)) == ["box", "fill"]
    fill.unlink()
    deliver(40)
    store.close()
    assert accepted[-1] == 40
    messages = read(box)
    found = [int(re.search(rb"Subject: (\d+)", octets)[1]) for octets in messages]  # type: ignore[index]
    assert sorted(found) == accepted
    assert all(octets.rstrip(b"\n").endswith(b"\nend") for octets in messages)
    if kind is Maildir:
        assert os.listdir(box / "tmp") == []


# ---- the order of system calls -------------------------------------------------------------------

DELIVER = (
    "import os, sys; sys.path.insert(0, sys.argv[3]); from boxes import *; import ehlo.store\n"
    "store = getattr(ehlo.store, sys.argv[1])(sys.argv[2]); one = envelope()\n"
    "os.write(1, b'begin'); store.deliver(one, MESSAGE); os.write(1, b'acknowledged')"
)


def calls(kind: str, path: pathlib.Path) -> list[str]:
    """The system calls of one delivery, with the names of files."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = path.parent / "trace"
    wanted = "trace=openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,fcntl"
    command = [strace, "-f", "-y", "-s", "200", "-e", wanted, "-o", str(trace)]
    done = subprocess.run([*command, sys.executable, "-c", DELIVER, kind, str(path), HERE], capture_output=True)
    if b"ptrace" in done.stderr.lower():
        pytest.skip("no process can be traced here")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    begin = next(number for number, line in enumerate(lines) if "begin" in line)
    end = next(number for number, line in enumerate(lines) if "acknowledged" in line)
    return lines[begin + 1 : end]


def in_order(lines: list[str], *patterns: str) -> None:
    at = 0
    for pattern in patterns:
        while at < len(lines) and not re.search(pattern, lines[at]):
            at += 1
        assert at < len(lines), f"{pattern} does not come in its turn in:\n" + "\n".join(lines)
        at += 1


def test_order_of_a_maildir(tmp_path: pathlib.Path) -> None:
    # FAULTS D19: file, its octets on the disk, its name, the name on the disk; then the reply
    lines = calls("Maildir", tmp_path / "box")
    in_order(
        lines,
        r"openat\(.*/tmp>, .*O_EXCL.*, 0600\)",
        r"write\(\d+<.*/box/tmp/.*Subject",
        r"fsync\(\d+<.*/box/tmp/",
        r"rename.*/box/tmp>.*/box/new>",
        r"fsync\(\d+<.*/box/new>\)",
    )


def test_order_of_an_mbox(tmp_path: pathlib.Path) -> None:
    # FAULTS A11 to A13, D17: opened by name and through no link, both locks, octets on the disk, locks given back
    lines = calls("Mbox", tmp_path / "box")
    in_order(
        lines,
        r'openat\(.*/box", O_RDWR\|.*O_APPEND.*O_NOFOLLOW',
        r"fcntl\(\d+<.*/box>, F_(OFD_)?SETLK,",
        r"fcntl\(\d+<.*/box\.lock\.ehlo>, F_(OFD_)?SETLK,",
        r'link.*/box\.lock\.ehlo".*/box\.lock"',
        r"write\(\d+<.*/box>.*Subject",
        r"fsync\(\d+<.*/box>\)",
        rf"fsync\(\d+<{re.escape(str(tmp_path))}>\)",  # the file is new
        r'unlink.*/box\.lock"',
    )


# ---- read by others ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Maildir, Mbox])
def test_mutt_reads_it(tmp_path: pathlib.Path, kind: type[Maildir] | type[Mbox]) -> None:
    mutt, script = shutil.which("mutt"), shutil.which("script")
    if mutt is None or script is None:
        pytest.skip("mutt and script are needed")
    box, out = tmp_path / "box", tmp_path / "out"
    store = kind(box)
    for number in range(3):
        text = f"Subject: message {number}\r\n\r\nFrom the start\r\n>From there\r\nend {number}\r\n"
        store.deliver(envelope(), text.encode())
    settings = tmp_path / "muttrc"
    settings.write_text("set wait_key=no weed=no pipe_decode=no mark_old=no sort=mailbox-order\n")
    each = "".join(f"{number}<enter><pipe-message>cat>>{out}<enter>" for number in (1, 2, 3))
    keys = f"push '{each}<exit>'"
    command = f'{mutt} -n -R -F {settings} -f {box} -e "{keys}"'
    environment = {**os.environ, "TERM": "xterm", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    subprocess.run([script, "-qec", command, "/dev/null"], env=environment, capture_output=True, timeout=60, check=True)
    octets = out.read_bytes()
    assert sorted(re.findall(rb"^Subject: message (\d)$", octets, re.MULTILINE)) == [b"0", b"1", b"2"]
    assert sorted(re.findall(rb"^end (\d)$", octets, re.MULTILINE)) == [b"0", b"1", b"2"]
