"""Which notifications an attempt calls for (RFC 3461 5, 6), and their making."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ehlo._hooks import call_hook
from ehlo.mta._model import Message, Outcome
from ehlo.mta.delivery_status import (
    MAX_RETURNED,
    Action,
    DeliveryStatus,
    RecipientStatus,
    build_report,
    explain,
)

__all__ = ["Notice", "Notifier", "notices_of"]

_WANTED: Final[dict[Action, str]] = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification to be made: recipients with whom the same happened together share it.

    Attributes:
        action: what happened.
        outcomes: for whom.
    """

    action: Action
    outcomes: tuple[Outcome, ...]


def notices_of(message: Message, outcomes: Iterable[Outcome], delayed: Iterable[Outcome]) -> list[Notice]:
    """The notifications that outcomes call for. ``delayed``: those of recipients that have waited for too long.

    Success is told only where the next hop does not tell it itself (RFC 3461 5.2.1, 5.2.2).
    """
    sorted_out: dict[Action, list[Outcome]] = {}
    for one in outcomes:
        match one.result:
            case "failed":
                action: Action = "failed"
            case "relayed" | "delivered" if not one.passed_on:
                action = one.result
            case _:
                continue
        if one.recipient.wants(_WANTED[action]):
            sorted_out.setdefault(action, []).append(one)
    late = [one for one in delayed if one.recipient.wants("DELAY")]
    if late:
        sorted_out["delayed"] = late
    return [Notice(action, tuple(chosen)) for action, chosen in sorted_out.items()]


@dataclass(frozen=True, slots=True)
class Notifier:
    """Makes notifications.

    Attributes:
        hostname: of this server.
        text: makes the part for people out of the status; by default :func:`ehlo.mta.delivery_status.explain`.
        readers: gives the mailboxes that a notification for a sender goes to; ``None``: to the sender as it is.
    """

    hostname: str
    text: Callable[[DeliveryStatus], str] = explain
    readers: Callable[[str], Sequence[str]] | None = None

    def recipients(self, sender: str) -> Sequence[str]:
        """The mailboxes that a notification for this sender goes to; none: there is nobody to tell."""
        return (sender,) if self.readers is None else call_hook(self.readers, sender)

    def returns_all(self, message: Message, notice: Notice) -> bool:
        """Whether the whole message goes back: not unless it failed, not where the sender asked for its header only
        (RFC 3461 4.3), not with REQUIRETLS (RFC 8689 5), and not if it is long.
        """
        return (
            notice.action == "failed"
            and message.ret != "HDRS"
            and not message.requiretls
            and message.size <= MAX_RETURNED
        )

    def build(
        self, message: Message, notice: Notice, original: bytes, *, now: float, until: float, to: str | None = None
    ) -> bytes:
        """The octets of a notification.

        Arguments:
            message, notice: what it is about.
            original: the message, or at least its header section.
            now: seconds of the Unix epoch.
            until: the time at which the message is given up.
            to: to whom it goes; by default the message's sender.
        """
        date = datetime.fromtimestamp(now, UTC)
        status = DeliveryStatus(
            self.hostname,
            tuple(self._status(message, notice.action, one, now, until) for one in notice.outcomes),
            envelope_id=message.envid,
            received_from=message.hello or None,
            arrival=datetime.fromtimestamp(message.arrived, UTC),
        )
        return build_report(
            status,
            recipient=message.sender if to is None else to,
            original=original,
            now=date,
            full=self.returns_all(message, notice),
            smtputf8=message.smtputf8,
            text=call_hook(self.text, status),
        )

    def _status(self, message: Message, action: Action, one: Outcome, now: float, until: float) -> RecipientStatus:
        digit = {"failed": "5", "delayed": "4"}.get(action, "2")
        status = one.status if one.status[0] == digit else f"{digit}{one.status[1:]}"
        return RecipientStatus(
            final_recipient=one.recipient.path,
            action=action,
            status=status,
            original_recipient=one.recipient.orcpt,
            remote_mta=one.host,
            diagnostic=("smtp", " ".join(str(one.reply).split())),
            last_attempt=datetime.fromtimestamp(now, UTC),
            final_log_id=message.ident,
            will_retry_until=datetime.fromtimestamp(until, UTC) if action == "delayed" else None,
        )
