"""Filters around a handler: :class:`Filters`. Needs the package ``anyio``, which runs on asyncio and trio.

Example::

    from ehlo.milter.filters import Filters, Milter
    filters = Filters([Milter(address="unix:/run/opendkim/opendkim.sock", when_down="accept")], handler)
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

from ehlo._core import Envelope, Hello, Recipient, Reply, Sender, __version__
from ehlo._errors import LocalProtocolError
from ehlo._server.answers import is_awaitable
from ehlo._server.handler import Handler, method_of
from ehlo._server.session import Answer, Method, Result, Session
from ehlo._server.submission import submission_fields
from ehlo._types import path_text
from ehlo.dkim import remove_claims
from ehlo.milter._conversation import Conversation, Discard, Outcome
from ehlo.milter._link import Milter, Pool
from ehlo.milter._message import HeaderReader, HeaderTooLargeError, MessageInHand, answers_for
from ehlo.milter._words import REFUSED_BY, Command

__all__ = ["Discarded", "Filters", "Hold", "Milter"]

log: Final = logging.getLogger("ehlo.milter")

Hold: TypeAlias = Callable[[Session, Envelope, AsyncIterator[bytes], str], Result]
"""Takes a message that a filter wants kept back, in the handler's place: session, envelope, content, reason."""
Discarded: TypeAlias = Callable[[Session, Envelope, str], object]
"""Is told of a message that goes nowhere because of filters: session, envelope as it came, reason."""

_Outcome = TypeVar("_Outcome", bound=Outcome)

_KEY: Final = "ehlo.milter"
_DROPPED: Final = Reply(250, "2.0.0", "Ok")
_TOO_LARGE: Final = Reply(552, "5.3.4", "The header section is too large")
_NOT_HELD: Final = Reply(451, "4.7.1", "The message needs a review, try again later")
_AR: Final = b"authentication-results"
# All that no filter is asked about.
_PASSED_ON: Final = (
    *("on_auth", "on_sasl", "on_proxy", "on_command", "on_refusal", "on_error", "on_refused"),
    *("on_vrfy", "on_expn", "on_etrn"),
)


class _State:
    """What is known of one session."""

    __slots__ = ("base", "conversations", "discarded", "ident", "told")

    def __init__(self, conversations: list[Conversation], base: dict[str, str], told: dict[Any, Any]) -> None:
        self.told = told  # what others may know of the session
        self.conversations = conversations
        self.base = base
        self.ident = ""
        self.discarded = ""  # why the message goes nowhere

    def macros(self, **more: str | None) -> dict[str, str]:
        """All that is known, the session's identifier ``i`` among it."""
        named = {f"{{{name}}}": value for name, value in more.items() if value is not None}
        return {**self.base, **({"i": self.ident} if self.ident else {}), **named}

    async def each(self, ask: Callable[[Any], bool]) -> Outcome:
        """One step with each filter in order, until one of them refuses or discards."""
        if self.discarded:
            return None
        for conversation in self.conversations:
            outcome = await conversation.ask(ask)
            if outcome is not None:
                return self.noted(outcome, conversation)
        return None

    def noted(self, outcome: _Outcome, conversation: Conversation) -> _Outcome:
        if isinstance(outcome, Discard):
            self.discarded = f"filter {conversation.milter} threw it away"
        elif outcome is not None:
            self.told[REFUSED_BY] = (str(conversation.milter), outcome)
        return outcome


