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
    Recipient,
    Refused,
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
    """What a program decides. Override what you need: only that is asked for, all else the engine answers.

    Each method may be plain or ``async``. ``None`` accepts, a string or :class:`ehlo.Reply` answers (:data:`Answer`).
    An exception is logged with its traceback and answered ``451 4.3.0`` without its text. Calls of one session never
    overlap, except that ``on_body`` runs while its content comes. If the connection is lost the running call is
    cancelled. Subclassing is not needed: any object that has some of these methods will do. Without ``on_message``
    and ``on_body`` a message is accepted and thrown away. An attribute ``config``, a :class:`ehlo.ServerConfig`, is
    what ``serve`` uses where it is given none.

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
        """EHLO, HELO or LHLO came (RFC 5321 4.1.1.1); ``hello.verb`` and ``hello.name``.

        Example::

            def on_hello(self, session, hello):
                return "550 5.7.1 that is my name" if hello.name == session.hostname else None
        """
        return None

    def on_auth(self, session: Session, credentials: Credentials) -> Verdict | Awaitable[Verdict]:
        """AUTH came (RFC 4954), with ``auth=`` in the config. What the credentials are depends on the mechanism:

        - :class:`ehlo.PasswordCredentials` of PLAIN and LOGIN, :class:`ehlo.CramCredentials` of CRAM-MD5;
        - :class:`ehlo.TokenCredentials` of OAUTHBEARER and XOAUTH2;
        - :class:`ehlo.ExternalCredentials` of EXTERNAL, a client certificate;
        - :class:`ehlo.ScramCredentials` of SCRAM: to be answered with :class:`ehlo.ScramKeys`.

        Unlike elsewhere ``None`` refuses, so that nobody gets in by a forgotten ``return``. ``True`` accepts the client
        as ``credentials.identity``, :class:`ehlo.Identity` as somebody else; ``None`` and ``False`` answer 535; a
        string or reply, 4yz or 5yz, is sent: ``"454 4.7.0 try again later"`` when the backend is down. A handler that
        raises is answered 454 4.7.0. Let an unknown user take as long as a wrong password: ``check(None)`` does, and
        so does :class:`ehlo.Users`, a file of users. The check of its hashes takes time on purpose: let an
        :class:`ehlo.asyncio.Authenticator` do it beside the event loop.

        Example::

            async def on_auth(self, session, credentials):
                return await self.authenticator.check(session, credentials)
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
        """Content is about to come, by DATA or a first BDAT (RFC 5321 4.1.1.4, RFC 3030 2). ``None`` lets it.

        Example::

            def on_data(self, session, envelope):
                return "452 4.3.1 disk full" if full() else None
        """
        return None

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        """A whole message is here, unstuffed, lines end by CRLF. Accepting takes responsibility (RFC 5321 4.2.5, 6.1).
        In submission Date and Message-ID were added if they were missing (RFC 6409 8.2, 8.3).

        Example::

            async def on_message(self, session, envelope, content):
                return "250 2.0.0 queued as " + await queue(envelope, content)
        """
        return None

    def on_body(self, session: Session, envelope: Envelope, body: AsyncIterator[bytes]) -> Result:
        """Instead of ``on_message``: the content as it comes, in chunks of at most some 64 KiB.

        ``async for chunk in body`` ends when the message is whole; the answer is for the message. While the handler
        is behind, the adapter stops reading. A handler may return early: a refusal is kept until the client has
        sent all and then given; ``None`` discards the rest. :class:`ContentAbortedError` comes out of the iteration
        when the content ends otherwise.

        Example::

            async def on_body(self, session, envelope, body):
                async for chunk in body: await file.write(chunk)
        """
        return None

    def on_vrfy(self, session: Session, argument: str) -> Result:
        """VRFY came (RFC 5321 3.5.1). Not overridden, it is answered 252.

        Example::

            def on_vrfy(self, session, argument):
                return f"250 2.1.5 <{USERS[argument]}>" if argument in USERS else "550 5.1.1 unknown"
        """
        return None

    def on_expn(self, session: Session, argument: str) -> Result:
        """EXPN came (RFC 5321 3.5.2). Not overridden, it is answered 502 and not in the EHLO list.

        Example::

            def on_expn(self, session, argument):
                return ehlo.Reply(250, "2.1.5", [f"<{m}>" for m in LISTS[argument]])
        """
        return None

    def on_etrn(self, session: Session, argument: str) -> Result:
        """ETRN came (RFC 1985 5). Not overridden, it is answered 502 and not in the EHLO list.

        Example::

            def on_etrn(self, session, argument):
                return "250 2.0.0 queue for that node started"
        """
        return None

    def on_reset(self, session: Session) -> Result:
        """A transaction was dropped by RSET or a new EHLO (RFC 5321 4.1.1.5). Whatever is returned is ignored.

        Example::

            def on_reset(self, session):
                session.state.clear()
        """
        return None

    def on_refused(self, session: Session, refused: Refused) -> Result:
        """A reply 4yz or 5yz went out: this handler's own or the engine's (RFC 5321 4.2.1). Whatever is returned is
        ignored. For AUTH, ``session.mechanism`` and ``session.attempted`` say who tried.

        Example::

            def on_refused(self, session, refused):
                log.info("%s %s: %s", session.peer, refused.command, refused.reply)
        """
        return None

    def on_disconnect(self, session: Session, reason: str) -> Result:
        """The session is over; the last call. ``reason`` as in :class:`ehlo.Disconnect`. What is returned is ignored.

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
    on_auth, on_disconnect = method_of(handler, "on_auth"), method_of(handler, "on_disconnect")
    return HandlerPlan(decisions, content, on_auth=on_auth, on_disconnect=on_disconnect, **methods)


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
