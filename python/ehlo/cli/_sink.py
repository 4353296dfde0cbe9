"""``ehlo sink``: a real receiving server that keeps messages in a Maildir or an mbox, or throws them away."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import signal
import socket
import threading
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import fields
from datetime import datetime
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import Envelope, ServerConfig
from ehlo._server.handler import Handler
from ehlo._server.limits import Limits, Statistics
from ehlo._server.listener import Listener
from ehlo._server.session import Answer, ContentAbortedError, Session
from ehlo.cli._engine import engine_setting, leniencies
from ehlo.cli._receive import (
    StoreHandler,
    UsageError,
    cannot_listen,
    complain,
    count,
    file_mode,
    host_name,
    open_store,
    port,
    say,
    seconds,
    size,
    totals,
    where,
)
from ehlo.cli._run import LOOPS, Job, Tools, Wanted, loop_module, run_job
from ehlo.store import Store

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add ``sink`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sink",
        help="receive mail and keep it, or throw it away",
        description="Receive mail by SMTP or LMTP, and keep it or throw it away. Ctrl-C or SIGTERM ends the server: "
        "open transactions have --deadline seconds to end, and then the totals are printed. A second signal cuts them.",
    )
    parser.set_defaults(run=run)
    listens = parser.add_argument_group("where it listens")
    listens.add_argument("--host", default="127.0.0.1", help="the address or name to listen on (default: %(default)s)")
    listens.add_argument(
        "--port", type=port, default=2525, help="the TCP port; 0: any free port (default: %(default)s)"
    )
    listens.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    listens.add_argument("--loop", choices=LOOPS, default="asyncio", help="the event loop (default: asyncio)")
    listens.add_argument(
        "--workers",
        type=count,
        default=1,
        metavar="N",
        help="number of processes that share the port (default: %(default)s)",
    )
    what = parser.add_argument_group("where messages go").add_mutually_exclusive_group()
    what.add_argument("--maildir", metavar="DIR", help="into this Maildir, one file for each message")
    what.add_argument("--mbox", metavar="FILE", help="into this mbox file, one message behind the other")
    what.add_argument("--discard", action="store_true", help="nowhere: they are thrown away (the default)")
    files = parser.add_argument_group("files with messages")
    files.add_argument(
        "--mode", type=file_mode, default=0o600, help="their permissions: 600, 640 or 660 (default: 600)"
    )
    files.add_argument("--follow-symlink", action="store_true", help="DIR or FILE may be a symbolic link")
    files.add_argument(
        "--recipient-field",
        choices=("Delivered-To", "X-Original-To", "none"),
        default="Delivered-To",
        help="the header field that names each recipient (default: %(default)s)",
    )
    how = parser.add_argument_group("protocol")
    how.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    how.add_argument("--hostname", metavar="NAME", help="the name of this server (default: the name of the machine)")
    how.add_argument(
        "--max-size",
        type=size,
        default=33554432,
        metavar="BYTES",
        help="octets of a message, at most; 0: no limit (default: %(default)s)",
    )
    how.add_argument(
        "--max-connections",
        type=count,
        default=10000,
        metavar="N",
        help="open connections of each process, at most (default: %(default)s)",
    )
    how.add_argument(
        "--max-recipients",
        type=count,
        default=1000,
        metavar="N",
        help="recipients of a message, at most (default: %(default)s)",
    )
    how.add_argument(
        "--bare-newlines",
        choices=("reject", "normalize", "allow"),
        default="reject",
        help="how to treat a bare CR or LF in DATA (default: reject)",
    )
    how.add_argument(
        "--lenient",
        metavar="WORDS",
        nargs="?",
        const=",".join(leniencies()),
        help="departures from the grammar to forgive, with commas between them; without WORDS all of: "
        + ", ".join(leniencies()),
    )
    how.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another argument of ehlo.ServerConfig, like unknown_parameters=ignore; may be repeated",
    )
    how.add_argument(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for a command (default: 300)",
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long open transactions may take at the end (default: 10)",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print only the totals, and no line for each message; with --discard refused messages are not counted",
    )


# ---- the handler ---------------------------------------------------------------------------------

# What the engine answers by itself to content that it does not take, by its reason.
_REFUSALS: Final = {
    "forbidden": "550 5.5.2 Content has a bare CR or LF",
    "too big": "552 5.3.4 Message is too big",
}


class _Sink(StoreHandler):
    """Keeps messages, and tells those that were refused, too. Content is read as it comes, since of content that the
    engine refuses no whole message comes of it.

    Arguments:
        refused: counts messages by the code that they got.
        others: as of :class:`StoreHandler`.
    """

    __slots__ = ("_refused",)

    def __init__(self, refused: Counter[str], *others: Any) -> None:
        super().__init__("ehlo sink", *others)
        self._refused = refused

    async def on_body(self, session: Session, envelope: Envelope, body: AsyncIterator[bytes]) -> Answer:
        """Keep it."""
        try:
            content = b"".join([chunk async for chunk in body])
        except ContentAbortedError as exc:
            if exc.reason in _REFUSALS:  # else the client gave it up
                self._tell(session, envelope, _REFUSALS[exc.reason])
            raise
        result = self.take(session, envelope, content)
        answer = result if result is None or isinstance(result, str) else await result
        if answer is not None:
            self._tell(session, envelope, answer)
        return answer

    def _tell(self, session: Session, envelope: Envelope, answer: str) -> None:
        self._refused[answer[:3]] += 1
        self.say(datetime.now().astimezone(), session, envelope, f"refused: {answer}")


# ---- one process ---------------------------------------------------------------------------------


def _config(arguments: argparse.Namespace) -> ServerConfig:
    name = host_name(arguments.hostname, "--hostname")
    try:
        return ServerConfig(
            name,
            lmtp=arguments.lmtp,
            content="discard",  # unless the handler keeps it
            max_message_size=arguments.max_size or None,
            max_recipients=arguments.max_recipients,
            max_messages=None,
            bare_newlines=arguments.bare_newlines,
            command_timeout=arguments.timeout,
        ).replace(**_engine_options(arguments))
    except (ValueError, TypeError) as exc:
        raise UsageError(str(exc)) from None


def _engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--lenient`` and ``--option`` say."""
    found: dict[str, Any] = {}
    given = [one.partition("=") for one in arguments.option]
    if arguments.lenient is not None:
        given.append(("lenient", "=", str(arguments.lenient.split(","))))
    for name, equals, text in given:
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text  # a word
        try:
            found[name] = engine_setting(name, value)
        except ValueError as exc:
            option = "--lenient" if name == "lenient" else f"--option {name}{equals}{text}"
            raise UsageError(f"{option} {exc}") from None
    return found


