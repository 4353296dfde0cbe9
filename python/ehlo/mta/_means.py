"""How the messages of one route are handed over: by SMTP or LMTP, or into a Maildir."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import anyio.to_thread

import ehlo
from ehlo.mta import _maildir
from ehlo.mta._attempt import Attempt
from ehlo.mta._link import Link, Target, open_link
from ehlo.mta._model import Content, Message, Outcome, Recipient
from ehlo.mta._routes import Maildir
from ehlo.mta._tls_policy import TlsPolicy

__all__ = ["Handed", "Means", "OverSmtp", "ToMaildir"]

# Seconds for which an address that failed comes last.
_DEAD: Final = 60.0


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


class ToMaildir:
    """Into a Maildir for each recipient, with Return-Path on top (RFC 5321 4.4).

    Arguments:
        route: where the folders are.
    """

    def __init__(self, route: Maildir) -> None:
        self._route = route

    async def hand_over(
        self, message: Message, recipients: list[Recipient], content: Content, link: Link | None, now: float
    ) -> Handed:
        """See :meth:`Means.hand_over`."""
        top = ehlo.return_path(ehlo.Address(message.sender) if message.sender else ehlo.NULL)
        return Handed([await self._deliver(one, top, content) for one in recipients])

    async def _deliver(self, recipient: Recipient, top: bytes, content: Content) -> Outcome:
        folder = self._route.folder(ehlo.Recipient(recipient.path))
        if folder is None:
            return Outcome(
                recipient, "failed", ehlo.Reply(550, "5.1.3", "The address has no place in a mailbox's path")
            )
        if isinstance(content, bytes):
            pieces = [top, content]
        else:  # one at a time, and no more than a message's size: the spool keeps them in a file
            pieces = [top]
            async for chunk in content():
                pieces.append(chunk)
        try:
            await anyio.to_thread.run_sync(_maildir.deliver, folder, pieces)
        except OSError as exc:
            return Outcome(recipient, "deferred", ehlo.Reply(451, "4.3.0", f"The Maildir: {exc.strerror or exc}"))
        return Outcome(recipient, "delivered", ehlo.Reply(250, "2.0.0", "Delivered to the mailbox"))
