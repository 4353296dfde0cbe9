# The types of `ehlo._core`. A signature of the extension has no types, so they stand here.
# Defaults and docs come from the extension. `tools/make_stub.py` puts both together into
# `python/ehlo/_core.pyi`. It fails when a member is missing here or there. The settings of
# ServerConfig and ClientConfig are not listed: the type of a setting follows from its Rust type
# (rust/ehlo-py/src/settings.rs).

import sys
from collections.abc import Iterable, Mapping, Sequence  # noqa: F401
from typing import Final, Literal, TypeAlias, TypeVar, final  # noqa: F401

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

__version__: Final[str]

def build_info() -> dict[str, str]: ...

class Address:
    def __new__(cls, path: str) -> Address: ...
    as_written: str
    mailbox: str
    local_part: str
    domain: str
    source_route: str | None
    is_null: bool
    is_ascii: bool
    is_postmaster: bool

class NullPath:
    is_null: bool

class Postmaster:
    is_null: bool
    as_written: str

NULL: Final[NullPath]
"""The null reverse-path `<>`. Notifications have it, so that nobody answers them (RFC 5321 4.5.5)."""
_ReversePath: TypeAlias = Address | NullPath
_ForwardPath: TypeAlias = Address | Postmaster

class Reply:
    def __new__(cls, code: int, enhanced: str | None, text: str | Sequence[str]) -> Reply: ...
    @staticmethod
    def parse(text: str) -> Reply: ...
    code: int
    enhanced: str | None
    text: str
    lines: tuple[bytes, ...]
    is_positive: bool
    is_temporary: bool
    is_permanent: bool
    def to_bytes(self) -> bytes: ...

def parse_reply(octets: Buffer) -> Reply: ...

class Sender:
    def __new__(
        cls,
        path: str | Address | NullPath,
        *,
        body: Literal["7BIT", "8BITMIME", "BINARYMIME"] | None,
        smtputf8: bool,
        ret: Literal["FULL", "HDRS"] | None,
        envid: str | None,
        auth: str | None,
        deliver_by: tuple[int, str, bool] | None,
        hold_for: int | None,
        hold_until: str | None,
        mt_priority: int | None,
        requiretls: bool,
    ) -> Sender: ...
    @classmethod
    def from_parameters(cls, path: str | Address | NullPath, parameters: str) -> Sender: ...
    mail_parameters: str
    path: _ReversePath
    size: int | None
    body: Literal["7BIT", "8BITMIME", "BINARYMIME"] | None
    smtputf8: bool
    ret: Literal["FULL", "HDRS"] | None
    envid: str | None
    auth: str | None
    deliver_by: tuple[int, str, bool] | None
    hold_for: int | None
    hold_until: str | None
    mt_priority: int | None
    requiretls: bool
    parameters: tuple[tuple[str, str | None], ...]

class Recipient:
    def __new__(
        cls,
        path: str | Address | Postmaster,
        *,
        notify: Iterable[str] | None,
        orcpt: tuple[str, str] | None,
        rrvs: tuple[str, str | None] | None,
    ) -> Recipient: ...
    @classmethod
    def from_parameters(cls, path: str | Address | Postmaster, parameters: str) -> Recipient: ...
    rcpt_parameters: str
    path: _ForwardPath
    domain: str | None
    notify: frozenset[str] | None
    orcpt: tuple[str, str] | None
    rrvs: tuple[str, str | None] | None
    parameters: tuple[tuple[str, str | None], ...]

class Envelope:
    def __new__(cls, sender: Sender, recipients: Sequence[Recipient]) -> Envelope: ...
    sender: Sender
    recipients: tuple[Recipient, ...]
    smtputf8: bool

class Connect: ...

class Auth:
    mechanism: str
    initial_response: bytes | None

class AuthResponse:
    data: bytes

class AuthCancelled: ...

class CommandReceived:
    verb: str
    argument: str

