"""What ``ehlo serve`` is told by a TOML file and by options: read, checked, and made into configs of the engine."""

from __future__ import annotations

import os
import re
import socket
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ehlo._core import ClientConfig, ServerConfig
from ehlo._errors import EhloError, LocalProtocolError
from ehlo._idna import domain_to_ascii
from ehlo._server.limits import Limits
from ehlo._server.trust import Networks
from ehlo.cli._receive import TIMERS, UsageError, first_line, host_name
from ehlo.cli._run import LOOPS
from ehlo.cli._serve.users import Users

__all__ = ["PROTOCOLS", "Address", "Listening", "Settings", "parse_address", "read_settings"]

Protocol: TypeAlias = Literal["smtp", "submission", "submissions", "lmtp"]

# The protocols, with the port that each is known by (RFC 5321, 6409, 8314 3.3; LMTP has none of its own).
PROTOCOLS: Final[dict[Protocol, int]] = {"smtp": 25, "submission": 587, "submissions": 465, "lmtp": 24}
_ADDRESS: Final = re.compile(r"(?:(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]/\s]+)):)?(?P<port>[0-9]{1,5})")
_XCLIENT: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
_XFORWARD: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
_PASSWORD: Final = ("PLAIN", "LOGIN")
_SCRAM: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
# A handler of submission has 110 s (RFC 6409 5.3): the next hop is to say something before that.
_HOP_SECONDS: Final = {"end_of_data": 80.0, "content": 60.0}
_HOP_STEP: Final = 20.0

