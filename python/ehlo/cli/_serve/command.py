"""``ehlo serve``: its arguments, its start and its end."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import ehlo
from ehlo._server.listener import Listener as Server
from ehlo.cli._receive import UsageError, complain, count, say, seconds, size
from ehlo.cli._receive import where as where_text
from ehlo.cli._run import LOOPS, Job, Tools, Wanted, hangup_waits, loop_module
from ehlo.cli._serve.check import check_place, look
from ehlo.cli._serve.findings import report
from ehlo.cli._serve.front import in_front, load_filter
from ehlo.cli._serve.gate import COMMAND, Gate, WayOut
from ehlo.cli._serve.guard import open_guard
from ehlo.cli._serve.listeners import Served, new_config, served
from ehlo.cli._serve.milters import filtered
from ehlo.cli._serve.offers import NO_OFFERS, Offers, ask_offers, offers_of
from ehlo.cli._serve.pass_on import PassOn, pool_options
from ehlo.cli._serve.routes import Hop, Way
from ehlo.cli._serve.running import Host, places_of, reload_site, run_site
from ehlo.cli._serve.settings import PROTOCOLS, Settings, parse_address, read_file, read_settings, settings_help
from ehlo.cli._serve.site import Site
from ehlo.cli._serve.sockets import error_of
from ehlo.cli._user import print_line

__all__ = ["add_parser"]

_ASK_SECONDS: Final = 5.0

_HELP: Final = f"""\
FILE is TOML. docs/serve.md explains it, and has examples to copy. Its tables and keys:

{settings_help()}

