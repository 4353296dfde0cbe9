"""What may come when, and what ends what: the milter protocol as two tables.

``STEPS`` reads: "MAIL comes in a session, leads into an envelope, is left out by NO_MAIL, and goes unanswered by
UNANSWERED_MAIL". ``ENDS`` reads: "as an answer to MAIL, accept ends the message, a refusal ends the message, discard
ends the message, and skip is forbidden".
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from ehlo.milter._words import Command, Stage, Steps, Verdict

__all__ = ["IN_TRANSACTION", "OVER", "SINCE", "STAGES", "STEPS", "Ends", "State", "Step", "ends"]


class State(Enum):
    """Where the conversation is."""

    NEW = "nothing was said yet"
    NEGOTIATING = "the negotiation is not answered yet"
    READY = "no session has begun"
    SESSION = "in a session, outside of a transaction"
    ENVELOPE = "in an envelope"
    HEADER = "in a header section"
    BODY = "in a body"
    ENDED = "behind the end of a message"
    MESSAGE_OVER = "the filter is done with this message"
    SESSION_OVER = "the filter is done with this session"
    CLOSED = "the conversation is over"

    __hash__ = object.__hash__  # that of Enum is written in Python, and is asked for each step


OVER: Final = frozenset({State.MESSAGE_OVER, State.SESSION_OVER})
IN_TRANSACTION: Final = frozenset({State.ENVELOPE, State.HEADER, State.BODY, State.ENDED, State.MESSAGE_OVER})


class Step(NamedTuple):
    """One row of ``STEPS``. A step that leads to ``None`` changes nothing."""

    comes_in: tuple[State, ...]
    leads_to: State | None
    left_out_by: Steps
    unanswered_by: Steps


_SESSION, _ENVELOPE, _HEADER, _BODY, _ENDED = State.SESSION, State.ENVELOPE, State.HEADER, State.BODY, State.ENDED
_never = Steps(0)

# fmt: off
STEPS: Final[dict[Command, Step]] = {
    # the command                 comes in                leads to   is left out by           and goes unanswered by
    Command.CONNECT:        Step((State.READY,),          _SESSION,  Steps.NO_CONNECT,        Steps.UNANSWERED_CONNECT),
    Command.HELLO:          Step((_SESSION,),             _SESSION,  Steps.NO_HELLO,          Steps.UNANSWERED_HELLO),
    Command.UNKNOWN:        Step((_SESSION, _ENVELOPE),   None,      Steps.NO_UNKNOWN,        Steps.UNANSWERED_UNKNOWN),
    Command.MAIL:           Step((_SESSION,),             _ENVELOPE, Steps.NO_MAIL,           Steps.UNANSWERED_MAIL),
    Command.RCPT:           Step((_ENVELOPE,),            _ENVELOPE, Steps.NO_RCPT,           Steps.UNANSWERED_RCPT),
    Command.DATA:           Step((_ENVELOPE,),            _ENVELOPE, Steps.NO_DATA,           Steps.UNANSWERED_DATA),
    Command.HEADER:         Step((_ENVELOPE, _HEADER),    _HEADER,   Steps.NO_HEADERS,        Steps.UNANSWERED_HEADER),
    Command.END_OF_HEADERS: Step((_ENVELOPE, _HEADER),    _BODY,     Steps.NO_END_OF_HEADERS, Steps.UNANSWERED_END_OF_HEADERS),  # noqa: E501
    Command.BODY:           Step((_BODY,),                _BODY,     Steps.NO_BODY,           Steps.UNANSWERED_BODY),
    Command.END:            Step((_BODY,),                _ENDED,    _never,                  _never),
}
# fmt: on

SINCE: Final = {Command.UNKNOWN: 3, Command.DATA: 4}
"""The first version of the protocol that has a command, where that is not the second."""

STAGES: Final = {
    Command.CONNECT: Stage.CONNECT,
    Command.HELLO: Stage.HELLO,
    Command.MAIL: Stage.MAIL,
    Command.RCPT: Stage.RCPT,
    Command.DATA: Stage.DATA,
    Command.END_OF_HEADERS: Stage.END_OF_HEADERS,
    Command.END: Stage.END,
}
"""In front of which command macros go, and by which list."""


class Ends(Enum):
    """What an answer ends."""

    NOTHING = auto()
    MESSAGE = auto()
    SESSION = auto()
    FORBIDDEN = auto()


_N, _M, _S, _F = Ends.NOTHING, Ends.MESSAGE, Ends.SESSION, Ends.FORBIDDEN

# fmt: off
ENDS: Final[dict[Command, tuple[Ends, Ends, Ends, Ends, Ends]]] = {
    # as an answer to         continue ends  accept ends  a refusal ends  discard ends  skip ends
    Command.CONNECT:          (_N,           _S,          _S,             _F,           _F),
    Command.HELLO:            (_N,           _S,          _S,             _F,           _F),
    Command.UNKNOWN:          (_N,           _N,          _N,             _F,           _F),
    Command.MAIL:             (_N,           _M,          _M,             _M,           _F),
    Command.RCPT:             (_N,           _M,          _N,             _M,           _F),
    Command.DATA:             (_N,           _M,          _M,             _M,           _F),
    Command.HEADER:           (_N,           _M,          _M,             _M,           _N),
    Command.END_OF_HEADERS:   (_N,           _M,          _M,             _M,           _F),
    Command.BODY:             (_N,           _M,          _M,             _M,           _N),
    Command.END:              (_M,           _M,          _M,             _M,           _F),
}
# fmt: on


def ends(command: Command, verdict: Verdict) -> Ends:
    """What ``verdict`` ends as an answer to ``command``."""
    goes_on, accept, refusal, discard, skip = ENDS[command]
    match verdict:
        case Verdict.CONTINUE:
            return goes_on
        case Verdict.ACCEPT:
            return accept
        case Verdict.REJECT | Verdict.TEMPFAIL | Verdict.REPLY:
            return refusal
        case Verdict.DISCARD:
            return discard
        case Verdict.SKIP:
            return skip
        case Verdict.SHUTDOWN | Verdict.CONNECTION_FAILURE:
            return Ends.SESSION
        case Verdict.PROGRESS:
            return Ends.NOTHING
