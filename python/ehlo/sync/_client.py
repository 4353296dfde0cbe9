"""Clients that block: :func:`connect` and :func:`send`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from ehlo._client.connecting import Connecting
from ehlo._client.message import SendableMessage
from ehlo._client.options import ConnectOptions, Opening
from ehlo._client.paths import RecipientLike, Recipients, SenderLike
from ehlo._client.send_many import Item
from ehlo._client.send_many import SendMany as AsyncSendMany
from ehlo._core import NULL, Capabilities, ClientAttributes, ClientConfig, Reply, SendResult
from ehlo.sync._blocking import BlockingClient, LastLetter, dial
from ehlo.sync._run import refuse_async, run
from ehlo.sync._transaction import Transaction
from ehlo.sync._use import Use

if TYPE_CHECKING:
    import ssl

    from ehlo._client.login import LoginLike

__all__ = ["Client", "SendMany", "connect", "connected", "send"]

T = TypeVar("T")


class Client:
    """A connected client that blocks: one SMTP or LMTP session. :func:`ehlo.sync.connect` makes one.

    - ``send`` sends a message. ``send_many`` sends many in a pipeline. ``transaction`` sends step by step.
    - ``close`` says QUIT; so does the end of ``with``.
    - A ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks.
    - A ``SenderLike`` is ``"a@b.example"``, ``""`` for the null reverse-path, an :class:`ehlo.Address`, or an
      :class:`ehlo.Sender` with parameters. A ``RecipientLike`` is a text, an ``Address``, or an
      :class:`ehlo.Recipient` with parameters. ``Recipients`` are one of these, or several.
    - A ``LoginLike`` is ``("jane", "secret")`` or an :class:`ehlo.Login`. An ``Item`` of ``send_many`` is a tuple of
      message, sender and recipients.

    One thread uses a client at a time. Another thread gets a :class:`ehlo.LocalProtocolError` meanwhile. Threads share
    a :class:`ehlo.sync.Pool`. A call that is interrupted, for example by KeyboardInterrupt, closes the connection,
    because nobody knows how much of the message the server has. You may use it in a thread with a running event loop,
    but the loop stands still meanwhile.

    Example::

        with ehlo.sync.connect("mx.example", 25) as client:
            client.send(b"Subject: hi\\r\\n\\r\\nhi\\r\\n", sender="a@b.example", recipients=["c@d.example"])
    """

    __slots__ = ("__weakref__", "_inner", "_use")

    def __init__(self, inner: BlockingClient) -> None:
        self._inner = inner
        self._use = Use(inner)

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the server offered in its reply to EHLO or LHLO; nothing after HELO (RFC 5321 4.1.1.1)."""
        return self._inner.capabilities

    @property
    def greeting(self) -> Reply | None:
        """The server's greeting (RFC 5321 3.1)."""
        return self._inner.greeting

    @property
    def transcript(self) -> str:
        """The latest lines of the session, ``C: `` ours and ``S: `` the server's, without content and secrets."""
        return self._inner.transcript

    def take_transcript(self) -> str:
        """Return the transcript, and begin a new one.

        Example::

            print(client.take_transcript(), end="")
        """
        return self._inner.take_transcript()

    @property
    def config(self) -> ClientConfig:
        """The settings of the session."""
        return self._inner.config

    @property
    def is_closed(self) -> bool:
        """Whether the session is over, whoever ended it."""
        return self._inner.is_closed

    @property
    def is_tls(self) -> bool:
        """Whether TLS is active."""
        return self._inner.is_tls

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """Version, cipher suite and certificates of TLS; ``None`` without it."""
        return self._inner.ssl_object

    @property
    def is_authenticated(self) -> bool:
        """Whether AUTH succeeded (RFC 4954)."""
        return self._inner.is_authenticated

    # ---- sending ---------------------------------------------------------------------------------

    def send(
        self,
        message: SendableMessage,
        sender: SenderLike | None = None,
        recipients: Recipients | None = None,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
        check: bool = True,
        refuse_invalid: bool = False,
    ) -> SendResult:
        """Send one message, and block until the server has answered for every recipient (RFC 5321 3.3).

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Client.send`; and:

        Raises:
            TypeError: the message is an async iterable.

        Example::

            result = client.send(message, sender="a@b.example", recipients=["c@d.example"])
            for one in result.refused: print(one.path, one.reply)
        """
        if type(message) is bytes and check and utf8_header is None and not refuse_invalid:
            return self._use.send(message, sender, recipients)  # the usual case: octets say the rest
        if type(message) is not bytes:
            refuse_async(message)
        return self._use.run(
            self._inner.send(
                message,
                sender,
                recipients,
                size=size,
                eight_bit=eight_bit,
                utf8_header=utf8_header,
                check=check,
                refuse_invalid=refuse_invalid,
            )
        )

    def send_many(
        self, items: Iterable[Item], *, utf8_header: bool | None = None, refuse_invalid: bool = False
    ) -> SendMany:
        """Send many messages without a wait for each reply. A message costs one round trip if the server offers
        PIPELINING (RFC 2920 3.1), and less if it offers CHUNKING (RFC 3030).

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Client.send_many`; and:

        Returns:
            An iterator of one :class:`ehlo.SendResult` for each item, in order. If you leave it early, the
            connection is closed.

        Raises:
            TypeError: ``items``, or the message of an item, is an async iterable.

        Example::

            for result in client.send_many((octets, "a@b.example", [to]) for to in recipients):
                print(result)
        """
        refuse_async(items)
        many = self._inner.send_many(_plain(items), utf8_header=utf8_header, refuse_invalid=refuse_invalid)
        return SendMany(self._use, many)

    def transaction(
        self,
        sender: SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> Transaction:
        """One mail transaction step by step (RFC 5321 3.3): ``with`` says MAIL, then the program says RCPT for each
        recipient, then it gives the content. If the program leaves the block before that, RSET ends the transaction.

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Client.transaction`.

        Example::

            with client.transaction("a@b.example") as transaction:
                if transaction.rcpt("c@d.example").is_positive: transaction.send(octets)
        """
        begun = self._inner.transaction(sender, size=size, eight_bit=eight_bit, utf8_header=utf8_header)
        return Transaction(begun, self._use.run)

    def verify(self, recipient: RecipientLike, sender: SenderLike = NULL) -> Reply:
        """Ask whether the server takes mail for a recipient, by MAIL, RCPT and RSET. No message is sent (RFC 5321
        3.5.3).

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Client.verify`.

        Example::

            client.verify("c@d.example").is_positive
        """
        return self._use.run(self._inner.verify(recipient, sender))

    # ---- who we are ------------------------------------------------------------------------------

    def login(
        self,
        username: str,
        password: str,
        *,
        authzid: str = "",
        mechanisms: Sequence[str] | None = None,
        allow_clear: bool = False,
    ) -> Reply:
        """Say AUTH with a password (RFC 4954). Arguments, order and exceptions are those of :class:`ehlo.Login` and
        :meth:`authenticate`.

        Example::

            client.login("jane", password)
        """
        return self._use.run(
            self._inner.login(username, password, authzid=authzid, mechanisms=mechanisms, allow_clear=allow_clear)
        )

    def authenticate(self, login: LoginLike) -> Reply:
        """Say AUTH (RFC 4954). Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Client.authenticate`;
        and:

        Raises:
            TypeError: the function that fetches the token is async.

        Example::

            client.authenticate(ehlo.Login("jane", token=fetch_token))
        """
        return self._use.run(self._inner.authenticate(login))

    def xclient(self, **attributes: str | int | None) -> Reply:
        """Name the real client (Postfix XCLIENT_README). Arguments, result and exceptions are those of
        :meth:`ehlo.asyncio.Client.xclient`.

        Example::

            client.xclient(name="c.example", addr="192.0.2.1", port=40000)
        """
        return self._use.run(self._inner.xclient(**attributes))

    def xforward(self, client: ClientAttributes | None = None, /, **attributes: str | int | None) -> Reply:
        """Name the client of the next message (Postfix XFORWARD_README). Arguments, result and exceptions are
        those of :meth:`ehlo.asyncio.Client.xforward`.

        Example::

            client.xforward(name="c.example", addr="192.0.2.1", source="REMOTE")
        """
        return self._use.run(self._inner.xforward(client, **attributes))

    # ---- commands --------------------------------------------------------------------------------

    def noop(self) -> Reply:
        """Say NOOP (RFC 5321 4.1.1.9); gives the reply, whatever it is.

        Raises:
            SMTPServerDisconnected: the connection ended.

        Example::

            client.noop()
        """
        return self._use.run(self._inner.noop())

    def rset(self) -> Reply:
        """Say RSET (RFC 5321 4.1.1.5). The engine says it by itself where it must; gives the reply.

        Example::

            client.rset()
        """
        return self._use.run(self._inner.rset())

    def vrfy(self, argument: str) -> Reply:
        """Ask whether there is such a mailbox (RFC 5321 4.1.1.6); gives the reply: 250, 251, 252, 550 …

        Example::

            client.vrfy("postmaster").code
        """
        return self._use.run(self._inner.vrfy(argument))

    def expn(self, argument: str) -> Reply:
        """Ask for the members of a mailing list (RFC 5321 4.1.1.7); gives the reply.

        Example::

            client.expn("staff").lines
        """
        return self._use.run(self._inner.expn(argument))

    def help(self, topic: str = "") -> Reply:
        """Ask for help (RFC 5321 4.1.1.8); gives the reply.

        Example::

            client.help("MAIL").text
        """
        return self._use.run(self._inner.help(topic))

    def command(self, line: str) -> Reply:
        """Say a command that has no method here, such as one of the server's own; gives the reply, whatever it is.

        Arguments and exceptions are those of :meth:`ehlo.asyncio.Client.command`; the line is verb and argument (RFC
        5321 4.1.1).

        Example::

            client.command("XFOO bar").code
        """
        return self._use.run(self._inner.command(line))

    def quit(self) -> Reply | None:
        """End the session: QUIT, and wait ``config.quit_timeout`` seconds for the 221 (C-CLI-31, RFC 5321 4.1.1.10).

        Returns:
            The reply, ``None`` if none came.

        Raises:
            SMTPServerDisconnected: it is over already.
            LocalProtocolError: another thread uses the connection.

        Example::

            client.quit()
        """
        return self._use.run(self._inner.quit())

    def close(self) -> None:
        """End the session with QUIT, if it is not over, and close the connection. A use by another thread is cut short.

        Example::

            client.close()
        """
        self._use.close()

    def abort(self) -> None:
        """Close the connection at once, without QUIT. A use by another thread is cut short.

        Example::

            client.abort()
        """
        self._use.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, Exception):  # interrupted: no time for manners
            self.abort()
        else:
            self.close()


