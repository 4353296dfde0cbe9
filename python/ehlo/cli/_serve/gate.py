"""Who may send where: users by their passwords, strangers to the domains that are ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ehlo._core import Envelope, Recipient
from ehlo._sasl.credentials import Credentials, PasswordCredentials, ScramCredentials, Verdict
from ehlo._server.session import Result, Session
from ehlo.cli._receive import StoreHandler, say
from ehlo.cli._run import Tools
from ehlo.cli._serve.settings import Settings, domain_key
from ehlo.store import Store

__all__ = ["COMMAND", "Receiver"]

COMMAND: Final = "ehlo serve"
_NO_RELAY: Final = "550 5.7.1 No mail for that domain here"


class Receiver(StoreHandler):
    """Lets users in, takes mail for some domains, and keeps it."""

    __slots__ = ("_settings", "_thread")

    def __init__(self, settings: Settings, store: Store | None, tools: Tools) -> None:
        super().__init__(COMMAND, store, None if settings.quiet else say, tools.in_thread)
        self._settings = settings
        self._thread: Callable[..., Awaitable[Any]] = tools.in_thread

    async def on_auth(self, session: Session, credentials: Credentials) -> Verdict:
        """Look into the users' file as it was last read."""
        users = self._settings.users
        if users is None or credentials.authzid not in ("", credentials.username):
            return False  # nobody acts as somebody else
        if isinstance(credentials, ScramCredentials):
            return users.keys(credentials.username)
        if isinstance(credentials, PasswordCredentials):
            return bool(await self._thread(users.check, credentials.username, credentials.password))
        return False

    def on_rcpt(self, session: Session, recipient: Recipient) -> Result:
        """Mail for others is taken from users only (RFC 5321 7.9). Postmaster is always here (RFC 5321 4.5.1)."""
        domains = self._settings.domains
        if domains is None or session.identity is not None:
            return None
        domain = getattr(recipient.path, "domain", None)
        return None if domain is None or domain_key(domain) in domains else _NO_RELAY

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        """Keep it."""
        return self.take(session, envelope, content)
