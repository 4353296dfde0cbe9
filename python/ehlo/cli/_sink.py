"""``ehlo sink``: a real receiving server that keeps messages in a Maildir or an mbox, or throws them away."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from datetime import datetime
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import ehlo.asyncio
from ehlo._core import Envelope, ServerConfig
from ehlo._errors import EhloError
from ehlo._handler import Handler, Result, Session, path_text
from ehlo._limits import Limits, Statistics
from ehlo._listener import Listener
from ehlo._store import MaildirStore, MboxStore, Store, trace_of
from ehlo._trace import count_received

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["SinkHandler", "UsageError", "add_parser"]

LOOPS: Final = ("asyncio", "uvloop", "trio")
_MAX_RECEIVED: Final = 100  # RFC 5321 6.3
_LOOP: Final = "554 5.4.6 Routing loop: too many Received fields"


class UsageError(Exception):
    """The command cannot be done as asked. The text is the one line that says why and how to mend it."""


def add_parser(commands: Any) -> None:
    """Add ``sink`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sink",
        help="receive mail and keep it, or throw it away",
        description="Receive mail by SMTP or LMTP and keep it, or throw it away. Ctrl-C or SIGTERM drains: open "
        "transactions may end within --deadline seconds (a second one cuts them at once), then it says what it did.",
    )
    parser.set_defaults(run=run)
    where = parser.add_argument_group("where it listens")
    where.add_argument("--host", default="127.0.0.1", help="address or name (default: %(default)s)")
    where.add_argument("--port", type=_port, default=2525, help="TCP port, 0: any free one (default: %(default)s)")
    where.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    where.add_argument("--loop", choices=LOOPS, default="asyncio", help="event loop (default: asyncio)")
    where.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes that share the port (default: %(default)s)"
    )
    what = parser.add_argument_group("what becomes of messages").add_mutually_exclusive_group()
    what.add_argument("--maildir", metavar="DIR", help="one file a message in a Maildir")
    what.add_argument("--mbox", metavar="FILE", help="append to an mbox file")
    what.add_argument("--discard", action="store_true", help="throw them away (the default)")
    how = parser.add_argument_group("protocol")
    how.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    how.add_argument("--hostname", metavar="NAME", help="this server's name (default: the machine's)")
    how.add_argument(
        "--max-size",
        type=_size,
        default=33554432,
        metavar="BYTES",
        help="of a message, 0: no limit (default: %(default)s)",
    )
    how.add_argument(
        "--max-connections",
        type=_count,
        default=10000,
        metavar="N",
        help="at once, in each process (default: %(default)s)",
    )
    how.add_argument(
        "--max-recipients", type=_count, default=1000, metavar="N", help="of one message (default: %(default)s)"
    )
    how.add_argument(
        "--bare-newlines",
        choices=("reject", "normalize", "allow"),
        default="reject",
        help="bare CR and LF in DATA (default: reject)",
    )
    how.add_argument(
        "--timeout", type=_seconds, default=300.0, metavar="SECONDS", help="for the next command (default: 300)"
    )
    parser.add_argument(
        "--deadline", type=_seconds, default=10.0, metavar="SECONDS", help="to drain at the end (default: 10)"
    )
    parser.add_argument("--quiet", action="store_true", help="no line for each message, only the totals")


def _number(text: str, low: int, high: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{what} is a whole number from {low} to {high}, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    return _number(text, 0, 65535, "a port")


def _count(text: str) -> int:
    return _number(text, 1, 1_000_000, "a count")


def _size(text: str) -> int:
    return _number(text, 0, 2**63 - 1, "a size in octets")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"seconds are a number from 0 to 86400, not {text!r}")
    return seconds


def printable(text: str) -> str:
    """``text`` for a terminal or a log: what is not printable is escaped, and so are backslash and space."""
    return "".join(
        "\\x20" if char == " " else char if char.isprintable() and char != "\\" else ascii(char)[1:-1] for char in text
    )


class SinkHandler(Handler):
    """Keeps each message in ``store`` (``None``: throws it away) and reports it.

    Arguments:
        store: where messages go.
        report: called with one line for each message, or ``None``.
        in_thread: the event loop's way to call a function that blocks, with arguments.

    Example::

        handler = SinkHandler(MaildirStore("inbox"), print)
    """

    __slots__ = ("_in_thread", "_report", "_store")

    def __init__(
        self,
        store: Store | None,
        report: Callable[[str], None] | None,
        in_thread: Callable[..., Awaitable[object]] = asyncio.to_thread,
    ) -> None:
        self._store = store
        self._report = report
        self._in_thread = in_thread

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        """Keep it; refuse one that runs in circles (RFC 5321 6.3)."""
        if count_received(content) >= _MAX_RECEIVED:
            return _LOOP
        if self._store is not None:
            return self._keep(self._store, session, envelope, content)
        self._say(datetime.now().astimezone(), session, envelope, len(content))
        return None

    async def _keep(self, store: Store, session: Session, envelope: Envelope, content: bytes) -> str | None:
        now = datetime.now().astimezone()
        trace = trace_of(session, envelope, now)
        try:
            await self._in_thread(store.deliver, envelope, content, trace, now)
        except OSError as exc:
            sys.stderr.write(f"ehlo sink: a message could not be kept, the client may try again: {exc}\n")
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                return "452 4.3.1 Insufficient system storage"
            return "451 4.3.0 Local error in processing"
        self._say(now, session, envelope, len(content))
        return None

    def _say(self, now: datetime, session: Session, envelope: Envelope, size: int) -> None:
        if self._report is None:
            return
        peer = "unix" if session.peer is None else f"[{session.peer[0]}]:{session.peer[1]}"
        sender = f"<{printable(path_text(envelope.sender.path))}>"
        recipients = ",".join(f"<{printable(path_text(recipient.path))}>" for recipient in envelope.recipients)
        self._report(f"{now.isoformat(timespec='seconds')} {peer} {sender} -> {recipients} {size}")


def _say(line: str) -> None:
    """A line on standard output; a reader that went away is no reason to refuse mail."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- one process ---------------------------------------------------------------------------------


def _config(arguments: argparse.Namespace) -> ServerConfig:
    options: dict[str, Any] = {
        "lmtp": arguments.lmtp,
        "max_message_size": arguments.max_size or None,
        "max_recipients": arguments.max_recipients,
        "max_messages": None,
        "bare_newlines": arguments.bare_newlines,
        "command_timeout": arguments.timeout,
    }
    if arguments.hostname is not None:
        try:
            return ServerConfig(arguments.hostname, **options)
        except (EhloError, ValueError) as exc:
            raise UsageError(f"--hostname {arguments.hostname!r} is no domain name: {exc}") from None
    try:
        return ServerConfig(socket.gethostname(), **options)
    except (EhloError, ValueError):
        return ServerConfig("localhost", **options)


def _store(arguments: argparse.Namespace) -> Store | None:
    path, flag = (arguments.maildir, "--maildir") if arguments.maildir is not None else (arguments.mbox, "--mbox")
    if path is None:
        return None
    try:
        return MaildirStore(path) if flag == "--maildir" else MboxStore(path)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(f"{flag} {path}: {reason}; name a place that can be written to") from None


def _loop_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"--loop {name}: {name} is not installed; pip install {name}, or use --loop asyncio") from None


def _check(arguments: argparse.Namespace) -> None:
    """All that can be said before anything listens."""
    _loop_module(arguments.loop)
    if arguments.lmtp and arguments.unix is None and arguments.port == 25:
        raise UsageError("--lmtp: LMTP must not be served on port 25 (RFC 2033 5); choose another with --port, as 24")
    if arguments.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("--workers: this system has no SO_REUSEPORT; leave --workers away")
    if arguments.workers > 1 and arguments.unix is not None:
        raise UsageError("--workers: several processes cannot share a Unix socket; use --port, or leave --workers away")
    if arguments.unix is not None and not hasattr(socket, "AF_UNIX"):
        raise UsageError("--unix: this system has no Unix sockets; use --port")
    _config(arguments)
    store = _store(arguments)
    if store is not None:
        store.close()


def _cannot_listen(arguments: argparse.Namespace, exc: OSError) -> UsageError:
    if arguments.unix is not None:
        return UsageError(f"--unix {arguments.unix}: {exc.strerror or exc}; choose another path")
    where = f"port {arguments.port} on {arguments.host}"
    if isinstance(exc, socket.gaierror):
        return UsageError(f"--host {arguments.host}: no such host; give an address of this machine")
    if exc.errno == errno.EADDRINUSE:
        return UsageError(f"{where} is taken; choose another with --port (0: any free one), or stop what listens there")
    if exc.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where} is not allowed to this user; choose one above 1023 with --port")
    if exc.errno == errno.EADDRNOTAVAIL or "could not bind on any address" in str(exc):  # asyncio from 3.13 on
        return UsageError(f"--host {arguments.host} is no address of this machine; try 127.0.0.1 or 0.0.0.0")
    return UsageError(f"cannot listen at {where}: {exc.strerror or exc}; choose others with --host and --port")


def _where(arguments: argparse.Namespace, address: tuple[str, int] | str) -> str:
    kind = "LMTP" if arguments.lmtp else "SMTP"
    keeps = arguments.maildir or arguments.mbox
    place = (
        address
        if isinstance(address, str)
        else (f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}")
    )
    several = f", {arguments.workers} workers" if arguments.workers > 1 else ""
    return f"ehlo sink: listening on {place} ({kind}, {f'keeps in {keeps}' if keeps else 'discards'}{several})"


def _totals(stats: Statistics) -> str:
    words = [f"{stats.messages} messages", f"{stats.octets} octets", f"{stats.connections} connections"]
    words += [f"{stats.cut} cut"]
    for name in ("refused", "refused_network", "errors", "handler_failures", "idle_timeouts", "content_timeouts"):
        value = getattr(stats, name)
        if value:
            words.append(f"{value} {name.replace('_', ' ')}")
    return "ehlo sink: received " + ", ".join(words)


Ready: TypeAlias = Callable[[Listener[Any]], None]


@contextlib.contextmanager
def _handler(arguments: argparse.Namespace, in_thread: Callable[..., Awaitable[object]]) -> Iterator[Handler]:
    store = _store(arguments)
    report = None if arguments.quiet else _say
    # With nothing to keep and nothing to say, no Python runs for a message at all.
    yield Handler() if store is None and report is None else SinkHandler(store, report, in_thread)
    if store is not None:
        store.close()


def _options(arguments: argparse.Namespace, lifeline: Connection | None) -> dict[str, Any]:
    """What ``serve`` is called with, on any event loop."""
    return {
        "host": arguments.host,
        "port": arguments.port,
        "config": _config(arguments),
        "limits": Limits(
            max_connections=arguments.max_connections, max_connections_per_network=None, session_seconds=None
        ),
        "path": arguments.unix,
        "reuse_port": lifeline is not None,
    }


async def _serve(arguments: argparse.Namespace, ready: Ready, lifeline: Connection | None) -> Statistics:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def asked() -> None:
        (hurry if stop.is_set() else stop).set()

    def read_lifeline() -> None:
        assert lifeline is not None
        try:
            lifeline.recv()
        except (EOFError, OSError):  # the parent is gone
            loop.remove_reader(lifeline.fileno())
            stop.set()
        else:
            asked()

    with _handler(arguments, asyncio.to_thread) as handler:
        try:
            server = await ehlo.asyncio.serve(handler, **_options(arguments, lifeline))
        except OSError as exc:
            raise _cannot_listen(arguments, exc) from None
        async with server:
            if lifeline is None:
                for number in (signal.SIGINT, signal.SIGTERM):
                    with contextlib.suppress(NotImplementedError, ValueError):
                        loop.add_signal_handler(number, asked)
            else:
                loop.add_reader(lifeline.fileno(), read_lifeline)
            ready(server)
            await stop.wait()
            closing = asyncio.ensure_future(server.close(arguments.deadline))
            hurrying = asyncio.ensure_future(hurry.wait())
            await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
            if hurry.is_set():
                await server.close(0)
            hurrying.cancel()
            await closing
            if lifeline is not None:
                loop.remove_reader(lifeline.fileno())
    return server.statistics


async def _serve_on_trio(arguments: argparse.Namespace, ready: Ready, lifeline: Connection | None) -> Statistics:
    import trio

    import ehlo.trio

    async def heed(server: ehlo.trio.Server, pipe: Connection | None, *, task_status: trio.TaskStatus[None]) -> None:
        """Close when asked by a signal or by the parent, and sooner when asked again."""
        deadline = arguments.deadline
        if pipe is None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    nursery.start_soon(server.close, deadline)
                    deadline = 0.0
        task_status.started()
        while pipe is not None:
            await trio.lowlevel.wait_readable(pipe.fileno())
            try:
                pipe.recv()
            except (EOFError, OSError):  # the parent is gone
                pipe = None
            nursery.start_soon(server.close, deadline)
            deadline = 0.0

    failure: UsageError | None = None
    with _handler(arguments, trio.to_thread.run_sync) as handler:
        async with trio.open_nursery() as nursery:
            try:
                serve = partial(ehlo.trio.serve, handler, **_options(arguments, lifeline))
                server: ehlo.trio.Server = await nursery.start(serve)
            except OSError as exc:
                failure = _cannot_listen(arguments, exc)
            else:
                await nursery.start(heed, server, lifeline)
                ready(server)
                await server.serve_forever()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return server.statistics


def _run_one(arguments: argparse.Namespace, ready: Ready, lifeline: Connection | None = None) -> Statistics:
    module = _loop_module(arguments.loop)
    if arguments.loop == "trio":
        return module.run(_serve_on_trio, arguments, ready, lifeline)  # type: ignore[no-any-return]
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        return runner.run(_serve(arguments, ready, lifeline))


# ---- several processes ---------------------------------------------------------------------------


def _worker(arguments: argparse.Namespace, pipe: Connection) -> None:
    """A worker process: says ``("ready", None)``, then ``("totals", dict)`` or ``("error", text)``."""
    # A terminal's Ctrl-C reaches all processes of the group: the parent alone heeds it, and tells us by the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        try:
            stats = _run_one(arguments, lambda server: pipe.send(("ready", None)), pipe)
        except UsageError as exc:
            pipe.send(("error", str(exc)))
        else:
            pipe.send(("totals", {field.name: getattr(stats, field.name) for field in fields(stats)}))


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
                    _say(_where(arguments, (name[0], name[1])))
            elif word == "totals":
                total += Statistics(**value)
            else:
                failures.append(value)
                tell()
    reserved.close()
    if failures and ready < arguments.workers:
        raise UsageError(failures[0])
    _say(_totals(total))
    for failure in failures:
        sys.stderr.write(f"ehlo sink: {failure}\n")
    return 1 if failures else 0


def run(arguments: argparse.Namespace) -> int:
    """The command itself: returns the exit status, raises :class:`UsageError`."""
    _check(arguments)
    if arguments.workers > 1:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("--workers needs the main thread")
        return _run_workers(arguments)
    stats = _run_one(arguments, lambda server: _say("\n".join(_where(arguments, a) for a in server.addresses)))
    _say(_totals(stats))
    return 0
