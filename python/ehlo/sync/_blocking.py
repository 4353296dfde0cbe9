"""The coroutines of the client's wing over sockets that block: what stands behind the plain methods of
:mod:`ehlo.sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, NoReturn

from ehlo._client.client import BaseClient
from ehlo._client.message import Letter
from ehlo._client.options import NAME_SECONDS, Opening
from ehlo._client.paths import Recipients, SenderLike
from ehlo._client.session import queue_plain
from ehlo._core import ClientConnection, SendResult
from ehlo._sockets import no_delay, no_signal
from ehlo.sync import _run
from ehlo.sync._client_connection import ClientSocket
from ehlo.sync._dial import connected, connected_unix, left

__all__ = ["BlockingClient", "dial"]


class LastLetter(Letter):
    """A message behind which nothing comes: QUIT goes out with the end of its content.

    Attributes:
        leaving: QUIT was queued.
    """

    __slots__ = ("leaving",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.leaving: bool = False

    def queue(self, conn: ClientConnection) -> int:
        number = super().queue(conn)
        conn.quit()
        self.leaving = True
        return number

    def plain(self) -> Letter:
        """The same without QUIT: for a server that limits transactions, which may need another one (RFC 9422)."""
        letter = Letter.__new__(Letter)
        for name in Letter.__slots__:
            setattr(letter, name, getattr(self, name))
        return letter


class BlockingClient(BaseClient):
    """A client whose coroutines block where those of the other backends wait."""

    __slots__ = ()

    def send_now(self, message: bytes, sender: SenderLike | None, recipients: Recipients | None) -> SendResult:
        """``send`` without options. In the usual case it makes no coroutine."""
        link = self._link
        if self._busy is not None or not queue_plain(link, message, sender, recipients):
            return _run.run(self.send(message, sender, recipients))
        results = link.results
        self._busy = "send"
        try:
            while not results:
                link.progress()  # it blocks, and what it gives has nothing to wait for
        except BaseException:
            link.abort()
            raise
        finally:
            self._busy = None
        link.served = True
        result = results.popleft()
        if not result.all_accepted and not result.accepted:
            raise link.error_of(result, sender or "")
        return result

    async def send_last(self, letter: LastLetter, check: bool) -> SendResult:
        """Send the only message of this connection, and end it: no round trip for QUIT (RFC 2920 3.1)."""
        link = self._link
        try:
            here = letter.plain() if link.limited else letter
            link.hurry()  # QUIT goes with it
            result = letter.completed(None if letter.is_for_nobody else await self._deliver(here))
            while letter.leaving and link.disconnect is None:
                await link.progress()
        except Exception:
            if letter.leaving:
                link.abort()
            else:
                await self.close()
            raise
        except BaseException:
            link.abort()
            raise
        await (link.wait_closed() if letter.leaving else self.close())
        if not result.all_accepted and not result.accepted and (check or result.failure is not None):
            raise link.error_of(result, letter.sender)
        return result

    def interrupt(self) -> None:
        """End the use by another thread: that finds the connection at its end, and cleans up."""
        assert isinstance(self._link, ClientSocket)
        self._link.interrupt()

    @staticmethod
    def _make_event() -> NoReturn:
        raise _run.no_loop()

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> NoReturn:
        raise _run.no_loop()


async def dial(opening: Opening) -> ClientSocket:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = run(dial(Opening("127.0.0.1", 2525)))
    """
    limit = None if opening.connect_timeout is None else monotonic() + opening.connect_timeout

    async def named(function: Callable[[], str]) -> str:
        seconds = left(limit)
        return _run.in_thread(function, NAME_SECONDS if seconds is None else min(NAME_SECONDS, seconds))

    try:
        await opening.learn_own_name(named)
        if opening.path is not None:
            sock = connected_unix(opening.path, limit)
        elif opening.sock is not None:
            sock = opening.sock
        else:
            assert opening.host is not None
            sock = connected(opening.host, opening.port, opening.source_address, limit)
    except OSError as exc:
        opening.failed(exc)
    try:
        sock.setblocking(False)
        no_delay(sock)
        no_signal(sock)
        return ClientSocket(sock, opening)
    except BaseException:
        sock.close()
        raise
