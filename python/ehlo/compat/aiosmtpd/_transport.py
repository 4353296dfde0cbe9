"""The ends of a connection of this shape: TLS that is told to the handler, the PROXY header, ``_writer``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import ServerConnection
from ehlo._hooks import await_hook, call_hook
from ehlo._server.adapter import Adapter
from ehlo._server.driver import ServerDriver
from ehlo._server.handler import HandlerPlan
from ehlo.asyncio._server_protocol import ServerProtocol
from ehlo.compat.aiosmtpd._session import MISSING, TLSSetupException
from ehlo.compat.aiosmtpd.proxy_protocol import ProxyData, read_header

__all__ = ["EARLY", "Driver", "ProxyFront", "Writer"]

# What may come before the session, and inside TLS before the program's own handshake has returned. In octets.
EARLY: Final = 65536

log: Final = logging.getLogger("mail.log")


class Writer:
    """The end of a connection that is written to, as an :class:`asyncio.StreamWriter` has it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    @property
    def _transport(self) -> asyncio.Transport:
        return self.transport

    @_transport.setter
    def _transport(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def write(self, data: bytes) -> None:
        """Send octets."""
        self.transport.write(data)

    def close(self) -> None:
        """Send what is left, and close."""
        self.transport.close()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport has it."""
        return self.transport.get_extra_info(name, default)

    async def drain(self) -> None:
        """The adapter stops reading while the client does not read, so there is nothing to wait for."""


class Driver(ServerDriver):
    """A driver that tells the protocol of TLS."""

    __slots__ = ("_server",)

    def __init__(self, conn: ServerConnection, plan: HandlerPlan, adapter: Adapter, server: Any) -> None:
        super().__init__(conn, plan, adapter)
        self._server = server

    def tls_established(
        self, tls: object = None, *, channel_bindings: Mapping[str, bytes] | None = None, certificate: object = None
    ) -> None:
        server: Any = self._server
        if server._transport_tls is not None:  # it was there before the session
            super().tls_established(tls, channel_bindings=channel_bindings, certificate=certificate)
            return
        server._begin_session()
        server._s.ssl = {"ssl_object": tls, "peercert": certificate}
        server._tls_protocol = tls
        hook = server._handle_hooks.get("STARTTLS")
        try:
            server._tls_handshake_okay = hook is None or bool(call_hook(hook, server, server.session, server.envelope))
        except Exception:
            log.exception("%r handle_STARTTLS failed", server._s.peer)
            server._tls_handshake_okay = False
        if server._tls_handshake_okay:
            super().tls_established(tls, channel_bindings=channel_bindings, certificate=certificate)
        else:  # RFC 3207 4.1
            self.conn.tls_established(too_weak=True)
        server._handshake_over()

    def tls_failed(self, reason: object) -> None:
        super().tls_failed(reason)
        server: Any = self._server
        if server._handshake_over(TLSSetupException(reason)):
            return
        task = server.loop.create_task(server._tls_failure(reason))
        server._room._tasks.add(task)
        task.add_done_callback(server._room._tasks.discard)


class ProxyFront:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for a PROXY header, which comes before the session."""

    _proxy_octets: bytearray | None = None
    _proxy_timer: asyncio.TimerHandle | None = None
    _proxy_task: asyncio.Task[None] | None = None

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop
        _handle_hooks: dict[str, Any]
        _room: Any
        _lost: bool
        _transport: Any
        _writer: Writer

        @property
        def _s(self) -> Any: ...

        async def _call_handler_hook(self, command: str, *args: Any) -> Any: ...

        def _finish(self) -> None: ...

        def _reject(self) -> None: ...

    @property
    def _proxy_is_awaited(self) -> bool:
        return self._proxy_octets is not None

    def _await_proxy(self, seconds: float) -> None:
        self._proxy_octets = bytearray()
        self._proxy_timer = self.loop.call_later(seconds, self._proxy_over)

    def _end_proxy(self) -> None:
        """The connection is lost: nobody thinks about its header any longer."""
        if self._proxy_timer is not None:
            self._proxy_timer.cancel()
        if self._proxy_task is not None and self._proxy_is_awaited:
            self._proxy_task.cancel()

    def _proxy_over(self) -> None:
        """No good header came: the connection ends without a word."""
        if self._proxy_timer is not None:
            self._proxy_timer.cancel()
        self._writer.close()
        self._finish()

    def _octets_of_proxy(self, octets: bytes) -> bool:
        """Take octets that belong to the header. False: they are the session's."""
        if self._proxy_octets is None:
            return False
        self._proxy_octets += octets
        if self._s.proxy_data is not None:  # the handler is still thinking about the header
            if len(self._proxy_octets) > EARLY:
                self._transport.pause_reading()
            return True
        found = read_header(bytes(self._proxy_octets))
        if found is None:
            return True
        data, length = found
        del self._proxy_octets[:length]
        self._s.proxy_data = data
        if not data:
            log.warning("%r invalid PROXY handshake", self._s.peer)
            self._proxy_over()
            return True
        self._proxy_task = self.loop.create_task(self._judge_header(data))
        return True

    async def _judge_header(self, data: ProxyData) -> None:
        try:
            status = await await_hook(self._call_handler_hook("PROXY", data))
        except Exception:
            log.exception("%r handle_PROXY failed", self._s.peer)
            status = False
        if self._lost or self._transport.is_closing():
            return
        if status is MISSING or not status:
            log.info("%r rejected by handle_PROXY", self._s.peer)
            self._proxy_over()
            return
        if self._proxy_timer is not None:
            self._proxy_timer.cancel()
        self._transport.resume_reading()
        left, self._proxy_octets = bytes(self._proxy_octets or b""), None
        protocol: Any = self
        ServerProtocol.connection_made(protocol, self._transport)
        if left:
            protocol._conn.receive_data(left)
            protocol._advance()
