"""The server's side of SASL, without I/O (RFC 4422, RFC 4954).

A server makes a :class:`ServerExchange` for each AUTH and follows its steps: send a challenge, ask the program about
credentials, accept an identity, or refuse. Each mechanism is a generator that yields challenges and questions.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
from ehlo._sasl.common import NONCE, SCRAM, attributes, b64, digest, from_saslname, unb64, xor
from ehlo._sasl.credentials import (
    CramCredentials,
    Credentials,
    ExternalCredentials,
    Identity,
    OAuthError,
    PasswordCredentials,
    ScramCredentials,
    ScramKeys,
    TokenCredentials,
    Verdict,
)

__all__ = ["Accept", "Ask", "Refuse", "SaslContext", "Send", "ServerExchange", "Step", "judge_own"]

_WRONG: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
_MALFORMED: Final = Reply(501, "5.5.2", "Malformed authentication message")
_UNKNOWN: Final = Reply(504, "5.5.4", "Mechanism not supported")


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
    nonce: Callable[[], str] = field(default=lambda: b64(secrets.token_bytes(18)), repr=False)


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


def judge_own(verdict: Verdict) -> Accept | Refuse:
    """The end of an exchange that the program speaks itself (:meth:`ehlo.Handler.on_sasl`): only a name accepts.

    Raises:
        TypeError: it is no verdict, or a yes without a name.
        LocalProtocolError: it is a positive reply (RFC 4954 4).
    """
    if verdict is True:
        raise TypeError("on_sasl accepts by ehlo.Identity: only the program knows who the client is")
    if isinstance(verdict, Identity):
        return Accept(verdict.name)
    return Refuse(_reply_of(verdict))


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
        authzid = from_saslname(gs2[1] or "")
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
    algorithm = SCRAM[mechanism]
    plus = mechanism.endswith("-PLUS")
    first = _text((yield Send(b"")))
    gs2 = re.match(r"(?:p=([A-Za-z0-9.-]+)|([ny])),(?:a=([^,]*))?,", first)
    if gs2 is None:
        raise _RefusedError(_MALFORMED)
    binding, flag, bare = gs2[1], gs2[2], first[gs2.end() :]
    try:
        name, client_nonce = attributes(bare, "nr")
        username, authzid = from_saslname(name), from_saslname(gs2[3] or "")
    except ValueError:
        raise _RefusedError(_MALFORMED) from None
    if not username or not NONCE.fullmatch(client_nonce) or plus != (binding is not None):
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
    server_first = f"r={nonce},s={b64(keys.salt)},i={keys.iterations}"
    final = _text((yield Send(server_first.encode())))
    without_proof, comma, proof_attribute = final.rpartition(",")
    try:
        bound, echoed = attributes(without_proof, "cr")
        channel, proof = unb64(bound), unb64(attributes(proof_attribute, "p")[0])
    except ValueError:
        raise _RefusedError(_MALFORMED) from None
    if not comma or len(proof) != len(keys.stored_key):
        raise _RefusedError(_MALFORMED)
    data = context.channel_bindings[binding] if binding is not None else b""
    message = f"{bare},{server_first},{without_proof}".encode()
    client_key = xor(proof, hmac.digest(keys.stored_key, message, algorithm))
    good = hmac.compare_digest(digest(algorithm, client_key), keys.stored_key)
    good &= hmac.compare_digest(echoed.encode(), nonce.encode())
    good &= hmac.compare_digest(channel, gs2[0].encode() + data)
    if not (good and known):
        raise _RefusedError(refusal)
    identity = _own(credentials)
    signature = hmac.digest(keys.server_key, message, algorithm)
    # RFC 4954 4: it cannot ride on the 235, so it is a challenge that the client answers with nothing.
    if _response((yield Send(f"v={b64(signature)}".encode()))):
        raise _RefusedError(_MALFORMED)
    return identity


_SERVERS: Final[dict[str, Callable[[str, SaslContext], _Run]]] = {
    "PLAIN": _serve_plain,
    "LOGIN": _serve_login,
    "CRAM-MD5": _serve_cram,
    "EXTERNAL": _serve_external,
    "OAUTHBEARER": _serve_oauthbearer,
    "XOAUTH2": _serve_xoauth2,
    **dict.fromkeys(SCRAM, _serve_scram),
}
