"""Clients without I/O, event loop and clock: what a backend (:mod:`ehlo.asyncio`) and the engine have between them.

A backend has two things of its own: a :class:`ClientDriver` that moves octets and keeps the time, and a
:class:`BaseClient` that knows how to make one. Everything a program calls stands here, written with ``await`` on two
methods of the driver: :meth:`ClientDriver.progress` and :meth:`ClientDriver.wait_closed`.

No protocol decision is made here either: what is sent when is the engine's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from ehlo._core import (
    Address,
    Capabilities,
    ClientConfig,
    ClientConnection,
    ClientDisconnect,
    CommandReply,
    Ready,
    Reply,
    Sender,
    SendResult,
    StartTls,
)
from ehlo._errors import (
    EhloError,
    LocalProtocolError,
    OutcomeUnknown,
    RemoteProtocolError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)
from ehlo._handler import path_text
from ehlo._message import Letter, RecipientLike, Recipients, SendableMessage, SenderLike, Source, is_plain

__all__ = ["BaseClient", "ClientDriver", "Item", "SendMany", "hostname_of", "tick_of"]

Item: TypeAlias = tuple[SendableMessage, SenderLike | None, Recipients | None]
"""What ``send_many`` takes: a message, its sender, its recipients."""

# Octets that data_to_send gives at most, or a little more: when it gave so many there may be more.
FULL: Final = 262144
# A backend looks at the time at least this often, in seconds.
_TICK: Final = 30.0
# Characters of the dialogue that are kept beside a trace.
_TOLD: Final = 16384


class Wakeable(Protocol):
    """An event of the backend: ``asyncio.Event``, ``trio.Event``."""

    def set(self) -> object: ...
    async def wait(self) -> object: ...


def tick_of(config: ClientConfig) -> float:
    """Seconds between two looks of a timer at a connection, so that none of the config's timers is missed.

    That of QUIT is left out: it is told with :meth:`ClientDriver.hurry`.
    """
    return min(
        _TICK,
        config.greeting_timeout,
        config.hello_timeout,
        config.mail_timeout,
        config.rcpt_timeout,
        config.data_timeout,
        config.content_timeout,
        config.end_of_data_timeout,
        config.reset_timeout,
        config.other_timeout,
    )


def hostname_of(fqdn: str, address: object) -> str:
    """What a client calls itself: its domain name, or the literal of its own address where it has none (C-CLI-05,
    RFC 5321 4.1.4).

    Arguments:
        fqdn: what ``socket.getfqdn()`` gives.
        address: what ``getsockname()`` of the connected socket gives.

    Example::

        hostname_of("box", ("192.0.2.1", 40000))  # "[192.0.2.1]"
    """
    name = fqdn.rstrip(".")
    if "." in name and not name.startswith("localhost."):
        try:
            return ClientConfig(name).hostname
        except (EhloError, ValueError):  # an underscore, or what else hosts are called
            pass
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0]).partition("%")[0]
        return f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    return "localhost"


def _line(reply: Reply) -> str:
    return " ".join(str(reply).split())


class ClientDriver:
    """One connection: its engine, and what the engine said that nobody took yet. A backend inherits from it.

    Attributes:
        conn: the engine.
        results: of messages, in order.
        replies: of commands, by number; ``None`` if the connection ended before.
        sources: content that comes in pieces, by the number of its message.
        failures: what a source raised, by the number of its message.
        ready: the hello is done.
        start_tls: the engine waits for a handshake.
        disconnect: why it is over.
        news: something was added since somebody looked.
        served: it has carried a message before.
        trace: takes the new lines of the dialogue.
    """

    __slots__ = (
        "conn",
        "disconnect",
        "failures",
        "limited",
        "news",
        "ready",
        "replies",
        "results",
        "served",
        "sources",
        "start_tls",
        "told",
        "trace",
    )

    conn: ClientConnection

    def __init__(self, trace: Callable[[str], object] | None = None) -> None:
        self.trace = trace
        self.told = ""
        self.results: deque[SendResult] = deque()
        self.replies: dict[int, Reply | None] = {}
        self.sources: dict[int, Source] = {}
        self.failures: dict[int, Exception] = {}
        self.ready = False
        self.start_tls = False
        self.disconnect: ClientDisconnect | None = None
        self.news = False
        self.limited = False
        self.served = False

    # ---- what the backend provides ---------------------------------------------------------------

    def progress(self) -> Awaitable[None]:
        """Send what there is to send, then wait until the engine has said something, or wants a piece of content.

        It may return without news. While content is wanted, it gives others a turn.
        """
        raise NotImplementedError

    def wake(self) -> None:
        """End the ``progress`` that waits now, or the next one. Called by another task."""
        raise NotImplementedError

    def hurry(self) -> None:
        """``conn.timeout`` may be shorter now than a look at the clock is away."""

    def abort(self) -> None:
        """Close now; what is not sent is lost. Whoever waits is told."""
        raise NotImplementedError

    async def wait_closed(self) -> None:
        """Wait until the transport is closed, after ``conn`` is."""
        raise NotImplementedError

    # ---- for the backend -------------------------------------------------------------------------

    def on_event(self, event: object) -> None:
        """Keep what the engine said. A backend may put a :class:`ehlo.SendResult` into ``results`` by itself."""
        match event:
            case SendResult():
                self.results.append(event)
            case CommandReply():
                self.replies[event.id] = event.reply
            case Ready():
                self.ready = True
                self.limited = "MAILMAX" in self.conn.capabilities.limits
            case StartTls():
                self.start_tls = True
            case ClientDisconnect():
                self.disconnect = event
            case _:  # an unsolicited reply: the end, which follows, carries it
                pass
        self.news = True

    def tell(self) -> None:
        """Give the new lines of the dialogue to ``trace``."""
        if self.trace is not None and (lines := self.conn.take_transcript()):
            self.told = (self.told + lines)[-_TOLD:]
            self.trace(lines)

    @property
    def transcript(self) -> str:
        """The latest lines of the dialogue."""
        return self.told + self.conn.transcript

    # ---- content in pieces -----------------------------------------------------------------------

    async def feed(self) -> None:
        """Give the engine the next piece of content, if it wants one. What the source raises goes to ``failures``."""
        conn = self.conn
        number = conn.content_wanted
        if number is None:
            return
        source = self.sources[number]
        try:
            piece = await source.next()
            if piece is None:
                conn.end_content(number)
            elif conn.send_content(number, piece):
                return
            else:  # refused meanwhile
                await source.close()
        except BaseException as exc:
            conn.abort_content(number)
            if not isinstance(exc, Exception):
                raise
            self.failures[number] = exc
        del self.sources[number]

    async def settle(self, result: SendResult) -> Exception | None:
        """A result was taken: forget its source. Gives what the source raised."""
        if self.sources and (source := self.sources.pop(result.id, None)) is not None:
            await source.close()
        return self.failures.pop(result.id, None) if self.failures else None

    # ---- exceptions ------------------------------------------------------------------------------

    def error(self, result: SendResult | None = None) -> EhloError:
        """Why the connection is over, as an exception."""
        end = self.disconnect
        told: dict[str, Any] = {"transcript": self.transcript, "result": result}
        if end is None:
            return SMTPServerDisconnected("the connection is closed", **told)
        text = _one_line(end.explanation)
        match end.reason:
            case "greeting":
                return SMTPConnectError(text, reply=end.reply, **told)
            case "hello":
                return SMTPHeloError(text, reply=end.reply, **told)
            case "tls" if end.reply is None:
                return SMTPNotSupportedError(text, **told)
            case "tls":
                return SMTPResponseException(text, reply=end.reply, **told)
            case "protocol":
                return RemoteProtocolError(text, reply=end.reply, **told)
            case "timeout":
                return SMTPTimeoutError(text, **told)
        return SMTPServerDisconnected(text, reply=end.reply, **told)

    def error_of(self, result: SendResult, sender: SenderLike) -> EhloError:
        """Why nobody gets the message, as an exception."""
        told: dict[str, Any] = {"transcript": self.transcript, "result": result}
        why = _one_line(result.explanation or "")
        match result.failure:
            case "unknown":
                end = "" if self.disconnect is None else f" ({_one_line(self.disconnect.explanation)})"
                return OutcomeUnknown(f"{why}{end}", **told)
            case "lost":
                return self.error(result)
            case "need" | "8bit":
                return SMTPNotSupportedError(why, **told)
            case "mailmax":
                return SMTPServerDisconnected(why, **told)
            case "newline" | "aborted":
                return LocalProtocolError(why)
        reply = result.reply
        assert reply is not None
        stages = {one.stage for one in result.recipients}
        if "content" in stages or "data" in stages:
            return SMTPDataError(f"the server refused the message: {_line(reply)}", reply=reply, **told)
        if "rcpt" in stages:
            refused = {path_text(one.path): one.reply for one in result.recipients if one.reply is not None}
            who = f"<{next(iter(refused))}>" if len(refused) == 1 else f"all {len(refused)} recipients, the last one"
            text = f"the server refused {who}: {_line(reply)}"
            return SMTPRecipientsRefused(text, reply=reply, recipients=refused, **told)
        name = _sender_text(sender)
        error = SMTPSenderRefused(f"the server refused the sender <{name}>: {_line(reply)}", reply=reply, **told)
        error.sender = name
        return error


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sender_text(sender: SenderLike) -> str:
    if isinstance(sender, str):
        return sender.strip("<>")
    path = sender.path if isinstance(sender, Sender) else sender
    return path.mailbox if isinstance(path, Address) else ""


class BaseClient:
    """A connected client: one SMTP or LMTP session. :func:`ehlo.asyncio.connect` makes one.

    One task uses it at a time; another one that tries meanwhile gets a :class:`ehlo.LocalProtocolError`. A send that is
    cancelled closes the connection: nobody can tell what the server has of it.

    Example::

        async with ehlo.asyncio.connect("mx.example", 25) as client:
            await client.send(b"Subject: hi\\r\\n\\r\\nhi\\r\\n", sender="a@b.example", recipients=["c@d.example"])
    """

    __slots__ = ("__weakref__", "_busy", "_link", "_open")

    _link: ClientDriver

    def __init__(self, open_link: Callable[[], Awaitable[ClientDriver]] | None) -> None:
        self._open = open_link
        self._busy: str | None = None

    # ---- what the backend provides ---------------------------------------------------------------

    def _make_event(self) -> Wakeable:
        raise NotImplementedError

    def _spawn(self, coro: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coro`` beside; gives what cancels it. It raises nothing."""
        raise NotImplementedError

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the server offered in its reply to EHLO or LHLO; nothing after HELO (RFC 5321 4.1.1.1)."""
        return self._link.conn.capabilities

    @property
    def greeting(self) -> Reply | None:
        """The server's greeting (RFC 5321 3.1)."""
        return self._link.conn.greeting

    @property
    def transcript(self) -> str:
        """The latest lines of the session, ``C: `` ours and ``S: `` the server's, without content and secrets."""
        return self._link.transcript

    def take_transcript(self) -> str:
        """The transcript, handed over once: what comes after it is new.

        Example::

            print(client.take_transcript(), end="")
        """
        return self._link.conn.take_transcript()

    @property
    def config(self) -> ClientConfig:
        """What the session runs with."""
        return self._link.conn.config

    @property
    def is_closed(self) -> bool:
        """Whether the session is over, whoever ended it."""
        return self._link.conn.closed

    @property
    def is_tls(self) -> bool:
        """Whether TLS is active."""
        return self._link.conn.is_tls

    # ---- sending ---------------------------------------------------------------------------------

    async def send(
        self,
        message: SendableMessage,
        sender: SenderLike | None = None,
        recipients: Recipients | None = None,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> SendResult:
        """Send one message, and wait until the server has answered for every recipient (RFC 5321 3.3).

        Arguments:
            message: octets (any buffer), an :class:`email.message.EmailMessage`, a binary file object, or an iterable
                or async iterable of chunks of octets. What comes in pieces is never held in memory as a whole.
            sender: the reverse-path; ``""`` or :data:`ehlo.NULL` for the null one, which bounces carry (RFC 5321
                4.5.5); an :class:`ehlo.Sender` has parameters. ``None``: the Sender or From field of an email.message.
            recipients: one or several; an :class:`ehlo.Recipient` has parameters. ``None``: To, Cc and Bcc.
            size: octets with CRLF line ends, if the message comes in pieces and that is known (RFC 1870).
            eight_bit: whether there are octets above 127, likewise (RFC 6152).
            utf8_header: whether there are in the header section, likewise (RFC 6531).

        Returns:
            What became of it for each recipient. Some may be refused.

        Raises:
            SMTPSenderRefused, SMTPRecipientsRefused, SMTPDataError: no recipient was accepted; by what was refused.
            SMTPNotSupportedError: the server lacks what the message needs. Nothing was sent.
            OutcomeUnknown: the connection ended before the reply to the content: the server may have the message.
            SMTPServerDisconnected, SMTPTimeoutError: it ended before the message was handed over.
            RemoteProtocolError: the server cannot be followed.
            LocalProtocolError: an address is none, another task uses the connection, and the like.

        Example::

            result = await client.send(message, sender="a@b.example", recipients=["c@d.example"])
            for one in result.refused: print(one.path, one.reply)
        """
        if self._busy is not None:
            raise self._in_use()
        link = self._link
        letter = None
        if type(message) is bytes and is_plain(sender, recipients) and not link.limited and link.disconnect is None:
            # The usual case, without the detours of the others.
            link.conn.send_message(sender, recipients, message)  # type: ignore[arg-type]
            results = link.results
            self._busy = "send"
            try:
                while not results:
                    await link.progress()
            except BaseException:
                link.abort()
                raise
            finally:
                self._busy = None
            link.served = True
            result = results.popleft()
        else:
            letter = Letter(message, sender, recipients, size, eight_bit, utf8_header)
            self._busy = "send"
            try:
                result = await self._deliver(letter)
            finally:
                self._busy = None
        if not result.all_accepted and not result.accepted:
            raise self._link.error_of(result, letter.sender if letter is not None else sender or "")
        return result

    def send_many(self, items: Iterable[Item] | AsyncIterable[Item]) -> SendMany:
        """Send messages one behind the other without waiting in between: one round trip a message where the server
        offers PIPELINING (RFC 2920 3.1), fewer where it offers CHUNKING (RFC 3030).

        Up to ``config.window`` messages are taken ahead of their results. A message that nobody gets raises nothing:
        its result says so. What is raised comes after the results of all messages before it.

        Arguments:
            items: ``(message, sender, recipients)`` as for :meth:`send`, from an iterable or an async iterable.

        Returns:
            An async iterator of one :class:`ehlo.SendResult` for each item, in order. To leave it early closes the
            connection.

        Raises:
            SMTPServerDisconnected, SMTPTimeoutError, RemoteProtocolError: the connection ended, and items are left.

        Example::

            async for result in client.send_many((octets, "a@b.example", [to]) for to in recipients):
                print(result)
        """
        return SendMany(self, items)

    # ---- commands --------------------------------------------------------------------------------

    async def noop(self) -> Reply:
        """Say NOOP (RFC 5321 4.1.1.9); gives the reply, whatever it is.

        Raises:
            SMTPServerDisconnected: the connection ended.

        Example::

            await client.noop()
        """
        return await self._command("NOOP", ClientConnection.noop)

    async def rset(self) -> Reply:
        """Say RSET (RFC 5321 4.1.1.5). The engine says it by itself where it must; gives the reply.

        Example::

            await client.rset()
        """
        return await self._command("RSET", ClientConnection.rset)

    async def vrfy(self, argument: str) -> Reply:
        """Ask whether there is such a mailbox (RFC 5321 4.1.1.6); gives the reply: 250, 251, 252, 550 …

        Example::

            (await client.vrfy("postmaster")).code
        """
        return await self._command("VRFY", ClientConnection.vrfy, argument)

    async def expn(self, argument: str) -> Reply:
        """Ask for the members of a mailing list (RFC 5321 4.1.1.7); gives the reply.

        Example::

            (await client.expn("staff")).lines
        """
        return await self._command("EXPN", ClientConnection.expn, argument)

    async def help(self, topic: str = "") -> Reply:
        """Ask for help (RFC 5321 4.1.1.8); gives the reply.

        Example::

            (await client.help("MAIL")).text
        """
        return await self._command("HELP", ClientConnection.help, topic)

    async def quit(self) -> Reply | None:
        """End the session: QUIT, and wait ``config.quit_timeout`` seconds for the 221 (C-CLI-31, RFC 5321 4.1.1.10).

        Returns:
            The reply, ``None`` if none came.

        Raises:
            SMTPServerDisconnected: it is over already.
            LocalProtocolError: another task uses the connection.

        Example::

            await client.quit()
        """
        if self._busy is not None:
            raise self._in_use()
        if self._link.conn.closed:
            raise self._link.error()
        return await self._quit(self._link)

    async def close(self) -> None:
        """End the session with QUIT, if it is not over, and close the connection. A use by another task is cut short.

        Example::

            await client.close()
        """
        link = self._link
        if self._busy is not None:
            link.abort()
        elif not link.conn.closed:
            await self._quit(link)
        await link.wait_closed()

    def abort(self) -> None:
        """Close the connection at once, without QUIT.

        Example::

            client.abort()
        """
        self._link.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, Exception):  # cancelled: no time for manners
            self._link.abort()
        else:
            await self.close()

    # ---- the engine room -------------------------------------------------------------------------

    def _in_use(self) -> LocalProtocolError:
        return LocalProtocolError(
            f"{self._busy} of another task is still going on: one task uses a connection at a time; "
            "open several, or use a Pool"
        )

    async def _deliver(self, letter: Letter) -> SendResult:
        """One message, on further connections too where the server limits their transactions."""
        if self._link.limited and self._open is not None and self._link.conn.mail_left == 0:
            await self._reopen()
        result = await self._attempt(letter)
        return await self._complete(letter, result) if result.failure == "mailmax" else result

    async def _attempt(self, letter: Letter) -> SendResult:
        """One message on this connection."""
        link = self._link
        if link.disconnect is not None:
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
        except BaseException:
            link.abort()
            raise
        link.served = True
        result = results.popleft()
        if letter.source is not None and (error := await link.settle(result)) is not None:
            raise error
        return result

    async def _complete(self, letter: Letter, result: SendResult) -> SendResult:
        """The server takes no more transactions on this connection (RFC 9422 4.1): the rest goes over new ones
        (C-CLI-21).
        """
        while result.failure == "mailmax" and self._open is not None and letter.can_repeat:
            rest: list[RecipientLike] = [one.recipient for one in result.recipients if one.reply is None]
            fresh = self._link.conn.closed or self._link.conn.mail_left == 0
            try:
                if fresh:
                    await self._reopen()
                again = await self._attempt(letter.only(rest))
            except SMTPException:
                if result.accepted:
                    break  # what some have must be told
                raise
            if fresh and again.failure == "mailmax" and not any(one.reply is not None for one in again.recipients):
                break  # not one transaction on a new connection
            result = result.completed_by(again)
        return result

    async def _reopen(self) -> None:
        assert self._open is not None
        link = self._link
        if not link.conn.closed:
            await self._quit(link)
        self._link = await self._open()

    async def _command(self, name: str, command: Callable[..., int], *arguments: str) -> Reply:
        if self._busy is not None:
            raise self._in_use()
        link = self._link
        if link.disconnect is not None:
            raise link.error()
        number = command(link.conn, *arguments)
        self._busy = name
        try:
            while number not in link.replies:
                await link.progress()
        except BaseException:
            link.abort()
            raise
        finally:
            self._busy = None
        reply = link.replies.pop(number)
        if reply is None:
            raise link.error()
        return reply

    async def _quit(self, link: ClientDriver) -> Reply | None:
        number = link.conn.quit()
        link.hurry()
        try:
            while link.disconnect is None:
                await link.progress()
        except BaseException:
            link.abort()
            raise
        return link.replies.pop(number, None)


