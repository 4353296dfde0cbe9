"""In front of all other rules: which networks may connect, and how many messages and recipients an hour."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import ehlo
from ehlo.cli._serve.networks import Gatekeeper
from ehlo.cli._serve.rates import Kind, Rates
from ehlo.cli._serve.settings import Settings

__all__ = ["Guard", "open_guard"]

_KINDS: tuple[Kind, ...] = ("user_messages", "user_recipients", "network_messages", "network_recipients")
_FILE = "rates.sqlite3"


class Guard(ehlo.Handler):
    """Refuses what [networks] and [rates] refuse. Everything else goes on to the next handler.

    Attributes:
        gatekeeper: counts the connections that were refused.
        rates: counts the MAIL and RCPT that were refused.
    """

    def __init__(self, gatekeeper: Gatekeeper, rates: Rates) -> None:
        self.gatekeeper = gatekeeper
        self.rates = rates

    def on_connect(self, session: ehlo.Session) -> str | None:
        """The greeting is a refusal for networks that may not connect (RFC 5321 3.1)."""
        return self.gatekeeper.connection(session)

    def on_mail(self, session: ehlo.Session, sender: ehlo.Sender) -> str | None:
        """A message counts when it begins."""
        return self.rates.message(session)

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        """A recipient counts, whether it exists or not."""
        return self.rates.recipient(session)


@contextlib.contextmanager
def open_guard(settings: Settings) -> Iterator[Guard | None]:
    """The guard of these settings; ``None`` when there is nothing to guard. At the end the counts are written.

    Raises:
        UsageError: the file of [rates] cannot be used.
    """
    limits: dict[Kind, int] = {kind: getattr(settings.rates, kind) for kind in _KINDS if getattr(settings.rates, kind)}
    networks = settings.networks
    if not (limits or networks.allow or networks.deny):
        yield None
        return
    path = settings.rates.file
    if path is None and settings.queue is not None and settings.queue.path is not None:
        path = os.path.join(settings.queue.path, _FILE)
    rates = Rates(limits, exempt=settings.rates.exempt, path=path if limits else None, shared=settings.run.workers > 1)
    try:
        yield Guard(Gatekeeper(networks.allow, networks.deny), rates)
    finally:
        rates.close()
