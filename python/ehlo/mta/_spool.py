"""The spool keeps messages and recipients until they are done with. This is the contract of every storage.

:class:`Storage` in ``_model.py`` is the part that delivery uses for each message. :class:`Spool` adds a life (open
and close), rules about routes, and administration. :class:`ehlo.mta.SqliteSpool` and
:class:`ehlo.mta.PostgresSpool` keep it.

The unit of state is the recipient: ``ready`` (due at a time), ``owned`` (a node delivers it), ``held`` (by an
administrator, or since delivery failed by an error of the program). What was owned by processes that are gone is ready
as soon as another one takes over, or if there is none. A recipient that is done with is gone. A message
and its content never change, and go with the last recipient.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from ehlo import EhloError, Reply
from ehlo.mta._model import Message, Recipient, Storage

__all__ = [
    "Changed",
    "DeadRoute",
    "Entry",
    "Finding",
    "Group",
    "Node",
    "NotOwned",
    "QueueFull",
    "Selection",
    "Spool",
    "SpoolError",
    "SpoolFull",
    "SpoolUnavailable",
    "State",
    "Suspension",
    "Totals",
]

State: TypeAlias = Literal["ready", "owned", "held"]
"""The state of a recipient."""

_NO_ROOM: Final = Reply(452, "4.3.1", "Insufficient system storage, try again later")
_BUSY: Final = Reply(452, "4.3.1", "Too many messages at once, try again later")
_AWAY: Final = Reply(451, "4.3.0", "The queue cannot be reached, try again later")


class SpoolError(EhloError, OSError):
    """The spool cannot be used. Its text is one line that says what to do.

    Attributes:
        is_temporary: the same call may succeed later.
        reply: the reply to a client whose message was not stored (RFC 5321 4.2.3).

    Example::

        except ehlo.mta.SpoolError as exc: sys.exit(str(exc))
    """

    is_temporary = False
    reply: Reply = Reply(451, "4.3.0", "The message could not be stored, try again later")
    _number = errno.EIO

    def __init__(self, text: str) -> None:
        super().__init__(self._number, text)

    def __str__(self) -> str:
        return str(self.strerror)


class SpoolFull(SpoolError):
    """There is no room: the disk is full, or less is free than the reserve. Nothing was stored (452 4.3.1)."""

    is_temporary = True
    reply = _NO_ROOM
    _number = errno.ENOSPC


class QueueFull(SpoolFull):
    """Too many operations wait for the storage. Nothing was stored (452 4.3.1)."""

    reply = _BUSY


class SpoolUnavailable(SpoolError):
    """The storage does not answer for the moment (451 4.3.0). A message that was given to ``accept`` is not in the
    queue, or is taken out of it before anything else is done.
    """

    is_temporary = True
    reply = _AWAY


class NotOwned(SpoolError):
    """The outcome of an attempt is not stored, because another node has taken over the recipients, or an administrator
    has changed them.
    """


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of recipients. All given conditions must hold. Without a condition all recipients are chosen.

    Attributes:
        messages: ids of messages.
        sender: the reverse-path; ``""`` for the null path. Letter case does not matter.
        recipient: the forward-path. Letter case does not matter.
        domain: of the forward-path. Letter case does not matter.
        route: the name of the route, as :attr:`Entry.route` has it.
        state: of the recipient.
        arrived_before: seconds of the Unix epoch.
        due_before: seconds of the Unix epoch.
        reply: a part of the last reply. Letter case does not matter.
        limit: the most recipients of a change, the oldest first.

    Example::

        Selection(domain="example.org", state="held")
    """

    messages: Sequence[int] | None = None
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    route: str | None = None
    state: State | None = None
    arrived_before: float | None = None
    due_before: float | None = None
    reply: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient as an administrator sees it. Looking never writes.

    Attributes:
        message, recipient: what is queued, and for whom.
        state: see :data:`State`.
        route: the name of the route of its last attempt; ``None`` before the first.
        reply, host: the last reply, and who gave it. For what is held: the reason.
        first_reply: the reply of the first attempt that did not end it.
        first_attempt, last_attempt: seconds of the Unix epoch; ``None`` before the first.
        owner: the name of the node that delivers it.

    Example::

        print(entry.message.ident, entry.recipient.path, entry.reply)
    """

    message: Message
    recipient: Recipient
    state: State
    route: str | None = None
    reply: str | None = None
    host: str | None = None
    first_reply: str | None = None
    first_attempt: float | None = None
    last_attempt: float | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients that have something in common.

    Attributes:
        key: what they have in common.
        recipients: how many.
        octets: the sizes of their messages, counted once for each recipient.
        oldest: when the first of their messages arrived, in seconds of the Unix epoch.

    Example::

        for group in await spool.summary("route", now): print(group.key, group.recipients)
    """

    key: str
    recipients: int
    octets: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is queued.

    Attributes:
        ready, owned, held: recipients by state.
        messages: all messages.
        octets: of all messages.
        oldest: when the first one arrived; ``None`` for an empty queue.
        free: octets that are free for the spool; ``None`` where that is not known.

    Example::

        (await spool.totals()).ready
    """

    ready: int
    owned: int
    held: int
    messages: int
    octets: int
    oldest: float | None
    free: int | None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change by an administrator did.

    Attributes:
        recipients: the number of changed recipients; with a dry run, of those that would change.
        busy: the number of recipients that were left out, because a node delivers them at this moment.

    Example::

        changed = await spool.hold(Selection(domain="example.org"), "asked by the owner")
    """

    recipients: int
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Suspension:
    """A rule: no attempt for a route.

    Attributes:
        route: its name.
        until: seconds of the Unix epoch.
        reason: why, for people.
        since: when it was made, in seconds of the Unix epoch.

    Example::

        await spool.suspend(Suspension("mx.example.org", now + 3600, "asked by its owner", now))
    """

    route: str
    until: float
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class DeadRoute:
    """A route that a node lets rest by itself, because its servers do not answer.

    Attributes:
        route: its name.
        until: seconds of the Unix epoch: then the node tries one of its messages.
        reason: the last reply or error.
        node: the name of the node.

    Example::

        [one.route for one in await spool.dead_routes()]
    """

    route: str
    until: float
    reason: str
    node: str


