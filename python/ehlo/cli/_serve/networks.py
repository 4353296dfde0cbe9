"""Which networks may connect at all: ``allow`` and ``deny``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ehlo._server.session import Session
from ehlo._server.trust import Networks

__all__ = ["Gatekeeper"]

_DENIED: Final = "554 5.7.1 Mail from your network is not accepted here"


class Gatekeeper:
    """Judges connections by the address of the client.

    Arguments:
        allow: only clients of these networks may connect. Empty: all may.
        deny: clients of these networks may not, whatever ``allow`` says.

    Raises:
        LocalProtocolError: one is no network.

    Example::

        gatekeeper = Gatekeeper(allow=["10.0.0.0/8"], deny=["10.1.0.0/16"])
        refusal = gatekeeper.connection(session)
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = Networks(allow)
        self._deny = Networks(deny)
        self.refused = 0
        """Connections that were refused."""

    def connection(self, session: Session) -> str | None:
        """A client connected: the greeting that refuses it (RFC 5321 3.1), or ``None``. Unix sockets are not judged."""
        peer = session.peer
        if peer is None or (peer[0] not in self._deny and (not self._allow or peer[0] in self._allow)):
            return None
        self.refused += 1
        return _DENIED
