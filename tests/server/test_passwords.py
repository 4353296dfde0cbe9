"""Hashes of passwords, and the file of users."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import ehlo
from ehlo._sasl.server import SaslContext, Send, ServerExchange

PASSWORD = "pencil, sharp"  # nothing but a test's
QUICK: dict[str, Any] = {"ln": 4}  # scrypt with 16 rounds
# RFC 7677 3: user, pencil
PENCIL = (
    "$scram-sha-256$i=4096$W22ZaJ0SNY7soEsUEjb6gQ$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY"
    "$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU"
)


def plain(name: str, password: str = PASSWORD) -> ehlo.Credentials:
    return ehlo.PasswordCredentials(mechanism="PLAIN", username=name, password=password)


def users_of(path: Path, *lines: str, mode: int = 0o600, **options: Any) -> ehlo.Users:
    file = path / "users"
    file.write_text("".join(f"{line}\n" for line in lines))
    file.chmod(mode)
    return ehlo.Users(file, **options)


# ---- hashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, QUICK, {"scram": True}, {"scram": True, "iterations": 4096}])
def test_a_hash_fits_its_password_and_no_other(options: dict[str, Any]) -> None:
    line = ehlo.hash_password(PASSWORD, **options)
    assert ehlo.verify_password(PASSWORD, line)
    assert ehlo.verify_password(PASSWORD, f"jane:{line}\n")
    assert not ehlo.verify_password("wrong", line)
    assert ehlo.hash_password(PASSWORD, **options) != line  # the salt is fresh
    assert PASSWORD not in line


def test_a_password_is_prepared() -> None:
    # RFC 4616 2, RFC 4013: two ways of typing it are one password.
    assert ehlo.verify_password("IX", ehlo.hash_password("I\u00adX", **QUICK))
    assert ehlo.verify_password("\udcff", ehlo.hash_password("\udcff", **QUICK))  # FAULTS D3


def test_hashes_of_others_are_read() -> None:
    # RFC 7914 12, a shorter digest than ours.
    digest = hashlib.scrypt(b"password", salt=b"NaCl", n=1024, r=8, p=16, dklen=64)
    text = base64.b64encode(digest).decode().rstrip("=")
    assert ehlo.verify_password("password", f"$scrypt$ln=10,r=8,p=16$TmFDbA${text}")
    assert ehlo.verify_password("pencil", PENCIL)


def test_without_a_user_the_work_is_that_of_a_hash() -> None:
    with mock.patch("hashlib.scrypt", wraps=hashlib.scrypt) as scrypt:
        ehlo.hash_password(PASSWORD)
        assert not ehlo.verify_password(PASSWORD, None)
    assert work_of(scrypt.call_args_list[0]) == work_of(scrypt.call_args_list[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ehlo.hash_password(""),
        lambda: ehlo.hash_password("a\0b"),
        lambda: ehlo.hash_password("secret", ln=21),
        lambda: ehlo.hash_password("secret", scram=True, iterations=1),
        lambda: ehlo.hash_password("secret", scram=True, iterations=10**9),
        lambda: ehlo.verify_password("secret", "secret"),
        lambda: ehlo.verify_password("secret", "jane:$scrypt$ln=15,r=8,p=1$YWJj$YWJj"),
    ],
)
def test_errors_hold_no_secret(call: Callable[[], object]) -> None:
    with pytest.raises(ehlo.LocalProtocolError) as caught:
        call()
    assert "secret" not in str(caught.value)
    assert "YWJj" not in str(caught.value)


def test_credentials_check_keys() -> None:
    keys = ehlo.ScramKeys.from_password(PASSWORD)
    good, wrong = plain("jane"), plain("jane", "wrong")
    assert isinstance(good, ehlo.PasswordCredentials)
    assert isinstance(wrong, ehlo.PasswordCredentials)
    assert good.check(keys)
    assert not wrong.check(keys)
    assert good.check(ehlo.ScramKeys.from_password(PASSWORD, algorithm="sha1"))
    assert not good.check(ehlo.ScramKeys.decoy("jane", secret=b"x"))
    scram = ehlo.ScramCredentials(mechanism="SCRAM-SHA-256", username="jane")
    assert scram.check(keys) is keys
    assert scram.check(None) is None


def test_import_ehlo_does_not_import_them() -> None:
    code = (
        "import sys, ehlo, ehlo.asyncio; assert 'Users' in dir(ehlo); "
        "sys.exit(any(name in sys.modules for name in "
        "('ehlo._users', 'ehlo._sasl.passwords', 'ehlo._server.authenticator', 'concurrent.futures.thread')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(ehlo, "nothing")  # noqa: B009


# ---- the file ------------------------------------------------------------------------------------


def test_users_are_added_changed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    users = ehlo.Users(path, create=True)
    users.add("jane", PASSWORD, scram=True)
    users.add("joe", "x")  # as all others: with keys
    assert users.names == ("jane", "joe")
    assert len(users) == 2
    assert "jane" in users
    assert users.mechanisms == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    users.change("joe", "y", scram=False)
    assert ehlo.Users(path).mechanisms == ("PLAIN", "LOGIN")
    assert users.check(plain("joe", "y"))
    assert not users.check(plain("joe", "x"))
    users.change("joe", "z")
    assert (users.line("joe") or "").startswith("$scrypt$")
    users.remove("joe")
    assert users.line("joe") is None
    assert not users.check(plain("joe", "z"))
    again = ehlo.Users(path)
    assert again.names == ("jane",)
    assert again.check(plain("jane"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["users"]  # no lock, no half a file
    calls: list[Callable[[], None]] = [
        lambda: users.add("jane", "x"),
        lambda: users.change("joe", "x"),
        lambda: users.remove("joe"),
        lambda: users.add("a:b", "x"),
        lambda: users.add("#a", "x"),
        lambda: users.add("x", ""),
    ]
    for call in calls:
        before = path.read_bytes()
        with pytest.raises(ehlo.LocalProtocolError):
            call()
        assert path.read_bytes() == before


def test_comments_and_order_stay(tmp_path: Path) -> None:
    line = ehlo.hash_password(PASSWORD, **QUICK)
    users = users_of(tmp_path, "# the boss", f"jane:{line}", "", "# the rest", f"joe:{line}")
    users.change("jane", "x")
    lines = (tmp_path / "users").read_text().splitlines()
    assert [one.partition(":")[0] for one in lines[1:]] == [
        "# decoy-key",
        "# the boss",
        "jane",
        "",
        "# the rest",
        "joe",
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["jane"], "users line 1: a line is NAME:HASH"),
        ([":x"], "a line is NAME:HASH"),
        (["jane:secret"], "neither $scrypt$… nor $scram-sha-256$…"),
        (["", f"jane:{PENCIL}", f"jane:{PENCIL}"], "users line 3: jane occurs twice"),
        (["jane:$scrypt$ln=31,r=8,p=1$YWJj$YWJj"], "scrypt takes ln up to 20"),
        (["jane:$scrypt$ln=15,r=8,p=1$YWJj$YWJj"], "the hash is too short"),
        (["jane:$scrypt$ln=15,r=8,p=1$YWJj$YWJjY"], "its base64 is broken"),
        (["jane:$scram-sha-256$i=4096$YWJj$YWJj$YWJj"], "has 32 octets"),
        ([f"jane:{PENCIL.replace('4096', '1')}"], "4096 iterations"),
        ([f"jane:{PENCIL.replace('4096', '9999999')}"], "up to 1000000 iterations"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError) as caught:
        users_of(tmp_path, *lines)
    assert says in str(caught.value)
    assert "ehlo user add" in str(caught.value)
    assert "YWJj" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_file_changes_nothing_at_a_reload(tmp_path: Path) -> None:
    users = users_of(tmp_path, f"jane:{ehlo.hash_password(PASSWORD, **QUICK)}")
    (tmp_path / "users").write_text("nonsense\n")
    with pytest.raises(ehlo.LocalProtocolError):
        users.reload()
    assert users.check(plain("jane"))
    (tmp_path / "users").unlink()
    with pytest.raises(FileNotFoundError):
        users.reload()
    assert users.check(plain("jane"))


def test_a_reload_must_not_take_a_mechanism_that_is_offered(tmp_path: Path) -> None:
    users = users_of(tmp_path, f"user:{PENCIL}")
    users.reload(users.mechanisms)
    for text in ("", f"user:{PENCIL}\njane:{ehlo.hash_password(PASSWORD, **QUICK)}\n"):
        (tmp_path / "users").write_text(text)
        with pytest.raises(
            ehlo.LocalProtocolError, match=r"is offered, but (there is no user|jane has no keys for it); make"
        ):
            users.reload(["PLAIN", "SCRAM-SHA-256"])
        assert users.names == ("user",)
        users.reload(["PLAIN"])
        (tmp_path / "users").write_text(f"user:{PENCIL}\n")
        users.reload()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    # FAULTS D14.
    for mode in (0o644, 0o602, 0o640, 0o660):
        with pytest.raises(ehlo.LocalProtocolError, match=rf"mode {mode:04o}.*run: chmod 600 "):
            users_of(tmp_path, f"user:{PENCIL}", mode=mode)
        assert users_of(tmp_path, f"user:{PENCIL}", mode=mode, private=False).names == ("user",)
    users = users_of(tmp_path, f"user:{PENCIL}", mode=0o400)
    (tmp_path / "users").chmod(0o644)
    with pytest.raises(ehlo.LocalProtocolError, match="chmod 600"):
        users.reload()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_the_file_of_a_service_keeps_its_owner_and_group(tmp_path: Path) -> None:
    for owner, mode in (((0, 1), 0o640), ((1, 1), 0o600)):
        users = users_of(tmp_path, f"user:{PENCIL}", mode=0o600)
        os.chown(tmp_path / "users", *owner)
        (tmp_path / "users").chmod(mode)
        users.add("jane", "x")
        found = (tmp_path / "users").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, mode)


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    users = users_of(tmp_path, f"user:{PENCIL}")
    before = (tmp_path / "users").read_bytes()
    with (
        mock.patch("os.replace", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="space"),
    ):
        users.add("jane", "x")
    assert (tmp_path / "users").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["users"]
    assert users.names == ("user",)


def _add_some(path: str, names: list[str]) -> None:
    with mock.patch("ehlo._users.hash_password", return_value=PENCIL):
        users = ehlo.Users(path, create=True)
        for name in names:
            users.add(name, "x")


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    context = get_context("spawn")
    names = [[f"{letter}{number}" for number in range(20)] for letter in "abc"]
    processes = [context.Process(target=_add_some, args=(str(tmp_path / "users"), some)) for some in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(ehlo.Users(tmp_path / "users").names) == sorted(name for some in names for name in some)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    users = users_of(tmp_path, f"user:{PENCIL}")
    for shown in (repr(users), repr(users._book), repr(users.check(plain("user")))):
        for secret in PENCIL.split("$")[3:]:
            assert secret not in shown
        assert PASSWORD not in shown


# ---- names are not told (FAULTS D16) -------------------------------------------------------------


def work_of(call: Any) -> tuple[Any, ...]:
    """The parameters of one call of a hash, without the password and the salt: only the salt's length."""
    keywords = dict(call.kwargs)
    salt = keywords.pop("salt", None)
    positional = list(call.args)
    sizes = [len(salt)] if salt is not None else []
    return (*[one for one in positional if not isinstance(one, bytes)], sorted(keywords.items()), sizes)


