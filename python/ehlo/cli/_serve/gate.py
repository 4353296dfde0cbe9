"""Who may send where: the handler of every listener. What becomes of the mail says a :class:`WayOut`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import ehlo
from ehlo.cli._serve.site import RefusedError, Site, Target
from ehlo.cli._serve.trail import Trail

__all__ = ["COMMAND", "Gate", "WayOut"]

COMMAND: Final = "ehlo serve"


class Authenticator(Protocol):
    """:class:`ehlo.asyncio.Authenticator` or :class:`ehlo.trio.Authenticator`."""

    async def check(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        """The answer of ``on_auth``."""


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
        authenticator: checks passwords beside the loop, apart from delivery; ``None``: nobody gets in.
    """

    def __init__(
        self,
        site: Site,
        out: WayOut,
        trail: Trail,
        authenticator: Authenticator | None,
    ) -> None:
        self._site = site
        self._out = out
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
        return self._out.begin(session, sender)

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> ehlo.Result:
        """The first route that matches counts (RFC 5321 3.6.2, 7.9)."""
        try:
            targets = self._site.targets(session, recipient)
        except RefusedError as exc:
            return exc.reply
        return self._out.rcpt(session, targets)

    def on_data(self, session: ehlo.Session, envelope: ehlo.Envelope) -> ehlo.Answer:
        """Refuse before the content comes, where it cannot be taken."""
        return self._out.refusal(session, envelope)

    async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Answer:
        """Hand it over."""
        return await self._out.message(session, envelope, content)

    def on_refused(self, session: ehlo.Session, refused: ehlo.Refused) -> None:
        """A reply 4yz or 5yz went out, whoever decided it."""
        self._trail.refused(session, refused)

    def on_reset(self, session: ehlo.Session) -> ehlo.Result:
        """The client gave the transaction up."""
        return self._out.drop(session)

    def on_disconnect(self, session: ehlo.Session, reason: str) -> ehlo.Result:
        """The client is gone."""
        self._trail.ended(session, reason)
        return self._out.drop(session)
