"""What the engine of the kit knows of a message and of its recipients. Storage gives and takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from ehlo import Reply

__all__ = ["Content", "Message", "NewMessage", "Outcome", "Recipient", "Result", "Stage", "Storage"]

Content: TypeAlias = "bytes | Callable[[], AsyncIterator[bytes]]"
"""A message's octets, or what gives them in chunks, as often as it is called."""

Result: TypeAlias = Literal["relayed", "delivered", "failed", "deferred", "postponed", "held"]
"""What became of one attempt for one recipient. ``postponed``: there was none, since the route is suspended."""


@dataclass(slots=True, eq=False)
class Message:
    """One queued message. It never changes.

    Attributes:
        id: 64 bits, ordered by time.
        sender: the reverse-path without brackets; ``""`` for the null path.
        arrived: seconds of the Unix epoch.
        size: octets of the stored content.
        eight_bit: the content has octets above 127.
        utf8_header: its header section has some.
        body: BODY as MAIL had it, ``None`` without.
        smtputf8: MAIL had SMTPUTF8.
        ret, envid: of RFC 3461 4.3, 4.4.
        priority: of MT-PRIORITY (RFC 6710).
        requiretls: MAIL had REQUIRETLS (RFC 8689).
        hello, peer: the client's name and address, for notifications.
        parameters: of MAIL, those that have no attribute here: keyword and value as they were written.
        recipients: how many there were when it was accepted. The spool sets it.
        stored: where its content is, for the spool alone.
        owner: who owns its recipients that are in memory, for the spool alone.

    Example::

        message.ident  # "0192f3c2d4e5a6b7", as the log and the 250 reply have it
    """

    id: int
    sender: str
    arrived: float
    size: int = 0
    eight_bit: bool = False
    utf8_header: bool = False
    body: Literal["7BIT", "8BITMIME", "BINARYMIME"] | None = None
    smtputf8: bool = False
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    priority: int = 0
    requiretls: bool = False
    hello: str | None = None
    peer: str | None = None
    parameters: tuple[tuple[str, str | None], ...] = ()
    recipients: int = 0
    stored: int = 0
    owner: int = 0

    @property
    def ident(self) -> str:
        """The queue id as text."""
        return f"{self.id:016x}"

    @property
    def is_plain(self) -> bool:
        """Whether nothing has to be said in MAIL but the path."""
        return (
            self.ret is None
            and self.envid is None
            and self.body != "BINARYMIME"
            and not self.priority
            and not self.requiretls
        )


@dataclass(slots=True, eq=False)
class Recipient:
    """One recipient of a queued message: the unit of state.

    Attributes:
        id: of its row.
        path: the forward-path without brackets.
        notify: of RFC 3461 4.1; ``None`` where it was not given.
        orcpt: type and address of RFC 3461 4.2.
        attempts: how often it was tried.
        due: when it is to be tried, in seconds of the Unix epoch.
        warned: its sender was told of the delay.
        parameters: of RCPT, those that have no attribute here: keyword and value as they were written.
        route: the name of the route that it took, for an administrator.
        crashes: attempts in a row that ended by an error of the program, or with its process.

    Example::

        Recipient(1, "joe@example.org")
    """

    id: int
    path: str
    notify: frozenset[str] | None = None
    orcpt: tuple[str, str] | None = None
    attempts: int = 0
    due: float = 0.0
    warned: bool = False
    parameters: tuple[tuple[str, str | None], ...] = ()
    route: str | None = None
    crashes: int = 0

    def wants(self, kind: str) -> bool:
        """Whether its sender wants a notification of a kind (RFC 3461 4.1). Unless told otherwise: of failure and
        delay.

        Example::

            recipient.wants("SUCCESS")  # False
        """
        return kind in (("FAILURE", "DELAY") if self.notify is None else self.notify)


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one attempt for one recipient.

    Attributes:
        recipient: whom it is about.
        result: see :data:`Result`.
        reply: the reply that decided, or one of ours.
        host: the server that gave it; ``None`` where it is ours.
        passed_on: the next hop does the notifications (it has DSN).
        is_unknown: the next hop may have the message (RFC 5321 4.5.3.2.6).
        due: when it is tried again, for ``deferred`` and ``postponed``.
        is_crash: the program failed, not the next hop.
        seconds: that the attempt took; ``None``: there was none.
        mailbox: the path of the mailbox here, for the log; ``None`` where there is none.

    Example::

        Outcome(recipient, "failed", ehlo.Reply(550, "5.1.1", "no such user"), "mx.example.org")
    """

    recipient: Recipient
    result: Result
    reply: Reply
    host: str | None = None
    passed_on: bool = False
    is_unknown: bool = False
    due: float = field(default=0.0)
    is_crash: bool = False
    seconds: float | None = None
    mailbox: str | None = None

    @property
    def status(self) -> str:
        """The enhanced status code; where the reply has none, that of its class (RFC 3463 3.1)."""
        return self.reply.enhanced or f"{self.reply.code // 100}.0.0"


NewMessage: TypeAlias = "tuple[Message, list[Recipient], bytes]"
"""A message of our own that is to be queued: a notification."""


class Stage(Protocol):
    """A content that comes in pieces, before it is accepted."""

    async def write(self, octets: bytes) -> None:
        """Add octets."""

    async def discard(self) -> None:
        """It will not be accepted; nothing of it is left."""


class Storage(Protocol):
    """What the engine asks of the spool."""

    def refusal(self, octets: int) -> Reply | None:
        """Why no message of so many octets can be taken now (452 4.3.1); ``None`` if one can."""

    async def stage(self) -> Stage:
        """Begin a content that comes in pieces."""

    async def accept(
        self, message: Message, recipients: Sequence[Recipient], content: bytes | Stage, owned: bool
    ) -> None:
        """Store a message. It is durable when this returns.

        Arguments:
            owned: this process delivers it at once; otherwise it waits until it is claimed.

        Raises:
            OSError: it cannot be stored; then nothing of it is.
        """

    def new_id(self) -> int:
        """A new id, greater than those before."""

    def finish(
        self,
        message: Message,
        outcomes: Sequence[Outcome],
        notices: Sequence[NewMessage],
        done: Callable[[BaseException | None], None],
    ) -> None:
        """Store outcomes and notifications in one transaction. Returns at once; ``done`` is called in the loop when it
        is durable, or with the error.

        Nothing of it is stored where this process does not own all the recipients any more: ``done`` gets a
        :class:`ehlo.mta._spool.NotOwned`.
        """

    def begun(self, message: Message, recipients: Sequence[Recipient]) -> Awaitable[None] | None:
        """An attempt begins; :meth:`finish` ends it. Recipients of an attempt that is open when the process dies have
        one more in :attr:`Recipient.crashes` from then on. Where that needs a wait, it gives the awaitable.
        """

    def note_route(self, route: str, until: float, reason: str) -> None:
        """Tell administrators that this process leaves a route alone until then, by the system's clock; 0: not any
        more. Returns at once.
        """

    def owns(self, message: Message) -> bool:
        """Whether this process still owns the recipients of a message that it was given. If not, it must begin nothing
        for them: another node may be delivering them.
        """

    async def claim(self, now: float, limit: int) -> list[tuple[Message, list[Recipient]]]:
        """Take recipients that are due, no more than so many."""

    async def next_due(self) -> float | None:
        """When the next one is due."""

    async def read(self, message: Message) -> Content:
        """The content of a message."""

    async def head(self, message: Message, octets: int) -> bytes:
        """The first octets of a message."""