class Refusal:
    line: bytes
    reply: Reply

class BadProxy:
    octets: bytes

class StartTls: ...

class Proxy:
    header: ProxyHeader

class Xclient:
    attributes: ClientAttributes

class Hello:
    verb: Literal["EHLO", "HELO", "LHLO"]
    name: str

class Mail:
    sender: Sender

class Rcpt:
    recipient: Recipient

class Data:
    envelope: Envelope
    verb: Literal["DATA", "BDAT"]

class Chunk:
    data: bytes

class ContentStart:
    envelope: Envelope

class ContentAborted:
    reason: Literal["forbidden", "too big", "reset", "disconnected"]

class Message:
    envelope: Envelope
    content: bytes
    size: int
    flags: frozenset[str]

class Vrfy:
    argument: str

class Expn:
    argument: str

class Etrn:
    argument: str

class Refused:
    command: str | None
    argument: str
    envelope: Envelope | None
    reply: Reply

class Reset: ...

class Disconnect:
    reason: Literal["quit", "eof", "timeout", "program", "protocol", "limit", "shutdown", "injection", "tls"]

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

class ProxyHeader:
    def __new__(
        cls,
        source: tuple[str, int] | bytes | None,
        destination: tuple[str, int] | bytes | None,
        *,
        unknown: bool,
        tlvs: Iterable[tuple[int, Buffer]],
    ) -> ProxyHeader: ...
    source: tuple[str, int] | bytes | None
    unknown: bool
    destination: tuple[str, int] | bytes | None
    tlvs: tuple[tuple[int, bytes], ...]
    alpn: bytes | None
    authority: str | None
    unique_id: bytes | None
    netns: str | None
    is_tls: bool | None
    tls_version: str | None
    tls_cipher: str | None
    tls_common_name: str | None
    def to_bytes(self, version: int) -> bytes: ...

def parse_proxy(octets: Buffer) -> tuple[ProxyHeader, int] | None: ...

class ClientAttributes:
    name: str | None
    addr: str | None
    port: int | None
    proto: str | None
    helo: str | None
    login: str | None
    dest_addr: str | None
    dest_port: int | None
    ident: str | None
    source: str | None
    unavailable: frozenset[str]
    temporarily_unavailable: frozenset[str]

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

class ServerConfig:
    def replace(self, **changes: object) -> ServerConfig: ...
    keywords: tuple[str, ...]
    tls_keywords: tuple[str, ...]

class ServerConnection:
    def __new__(cls, config: ServerConfig) -> ServerConnection: ...
    def receive_data(self, data: Buffer) -> None: ...
    def receive_from(self, buffer: ReceiveBuffer, count: int) -> None: ...
    def receive_eof(self) -> None: ...
    def receive_timeout(self) -> None: ...
    def next_event(self) -> _ServerEvent | None: ...
    def __iter__(self) -> ServerConnection: ...
    def __next__(self) -> _ServerEvent: ...
    def accept(self) -> None: ...
    def reply(self, code: int, enhanced: str | None, text: str | Sequence[str]) -> None: ...
    def send_reply(self, reply: Reply) -> None: ...
    def reply_recipients(self, replies: Sequence[Reply]) -> None: ...
    def refuse_content(self, reply: Reply) -> None: ...
    def shutdown(self, reply: Reply | None) -> None: ...
    def challenge(self, octets: Buffer) -> None: ...
    def accept_identity(self, identity: str, reply: Reply | None) -> None: ...
    def answer_raw(self, octets: Buffer, *, accepted: bool) -> None: ...
    def tls_established(self, *, too_weak: bool, channel_binding: bool, client_certificate: bool) -> None: ...
    def tls_failed(self) -> None: ...
    def take_tls_input(self) -> bytes: ...
    handshaking: bool
    tls: bool
    identity: str | None
    auth_failures: int
    refusals: dict[Literal["connect", "auth", "mail", "rcpt", "content", "other"], int]
    refused: int
    trusted: bool
    @trusted.setter
    def trusted(self, trusted: bool, /) -> None: ...
    proxy: ProxyHeader | None
    proxy_octets: bytes
    xclient: ClientAttributes | None
    xforward: ClientAttributes | None
    client_address: tuple[str, int | None] | None
    def data_to_send(self) -> bytes: ...
    config: ServerConfig
    held: bool
    @held.setter
    def held(self, held: bool, /) -> None: ...
    octets_exchanged: int
    exchanged_at: float
    timeout: float | None
    decision_open: bool
    closed: bool
    in_transaction: bool
    in_content: bool
    content_octets: int
    buffered: int
    hello: tuple[str, str] | None
    protocol: str
    messages: int
    errors: int
    commands: int

