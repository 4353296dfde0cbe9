"""The engine, written in Rust. Import these names from `ehlo`, not from here."""

# Written by tools/make_stub.py. Change the docs in rust/ehlo-py/src, the types in rust/ehlo-py/types.pyi.

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

__all__ = [
    "NULL",
    "Address",
    "Auth",
    "AuthCancelled",
    "AuthResponse",
    "BadProxy",
    "Capabilities",
    "Challenge",
    "Chunk",
    "ClientAttributes",
    "ClientConfig",
    "ClientConnection",
    "ClientDisconnect",
    "Command",
    "CommandReceived",
    "CommandReply",
    "Connect",
    "ContentAborted",
    "ContentStart",
    "Data",
    "Disconnect",
    "DkimBody",
    "DotDecoder",
    "DotEncoder",
    "Envelope",
    "Etrn",
    "Exchange",
    "Expn",
    "Hello",
    "Mail",
    "Message",
    "NullPath",
    "Postmaster",
    "Proxy",
    "ProxyHeader",
    "Rcpt",
    "Ready",
    "ReceiveBuffer",
    "Recipient",
    "RecipientResult",
    "Refusal",
    "Refused",
    "Reply",
    "Reset",
    "SendResult",
    "Sender",
    "ServerConfig",
    "ServerConnection",
    "StartTls",
    "Unsolicited",
    "Vrfy",
    "Xclient",
    "__version__",
    "build_info",
    "dkim_fields",
    "dkim_header",
    "dot_stuff",
    "dot_unstuff",
    "parse_command",
    "parse_proxy",
    "parse_reply",
    "xtext_decode",
    "xtext_encode",
]

__version__: Final[str]

def build_info() -> dict[str, str]:
    """What this extension module was built from and how, for bug reports and benchmarks.

    Example:
        >>> ehlo.build_info()["profile"]
        'release'
    """

@final
class Address:
    """A mailbox as an envelope holds it (RFC 5321 4.1.2), with the path as it was written.

    Two are equal if they name the same mailbox: however the local part is quoted, whatever the case of the domain,
    with or without a source route. The case of the local part counts (RFC 5321 2.4).

    Args:
        path: a mailbox, with or without angle brackets.

    Raises:
        LocalProtocolError: if it is no mailbox; the message names the part that is wrong.

    Example:
        >>> ehlo.Address("jane@Example.org").domain
        'Example.org'
    """

    __match_args__: Final = ("local_part", "domain")
    def __new__(cls, path: str) -> Address: ...
    @property
    def as_written(self) -> str:
        """The path as it was written between the angle brackets, with its source route."""
    @property
    def mailbox(self) -> str:
        """Local part, "@" and domain, with as little quoting as it needs and without a source route."""
    @property
    def local_part(self) -> str:
        """The value of the local part: without the quoting."""
    @property
    def domain(self) -> str:
        """The domain as it was written; an address literal with its brackets."""
    @property
    def source_route(self) -> str | None:
        """The source route as it was written, like "@a.example,@b.example", or None. To be ignored (RFC 5321 F.2)."""
    @property
    def is_null(self) -> bool:
        """Whether it is the null reverse-path: never, for an address."""
    @property
    def is_ascii(self) -> bool:
        """Whether it can go where SMTPUTF8 is not offered (RFC 6531 3.2)."""
    @property
    def is_postmaster(self) -> bool:
        """Whether the local part is Postmaster, in any case (RFC 5321 4.5.1)."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __str__(self) -> str: ...

@final
class NullPath:
    """The null reverse-path `<>` (RFC 5321 4.5.5). There is one: `ehlo.NULL`.

    Example:
        >>> envelope.sender.path is ehlo.NULL
        True
    """

    @property
    def is_null(self) -> bool:
        """Whether it is the null reverse-path: always."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __str__(self) -> str: ...

@final
class Postmaster:
    """The bare `<Postmaster>` of RFC 5321 4.5.1, which has no domain. All are equal, in any case.

    Example:
        >>> isinstance(recipient.path, ehlo.Postmaster)
        True
    """

    @property
    def is_null(self) -> bool:
        """Whether it is the null reverse-path: never, for a forward-path."""
    @property
    def as_written(self) -> str:
        """The word as it was written: its case is free."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __str__(self) -> str: ...

NULL: Final[NullPath]

"""The null reverse-path `<>`. Notifications have it, so that nobody answers them (RFC 5321 4.5.5)."""

_ReversePath: TypeAlias = Address | NullPath

_ForwardPath: TypeAlias = Address | Postmaster

@final
class Reply:
    """One SMTP reply (RFC 5321 4.2), with its enhanced status code if it has one (RFC 2034).

    Args:
        code: 200 to 599, its second digit at most 5.
        enhanced: like "5.1.1"; its class is the code's first digit.
        text: one line, or a sequence of lines. Anything but CR, LF and NUL; what is not ASCII is escaped when written.

    Raises:
        LocalProtocolError: if it is no reply that SMTP knows.

    Example:
        >>> ehlo.Reply(550, "5.1.1", "no such user").to_bytes()
        b'550 5.1.1 no such user\\r\\n'
    """

    __match_args__: Final = ("code", "enhanced", "text")
    def __new__(cls, code: int, enhanced: str | None = None, text: str | Sequence[str] = "") -> Reply: ...
    @staticmethod
    def parse(text: str) -> Reply:
        """The reply that a string like "550 5.1.1 no such user" stands for.

        Raises:
            LocalProtocolError: if it is none.
        """
    @property
    def code(self) -> int:
        """The three digits."""
    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463), None if there is none."""
    @property
    def text(self) -> str:
        """The lines joined by LF, without codes. Octets that are not UTF-8 are escaped."""
    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines as they are, without codes."""
    @property
    def is_positive(self) -> bool:
        """2yz or 3yz: done, or go on (RFC 5321 4.2.1)."""
    @property
    def is_temporary(self) -> bool:
        """4yz: try again."""
    @property
    def is_permanent(self) -> bool:
        """5yz: do not."""
    def to_bytes(self) -> bytes:
        """The reply as it goes over the wire, long lines folded (RFC 5321 4.5.3.1.5)."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __str__(self) -> str: ...

def parse_reply(octets: Buffer) -> Reply:
    """Read one whole reply, of one line or many (RFC 5321 4.2).

    Raises:
        RemoteProtocolError: if it is none, is cut short, or has something behind it.

    Example:
        >>> ehlo.parse_reply(b"250-mx.example.org\\r\\n250 SIZE\\r\\n").lines
        (b'mx.example.org', b'SIZE')
    """

@final
class Sender:
    """What MAIL says: the reverse-path and its parameters. A parameter that was not given is None.

    A server reads it, a client may be given it: then SIZE, BODY and SMTPUTF8 follow from the content as well.

    Args:
        path: a mailbox, or "" or `NULL` for the null reverse-path (RFC 5321 4.5.5).
        body: "7BIT", "8BITMIME" (RFC 6152) or "BINARYMIME" (RFC 3030). smtputf8: RFC 6531.
        ret, envid: RFC 3461 4.3, 4.4. auth: who submitted it, or "<>" (RFC 4954 5).
        deliver_by: seconds, "N" or "R", and whether to trace (RFC 2852 4).
        hold_for: seconds; hold_until: a UTC time in RFC 3339 (RFC 4865 4).
        mt_priority: from -9 to 9 (RFC 6710). requiretls: RFC 8689.

    Raises:
        LocalProtocolError: for a path or a value that is none.

    Example:
        >>> ehlo.Sender("jane@example.org", ret="HDRS", envid="order 7").parameters
        (('RET', 'HDRS'), ('ENVID', 'order+207'))
    """

    __match_args__: Final = ("path",)
    def __new__(
        cls,
        path: str | Address | NullPath,
        *,
        body: Literal["7BIT", "8BITMIME", "BINARYMIME"] | None = None,
        smtputf8: bool = False,
        ret: Literal["FULL", "HDRS"] | None = None,
        envid: str | None = None,
        auth: str | None = None,
        deliver_by: tuple[int, str, bool] | None = None,
        hold_for: int | None = None,
        hold_until: str | None = None,
        mt_priority: int | None = None,
        requiretls: bool = False,
    ) -> Sender: ...
    @classmethod
    def from_parameters(cls, path: str | Address | NullPath, parameters: str = "") -> Sender:
        """The one that a MAIL command with these parameters stands for.

        Every parameter is kept, one that ehlo does not know too. It is the way back from `mail_parameters`.

        Args:
            path: as for `Sender`.
            parameters: what stands behind the path, like "SIZE=1000 BODY=8BITMIME" (RFC 5321 4.1.1.11).

        Raises:
            LocalProtocolError: for a path or a parameter that is none.
        """
    @property
    def mail_parameters(self) -> str:
        """Every parameter as it was written, known or not, as one text: the Mail-parameters of RFC 5321 4.1.2."""
    @property
    def path(self) -> _ReversePath:
        """An `Address`, or `NULL` (RFC 5321 4.5.5)."""
    @property
    def size(self) -> int | None:
        """SIZE: octets the client means to send (RFC 1870)."""
    @property
    def body(self) -> Literal["7BIT", "8BITMIME", "BINARYMIME"] | None:
        """BODY: "7BIT", "8BITMIME" (RFC 6152) or "BINARYMIME" (RFC 3030)."""
    @property
    def smtputf8(self) -> bool:
        """Whether SMTPUTF8 was given (RFC 6531 3.4)."""
    @property
    def ret(self) -> Literal["FULL", "HDRS"] | None:
        """RET: "FULL" or "HDRS" (RFC 3461 4.3)."""
    @property
    def envid(self) -> str | None:
        """ENVID, decoded (RFC 3461 4.4)."""
    @property
    def auth(self) -> str | None:
        """AUTH: the mailbox that submitted the message, or "<>" (RFC 4954 5). To be believed of trusted clients."""
    @property
    def deliver_by(self) -> tuple[int, str, bool] | None:
        """BY: seconds (of any sign), "N" or "R", and whether to trace (RFC 2852 4)."""
    @property
    def hold_for(self) -> int | None:
        """HOLDFOR: seconds (RFC 4865 4)."""
    @property
    def hold_until(self) -> str | None:
        """HOLDUNTIL: an RFC 3339 time (RFC 4865 4)."""
    @property
    def mt_priority(self) -> int | None:
        """MT-PRIORITY: from -9 to 9 (RFC 6710)."""
    @property
    def requiretls(self) -> bool:
        """Whether REQUIRETLS was given (RFC 8689)."""
    @property
    def parameters(self) -> tuple[tuple[str, str | None], ...]:
        """Every parameter as it was written, known or not, in order: keyword and value."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Recipient:
    """What one RCPT says: the forward-path and its parameters. A parameter that was not given is None.

    Args:
        path: a mailbox, or "Postmaster" (RFC 5321 4.1.1.3).
        notify: "NEVER" alone, or of "SUCCESS", "FAILURE", "DELAY" (RFC 3461 4.1).
        orcpt: type and address of the original recipient (RFC 3461 4.2).
        rrvs: an RFC 3339 time, and "C", "R" or None (RFC 7293 3).

    Raises:
        LocalProtocolError: for a path or a value that is none.

    Example:
        >>> ehlo.Recipient("joe@example.org", notify=("FAILURE",)).path.domain
        'example.org'
    """

    __match_args__: Final = ("path",)
    def __new__(
        cls,
        path: str | Address | Postmaster,
        *,
        notify: Iterable[str] | None = None,
        orcpt: tuple[str, str] | None = None,
        rrvs: tuple[str, str | None] | None = None,
    ) -> Recipient: ...
    @classmethod
    def from_parameters(cls, path: str | Address | Postmaster, parameters: str = "") -> Recipient:
        """The one that a RCPT command with these parameters stands for.

        Every parameter is kept, one that ehlo does not know too. It is the way back from `rcpt_parameters`.

        Args:
            path: as for `Recipient`.
            parameters: what stands behind the path, like "NOTIFY=NEVER" (RFC 5321 4.1.1.11).

        Raises:
            LocalProtocolError: for a path or a parameter that is none.
        """
    @property
    def rcpt_parameters(self) -> str:
        """Every parameter as it was written, known or not, as one text: the Rcpt-parameters of RFC 5321 4.1.2."""
    @property
    def path(self) -> _ForwardPath:
        """An `Address`, or a `Postmaster` without domain (RFC 5321 4.5.1)."""
    @property
    def domain(self) -> str | None:
        """The domain of the path in lower case, or an address literal with its brackets; None for `<Postmaster>`."""
    @property
    def notify(self) -> frozenset[str] | None:
        """NOTIFY: of "NEVER", "SUCCESS", "FAILURE", "DELAY" (RFC 3461 4.1)."""
    @property
    def orcpt(self) -> tuple[str, str] | None:
        """ORCPT: type and decoded address of the original recipient (RFC 3461 4.2, RFC 6533 3)."""
    @property
    def rrvs(self) -> tuple[str, str | None] | None:
        """RRVS: the time since when the owner of the mailbox is the same, and "C" or "R" (RFC 7293 3)."""
    @property
    def parameters(self) -> tuple[tuple[str, str | None], ...]:
        """Every parameter as it was written, known or not, in order: keyword and value."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Envelope:
    """Sender and accepted recipients of one transaction, in the order they came (RFC 5321 2.3.1).

    The engine makes it. A program that hands a changed one on makes its own.

    Args:
        sender: who the message is from.
        recipients: whom it is for.

    Example:
        >>> [str(recipient.path) for recipient in envelope.recipients]
        ['joe@example.org', 'jim@example.org']
    """

    __match_args__: Final = ("sender", "recipients")
    def __new__(cls, sender: Sender, recipients: Sequence[Recipient]) -> Envelope: ...
    @property
    def sender(self) -> Sender:
        """Who the message is from."""
    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Whom it is for. Duplicates are kept: LMTP answers each (RFC 2033 4.2)."""
    @property
    def smtputf8(self) -> bool:
        """Whether MAIL carried SMTPUTF8 (RFC 6531 3.4)."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Connect:
    """Decision, with "connect" in `decisions`: greet this client (RFC 5321 3.1)?

    Example:
        >>> conn.reply(554, "5.7.1", "not you")
    """

