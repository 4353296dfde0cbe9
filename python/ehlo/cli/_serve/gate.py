"""Who may send where: the handler of every listener. What becomes of the mail says a :class:`WayOut`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import ehlo
from ehlo.cli._serve.front import value_of
from ehlo.cli._serve.site import RefusedError, Site, Target
from ehlo.cli._serve.trail import Trail, path_words

__all__ = ["COMMAND", "Gate", "WayOut"]

log: Final = logging.getLogger("ehlo.serve")

COMMAND: Final = "ehlo serve"
_NOT_NOW: Final = ehlo.Reply(451, "4.3.5", "A recipient that a filter added cannot be reached; try again later")
_STATE: Final = "ehlo serve: accepted"
_AT_ONCE: Final = 1 << 18
"""Octets up to which content is signed at once: that takes about a millisecond."""


class Authenticator(Protocol):
    """:class:`ehlo.asyncio.Authenticator` or :class:`ehlo.trio.Authenticator`."""

    async def check(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        """The answer of ``on_auth``."""


@dataclass(slots=True)
class _Accepted:
    """What of an envelope was accepted here, before the filters were asked."""

    sender: ehlo.Sender
    recipients: list[ehlo.Recipient] = field(default_factory=list)
    targets: dict[str, list[Target]] = field(default_factory=dict)


class WayOut(Protocol):
    """What becomes of mail: the queue, or the next hop while the client waits."""

    def begin(self, session: ehlo.Session, sender: ehlo.Sender) -> ehlo.Result:
        """MAIL was accepted. What need not wait is plain: then no task is made."""

    def rcpt(self, session: ehlo.Session, targets: list[Target]) -> ehlo.Result:
        """A recipient comes to these targets; gives the refusal."""

    def refusal(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Reply | None:
        """The refusal of DATA."""

    async def message(
        self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes
    ) -> ehlo.Reply | Sequence[ehlo.Reply]:
        """The content came; gives the reply, or one for each recipient."""

    def drop(self, session: ehlo.Session) -> ehlo.Result:
        """The transaction is over without content."""


class Gate(ehlo.Handler):
    """Lets users in, asks the routes for each recipient, and hands the mail to the way out.

    Arguments:
        site: users, routes and aliases, as they were last read.
        out: what becomes of mail.
        trail: is told of each refusal, and of each connection.
        in_thread: calls a function that takes long, with arguments.
        filtered: there are filters, which may change the envelope after it was accepted here.
        authenticator: checks passwords beside the loop, apart from delivery; ``None``: nobody gets in.
    """

    def __init__(
        self,
        site: Site,
        out: WayOut,
        trail: Trail,
        authenticator: Authenticator | None,
        *,
        in_thread: Callable[..., Awaitable[Any]],
        filtered: bool = False,
    ) -> None:
        self._site = site
        self._out = out
        self._in_thread = in_thread
        self._filtered = filtered
        self._trail = trail
        self._authenticator = authenticator

    async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        """Look into the users' file as it was last read."""
        if self._authenticator is None or credentials.authzid not in ("", credentials.username):
            return False  # nobody acts as somebody else
        return await self._authenticator.check(session, credentials)

    def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> ehlo.Result:
        """A user may send from his own addresses only, where [auth] from says so (RFC 6409 6.1)."""
        if session.identity is not None:
            refusal = self._site.refused_sender(session.identity, sender)
            if refusal is not None:
                return refusal
        if self._filtered:
            session.state[_STATE] = _Accepted(sender)
        return self._out.begin(session, sender)

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> ehlo.Result:
        """The first route that matches counts (RFC 5321 3.6.2, 7.9)."""
        try:
            targets = self._site.targets(session, recipient)
        except RefusedError as exc:
            return exc.reply
        answer = self._out.rcpt(session, targets)
        return self._noted(session, recipient, targets, answer) if self._filtered else answer

    async def _noted(
        self, session: ehlo.Session, recipient: ehlo.Recipient, targets: list[Target], answer: ehlo.Result
    ) -> ehlo.Answer:
        refusal = await value_of(answer)
        if refusal is None:
            accepted: _Accepted = session.state[_STATE]
            accepted.recipients.append(recipient)
            accepted.targets[str(recipient.path)] = targets
        return refusal  # type: ignore[no-any-return]

    def on_data(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Answer:
        """Refuse before the content comes, where it cannot be taken."""
        return self._out.refusal(session, envelope)

    async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Answer:
        """Hand it over."""
        if self._filtered:
            refusal = await self._agree(session, envelope)
            if refusal is not None:
                return refusal
        job = self._site.signing.job(session, envelope, content, partial(self._may_use, session))
        if job is not None:
            content = job() if len(content) <= _AT_ONCE else await self._in_thread(job)
        return await self._out.message(session, envelope, content)

    def on_refused(self, session: ehlo.Session, refused: ehlo.Refused) -> None:
        """A reply 4yz or 5yz went out, whoever decided it."""
        self._trail.refused(session, refused)

    async def _agree(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Reply | None:
        """Where filters refused a recipient or changed the envelope, the way out begins anew with what is left."""
        accepted: _Accepted = session.state.pop(_STATE)
        if (accepted.sender, accepted.recipients) == (envelope.sender, list(envelope.recipients)):
            return None
        await value_of(self._out.drop(session))
        await value_of(self._out.begin(session, envelope.sender))
        for recipient in envelope.recipients:
            try:
                targets = accepted.targets.get(str(recipient.path)) or self._site.targets_added(recipient)
            except RefusedError as exc:
                log.warning("a filter added %s, and no route takes it: %s", path_words(recipient.path), exc)
                return _NOT_NOW
            refusal: ehlo.Reply | None = await value_of(self._out.rcpt(session, targets))
            if refusal is not None:
                return refusal
        return None

    def _may_use(self, session: ehlo.Session, address: str) -> bool:
        """Whether the client may write from this address: else it gets no signature of ours."""
        if session.identity is None:
            return True
        try:
            sender = ehlo.Sender(address)
        except ehlo.LocalProtocolError:
            return False
        return self._site.refused_sender(session.identity, sender) is None

    def on_reset(self, session: ehlo.Session) -> ehlo.Result:
        """The client gave the transaction up."""
        return self._out.drop(session)

    def on_disconnect(self, session: ehlo.Session, reason: str) -> ehlo.Result:
        """The client is gone."""
        self._trail.ended(session, reason)
        return self._out.drop(session)