_Watched = TypeVar("_Watched", bound=tuple[object, ...])

class Exchange:
    def __new__(cls, size: int) -> Exchange: ...
    def turn(
        self, ready: list[tuple[int, int]], watched: dict[int, _Watched], now: float
    ) -> list[tuple[_Watched, bytes | BaseException | int | None]]: ...
    def turn_epoll(
        self, epoll: int, watched: dict[int, _Watched], now: float
    ) -> tuple[int, list[tuple[_Watched, bytes | BaseException | int | None]]]: ...

class ClientConfig:
    def replace(self, **changes: object) -> ClientConfig: ...

class Ready: ...

class Challenge:
    id: int
    challenge: bytes

class CommandReply:
    id: int
    verb: str | None
    reply: Reply | None

class RecipientResult:
    recipient: Recipient | str
    path: _ForwardPath | str
    accepted: bool
    reply: Reply | None
    stage: Literal["mail", "rcpt", "data", "content"] | None
    rcpt: Reply | None

class SendResult:
    id: int
    recipients: tuple[RecipientResult, ...]
    accepted: tuple[RecipientResult, ...]
    refused: tuple[RecipientResult, ...]
    all_accepted: bool
    reply: Reply | None
    worst: Reply | None
    failure: Literal["aborted", "newline", "8bit", "lost", "mailmax", "need", "unknown", "unwritable"] | None
    explanation: str | None
    is_temporary: bool
    def completed_by(self, rest: SendResult) -> SendResult: ...
    @staticmethod
    def unsent() -> SendResult: ...
    def with_refused(self, refused: Sequence[tuple[int, str, Reply]]) -> SendResult: ...

class Unsolicited:
    reply: Reply

class ClientDisconnect:
    reason: Literal["quit", "eof", "timeout", "greeting", "hello", "tls", "closing", "early", "protocol", "aborted"]
    reply: Reply | None
    explanation: str

_ClientEvent: TypeAlias = Ready | StartTls | Challenge | CommandReply | SendResult | Unsolicited | ClientDisconnect
_SenderLike: TypeAlias = str | Address | NullPath | Sender
_RecipientLike: TypeAlias = str | Address | Postmaster | Recipient

