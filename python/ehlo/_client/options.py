"""The arguments of ``connect`` and ``Pool`` of every backend, checked once. No I/O, no event loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypedDict

from ehlo._core import ClientConfig, ProxyHeader
from ehlo._errors import EhloError, LocalProtocolError, SMTPConnectError, SMTPTimeoutError
from ehlo._idna import domain_to_ascii

if TYPE_CHECKING:  # a program that uses neither TLS nor AUTH does not pay for their import
    import ssl

    from ehlo._client.login import Login, LoginLike

__all__ = ["NAME_SECONDS", "ConnectOptions", "Opening", "PoolOptions", "hostname_of", "tick_of"]

# A backend looks at the time at least this often, in seconds.
_TICK: Final = 30.0
# The same where the program gave the socket: it may close it at any time, and no event tells that.
_LOOK: Final = 1.0
# The longest wait for this machine's name, in seconds. A client without a name says its address (RFC 5321 4.1.4).
NAME_SECONDS: Final = 3.0
_POLICIES: Final = ("off", "opportunistic", "required", "implicit")


class PoolOptions(TypedDict, total=False):
    """The keyword arguments that ``connect`` and ``Pool`` have in common, on every backend.

    Attributes:
        config: the settings of the engine, with its timeouts (RFC 5321 4.5.3.2).
        hostname: the name for EHLO; by default that of ``config``. If that is "localhost", it is the domain name of
            this machine. Without such a name it is the literal of the connection's own address (RFC 5321 4.1.4).
        path: the path of a Unix socket, in place of ``host``.
        source_address: the address, or address and port, to connect from.
        tls: "off"; "opportunistic": STARTTLS if the server offers it; "required": STARTTLS before AUTH and MAIL, or an
            error (RFC 3207); "implicit": TLS before the greeting (RFC 8314 3.3). By default that of ``config``, which
            is "off". A handshake that fails is an error. The client never tries again in clear text by itself.
        ssl_context: the context of the handshake. By default the certificate and the host name are verified (C-TLS-25,
            RFC 8314 5.3). With "opportunistic" and without ``auth`` they are not: see
            :func:`ehlo.unverified_context`.
        server_hostname: the name for SNI, and the name that the certificate must have; by default ``host``.
        handshake_timeout: seconds for the TLS handshake.
        auth: a :class:`ehlo.Login`, or a user name and a password, for AUTH directly after EHLO (RFC 4954).
        proxy: the header of the PROXY protocol to send first, before TLS too (C-PXY-12).
        proxy_version: the version of that header, 1 or 2.
        connect_timeout: seconds to look up this machine's name and to connect by TCP, both together; ``None``: as
            long as the system tries.
        trace: a function that gets each new part of the dialogue, without content and secrets.
    """

    config: ClientConfig | None
    hostname: str | None
    path: str | os.PathLike[str] | None
    source_address: str | tuple[str, int] | None
    tls: Literal["off", "opportunistic", "required", "implicit"] | None
    ssl_context: ssl.SSLContext | None
    server_hostname: str | None
    handshake_timeout: float
    auth: LoginLike | None
    proxy: ProxyHeader | None
    proxy_version: Literal[1, 2]
    connect_timeout: float | None
    trace: Callable[[str], object] | None


class ConnectOptions(PoolOptions, total=False):
    """The keyword arguments of ``connect``.

    Attributes:
        sock: a connected stream socket, in place of ``host``.
    """

    sock: socket.socket | None


class Opening:
    """All that is needed to open a connection, and to open it again. The arguments are those of ``connect``.

    Raises:
        LocalProtocolError: their combination makes no sense.

    Example::

        Opening("mx.example", 587, tls="required").where  # "mx.example:587"
    """

    __slots__ = (
        "_context",
        "auth",
        "config",
        "connect_timeout",
        "fqdn",
        "handshake_timeout",
        "host",
        "path",
        "port",
        "proxy",
        "server_hostname",
        "sock",
        "source_address",
        "tick",
        "tls",
        "trace",
        "trusted",
    )

    def __init__(
        self,
        host: str | None,
        port: int | None,
        *,
        config: ClientConfig | None = None,
        hostname: str | None = None,
        path: str | os.PathLike[str] | None = None,
        sock: socket.socket | None = None,
        source_address: str | tuple[str, int] | None = None,
        tls: Literal["off", "opportunistic", "required", "implicit"] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        handshake_timeout: float = 60.0,
        auth: LoginLike | None = None,
        proxy: ProxyHeader | None = None,
        proxy_version: Literal[1, 2] = 2,
        connect_timeout: float | None = 30.0,
        trace: Callable[[str], object] | None = None,
    ) -> None:
        if (host is not None) + (path is not None) + (sock is not None) != 1:
            raise LocalProtocolError("connect: give a host, or path, or sock")
        if host is not None:
            host = _checked_host(host)
        if port is not None and not 0 < port <= 65535:
            raise LocalProtocolError(f"connect: port must be 1 to 65535, not {port}")
        config = _DEFAULT if config is None else config
        self.tls = config.tls if tls is None else tls
        if self.tls not in _POLICIES:
            raise LocalProtocolError(
                f"connect: tls is one of {', '.join(_POLICIES)}, not {self.tls!r}; a context is given as ssl_context"
            )
        # Implicit TLS begins before the engine.
        wanted = "off" if self.tls == "implicit" else self.tls
        if config.tls != wanted:
            config = config.replace(tls=wanted)
        # This machine's own name is asked for when it is needed.
        self.fqdn: str | None = None if hostname is not None or config.hostname != "localhost" else _own_name or ""
        self.config: ClientConfig = config if hostname is None else config.replace(hostname=hostname)
        self.host: str | None = host
        # LMTP has no port of its own; 25 it must not be (RFC 2033 5).
        self.port: int = port if port is not None else 465 if self.tls == "implicit" else 24 if config.lmtp else 25
        self.path: str | None = None if path is None else os.fspath(path)
        self.sock: socket.socket | None = sock
        self.source_address: tuple[str, int] | None = (
            (source_address, 0) if isinstance(source_address, str) else source_address
        )
        self.auth: Login | None = None if auth is None else _login_of(auth)
        # TLS with an unverified server helps only against listeners (RFC 7435). It is no protection for passwords.
        self.trusted: bool = ssl_context is not None or self.tls != "opportunistic" or auth is not None
        self._context = ssl_context
        name = server_hostname if server_hostname is not None else (host or "").partition("%")[0].rstrip(".")
        name = domain_to_ascii(name) or name
        self.server_hostname: str | None = name or None
        if self.tls != "off" and not name and (ssl_context.check_hostname if ssl_context is not None else self.trusted):
            raise LocalProtocolError("connect: TLS needs a server_hostname to verify the certificate by (RFC 8314 5.3)")
        if self.tls != "off":
            _check_tls(ssl_context, self.server_hostname)
        self.handshake_timeout: float = handshake_timeout
        self.proxy: bytes = b""
        if proxy is not None:
            if proxy_version == 1 and not isinstance(proxy.source, tuple):
                raise LocalProtocolError("connect: a PROXY header of version 1 has addresses, not UNKNOWN (2.1)")
            self.proxy = proxy.to_bytes(proxy_version)
        self.connect_timeout: float | None = connect_timeout
        self.trace: Callable[[str], object] | None = trace
        self.tick: float = min(tick_of(config), handshake_timeout if self.tls != "off" else _TICK)
        if sock is not None:
            self.tick = min(self.tick, _LOOK)

    @property
    def where(self) -> str:
        """The address of the server, as text for people."""
        if self.host is not None:
            return f"{self.host}:{self.port}"
        return self.path if self.path is not None else "the socket's peer"

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the handshake."""
        if self._context is None:
            import ssl

            from ehlo._tls import unverified_context

            self._context = ssl.create_default_context() if self.trusted else unverified_context()
        return self._context

    async def learn_own_name(self, in_thread: Callable[[Callable[[], str]], Awaitable[str]]) -> None:
        """Ask for the name of this machine, if it is needed and nobody has asked before. The DNS may be slow: after
        some seconds the client goes on without a name.

        Arguments:
            in_thread: runs a function in a thread, and waits for it at most :data:`NAME_SECONDS`; raises
                :class:`TimeoutError` when that is over.
        """
        global _own_name
        if self.fqdn == "":
            if _own_name is None:
                try:
                    _own_name = await in_thread(socket.getfqdn)
                except TimeoutError:
                    return  # the next connection asks again
            self.fqdn = _own_name

    def named_config(self, sockname: Callable[[], object]) -> ClientConfig:
        """The config with the name that the client says in its hello (C-CLI-05, RFC 5321 4.1.4).

        Arguments:
            sockname: ``getsockname`` of the connected socket.
        """
        if self.fqdn is None:
            return self.config
        address = sockname()
        return _named(self.config, self.fqdn, (address[0], 0) if isinstance(address, tuple) else None)

    def failed(self, exc: Exception) -> NoReturn:
        """Raise the exception for an error of the system, or for ``connect_timeout``."""
        if not isinstance(exc, OSError) or isinstance(exc, TimeoutError):
            own = self.connect_timeout is not None and getattr(exc, "errno", None) is None
            late = f"no answer in {self.connect_timeout:g} s" if own else "no answer"
            raise SMTPTimeoutError(f"cannot connect to {self.where}: {late}") from exc
        cause: BaseException = exc
        if exc.errno is None and isinstance(exc.__cause__, OSError | BaseExceptionGroup):  # one of several addresses
            cause = exc.__cause__
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
        reason = (cause.strerror if isinstance(cause, OSError) else None) or cause
        raise SMTPConnectError(f"cannot connect to {self.where}: {reason}") from cause


