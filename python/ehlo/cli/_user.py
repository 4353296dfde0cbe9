"""``ehlo user``: the file of users that ``ehlo serve`` and :class:`ehlo.Users` read."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, Final

from ehlo._errors import LocalProtocolError
from ehlo._sasl.passwords import hash_password
from ehlo._users import Users, check_name
from ehlo.cli._receive import UsageError, complain, say

__all__ = ["add_parser", "print_line", "read_password"]

_HELP: Final = """\
The command asks for the password twice at the terminal, or reads the first line of standard input. The password is
never an argument, because other users of the machine see the arguments of all programs.

The file gets mode 0600. It is replaced as a whole, and a lock keeps two commands apart. ehlo serve reads it again at
SIGHUP. A line is NAME:$scrypt$ln=15,r=8,p=1$SALT$HASH (RFC 7914) or NAME:$scram-sha-256$i=10000$SALT$STORED$SERVER
(RFC 7677), in base64. Exit status: 0, or 2 if nothing was done.
"""


def add_parser(commands: Any) -> None:
    """Add ``user`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "user",
        help="add and remove users, and change their passwords",
        description="Add and remove the users that a server lets in, and change their passwords.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    for name, text, run in (
        ("add", "add a user, and make the file if there is none", _add),
        ("passwd", "give a user another password", _passwd),
        ("list", "print the names, and the kind of each hash", _list),
        ("remove", "remove a user", _remove),
    ):
        one = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(run=run)
        one.add_argument("file", metavar="FILE", help="the file of users")
        if name != "list":
            one.add_argument("name", metavar="NAME", help="the name of the user")
        if name in ("add", "passwd"):
            kind = one.add_mutually_exclusive_group()
            kind.add_argument(
                "--scram",
                action="store_true",
                default=None,
                help="keep keys for SCRAM-SHA-256 (default: the kind that the other users have)",
            )
            kind.add_argument(
                "--scrypt", dest="scram", action="store_false", help="keep a hash by scrypt, for PLAIN and LOGIN only"
            )


def read_password(name: str) -> str:
    """The password of a user: from the terminal, twice, or else the first line of standard input.

    Raises:
        UsageError: there is none, or the two are not the same.
    """
    stream = sys.stdin
    if stream is None:  # it was closed before we began
        raise UsageError("there is no standard input to read the password from")
    try:
        if stream.isatty():
            password = getpass.getpass(f"password of {name}: ")
            if getpass.getpass("again: ") != password:
                raise UsageError("the two passwords are not the same; nothing was changed")
        else:
            password = stream.readline().rstrip("\r\n")
    except (EOFError, OSError):
        password = ""
    except UnicodeDecodeError as exc:
        raise UsageError(f"the password is not in UTF-8: {exc.reason}") from None
    if not password:
        raise UsageError("the password is empty; give one at the prompt, or on standard input")
    return password


def print_line(name: str, *, scram: bool) -> None:
    """Print the line of a user, for ``ehlo serve --hash-password``. It says so when the line goes into a file that
    others can read.

    Raises:
        UsageError: the name cannot stand in the file, or there is no password.
    """
    try:
        check_name(name)
        line = f"{name}:{hash_password(read_password(name), scram=scram)}"
    except LocalProtocolError as exc:
        raise UsageError(str(exc)) from None
    print(line)
    if _others_can_read_the_output():
        complain("ehlo serve: others can read the file with this line; run chmod 600 on it, or use: ehlo user add")


def _others_can_read_the_output() -> bool:
    try:
        found = os.fstat(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # it is no file
        return False
    return os.name == "posix" and stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o077)


@contextlib.contextmanager
def _users(arguments: argparse.Namespace, *, create: bool = False) -> Iterator[Users]:
    """The file. Its errors become a :class:`UsageError`. The commands mend its mode, so they do not refuse it."""
    try:
        yield Users(arguments.file, create=create, private=False)
    except LocalProtocolError as exc:
        raise UsageError(str(exc)) from None
    except OSError as exc:
        raise UsageError(f"{arguments.file}: {exc.strerror or exc}") from None


def _add(arguments: argparse.Namespace) -> int:
    with _users(arguments, create=True) as users:
        check_name(arguments.name)
        if arguments.name in users:
            raise UsageError(f"{arguments.file}: {arguments.name} exists already; use: ehlo user passwd")
        users.add(arguments.name, read_password(arguments.name), scram=arguments.scram)
    say(f"ehlo user: added {arguments.name}")
    return 0


def _passwd(arguments: argparse.Namespace) -> int:
    with _users(arguments) as users:
        if arguments.name not in users:
            raise UsageError(f"{arguments.file}: there is no user {arguments.name!r}; use: ehlo user add")
        users.change(arguments.name, read_password(arguments.name), scram=arguments.scram)
    say(f"ehlo user: {arguments.name} has another password")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with _users(arguments) as users:
        users.remove(arguments.name)
    say(f"ehlo user: removed {arguments.name}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with _users(arguments) as users:
        for name in users.names:
            kind = (users.line(name) or "").split("$")[1]
            say(f"{name}\t{'SCRAM-SHA-256' if kind.startswith('scram') else kind}")
    return 0
