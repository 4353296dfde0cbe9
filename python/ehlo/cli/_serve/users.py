"""The users' file of ``ehlo serve``: :class:`ehlo.Users`, with errors that name the setting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from ehlo._errors import LocalProtocolError
from ehlo._users import Users
from ehlo.cli._receive import UsageError

__all__ = ["naming", "read_users", "reload_users"]


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors of the file become a :class:`UsageError`.

    Arguments:
        path: of the file, as the user gave it.
    """
    try:
        yield
    except LocalProtocolError as exc:
        raise UsageError(f"users {exc}" if path in str(exc) else f"users {path}: {exc}") from None
    except OSError as exc:
        raise UsageError(f"users {path}: {exc.strerror or exc}; name a file that can be read") from None


def read_users(path: str) -> Users:
    """The users of a file.

    Raises:
        UsageError: it cannot be read, others can read it, a line is wrong, or it has no user.
    """
    with naming(path):
        users = Users(path)
    if not users:
        raise UsageError(f"users {path} has no user; add one: ehlo user add {path} NAME")
    return users


def reload_users(users: Users, path: str, offered: Iterable[str]) -> None:
    """Read the file again. What is wrong changes nothing.

    Arguments:
        users: as they were read.
        path: of the file.
        offered: the SASL mechanisms of the listeners: what they need must not be lost.

    Raises:
        UsageError: as :func:`read_users`, or a user lacks the keys for SCRAM.
    """
    with naming(path):
        users.reload(offered)