@final
class Auth:
    """Decision, with `auth` in the configuration: AUTH came (RFC 4954 4). Answer with `challenge`, `accept_identity`
    or a 4yz or 5yz reply.

    Example:
        >>> match event:
        ...     case ehlo.Auth("PLAIN", None): conn.challenge(b"")
    """

    __match_args__: Final = ("mechanism", "initial_response")
    @property
    def mechanism(self) -> str:
        """The mechanism in upper case, one that is offered now."""
    @property
    def initial_response(self) -> bytes | None:
        """The initial response, decoded; None without one. An empty one is b"" (RFC 4954 4)."""

@final
class AuthResponse:
    """Decision: the client answered a challenge (RFC 4954 4). To be answered as `Auth` is.

    Example:
        >>> match event:
        ...     case ehlo.AuthResponse(data): step = mechanism.respond(data)
    """

    __match_args__: Final = ("data",)
    @property
    def data(self) -> bytes:
        """The response, decoded."""

@final
class AuthCancelled:
    """The client ended an exchange of AUTH, or sent what is not base64 (RFC 4954 4). No decision: the engine has
    answered.
    """

@final
class CommandReceived:
    """Decision, with "command" in `decisions`: a command came that the engine does not know, or NOOP, HELP, RSET or
    QUIT. `accept` lets the engine answer; a reply stands in place of its own.

    Example:
        >>> match event:
        ...     case ehlo.CommandReceived("XVERSION", _): conn.reply(250, "2.0.0", "3.1")
    """

    __match_args__: Final = ("verb", "argument")
    @property
    def verb(self) -> str:
        """The verb in upper case."""
    @property
    def argument(self) -> str:
        """What stands behind the verb; empty if there is nothing."""

@final
class Refusal:
    """Decision, with "refusal" in `decisions`: the engine refuses a command, or content. `accept` lets it answer; a 4yz
    or 5yz reply stands in place of its own.

    Example:
        >>> conn.reply(event.reply.code, event.reply.enhanced, "see https://mx.example/help")
    """

    __match_args__: Final = ("line", "reply")
    @property
    def line(self) -> bytes:
        """The command line without its end. It is empty for content, and for a line that is too long."""
    @property
    def reply(self) -> Reply:
        """The engine's reply."""

@final
class BadProxy:
    """No good PROXY header came; only with `proxy=True`. No decision: the session ends without a word.

    Example:
        >>> log.warning("no PROXY header: %r", event.octets)
    """

    __match_args__: Final = ("octets",)
    @property
    def octets(self) -> bytes:
        """What came, up to the octet that is wrong."""

@final
class StartTls:
    """TLS is to begin (RFC 3207 4). On a client: shake hands now, then say `tls_established`; what came in clear is
    forgotten. On a server a decision, with `tls="starttls"`: accept, send the output, shake hands, then say
    `tls_established`; or reply 454 when TLS is not to be had now.

    Example:
        >>> match event:
        ...     case ehlo.StartTls(): upgrade(sock); conn.tls_established()
    """

@final
class Proxy:
    """Decision, with `proxy=True`: the PROXY header came (PROXY protocol 2). A reply stands in place of the greeting.

    Example:
        >>> match event:
        ...     case ehlo.Proxy(header): print(header.source); conn.accept()
    """

    __match_args__: Final = ("header",)
    @property
    def header(self) -> ProxyHeader:
        """What the proxy knows of the connection."""

@final
class Xclient:
    """XCLIENT was accepted; the session begins anew (Postfix XCLIENT_README). No decision. If it said another address,
    `trusted` is False until it is set again.

    Example:
        >>> conn.trusted = event.attributes.addr in FRONTS
    """

    __match_args__: Final = ("attributes",)
    @property
    def attributes(self) -> ClientAttributes:
        """All that XCLIENT has said so far."""

@final
class Hello:
    """Decision, with "hello" in `decisions`: EHLO, HELO or LHLO came (RFC 5321 4.1.1.1).

    Example:
        >>> event.verb, event.name
        ('EHLO', 'client.example')
    """

    __match_args__: Final = ("verb", "name")
    @property
    def verb(self) -> Literal["EHLO", "HELO", "LHLO"]:
        """One of "EHLO", "HELO" and "LHLO"."""
    @property
    def name(self) -> str:
        """The client's name for itself: a domain or an address literal, as it was written."""

@final
class Mail:
    """Decision, with "mail" in `decisions`: MAIL came (RFC 5321 4.1.1.2).

    Example:
        >>> match event:
        ...     case ehlo.Mail(sender): print(sender.path)
    """

    __match_args__: Final = ("sender",)
    @property
    def sender(self) -> Sender:
        """The reverse-path and its parameters."""

@final
class Rcpt:
    """Decision, with "rcpt" in `decisions`: RCPT came (RFC 5321 4.1.1.3).

    Example:
        >>> match event:
        ...     case ehlo.Rcpt(recipient): print(recipient.path)
    """

    __match_args__: Final = ("recipient",)
    @property
    def recipient(self) -> Recipient:
        """The forward-path and its parameters."""

@final
class Data:
    """Decision, with "data" in `decisions`: content is about to come, by DATA or the first BDAT (RFC 5321 4.1.1.4,
    RFC 3030 2). The last chance to refuse it before it is sent.

    Example:
        >>> conn.reply(452, "4.3.1", "disk full")
    """

    __match_args__: Final = ("envelope", "verb")
    @property
    def envelope(self) -> Envelope:
        """Sender and accepted recipients."""
    @property
    def verb(self) -> Literal["DATA", "BDAT"]:
        """Either "DATA" or "BDAT"."""

@final
class Chunk:
    """Octets of content without dot-stuffing or chunk headers; only with `content="stream"`. No decision.

    Example:
        >>> files[conn].write(event.data)
    """

    __match_args__: Final = ("data",)
    @property
    def data(self) -> bytes:
        """The octets; where one chunk ends and the next begins means nothing."""

@final
class ContentStart:
    """Content begins; only with `content="stream"`. No decision. `Chunk` events follow, then `Message` or
    `ContentAborted`.

    Example:
        >>> files[conn] = spool.open(event.envelope)
    """

    __match_args__: Final = ("envelope",)
    @property
    def envelope(self) -> Envelope:
        """Sender and accepted recipients."""

@final
class ContentAborted:
    """The content that was streaming will not become a message. No decision: the engine answers.

    Example:
        >>> files.pop(conn).delete()
    """

    __match_args__: Final = ("reason",)
    @property
    def reason(self) -> Literal["forbidden", "too big", "reset", "disconnected"]:
        """One of "forbidden" (a bare CR or LF, or what else the configuration rejects), "too big", "reset" (RSET or
        EHLO between two chunks) and "disconnected".
        """

@final
class Message:
    """Decision, with "message" in `decisions`: a whole message is here. A positive answer takes responsibility for it
    (RFC 5321 4.2.5).

    Example:
        >>> match event:
        ...     case ehlo.Message(envelope, content): store(envelope, content); conn.accept()
    """

    __match_args__: Final = ("envelope", "content")
    @property
    def envelope(self) -> Envelope:
        """Sender and accepted recipients."""
    @property
    def content(self) -> bytes:
        """The whole content, without dot-stuffing; empty with `content="stream"` or "discard"."""
    @property
    def size(self) -> int:
        """Octets of content that came, as RFC 1870 5 counts them."""
    @property
    def flags(self) -> frozenset[str]:
        """What was found in it; of "bare-cr", "bare-lf", "nul", "8bit", "long-line" (over 1000 octets, RFC 5321
        4.5.3.1.6) and "no-final-crlf" (BDAT only).
        """

@final
class Vrfy:
    """Decision, with "vrfy" in `decisions`: VRFY came (RFC 5321 3.5). Without it the answer is 252.

    Example:
        >>> conn.reply(250, "2.1.5", "<jane@example.org>")
    """

    __match_args__: Final = ("argument",)
    @property
    def argument(self) -> str:
        """The user or mailbox that the client asks about, as it was written."""

@final
class Expn:
    """Decision, with "expn" in `decisions`: EXPN came (RFC 5321 3.5). Without it the command is not offered.

    Example:
        >>> conn.reply(250, "2.1.5", ["<jane@example.org>", "<joe@example.org>"])
    """

    __match_args__: Final = ("argument",)
    @property
    def argument(self) -> str:
        """The name of the list, as it was written."""

@final
class Etrn:
    """Decision, with "etrn" in `decisions`: ETRN came (RFC 1985). Without it the command is not offered.

    Example:
        >>> conn.reply(250, None, f"Queuing for node {event.argument} started")
    """

    __match_args__: Final = ("argument",)
    @property
    def argument(self) -> str:
        """The name of the node, with its option character."""

@final
class Refused:
    """A reply 4yz or 5yz went out, whoever decided it (RFC 5321 4.2.1). No decision; with "refused" in `decisions`.

    Example:
        >>> match event:
        ...     case ehlo.Refused("RCPT", argument, _, reply): print(argument, reply)
    """

    __match_args__: Final = ("command", "argument", "envelope", "reply")
    @property
    def command(self) -> str | None:
        """The command that it answers: "MAIL", "RCPT" and so on. None for a line that is no command, and where it
        stands in place of the greeting.
        """
    @property
    def argument(self) -> str:
        """The argument of the command as it came, where it cannot hold a secret; at most 1024 octets. After AUTH, the
        mechanism alone.
        """
    @property
    def envelope(self) -> Envelope | None:
        """The transaction so far, if one was open. In LMTP, after content, with the recipient that was refused."""
    @property
    def reply(self) -> Reply:
        """The reply."""

@final
class Reset:
    """A transaction was dropped by RSET or a new EHLO (RFC 5321 4.1.1.5). No decision; with "reset" in `decisions`."""

@final
class Disconnect:
    """The session is over. The last event; no decision.

    Example:
        >>> event.reason
        'quit'
    """

    __match_args__: Final = ("reason",)
    @property
    def reason(
        self,
    ) -> Literal["quit", "eof", "timeout", "program", "protocol", "limit", "shutdown", "injection", "tls"]:
        """One of "quit", "eof" (the client closed), "timeout", "program" (it said 421 or 221), "protocol" (the peer
        cannot be followed any more), "limit", "shutdown", "injection" (octets in the clear behind STARTTLS) and "tls"
        (the handshake failed).
        """

