"""The client's side of SASL, without I/O (RFC 4422, RFC 4954).

:func:`client_mechanism` makes a :class:`ClientMechanism` for one AUTH. It gives the initial response, answers the
challenges, and checks at the end whether the server has proved what the mechanism asks it to prove.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets

from ehlo._errors import LocalProtocolError, SaslError
from ehlo._sasl.common import (
    MAX_ITERATIONS,
    MECHANISMS,
    MIN_ITERATIONS,
    NONCE,
    SCRAM,
    attributes,
    b64,
    check_text,
    digest,
    prepared,
    to_saslname,
    unb64,
    xor,
)

__all__ = ["ClientMechanism", "client_mechanism"]


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
        raise SaslError(f"{self.name}: the server sent an unexpected challenge")

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
        self._sent = False

    def initial(self) -> bytes | None:
        self._sent = self.done = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        if self._sent or challenge:
            raise SaslError(f"{self.name}: an unexpected challenge")
        self._sent = self.done = True
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
        if not self._sent:
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
        self._secret = prepared(password)

    def respond(self, challenge: bytes) -> bytes:
        if self.done or not challenge:
            raise SaslError("CRAM-MD5: more or less than one challenge")
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
        self._algorithm = SCRAM[name]
        self._password = prepared(password)
        self._nonce = nonce
        plus = name.endswith("-PLUS")
        if plus and binding is None:
            raise LocalProtocolError(f"{name} needs a channel binding (RFC 5802 6)")
        # "y": we could, but think that the server cannot (RFC 5802 6).
        flag = "n" if binding is None else f"p={binding[0]}" if plus else "y"
        self._header = f"{flag},{'a=' + to_saslname(authzid) if authzid else ''},"
        self._binding = binding[1] if plus and binding is not None else b""
        self._bare = f"n={to_saslname(prepared(username).decode())},r={nonce}"
        self._signature: bytes | None = None
        self._sent = False

    def initial(self) -> bytes | None:
        self._sent = True
        return (self._header + self._bare).encode()

    def respond(self, challenge: bytes) -> bytes:
        if not self._sent and not challenge:
            return self.initial() or b""
        try:
            text = challenge.decode("utf-8")
            if self._signature is None:
                return self._prove(text)
            return self._verify(text)
        except ValueError:
            raise SaslError(f"{self.name}: the server sent a malformed message") from None

    def _prove(self, server_first: str) -> bytes:
        nonce, salt, iterations = attributes(server_first, "rsi")
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not NONCE.fullmatch(nonce):
            raise SaslError(f"{self.name}: the server's nonce does not begin with ours (RFC 5802 5.1)")
        if not re.fullmatch("[1-9][0-9]{0,9}", iterations):
            raise ValueError("no iteration count")
        count = int(iterations)
        if not MIN_ITERATIONS <= count <= MAX_ITERATIONS:
            raise SaslError(f"{self.name}: {count} iterations are too few or too many (RFC 5802 5.1, 9)")
        algorithm = self._algorithm
        salted = hashlib.pbkdf2_hmac(algorithm, self._password, unb64(salt), count)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        without_proof = f"c={b64(self._header.encode() + self._binding)},r={nonce}"
        message = f"{self._bare},{server_first},{without_proof}".encode()
        proof = xor(client_key, hmac.digest(digest(algorithm, client_key), message, algorithm))
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        self._signature = hmac.digest(server_key, message, algorithm)
        return f"{without_proof},p={b64(proof)}".encode()

    def _verify(self, server_final: str) -> bytes:
        if self.done:
            raise SaslError(f"{self.name}: a challenge after the last one")
        if server_final.startswith("e="):
            raise SaslError(f"{self.name}: the server says {server_final[2:].split(',')[0]!r}")
        (verifier,) = attributes(server_final, "v")
        assert self._signature is not None
        if not hmac.compare_digest(unb64(verifier), self._signature):
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
    for what, value in (("username", username), ("password", password), ("token", token), ("authzid", authzid)):
        check_text(f"{name}: the {what}", value)
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
        header = f"n,{'a=' + to_saslname(who) if who else ''},\x01"
        return _Token(name, f"{header}{''.join(pairs)}auth=Bearer {token}\x01\x01".encode(), b"\x01")
    if name not in MECHANISMS:
        raise LocalProtocolError(f"{name!r} is no mechanism; there are {', '.join(sorted(MECHANISMS))}")
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
    return _Scram(name, username, password, authzid, channel_binding, nonce or b64(secrets.token_bytes(18)))
