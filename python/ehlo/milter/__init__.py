"""Filters by the milter protocol, as the MTA speaks it. The protocol itself has no I/O.

Example::

    client = ehlo.milter.MilterClient()
    client.negotiate(); print(client.data_to_send())
"""

from __future__ import annotations

from ehlo.milter._client import MilterClient, MilterLimits
from ehlo.milter._events import (
    AddHeader,
    AddRecipient,
    Broken,
    ChangeHeader,
    ChangeSender,
    Decision,
    Event,
    InsertHeader,
    Modification,
    Negotiated,
    Progress,
    Quarantine,
    RemoveRecipient,
    ReplaceBody,
)
from ehlo.milter._words import DEFAULT_MACROS, Actions, Command, Stage, Steps, Verdict

__all__ = [
    "DEFAULT_MACROS",
    "Actions",
    "AddHeader",
    "AddRecipient",
    "Broken",
    "ChangeHeader",
    "ChangeSender",
    "Command",
    "Decision",
    "Event",
    "InsertHeader",
    "MilterClient",
    "MilterLimits",
    "Modification",
    "Negotiated",
    "Progress",
    "Quarantine",
    "RemoveRecipient",
    "ReplaceBody",
    "Stage",
    "Steps",
    "Verdict",
]
