"""One connection of a client, without I/O, event loop and clock: the engine, TLS around it, and what the engine said.

A backend's class inherits from :class:`ClientDriver` and has the socket, the deadline and the tasks. No protocol
decision is made here: what is sent when is the engine's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ehlo._client.options import Opening
from ehlo._client.outcomes import ConnectionFault, connection_error, message_error
from ehlo._client.paths import SenderLike
from ehlo._client.source import Source
from ehlo._core import (
    Challenge,
    ClientConnection,
    ClientDisconnect,
    CommandReply,
    Ready,
    ReceiveBuffer,
    Reply,
    SendResult,
    StartTls,
)
from ehlo._errors import EhloError, SMTPConnectError, SMTPException, SMTPServerDisconnected, SMTPTimeoutError

if TYPE_CHECKING:
    from ehlo._tls import Tls

__all__ = ["ClientDriver"]

# Characters of the dialogue that are kept beside a trace.
_TRACED: Final = 16384
# For :meth:`ClientDriver.advance`: no answer of the engine is there yet.
_ASK: Final = object()


class ClientDriver:
    """One connection: its engine, and what the engine said that nobody took yet. A backend inherits from it, and calls
    what has no leading "backend" remark here.

    Attributes:
        opening: how it was asked for.
        conn: the engine.
        results: of messages, in order.
        replies: of commands, by number; ``None`` if the connection ended before.
        challenge: of an AUTH, to be answered.
        sources: content that comes in pieces, by the number of its message.
        failures: what a source raised, by the number of its message.
        ready: the hello is done.
        disconnect: why it is over, as the engine says it.
        fault: the same where the engine cannot know.
        news: something was added since somebody looked.
        served: it has carried a message before.
        given: the program gave the socket, and may close it at any time.
        limited: the server limits the transactions of a connection (RFC 9422).
        tls: what is between the engine and the transport.
        seen: when anything moved last, in seconds of ``now``.
        held: the transport takes no more at the moment, or for ever.
        direct: the engine writes to the socket by itself: there is no TLS, and no output waits. Each time it asks for
            the ``fileno`` of now: ``ehlo.sync`` uses the program's own socket, which the program may have closed.
        closing: it was closed by us.
        lost: the transport is gone.
    """

    __slots__ = (
        "buffer",
        "challenge",
        "closing",
        "conn",
        "direct",
        "disconnect",
        "failures",
        "fault",
        "given",
        "held",
        "limited",
        "lost",
        "news",
        "now",
        "opening",
        "ready",
        "replies",
        "results",
        "seen",
        "send",
        "sendlines",
        "served",
        "since",
        "sources",
        "tls",
        "trace",
        "traced",
    )

    conn: ClientConnection
    send: Callable[[bytes], object]
    sendlines: Callable[[Sequence[bytes]], object]
    write: Callable[[bytes], object]
    """Backend: hand octets to the transport. What that does not take, the backend keeps, and says ``held``."""
    writelines: Callable[[Sequence[bytes]], object]
    """Backend: likewise, several in a row; without a copy, where that can be had."""
    fileno: Callable[[], int]
    """Backend: the descriptor of the socket now, or -1 if it is closed. Needed where ``is_free`` is."""

    def __init__(self, opening: Opening, buffer: ReceiveBuffer, now: Callable[[], float]) -> None:
        self.opening = opening
        self.buffer = buffer
        self.now = now
        self.trace = opening.trace
        self.traced = ""
        self.results: deque[SendResult] = deque()
        self.replies: dict[int, Reply | None] = {}
        self.challenge: Challenge | None = None
        self.sources: dict[int, Source] = {}
        self.failures: dict[int, Exception] = {}
        self.ready = False
        self.disconnect: ClientDisconnect | None = None
        self.fault: ConnectionFault | None = None
        self.news = False
        self.given = opening.sock is not None
        self.limited = False
        self.served = False
        self.tls: Tls | None = None
        self.seen = self.since = now()
        self.held = False
        self.direct = False
        self.closing = False
        self.lost = False

    # ---- what the backend provides ---------------------------------------------------------------

    def progress(self) -> Awaitable[None]:
        """Send what there is to send, then wait until the engine has said something, or wants a piece of content.

        It may return without news. While content is wanted, it gives others a turn.
        """
        raise NotImplementedError

    def notify(self) -> None:
        """There is news: end the ``progress`` that waits now."""

    def is_free(self) -> bool:
        """Whether there is a socket that the engine may write to, and all that was written has gone into it."""
        return False

    def wake(self) -> None:
        """End the ``progress`` that waits now, or the next one. Called by another task."""
        raise NotImplementedError

    def hurry(self) -> None:
        """``conn.timeout`` may be shorter now than a look at the clock is away."""

    def look(self) -> None:
        """Take what has come meanwhile, without waiting, if nobody does so anyway."""

    def refuses(self) -> bool:
        """Whether a write failed, and no other will succeed."""
        return False

    def close(self) -> None:
        """Send what is left, then close the transport."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close the transport now; what is not sent is lost. Whoever waits is told."""
        raise NotImplementedError

    async def wait_closed(self) -> None:
        """Wait until the transport is closed, after ``conn`` is."""
        raise NotImplementedError

    # ---- life ------------------------------------------------------------------------------------

    def start(self, sockname: Callable[[], object]) -> None:
        """The transport is connected. The PROXY header goes out first, in clear (C-PXY-12, PROXY protocol 2).

        Arguments:
            sockname: gives our address; asked only where that is the name we say.
        """
        opening = self.opening
        self.conn = ClientConnection(opening.named_config(sockname))
        self.send, self.sendlines = self.write, self.writelines
        if opening.proxy:
            self.write(opening.proxy)
        if opening.tls == "implicit":
            self._begin_tls()
        else:
            self.direct = self.is_free()

    def is_over(self) -> bool:
        """Whether it is over. To be asked where a use of the connection begins: the sockets of many connections are
        read at once, so the task of another one may go on before the end of this one is told.
        """
        if self.disconnect is None:
            if self.conn.closed:
                self.advance()
            elif self.is_taken_away:
                self.end_taken_away()
        return self.disconnect is not None

    @property
    def is_taken_away(self) -> bool:
        """Whether the program has closed the socket that it gave to ``connect``. No event tells that."""
        sock = self.opening.sock
        return sock is not None and sock.fileno() < 0

    def end_taken_away(self) -> None:
        """End the connection, since :attr:`is_taken_away`. Nobody must wait for it, or write to it."""
        if self.disconnect is None:
            self._fail(SMTPServerDisconnected, "the program closed the socket", None)
        self.drop()

    async def until_ready(self) -> None:
        """Until the hello is done."""
        while not self.ready:
            if self.disconnect is not None:
                raise self.error()
            await self.progress()

    async def ask(self, number: int) -> Reply:
        """Wait for the reply to a command that was queued.

        Arguments:
            number: the number that the engine gave to the command.
        """
        try:
            while number not in self.replies:
                await self.progress()
        except BaseException:
            self.abort()
            raise
        reply = self.replies.pop(number)
        if reply is None:
            raise self.error()
        return reply

    async def quit(self) -> Reply | None:
        """QUIT, and wait for its reply (C-CLI-31)."""
        number = self.conn.quit()
        self.hurry()
        try:
            while self.disconnect is None:
                await self.progress()
        except BaseException:
            self.abort()
            raise
        return self.replies.pop(number, None)

    def abort(self) -> None:
        """Close now; what is not sent is lost. Whoever waits is told."""
        if not self.lost:
            self.conn.receive_eof()
            self.held = self.closing = True  # nothing of what is left goes out
            self.direct = False
            self.drop()
            self.advance()

    def leave(self) -> None:
        """Say QUIT, and close without waiting for its reply."""
        if not self.conn.closed:
            self.conn.quit()
            self.advance()
        self.abort()

    async def give_up(self, why: BaseException | None = None) -> None:
        """:meth:`abort`, since the program was interrupted: what it was sending from is not wanted any more, either."""
        self.abort()
        if isinstance(why, GeneratorExit):  # nobody waits for anything any more
            return
        interrupted: BaseException | None = None
        while self.sources:
            _, source = self.sources.popitem()
            try:
                await source.close()
            except Exception:
                import logging

                logging.getLogger("ehlo").exception("a message's source failed when it was closed")
            except BaseException as exc:
                interrupted = exc
        if interrupted is not None:
            raise interrupted

    def advance(self, what: object = _ASK) -> None:
        """Take what the engine says, send once, and tell who waits.

        Arguments:
            what: the engine has said this by ``flush`` or ``exchange``; by default it is asked.
        """
        conn = self.conn
        if what is _ASK:
            what = conn.flush(self.fileno()) if self.direct else None
        while True:
            kind = type(what)
            if kind is int:
                if what:
                    self.seen = self.now()
                break
            if kind is SendResult:
                self.results.append(what)  # type: ignore[arg-type]
                self.news = True
            elif what is None:
                self.direct = False
            elif kind is bytes:
                self.direct = False
                self.seen = self.now()
                self.write(what)  # type: ignore[arg-type]
            else:
                self.on_event(what)
            if not self.direct:
                self._advance_by_transport()
                break
            what = conn.flush(self.fileno())
        # While the transport is full, too: the engine takes some, and then knows that it is the server we wait for.
        if self.sources and conn.content_wanted is not None:
            self.news = True
        if self.trace is not None:
            self.tell()
        if self.disconnect is not None and not self.closing:
            self.closing = True
            self.direct = False
            if self.tls is not None and self.tls.established and not self.lost:
                self.tls.close()
                self.write(self.tls.data_to_send())
            self.close()
        if self.news:  # last: the connection may be closed by the time that who waits goes on
            self.notify()

    def _advance_by_transport(self) -> None:
        """The same, where output has to go by TLS or by the transport."""
        conn = self.conn
        while True:
            while (event := conn.next_event()) is not None:
                self.on_event(event)
            if self.held or self.closing or not (out := conn.data_to_send()):
                break
            self.seen = self.now()
            more = conn.data_to_send()
            if not more:
                self.send(out)
                break
            self.sendlines((out, more))
            if self.refuses():  # what is not sent is not given away: it may be sent again (C-CLI-17)
                self.held = True
        if not self.held and not self.closing and self.tls is None:
            self.direct = self.is_free()

    def on_event(self, event: Any) -> None:
        """Keep what the engine said."""
        kind = type(event)  # none of them has subclasses, and to match patterns takes several times as long
        if kind is SendResult:
            self.results.append(event)
        elif kind is CommandReply:
            self.replies[event.id] = event.reply
        elif kind is Ready:
            self.ready = True
            self.limited = self.conn.mail_left is not None
        elif kind is ClientDisconnect:
            self.disconnect = event
        elif kind is Challenge:
            self.challenge = event
        elif kind is StartTls and not self.conn.closed:  # else something came behind the 220 (C-TLS-20)
            self._begin_tls()
        # An unsolicited reply is the end: the event of that, which follows, carries it.
        self.news = True

    def gone(self) -> None:
        """The transport is closed."""
        self.lost = self.held = True
        self.direct = False
        self.send = self.sendlines = _nowhere  # no reference cycle is left for the collector
        if self.disconnect is None or not self.closing:
            self.receive_end()
        elif self.news:
            self.notify()

    def receive_end(self) -> None:
        """The transport ended. In TLS, too, that is no error in itself: SMTP says QUIT (B-TLS-18, RFC 8314 3.4)."""
        if self.shaking and not self.conn.closed:
            self._fail(SMTPConnectError, "the server closed the connection in the TLS handshake", None)
            return
        self.conn.receive_eof()
        self.advance()

    def tell(self) -> None:
        """Give the new lines of the dialogue to ``trace``."""
        if self.trace is not None and (lines := self.conn.take_transcript()):
            self.traced = (self.traced + lines)[-_TRACED:]
            self.trace(lines)

    @property
    def server_address(self) -> tuple[str | None, int | None]:
        """Name and port of the server; both ``None`` where it was not reached by a name."""
        opening = self.opening
        return (None, None) if opening.host is None else (opening.host, opening.port)

    @property
    def transcript(self) -> str:
        """The latest lines of the dialogue."""
        return self.traced + self.conn.transcript

    # ---- time ------------------------------------------------------------------------------------

    def left(self) -> float | None:
        """Seconds after which :meth:`time_is_up` is due; ``None`` while nothing is waited for."""
        tls = self.tls
        if tls is not None and not tls.established:
            return self.since + self.opening.handshake_timeout - self.now()
        timeout = self.conn.timeout
        return None if timeout is None else self.seen + timeout - self.now()

    def time_is_up(self) -> None:
        """Nothing moved for as long as it may (RFC 5321 4.5.3.2), or the handshake lasts too long."""
        if self.shaking:
            seconds = self.opening.handshake_timeout
            self._fail(SMTPTimeoutError, f"the TLS handshake was not done in time, {seconds:g} s", None)
        else:
            self.conn.receive_timeout()
            self.advance()

    # ---- TLS -------------------------------------------------------------------------------------

    @property
    def shaking(self) -> bool:
        """The handshake is going on."""
        return self.tls is not None and not self.tls.established

    @property
    def is_private(self) -> bool:
        """TLS is active, with a server that was verified, or by a context of the program's own."""
        return self.conn.is_tls and self.opening.trusted

    @property
    def channel_binding(self) -> tuple[str, bytes] | None:
        """For SCRAM (RFC 5802 6): what names this TLS connection, where that can be had."""
        octets = self.tls.channel_binding if self.tls is not None and self.tls.established else None
        return None if octets is None else ("tls-unique", octets)

    def receive_tls(self, octets: bytes | memoryview) -> None:
        """Octets of the transport came, and TLS is active or about to be. :meth:`advance` comes next."""
        tls = self.tls
        assert tls is not None
        tls.receive(octets)
        if tls.established or self._shake_hands(tls):
            self._decrypt(tls)

    def _begin_tls(self) -> None:
        """From here on what comes is the server's part of the handshake, or nothing (RFC 3207 4, RFC 8314 3.3)."""
        from ehlo._tls import Tls

        opening = self.opening
        try:
            tls = Tls(opening.context, server_side=False, server_hostname=opening.server_hostname)
        except (ValueError, TypeError, OSError) as exc:  # ssl.SSLError is an OSError
            self._fail(SMTPConnectError, f"TLS cannot begin: {_reason_of(exc)}", exc)
            return
        self.tls = tls
        self.direct = False
        self.since = self.now()
        self._shake_hands(tls)

    def _shake_hands(self, tls: Tls) -> bool:
        try:
            done = tls.shake_hands()
        except OSError as exc:  # ssl.SSLError is one
            if not self.held:
                self.write(tls.data_to_send())  # the alert that says so
            self._fail(SMTPConnectError, f"the TLS handshake failed: {_reason_of(exc)}", exc)
            return False
        if out := tls.data_to_send():
            self.write(out)
        if done:
            self.seen = self.now()
            self.send, self.sendlines = self._encrypt, self._encrypt_lines
            self.conn.tls_established(verified=tls.verified)
        return done

    def _encrypt(self, octets: bytes) -> None:
        self._encrypt_lines((octets,))

    def _encrypt_lines(self, pieces: Sequence[bytes]) -> None:
        assert self.tls is not None
        for octets in pieces:
            self.tls.write(octets)
        self.write(self.tls.data_to_send())

    def _decrypt(self, tls: Tls) -> None:
        """Give the engine what has come inside TLS."""
        conn, buffer = self.conn, self.buffer
        try:
            for count in tls.read(buffer.view):
                conn.receive_from(buffer, count)
        except OSError as exc:  # ssl.SSLError is one
            self._fail(SMTPServerDisconnected, f"TLS broke: {_reason_of(exc)}", exc)
            return
        if tls.ended:
            conn.receive_eof()

    def _fail(self, kind: type[SMTPException], text: str, cause: BaseException | None) -> None:
        """It is over, and the engine does not know why."""
        if self.disconnect is None and self.fault is None:
            self.fault = ConnectionFault(kind, text, cause)
        self.conn.receive_eof()
        self.advance()

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
        return connection_error(self.disconnect, self.fault, self.transcript, result)

    def error_of(self, result: SendResult, sender: SenderLike) -> EhloError:
        """Why nobody gets the message, as an exception."""
        return message_error(result, sender, self.disconnect, self.fault, self.transcript)


def _nowhere(octets: bytes | Sequence[bytes]) -> None:
    """Where the octets of a lost connection go."""


def _reason_of(exc: BaseException) -> str:
    from ehlo._tls import reason_of

    return reason_of(exc)
