"""The extensions that this server may offer: those that the way out can do. A next hop is asked once, at start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import ehlo
from ehlo.cli._serve.routes import Way

__all__ = ["NO_OFFERS", "Offers", "ask_offers", "offers_of"]

Ask = Callable[[Way], Awaitable[ehlo.Capabilities]]

# Octets that we add on top: Received.
_TRACE: Final = 2000
_DEFAULT_SIZE: Final = 33554432
_EXTENSIONS: Final = ("BINARYMIME", "DSN", "SMTPUTF8")


@dataclass(frozen=True, slots=True)
class Offers:
    """What may be offered. [smtp] can switch each on or off.

    Attributes:
        dsn: notifications are made, or asked of the next hop (RFC 3461).
        binarymime: BODY=BINARYMIME arrives as it is (RFC 3030).
        smtputf8: so do addresses of other scripts (RFC 6531).
        requiretls: REQUIRETLS is obeyed (RFC 8689).
        max_message_size: the largest message that every next hop takes; ``None``: as large as by default.
    """

    dsn: bool
    binarymime: bool
    smtputf8: bool
    requiretls: bool = False
    max_message_size: int | None = None

    def options(self, has_tls: bool) -> dict[str, Any]:
        """As options of :class:`ehlo.ServerConfig`."""
        size = {} if self.max_message_size is None else {"max_message_size": self.max_message_size}
        return {
            **size,
            "dsn": self.dsn,
            "binarymime": self.binarymime,
            "smtputf8": self.smtputf8,
            "requiretls": self.requiretls and has_tls,
        }


NO_OFFERS: Final = Offers(dsn=False, binarymime=False, smtputf8=False)
"""Before the next hops were asked: enough to see whether the listeners make sense."""


async def ask_offers(
    ways: tuple[Way, ...], ask: Ask, complain: Callable[[str], None], *, has_queue: bool
) -> dict[Way, ehlo.Capabilities]:
    """Ask each next hop what it offers.

    Arguments:
        ask: connects to a next hop, and gives what it offers.
        complain: told of each that does not answer.
    """
    found: dict[Way, ehlo.Capabilities] = {}
    for way in ways:
        if not way.is_hop:
            continue
        try:
            found[way] = await ask(way)
        except (ehlo.SMTPException, ehlo.LocalProtocolError) as exc:
            lost = "" if has_queue else f"; {', '.join(_EXTENSIONS)} are not offered until the next start"
            complain(f"{way.where}: {way.address} does not say what it offers ({exc}){lost}")
    return found


def offers_of(ways: tuple[Way, ...], found: dict[Way, ehlo.Capabilities], *, has_queue: bool) -> Offers:
    """What all ways together can keep."""
    if has_queue:
        # The queue makes notifications, keeps REQUIRETLS, and cannot convert binary content (RFC 3030 3).
        utf8 = all("SMTPUTF8" in found[way] for way in ways if way in found)
        return Offers(dsn=True, binarymime=False, smtputf8=utf8, requiretls=True)
    real = [way for way in ways if way.kind != "fail"]

    def can(extension: str, *kinds: str) -> bool:
        return all(way.kind in kinds or (way in found and extension in found[way]) for way in real)

    sizes = [offer.size - _TRACE for offer in found.values() if offer.size]
    return Offers(
        max_message_size=max(1, min(_DEFAULT_SIZE, *sizes)) if sizes else None,
        dsn=can("DSN"),
        binarymime=can("BINARYMIME", "maildir", "discard"),
        smtputf8=can("SMTPUTF8", "maildir", "mbox", "discard"),
    )
