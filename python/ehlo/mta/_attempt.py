"""One attempt: a message for the recipients of one route, over every server of the route before anyone is deferred."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import ehlo
from ehlo.mta._link import Link, Target, reply_of
from ehlo.mta._model import Content, Message, Outcome, Recipient

__all__ = ["Attempt", "Connect"]

Connect = Callable[[Target], Awaitable[Link]]

_DSN: Final = "DSN"


@dataclass(slots=True)
class Attempt:
    """One attempt.

    Arguments:
        message, recipients, content: what is sent, and to whom.
        targets: the servers, in the order to try them.
        connect: opens a connection, or raises :class:`ehlo.SMTPException`.
        link: an open connection, to be used first.
        is_final: the next hop is the end of the way: an LMTP server.

    Attributes:
        outcomes: of the recipients that are done.
        link: the connection that can be used again; ``None`` without one.
        reached: some server answered MAIL, with no 421: the route is alive.

    Example::

        attempt = Attempt(message, recipients, content, targets, connect)
        await attempt.run()
    """

    message: Message
    recipients: list[Recipient]
    content: Content
    targets: Iterable[Target]
    connect: Connect
    link: Link | None = None
    is_final: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    reached: bool = False
    _left: list[Recipient] = field(default_factory=list)
    _last: tuple[ehlo.Reply, str | None] | None = None
    _temporary: tuple[ehlo.Reply, str | None] | None = None

    async def run(self) -> list[Outcome]:
        """Make the attempt; gives the outcomes, one for each recipient."""
        self._left = self.recipients
        if self.link is not None:
            await self._over(self.link)
        if self._left:
            await self._over_all()
        if self._left:
            # A server that can be tried again outweighs those that refuse for good.
            reply, host = self._temporary or self._last or (ehlo.Reply(451, "4.4.4", "The route has no server"), None)
            result: Any = "failed" if reply.is_permanent else "deferred"
            self.outcomes += [Outcome(one, result, reply, host) for one in self._left]
            self._left = []
        return self.outcomes

    async def _over_all(self) -> None:
        for target in self.targets:
            try:
                link = await self.connect(target)
            except ehlo.SMTPException as exc:
                self._note(reply_of(exc), target.host)
                continue
            await self._over(link)
            if not self._left:
                return

    def _note(self, reply: ehlo.Reply, host: str | None) -> None:
        """A server did not take the message; another may."""
        self._last = (reply, host)
        if not reply.is_permanent:
            self._temporary = self._last

    async def _over(self, link: Link) -> None:
        """Send over one connection. What is left for another server stays in ``_left``; then this one is closed."""
        client, message = link.client, self.message
        link.messages += 1
        offers_dsn = _DSN in client.capabilities
        sender = _sender(message, client.capabilities)
        recipients = [_recipient(one, offers_dsn) for one in self._left]
        content = self.content
        # A message that came without SMTPUTF8 goes on without it, whatever octets its header section has.
        utf8_header = message.smtputf8 and message.utf8_header
        try:
            if isinstance(content, bytes):
                result = await client.send(content, sender, recipients, utf8_header=utf8_header)
            else:
                result = await client.send(
                    content(),
                    sender,
                    recipients,
                    size=message.size,
                    eight_bit=message.eight_bit,
                    utf8_header=utf8_header,
                )
        except ehlo.SMTPException as exc:
            if exc.result is None:
                self._note(reply_of(exc), link.target.host)
                await self._close(link)
                return
            result, error = exc.result, exc
            self._judge(link, result, reply_of(error), offers_dsn)
        except BaseException:
            client.abort()
            raise
        else:
            self._judge(link, result, None, offers_dsn)
        self.link = link
        if self._left or client.is_closed:
            await self._close(link)

    async def _close(self, link: Link) -> None:
        self.link = None
        await link.client.close()

    def _judge(self, link: Link, result: ehlo.SendResult, error: ehlo.Reply | None, offers_dsn: bool) -> None:
        """Sort the recipients: done, or left for the next server."""
        host = link.target.host
        left: list[Recipient] = []
        accepted: Any = "delivered" if self.is_final else "relayed"
        for recipient, one in zip(self._left, result.recipients, strict=True):
            reply = one.reply
            if one.accepted:
                assert reply is not None
                self.outcomes.append(Outcome(recipient, accepted, reply, host, passed_on=offers_dsn))
            elif reply is None:
                self._judge_without_reply(link, recipient, result, error, left)
                continue
            elif reply.is_permanent:
                self.outcomes.append(Outcome(recipient, "failed", reply, host))
            elif one.stage == "mail" or (reply.code == 421 and one.stage != "content"):
                left.append(recipient)  # the next server may be in a better state (RFC 5321 5.1)
                self._note(reply, host)
                self.reached = self.reached or reply.code != 421
                continue
            else:
                self.outcomes.append(Outcome(recipient, "deferred", reply, host))
            self.reached = True
        self._left = left

    def _judge_without_reply(
        self,
        link: Link,
        recipient: Recipient,
        result: ehlo.SendResult,
        error: ehlo.Reply | None,
        left: list[Recipient],
    ) -> None:
        host = link.target.host
        if result.failure == "unknown":
            reply = error or ehlo.Reply(451, "4.4.2", "The connection ended before the reply to the content")
            self.outcomes.append(Outcome(recipient, "deferred", reply, host, is_unknown=True))
            self.reached = True
        elif result.failure in ("need", "8bit"):
            self.reached = True
            left.append(recipient)
            self._note(_lacks(self.message, link.client.capabilities, result), host)
        elif result.failure in ("lost", "mailmax"):
            left.append(recipient)
            self._note(error or ehlo.Reply(451, "4.4.2", "The server ended the connection"), host)
        else:
            text = result.explanation or "The message cannot be sent as it is"
            self.outcomes.append(Outcome(recipient, "failed", ehlo.Reply(554, "5.6.0", text)))


def _sender(message: Message, offer: ehlo.Capabilities) -> str | ehlo.Sender:
    """What MAIL says: parameters are passed on where the server takes them (RFC 3461 5.2.1)."""
    if message.is_plain:
        return message.sender
    dsn = _DSN in offer
    return ehlo.Sender(
        message.sender,
        body="BINARYMIME" if message.body == "BINARYMIME" else None,
        ret=message.ret if dsn else None,
        envid=message.envid if dsn else None,
        mt_priority=message.priority if message.priority and "MT-PRIORITY" in offer else None,
        requiretls=message.requiretls,
    )


def _recipient(recipient: Recipient, dsn: bool) -> str | ehlo.Recipient:
    if not dsn or (recipient.notify is None and recipient.orcpt is None):
        return recipient.path
    return ehlo.Recipient(recipient.path, notify=recipient.notify, orcpt=recipient.orcpt)


def _lacks(message: Message, offer: ehlo.Capabilities, result: ehlo.SendResult) -> ehlo.Reply:
    """The reply where a server lacks an extension that the message needs: permanent, since it will lack it later."""
    text = result.explanation or "The server lacks what the message needs"
    if message.requiretls and "REQUIRETLS" not in offer:
        return ehlo.Reply(550, "5.7.30", text)  # RFC 8689 4.2.1
    if offer.size is not None and message.size > offer.size > 0:
        return ehlo.Reply(552, "5.3.4", text)  # RFC 1870 6.1
    if "SMTPUTF8" not in offer and (message.smtputf8 or not message.sender.isascii()):
        return ehlo.Reply(553, "5.6.7", text)  # RFC 6531 3.5
    return ehlo.Reply(554, "5.6.3", text)  # RFC 6152 3
