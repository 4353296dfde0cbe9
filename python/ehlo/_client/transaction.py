"""A transaction step by step: MAIL, then recipients as the program likes, then the content: :class:`Transaction`."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self, overload

from ehlo._client.link import Link
from ehlo._client.message import SendableMessage, content_of
from ehlo._client.outcomes import sender_error
from ehlo._client.paths import RecipientLike, SenderLike, ascii_path, naming_address
from ehlo._client.session import ClientSession
from ehlo._core import Capabilities, Reply, SendResult
from ehlo._errors import LocalProtocolError, SMTPException

__all__ = ["Transaction"]


class Transaction:
    """What :meth:`ehlo.asyncio.Client.transaction` gives: one mail transaction, which the program makes step by step
    (RFC 5321 3.3). ``async with`` begins it with MAIL. If the block ends before :meth:`send`, RSET ends the
    transaction. If the task is cancelled, the connection is closed.

    A ``RecipientLike`` is a text like ``"c@d.example"``, an :class:`ehlo.Address` or an :class:`ehlo.Recipient`. A
    ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks.

    Example::

        async with client.transaction("a@b.example") as transaction:
            if (await transaction.rcpt("c@d.example")).is_positive: await transaction.send(octets)
    """

    __slots__ = ("_client", "_eight_bit", "_link", "_number", "_over", "_size", "_utf8_header", "result", "sender")

    def __init__(
        self,
        client: ClientSession,
        sender: SenderLike,
        size: int | None,
        eight_bit: bool | None,
        utf8_header: bool | None,
    ) -> None:
        self.sender: SenderLike = ascii_path(sender)
        """The reverse-path."""
        self.result: SendResult | None = None
        """The result of :meth:`send`; ``None`` before."""
        self._client = client
        self._size = size
        self._eight_bit = eight_bit
        self._utf8_header = utf8_header
        self._link: Link | None = None
        self._number = 0
        self._over = False

    async def __aenter__(self) -> Self:
        """Say MAIL.

        Raises:
            SMTPSenderRefused: the server refused MAIL.
            SMTPNotSupportedError: it lacks a parameter that the sender has. MAIL was not sent.
            SMTPServerDisconnected, SMTPTimeoutError, RemoteProtocolError: the connection ended.
            LocalProtocolError: the sender is no address, another task uses the connection, the transaction was begun
                before.
        """
        if self._link is not None:
            raise LocalProtocolError("a transaction is begun once: ask the client for another one")
        client = self._client
        client._begin("a transaction")
        try:
            await client._make_room()
            self._link = link = client._link
            try:
                self._number = link.conn.mail(
                    self.sender, size=self._size, eight_bit=self._eight_bit, utf8_header=self._utf8_header
                )
            except LocalProtocolError as exc:
                raise naming_address(exc, self.sender, ()) from None
            (reply,) = await self._replies(link, [self._number])
            if not reply.is_positive:
                await self._result(link)
                raise sender_error(reply, self.sender, link.transcript)
        except BaseException:
            self._over = True
            client._busy = None
            raise
        link.served = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        link = self._link
        assert link is not None
        try:
            if exc is not None and not isinstance(exc, Exception):  # cancelled: no time for manners
                link.abort()
            elif not self._over and not link.is_over():
                link.conn.abort_content(self._number)
                number = link.conn.rset()
                # If the connection ends here, nothing is lost: whoever uses it next is told.
                with contextlib.suppress(SMTPException):
                    await link.ask(number)
                    await self._result(link)
        finally:
            self._over = True
            link.results.clear()
            self._client._busy = None

    @property
    def capabilities(self) -> Capabilities:
        """What the server of this connection offers.

        Raises:
            LocalProtocolError: the transaction is not begun.

        Example::

            can_chunk = "CHUNKING" in transaction.capabilities
        """
        if self._link is None:
            raise LocalProtocolError("the transaction is not begun: use it with 'async with'")
        return self._link.conn.capabilities

    # ---- steps -----------------------------------------------------------------------------------

    @overload
    async def rcpt(self, recipient: RecipientLike, /) -> Reply: ...

    @overload
    async def rcpt(
        self, recipient: RecipientLike, another: RecipientLike, /, *others: RecipientLike
    ) -> list[Reply]: ...

    async def rcpt(self, *recipients: RecipientLike) -> Reply | list[Reply]:
        """Say RCPT, and wait for the reply (RFC 5321 4.1.1.3). The server may refuse: a reply is no exception here.

        Arguments:
            recipients: one or several; an :class:`ehlo.Recipient` has parameters. Several go out in one group where
                the server offers PIPELINING (RFC 2920 3.1).

        Returns:
            The reply; for several recipients a list with the reply to each. A recipient beyond the server's LIMITS
            (RCPTMAX, RCPTDOMAINMAX, RFC 9422 4) is not said: it gets 452 4.5.3 here.

        Raises:
            SMTPNotSupportedError: the server lacks what a recipient needs. This ends the transaction.
            SMTPServerDisconnected, SMTPTimeoutError, RemoteProtocolError: the connection ended before all had a reply.
            LocalProtocolError: no recipient was given, one is no address, or the transaction is over.

        Example::

            replies = await transaction.rcpt("c@d.example", "e@f.example")
        """
        if not recipients:
            raise LocalProtocolError("no recipients: give at least one (RFC 5321 3.3)")
        link = self._going()
        paths = [ascii_path(recipient) for recipient in recipients]
        try:
            numbers = link.conn.rcpt(self._number, paths)
        except LocalProtocolError as exc:
            raise naming_address(exc, self.sender, paths) from None
        replies = await self._replies(link, numbers)
        return replies[0] if len(replies) == 1 else replies

    async def send(self, body: SendableMessage, *, check: bool = True) -> SendResult:
        """Send the content by DATA or BDAT, and wait until the server has answered for every recipient. This ends the
        transaction.

        Arguments:
            body: as for :meth:`ehlo.asyncio.Client.send`. What comes in pieces is never held in memory as a whole.
            check: raise if the server refused the message for every recipient; ``False``: the result says it.

        Returns:
            What became of the message for each recipient that :meth:`rcpt` named, the refused ones too.

        Raises:
            SMTPRecipientsRefused, SMTPDataError, SMTPNotSupportedError, OutcomeUnknown, SMTPServerDisconnected,
            SMTPTimeoutError, RemoteProtocolError: as :meth:`ehlo.asyncio.Client.send`.
            LocalProtocolError: no recipient was named, or the transaction is over.

        Example::

            result = await transaction.send(octets, check=False)
        """
        link = self._going()
        source, content = content_of(body, link.conn, international=self._utf8_header)
        link.conn.give_content(self._number, content)
        self._over = True
        if source is not None:
            link.sources[self._number] = source
        result = self.result = await self._result(link)
        if source is not None and (error := await link.settle(result)) is not None:
            raise error
        if not result.accepted and (check or result.failure is not None):
            raise link.error_of(result, self.sender)
        return result

    # ---- the engine room -------------------------------------------------------------------------

    def _going(self) -> Link:
        """The connection, if the transaction is not over."""
        link = self._link
        if link is None:
            raise LocalProtocolError("the transaction is not begun: use it with 'async with'")
        if not self._over and link.is_over():
            raise link.error()
        if self._over:
            raise LocalProtocolError("the transaction is over")
        return link

    async def _replies(self, link: Link, numbers: list[int]) -> list[Reply]:
        """The reply to each command."""
        try:
            while not all(number in link.replies for number in numbers):
                await link.progress()
        except BaseException as exc:
            await link.give_up(exc)
            raise
        found = [link.replies.pop(number) for number in numbers]
        replies = [reply for reply in found if reply is not None]
        if len(replies) < len(found):  # what was not answered will not be: the transaction is over
            self._over = True
            result = await self._result(link)
            raise link.error_of(result, self.sender) if result.failure is not None else link.error(result)
        return replies

    async def _result(self, link: Link) -> SendResult:
        """What the engine says of the transaction as a whole."""
        try:
            while not link.results:
                await link.feed()
                await link.progress()
        except BaseException as exc:
            await link.give_up(exc)
            raise
        return link.results.popleft()