class ClientConnection:
    def __new__(cls, config: ClientConfig) -> ClientConnection: ...
    def receive_data(self, data: Buffer) -> None: ...
    def receive_from(self, buffer: ReceiveBuffer, count: int) -> None: ...
    def receive_eof(self) -> None: ...
    def receive_timeout(self) -> None: ...
    def tls_established(self, *, verified: bool) -> None: ...
    def send_message(
        self, sender: _SenderLike, recipients: Iterable[_RecipientLike], content: Buffer, *, utf8_header: bool | None
    ) -> int: ...
    def start_message(
        self,
        sender: _SenderLike,
        recipients: Iterable[_RecipientLike],
        *,
        size: int | None,
        eight_bit: bool | None,
        utf8_header: bool | None,
    ) -> int: ...
    def mail(
        self, sender: _SenderLike, *, size: int | None, eight_bit: bool | None, utf8_header: bool | None
    ) -> int: ...
    def rcpt(self, id: int, recipients: _RecipientLike | Iterable[_RecipientLike]) -> list[int]: ...
    def give_content(self, id: int, content: Buffer | None) -> None: ...
    content_wanted: int | None
    def send_content(self, id: int, piece: Buffer) -> bool: ...
    def end_content(self, id: int) -> None: ...
    def abort_content(self, id: int) -> None: ...
    def noop(self) -> int: ...
    def rset(self) -> int: ...
    def vrfy(self, argument: str) -> int: ...
    def expn(self, argument: str) -> int: ...
    def help(self, topic: str) -> int: ...
    def etrn(self, node: str) -> int: ...
    def command(self, line: str) -> int: ...
    def xclient(self, attributes: Sequence[tuple[str, str]]) -> int: ...
    def xforward(self, attributes: Sequence[tuple[str, str]]) -> int: ...
    def auth(self, mechanism: str, initial: bytes | None) -> int: ...
    def respond(self, response: bytes) -> None: ...
    def cancel(self) -> None: ...
    def quit(self) -> int: ...
    def next_event(self) -> _ClientEvent | None: ...
    def __iter__(self) -> ClientConnection: ...
    def __next__(self) -> _ClientEvent: ...
    def data_to_send(self) -> bytes: ...
    def flush(self, descriptor: int) -> _ClientEvent | bytes | int | None: ...
    def exchange(self, descriptor: int) -> _ClientEvent | bytes | int | None: ...
    exchanged_at: float
    config: ClientConfig
    timeout: float | None
    capabilities: Capabilities
    greeting: Reply | None
    is_tls: bool
    authenticated: bool
    closed: bool
    idle: bool
    unfinished: int
    mail_left: int | None
    transcript: str
    def take_transcript(self) -> str: ...

class ReceiveBuffer:
    def __new__(cls, size: int) -> ReceiveBuffer: ...
    view: memoryview
    def __len__(self) -> int: ...

class Command:
    verb: str
    argument: bytes
    sender: Sender | None
    recipient: Recipient | None
    name: str | None
    size: int | None
    last: bool
    mechanism: str | None
    initial_response: bytes | None
    attributes: tuple[tuple[str, str], ...]
    def to_bytes(self) -> bytes: ...

def parse_command(line: Buffer, *, lenient: Iterable[str]) -> Command: ...

class DotDecoder:
    def __new__(cls, bare_newlines: _BareNewlines) -> DotDecoder: ...
    def feed(self, data: Buffer) -> tuple[bytes, int]: ...
    done: bool
    flags: frozenset[str]
    octets: int

class DotEncoder:
    def __new__(cls, bare_newlines: Literal["normalize", "reject"]) -> DotEncoder: ...
    def feed(self, data: Buffer) -> bytes: ...
    def finish(self) -> bytes: ...

def dot_stuff(content: Buffer) -> bytes: ...
def dot_unstuff(wire: Buffer) -> bytes: ...

class Capabilities:
    @staticmethod
    def parse(reply: Reply) -> Capabilities: ...
    greeting: str
    name: str
    keywords: tuple[tuple[str, str], ...]
    def __contains__(self, keyword: str, /) -> bool: ...
    size: int | None
    auth: tuple[str, ...]
    limits: dict[str, int]

def xtext_encode(octets: Buffer) -> str: ...
def xtext_decode(text: str | Buffer) -> bytes: ...

class DkimBody:
    def __new__(cls, form: Literal["simple", "relaxed"]) -> DkimBody: ...
    def feed(self, data: Buffer) -> bytes: ...
    def finish(self) -> bytes: ...
    has_bare_newline: bool

def dkim_fields(content: bytes) -> tuple[list[bytes], int]: ...
def dkim_header(field: Buffer, form: Literal["simple", "relaxed"]) -> bytes: ...