def mixed(path: Path) -> ehlo.Users:
    """Users of both kinds, with several parameters of each."""
    lines = [
        f"one:{ehlo.hash_password(PASSWORD, ln=5)}",
        f"two:{ehlo.hash_password(PASSWORD, ln=6)}",
        f"three:{ehlo.hash_password(PASSWORD, scram=True, iterations=5000)}",
        f"four:{ehlo.hash_password(PASSWORD, scram=True, iterations=6000)}",
        f"five:{ehlo.hash_password(PASSWORD, ln=5, p=2)}",
    ]
    return users_of(path, *lines)


def test_the_work_is_the_same_for_every_name(tmp_path: Path) -> None:
    users = mixed(tmp_path)

    def work(name: str, password: str) -> list[tuple[Any, ...]]:
        with (
            mock.patch("hashlib.scrypt", wraps=hashlib.scrypt) as scrypt,
            mock.patch("hashlib.pbkdf2_hmac", wraps=hashlib.pbkdf2_hmac) as pbkdf2,
        ):
            verdict = users.check(plain(name, password))
        assert verdict is (password == PASSWORD and name in users)
        return [work_of(call) for call in (*scrypt.call_args_list, *pbkdf2.call_args_list)]

    expected = work("nobody", "wrong")
    assert len(expected) == 5
    for name in (*users.names, "nobody", "somebody", "é"):
        for password in ("wrong", PASSWORD):
            assert work(name, password) == expected


