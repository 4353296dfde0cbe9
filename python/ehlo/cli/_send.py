"""``ehlo send``: hand messages to a server, by SMTP or LMTP, and say what became of them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import importlib.util
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, BinaryIO, Final

import ehlo.asyncio
from ehlo._client.login import Login
from ehlo._core import Address, ClientConfig, RecipientResult, Reply, SendResult
from ehlo._errors import (
    EhloError,
    LocalProtocolError,
    OutcomeUnknown,
    SMTPAuthenticationError,
    SMTPException,
    SMTPTimeoutError,
)
from ehlo._sasl.common import MECHANISMS
from ehlo._tls import unverified_context
from ehlo._types import path_text
from ehlo._words import counted
from ehlo.cli._receive import (
    TIMERS,
    UsageError,
    complain,
    count,
    first_line,
    printable_line,
    say,
    seconds,
)

__all__ = ["add_parser", "run"]

_ALL, _SOME, _NONE = 0, 1, 3
# Seconds of work without a word on a terminal.
_QUIET: Final = 1.0
_SERVER: Final = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


def add_parser(commands: Any) -> None:
    """Add ``send`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "send",
        help="send a message",
        description="Send a message by SMTP or LMTP, and print the reply of the server for each recipient. "
        "Exit status: 0 if all were accepted, 1 if some were refused, 2 for wrong usage, 3 if none was accepted.",
    )
    parser.set_defaults(run=run)
    where = parser.add_argument_group("the server")
    where.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        help="its address; IPv6 goes in brackets (default port: 25; with --lmtp 24; with --tls implicit 465)",
    )
    where.add_argument("--unix", metavar="PATH", help="connect to a Unix socket instead")
    where.add_argument("--source-address", metavar="ADDRESS", help="connect from this address of this machine")
    what = parser.add_argument_group("the message")
    what.add_argument(
        "--from", dest="sender", metavar="MAILBOX", required=True, help="the reverse-path; '' is the null path"
    )
    what.add_argument(
        "--to",
        dest="recipients",
        metavar="MAILBOX",
        action="append",
        required=True,
        help="a forward-path; may be repeated",
    )
    what.add_argument(
        "--refuse-invalid",
        action="store_true",
        help="if a --to is no mailbox, count it as refused, and send to the others (default: send nothing)",
    )
    what.add_argument(
        "--file", metavar="FILE", default="-", help="the file of the message; - is standard input (default: -)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    how.add_argument(
        "--hostname", metavar="NAME", help="the name for EHLO (default: the name or address of this machine)"
    )
    how.add_argument(
        "--count", type=count, default=1, metavar="N", help="send the message N times (default: %(default)s)"
    )
    how.add_argument(
        "--connections", type=count, default=1, metavar="C", help="use C connections (default: %(default)s)"
    )
    how.add_argument(
        "--chunking",
        choices=("auto", "always", "never"),
        default="auto",
        help="use BDAT (RFC 3030); auto: if it is offered (default: auto)",
    )
    how.add_argument("--no-pipelining", action="store_true", help="wait for the reply to each command")
    how.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="the longest wait for a reply (default: the times of RFC 5321 4.5.3.2)",
    )
    who = parser.add_argument_group("TLS and AUTH")
    who.add_argument(
        "--tls",
        choices=("off", "opportunistic", "required", "implicit"),
        default="off",
        help="opportunistic: STARTTLS if it is offered; required: STARTTLS or an error; implicit: TLS before the "
        "greeting (default: off, also on port 465)",
    )
    who.add_argument(
        "--ca-file", metavar="FILE", help="trust the authorities in this PEM file, and not those of the system"
    )
    who.add_argument(
        "--server-name", metavar="NAME", help="the name that the certificate must have (default: the host of --server)"
    )
    who.add_argument("--insecure", action="store_true", help="accept any certificate: for tests")
    who.add_argument("--user", metavar="NAME", help="log in as this user, by AUTH (RFC 4954)")
    who.add_argument(
        "--auth",
        "--mechanism",
        dest="mechanisms",
        metavar="MECHANISM",
        action="append",
        type=str.upper,
        help="use this mechanism, like PLAIN; may be repeated (default: the best that the server offers)",
    )
    who.add_argument(
        "--password-env",
        metavar="VARIABLE",
        help="the environment variable with the password or token (default: the command asks for it)",
    )
    who.add_argument("--password-file", metavar="FILE", help="the file with the password or token in its first line")
    who.add_argument("--allow-clear", action="store_true", help="allow AUTH to send the password without TLS")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the dialogue on standard error")


# ---- arguments -----------------------------------------------------------------------------------


def _server(arguments: argparse.Namespace) -> tuple[str | None, int | None]:
    text = arguments.server
    if (text is None) == (arguments.unix is None):
        raise UsageError("give --server HOST:PORT, or --unix PATH")
    if text is None:
        return None, None
    found = _SERVER.fullmatch(text)
    if found is None or (found["port"] and not 1 <= int(found["port"]) <= 65535):
        raise UsageError(f"--server {text!r} is no HOST:PORT; write it like mx.example:25 or [2001:db8::1]:25")
    return found["address"] or found["host"], int(found["port"]) if found["port"] else None


def _config(arguments: argparse.Namespace) -> ClientConfig:
    chunking: Any = {"auto": "auto", "always": True, "never": False}[arguments.chunking]
    config = ClientConfig(lmtp=arguments.lmtp, chunking=chunking, pipelining=not arguments.no_pipelining)
    if arguments.timeout:
        config = config.replace(**{f"{name}_timeout": arguments.timeout for name in TIMERS})
    if arguments.hostname is not None:
        try:
            config = config.replace(hostname=arguments.hostname)
        except (EhloError, ValueError) as exc:
            raise UsageError(f"--hostname {arguments.hostname!r}: {exc}") from None
    return config


def _context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if arguments.tls == "off":
        for option in ("ca_file", "server_name", "insecure"):
            if getattr(arguments, option):
                raise UsageError(f"--{option.replace('_', '-')} needs --tls")
        return None
    if arguments.insecure:
        return unverified_context()
    if arguments.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=arguments.ca_file)
    except OSError as exc:  # an ssl.SSLError is one
        raise UsageError(f"--ca-file {arguments.ca_file}: {exc.strerror or exc}; name a PEM file") from None


def _login(arguments: argparse.Namespace) -> Login | None:
    """Who we are. The secret comes from anywhere but the command line, which every user of the machine can read."""
    mechanisms = arguments.mechanisms
    if arguments.user is None and mechanisms != ["EXTERNAL"]:
        if mechanisms or arguments.password_env or arguments.password_file:
            raise UsageError("AUTH needs --user, too")
        return None
    unknown = [name for name in mechanisms or () if name not in MECHANISMS]
    if unknown:
        raise UsageError(f"--auth {unknown[0]}: no such mechanism; there are {', '.join(sorted(MECHANISMS))}")
    if mechanisms == ["EXTERNAL"]:
        return Login(authzid=arguments.user or "", mechanisms=mechanisms)
    by_token = bool(mechanisms) and all(name in ("OAUTHBEARER", "XOAUTH2") for name in mechanisms)
    secret = _secret(arguments, "token" if by_token else "password")
    allow = arguments.allow_clear
    if by_token:
        return Login(arguments.user, token=secret, mechanisms=mechanisms, allow_clear=allow)
    return Login(arguments.user, secret, mechanisms=mechanisms, allow_clear=allow)


def _secret(arguments: argparse.Namespace, what: str) -> str:
    variable, name = arguments.password_env, arguments.password_file
    if variable is not None and name is not None:
        raise UsageError("give --password-env or --password-file, not both")
    if variable is not None:
        secret = os.environ.get(variable, "")
        where = f"--password-env: the environment variable {variable}"
    elif name is not None:
        where = f"--password-file {name}"
        secret = first_line(name, "--password-file")
    elif (sys.stdin is not None and sys.stdin.isatty()) or arguments.file != "-":
        where = "what was typed"
        try:
            secret = getpass.getpass(f"{what} of {arguments.user}: ")
        except EOFError:
            secret = ""
    else:
        raise UsageError(f"standard input is the message: give the {what} by --password-env or --password-file")
    if not secret:
        raise UsageError(f"{where} has no {what}")
    return secret


def _check_paths(arguments: argparse.Namespace) -> None:
    for option, text in (("--from", arguments.sender), *(("--to", text) for text in arguments.recipients)):
        if option == "--from" and text in ("", "<>"):
            continue
        if option == "--to" and (arguments.refuse_invalid or text.strip("<>").lower() == "postmaster"):
            continue
        try:
            text.encode()
            Address(text)
        except UnicodeEncodeError:
            raise UsageError(f"{option} {text!a} is no mailbox: its octets are not UTF-8") from None
        except LocalProtocolError as exc:
            raise UsageError(f"{option} {text!r} is no mailbox, like jane@example.org: {exc}") from None


def _open(name: str) -> BinaryIO:
    if name == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed: name a file with --file")
        if sys.stdin.isatty():
            complain("ehlo send: type the message; Ctrl-D ends it")
        return sys.stdin.buffer
    try:
        return open(name, "rb")
    except OSError as exc:
        reason = exc.strerror or exc
        raise UsageError(f"--file {name}: {reason}; name a file that can be read, or - for standard input") from None


# ---- what is said --------------------------------------------------------------------------------


def _text(reply: Reply) -> str:
    code, enhanced = str(reply.code), reply.enhanced
    return " ".join(part for part in (code, enhanced, " ".join(reply.text.split())) if part)


def _fate(one: RecipientResult, result: SendResult) -> str:
    said = _text(one.reply) if one.reply is not None else result.explanation or "no reply"
    fate = "accepted" if one.accepted else "refused"
    return f"<{printable_line(path_text(one.path))}> {fate}: {printable_line(said)}"


def _hint(exc: Exception) -> str:
    """How to mend it, where that can be said."""
    if isinstance(exc, OutcomeUnknown):
        return "; the server may have the message: look there before you send it again"
    if isinstance(exc, SMTPTimeoutError):
        return "; check the host and the port, or give a longer --timeout"
    if isinstance(exc.__cause__, ssl.SSLCertVerificationError):
        return "; set --ca-file or --server-name, if you trust this server"
    if isinstance(exc, SMTPAuthenticationError):
        return "; check --user and the password" if exc.smtp_code == 535 else ""
    if isinstance(exc.__cause__, ssl.SSLError):
        return "; is it --tls implicit (port 465), or required (ports 25, 587)?"
    if isinstance(exc.__cause__, ConnectionRefusedError):
        return "; nothing listens there: check --server, or start the server"
    if isinstance(exc.__cause__, OSError):
        return "; check --server and the network"
    if isinstance(exc, SMTPException) and exc.is_temporary:
        return "; try again later"
    return ""


class _Progress:
    """How far the work is, on a terminal, when it takes long: a bar if rich is there, else a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._next = monotonic() + _QUIET
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif self._total > 1 and monotonic() >= self._next and sys.stderr.isatty():
            self._begin()

    def _begin(self) -> None:
        if importlib.util.find_spec("rich") is None:
            complain(f"ehlo send: {self._done} of {self._total}")
            self._next = monotonic() + _QUIET
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self._bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        self._bar.start()
        self._task = self._bar.add_task("", total=self._total, completed=self._done)


class _Totals:
    """What became of all of it."""

    def __init__(self, progress: _Progress, report: Callable[[str], None]) -> None:
        self.accepted = 0
        self.refused = 0
        self.messages = 0
        self.errors: list[Exception] = []
        self._progress = progress
        self._report = report

    def add(self, result: SendResult, every: bool) -> None:
        self.messages += 1
        self.accepted += len(result.accepted)
        self.refused += len(result.refused)
        for one in result.recipients:
            if every or not one.accepted:
                self._report(_fate(one, result))
        self._progress.step()

    @property
    def status(self) -> int:
        if not self.accepted:
            return _NONE
        return _SOME if self.refused or self.errors else _ALL


# ---- the work ------------------------------------------------------------------------------------


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``connect`` is called with. All that is wrong with the arguments is said here."""
    host, port = _server(arguments)
    config = _config(arguments)
    _check_paths(arguments)
    return {
        "host": host,
        "port": port,
        "config": config,
        "path": arguments.unix,
        "source_address": arguments.source_address,
        "tls": arguments.tls,
        "ssl_context": _context(arguments),
        "server_hostname": arguments.server_name,
        "handshake_timeout": arguments.timeout or 60.0,
        "auth": _login(arguments),
        "connect_timeout": arguments.timeout or 30.0,
        "trace": _trace if arguments.verbose else None,
    }


async def _send(arguments: argparse.Namespace, options: dict[str, Any], file: BinaryIO, totals: _Totals) -> None:
    opening = ehlo.asyncio.connect(**options)
    if arguments.count == 1:
        async with opening as client:
            with contextlib.suppress(SMTPException):
                try:
                    result = await client.send(
                        file, arguments.sender, arguments.recipients, refuse_invalid=arguments.refuse_invalid
                    )
                    totals.add(result, True)
                except SMTPException as exc:
                    if exc.result is None:
                        totals.errors.append(exc)
                        raise
                    totals.add(exc.result, True)
                    if exc.result.failure is not None:
                        totals.errors.append(exc)
        return

    content = file.read()
    left = iter(range(arguments.count))  # shared: whoever is faster sends more

    async def work() -> None:
        items = ((content, arguments.sender, arguments.recipients) for _ in left)
        try:
            async with await opening as client:
                async for result in client.send_many(items, refuse_invalid=arguments.refuse_invalid):
                    totals.add(result, False)
        except SMTPException as exc:
            totals.errors.append(exc)

    await asyncio.gather(*(work() for _ in range(min(arguments.connections, arguments.count))))


def _trace(lines: str) -> None:
    complain(lines.removesuffix("\n"))


def run(arguments: argparse.Namespace) -> int:
    """The command itself: returns the exit status, raises :class:`ehlo.cli._receive.UsageError`."""
    options = _options(arguments)
    begun = monotonic()
    with _open(arguments.file) as file, _Progress(arguments.count) as progress:
        totals = _Totals(progress, say)
        try:
            asyncio.run(_send(arguments, options, file, totals))
        except SMTPException as exc:
            totals.errors.append(exc)
        except LocalProtocolError as exc:
            raise UsageError(str(exc)) from None
        except KeyboardInterrupt:
            complain("ehlo send: interrupted")
            return _SOME if totals.accepted else _NONE
    for text in _distinct(totals.errors):
        complain(f"ehlo send: {text}")
    if arguments.count > 1:
        seconds = monotonic() - begun
        say(
            f"ehlo send: {totals.messages} of {arguments.count} messages in {seconds:.2f} s: "
            f"{counted(totals.accepted, 'recipient')} accepted, {totals.refused} refused"
        )
    return totals.status


def _distinct(errors: list[Exception]) -> Iterator[str]:
    yield from dict.fromkeys(f"{printable_line(str(exc))}{_hint(exc)}" for exc in errors)