def _store(arguments: argparse.Namespace) -> Store | None:
    settings = {
        "mode": arguments.mode,
        "follow_symlink": arguments.follow_symlink,
        "recipient_field": None if arguments.recipient_field == "none" else arguments.recipient_field,
    }
    if arguments.maildir is not None:
        return open_store("maildir", arguments.maildir, "--maildir", **settings)
    return None if arguments.mbox is None else open_store("mbox", arguments.mbox, "--mbox", **settings)


def _check(arguments: argparse.Namespace) -> None:
    """All that can be said before anything listens."""
    loop_module(arguments.loop)
    if arguments.lmtp and arguments.unix is None and arguments.port == 25:
        raise UsageError("--lmtp: LMTP must not be served on port 25 (RFC 2033 5); choose another with --port, as 24")
    if arguments.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("--workers: this system has no SO_REUSEPORT; do not use --workers")
    if arguments.workers > 1 and arguments.unix is not None:
        raise UsageError("--workers: several processes cannot share a Unix socket; use --port, or do not use --workers")
    if arguments.unix is not None and not hasattr(socket, "AF_UNIX"):
        raise UsageError("--unix: this system has no Unix sockets; use --port")
    _config(arguments)
    store = _store(arguments)
    if store is not None:
        store.close()


def _cannot_listen(arguments: argparse.Namespace, exc: OSError) -> UsageError:
    return cannot_listen(exc, arguments.host, arguments.port, arguments.unix, ("--host", "--port", "--unix"))


def _where(arguments: argparse.Namespace, address: tuple[str, int] | str) -> str:
    kind = "LMTP" if arguments.lmtp else "SMTP"
    keeps = arguments.maildir or arguments.mbox
    several = f", {arguments.workers} workers" if arguments.workers > 1 else ""
    return f"ehlo sink: listening on {where(address)} ({kind}, {f'keeps in {keeps}' if keeps else 'discards'}{several})"