_ServerEvent: TypeAlias = (
    Auth
    | AuthResponse
    | AuthCancelled
    | BadProxy
    | CommandReceived
    | Refusal
    | StartTls
    | Proxy
    | Xclient
    | Connect
    | Hello
    | Mail
    | Rcpt
    | Data
    | ContentStart
    | Chunk
    | ContentAborted
    | Message
    | Vrfy
    | Expn
    | Etrn
    | Refused
    | Reset
    | Disconnect
)

@final
class ProxyHeader:
    """A header of the PROXY protocol: what a proxy knows of the connection it carries. A client that is a proxy writes
    one, a server reads it with `proxy=True`.

    Args:
        source, destination: address and port of the client and of what it reached; the paths as bytes for a Unix
            socket; None for both when they are not known, or the connection is the proxy's own.
        unknown: there is a client, and the proxy cannot name it (UNKNOWN in version 1, UNSPEC in version 2). Without it
            a header without addresses says that the connection is the proxy's own (LOCAL).
        tlvs: type and value of each, for version 2; a CRC32C (type 3) gets the right value when it is written.

    Raises:
        ValueError: if an address is no IP address, the two are of different families, or an unknown client has one.

    Example:
        >>> ehlo.ProxyHeader(("192.0.2.1", 56324), ("198.51.100.1", 25)).to_bytes(version=1)
        b'PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\\r\\n'
    """

    def __new__(
        cls,
        source: tuple[str, int] | bytes | None = None,
        destination: tuple[str, int] | bytes | None = None,
        *,
        unknown: bool = False,
        tlvs: Iterable[tuple[int, Buffer]] = (),
    ) -> ProxyHeader: ...
    @property
    def source(self) -> tuple[str, int] | bytes | None:
        """The client: address and port, the path of a Unix socket as bytes, or None."""
    @property
    def unknown(self) -> bool:
        """Whether there is a client that the proxy cannot name. It must not be taken for the proxy."""
    @property
    def destination(self) -> tuple[str, int] | bytes | None:
        """What the client reached, as `source`."""
    @property
    def tlvs(self) -> tuple[tuple[int, bytes], ...]:
        """Type and value of each TLV of version 2, known or not, in order."""
    @property
    def alpn(self) -> bytes | None:
        """ALPN (2.2.1): the protocol that was negotiated."""
    @property
    def authority(self) -> str | None:
        """AUTHORITY (2.2.2): the host name in the client's SNI."""
    @property
    def unique_id(self) -> bytes | None:
        """UNIQUE_ID (2.2.5): what the proxy calls the connection."""
    @property
    def netns(self) -> str | None:
        """NETNS (2.2.7): the network namespace."""
    @property
    def is_tls(self) -> bool | None:
        """SSL (2.2.6): whether the client came to the proxy over TLS; None if that is not said."""
    @property
    def tls_version(self) -> str | None:
        """SSL (2.2.6): the version of TLS."""
    @property
    def tls_cipher(self) -> str | None:
        """SSL (2.2.6): the name of the cipher."""
    @property
    def tls_common_name(self) -> str | None:
        """SSL (2.2.6): the common name in the client's certificate, if it showed one and the proxy verified it."""
    def to_bytes(self, version: int = 2) -> bytes:
        """The header as it goes over the wire.

        Args:
            version: 1, a line of text without TLVs, or 2.

        Raises:
            LocalProtocolError: if it is too long for version 2.
            ValueError: for another version.
        """
    def __eq__(self, other: object, /) -> bool: ...

def parse_proxy(octets: Buffer) -> tuple[ProxyHeader, int] | None:
    """Look for a PROXY header at the front of `octets`.

    Args:
        octets: what came so far; any contiguous buffer.

    Returns:
        The header and how many octets it took; None when more is needed to tell.

    Raises:
        RemoteProtocolError: if it is no header and cannot become one: close the connection (PROXY protocol 2).

    Example:
        >>> header, length = ehlo.parse_proxy(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\\r\\n")
        >>> header.source
        ('192.0.2.1', 56324)
    """

@final
class ClientAttributes:
    """What XCLIENT or XFORWARD say of a client (Postfix XCLIENT_README, XFORWARD_README). What was not said, and what
    is not available, is None.

    Example:
        >>> event.attributes.addr, event.attributes.name
        ('2001:db8::1', None)
    """

    @property
    def name(self) -> str | None:
        """NAME: the client's host name."""
    @property
    def addr(self) -> str | None:
        """ADDR: the client's IP address."""
    @property
    def port(self) -> int | None:
        """PORT: the client's port."""
    @property
    def proto(self) -> str | None:
        """PROTO: "SMTP" or "ESMTP"; in XFORWARD any word."""
    @property
    def helo(self) -> str | None:
        """HELO: the client's name for itself."""
    @property
    def login(self) -> str | None:
        """LOGIN: the user that has authenticated; XCLIENT only."""
    @property
    def dest_addr(self) -> str | None:
        """DESTADDR: the IP address that the client reached; XCLIENT only."""
    @property
    def dest_port(self) -> int | None:
        """DESTPORT: the port that the client reached; XCLIENT only."""
    @property
    def ident(self) -> str | None:
        """IDENT: what the sender of XFORWARD calls the message."""
    @property
    def source(self) -> str | None:
        """SOURCE: "LOCAL" or "REMOTE"; XFORWARD only."""
    @property
    def unavailable(self) -> frozenset[str]:
        """Names of which "[UNAVAILABLE]" was said."""
    @property
    def temporarily_unavailable(self) -> frozenset[str]:
        """Names of which "[TEMPUNAVAIL]" was said: a look-up failed for the moment."""

_Decision: TypeAlias = Literal[
    "connect",
    "hello",
    "mail",
    "rcpt",
    "data",
    "message",
    "vrfy",
    "expn",
    "etrn",
    "reset",
    "command",
    "refusal",
    "refused",
]

_BareNewlines: TypeAlias = Literal["reject", "normalize", "allow"]

