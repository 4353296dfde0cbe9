"""SASL mechanisms (RFC 4422), both sides, without I/O: what AUTH (RFC 4954) carries in its challenges and responses.

A server makes a :class:`ServerExchange` for each AUTH and follows its steps. A client makes a
:class:`ClientMechanism` by :func:`client_mechanism`. Secrets are in no ``repr`` and in no exception; they are compared
in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import stringprep
import time
import unicodedata
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ehlo._core import Reply
from ehlo._errors import EhloError, LocalProtocolError

__all__ = [
    "MECHANISMS",
    "ClientMechanism",
    "CramCredentials",
    "Credentials",
    "ExternalCredentials",
    "Identity",
    "OAuthError",
    "PasswordCredentials",
    "SaslContext",
    "SaslError",
    "ScramCredentials",
    "ScramKeys",
    "ServerExchange",
    "TokenCredentials",
    "client_mechanism",
    "saslprep",
]

MIN_ITERATIONS: Final = 4096  # RFC 5802 5.1, RFC 7677 4: at least
MAX_ITERATIONS: Final = 1_000_000  # a server that asks for more wants our time, not our password

_WRONG: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
_MALFORMED: Final = Reply(501, "5.5.2", "Malformed authentication message")
_UNKNOWN: Final = Reply(504, "5.5.4", "Mechanism not supported")

_SCRAM: Final = {
    "SCRAM-SHA-1": "sha1",
    "SCRAM-SHA-1-PLUS": "sha1",
    "SCRAM-SHA-256": "sha256",
    "SCRAM-SHA-256-PLUS": "sha256",
}


class SaslError(EhloError):
    """The server's side of an exchange is wrong, or did not prove that it knows the password (RFC 5802 3).

    Example::

        try:
            mechanism.respond(challenge)
        except ehlo.SaslError: conn.cancel()
    """


# ---- what both sides need ------------------------------------------------------------------------


def saslprep(text: str) -> str:
    """A user name or password in the form that is compared and hashed (SASLprep, RFC 4013).

    Arguments:
        text: as it was typed.

    Raises:
        ValueError: it holds a character that RFC 4013 2.3 prohibits, or mixes directions (RFC 3454 6).

    Example::

        >>> saslprep("I\\u00adX")
        'IX'
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )  # RFC 4013 2.1
    prepared = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(c) for c in prepared for table in prohibited):
        raise ValueError("it holds a character that RFC 4013 2.3 prohibits")
    if any(stringprep.in_table_d1(c) for c in prepared) and (
        any(stringprep.in_table_d2(c) for c in prepared)
        or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))
    ):
        raise ValueError("it mixes directions of writing (RFC 3454 6)")
    return prepared


def _prepared(secret: str | bytes) -> bytes:
    """A secret as octets; one that SASLprep has no form for stands for itself."""
    if isinstance(secret, bytes):
        return secret
    try:
        return saslprep(secret).encode()
    except ValueError:
        return secret.encode("utf-8", "surrogatepass")


def _digest(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data).digest()


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _saslname(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")  # RFC 5802 5.1


def _from_saslname(name: str) -> str:
    if re.search("=(?!2C|3D)", name):
        raise ValueError("a stray = in a saslname")
    return name.replace("=2C", ",").replace("=3D", "=")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)  # binascii.Error is a ValueError


def _attributes(message: str, wanted: str) -> list[str]:
    """The values of a SCRAM message whose first attributes are ``wanted``; extensions may follow (RFC 5802 5.1)."""
    parts = message.split(",")
    if len(parts) < len(wanted) or any(
        not part.startswith(f"{letter}=") for letter, part in zip(wanted, parts, strict=False)
    ):
        raise ValueError("not the attributes that have to be there")
    return [part[2:] for part in parts[: len(wanted)]]


_NONCE: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")  # printable but for the comma (RFC 5802 7)


