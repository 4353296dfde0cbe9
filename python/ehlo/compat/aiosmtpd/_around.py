"""Methods of a program around what the engine does itself: ``smtp_STARTTLS``, ``smtp_DATA`` and ``_handle_client``.

A program that overrides one of them calls ``super()`` in it, or says no. ``super()`` returns when the engine has done
its part: the handshake, the content with its reply, the session. Until the program's method returns, the session waits.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import ServerConnection
from ehlo._hooks import HookError, await_hook
from ehlo._server.driver import ServerDriver
from ehlo._server.session import Raw
from ehlo.asyncio._server_protocol import ServerProtocol
from ehlo.compat.aiosmtpd._commands import syntax
from ehlo.compat.aiosmtpd._transport import EARLY

__all__ = ["Around", "Reader", "reads_by_itself"]

log: Final = logging.getLogger("mail.log")


class Reader:
    """It stands where aiosmtpd has a stream reader. A method that makes TLS itself sets its ``_transport``."""

    def __init__(self) -> None:
        self._transport: Any = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"_reader.{name}: the engine reads from the connection")


class Around:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for methods of a program around the engine's work."""

    _tls_protocol: Any = None
    _begun = False
    _client_task: asyncio.Task[None] | None = None
    _client_timer: asyncio.TimerHandle | None = None
    _data_task: asyncio.Task[Raw] | None = None
    _data_wanted: asyncio.Future[None] | None = None
    _data_done: asyncio.Future[None] | None = None
    _handshake: asyncio.Future[None] | None = None
    _starttls_open = False
    _starttls_task: asyncio.Task[Any] | None = None
    _own_handshake = False
    _early = b""

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop
        tls_context: Any
        _conn: ServerConnection
        _driver: Any
        _last_code: int
        _lost: bool
        _smtp_methods: dict[str, Any]
        _timeout_duration: float
        _transport: Any
        _write: Callable[[bytes], object]
        _writer: Any

        @property
        def _handler_coroutine(self) -> asyncio.Future[None]: ...

        async def push(self, status: str | bytes) -> None: ...

        async def _perform(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw: ...

        def _on_message(self, session: object, envelope: Any, content: bytes) -> Any: ...

        def _begin(self) -> None: ...

        def data_received(self, data: bytes) -> None: ...

    # ---- STARTTLS --------------------------------------------------------------------------------

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
        """STARTTLS (RFC 3207). It returns when the handshake is done.

        Raises:
            TLSSetupException: the handshake failed; the session is over.
            RuntimeError: the client has not asked for TLS.
        """
        if arg:
            await self.push("501 Syntax: STARTTLS")
            return
        if not self.tls_context:
            await self.push("454 TLS not available")
            return
        if not self._starttls_open:
            raise RuntimeError("smtp_STARTTLS() is for super() in a method that overrides it")
        self._handshake = self.loop.create_future()
        self._accept_starttls()
        protocol: Any = self
        ServerProtocol._begin_tls(protocol)
        try:
            await self._handshake
        finally:
            self._handshake = None

    async def _on_starttls(self, _: object) -> None:
        self._starttls_open, self._starttls_task = True, asyncio.current_task()
        # The limits of the session rest while a method runs; here it waits for the client.
        timer = self.loop.call_later(self._timeout_duration, self._transport.abort)
        try:
            said = await self._perform(self._smtp_methods["STARTTLS"], None)
        finally:
            self._starttls_open, self._starttls_task = False, None
            timer.cancel()
        if self._lost:
            return
        if self._conn.decision_open:
            self._conn.answer_raw(said.octets, accepted=False)
        elif self._own_handshake:
            self._own_handshake = False
            self._adopt_tls()

    def _accept_starttls(self) -> None:
        """Send the 220. The engine looks for octets that came behind STARTTLS in the clear (RFC 3207 4.2)."""
        self._starttls_open = False
        self._conn.accept()
        self._write(self._conn.data_to_send())
        if not self._conn.handshaking:
            raise ConnectionResetError("the client sent octets in the clear behind STARTTLS")

    def _shake_own_hands(self) -> None:
        """The program said 220 itself: it does the handshake, by ``loop.start_tls`` or as aiosmtpd does."""
        self._accept_starttls()
        self._own_handshake = True

    def _begin_tls(self) -> None:
        if not self._own_handshake:
            protocol: Any = self
            ServerProtocol._begin_tls(protocol)

    def _take_early(self, octets: bytes) -> None:
        """Octets came before the session, or while the program does the handshake. Then none may come in the clear."""
        self._early += octets
        if (self._own_handshake and self._transport.get_protocol() is self) or len(self._early) > EARLY:
            log.warning("%r sent octets before its turn", self._transport.get_extra_info("peername"))
            self._early = b""
            self._transport.abort()

    def _adopt_tls(self) -> None:
        """The program's method has returned: the session goes on over the transport that it made."""
        transport = self._writer.transport
        tls = transport.get_extra_info("ssl_object")
        if tls is None or transport.is_closing():
            ServerDriver.tls_failed(self._driver, "smtp_STARTTLS said 220, and there is no TLS")
            return
        self._driver.tls_established(tls, certificate=tls.getpeercert() or None)
        self._transport, self._write = transport, transport.write
        early, self._early = self._early, b""
        if early:
            self._conn.receive_data(early)

    def _handshake_over(self, fault: Exception | None = None) -> bool:
        """Tell a method that waits in ``super().smtp_STARTTLS()``. False: none waits."""
        if self._handshake is None or self._handshake.done():
            return False
        if fault is None:
            self._handshake.set_result(None)
        else:
            self._handshake.set_exception(fault)
        return True

    # ---- DATA ------------------------------------------------------------------------------------

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """DATA (RFC 5321 4.1.1.4). It returns when the content is there and has its reply.

        Raises:
            RuntimeError: the client has not said DATA.
        """
        wanted = self._data_wanted
        if wanted is None or wanted.done():
            raise RuntimeError("smtp_DATA() is for super() in a method that overrides it")
        self._data_done = done = self.loop.create_future()
        wanted.set_result(None)
        await done

    async def _data_around(self) -> Raw | None:
        """The answer to DATA: what the program's method pushed, or nothing where it called ``super()``."""
        self._data_wanted = wanted = self.loop.create_future()
        self._data_task = task = self.loop.create_task(await_hook(self._perform(self._smtp_methods["DATA"], None)))
        await asyncio.wait({task, wanted}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return None
        self._data_task = None
        said = task.result()
        return Raw(said.octets, accepted=self._last_code == 3)

    def _on_message_around(self, session: object, envelope: Any, content: bytes) -> Any:
        answer = self._on_message(session, envelope, content)
        return answer if self._data_task is None else self._after_content(answer)

    async def _after_content(self, answer: Any) -> Raw:
        """The reply to the content, and what the program's method says behind it."""
        said: Raw = await answer if inspect.isawaitable(answer) else answer
        task = self._data_task
        self._content_over()
        if task is None:
            return said
        try:
            more = await task
        except HookError:  # it does not take the reply to the content back
            log.exception("%r smtp_DATA failed after the content", self._transport.get_extra_info("peername"))
            return said
        return Raw(said.octets + more.octets, accepted=said.accepted)

    def _content_over(self) -> None:
        """The content has its reply: ``super().smtp_DATA()`` returns."""
        self._data_task = None
        if self._data_done is not None and not self._data_done.done():
            self._data_done.set_result(None)

    # ---- the whole session -----------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """The session, from its greeting to its end."""
        if self._client_timer is not None:
            self._client_timer.cancel()
        self._transport.resume_reading()
        self._begin()
        early, self._early = self._early, b""
        if early:  # uvloop reads once more
            self.data_received(early)
        await self._handler_coroutine

    def _around_client(self) -> None:
        """The program's ``_handle_client`` has the connection; nothing is read until it calls ``super()``."""
        self._transport.pause_reading()
        self._client_task = self.loop.create_task(self._run_client())
        self._client_timer = self.loop.call_later(self._timeout_duration, self._transport.abort)

    async def _run_client(self) -> None:
        try:
            await await_hook(self._handle_client())
        except Exception:
            log.exception("%r _handle_client failed", self._transport.get_extra_info("peername"))
        finally:
            if not self._begun and not self._lost:
                self._writer.close()

    # ---- the end ---------------------------------------------------------------------------------

    def _end_around(self) -> None:
        """The connection is lost: no method of the program waits any longer."""
        if self._starttls_task is not None and self._handshake is None:
            self._starttls_task.cancel()
        self._handshake_over(ConnectionResetError("Connection lost"))
        if self._client_timer is not None:
            self._client_timer.cancel()
        if self._data_task is not None:
            self._data_task.cancel()
            self._data_task = None
        if self._client_task is not None and not self._begun:
            self._client_task.cancel()


def reads_by_itself(method: Any) -> bool:
    """Whether a method reads from the connection itself (``self._reader``)."""
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return code is not None and "_reader" in code.co_names
