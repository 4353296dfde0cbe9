"""The connection of :mod:`ehlo.compat.aiosmtplib`: one command and its reply at a time, or a message by the engine."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from ehlo._sockets import no_delay
from ehlo.compat._aiosmtplib_mail import normalize_message_line_endings
from ehlo.compat._aiosmtplib_values import (
    SMTPDataError,
    SMTPReadTimeoutError,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPStatus,
    SMTPTimeoutError,
)
from ehlo.compat._courier import Courier

__all__ = ["MAX_LINE_LENGTH", "MAX_RESPONSE_LENGTH", "SMTPProtocol"]

MAX_LINE_LENGTH = 8192
"""Octets of a reply line (aiosmtplib's own limit; RFC 5321 4.5.3.1.5 has 512)."""

MAX_RESPONSE_LENGTH = MAX_LINE_LENGTH * 4
"""Octets of a reply."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class SMTPProtocol(asyncio.Protocol):
    """One connection.

    Arguments:
        loop: the event loop; by default the one that runs.
        connection_lost_callback: told when the connection is lost.

    Attributes:
        transport: ``None`` before and after the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        connection_lost_callback: Callable[[SMTPProtocol], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_event_loop() if loop is None else loop
        self._lost_callback = connection_lost_callback
        self.transport: Any = None
        self._over_ssl = False
        self._buffer = bytearray()
        self._command_lock: asyncio.Lock | None = None
        self._quit_sent = False
        # A reply is waited for only while a command is out: what comes at other times is dropped.
        self._response_waiter: asyncio.Future[SMTPResponse] | None = None
        self._response_pending = False
        # A message by the engine gets all octets.
        self._octets: list[bytes] | None = None
        self._move_waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_connected(self) -> bool:
        """Whether the transport is open."""
        return self.transport is not None and not self.transport.is_closing()

    def _get_close_waiter(self, stream: object) -> asyncio.Future[None]:
        return self._closed

    # ---- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        no_delay(transport.get_extra_info("socket"))
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        self._response_waiter = self._loop.create_future()
        self._response_pending = True  # of the greeting
        self._command_lock = asyncio.Lock()
        self._quit_sent = False

    def connection_lost(self, exc: Exception | None) -> None:
        waiter = self._response_waiter
        if waiter is not None and not waiter.done():
            if self._quit_sent:
                waiter.set_result(SMTPResponse(SMTPStatus.closing.value, ""))
            else:
                error = SMTPServerDisconnected("Connection lost")
                error.__cause__ = exc
                _fail(waiter, error)
        self._give_octets(b"")
        if not self._closed.done():
            self._closed.set_result(None)
        self.transport = None
        self._command_lock = None
        if self._lost_callback is not None:
            self._lost_callback(self)

    def eof_received(self) -> bool:
        if self._response_waiter is not None and not self._response_waiter.done():
            _fail(self._response_waiter, SMTPServerDisconnected("Unexpected EOF received"))
        self._give_octets(b"")
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._octets is not None:
            self._give_octets(data)
            return
        waiter = self._response_waiter
        if waiter is None or not self._response_pending or waiter.done():
            return
        self._buffer += data
        try:
            if len(self._buffer) > MAX_RESPONSE_LENGTH:
                raise SMTPResponseException(SMTPStatus.invalid_response.value, "Response too long")
            response = self._take_response()
        except SMTPResponseException as exc:
            self._buffer.clear()
            _fail(waiter, exc)
        else:
            if response is not None:
                waiter.set_result(response)

    def _take_response(self) -> SMTPResponse | None:
        """The first whole reply of the buffer."""
        lines: list[bytes] = []
        at = 0
        while (end := self._buffer.find(b"\n", at) + 1) > 0:
            line = bytes(self._buffer[at:end])
            at = end
            if len(line) > MAX_LINE_LENGTH:
                raise SMTPResponseException(SMTPStatus.invalid_response.value, "Response too long")
            if not line[:3].isdigit():
                said = line.decode("utf-8", errors="ignore")
                raise SMTPResponseException(SMTPStatus.invalid_response.value, f"Malformed SMTP response line: {said}")
            lines.append(line[4:].strip(b" \t\r\n"))
            if line[3:4] != b"-":
                del self._buffer[:at]
                return SMTPResponse(int(line[:3]), b"\n".join(lines).decode("utf-8", "surrogateescape"))
        return None

    def _give_octets(self, octets: bytes) -> None:
        if self._octets is not None:
            self._octets.append(octets)
            self._wake()

    def _wake(self) -> None:
        if self._move_waiter is not None and not self._move_waiter.done():
            self._move_waiter.set_result(None)

    # ---- one command -----------------------------------------------------------------------------

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """Wait for a reply.

        Arguments:
            timeout: seconds.

        Raises:
            SMTPServerDisconnected: the connection ended.
            SMTPReadTimeoutError: the time is up.
            SMTPResponseException: it is no reply, or too long.
        """
        if self._response_waiter is None:
            raise SMTPServerDisconnected("Connection lost")
        self._response_pending = True
        try:
            return await asyncio.wait_for(self._response_waiter, timeout)
        except TimeoutError as exc:
            raise SMTPReadTimeoutError("Timed out waiting for server response") from exc
        finally:
            self._response_pending = False
            self._response_waiter = None if self.transport is None else self._loop.create_future()

    def write(self, data: bytes) -> None:
        """Send octets.

        Raises:
            SMTPServerDisconnected: there is no connection.
            RuntimeError: the transport cannot write.
        """
        if not self.is_connected:
            raise SMTPServerDisconnected("Connection lost")
        try:
            self.transport.write(data)
        except (AttributeError, NotImplementedError):
            raise RuntimeError(f"Transport {self.transport!r} does not support writing.") from None

    async def _ask(self, octets: bytes, timeout: float | None) -> SMTPResponse:
        self._response_pending = True
        self.write(octets)
        return await self.read_response(timeout=timeout)

    def _lock(self) -> asyncio.Lock:
        if self._command_lock is None:
            raise SMTPServerDisconnected("Server not connected")
        return self._command_lock

    async def execute_command(self, *args: bytes, timeout: float | None = None) -> SMTPResponse:
        """Send a command, and wait for the reply.

        Raises:
            ValueError: an argument has a control character.
        """
        if any(_CONTROL.search(argument) for argument in args):
            raise ValueError("Command arg contains a prohibited control character")
        async with self._lock():
            if args == (b"QUIT",):
                self._quit_sent = True
            return await self._ask(b" ".join(args) + b"\r\n", timeout)

    async def execute_data_command(self, message: bytes, timeout: float | None = None) -> SMTPResponse:
        """Say DATA, and send the content (RFC 5321 4.1.1.4).

        Raises:
            SMTPDataError: the server refuses.
        """
        content = re.sub(rb"(?m)^\.", b"..", normalize_message_line_endings(message)) + b".\r\n"
        async with self._lock():
            for octets, expected in ((b"DATA\r\n", SMTPStatus.start_input), (content, SMTPStatus.completed)):
                response = await self._ask(octets, timeout)
                if response.code != expected:
                    raise SMTPDataError(response.code, response.message)
        return response

    async def start_tls(
        self, tls_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> SMTPResponse:
        """Say STARTTLS, and begin TLS (RFC 3207).

        Raises:
            SMTPResponseException: the server refuses.
            SMTPTimeoutError: the time is up.
            SMTPServerDisconnected: the connection ended.
            ssl.SSLError: the handshake fails.
            RuntimeError: TLS is there already.
        """
        if self._over_ssl:
            raise RuntimeError("Already using TLS.")
        async with self._lock():
            response = await self._ask(b"STARTTLS\r\n", timeout)
            if response.code != SMTPStatus.ready:
                raise SMTPResponseException(response.code, response.message)
            if not self.is_connected:
                raise SMTPServerDisconnected("Connection lost")
            self._buffer.clear()  # what came in clear behind the 220 has no effect (RFC 3207 4.2)
            try:
                self.transport = await self._loop.start_tls(
                    self.transport,
                    self,
                    tls_context,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=timeout,
                )
            except (TimeoutError, ConnectionAbortedError) as exc:  # asyncio aborts a handshake that is late
                raise SMTPTimeoutError("Timed out while upgrading transport") from exc
            except ConnectionError as exc:
                raise SMTPServerDisconnected("Connection reset while upgrading transport") from exc
            self._over_ssl = True
        return response

    # ---- a message by the engine -----------------------------------------------------------------

    async def carry(self, courier: Courier, timeout: float | None) -> None:
        """Send the message that was queued, and wait for its result.

        Arguments:
            courier: has the message.
            timeout: seconds for each wait.

        Raises:
            SMTPReadTimeoutError: the time is up.
            SMTPServerDisconnected: there is no connection.
        """
        async with self._lock():
            self._octets = []
            try:
                while not courier.is_done:
                    if out := courier.data_to_send():
                        self.write(out)
                    if not self._octets and (self._paused or not out):  # a refusal stops the content (C-CLI-33)
                        self._move_waiter = waiter = self._loop.create_future()
                        try:
                            await asyncio.wait_for(waiter, timeout)
                        except TimeoutError as exc:
                            raise SMTPReadTimeoutError("Timed out waiting for server response") from exc
                    came, self._octets = self._octets, []
                    for octets in came:
                        if not courier.is_done:
                            courier.receive(octets)
            finally:
                self._octets = self._move_waiter = None


def _fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    """Nobody may wait for it: then it is no error of the loop's."""
    waiter.set_exception(error)
    waiter.exception()
