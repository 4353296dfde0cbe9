"""A server's session between the engine and the program: events become handler calls, results become replies.

It has no I/O, no event loop and no clock. The adapters for asyncio and trio drive this one class.

The adapter gives octets to ``driver.conn``, calls :meth:`ServerDriver.step` until it returns ``None``, then sends
``conn.data_to_send()`` in one write. A handler whose result is not awaitable is answered inside ``step``. Otherwise
``step`` returns a :class:`ehlo._server.answers.Call`: the adapter awaits ``call.awaitable`` somewhere, says
``call.resume(result)`` or ``call.fail(exc)``, and steps again. ``driver.blocked`` is true while the session waits for
a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ehlo._core import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BadProxy,
    Chunk,
    ClientAttributes,
    CommandReceived,
    Connect,
    ContentAborted,
    ContentStart,
    Data,
    Disconnect,
    Etrn,
    Expn,
    Hello,
    Mail,
    Message,
    Proxy,
    ProxyHeader,
    Rcpt,
    Refusal,
    Refused,
    Reply,
    Reset,
    ServerConnection,
    StartTls,
    Vrfy,
    Xclient,
)
from ehlo._hooks import by_signal, is_cancellation, is_torn_down
from ehlo._sasl.server import ServerExchange
from ehlo._server.adapter import GONE, Adapter
from ehlo._server.answers import AUTH_FAILED, FAILED, Call, CallKind, is_awaitable, replies_of
from ehlo._server.handler import HandlerPlan
from ehlo._server.session import Answer, ContentAbortedError, Method, Raw, SaslCancelledError, Session
from ehlo._server.streaming import Streaming
from ehlo._types import ServerEvent, Wakeup

__all__ = ["ServerDriver"]

log: Final = logging.getLogger("ehlo")

# Bound here, since a name of the module is found faster than a member of an enum.
_DECISION: Final = CallKind.DECISION
_NOTICE: Final = CallKind.NOTICE
_BODY: Final = CallKind.BODY
_AUTH: Final = CallKind.AUTH
_SASL: Final = CallKind.SASL
_DELAY: Final = CallKind.DELAY


class ServerDriver(Streaming):
    """Drives one session: owns ``conn``, asks the handler, answers.

    Arguments:
        conn: the engine's side, made with the plan's decisions.
        plan: the handler's methods, from :func:`ehlo._server.handler.plan_of`.
        adapter: what runs this.

    Attributes:
        blocked: the session waits for a handler; until it answers, ``step`` does nothing.
        reason: why the session ended, ``None`` until it did.
        judge_proxy: it gets the PROXY header before anything is said; a reply it returns stands for the greeting.
        judge_xclient: it gets what XCLIENT said, and returns whether a client at that address is trusted.
        slow_down: it gets the number of failed AUTH commands, and returns what is awaited first (RFC 4954 9).

    TLS: after a ``step`` that returned ``None``, look at ``conn.handshaking``. If it is true, send the output, shake
    hands (with ``conn.take_tls_input()`` as the first octets), then call :meth:`tls_established` or :meth:`tls_failed`,
    and step again.

    Example::

        driver.conn.receive_data(octets)
        while (call := driver.step()) is not None: start(call)
    """

    __slots__ = (
        "_adapter",
        "_certificate",
        "_channel_bindings",
        "_encrypted",
        "_lost",
        "_next_call",
        "_plan",
        "_said",
        "_session",
        "_tls",
        "_turned_away",
        "conn",
        "judge_proxy",
        "judge_xclient",
        "reason",
        "slow_down",
    )

    def __init__(self, conn: ServerConnection, plan: HandlerPlan, adapter: Adapter) -> None:
        self.conn = conn
        self.blocked = False
        self.reason: str | None = None
        self._plan = plan
        self._adapter = adapter
        self._session: Session | None = None
        self._pending: Call | None = None
        self._body = None
        self._said = False
        self._lost = False
        self._turned_away = False
        self._encrypted = False
        self._sasl: ServerExchange | None = None
        self._own = self._late = None
        self._welcome = None
        self._refusal = AUTH_FAILED
        self._next_call: Call | None = None
        self._tls: object = None
        self._certificate: object = None
        self._channel_bindings: Mapping[str, bytes] | None = None
        self.judge_proxy: Callable[[ProxyHeader], Reply | None] | None = None
        self.judge_xclient: Callable[[ClientAttributes], bool] | None = None
        self.slow_down: Callable[[int], Awaitable[object]] | None = None

    @property
    def session(self) -> Session:
        """The session as handlers see it; made when first asked for."""
        session = self._session
        if session is None:
            adapter = self._adapter
            self._session = session = Session(self.conn, self._plan.hostname, adapter.peer(), adapter.local())
            session.tls = self._tls
        return session

    @property
    def waiting_for(self) -> Call | None:
        """The handler's call that keeps the session waiting, if one does."""
        if self._pending is not None:
            return None if self._pending._kind is _DELAY else self._pending
        if not self.blocked:
            return None
        if self._own is not None:
            return self._own.call
        return self._body._call if self._body is not None else None

    @property
    def busy(self) -> bool:
        """A handler call is unfinished."""
        return (
            self._pending is not None
            or self._own is not None
            or (self._body is not None and self._body._call is not None)
        )

    @property
    def over(self) -> bool:
        """The handler was told of the end, and no call is unfinished."""
        return self._said and not self.busy

    def step(self, event: ServerEvent | None = None) -> Call | None:
        """Handle what the engine has. Returns ``None`` when there is nothing to do now, or a call to await.

        After a call is returned it must be called again. Never raises for what a peer or a handler did.

        Arguments:
            event: one that the adapter took from ``conn`` itself, when the session was not ``blocked``.
        """
        if self._next_call is not None:
            waiting, self._next_call = self._next_call, None
            return waiting
        while not self.blocked:
            if event is None:
                event = self.conn.next_event()
                if event is None:
                    return None
            call = _DISPATCH[type(event)](self, event)
            event = None
            if call is not None:
                return call
        if self.reason is not None and not self._said:
            return self._say_goodbye()
        return None

    def lost(self) -> list[Call]:
        """The connection is gone (RFC 5321 4.1.1.10: as if QUIT came). Returns the calls that are to be cancelled.

        What the client had sent and nobody answered is dropped. Each call given back is still to be resumed or
        failed when it has ended; nothing is answered then. A handler that waits for content gets
        :class:`ehlo.ContentAbortedError` instead of being cancelled. Step once more to call ``on_disconnect``.
        """
        calls: list[Call] = []
        self._lost = True
        if self._pending is not None and self._pending._kind in (_DECISION, _AUTH, _DELAY):
            calls.append(self._pending)
        own = self._own
        if own is not None and own.call is not None:
            waits = own.waits
            own.respond(None)
            if not waits:
                calls.append(own.call)
        body = self._body
        if body is not None and body._call is not None:
            if body._error is None:
                body._error = "disconnected"
            if body._waiter is not None:
                body._wake()
            elif not body._error_seen:  # one that knows is on its way out, and may have something to clean up
                calls.append(body._call)
        if self.reason is None:
            self.reason = "eof"
        self.blocked = True
        return calls

    def detach(self) -> None:
        """After the last call: forget the adapter, so that no reference cycle is left."""
        self._adapter = GONE
        self.judge_proxy = self.judge_xclient = self.slow_down = None

    # ---- TLS -------------------------------------------------------------------------------------

    def tls_established(
        self,
        tls: object = None,
        *,
        channel_bindings: Mapping[str, bytes] | None = None,
        certificate: object = None,
    ) -> None:
        """The handshake is done: the session starts anew, or begins (RFC 3207 4.2, RFC 8314 3.3). Step again.

        Arguments:
            tls: what :attr:`ehlo.Session.tls` is to be: an :class:`ssl.SSLObject`, usually.
            channel_bindings: octets by type, such as ``"tls-exporter"``; with any, mechanisms in -PLUS are offered.
            certificate: the client's verified certificate; with one, EXTERNAL is offered.

        Raises:
            LocalProtocolError: no handshake is awaited, or output from before it was not sent.

        Example::

            driver.tls_established(transport.get_extra_info("ssl_object"))
        """
        self.conn.tls_established(channel_binding=bool(channel_bindings), client_certificate=certificate is not None)
        self._tls, self._certificate, self._channel_bindings = tls, certificate, channel_bindings
        self._encrypted = True
        self._sasl = None
        if self._session is not None:
            self._session.tls = tls

    def tls_failed(self, reason: object) -> None:
        """The handshake failed, and why: logged. The session is over, and nothing more is sent. Step again.

        Raises:
            LocalProtocolError: no handshake is awaited.

        Example::

            except ssl.SSLError as exc: driver.tls_failed(exc)
        """
        self.conn.tls_failed()
        log.info("TLS with the client at %s failed: %s", self.session.peer, reason)

    # ---- events ----------------------------------------------------------------------------------

    def _starttls(self, event: StartTls) -> Call | None:
        if self._plan.on_starttls is not None:
            return self._notify(self._plan.on_starttls, self.session)
        self.conn.accept()
        return None

    def _proxy(self, event: Proxy) -> Call | None:
        reply = None if self.judge_proxy is None else self.judge_proxy(event.header)
        if reply is None:
            return self._decide(self._plan.on_proxy, self.session, event.header)
        self._turned_away = True
        self.conn.send_reply(reply)
        return None

    def _bad_proxy(self, event: BadProxy) -> Call | None:
        return self._notify(self._plan.on_proxy, self.session, None)

    def _command(self, event: CommandReceived) -> Call | None:
        return self._decide(self._plan.on_command, self.session, event.verb, event.argument)

    def _asked_refusal(self, event: Refusal) -> Call | None:
        return self._decide(self._plan.on_refusal, self.session, event.line, event.reply)

    def _xclient(self, event: Xclient) -> Call | None:
        if self.judge_xclient is not None:
            self.conn.trusted = self.judge_xclient(event.attributes)
        return None

    def _connect(self, event: Connect) -> Call | None:
        return self._decide(self._plan.on_connect, self.session)

    def _hello(self, event: Hello) -> Call | None:
        return self._decide(self._plan.on_hello, self.session, event)

    def _mail(self, event: Mail) -> Call | None:
        return self._decide(self._plan.on_mail, self.session, event.sender)

    def _rcpt(self, event: Rcpt) -> Call | None:
        return self._decide(self._plan.on_rcpt, self.session, event.recipient)

    def _data(self, event: Data) -> Call | None:
        return self._decide(self._plan.on_data, self.session, event.envelope)

    def _vrfy(self, event: Vrfy) -> Call | None:
        return self._decide(self._plan.on_vrfy, self.session, event.argument)

    def _expn(self, event: Expn) -> Call | None:
        return self._decide(self._plan.on_expn, self.session, event.argument)

    def _etrn(self, event: Etrn) -> Call | None:
        return self._decide(self._plan.on_etrn, self.session, event.argument)

    def _refused(self, event: Refused) -> Call | None:
        return self._notify(self._plan.on_refused, self.session, event)

    def _reset(self, event: Reset) -> Call | None:
        return self._notify(self._plan.on_reset, self.session)

    def _message(self, event: Message) -> Call | None:
        body = self._body
        if body is not None:
            if body._finished:
                self._body = None
                self._answer(self._plan.on_body, body._answer, body._recipients)
            else:
                body._ended = True
                self.blocked = True
                body._wake()
            return None
        method = self._plan.on_message
        if method is None:
            self.conn.accept()
            return None
        envelope = event.envelope
        session = self.session
        session._message = event
        content = event.content
        if self._plan.complete is not None:
            content = self._plan.complete(content)
        call = self._decide(method, session, envelope, content, recipients=len(envelope.recipients))
        if call is None:
            session._message = None
        return call

    def _disconnect(self, event: Disconnect) -> Call | None:
        self.reason = event.reason
        self.blocked = True
        return None

    # ---- calls -----------------------------------------------------------------------------------

    def _decide(self, method: Method, *args: object, recipients: int | None = None) -> Call | None:
        if method is None:  # the config asks for more than the handler answers
            self.conn.accept()
            return None
        try:
            result = method(*args)
        except BaseException as exc:
            if by_signal(exc):
                raise
            rescue = self._rescue(method, exc)
            if is_awaitable(rescue):
                return self._wait_for(_DECISION, self._plan.on_error, rescue, recipients)
            self._answer(self._plan.on_error, rescue, recipients)
            return None
        if result is None:
            self.conn.accept()
        elif is_awaitable(result):
            return self._wait_for(_DECISION, method, result, recipients)
        else:
            self._answer(method, result, recipients)
        return None

    def _notify(self, method: Method, *args: object) -> Call | None:
        if method is None:
            return None
        try:
            result = method(*args)
        except BaseException as exc:
            if by_signal(exc):
                raise
            self._log_failure(method, exc)
            return None
        if is_awaitable(result):
            return self._wait_for(_NOTICE, method, result)
        return None

    def _wait_for(
        self, kind: CallKind, method: Method, awaitable: Awaitable[Any], recipients: int | None = None
    ) -> Call:
        """The session waits until this is over."""
        self.blocked = True
        self._pending = call = Call(self, kind, method, awaitable, recipients)
        return call

    def _go_on(self) -> None:
        """Nothing more to wait for, unless a decision is open or it is all over."""
        self.blocked = self.reason is not None or self._pending is not None

    def make_event(self) -> Wakeup:
        """An event of the adapter's loop, for a body that waits."""
        return self._adapter.make_event()

    @property
    def _began(self) -> bool:
        """Whether the session came as far as its greeting: where ``on_connect`` is asked, ``on_disconnect`` is told."""
        conn, config = self.conn, self.conn.config
        before_tls = config.tls == "implicit" and not self._encrypted
        before_proxy = config.proxy and (conn.proxy is None or self._turned_away)
        return not (before_tls or before_proxy)

    def _say_goodbye(self) -> Call | None:
        if self.busy:
            return None
        self._said = True
        if self._plan.on_disconnect is None or not self._began:
            return None
        return self._notify(self._plan.on_disconnect, self.session, self.reason)

    def resume_call(self, call: Call, result: Any) -> None:
        if result is None and call._method is not None and call._method is self._plan.on_error:
            result = FAILED
        if call._kind is _BODY:
            body = self._body
            if body is not None and body._call is call:
                self._body_over(body, result)
            return
        if call._kind is _SASL:
            if self._own is not None and self._own.call is call:
                self._next_call = self.own_mechanism_over(result)
                self._go_on()
            return
        if self._pending is not call:
            return
        self._pending = None
        if call._kind is _AUTH:
            self._next_call = self._verdict(call._method, result)
        elif call._kind is _DELAY:
            if not self._lost:
                self.conn.send_reply(self._refusal)
        elif call._kind is _DECISION:
            if self._session is not None:
                self._session._message = None
            self._answer(call._method, result, call._recipients)
        self._go_on()

    def fail_call(self, call: Call, exc: BaseException) -> None:
        if call._kind is _BODY:
            body = self._body
            if body is not None and body._error is not None and isinstance(exc, ContentAbortedError):
                self._body_over(body, None)
                return
        if call._kind is _SASL and isinstance(exc, SaslCancelledError):
            self.resume_call(call, None)
            return
        if call._kind in (_DECISION, _BODY) and isinstance(exc, Exception) and not self._lost:
            rescue = self._rescue(call._method, exc)
            if is_awaitable(rescue):
                self._next_call = self._rescue_later(call, rescue)
            else:
                self.resume_call(call, rescue)
            return
        # A call that is cancelled or closed because the client left is no failure.
        if not (self._lost and (is_cancellation(exc) or is_torn_down(exc))):
            self._log_failure(call._method, exc)
        in_auth = call._kind is _AUTH or call._kind is _SASL
        self.resume_call(call, AUTH_FAILED if in_auth else self._failed(call._method))

    def _answer(self, method: Method, result: Answer, recipients: int | None) -> None:
        """Give the engine the answer for its open decision."""
        if self._lost:
            return
        conn = self.conn
        try:
            if result is None:
                conn.accept()
            elif isinstance(result, Reply):
                conn.send_reply(result)
            elif isinstance(result, str):
                conn.send_reply(Reply.parse(result))
            elif isinstance(result, Raw):
                conn.answer_raw(result.octets, accepted=result.accepted)
            else:
                conn.reply_recipients(replies_of(result, recipients))
        except Exception as exc:
            self._log_failure(method, exc)
            if conn.decision_open:
                conn.send_reply(self._failed(method))


_DISPATCH: Final[dict[type, Callable[[ServerDriver, Any], Call | None]]] = {
    Auth: ServerDriver._auth,
    AuthCancelled: ServerDriver._auth_cancelled,
    AuthResponse: ServerDriver._auth_response,
    BadProxy: ServerDriver._bad_proxy,
    CommandReceived: ServerDriver._command,
    Refusal: ServerDriver._asked_refusal,
    StartTls: ServerDriver._starttls,
    Proxy: ServerDriver._proxy,
    Xclient: ServerDriver._xclient,
    Connect: ServerDriver._connect,
    Hello: ServerDriver._hello,
    Mail: ServerDriver._mail,
    Rcpt: ServerDriver._rcpt,
    Data: ServerDriver._data,
    ContentStart: ServerDriver._content_start,
    Chunk: ServerDriver._chunk,
    ContentAborted: ServerDriver._content_aborted,
    Message: ServerDriver._message,
    Vrfy: ServerDriver._vrfy,
    Expn: ServerDriver._expn,
    Etrn: ServerDriver._etrn,
    Refused: ServerDriver._refused,
    Reset: ServerDriver._reset,
    Disconnect: ServerDriver._disconnect,
}