def first_message(users: ehlo.Users, name: str) -> tuple[str, str]:
    """Salt and iterations of SCRAM's first message of the server."""
    exchange = ServerExchange("SCRAM-SHA-256", SaslContext())
    exchange.start(f"n,,n={name},r=abc".encode())
    step = exchange.decide(users.check(ehlo.ScramCredentials(mechanism="SCRAM-SHA-256", username=name)))
    assert isinstance(step, Send)
    _, salt, iterations = step.challenge.decode().split(",")
    return salt, iterations


def test_scram_looks_the_same_for_every_name(tmp_path: Path) -> None:
    shorter = PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ", "W22ZaJ0SNY7soEsU")
    users = users_of(
        tmp_path,
        *[f"a{number}:{PENCIL.replace('4096', '10000')}" for number in range(3)],
        f"b:{shorter}",
    )
    names = [f"name{number}" for number in range(400)]
    looks = [(len(salt), iterations) for salt, iterations in (first_message(users, name) for name in names)]
    kinds = {(len(salt), iterations) for salt, iterations in (first_message(users, name) for name in users.names)}
    assert set(looks) == kinds  # every name that is not there looks like one that is
    rare = sum(look == (len(first_message(users, "b")[0]), "i=4096") for look in looks)
    assert 50 < rare < 150  # as frequent as among the users: a quarter
    assert len({first_message(users, name) for name in names}) == len(names)