class SendMany:
    """What :meth:`BaseClient.send_many` gives: an async iterator of results, in the order of the items.

    Example::

        sending = client.send_many(items)
        async for result in sending: ...
    """

    __slots__ = (
        "_budget",
        "_client",
        "_error",
        "_held",
        "_items",
        "_kept",
        "_late",
        "_more",
        "_open",
        "_over",
        "_pulled",
        "_pump",
        "_window",
    )

    def __init__(self, client: BaseClient, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._client = client
        self._items = items
        # Where items are taken from: an iterator, or what a task beside took from an async one.
        self._pulled: Iterator[Item] | None = None
        self._pump: _Pump | None = None
        self._held: Item | None = None
        self._more = True
        self._open = 0
        self._over = False
        self._window = 0
        self._error: BaseException | None = None
        # For servers that limit the transactions of a connection.
        self._budget = 0
        self._kept: dict[int, Letter] = {}
        self._late: deque[SendResult] = deque()

    def __aiter__(self) -> AsyncIterator[SendResult]:
        return self

    async def __anext__(self) -> SendResult:
        client = self._client
        if self._over:
            raise StopAsyncIteration
        if self._pulled is None:
            self._start()
        link = client._link
        results = link.results
        try:
            while True:
                if self._late:
                    return self._late.popleft()
                while not results:
                    if self._more:
                        self._fill(link)
                    if self._open == 0:
                        if not self._more:
                            raise self._end()
                        if link.limited and self._budget == 0:
                            if self._held is None:
                                self._held = self._take()
                                continue  # only for what there is a new connection
                            await client._reopen()
                            link = client._link
                            results = link.results
                            continue
                    if link.sources:
                        await link.feed()
                    await link.progress()
                self._open -= 1
                result = results.popleft()
                if link.sources or link.failures:
                    error = await link.settle(result)
                    if error is not None:
                        self._fail(error)
                        continue
                if link.limited:
                    letter = self._kept.pop(result.id)
                    if result.failure == "mailmax" and client._open is not None:
                        await self._reorder(letter, result)
                        link = client._link
                        results = link.results
                        continue
                return result
        except BaseException as exc:
            if self._open and not isinstance(exc, StopAsyncIteration):
                client._link.abort()
            self._leave()
            raise

    async def aclose(self) -> None:
        """Leave before the end: the connection is closed, since messages are on their way whose results nobody takes.

        Example::

            await sending.aclose()
        """
        self._give_up()

    def __del__(self) -> None:
        self._give_up()

    # ---- the engine room -------------------------------------------------------------------------

    def _start(self) -> None:
        client = self._client
        if client._busy is not None:
            raise client._in_use()
        if client._link.disconnect is not None:
            raise client._link.error()
        client._busy = "send_many"
        self._window = client.config.window
        items = self._items
        if isinstance(items, AsyncIterable):
            self._pump = pump = _Pump(client)
            self._pulled = pump
            pump.stop = client._spawn(pump.run(items))
        else:
            self._pulled = iter(items)

    def _fill(self, link: ClientDriver) -> None:
        """Queue messages until the window is full."""
        conn = link.conn
        room = self._window - self._open
        if link.limited:
            if self._open == 0:
                left = conn.mail_left
                self._budget = room if left is None or self._client._open is None else left
            room = min(room, self._budget)
        while room > 0:
            item = self._held
            if item is None:
                item = self._take()
                if item is None:
                    break
            self._held = None
            if link.disconnect is not None:
                self._fail(link.error())
                break
            try:
                message, sender, recipients = item
                if type(message) is bytes and not link.limited and is_plain(sender, recipients):
                    conn.send_message(sender, recipients, message)  # type: ignore[arg-type]
                    self._open += 1
                    room -= 1
                    continue
                letter = Letter(message, sender, recipients)
                number = letter.queue(conn)
            except Exception as exc:  # the program's mistake: told after the results of what was queued before
                self._fail(exc)
                break
            if letter.source is not None:
                link.sources[number] = letter.source
            if link.limited:
                self._kept[number] = letter
                self._budget -= 1
            self._open += 1
            room -= 1

    def _take(self) -> Item | None:
        """The next item; ``None`` at the end, and where an async iterable has none yet."""
        assert self._pulled is not None
        try:
            return next(self._pulled)
        except StopIteration:
            self._more = self._pump is not None and not self._pump.ended
        except Exception as exc:
            self._fail(exc)
        return None

    async def _reorder(self, letter: Letter, result: SendResult) -> None:
        """A message needs more transactions than the server takes on this connection: take the results of those behind
        it first, then send the rest of each over new connections.
        """
        client = self._client
        link = client._link
        waiting = [(letter, result)]
        while self._open:
            while not link.results:
                if link.sources:
                    await link.feed()
                await link.progress()
            self._open -= 1
            result = link.results.popleft()
            if (error := await link.settle(result)) is not None:
                self._fail(error)
            else:
                waiting.append((self._kept.pop(result.id), result))
        for letter, result in waiting:
            if result.failure == "mailmax":
                result = await client._complete(letter, result)
            self._late.append(result)

    def _fail(self, error: BaseException) -> None:
        """No more items; to be raised when all results were taken."""
        self._more = False
        if self._error is None:
            self._error = error

    def _end(self) -> BaseException:
        error, self._error = self._error, None
        return StopAsyncIteration() if error is None else error

    def _leave(self) -> None:
        self._over = True
        self._client._busy = None
        if self._pump is not None and not self._pump.ended:
            self._pump.stop()

    def _give_up(self) -> None:
        if self._pulled is not None and not self._over:
            self._client._link.abort()
            self._leave()


class _Pump:
    """Takes items from an async iterable beside, no more of them than fit in the window. An iterator of what it has."""

    __slots__ = ("_client", "_error", "_pulled", "_room", "ended", "stop")

    stop: Callable[[], object]

    def __init__(self, client: BaseClient) -> None:
        self._client = client
        self._pulled: deque[Item] = deque()
        self._room: Wakeable | None = None
        self._error: Exception | None = None
        self.ended = False

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._pulled:
            if self._error is not None:
                raise self._error
            raise StopIteration
        if self._room is not None:
            self._room.set()
        return self._pulled.popleft()

    async def run(self, items: AsyncIterable[Item]) -> None:
        client = self._client
        try:
            async for item in items:
                self._pulled.append(item)
                client._link.wake()
                while len(self._pulled) >= client.config.window:
                    self._room = client._make_event()
                    await self._room.wait()
        except Exception as exc:
            self._error = exc
        finally:
            self.ended = True
            client._link.wake()