@final
class ServerConfig:
    """The settings of a server. Most servers need few: `hostname`, `tls` and `auth`, and `submission=True` for
    users or `lmtp=True` for LMTP. `max_message_size`, `max_recipients` and the other `max_…` are limits.
    `serve` sets `decisions` and `content` by the methods of the handler.

    A config is checked once and then frozen. One object serves all connections.

    Args:
        hostname: Our own name: a domain or an address literal (RFC 5321 4.3.1).
        lmtp: Speak LMTP instead of SMTP (RFC 2033).
        decisions: The decisions of the program: any of "connect", "hello", "mail",
            "rcpt", "data", "message", "vrfy", "expn", "etrn", "command" and "refusal". The engine
            takes all others itself, without an event. "command" is for commands that the engine
            does not know, and for NOOP, HELP, RSET and QUIT. "refusal" is for the text of a
            refusal. Two more are notices, and no decisions: "reset" when a transaction was
            dropped, "refused" when a reply 4yz or 5yz went out.
        content: How the program gets content: "collect" as a whole with the message, "stream" in
            pieces as it comes, "discard" not at all: it is counted and dropped.
        greeting: The text behind our name in the greeting. If it is empty, the greeting says
            ESMTP or LMTP.
        texts: Texts of the engine's replies, by name: {"bye": "So long", "too_many_errors": "Enough"}.
            The codes stay. A text is printable ASCII, and its line has 512 octets at most. An
            unknown name is an error that lists all names.
        pipelining: Announce PIPELINING (RFC 2920). Commands that come together are read in any case.
        enhanced_status_codes: Announce ENHANCEDSTATUSCODES, and write the codes (RFC 2034). LMTP needs this and
            PIPELINING (RFC 2033 5).
        ehlo_keywords: More lines for the reply to EHLO, like "XFOO bar": a keyword and its parameters. They
            are for commands and parameters that the program handles.
        max_message_size: Most octets of a message (SIZE, RFC 1870). None: no limit.
        chunking: Offer CHUNKING (RFC 3030).
        binarymime: Offer BINARYMIME (RFC 3030). It needs CHUNKING.
        smtputf8: Offer SMTPUTF8 (RFC 6531).
        dsn: Offer DSN (RFC 3461). The program must then send the notifications that clients ask for.
            None: `serve` offers it if the handler's `reports_delivery` is true. Without `serve`
            None is False.
        limits_keyword: Announce LIMITS (RFC 9422).
        deliver_by: Offer DELIVERBY (RFC 2852). A number is the least number of seconds that is accepted;
            True: no minimum.
        future_release: Offer FUTURERELEASE (RFC 4865), for submission only: the most seconds
            and the latest RFC 3339 time of a hold.
        mt_priority: Offer MT-PRIORITY (RFC 6710). A text is the name of the profile; True:
            no profile.
        rrvs: Offer RRVS (RFC 7293).
        help: Offer HELP (RFC 5321 4.1.1.8).
        tls: The way to TLS: "off", "starttls" (RFC 3207), or "implicit" before the greeting
            (RFC 8314 3.3).
        require_tls: Before TLS, answer nothing but NOOP, EHLO, STARTTLS and QUIT (RFC 3207 4).
            Not for a public port 25.
        injected_input: Octets that come in the clear behind STARTTLS: "refuse" answers 554 and
            closes, "drop" forgets them (RFC 3207 4.2).
        requiretls: Offer REQUIRETLS inside TLS (RFC 8689).
        auth: The SASL mechanisms that AUTH offers inside TLS, in this order (RFC 4954). An empty
            list: no AUTH.
        auth_in_clear: The mechanisms that AUTH also offers without TLS (RFC 4954 4).
        require_auth: Take no mail before AUTH: the answer is 530 (RFC 4954 6).
        proxy: Expect a PROXY header first. Use it only if every client is a trusted proxy.
        xclient: The attributes of XCLIENT that clients may send once `trusted` is set, like
            ("NAME", "ADDR"). An empty list: no XCLIENT.
        xforward: The attributes of XFORWARD that clients may send once `trusted` is set.
            An empty list: no XFORWARD.
        submission: Message submission (RFC 6409): AUTH is required, and domains must be fully
            qualified.
        single_labels: Domains of one label that submission accepts (RFC 6409 4.2).
        bare_newlines: A bare CR or LF in DATA: "reject" answers 550, "normalize" makes it CRLF,
            "allow" flags it (RFC 5321 2.3.8).
        bdat_bare_newlines: The same in BDAT. Content with BODY=BINARYMIME is not judged.
        bare_lf_commands: A bare LF ends a command line, too.
        unknown_parameters: Unknown ESMTP parameters: "reject" answers 555, "ignore"
            drops them, "pass" gives them to the program (RFC 5321 4.1.1.11).
        reject_nul: Refuse content with a NUL octet: 550 5.6.0.
        reject_8bit: Refuse 8-bit content that was not declared: 554 5.6.1 (RFC 6152).
        reject_long_lines: Refuse content with a line of more than 1000 octets: 554 5.6.0 (RFC
            5321 4.5.3.1.6).
        lenient: Departures from the grammar that are forgiven: any of "hello_underscore", "hello_any",
            "hello_trailing_text", "space_after_colon", "bare_paths", "extra_space",
            "dots_in_local_part", "domain_underscore", "general_literals", "lowercase_xtext" and
            "no_domain". In submission "hello_any" is always among them.
        max_local_part: Most octets of a local part, 64 at least (RFC 5321 4.5.3.1.1).
        max_command_line: Most octets of a command line with its CRLF, 512 at least (RFC 5321
            4.5.3.1.4).
        max_recipients: Most recipients of one transaction (RFC 5321 4.5.3.1.8 asks for 100 at
            least).
        max_messages: Most transactions in one session (RFC 9422 MAILMAX). None: no limit.
        max_errors: Most wrong commands since the last accepted message. None: no limit.
        max_junk: Most commands without progress since the last accepted message: NOOP, RSET,
            VRFY, EXPN, ETRN, HELP, a repeated EHLO, an empty chunk. Each one beyond it counts as an
            error. None: no limit.
        max_refused_recipients: Most recipients in one session that the program refused. None:
            no limit.
        max_refusals: Most refusals since the last accepted message: a recipient too many, a SIZE too large, a
            MAIL, RCPT or DATA that the program refused. Each one beyond it counts as an error. None:
            no limit.
        max_commands: Most commands in one session. None: no limit.
        max_auth_failures: Most AUTH commands in one session that the program answered with 5yz
            (RFC 4954 4). None: no limit.
        max_auth_response: Most octets of a response inside AUTH, without its CRLF (RFC 4954 4).
        command_timeout: Seconds to wait for a command (RFC 5321 4.5.3.2.7 asks for five minutes
            at least).
        content_timeout: Seconds to wait for more content (RFC 5321 4.5.3.2.5).
        handshake_timeout: Seconds for a TLS handshake as a whole.
        proxy_timeout: Seconds for a PROXY header as a whole.

    Raises:
        ValueError: a word that is not known, or settings that make no server.
        TypeError: a setting that does not exist, or a value of another type.

    Example:
        >>> config = ehlo.ServerConfig("mx.example.org", decisions=("rcpt", "message"))
        >>> conn = ehlo.ServerConnection(config)
    """

    def __new__(
        cls,
        hostname: str = "localhost",
        *,
        lmtp: bool = False,
        decisions: Iterable[_Decision] = ["message"],
        content: Literal["collect", "stream", "discard"] = "collect",
        greeting: str = "",
        texts: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        pipelining: bool = True,
        enhanced_status_codes: bool = True,
        ehlo_keywords: Iterable[str] = (),
        max_message_size: int | None = 33554432,
        chunking: bool = True,
        binarymime: bool = True,
        smtputf8: bool = True,
        dsn: bool | None = None,
        limits_keyword: bool = True,
        deliver_by: int | bool | None = None,
        future_release: tuple[int, str] | None = None,
        mt_priority: str | bool | None = None,
        rrvs: bool = False,
        help: bool = True,
        tls: Literal["off", "starttls", "implicit"] = "off",
        require_tls: bool = False,
        injected_input: Literal["refuse", "drop"] = "refuse",
        requiretls: bool = False,
        auth: Iterable[str] = (),
        auth_in_clear: Iterable[str] = (),
        require_auth: bool = False,
        proxy: bool = False,
        xclient: Iterable[str] = (),
        xforward: Iterable[str] = (),
        submission: bool = False,
        single_labels: Iterable[str] = (),
        bare_newlines: _BareNewlines = "reject",
        bdat_bare_newlines: _BareNewlines = "allow",
        bare_lf_commands: bool = False,
        unknown_parameters: Literal["reject", "ignore", "pass"] = "reject",
        reject_nul: bool = False,
        reject_8bit: bool = False,
        reject_long_lines: bool = False,
        lenient: Iterable[str] = ["hello_underscore"],
        max_local_part: int = 64,
        max_command_line: int = 2048,
        max_recipients: int = 1000,
        max_messages: int | None = 1000,
        max_errors: int | None = 20,
        max_junk: int | None = 100,
        max_refused_recipients: int | None = None,
        max_refusals: int | None = 1000,
        max_commands: int | None = None,
        max_auth_failures: int | None = 3,
        max_auth_response: int = 12288,
        command_timeout: float = 300.0,
        content_timeout: float = 300.0,
        handshake_timeout: float = 60.0,
        proxy_timeout: float = 5.0,
    ) -> ServerConfig: ...
    def replace(self, **changes: object) -> ServerConfig:
        """Make the same config with some settings changed. It is checked anew.

        Raises:
            ValueError: a word that is not known, or settings that do not go together.
            TypeError: a setting that does not exist, or a value of another type.

        Example:
            >>> patient = config.replace(content_timeout=600)
            >>> patient.content_timeout
            600.0
        """
    @property
    def keywords(self) -> tuple[str, ...]:
        """The EHLO keyword lines in the order in which they are sent in the clear, without code and CRLF (RFC 5321
        4.1.1.1). Keywords for `trusted` clients are left out.
        """
    @property
    def tls_keywords(self) -> tuple[str, ...]:
        """The EHLO keyword lines inside TLS (RFC 3207 4.2, 4954 3). Mechanisms that need channel binding or a client
        certificate are left out.
        """
    @property
    def hostname(self) -> str:
        """Our own name: a domain or an address literal (RFC 5321 4.3.1)."""
    @property
    def lmtp(self) -> bool:
        """Speak LMTP instead of SMTP (RFC 2033)."""
    @property
    def decisions(self) -> frozenset[_Decision]:
        """The decisions of the program: any of "connect", "hello", "mail",
        "rcpt", "data", "message", "vrfy", "expn", "etrn", "command" and "refusal". The engine
        takes all others itself, without an event. "command" is for commands that the engine
        does not know, and for NOOP, HELP, RSET and QUIT. "refusal" is for the text of a
        refusal. Two more are notices, and no decisions: "reset" when a transaction was
        dropped, "refused" when a reply 4yz or 5yz went out.
        """
    @property
    def content(self) -> Literal["collect", "stream", "discard"]:
        """How the program gets content: "collect" as a whole with the message, "stream" in
        pieces as it comes, "discard" not at all: it is counted and dropped.
        """
    @property
    def greeting(self) -> str:
        """The text behind our name in the greeting. If it is empty, the greeting says
        ESMTP or LMTP.
        """
    @property
    def texts(self) -> dict[str, str]:
        """Texts of the engine's replies, by name: {"bye": "So long", "too_many_errors": "Enough"}.
        The codes stay. A text is printable ASCII, and its line has 512 octets at most. An
        unknown name is an error that lists all names.
        """
    @property
    def pipelining(self) -> bool:
        """Announce PIPELINING (RFC 2920). Commands that come together are read in any case."""
    @property
    def enhanced_status_codes(self) -> bool:
        """Announce ENHANCEDSTATUSCODES, and write the codes (RFC 2034). LMTP needs this and
        PIPELINING (RFC 2033 5).
        """
    @property
    def ehlo_keywords(self) -> tuple[str, ...]:
        """More lines for the reply to EHLO, like "XFOO bar": a keyword and its parameters. They
        are for commands and parameters that the program handles.
        """
    @property
    def max_message_size(self) -> int | None:
        """Most octets of a message (SIZE, RFC 1870). None: no limit."""
    @property
    def chunking(self) -> bool:
        """Offer CHUNKING (RFC 3030)."""
    @property
    def binarymime(self) -> bool:
        """Offer BINARYMIME (RFC 3030). It needs CHUNKING."""
    @property
    def smtputf8(self) -> bool:
        """Offer SMTPUTF8 (RFC 6531)."""
    @property
    def dsn(self) -> bool | None:
        """Offer DSN (RFC 3461). The program must then send the notifications that clients ask for.
        None: `serve` offers it if the handler's `reports_delivery` is true. Without `serve`
        None is False.
        """
    @property
    def limits_keyword(self) -> bool:
        """Announce LIMITS (RFC 9422)."""
    @property
    def deliver_by(self) -> int | bool | None:
        """Offer DELIVERBY (RFC 2852). A number is the least number of seconds that is accepted;
        True: no minimum.
        """
    @property
    def future_release(self) -> tuple[int, str] | None:
        """Offer FUTURERELEASE (RFC 4865), for submission only: the most seconds
        and the latest RFC 3339 time of a hold.
        """
    @property
    def mt_priority(self) -> str | bool | None:
        """Offer MT-PRIORITY (RFC 6710). A text is the name of the profile; True:
        no profile.
        """
    @property
    def rrvs(self) -> bool:
        """Offer RRVS (RFC 7293)."""
    @property
    def help(self) -> bool:
        """Offer HELP (RFC 5321 4.1.1.8)."""
    @property
    def tls(self) -> Literal["off", "starttls", "implicit"]:
        """The way to TLS: "off", "starttls" (RFC 3207), or "implicit" before the greeting
        (RFC 8314 3.3).
        """
    @property
    def require_tls(self) -> bool:
        """Before TLS, answer nothing but NOOP, EHLO, STARTTLS and QUIT (RFC 3207 4).
        Not for a public port 25.
        """
    @property
    def injected_input(self) -> Literal["refuse", "drop"]:
        """Octets that come in the clear behind STARTTLS: "refuse" answers 554 and
        closes, "drop" forgets them (RFC 3207 4.2).
        """
    @property
    def requiretls(self) -> bool:
        """Offer REQUIRETLS inside TLS (RFC 8689)."""
    @property
    def auth(self) -> tuple[str, ...]:
        """The SASL mechanisms that AUTH offers inside TLS, in this order (RFC 4954). An empty
        list: no AUTH.
        """
    @property
    def auth_in_clear(self) -> tuple[str, ...]:
        """The mechanisms that AUTH also offers without TLS (RFC 4954 4)."""
    @property
    def require_auth(self) -> bool:
        """Take no mail before AUTH: the answer is 530 (RFC 4954 6)."""
    @property
    def proxy(self) -> bool:
        """Expect a PROXY header first. Use it only if every client is a trusted proxy."""
    @property
    def xclient(self) -> tuple[str, ...]:
        """The attributes of XCLIENT that clients may send once `trusted` is set, like
        ("NAME", "ADDR"). An empty list: no XCLIENT.
        """
    @property
    def xforward(self) -> tuple[str, ...]:
        """The attributes of XFORWARD that clients may send once `trusted` is set.
        An empty list: no XFORWARD.
        """
    @property
    def submission(self) -> bool:
        """Message submission (RFC 6409): AUTH is required, and domains must be fully
        qualified.
        """
    @property
    def single_labels(self) -> tuple[str, ...]:
        """Domains of one label that submission accepts (RFC 6409 4.2)."""
    @property
    def bare_newlines(self) -> _BareNewlines:
        """A bare CR or LF in DATA: "reject" answers 550, "normalize" makes it CRLF,
        "allow" flags it (RFC 5321 2.3.8).
        """
    @property
    def bdat_bare_newlines(self) -> _BareNewlines:
        """The same in BDAT. Content with BODY=BINARYMIME is not judged."""
    @property
    def bare_lf_commands(self) -> bool:
        """A bare LF ends a command line, too."""
    @property
    def unknown_parameters(self) -> Literal["reject", "ignore", "pass"]:
        """Unknown ESMTP parameters: "reject" answers 555, "ignore"
        drops them, "pass" gives them to the program (RFC 5321 4.1.1.11).
        """
    @property
    def reject_nul(self) -> bool:
        """Refuse content with a NUL octet: 550 5.6.0."""
    @property
    def reject_8bit(self) -> bool:
        """Refuse 8-bit content that was not declared: 554 5.6.1 (RFC 6152)."""
    @property
    def reject_long_lines(self) -> bool:
        """Refuse content with a line of more than 1000 octets: 554 5.6.0 (RFC
        5321 4.5.3.1.6).
        """
    @property
    def lenient(self) -> frozenset[str]:
        """Departures from the grammar that are forgiven: any of "hello_underscore", "hello_any",
        "hello_trailing_text", "space_after_colon", "bare_paths", "extra_space",
        "dots_in_local_part", "domain_underscore", "general_literals", "lowercase_xtext" and
        "no_domain". In submission "hello_any" is always among them.
        """
    @property
    def max_local_part(self) -> int:
        """Most octets of a local part, 64 at least (RFC 5321 4.5.3.1.1)."""
    @property
    def max_command_line(self) -> int:
        """Most octets of a command line with its CRLF, 512 at least (RFC 5321
        4.5.3.1.4).
        """
    @property
    def max_recipients(self) -> int:
        """Most recipients of one transaction (RFC 5321 4.5.3.1.8 asks for 100 at
        least).
        """
    @property
    def max_messages(self) -> int | None:
        """Most transactions in one session (RFC 9422 MAILMAX). None: no limit."""
    @property
    def max_errors(self) -> int | None:
        """Most wrong commands since the last accepted message. None: no limit."""
    @property
    def max_junk(self) -> int | None:
        """Most commands without progress since the last accepted message: NOOP, RSET,
        VRFY, EXPN, ETRN, HELP, a repeated EHLO, an empty chunk. Each one beyond it counts as an
        error. None: no limit.
        """
    @property
    def max_refused_recipients(self) -> int | None:
        """Most recipients in one session that the program refused. None:
        no limit.
        """
    @property
    def max_refusals(self) -> int | None:
        """Most refusals since the last accepted message: a recipient too many, a SIZE too large, a
        MAIL, RCPT or DATA that the program refused. Each one beyond it counts as an error. None:
        no limit.
        """
    @property
    def max_commands(self) -> int | None:
        """Most commands in one session. None: no limit."""
    @property
    def max_auth_failures(self) -> int | None:
        """Most AUTH commands in one session that the program answered with 5yz
        (RFC 4954 4). None: no limit.
        """
    @property
    def max_auth_response(self) -> int:
        """Most octets of a response inside AUTH, without its CRLF (RFC 4954 4)."""
    @property
    def command_timeout(self) -> float:
        """Seconds to wait for a command (RFC 5321 4.5.3.2.7 asks for five minutes
        at least).
        """
    @property
    def content_timeout(self) -> float:
        """Seconds to wait for more content (RFC 5321 4.5.3.2.5)."""
    @property
    def handshake_timeout(self) -> float:
        """Seconds for a TLS handshake as a whole."""
    @property
    def proxy_timeout(self) -> float:
        """Seconds for a PROXY header as a whole."""

