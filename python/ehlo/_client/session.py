"""The connection behind a client: who uses it, and the way of a message over it, and over further ones where the server
limits the transactions of a connection.

What a program calls is not here: :class:`ehlo._client.client.BaseClient`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ehlo._client.link import Link
from ehlo._client.message import Letter, SendableMessage
from ehlo._client.paths import RecipientLike, Recipients, SenderLike, is_plain, naming_address
from ehlo._core import SendResult
from ehlo._errors import LocalProtocolError, SMTPException
from ehlo._types import Wakeup

__all__ = ["ClientSession", "queue_plain"]


def queue_plain(link: Link, message: SendableMessage, sender: SenderLike | None, recipients: Recipients | None) -> bool:
    """Queue a message as most are: octets in an envelope of ASCII mailboxes, for this connection alone. False: it is
    another, the connection is over, or the program may have closed its socket. Then nothing was done.

    Raises:
        LocalProtocolError: an address is none, or there are no recipients.
        SMTPException: the connection is over, as the engine has just said.

    Example::

        if queue_plain(link, octets, "a@b.example", ["c@d.example"]): await link.progress()
    """
    if type(message) is not bytes or link.limited or link.given or link.disconnect is not None:
        return False
    if not is_plain(sender, recipients):
        return False
    try:
        link.conn.send_message(sender, recipients, message)  # type: ignore[arg-type]
    except LocalProtocolError as exc:
        if link.is_over():
            raise link.error() from None
        raise naming_address(exc, sender, recipients) from None  # type: ignore[arg-type]
    return True


class ClientSession:
    """The session of one client. Private: :class:`ehlo._client.client.BaseClient` is built on it, and a transaction and
    ``send_many`` work with it.

    Arguments:
        open_link: makes a further connection like the first; ``None`` if there is no way to.
        link: the first connection.
    """

    __slots__ = ("__weakref__", "_again", "_busy", "_link", "_open")

    def __init__(self, open_link: Callable[[], Awaitable[Link]] | None, link: Link) -> None:
        self._open = open_link
        self._link = link
        self._busy: str | None = None
        # What was done to the session, to be done again to a new one (C-CLI-21).
        self._again: list[Callable[[Link], Awaitable[object]]] = []

    # ---- what the backend provides ---------------------------------------------------------------

    _make_event: Callable[[], Wakeup]

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        """Start ``function(*args)`` as a background task, and return a callable that cancels it. ``function`` must not
        raise.
        """
        raise NotImplementedError

    # ---- who uses it -----------------------------------------------------------------------------

    def _in_use(self) -> LocalProtocolError:
        return LocalProtocolError(
            f"{self._busy} of another task is still going on: one task uses a connection at a time; "
            "open several, or use a Pool"
        )

    def _free_link(self) -> Link:
        if self._busy is not None:
            raise self._in_use()
        link = self._link
        if link.is_over():
            raise link.error()
        return link

    def _begin(self, name: str) -> Link:
        """To be ended by ``self._busy = None``."""
        link = self._free_link()
        self._busy = name
        return link

    # ---- the way of a message --------------------------------------------------------------------

    async def _deliver(self, letter: Letter) -> SendResult:
        """Send one message; over further connections, too, if the server limits the transactions of one."""
        await self._make_room()
        result = await self._attempt(letter)
        return await self._complete(letter, result) if result.failure == "mailmax" else result

    async def _attempt(self, letter: Letter) -> SendResult:
        """One message on this connection."""
        link = self._link
        if link.is_over():
            raise link.error()
        number = letter.queue(link.conn)
        results = link.results
        try:
            if letter.source is None:
                while not results:
                    await link.progress()
            else:
                link.sources[number] = letter.source
                while not results:
                    await link.feed()
                    await link.progress()
        except BaseException as exc:
            await link.give_up(exc)
            raise
        link.served = True
        result = results.popleft()
        if letter.source is not None and (error := await link.settle(result)) is not None:
            raise error
        return result

    async def _complete(self, letter: Letter, result: SendResult) -> SendResult:
        """Send the rest over new connections, after the server took no more transactions on this one (RFC 9422 4.1,
        C-CLI-21).
        """
        while result.failure == "mailmax" and self._open is not None and letter.can_repeat:
            rest: list[RecipientLike] = [one.recipient for one in result.recipients if one.stage is None]
            fresh = self._link.conn.closed or self._link.conn.mail_left == 0
            try:
                if fresh:
                    await self._reopen()
                again = await self._attempt(letter.only(rest))
            except SMTPException:
                if result.accepted:
                    break  # the result says who has the message
                raise
            if fresh and again.failure == "mailmax" and not any(one.reply is not None for one in again.recipients):
                break  # not one transaction on a new connection
            result = result.completed_by(again)
        return result

    async def _make_room(self) -> None:
        """Open a new connection where the server takes no more transactions on this one (RFC 9422 4.1)."""
        if self._link.limited and self._open is not None and self._link.conn.mail_left == 0:
            await self._reopen()

    async def _reopen(self) -> None:
        assert self._open is not None
        link = self._link
        if not link.conn.closed:
            await link.quit()
        await link.wait_closed()
        self._link = link = await self._open()
        try:
            for rite in self._again:
                await rite(link)
        except BaseException:
            link.abort()
            raise