class SendMany:
    """What :meth:`Client.send_many` gives: an iterator of results, in the order of the items.

    Example::

        sending = client.send_many(items)
        for result in sending: ...
    """

    __slots__ = ("_many", "_use")

    def __init__(self, use: Use, many: AsyncSendMany) -> None:
        self._use = use
        self._many = many

    def __iter__(self) -> Iterator[SendResult]:
        return self

    def __next__(self) -> SendResult:
        try:
            return self._use.run(self._many.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Leave before the end. The connection is closed, because the results of messages on their way are not known.

        Example::

            sending.close()
        """
        self._use.run(self._many.aclose())


def _plain(items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as no message is async."""
    for item in items:
        if type(item[0]) is not bytes:
            refuse_async(item[0])
        yield item


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Client:
    """Connect to a server, and say EHLO. ``config`` chooses SMTP or LMTP. ``with`` says QUIT at the end.

    Arguments:
        host, port: as :func:`ehlo.asyncio.connect` has them.
        options: likewise, each of them.

    Raises:
        SMTPException, LocalProtocolError: as :func:`ehlo.asyncio.connect`; SMTP's own are of RFC 5321 3.1 and 4.2.

    Example::

        with ehlo.sync.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return connected(Opening(host, port, **options))


def connected(opening: Opening) -> Client:
    """A client whose connection was opened as it was asked for.

    Example::

        client = connected(Opening("mx.example", 25))
    """
    return Client(run(_awaited(Connecting(opening, BlockingClient, dial))))


async def _awaited(connecting: Connecting[BlockingClient]) -> BlockingClient:
    return await connecting


def send(
    message: SendableMessage,
    host: str | None = None,
    port: int | None = None,
    sender: SenderLike | None = None,
    recipients: Recipients | None = None,
    *,
    size: int | None = None,
    eight_bit: bool | None = None,
    utf8_header: bool | None = None,
    check: bool = True,
    refuse_invalid: bool = False,
    **options: Unpack[ConnectOptions],
) -> SendResult:
    """Send one message over a connection of its own, and block until the server has answered (RFC 5321 3.3).

    Arguments:
        message: a ``SendableMessage``: octets, an ``EmailMessage``, a binary file, or an iterable of chunks.
        sender: a ``SenderLike``: ``"a@b.example"``, ``""``, an :class:`ehlo.Address` or an :class:`ehlo.Sender`. By
            default it comes from the header fields.
        recipients: ``Recipients``: a text, an ``Address``, an :class:`ehlo.Recipient`, or several of them. By default
            they come from the header fields.
        size, eight_bit, utf8_header, check, refuse_invalid: as :meth:`ehlo.asyncio.Client.send` has them.
        host, port: as :func:`ehlo.asyncio.connect` has them.
        options: likewise, each of them.

    Returns:
        The reply for each recipient. Some recipients may be refused.

    Raises:
        SMTPException, LocalProtocolError: as both.
        TypeError: the message is an async iterable.

    Example::

        ehlo.send(message, "mx.example", 587, tls="required", auth=("jane", password))
    """
    refuse_async(message)
    letter = LastLetter(message, sender, recipients, size, eight_bit, utf8_header, refuse_invalid)
    client = connect(host, port, **options)
    return client._use.run(client._inner.send_last(letter, check))
