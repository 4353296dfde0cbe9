"""The users' file of ``ehlo serve``: a line for each, with a hash of the password. No password is ever in it.

    jane:$scrypt$ln=15,r=8,p=1$<salt>$<hash>
    john:$scram-sha-256$i=10000$<salt>$<stored key>$<server key>

Salts, hashes and keys are in base64 without ``=``. scrypt (RFC 7914) resists most who steal the file, and lets PLAIN
and LOGIN in. With the keys of SCRAM-SHA-256 (RFC 7677) a client can also prove that it knows the password without ever
sending it: SCRAM is offered when every user has them. Empty lines, and those that begin with ``#``, are skipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import Final

from ehlo._errors import LocalProtocolError
from ehlo._sasl.common import saslprep
from ehlo._sasl.credentials import ScramKeys
from ehlo.cli._receive import UsageError

__all__ = ["Users", "hash_line"]

# 32 MiB and some 50 to 100 ms for each try (RFC 7914 2: N is 2 to the LN).
_LN, _R, _P = 15, 8, 1
_SIZE: Final = 32
_ITERATIONS: Final = 10_000
# Tries at once: what they need of memory is bounded, however many clients there are.
_TRIES: Final = 4
# What a file may ask of us: 1 GiB, at most.
_MAX_LN, _MAX_R, _MAX_P = 20, 8, 16

_SCRYPT: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_SCRAM: Final = re.compile(r"\$scram-sha-256\$i=(\d{1,7})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


def _to_text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _to_octets(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _prepared(password: str) -> bytes:
    """As it is compared (RFC 4616 2): two ways of typing one password are one password."""
    try:
        return saslprep(password).encode()
    except ValueError:
        return password.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class _Scrypt:
    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str) -> _Scrypt:
        made = cls(_LN, _R, _P, secrets.token_bytes(16), b"")
        return cls(_LN, _R, _P, made.salt, made.hash(password))

    def hash(self, password: str) -> bytes:
        n = 1 << self.ln
        return hashlib.scrypt(
            _prepared(password),
            salt=self.salt,
            n=n,
            r=self.r,
            p=self.p,
            maxmem=130 * n * self.r + 256 * self.r * self.p + 65536,
            dklen=len(self.digest) or _SIZE,
        )

    def check(self, password: str) -> bool:
        return hmac.compare_digest(self.hash(password), self.digest)

    def __str__(self) -> str:
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${_to_text(self.salt)}${_to_text(self.digest)}"


@dataclass(frozen=True, slots=True)
class _Scram:
    keys: ScramKeys

    @classmethod
    def of(cls, password: str) -> _Scram:
        return cls(ScramKeys.from_password(password, iterations=_ITERATIONS))

    def check(self, password: str) -> bool:
        made = ScramKeys.from_password(password, salt=self.keys.salt, iterations=self.keys.iterations)
        return hmac.compare_digest(made.stored_key, self.keys.stored_key)

    def __str__(self) -> str:
        keys = self.keys
        parts = "$".join(_to_text(part) for part in (keys.salt, keys.stored_key, keys.server_key))
        return f"$scram-sha-256$i={keys.iterations}${parts}"


def _parse(text: str) -> _Scrypt | _Scram:
    """Raises ValueError, with what is wrong and nothing of the hash."""
    try:
        if found := _SCRYPT.fullmatch(text):
            ln, r, p = (int(number) for number in found.group(1, 2, 3))
            if not (1 <= ln <= _MAX_LN and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P):
                raise ValueError(f"scrypt takes ln up to {_MAX_LN}, r up to {_MAX_R} and p up to {_MAX_P}")
            digest = _to_octets(found[5])
            if len(digest) < 16:
                raise ValueError("the hash is too short")
            return _Scrypt(ln, r, p, _to_octets(found[4]), digest)
        if found := _SCRAM.fullmatch(text):
            salt, stored, server = (_to_octets(part) for part in found.group(2, 3, 4))
            if not len(stored) == len(server) == _SIZE:
                raise ValueError("a key of SCRAM-SHA-256 has 32 octets")
            return _Scram(ScramKeys(salt, int(found[1]), stored, server))
    except binascii.Error:
        raise ValueError("its base64 is broken") from None
    except LocalProtocolError as exc:
        raise ValueError(str(exc)) from None
    raise ValueError("its hash is neither $scrypt$… nor $scram-sha-256$…")


def hash_line(name: str, password: str, *, scram: bool = False) -> str:
    """The line of a user.

    Arguments:
        name: must not have a colon.
        password: in clear.
        scram: keys of SCRAM-SHA-256 instead of a hash by scrypt.

    Raises:
        UsageError: the name cannot stand in the file, or the password is empty.
    """
    if not name or ":" in name or not name.isprintable() or name != name.strip() or name.startswith("#"):
        raise UsageError(f"{name!r} cannot be a user's name: printable characters, but no colon and no # in front")
    if not password:
        raise UsageError("the password is empty; give one on the prompt, or on standard input")
    return f"{name}:{_Scram.of(password) if scram else _Scrypt.of(password)}"


class Users:
    """Who may come in.

    Arguments:
        text: the file.
        where: its name, for an error.

    Raises:
        UsageError: a line is not as it should be.
    """

    def __init__(self, text: str, where: str) -> None:
        self._users: dict[str, _Scrypt | _Scram] = {}
        self._secret = secrets.token_bytes(32)
        self._tries = threading.Semaphore(_TRIES)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, rest = line.partition(":")
            try:
                if not colon or not name:
                    raise ValueError("a line is NAME:HASH")
                if name in self._users:
                    raise ValueError(f"{name} is there twice")
                self._users[name] = _parse(rest.strip())
            except ValueError as exc:
                raise UsageError(
                    f"{where} line {number}: {exc}; make lines with: ehlo serve --hash-password NAME"
                ) from None
        if not self._users:
            raise UsageError(f"{where} has no user; add a line: ehlo serve --hash-password NAME >>{where}")
        # Somebody who is not there takes as long as the others.
        self._nobody = _Scrypt.of(secrets.token_hex(8)) if not self.all_scram else _Scram.of(secrets.token_hex(8))

    @classmethod
    def read(cls, path: str) -> Users:
        """The users of a file.

        Raises:
            UsageError: it cannot be read, or a line is not as it should be.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read(), path)
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise UsageError(f"users {path}: {reason}; name a file that can be read") from None

    def __len__(self) -> int:
        return len(self._users)

    @property
    def all_scram(self) -> bool:
        """Whether each has keys for SCRAM."""
        return all(isinstance(user, _Scram) for user in self._users.values())

    def check(self, name: str, password: str) -> bool:
        """Whether it is the password of this user. Takes its time: call it in a thread."""
        user = self._users.get(name)
        with self._tries:
            return (user or self._nobody).check(password) and user is not None

    def keys(self, name: str) -> ScramKeys:
        """The keys of a user; such that no password fits when there is no such user (RFC 5802 9)."""
        user = self._users.get(name)
        if isinstance(user, _Scram):
            return user.keys
        there = (one.keys.iterations for one in self._users.values() if isinstance(one, _Scram))
        return ScramKeys.decoy(name, secret=self._secret, iterations=next(there, _ITERATIONS))
