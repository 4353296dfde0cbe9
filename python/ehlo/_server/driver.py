"""Events → handler calls → replies. No I/O, no event loop, no clock: both adapters drive this one class.

The adapter gives octets to ``driver.conn``, calls :meth:`ServerDriver.step` until it returns ``None``, then sends
``conn.data_to_send()`` in one write. A handler whose result is not awaitable is answered inside ``step``. Otherwise
``step`` returns a :class:`Call`: the adapter awaits ``call.awaitable`` somewhere, says ``call.resume(result)`` or
``call.fail(exc)``, and steps again. ``driver.blocked`` is true while the session waits for a handler.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from ehlo._core import (
    Auth,
    AuthResponse,
    Chunk,
    ClientAttributes,
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
    Reply,
    Reset,
    ServerConnection,
    StartTls,
    Vrfy,
    Xclient,
)
from ehlo._errors import LocalProtocolError
from ehlo._sasl.credentials import Verdict
from ehlo._sasl.server import Accept, Ask, Refuse, SaslContext, Send, ServerExchange, Step
from ehlo._server.handler import Answer, ContentAbortedError, Method, Plan, Result, Session
from ehlo._types import ServerEvent, Wakeup

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["Adapter", "Body", "Call", "ServerDriver"]

log: Final = logging.getLogger("ehlo")

# RFC 5321 4.2.3: 451 "Requested action aborted: local error in processing". Nothing of the exception goes out.
_FAILED: Final = Reply(451, "4.3.0", "Local error in processing")
# RFC 4954 6: the same for AUTH.
_AUTH_FAILED: Final = Reply(454, "4.7.0", "Temporary authentication failure")
_OK: Final = Reply(250, "2.0.0", "Ok")


class Adapter(Protocol):
    """What the driver asks of the adapter above it."""

    def peer(self) -> tuple[str, int] | None: ...

    def local(self) -> tuple[str, int] | str | None: ...

    def make_event(self) -> Wakeup: ...

    def wake(self) -> None:
        """The driver can go on though nothing was received: step soon, or now."""


class _Gone:
    """Stands for the adapter of a session that is over."""

    def peer(self) -> tuple[str, int] | None:
        return None

    def local(self) -> tuple[str, int] | str | None:
        return None

    def make_event(self) -> Wakeup:
        raise LocalProtocolError("this session is over")

    def wake(self) -> None:
        pass


_GONE: Final = _Gone()
_DECISION, _NOTICE, _BODY, _AUTH, _DELAY = 0, 1, 2, 3, 4


class Call:
    """A handler call that is not finished. The adapter awaits ``awaitable``, then calls :meth:`resume` or :meth:`fail`.

    Attributes:
        awaitable: what the handler returned.
        cancel: put here by the adapter: cancels what awaits, given the reason.
        done: it was answered; what comes later is ignored.

    Example::

        while (call := driver.step()) is not None:
            call.resume(await call.awaitable)
    """

    __slots__ = ("_driver", "_kind", "_method", "_recipients", "awaitable", "cancel", "done")

    def __init__(
        self, driver: ServerDriver, kind: int, method: Method, awaitable: Awaitable[Any], recipients: int = -1
    ) -> None:
        self._driver = driver
        self._kind = kind
        self._method = method
        self._recipients = recipients
        self.awaitable = awaitable
        self.cancel: Callable[[str], object] | None = None
        self.done = False

    def resume(self, result: Any) -> None:
        """The handler returned ``result``. Never raises; a result of the wrong type is logged and answered 451."""
        if not self.done:
            self.done = True
            self._driver._resume(self, result)

    def fail(self, exc: BaseException) -> None:
        """The handler raised ``exc``: logged, and answered ``451 4.3.0`` if the peer waits. Never raises."""
        if not self.done:
            self.done = True
            self._driver._fail(self, exc)


class Body(AsyncIterator[bytes]):
    """The content as :meth:`ehlo.Handler.on_body` reads it. Holds one chunk at most.

    Raises :class:`ehlo.ContentAbortedError` out of the iteration when the content will not become a message.

    Example::

        async for chunk in body:
            digest.update(chunk)
    """

    __slots__ = (
        "_answer",
        "_call",
        "_chunk",
        "_driver",
        "_ended",
        "_error",
        "_finished",
        "_recipients",
        "_told",
        "_waiter",
    )

    def __init__(self, driver: ServerDriver, recipients: int) -> None:
        self._driver = driver
        self._recipients = recipients
        self._chunk: bytes | None = None
        self._waiter: Wakeup | None = None
        self._call: Call | None = None
        self._error: str | None = None
        self._answer: Answer = None
        self._ended = False
        self._finished = False
        self._told = False

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._error is not None:
                self._told = True
                raise ContentAbortedError(self._error)
            chunk = self._chunk
            if chunk is not None:
                self._chunk = None
                self._driver._taken()
                return chunk
            if self._ended:
                raise StopAsyncIteration
            if self._finished:
                raise LocalProtocolError("the body of a message is read inside on_body, not after it returned")
            if self._waiter is not None:
                raise LocalProtocolError("the body of a message has one reader; two tasks iterate it at once")
            self._waiter = waiter = self._driver._adapter.make_event()
            try:
                await waiter.wait()
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()


class ServerDriver:
    """Drives one session: owns ``conn``, asks the handler, answers.

    Arguments:
        conn: the engine's side, made with the plan's decisions.
        plan: the handler's methods, from :func:`ehlo._server.handler.plan_of`.
        adapter: what runs this.

    Attributes:
        blocked: the session waits for a handler; until it answers, ``step`` does nothing.
        reason: why the session ended, ``None`` until it did.
        judge_proxy: told of the PROXY header before anything is said; a reply it returns stands for the greeting.
        judge_xclient: told of what XCLIENT said; returns whether a client at that address is trusted.
        slow_down: told how many AUTH commands of this session have failed, this one included; returns what is awaited
            before the client hears of it (RFC 4954 9).

    TLS: after a ``step`` that returned ``None``, look at ``conn.handshaking``. If it is true, send the output, shake
    hands (with ``conn.take_tls_input()`` as the first octets), then call :meth:`tls_established` or :meth:`tls_failed`,
    and step again.

    Example::

        driver.conn.receive_data(octets)
        while (call := driver.step()) is not None: start(call)
    """

    __slots__ = (
        "_adapter",
        "_body",
        "_certificate",
        "_channel_bindings",
        "_lost",
        "_next_call",
        "_pending",
        "_plan",
        "_refusal",
        "_said",
        "_sasl",
        "_session",
        "_tls",
        "blocked",
        "conn",
        "judge_proxy",
        "judge_xclient",
        "reason",
        "slow_down",
    )

    def __init__(self, conn: ServerConnection, plan: Plan, adapter: Adapter) -> None:
        self.conn = conn
        self.blocked = False
        self.reason: str | None = None
        self._plan = plan
        self._adapter = adapter
        self._session: Session | None = None
        self._pending: Call | None = None
        self._body: Body | None = None
        self._said = False
        self._lost = False
        self._sasl: ServerExchange | None = None
        self._refusal = _AUTH_FAILED
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
            return None if self._pending._kind == _DELAY else self._pending
        return self._body._call if self.blocked and self._body is not None else None

    @property
    def busy(self) -> bool:
        """A handler call is unfinished."""
        return self._pending is not None or (self._body is not None and self._body._call is not None)

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
        body = self._body
        if body is not None and body._call is not None:
            if body._error is None:
                body._error = "disconnected"
            if body._waiter is not None:
                body._wake()
            elif not body._told:  # one that knows is on its way out, and may have something to clean up
                calls.append(body._call)
        if self.reason is None:
            self.reason = "eof"
        self.blocked = True
        return calls

    def detach(self) -> None:
        """After the last call: forget the adapter, so that no reference cycle is left."""
        self._adapter = _GONE
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
        binding, certified = bool(channel_bindings), certificate is not None
        self.conn.tls_established(channel_binding=binding, client_certificate=certified)
        self._tls, self._certificate, self._channel_bindings = tls, certificate, channel_bindings
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

    def _auth(self, event: Auth) -> Call | None:
        if self._plan.on_auth is None:
            self.conn.send_reply(_AUTH_FAILED)
            return None
        bindings, config = self._channel_bindings, self.conn.config
        context = SaslContext(
            hostname=self._plan.hostname,
            channel_bindings={} if bindings is None else bindings,
            offered=frozenset(config.auth) if bindings else frozenset(),
            certificate=self._certificate,
        )
        self._sasl = exchange = ServerExchange(event.mechanism, context)
        return self._sasl_step(exchange.start(event.initial_response))

    def _auth_response(self, event: AuthResponse) -> Call | None:
        exchange = self._sasl
        if exchange is None:
            self.conn.send_reply(_AUTH_FAILED)
            return None
        return self._sasl_step(exchange.respond(event.data))

    def _sasl_step(self, step: Step) -> Call | None:
        conn = self.conn
        match step:
            case Send():
                conn.challenge(step.challenge)
                return None
            case Ask():
                return self._ask(step)
            case Accept():
                conn.accept_identity(step.identity)
            case Refuse() if step.reply.is_permanent and self.slow_down is not None:
                self._sasl = None
                self._refusal = step.reply
                waiting = self.slow_down(conn.auth_failures + 1)
                return self._wait_for(_DELAY, self._plan.on_auth, waiting)
            case Refuse():
                conn.send_reply(step.reply)
        self._sasl = None
        return None

    def _ask(self, step: Ask) -> Call | None:
        method = self._plan.on_auth
        assert method is not None
        result: Any
        try:
            result = method(self.session, step.credentials)
        except Exception as exc:
            self._log_failure(method, exc)
            result = _AUTH_FAILED
        if _is_awaitable(result):
            return self._wait_for(_AUTH, method, result)
        return self._verdict(method, result)

    def _verdict(self, method: Method, result: Verdict) -> Call | None:
        """The program's word on credentials. What it should not have said is logged, and lets nobody in."""
        exchange = self._sasl
        if exchange is None or self._lost:
            return None
        try:
            step = exchange.decide(result)
        except Exception as exc:
            self._log_failure(method, exc)
            step = Refuse(_AUTH_FAILED)
        return self._sasl_step(step)

    def _starttls(self, event: StartTls) -> Call | None:
        self.conn.accept()
        return None

    def _proxy(self, event: Proxy) -> Call | None:
        reply = None if self.judge_proxy is None else self.judge_proxy(event.header)
        if reply is None:
            self.conn.accept()
        else:
            self.conn.send_reply(reply)
        return None

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

    def _content_start(self, event: ContentStart) -> Call | None:
        method = self._plan.on_body
        if method is None:
            return None
        envelope = event.envelope
        self._body = body = Body(self, len(envelope.recipients))
        try:
            result = method(self.session, envelope, body)
        except Exception as exc:
            self._log_failure(method, exc)
            self._body_over(body, _FAILED)
            return None
        if _is_awaitable(result):
            body._call = call = Call(self, _BODY, method, result)
            return call
        self._body_over(body, result)
        return None

    def _chunk(self, event: Chunk) -> Call | None:
        body = self._body
        if body is not None and not body._finished:
            data = event.data
            if data:
                body._chunk = data
                self.blocked = True
                body._wake()
        return None

    def _content_aborted(self, event: ContentAborted) -> Call | None:
        body = self._body
        if body is not None:
            body._error = event.reason
            if body._call is None:
                self._body = None
            else:
                # One call at a time: the handler ends before anything else of this session is asked.
                self.blocked = True
                body._wake()
        return None

    def _disconnect(self, event: Disconnect) -> Call | None:
        self.reason = event.reason
        self.blocked = True
        return None

    # ---- calls -----------------------------------------------------------------------------------

    def _decide(self, method: Method, *args: object, recipients: int = -1) -> Call | None:
        if method is None:  # the config asks for more than the handler answers
            self.conn.accept()
            return None
        try:
            result = method(*args)
        except Exception as exc:
            self._log_failure(method, exc)
            self.conn.send_reply(_FAILED)
            return None
        if result is None:
            self.conn.accept()
        elif _is_awaitable(result):
            return self._wait_for(_DECISION, method, result, recipients)
        else:
            self._answer(method, result, recipients)
        return None

    def _notify(self, method: Method, *args: object) -> Call | None:
        if method is None:
            return None
        try:
            result = method(*args)
        except Exception as exc:
            self._log_failure(method, exc)
            return None
        if _is_awaitable(result):
            return self._wait_for(_NOTICE, method, result)
        return None

    def _wait_for(self, kind: int, method: Method, awaitable: Awaitable[Any], recipients: int = -1) -> Call:
        """The session waits until this is over."""
        self._pending = call = Call(self, kind, method, awaitable, recipients)
        self.blocked = True
        return call

    def _go_on(self) -> None:
        """Nothing more to wait for, unless a decision is open or it is all over."""
        self.blocked = self.reason is not None or self._pending is not None

    def _say_goodbye(self) -> Call | None:
        if self.busy:
            return None
        self._said = True
        if self._plan.on_disconnect is None:
            return None
        return self._notify(self._plan.on_disconnect, self.session, self.reason)

    def _resume(self, call: Call, result: Any) -> None:
        if call._kind == _BODY:
            body = self._body
            if body is not None and body._call is call:
                self._body_over(body, result)
            return
        if self._pending is not call:
            return
        self._pending = None
        if call._kind == _AUTH:
            self._next_call = self._verdict(call._method, result)
        elif call._kind == _DELAY:
            if not self._lost:
                self.conn.send_reply(self._refusal)
        elif call._kind == _DECISION:
            if self._session is not None:
                self._session._message = None
            self._answer(call._method, result, call._recipients)
        self._go_on()

    def _fail(self, call: Call, exc: BaseException) -> None:
        if call._kind == _BODY:
            body = self._body
            if body is not None and body._error is not None and isinstance(exc, ContentAbortedError):
                self._body_over(body, None)
                return
        if isinstance(exc, Exception) or not self._lost:  # a call cancelled because the client left is no failure
            self._log_failure(call._method, exc)
        self._resume(call, _AUTH_FAILED if call._kind == _AUTH else _FAILED)

    def _body_over(self, body: Body, result: Answer) -> None:
        """The handler's word on a body is known."""
        body._call = None
        body._finished = True
        body._chunk = None
        if body._error is not None:
            self._body = None
        elif body._ended:
            self._body = None
            self._answer(self._plan.on_body, result, body._recipients)
        else:
            body._answer = self._early(result, body._recipients)
        # A decision on another command (VRFY between two BDAT chunks) may be open at the same time.
        self._go_on()

    def _early(self, result: Answer, recipients: int) -> Answer:
        """An answer before the content's end: a refusal is given to the engine, which drains the rest (S-DAT-15)."""
        try:
            if isinstance(result, str):
                result = Reply.parse(result)
            elif result is not None and not isinstance(result, Reply):
                result = _replies(result, recipients)
        except Exception as exc:
            self._log_failure(self._plan.on_body, exc)
            result = _FAILED
        if isinstance(result, Reply) and not result.is_positive and not self._lost:
            # If all of it has come by now, the answer waits for its event as it does anyway.
            with contextlib.suppress(LocalProtocolError):
                self.conn.refuse_content(result)
        return result

    def _taken(self) -> None:
        """The handler took the chunk: the session can go on."""
        self._go_on()
        self._adapter.wake()

    def _answer(self, method: Method, result: Answer, recipients: int) -> None:
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
            else:
                conn.reply_recipients(_replies(result, recipients))
        except Exception as exc:
            self._log_failure(method, exc)
            if conn.decision_open:
                conn.send_reply(_FAILED)

    def _log_failure(self, method: Method, exc: BaseException) -> None:
        self._plan.failures += 1
        name = getattr(method, "__qualname__", None) or type(method).__name__
        log.error("handler %s failed for the client at %s", name, self.session.peer, exc_info=exc)


