"""Faults that the measuring sink makes on demand, and limits by rate. What they mean is decided here; no I/O."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ehlo._core import Reply

__all__ = ["At", "Fault", "Limit", "parse_fault", "parse_limit"]

At = Literal["connect", "hello", "mail", "rcpt", "data", "message"]
_PLACES: Final = get_args(At)
_ACTIONS: Final = "a code as 550 or 421, disconnect, delay=SECONDS or drip=SECONDS"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, where, and how often.

    Arguments:
        at: which command; "connect" is the greeting, "message" the end of the content.
        action: "reply" refuses with ``reply``, "disconnect" closes without a word, "delay" waits ``seconds`` before the
            reply, "drip" sends the reply octet by octet, ``seconds`` apart.
        probability: from 0 to 1.

    Example::

        Fault("rcpt", "reply", 0.1, Reply(550, "5.1.1", "no such user"))
    """

    at: At
    action: Literal["reply", "disconnect", "delay", "drip"]
    probability: float = 1.0
    reply: Reply | None = None
    seconds: float = 0.0

    def strikes(self, chance: random.Random) -> bool:
        """Whether it happens this time."""
        return self.probability >= 1.0 or chance.random() < self.probability

    def __str__(self) -> str:
        if self.reply is not None:
            what = str(self.reply.code)
        else:
            what = self.action if self.action == "disconnect" else f"{self.action}={self.seconds:g}"
        return f"{self.at}:{what}:{self.probability:g}"


class Limit:
    """So many a second of one command, and this reply beyond it: a bucket of one second's worth of tokens.

    Arguments:
        at: which command. per_second: over all connections of a process. reply: what is said beyond it.

    Example::

        Limit("mail", 100, Reply(450, "4.7.1", "slow down")).spend(now)
    """

    __slots__ = ("_last", "_tokens", "at", "per_second", "reply")

    def __init__(self, at: At, per_second: float, reply: Reply) -> None:
        self.at = at
        self.per_second: float = per_second
        self.reply: Reply = reply
        self._tokens = max(1.0, per_second)
        self._last: float | None = None

    def spend(self, now: float) -> bool:
        """Whether one more is within the limit at this time, in seconds of any clock."""
        if self._last is not None:
            self._tokens = min(max(1.0, self.per_second), self._tokens + (now - self._last) * self.per_second)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def __str__(self) -> str:
        return f"{self.at}:{self.per_second:g}:{self.reply.code}"


def parse_fault(text: str) -> Fault:
    """Read "COMMAND:ACTION[:PROBABILITY]", as "rcpt:550:0.1", "message:delay=0.5" or "connect:disconnect:0.01".

    Raises:
        ValueError: if it is none; the text says what would be.

    Example::

        parse_fault("mail:421:0.001").reply.code  # 421
    """
    parts = text.strip().lower().split(":")
    at = _place(parts[0])
    if at is None or len(parts) not in (2, 3):
        raise ValueError(f"{text!r}: give COMMAND:ACTION[:PROBABILITY], COMMAND being one of {', '.join(_PLACES)}")
    probability = 1.0
    if len(parts) == 3:
        try:
            probability = float(parts[2])
        except ValueError:
            probability = -1.0
        if not 0 <= probability <= 1:
            raise ValueError(f"{text!r}: a probability is from 0 to 1")
    action = parts[1]
    if action == "disconnect":
        return Fault(at, "disconnect", probability)
    match = re.fullmatch(r"(delay|drip)=(\d+(?:\.\d+)?)s?", action)
    if match is not None:
        return Fault(at, "delay" if match[1] == "delay" else "drip", probability, None, float(match[2]))
    return Fault(at, "reply", probability, _reply(action, text, "as asked: this is a test"))


def parse_limit(text: str) -> Limit:
    """Read "COMMAND:PER_SECOND[:CODE]", as "mail:100" or "connect:50:421"; the code is 421 for a connection, else 450.

    Raises:
        ValueError: if it is none; the text says what would be.

    Example::

        parse_limit("mail:100:451").per_second  # 100.0
    """
    parts = text.strip().lower().split(":")
    at = _place(parts[0])
    if at is None or len(parts) not in (2, 3) or not re.fullmatch(r"\d+(\.\d+)?", parts[1]) or float(parts[1]) <= 0:
        raise ValueError(f"{text!r}: give COMMAND:PER_SECOND[:CODE], COMMAND being one of {', '.join(_PLACES)}")
    code = parts[2] if len(parts) == 3 else "421" if at == "connect" else "450"
    return Limit(at, float(parts[1]), _reply(code, text, "too many in this second"))


def _place(text: str) -> At | None:
    return next((place for place in _PLACES if place == text), None)


def _reply(code: str, text: str, words: str) -> Reply:
    if not re.fullmatch(r"[45][0-5][0-9]", code):
        raise ValueError(f"{text!r}: {code!r} is none of {_ACTIONS}; a code that refuses begins with 4 or 5")
    return Reply(int(code), f"{code[0]}.7.0", words)
