"""What ``ehlo serve --check`` looks at on this machine: ports, folders, files, the queue."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

from ehlo.cli._receive import UsageError
from ehlo.cli._receive import where as where_text
from ehlo.cli._serve.findings import Finding
from ehlo.cli._serve.privileges import Account, as_account
from ehlo.cli._serve.sockets import Place, open_sockets

__all__ = [
    "check_folder",
    "check_places",
    "check_queue",
    "check_readable",
    "check_room",
    "check_secret",
]

_GREETING_SECONDS: Final = 3.0
_HEAD_OCTETS: Final = 2048


# ---- ports ---------------------------------------------------------------------------------------


def check_places(
    places: Sequence[Place], hostname: str, figures: Place | None = None, account: Account | None = None
) -> Iterator[Finding]:
    """Listen at each place for a moment.

    Arguments:
        places: the listeners.
        hostname: a server that greets with this name is probably this one, running.
        figures: of [metrics].
        account: the user that the server runs as. The place of the figures is bound as this user, all others before.

    Example::

        list(check_places([Place("smtp", "listener 1", port=2525)], "mx.example.org"))
    """
    seen: dict[tuple[str, int] | str, Place] = {}
    for place in places if figures is None else (*places, figures):
        key = (place.host, place.port) if place.path is None else os.path.realpath(place.path)
        before = seen.setdefault(key, place)
        if before is not place and place.port != 0:
            yield Finding("error", place.where, f"{_where(place)} is already that of {before.where}; choose another")
            continue
        if place is figures:
            yield as_account(account, partial(_try, place, _shows_figures, "a server of ehlo that shows its figures"))
        else:
            greets = partial(_greets, hostname=hostname)
            yield _try(place, greets, f"a server that greets as {hostname}")


def _where(place: Place) -> str:
    return where_text((place.host, place.port) if place.path is None else place.path)


def _try(place: Place, is_ours: Callable[[Place], bool], ours: str) -> Finding:
    if place.path is not None:
        return _try_path(place)
    try:
        open_sockets([place]).close()
    except UsageError as exc:
        if is_ours(place):
            text = f"{_where(place)} is taken by {ours}: probably this one, running"
            return Finding("warning", place.where, text)
        return Finding("error", place.where, str(exc).removeprefix(f"{place.where} "))
    where = _where(place) if place.port else f"{place.host} with any port that is free"
    return Finding("OK", place.where, f"{where} is free")


def _try_path(place: Place) -> Finding:
    """A bound Unix socket is a file. So this is only looked at, where a file is there already."""
    path = place.path or ""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        return Finding("error", place.where, f"{path}: there is no folder {folder}; make it")
    if os.path.exists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return Finding("error", place.where, f"{path} exists, and is no socket; choose another path")
        return Finding("warning", place.where, f"{path} exists; it will be replaced, unless a server listens there")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("error", place.where, f"{path}: this user may not write in {folder}")
    return Finding("OK", place.where, f"{path} is free")


def _connected(place: Place) -> socket.socket:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(place.host, place.host)
    return socket.create_connection((host, place.port), _GREETING_SECONDS)


def _shows_figures(place: Place) -> bool:
    try:
        with _connected(place) as sock, sock.makefile("rb") as answer:
            sock.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return [b"Server:", b"ehlo"] in map(bytes.split, answer.read(_HEAD_OCTETS).splitlines())
    except OSError:
        return False


def _greets(place: Place, hostname: str) -> bool:
    try:
        with _connected(place) as sock:
            return sock.recv(512).split(b"\r\n")[0].split()[1:2] == [hostname.encode()]
    except OSError:
        return False


# ---- folders and files ---------------------------------------------------------------------------


def _nearest(path: str) -> str:
    """The path, or the nearest folder above it that is there."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def check_folder(about: str, path: str, account: Account | None) -> Finding:
    """Whether the user that the server runs as can write in a folder, or make it.

    Arguments:
        about: how the settings call it.
        path: of the folder.
        account: the user; ``None``: this process' own.

    Example::

        check_folder("queue.path", "/var/spool/ehlo", find_account("ehlo"))
    """

    def look() -> tuple[str, bool, bool]:
        there = _nearest(path)
        return there, os.path.isdir(there), os.access(there, os.W_OK | os.X_OK)

    there, is_folder, writable = as_account(account, look)
    name = "this user" if account is None else account.name
    if not is_folder:
        return Finding("error", about, f"{there} is no folder; choose another place")
    if not writable:
        owner = "$USER" if account is None else account.name
        return Finding("error", about, f"{name} cannot write in {there}; mend it: install -d -o {owner} -m 700 {path}")
    is_there = os.path.abspath(path) == there
    if is_there and os.stat(there).st_mode & stat.S_IWOTH and not os.stat(there).st_mode & stat.S_ISVTX:
        return Finding("warning", about, f"everybody on this machine can write in {there}; mend it: chmod o-w {there}")
    return Finding("OK", about, f"{name} can write in {there}" if is_there else f"{path} will be made in {there}")


