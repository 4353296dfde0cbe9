"""What an administrator asks and changes, for every engine: the statements over :class:`Database`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from ehlo.mta._model import Message, Recipient
from ehlo.mta._rows import HELD, MESSAGE_COLUMNS, READY, RECIPIENT_COLUMNS, message_of, recipient_facts, recipient_of
from ehlo.mta._spool import Changed, DeadRoute, Entry, Group, Selection, State, Suspension, Totals
from ehlo.mta._store import Claimed, Database

__all__ = [
    "By",
    "Key",
    "change",
    "claimed",
    "count",
    "dead_routes",
    "dropped",
    "entries",
    "keys",
    "redirected",
    "summary",
    "suspensions",
    "totals",
]

By: TypeAlias = Literal["route", "domain", "sender", "age", "reply", "state"]
Key: TypeAlias = "tuple[int, int]"
"""The ids of a message and of one of its recipients."""

PAGE: Final = 1000
"""Recipients that one transaction of a change touches: so what is stored meanwhile does not wait for long."""

_FROM: Final = "FROM recipient r JOIN message m ON m.id = r.message"
_STATES: Final[dict[State, str]] = {"ready": "= 0", "held": "= -1", "owned": "> 0"}
_OWNER: Final = "r.owner"
_OWNER_WHEN_IDLE: Final = "CASE WHEN r.owner > 0 THEN 0 ELSE r.owner END"
_HOURS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_KEYS: Final[dict[By, str]] = {
    "route": "coalesce(r.route, '')",
    # What is behind the last "@": no domain has one.
    "domain": "lower(replace(r.path, rtrim(r.path, replace(r.path, '@', '')), ''))",
    "sender": "m.sender",
    "reply": "coalesce(substr(r.reply, 1, 100), '')",
}


def _owner(idle: bool) -> str:
    """The owner of a recipient, as SQL. Nobody owns one if no process delivers: what is owned was left by processes
    that are gone, and the next one that starts makes it ready.
    """
    return _OWNER_WHEN_IDLE if idle else _OWNER


def _where(selection: Selection, owner: str = _OWNER) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *given: Any) -> None:
        parts.append(part)
        values.extend(given)

    if selection.messages is not None:
        marks = ", ".join("?" * len(selection.messages)) or "NULL"
        add(f"r.message IN ({marks})", *selection.messages)
    if selection.sender is not None:
        add("lower(m.sender) = ?", selection.sender.lower())
    if selection.recipient is not None:
        add("lower(r.path) = ?", selection.recipient.lower())
    if selection.domain is not None:
        add("lower(r.path) LIKE ? ESCAPE '!'", f"%@{_escaped(selection.domain.lower())}")
    if selection.route is not None:
        add("r.route = ?", selection.route)
    if selection.state is not None:
        add(f"{owner} {_STATES[selection.state]}")
    if selection.arrived_before is not None:
        add("m.arrived < ?", selection.arrived_before)
    if selection.due_before is not None:
        add("r.due < ?", selection.due_before)
    if selection.reply is not None:
        add("lower(r.reply) LIKE ? ESCAPE '!'", f"%{_escaped(selection.reply.lower())}%")
    return " AND ".join(parts) or "TRUE", values


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


# ---- looking: ``idle`` is whether no process delivers ------------------------------------------------


def entries(
    db: Database, selection: Selection, limit: int, after: Key, names: dict[int, str], idle: bool
) -> list[Entry]:
    """See :meth:`ehlo.mta.Spool.entries`. ``names``: of nodes by their ids."""
    where, values = _where(selection, _owner(idle))
    columns = ", ".join(f"r.{name}" for name in RECIPIENT_COLUMNS.split(", "))
    about = ", ".join(f"m.{name}" for name in MESSAGE_COLUMNS.split(", "))
    rows = db.query(
        f"SELECT {columns}, r.reply, r.host, r.first_reply, r.first_attempt, r.last_attempt, {about} {_FROM}"
        f" WHERE {where} AND (r.message, r.id) > (?, ?) ORDER BY r.message, r.id LIMIT ?",
        [*values, *after, limit],
    )
    found = []
    for row in rows:
        owner = min(row[4], READY) if idle else row[4]
        state: State = "ready" if owner == READY else "held" if owner == HELD else "owned"
        recipient = recipient_of(row[1:10])
        reply, host, first_reply, first, last = row[10:15]
        name = names.get(owner)
        found.append(
            Entry(message_of(row[15:]), recipient, state, recipient.route, reply, host, first_reply, first, last, name)
        )
    return found


def count(db: Database, selection: Selection, idle: bool) -> Changed:
    """See :meth:`ehlo.mta.Spool.count`."""
    owner = _owner(idle)
    where, values = _where(selection, owner)
    [(free, busy)] = db.query(
        f"SELECT coalesce(sum(CASE WHEN {owner} > 0 THEN 0 ELSE 1 END), 0),"
        f" coalesce(sum(CASE WHEN {owner} > 0 THEN 1 ELSE 0 END), 0) {_FROM} WHERE {where}",
        values,
    )
    return Changed(int(free) if selection.limit is None else min(int(free), selection.limit), int(busy))


def summary(db: Database, by: By, now: float, selection: Selection, idle: bool) -> list[Group]:
    """See :meth:`ehlo.mta.Spool.summary`."""
    owner = _owner(idle)
    where, values = _where(selection, owner)
    given: list[Any] = []
    if by == "age":
        cases = "".join(f" WHEN m.arrived > ? THEN '{low} h'" for low in (0, *_HOURS[:-1]))
        key = f"CASE{cases} ELSE '{_HOURS[-1]} h' END"
        given = [now - hours * 3600 for hours in _HOURS]
    elif by == "state":
        key = f"CASE WHEN {owner} = 0 THEN 'ready' WHEN {owner} < 0 THEN 'held' ELSE 'owned' END"
    else:
        key = _KEYS[by]
    rows = db.query(
        f"SELECT {key} AS k, count(*), sum(m.size), min(m.arrived) {_FROM} WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1",
        [*given, *values],
    )
    return [Group(str(name), int(number), int(octets), oldest) for name, number, octets, oldest in rows]


def totals(db: Database, free: int | None, idle: bool) -> Totals:
    """See :meth:`ehlo.mta.Spool.totals`."""
    owner = _owner(idle)
    [(ready, held, owned)] = db.query(
        f"SELECT coalesce(sum(CASE WHEN {owner} = 0 THEN 1 ELSE 0 END), 0),"
        f" coalesce(sum(CASE WHEN {owner} < 0 THEN 1 ELSE 0 END), 0),"
        f" coalesce(sum(CASE WHEN {owner} > 0 THEN 1 ELSE 0 END), 0) FROM recipient r"
    )
    [(messages, octets, oldest)] = db.query("SELECT count(*), coalesce(sum(size), 0), min(arrived) FROM message")
    return Totals(int(ready), int(owned), int(held), int(messages), int(octets), oldest, free)


def dead_routes(db: Database, names: dict[int, str]) -> list[DeadRoute]:
    """See :meth:`ehlo.mta.Spool.dead_routes`. ``names``: of nodes by their ids."""
    rows = db.query("SELECT route, until, reason, node FROM dead_route ORDER BY route, node")
    return [DeadRoute(route, until, reason, names.get(node, "?")) for route, until, reason, node in rows]


def suspensions(db: Database) -> list[Suspension]:
    """See :meth:`ehlo.mta.Spool.suspensions`."""
    return [Suspension(*row) for row in db.query("SELECT route, until, reason, since FROM suspension ORDER BY route")]


# ---- changing ----------------------------------------------------------------------------------------


def keys(db: Database, selection: Selection, after: Key, limit: int = PAGE) -> list[Key]:
    """Recipients that may be changed, in the order of their ids. No node takes one until the transaction ends."""
    where, values = _where(selection)
    lock = f"{db.for_update} OF r" if db.for_update else ""
    rows = db.query(
        f"SELECT r.message, r.id {_FROM} WHERE {where} AND r.owner <= 0 AND (r.message, r.id) > (?, ?)"
        f" ORDER BY r.message, r.id LIMIT ?{lock}",
        [*values, *after, limit],
    )
    return [(message, number) for message, number in rows]


def change(db: Database, what: str, values: Sequence[Any], chosen: Sequence[Key]) -> None:
    """Set columns of recipients that no node owns."""
    db.change_many(
        f"UPDATE recipient SET {what} WHERE message = ? AND id = ? AND owner <= 0", [(*values, *key) for key in chosen]
    )


def redirected(db: Database, path: str, now: float, chosen: Sequence[Key]) -> None:
    """Give recipients another path."""
    for key in chosen:
        [row] = db.query(f"SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE message = ? AND id = ?", key)
        recipient = recipient_of(row[1:])
        if recipient.orcpt is None:
            kind = "rfc822" if recipient.path.isascii() else "utf-8"
            recipient.orcpt = (kind, recipient.path)
        change(db, "path = ?, facts = ?, route = NULL, due = ?", (path, recipient_facts(recipient), now), [key])


def claimed(db: Database, rows: Sequence[tuple[Any, ...]], owner: int) -> Claimed:
    """Messages with those of their recipients whose rows are given, in that order; ``owner`` owns them now."""
    together: dict[int, list[Recipient]] = {}
    for row in rows:
        together.setdefault(row[0], []).append(recipient_of(row[1:]))
    wanted = list(together)
    messages: dict[int, Message] = {}
    for at in range(0, len(wanted), PAGE):
        part = wanted[at : at + PAGE]
        marks = ", ".join("?" * len(part))
        for row in db.query(f"SELECT {MESSAGE_COLUMNS} FROM message WHERE id IN ({marks})", part):
            messages[row[0]] = message = message_of(row)
            message.owner = owner
    return [(messages[number], recipients) for number, recipients in together.items() if number in messages]


def dropped(db: Database, chosen: Sequence[Key], *, also_owned: bool = False) -> list[int]:
    """Forget recipients, and messages that have none left. Gives the names of contents that are no rows and are needed
    no more.
    """
    if not chosen:
        return []
    unowned = "" if also_owned else " AND owner <= 0"
    numbers = sorted({message for message, _ in chosen})
    marks = ", ".join("?" * len(numbers))
    db.change_many(f"DELETE FROM recipient WHERE message = ? AND id = ?{unowned}", list(chosen))
    # A node may end the message's other recipients now: who is second must see what the first did.
    stored = db.query(f"SELECT id, stored FROM message WHERE id IN ({marks}) ORDER BY id{db.for_update}", numbers)
    db.change(
        f"DELETE FROM message WHERE id IN ({marks})"
        " AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = message.id)",
        numbers,
    )
    left = {row[0] for row in db.query(f"SELECT id FROM message WHERE id IN ({marks})", numbers)}
    db.change_many("DELETE FROM body WHERE message = ?", [(one,) for one in numbers if one not in left])
    return [name for number, name in stored if name and number not in left]
