"""The methods that a program calls to send mail, without I/O, event loop and clock.

A backend has two classes of its own: a :class:`ehlo._client.driver.ClientDriver` moves octets and keeps the time, and a
:class:`BaseClient` runs tasks. Everything that a program calls stands here; what works behind it is
:class:`ehlo._client.session.ClientSession`. Both await two methods of the driver only, ``progress`` and
``wait_closed``.

No protocol decision is made here either: what is sent when is the engine's.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ehlo._client.auth import authenticate
from ehlo._client.message import Letter, SendableMessage
from ehlo._client.paths import RecipientLike, Recipients, SenderLike
from ehlo._client.send_many import Item, SendMany
from ehlo._client.session import ClientSession, queue_plain
from ehlo._client.transaction import Transaction
from ehlo._client.xclient import passed_on, tell_client
from ehlo._core import NULL, Capabilities, ClientAttributes, ClientConfig, ClientConnection, Reply, SendResult

if TYPE_CHECKING:  # what a program does not use, it does not pay for at its start
    import ssl

    from ehlo._client.login import LoginLike

__all__ = ["BaseClient"]


class BaseClient(ClientSession):
    """A connected client: one SMTP or LMTP session. :func:`ehlo.asyncio.connect` makes one.

    - ``send`` sends a message. ``send_many`` sends many in a pipeline. ``transaction`` sends step by step.
    - ``close`` says QUIT; so does the end of ``async with``.
    - A ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks.
    - A ``SenderLike`` is ``"a@b.example"``, ``""`` for the null reverse-path, an :class:`ehlo.Address`, or an
      :class:`ehlo.Sender` with parameters. A ``RecipientLike`` is a text, an ``Address``, or an
      :class:`ehlo.Recipient` with parameters. ``Recipients`` are one of these, or several.
    - A ``LoginLike`` is ``("jane", "secret")`` or an :class:`ehlo.Login`. An ``Item`` of ``send_many`` is a tuple of
      message, sender and recipients.

    One task uses a client at a time. Another task gets a :class:`ehlo.LocalProtocolError` meanwhile. A cancelled send
    closes the connection, because nobody knows how much of the message the server has.

    Example::

        async with ehlo.asyncio.connect("mx.example", 25) as client:
            await client.send(b"Subject: hi\\r\\n\\r\\nhi\\r\\n", sender="a@b.example", recipients=["c@d.example"])
    """

    __slots__ = ()

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
        """Return the transcript, and begin a new one.

        Example::

            print(client.take_transcript(), end="")
        """
        return self._link.conn.take_transcript()

    @property
    def config(self) -> ClientConfig:
        """The settings of the session."""
        return self._link.conn.config

    @property
    def is_closed(self) -> bool:
        """Whether the session is over, whoever ended it."""
        return self._link.conn.closed

    @property
    def is_tls(self) -> bool:
        """Whether TLS is active."""
        return self._link.conn.is_tls

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """Version, cipher suite and certificates of TLS; ``None`` without it."""
        tls = self._link.tls
        return tls.object if tls is not None and tls.established else None

    @property
    def is_authenticated(self) -> bool:
        """Whether AUTH succeeded (RFC 4954)."""
        return self._link.conn.authenticated

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
        check: bool = True,
        refuse_invalid: bool = False,
    ) -> SendResult:
        """Send one message, and wait until the server has answered for every recipient (RFC 5321 3.3).

        Arguments:
            message: octets (any buffer), an :class:`email.message.EmailMessage`, a binary file object, or an iterable
                or async iterable of chunks of octets. What comes in pieces is never held in memory as a whole.
            sender: the reverse-path; ``""`` or :data:`ehlo.NULL` for the null one, which bounces carry (RFC 5321
                4.5.5); an :class:`ehlo.Sender` has parameters. ``None``: the Sender or From field of an email.message.
            recipients: one or several; an :class:`ehlo.Recipient` has parameters. ``None``: To, Cc and Bcc.
            size: the number of octets with CRLF line ends, for a message in pieces; ``None`` if it is not known (RFC
                1870).
            eight_bit: whether a message in pieces has octets above 127; ``None`` if it is not known (RFC 6152).
            utf8_header: whether the message needs SMTPUTF8 for its header section (RFC 6531 3.4). ``True``: if the
                header section is UTF-8 and not only ASCII; an email.message gets UTF-8 in its header fields. ``False``:
                never. ``None``: if an :class:`ehlo.Sender` has ``smtputf8``. A non-ASCII address needs it, too.
            check: raise an exception if every recipient was refused. ``False``: return the result in this case, too.
            refuse_invalid: if a recipient is no address (RFC 5321 4.1.2), refuse it in the result with 553 5.1.3, and
                send to the others. Its ``path`` is the text as it was given. By default such a recipient raises
                :class:`ehlo.InvalidAddressError`, and nothing is sent to anybody.

        Returns:
            The reply for each recipient. Some recipients may be refused.

        Raises:
            SMTPSenderRefused, SMTPRecipientsRefused, SMTPDataError: no recipient was accepted, because of MAIL, RCPT or
                the content. Not with ``check=False``.
            SMTPNotSupportedError: the server lacks what the message needs. Nothing was sent.
            OutcomeUnknown: the connection ended before the reply to the content: the server may have the message.
            SMTPServerDisconnected, SMTPTimeoutError: the connection ended before the server had the whole message.
            RemoteProtocolError: the replies of the server make no sense.
            LocalProtocolError: an address is wrong, another task uses the connection, or another mistake of the
                program.

        Example::

            result = await client.send(message, sender="a@b.example", recipients=["c@d.example"])
            for one in result.refused: print(one.path, one.reply)
        """
        if self._busy is not None:
            raise self._in_use()
        link = self._link
        letter = None
        # The usual case goes without the detours of the others.
        if utf8_header is None and not refuse_invalid and queue_plain(link, message, sender, recipients):
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
            letter = Letter(message, sender, recipients, size, eight_bit, utf8_header, refuse_invalid)
            self._busy = "send"
            try:
                result = letter.completed(None if letter.is_for_nobody else await self._deliver(letter))
            finally:
                self._busy = None
        if not result.all_accepted and not result.accepted and (check or result.failure is not None):
            raise self._link.error_of(result, letter.sender if letter is not None else sender or "")
        return result

    def send_many(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        utf8_header: bool | None = None,
        refuse_invalid: bool = False,
    ) -> SendMany:
        """Send many messages without a wait for each reply. A message costs one round trip if the server offers
        PIPELINING (RFC 2920 3.1), and less if it offers CHUNKING (RFC 3030).

        Up to ``config.window`` messages are taken ahead of their results. A message that nobody gets raises nothing:
        its result says so. An exception comes after the results of all messages before it.

        Arguments:
            items: ``(message, sender, recipients)`` as for :meth:`send`, from an iterable or an async iterable.
            utf8_header, refuse_invalid: as for :meth:`send`, for all messages.

        Returns:
            An async iterator of one :class:`ehlo.SendResult` for each item, in order. If you leave it early, the
            connection is closed.

        Raises:
            SMTPServerDisconnected, SMTPTimeoutError, RemoteProtocolError: the connection ended, and items are left.

        Example::

            async for result in client.send_many((octets, "a@b.example", [to]) for to in recipients):
                print(result)
        """
        return SendMany(self, items, utf8_header, refuse_invalid)

    def transaction(
        self,
        sender: SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> Transaction:
        """One mail transaction step by step (RFC 5321 3.3): ``async with`` says MAIL, then the program says RCPT for
        each recipient, then it gives the content. If the program leaves the block before that, RSET ends the
        transaction.

        Arguments:
            sender: as for :meth:`send`.
            size, eight_bit, utf8_header: as for :meth:`send`. MAIL needs these facts before the content comes.

        Returns:
            An async context manager that gives a :class:`ehlo.asyncio.Transaction`; its methods say what they raise.

        Raises:
            SMTPSenderRefused: the server refused MAIL. A refused RCPT is a reply, and raises nothing.

        Example::

            async with client.transaction("a@b.example") as transaction:
                if (await transaction.rcpt("c@d.example")).is_positive: await transaction.send(octets)
        """
        return Transaction(self, sender, size, eight_bit, utf8_header)

    async def verify(self, recipient: RecipientLike, sender: SenderLike = NULL) -> Reply:
        """Ask whether the server takes mail for a recipient, by MAIL, RCPT and RSET. No message is sent. Many servers
        do not give a true answer to VRFY (RFC 5321 3.5.3).

        Arguments:
            recipient: as for :meth:`send`.
            sender: the reverse-path; by default the null one, so that nobody answers (RFC 5321 4.5.5).

        Returns:
            The reply to RCPT.

        Raises:
            SMTPSenderRefused, SMTPNotSupportedError, SMTPServerDisconnected, SMTPTimeoutError, RemoteProtocolError,
            LocalProtocolError: as :meth:`transaction`.

        Example::

            (await client.verify("c@d.example")).is_positive
        """
        async with self.transaction(sender, eight_bit=False) as transaction:
            return await transaction.rcpt(recipient)

    # ---- who we are ------------------------------------------------------------------------------

    async def login(
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

            await client.login("jane", password)
        """
        from ehlo._client.login import Login

        login = Login(username, password, authzid=authzid, mechanisms=mechanisms, allow_clear=allow_clear)
        return await self.authenticate(login)

    async def authenticate(self, login: LoginLike) -> Reply:
        """Say AUTH (RFC 4954) with the first mechanism that both sides have. If the server refuses the mechanism itself
        (504, 534, 538), the next one is tried. A 535 ends the login (C-AUT-30), but a token is fetched anew once.

        Arguments:
            login: a :class:`ehlo.Login`, or user name and password.

        Returns:
            The reply 235.

        Raises:
            SMTPAuthenticationError: the server refused the login. Or the server did not prove that it knows the
                password (RFC 5802 3); then the connection is closed.
            SMTPNotSupportedError: both sides have no mechanism in common, or none that may be used without TLS
                (C-AUT-29).
            LocalProtocolError: AUTH succeeded before, something that the mechanism needs is missing, another task uses
                the connection.
            SMTPServerDisconnected, SMTPTimeoutError: the connection ended.

        Example::

            await client.authenticate(ehlo.Login("jane", token=fetch_token))
        """
        from ehlo._client.login import login_of

        login = login_of(login)
        link = self._begin("AUTH")
        try:
            reply = await authenticate(link, login)
        except Exception:
            raise
        except BaseException:
            link.abort()
            raise
        finally:
            self._busy = None
        self._again.append(lambda link: authenticate(link, login))
        return reply

    async def xclient(self, **attributes: str | int | None) -> Reply:
        """Name the real client to a server that trusts us (Postfix XCLIENT_README). The session begins anew, as if that
        client had connected. AUTH is forgotten.

        Arguments:
            attributes: ``name``, ``addr``, ``port``, ``proto``, ``helo``, ``login``, ``destaddr``, ``destport``;
                ``None`` says that a value is not known, ``"[TEMPUNAVAIL]"`` that a name could not be looked up.
                Attributes that the server does not list are left out. ``addr`` goes last (C-PXY-20).

        Returns:
            The last reply: 220, or the first that refuses.

        Raises:
            SMTPNotSupportedError: the server lists none of them.
            LocalProtocolError: a value makes a line longer than 512 octets, another task uses the connection.
            SMTPServerDisconnected, SMTPTimeoutError, SMTPHeloError: the connection ended.

        Example::

            await client.xclient(name="c.example", addr="192.0.2.1", port=40000)
        """
        reply = await self._attribute_command("XCLIENT", attributes)
        if reply.is_positive:
            self._again = [lambda link: tell_client(link, "XCLIENT", attributes)]
        return reply

    async def xforward(self, client: ClientAttributes | None = None, /, **attributes: str | int | None) -> Reply:
        """Name the client of the next message, for the server's log and filters (Postfix XFORWARD_README). This holds
        until the end of that message.

        Arguments:
            client: the attributes that our own client gave, to pass them on: :attr:`ehlo.Session.xforward`.
            attributes: ``name``, ``addr``, ``port``, ``proto``, ``helo``, ``ident``, ``source``; as for
                :meth:`xclient`. They go before those of ``client``.

        Returns:
            The last reply: 250, or the first that refuses.

        Raises:
            SMTPNotSupportedError, LocalProtocolError, SMTPServerDisconnected, SMTPTimeoutError: as :meth:`xclient`.
            LocalProtocolError: there is nothing to tell: ``client`` is ``None``, and there are no attributes.

        Example::

            await client.xforward(name="c.example", addr="192.0.2.1", source="REMOTE")
            if session.xforward is not None: await client.xforward(session.xforward)
        """
        return await self._attribute_command("XFORWARD", passed_on(client) | attributes)

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

    async def command(self, line: str) -> Reply:
        """Say a command that has no method here, such as one of the server's own; gives the reply, whatever it is.

        Arguments:
            line: verb and argument, without CRLF.

        Raises:
            RemoteProtocolError: the reply asks for more by 3yz (RFC 5321 4.2.1): that ends the session.
            SMTPServerDisconnected: the connection ended.
            LocalProtocolError: the line is no command (RFC 5321 4.1.1), or one that the engine says itself, such as
                MAIL; another task uses the connection.

        Example::

            (await client.command("XFOO bar")).code
        """
        return await self._command(line.partition(" ")[0], ClientConnection.command, line)

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
        if self._link.is_over():
            raise self._link.error()
        return await self._link.quit()

    async def close(self) -> None:
        """End the session with QUIT, if it is not over, and close the connection. A use by another task is cut short.

        Example::

            await client.close()
        """
        link = self._link
        if self._busy is not None:
            link.abort()
        elif not link.conn.closed:
            await link.quit()
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

    async def _command(self, name: str, command: Callable[..., int], *arguments: str) -> Reply:
        link = self._begin(name)
        try:
            return await link.ask(command(link.conn, *arguments))
        finally:
            self._busy = None

    async def _attribute_command(self, name: str, attributes: dict[str, str | int | None]) -> Reply:
        link = self._begin(name)
        try:
            return await tell_client(link, name, attributes)
        finally:
            self._busy = None
