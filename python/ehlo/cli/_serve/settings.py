"""The file of ``ehlo serve``: its tables, a dataclass for each, and what no table can check alone."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from ehlo._errors import EhloError
from ehlo._server.limits import Limits as AdapterLimits
from ehlo._server.trust import Networks as TrustedNetworks
from ehlo.cli._engine import engine_options, engine_setting, nearest
from ehlo.cli._receive import UsageError, host_name
from ehlo.cli._run import LOOPS
from ehlo.cli._serve.keys import (
    COUNT,
    FLAG,
    MODE,
    NUMBER,
    PATH,
    PORT,
    SECONDS,
    TABLE,
    TEXT,
    TEXTS,
    WHOLE,
    Kind,
    Source,
    full_name,
    help_of,
    key,
    keys_of,
    one_of,
    read_table,
    wrapped,
)

__all__ = [
    "LISTS",
    "PROTOCOLS",
    "TABLES",
    "Address",
    "Aliases",
    "Auth",
    "Dkim",
    "Filter",
    "Handler",
    "Limits",
    "Listener",
    "Log",
    "Metrics",
    "Networks",
    "Protocol",
    "Queue",
    "Rates",
    "Route",
    "Run",
    "Settings",
    "Tls",
    "parse_address",
    "read_file",
    "read_settings",
    "settings_help",
]

Protocol: TypeAlias = Literal["smtp", "submission", "submissions", "lmtp"]

# The protocols, with the port that each is known by (RFC 5321, 6409, 8314 3.3; LMTP has none of its own).
PROTOCOLS: Final[dict[Protocol, int]] = {"smtp": 25, "submission": 587, "submissions": 465, "lmtp": 24}
_ADDRESS: Final = re.compile(r"(?:(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]/\s]+)):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, or to send: host and port, or the path of a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, what: str, port: int | None = None) -> Address:
    """``HOST:PORT``, ``[IPv6]:PORT``, ``PORT``, or ``unix:PATH``; with ``port`` for a default, ``HOST`` as well.

    Raises:
        UsageError: it is none of them.
    """
    if text.startswith("unix:") and len(text) > 5:
        if not hasattr(socket, "AF_UNIX"):
            raise UsageError(f"{what} {text!r}: this system has no Unix sockets")
        return Address(path=text[5:])
    found = _ADDRESS.fullmatch(text)
    if found is not None and int(found["port"]) <= 65535:
        return Address(found["v6"] or found["host"] or "127.0.0.1", int(found["port"]))
    bare = re.fullmatch(r"\[([^\[\]]+)\]|([A-Za-z0-9._-]*[A-Za-z._-][A-Za-z0-9._-]*)", text)
    if port is not None and bare is not None:
        return Address(bare[1] or bare[2], port)
    raise UsageError(f"{what} {text!r} is no address; say it like 127.0.0.1:2525, [::1]:2525, 2525 or unix:/run/s")


# ---- kinds of values that only one table has -----------------------------------------------------


def _networks(value: Any, source: Source) -> tuple[str, ...]:
    networks: tuple[str, ...] = TEXTS.read(value, source)
    try:
        TrustedNetworks(networks)
    except EhloError as exc:
        raise ValueError(exc) from None
    return networks


def _senders(value: Any, source: Source) -> tuple[str, ...]:
    if value in ("users", "anybody"):
        return (value,)
    names: tuple[str, ...] = TEXTS.read(value, source)
    _networks([name for name in names if name != "users"], source)
    return names


def _rule(value: Any, source: Source) -> str:
    text: str = TEXT.read(value, source)
    if text in ("any", "own"):
        return text
    if not text.startswith("table:") or len(text) == 6:
        raise ValueError
    return "table:" + os.path.join(source.base, text[6:])


def _milter(value: Any, source: Source) -> str:
    kind, _, rest = TEXT.read(value, source).partition(":")
    if kind not in ("unix", "local", "inet", "inet6") or not rest:
        raise ValueError
    return f"{kind}:{rest}" if kind.startswith("inet") else "unix:" + source.path(rest)


_MILTER: Final = Kind('"unix:PATH" or "inet:HOST:PORT"', _milter)
_NETWORKS: Final = Kind('a list of networks, like ["10.0.0.0/8", "fd00::/8"]', _networks)
_SENDERS: Final = Kind('"users", "anybody" or a list of networks, like ["users", "10.0.0.0/8"]', _senders)
_RULE: Final = Kind('"any", "own" or "table:FILE"', _rule)


# ---- the tables ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """What stands above the first table."""

    hostname: str | None = key(TEXT, None, "name of this server (default: the name of the machine)")
    authserv_id: str | None = key(TEXT, None, "our name in Authentication-Results (default: hostname)")
    loop: str = key(one_of(*LOOPS), "asyncio", "event loop: asyncio, uvloop or trio")
    deadline: float = key(SECONDS, 10.0, "seconds that open transactions may take at the end")
    quiet: bool = key(FLAG, False, "print no line for each message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """[tls]: the certificate of this server."""

    certificate: str | None = key(PATH, None, "chain of certificates, PEM; SIGHUP reads it again")
    key_file: str | None = key(PATH, None, "private key (default: it is in the file of the certificate)", name="key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """[auth]: who may log in, and from which addresses users may send."""

    users: str | None = key(PATH, None, "file of users, made by: ehlo user add FILE NAME; SIGHUP reads it again")
    in_clear: bool = key(FLAG, False, "offer AUTH without TLS, too: for a server behind a proxy that ends TLS")
    from_: str = key(_RULE, "any", "addresses that a user may send from: any, own or table:FILE", name="from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """[queue]: mail is stored, answered 250, and delivered later."""

    path: str | None = key(PATH, None, "folder of the queue")
    url: str | None = key(TEXT, None, "database of the queue, in place of path: postgresql://USER@HOST/NAME")
    postmaster: str | None = key(TEXT, None, "address that gets the bounces that cannot be delivered")
    tls: str = key(one_of("off", "opportunistic", "required", "verified"), "opportunistic", "TLS to MX servers")
    connections: int = key(COUNT, 200, "connections to all next hops at once")
    connections_per_route: int = key(COUNT, 20, "connections to one next hop at once")
    lifetime_days: float = key(NUMBER, 5.0, "days after which a message is returned")
    warn_hours: float = key(NUMBER, 4.0, "hours after which the sender is told of the delay; 0: never")
    nameserver: str | None = key(TEXT, None, "ADDRESS:PORT of the DNS server for MX (default: those of the system)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """[[route]]: where the mail for some domains goes. The first that matches counts."""

    domains: tuple[str, ...] | None = key(
        TEXTS, None, 'domains, like "example.org", or ".example.org" for all below it (default: every domain)'
    )
    from_: tuple[str, ...] | None = key(
        _SENDERS, None, 'who may use it: "users", "anybody" or a list of networks (default: anybody)', name="from"
    )
    to: str = key(
        TEXT,
        "",
        "where the mail goes: maildir:PATH, mbox:PATH, lmtp:unix:PATH, lmtp:HOST:PORT, smtp:HOST:PORT, mx, discard, "
        'hold, or "fail:550 5.1.1 TEXT"; {domain} and {local_part} may stand in the path of a mailbox',
    )
    recipients: str | None = key(PATH, None, "file of the addresses that exist, one a line; SIGHUP reads it again")
    ask: bool = key(FLAG, False, "ask the next hop at RCPT whether the recipient exists")
    tls: str | None = key(
        one_of("off", "opportunistic", "required", "verified", "implicit"),
        None,
        "TLS to the next hop: off, opportunistic, required, verified or implicit",
    )
    user: str | None = key(TEXT, None, "log in to the next hop as this user")
    password_file: str | None = key(PATH, None, "file with the password in its first line")
    connections: int = key(COUNT, 50, "connections to the next hop at once; only without a queue")
    port: int = key(PORT, 25, "port of the servers found by MX")
    bare_newlines: str = key(
        one_of("normalize", "refuse"),
        "normalize",
        "bare CR or LF that came by BDAT, for a next hop without CHUNKING: normalize or refuse",
    )
    mode: str = key(one_of("600", "640", "660"), "600", "permissions of files with mail")
    follow_symlink: bool = key(FLAG, False, "the path of a mailbox may be a symbolic link")
    recipient_field: str = key(
        one_of("none", "Delivered-To", "X-Original-To"), "none", "header field that names each recipient, in a mailbox"
    )
    where: str = ""  # its name in errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """[aliases]: names that stand for others."""

    file: str | None = key(PATH, None, "file with lines NAME: TARGET, TARGET; SIGHUP reads it again")
    separator: str = key(TEXT, "+", "with +, user+tag is user if there is no user+tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """[[filter]]: a program that looks at mail by the milter protocol. Each sees what those before it changed."""

    milter: str = key(_MILTER, "", "address of the filter: unix:PATH or inet:HOST:PORT")
    listeners: tuple[str, ...] | None = key(TEXTS, None, "protocols or names of its listeners (default: all)")
    when_down: str = key(
        one_of("tempfail", "accept"), "tempfail", "mail while the filter does not answer: tempfail (451) or accept"
    )
    connect_seconds: float = key(SECONDS, 10.0, "longest wait for the connection and the negotiation")
    command_seconds: float = key(SECONDS, 30.0, "longest wait for an answer up to DATA")
    content_seconds: float = key(SECONDS, 60.0, "longest wait for an answer from the header section on")
    longest_seconds: float = key(SECONDS, 100.0, "longest wait for one answer, with all its reports of progress")
    macros: dict[str, Any] = key(TABLE, None, 'macros of each stage, like { mail = ["i", "{auth_authen}"] }')
    where: str = ""  # its name in errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Dkim:
    """[[dkim]]: a signature for mail from a domain, by its From field. Two tables of one domain: two signatures."""

    domain: str = key(TEXT, "", "domain of the From field and of the signature")
    selector: str = key(TEXT, "mail", "name of the key in DNS: SELECTOR._domainkey.DOMAIN")
    key_file: str = key(
        PATH, "", "private key, made by: ehlo dkim keygen DOMAIN; RSA or Ed25519; SIGHUP reads it again", name="key"
    )
    from_: tuple[str, ...] = key(
        _SENDERS, ("users",), 'clients whose mail is signed: "users" or networks, as in [[route]]', name="from"
    )
    header: str = key(one_of("relaxed", "simple"), "relaxed", "canonical form of the header fields")
    body: str = key(one_of("relaxed", "simple"), "relaxed", "canonical form of the body")
    where: str = ""  # its name in errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """[handler]: a program's own rules, in front of all."""

    use: str | None = key(TEXT, None, "MODULE:CLASS of an ehlo.Handler; Python looks in the folder of the file first")
    options: dict[str, Any] = key(TABLE, None, "arguments for CLASS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """[log]: one line for each event."""

    format: str = key(one_of("text", "json"), "text", "form of the lines: text or json")
    to: str = key(one_of("stdout", "stderr", "syslog"), "stdout", "where the lines go: stdout, stderr or syslog")
    file: str | None = key(PATH, None, "file in place of to; opened anew after a rename, and at SIGHUP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """[metrics]: figures for Prometheus, and a page for people."""

    listen: str | None = key(TEXT, None, "HOST:PORT of the page and of /metrics")
    token_file: str | None = key(PATH, None, "file with the token that readers must send; needed beyond loopback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """[limits]: 0 is no limit."""

    max_connections: int | None = key(WHOLE, None, "open connections (default: 10000)")
    max_connections_per_network: int | None = key(WHOLE, None, "open connections of one client network (default: 100)")
    max_size: int | None = key(WHOLE, None, "octets of a message (default: 33554432)")
    max_recipients: int | None = key(COUNT, None, "recipients of a message (default: 1000)")
    max_messages: int | None = key(WHOLE, None, "messages of a session (default: 1000; no limit for users)")
    max_errors: int | None = key(WHOLE, None, "wrong commands since the last accepted message (default: 20)")
    command_seconds: float | None = key(SECONDS, None, "longest wait for a command (default: 300)")
    session_seconds: float | None = key(SECONDS, None, "longest time of a session (default: 14400)")
    content_seconds: float | None = key(SECONDS, None, "longest time for the content of a message (default: 3600)")
    handler_seconds: float | None = key(SECONDS, None, "longest time for the decision about a command (default: 240)")
    content_rate: float | None = key(NUMBER, None, "lowest rate of content, in octets a second (default: 500)")
    auth_delay_seconds: float | None = key(SECONDS, None, "delay before the reply to a wrong password (default: 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """[rates]: what one user and one network may send in an hour; 0 is no limit."""

    user_messages: int = key(WHOLE, 0, "messages of a user in an hour; 0: no limit")
    user_recipients: int = key(WHOLE, 0, "recipients of a user in an hour; 0: no limit")
    network_messages: int = key(WHOLE, 0, "messages of a client network in an hour; 0: no limit")
    network_recipients: int = key(WHOLE, 0, "recipients of a client network in an hour; 0: no limit")
    exempt: tuple[str, ...] = key(_NETWORKS, (), "networks whose clients are not counted")
    file: str | None = key(
        PATH, None, "file with the counts of all workers, kept over restarts (default: in the folder of the queue)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """[networks]: who may connect at all."""

    allow: tuple[str, ...] = key(_NETWORKS, (), "only these networks may connect")
    deny: tuple[str, ...] = key(_NETWORKS, (), "these networks may not connect, even if allow has them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """[run]: how the server runs."""

    user: str | None = key(TEXT, None, "become this user after all ports are bound")
    group: str | None = key(TEXT, None, "become this group, too (default: the group of the user)")
    as_root: bool = key(FLAG, False, "stay root, although that is dangerous")
    workers: int = key(COUNT, 1, "number of processes that share the listeners; a [queue] then needs url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """[[listener]]: where clients connect."""

    protocol: Protocol = key(one_of(*PROTOCOLS), "smtp", "smtp, submission, submissions (TLS from the start) or lmtp")
    host: str | None = key(TEXT, None, "address to listen on (default: 127.0.0.1); :: takes IPv6 only")
    port: int | None = key(PORT, None, "port to listen on (default: 25, 587, 465 or 24, by protocol); 0: any free port")
    path: str | None = key(PATH, None, "path of a Unix socket, in place of host and port")
    mode: int | None = key(MODE, None, "permissions of the Unix socket, like 660")
    name: str | None = key(TEXT, None, "FileDescriptorName of its sockets from systemd (default: the protocol)")
    require_tls: bool | None = key(FLAG, None, "refuse mail without TLS; not for a public port 25")
    trusted: tuple[str, ...] = key(_NETWORKS, (), "networks that may name the client by proxy, xclient or xforward")
    proxy: bool = key(FLAG, False, "expect the PROXY header")
    xclient: bool = key(FLAG, False, "offer XCLIENT")
    xforward: bool = key(FLAG, False, "offer XFORWARD")
    smtp: dict[str, Any] = key(TABLE, None, "settings like [smtp], for this listener only")
    where: str = ""  # its name in errors

    @property
    def address(self) -> Address:
        """Where it listens."""
        port = PROTOCOLS[self.protocol] if self.port is None else self.port
        return Address(self.host or "127.0.0.1", port, self.path)


# Each table of the file. What is a list in it is written as [[name]].
TABLES: Final[dict[str, type]] = {
    "tls": Tls,
    "auth": Auth,
    "queue": Queue,
    "aliases": Aliases,
    "handler": Handler,
    "log": Log,
    "metrics": Metrics,
    "limits": Limits,
    "rates": Rates,
    "networks": Networks,
    "run": Run,
}
LISTS: Final[dict[str, type]] = {"route": Route, "filter": Filter, "dkim": Dkim, "listener": Listener}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of the file, with the options of the command on top. Nothing is read yet that the file names.

    Attributes:
        source: the file.
        hostname: of this server.
        authserv_id: our name in Authentication-Results fields (RFC 8601 2.2).
        smtp: options of :class:`ehlo.ServerConfig` by name.
        queue: ``None``: mail is passed on while the client waits.
    """

    source: Source
    hostname: str
    authserv_id: str
    loop: str
    deadline: float
    quiet: bool
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    queue: Queue | None = None
    route: tuple[Route, ...] = ()
    aliases: Aliases = field(default_factory=Aliases)
    smtp: dict[str, Any] = field(default_factory=dict)
    handler: Handler = field(default_factory=Handler)
    filter: tuple[Filter, ...] = ()
    dkim: tuple[Dkim, ...] = ()
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    networks: Networks = field(default_factory=Networks)
    run: Run = field(default_factory=Run)
    listener: tuple[Listener, ...] = ()

    def error(self, name: str, text: str) -> UsageError:
        """An error about one key or table, with the name of the file."""
        return self.source.error(name, text)


# ---- reading -------------------------------------------------------------------------------------


def read_file(path: str) -> dict[str, Any]:
    """The settings of a TOML file.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror or exc}; name a TOML file that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is no TOML: {exc}") from None


def read_settings(values: Mapping[str, Any], base: str, file: str | None = None) -> Settings:
    """Settings of what a file and the options say.

    Arguments:
        values: as ``tomllib`` gives them.
        base: the directory that relative paths start from.
        file: the name of the file, for errors.

    Raises:
        UsageError: they make no sense; the text names the setting and how to mend it.
    """
    source = Source(file, base)
    if "deliver" in values:
        raise source.error("deliver", "is no table any more: each way of mail is a [[route]], see ehlo serve --help")
    top_names = keys_of(Top)
    known = (*top_names, *TABLES, *LISTS, "smtp")
    for name in values:
        if name not in known:
            raise source.error(name, f"is no setting: {nearest(name, known)}")
    top = read_table(Top, {name: values[name] for name in values if name in top_names}, "", source)
    tables: dict[str, Any] = {
        name: read_table(table, values[name], name, source) for name, table in TABLES.items() if name in values
    }
    for name, table in LISTS.items():
        tables[name] = tuple(_list(table, values.get(name, []), name, source))
    hostname = host_name(top.hostname, "hostname")
    settings = Settings(
        source=source,
        hostname=hostname,
        authserv_id=top.authserv_id or hostname,
        loop=top.loop,
        deadline=top.deadline,
        quiet=top.quiet,
        smtp=smtp_options(values.get("smtp", {}), "smtp", source),
        **tables,
    )
    _check(settings)
    return settings


def _list(table: type, values: object, name: str, source: Source) -> list[Any]:
    if not isinstance(values, list):
        raise source.error(name, f"is a list of tables; write each as [[{name}]]")
    found: list[Any] = []
    for number, one in enumerate(values, 1):
        where = one.get("where", f"[[{name}]] {number}") if isinstance(one, Mapping) else f"[[{name}]] {number}"
        values_of_it = {name: one[name] for name in one if name != "where"} if isinstance(one, Mapping) else one
        found.append(read_table(table, values_of_it, where, source, where=where))
    return found


def smtp_options(values: object, where: str, source: Source) -> dict[str, Any]:
    """[smtp]: options of the engine by their own names. See :func:`ehlo.cli._engine.engine_setting`.

    Raises:
        UsageError: one is unknown, or does not fit.
    """
    if not isinstance(values, Mapping):
        raise source.error(where, f"is a table; write it as [{where}]")
    found: dict[str, Any] = {}
    for name, value in values.items():
        try:
            found[name] = engine_setting(name, value)
        except ValueError as exc:
            raise source.error(full_name(where, name), str(exc)) from None
    return found


# ---- what no table can check alone ---------------------------------------------------------------

# What is in both tables under two names.
ENGINE_LIMITS: Final = {
    "max_size": "max_message_size",
    "max_recipients": "max_recipients",
    "max_messages": "max_messages",
    "max_errors": "max_errors",
    "command_seconds": "command_timeout",
}


def _check(settings: Settings) -> None:
    if not settings.listener:
        raise settings.error("listener", "is missing; write [[listener]], or give --smtp 127.0.0.1:2525")
    if settings.tls.key_file is not None and settings.tls.certificate is None:
        raise settings.error("tls.key", "needs tls.certificate, too")
    queue = settings.queue
    if queue is not None and (queue.path is None) == (queue.url is None):
        raise settings.error("queue", "needs one of path and url")
    for short, option in ENGINE_LIMITS.items():
        if getattr(settings.limits, short) is not None and option in settings.smtp:
            raise settings.error(f"limits.{short}", f"and smtp.{option} are one setting: keep one of them")
    adapter_limits(settings)
    for listener in settings.listener:
        _check_listener(settings, listener)


def adapter_limits(settings: Settings) -> AdapterLimits:
    """[limits] for the adapter.

    Raises:
        UsageError: they make no limits.
    """
    found: dict[str, Any] = {}
    for one in fields(Limits):
        value = getattr(settings.limits, one.name)
        if value is not None and one.name not in ENGINE_LIMITS:
            found[one.name] = None if value == 0 and one.name != "auth_delay_seconds" else value
    try:
        return AdapterLimits(**found)
    except (EhloError, ValueError, TypeError) as exc:
        raise settings.error("limits:", str(exc)) from None


def engine_limits(settings: Settings) -> dict[str, Any]:
    """[limits] for the engine."""
    found: dict[str, Any] = {}
    for short, option in ENGINE_LIMITS.items():
        value = getattr(settings.limits, short)
        if value is not None:
            found[option] = None if value == 0 and short.startswith("max_") and short != "max_recipients" else value
    return found


def _check_listener(settings: Settings, listener: Listener) -> None:
    where = listener.where
    if listener.path is not None and (listener.host is not None or listener.port is not None):
        raise settings.error(where, "has a path, and also a host or port; remove one of them")
    if listener.path is not None and not hasattr(socket, "AF_UNIX"):
        raise settings.error(where, "has a path, but this system has no Unix sockets; use host and port")
    if listener.mode is not None and listener.path is None:
        raise settings.error(f"{where}: mode", 'needs a path; it is like "660"')
    on = [name for name in ("proxy", "xclient", "xforward") if getattr(listener, name)]
    if on and not listener.trusted and listener.path is None:
        raise settings.error(f"{where}: {on[0]}", "needs trusted: the networks that may use it")
    if listener.protocol == "lmtp" and listener.path is None and listener.address.port == 25:
        raise settings.error(f"{where}:", "LMTP must not be served on port 25 (RFC 2033 5); choose another, as 24")


def settings_help() -> str:
    """All tables and keys, for ``ehlo serve --help``."""
    lines = help_of(Top, "")
    for name, table in {**TABLES, **LISTS}.items():
        lines += help_of(table, f"[[{name}]]" if name in LISTS else f"[{name}]")
    lines += ["  [smtp]", wrapped(f"every option of the engine: {', '.join(engine_options())}")]
    return "\n".join(lines)