@final
class ServerConnection:
    """The server's side of one SMTP or LMTP session, without I/O (RFC 5321, 2033).

    - Input: `receive_data` or `receive_from`, `receive_eof`, `receive_timeout`. They never raise for what a peer sent.
    - Events: iterate, or `next_event`. It ends when input is used up or a decision is open.
    - Answers to the one open decision: `accept`, `reply`, `send_reply`, `reply_recipients`; to AUTH `challenge`,
      `accept_identity`.
    - Output: `data_to_send`.
    - TLS: when `handshaking`, send the output, do the handshake, then `tls_established` or `tls_failed`.

    At each wake-up in this order: input, events with their answers, output. When `closed`, send what is left and
    close the transport. Two threads that use one connection at once get a RuntimeError.

    Example:
        >>> conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example"))
        >>> conn.receive_data(b"NOOP\\r\\n"); list(conn); conn.data_to_send()
    """

    def __new__(cls, config: ServerConfig) -> ServerConnection: ...
    def receive_data(self, data: Buffer) -> None:
        """Octets came: `bytes`, `bytearray`, `memoryview` or any other contiguous buffer."""
    def receive_from(self, buffer: ReceiveBuffer, count: int) -> None:
        """The first `count` octets of `buffer` came. The buffer may be used again when this returns.

        Raises:
            ValueError: if the buffer has fewer.
        """
    def receive_eof(self) -> None:
        """The client closed its side."""
    def receive_timeout(self) -> None:
        """`timeout` seconds went by without input: says 421 and ends (RFC 5321 4.5.3.2)."""
    def next_event(self) -> _ServerEvent | None:
        """The next event; None when input is used up or a decision is open."""
    def __iter__(self) -> ServerConnection: ...
    def __next__(self) -> _ServerEvent: ...
    def accept(self) -> None:
        """Answer the open decision with yes, in the engine's words. In LMTP, for all recipients that still wait.

        Raises:
            LocalProtocolError: if no decision is open, or it is AUTH, which needs an identity.
        """
    def reply(self, code: int, enhanced: str | None = None, text: str | Sequence[str] = "") -> None:
        """Answer the open decision with this reply; its class decides. In LMTP, for all recipients that still wait. A
        421 or 221 ends the session.

        Args:
            code, enhanced, text: as for `Reply`.

        Raises:
            LocalProtocolError: if no decision is open, or the reply does not answer it.
        """
    def send_reply(self, reply: Reply) -> None:
        """`reply` with a `Reply` made before.

        Raises:
            LocalProtocolError: as `reply` does.
        """
    def reply_recipients(self, replies: Sequence[Reply]) -> None:
        """LMTP: the next recipients' replies, in the order of their RCPT (RFC 2033 4.2). To be called until each has
        one.

        Raises:
            LocalProtocolError: without LMTP, without an open "message" decision, or for too many replies.
        """
    def refuse_content(self, reply: Reply) -> None:
        """Refuse content that is still coming. It is read to its true end and thrown away, then this is answered.

        Raises:
            LocalProtocolError: if no content is coming, or the reply is not 4yz or 5yz.
        """
    def shutdown(self, reply: Reply | None = None) -> None:
        """Say 421 and end: at once when no transaction is open, else when it ends (RFC 5321 3.8).

        Args:
            reply: another 421 than the engine's own.

        Raises:
            LocalProtocolError: if the reply is no 421.
        """
    def challenge(self, octets: Buffer) -> None:
        """Answer AUTH with a challenge, which goes out in base64 (RFC 4954 4).

        Args:
            octets: the challenge. An empty one asks for the first response where the client speaks first.

        Raises:
            LocalProtocolError: if no AUTH is open.

        Example:
            >>> conn.challenge(b"Username:"); conn.data_to_send()
            b'334 VXNlcm5hbWU6\\r\\n'
        """
    def accept_identity(self, identity: str, reply: Reply | None = None) -> None:
        """Answer AUTH with yes: 235 (RFC 4954 4). `identity` is whom the client is from now on.

        Args:
            identity: the name.
            reply: another 235 than the engine's own.

        Raises:
            LocalProtocolError: if no AUTH is open, or the reply is no 235.

        Example:
            >>> conn.accept_identity("jane"); conn.identity
            'jane'
        """
    def answer_raw(self, octets: Buffer, *, accepted: bool) -> None:
        """The program has answered the open decision in its own octets, which go out as they are. For a program that
        stands in for another server, reply for reply: no code is checked, and no enhanced code is added.

        Args:
            octets: whole reply lines with their CRLF, or b"" where the program has sent them already.
            accepted: whether it is a yes. AUTH is accepted by `accept_identity` only.

        Raises:
            LocalProtocolError: if no decision is open, or the octets do not end a line.

        Example:
            >>> conn.answer_raw(b"250 fine\\r\\n", accepted=True)
        """
    def tls_established(
        self,
        *,
        too_weak: bool = False,
        channel_binding: bool = False,
        client_certificate: bool = False,
    ) -> None:
        """The handshake is done: the session starts anew (RFC 3207 4.2), or begins with its greeting (RFC 8314 3.3).

        Args:
            too_weak: policy wants better TLS: everything but QUIT is answered 554 (RFC 3207 4.1).
            channel_binding: it can be had, so that mechanisms in -PLUS are offered (RFC 5929).
            client_certificate: the client has one that was verified, so that EXTERNAL is offered (RFC 4422 A).

        Raises:
            LocalProtocolError: if no handshake is awaited, or output from before it was not sent.

        Example:
            >>> await transport.start_tls(); conn.tls_established()
            >>> conn.handshaking, conn.tls
            (False, True)
        """
    def tls_failed(self) -> None:
        """The handshake failed: the session is over, and nothing more is said.

        Raises:
            LocalProtocolError: if no handshake is awaited.
        """
    def take_tls_input(self) -> bytes:
        """Octets that came behind a PROXY header and belong to the handshake (PROXY protocol 2); b"" if none did, or no
        handshake is awaited. They are handed over once.
        """
    @property
    def handshaking(self) -> bool:
        """Whether the session waits for the TLS handshake: send the output, then begin it."""
    @property
    def tls(self) -> bool:
        """Whether TLS is active."""
    @property
    def identity(self) -> str | None:
        """Whom the client has authenticated as (RFC 4954), or as whom XCLIENT's LOGIN has; None if nobody."""
    @property
    def auth_failures(self) -> int:
        """AUTH commands that the program answered with 5yz."""
    @property
    def refusals(self) -> dict[Literal["connect", "auth", "mail", "rcpt", "content", "other"], int]:
        """Replies 4yz and 5yz so far, by the command that they answer: "connect" (in place of the greeting), "auth",
        "mail", "rcpt", "content" (DATA, BDAT and what came with them) and "other".
        """
    @property
    def refused(self) -> int:
        """Replies 4yz and 5yz so far: the sum of `refusals`, at a lower price."""
    @property
    def trusted(self) -> bool:
        """Whether the client may use XCLIENT and XFORWARD; False at first. To be set by the client's address, and
        again when XCLIENT gave another one.
        """
    @trusted.setter
    def trusted(self, trusted: bool, /) -> None: ...
    @property
    def proxy(self) -> ProxyHeader | None:
        """What the PROXY header said; None without one."""
    @property
    def proxy_octets(self) -> bytes:
        """The PROXY header as it came, or what came in its place; b"" at first."""
    @property
    def xclient(self) -> ClientAttributes | None:
        """What XCLIENT said; None without it."""
    @property
    def xforward(self) -> ClientAttributes | None:
        """What XFORWARD said of the present transaction, or of the next; None without it."""
    @property
    def client_address(self) -> tuple[str, int | None] | None:
        """Address and port of the client by XCLIENT, or else by the PROXY header; None if only the transport knows."""
    def data_to_send(self) -> bytes:
        """Octets to send now, b"" if there are none. They are handed over once."""
    @property
    def config(self) -> ServerConfig:
        """What it was made with."""
    @property
    def held(self) -> bool:
        """Whether an `Exchange` leaves this connection to the program; False at first. To be set while the program is
        not done with an event, since the next event would come before its turn.
        """
    @held.setter
    def held(self, held: bool, /) -> None: ...
    @property
    def octets_exchanged(self) -> int:
        """Octets that an `Exchange` has read for it before the session was over."""
    @property
    def exchanged_at(self) -> float:
        """When an `Exchange` read for it last, in seconds of the program's clock; 0.0 if none did."""
    @property
    def timeout(self) -> float | None:
        """Seconds to wait for the peer now; None while the program decides and at the end (RFC 5321 4.5.3.2)."""
    @property
    def decision_open(self) -> bool:
        """Whether the session waits for an answer of the program."""
    @property
    def closed(self) -> bool:
        """Whether nothing more is to come: send what is left, then close."""
    @property
    def in_transaction(self) -> bool:
        """Whether MAIL was accepted and its transaction has not ended (RFC 5321 3.3)."""
    @property
    def in_content(self) -> bool:
        """Whether content is being read: behind the 354 of DATA, or inside a chunk of BDAT."""
    @property
    def content_octets(self) -> int:
        """Octets of the present message's content that have come."""
    @property
    def buffered(self) -> int:
        """Octets received and not yet judged."""
    @property
    def hello(self) -> tuple[str, str] | None:
        """Verb and name of the last accepted EHLO, HELO or LHLO."""
    @property
    def protocol(self) -> str:
        """The `with` keyword of a Received field (RFC 3848 1, RFC 6531 4.3): SMTP, ESMTP, LMTP, UTF8SMTP, UTF8LMTP,
        each but the first with S for TLS and A for AUTH behind it.
        """
    @property
    def messages(self) -> int:
        """Messages accepted in this session; in LMTP, deliveries accepted."""
    @property
    def errors(self) -> int:
        """Commands answered as wrong."""
    @property
    def commands(self) -> int:
        """Commands received."""

_Watched = TypeVar("_Watched", bound=tuple[object, ...])

@final
class Exchange:
    """The usual wake-up of many connections in one call. For each socket that can be read from: one `recv`, the engine,
    and, if it has no event for the program, one `send` of its output. One of these serves an event loop, servers and
    clients alike.

    It is for connections in clear text. Output of a connection from before goes out before it. It calls no
    Python code. It releases the GIL while it sends.

    Args:
        size: octets that are read from a socket in a turn at most, 65536 if not given.

    Raises:
        ValueError: for a size of zero.

    Example:
        >>> watched = {sock.fileno(): (on_turn, conn)}
        >>> for (on_turn, conn), left in exchange.turn(epoll.poll(0), watched, monotonic()): on_turn(conn, left)
    """

    def __new__(cls, size: int = 65536) -> Exchange: ...
    def turn(
        self,
        ready: list[tuple[int, int]],
        watched: dict[int, _Watched],
        now: float,
    ) -> list[tuple[_Watched, bytes | BaseException | int | None]]:
        """Read from sockets, and send what the engines say. What is left for the program comes back; most often that is
        nothing.

        Args:
            ready: pairs of a descriptor and its events, as `select.epoll.poll` gives them. The sockets do not block.
            watched: a tuple for each descriptor, whose last element is the `ServerConnection` or `ClientConnection`, or
                None if the program wants the events. Descriptors that it does not have are passed over.
            now: the time, for `exchanged_at` of the connections.

        Returns:
            Pairs of a tuple of `watched` and one of these: None, if the connection has an event or wants content, or if
            output is left: ask `next_event`, then `data_to_send`; b"" at the end of input; an OSError, if the
            connection is broken; the events of the descriptor as `ready` has them, if nothing was read: there is no
            connection, it is `held`, it has an event from before, or it has TLS or waits for it.

        Raises:
            TypeError: if `ready` or `watched` are something else.

        Example:
            >>> exchange.turn([(sock.fileno(), 1)], {sock.fileno(): (conn,)}, monotonic())
            []
        """
    def turn_epoll(
        self,
        epoll: int,
        watched: dict[int, _Watched],
        now: float,
    ) -> tuple[int, list[tuple[_Watched, bytes | BaseException | int | None]]]:
        """The same for the sockets of an epoll that are ready now, up to 256 of them. It does not wait.

        Args:
            epoll: the descriptor of a `select.epoll`.
            watched, now: as for `turn`.

        Returns:
            How many sockets were ready, and what is left for the program, as `turn` gives it.

        Raises:
            OSError: if the descriptor is no epoll, or the system has none.
            TypeError: if `watched` is something else.

        Example:
            >>> count, left = exchange.turn_epoll(epoll.fileno(), watched, monotonic())
            >>> for (on_turn, conn), what in left: on_turn(conn, what)
        """

