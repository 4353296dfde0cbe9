"""A listening server: what is the same whatever the event loop. Admission, counting, statistics, the end.

A backend's ``Server`` inherits from :class:`Listener`; it has the listening sockets and the tasks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from ehlo._core import ReceiveBuffer, Reply, ServerConfig
from ehlo._errors import LocalProtocolError
from ehlo._server.binding import bind_all, bind_path, inode_of
from ehlo._server.connection import Connection
from ehlo._server.deadlines import TICK
from ehlo._server.handler import HandlerPlan, plan_of
from ehlo._server.limits import Connections, Limits, Statistics
from ehlo._server.prepend import prepend_fields
from ehlo._server.submission import submission_fields
from ehlo._server.trust import Networks
from ehlo._sockets import address_of, duplicate, is_unix, no_delay
from ehlo._types import Wakeup

__all__ = ["Listener", "Setup", "make_server", "open_server"]

log: Final = logging.getLogger("ehlo")
# Seconds without accepting, after the system had no descriptor or no memory for one more connection.
_FULL_WAIT: Final = 1.0
# Options of the engine that a server's handler, sockets and certificate are chosen for.
_BUILT_FOR: Final = ("hostname", "lmtp", "tls", "auth", "submission", "proxy", "xclient", "xforward")

C = TypeVar("C", bound=Connection)
L = TypeVar("L", bound="Listener[Any]")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server is made of.

    Attributes:
        plan: the handler's methods.
        config: the settings of the engine, completed by the plan.
        limits: the limits of the adapter.
        tls: the context with the certificate; ``None`` without TLS.
        trusted: networks whose clients may name the real client.

    Example::

        Setup(plan_of(handler), ServerConfig(), Limits(), None, Networks(()))
    """

    plan: HandlerPlan
    config: ServerConfig
    limits: Limits
    tls: ssl.SSLContext | None
    trusted: Networks


