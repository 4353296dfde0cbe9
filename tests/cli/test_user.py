"""The command ``ehlo user``, and the file of users that ``ehlo serve`` takes or refuses (FAULTS D14)."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.users import read_users

PASSWORD = "pencil, sharp"  # nothing but a test's


def user(*arguments: str | Path, given: str = f"{PASSWORD}\n", status: int = 0) -> tuple[str, str]:
    """Run it under a umask that would let others read."""
    done = subprocess.run(
        [sys.executable, "-m", "ehlo", "user", *map(str, arguments)],
        input=given.encode(),
        capture_output=True,
        timeout=60,
        check=False,
        umask=0,
    )
    assert done.returncode == status, done.stderr
    assert PASSWORD.encode() not in done.stdout + done.stderr
    return done.stdout.decode(), done.stderr.decode()


def fits(file: Path, name: str, password: str) -> bool:
    return ehlo.verify_password(password, ehlo.Users(file).line(name))


def test_users_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "users"
    assert user("add", "--scram", file, "jane")[0] == "ehlo user: added jane\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    user("add", file, "joe", given="x\r\n")
    assert user("list", file)[0] == "jane\tSCRAM-SHA-256\njoe\tSCRAM-SHA-256\n"
    assert fits(file, "jane", PASSWORD)
    assert fits(file, "joe", "x")
    file.chmod(0o644)
    assert user("passwd", "--scrypt", file, "joe", given="y")[0] == "ehlo user: joe has another password\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # the command mends it
    assert fits(file, "joe", "y")
    assert user("list", file)[0] == "jane\tSCRAM-SHA-256\njoe\tscrypt\n"
    assert user("remove", file, "jane")[0] == "ehlo user: removed jane\n"
    assert ehlo.Users(file).names == ("joe",)


def test_usage_errors_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "users"
    user("add", file, "jane")
    before = file.read_bytes()
    for arguments, given, says in (
        (("add", file, "jane"), "x", "jane exists already; use: ehlo user passwd"),
        (("add", file, "a:b"), "x", "cannot be a user's name"),
        (("add", file, "joe"), "", "the password is empty"),
        (("add", file, "joe"), "\n", "the password is empty"),
        (("add", file, "joe"), "a\0b\n", "must not have a NUL"),
        (("passwd", file, "joe"), "x", "there is no user 'joe'"),
        (("remove", file, "joe"), "", "there is no user 'joe'"),
        (("list", tmp_path / "nothing"), "", "No such file"),
        (("passwd", tmp_path / "nothing", "joe"), "x", "No such file"),
        (("add", tmp_path / "no" / "users", "joe"), "x", "No such file"),
        ((), "", "the following arguments are required"),
    ):
        out, err = user(*arguments, given=given, status=2)
        assert out == ""
        assert says in err
        assert err.count("\n") == 1
        assert file.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["users"]


@pytest.mark.skipif(not hasattr(pty, "fork"), reason="there are no terminals here")
@pytest.mark.parametrize("second", [PASSWORD, "other"])
def test_a_terminal_is_asked_twice(tmp_path: Path, second: str) -> None:
    file = tmp_path / "users"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ehlo", "user", "add", str(file), "jane"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True, close_fds=True
    )
    assert process.stderr is not None
    asked = b""
    for answer in (PASSWORD, second):
        while not asked.endswith(b": "):  # getpass has no controlling terminal here, so it asks on stderr
            octet = os.read(process.stderr.fileno(), 1)
            assert octet, asked
            asked += octet
        os.write(ours, answer.encode() + b"\n")
        asked += b"|"
    _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert b"password of jane: |" in asked
    assert b"again: |" in asked
    if second == PASSWORD:
        assert process.returncode == 0
        assert fits(file, "jane", PASSWORD)
    else:
        assert process.returncode == 2
        assert b"the two passwords are not the same" in err
        assert not file.exists()


# ---- ehlo serve ----------------------------------------------------------------------------------


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "ehlo",
        "serve",
        "--check",
        "--as-root",
        "--discard",
        "--smtp",
        "127.0.0.1:0",
        "--users",
        "users",
    ]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_serve_refuses_a_file_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "users"
    user("add", file, "jane")
    assert check(tmp_path).returncode == 0
    file.chmod(0o644)
    done = check(tmp_path)
    assert done.returncode == 1
    assert "others can read or change it (mode 0644)" in done.stdout
    assert f"run: chmod 600 {file}" in done.stdout
    with pytest.raises(UsageError, match="run: chmod 600"):
        read_users(str(file))


def test_serve_needs_a_user_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.touch(0o600)
    for says in (f"has no user; add one: ehlo user add {file} NAME", "No such file or directory; name a file"):
        done = check(tmp_path)
        assert done.returncode == 1
        assert says in done.stdout
        file.unlink(missing_ok=True)


def test_hash_password_into_a_file_that_others_can_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "users"
    for mode in (0o644, 0o600):
        file.touch()
        file.chmod(mode)
        with file.open("ab") as out:
            command = [sys.executable, "-m", "ehlo", "serve", "--hash-password", "jane"]
            done = subprocess.run(command, input=b"x\n", stdout=out, stderr=subprocess.PIPE, timeout=60, check=True)
        assert (b"others can read the file" in done.stderr) is (mode == 0o644)
