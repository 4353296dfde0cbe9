"""``ehlo serve``: a receiving server as it is deployed: several listeners, TLS, users, limits, and where mail goes."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from ehlo._server.handler import Handler
from ehlo._server.listener import Listener
from ehlo.cli._receive import (
    UsageError,
    cannot_listen,
    complain,
    open_store,
    say,
    seconds,
    size,
    totals,
)
from ehlo.cli._receive import where as where_text
from ehlo.cli._run import LOOPS, Job, Tools, Wanted, loop_module, run_job
from ehlo.cli._serve.check import check_place
from ehlo.cli._serve.gate import COMMAND, Receiver
from ehlo.cli._serve.pass_on import Forwarder
from ehlo.cli._serve.settings import (
    PROTOCOLS,
    Listening,
    Settings,
    parse_address,
    read_file,
    read_settings,
)
from ehlo.cli._serve.users import hash_line
from ehlo.store import Store

__all__ = ["add_parser"]


_HELP: Final = """\
A file of settings (TOML), all of it optional but a listener and [deliver]:

  hostname = "mx.example.org"      # default: the machine's
  [tls]
  certificate = "fullchain.pem"    # SIGHUP reads it, and the users, again
  key = "privkey.pem"              # default: in the file of the certificate
  [auth]
  users = "users"                  # lines made by: ehlo serve --hash-password NAME
  in_clear = false                 # offer AUTH without TLS, too: behind what ends TLS for us
  [limits]                         # 0 is no limit
  max_connections, max_connections_per_network, max_size, max_recipients, max_messages, max_errors,
  command_seconds, session_seconds, content_seconds, handler_seconds, content_rate, auth_delay_seconds
  [deliver]                        # one of
  maildir = "inbox"                # or mbox = FILE, or discard = true; for the first two
  mode = "600"                     # of files: 600, 640 or 660
  follow_symlink = false           # may the place be a symbolic link?
  recipient_field = "none"         # or Delivered-To, or X-Original-To: once for each recipient
  smtp = "relay.example.org:25"    # or lmtp = "unix:/run/lmtp": a next hop, and for it
  tls = "opportunistic"            # off, opportunistic, required, implicit
  user = "us"                      # with password_file = FILE
  connections = 10
  domains = ["example.org"]        # taken from clients that have not authenticated; default: all
  [[listener]]                     # again for each
  protocol = "smtp"                # smtp, submission, submissions (implicit TLS), lmtp
  host = "0.0.0.0"                 # default 127.0.0.1; port: 25, 587, 465, 24
  path = "/run/ehlo/lmtp"          # a Unix socket instead, with mode = "660" for who may connect
  require_tls = false              # not for a public port 25
  trusted = ["10.0.0.0/8"]         # who may speak: proxy = true, xclient = true, xforward = true

