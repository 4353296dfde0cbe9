"""One connection of a listening adapter: what is the same whatever moves the octets and keeps the time.

A backend's class inherits from :class:`Connection` and has the socket, the deadline and the tasks. It provides the
methods under "what the backend provides", and calls the others. No I/O, no event loop; time is told, as in the engine.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import ClientAttributes, ProxyHeader, Reply, ServerConfig, ServerConnection
from ehlo._hooks import by_signal
from ehlo._server.answers import Call
from ehlo._server.deadlines import Deadlines
from ehlo._server.driver import ServerDriver
from ehlo._server.owner import Owner
from ehlo._server.session import hides_client
from ehlo._sockets import address_of
from ehlo._tls import Tls, reason_of
from ehlo._types import ServerEvent, Wakeup

__all__ = ["HANDLER", "WRITING", "Connection"]

log: Final = logging.getLogger("ehlo")

# With this much unread by the engine, and a handler that keeps the session waiting, reading stops. In octets.
_QUEUE: Final = 65536
# After these reasons (ehlo.Disconnect) no reply can be lost, even if the peer still sends: close without lingering.
_CLEAN: Final = frozenset(("quit", "eof", "shutdown", "tls"))
# Why reading is paused; bits of Connection._pauses. The values from 4 on are the backend's own.
WRITING, HANDLER = 1, 2


class Connection(Deadlines):
    """One session between a backend's transport and the driver, which takes it for its adapter.

    Example::

        class ServerProtocol(Connection, asyncio.BufferedProtocol): ...
    """

    __slots__ = (
        "_advancing",
        "_closing",
        "_eof",
        "_lost",
        "_network",
        "_octets",
        "_pauses",
        "_tls",
    )

    _server: Owner
    _driver: ServerDriver

    def __init__(self, server: Owner) -> None:
        super().__init__(server)
        self._advancing = False
        self._closing = False
        self._eof = False
        self._lost = False
        self._octets = 0
        self._pauses = 0
        self._network: str | None = None
        self._tls: Tls | None = None

    # ---- what the backend provides ---------------------------------------------------------------

    if TYPE_CHECKING:
        # One write for all replies of a wake-up (RFC 2920 3.2). What the kernel does not take, the backend keeps.
        _write: Callable[[bytes], object]

    def _name(self, end: str) -> Any:
        """What ``getpeername`` ("peername") and ``getsockname`` ("sockname") give. Never raises."""
        raise NotImplementedError

    def _start(self, call: Call) -> None:
        """Await the call in a task, tell it the result, then say :meth:`_called`."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        raise NotImplementedError

    def _go_on_reading(self) -> None:
        raise NotImplementedError

    def _close(self, linger: float) -> None:
        """Send what is left and close. With ``linger``, in seconds, send FIN first and read (and discard) so long."""
        raise NotImplementedError

    def _abort(self) -> None:
        """Close now; what is not sent is lost."""
        raise NotImplementedError

    # ---- for the driver --------------------------------------------------------------------------

    def peer(self) -> tuple[str, int] | None:
        name = address_of(self._name("peername"))
        return name if isinstance(name, tuple) else None

    def local(self) -> tuple[str, int] | str | None:
        return address_of(self._name("sockname")) or None

    def make_event(self) -> Wakeup:
        return self._server._make_event()

    def wake(self) -> None:
        self._held_since = self._server._now()  # the handler did something: its time begins anew
        self._advance()

    # ---- life ------------------------------------------------------------------------------------

    def _open(self) -> None:
        """The connection was admitted: begin a session. Then ``_advance``, for the greeting."""
        server = self._server
        self._conn = conn = ServerConnection(self._config_of_session())
        self._driver = driver = self._make_driver(conn)
        if server._proxied:
            driver.judge_proxy = self._judge_proxy
        if server._fronted:
            conn.trusted = self._is_trusted()
            driver.judge_xclient = self._judge_xclient
        if server._slows:
            driver.slow_down = self._slow_down
        self._seen = self._born = self._phase_since = server._now()
        self._phase = (0, conn.handshaking)

    def _config_of_session(self) -> ServerConfig:
        return self._server._config

    def _make_driver(self, conn: ServerConnection) -> ServerDriver:
        return ServerDriver(conn, self._server._plan, self)

    def _advance(self, event: ServerEvent | None = None) -> None:
        """Handle all that can be handled now, then write once."""
        if self._advancing:  # a handler that ended while it was being started: the loop below goes on
            return
        driver = self._driver
        self._advancing = True
        try:
            while (call := driver.step(event)) is not None:
                event = None
                self._held_since = self._server._now()  # each call has its own time
                self._start(call)
        except BaseException as exc:
            if by_signal(exc):
                self._interrupt()
            raise
        finally:
            self._advancing = False
        if self._lost:
            return
        conn = self._conn
        out = conn.data_to_send()
        if out:
            if self._tls is None:
                self._write(out)
            else:
                self._send(out)
        if conn.handshaking and self._tls is None:
            self._end_hold()  # reading may have stopped while a handler worked, and the handshake has to be read
            self._begin_tls()
            return
        if driver.blocked:
            conn.held = True
            if self._held_since is None:
                self._held_since = self._server._now()
            if conn.buffered >= _QUEUE:
                self._pause(HANDLER)
        else:
            self._end_hold()
        if conn.closed and not self._closing:
            self._closing = True
            if driver.reason == "protocol" and self._server._proxied and conn.proxy is None:
                log.warning("closed the connection of the proxy at %s: it sent no good PROXY header", self.peer())
            # After a 421 that the peer may not expect, read on for a moment, so that what it is still sending does
            # not make its kernel throw the reply away.
            self._end_tls()
            clean = self._eof or driver.reason in _CLEAN
            self._close(0.0 if clean else self._server._limits.linger_seconds)

    def _interrupt(self) -> None:
        """A signal has interrupted a function of the program: what the client asked for will not be answered."""
        if not self._lost:
            self._server._totals.cut += self.cut()

    def _end_hold(self) -> None:
        """No handler keeps the session waiting. The time that the program took is not the client's (S-SES-41)."""
        if self._held_since is not None:
            self._held_since = None
            self._conn.held = False
            self._seen = self._phase_since = self._server._now()
            if self._pauses & HANDLER:
                self._resume(HANDLER)

    def _end_of_input(self) -> None:
        """The client sends no more (FIN). What a handler has still to answer is sent first; then we close."""
        if self._tls is not None and not self._tls.ended:
            self._tls.receive_eof()
            self._tls.ended = True
        self._eof = True
        self._seen = self._server._now()
        self._conn.receive_eof()
        self._advance()

    def _called(self) -> None:
        """A call is over: go on."""
        if not self._advancing:
            self._advance()
            self._dispose()

    def _gone(self, why: str) -> None:
        """The transport is closed: cancel the handler, and let it say goodbye (RFC 5321 4.1.1.10)."""
        self._lost = True
        self._server._forget(self)
        if self._driver.over:
            self._driver.detach()
            return
        self._held_since = self._server._now()
        for call in self._driver.lost():
            if call.cancel is not None:
                call.cancel(why)
        self._advance()
        self._dispose()

    def _dispose(self) -> None:
        """After the last call of a lost connection: no reference cycle is left for the collector."""
        if self._lost and not self._driver.busy:
            self._driver.detach()

    def _pause(self, why: int) -> None:
        if not self._pauses and not self._closing:
            self._stop_reading()
        self._pauses |= why

    def _resume(self, why: int) -> None:
        if self._pauses & why:
            self._pauses &= ~why
            if not self._pauses and not self._lost:
                self._go_on_reading()
                if self._tls is not None:
                    self._decrypt(self._tls)

    # ---- who the client is -----------------------------------------------------------------------

    def _is_trusted(self) -> bool:
        """Whether the socket's peer may name the real client. Its address decides. On a Unix socket the permissions of
        the file have decided."""
        peer = self.peer()
        if peer is not None:
            return peer[0] in self._server._trusted
        return isinstance(self._name("sockname"), str | bytes)

    def _judge_proxy(self, header: ProxyHeader) -> Reply | None:
        """The client is known now: decide again everything that was decided by the address of the proxy (S-PXY-11)."""
        server, source = self._server, header.source
        if hides_client(header):  # it counts at the proxy's address, and has no right of it
            self._conn.trusted = False
            return server._admit_client(self, self.peer())
        if not isinstance(source, tuple):  # LOCAL: the proxy itself
            return server._admit_client(self, self.peer())
        if server._fronted:
            self._conn.trusted = source[0] in server._trusted
        return server._admit_client(self, source)

    def _judge_xclient(self, said: ClientAttributes) -> bool:
        """Trust is judged anew by the new address (S-PXY-16). A client whose address is not to be known has none."""
        if said.addr is not None:
            return said.addr in self._server._trusted
        return "ADDR" not in said.unavailable and self._conn.trusted

    def _slow_down(self, failures: int) -> Awaitable[object]:
        return self._server._sleep(self._server._limits.auth_delay(failures))

    # ---- TLS -------------------------------------------------------------------------------------

    def _send(self, octets: bytes) -> None:
        """``_write``, through TLS where there is TLS."""
        tls = self._tls
        if tls is None:
            self._write(octets)
        elif tls.established:
            tls.write(octets)
            self._write(tls.data_to_send())

    def _begin_tls(self) -> None:
        """The engine waits for the handshake: what comes now is the client's part of it (RFC 3207 4, RFC 8314 3.3)."""
        context = self._server._tls
        assert context is not None, "without a context TLS is not offered: see open_server"
        self._tls = Tls(context, server_side=True)
        self._phase, self._phase_since = (self._conn.commands, True), self._server._now()
        self._receive_tls(self._conn.take_tls_input())

    def _receive_tls(self, octets: bytes | memoryview) -> None:
        """Octets of the transport came, and TLS is active or about to be."""
        tls = self._tls
        assert tls is not None
        tls.receive(octets)
        if tls.established:
            self._seen = self._server._now()
            self._decrypt(tls)
        else:
            self._shake_hands(tls)

    def _shake_hands(self, tls: Tls) -> None:
        try:
            done = tls.shake_hands()
        except (ssl.SSLError, OSError) as exc:
            self._write(tls.data_to_send())  # the alert that says so
            self._driver.tls_failed(reason_of(exc))
            self._advance()
            return
        out = tls.data_to_send()
        if out:
            self._write(out)
        if done:
            self._seen = self._server._now()
            binding = tls.channel_binding
            self._driver.tls_established(
                tls.object,
                channel_bindings=None if binding is None else {"tls-unique": binding},
                certificate=tls.object.getpeercert() or None,  # an empty one was not verified
            )
            self._advance()
            self._decrypt(tls)

    def _decrypt(self, tls: Tls) -> None:
        """Give the engine what has come inside TLS, while it takes it."""
        conn, buffer = self._conn, self._server._buffer
        try:
            for count in tls.read(buffer.view):
                conn.receive_from(buffer, count)
                self._advance()
                if self._pauses or self._closing:
                    return
        except ssl.SSLError as exc:
            log.info("TLS with %s broke: %s", self.peer() or "a client", reason_of(exc))
            self._abort()
            return
        if tls.ended and not self._closing and not self._eof:
            self._end_of_input()

    def _end_tls(self) -> None:
        tls = self._tls
        if tls is not None and tls.established:
            tls.close()
            self._write(tls.data_to_send())

    # ---- the server's side -----------------------------------------------------------------------

    def shutdown(self) -> None:
        """421 now or after the transaction (RFC 5321 3.8)."""
        if not self._closing:
            self._conn.shutdown()
            self._advance()
        elif not self._lost:
            self._close(0.0)

    def cut(self) -> bool:
        """End at once, with a 421 where one still gets through. True if a session was still going on."""
        conn = self._conn
        going_on = not (self._closing or conn.closed)
        if not self._closing:
            self._closing = True
            conn.shutdown()
            out = conn.data_to_send()
            if not conn.closed:  # inside a transaction the engine would wait for its end
                out += self._server._bye.to_bytes()
            self._send(out)
        self._abort()
        return going_on
