"""The server of this shape: :class:`SMTP`, a protocol for one connection."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import warnings
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from ehlo._core import Envelope as EngineEnvelope
from ehlo._core import Hello, NullPath, Recipient, Reply, Sender, ServerConnection
from ehlo._server.driver import ServerDriver
from ehlo._server.handler import HandlerPlan
from ehlo._server.session import Raw
from ehlo._types import Decision
from ehlo.asyncio._server_protocol import ServerProtocol
from ehlo.compat.aiosmtpd import __version__, _get_or_new_eventloop
from ehlo.compat.aiosmtpd._around import Around, Reader, reads_by_itself
from ehlo.compat.aiosmtpd._auth import (
    AuthCallbackType,
    Authenticators,
    AuthenticatorType,
    AuthMechanismType,
    auth_mechanism,
    login_always_fail,
)
from ehlo.compat.aiosmtpd._commands import syntax
from ehlo.compat.aiosmtpd._content import Content
from ehlo.compat.aiosmtpd._methods import CALL_LIMIT_DEFAULT, Methods
from ehlo.compat.aiosmtpd._pushing import Pushing
from ehlo.compat.aiosmtpd._refusals import BEFORE_TLS, BOGUS_LIMIT, Refusals
from ehlo.compat.aiosmtpd._room import room_for
from ehlo.compat.aiosmtpd._session import (
    MISSING,
    AuthResult,
    Envelope,
    LoginPassword,
    Session,
    TLSSetupException,
    _Missing,  # noqa: F401  (programs annotate with it)
)
from ehlo.compat.aiosmtpd._texts import address_text, reply_octets
from ehlo.compat.aiosmtpd._transport import Driver, ProxyFront, Writer
from ehlo.compat.aiosmtpd._working import Working

__all__ = [
    "BOGUS_LIMIT",
    "CALL_LIMIT_DEFAULT",
    "DATA_SIZE_DEFAULT",
    "MISSING",
    "SMTP",
    "AuthCallbackType",
    "AuthMechanismType",
    "AuthResult",
    "AuthenticatorType",
    "Envelope",
    "LoginPassword",
    "Session",
    "TLSSetupException",
    "__version__",
    "auth_mechanism",
    "syntax",
]

__ident__: Final = f"Python SMTP {__version__}"
DATA_SIZE_DEFAULT: Final = 2**25
log: Final = logging.getLogger("mail.log")

# What cannot be kept, and the way of this package.
_REFUSED: Final = {
    "smtp_AUTH": "the engine reads AUTH. Write auth_* methods, an authenticator, or handle_AUTH of the handler; "
    "ehlo.Handler.on_sasl is the native way",
    "connection_made": "the adapter owns the transport. Override _create_session, or write ehlo.Handler.on_connect",
    "data_received": "the engine reads all octets. Write smtp_* methods, or ehlo.Handler.on_command",
    "buffer_updated": "the engine reads all octets. Write smtp_* methods, or ehlo.Handler.on_command",
    "get_buffer": "the engine reads all octets. Write smtp_* methods, or ehlo.Handler.on_command",
}
_READS: Final = (
    "the engine reads the content. Call super().smtp_DATA(arg), or write handle_DATA of the handler; for content that "
    "comes in pieces write ehlo.Handler.on_body and serve it by ehlo.asyncio.serve"
)
_OWN: Final = "ehlo.compat.aiosmtpd."


class SMTP(Methods, Refusals, Authenticators, Around, Content, Working, Pushing, ProxyFront, ServerProtocol):
    """One connection: a protocol for ``loop.create_server``. Arguments and attributes are aiosmtpd's.

    A subclass may have ``smtp_XFOO`` (a command of its own), override ``smtp_HELO``, ``smtp_EHLO``, ``smtp_NOOP``,
    ``smtp_HELP``, ``smtp_QUIT``, ``smtp_RSET``, ``smtp_VRFY``, ``smtp_EXPN``, ``smtp_MAIL`` and ``smtp_RCPT``, and
    have ``auth_*`` methods. The engine has judged a command before its method is called. An override of
    ``smtp_STARTTLS``, ``smtp_DATA`` or ``_handle_client`` calls ``super()``, or says no.

    Raises:
        TypeError: when a class is made that overrides what cannot be kept; the message names the native way.

    Example::

        class Mine(SMTP):
            async def smtp_XVERSION(self, arg): await self.push("250 3.1")
    """

    line_length_limit = 1001

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith(_OWN):
            return
        refused = _REFUSED | {"smtp_DATA": _READS} if reads_by_itself(vars(cls).get("smtp_DATA")) else _REFUSED
        for name, way in refused.items():
            if name in vars(cls):
                raise TypeError(f"{cls.__name__}.{name}: ehlo.compat.aiosmtpd cannot keep this, since {way}")

    def __init__(
        self,
        handler: Any,
        *,
        data_size_limit: int | None = DATA_SIZE_DEFAULT,
        enable_SMTPUTF8: bool = False,  # noqa: N803
        decode_data: bool = False,
        hostname: str | None = None,
        ident: str | None = None,
        tls_context: ssl.SSLContext | None = None,
        require_starttls: bool = False,
        timeout: float = 300,
        auth_required: bool = False,
        auth_require_tls: bool = True,
        auth_exclude_mechanism: Iterable[str] | None = None,
        auth_callback: AuthCallbackType | None = None,
        command_call_limit: int | dict[str, int] | None = None,
        authenticator: AuthenticatorType | None = None,
        proxy_protocol_timeout: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.__ident__ = ident or __ident__
        self.loop: asyncio.AbstractEventLoop = loop or _get_or_new_eventloop()
        self.event_handler = handler
        self.data_size_limit = data_size_limit
        self.enable_SMTPUTF8 = enable_SMTPUTF8
        self._decode_data = decode_data
        self.hostname: str = hostname or socket.getfqdn()
        self.tls_context = tls_context
        if tls_context is not None:
            if tls_context.verify_mode == ssl.CERT_REQUIRED:
                log.warning(
                    "tls_context.verify_mode not in {CERT_NONE, CERT_OPTIONAL}; this might cause client "
                    "connection problems"
                )
            elif tls_context.check_hostname:
                log.warning("tls_context.check_hostname == True; this might cause client connection problems")
        self.require_starttls: bool = bool(tls_context and require_starttls)
        self._timeout_duration = timeout
        if auth_required and not auth_require_tls:
            warnings.warn("Requiring AUTH while not requiring TLS can lead to security vulnerabilities!", stacklevel=2)
            log.warning("auth_required == True but auth_require_tls == False")
        self._auth_require_tls = auth_require_tls
        if proxy_protocol_timeout is not None:
            if proxy_protocol_timeout <= 0:
                raise ValueError("proxy_protocol_timeout must be > 0")
            if proxy_protocol_timeout < 3.0:
                log.warning("proxy_protocol_timeout < 3.0")
        self._proxy_timeout = proxy_protocol_timeout
        self._authenticator = authenticator
        self._auth_callback = None if authenticator is not None else auth_callback or login_always_fail
        self._auth_required = auth_required
        self._find_methods(handler, set(auth_exclude_mechanism or ()))
        self._set_call_limit(command_call_limit)
        self.command_size_limits: dict[str, int] = dict(type(self).command_size_limits)
        if proxy_protocol_timeout is not None or any(map(self._is_overridden, ("smtp_STARTTLS", "_handle_client"))):
            # Before there is a transport: uvloop looks for the method only once.
            vars(self)["buffer_updated"] = self._other_octets
        self.session: Session | None = None
        self.envelope: Envelope | None = None
        self._tls_handshake_okay = True
        self._bogus_budget = BOGUS_LIMIT
        self._leaving = False
        self._transport: Any = None
        self._lost = False
        self._done: asyncio.Future[None] | None = None

    # ---- life ----------------------------------------------------------------------------------------

    def _create_session(self) -> Session:
        return Session(self.loop)

    def _create_envelope(self) -> Envelope:
        return Envelope()

    def _set_rset_state(self) -> None:
        self.envelope = self._create_envelope()

    _set_post_data_state = _set_rset_state

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport while the client is connected. Closing it ends the session.

        A method that makes TLS itself sets it (see ``smtp_STARTTLS``).
        """
        if self._pushed:  # what was said goes out before what is done to the transport
            self._flush(self._pushed)
        return None if self._lost else self._transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._writer.transport = transport

    @property
    def max_command_size_limit(self) -> int:
        """The largest of ``command_size_limits``, or ``command_size_limit`` where there are none."""
        return max(self.command_size_limits.values(), default=self.command_size_limit)

    def _name(self, end: str) -> Any:
        name = super()._name(end)
        return name if isinstance(name, tuple | str | bytes) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._own_handshake:
            self.transport = transport
            return
        self._transport = transport
        self._tells_all = self._is_overridden("_call_handler_hook") or self._is_overridden("push")
        self._watching = self._tells_all or self._watches()
        self._find_data_hook()
        self._room = room_for(
            self.loop,
            hostname=self.hostname,
            ident=self.__ident__,
            lmtp=self._is_lmtp,
            decisions=self._decisions(),
            size_limit=self.data_size_limit,
            smtputf8=self.enable_SMTPUTF8,
            tls=self.tls_context,
            implicit_tls=self._transport_tls is not None,
            require_tls=self.require_starttls,
            timeout=self._timeout_duration,
            auth=tuple(name for name in self._auth_methods if len(name) <= 20),  # RFC 4422 3.1
            auth_in_clear=not self._auth_require_tls,
            local_part_limit=self.local_part_limit,
            line_limit=self.line_length_limit,
            command_limit=max([self.command_size_limit, *self.command_size_limits.values()]),
            any_parameter=self._is_overridden("smtp_MAIL") or self._is_overridden("smtp_RCPT"),
        )
        ServerProtocol.__init__(self, self._room)
        self._transport = transport
        self._write = self._transport.write
        self._reader, self._writer = Reader(), Writer(self._transport)
        self._begin_session()
        log.info("Peer: %r", self._s.peer)
        if self._is_overridden("_handle_client"):
            self._around_client()
        else:
            self._begin()

    def _begin(self) -> None:
        """The engine's session begins: with the PROXY header, or with the greeting."""
        self._begun = True
        self._find_worker()
        if self._proxy_timeout is not None:
            self._await_proxy(self._proxy_timeout)
        else:
            ServerProtocol.connection_made(self, self._transport)

    def _begin_session(self) -> None:
        self.envelope = self._create_envelope()
        self.session = session = self._create_session()
        session.peer = self._transport.get_extra_info("peername")
        tls = self._transport_tls
        if tls is not None:
            session.ssl = {"ssl_object": tls, "peercert": tls.getpeercert()}

    def connection_lost(self, exc: Exception | None) -> None:
        vars(self).pop("buffer_updated", None)
        log.info("%r connection lost", self._s.peer)
        self._writer.close()
        self._end_around()
        self._end_proxy()
        if self._worker is not None:
            self._worker.end()
        self._finish()
        if self._begun and not self._proxy_is_awaited:  # else there is no session that could end
            ServerProtocol.connection_lost(self, exc)
        self._lost = True

    def _close(self, linger: float) -> None:
        self._writer.close() if linger <= 0 else super()._close(linger)
        self._finish()

    def eof_received(self) -> bool:
        if self._handshake is not None and not self._handshake.done():  # it cannot come to its end any more
            return False
        return self._begun and ServerProtocol.eof_received(self) and self._s.ssl is None

    def data_received(self, data: bytes) -> None:
        """Octets came otherwise than from the transport: in a test."""
        if self._octets_of_proxy(data):
            return
        self._conn.receive_data(data)
        self._advance()

    def _other_octets(self, nbytes: int) -> None:
        """It stands for ``buffer_updated`` where octets may come that are not the session's."""
        octets = bytes(self._view[:nbytes])
        if self._own_handshake or not self._begun:
            self._take_early(octets)
        elif not self._octets_of_proxy(octets):
            ServerProtocol.buffer_updated(self, nbytes)

    @property
    def _handler_coroutine(self) -> asyncio.Future[None]:
        """Done when the session is over."""
        if self._done is None:
            self._done = self.loop.create_future()
            self._done.add_done_callback(lambda done: self._end() if done.cancelled() else None)
        return self._done

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _make_driver(self, conn: ServerConnection) -> ServerDriver:
        return Driver(conn, self._plan(), self, self)

    # ---- what the engine asks ------------------------------------------------------------------------

    def _is_overridden(self, name: str) -> bool:
        method = getattr(type(self), name, None)
        return method is not None and not method.__module__.startswith(_OWN)

    def _watches(self) -> bool:
        """Whether the program may want to know the envelope before the content is there."""
        known = {"DATA", "EHLO", "HELO", "NOOP", "QUIT", "STARTTLS", "PROXY", "AUTH", "exception"}
        return (
            self._auth_required
            or self._call_budget is not None
            or bool(self._handle_hooks.keys() - known)
            or any(self._is_overridden(f"smtp_{name}") for name in self._smtp_methods)
            or self._is_overridden("_create_envelope")
        )

    def _decisions(self) -> frozenset[Decision]:
        decisions: set[Decision] = {"hello", "message", "command", "refusal", "vrfy"}
        if self._watching:
            decisions |= {"mail", "rcpt", "data"}
        if self._is_overridden("smtp_EXPN") or "EXPN" in self._handle_hooks or self._call_budget is not None:
            decisions.add("expn")
        return frozenset(decisions)

    def _plan(self) -> HandlerPlan:
        decisions = self._room._config.decisions
        watches = "mail" in decisions
        plan = HandlerPlan(
            decisions,
            "collect",
            on_connect=None,
            on_hello=self._on_hello,
            on_auth=None,
            on_mail=self._on_mail if watches else None,
            on_rcpt=self._on_rcpt if watches else None,
            on_data=self._on_data if watches else None,
            on_message=self._on_message_around if self._is_overridden("smtp_DATA") else self._on_message,
            on_body=None,
            on_vrfy=self._on_vrfy,
            on_expn=self._on_expn,
            on_etrn=None,
            on_reset=None,
            on_refused=None,
            on_disconnect=None,
            on_command=self._on_command,
            on_refusal=self._on_refusal,
            on_sasl=self._on_sasl,
            on_starttls=self._on_starttls if self._is_overridden("smtp_STARTTLS") else None,
        )
        plan.hostname = self._room._config.hostname
        return plan

    def _in_transaction(self) -> bool:
        return self._conn.in_transaction

    def _over_limit(self, command: str) -> Raw | None:
        if self._leaving:
            return Raw(b"", accepted=False)
        budget = self._call_budget
        if budget is None:
            return None
        left = budget.get(command, self._call_limit_default)
        budget[command] = left - 1
        if left >= 1:
            return None
        log.warning("%r over limit for %s", self._s.peer, command)
        return self._goodbye(f"421 4.7.0 {command} sent too many times")

    def _goodbye(self, status: str) -> Raw:
        """The last reply of the session."""
        if self._leaving:
            return Raw(b"", accepted=False)
        self._leaving = True
        self.loop.call_soon(self._end)
        return Raw(status.encode() + b"\r\n", accepted=False)

    def _end(self) -> None:
        if not self._lost:
            self._writer.close()
            self._finish()

    def _call(self, command: str, arg: str | None) -> Awaitable[Raw] | Raw | None:
        """The answer of a method that is overridden, or that has a hook; ``None`` if nobody has a word on it."""
        over = self._over_limit(command)
        if over is not None:
            return over
        asked = self._tells_all or self._is_overridden(f"smtp_{command}") or command in self._handle_hooks
        if not asked:
            return None
        return self._do(self._smtp_methods[command], arg)

    def _on_hello(self, _: object, hello: Hello) -> Any:
        verb = hello.verb
        answer = self._call(verb, hello.name)
        if answer is not None:
            return answer
        if verb == "HELO":
            self._set_rset_state()
            self._s.extended_smtp, lines = False, [f"250 {self.hostname}"]
        elif self._ehlo_hook_ver is not None or hasattr(self, "ehlo_hook"):
            return self._do(self._smtp_methods[verb], hello.name)
        else:
            lines = [*self._begin_ehlo(), "250 HELP"]
        self._s.host_name = hello.name
        return Raw("".join(f"{line}\r\n" for line in lines).encode(), accepted=True)

    def _on_mail(self, _: object, sender: Sender) -> Any:
        path, parameters = sender.path, sender.mail_parameters
        if self._is_overridden("smtp_MAIL"):
            text = "" if isinstance(path, NullPath) else path.as_written
            return self._over_limit("MAIL") or self._do(self._smtp_methods["MAIL"], f"FROM:<{text}> {parameters}")
        if self._needs_auth():
            return Raw(b"530 5.7.0 Authentication required\r\n", accepted=False)
        address, options = address_text(path), parameters.upper().split()
        if self.local_part_limit and len(address.rpartition("@")[0]) > self.local_part_limit:
            return Raw(b"553 5.1.3 Error: malformed address\r\n", accepted=False)
        return self._over_limit("MAIL") or self._do(self._mail, address, options)

    def _on_rcpt(self, _: object, recipient: Recipient) -> Any:
        path, parameters = recipient.path, recipient.rcpt_parameters
        if self._is_overridden("smtp_RCPT"):
            arg = f"TO:<{path.as_written}> {parameters}"
            return self._over_limit("RCPT") or self._do(self._smtp_methods["RCPT"], arg)
        address = address_text(path)
        if self.local_part_limit and len(address.rpartition("@")[0]) > self.local_part_limit:
            return Raw(b"553 5.1.3 Error: malformed address\r\n", accepted=False)
        if not self._e.mail_from:
            return Raw(b"503 Error: need MAIL command\r\n", accepted=False)
        return self._over_limit("RCPT") or self._do(self._rcpt, address, parameters.upper().split())

    def _on_data(self, _: object, envelope: EngineEnvelope) -> Any:
        if not self._e.rcpt_tos:
            return Raw(b"503 Error: need RCPT command\r\n", accepted=False)
        over = self._over_limit("DATA")
        return self._data_around() if over is None and self._is_overridden("smtp_DATA") else over

    def _on_vrfy(self, _: object, argument: str) -> Any:
        return self._over_limit("VRFY") or self._do(self._smtp_methods["VRFY"], argument)

    def _on_expn(self, _: object, argument: str) -> Any:
        return self._over_limit("EXPN") or self._do(self._smtp_methods["EXPN"], argument)

    def _on_command(self, _: object, command: str, argument: str) -> Any:
        arg = argument.strip() or None
        barred = self.require_starttls and not self._is_encrypted() and command not in BEFORE_TLS
        if command not in self._smtp_methods or barred:
            return self._refuse(f"{command} {argument}".rstrip().encode(), Reply(500, None, "unknown"))
        if command == "HELP" or command not in ("NOOP", "RSET", "QUIT"):
            return self._over_limit(command) or self._do(self._smtp_methods[command], arg)
        if command == "RSET" and hasattr(self, "rset_hook"):
            return self._do(self._smtp_methods["RSET"], arg)
        answer = self._call(command, arg)
        if answer is None and command == "RSET":
            self._set_rset_state()
        if command == "QUIT" and answer is not None and not isinstance(answer, Raw):
            return self._quit(answer)
        return answer

    async def _quit(self, answer: Awaitable[Raw]) -> Raw:
        """The session ends, whatever is said to QUIT."""
        said = await answer
        if not said.accepted and not said.octets.startswith(b"501"):
            self.loop.call_soon(self._end)
        return said

    def _on_refusal(self, _: object, line: bytes, reply: Reply) -> Any:
        word = line.partition(b" ")[0].upper().decode("ascii", "replace")
        over = self._over_limit(word) if word in self._smtp_methods else None
        if over is not None:
            return over
        return self._refuse(line, reply)

    def _refuse(self, line: bytes, reply: Reply) -> Raw | Awaitable[Raw]:
        if self._leaving:
            return Raw(b"", accepted=False)
        status, last = self._refusal(line, reply)
        if last:
            log.warning("%r too many bogus commands", self._s.peer)
            return self._goodbye(status)
        said = Raw(reply_octets(status, self.enable_SMTPUTF8), accepted=False)
        if not line:
            self._set_post_data_state()
        return said if line or self._data_task is None else self._after_content(said)

    def _on_sasl(self, _: object, mechanism: str, initial: bytes | None, challenge: Any) -> Any:
        self._over = self._over_limit("AUTH")
        return self._over or self._authenticate_client(mechanism, initial, challenge)
