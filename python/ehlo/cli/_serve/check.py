"""``ehlo serve --check``: everything is looked at, and nothing is changed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

from ehlo._words import counted
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.certificate import check_certificate
from ehlo.cli._serve.check_machine import (
    check_folder,
    check_places,
    check_queue,
    check_readable,
    check_room,
    check_secret,
)
from ehlo.cli._serve.check_mail import check_filters, check_keys
from ehlo.cli._serve.check_network import check_hops, check_name
from ehlo.cli._serve.findings import Finding
from ehlo.cli._serve.front import load_filter
from ehlo.cli._serve.listeners import served
from ehlo.cli._serve.offers import NO_OFFERS
from ehlo.cli._serve.pass_on import pool_options
from ehlo.cli._serve.privileges import Account, as_account
from ehlo.cli._serve.routes import Way
from ehlo.cli._serve.running import account_of, check_python, check_run, places_of
from ehlo.cli._serve.settings import Settings
from ehlo.cli._serve.site import Site

__all__ = ["check_place", "look", "look_at_places"]


def look(settings: Settings) -> Iterator[Finding]:
    """Look at all that the settings name, on this machine and beyond.

    Arguments:
        settings: the file, read.

    Example::

        text, status = report(look(settings), as_json=False)
    """
    try:
        check_run(settings)
        account = account_of(settings)
        check_python(account)
    except UsageError as exc:
        yield Finding("error", "run", str(exc))
        account = None
    else:
        if settings.run.user is not None:
            yield Finding("OK", "run", f"it will run as {settings.run.user}")
    try:
        load_filter(settings)
        site = Site.open(settings)
        served(site, NO_OFFERS)
    except UsageError as exc:
        yield Finding("error", "settings", str(exc))
        ways: tuple[Way, ...] = ()
        milters: tuple[Any, ...] = ()
    else:
        ways, milters = site.ways, site.milters
        kinds = ", ".join(way.kind for way in ways)
        text = f"{counted(len(settings.listener), 'listener')}; routes: {kinds}; all their files were read"
        yield Finding("OK", "settings", text)
    yield from look_at_places(settings, account)
    yield from _certificate(settings, account)
    yield from _files(settings, account)
    yield from _stores(ways, account)
    yield from _queue(settings, account)
    yield from check_keys(settings.dkim, account)
    yield from check_filters(milters)
    yield from check_name(settings.hostname)
    yield from check_hops([(way.where, pool_options(way, settings.hostname)) for way in ways if way.is_hop])


def look_at_places(settings: Settings, account: Account | None) -> Iterator[Finding]:
    """Look at the places of the listeners, and at that of [metrics].

    Arguments:
        settings: the file, read.
        account: the user that the server runs as.

    Example::

        findings = list(look_at_places(settings, None))
    """
    figures = None
    if settings.metrics.listen is not None:
        try:
            from ehlo.cli._serve.show import place_of_figures  # it needs the packages of ehlo[mta,metrics]

            figures = place_of_figures(settings)
        except ImportError as exc:
            yield Finding("error", "metrics", f"{exc.name} is not installed; pip install 'ehlo[mta,metrics]'")
        except UsageError as exc:
            yield Finding("error", "metrics", str(exc))
    yield from check_places(places_of(settings), settings.hostname, figures, account)


def _certificate(settings: Settings, account: Account | None) -> Iterator[Finding]:
    tls = settings.tls
    if tls.certificate is None:
        if any(one.protocol == "smtp" for one in settings.listener):
            text = "without it no client can encrypt; get one, and name it in [tls]"
            yield Finding("warning", "tls.certificate", text)
        return
    found = check_certificate("tls.certificate", tls.certificate, tls.key_file, settings.hostname)
    yield found
    if found.level == "error":
        return
    yield check_readable("tls.certificate", tls.certificate, account)
    yield check_secret("tls.key", tls.key_file or tls.certificate, account)


def _files(settings: Settings, account: Account | None) -> Iterator[Finding]:
    secrets = [("auth.users", settings.auth.users), ("metrics.token_file", settings.metrics.token_file)]
    secrets += [(f"{route.where}: password_file", route.password_file) for route in settings.route]
    others = [("aliases.file", settings.aliases.file)]
    others += [(f"{route.where}: recipients", route.recipients) for route in settings.route]
    if settings.auth.from_.startswith("table:"):
        others.append(("auth.from", settings.auth.from_[6:]))
    for about, path in secrets:
        if path is not None:
            yield check_secret(about, path, account)
    for about, path in others:
        if path is not None:
            yield check_readable(about, path, account)
    for about, path in (("log.file", settings.log.file), ("rates.file", settings.rates.file)):
        if path is not None:
            yield check_folder(about, os.path.dirname(path), account)


def _stores(ways: Sequence[Way], account: Account | None) -> Iterator[Finding]:
    for way in ways:
        if not way.is_store:
            continue
        if "{" in way.place:
            yield check_folder(f"{way.where}: to", os.path.dirname(way.place.partition("{")[0] or "./"), account)
            continue
        kind: Any = way.kind
        try:
            as_account(account, partial(check_place, kind, way.place, follow_symlink=way.table.follow_symlink))
        except UsageError as exc:
            yield Finding("error", f"{way.where}: to", str(exc))
        else:
            yield Finding("OK", f"{way.where}: to", f"{way.place} can be written to")


def _queue(settings: Settings, account: Account | None) -> Iterator[Finding]:
    queue = settings.queue
    if queue is not None and queue.path is not None:
        yield check_folder("queue.path", queue.path, account)
        yield from check_room("queue.path", queue.path)
        yield check_queue("queue.path", queue.path, account)
    elif queue is not None and queue.url is not None:
        yield check_queue("queue.url", queue.url, account)


def check_place(kind: Literal["maildir", "mbox"], path: str, *, follow_symlink: bool) -> None:
    """Try to write where a store will write. What is not there yet is not made.

    Arguments:
        kind: what the store is.
        path: its directory or file.
        follow_symlink: whether ``path`` may be a symbolic link.

    Raises:
        UsageError: mail cannot be kept there.
    """
    if os.path.islink(path) and not follow_symlink:
        raise UsageError(f"{kind} {path}: is a symbolic link; set follow_symlink = true in its [[route]] to allow it")
    try:
        if kind == "mbox" and os.path.exists(path):
            _open_file(path)
        else:
            inside = os.path.join(path, "tmp")
            places = (inside, path) if kind == "maildir" else ()
            there = next((place for place in places if os.path.exists(place)), os.path.dirname(os.path.abspath(path)))
            with tempfile.TemporaryDirectory(prefix=".ehlo-check-", dir=there):
                pass
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(
            f"{kind} {path}: cannot be written to ({reason}); name a place that can be written to"
        ) from None


def _open_file(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
    finally:
        os.close(fd)