@dataclass(frozen=True, slots=True)
class Node:
    """A process that uses the spool.

    Attributes:
        id: of this start of the process: it is the owner of recipients.
        name: of the node.
        pid: of the process, on its own machine.
        started: seconds of the Unix epoch.
        heartbeat: when it was last heard of, in seconds of the Unix epoch.
        is_connected: whether it has a session with the server.
        owned: recipients that it delivers.

    Example::

        [node.name for node in await spool.nodes()]
    """

    id: int
    name: str
    pid: int
    started: float
    heartbeat: float
    is_connected: bool
    owned: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A damage that ``verify`` has found.

    Attributes:
        kind: ``missing content``, ``orphaned content``, ``message without recipients``, ``recipient without message``
            or ``damaged`` (the database says so).
        id: of the message or of the content; 0 where there is none.
        text: more about it.
        repaired: whether it was repaired.

    Example::

        for finding in await spool.verify(repair=False): print(finding.kind, finding.text)
    """

    kind: str
    id: int
    text: str
    repaired: bool = False


class Spool(Storage, Protocol):
    """A storage as a whole. All methods that wait may be cancelled. It belongs to the loop in which it was opened.

    A message whose ``accept`` was cancelled is not in the queue.

    Example::

        spool = SqliteSpool("spool")
        await spool.open()
    """

    on_news: Callable[[], None] | None
    """Called in the loop when something may be due that this process did not put there: another node's message, the
    recipients of a node that died, what an administrator released. May be called for nothing."""

    @property
    def last_write(self) -> float:
        """When the spool was last written before it was opened, by the clock of that time: seconds of the Unix epoch,
        within a minute; 0: not known. So a queue notices that the clock was set back between two of its lives."""
        return 0.0

    async def open(self) -> None:
        """Open it. What an earlier life of this node owned is ready again, but for what the delivered journal says
        was taken. Does not read the backlog.

        Raises:
            SpoolError: it cannot be used: by its version, by its permissions, since another process has it.
        """

    async def migrate(self) -> tuple[int, int]:
        """Bring the tables of a spool that is not open up to date. Gives the numbers of the schema before and after."""

    async def close(self) -> None:
        """Store what waits, give back what is owned, and leave."""

    async def release(self, recipients: Sequence[tuple[Message, Sequence[Recipient]]]) -> None:
        """Give back what is owned and was not attempted: it is ready at its old due time."""

    # ---- rules about routes ----------------------------------------------------------------------

    async def suspend(self, suspension: Suspension) -> None:
        """Store a rule, in place of an earlier one for the same route. Nodes learn of it by ``on_news``."""

    async def resume(self, route: str) -> bool:
        """Remove a rule. Gives whether there was one."""

    async def suspensions(self) -> list[Suspension]:
        """All rules, also those whose time is over."""

    async def dead_routes(self) -> list[DeadRoute]:
        """Routes that nodes leave alone by themselves."""

    # ---- looking: never writes, and does not hold up what is stored meanwhile ---------------------

    async def entries(self, selection: Selection, limit: int = 100, after: tuple[int, int] = (0, 0)) -> list[Entry]:
        """Recipients in the order of their arrival.

        Arguments:
            limit: the most entries.
            after: the ids of message and recipient of the last entry of the page before.
        """

    async def count(self, selection: Selection) -> Changed:
        """The number of recipients that a change would change: for ``--dry-run``."""

    async def summary(
        self, by: Literal["route", "domain", "sender", "age", "reply", "state"], now: float, selection: Selection
    ) -> list[Group]:
        """Recipients in groups, the largest first. Ages are ``"0 h"``, ``"1 h"``, ``"2 h"``, ``"4 h"`` and so on: the
        hours of which they are past.
        """

    async def totals(self) -> Totals:
        """How much is queued."""

    async def nodes(self) -> list[Node]:
        """The processes that use the spool."""

    # ---- changing: recipients that are owned are left alone, and counted as busy -------------------

    async def hold(self, selection: Selection, reason: str) -> Changed:
        """No attempt until :meth:`unhold`."""

    async def unhold(self, selection: Selection, now: float) -> Changed:
        """What is held is due at once."""

    async def retry(self, selection: Selection, now: float) -> Changed:
        """What is ready is due at once."""

    async def redirect(self, selection: Selection, path: str, now: float) -> Changed:
        """Another forward-path. The old one is kept as ORCPT where there is none (RFC 3461 4.2). Due at once."""

    async def drop(self, selection: Selection) -> Changed:
        """Remove recipients. Nobody is told."""

    async def verify(self, *, repair: bool, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
        """Look for damage. A repair holds a recipient without its content, and never drops it.

        Arguments:
            repair: repair the damage.
            progress: a function that gets the number of messages so far, and of all messages. A thread calls it.
        """