# ---- credentials: what a handler is asked about --------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client says of itself in AUTH. :meth:`ehlo.Handler.on_auth` gets one of the kinds below.

    Attributes:
        mechanism: the SASL mechanism, in upper case.
        username: whose credentials these are (the authentication identity, RFC 4422 2).
        authzid: whom the client wants to act as (the authorisation identity); empty to act as ``username``. To let it
            act as another, answer with ``ehlo.Identity(credentials.authzid)``: ``True`` refuses that (RFC 4616 2).

    Example::

        def on_auth(self, session, credentials):
            return credentials.check(PASSWORDS.get(credentials.username))
    """

    mechanism: str
    username: str
    authzid: str = ""

    @property
    def identity(self) -> str:
        """Whom the client is to be: ``authzid``, or else ``username``."""
        return self.authzid or self.username


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordCredentials(Credentials):
    """A password in clear, of PLAIN (RFC 4616) or LOGIN.

    Example::

        if isinstance(credentials, ehlo.PasswordCredentials):
            return verify_hash(HASHES[credentials.username], credentials.password)
    """

    password: str = field(repr=False)

    def check(self, secret: str | bytes | None) -> bool:
        """Whether the password is ``secret``, in constant time. ``None`` (no such user) takes as long, and is False.

        Both are compared in the form of SASLprep (RFC 4616 2).
        """
        given = _digest("sha256", _prepared(self.password))
        kept = _digest("sha256", b"" if secret is None else _prepared(secret))
        return hmac.compare_digest(given, kept) and secret is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CramCredentials(Credentials):
    """A digest made with the password, of CRAM-MD5 (RFC 2195): the server has to know the password in clear.

    Example::

        if isinstance(credentials, ehlo.CramCredentials):
            return credentials.check(PASSWORDS.get(credentials.username))
    """

    challenge: bytes = field(repr=False)
    digest: str = field(repr=False)

    def check(self, secret: str | bytes | None) -> bool:
        """Whether the digest was made with ``secret``, in constant time. ``None`` (no such user) takes as long."""
        expected = hmac.new(b"" if secret is None else _prepared(secret), self.challenge, "md5").hexdigest()
        return hmac.compare_digest(expected, self.digest) and secret is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCredentials(Credentials):
    """A bearer token, of OAUTHBEARER (RFC 7628) or XOAUTH2.

    Attributes:
        token: to be validated by the program.
        host: the host name the client says it connected to, ``None`` if it says none (RFC 7628 3.1).
        port: the same for the port.

    Example::

        if isinstance(credentials, ehlo.TokenCredentials):
            return ehlo.Identity((await introspect(credentials.token)).subject)
    """

    token: str = field(repr=False)
    host: str | None = None
    port: int | None = None

    def check(self, token: str | bytes | None) -> bool:
        """Whether the token is this one, in constant time; ``None`` is False."""
        kept = b"" if token is None else token.encode() if isinstance(token, str) else token
        return hmac.compare_digest(_digest("sha256", self.token.encode()), _digest("sha256", kept)) and bool(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCredentials(Credentials):
    """What another layer knows of the client, of EXTERNAL (RFC 4422 App. A). ``username`` is empty.

    Attributes:
        certificate: the client's verified certificate, as the adapter has it: that of
            :meth:`ssl.SSLObject.getpeercert`, usually.

    Example::

        if isinstance(credentials, ehlo.ExternalCredentials):
            return ehlo.Identity(common_name(credentials.certificate))
    """

    certificate: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScramCredentials(Credentials):
    """SCRAM (RFC 5802, 7677) asks for the stored keys of a user. Answer with :class:`ScramKeys`, or with ``None`` where
    there is no such user: the client then sees the same as for a wrong password; see :meth:`ScramKeys.decoy`. Who
    asks to act as somebody else (``authzid``) is refused.

    Attributes:
        algorithm: ``"sha1"`` or ``"sha256"``, as :mod:`hashlib` names it.
        channel_bound: the exchange is bound to the TLS channel (a mechanism in -PLUS).

    Example::

        if isinstance(credentials, ehlo.ScramCredentials):
            return KEYS.get((credentials.username, credentials.algorithm))
    """

    algorithm: str = "sha256"
    channel_bound: bool = False


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps of a password for SCRAM (RFC 5802 3). None of it is the password.

    Arguments:
        salt: octets, random for each user.
        iterations: of PBKDF2; 4096 at least (RFC 7677 4).
        stored_key: ``H(ClientKey)``.
        server_key: ``HMAC(SaltedPassword, "Server Key")``.

    Raises:
        LocalProtocolError: for fewer iterations, or no salt.

    Example::

        keys = ehlo.ScramKeys.from_password("pencil", iterations=10_000)
        KEYS["jane", "sha256"] = keys
    """

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.iterations < MIN_ITERATIONS:
            raise LocalProtocolError(f"SCRAM needs {MIN_ITERATIONS} iterations (RFC 7677 4), not {self.iterations}")
        if not self.salt:
            raise LocalProtocolError("SCRAM needs a salt (RFC 5802 5.1)")

    @classmethod
    def from_password(
        cls, password: str | bytes, *, algorithm: str = "sha256", salt: bytes | None = None, iterations: int = 4096
    ) -> ScramKeys:
        """The keys of ``password``, with a fresh salt of 16 octets if none is given.

        Arguments:
            password: in clear; brought into the form of SASLprep.
            algorithm: ``"sha256"`` for SCRAM-SHA-256, ``"sha1"`` for SCRAM-SHA-1.
            salt: octets.
            iterations: of PBKDF2.

        Example::

            keys = ScramKeys.from_password("pencil", iterations=10_000)
        """
        salt = secrets.token_bytes(16) if salt is None else salt
        salted = hashlib.pbkdf2_hmac(algorithm, _prepared(password), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        return cls(salt, iterations, _digest(algorithm, client_key), server_key)

    @classmethod
    def decoy(
        cls, username: str, *, secret: bytes, algorithm: str = "sha256", iterations: int = MIN_ITERATIONS
    ) -> ScramKeys:
        """Keys that no password fits, for a user that is not there: it then looks like the others (RFC 5802 9).

        Without them :meth:`ehlo.Handler.on_auth` may answer ``None``, and a decoy is made with a secret of this process
        and with 4096 iterations. Where the users have more, or there are several processes, that can be told apart.

        Arguments:
            username: as the client gave it.
            secret: octets that stay the same, and that nobody else knows.
            algorithm: as in :attr:`ScramCredentials.algorithm`.
            iterations: as the users have.

        Example::

            keys = KEYS.get(credentials.username) or ScramKeys.decoy(credentials.username, secret=SECRET)
        """
        salt = hmac.digest(secret, f"{algorithm} {username}".encode("utf-8", "surrogatepass"), "sha256")[:16]
        size = hashlib.new(algorithm).digest_size
        return cls(salt, iterations, secrets.token_bytes(size), secrets.token_bytes(size))


# ---- verdicts: what a handler says ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """The answer of :meth:`ehlo.Handler.on_auth` that accepts the client as ``name``, whatever it called itself.

    Example::

        return ehlo.Identity("jane@example.org")
    """

    name: str


@dataclass(frozen=True, slots=True)
class OAuthError:
    """The answer of :meth:`ehlo.Handler.on_auth` that refuses a token and says why (RFC 7628 3.2.2).

    Arguments:
        status: of the registry of OAuth errors, like ``"invalid_token"`` or ``"insufficient_scope"``.
        scope: what a token would need.
        openid_configuration: URL of the OpenID provider's configuration.
        schemes: schemes that are taken.

    Example::

        return ehlo.OAuthError("invalid_token", scope="mail")
    """

    status: str = "invalid_token"
    scope: str | None = None
    openid_configuration: str | None = None
    schemes: str | None = None

    def to_json(self) -> bytes:
        """The message for the client."""
        said = {
            "status": self.status,
            "schemes": self.schemes,
            "scope": self.scope,
            "openid-configuration": self.openid_configuration,
        }
        return json.dumps({k: v for k, v in said.items() if v is not None}, separators=(",", ":")).encode()


Verdict: TypeAlias = bool | Identity | ScramKeys | OAuthError | Reply | str | None


# ---- the server's side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send this challenge, and come back with the response."""

    challenge: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the program about these credentials, and come back with what it says."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Accept:
    """The client is who it says it is."""

    identity: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The client gets this reply."""

    reply: Reply


Step: TypeAlias = Send | Ask | Accept | Refuse


@dataclass(frozen=True, slots=True)
class SaslContext:
    """What a mechanism needs to know of the session.

    Arguments:
        hostname: our name, for the challenge of CRAM-MD5.
        channel_bindings: what the TLS layer gives, by type: ``{"tls-exporter": b"..."}`` (RFC 5929, 9266).
        offered: the mechanisms that this client was offered, to find a downgrade (RFC 5802 6).
        certificate: the client's verified certificate, for EXTERNAL.
        secret: octets that stay the same between connections, from which the salt of users that are not there is
            made.
        nonce: makes the server's part of SCRAM's nonce.

    Example::

        context = SaslContext(hostname="mx.example", offered=frozenset(config.auth))
    """

    hostname: str = "localhost"
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    offered: frozenset[str] = frozenset()
    certificate: object = field(default=None, repr=False)
    secret: bytes = field(default=b"", repr=False)
    nonce: Callable[[], str] = field(default=lambda: _b64(secrets.token_bytes(18)), repr=False)


class _RefusedError(Exception):
    """Ends an exchange from wherever it is. Not seen outside."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


# What a mechanism yields, what it gets back, and whom it accepts in the end.
_Run: TypeAlias = Generator[Send | Ask, bytes | Verdict, str]

# Without a secret of the program's own the salt of an unknown user is the same as long as this process lives.
_SECRET: Final = secrets.token_bytes(32)


class ServerExchange:
    """One AUTH on the server's side. Each method gives the next step: :class:`Send`, :class:`Ask`, :class:`Accept` or
    :class:`Refuse`; after the last two it is over. Nothing that a client sends raises.

    Arguments:
        mechanism: its name, as in :data:`MECHANISMS`.
        context: what the mechanism needs to know.

    Example::

        exchange = ServerExchange("PLAIN", SaslContext())
        step = exchange.start(event.initial_response)
    """

    __slots__ = ("_run", "mechanism")

    def __init__(self, mechanism: str, context: SaslContext | None = None) -> None:
        self.mechanism = mechanism.upper()
        self._run: _Run | None = None
        make = _SERVERS.get(self.mechanism)
        if make is not None:
            self._run = make(self.mechanism, context if context is not None else SaslContext())

    def start(self, initial: bytes | None) -> Step:
        """AUTH came, with its initial response (RFC 4954 4); ``None`` is none."""
        if self._run is None:
            return Refuse(_UNKNOWN)
        step = self._next(None)
        if initial is None or not isinstance(step, Send):
            return step
        if step.challenge and self.mechanism != "LOGIN":  # the server speaks first: there can be none
            self._run = None
            return Refuse(Reply(501, "5.7.0", "This mechanism has no initial response"))
        return self._next(initial)

    def respond(self, data: bytes) -> Step:
        """The response to the challenge of :class:`Send`, decoded."""
        return self._next(data)

    def decide(self, verdict: Verdict) -> Step:
        """What the program says to :class:`Ask`; what it may say is in :meth:`ehlo.Handler.on_auth`."""
        return self._next(verdict)

    def _next(self, value: bytes | Verdict) -> Step:
        run = self._run
        if run is None:
            raise LocalProtocolError("this exchange is over")
        self._run = None  # a generator that raised must not be asked again: its end would look like a yes
        try:
            step = run.send(value)
        except StopIteration as done:
            return Accept(done.value)
        except _RefusedError as refused:
            return Refuse(refused.reply)
        self._run = run
        return step


def _judge(verdict: bytes | Verdict, credentials: Credentials) -> str:
    """Whom the program's answer accepts; raises if it refuses. Nothing but a plain yes accepts.

    A plain yes is about the credentials. That their owner may act as somebody else is another question (RFC 4616 2,
    RFC 4422 3.4.1), and only :class:`Identity` answers it.
    """
    if verdict is True:
        if not credentials.username:
            raise TypeError(
                f"on_auth answers {credentials.mechanism} with ehlo.Identity: only the program knows whose it is"
            )
        return _own(credentials)
    if isinstance(verdict, Identity):
        return verdict.name
    raise _RefusedError(_reply_of(verdict))


def _own(credentials: Credentials) -> str:
    """The owner of the credentials, if nobody else is asked for."""
    if credentials.authzid not in ("", credentials.username):
        raise _RefusedError(_WRONG)
    return credentials.username


def _reply_of(verdict: bytes | Verdict) -> Reply:
    if verdict is None or verdict is False or isinstance(verdict, OAuthError):
        return _WRONG
    if isinstance(verdict, str):
        verdict = Reply.parse(verdict)
    if not isinstance(verdict, Reply):
        raise TypeError(f"on_auth answers with a bool, ehlo.Identity or a reply here, not {type(verdict).__name__}")
    if verdict.is_positive:
        raise LocalProtocolError("on_auth accepts by True or ehlo.Identity, not by a positive reply (RFC 4954 4)")
    return verdict


def _response(value: bytes | Verdict) -> bytes:
    assert isinstance(value, bytes)
    return value


def _text(value: bytes | Verdict) -> str:
    try:
        return _response(value).decode("utf-8")
    except UnicodeDecodeError:
        raise _RefusedError(_MALFORMED) from None


def _serve_plain(mechanism: str, context: SaslContext) -> _Run:
    """RFC 4616 2: ``[authzid] NUL authcid NUL passwd``."""
    parts = _text((yield Send(b""))).split("\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise _RefusedError(_MALFORMED)
    credentials = PasswordCredentials(mechanism=mechanism, authzid=parts[0], username=parts[1], password=parts[2])
    return _judge((yield Ask(credentials)), credentials)


def _serve_login(mechanism: str, context: SaslContext) -> _Run:
    """No RFC: two prompts. An initial response is the user name, as everybody has it."""
    username = _text((yield Send(b"Username:")))
    password = _text((yield Send(b"Password:")))
    if not username or not password or "\0" in username + password:
        raise _RefusedError(_MALFORMED)
    credentials = PasswordCredentials(mechanism=mechanism, username=username, password=password)
    return _judge((yield Ask(credentials)), credentials)


def _serve_cram(mechanism: str, context: SaslContext) -> _Run:
    """RFC 2195 2: a msg-id, answered by ``user SP`` and the digest; a user's name may hold spaces."""
    challenge = f"<{secrets.randbits(64)}.{time.time_ns()}@{context.hostname}>".encode()
    username, _, digest = _text((yield Send(challenge))).rpartition(" ")
    if not username or not re.fullmatch("[0-9a-f]{32}", digest):
        raise _RefusedError(_MALFORMED)
    credentials = CramCredentials(mechanism=mechanism, username=username, challenge=challenge, digest=digest)
    return _judge((yield Ask(credentials)), credentials)


def _serve_external(mechanism: str, context: SaslContext) -> _Run:
    """RFC 4422 App. A.1: an authorisation identity, or nothing."""
    authzid = _text((yield Send(b"")))
    if "\0" in authzid:
        raise _RefusedError(_MALFORMED)
    if context.certificate is None:
        raise _RefusedError(_WRONG)
    credentials = ExternalCredentials(
        mechanism=mechanism, username="", authzid=authzid, certificate=context.certificate
    )
    return _judge((yield Ask(credentials)), credentials)


_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")  # RFC 6750 2.1


def _serve_oauthbearer(mechanism: str, context: SaslContext) -> _Run:
    """RFC 7628 3.1."""
    message = _text((yield Send(b"")))
    header, *pairs = message.split("\x01")
    gs2 = re.fullmatch(r"[ny],(?:(?:a|user)=([^,]*))?,", header)  # "user=" as RFC 7628 4.4 has it
    if gs2 is None or pairs[-2:] != ["", ""]:
        raise _RefusedError(_MALFORMED)
    values = dict(pair.partition("=")[::2] for pair in pairs[:-2])
    bearer = _BEARER.fullmatch(values.get("auth", ""))
    port = values.get("port")
    if bearer is None or (port is not None and not re.fullmatch("[1-9][0-9]{0,4}", port)):
        raise _RefusedError(_MALFORMED)
    try:
        authzid = _from_saslname(gs2[1] or "")
    except ValueError:
        raise _RefusedError(_MALFORMED) from None
    credentials = TokenCredentials(
        mechanism=mechanism,
        username="",
        authzid=authzid,
        token=bearer[1],
        host=values.get("host"),
        port=None if port is None else int(port),
    )
    return (yield from _judge_token(credentials, OAuthError()))


def _serve_xoauth2(mechanism: str, context: SaslContext) -> _Run:
    """No RFC: ``user=`` and ``auth=Bearer``, each with a control A behind it, and one more."""
    message = _text((yield Send(b"")))
    parts = re.fullmatch("user=([^\x01]+)\x01auth=([^\x01]+)\x01\x01", message)
    bearer = None if parts is None else _BEARER.fullmatch(parts[2])
    if parts is None or bearer is None:
        raise _RefusedError(_MALFORMED)
    credentials = TokenCredentials(mechanism=mechanism, username=parts[1], token=bearer[1])
    return (yield from _judge_token(credentials, OAuthError("401", schemes="bearer")))


def _judge_token(credentials: TokenCredentials, error: OAuthError) -> _Run:
    """RFC 7628 3.2.3: a refusal is a challenge with JSON, a dummy response to it, and only then the reply."""
    verdict = yield Ask(credentials)
    if verdict is True and not credentials.identity:
        raise TypeError("on_auth answers with ehlo.Identity where the client did not say who it is")
    if verdict is True or isinstance(verdict, Identity):
        return _judge(verdict, credentials)
    reply = _reply_of(verdict)
    if not reply.is_temporary:
        # What the dummy holds does not matter: some clients of XOAUTH2 send nothing, some a control A.
        yield Send((verdict if isinstance(verdict, OAuthError) else error).to_json())
    raise _RefusedError(reply)


def _serve_scram(mechanism: str, context: SaslContext) -> _Run:
    """RFC 5802 3 and 5."""
    algorithm = _SCRAM[mechanism]
    plus = mechanism.endswith("-PLUS")
    first = _text((yield Send(b"")))
    gs2 = re.match(r"(?:p=([A-Za-z0-9.-]+)|([ny])),(?:a=([^,]*))?,", first)
    if gs2 is None:
        raise _RefusedError(_MALFORMED)
    binding, flag, bare = gs2[1], gs2[2], first[gs2.end() :]
    try:
        name, client_nonce = _attributes(bare, "nr")
        username, authzid = _from_saslname(name), _from_saslname(gs2[3] or "")
    except ValueError:
        raise _RefusedError(_MALFORMED) from None
    if not username or not _NONCE.fullmatch(client_nonce) or plus != (binding is not None):
        raise _RefusedError(_MALFORMED)
    # A client that could bind, and thinks that we cannot: somebody took -PLUS out of our list (RFC 5802 6).
    if (flag == "y" and f"{mechanism}-PLUS" in context.offered) or (plus and binding not in context.channel_bindings):
        raise _RefusedError(_WRONG)

    credentials = ScramCredentials(
        mechanism=mechanism, username=username, authzid=authzid, algorithm=algorithm, channel_bound=plus
    )
    verdict = yield Ask(credentials)
    if verdict is True or isinstance(verdict, Identity | OAuthError):
        raise TypeError("on_auth answers SCRAM with ehlo.ScramKeys, or with None where there is no such user")
    known, refusal = isinstance(verdict, ScramKeys), _WRONG
    if isinstance(verdict, ScramKeys):
        keys = verdict
    else:
        refusal = _reply_of(verdict)
        if refusal.code != _WRONG.code:
            raise _RefusedError(refusal)
        # An unknown user gets a salt, always the same, and finds out no sooner than with a wrong password.
        keys = ScramKeys.decoy(username, secret=context.secret or _SECRET, algorithm=algorithm)

    nonce = client_nonce + context.nonce()
    server_first = f"r={nonce},s={_b64(keys.salt)},i={keys.iterations}"
    final = _text((yield Send(server_first.encode())))
    without_proof, comma, proof_attribute = final.rpartition(",")
    try:
        bound, echoed = _attributes(without_proof, "cr")
        channel, proof = _unb64(bound), _unb64(_attributes(proof_attribute, "p")[0])
    except ValueError:
        raise _RefusedError(_MALFORMED) from None
    if not comma or len(proof) != len(keys.stored_key):
        raise _RefusedError(_MALFORMED)
    data = context.channel_bindings[binding] if binding is not None else b""
    message = f"{bare},{server_first},{without_proof}".encode()
    client_key = _xor(proof, hmac.digest(keys.stored_key, message, algorithm))
    good = hmac.compare_digest(_digest(algorithm, client_key), keys.stored_key)
    good &= hmac.compare_digest(echoed.encode(), nonce.encode())
    good &= hmac.compare_digest(channel, gs2[0].encode() + data)
    if not (good and known):
        raise _RefusedError(refusal)
    identity = _own(credentials)
    signature = hmac.digest(keys.server_key, message, algorithm)
    # RFC 4954 4: it cannot ride on the 235, so it is a challenge that the client answers with nothing.
    if _response((yield Send(f"v={_b64(signature)}".encode()))):
        raise _RefusedError(_MALFORMED)
    return identity


_SERVERS: Final[dict[str, Callable[[str, SaslContext], _Run]]] = {
    "PLAIN": _serve_plain,
    "LOGIN": _serve_login,
    "CRAM-MD5": _serve_cram,
    "EXTERNAL": _serve_external,
    "OAUTHBEARER": _serve_oauthbearer,
    "XOAUTH2": _serve_xoauth2,
    **dict.fromkeys(_SCRAM, _serve_scram),
}

MECHANISMS: Final = frozenset(_SERVERS)
"""The mechanisms that are there, on both sides."""


# ---- the client's side ---------------------------------------------------------------------------


class ClientMechanism:
    """One AUTH on the client's side; made by :func:`client_mechanism`, for one exchange.

    Attributes:
        name: the SASL name, in upper case.
        done: nothing is left to answer: a 235 may come. After it, :meth:`verify`.

    Example::

        mechanism = client_mechanism("SCRAM-SHA-256", username="jane", password=password)
        first = mechanism.initial()
    """

    name: str = ""
    done: bool = False

    def initial(self) -> bytes | None:
        """The initial response, not in base64; ``None`` where the server speaks first. It may also be given later,
        as the answer to an empty challenge (RFC 4954 4).
        """
        return None

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge, both not in base64.

        Raises:
            SaslError: the challenge is not what the mechanism has there: cancel by ``*`` (RFC 4954 4).
        """
        raise SaslError(f"{self.name}: the server asks for more than the mechanism has")

    def verify(self) -> None:
        """A 235 came: whether the server has proved what the mechanism asks it to prove.

        Raises:
            SaslError: it has not. The session must not be used (RFC 5802 3).
        """
        if not self.done:
            raise SaslError(f"{self.name}: the server accepted before the exchange was over")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} done={self.done}>"


class _OneMessage(ClientMechanism):
    """Mechanisms of which the first message of the client is all."""

    def __init__(self, name: str, message: bytes) -> None:
        self.name = name
        self._message = message
        self._told = False

    def initial(self) -> bytes | None:
        self._told = self.done = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        if self._told or challenge:
            raise SaslError(f"{self.name}: a challenge where none belongs")
        self._told = self.done = True
        return self._message


class _Token(_OneMessage):
    """OAUTHBEARER and XOAUTH2: after the message a challenge can only be an error (RFC 7628 3.2.2).

    Attributes:
        error: what the server said of the token, ``None`` as long as it said nothing.
    """

    def __init__(self, name: str, message: bytes, dummy: bytes) -> None:
        super().__init__(name, message)
        self._dummy = dummy
        self.error: dict[str, object] | None = None

    def respond(self, challenge: bytes) -> bytes:
        if not self._told:
            return super().respond(challenge)
        if self.error is not None:
            raise SaslError(f"{self.name}: a second error")
        try:
            said = json.loads(challenge)
        except (ValueError, RecursionError):  # it comes from the server
            said = None
        self.error = said if isinstance(said, dict) else {}
        self.done = False  # a 235 would be a contradiction
        return self._dummy


class _Login(ClientMechanism):
    name = "LOGIN"

    def __init__(self, username: str, password: str) -> None:
        self._answers = [username.encode(), password.encode()]

    def respond(self, challenge: bytes) -> bytes:
        # What the prompts say differs from server to server, their order does not.
        if not self._answers:
            raise SaslError("LOGIN: a third prompt")
        answer = self._answers.pop(0)
        self.done = not self._answers
        return answer


class _Cram(ClientMechanism):
    name = "CRAM-MD5"

    def __init__(self, username: str, password: str) -> None:
        self._username = username.encode()
        self._secret = _prepared(password)

    def respond(self, challenge: bytes) -> bytes:
        if self.done or not challenge:
            raise SaslError("CRAM-MD5: not one challenge")
        self.done = True
        return self._username + b" " + hmac.new(self._secret, challenge, "md5").hexdigest().encode()


class _Scram(ClientMechanism):
    def __init__(
        self,
        name: str,
        username: str,
        password: str,
        authzid: str,
        binding: tuple[str, bytes] | None,
        nonce: str,
    ) -> None:
        self.name = name
        self._algorithm = _SCRAM[name]
        self._password = _prepared(password)
        self._nonce = nonce
        plus = name.endswith("-PLUS")
        if plus and binding is None:
            raise LocalProtocolError(f"{name} needs a channel binding (RFC 5802 6)")
        # "y": we could, but think that the server cannot (RFC 5802 6).
        flag = "n" if binding is None else f"p={binding[0]}" if plus else "y"
        self._header = f"{flag},{'a=' + _saslname(authzid) if authzid else ''},"
        self._binding = binding[1] if plus and binding is not None else b""
        self._bare = f"n={_saslname(_prepared(username).decode())},r={nonce}"
        self._signature: bytes | None = None
        self._told = False

    def initial(self) -> bytes | None:
        self._told = True
        return (self._header + self._bare).encode()

    def respond(self, challenge: bytes) -> bytes:
        if not self._told and not challenge:
            return self.initial() or b""
        try:
            text = challenge.decode("utf-8")
            if self._signature is None:
                return self._prove(text)
            return self._verify(text)
        except ValueError:
            raise SaslError(f"{self.name}: a malformed message of the server") from None

    def _prove(self, server_first: str) -> bytes:
        nonce, salt, iterations = _attributes(server_first, "rsi")
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not _NONCE.fullmatch(nonce):
            raise SaslError(f"{self.name}: the server's nonce does not begin with ours (RFC 5802 5.1)")
        if not re.fullmatch("[1-9][0-9]{0,9}", iterations):
            raise ValueError("no iteration count")
        count = int(iterations)
        if not MIN_ITERATIONS <= count <= MAX_ITERATIONS:
            raise SaslError(f"{self.name}: {count} iterations are too few or too many (RFC 5802 5.1, 9)")
        algorithm = self._algorithm
        salted = hashlib.pbkdf2_hmac(algorithm, self._password, _unb64(salt), count)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        without_proof = f"c={_b64(self._header.encode() + self._binding)},r={nonce}"
        message = f"{self._bare},{server_first},{without_proof}".encode()
        proof = _xor(client_key, hmac.digest(_digest(algorithm, client_key), message, algorithm))
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        self._signature = hmac.digest(server_key, message, algorithm)
        return f"{without_proof},p={_b64(proof)}".encode()

    def _verify(self, server_final: str) -> bytes:
        if self.done:
            raise SaslError(f"{self.name}: a challenge behind the last one")
        if server_final.startswith("e="):
            raise SaslError(f"{self.name}: the server says {server_final[2:].split(',')[0]!r}")
        (verifier,) = _attributes(server_final, "v")
        assert self._signature is not None
        if not hmac.compare_digest(_unb64(verifier), self._signature):
            raise SaslError(f"{self.name}: the server does not know the password (RFC 5802 3)")
        self.done = True
        return b""


def client_mechanism(
    name: str,
    *,
    username: str = "",
    password: str | None = None,
    token: str | None = None,
    authzid: str = "",
    host: str | None = None,
    port: int | None = None,
    channel_binding: tuple[str, bytes] | None = None,
    nonce: str | None = None,
) -> ClientMechanism:
    """The client's side of one exchange.

    Arguments:
        name: of :data:`MECHANISMS`, in any case.
        username: whose credentials these are.
        password: for PLAIN, LOGIN, CRAM-MD5 and SCRAM.
        token: a bearer token, for OAUTHBEARER and XOAUTH2.
        authzid: whom to act as, if not ``username`` (PLAIN, SCRAM, EXTERNAL, OAUTHBEARER). OAUTHBEARER takes
            ``username`` if this is empty.
        host: the server's name, for OAUTHBEARER.
        port: the server's port, for OAUTHBEARER.
        channel_binding: type and octets, from the TLS layer. A mechanism in -PLUS needs it; to the others it says that
            we could, so that a server can find a downgrade (RFC 5802 6).
        nonce: SCRAM's, for tests; a fresh one by default.

    Raises:
        LocalProtocolError: the mechanism is not there, or something that it needs.

    Example::

        mechanism = client_mechanism("PLAIN", username="jane", password=password)
        conn.auth(mechanism.name, mechanism.initial())
    """
    name = name.upper()
    if name == "EXTERNAL":
        return _OneMessage(name, authzid.encode())
    if name in ("OAUTHBEARER", "XOAUTH2"):
        if token is None:
            raise LocalProtocolError(f"{name} needs a token")
        if "\x01" in username + authzid + token + (host or ""):
            raise LocalProtocolError(f"{name} cannot carry a control A")
        if name == "XOAUTH2":
            return _Token(name, f"user={username}\x01auth=Bearer {token}\x01\x01".encode(), b"")
        who = authzid or username
        pairs = [f"host={host}\x01" if host else "", f"port={port}\x01" if port is not None else ""]
        header = f"n,{'a=' + _saslname(who) if who else ''},\x01"
        return _Token(name, f"{header}{''.join(pairs)}auth=Bearer {token}\x01\x01".encode(), b"\x01")
    if name not in MECHANISMS:
        raise LocalProtocolError(f"{name!r} is no mechanism that is there: {', '.join(sorted(MECHANISMS))}")
    if password is None or not username or not password:
        raise LocalProtocolError(f"{name} needs a user name and a password")
    if "\0" in username + password + authzid:
        raise LocalProtocolError(f"{name} cannot carry a NUL")
    if name == "PLAIN":
        return _OneMessage(name, f"{authzid}\0{username}\0{password}".encode())
    if authzid and name in ("LOGIN", "CRAM-MD5"):
        raise LocalProtocolError(f"{name} cannot carry an authorisation identity")
    if name == "LOGIN":
        return _Login(username, password)
    if name == "CRAM-MD5":
        return _Cram(username, password)
    return _Scram(name, username, password, authzid, channel_binding, nonce or _b64(secrets.token_bytes(18)))