Relative paths start from the file's directory. Options go before the file. SIGINT and SIGTERM drain: open transactions
may end within the deadline; a second one cuts them. A users' line is NAME:$scrypt$ln=15,r=8,p=1$SALT$HASH (RFC 7914),
or with --scram NAME:$scram-sha-256$i=10000$SALT$STORED$SERVER (RFC 7677), in base64; with --scram for all, SCRAM is
offered beside PLAIN and LOGIN. Exit status: 0, or 2 for wrong usage.
"""


def add_parser(commands: Any) -> None:
    """Add ``serve`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="receive mail as a server that is deployed: MX, submission, delivery agent",
        description="Receive mail by SMTP, submission and LMTP, with TLS and users, and keep it or pass it on. What is "
        "served says a file, or options, or both.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", nargs="?", help="settings in TOML, see below")
    listens = parser.add_argument_group(
        "where it listens", "ADDRESS is HOST:PORT, [IPV6]:PORT, PORT or unix:PATH; each may be given again"
    )
    listens.add_argument("--smtp", metavar="ADDRESS", action="append", help="mail from other servers")
    listens.add_argument("--submission", metavar="ADDRESS", action="append", help="mail from users, by STARTTLS")
    listens.add_argument("--submissions", metavar="ADDRESS", action="append", help="mail from users, TLS first")
    listens.add_argument("--lmtp", metavar="ADDRESS", action="append", help="LMTP (RFC 2033)")
    listens.add_argument("--loop", choices=LOOPS, help="event loop (default: asyncio)")
    what = parser.add_argument_group("what becomes of messages")
    way = what.add_mutually_exclusive_group()
    way.add_argument("--maildir", metavar="DIR", help="one file a message in a Maildir")
    way.add_argument("--mbox", metavar="FILE", help="append to an mbox file")
    way.add_argument("--discard", action="store_true", default=None, help="throw them away")
    way.add_argument("--to-smtp", metavar="HOST[:PORT]", help="pass them on by SMTP")
    way.add_argument("--to-lmtp", metavar="ADDRESS", help="pass them on by LMTP")
    what.add_argument(
        "--domain", metavar="NAME", action="append", help="take mail for this one; again for each (default: for all)"
    )
    how = parser.add_argument_group("protocol")
    how.add_argument("--hostname", metavar="NAME", help="this server's name (default: the machine's)")
    how.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); TLS is offered")
    how.add_argument("--key", metavar="FILE", help="its key (default: in the file of the certificate)")
    how.add_argument("--users", metavar="FILE", help="who may submit, see below")
    how.add_argument("--max-size", type=size, metavar="BYTES", help="of a message, 0: no limit (default: 33554432)")
    parser.add_argument("--deadline", type=seconds, metavar="SECONDS", help="to drain at the end (default: 10)")
    parser.add_argument("--quiet", action="store_true", default=None, help="no line for each message")
    parser.add_argument("--check", action="store_true", help="look at the settings, listen to nothing, and end")
    parser.add_argument(
        "--hash-password",
        metavar="NAME",
        help="print the line of a user, and end; the password comes from the prompt or from standard input",
    )
    parser.add_argument("--scram", action="store_true", help="with --hash-password: keys for SCRAM-SHA-256")


# ---- settings ------------------------------------------------------------------------------------


def _settings(arguments: argparse.Namespace) -> Settings:
    """What the file says, with the options on top."""
    values: dict[str, Any] = {} if arguments.file is None else read_file(arguments.file)
    base = os.path.dirname(os.path.abspath(arguments.file)) if arguments.file is not None else os.getcwd()
    here = os.getcwd()

    def put(table: str | None, key: str, value: Any) -> None:
        if value is None:
            return
        inside = values if table is None else values.setdefault(table, {})
        if not isinstance(inside, dict):
            raise UsageError(f"{table} is a table; write it as [{table}]")
        inside[key] = value

    def path(value: str | None) -> str | None:
        return None if value is None else os.path.join(here, value)

    for name in ("hostname", "loop", "deadline", "quiet"):
        put(None, name, getattr(arguments, name))
    put("tls", "certificate", path(arguments.cert))
    put("tls", "key", path(arguments.key))
    put("auth", "users", path(arguments.users))
    put("limits", "max_size", arguments.max_size)
    hop = arguments.to_smtp or arguments.to_lmtp
    if any(value is not None for value in (arguments.maildir, arguments.mbox, arguments.discard, hop)):
        domains = values.get("deliver", {}).get("domains") if isinstance(values.get("deliver"), dict) else None
        values["deliver"] = {} if domains is None else {"domains": domains}
        put("deliver", "maildir", path(arguments.maildir))
        put("deliver", "mbox", path(arguments.mbox))
        put("deliver", "discard", arguments.discard)
        put("deliver", "smtp", arguments.to_smtp)
        put("deliver", "lmtp", arguments.to_lmtp)
    put("deliver", "domains", arguments.domain)
    listeners: list[dict[str, Any]] = []
    for protocol in PROTOCOLS:
        for text in getattr(arguments, protocol) or ():
            address = parse_address(text, f"--{protocol}", PROTOCOLS[protocol])
            one: dict[str, Any] = {"where": f"--{protocol} {text}", "protocol": protocol}
            if address.path is not None:
                listeners.append(one | {"path": path(address.path)})
            else:
                listeners.append(one | {"host": address.host, "port": address.port})
    if listeners:
        values["listener"] = listeners
    return read_settings(values, base)


# ---- the command ---------------------------------------------------------------------------------


class _ServeJob(Job):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.loop, settings.deadline)
        self._settings = settings
        self.reload = self._reload

    @contextlib.asynccontextmanager
    async def open(self, tools: Tools) -> AsyncIterator[list[Wanted]]:
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            handler: Handler
            if settings.hop is not None:
                pool = await stack.enter_async_context(tools.adapter.Pool(**settings.hop_options))
                handler = Forwarder(settings, pool, tools)
            else:
                store = _open_store(settings)
                if store is not None:
                    stack.callback(store.close)
                handler = Receiver(settings, store, tools)
            yield [(handler, self._options(listener)) for listener in settings.listeners]

    def _options(self, listener: Listening) -> dict[str, Any]:
        return {
            "host": listener.address.host,
            "port": listener.address.port,
            "path": listener.address.path,
            "config": listener.config,
            "limits": self._settings.limits,
            "tls": self._settings.tls if listener.tls else None,
            "trusted": listener.trusted,
        }

    def cannot_listen(self, number: int, exc: OSError) -> UsageError:
        listener = self._settings.listeners[number]
        address = listener.address
        option, _, given = listener.where.partition(" ")
        port = option if option.startswith("--") else f"the port of [[{option}]] {given}"
        return cannot_listen(exc, address.host, address.port, address.path, (listener.where, port, listener.where))

    def ready(self, servers: Sequence[Listener[Any]]) -> None:
        lines = []
        for listener, server in zip(self._settings.listeners, servers, strict=True):
            if listener.mode is not None and listener.address.path is not None:
                os.chmod(listener.address.path, listener.mode)
            for address in server.addresses:
                lines.append(f"{COMMAND}: listening on {where_text(address)} ({_words(listener)})")
        say("\n".join(lines))

    def _reload(self) -> None:
        try:
            self._settings.reload()
        except UsageError as exc:
            complain(f"{COMMAND}: nothing was changed: {exc}")
        else:
            say(f"{COMMAND}: read certificate and users again")


def _words(listener: Listening) -> str:
    words = [listener.protocol if listener.protocol.startswith("subm") else listener.protocol.upper()]
    words += {"starttls": ["STARTTLS"], "implicit": ["TLS"], "off": []}[listener.config.tls]
    words += ["PROXY"] if listener.config.proxy else []
    return ", ".join(words)


def _open_store(settings: Settings) -> Store | None:
    match settings.deliver:
        case "maildir" | "mbox" as kind:
            return open_store(kind, settings.place, kind, **settings.store_options)
        case _:
            return None


def _check_store(settings: Settings) -> None:
    """Whether mail can be kept there, without making anything."""
    match settings.deliver:
        case "maildir" | "mbox" as kind:
            check_place(kind, settings.place, follow_symlink=settings.store_options["follow_symlink"])
        case _:
            return


def _hash_password(name: str, scram: bool) -> int:
    hash_line(name, "x", scram=True)  # the name is looked at before anybody types
    if sys.stdin.isatty():
        try:
            password = getpass.getpass(f"password of {name}: ")
            if getpass.getpass("again: ") != password:
                raise UsageError("the two are not the same; nothing was made")
        except EOFError:
            password = ""
    else:
        try:
            password = sys.stdin.readline().rstrip("\r\n")
        except UnicodeDecodeError as exc:
            raise UsageError(f"the password is not in UTF-8: {exc.reason}") from None
    print(hash_line(name, password, scram=scram))
    return 0


def run(arguments: argparse.Namespace) -> int:
    """The command itself: returns the exit status, raises :class:`ehlo.cli._receive.UsageError`."""
    if arguments.hash_password is not None:
        return _hash_password(arguments.hash_password, arguments.scram)
    if arguments.scram:
        raise UsageError("--scram goes with --hash-password NAME")
    settings = _settings(arguments)
    loop_module(settings.loop)
    _check_store(settings)
    if arguments.check:
        count = len(settings.listeners)
        say(f"{COMMAND}: the settings are good: {count} listener{'s' if count != 1 else ''}, {settings.deliver}")
        return 0
    say(totals(COMMAND, run_job(_ServeJob(settings))))
    return 0
