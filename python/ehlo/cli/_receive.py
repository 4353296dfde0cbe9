"""What the commands have in common: arguments, stores, what is said. See also ``_run``."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

from ehlo._core import Envelope, ServerConfig
from ehlo._errors import EhloError
from ehlo._server.handler import Handler
from ehlo._server.limits import Statistics
from ehlo._server.session import Session
from ehlo._server.trace_fields import count_received
from ehlo._types import path_text
from ehlo._words import counted
from ehlo.cli._log import console_writer, escaped, is_stuck
from ehlo.store import Maildir, Mbox, Store, failure_reply

__all__ = [
    "TIMERS",
    "StoreHandler",
    "UsageError",
    "cannot_listen",
    "complain",
    "count",
    "file_mode",
    "first_line",
    "host_name",
    "new_ident",
    "open_store",
    "port",
    "printable",
    "printable_line",
    "received_by",
    "say",
    "seconds",
    "size",
    "totals",
    "where",
    "whole",
]

log: Final = logging.getLogger("ehlo")

_MAX_RECEIVED: Final = 100  # RFC 5321 6.3
# Of ClientConfig, the waits that one timeout of the user's stands for.
TIMERS: Final = ("greeting", "hello", "mail", "rcpt", "data", "content", "end_of_data", "reset", "other")
LOOP: Final = "554 5.4.6 Routing loop: too many Received fields"


class UsageError(Exception):
    """The command cannot be done as asked. The text is the one line that says why and how to mend it."""


# ---- arguments -----------------------------------------------------------------------------------


def whole(what: str, low: int = 1, high: int = 1_000_000_000) -> Callable[[str], int]:
    """For an argument: reads a whole number from ``low`` to ``high``; ``what`` is what an error calls it."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{what} is a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return read


port = whole("a port", 0, 65535)  # 0 is any free one
count = whole("a count", 1, 1_000_000)
size = whole("a size in octets", 0, 2**63 - 1)  # 0 is no limit


def seconds(text: str) -> float:
    """A time of at most a day."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds are a number from 0 to 86400, not {text!r}")
    return value


def file_mode(text: str) -> int:
    """Permissions of files with mail: octal digits."""
    if text not in ("600", "640", "660"):
        raise argparse.ArgumentTypeError(f"a mode is 600, 640 or 660, not {text!r}")
    return int(text, 8)


def host_name(name: str | None, option: str) -> str:
    """The server's name: the one that ``option`` gave, else the machine's if it is a domain name, else localhost.

    Raises:
        UsageError: the one given is none.
    """
    try:
        return ServerConfig(name if name is not None else socket.gethostname()).hostname
    except (EhloError, ValueError) as exc:
        if name is None:
            return "localhost"
        raise UsageError(f"{option} {name!r} is no domain name: {exc}") from None


def first_line(path: str, option: str) -> str:
    """The secret that a file holds; ``option`` is what named it, for the error.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{option} {path}: {getattr(exc, 'strerror', None) or exc}") from None


# ---- what becomes of messages --------------------------------------------------------------------


class StoreHandler(Handler):
    """Keeps each message in ``store`` (``None``: throws it away) and reports it.

    Arguments:
        command: what goes before an error: ``"ehlo sink"``.
        store: where messages go.
        report: called with one line for each message, or ``None``.
        in_thread: the event loop's way to call a function that blocks, with arguments.

    Example::

        handler = StoreHandler("ehlo sink", ehlo.store.Maildir("inbox"), print)
    """

    __slots__ = ("_command", "_in_thread", "_report", "_store")

    def __init__(
        self,
        command: str,
        store: Store | None,
        report: Callable[[str], None] | None,
        in_thread: Callable[..., Awaitable[object]] = asyncio.to_thread,
    ) -> None:
        self._command = command
        self._store = store
        self._report = report
        self._in_thread = in_thread

    def looped(self, content: bytes) -> str | None:
        """The refusal of a message that runs in circles; ``None`` for others."""
        return LOOP if count_received(content) >= _MAX_RECEIVED else None

    def take(self, session: Session, envelope: Envelope, content: bytes) -> str | Awaitable[str | None] | None:
        """Keep a message; refuse one that runs in circles (RFC 5321 6.3)."""
        refused = self.looped(content)
        if refused is not None:
            return refused
        if self._store is not None:
            return self._keep(self._store, session, envelope, content)
        self.say(datetime.now().astimezone(), session, envelope, len(content))
        return None

    async def _keep(self, store: Store, session: Session, envelope: Envelope, content: bytes) -> str | None:
        now = datetime.now().astimezone()
        fields = received_by(session, envelope, now)
        try:
            await self._in_thread(partial(store.deliver, envelope, content, fields=fields, now=now))
        except OSError as exc:
            complain(f"{self._command}: a message could not be kept, the client may try again: {exc}")
            return str(failure_reply(exc))
        self.say(now, session, envelope, len(content))
        return None

    def say(self, now: datetime, session: Session, envelope: Envelope, size: int | str) -> None:
        """Report a message and its size, or what became of it. Whatever happens to the report, the reply stays: it
        tells the client of the message."""
        if self._report is None:
            return
        peer = "unix" if session.peer is None else f"[{session.peer[0]}]:{session.peer[1]}"
        sender = f"<{printable(path_text(envelope.sender.path))}>"
        recipients = ",".join(f"<{printable(path_text(recipient.path))}>" for recipient in envelope.recipients)
        try:
            self._report(f"{now.isoformat(timespec='seconds')} {peer} {sender} -> {recipients} {size}")
        except Exception:
            log.exception("the line about a message could not be written")