_own_name: str | None = None
_DEFAULT: Final = ClientConfig()


# What follows is asked again for each connection, and most programs connect to few hosts.
@lru_cache(maxsize=256)
def _checked_host(host: str) -> str:
    """``host`` in ASCII, if it can be a name or an address at all (RFC 1035 2.3.4)."""
    name = domain_to_ascii(host)
    if name is None:
        raise LocalProtocolError(f"connect: {host!r} is no host name: it has no A-labels (RFC 5891)")
    labels = name.removesuffix(".").split(".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 254:
        raise LocalProtocolError(f"connect: {host!r} is no host name: a label has 1 to 63 octets (RFC 1035 2.3.4)")
    if not name.isprintable() or " " in name:
        raise LocalProtocolError(f"connect: {host!r} is no host name: it has a space or a control character")
    return name


def _login_of(auth: LoginLike) -> Login:
    from ehlo._client.login import login_of

    return login_of(auth)


def _check_tls(context: ssl.SSLContext | None, server_hostname: str | None) -> None:
    """Whether a handshake can begin: what is wrong here is the program's mistake, not the server's."""
    import ssl

    from ehlo._tls import Tls, reason_of

    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # this one costs little: it has no certificates
    try:
        Tls(context, server_side=False, server_hostname=server_hostname)
    except (ValueError, TypeError, OSError) as exc:  # ssl.SSLError is an OSError
        raise LocalProtocolError(f"connect: TLS cannot begin with these arguments: {reason_of(exc)}") from exc


@lru_cache(maxsize=64)
def _named(config: ClientConfig, fqdn: str, address: tuple[str, int] | None) -> ClientConfig:
    return config.replace(hostname=hostname_of(fqdn, address))


def hostname_of(fqdn: str, address: object) -> str:
    """What a client calls itself: its domain name, or the literal of its own address where it has none (C-CLI-05,
    RFC 5321 4.1.4).

    Arguments:
        fqdn: what ``socket.getfqdn()`` gives.
        address: what ``getsockname()`` of the connected socket gives.

    Example::

        hostname_of("box", ("192.0.2.1", 40000))  # "[192.0.2.1]"
    """
    name = fqdn.rstrip(".")
    if "." in name and not name.startswith("localhost."):
        try:
            return ClientConfig(name).hostname
        except (EhloError, ValueError):  # an underscore, or what else hosts are called
            pass
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0]).partition("%")[0]
        return f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    return "localhost"


@lru_cache(maxsize=64)
def tick_of(config: ClientConfig) -> float:
    """Seconds between two looks of a timer at a connection, so that none of the config's timers is missed.

    That of QUIT is left out: it is told with :meth:`ehlo._client.driver.ClientDriver.hurry`.
    """
    return min(
        _TICK,
        config.greeting_timeout,
        config.hello_timeout,
        config.mail_timeout,
        config.rcpt_timeout,
        config.data_timeout,
        config.content_timeout,
        config.end_of_data_timeout,
        config.reset_timeout,
        config.other_timeout,
    )
