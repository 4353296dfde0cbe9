"""AUTH in a session: what the engine gets from the client goes to a mechanism, and the mechanism's steps become calls
of ``on_auth``, challenges and replies (RFC 4954). No I/O, no event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import Auth, AuthCancelled, AuthResponse, Reply, ServerConnection
from ehlo._errors import LocalProtocolError
from ehlo._hooks import by_signal
from ehlo._sasl.credentials import Identity, Verdict
from ehlo._sasl.server import Accept, Ask, Refuse, SaslContext, Send, ServerExchange, Step, judge_own
from ehlo._server.adapter import Adapter
from ehlo._server.answers import AUTH_FAILED, Call, CallKind, is_awaitable
from ehlo._server.own_mechanism import OwnMechanism
from ehlo._server.rescue import Rescue
from ehlo._server.session import Method, Raw
from ehlo._types import Wakeup

__all__ = ["Authentication"]

_AUTH: Final = CallKind.AUTH
_DELAY: Final = CallKind.DELAY


class Authentication(Rescue):
    """The part of a :class:`ehlo._server.driver.ServerDriver` that speaks AUTH.

    Attributes:
        _sasl: the exchange that is going on; ``None`` without one.
        _late: the verdict of an own exchange that ended while its challenge was out: given for the response.
        _own: the exchange that the program speaks itself; ``None`` without one.
        _refusal: the reply that a client hears when its delay is over.
        _welcome: the program's own 235, for the identity that it has just accepted.
        slow_down: it gets the number of failed AUTH commands, and returns what is awaited first (RFC 4954 9).
    """

    __slots__ = ("_late", "_own", "_refusal", "_sasl", "_welcome", "blocked")

    conn: ServerConnection
    slow_down: Callable[[int], Awaitable[object]] | None
    _certificate: object
    _channel_bindings: Mapping[str, bytes] | None
    _lost: bool
    _refusal: Reply
    _sasl: ServerExchange | None
    _late: object
    _own: OwnMechanism | None
    _welcome: Reply | None
    blocked: bool

    if TYPE_CHECKING:  # the driver has these
        _wait_for: Callable[..., Call]
        _go_on: Callable[[], None]
        _adapter: Adapter
        make_event: Callable[[], Wakeup]

    def _auth(self, event: Auth) -> Call | None:
        if self._plan.on_sasl is not None:
            own = OwnMechanism(self._send_challenge, self.make_event)
            try:
                result = self._plan.on_sasl(self.session, event.mechanism, event.initial_response, own.challenge)
            except BaseException as exc:
                if by_signal(exc):
                    raise
                self._log_failure(self._plan.on_sasl, exc)
                result = AUTH_FAILED
            if is_awaitable(result):
                self._own = own
                self.blocked = True
                own.call = call = Call(self, CallKind.SASL, self._plan.on_sasl, result)  # type: ignore[arg-type]
                return call
            if result is not NotImplemented:
                return self._own_verdict(result)
        if self._plan.on_auth is None:
            self.conn.send_reply(AUTH_FAILED)
            return None
        session = self.session
        session.mechanism, session.attempted = event.mechanism, None
        bindings, config = self._channel_bindings, self.conn.config
        context = SaslContext(
            hostname=self._plan.hostname,
            channel_bindings={} if bindings is None else bindings,
            offered=frozenset(config.auth) if bindings else frozenset(),
            certificate=self._certificate,
        )
        self._sasl = exchange = ServerExchange(event.mechanism, context)
        return self._sasl_step(exchange.start(event.initial_response))

    def _send_challenge(self, octets: bytes) -> None:
        """The program's own mechanism asks the client. The session goes on: the response is its next line."""
        self.conn.challenge(octets)
        self._go_on()
        self._adapter.wake()

    def _auth_cancelled(self, event: AuthCancelled) -> Call | None:
        """The program's own mechanism ends before anything else of the session is asked."""
        self._sasl = self._late = None
        if self._own is not None and self._own.call is not None:
            self.blocked = True
            self._own.respond(None)
        return None

    def own_mechanism_over(self, verdict: Verdict | Raw) -> Call | None:
        """The program's own mechanism has ended with this verdict."""
        own, self._own = self._own, None
        if self._lost or (own is not None and own.cancelled):
            return None
        if not self.conn.decision_open:
            self._late = (verdict,)
            return None
        return self._own_verdict(verdict)

    def _own_verdict(self, verdict: Any) -> Call | None:
        if isinstance(verdict, Raw):
            self.conn.answer_raw(verdict.octets, accepted=False)
            return None
        try:
            step = judge_own(verdict)
            self._keep_welcome(verdict)
        except Exception as exc:
            self._log_failure(self._plan.on_sasl, exc)
            step = Refuse(AUTH_FAILED)
        return self._sasl_step(step)

    def _keep_welcome(self, verdict: Any) -> None:
        """The program's own 235, if it has one."""
        reply = verdict.reply if isinstance(verdict, Identity) else None
        reply = Reply.parse(reply) if isinstance(reply, str) else reply
        if reply is not None and reply.code != 235:
            raise LocalProtocolError(f"the reply of ehlo.Identity has code 235, not {reply.code} (RFC 4954 6)")
        self._welcome = reply

    def _auth_response(self, event: AuthResponse) -> Call | None:
        if isinstance(self._late, tuple):
            (verdict,), self._late = self._late, None
            return self._own_verdict(verdict)
        if self._own is not None:
            self.blocked = True
            self._own.respond(event.data)
            return None
        exchange = self._sasl
        if exchange is None:
            self.conn.send_reply(AUTH_FAILED)
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
                conn.accept_identity(step.identity, self._welcome)
                self._welcome = None
            case Refuse() if step.reply.is_permanent and self.slow_down is not None:
                self._sasl = None
                self._refusal = step.reply
                waiting = self.slow_down(conn.auth_failures + 1)
                return self._wait_for(_DELAY, self._plan.on_auth or self._plan.on_sasl, waiting)
            case Refuse():
                conn.send_reply(step.reply)
        self._sasl = None
        return None

    def _ask(self, step: Ask) -> Call | None:
        method = self._plan.on_auth
        assert method is not None
        self.session.attempted = getattr(step.credentials, "username", None)
        result: Any
        try:
            result = method(self.session, step.credentials)
        except BaseException as exc:
            if by_signal(exc):
                raise
            self._log_failure(method, exc)
            result = AUTH_FAILED
        if is_awaitable(result):
            return self._wait_for(_AUTH, method, result)
        return self._verdict(method, result)

    def _verdict(self, method: Method, result: Verdict) -> Call | None:
        """The program's word on credentials. What it should not have said is logged, and lets nobody in."""
        exchange = self._sasl
        if exchange is None or self._lost:
            return None
        try:
            self._keep_welcome(result)
            step = exchange.decide(result)
        except Exception as exc:
            self._log_failure(method, exc)
            step = Refuse(AUTH_FAILED)
        return self._sasl_step(step)
