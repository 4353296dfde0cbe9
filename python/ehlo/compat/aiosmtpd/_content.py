"""A message that came: the envelope as aiosmtpd has it, and the word of the program's ``handle_DATA``."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ehlo._core import Envelope as EngineEnvelope
from ehlo._server.session import Raw
from ehlo.compat.aiosmtpd._session import MISSING, Envelope, Session
from ehlo.compat.aiosmtpd._texts import address_text, reply_octets
from ehlo.compat.aiosmtpd._worker import Rest, Worker, raising

__all__ = ["Content"]

log: Final = logging.getLogger("mail.log")


class Content:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for messages."""

    _data_hook: Callable[..., Any] | None = None

    if TYPE_CHECKING:
        enable_SMTPUTF8: bool  # noqa: N815
        event_handler: Any
        envelope: Envelope | None
        session: Session | None
        _decode_data: bool
        _handle_hooks: dict[str, Any]
        _is_lmtp: ClassVar[bool]
        _tells_all: bool
        _watching: bool
        _worker: Worker | None

        @property
        def _s(self) -> Session: ...

        def _keep_rest(self, rest: Any, awaitable: Awaitable[Raw]) -> Awaitable[Raw]: ...

        def _now(self, coroutine: Any) -> Any: ...

        def _set_post_data_state(self) -> None: ...

        def _end(self) -> None: ...

        async def _call_handler_hook(self, command: str, *args: Any) -> Any: ...

        async def _perform(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw: ...

        async def _status_of(self, error: Exception) -> str: ...

        async def push(self, status: str | bytes) -> None: ...

    def _find_data_hook(self) -> None:
        self._data_hook = self._handle_hooks.get("DATA")
        if self._data_hook is None and hasattr(self.event_handler, "process_message"):
            self._data_hook = _process_message

    def _on_message(self, _: object, envelope: EngineEnvelope, content: bytes) -> Any:
        ours = self.envelope
        assert ours is not None
        if not self._watching:
            sender = envelope.sender
            ours.mail_from = address_text(sender.path)
            ours.mail_options = sender.mail_parameters.upper().split()
            ours.smtp_utf8 = envelope.smtputf8
            ours.rcpt_tos = [address_text(recipient.path) for recipient in envelope.recipients]
        ours.original_content = ours.content = content
        times = len(envelope.recipients) if self._is_lmtp else 1
        if self._decode_data:
            try:
                ours.content = (
                    content.decode("utf-8", "surrogateescape") if self.enable_SMTPUTF8 else content.decode("ascii")
                )
            except UnicodeDecodeError:
                self._set_post_data_state()
                return Raw(b"500 Error: strict ASCII mode\r\n" * times, accepted=False)
        if self._tells_all:
            return self._now(self._deliver_all(times))
        hook = self._data_hook
        if hook is None:
            self._set_post_data_state()
            return _raw("250 OK", False, times)
        worker = self._worker
        try:
            said = hook(self, self.session, ours)
            if worker is not None:
                said = worker.begin(said)
        except BaseException as exc:
            said = raising(exc)
        if type(said) is str:
            self._set_post_data_state()
            return _raw(said, self.enable_SMTPUTF8, times)
        if type(said) is Rest:
            return self._keep_rest(said, self._deliver(said, times))
        return self._now(self._deliver(said, times))

    async def _deliver(self, said: Any, times: int) -> Raw:
        """The handler's word on a message. Its exceptions are replies, too."""
        try:
            status = await said if inspect.isawaitable(said) else said
            octets = reply_octets("250 OK" if status is MISSING else status, self.enable_SMTPUTF8)
        except ConnectionResetError:
            log.info("%r Connection lost during _handle_client()", self._s.peer)
            self._end()
            return Raw(b"", accepted=False)
        except Exception as exc:
            octets = reply_octets(await self._status_of(exc), self.enable_SMTPUTF8)
        finally:
            self._set_post_data_state()
        return Raw(octets * times, accepted=octets[:1] in b"23")

    async def _deliver_all(self, times: int) -> Raw:
        """The same for a program that overrides ``push`` or ``_call_handler_hook``: these see all."""
        try:
            return await self._perform(self._say_of_content, times)
        finally:
            self._set_post_data_state()

    async def _say_of_content(self, times: int) -> None:
        if "DATA" in self._handle_hooks or self._data_hook is None:
            status = await self._call_handler_hook("DATA")
        else:
            status = await self._data_hook(self, self.session, self.envelope)
        for _ in range(times):
            await self.push("250 OK" if status is MISSING else status)


async def _process_message(server: Any, session: Session, envelope: Envelope) -> Any:
    """``handle_DATA`` of a handler that has ``process_message``, as smtpd had it."""
    warnings.warn("Use handler.handle_DATA() instead of .process_message()", DeprecationWarning, stacklevel=2)
    result = server.event_handler.process_message(session.peer, envelope.mail_from, envelope.rcpt_tos, envelope.content)
    status = await result if inspect.isawaitable(result) else result
    return MISSING if status is None else status


@lru_cache(maxsize=64)
def _raw(status: str, utf8: bool, times: int) -> Raw:
    """The answer for a status. Programs say the same few words again and again."""
    octets = reply_octets(status, utf8)
    return Raw(octets * times, accepted=octets[:1] in b"23")
