"""The contract between a server and the program that decides: :class:`Handler`, and which of its methods are there."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ehlo._core import (
    Envelope,
    Hello,
    ProxyHeader,
    Recipient,
    Refused,
    Reply,
    Sender,
)
from ehlo._errors import LocalProtocolError
from ehlo._sasl.credentials import Credentials, Verdict
from ehlo._server.session import Method, Result, Session
from ehlo._types import Decision

__all__ = [
    "Handler",
    "HandlerPlan",
    "decisions_of",
    "method_of",
    "plan_of",
]

ContentMode: TypeAlias = Literal["collect", "stream", "discard"]


class Handler:
    """What a program decides about a session. Make a subclass, and override a method for each of your decisions.

    Each handler has ``on_message``, which gets a whole message, or ``on_body``, which gets it in pieces. The most used
    others are, in the order of a session: ``on_connect``, ``on_hello``, ``on_auth``, ``on_mail``, ``on_rcpt`` and
    ``on_disconnect``. Without a method, the engine decides.

    A method is ``def`` or ``async def``. It returns an :data:`Answer`:

    - ``None`` accepts. In ``on_auth`` and ``on_sasl`` it refuses, and in ``on_refusal`` and ``on_error`` the refusal
      stands.
    - A string like ``"550 5.1.1 no such user"``, or a :class:`ehlo.Reply`, is sent.
    - At the end of a message in LMTP, a sequence has one of them for each accepted recipient (RFC 2033 4.2).

    :data:`Result` in the signatures below is an ``Answer``, or an awaitable of one. A :data:`Verdict`, for AUTH, may
    also be ``True``, ``False`` or an :class:`ehlo.Identity`.

    An exception is logged with its traceback, and answered ``451 4.3.0``. Calls of one session never overlap, except
    that ``on_body`` runs while its content comes. If the connection is lost, the running call is cancelled at its wait.
    On trio a thread comes to its end first, and the call goes on to its next wait. ``on_reset``, ``on_refused`` and
    ``on_disconnect`` answer nothing, and are not cancelled.

    A handler may have two attributes. ``config``, a :class:`ehlo.ServerConfig`, is used if ``serve`` gets no config.
    ``reports_delivery = True`` says that the handler sends the notifications that clients ask for: ``serve`` then
    offers DSN (RFC 3461). Any object with some of these methods is a handler, too: it need not be a subclass.

    Example::

        class Mine(ehlo.Handler):
            async def on_message(self, session, envelope, content): await keep(envelope, content)
    """

    __slots__ = ()

    def on_connect(self, session: Session) -> Result:
        """A client connected. A 554 or 421 refuses it (RFC 5321 3.1); a 220 gives the greeting's text.

        Example::

            def on_connect(self, session):
                return "554 5.7.1 no" if is_listed(session.peer) else None
        """
        return None

    def on_hello(self, session: Session, hello: Hello) -> Result:
        """EHLO, HELO or LHLO came (RFC 5321 4.1.1.1); ``hello.verb`` and ``hello.name``. A positive reply of several
        lines replaces the whole reply of the engine: our name, then a line for each keyword. A positive reply of one
        line replaces the reply to HELO, and changes nothing for EHLO.

        Example::

            def on_hello(self, session, hello):
                return "550 5.7.1 that is my name" if hello.name == session.hostname else None
        """
        return None

    def on_auth(self, session: Session, credentials: Credentials) -> Verdict | Awaitable[Verdict]:
        """AUTH came (RFC 4954), with ``auth=`` in the config. The class of the credentials depends on the mechanism:

        - :class:`ehlo.PasswordCredentials` of PLAIN and LOGIN, :class:`ehlo.CramCredentials` of CRAM-MD5;
        - :class:`ehlo.TokenCredentials` of OAUTHBEARER and XOAUTH2;
        - :class:`ehlo.ExternalCredentials` of EXTERNAL, a client certificate;
        - :class:`ehlo.ScramCredentials` of SCRAM: to be answered with :class:`ehlo.ScramKeys`.

        Unlike elsewhere ``None`` refuses, so that nobody gets in by a forgotten ``return``. ``True`` accepts the client
        as ``credentials.identity``, :class:`ehlo.Identity` as somebody else. ``None`` and ``False`` answer 535. A
        string or reply, 4yz or 5yz, is sent: ``"454 4.7.0 try again later"`` if the backend is down. If the method
        raises, the client gets 454 4.7.0.

        An unknown user must take as long as a wrong password. ``check(None)`` does this, and so does
        :class:`ehlo.Users`, a file of users. To check its hashes takes time on purpose: an
        :class:`ehlo.asyncio.Authenticator` does it beside the event loop.

        Example::

            async def on_auth(self, session, credentials):
                return await self.authenticator.check(session, credentials)
        """
        return None

    def on_sasl(
        self,
        session: Session,
        mechanism: str,
        initial: bytes | None,
        challenge: Callable[[bytes], Awaitable[bytes]],
    ) -> Verdict | Awaitable[Verdict]:
        """AUTH came, and the program speaks the mechanism itself (RFC 4954 4, RFC 4422 5). Name the mechanism in
        ``auth`` of the config. If a plain method returns ``NotImplemented``, the engine and ``on_auth`` do the
        exchange.

        Arguments:
            mechanism: in upper case.
            initial: the initial response, decoded; ``None`` without one. An empty one is ``b""``.
            challenge: ``await challenge(octets)`` sends a challenge and gives the response, both without base64. It
                raises :class:`ehlo.SaslCancelledError` if the client gives up.

        :class:`ehlo.Identity` accepts. ``None`` and ``False`` answer 535; a string or reply, 4yz or 5yz, is sent.

        Example::

            async def on_sasl(self, session, mechanism, initial, challenge):
                return ehlo.Identity("jane") if await challenge(b"2 + 2") == b"4" else None
        """
        left: Any = NotImplemented
        return left  # type: ignore[no-any-return]

    def on_proxy(self, session: Session, header: ProxyHeader | None) -> Result:
        """A PROXY header came, with ``proxy`` in the config (PROXY protocol 2). A reply replaces the greeting.

        ``header`` is ``None`` if the header is wrong. Then the session ends without a reply, and the result is ignored.
        ``session.proxy_octets`` has the octets that came.

        Example::

            def on_proxy(self, session, header):
                if header is None: log.warning("no header: %r", session.proxy_octets)
        """
        return None

    def on_command(self, session: Session, command: str, argument: str) -> Result:
        """A command came that the engine does not know, or NOOP, HELP, RSET or QUIT (RFC 5321 4.1.1.11). ``None``
        lets the engine answer. Announce commands of your own by ``ehlo_keywords`` in the config.

        A positive answer to RSET drops the transaction, and one to QUIT ends the session. ``command`` is in upper case.

        Example::

            def on_command(self, session, command, argument):
                return "250 2.0.0 3.1" if command == "XVERSION" else None
        """
        return None

    def on_refusal(self, session: Session, command: bytes, reply: Reply) -> Result:
        """The engine refuses a command, or content. ``None`` sends ``reply``; a 4yz or 5yz answer replaces it.

        ``command`` is the line without its end. It is empty for content, and for a line that is too long. This method
        is not called for a reply that ends the session, or for one in the middle of AUTH or BDAT.

        Example::

            def on_refusal(self, session, command, reply):
                log.info("%s: %r was answered %d", session.peer, command, reply.code)
        """
        return None

    def on_error(self, session: Session, exception: Exception) -> Result:
        """Another method raised, and the client waits for its answer. ``None`` sends ``451 4.3.0``; a 4yz or 5yz answer
        is sent as it is. With this method the exception is not logged.

        It is not called for methods of AUTH, which answer 454. It is not called for ``SystemExit`` and others that are
        no subclass of ``Exception``: these are logged and answered 451.

        Example::

            def on_error(self, session, exception):
                log.error("%s", exception); return "452 4.3.1 later" if isinstance(exception, OSError) else None
        """
        return None

    def on_mail(self, session: Session, sender: Sender) -> Result:
        """MAIL came (RFC 5321 4.1.1.2); ``sender.path`` is an :class:`ehlo.Address` or :data:`ehlo.NULL`.

        Example::

            async def on_mail(self, session, sender):
                return None if await known(sender.path) else "550 5.7.1 sender unknown"
        """
        return None

    def on_rcpt(self, session: Session, recipient: Recipient) -> Result:
        """RCPT came (RFC 5321 4.1.1.3). An accepted recipient is put into the envelope by the engine.

        Example::

            def on_rcpt(self, session, recipient):
                return None if str(recipient.path) in USERS else "550 5.1.1 no such user"
        """
        return None

    def on_data(self, session: Session, envelope: Envelope) -> Result:
        """Content is about to come, by DATA or a first BDAT (RFC 5321 4.1.1.4, RFC 3030 2). ``None`` accepts.

        Example::

            def on_data(self, session, envelope):
                return "452 4.3.1 disk full" if full() else None
        """
        return None

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        """A whole message is here, without dot-stuffing, and its lines end with CRLF. If you accept it, you are
        responsible for it (RFC 5321 4.2.5, 6.1). In submission a missing Date or Message-ID was added (RFC 6409 8.2,
        8.3).

        In LMTP the answer may be a sequence: one answer for each recipient of ``envelope.recipients``, in order
        (RFC 2033 4.2). In SMTP there is one reply for all, and a sequence is an error.

        Example::

            async def on_message(self, session, envelope, content):
                return "250 2.0.0 queued as " + await queue(envelope, content)
        """
        return None

    def on_body(self, session: Session, envelope: Envelope, body: AsyncIterator[bytes]) -> Result:
        """Instead of ``on_message``: the content as it comes, in chunks of at most some 64 KiB.

        ``async for chunk in body`` ends when the message is whole; the answer is for the message. While the handler
        works on a chunk, the adapter stops reading. A handler may return early: a refusal is sent when the client has
        sent all, and ``None`` drops the rest. In LMTP the answer may be a sequence, as in ``on_message``. If the
        content ends too early, the iteration raises :class:`ContentAbortedError`.

        Example::

            async def on_body(self, session, envelope, body):
                async for chunk in body: await file.write(chunk)
        """
        return None

    def on_vrfy(self, session: Session, argument: str) -> Result:
        """VRFY came (RFC 5321 3.5.1). Without this method the reply is 252.

        Example::

            def on_vrfy(self, session, argument):
                return f"250 2.1.5 <{USERS[argument]}>" if argument in USERS else "550 5.1.1 unknown"
        """
        return None

    def on_expn(self, session: Session, argument: str) -> Result:
        """EXPN came (RFC 5321 3.5.2). Without this method the reply is 502, and EHLO does not list the command.

        Example::

            def on_expn(self, session, argument):
                return ehlo.Reply(250, "2.1.5", [f"<{m}>" for m in LISTS[argument]])
        """
        return None

    def on_etrn(self, session: Session, argument: str) -> Result:
        """ETRN came (RFC 1985 5). Without this method the reply is 502, and EHLO does not list the command.

        Example::

            def on_etrn(self, session, argument):
                return "250 2.0.0 queue for that node started"
        """
        return None

    def on_reset(self, session: Session) -> Result:
        """A transaction was dropped by RSET or a new EHLO (RFC 5321 4.1.1.5). The returned value is ignored.

        Example::

            def on_reset(self, session):
                session.state.clear()
        """
        return None

    def on_refused(self, session: Session, refused: Refused) -> Result:
        """A reply 4yz or 5yz went out, of this handler or of the engine (RFC 5321 4.2.1). The returned value is
        ignored. For AUTH, ``session.mechanism`` and ``session.attempted`` say who tried.

        Example::

            def on_refused(self, session, refused):
                log.info("%s %s: %s", session.peer, refused.command, refused.reply)
        """
        return None

    def on_disconnect(self, session: Session, reason: str) -> Result:
        """The session is over; this is the last call. ``reason`` is that of :class:`ehlo.Disconnect`. The returned
        value is ignored.

        Example::

            def on_disconnect(self, session, reason):
                log.info("%s left: %s", session.peer, reason)
        """
        return None


_METHODS: Final = tuple(name for name in vars(Handler) if name.startswith("on_"))
_DECISIONS: tuple[tuple[str, Decision], ...] = (
    ("on_connect", "connect"),
    ("on_hello", "hello"),
    ("on_mail", "mail"),
    ("on_rcpt", "rcpt"),
    ("on_data", "data"),
    ("on_message", "message"),
    ("on_body", "message"),
    ("on_vrfy", "vrfy"),
    ("on_expn", "expn"),
    ("on_etrn", "etrn"),
    ("on_reset", "reset"),
    ("on_command", "command"),
    ("on_refusal", "refusal"),
    ("on_refused", "refused"),
)


@dataclass(slots=True)
class HandlerPlan:
    """Which methods a handler really has (``None`` where the default stands), looked up once for all sessions.

    Attributes:
        decisions: what to ask the engine for.
        content: how the engine is to treat content.
        hostname: the name this server gives itself.
        complete: what is done to a whole content before ``on_message`` gets it.
        failures: handler calls that raised, counted by the driver.
        on_starttls: what answers STARTTLS in a shape of another library; no method of a handler has this name.

    Example::

        plan = plan_of(handler)
        config = config.replace(decisions=plan.decisions, content=plan.content)
    """

    decisions: frozenset[Decision]
    content: ContentMode
    _: KW_ONLY
    on_connect: Method
    on_hello: Method
    on_auth: Callable[..., Any] | None  # Verdict | Awaitable[Verdict]
    on_mail: Method
    on_rcpt: Method
    on_data: Method
    on_message: Method
    on_body: Method
    on_vrfy: Method
    on_expn: Method
    on_etrn: Method
    on_reset: Method
    on_refused: Method
    on_disconnect: Method
    on_command: Method = None
    on_refusal: Method = None
    on_error: Method = None
    on_proxy: Method = None
    on_sasl: Callable[..., Any] | None = None
    on_starttls: Method = None  # it answers by itself
    hostname: str = field(default="localhost", init=False)
    complete: Callable[[bytes], bytes] | None = field(default=None, init=False)
    failures: int = field(default=0, init=False)


def method_of(handler: object, name: str) -> Method:
    """What ``handler`` has in place of the default; ``None`` where it has nothing."""
    method = getattr(handler, name, None)
    if method is None or getattr(method, "__func__", method) is getattr(Handler, name):
        return None
    if not callable(method):
        raise LocalProtocolError(f"{type(handler).__name__}.{name} must be a method, not {type(method).__name__}")
    return method  # type: ignore[no-any-return]


def _look_at_names(handler: object) -> None:
    """Whether each method that looks like a handler's is one: a misspelt one would never be called, and mail be lost.

    Raises:
        LocalProtocolError: a public callable ``on_…`` is no handler method, or cannot take the arguments.
    """
    for name in dir(handler):
        if not name.startswith("on_") or not callable(method := getattr(handler, name, None)):
            continue
        where = f"{type(handler).__name__}.{name}"
        if name not in _METHODS:
            near = difflib.get_close_matches(name, _METHODS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_METHODS)}"
            raise LocalProtocolError(f"{where} is no method of a handler: {hint}")
        if getattr(method, "__func__", method) is getattr(Handler, name):
            continue
        wanted = list(inspect.signature(getattr(Handler, name)).parameters)[1:]
        try:
            inspect.signature(method).bind(*wanted)
        except TypeError as exc:
            raise LocalProtocolError(f"{where} cannot be called with ({', '.join(wanted)}): {exc}") from None
        except ValueError:  # a builtin, which has no signature
            pass


def plan_of(handler: object) -> HandlerPlan:
    """What ``handler`` (any object with methods of :class:`Handler`) decides.

    Raises:
        LocalProtocolError: it has both ``on_message`` and ``on_body``, a method is not callable, or it is a class.

    Example::

        >>> plan_of(Handler()).content
        'discard'
    """
    if isinstance(handler, type):
        raise LocalProtocolError(f"the handler must be an object: write {handler.__name__}(), not {handler.__name__}")
    _look_at_names(handler)
    methods = {name: method_of(handler, name) for name, _ in _DECISIONS}
    content: ContentMode = "discard"
    if methods["on_body"] is not None:
        if methods["on_message"] is not None:
            raise LocalProtocolError(
                f"{type(handler).__name__} has both on_message and on_body: a message goes to one of them, keep one"
            )
        content = "stream"
    elif methods["on_message"] is not None:
        content = "collect"
    decisions = frozenset(decision for name, decision in _DECISIONS if methods[name] is not None)
    others = ("on_auth", "on_disconnect", "on_error", "on_proxy", "on_sasl")
    methods |= {name: method_of(handler, name) for name in others}
    return HandlerPlan(decisions, content, **methods)


def decisions_of(handler: object) -> tuple[frozenset[Decision], ContentMode]:
    """The ``decisions`` and the ``content`` mode for :class:`ehlo.ServerConfig` that ``handler`` needs.

    For those who drive a :class:`ehlo.ServerConnection` themselves. Raises :class:`ehlo.LocalProtocolError` like
    ``serve`` for a handler that has both ``on_message`` and ``on_body``.

    Example::

        decisions, content = ehlo.decisions_of(handler)
        config = config.replace(decisions=decisions, content=content)
    """
    plan = plan_of(handler)
    return plan.decisions, plan.content
