"""Replies that a program pushes, and its exceptions, which are replies, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import ServerConnection
from ehlo._hooks import HookError, await_hook
from ehlo._server.session import Raw
from ehlo.compat.aiosmtpd._session import TLSSetupException
from ehlo.compat.aiosmtpd._texts import reply_octets

__all__ = ["Pushing"]

log: Final = logging.getLogger("mail.log")


class Pushing:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for ``push`` and for exceptions."""

    _pushed: list[bytes] | None = None
    _last_code = 0
    _at_once = False

    if TYPE_CHECKING:
        enable_SMTPUTF8: bool  # noqa: N815
        event_handler: Any
        loop: asyncio.AbstractEventLoop
        _begun: bool
        _conn: ServerConnection
        _lost: bool
        _starttls_open: bool
        _writer: Any

        @property
        def _s(self) -> Any: ...

        def _end(self) -> None: ...

        def _send(self, octets: bytes) -> None: ...

        def _shake_own_hands(self) -> None: ...

    async def _perform(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw:
        """Call a method that pushes its replies. They are the answer to the command."""
        pushed: list[bytes] = []
        before, self._pushed = self._pushed, pushed
        self._last_code = 0
        try:
            try:
                await action(*args)
            except (asyncio.CancelledError, ConnectionResetError):
                raise
            except TLSSetupException as exc:  # nothing is said where the client speaks TLS (RFC 3207 4.1)
                await self._status_of(exc)
            except Exception as exc:
                await self.push(await self._status_of(exc))
        except ConnectionResetError:
            log.info("%r Connection lost during _handle_client()", self._s.peer)
            self._end()
        finally:
            self._pushed = before
        return Raw(b"".join(pushed), accepted=self._last_code in (2, 3))

    async def push(self, status: str | bytes) -> None:
        """Send one reply line, without its CRLF. Inside a command's method it is sent with the others, soon.

        Raises:
            TypeError: it is neither text nor octets.
        """
        octets = reply_octets(status, self.enable_SMTPUTF8)
        self._last_code = octets[0] - 0x30
        if self._starttls_open and octets.startswith(b"220"):
            self._shake_own_hands()
            return
        if self._pushed is None:
            self._send_pushed([octets])
            return
        self._pushed.append(octets)
        if not self._at_once:
            self.loop.call_soon(self._flush, self._pushed)

    def _flush(self, pushed: list[bytes]) -> None:
        """The method that pushed these waits for something else, and the client need not wait with it."""
        if pushed and self._pushed is pushed:
            lines = pushed[:]
            pushed.clear()
            self._send_pushed(lines)

    def _send_pushed(self, lines: list[bytes]) -> None:
        if not self._begun:
            self._writer.write(b"".join(lines))
        elif not self._lost:
            self._send(self._conn.data_to_send() + b"".join(lines))

    async def handle_exception(self, error: Exception) -> str:
        """The reply when a method raised: what the handler's ``handle_exception`` says."""
        hook = getattr(self.event_handler, "handle_exception", None)
        if hook is not None:
            status: str = await hook(error)
            return status
        log.exception("%r SMTP session exception", self._s.peer)
        return f"500 Error: ({type(error).__name__}) {error}"

    async def _status_of(self, error: Exception) -> str:
        try:
            status = await self.handle_exception(error)
        except Exception as another:
            log.exception("%r Exception in handle_exception()", self._s.peer)
            try:
                status = f"500 Error: ({type(another).__name__}) {another}"
            except Exception:  # it cannot even be printed
                return "500 Error: Cannot describe error"
        return " ".join(status.splitlines())

    async def _tls_failure(self, cause: object) -> None:
        try:
            await await_hook(self._status_of(TLSSetupException(cause)))
        except HookError:
            log.exception("%r handle_exception failed", self._s.peer)