Relative paths start from the folder of FILE. An option replaces the setting of FILE.
SIGINT or SIGTERM ends the server: open transactions have --deadline seconds to end. A second signal cuts them.
SIGHUP reads FILE again, and all files that it names. If one has an error, nothing changes. The log names each setting
that needs a new start.
ehlo user add FILE NAME makes the file of users. A file that others can read is refused. If every user has keys for
SCRAM (ehlo user add --scram), the server offers SCRAM beside PLAIN and LOGIN.
Exit status: 0; 1 if --check found an error, or the workers died; 2 for wrong usage; 3 if open transactions were cut.
"""


def add_parser(commands: Any) -> None:
    """Add ``serve`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="run a mail server: MX, submission, delivery agent",
        description="Receive mail by SMTP, submission and LMTP, with TLS and users, and deliver it. The settings come "
        "from a file, from options, or from both.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", nargs="?", help="the settings, in TOML: see below")
    listens = parser.add_argument_group(
        "where it listens", "ADDRESS is HOST:PORT, [IPV6]:PORT, PORT or unix:PATH. Each option may be repeated"
    )
    listens.add_argument("--smtp", metavar="ADDRESS", action="append", help="mail from other servers")
    listens.add_argument("--submission", metavar="ADDRESS", action="append", help="mail from users, with STARTTLS")
    listens.add_argument(
        "--submissions", metavar="ADDRESS", action="append", help="mail from users, with TLS from the start"
    )
    listens.add_argument("--lmtp", metavar="ADDRESS", action="append", help="mail by LMTP (RFC 2033)")
    listens.add_argument("--loop", choices=LOOPS, help="the event loop (default: asyncio)")
    what = parser.add_argument_group("where messages go")
    way = what.add_mutually_exclusive_group()
    way.add_argument("--maildir", metavar="DIR", help="into this Maildir, one file for each message")
    way.add_argument("--mbox", metavar="FILE", help="into this mbox file, one message behind the other")
    way.add_argument("--discard", action="store_true", default=None, help="nowhere: they are thrown away")
    way.add_argument("--to-smtp", metavar="HOST[:PORT]", help="to this server, by SMTP")
    way.add_argument("--to-lmtp", metavar="ADDRESS", help="to this server, by LMTP")
    what.add_argument(
        "--domain",
        metavar="NAME",
        action="append",
        help="take mail for this domain; may be repeated (default: every domain)",
    )
    how = parser.add_argument_group("protocol")
    how.add_argument("--hostname", metavar="NAME", help="the name of this server (default: the name of the machine)")
    how.add_argument("--cert", metavar="FILE", help="the chain of certificates, in PEM: the server then offers TLS")
    how.add_argument("--key", metavar="FILE", help="the private key (default: it is in the file of --cert)")
    how.add_argument("--users", metavar="FILE", help="the users that may log in; made by: ehlo user add FILE NAME")
    how.add_argument(
        "--max-size", type=size, metavar="BYTES", help="octets of a message, at most; 0: no limit (default: 33554432)"
    )
    runs = parser.add_argument_group("how it runs")
    runs.add_argument("--user", metavar="NAME", help="become this user after all ports are bound")
    runs.add_argument("--group", metavar="NAME", help="become this group, too (default: the group of the user)")
    runs.add_argument("--as-root", action="store_true", default=None, help="stay root, although that is dangerous")
    runs.add_argument(
        "--workers", type=count, metavar="N", help="number of processes that share the listeners (default: 1)"
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        metavar="SECONDS",
        help="how long open transactions may take at the end (default: 10)",
    )
    parser.add_argument("--quiet", action="store_true", default=None, help="print no line for each message")
    parser.add_argument(
        "--check",
        action="store_true",
        help="look at everything and print the findings; change nothing, and do not start",
    )
    parser.add_argument("--json", action="store_true", help="with --check: print the findings as JSON")
    parser.add_argument(
        "--hash-password",
        metavar="NAME",
        help="print the line of a user for the file of users, and end; see also: ehlo user add",
    )
    parser.add_argument("--scram", action="store_true", help="with --hash-password: print keys for SCRAM-SHA-256")


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
    for name in ("user", "group", "as_root", "workers"):
        put("run", name, getattr(arguments, name))
    way = _way(arguments, here)
    if way is not None:
        values["route"] = [way]
    elif arguments.domain is not None:
        raise UsageError("--domain goes with --maildir, --mbox, --discard, --to-smtp or --to-lmtp; else use [[route]]")
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
    return read_settings(values, base, arguments.file)


def _way(arguments: argparse.Namespace, here: str) -> dict[str, Any] | None:
    """The options as one [[route]]."""
    given = {
        "--maildir": arguments.maildir and f"maildir:{os.path.join(here, arguments.maildir)}",
        "--mbox": arguments.mbox and f"mbox:{os.path.join(here, arguments.mbox)}",
        "--discard": arguments.discard and "discard",
        "--to-smtp": arguments.to_smtp and f"smtp:{arguments.to_smtp}",
        "--to-lmtp": arguments.to_lmtp and f"lmtp:{arguments.to_lmtp}",
    }
    for option, to in given.items():
        if to:
            way: dict[str, Any] = {"where": option, "to": to}
            return way if arguments.domain is None else way | {"domains": arguments.domain}
    return None


# ---- the server ----------------------------------------------------------------------------------


class _ServeJob(Job):
    def __init__(self, site: Site, host: Host) -> None:
        super().__init__(site.settings.loop, site.settings.deadline)
        self._site = site
        self._host = host
        self._trail = host.trail
        self._filter = load_filter(site.settings)
        self._servers: Sequence[Server[Any]] = ()
        self._offered = NO_OFFERS
        self.reload = self._reload
        self.beat = host.beat

    @contextlib.asynccontextmanager
    async def open(self, tools: Tools) -> AsyncIterator[list[Wanted]]:
        site = self._site
        settings = site.settings
        async with contextlib.AsyncExitStack() as stack:
            out = await self._out(tools, stack)
            # Passwords of all worker processes together take half of the processors.
            threads = None if settings.run.workers == 1 else max(1, (os.cpu_count() or 1) // 2 // settings.run.workers)
            authenticator = None if site.users is None else tools.adapter.Authenticator(site.users, workers=threads)
            gate = Gate(site, out, self._trail, authenticator, in_thread=tools.in_thread, filtered=bool(site.milters))
            await self._show(out, stack)
            guard = stack.enter_context(open_guard(settings))
            handler = in_front(guard, in_front(self._filter, gate))
            self._offered = await self._offers(tools)
            shared = ehlo.Connections()  # the limits are for all listeners together
            groups = self._host.sockets.groups
            wanted: list[Wanted] = []
            for one, socks in zip(self._served(), groups, strict=True):
                inside = await filtered(
                    handler, one.listener, settings, site.milters, out.drop, self._host.trail, stack
                )
                wanted.append((inside, one.options(site, socks) | {"connections": shared}))
            yield wanted

    def _served(self) -> list[Served]:
        """The listeners. Workers share the number of connections."""
        found = served(self._site, self._offered)
        if self._host.workers == 1:
            return found
        return [replace(one, limits=_share(one.limits, self._host.workers)) for one in found]

    async def _out(self, tools: Tools, stack: contextlib.AsyncExitStack) -> WayOut:
        """The queue, or pools of connections to the next hops; open as long as the stack is."""
        site = self._site
        pools: dict[Hop, Any] = {}
        for hop, way in site.hops.items():
            options = pool_options(way, site.settings.hostname)
            pool = tools.adapter.Pool(max_connections=way.table.connections, **options)
            stack.callback(pool.abort)  # what a transaction still has when the deadline is over
            pools[hop] = await stack.enter_async_context(pool)
        if site.settings.queue is None:
            return PassOn(pools, tools.in_thread, self._trail)
        from ehlo.cli._serve.into_queue import open_out  # it needs the packages of ehlo[mta]

        return await stack.enter_async_context(open_out(site, pools, time.monotonic, self._trail))

    async def _show(self, out: WayOut, stack: contextlib.AsyncExitStack) -> None:
        """[metrics], as long as the stack is open."""
        settings, host = self._site.settings, self._host
        if settings.metrics.listen is not None:
            try:
                from ehlo.cli._serve.show import open_figures
            except ImportError as exc:
                text = f"needs more packages: pip install 'ehlo[mta,metrics]' ({exc})"
                raise settings.error("metrics", text) from None
            opened = open_figures(settings, out, self._trail, self._count, host.board, host.number)
            shown = await stack.enter_async_context(opened)
            if shown.where is not None:
                place = where_text(shown.where)
                self._trail.say(f"{COMMAND}: figures at http://{place}/", "listening", figures=place)
            if shown.publish is not None and host.beat is not None:
                self.beat = host.beat[0], partial(_both, shown.publish, host.beat[1])

    def _count(self) -> tuple[ehlo.Statistics, int]:
        """What all listeners did, and their open connections."""
        total = sum((server.statistics for server in self._servers), ehlo.Statistics())
        return total, sum(server.connections for server in self._servers)

    async def _offers(self, tools: Tools) -> Offers:
        """What the way out can do; each next hop is asked."""
        site, has_queue = self._site, self._site.settings.queue is not None

        async def ask(way: Way) -> ehlo.Capabilities:
            options = pool_options(way, site.settings.hostname) | {"connect_timeout": _ASK_SECONDS}
            async with await tools.adapter.connect(**options) as client:
                found: ehlo.Capabilities = client.capabilities
                return found

        found = await ask_offers(site.ways, ask, self._warn, has_queue=has_queue)
        return offers_of(site.ways, found, has_queue=has_queue)

    def _warn(self, line: str) -> None:
        complain(f"{COMMAND}: {line}")

    def cannot_listen(self, number: int, exc: OSError) -> UsageError:
        return error_of(places_of(self._site.settings)[number], exc)

    def ready(self, servers: Sequence[Server[Any]]) -> None:
        self._servers = servers
        self._host.started()

    def stopping(self) -> None:
        self._host.stopping()

    def _reload(self) -> None:
        self._host.reloading()
        self._trail.reopen()
        line, good = reload_site(self._site, self._host.again)
        if good:
            for one, server in zip(self._served(), self._servers, strict=True):
                server.reconfigure(new_config(server.config, one.config), one.limits)
        self._host.reloaded(line, good)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def _share(limits: ehlo.Limits, workers: int) -> ehlo.Limits:
    """The part of one worker: together they have as many connections as one process would."""
    most = limits.max_connections
    return limits if most is None else replace(limits, max_connections=-(-most // workers))


# ---- the command ---------------------------------------------------------------------------------


def _check(site: Site) -> None:
    """What can be said before anything listens."""
    settings = site.settings
    loop_module(settings.loop)
    if settings.queue is not None:
        _needs_mta(settings)
    for way in site.ways:
        if way.is_store and "{" not in way.place:
            kind: Any = way.kind
            check_place(kind, way.place, follow_symlink=way.table.follow_symlink)
    # What is offered comes later: here it is only looked at whether the listeners make sense.
    served(site, NO_OFFERS)


def _needs_mta(settings: Settings) -> None:
    try:
        import ehlo.mta  # noqa: F401
    except ImportError as exc:
        raise settings.error("queue", f"needs more packages: pip install 'ehlo[mta]' ({exc})") from None


def run(arguments: argparse.Namespace) -> int:
    """The command itself: returns the exit status, raises :class:`ehlo.cli._receive.UsageError`."""
    if arguments.hash_password is not None:
        print_line(arguments.hash_password, scram=arguments.scram)
        return 0
    if arguments.scram:
        raise UsageError("--scram goes with --hash-password NAME")
    if arguments.json and not arguments.check:
        raise UsageError("--json goes with --check")
    settings = _settings(arguments)
    if arguments.check:
        text, status = report(look(settings), arguments.json)
        say(text)
        return status
    with hangup_waits():
        site = Site.open(settings)
        return run_site(site, lambda: _settings(arguments), _make_job)


def _make_job(site: Site, host: Host) -> Job:
    _check(site)
    return _ServeJob(site, host)