class Listener(Generic[C]):
    """What :class:`ehlo.asyncio.Server` and :class:`ehlo.trio.Server` have in common.

    Arguments:
        setup: what it is made of.
        now: the clock, in seconds since any moment.

    Example::

        print(server.port, server.connections, server.statistics.messages)
    """

    def __init__(self, setup: Setup, now: Callable[[], float]) -> None:
        self._plan = setup.plan
        self._config = config = setup.config
        self._limits = setup.limits
        self._tls = setup.tls
        self._trusted = setup.trusted
        self._proxied = config.proxy
        self._fronted = bool(config.xclient or config.xforward)
        self._now = now
        self._budget()
        self._bye = Reply(421, "4.3.2", f"{config.hostname} Service shutting down")
        self._full = Reply(421, "4.3.2", f"{config.hostname} Too many connections, try again later").to_bytes()
        self._crowded = Reply(421, "4.7.0", f"{config.hostname} Too many connections from your network")
        self._live: set[C] = set()
        self._open = Connections()
        self._totals = Statistics()
        self._sockets: list[socket.socket] = []
        self._given: list[socket.socket] = []  # by the program, which may close them at any time
        self._addresses: tuple[tuple[str, int] | str, ...] = ()
        self._path: str | None = None
        self._inode: tuple[int, int] | None = None
        self._accepting = True
        self._cut_at = inf
        self._changed: Wakeup | None = None
        self._closed = self._make_event()

    def _budget(self) -> None:
        """What follows from the config and the limits."""
        config, limits = self._config, self._limits
        budgets = [limits.handler_seconds, limits.submission_handler_seconds if config.submission else None]
        self._handler_seconds = min((seconds for seconds in budgets if seconds is not None), default=None)
        self._slows = bool(config.auth) and limits.auth_delay_seconds > 0
        spans = [config.command_timeout, config.content_timeout]
        spans += [config.proxy_timeout] if config.proxy else []
        spans += [config.handshake_timeout] if self._tls is not None else []
        limited = (self._handler_seconds, limits.content_seconds, limits.session_seconds)
        self._tick = min(TICK, *spans, *(seconds for seconds in limited if seconds is not None))

    # ---- what the backend provides ---------------------------------------------------------------

    _make_event: Callable[[], Wakeup]
    # What all connections read into; nothing is awaited between the filling and the emptying.
    _buffer: ReceiveBuffer

    # Until so many seconds went by.
    _sleep: Callable[[float], Awaitable[object]]

    async def _wait(self, event: Wakeup, seconds: float) -> None:
        """Until the event is set or so many seconds went by."""
        raise NotImplementedError

    def _stop_listening(self) -> None:
        """Close the listening sockets."""
        raise NotImplementedError

    def _begin_to_close(self) -> None:
        """See to it that :meth:`_drain` runs, and then that ``_closed`` is set. Called once."""
        raise NotImplementedError

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def addresses(self) -> tuple[tuple[str, int] | str, ...]:
        """Where it listens: ``(address, port)`` for TCP, the path for a Unix socket."""
        return self._addresses

    @property
    def port(self) -> int:
        """The TCP port of the first listening socket.

        Raises:
            LocalProtocolError: it listens on a Unix socket only.

        Example::

            server = await ehlo.asyncio.serve(handler)     # port=0: the system chooses
            smtplib.SMTP("127.0.0.1", server.port)
        """
        for address in self._addresses:
            if isinstance(address, tuple):
                return address[1]
        raise LocalProtocolError("this server listens on a Unix socket: it has addresses, but no port")

    @property
    def connections(self) -> int:
        """Sessions open now."""
        return len(self._live)

    @property
    def config(self) -> ServerConfig:
        """The config of its sessions, completed by the handler's decisions."""
        return self._config

    @property
    def limits(self) -> Limits:
        """The limits of the adapter."""
        return self._limits

    @property
    def statistics(self) -> Statistics:
        """What the server has done so far, with the open sessions; a new object each time."""
        total = self._totals + Statistics(handler_failures=self._plan.failures)
        for connection in self._live:
            _count(total, connection)
        return total

    def reconfigure(self, config: ServerConfig | None = None, limits: Limits | None = None) -> None:
        """Give later connections another config, and all connections other limits. Sessions keep their config.

        Arguments:
            config: the new config. Limits, timeouts, leniencies and EHLO keywords may differ. ``None``: no change.
            limits: the new limits of the adapter. ``None``: no change.

        Raises:
            LocalProtocolError: the config differs in what the server was built for: the hostname, LMTP, TLS, AUTH,
                submission, or the trusted ways to name a client.

        Example::

            server.reconfigure(server.config.replace(max_message_size=1_000_000))
        """
        if config is not None:
            fresh = config.replace(decisions=self._plan.decisions, content=self._plan.content)
            for name in _BUILT_FOR:
                if getattr(fresh, name) != getattr(self._config, name):
                    raise LocalProtocolError(f"reconfigure: {name} cannot change; start another server")
            self._config = fresh
        if limits is not None:
            self._limits = limits
        self._budget()

    # ---- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        interrupted = exc is not None and not isinstance(exc, Exception)
        try:
            await self.close(0.0 if interrupted else 30.0)
        except BaseException:  # now it is: what goes on without us has no more time
            self._cut_at = self._now()
            self._signal()
            raise

    async def serve_forever(self) -> None:
        """Wait until :meth:`close` was called and is done. If this wait is cancelled, the server goes on.

        Example::

            async with await ehlo.asyncio.serve(handler, port=2525) as server:
                await server.serve_forever()
        """
        await self._closed.wait()

    async def close(self, deadline: float = 30.0) -> int:
        """Stop: accept no more connections, send ``421 4.3.2`` to idle clients, let open transactions end, then cut
        those that are left (RFC 5321 3.8).

        Safe to call again and from several tasks; a later call with a shorter deadline makes it end sooner. Cancelling
        it does not stop the closing.

        Arguments:
            deadline: seconds that open transactions have to end.

        Returns:
            The number of sessions that were cut in the end.

        Example::

            cut = await server.close(deadline=5)
        """
        self._cut_at = min(self._cut_at, self._now() + deadline)
        if self._accepting:
            self._accepting = False
            self._begin_to_close()
        self._signal()
        await self._closed.wait()
        return self._totals.cut

    async def _drain(self) -> None:
        self._stop_listening()
        self._unlink()
        for connection in tuple(self._live):
            connection.shutdown()
        while self._live and (left := self._cut_at - self._now()) > 0:
            await self._change(left)
        self._totals.cut += sum([connection.cut() for connection in tuple(self._live)])
        while self._live:  # they end in the next turns of the loop
            await self._change()

    def _unlink(self) -> None:
        if self._path is not None:
            if self._inode is not None and inode_of(self._path) == self._inode:  # else it is another server's
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            self._path = None

    async def _change(self, seconds: float = inf) -> None:
        """Until a session ended, the deadline was moved, or so many seconds went by."""
        self._changed = event = self._make_event()
        await self._wait(event, seconds)

    def _signal(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def _cannot_accept(self, exc: OSError) -> float:
        """There is no descriptor or no memory for one more. Gives the seconds after which to try again."""
        self._totals.accept_failures += 1
        log.error("cannot accept a connection: %s; trying again in %g s", exc.strerror or exc, _FULL_WAIT)
        return _FULL_WAIT

    # ---- called by connections -------------------------------------------------------------------

    def _admit(self, connection: C) -> bytes | None:
        """Count a new connection in, or say the octets that refuse it (RFC 5321 3.1, 3.8): none to one who is not
        trusted to say who the client is (PROXY protocol 2)."""
        limits = self._limits
        if self._proxied and not connection._is_trusted():  # S-PXY-01
            self._totals.refused_proxy += 1
            self._turned_away(connection.peer(), "not among the trusted proxies", logging.WARNING)
            return b""
        silent = self._config.tls == "implicit"  # what is said before TLS would be in clear (RFC 8314 3.3)
        if not self._accepting or (limits.max_connections is not None and self._open.total >= limits.max_connections):
            self._totals.refused += 1
            self._turned_away(connection.peer(), "too many connections")
            return b"" if silent else self._full
        if not self._proxied:  # else it is known later which network the client is of
            refusal = self._admit_client(connection, connection.peer())
            if refusal is not None:
                return b"" if silent else refusal.to_bytes()
        self._live.add(connection)
        self._open.total += 1
        return None

    def _turned_away(self, peer: tuple[str, int] | None, reason: str, level: int = logging.INFO) -> None:
        """Log it, since no session was begun, and no handler hears of it. The record has the attributes ``client``
        and ``reason``."""
        if log.isEnabledFor(level):
            told = {"client": peer, "reason": reason}
            log.log(level, "turned away the client at %s: %s", peer or "a Unix socket", reason, extra=told)

    def _admit_client(self, connection: Connection, peer: tuple[str, int] | None) -> Reply | None:
        """Count a client in, or say the reply that refuses it instead of a greeting."""
        limits = self._limits
        if limits.max_connections_per_network is not None:
            network = None if peer is None else limits.network_of(peer[0])
            if network is not None:
                count = self._open.networks.get(network, 0)
                if count >= limits.max_connections_per_network:
                    self._totals.refused_network += 1
                    self._turned_away(peer, "too many connections from its network")
                    return self._crowded
                self._open.networks[network] = count + 1
                connection._network = network
        self._totals.connections += 1
        return None

    def _forget(self, connection: C) -> None:
        if connection in self._live:
            self._live.remove(connection)
            self._open.total -= 1
        _count(self._totals, connection)
        network = connection._network
        if network is not None:
            count = self._open.networks[network] - 1
            if count:
                self._open.networks[network] = count
            else:
                del self._open.networks[network]
        self._signal()


def _count(total: Statistics, connection: Connection) -> None:
    conn = connection._conn
    total.messages += conn.messages
    total.commands += conn.commands
    total.errors += conn.errors
    if conn.refused:
        refusals = conn.refusals
        total.refused_greetings += refusals["connect"]
        total.refused_auth += refusals["auth"]
        total.refused_mail += refusals["mail"]
        total.refused_rcpt += refusals["rcpt"]
        total.refused_content += refusals["content"]
        total.refused_commands += refusals["other"]
    total.octets += connection._octets + conn.octets_exchanged


# ---- before it listens ---------------------------------------------------------------------------


def make_server(
    kind: Callable[[Setup], L],
    handler: object,
    config: ServerConfig | None,
    limits: Limits | None,
    tls: ssl.SSLContext | None,
    trusted: Iterable[str],
    only_unix: bool,
    own_tls: bool = True,
) -> L:
    """Look at handler and settings, and make a server of them that has no socket yet.

    Arguments:
        kind: the backend's ``Server``.
        only_unix: all its connections come over Unix sockets, whose files say who is trusted.
        own_tls: TLS is ours. Otherwise the program's transport may have it, and ``tls`` may be ``None``.

    Raises:
        LocalProtocolError: the handler or the combination of settings makes no sense.

    Example::

        server = make_server(Server, handler, None, None, None, (), only_unix=False)
    """
    plan = plan_of(handler)
    if config is None:  # a handler may bring its own
        own = getattr(handler, "config", None)
        config = own if isinstance(own, ServerConfig) else ServerConfig()
    wanted = config.content
    config = config.replace(decisions=plan.decisions, content=plan.content)
    if config.dsn is None:  # who offers DSN owes the notifications (RFC 3461 4.1)
        config = config.replace(dsn=getattr(handler, "reports_delivery", None) is True)
    if tls is None and config.tls != "off" and (own_tls or config.tls == "starttls"):
        raise LocalProtocolError(f'serve: ServerConfig(tls="{config.tls}") needs an ssl.SSLContext: give tls=')
    if tls is not None and config.tls == "off":
        config = config.replace(tls="starttls")
    plan.hostname = config.hostname
    if config.submission:  # RFC 6409 8.2, 8.3
        plan.complete = partial(_complete, config.hostname)
    if config.auth and plan.on_auth is None and plan.on_sasl is None:
        raise LocalProtocolError("serve: ServerConfig(auth=…) needs a handler with on_auth, or nobody ever gets in")
    networks = Networks(trusted)
    # Whom the file of a Unix socket lets in is trusted; elsewhere somebody has to be named (S-PXY-01, S-PXY-13).
    fronts = [name for name in ("proxy", "xclient", "xforward") if getattr(config, name)]
    if fronts and not networks and not only_unix:
        raise LocalProtocolError(
            f"serve: ServerConfig({fronts[0]}=…) is for clients of trusted networks only: name them, "
            'as trusted=["127.0.0.1", "10.0.0.0/8"]'
        )
    if plan.on_message is None and plan.on_body is None and wanted != "discard":
        raise LocalProtocolError(
            f"serve: {type(handler).__name__} has neither on_message nor on_body: every message would be accepted and "
            'thrown away. If that is wanted, say ServerConfig(content="discard")'
        )
    return kind(Setup(plan, config, limits if limits is not None else Limits(), tls, networks))


async def open_server(
    kind: Callable[[Setup], L],
    getaddrinfo: Callable[..., Awaitable[Sequence[Any]]],
    handler: object,
    host: str | Sequence[str] | None,
    port: int,
    config: ServerConfig | None,
    limits: Limits | None,
    sockets: Iterable[socket.socket] | None,
    path: str | os.PathLike[str] | None,
    reuse_port: bool,
    tls: ssl.SSLContext | None,
    trusted: Iterable[str],
    connections: Connections | None,
) -> L:
    """Look at the arguments of ``serve``, and make a server of them. Its sockets are bound, but do not listen yet.

    Arguments:
        kind: the backend's ``Server``.
        getaddrinfo: the backend's own, as :func:`socket.getaddrinfo` but awaitable.
        handler, host, port, config, limits, sockets, path, reuse_port, tls, trusted,
            connections: as ``serve`` has them.

    Raises:
        LocalProtocolError: the handler or the combination of arguments makes no sense; LMTP on port 25 (RFC 2033 5).
        OSError: the address is taken, not ours or not allowed; the name is not known.

    Example::

        server = await open_server(Server, trio.socket.getaddrinfo, handler, host, 25, ...)
    """
    given = None if sockets is None else list(sockets)
    if given is not None and path is not None:
        raise LocalProtocolError("serve: give sockets or path, not both")
    if given == []:
        raise LocalProtocolError("serve: sockets is empty; give at least one, or host and port")
    only_unix = path is not None or (given is not None and all(is_unix(sock) for sock in given))
    server = make_server(kind, handler, config, limits, tls, trusted, only_unix)
    if server._config.lmtp and path is None:
        names = [("", port)] if given is None else [sock.getsockname() for sock in given]
        if any(isinstance(name, tuple) and name[1] == 25 for name in names):  # B-LMT-10, RFC 2033 5
            raise LocalProtocolError("serve: LMTP must not be served on port 25 (RFC 2033 5); choose another, as 24")
    if connections is not None:
        server._open = connections
    if given is not None:
        server._given = given
        try:
            for sock in given:
                server._sockets.append(duplicate(sock))
        except BaseException:
            for sock in server._sockets:
                sock.close()
            raise
    elif path is not None:
        server._path = os.fspath(path)
        server._sockets = [bind_path(server._path)]
        server._inode = inode_of(server._path)
    else:
        server._sockets = await _bind(getaddrinfo, host, port, reuse_port)
    for sock in server._sockets:
        no_delay(sock)
    server._addresses = tuple(address_of(sock.getsockname()) for sock in server._sockets)
    return server


def _complete(hostname: str, content: bytes) -> bytes:
    return prepend_fields(submission_fields(content, domain=hostname, now=datetime.now(UTC)), content)


async def _bind(
    getaddrinfo: Callable[..., Awaitable[Sequence[Any]]], host: str | Sequence[str] | None, port: int, reuse_port: bool
) -> list[socket.socket]:
    infos: dict[tuple[Any, ...], None] = {}
    for one in [host] if host is None or isinstance(host, str) else host:
        found = await getaddrinfo(one or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        infos.update(dict.fromkeys((family, proto, address) for family, _, proto, _, address in found))
    return bind_all(infos, reuse_port)
