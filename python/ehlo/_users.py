"""A file of users: each line has a user's name and a hash of the password. No password is ever in it.

    # decoy-key: <octets in base64>
    jane:$scrypt$ln=15,r=8,p=1$<salt>$<digest>
    john:$scram-sha-256$i=10000$<salt>$<stored key>$<server key>

Empty lines and lines that begin with ``#`` are skipped. Only the comment ``decoy-key`` has a meaning: names that are
not in the file get their salts from it, so they look the same after a restart and in every process.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import math
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ehlo._errors import LocalProtocolError
from ehlo._sasl.credentials import Credentials, PasswordCredentials, ScramCredentials, ScramKeys, Verdict
from ehlo._sasl.passwords import DEFAULT_SCRAM, Cost, PasswordHash, ScramCost, ScryptCost, hash_password

try:
    import fcntl
except ImportError:  # Windows has no such lock: two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

__all__ = ["Users", "check_name"]

_DECOY_KEY: Final = re.compile(r"# decoy-key: ([A-Za-z0-9+/]{43}=)")
_COMMENT: Final = (
    "# With the next line, names that are not here look like those that are. Please keep it, and keep it secret."
)


@dataclass(frozen=True, slots=True)
class _Book:
    """All that a file says, at one moment."""

    hashes: dict[str, PasswordHash] = field(repr=False)
    decoy_key: bytes = field(repr=False)
    costs: tuple[Cost, ...]
    looks: dict[tuple[ScramCost, int], int]  # how many users have these iterations and so many octets of salt

    @property
    def mechanisms(self) -> tuple[str, ...]:
        scram = bool(self.hashes) and all(isinstance(one.cost, ScramCost) for one in self.hashes.values())
        return (*(("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if scram else ()), "PLAIN", "LOGIN")

    def check(self, name: str, password: str) -> bool:
        """The work is the same for every name: each set of parameters that the file has, once, in the same order."""
        kept = self.hashes.get(name)
        good = False
        for cost in self.costs:
            decoy = self._decoy(name, cost)
            one = kept if kept is not None and kept.cost == cost else decoy
            fits = one.check(password)
            good |= fits and one is kept
        return good

    def keys(self, name: str) -> ScramKeys:
        kept = self.hashes.get(name)
        decoy = self._decoy_keys(name)
        return decoy if kept is None else kept.keys or decoy

    def _decoy(self, name: str, cost: Cost) -> PasswordHash:
        size = cost.size if isinstance(cost, ScryptCost) else 32
        return PasswordHash(cost, self._octets("salt", name, cost)[:16], self._octets("digest", name, cost)[:size])

    def _decoy_keys(self, name: str) -> ScramKeys:
        """The parameters are those of one of the users: each set is as frequent among the decoys as it is among the
        users (weighted rendezvous hashing), and one more user changes the decoys of few names.
        """

        def rank(item: tuple[tuple[ScramCost, int], int]) -> float:
            (cost, size), count = item
            draw = int.from_bytes(self._octets(f"rank {size}", name, cost)[:6], "big")
            return -count / math.log((draw + 1) / (2**48 + 1))

        (cost, size), _ = max(self.looks.items(), key=rank, default=((DEFAULT_SCRAM, 16), 1))
        salt = b"".join(self._octets(f"salt {number}", name, cost) for number in range(size // 32 + 1))[:size]
        return ScramKeys(salt, cost.iterations, self._octets("stored", name, cost), self._octets("server", name, cost))

    def _octets(self, use: str, name: str, cost: Cost) -> bytes:
        return hmac.digest(self.decoy_key, f"{use} {cost} {name}".encode("utf-8", "surrogatepass"), "sha256") * 2


class Users:
    """A file with the names of users and the hashes of their passwords.

    A method that changes the file writes it anew with mode 0600 and puts it in the place of the old one at once. A
    reader sees the old file or the new one. A lock keeps two writers apart.

    Arguments:
        path: the file.
        create: a file that is not there counts as empty; the first :meth:`add` makes it.
        private: refuse a file that other users of the machine can read. The group may read a file that belongs to
            root, if the group is not root's.

    Raises:
        LocalProtocolError: a line is wrong, or others can read the file. The message says how to mend it.
        OSError: the file cannot be read.

    Example::

        users = ehlo.Users("users", create=True)
        users.add("jane", "pencil")
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False, private: bool = True) -> None:
        self._path = os.path.realpath(path)
        self._name = os.fspath(path)
        self._create = create
        self._private = private
        self._book = self._parse(self._read())

    # ---- the users -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._book.hashes)

    def __contains__(self, name: object) -> bool:
        return name in self._book.hashes

    def __repr__(self) -> str:
        return f"<Users {self._name!r} users={len(self)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all users, in the order of the file."""
        return tuple(self._book.hashes)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that all of them can use, for ``ServerConfig(auth=…)``: PLAIN and LOGIN always, SCRAM
        when each user has keys for it.

        Example::

            config = ehlo.ServerConfig("mx.example", tls="starttls", auth=users.mechanisms)
        """
        return self._book.mechanisms

    def line(self, name: str) -> str | None:
        """The hash of a user, as :func:`ehlo.verify_password` takes it; ``None`` when there is no such user.

        Example::

            kind = users.line("jane").split("$")[1]  # "scrypt"
        """
        kept = self._book.hashes.get(name)
        return None if kept is None else str(kept)

    def check(self, credentials: Credentials) -> Verdict:
        """The answer of ``on_auth`` (RFC 4954 4): whether the password fits, or the keys for SCRAM-SHA-256.

        The work is the same for every name, whether it is in the file or not. A password takes 50 to 100 ms of one
        processor; so let :class:`ehlo.asyncio.Authenticator` or :class:`ehlo.trio.Authenticator` call this method.
        All else takes no time. Safe to call from several threads.

        Arguments:
            credentials: as ``on_auth`` got them.

        Example::

            async def on_auth(self, session, credentials):
                return await self.authenticator.check(session, credentials)
        """
        if isinstance(credentials, PasswordCredentials):
            return self._book.check(credentials.username, credentials.password)
        if isinstance(credentials, ScramCredentials) and credentials.algorithm == "sha256":
            return self._book.keys(credentials.username)
        return False

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, name: str, password: str, *, scram: bool | None = None) -> None:
        """Add a user.

        Arguments:
            name: printable characters without a colon; it must not begin with ``#``.
            password: in clear.
            scram: keep the keys of SCRAM-SHA-256. Otherwise a hash by scrypt is kept. ``None``: keys when all other
                users have them.

        Raises:
            LocalProtocolError: the name cannot stand in the file or is already there, or the password is empty.
            OSError: the file cannot be written. It is as it was.

        Example::

            users.add("jane", "pencil", scram=True)
        """
        check_name(name)
        if scram is None:
            scram = "SCRAM-SHA-256" in self.mechanisms
        line = f"{name}:{hash_password(password, scram=scram)}"

        def change(lines: list[str], places: dict[str, int]) -> None:
            if name in places:
                raise LocalProtocolError(f"{self._name}: {name} exists already")
            lines.append(line)

        self._change(change, create=self._create)

    def change(self, name: str, password: str, *, scram: bool | None = None) -> None:
        """Give a user another password.

        Arguments:
            name: of the user.
            password: in clear.
            scram: as in :meth:`add`. ``None``: the kind of the user's present hash.

        Raises:
            LocalProtocolError: there is no such user, or the password is empty.
            OSError: the file cannot be written. It is as it was.

        Example::

            users.change("jane", "a better pencil")
        """
        if scram is None:
            kept = self._book.hashes.get(name)
            scram = kept is not None and isinstance(kept.cost, ScramCost)
        line = f"{name}:{hash_password(password, scram=scram)}"

        def change(lines: list[str], places: dict[str, int]) -> None:
            lines[self._place(name, places)] = line

        self._change(change)

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises:
            LocalProtocolError: there is no such user.
            OSError: the file cannot be written. It is as it was.

        Example::

            users.remove("jane")
        """

        def change(lines: list[str], places: dict[str, int]) -> None:
            del lines[self._place(name, places)]

        self._change(change)

    def reload(self, mechanisms: Iterable[str] = ()) -> None:
        """Read the file again. A file that is wrong changes nothing.

        Arguments:
            mechanisms: SASL mechanisms that a server offers. A file that lacks what one of them needs is wrong.

        Raises:
            LocalProtocolError: a line is wrong, a user has no keys for SCRAM, or others can read the file.
            OSError: the file cannot be read.

        Example::

            loop.add_signal_handler(signal.SIGHUP, users.reload, config.auth)
        """
        book = self._parse(self._read(), self._book.decoy_key)
        lost = set(mechanisms).difference(book.mechanisms)
        if lost:
            without = next((name for name, one in book.hashes.items() if one.keys is None), None)
            raise LocalProtocolError(
                f"{self._name}: {min(lost)} is offered, but "
                + ("there is no user" if without is None else f"{without} has no keys for it")
                + f"; make them with: ehlo user passwd --scram {self._name} {without or 'NAME'}"
            )
        self._book = book

    # ---- the file --------------------------------------------------------------------------------

    def _place(self, name: str, places: dict[str, int]) -> int:
        if name not in places:
            raise LocalProtocolError(f"{self._name}: there is no user {name!r}")
        return places[name]

    def _read(self) -> str:
        try:
            with open(self._path, encoding="utf-8") as file:
                if self._private:
                    self._judge(os.fstat(file.fileno()))
                return file.read()
        except FileNotFoundError:
            if self._create:
                return ""
            raise
        except UnicodeDecodeError as exc:
            raise LocalProtocolError(f"{self._name} is not in UTF-8: {exc.reason}") from None

    def _judge(self, found: os.stat_result) -> None:
        if os.name == "posix" and found.st_mode & ~_mode_for(found) & 0o077:
            raise LocalProtocolError(
                f"{self._name}: others can read or change it (mode {stat.S_IMODE(found.st_mode):04o}), and guess "
                f"passwords from it; run: chmod 600 {self._name}"
            )

    def _parse(self, text: str, decoy_key: bytes | None = None) -> _Book:
        hashes: dict[str, PasswordHash] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if found := _DECOY_KEY.fullmatch(line):
                decoy_key = base64.b64decode(found[1])
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, rest = line.partition(":")
            try:
                if not colon or not name:
                    raise ValueError("a line is NAME:HASH")
                if name in hashes:
                    raise ValueError(f"{name} occurs twice")
                hashes[name] = PasswordHash.parse(rest.strip())
            except ValueError as exc:
                raise LocalProtocolError(
                    f"{self._name} line {number}: {exc}; make lines with: ehlo user add {self._name} NAME"
                ) from None
        if decoy_key is None:
            # Nothing in the file is for it: the oldest hash gives one that all processes have, and nobody else.
            first = next(iter(hashes.values()), None)
            decoy_key = secrets.token_bytes(32) if first is None else hmac.digest(first.digest, b"decoys", "sha256")
        costs = sorted({one.cost for one in hashes.values()}, key=repr)
        looks = Counter((one.cost, len(one.salt)) for one in hashes.values() if isinstance(one.cost, ScramCost))
        return _Book(hashes, decoy_key, tuple(costs) or (ScryptCost(),), dict(looks))

    def _change(self, change: Callable[[list[str], dict[str, int]], None], *, create: bool = False) -> None:
        with _locked(self._path, create):
            text = self._read()
            book = self._parse(text, self._book.decoy_key)
            lines = text.splitlines()
            names = [None if not line.strip() or line.startswith("#") else line.partition(":")[0] for line in lines]
            change(lines, {name: number for number, name in enumerate(names) if name is not None})
            if not any(_DECOY_KEY.fullmatch(line) for line in lines):
                key = base64.b64encode(book.decoy_key).decode("ascii")
                lines[:0] = [_COMMENT, f"# decoy-key: {key}"]
            changed = "\n".join([*lines, ""])
            book = self._parse(changed)
            _replace(self._path, changed.encode())
            self._book = book


