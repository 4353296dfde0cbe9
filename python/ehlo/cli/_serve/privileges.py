"""The user that a server runs as: found by name, become once and for all, and tried in a child process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ehlo.cli._receive import UsageError

__all__ = ["Account", "as_account", "become", "find_account", "needs_account"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process runs as.

    Attributes:
        name: of the user.
        uid, gid: the numbers of user and group.
        groups: numbers of all groups that the user is in.

    Example::

        Account("ehlo", 990, 990, (990,))
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_account(user: str, group: str | None = None) -> Account:
    """The account of a user.

    Arguments:
        user: its name.
        group: the name of its first group; ``None``: the one that the system's list of users has.

    Raises:
        UsageError: there is no such user or group, or it is root.

    Example::

        account = find_account("ehlo", "mail")
    """
    if os.name != "posix":
        raise UsageError(f"user {user!r}: this system has no way to change the user; remove user")
    import grp
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"user {user!r}: there is no such user; make it: useradd --system {user}") from None
    try:
        gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"group {group!r}: there is no such group; make it: groupadd --system {group}") from None
    if entry.pw_uid == 0:
        raise UsageError(f"user {user!r} has all rights of root; name another user")
    return Account(user, entry.pw_uid, gid, tuple(sorted({gid, *os.getgrouplist(user, gid)})))


def needs_account(user: str | None, run_as_root: bool) -> str | None:
    """Why a server may not start as this process' user; ``None`` where it may.

    Arguments:
        user: the user that the settings name.
        run_as_root: whether the administrator asked for root.

    Example::

        reason = needs_account(None, False)
    """
    if os.name != "posix" or os.geteuid() != 0 or user is not None or run_as_root:
        return None
    return (
        'it would run as root; name the user to run as: [run] with user = "ehlo", or --user ehlo '
        "(as root all the same: as_root = true in [run], or --as-root)"
    )


def become(account: Account) -> None:
    """Become a user, without a way back. Where this process is that user, nothing changes.

    Raises:
        UsageError: this process may not change its user, or the system left a way back.

    Example::

        become(find_account("ehlo"))
    """
    if os.geteuid() != 0:
        if os.geteuid() == account.uid and os.getuid() == account.uid:
            return
        raise UsageError(
            f"user {account.name!r}: only root may change the user; start it as root or as {account.name}, "
            "or remove user"
        )
    # The groups first: without root's rights they cannot change any more.
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise UsageError(f"user {account.name!r}: the system did not change the user; run it as {account.name}")
    if set(os.getgroups()) - {*account.groups}:
        raise UsageError(f"user {account.name!r}: the groups of root are still there; run it as {account.name}")
    try:
        os.setuid(0)
    except OSError:
        return
    raise UsageError(f"user {account.name!r}: there is a way back to root; run it as {account.name}")


def as_account(account: Account | None, function: Callable[[], T]) -> T:
    """The result of a function that a child process calls as another user. This process stays as it is.

    Arguments:
        account: the user; ``None``, or this process' own user: the function is called here.
        function: its result, or its exception, must be something that :mod:`pickle` can carry.

    Example::

        as_account(find_account("ehlo"), lambda: os.access("spool", os.W_OK))
    """
    if account is None or os.geteuid() != 0:
        return function()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(account, function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        octets = pipe.read()
    os.waitpid(child, 0)
    if not octets:
        raise UsageError(f"user {account.name!r}: the process that looked as this user died; look at the system's log")
    good, value = pickle.loads(octets)
    if not good:
        raise value
    result: T = value
    return result


def _answer(account: Account, function: Callable[[], object], pipe: int) -> None:
    """In the child: write what came out, and end without the parent's handlers of the end."""
    try:
        try:
            become(account)
            answer: tuple[bool, object] = (True, function())
        except Exception as exc:
            answer = (False, exc)
        with os.fdopen(pipe, "wb") as file:
            file.write(pickle.dumps(answer))
    finally:
        os._exit(0)