@final
class ClientConfig:
    """The settings of a client: how it speaks, and how much it takes from a server. A config is checked once and then
    frozen. One object serves all connections.

    Args:
        hostname: Our own name for EHLO: a domain or an address literal (RFC 5321 4.1.4).
        lmtp: Speak LMTP instead of SMTP (RFC 2033).
        tls: Ask for STARTTLS (RFC 3207): "off" never, "opportunistic" where it is offered,
            "required" always, and no mail without it. The adapter does implicit TLS.
        pipelining: Use PIPELINING where it is offered (RFC 2920).
        chunking: Send content by BDAT (RFC 3030): "auto" where it is offered, True always,
            False never.
        newlines: A bare CR or LF in content: "normalize" makes it CRLF, "reject" refuses the
            message, "exact" sends it as it is, by BDAT only, "auto" sends it as it is by BDAT
            and makes it CRLF in DATA (RFC 5321 2.3.8).
        force_8bit: Send 8-bit content to a server without 8BITMIME, which RFC 6152 3 forbids.
        drop_dsn: Leave out the parameters of DSN where the server lacks DSN. Without it such a
            message fails (RFC 3461 5.2.2).
        relay_auth: After AUTH put AUTH= into every MAIL, "<>" where the sender says nothing
            (RFC 4954 5). For relays.
        max_recipients: Most recipients of one transaction, where the server states no limit
            (RFC 5321 4.5.3.1.8 promises 100).
        window: Most messages that are sent ahead of their replies.
        chunk_size: Most octets of one BDAT chunk (RFC 3030 2).
        lenient_replies: A bare LF ends a reply line, too.
        max_reply_line: Most octets of a reply line with its CRLF (RFC 5321 4.5.3.1.5 asks for
            512).
        max_reply: Most octets of a reply.
        max_reply_lines: Most lines of a reply.
        greeting_timeout: Seconds to wait for the greeting (RFC 5321 4.5.3.2.1).
        hello_timeout: Seconds to wait for the reply to EHLO, HELO or LHLO.
        mail_timeout: Seconds to wait for the reply to MAIL (RFC 5321 4.5.3.2.2).
        rcpt_timeout: Seconds to wait for the reply to RCPT (RFC 5321 4.5.3.2.3).
        data_timeout: Seconds to wait for the 354 behind DATA (RFC 5321 4.5.3.2.4).
        content_timeout: Seconds to wait for progress while content is sent (RFC 5321
            4.5.3.2.5).
        end_of_data_timeout: Seconds to wait for the reply to the end of the content (RFC 5321
            4.5.3.2.6).
        reset_timeout: Seconds to wait for the reply to RSET and NOOP.
        quit_timeout: Seconds to wait for the reply to QUIT.
        other_timeout: Seconds to wait for the reply to any other command.

    Raises:
        ValueError: a word that is not known, or settings that make no client.
        TypeError: a setting that does not exist, or a value of another type.

    Example:
        >>> config = ehlo.ClientConfig("client.example.org", chunking=False)
        >>> conn = ehlo.ClientConnection(config)
    """

    def __new__(
        cls,
        hostname: str = "localhost",
        *,
        lmtp: bool = False,
        tls: Literal["off", "opportunistic", "required"] = "off",
        pipelining: bool = True,
        chunking: Literal["auto"] | bool = "auto",
        newlines: Literal["normalize", "reject", "exact", "auto"] = "normalize",
        force_8bit: bool = False,
        drop_dsn: bool = False,
        relay_auth: bool = False,
        max_recipients: int = 100,
        window: int = 16,
        chunk_size: int = 262144,
        lenient_replies: bool = False,
        max_reply_line: int = 4096,
        max_reply: int = 65536,
        max_reply_lines: int = 1000,
        greeting_timeout: float = 300.0,
        hello_timeout: float = 300.0,
        mail_timeout: float = 300.0,
        rcpt_timeout: float = 300.0,
        data_timeout: float = 120.0,
        content_timeout: float = 180.0,
        end_of_data_timeout: float = 600.0,
        reset_timeout: float = 20.0,
        quit_timeout: float = 5.0,
        other_timeout: float = 300.0,
    ) -> ClientConfig: ...
    def replace(self, **changes: object) -> ClientConfig:
        """Make the same config with some settings changed. It is checked anew.

        Raises:
            ValueError: a word that is not known, or settings that do not go together.
            TypeError: a setting that does not exist, or a value of another type.

        Example:
            >>> patient = config.replace(content_timeout=600)
            >>> patient.content_timeout
            600.0
        """
    @property
    def hostname(self) -> str:
        """Our own name for EHLO: a domain or an address literal (RFC 5321 4.1.4)."""
    @property
    def lmtp(self) -> bool:
        """Speak LMTP instead of SMTP (RFC 2033)."""
    @property
    def tls(self) -> Literal["off", "opportunistic", "required"]:
        """Ask for STARTTLS (RFC 3207): "off" never, "opportunistic" where it is offered,
        "required" always, and no mail without it. The adapter does implicit TLS.
        """
    @property
    def pipelining(self) -> bool:
        """Use PIPELINING where it is offered (RFC 2920)."""
    @property
    def chunking(self) -> Literal["auto"] | bool:
        """Send content by BDAT (RFC 3030): "auto" where it is offered, True always,
        False never.
        """
    @property
    def newlines(self) -> Literal["normalize", "reject", "exact", "auto"]:
        """A bare CR or LF in content: "normalize" makes it CRLF, "reject" refuses the
        message, "exact" sends it as it is, by BDAT only, "auto" sends it as it is by BDAT
        and makes it CRLF in DATA (RFC 5321 2.3.8).
        """
    @property
    def force_8bit(self) -> bool:
        """Send 8-bit content to a server without 8BITMIME, which RFC 6152 3 forbids."""
    @property
    def drop_dsn(self) -> bool:
        """Leave out the parameters of DSN where the server lacks DSN. Without it such a
        message fails (RFC 3461 5.2.2).
        """
    @property
    def relay_auth(self) -> bool:
        """After AUTH put AUTH= into every MAIL, "<>" where the sender says nothing
        (RFC 4954 5). For relays.
        """
    @property
    def max_recipients(self) -> int:
        """Most recipients of one transaction, where the server states no limit
        (RFC 5321 4.5.3.1.8 promises 100).
        """
    @property
    def window(self) -> int:
        """Most messages that are sent ahead of their replies."""
    @property
    def chunk_size(self) -> int:
        """Most octets of one BDAT chunk (RFC 3030 2)."""
    @property
    def lenient_replies(self) -> bool:
        """A bare LF ends a reply line, too."""
    @property
    def max_reply_line(self) -> int:
        """Most octets of a reply line with its CRLF (RFC 5321 4.5.3.1.5 asks for
        512).
        """
    @property
    def max_reply(self) -> int:
        """Most octets of a reply."""
    @property
    def max_reply_lines(self) -> int:
        """Most lines of a reply."""
    @property
    def greeting_timeout(self) -> float:
        """Seconds to wait for the greeting (RFC 5321 4.5.3.2.1)."""
    @property
    def hello_timeout(self) -> float:
        """Seconds to wait for the reply to EHLO, HELO or LHLO."""
    @property
    def mail_timeout(self) -> float:
        """Seconds to wait for the reply to MAIL (RFC 5321 4.5.3.2.2)."""
    @property
    def rcpt_timeout(self) -> float:
        """Seconds to wait for the reply to RCPT (RFC 5321 4.5.3.2.3)."""
    @property
    def data_timeout(self) -> float:
        """Seconds to wait for the 354 behind DATA (RFC 5321 4.5.3.2.4)."""
    @property
    def content_timeout(self) -> float:
        """Seconds to wait for progress while content is sent (RFC 5321
        4.5.3.2.5).
        """
    @property
    def end_of_data_timeout(self) -> float:
        """Seconds to wait for the reply to the end of the content (RFC 5321
        4.5.3.2.6).
        """
    @property
    def reset_timeout(self) -> float:
        """Seconds to wait for the reply to RSET and NOOP."""
    @property
    def quit_timeout(self) -> float:
        """Seconds to wait for the reply to QUIT."""
    @property
    def other_timeout(self) -> float:
        """Seconds to wait for the reply to any other command."""

@final
class Ready:
    """The hello is done, after STARTTLS if that was to be: messages and commands go out now.

    Example:
        >>> conn.capabilities.size
        33554432
    """

@final
class Challenge:
    """The server wants something of the AUTH exchange (RFC 4954 4): answer with `respond` or `cancel`.

    Example:
        >>> match event:
        ...     case ehlo.Challenge(_, challenge): conn.respond(mechanism.respond(challenge))
    """

    __match_args__: Final = ("id", "challenge")
    @property
    def id(self) -> int:
        """Of the AUTH."""
    @property
    def challenge(self) -> bytes:
        """The octets, without base64."""

@final
class CommandReply:
    """The reply to a command that the program asked for.

    Example:
        >>> event.verb, event.reply.code
        ('NOOP', 250)
    """

    __match_args__: Final = ("id", "verb", "reply")
    @property
    def id(self) -> int:
        """Of the command."""
    @property
    def verb(self) -> str | None:
        """Which it was, like "NOOP"; None for a command that the engine does not know."""
    @property
    def reply(self) -> Reply | None:
        """What the server said; None if the connection ended before."""

@final
class RecipientResult:
    """What became of a message for one recipient.

    Example:
        >>> result.recipients[0].accepted, str(result.recipients[0].reply)
        (True, '250 2.0.0 OK')
    """

    __match_args__: Final = ("path", "reply")
    @property
    def recipient(self) -> Recipient | str:
        """The forward-path and parameters as they were given; a `str` that is no address (`refuse_invalid`)."""
    @property
    def path(self) -> _ForwardPath | str:
        """An `Address`, or a `Postmaster` without domain; a `str` that is no address (`refuse_invalid`)."""
    @property
    def accepted(self) -> bool:
        """Whether the server took responsibility (RFC 5321 4.2.5)."""
    @property
    def reply(self) -> Reply | None:
        """The reply that decided; None if none did: see `SendResult.failure`."""
    @property
    def stage(self) -> Literal["mail", "rcpt", "data", "content"] | None:
        """What that reply answered: "mail", "rcpt", "data" or "content"; "content" without a reply: the connection
        ended in between, and the server may have the message; None if it did not come so far.
        """
    @property
    def rcpt(self) -> Reply | None:
        """The reply to RCPT, if it came: a 251 tells of another path (RFC 5321 3.4)."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class SendResult:
    """What became of a message, recipient by recipient.

    Example:
        >>> result = await client.send(message, sender="a@b.example", recipients=["c@d.example"])
        >>> [str(one.path) for one in result.refused]
        []
    """

    __match_args__: Final = ("recipients",)
    @property
    def id(self) -> int:
        """Of the message, as `send_message` gave it."""
    @property
    def recipients(self) -> tuple[RecipientResult, ...]:
        """One for each recipient, in the order they were given."""
    @property
    def accepted(self) -> tuple[RecipientResult, ...]:
        """Those the server took responsibility for."""
    @property
    def refused(self) -> tuple[RecipientResult, ...]:
        """All others."""
    @property
    def all_accepted(self) -> bool:
        """Whether none was refused."""
    @property
    def reply(self) -> Reply | None:
        """The final reply: to the content if the message came so far, else the last that refused. None without any.

        It is positive when some recipients were refused and the others accepted. A proxy passes `worst` on.
        """
    @property
    def worst(self) -> Reply | None:
        """The reply that says the worst of all recipients: a 5yz, else a 4yz, else the first that accepted (RFC 5321
        4.2.1). A proxy may pass it on for all of them. None where a recipient has no reply: see `failure`.
        """
    @property
    def failure(
        self,
    ) -> Literal["aborted", "newline", "8bit", "lost", "mailmax", "need", "unknown", "unwritable"] | None:
        """Why recipients have no reply; None if each has one. "lost": the connection ended, nothing was handed over.
        "unknown": it ended behind the end of the content, and the server may have the message. "need": the server lacks
        what the message needs. "mailmax" (RFC 9422), "aborted", "newline", "8bit", "unwritable": it was not sent.
        """
    @property
    def explanation(self) -> str | None:
        """A sentence about the failure; None without one."""
    @property
    def is_temporary(self) -> bool:
        """Whether some recipient was not accepted and a later try may help: a 4yz, or the connection was lost."""
    def completed_by(self, rest: SendResult) -> SendResult:
        """This result with the recipients that were not tried taken from `rest`: the result of a further attempt, on
        another connection, for those and in the same order (RFC 9422 4.1).
        """
    @staticmethod
    def unsent() -> SendResult:
        """The result of a message without recipients: nothing was sent."""
    def with_refused(self, refused: Sequence[tuple[int, str, Reply]]) -> SendResult:
        """This result and recipients that are no addresses: for each its place among all recipients, its text, and the
        reply that says why it is refused.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Unsolicited:
    """A reply that nothing had asked for; `ClientDisconnect` follows.

    Example:
        >>> event.reply.code
        421
    """

    __match_args__: Final = ("reply",)
    @property
    def reply(self) -> Reply:
        """What the server said."""

