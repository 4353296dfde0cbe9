"""The words of the milter protocol: commands, answers, modifications and the bits of the negotiation.

There is no RFC. The words and their values are those of Sendmail's ``libmilter/mfdef.h`` of version 6, which all
filters are built with; Postfix calls the same protocol "6" in ``milter_protocol``.
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

__all__ = [
    "ALL_ACTIONS",
    "ALL_STEPS",
    "DEFAULT_MACROS",
    "REFUSED_BY",
    "VERSION_2_ACTIONS",
    "VERSION_2_STEPS",
    "Actions",
    "Command",
    "Stage",
    "Steps",
    "Verdict",
]


REFUSED_BY: Final = "ehlo.milter: refused by"
"""Under this name ``session.state`` has the filter that refused last, and its reply."""


class Command(Enum):
    """What the MTA says. The value is the octet on the wire.

    Example::

        Command(b"C") is Command.CONNECT
    """

    ABORT = b"A"
    BODY = b"B"
    CONNECT = b"C"
    MACRO = b"D"
    END = b"E"
    HELLO = b"H"
    QUIT_NEW_CONNECTION = b"K"
    HEADER = b"L"
    MAIL = b"M"
    END_OF_HEADERS = b"N"
    NEGOTIATE = b"O"
    QUIT = b"Q"
    RCPT = b"R"
    DATA = b"T"
    UNKNOWN = b"U"

    if not TYPE_CHECKING:  # that of Enum is written in Python, and is asked for each step
        __hash__ = object.__hash__


class Verdict(Enum):
    """What a filter answers. The value is the octet on the wire.

    ``ACCEPT`` ends this filter's part: for the session if it answers connect or hello, for the message otherwise.
    ``DISCARD`` takes the message and delivers it to nobody. ``REPLY`` brings a reply of the filter's own.
    ``SHUTDOWN`` and ``CONNECTION_FAILURE`` end the SMTP session with 421. ``SKIP`` wants no more of the same step.

    Example::

        if decision.verdict is Verdict.DISCARD: forget(message)
    """

    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    CONNECTION_FAILURE = b"f"
    PROGRESS = b"p"
    REJECT = b"r"
    SKIP = b"s"
    SHUTDOWN = b"4"
    TEMPFAIL = b"t"
    REPLY = b"y"

    if not TYPE_CHECKING:
        __hash__ = object.__hash__


class Actions(IntFlag):
    """What a filter may do to a message (SMFIF bits)."""

    ADD_HEADERS = 0x001
    CHANGE_BODY = 0x002
    ADD_RECIPIENTS = 0x004
    REMOVE_RECIPIENTS = 0x008
    CHANGE_HEADERS = 0x010
    QUARANTINE = 0x020
    CHANGE_SENDER = 0x040
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x080
    SET_MACROS = 0x100


class Steps(IntFlag):
    """Which steps a filter leaves out, which it does not answer, and what else it asks for (SMFIP bits)."""

    NO_CONNECT = 0x000001
    NO_HELLO = 0x000002
    NO_MAIL = 0x000004
    NO_RCPT = 0x000008
    NO_BODY = 0x000010
    NO_HEADERS = 0x000020
    NO_END_OF_HEADERS = 0x000040
    UNANSWERED_HEADER = 0x000080
    NO_UNKNOWN = 0x000100
    NO_DATA = 0x000200
    SKIP = 0x000400
    REJECTED_RECIPIENTS = 0x000800
    UNANSWERED_CONNECT = 0x001000
    UNANSWERED_HELLO = 0x002000
    UNANSWERED_MAIL = 0x004000
    UNANSWERED_RCPT = 0x008000
    UNANSWERED_DATA = 0x010000
    UNANSWERED_UNKNOWN = 0x020000
    UNANSWERED_END_OF_HEADERS = 0x040000
    UNANSWERED_BODY = 0x080000
    LEADING_SPACE = 0x100000


ALL_ACTIONS: Final = Actions(0x1FF)
ALL_STEPS: Final = Steps(0x1FFFFF)
VERSION_2_ACTIONS: Final = Actions(0x3F)
VERSION_2_STEPS: Final = Steps(0x7F)


class Stage(IntEnum):
    """At which step a macro is sent (SMFIM numbers). A filter may choose the macros of each."""

    CONNECT = 0
    HELLO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END = 5
    END_OF_HEADERS = 6


# What Postfix sends when the filter does not choose (its milter_*_macros), named as the filter sees them.
DEFAULT_MACROS: Final[dict[Stage, tuple[str, ...]]] = {
    Stage.CONNECT: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    Stage.HELLO: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
    Stage.MAIL: (
        "i",
        "{auth_type}",
        "{auth_authen}",
        "{auth_author}",
        "{mail_addr}",
        "{mail_host}",
        "{mail_mailer}",
    ),
    Stage.RCPT: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    Stage.DATA: ("i",),
    Stage.END_OF_HEADERS: ("i",),
    Stage.END: ("i",),
}
