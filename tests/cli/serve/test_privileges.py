"""The user that ``ehlo serve`` runs as."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.privileges import Account, as_account, become, find_account, needs_account

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def identity() -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    return os.getresuid(), os.getresgid(), os.getgroups()


def test_an_account_is_found_by_name() -> None:
    entry = pwd.getpwnam("nobody")
    account = find_account("nobody")
    assert (account.uid, account.gid) == (entry.pw_uid, entry.pw_gid)
    assert account.gid in account.groups


@pytest.mark.parametrize(
    ("user", "group", "text"),
    [
        ("no-such-user", None, "make it: useradd --system no-such-user"),
        ("nobody", "no-such-group", "make it: groupadd --system no-such-group"),
        ("root", None, "name another user"),
    ],
)
def test_an_account_that_cannot_be_used_is_refused(user: str, group: str | None, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        find_account(user, group)


@root
def test_root_without_a_user_is_refused_unless_told() -> None:
    assert "name the user to run as" in str(needs_account(None, False))
    assert needs_account(None, True) is None
    assert needs_account("nobody", False) is None


@root
def test_a_process_becomes_another_user_with_the_groups_of_that_user_only() -> None:
    account = find_account("nobody")
    before = identity()
    uids, gids, groups = as_account(account, identity)
    assert uids == (account.uid,) * 3
    assert gids == (account.gid,) * 3
    assert set(groups) == set(account.groups)
    assert identity() == before


def _back() -> str:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return "no way back"
    return "root again"


@root
def test_there_is_no_way_back() -> None:
    assert as_account(find_account("nobody"), _back) == "no way back"


def _become_another() -> None:
    become(Account("somebody", 4242, 4242, (4242,)))


@root
def test_only_root_may_change_the_user() -> None:
    with pytest.raises(UsageError, match="only root may change the user"):
        as_account(find_account("nobody"), _become_another)


def test_to_become_oneself_changes_nothing() -> None:
    if os.geteuid() == 0:
        account = find_account("nobody")
        as_account(account, lambda: become(account))
    else:
        become(Account("me", os.getuid(), os.getgid(), tuple(os.getgroups())))


@root
def test_files_are_seen_as_the_other_user_sees_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert os.access(secret, os.R_OK)
    assert not as_account(find_account("nobody"), lambda: os.access(secret, os.R_OK))


@root
def test_the_error_of_the_child_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        as_account(find_account("nobody"), lambda: 1 / 0)
