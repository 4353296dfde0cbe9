"""The phases of a session, each of which is timed for itself."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["PHASES", "Phase"]


class Phase(IntEnum):
    """What a connection waits for, in the order in which a session goes through them.

    It is an integer so that it can be the place of its counts in a list.
    """

    CONNECT = 0
    TLS = 1
    BANNER = 2
    EHLO = 3
    STARTTLS = 4
    AUTH = 5
    MAIL = 6
    RCPT = 7
    DATA = 8
    ENVELOPE = 9
    """MAIL, RCPT and DATA in one, when they are pipelined."""
    CONTENT = 10
    """From the last octet of a message to the reply to its end."""
    MESSAGE = 11
    """From a message's start (in the open loop: the intended one) to its last reply."""
    LAG = 12
    """Open loop: how late the tool itself was."""
    RSET = 13
    QUIT = 14

    @property
    def label(self) -> str:
        """The name in a report."""
        return self.name.lower()


PHASES: Final = tuple(phase.label for phase in Phase)
"""The names of all phases. A report keeps their order."""