def new_ident() -> str:
    """An id for a message that no queue gives one."""
    return secrets.token_hex(8)


def received_by(session: Session, envelope: Envelope, now: datetime, ident: str | None = None) -> bytes:
    """Received for a message, with all that the session knows (RFC 5321 4.4, RFC 8314 7.4, RFC 6710 4.1). A relay adds
    this and nothing else.

    Arguments:
        session, envelope: how it came.
        now: when it was received, with its offset from UTC.
        ident: of the message; ``None``: any new one.

    Example::

        content = ehlo.prepend_fields(received_by(session, envelope, now), content)
    """
    return session.received(envelope, ident=new_ident() if ident is None else ident, now=now)


def open_store(kind: Literal["maildir", "mbox"], path: str, option: str, **settings: Any) -> Store:
    """The store at ``path``; ``option`` is what named it, for the error. ``settings`` are those of both stores.

    Raises:
        UsageError: it cannot be written to.
    """
    try:
        return Maildir(path, **settings) if kind == "maildir" else Mbox(path, **settings)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(f"{option} {path}: {reason}; name a place that can be written to") from None


# ---- what is said --------------------------------------------------------------------------------


def printable(text: str) -> str:
    """``text`` as one word of a line that is split at blanks: what is not printable is escaped, and so are backslash
    and space."""
    return escaped(text.replace("\\", "\\\\")).replace(" ", "\\x20")


def printable_line(text: str) -> str:
    """``text`` on one line of a terminal or a log: what is not printable is escaped, and blanks stay."""
    return escaped(text)


def say(line: str) -> None:
    """A line on standard output. It is lost when it cannot be written: that is no reason to refuse mail."""
    _write("stdout", line)


def complain(line: str) -> None:
    """A line on standard error. It is lost when it cannot be written, as with :func:`say`."""
    _write("stderr", line)


def _write(name: Literal["stdout", "stderr"], line: str) -> None:
    writer = console_writer(name)
    if writer is not None:
        writer.write(line)
        return
    stream: TextIO | None = getattr(sys, name)
    if stream is None or is_stuck(name):  # it was closed before we began, or its reader stands still
        return
    encoding = stream.encoding or "ascii"
    try:
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:  # nobody reads it any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError:
        _forget(stream)
    except ValueError:  # it is closed
        return


def _forget(stream: TextIO) -> None:
    """Drop the text that a stream still holds, or it would be written again and again, and fail at the end."""
    try:
        number = stream.fileno()
        kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError):  # no file, or no descriptor is left
        return
    os.dup2(nowhere, number)
    stream.flush()
    os.dup2(kept, number)
    os.close(kept)
    os.close(nowhere)


def where(address: tuple[str, int] | str) -> str:
    """Where a socket listens, in words."""
    if isinstance(address, str):
        return address
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def totals(command: str, stats: Statistics, refused: Mapping[str, int] = MappingProxyType({})) -> str:
    """What a server has done, in one line. ``refused`` are messages by the code that they got."""
    words = [
        counted(stats.messages, "message"),
        counted(stats.octets, "octet"),
        counted(stats.connections, "connection"),
        f"{stats.cut} cut",
    ]
    words += [f"{counted(count, 'message')} refused with {code}" for code, count in sorted(refused.items())]
    for name in ("refused", "refused_network", "refused_proxy"):
        if getattr(stats, name):
            words.append(f"{getattr(stats, name)} {name.replace('_', ' ')}")
    for name in ("errors", "handler_failures", "idle_timeouts", "content_timeouts"):
        if getattr(stats, name):
            words.append(counted(getattr(stats, name), name.removesuffix("s").replace("_", " ")))
    return f"{command}: received " + ", ".join(words)


def cannot_listen(exc: OSError, host: str, port: int, path: str | None, options: tuple[str, str, str]) -> UsageError:
    """Why a server cannot listen, and how to mend it. ``options`` are what named host, port and path."""
    at_host, at_port, at_path = options
    if path is not None:
        return UsageError(f"{at_path} {path}: {exc.strerror or exc}; choose another path")
    where = f"port {port} on {host}"
    if isinstance(exc, socket.gaierror):
        return UsageError(f"{at_host} {host}: no such host; give an address of this machine")
    if exc.errno == errno.EADDRINUSE:
        return UsageError(
            f"{where} is taken; choose another with {at_port} (0: any free one), or stop what listens there"
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where} is not allowed to this user; choose one above 1023 with {at_port}")
    if exc.errno == errno.EADDRNOTAVAIL or "could not bind on any address" in str(exc):  # asyncio from 3.13 on
        return UsageError(f"{at_host} {host} is no address of this machine; try 127.0.0.1 or 0.0.0.0")
    return UsageError(f"cannot listen at {where}: {exc.strerror or exc}; choose others with {at_host} and {at_port}")
