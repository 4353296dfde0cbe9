"""The credentials that a server's handler is asked about, and the verdicts that it may give.

Secrets are in no ``repr`` and in no exception. They are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import TypeAlias

from ehlo._core import Reply
from ehlo._errors import LocalProtocolError
from ehlo._sasl.common import MIN_ITERATIONS, digest, prepared

__all__ = [
    "CramCredentials",
    "Credentials",
    "ExternalCredentials",
    "Identity",
    "OAuthError",
    "PasswordCredentials",
    "ScramCredentials",
    "ScramKeys",
    "TokenCredentials",
    "Verdict",
]


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

    def check(self, secret: str | bytes | ScramKeys | None) -> bool:
        """Whether the password is ``secret``, in constant time. ``None`` (no such user) takes as long, and is False.

        Both are compared in the form of SASLprep (RFC 4616 2).

        Arguments:
            secret: the password in clear, or keys of SCRAM that were made from it. With keys it takes as long
                as ``keys.iterations`` of PBKDF2; for a user who is not there, give :meth:`ScramKeys.decoy`. For the
                text of :func:`ehlo.hash_password` there is :func:`ehlo.verify_password`.

        Example::

            return credentials.check(KEYS.get(name) or ScramKeys.decoy(name, secret=SECRET, iterations=10_000))
        """
        if isinstance(secret, ScramKeys):
            made = ScramKeys.from_password(
                self.password,
                algorithm="sha1" if len(secret.stored_key) == 20 else "sha256",
                salt=secret.salt,
                iterations=secret.iterations,
            )
            return hmac.compare_digest(made.stored_key, secret.stored_key)
        given = digest("sha256", prepared(self.password))
        kept = digest("sha256", b"" if secret is None else prepared(secret))
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
        expected = hmac.new(b"" if secret is None else prepared(secret), self.challenge, "md5").hexdigest()
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
        return hmac.compare_digest(digest("sha256", self.token.encode()), digest("sha256", kept)) and bool(kept)


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

    def check(self, keys: ScramKeys | None) -> ScramKeys | None:
        """The answer of ``on_auth`` that lets the client prove its password against ``keys``: the keys themselves.

        One line then answers both SCRAM-SHA-256 and a password in clear; see :meth:`PasswordCredentials.check`.

        Example::

            return credentials.check(KEYS.get(credentials.username))
        """
        return keys


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
        salted = hashlib.pbkdf2_hmac(algorithm, prepared(password), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        return cls(salt, iterations, digest(algorithm, client_key), server_key)

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


# ---- verdicts: the answers of a handler ----------------------------------------------------------


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