# Names of ehlo.Limits and of ehlo.ServerConfig that [limits] may have, and what they are called there.
_ADAPTER_LIMITS: Final = (
    "max_connections",
    "max_connections_per_network",
    "session_seconds",
    "handler_seconds",
    "content_seconds",
    "content_rate",
    "auth_delay_seconds",
)
_ENGINE_LIMITS: Final = {
    "max_size": "max_message_size",
    "max_recipients": "max_recipients",
    "max_messages": "max_messages",
    "max_errors": "max_errors",
    "command_seconds": "command_timeout",
}


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


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener.

    Attributes:
        protocol: one of :data:`PROTOCOLS`.
        address: where.
        config: for the engine.
        trusted: networks whose clients may say who the client is.
        tls: whether there is TLS.
        mode: of the file of a Unix socket; ``None``: as the umask has it.
        where: how the settings call it, for an error.
    """

    protocol: Protocol
    address: Address
    config: ServerConfig
    trusted: tuple[str, ...]
    tls: bool
    mode: int | None
    where: str


@dataclass(slots=True)
class Settings:
    """All that ``ehlo serve`` needs to know, checked.

    Attributes:
        deliver: "maildir", "mbox", "discard", "smtp" or "lmtp".
        place: the path of a Maildir or mbox, and ``store_options`` for :class:`ehlo.store.Maildir` or
            :class:`ehlo.store.Mbox`.
        hop: the next hop, and ``hop_options`` for its :class:`ehlo.asyncio.Pool`.
        domains: whose mail is taken from those who have not authenticated; ``None``: any.
    """

    loop: str
    deadline: float
    quiet: bool
    limits: Limits
    listeners: list[Listening]
    deliver: str
    place: str = ""
    store_options: dict[str, Any] = field(default_factory=dict)
    hop: Address | None = None
    hop_options: dict[str, Any] = field(default_factory=dict)
    domains: frozenset[str] | None = None
    tls: ssl.SSLContext | None = None
    users: Users | None = None
    certificate: str | None = None
    key: str | None = None
    users_file: str | None = None

    def reload(self) -> None:
        """Look at certificate and users again; what is wrong changes nothing.

        Raises:
            UsageError: something is wrong with them.
        """
        users = None if self.users_file is None else Users.read(self.users_file)
        offered = any("SCRAM-SHA-256" in listener.config.auth for listener in self.listeners)
        if users is not None and offered and not users.all_scram:
            raise UsageError(
                f"users {self.users_file}: SCRAM is offered, but a user has no keys for it; "
                "make the line with --hash-password NAME --scram, or start again"
            )
        if self.tls is not None and self.certificate is not None:
            # A certificate and a key that do not fit would leave the one in use half changed: first try them elsewhere.
            _context(self.certificate, self.key)
            _load(self.tls, self.certificate, self.key)
        self.users = users


# ---- tables --------------------------------------------------------------------------------------


class _Table:
    """A table of the settings, that knows how each of its keys is called and which were asked for."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            raise UsageError(f"{where} is a table; write it as [{where}]")
        self._values = dict(values)
        self._where = where

    def name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _take(self, key: str, default: Any, what: str, fits: Callable[[Any], bool]) -> Any:
        if key not in self._values:
            return default
        value = self._values.pop(key)
        if not fits(value):
            raise UsageError(f"{self.name(key)} is {what}, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        found: str | None = self._take(key, default, "a string", lambda v: isinstance(v, str) and v != "")
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self._take(key, default, "true or false", lambda v: isinstance(v, bool)))

    def number(self, key: str, default: float | None = None) -> Any:
        def fits(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0

        return self._take(key, default, "a number, 0 or more", fits)

    def whole(self, key: str, default: int | None = None) -> Any:
        def fits(value: Any) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= 0

        return self._take(key, default, "a whole number, 0 or more", fits)

    def one_of(self, key: str, words: tuple[str, ...], default: str | None = None) -> str:
        return str(self._take(key, default, f"one of {', '.join(words)}", lambda v: v in words))

    def texts(self, key: str) -> list[str] | None:
        def fits(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(one, str) for one in value)

        found: list[str] | None = self._take(key, None, 'a list of strings, like ["a", "b"]', fits)
        return found

    def table(self, key: str) -> _Table:
        return _Table(self._values.pop(key, {}), self.name(key))

    def tables(self, key: str) -> Iterator[_Table]:
        values = self._values.pop(key, [])
        if not isinstance(values, list):
            raise UsageError(f"{self.name(key)} is a list of tables; write each as [[{self.name(key)}]]")
        for number, one in enumerate(values, 1):
            yield _Table(one, one.get("where", f"{key} {number}") if isinstance(one, Mapping) else f"{key} {number}")

    def end(self) -> None:
        """Nothing may be left: a misspelt word has no effect, and nobody would know."""
        self._values.pop("where", None)
        if self._values:
            raise UsageError(f"{self.name(next(iter(self._values)))} is no setting; see ehlo serve --help")


# ---- reading -------------------------------------------------------------------------------------


def read_file(path: str) -> dict[str, Any]:
    """The settings of a TOML file. Paths in it are relative to where it is.

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


def read_settings(values: Mapping[str, Any], base: str) -> Settings:
    """Settings of what a file and the options say.

    Arguments:
        values: as ``tomllib`` gives them.
        base: the directory that relative paths start from.

    Raises:
        UsageError: they make no sense; the text names the setting and how to mend it.
    """
    top = _Table(values, "")

    def place(path: str | None) -> str | None:
        return None if path is None else os.path.join(base, path)

    hostname = top.text("hostname")
    tls, auth, deliver = top.table("tls"), top.table("auth"), top.table("deliver")
    certificate, key = place(tls.text("certificate")), place(tls.text("key"))
    tls.end()
    if key is not None and certificate is None:
        raise UsageError("tls.key is there, but not tls.certificate")
    users_file = place(auth.text("users"))
    in_clear = auth.flag("in_clear")
    auth.end()
    limits, engine = _limits(top.table("limits"))
    engine["hostname"] = host_name(hostname, "hostname")
    settings = Settings(
        loop=top.one_of("loop", LOOPS, "asyncio"),
        deadline=top.number("deadline", 10),
        quiet=top.flag("quiet"),
        limits=limits,
        listeners=[],
        deliver="",
        tls=None if certificate is None else _context(certificate, key),
        users=None if users_file is None else Users.read(users_file),
        certificate=certificate,
        key=key,
        users_file=users_file,
    )
    _deliver(settings, deliver, engine["hostname"], place)
    for table in top.tables("listener"):
        settings.listeners.append(_listener(table, settings, engine, in_clear, place))
    top.end()
    if not settings.listeners:
        raise UsageError("no listener; give one with --smtp 127.0.0.1:2525, or as [[listener]] in a file")
    _against_open_relay(settings)
    return settings


def _limits(table: _Table) -> tuple[Limits, dict[str, Any]]:
    adapter: dict[str, Any] = {}
    for name in _ADAPTER_LIMITS:
        if name in table:
            value = table.number(name) if name.endswith(("seconds", "rate")) else table.whole(name)
            adapter[name] = None if value == 0 and name != "auth_delay_seconds" else value
    engine: dict[str, Any] = {}
    for name, option in _ENGINE_LIMITS.items():
        if name in table:
            value = table.number(name) if name.endswith("seconds") else table.whole(name)
            no_limit = value == 0 and name in ("max_size", "max_messages", "max_errors")
            engine[option] = None if no_limit else value
    table.end()
    try:
        ServerConfig("localhost", **engine)
        return Limits(**adapter), engine
    except (LocalProtocolError, ValueError, TypeError, OverflowError) as exc:
        raise UsageError(f"[limits]: {exc}") from None


def _load(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    def no_password() -> str:
        raise UsageError(f"tls.key {key or certificate} has a password; store the key without one, readable by few")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as exc:
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        raise UsageError(f"tls.certificate {certificate}: {reason}; name PEM files that belong together") from None
    except OSError as exc:
        names = certificate if key is None else f"{certificate} and {key}"
        raise UsageError(f"tls.certificate {names}: {exc.strerror or exc}; name files that can be read") from None


def _context(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, certificate, key)
    return context


def _deliver(settings: Settings, table: _Table, hostname: str, place: Callable[[str | None], str | None]) -> None:
    ways = [name for name in ("maildir", "mbox", "discard", "smtp", "lmtp") if name in table]
    if len(ways) != 1:
        raise UsageError(
            f"mail goes to {' and '.join(ways) or 'no place'}; choose one of maildir, mbox, discard, smtp and lmtp, "
            "as --maildir DIR, or in [deliver] of a file"
        )
    settings.deliver = way = ways[0]
    domains = table.texts("domains")
    if domains is not None:
        settings.domains = frozenset(domain_key(domain) for domain in domains)
    if way == "discard":
        if not table.flag("discard"):
            raise UsageError("deliver.discard is true, or not there")
    elif way in ("maildir", "mbox"):
        settings.place = place(table.text(way)) or ""
        recipient_field = table.one_of("recipient_field", ("Delivered-To", "X-Original-To", "none"), "none")
        settings.store_options = {
            "mode": int(table.one_of("mode", ("600", "640", "660"), "600"), 8),
            "follow_symlink": table.flag("follow_symlink"),
            "recipient_field": None if recipient_field == "none" else recipient_field,
        }
    else:
        _hop(settings, table, way, hostname, place)
    table.end()


def _hop(settings: Settings, table: _Table, way: str, hostname: str, place: Callable[[str | None], str | None]) -> None:
    name = table.name(way)
    address = parse_address(table.text(way) or "", name, 25 if way == "smtp" else 24)
    if address.path is not None:
        address = Address(path=place(address.path))
    elif address.port == 0:
        raise UsageError(f"{name} {address}: there is no port 0 to send to")
    settings.hop = address
    policy = table.one_of(
        "tls",
        ("off", "opportunistic", "required", "implicit"),
        "opportunistic" if way == "smtp" and address.path is None else "off",
    )
    config = ClientConfig(hostname, lmtp=way == "lmtp", drop_dsn=True)
    times = {f"{step}_timeout": _HOP_SECONDS.get(step, _HOP_STEP) for step in TIMERS}
    options: dict[str, Any] = {
        "config": config.replace(**times),
        "tls": policy,
        "connect_timeout": _HOP_STEP,
        "handshake_timeout": _HOP_STEP,
        "max_connections": table.whole("connections", 10) or 1,
    }
    if address.path is None:
        options |= {"host": address.host, "port": address.port}
    else:
        options["path"] = address.path
    user, password_file = table.text("user"), place(table.text("password_file"))
    if (user is None) != (password_file is None):
        raise UsageError(f"{table.name('user')} and {table.name('password_file')} go together")
    if password_file is not None:
        options["auth"] = (user, first_line(password_file, table.name("password_file")))
    settings.hop_options = options


def domain_key(domain: str) -> str:
    """A domain in the one form that is compared: A-labels, lower case."""
    return (domain_to_ascii(domain) or domain).lower()


def _listener(
    table: _Table,
    settings: Settings,
    engine: dict[str, Any],
    in_clear: bool,
    place: Callable[[str | None], str | None],
) -> Listening:
    where = table._where
    protocol: Any = table.one_of("protocol", tuple(PROTOCOLS), "smtp")
    path = place(table.text("path"))
    if path is not None and ("host" in table or "port" in table):
        raise UsageError(f"{where} has a path and a host or port; leave one of them away")
    if path is not None and not hasattr(socket, "AF_UNIX"):
        raise UsageError(f"{where}: this system has no Unix sockets; use host and port")
    port = table.whole("port", PROTOCOLS[protocol])
    if port > 65535:
        raise UsageError(f"{table.name('port')} is a whole number from 0 to 65535, not {port}")
    address = Address(table.text("host", "127.0.0.1") or "", port, path)
    mode = table.text("mode")
    if mode is not None and (path is None or not re.fullmatch("0?[0-7]{3}", mode)):
        raise UsageError(f'{table.name("mode")} is for a path, and like "660"')
    trusted = tuple(table.texts("trusted") or ())
    try:
        Networks(trusted)
    except LocalProtocolError as exc:
        raise UsageError(f"{where}: {exc}") from None
    fronts = {name: table.flag(name) for name in ("proxy", "xclient", "xforward")}
    on = [name for name, wanted in fronts.items() if wanted]
    if on and not trusted and path is None:
        raise UsageError(f"{table.name(on[0])} needs {table.name('trusted')}: the networks that may use it")
    options = dict(engine) | _role(protocol, settings, in_clear, path is not None, where)
    if table.flag("require_tls", bool(options.get("require_tls"))):
        if options["tls"] == "off":
            raise UsageError(f"{table.name('require_tls')} needs a certificate; give --cert, or [tls] in a file")
        options["require_tls"] = True
    options["proxy"] = fronts["proxy"]
    options["xclient"] = _XCLIENT if fronts["xclient"] else ()
    options["xforward"] = _XFORWARD if fronts["xforward"] else ()
    table.end()
    if protocol == "lmtp" and path is None and port == 25:
        raise UsageError(f"{where}: LMTP must not be served on port 25 (RFC 2033 5); choose another, as 24")
    try:
        config = ServerConfig(options.pop("hostname"), **options)
    except (EhloError, ValueError, TypeError) as exc:
        raise UsageError(f"{where}: {exc}") from None
    bits = None if mode is None else int(mode, 8)
    return Listening(protocol, address, config, trusted, config.tls != "off", bits, where)


def _role(protocol: Protocol, settings: Settings, in_clear: bool, local: bool, where: str) -> dict[str, Any]:
    """What makes a listener an MX, a submission server or a delivery agent (RFC 5321, 6409 and 8314, 2033)."""
    has_tls = settings.tls is not None
    if protocol in ("smtp", "lmtp"):
        return {"lmtp": protocol == "lmtp", "tls": "starttls" if has_tls and not local else "off"}
    if settings.users is None:
        raise UsageError(f"{where}: {protocol} needs users; give --users FILE, or auth.users in a file")
    if not has_tls and (protocol == "submissions" or not in_clear):
        raise UsageError(f"{where}: {protocol} needs a certificate; give --cert FILE, or tls.certificate in a file")
    mechanisms = (*(_SCRAM if settings.users.all_scram else ()), *_PASSWORD)
    if not has_tls:
        mechanisms = tuple(name for name in mechanisms if not name.endswith("-PLUS"))
    options: dict[str, Any] = {"submission": True, "auth": mechanisms, "max_messages": None}
    options["tls"] = "implicit" if protocol == "submissions" else "starttls" if has_tls else "off"
    if in_clear:
        options["auth_in_clear"] = tuple(name for name in mechanisms if not name.endswith("-PLUS"))
    elif protocol == "submission":
        options["require_tls"] = True  # 530 for what comes in clear says more than a list without AUTH
    return options


def _against_open_relay(settings: Settings) -> None:
    """A next hop takes what we bring it: so not everything is to be brought, and not by everybody (RFC 5321 7.9)."""
    if settings.deliver != "smtp" or settings.domains is not None:
        return
    for listener in settings.listeners:
        if listener.protocol in ("smtp", "lmtp") and listener.address.path is None:
            raise UsageError(
                f"{listener.where} would relay for everybody; name the domains you take mail for: "
                "--domain example.org, or deliver.domains in a file"
            )
