"""Hashes of passwords, as a file of users keeps them. No I/O.

There are two kinds of hashes. Salts, digests and keys are in base64 without ``=``:

    $scrypt$ln=15,r=8,p=1$<salt>$<digest>
    $scram-sha-256$i=10000$<salt>$<stored key>$<server key>

scrypt (RFC 7914) is hard to guess for somebody who steals the file. It serves PLAIN and LOGIN. The keys of
SCRAM-SHA-256 (RFC 7677) serve SCRAM as well: there a client proves that it knows the password and never sends it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ehlo._errors import LocalProtocolError
from ehlo._sasl.common import MAX_ITERATIONS, prepared
from ehlo._sasl.credentials import ScramKeys

__all__ = ["DEFAULT_SCRAM", "Cost", "PasswordHash", "ScramCost", "ScryptCost", "hash_password", "verify_password"]

# 32 MiB and some 50 to 100 ms for each try (RFC 7914 2: N is 2 to the LN).
_LN, _R, _P = 15, 8, 1
_SALT, _SIZE, _MIN_SIZE, _MAX_SIZE = 16, 32, 16, 64
_ITERATIONS: Final = 10_000
# The most that a file may ask of us: 1 GiB.
_MAX_LN, _MAX_R, _MAX_P = 20, 8, 16

_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)
_SCRAM: Final = re.compile(r"\$scram-sha-256\$i=([0-9]{1,7})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


def _to_text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _to_octets(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


@dataclass(frozen=True, slots=True, order=True)
class ScryptCost:
    """The parameters of scrypt (RFC 7914 2): they decide how much work and memory one try takes.

    Arguments:
        ln: the binary logarithm of N.
        r: the block size.
        p: the parallelization.
        size: octets of the digest.
    """

    ln: int = _LN
    r: int = _R
    p: int = _P
    size: int = _SIZE

    def digest(self, password: str, salt: bytes) -> bytes:
        """The digest of a password."""
        n = 1 << self.ln
        return hashlib.scrypt(
            prepared(password),
            salt=salt,
            n=n,
            r=self.r,
            p=self.p,
            maxmem=130 * n * self.r + 256 * self.r * self.p + 65536,
            dklen=self.size,
        )


@dataclass(frozen=True, slots=True, order=True)
class ScramCost:
    """The parameter of SCRAM-SHA-256 (RFC 7677): iterations of PBKDF2."""

    iterations: int = _ITERATIONS

    def digest(self, password: str, salt: bytes) -> bytes:
        """The stored key of a password (RFC 5802 3)."""
        return ScramKeys.from_password(password, salt=salt, iterations=self.iterations).stored_key


Cost: TypeAlias = ScryptCost | ScramCost
DEFAULT_SCRAM: Final = ScramCost()


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """One hash of a password. ``str()`` gives its text, and :meth:`parse` reads it.

    Attributes:
        cost: the kind of the hash, and the work that one try takes.
        salt: octets.
        digest: the digest by scrypt, or the stored key of SCRAM.
        server_key: of SCRAM; empty for scrypt.
    """

    cost: Cost
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    server_key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, password: str, cost: Cost) -> PasswordHash:
        """The hash of a password, with a fresh salt."""
        salt = secrets.token_bytes(_SALT)
        if isinstance(cost, ScryptCost):
            return cls(cost, salt, cost.digest(password, salt))
        keys = ScramKeys.from_password(password, salt=salt, iterations=cost.iterations)
        return cls(cost, salt, keys.stored_key, keys.server_key)

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read the text of a hash.

        Raises:
            ValueError: it is none. The message holds no part of the text.
        """
        try:
            if found := _SCRYPT.fullmatch(text):
                ln, r, p = (int(number) for number in found.group(1, 2, 3))
                if not (1 <= ln <= _MAX_LN and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P):
                    raise ValueError(f"scrypt takes ln up to {_MAX_LN}, r up to {_MAX_R} and p up to {_MAX_P}")
                digest = _to_octets(found[5])
                if not _MIN_SIZE <= len(digest) <= _MAX_SIZE:
                    raise ValueError(f"the hash is too {'short' if len(digest) < _MIN_SIZE else 'long'}")
                return cls(ScryptCost(ln, r, p, len(digest)), _to_octets(found[4]), digest)
            if found := _SCRAM.fullmatch(text):
                salt, stored, server = (_to_octets(part) for part in found.group(2, 3, 4))
                if not len(stored) == len(server) == _SIZE:
                    raise ValueError("a key of SCRAM-SHA-256 has 32 octets")
                if int(found[1]) > MAX_ITERATIONS:
                    raise ValueError(f"SCRAM takes up to {MAX_ITERATIONS} iterations")
                ScramKeys(salt, int(found[1]), stored, server)
                return cls(ScramCost(int(found[1])), salt, stored, server)
        except binascii.Error:
            raise ValueError("its base64 is broken") from None
        except LocalProtocolError as exc:
            raise ValueError(str(exc)) from None
        raise ValueError("its hash is neither $scrypt$… nor $scram-sha-256$…")

    @property
    def keys(self) -> ScramKeys | None:
        """The keys for SCRAM; ``None`` for scrypt."""
        if isinstance(self.cost, ScramCost):
            return ScramKeys(self.salt, self.cost.iterations, self.digest, self.server_key)
        return None

    def check(self, password: str) -> bool:
        """Whether it is the hash of this password."""
        return hmac.compare_digest(self.cost.digest(password, self.salt), self.digest)

    def __str__(self) -> str:
        cost = self.cost
        if isinstance(cost, ScryptCost):
            return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${_to_text(self.salt)}${_to_text(self.digest)}"
        parts = "$".join(_to_text(part) for part in (self.salt, self.digest, self.server_key))
        return f"$scram-sha-256$i={cost.iterations}${parts}"


