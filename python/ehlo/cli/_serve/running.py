"""How ``ehlo serve`` runs: sockets first, then the user, then the servers, in this process or in workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

import ehlo
from ehlo._server.limits import Statistics
from ehlo._sockets import address_of
from ehlo.cli._log import ERROR, WARNING, lines_beside
from ehlo.cli._receive import UsageError, complain, totals
from ehlo.cli._receive import where as where_text
from ehlo.cli._run import Job, run_job
from ehlo.cli._serve.board import Board
from ehlo.cli._serve.certificate import check_end
from ehlo.cli._serve.findings import Finding
from ehlo.cli._serve.gate import COMMAND
from ehlo.cli._serve.listeners import served
from ehlo.cli._serve.offers import NO_OFFERS
from ehlo.cli._serve.privileges import Account, as_account, become, find_account, needs_account
from ehlo.cli._serve.settings import Settings
from ehlo.cli._serve.site import Site
from ehlo.cli._serve.sockets import Place, Sockets, open_sockets
from ehlo.cli._serve.systemd import Notifier, given_sockets, watchdog_seconds
from ehlo.cli._serve.trail import Trail, open_trail
from ehlo.cli._serve.workers import BEAT, Plan, check_workers, run_workers, tell_parent

__all__ = [
    "CUT",
    "Host",
    "account_of",
    "check_python",
    "check_run",
    "places_of",
    "reload_site",
    "run_site",
]

CUT: Final = 3
"""Exit status: it ended as it was asked to, but transactions were cut."""
# Where modules are.
_PYTHON: Final = (os.path.dirname(os.__file__), os.path.dirname(ehlo.__file__))


def _do_nothing() -> None:
    """Of a worker: its parent does it."""


@dataclass(slots=True)
class Host:
    """What a job has of the process that it runs in.

    Attributes:
        sockets: those of each listener.
        again: reads the settings again.
        trail: of this process.
        workers: how many processes share the limits.
        board: the figures of all of them; ``None``: there is one.
        number: of this worker, from 0.
        started: called when all servers serve.
        reloading: called before the settings are read again.
        reloaded: called afterwards, with the line that tells the result, and whether it is good.
        stopping: called at the first signal.
        beat: called every so many seconds.
    """

    sockets: Sockets
    again: Callable[[], Settings]
    trail: Trail
    workers: int = 1
    board: Board | None = None
    number: int = 0
    started: Callable[[], None] = _do_nothing
    reloading: Callable[[], None] = _do_nothing
    reloaded: Callable[[str, bool], None] = lambda line, good: None
    stopping: Callable[[], None] = _do_nothing
    beat: tuple[float, Callable[[], None]] | None = None


@dataclass(slots=True)
class _Process:
    """The process that the administrator started."""

    site: Site
    again: Callable[[], Settings]
    make: Callable[[Site, Host], Job]
    notifier: Notifier
    sockets: Sockets
    trail: Trail
    listening: list[tuple[str, str, str]]
    ending: Finding | None

    def run(self) -> int:
        return self._run_workers() if self.site.settings.run.workers > 1 else self._run_alone()

    def _run_alone(self) -> int:
        seconds = watchdog_seconds(os.environ)
        host = Host(
            self.sockets,
            self.again,
            self.trail,
            started=self._started,
            reloading=self.notifier.reloading,
            reloaded=self._reloaded,
            stopping=self._stopping,
            # Twice within the time that systemd waits (sd_watchdog_enabled(3)).
            beat=None if seconds is None else (seconds / 2, self.notifier.alive),
        )
        return self._end(run_job(self.make(self.site, host)))

    def _run_workers(self) -> int:
        board = Board(self.site.settings.run.workers)
        watched = watchdog_seconds(os.environ) is not None
        plan = Plan(
            self.site.settings.run.workers,
            self.site.settings.deadline,
            partial(self._work, board),
            ready=self._started,
            reload=self._reload,
            stopping=self._stopping,
            alive=self.notifier.alive if watched else _do_nothing,
            complain=lambda line: self.trail.warn(f"{COMMAND}: {line}", "worker"),
        )
        ended = run_workers(plan)
        status = self._end(ended.statistics)
        if ended.failure is not None:
            self.trail.warn(f"{COMMAND}: {ended.failure}", "worker")
            return 1
        return status

    def _work(self, board: Board, number: int, pipe: Connection) -> Statistics:
        with lines_beside(), open_trail(self.site.settings) as trail:
            host = Host(
                self.sockets,
                self.again,
                trail,
                workers=self.site.settings.run.workers,
                board=board,
                number=number,
                started=lambda: tell_parent(pipe, "ready"),
                reloaded=lambda line, good: None if good else complain(line),
                beat=(BEAT, lambda: tell_parent(pipe, "alive")),
            )
            return run_job(self.make(self.site, host), pipe)

    # ---- what happens ----------------------------------------------------------------------------

    def _started(self) -> None:
        for text, address, protocol in self.listening:
            self.trail.say(text, "listening", address=address, protocol=protocol)
        self._tell_end(self.ending)
        self.notifier.ready(f"{len(self.listening)} listening")

    def _tell_end(self, ending: Finding | None) -> None:
        """Clients that verify a certificate refuse one that has ended."""
        if ending is not None:
            level = ERROR if ending.level == "error" else WARNING
            self.trail.warn(f"{COMMAND}: {ending.about}: {ending.text}", "certificate", level)

    def _reload(self) -> bool:
        """Of the parent of workers: a worker that is started later has what the others read."""
        self.notifier.reloading()
        self.trail.reopen()
        line, good = reload_site(self.site, self.again)
        self._reloaded(line, good)
        return good

    def _reloaded(self, line: str, good: bool) -> None:
        if good:
            self.trail.say(line, "reloaded", text=line)
            self._tell_end(_ending(self.site.settings))
        else:
            self.trail.warn(line, "not-reloaded")
        self.notifier.ready(line)

    def _stopping(self) -> None:
        self.notifier.stopping(self.site.settings.deadline)

    def _end(self, statistics: Statistics) -> int:
        self.trail.say(totals(COMMAND, statistics), "stopped", **asdict(statistics))
        return CUT if statistics.cut else 0


def reload_site(site: Site, again: Callable[[], Settings]) -> tuple[str, bool]:
    """Read the settings and all that they name again; where something is wrong, nothing changes.

    Returns:
        The line that tells the result, and whether it is good.

    Example::

        line, good = reload_site(site, lambda: read_settings(...))
    """
    try:
        left = site.reload(again())
    except UsageError as exc:
        return f"{COMMAND}: nothing was changed: {exc}", False
    line = f"{COMMAND}: read the settings again, and all files that they name"
    if left:
        line += f"; these need a new start: {', '.join(left)}"
    return line, True


# ---- from settings to arguments ------------------------------------------------------------------


def account_of(settings: Settings) -> Account | None:
    """The account of [run]; ``None`` where it has no user.

    Raises:
        UsageError: there is no such user or group.
    """
    if settings.run.user is None:
        if settings.run.group is not None:
            raise settings.error("run.group", "needs run.user")
        return None
    return find_account(settings.run.user, settings.run.group)


def places_of(settings: Settings) -> list[Place]:
    """Where the listeners listen."""
    return [
        Place(one.name or one.protocol, one.where, one.address.host, one.address.port, one.address.path, one.mode)
        for one in settings.listener
    ]


def check_run(settings: Settings) -> None:
    """What must hold of [run] before anything is done.

    Raises:
        UsageError: something does not.
    """
    run, queue = settings.run, settings.queue
    reason = needs_account(run.user, run.as_root)
    if reason is not None:
        raise UsageError(reason)
    account_of(settings)
    check_workers(run.workers)
    if run.workers > 1 and queue is not None and queue.path is not None:
        raise settings.error(
            "run.workers",
            'does not go with queue.path: such a queue belongs to one process; write url = "postgresql://…" in '
            "[queue], or remove workers",
        )
    rates = settings.rates
    limits = (rates.user_messages, rates.user_recipients, rates.network_messages, rates.network_recipients)
    if run.workers > 1 and any(limits) and rates.file is None:
        raise settings.error(
            "run.workers",
            "with [rates] needs rates.file: all workers count in it; name a file, or remove one of the two",
        )


def check_python(account: Account | None) -> None:
    """Some modules are imported when they are needed. The server's user must be able to read them.

    Raises:
        UsageError: it cannot.
    """
    for folder in _PYTHON:
        if not as_account(account, partial(os.access, folder, os.R_OK | os.X_OK)):
            name = "" if account is None else account.name
            raise UsageError(
                f"user {name} cannot read {folder}; make the environment in a folder that every user can read, and "
                "with a Python that every user can read, like that of the system"
            )


def _ending(settings: Settings) -> Finding | None:
    """That the certificate of [tls] has ended, or ends soon."""
    tls = settings.tls
    return None if tls.certificate is None else check_end("tls.certificate", tls.certificate, tls.key_file)


def _listening(address: tuple[str, int] | str, words: str, protocol: str) -> tuple[str, str, str]:
    """What is said of an open port: as text, and as an event."""
    shown = where_text(address)
    return f"{COMMAND}: listening on {shown} ({words})", shown, protocol


def run_site(site: Site, again: Callable[[], Settings], make: Callable[[Site, Host], Job]) -> int:
    """Serve until a signal.

    Arguments:
        site: all that was read, with the rights of the user who started this.
        again: reads the settings again.
        make: makes the job, as the user that it runs as.

    Returns:
        The exit status.

    Raises:
        UsageError: it cannot be done.
    """
    settings = site.settings
    words = [one.words for one in served(site, NO_OFFERS)]
    check_run(settings)
    account = account_of(settings)
    check_python(account)
    notifier = Notifier(os.environ)
    ending = _ending(settings)  # perhaps only root can read the key
    sockets = open_sockets(places_of(settings), given_sockets(os.environ), account)
    try:
        if account is not None:
            become(account)
        listening = [
            _listening(address_of(sock.getsockname()), one, listener.protocol)
            for one, listener, group in zip(words, settings.listener, sockets.groups, strict=True)
            for sock in group
        ]
        with lines_beside(), open_trail(settings) as trail:
            return _Process(site, again, make, notifier, sockets, trail, listening, ending).run()
    finally:
        sockets.close()
        notifier.close()
