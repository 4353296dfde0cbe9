"""What ``ehlo queue`` prints: text for people, or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from ehlo._words import counted
from ehlo.mta._spool import Changed, DeadRoute, Entry, Finding, Group, Node, Suspension

__all__ = ["Printer", "reasons", "span"]

# A heartbeat comes every 5 seconds; a node is dead after 30.
_LATE = 30.0


def span(seconds: float) -> str:
    """A time for people: ``"2 d 3 h"``."""
    left = int(abs(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _clean(text: object) -> str:
    """Text of strangers on a terminal: one line, and no control character (a path or a reply may have some)."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def reasons(
    entry: Entry, nodes: Sequence[Node], rules: Sequence[Suspension], dead: Sequence[DeadRoute], now: float
) -> list[str]:
    """Why a recipient is still in the queue, one sentence each."""
    out = []
    due = entry.recipient.due
    alive = [node for node in nodes if now - node.heartbeat < _LATE]
    if entry.state == "held":
        out.append(f"It is held: {entry.reply or 'no reason was given'}. Nothing happens until it is released.")
    elif entry.state == "owned":
        mine = [node for node in nodes if node.name == entry.owner]
        beat = f", last heard of {span(now - mine[0].heartbeat)} ago" if mine else ", which is no longer known"
        out.append(
            f"The node {entry.owner or '?'} has it{beat}: it is being delivered, or waits for a free connection."
        )
        if mine and now - mine[0].heartbeat >= _LATE:
            out.append("That node is late: another node takes over its recipients.")
    elif due > now:
        out.append(f"It is due in {span(due - now)}, at {_date(due)}.")
    else:
        out.append(f"It has been due for {span(now - due)}.")
    for rule in rules:
        if rule.route == entry.route and rule.until > now:
            out.append(
                f"Its route {rule.route} is suspended for {span(rule.until - now)} by an administrator: {rule.reason}"
            )
    for one in dead:
        if one.route == entry.route:
            out.append(f"The node {one.node} lets the route {one.route} rest for {span(one.until - now)}: {one.reason}")
    if entry.reply is not None and entry.state != "held":
        after = f" by {entry.host}" if entry.host else ""
        when = f", {span(now - entry.last_attempt)} ago" if entry.last_attempt is not None else ""
        out.append(f"The last reply, after {counted(entry.recipient.attempts, 'attempt')}{when}{after}: {entry.reply}")
    elif not entry.recipient.attempts:
        out.append("It was not tried yet.")
    if entry.recipient.crashes:
        crashes = counted(entry.recipient.crashes, "attempt")
        out.append(f"{crashes} in a row ended by an error of the program; after 3 it is held.")
    if entry.state == "ready" and not alive:
        out.append("No node is running: start the server.")
    elif entry.state == "ready" and due <= now:
        busy = counted(sum(node.owned for node in alive), "recipient")
        out.append(f"The nodes have {busy} in memory: this one is taken when there is room (DeliveryLimits.active).")
    return [_clean(one) for one in out]