def hash_password(
    password: str, *, scram: bool = False, ln: int = _LN, r: int = _R, p: int = _P, iterations: int = _ITERATIONS
) -> str:
    """The hash of a password with a fresh salt, as text. It takes time: 50 to 100 ms with the defaults.

    A file of users (:class:`ehlo.Users`) has a user's name, a colon and this text in each line.

    Arguments:
        password: in clear. It is brought into the form of SASLprep first (RFC 4013).
        scram: make the keys of SCRAM-SHA-256 (RFC 7677). Otherwise the hash is by scrypt (RFC 7914).
        ln, r, p: the parameters of scrypt; one try needs ``128 * r * 2**ln`` octets of memory.
        iterations: of PBKDF2, for SCRAM; 4096 at least.

    Raises:
        LocalProtocolError: the password is empty or has a NUL, or a parameter is out of its range.

    Example::

        line = "jane:" + ehlo.hash_password("pencil")
        ehlo.verify_password("pencil", line)  # True
    """
    if not password or "\0" in password:  # RFC 4616 2 has no way to send it
        raise LocalProtocolError("a password must not be empty, and must not have a NUL")
    if scram:
        if iterations > MAX_ITERATIONS:
            raise LocalProtocolError(f"SCRAM takes up to {MAX_ITERATIONS} iterations, not {iterations}")
        return str(PasswordHash.of(password, ScramCost(iterations)))
    if not (1 <= ln <= _MAX_LN and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P):
        raise LocalProtocolError(f"scrypt takes ln up to {_MAX_LN}, r up to {_MAX_R} and p up to {_MAX_P}")
    return str(PasswordHash.of(password, ScryptCost(ln, r, p)))


def verify_password(password: str, line: str | None) -> bool:
    """Whether a password is the one of a hash. It takes as long as the making of the hash.

    Arguments:
        password: as the client sent it.
        line: the text of :func:`hash_password`; a user's name and a colon may stand before it. ``None`` means that
            there is no such user. Then the answer is False, after the work of a hash with the default parameters.

    Raises:
        LocalProtocolError: the line has no hash. The message holds no part of the line.

    Example::

        if ehlo.verify_password(credentials.password, HASHES.get(credentials.username)):
            return True
    """
    if line is None:
        ScryptCost().digest(password, secrets.token_bytes(_SALT))
        return False
    try:
        kept = PasswordHash.parse(line.rpartition(":")[2].strip())
    except ValueError as exc:
        raise LocalProtocolError(f"the line has no hash of a password: {exc}") from None
    return kept.check(password)