def check_room(about: str, path: str) -> Iterator[Finding]:
    """Whether the disk of the queue has room: with less than its reserve all mail is refused.

    Arguments:
        about: how the settings call it.
        path: of its folder.

    Example::

        findings = list(check_room("queue.path", "/var/spool/ehlo"))
    """
    try:
        from ehlo.mta._sqlite_spool import RESERVE  # an extra
    except ImportError:  # check_queue says so
        return
    there = _nearest(path)
    disk = os.statvfs(there)
    if disk.f_files and not disk.f_favail:
        yield Finding("error", about, f"no more files can be made on the disk of {there} (inodes); remove some")
    free = disk.f_bavail * disk.f_frsize
    if free < RESERVE:
        text = f"{free >> 20} MiB are free on the disk of {there}; below {RESERVE >> 20} MiB all mail is answered 452"
        yield Finding("error", about, f"{text}; make room")


def check_secret(about: str, path: str, account: Account | None) -> Finding:
    """Whether a file with secrets is hidden from other users, and can be read when SIGHUP comes.

    Example::

        check_secret("auth.users", "/etc/ehlo/users", find_account("ehlo"))
    """
    try:
        found = os.stat(path)
    except OSError as exc:
        return Finding("error", about, f"{path}: {exc.strerror}; name a file that exists")
    if found.st_mode & 0o007:
        return Finding("error", about, f"every user of this machine can use {path}; mend it: chmod 600 {path}")
    if found.st_mode & 0o020 or (found.st_mode & 0o040 and (account is None or found.st_gid not in account.groups)):
        return Finding("warning", about, f"the group of {path} can use it; mend it: chmod 600 {path}")
    return check_readable(about, path, account)


def check_readable(about: str, path: str, account: Account | None) -> Finding:
    """Whether the server's user can read a file again when SIGHUP comes.

    Example::

        check_readable("aliases.file", "/etc/ehlo/aliases", find_account("ehlo"))
    """
    if as_account(account, lambda: os.access(path, os.R_OK)):
        return Finding("OK", about, f"{path} can be read")
    if account is None or not os.access(path, os.R_OK):
        return Finding("error", about, f"{path} cannot be read; mend its permissions")
    text = f"{path} is read by root at the start, but {account.name} cannot read it again at SIGHUP; to mend that: "
    return Finding("warning", about, f"{text}chgrp {account.name} {path}; chmod 640 {path}")


# ---- the queue -----------------------------------------------------------------------------------


def check_queue(about: str, where: str, account: Account | None) -> Finding:
    """Whether the queue can be opened, and is one of this version. It is only looked at.

    Arguments:
        about: how the settings call it.
        where: the folder, or ``postgresql://…``.
        account: the user that the server runs as.

    Example::

        check_queue("queue.path", "/var/spool/ehlo", None)
    """
    is_url = "://" in where
    try:
        from ehlo.mta._schema import LATEST  # an extra
    except ImportError as exc:
        return Finding("error", about, f"{exc.name} is not installed; pip install 'ehlo[mta]'")
    if not is_url and not os.path.exists(os.path.join(where, "queue.db")):
        return Finding("OK", about, f"there is no queue in {where} yet; it will be made")
    shown = _hidden(where)
    try:
        version = as_account(account, lambda: _postgres_version(where) if is_url else _sqlite_version(where))
    except ImportError as exc:  # without a name, psycopg lacks the library libpq
        return Finding("error", about, f"{exc.name or 'libpq'} is not installed; pip install 'ehlo[mta,postgres]'")
    except Exception as exc:  # of either database
        return Finding("error", about, f"{shown} cannot be opened: {' '.join(str(exc).split())}")
    if version > LATEST:
        text = f"{shown} was written by a newer ehlo (schema {version}, this one knows {LATEST}); update this program"
        return Finding("error", about, text)
    return Finding("OK", about, f"{shown} can be opened (schema {version})")


def _sqlite_version(folder: str) -> int:
    path = quote(os.path.join(os.path.abspath(folder), "queue.db"))
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT version FROM schema_version").fetchone()[0])


def _postgres_version(url: str) -> int:
    import psycopg

    with psycopg.connect(url, connect_timeout=10) as db:
        if db.execute("SELECT to_regclass('ehlo.schema_version')").fetchone() == (None,):
            return 0
        row = db.execute("SELECT version FROM ehlo.schema_version").fetchone()
        return 0 if row is None else int(row[0])


def _hidden(url: str) -> str:
    """A URL without the password in it."""
    before, at, after = url.rpartition("@")
    return f"{before.rpartition(':')[0]}:***{at}{after}" if at and before.count(":") > 1 else url