def _is_awaitable(result: Result) -> TypeIs[Awaitable[Answer]]:
    return hasattr(type(result), "__await__")


def _replies(result: object, recipients: int) -> list[Reply]:
    """One reply a recipient, for LMTP (RFC 2033 4.2)."""
    if not isinstance(result, Sequence) or isinstance(result, bytes | bytearray | memoryview):
        raise TypeError(f"a handler answers with None, str or ehlo.Reply, not {type(result).__name__}")
    if recipients < 0:
        raise TypeError("only on_message and on_body may answer with a sequence, and only in LMTP")
    if len(result) != recipients:
        raise LocalProtocolError(f"expected {recipients} answers, one a recipient; the handler gave {len(result)}")
    replies = []
    for one in result:
        if isinstance(one, str):
            one = Reply.parse(one)
        elif one is None:
            one = _OK
        elif not isinstance(one, Reply):
            raise TypeError(f"an answer for a recipient is None, str or ehlo.Reply, not {type(one).__name__}")
        replies.append(one)
    return replies


_DISPATCH: Final[dict[type, Callable[[ServerDriver, Any], Call | None]]] = {
    Auth: ServerDriver._auth,
    AuthResponse: ServerDriver._auth_response,
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
    Reset: ServerDriver._reset,
    Disconnect: ServerDriver._disconnect,
}