class _Job(Job):
    """One server, as the arguments say."""

    def __init__(self, arguments: argparse.Namespace, ready: Callable[[Listener[Any]], None], shared: bool) -> None:
        super().__init__(arguments.loop, arguments.deadline)
        self._arguments = arguments
        self._ready = ready
        self._shared = shared
        self.refused: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def open(self, tools: Tools) -> AsyncIterator[list[Wanted]]:
        arguments = self._arguments
        limits = Limits(
            max_connections=arguments.max_connections, max_connections_per_network=None, session_seconds=None
        )
        options = {
            "host": arguments.host,
            "port": arguments.port,
            "config": _config(arguments),
            "limits": limits,
            "path": arguments.unix,
            "reuse_port": self._shared,
        }
        store = _store(arguments)
        report = None if arguments.quiet else say
        # With nothing to keep and nothing to say, no Python runs for a message at all.
        nothing = store is None and report is None
        yield [(Handler() if nothing else _Sink(self.refused, store, report, tools.in_thread), options)]
        if store is not None:
            store.close()

    def cannot_listen(self, number: int, exc: OSError) -> UsageError:
        return _cannot_listen(self._arguments, exc)

    def ready(self, servers: Sequence[Listener[Any]]) -> None:
        self._ready(servers[0])


# ---- several processes ---------------------------------------------------------------------------


def _worker(arguments: argparse.Namespace, pipe: Connection) -> None:
    """A worker process: says ``("ready", None)``, then ``("totals", (dict, refused))`` or ``("error", text)``."""
    # A terminal's Ctrl-C reaches all processes of the group: the parent alone heeds it, and tells us by the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        try:
            job = _Job(arguments, lambda server: pipe.send(("ready", None)), True)
            stats = run_job(job, pipe)
        except UsageError as exc:
            pipe.send(("error", str(exc)))
        else:
            pipe.send(("totals", ({field.name: getattr(stats, field.name) for field in fields(stats)}, job.refused)))


def _reserve(arguments: argparse.Namespace) -> socket.socket:
    """Bind, but do not listen: port 0 becomes a number, and the port stays ours until the workers have it."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            arguments.host, arguments.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as exc:
        raise _cannot_listen(arguments, exc) from None
    try:
        # First without SO_REUSEPORT: with it, we would join in with another program that has set it, too.
        if arguments.port != 0:
            with socket.socket(family, kind, proto) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError as exc:
        sock.close()
        raise _cannot_listen(arguments, exc) from None
    return sock


def _run_workers(arguments: argparse.Namespace) -> int:
    reserved = _reserve(arguments)
    name = reserved.getsockname()
    arguments.port = name[1]
    arguments.host = name[0]
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[SpawnProcess, Connection]] = []
    asked = 0

    def tell() -> None:
        for _, pipe in workers:
            with contextlib.suppress(OSError):
                pipe.send("stop")

    def on_signal(number: int, frame: object) -> None:
        nonlocal asked
        asked += 1
        tell()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    for _ in range(arguments.workers):
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours))
    for _ in range(asked):  # a signal that came while they were being started
        tell()

    total = Statistics()
    refused: Counter[str] = Counter()
    failures: list[str] = []
    ready = 0
    open_pipes = {pipe: process for process, pipe in workers}
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            try:
                word, value = pipe.recv()
            except (EOFError, OSError):
                process = open_pipes.pop(pipe)
                process.join()
                if process.exitcode:
                    failures.append(f"a worker died with status {process.exitcode}; the others were told to stop")
                    tell()
                continue
            if word == "ready":
                ready += 1
                if ready == arguments.workers:
                    say(_where(arguments, (name[0], name[1])))
            elif word == "totals":
                total += Statistics(**value[0])
                refused += value[1]
            else:
                failures.append(value)
                tell()
    reserved.close()
    if failures and ready < arguments.workers:
        raise UsageError(failures[0])
    say(totals("ehlo sink", total, refused))
    for failure in failures:
        complain(f"ehlo sink: {failure}")
    return 1 if failures else 0


def run(arguments: argparse.Namespace) -> int:
    """The command itself: returns the exit status, raises :class:`UsageError`."""
    _check(arguments)
    if arguments.workers > 1:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("--workers needs the main thread")
        return _run_workers(arguments)
    job = _Job(arguments, lambda server: say("\n".join(_where(arguments, a) for a in server.addresses)), False)
    say(totals("ehlo sink", run_job(job), job.refused))
    return 0
