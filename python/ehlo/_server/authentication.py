"""AUTH in a session: what the engine gets from the client goes to a mechanism, and the mechanism's steps become calls
of ``on_auth``, challenges and replies (RFC 4954). No I/O, no event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ehlo._core import Auth, AuthResponse, Reply, ServerConnection
from ehlo._sasl.credentials import Verdict
from ehlo._sasl.server import Accept, Ask, Refuse, SaslContext, Send, ServerExchange, Step
from ehlo._server.answers import AUTH_FAILED, Call, CallKind, is_awaitable
from ehlo._server.handler import HandlerPlan
from ehlo._server.session import Method, Session

__all__ = ["Authentication"]

_AUTH: Final = CallKind.AUTH
_DELAY: Final = CallKind.DELAY


class Authentication:
    """The part of a :class:`ehlo._server.driver.ServerDriver` that speaks AUTH.

    Attributes:
        _sasl: the exchange that is going on; ``None`` without one.
        _refusal: the reply that a client hears when its delay is over.
        slow_down: it gets the number of failed AUTH commands, and returns what is awaited first (RFC 4954 9).
    """

    __slots__ = ("_refusal", "_sasl")

    conn: ServerConnection
    slow_down: Callable[[int], Awaitable[object]] | None
    _certificate: object
    _channel_bindings: Mapping[str, bytes] | None
    _lost: bool
    _plan: HandlerPlan
    _refusal: Reply
    _sasl: ServerExchange | None

    if TYPE_CHECKING:  # the driver has these

        @property
        def session(self) -> Session: ...

        _wait_for: Callable[..., Call]
        _log_failure: Callable[[Method, BaseException], None]

    def _auth(self, event: Auth) -> Call | None:
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

    def _auth_response(self, event: AuthResponse) -> Call | None:
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
        self.session.attempted = getattr(step.credentials, "username", None)
        result: Any
        try:
            result = method(self.session, step.credentials)
        except Exception as exc:
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
            step = exchange.decide(result)
        except Exception as exc:
            self._log_failure(method, exc)
            step = Refuse(AUTH_FAILED)
        return self._sasl_step(step)