class Filters:
    """Puts filters around a handler. It is a handler itself, for :func:`ehlo.asyncio.serve` and its like on trio.

    The handler decides first; a command that it accepts goes to each filter, in order. Content streams to the first
    filter while it comes, and to each further one as the former left it. The handler gets what the last one left: in
    ``on_message`` at once, in ``on_body`` piece by piece. Above ``memory`` octets a body is kept in a file.

    Arguments:
        filters: each a :class:`Milter`, or its address.
        handler: any object with methods of :class:`ehlo.Handler`.
        hold: takes messages that a filter wants kept back (quarantine), in the handler's place. Without it such a
            message is answered 451.
        discarded: is told of each message that goes nowhere because of the filters, though the client gets 250.
            Without it there is a line in the log.
        authserv_id: our name in Authentication-Results. Fields that come in with that name are removed before the first
            filter sees them (RFC 8601 5). ``None``: nothing is removed.
        daemon_name: the macro ``{daemon_name}``, by which filters tell listeners apart.
        memory: octets of a body above which it is kept in a file.
        header_limit: octets of a header section above which the message is answered 552.

    Raises:
        LocalProtocolError: the handler has both ``on_message`` and ``on_body``, or an address is none.

    Use it as an async context, or :meth:`close` it: connections to filters wait for the next session. One object
    serves one event loop.

    Example::

        async with Filters(["unix:/run/opendkim/opendkim.sock"], Mine()) as filters:
            server = await ehlo.asyncio.serve(filters, "127.0.0.1", 2525)
    """

    def __init__(
        self,
        filters: Sequence[Milter | str],
        handler: object,
        *,
        hold: Hold | None = None,
        discarded: Discarded | None = None,
        authserv_id: str | None = None,
        daemon_name: str = "smtp",
        memory: int = 1 << 20,
        header_limit: int = 1 << 20,
    ) -> None:
        self._pools = [Pool(Milter(address=one) if isinstance(one, str) else one) for one in filters]
        self._handler = handler
        # What ``serve`` reads of a handler holds for the one within.
        self.config: object = getattr(handler, "config", None)
        self.reports_delivery: bool = getattr(handler, "reports_delivery", None) is True
        self._hold = hold
        self._discarded = discarded
        self._authserv_id = authserv_id
        self._daemon_name = daemon_name
        self._memory = memory
        self._header_limit = header_limit
        if isinstance(handler, type):
            raise LocalProtocolError(f"the handler must be an object: write {handler.__name__}()")
        names = [name for name in vars(Handler) if name.startswith("on_")]
        self._methods: dict[str, Method] = {name: method_of(handler, name) for name in names if name != "on_auth"}
        if self._methods["on_message"] is not None and self._methods["on_body"] is not None:
            raise LocalProtocolError("the handler has both on_message and on_body: a message goes to one of them")
        for name in _PASSED_ON:  # only if the handler has them: what a server offers depends on it
            method = method_of(handler, name)
            if method is not None:
                setattr(self, name, method)

    async def __aenter__(self) -> Filters:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that wait for a session."""
        for pool in self._pools:
            await pool.close()

    # ---- the session -----------------------------------------------------------------------------

    async def on_connect(self, session: Session) -> Answer:
        answer = await self._call("on_connect", session)
        if _is_refusal(answer):
            return answer
        await self._leave(session)  # after XCLIENT the session begins anew, with another client
        state = self._state(session)
        address, port = session.peer or (None, 0)
        address = None if address == "unknown" else address  # a front could not name the client
        name = _client_name(session)
        macros = state.macros()
        for conversation in state.conversations:
            outcome = await conversation.connect(lambda client: client.connect(name, address, port, macros))
            if isinstance(outcome, Reply) and conversation.link is not None:
                return state.noted(_greeting(outcome), conversation)
        return answer

    async def on_hello(self, session: Session, hello: Hello) -> Answer:
        answer = await self._call("on_hello", session, hello)
        if _is_refusal(answer):
            return answer
        state = self._state(session)
        await self._reset(state)
        macros = state.macros(**_tls_macros(session))
        for conversation in state.conversations:
            outcome = await conversation.ask(lambda client: client.hello(hello.name, macros))
            # A filter that is down refuses mail, not the session.
            if isinstance(outcome, Reply) and conversation.link is not None:
                return state.noted(outcome, conversation)
        return answer

    async def on_reset(self, session: Session) -> None:
        await self._reset(self._state(session))
        await self._call("on_reset", session)

    async def on_disconnect(self, session: Session, reason: str) -> None:
        try:
            await self._call("on_disconnect", session, reason)
        finally:
            await self._leave(session)

    # ---- the envelope ----------------------------------------------------------------------------

    async def on_mail(self, session: Session, sender: Sender) -> Answer:
        answer = await self._call("on_mail", session, sender)
        if _is_refusal(answer):
            return answer
        state = self._state(session)
        await self._reset(state)
        state.ident = secrets.token_hex(8)
        path, words = path_text(sender.path), _parameters(sender)
        identity = session.identity
        macros = state.macros(
            mail_addr=path,
            mail_host=path.rpartition("@")[2],
            mail_mailer="smtp",
            auth_authen=identity,
            auth_type=None if identity is None else "AUTH",
            auth_author=sender.auth,
        )
        return _answered(await state.each(lambda client: client.mail(path, words, macros)), answer)

    async def on_rcpt(self, session: Session, recipient: Recipient) -> Answer:
        answer = await self._call("on_rcpt", session, recipient)
        state = self._state(session)
        path, words = path_text(recipient.path), _parameters(recipient)
        rejected = _is_refusal(answer)
        mailer = "error" if rejected else "smtp"
        macros = state.macros(rcpt_addr=path, rcpt_host=path.rpartition("@")[2], rcpt_mailer=mailer)
        outcome = await state.each(lambda client: client.rcpt(path, words, macros, rejected=rejected))
        return answer if rejected else _answered(outcome, answer)

    def on_data(self, session: Session, envelope: Envelope) -> Result:
        if self._methods["on_data"] is None:
            conversations = self._state(session).conversations
            if not any(conversation.wants(Command.DATA) for conversation in conversations):
                return None  # without a task: most filters leave this step out
        return self._data(session, envelope)

    async def _data(self, session: Session, envelope: Envelope) -> Answer:
        answer = await self._call("on_data", session, envelope)
        if _is_refusal(answer):
            return answer
        state = self._state(session)
        macros = state.macros()
        return _answered(await state.each(lambda client: client.data(macros)), answer)

    # ---- the content -----------------------------------------------------------------------------

    async def on_body(self, session: Session, envelope: Envelope, body: AsyncIterator[bytes]) -> Answer:
        state = self._state(session)
        message = MessageInHand(envelope, self._memory)
        try:
            if not state.discarded:
                outcome = await self._filtered(session, state, message, body)
                if isinstance(outcome, Reply):
                    return outcome
            if state.discarded or not message.envelope.recipients:
                async for _ in body:
                    pass
                self._tell_discarded(session, envelope, state.discarded or "filters removed every recipient")
                return _DROPPED
            return await self._deliver(session, envelope, message)
        except HeaderTooLargeError:
            return _TOO_LARGE
        finally:
            message.close()
            await self._reset(state, keep=True)

    async def _filtered(
        self, session: Session, state: _State, message: MessageInHand, body: AsyncIterator[bytes]
    ) -> Outcome:
        """Every filter in order. The first one hears the content while it comes."""
        macros = state.macros()
        first, others = state.conversations[:1], state.conversations[1:]
        reader = HeaderReader(self._header_limit)
        in_body = False

        async def take(piece: bytes | None) -> Outcome:
            nonlocal in_body
            begins = not in_body
            if begins:
                if piece is None:
                    piece = reader.finish()
                else:
                    piece = reader.feed(piece)
                    if piece is None:
                        return None
                in_body = True
                self._without_claims(reader)
                self._complete(session, reader)
                message.fields, message.separated = reader.fields, reader.separated
            if piece:
                message.body.write(piece)
            for conversation in first:
                outcome = await conversation.content(message.fields if begins else None, piece or b"", macros)
                if outcome is not None:
                    return state.noted(outcome, conversation)
            return None

        async for piece in body:
            if (outcome := await take(piece)) is not None:
                return outcome
        if not in_body and (outcome := await take(None)) is not None:
            return outcome
        for conversation in first:
            if (outcome := await conversation.end(message, macros)) is not None:
                return state.noted(outcome, conversation)
        for conversation in others:
            if (outcome := await self._tell(conversation, message, macros)) is not None:
                return state.noted(outcome, conversation)
        return None

    async def _tell(self, conversation: Conversation, message: MessageInHand, macros: Mapping[str, str]) -> Outcome:
        outcome = await conversation.content(message.fields, b"", macros)
        for piece in message.pieces():
            if outcome is not None:
                return outcome
            outcome = await conversation.content(None, piece, macros)
        return outcome or await conversation.end(message, macros)

    def _without_claims(self, reader: HeaderReader) -> None:
        """Nobody but us says what we found."""
        name = self._authserv_id
        if name is not None:
            fields = reader.fields
            reader.fields = [one for one in fields if one.name.lower() != _AR or remove_claims(b"".join(one), name)]

    def _complete(self, session: Session, reader: HeaderReader) -> None:
        """In submission Date and Message-ID are added if they are missing, as elsewhere (RFC 6409 8.2, 8.3)."""
        if not session._conn.config.submission:
            return
        added = HeaderReader(self._header_limit)
        section = reader.section() + b"\r\n"
        missing = submission_fields(section, domain=session.hostname, now=datetime.now(UTC))
        if added.feed(missing) is None:
            added.finish()
        reader.fields[:0] = added.fields
        reader.separated = reader.separated or bool(added.fields)

    async def _deliver(self, session: Session, envelope: Envelope, message: MessageInHand) -> Answer:
        """To the handler, or to who holds what a filter wants kept back."""
        final = message.envelope
        answer: Answer
        if message.quarantine is not None:
            log.info("a filter wants a message kept back: %r", message.quarantine)
            if self._hold is None:
                return _NOT_HELD
            answer = await _result(self._hold(session, final, _stream(message.content()), message.quarantine))
        elif self._methods["on_message"] is not None:
            answer = await self._call("on_message", session, final, b"".join(message.content()))
        else:
            answer = await self._call("on_body", session, final, _stream(message.content()))
        if message.changed_envelope and answer is not None and not isinstance(answer, str | Reply):
            return answers_for(envelope.recipients, final.recipients, answer, _DROPPED)
        return answer

    # ---- helpers ---------------------------------------------------------------------------------

    def _tell_discarded(self, session: Session, envelope: Envelope, reason: str) -> None:
        if self._discarded is not None:
            self._discarded(session, envelope, reason)
        else:
            sender, to = path_text(envelope.sender.path), [path_text(one.path) for one in envelope.recipients]
            log.info("a message from %r to %r goes nowhere: %s", sender, to, reason)

    async def _call(self, name: str, *args: Any) -> Answer:
        method = self._methods[name]
        return None if method is None else await _result(method(*args))

    def _state(self, session: Session) -> _State:
        state = session.state.get(_KEY)
        if not isinstance(state, _State):
            base = _session_macros(session, self._daemon_name)
            conversations = [Conversation(pool) for pool in self._pools]
            session.state[_KEY] = state = _State(conversations, base, session.state)
        return state

    async def _leave(self, session: Session) -> None:
        state = session.state.pop(_KEY, None)
        if isinstance(state, _State):
            async with AsyncExitStack() as stack:  # all of them, though the first is cancelled
                for conversation in state.conversations:
                    stack.push_async_callback(conversation.leave)

    async def _reset(self, state: _State, keep: bool = False) -> None:
        """The transaction is over. With ``keep``, a connection that may serve another session gets no abort now,
        because after an abort it could not. If another transaction follows, the abort goes out before it.
        """
        state.discarded = ""
        state.ident = ""
        for conversation in state.conversations:
            if not (keep and conversation.reusable):
                await conversation.abort()


async def _result(result: Result) -> Answer:
    return await result if is_awaitable(result) else result


async def _stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _is_refusal(answer: Answer) -> bool:
    if isinstance(answer, str):
        answer = Reply.parse(answer)
    return isinstance(answer, Reply) and not answer.is_positive


def _answered(outcome: Outcome, answer: Answer) -> Answer:
    return outcome if isinstance(outcome, Reply) else answer


def _greeting(reply: Reply) -> Reply:
    """A refusal as it may stand for the greeting: 554 or 421 (RFC 5321 3.1, 3.8)."""
    return Reply(421 if reply.is_temporary else 554, reply.enhanced, reply.text.split("\n"))


def _parameters(words: Sender | Recipient) -> list[str]:
    return [keyword if value is None else f"{keyword}={value}" for keyword, value in words.parameters]


def _client_name(session: Session) -> str:
    """The client's name if a front told it, else its address in brackets, as Sendmail has it."""
    told = session.xclient
    if told is not None and told.name:
        return told.name
    address = session.peer[0] if session.peer else "localhost"
    return address if address in ("localhost", "unknown") else f"[{address}]"


def _session_macros(session: Session, daemon_name: str) -> dict[str, str]:
    name = _client_name(session)
    macros = {"j": session.hostname, "v": f"ehlo {__version__}", "{daemon_name}": daemon_name}
    macros |= {"{client_name}": name, "{client_ptr}": name}
    if session.peer:
        macros |= {"{client_addr}": session.peer[0], "{client_port}": str(session.peer[1])}
        macros["_"] = name if name.startswith("[") else f"{name} [{session.peer[0]}]"
    if isinstance(session.local, tuple):
        macros |= {"{daemon_addr}": session.local[0], "{daemon_port}": str(session.local[1])}
        macros["{if_addr}"] = session.local[0]
    return macros


def _tls_macros(session: Session) -> dict[str, str | None]:
    tls = session.tls
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return {}
    name, _, bits = tls.cipher() or (None, None, None)
    return {"tls_version": tls.version(), "cipher": name, "cipher_bits": None if bits is None else str(bits)}
