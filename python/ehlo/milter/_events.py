"""What a filter says, as :class:`ehlo.milter.MilterClient` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ehlo._core import Reply
from ehlo.milter._words import Actions, Command, Stage, Steps, Verdict

__all__ = [
    "AddHeader",
    "AddRecipient",
    "Broken",
    "ChangeHeader",
    "ChangeSender",
    "Decision",
    "Event",
    "InsertHeader",
    "Modification",
    "Negotiated",
    "Progress",
    "Quarantine",
    "RemoveRecipient",
    "ReplaceBody",
]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The filter is ready. ``macros`` holds the lists of the stages for which it chose."""

    version: int
    actions: Actions
    steps: Steps
    macros: Mapping[Stage, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Decision:
    """The filter's answer to one command. ``reply`` is there if ``verdict`` is :attr:`Verdict.REPLY`."""

    command: Command
    verdict: Verdict
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The filter still works: the time for its answer begins anew."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The filter cannot be used any more: it said what the protocol does not allow, or went away."""

    reason: str


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Put this field below all others. ``value`` is what stands behind the colon, lines end by CRLF."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """Put this field in front of the field number ``index``, counted from 0; above that, below all others."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """Change the ``index``-th field of this name, counted from 1. An empty ``value`` removes it."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Put this reverse-path, as it was written, in place of the sender; ``parameters`` are those of MAIL."""

    path: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Add this forward-path, as it was written; ``parameters`` are those of RCPT."""

    path: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """Remove this forward-path, as it was written."""

    path: str


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """The next piece of a new body; the first of them throws the old body away."""

    chunk: bytes


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep the message back, for this reason."""

    reason: str


Modification: TypeAlias = (
    AddHeader | InsertHeader | ChangeHeader | ChangeSender | AddRecipient | RemoveRecipient | ReplaceBody | Quarantine
)

Event: TypeAlias = Negotiated | Decision | Progress | Modification | Broken
