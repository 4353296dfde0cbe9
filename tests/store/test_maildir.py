"""Maildir under faults: FAULTS D17, D19, directories that vanish, links, full disks, files that crashes left."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import threading
import time
from collections.abc import Iterator

import pytest
from boxes import MESSAGE, envelope, in_maildir

import ehlo
from ehlo.store import Maildir


def names(path: pathlib.Path) -> list[str]:
    return sorted(os.listdir(path))


@pytest.fixture
def wide_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_umask")
@pytest.mark.parametrize(("mode", "folder"), [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770)])
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes(tmp_path: pathlib.Path, mode: int, folder: int, umask: int) -> None:
    # FAULTS D17: the umask neither adds nor takes
    os.umask(umask)
    path = pathlib.Path(Maildir(tmp_path / "a" / "box", mode=mode, parents=True).deliver(envelope(), MESSAGE))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    for one in (tmp_path / "a", tmp_path / "a" / "box", path.parent, tmp_path / "a" / "box" / "tmp"):
        assert stat.S_IMODE(one.stat().st_mode) == folder


@pytest.mark.parametrize("mode", [0o400, 0o666, 0o700, 0o4600, 0])
def test_modes_that_make_no_sense(tmp_path: pathlib.Path, mode: int) -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="mode"):
        Maildir(tmp_path / "box", mode=mode)


def test_names_differ_between_threads(tmp_path: pathlib.Path) -> None:
    store = Maildir(tmp_path / "box")
    paths: list[str] = []

    def deliver() -> None:
        paths.extend(store.deliver(envelope(), MESSAGE) for _ in range(25))

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 200 == len(in_maildir(tmp_path / "box"))
    assert all(":" not in os.path.basename(path) for path in paths)


@pytest.mark.parametrize("part", [".", "tmp", "new", "cur"])
def test_a_directory_that_was_removed_is_made_again(tmp_path: pathlib.Path, part: str) -> None:
    import shutil

    store = Maildir(tmp_path / "box")
    store.deliver(envelope(), MESSAGE)
    shutil.rmtree(tmp_path / "box" / part)
    store.deliver(envelope(), MESSAGE)
    assert len(in_maildir(tmp_path / "box")) == (1 if part in (".", "new") else 2)
    assert names(tmp_path / "box") == ["cur", "new", "tmp"]


@pytest.mark.parametrize("part", ["tmp", "new"])
def test_a_directory_that_is_removed_during_a_delivery(tmp_path: pathlib.Path, part: str) -> None:
    import shutil

    store = Maildir(tmp_path / "box")
    with store.begin(envelope()) as delivery:
        shutil.rmtree(tmp_path / "box" / part)
        delivery.write(MESSAGE)
        with pytest.raises(FileNotFoundError) as caught:
            delivery.commit()
    assert ehlo.store.failure_reply(caught.value).code == 451
    store.deliver(envelope(), MESSAGE)
    assert len(in_maildir(tmp_path / "box")) == 1


def test_the_directory_above_is_not_made_unasked(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        Maildir(tmp_path / "a" / "box")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        Maildir(tmp_path / "file")


@pytest.mark.parametrize("part", [".", "tmp", "new", "cur"])
def test_links(tmp_path: pathlib.Path, part: str) -> None:
    # FAULTS D17: refused unless it is asked for
    box = tmp_path / "box"
    store = Maildir(box)
    place = box if part == "." else box / part
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link") as caught:
        store.deliver(envelope(), MESSAGE)
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="symbolic link"):
        Maildir(box)
    Maildir(box, follow_symlink=True).deliver(envelope(), MESSAGE)
    assert len(in_maildir(box)) == 1


def test_what_is_left_of_a_message_that_was_given_up(tmp_path: pathlib.Path) -> None:
    box = tmp_path / "box"
    store = Maildir(box)
    with store.begin(envelope()) as delivery:
        delivery.write(MESSAGE)
        assert len(names(box / "tmp")) == 1
    assert names(box / "tmp") == names(box / "new") == []

    def broken() -> Iterator[bytes]:
        yield MESSAGE
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.deliver(envelope(), broken())
    assert names(box / "tmp") == names(box / "new") == []


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    box = tmp_path / "box"
    store = Maildir(box)

    def fail(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(code)):
            store.deliver(envelope(), MESSAGE)
    assert names(box / "tmp") == names(box / "new") == []


def test_a_directory_that_cannot_be_synced_refuses(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # FAULTS D19: what is refused does not stay
    box = tmp_path / "box"
    store = Maildir(box)
    real = os.fsync

    def fail(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "broken")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="broken"):
            store.deliver(envelope(), MESSAGE)
    assert names(box / "tmp") == names(box / "new") == []


def test_old_files_in_tmp_are_removed(tmp_path: pathlib.Path) -> None:
    box = tmp_path / "box"
    Maildir(box)
    now = time.time()
    for name, hours in (("old", 37), ("young", 35), ("read", 37)):
        (box / "tmp" / name).write_bytes(b"x")
        os.utime(box / "tmp" / name, (now if name == "read" else now - hours * 3600, now - hours * 3600))
    (box / "tmp" / "folder").mkdir()
    os.utime(box / "tmp" / "folder", (0, 0))
    assert Maildir(box).clean() == 0  # the store has done it
    assert names(box / "tmp") == ["folder", "read", "young"]


def test_no_descriptor_is_left_open(tmp_path: pathlib.Path) -> None:
    store = Maildir(tmp_path / "box")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        store.deliver(envelope(), MESSAGE)
        store.begin(envelope()).abort()
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after == before


# ---- a delivery that may have happened before ----------------------------------------------------


def attempt(store: Maildir, content: bytes = MESSAGE, *, again: bool = False) -> pathlib.Path:
    with store.begin(envelope(), name="1700000000.M7R8", again=again) as delivery:
        delivery.write(content)
        return pathlib.Path(delivery.commit())


def test_a_second_attempt_finds_the_file_of_the_first(tmp_path: pathlib.Path) -> None:
    store = Maildir(tmp_path / "box")
    first = attempt(store)
    assert first.name.startswith("1700000000.M7R8.")
    assert attempt(store) == first
    for flags in ("", ":2,", ":2,FS", ";2,S"):
        moved = first.parents[1] / "cur" / (first.name + flags)
        first.rename(moved)
        assert attempt(store, again=True) == moved
        moved.rename(first)
    assert names(tmp_path / "box" / "new") == [first.name]
    assert names(tmp_path / "box" / "tmp") == []


def test_another_message_of_the_same_name_stays(tmp_path: pathlib.Path) -> None:
    # two queues may give one name to two messages
    store = Maildir(tmp_path / "box")
    first, second = attempt(store), attempt(store, MESSAGE + b"more\r\n", again=True)
    longer = first.with_name(first.name.replace("M7R8.", "M7R8x."))
    first.rename(first.parents[1] / "cur" / longer.name)
    third = attempt(store, again=True)
    assert len({first.name, second.name, longer.name, third.name}) == 3
    assert third == first
    assert len(in_maildir(tmp_path / "box")) == 2


def test_another_message_of_the_same_name_and_size_stays(tmp_path: pathlib.Path) -> None:
    store = Maildir(tmp_path / "box")
    other = MESSAGE.swapcase()
    first, second = attempt(store), attempt(store, other)
    assert sorted(path.read_bytes() for path in (first, second)) == sorted(in_maildir(tmp_path / "box"))
    assert first != second
    moved = first.parents[1] / "cur" / f"{first.name}:2,S"
    first.rename(moved)
    assert attempt(store, other, again=True).parent.name == "new"
    assert attempt(store, again=True) == moved


@pytest.mark.parametrize("part", ["new", "cur"])
def test_a_second_attempt_by_another_host_finds_the_file_of_the_first(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    # a container gets another name with each start, and another node takes over what a dead one had
    monkeypatch.setattr("socket.gethostname", lambda: "3f2a9c")
    first = attempt(Maildir(tmp_path / "box"))
    there = first.parents[1] / part / first.name
    first.rename(there)
    monkeypatch.setattr("socket.gethostname", lambda: "77b0e1")
    assert attempt(Maildir(tmp_path / "box"), again=True) == there
    assert len([*(tmp_path / "box").glob("[nct]*/*")]) == 1


def test_a_name_has_its_form(tmp_path: pathlib.Path) -> None:
    store = Maildir(tmp_path / "box")
    for name in ("", "1700000000", "x.M7", "1.", "1.M/7", "1.M:2,S", "1.M7.host"):
        with pytest.raises(ehlo.LocalProtocolError, match="SECONDS"):
            store.begin(envelope(), name=name)
    assert names(tmp_path / "box" / "tmp") == []