class Printer:
    """Prints.

    Arguments:
        out: where.
        as_json: one JSON object a line.
    """

    def __init__(self, out: TextIO, as_json: bool) -> None:
        self._out = out
        self._json = as_json

    def _line(self, text: str) -> None:
        print(text, file=self._out)

    def fact(self, fields: dict[str, Any], text: str) -> None:
        """One fact, in both forms."""
        self._line(json.dumps(fields) if self._json else _clean(text))

    def entries(self, entries: Sequence[Entry], now: float) -> None:
        """Recipients, a line each."""
        for one in entries:
            if one.state == "ready":
                left = one.recipient.due - now
                when = f"due in {span(left)}" if left > 0 else "due"
            else:
                when = one.state
            sender, route = one.message.sender or "<>", one.route or "-"
            text = f"{one.message.ident} {when:<16} {one.message.size:>9} {sender} -> {one.recipient.path} {route}"
            self.fact(_fields(one), f"{text}  {one.reply}" if one.reply else text)

    def message(self, entries: Sequence[Entry], now: float) -> None:
        """One message with its recipients."""
        message = entries[0].message
        if self._json:
            self.entries(entries, now)
            return
        facts = {
            "id": message.ident,
            "sender": message.sender or "<>",
            "arrived": f"{_date(message.arrived)} ({span(now - message.arrived)} ago)",
            "octets": message.size,
            "from": " ".join(filter(None, (message.hello, message.peer))) or "this program",
            "envid": message.envid,
            "priority": message.priority or None,
        }
        for name, value in facts.items():
            if value is not None:
                self._line(_clean(f"{name:<9} {value}"))
        self.entries(entries, now)

    def why(self, entry: Entry, reasons: Sequence[str]) -> None:
        """The reasons for one recipient."""
        if self._json:
            self._line(json.dumps({**_fields(entry), "why": list(reasons)}))
            return
        self._line(_clean(entry.recipient.path))
        for one in reasons:
            self._line(f"    {one}")

    def groups(self, by: str, groups: Sequence[Group], now: float) -> None:
        """Groups of recipients, a line each."""
        for one in groups:
            fields = {by: one.key, "recipients": one.recipients, "octets": one.octets, "oldest": _date(one.oldest)}
            self.fact(fields, f"{one.recipients:>9} {one.octets:>13} {span(now - one.oldest):>12}  {one.key or '-'}")

    def suspensions(self, rules: Sequence[Suspension], dead: Sequence[DeadRoute], now: float) -> None:
        """Routes that are left alone, a line each."""
        for rule in rules:
            if rule.until > now:
                fields = {"route": rule.route, "until": _date(rule.until), "by": "administrator", "reason": rule.reason}
                self.fact(fields, f"{rule.route} for {span(rule.until - now)}, by an administrator: {rule.reason}")
        for one in dead:
            fields = {"route": one.route, "until": _date(one.until), "by": one.node, "reason": one.reason}
            self.fact(fields, f"{one.route} for {span(one.until - now)}, by node {one.node}: {one.reason}")

    def nodes(self, nodes: Sequence[Node], now: float) -> None:
        """Nodes, a line each."""
        for one in nodes:
            fields = {
                "node": one.name,
                "pid": one.pid,
                "started": _date(one.started),
                "heartbeat": _date(one.heartbeat),
                "connected": one.is_connected,
                "owned": one.owned,
            }
            text = f"{one.name} pid {one.pid}, up {span(now - one.started)}, heard of {span(now - one.heartbeat)} ago"
            gone = "" if one.is_connected else ", not connected"
            self.fact(fields, f"{text}{gone}, owns {counted(one.owned, 'recipient')}")

    def findings(self, findings: Sequence[Finding]) -> None:
        """What is wrong, a line each."""
        for one in findings:
            fields = {"kind": one.kind, "id": f"{one.id:016x}", "text": one.text, "repaired": one.repaired}
            self.fact(fields, f"{one.kind}: {one.text}{' (repaired)' if one.repaired else ''}")
        if not findings and not self._json:
            self._line("all is as it must be")

    def changed(self, done: str, changed: Changed) -> None:
        """What a change did."""
        left = "is being delivered, and was" if changed.busy == 1 else "are being delivered, and were"
        busy = f"; {changed.busy} {left} left alone" if changed.busy else ""
        fields = {"done": done, "recipients": changed.recipients, "busy": changed.busy}
        self.fact(fields, f"{counted(changed.recipients, 'recipient')} {done}{busy}")

    def suspended(self, route: str, seconds: float, recipients: int) -> None:
        """A route was suspended; so many recipients in the queue were last tried by it."""
        if recipients:
            text = f"{route} is suspended; {counted(recipients, 'recipient')} in the queue went by it last"
        else:
            text = f"{route} is suspended, but nothing in the queue went by it yet; summary lists the names of routes"
        self.fact({"route": route, "seconds": seconds, "recipients": recipients}, text)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on the terminal, where there is one and rich is installed. Gives what tells it how far it is."""
        if not sys.stderr.isatty():
            yield lambda done, total: None
            return
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ModuleNotFoundError:
            yield lambda done, total: None
            return
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _fields(one: Entry) -> dict[str, Any]:
    message, recipient = one.message, one.recipient
    return {
        "id": message.ident,
        "sender": message.sender,
        "recipient": recipient.path,
        "state": one.state,
        "arrived": _date(message.arrived),
        "due": _date(recipient.due),
        "octets": message.size,
        "attempts": recipient.attempts,
        "route": one.route,
        "reply": one.reply,
        "host": one.host,
        "first_attempt": _date(one.first_attempt),
        "last_attempt": _date(one.last_attempt),
        "owner": one.owner,
    }