def test_decoys_outlive_reload_restart_and_new_users(tmp_path: Path) -> None:
    users = users_of(tmp_path, f"jane:{PENCIL}", f"jim:{PENCIL}")
    before = {name: first_message(users, name) for name in ("x", "y", "z", "jane")}

    def now(users: ehlo.Users) -> dict[str, tuple[str, str]]:
        return {name: first_message(users, name) for name in before}

    users.reload()
    assert now(users) == before
    assert now(ehlo.Users(tmp_path / "users")) == before  # after a restart, and in another worker
    ehlo.Users(tmp_path / "users").remove("jim")
    users.reload()
    assert now(users) == before
    with mock.patch("ehlo._users.hash_password", return_value=PENCIL):
        ehlo.Users(tmp_path / "users").add("joe", "x")
    ehlo.Users(tmp_path / "users").remove("jane")
    users.reload()
    assert now(users) | {"jane": 0} == before | {"jane": 0}
    assert now(ehlo.Users(tmp_path / "users")) == now(users)


def test_decoys_differ_between_files(tmp_path: Path) -> None:
    messages = []
    for number in range(2):
        users = ehlo.Users(tmp_path / str(number), create=True)
        users.add("jane", "x", scram=True)
        messages.append(first_message(users, "nobody"))
    assert messages[0] != messages[1]
