"""How the messages of one route are handed over: by SMTP or LMTP, or into a mailbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import anyio.to_thread

import ehlo
from ehlo import store
from ehlo.mta._attempt import Attempt
from ehlo.mta._link import Link, Target, open_link
from ehlo.mta._model import Content, Message, Outcome, Recipient
from ehlo.mta._routes import Maildir, Mbox
from ehlo.mta._tls_policy import TlsPolicy

__all__ = ["Handed", "Means", "OverSmtp", "ToMailbox"]

# Seconds for which an address that failed comes last.
_DEAD: Final = 60.0
# Mailboxes that are kept open.
_STORES: Final = 1000


@dataclass(slots=True)
class Handed:
    """What one attempt gave.

    Attributes:
        outcomes: one for each recipient.
        is_alive: whether the route answered.
        link: the connection that it left open.
    """

    outcomes: list[Outcome]
    is_alive: bool = True
    link: Link | None = None


class Means(Protocol):
    """Hands the messages of one route over."""

    async def hand_over(
        self, message: Message, recipients: list[Recipient], content: Content, link: Link | None, now: float
    ) -> Handed:
        """Make one attempt, first over the open connection if there is one.

        Arguments:
            now: seconds of the monotonic clock.
        """


class OverSmtp:
    """By SMTP or LMTP.

    Arguments:
        targets: the servers, in the order to try them.
        policy: for TLS.
        config: how the client speaks.
        auth: to log in with.
        source_address: to connect from.
        connect_timeout: seconds.
        opened: called for each connection that was opened.
    """

    def __init__(
        self,
        targets: tuple[Target, ...],
        policy: TlsPolicy,
        config: ehlo.ClientConfig,
        *,
        auth: ehlo.Login | tuple[str, str] | None = None,
        source_address: str | None = None,
        connect_timeout: float = 30.0,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        self.targets = targets
        self.policy = policy
        self._config = config
        self._auth = auth
        self._source_address = source_address
        self._connect_timeout = connect_timeout
        self._opened = opened
        self._dead: dict[Target, float] = {}

    async def hand_over(
        self, message: Message, recipients: list[Recipient], content: Content, link: Link | None, now: float
    ) -> Handed:
        """See :meth:`Means.hand_over`."""

        async def connect(target: Target) -> Link:
            try:
                opened = await open_link(
                    target,
                    self.policy,
                    self._config,
                    auth=self._auth,
                    source_address=self._source_address,
                    connect_timeout=self._connect_timeout,
                )
            except ehlo.SMTPException:
                self._dead[target] = now + _DEAD
                raise
            self._opened()
            return opened

        is_final = self._config.lmtp
        attempt = Attempt(message, recipients, content, self._ordered(now), connect, link, is_final)
        return Handed(await attempt.run(), attempt.reached, attempt.link)

    def _ordered(self, now: float) -> Iterator[Target]:
        """Those that failed a moment ago come last."""
        if not self._dead:
            yield from self.targets
            return
        late = [target for target in self.targets if self._dead.get(target, 0.0) > now]
        self._dead = {target: self._dead[target] for target in late}
        yield from (target for target in self.targets if target not in late)
        yield from late


@dataclass(frozen=True, slots=True)
class _Envelope:
    """Sender and recipients, as a store looks at them."""

    sender: ehlo.Sender
    recipients: tuple[ehlo.Recipient, ...]


class ToMailbox:
    """Into a Maildir or an mbox file for each recipient, with Return-Path on top (RFC 5321 4.4).

    Arguments:
        route: where the mailboxes are.
    """

    def __init__(self, route: Maildir | Mbox) -> None:
        self._route = route
        self._stores: dict[str, store.Store] = {}

    async def hand_over(
        self, message: Message, recipients: list[Recipient], content: Content, link: Link | None, now: float
    ) -> Handed:
        """See :meth:`Means.hand_over`."""
        return Handed([await self._deliver(message, one, content) for one in recipients])

    async def _deliver(self, message: Message, recipient: Recipient, content: Content) -> Outcome:
        mailbox = self._route.folder(ehlo.Recipient(recipient.path))
        try:
            if isinstance(content, bytes):
                await anyio.to_thread.run_sync(self._deliver_whole, message, recipient, content)
            else:
                await self._deliver_chunks(message, recipient, content())
        except OSError as exc:
            reply = ehlo.Reply(451, "4.3.0", f"The mailbox: {exc.strerror or exc}")
            return Outcome(recipient, "deferred", reply, mailbox=mailbox)
        reply = ehlo.Reply(250, "2.0.0", "Delivered to the mailbox")
        return Outcome(recipient, "delivered", reply, mailbox=mailbox)

    def _deliver_whole(self, message: Message, recipient: Recipient, content: bytes) -> None:
        with self._begin(message, recipient) as delivery:
            delivery.write(content)
            delivery.commit()

    async def _deliver_chunks(self, message: Message, recipient: Recipient, chunks: AsyncIterator[bytes]) -> None:
        delivery = await anyio.to_thread.run_sync(self._begin, message, recipient)
        try:
            async for chunk in chunks:
                await anyio.to_thread.run_sync(delivery.write, chunk)
            await anyio.to_thread.run_sync(delivery.commit)
        finally:
            delivery.abort()  # without effect behind the commit

    def _begin(self, message: Message, recipient: Recipient) -> store.Delivery:
        to = ehlo.Recipient(recipient.path)
        envelope = cast(ehlo.Envelope, _Envelope(ehlo.Sender(message.sender), (to,)))
        folder = self._route.folder(to)
        box = self._stores.get(folder)
        if box is None:
            if len(self._stores) >= _STORES:
                self._stores.clear()
            box = self._stores[folder] = self._open(folder)
        if not isinstance(box, store.Maildir):
            return box.begin(envelope)
        # A process may die when the message is in the mailbox, and before the journal says so. So the next attempt must
        # know its file again.
        seconds, part = divmod(message.arrived, 1)
        name = f"{seconds:.0f}.M{part * 1e6:06.0f}Q{message.id:x}R{recipient.id:x}"
        return box.begin(envelope, name=name, again=recipient.attempts > 0 or recipient.crashes > 0)

    def _open(self, place: str) -> store.Store:
        route = self._route
        options: dict[str, Any] = {
            "mode": route.mode,
            "recipient_field": route.recipient_field,
            "follow_symlink": route.follow_symlink,
        }
        if isinstance(route, Maildir):
            return store.Maildir(place, parents=True, **options)
        os.makedirs(os.path.dirname(place) or ".", 0o700, exist_ok=True)
        return store.Mbox(place, **options)