@final
class ClientDisconnect:
    """The connection is of no more use. The last event.

    Example:
        >>> event.reason
        'quit'
    """

    __match_args__: Final = ("reason",)
    @property
    def reason(
        self,
    ) -> Literal["quit", "eof", "timeout", "greeting", "hello", "tls", "closing", "early", "protocol", "aborted"]:
        """One of "quit", "eof" (the server closed), "timeout", "greeting", "hello" (refused), "tls" (required, none
        to be had), "closing" (a 421), "early" (refused while content was sent), "protocol" (the server cannot be
        followed) and "aborted" (content was given up behind DATA).
        """
    @property
    def reply(self) -> Reply | None:
        """The reply that ended it, if one did."""
    @property
    def explanation(self) -> str:
        """A sentence about it."""

_ClientEvent: TypeAlias = Ready | StartTls | Challenge | CommandReply | SendResult | Unsolicited | ClientDisconnect

_SenderLike: TypeAlias = str | Address | NullPath | Sender

_RecipientLike: TypeAlias = str | Address | Postmaster | Recipient

@final
class ClientConnection:
    """The client's side of one SMTP or LMTP session, without I/O (RFC 5321, 2033).

    - Input: `receive_data` or `receive_from`, `receive_eof`, `receive_timeout`. They never raise for what a peer sent.
    - What is wanted: `send_message`, `start_message`, `noop`, `auth`, `quit` and the like, all at once if you like. The
      engine sends what may be sent: it pipelines what the server's EHLO allows (RFC 2920).
    - Events: iterate, or `next_event`.
    - Output: `data_to_send`, until it gives b"".

    At each wake-up in this order: input, events, output. When `closed`, send what is left and close the transport.
    Two threads that use one connection at once get a RuntimeError.

    Example:
        >>> conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
        >>> conn.send_message("a@b.example", ["c@d.example"], b"Subject: hi\\r\\n\\r\\nhi\\r\\n")
    """

    def __new__(cls, config: ClientConfig) -> ClientConnection: ...
    def receive_data(self, data: Buffer) -> None:
        """Octets came: `bytes`, `bytearray`, `memoryview` or any other contiguous buffer."""
    def receive_from(self, buffer: ReceiveBuffer, count: int) -> None:
        """The first `count` octets of `buffer` came. The buffer may be used again when this returns.

        Raises:
            ValueError: if the buffer has fewer.
        """
    def receive_eof(self) -> None:
        """The server closed its side."""
    def receive_timeout(self) -> None:
        """Nothing moved for `timeout` seconds, in either direction (RFC 5321 4.5.3.2)."""
    def tls_established(self, *, verified: bool = False) -> None:
        """TLS is active: after `StartTls`, or before the greeting where TLS is implicit (RFC 3207 4.2, RFC 8314 3.3).

        Args:
            verified: the server's certificate and name were; REQUIRETLS needs it (RFC 8689 4.2.1).

        Raises:
            LocalProtocolError: if no handshake was due.
        """
    def send_message(
        self,
        sender: _SenderLike,
        recipients: Iterable[_RecipientLike],
        content: Buffer,
        *,
        utf8_header: bool | None = None,
    ) -> int:
        """Queue a message whose content is here.

        Args:
            sender: a mailbox, "" or `NULL` for the null reverse-path, or a `Sender` with parameters.
            recipients: mailboxes, or `Recipient` with parameters.
            content: octets; a `bytes` is not copied.
            utf8_header: whether MAIL says SMTPUTF8 for the sake of the header section (RFC 6531 3.4); None: if the
                `Sender` asks for it. A header section that is ASCII, or not UTF-8, is never a reason for SMTPUTF8.

        Returns:
            the number under which its `SendResult` comes.

        Raises:
            LocalProtocolError: for a path that is none, without recipients, and when the session is over.
        """
    def start_message(
        self,
        sender: _SenderLike,
        recipients: Iterable[_RecipientLike],
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> int:
        """Queue a message whose content comes in pieces: give them when `content_wanted` asks.

        Args:
            sender, recipients: as for `send_message`.
            size: octets with CRLF line ends, if known (RFC 1870).
            eight_bit: whether there are octets above 127, if known (RFC 6152).
            utf8_header: as for `send_message`; the header section is taken to be UTF-8.

        Returns:
            the number under which its `SendResult` comes.

        Raises:
            LocalProtocolError: as `send_message` does.
        """
    def mail(
        self,
        sender: _SenderLike,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        utf8_header: bool | None = None,
    ) -> int:
        """Queue MAIL, for a transaction whose recipients and content come step by step (RFC 5321 3.3). Its
        `CommandReply` comes under the same number as its `SendResult`. Whatever is queued behind it waits for its
        end: `give_content`, or `abort_content`. Queue `rset` behind the latter if the server is to hear of it now.

        Args:
            sender: as for `send_message`.
            size, eight_bit, utf8_header: as for `start_message`, since MAIL says them.

        Returns:
            the number of the transaction.

        Raises:
            LocalProtocolError: for a path that is none, and when the session is over.
        """
    def rcpt(self, id: int, recipients: _RecipientLike | Iterable[_RecipientLike]) -> list[int]:
        """Add recipients to the transaction of `mail`: one RCPT for each.

        Args:
            id: of the transaction.
            recipients: as for `send_message`.

        Returns:
            the numbers under which the `CommandReply` of each comes.

        Raises:
            LocalProtocolError: for a path that is none, and if the transaction is over or has its content.
        """
    def give_content(self, id: int, content: Buffer | None = None) -> None:
        """Give the transaction of `mail` its content. The `SendResult` comes under its number.

        Args:
            id: of the transaction.
            content: octets; None: it comes in pieces, when `content_wanted` asks.

        Raises:
            LocalProtocolError: without recipients, and if the transaction is over or has its content.
        """
    @property
    def content_wanted(self) -> int | None:
        """The message whose next piece of content is wanted now; None if none is."""
    def send_content(self, id: int, piece: Buffer) -> bool:
        """The next piece of a message's content. False if it is of no more use: the message was refused.

        Raises:
            LocalProtocolError: if the message does not come in pieces, or was ended.
        """
    def end_content(self, id: int) -> None:
        """The content is complete.

        Raises:
            LocalProtocolError: as `send_content` does.
        """
    def abort_content(self, id: int) -> None:
        """There is no more content, and what was sent must not become a message. Behind DATA this ends the connection:
        there is no other way (RFC 5321 4.1.1.10). It gives up a transaction of `mail`, too.

        Raises:
            LocalProtocolError: as `send_content` does.
        """
    def noop(self) -> int:
        """Queue NOOP (RFC 5321 4.1.1.9). Each command gives the number under which its `CommandReply` comes.

        Raises:
            LocalProtocolError: when the session is over.
        """
    def rset(self) -> int:
        """Queue RSET (RFC 5321 4.1.1.5). The engine says its own where one is needed.

        Raises:
            LocalProtocolError: when the session is over.
        """
    def vrfy(self, argument: str) -> int:
        """Queue VRFY (RFC 5321 4.1.1.6).

        Raises:
            LocalProtocolError: if the argument cannot be sent, and when the session is over.
        """
    def expn(self, argument: str) -> int:
        """Queue EXPN (RFC 5321 4.1.1.7).

        Raises:
            LocalProtocolError: if the argument cannot be sent, and when the session is over.
        """
    def help(self, topic: str = "") -> int:
        """Queue HELP (RFC 5321 4.1.1.8).

        Raises:
            LocalProtocolError: if the topic cannot be sent, and when the session is over.
        """
    def etrn(self, node: str) -> int:
        """Queue ETRN (RFC 1985 5).

        Raises:
            LocalProtocolError: if the node's name cannot be sent, and when the session is over.
        """
    def command(self, line: str) -> int:
        """Queue a command as one line, such as "XFOO bar": NOOP, RSET, VRFY, EXPN, HELP, ETRN, or one that the engine
        does not know. A 3yz asks for more, which none of these has: it ends the session.

        Raises:
            LocalProtocolError: if it is no command, one that the engine says itself (MAIL, DATA and others), and when
                the session is over.
        """
    def xclient(self, attributes: Sequence[tuple[str, str]]) -> int:
        """Queue XCLIENT with these attributes, values not encoded (XCLIENT_README). The session begins anew after it.

        Raises:
            LocalProtocolError: if they cannot be sent, and when the session is over.
        """
    def xforward(self, attributes: Sequence[tuple[str, str]]) -> int:
        """Queue XFORWARD with these attributes, values not encoded (XFORWARD_README).

        Raises:
            LocalProtocolError: if they cannot be sent, and when the session is over.
        """
    def auth(self, mechanism: str, initial: bytes | None = None) -> int:
        """Queue AUTH (RFC 4954 4). `Challenge` events ask for responses; the outcome is a `CommandReply`.

        Args:
            mechanism: like "PLAIN".
            initial: the initial response, without base64; None without one. An empty one is b"".

        Raises:
            LocalProtocolError: if the mechanism is no word, and when the session is over.
        """
    def respond(self, response: bytes) -> None:
        """Answer the open challenge; the octets without base64.

        Raises:
            LocalProtocolError: if there is none.
        """
    def cancel(self) -> None:
        """Give the exchange up; the server answers 501 (RFC 4954 4).

        Raises:
            LocalProtocolError: if there is no challenge.
        """
    def quit(self) -> int:
        """End the session after all messages and commands are done (RFC 5321 4.1.1.10).

        Raises:
            LocalProtocolError: when it is over, or was to end already.
        """
    def next_event(self) -> _ClientEvent | None:
        """The next event; None when input is used up."""
    def __iter__(self) -> ClientConnection: ...
    def __next__(self) -> _ClientEvent: ...
    def data_to_send(self) -> bytes:
        """Octets to send now, b"" if there are none. Each is handed over once; after these there may be more:
        a content of 16 to 256 KiB that needs no change comes as the `bytes` that was queued, apart from the rest.
        """
    def flush(self, descriptor: int) -> _ClientEvent | bytes | int | None:
        """The next event; and if there is none, send the output by one `send` of a socket that does not block. It is
        `next_event`, `data_to_send` and `socket.send` in one call. Input goes to the engine first.

        Args:
            descriptor: of the connected socket, over which no earlier output waits, in clear text.

        Returns:
            An event: nothing was sent, and there may be more events. Or the number of octets that were sent: all there
            were. Or `bytes` that the system did not take, to be sent before all others. Or None: there is more output
            than this is for, or the socket is broken or closed; `data_to_send` has the output.

        Example:
            >>> conn.flush(sock.fileno())
            0
        """
    def exchange(self, descriptor: int) -> _ClientEvent | bytes | int | None:
        """Receive once from a socket that does not block, then `flush`. It is `socket.recv_into`, `receive_from` and
        `flush` in one call.

        Args:
            descriptor: as for `flush`.

        Returns:
            What `flush` does.

        Raises:
            BlockingIOError: nothing has come.
            EOFError: the server sends no more: `receive_eof` is due.
            OSError: the socket is broken.

        Example:
            >>> conn.exchange(sock.fileno())
            0
        """
    @property
    def exchanged_at(self) -> float:
        """When an `Exchange` read for it last, in seconds of the program's clock; 0.0 if none did."""
    @property
    def config(self) -> ClientConfig:
        """What it was made with."""
    @property
    def timeout(self) -> float | None:
        """Seconds since anything moved after which `receive_timeout` is due; None while this program has to act
        and at the end (RFC 5321 4.5.3.2).
        """
    @property
    def capabilities(self) -> Capabilities:
        """What the server offered in its last reply to EHLO; nothing before, and after HELO (RFC 5321 4.1.1.1)."""
    @property
    def greeting(self) -> Reply | None:
        """The greeting; None before it came."""
    @property
    def is_tls(self) -> bool:
        """Whether TLS is active."""
    @property
    def authenticated(self) -> bool:
        """Whether AUTH succeeded."""
    @property
    def closed(self) -> bool:
        """Whether nothing more is to come: send what is left, then close."""
    @property
    def idle(self) -> bool:
        """Whether nothing is asked for and nothing outstanding."""
    @property
    def unfinished(self) -> int:
        """Messages that have no result yet."""
    @property
    def mail_left(self) -> int | None:
        """Transactions that the server still takes on this connection; None without a limit (RFC 9422 MAILMAX)."""
    @property
    def transcript(self) -> str:
        """The latest lines of the session, "C: " ours and "S: " the server's; without content and secrets."""
    def take_transcript(self) -> str:
        """The transcript so far, handed over once."""

@final
class ReceiveBuffer:
    """A fixed buffer that a transport reads into and the engine reads from, without a copy between them.

    One serves all connections of an event loop whose transports fill it and hand it over in one callback, as
    `asyncio.BufferedProtocol` does: idle connections then hold no buffer.

    Args:
        size: octets, 65536 if not given.

    Raises:
        ValueError: for a size of zero.

    Example:
        >>> buffer = ehlo.ReceiveBuffer()
        >>> buffer.view[:6] = b"QUIT\\r\\n"; conn.receive_from(buffer, 6)
    """

    def __new__(cls, size: int = 65536) -> ReceiveBuffer: ...
    @property
    def view(self) -> memoryview:
        """The whole buffer as a writable memoryview; always the same object."""
    def __len__(self) -> int: ...

@final
class Command:
    """One command, as `parse_command` read it. What belongs to another verb is None, False or empty.

    Example:
        >>> command = ehlo.parse_command(b"MAIL FROM:<jane@example.org> SIZE=1024")
        >>> command.verb, command.sender.size
        ('MAIL', 1024)
    """

    __match_args__: Final = ("verb", "argument")
    @property
    def verb(self) -> str:
        """The verb in upper case; an unknown verb as it was written."""
    @property
    def argument(self) -> bytes:
        """All behind the verb and its space, as it was written."""
    @property
    def sender(self) -> Sender | None:
        """MAIL: the reverse-path and its parameters (RFC 5321 4.1.1.2)."""
    @property
    def recipient(self) -> Recipient | None:
        """RCPT: the forward-path and its parameters (RFC 5321 4.1.1.3)."""
    @property
    def name(self) -> str | None:
        """EHLO, HELO and LHLO: the client's name (RFC 5321 4.1.1.1)."""
    @property
    def size(self) -> int | None:
        """BDAT: octets of the chunk (RFC 3030 2)."""
    @property
    def last(self) -> bool:
        """BDAT and BURL: whether LAST was there (RFC 3030 2, RFC 4468 3)."""
    @property
    def mechanism(self) -> str | None:
        """AUTH: the mechanism (RFC 4954 4)."""
    @property
    def initial_response(self) -> bytes | None:
        """AUTH: the initial response as it was written, in base64; b"=" is an empty one (RFC 4954 4)."""
    @property
    def attributes(self) -> tuple[tuple[str, str], ...]:
        """XCLIENT and XFORWARD: names and decoded values."""
    def to_bytes(self) -> bytes:
        """The command as a client writes it: upper case, with CRLF.

        Raises:
            LocalProtocolError: if it holds what a command line cannot carry.
        """

def parse_command(line: Buffer, *, lenient: Iterable[str] = ()) -> Command:
    """Read one command line, with or without its CRLF. Every extension is known; unknown parameters are kept.

    Args:
        line: the octets; any contiguous buffer.
        lenient: departures from the grammar; for their names see `ServerConfig`.

    Raises:
        CommandSyntaxError: if it is no command; `.reply` is what a server owes for it.
        ValueError: for an unknown leniency.

    Example:
        >>> ehlo.parse_command(b"bdat 1000 last").size
        1000
    """

@final
class DotDecoder:
    """Takes content out of its dot-stuffed form and finds its end (RFC 5321 4.5.2).

    It starts at the start of a line, where the CRLF of DATA left it. The end is CRLF "." CRLF and nothing else,
    under every policy.

    Args:
        bare_newlines: what becomes of a bare CR or LF. "reject" and "allow" leave it as it is and say so in `flags`,
            "normalize" makes CRLF of it.

    Raises:
        ValueError: for an unknown policy.

    Example:
        >>> ehlo.DotDecoder().feed(b"a\\r\\n..b\\r\\n.\\r\\nQUIT\\r\\n")
        (b'a\\r\\n.b\\r\\n', 11)
    """

    def __new__(cls, bare_newlines: _BareNewlines = "reject") -> DotDecoder: ...
    def feed(self, data: Buffer) -> tuple[bytes, int]:
        """Read the next octets, in any split. Gives the content among them, and how many were used: all of them, unless
        the end of the data was there. After it nothing is used.
        """
    @property
    def done(self) -> bool:
        """Whether the end of the data has come."""
    @property
    def flags(self) -> frozenset[str]:
        """What was found in the content so far; of "bare-cr", "bare-lf", "nul", "8bit", "long-line"."""
    @property
    def octets(self) -> int:
        """Octets of content so far, as RFC 1870 5 counts them."""

@final
class DotEncoder:
    """Puts content into its dot-stuffed form, piece by piece (RFC 5321 4.5.2).

    Args:
        bare_newlines: "normalize" makes CRLF of each bare CR and LF, "reject" raises.

    Raises:
        ValueError: for an unknown policy.

    Example:
        >>> encoder = ehlo.DotEncoder()
        >>> encoder.feed(b".a\\n") + encoder.finish()
        b'..a\\r\\n.\\r\\n'
    """

    def __new__(cls, bare_newlines: Literal["normalize", "reject"] = "normalize") -> DotEncoder: ...
    def feed(self, data: Buffer) -> bytes:
        """The next octets of the content, stuffed. A CR at the end waits for what comes next.

        Raises:
            LocalProtocolError: for a bare CR or LF under "reject", or after `finish`.
        """
    def finish(self) -> bytes:
        """What ends the data: the CRLF if it is missing, and the line of the dot.

        Raises:
            LocalProtocolError: for a bare CR at the end under "reject", or when called twice.
        """

def dot_stuff(content: Buffer) -> bytes:
    """A whole content in its dot-stuffed form, with the line of the dot behind it (RFC 5321 4.5.2). Each bare CR and LF
    becomes CRLF.

    Example:
        >>> ehlo.dot_stuff(b".a\\n")
        b'..a\\r\\n.\\r\\n'
    """

def dot_unstuff(wire: Buffer) -> bytes:
    """The content of dot-stuffed data up to its end, CRLF "." CRLF (RFC 5321 4.5.2). Bare CR and LF are left as they
    are.

    Raises:
        RemoteProtocolError: if the end is not there, or something is behind it.

    Example:
        >>> ehlo.dot_unstuff(b"..a\\r\\n.\\r\\n")
        b'.a\\r\\n'
    """

@final
class Capabilities:
    """What a server offered in its answer to EHLO (RFC 5321 4.1.1.1). Unknown keywords are kept, in their order.

    Example:
        >>> offer = ehlo.Capabilities.parse(ehlo.parse_reply(b"250-mx.example.org\\r\\n250 SIZE 1000\\r\\n"))
        >>> "SIZE" in offer, offer.size
        (True, 1000)
    """

    @staticmethod
    def parse(reply: Reply) -> Capabilities:
        """Read the reply to EHLO or LHLO. No keyword makes it fail (RFC 5321 4.1.1.1).

        Raises:
            RemoteProtocolError: if the reply is no 2yz: then it offers nothing.
        """
    @property
    def greeting(self) -> str:
        """The first line: the server's name, and its greeting if there is one."""
    @property
    def name(self) -> str:
        """The server's name."""
    @property
    def keywords(self) -> tuple[tuple[str, str], ...]:
        """Every keyword with the text behind it, as they were written, in their order. The old "AUTH=LOGIN" is "AUTH"
        with "LOGIN".
        """
    def __contains__(self, keyword: str, /) -> bool: ...
    @property
    def size(self) -> int | None:
        """SIZE: the most octets of a message (RFC 1870 3). None if no limit is stated."""
    @property
    def auth(self) -> tuple[str, ...]:
        """AUTH: the mechanisms, in upper case (RFC 4954 3)."""
    @property
    def limits(self) -> dict[str, int]:
        """LIMITS: of "MAILMAX", "RCPTMAX" and "RCPTDOMAINMAX" those that are stated well (RFC 9422 4)."""

def xtext_encode(octets: Buffer) -> str:
    """Octets as xtext (RFC 3461 4).

    Example:
        >>> ehlo.xtext_encode(b"a+b=c")
        'a+2Bb+3Dc'
    """

def xtext_decode(text: str | Buffer) -> bytes:
    """The octets that an xtext stands for (RFC 3461 4).

    Raises:
        RemoteProtocolError: if it is not xtext.

    Example:
        >>> ehlo.xtext_decode("a+2Bb")
        b'a+b'
    """

@final
class DkimBody:
    """The canonical form of a body that comes in pieces, in any split (RFC 6376 3.4.3, 3.4.4). For `ehlo.dkim`.

    Args:
        form: "simple" or "relaxed".

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> body = ehlo.DkimBody("relaxed")
        >>> body.feed(b"a  b \\r\\n\\r\\n") + body.finish()
        b'a b\\r\\n'
    """

    def __new__(cls, form: Literal["simple", "relaxed"]) -> DkimBody: ...
    def feed(self, data: Buffer) -> bytes:
        """What is certain after these octets.

        Raises:
            LocalProtocolError: after `finish`.
        """
    def finish(self) -> bytes:
        """The rest. The body is over.

        Raises:
            LocalProtocolError: when it was over before.
        """
    @property
    def has_bare_newline(self) -> bool:
        """Whether a bare CR or a bare LF was seen so far; it is taken as any other octet."""

def dkim_fields(content: bytes) -> tuple[list[bytes], int]:
    """The header fields of a message, each without its last CRLF, and where its body begins. For `ehlo.dkim`.

    Args:
        content: the message, lines end by CRLF.

    Raises:
        LocalProtocolError: for what other programs read in another way: a bare CR or LF in the header section, white
            space before a field's colon, a line that is no field.

    Example:
        >>> ehlo.dkim_fields(b"A: x\\r\\nB: y\\r\\n z\\r\\n\\r\\nbody")
        ([b'A: x', b'B: y\\r\\n z'], 18)
    """

def dkim_header(field: Buffer, form: Literal["simple", "relaxed"]) -> bytes:
    """The canonical form of one header field without its last CRLF (RFC 6376 3.4.1, 3.4.2). For `ehlo.dkim`.

    Args:
        field: name, colon and value.
        form: "simple" or "relaxed".

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> ehlo.dkim_header(b"Subject:  a\\r\\n  b ", "relaxed")
        b'subject:a b'
    """