def check_name(name: str) -> None:
    """Raise LocalProtocolError for a name that cannot stand in the file."""
    if not name or ":" in name or not name.isprintable() or name != name.strip() or name.startswith("#"):
        raise LocalProtocolError(
            f"{name!r} cannot be a user's name: printable characters, but no colon and no # in front"
        )


def _mode_for(found: os.stat_result) -> int:
    """The permissions that such a file may have: more than 0600 only where root gave it to the group of a service."""
    return 0o640 if found.st_uid == 0 and found.st_gid != 0 else 0o600


@contextlib.contextmanager
def _locked(path: str, create: bool) -> Iterator[None]:
    """Hold the lock of a file that is replaced when it is written. The lock goes with the process."""
    if os.name != "posix":
        if create and not os.path.exists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        yield
        return
    while True:
        fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                now = os.stat(path)
            except FileNotFoundError:
                continue
            if not os.path.samestat(os.fstat(fd), now):  # it was replaced while we waited
                continue
            yield
            return
        finally:
            os.close(fd)


def _replace(path: str, octets: bytes) -> None:
    """Write a file anew, with the same owner. Whoever reads sees the old octets or the new ones; so does a crash."""
    old = os.stat(path)
    directory, name = os.path.split(path)
    other = os.path.join(directory, f".{name}.{secrets.token_hex(4)}.new")
    fd = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            if os.name == "posix":
                new = os.fstat(fd)
                if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                    os.fchown(fd, old.st_uid, old.st_gid)
                os.fchmod(fd, (stat.S_IMODE(old.st_mode) & _mode_for(old)) | 0o600)
            with open(fd, "wb", closefd=False) as file:
                file.write(octets)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(other, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)
        raise
    if os.name == "posix":  # the new name must outlive a crash, too
        place = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
