"""[aliases]: names that stand for other names or addresses, looked at as a whole when the file is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.routes import domain_key, local_key

__all__ = ["Aliases"]


@dataclass(slots=True)
class Aliases:
    """The aliases of one file. A line is ``NAME: TARGET, TARGET``; a line that begins with white space goes on with the
    one before. NAME is a local part, which counts in every domain of this server, or a whole address. A target is the
    same. A name among its own targets is the mailbox itself, so that a copy can go elsewhere.

    Arguments:
        text: the file.
        where: its name, for errors.
        domains: those of this server, as :func:`domain_key` gives them.
        separator: ``user+tag`` is ``user`` where there is no alias ``user+tag``.

    Raises:
        UsageError: a line is wrong, or aliases form a circle.

    Example::

        Aliases("info: jane, joe@example.net", "aliases", ["example.org"]).find("info", "example.org")
    """

    text: str
    where: str
    domains: Collection[str]
    separator: str = "+"
    _targets: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)
    _lines: dict[str, int] = field(default_factory=dict, init=False)
    _found: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for number, line in self._joined():
            self._read(number, line)
        for name in self._targets:
            local, at, domain = name.rpartition("@")
            for one in (domain,) if at else self.domains:
                found = tuple(dict.fromkeys(self._expand(local if at else name, one, ())))
                self._found[local_key(local if at else name), one] = found

    def __len__(self) -> int:
        return len(self._targets)

    @classmethod
    def read(cls, path: str, domains: Collection[str], separator: str = "+") -> Aliases:
        """The aliases of a file.

        Raises:
            UsageError: it cannot be read, or is wrong.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read(), path, domains, separator)
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise UsageError(f"aliases.file {path}: {reason}; name a file that can be read") from None

    def find(self, local_part: str, domain: str) -> tuple[str, ...] | None:
        """The addresses that an address stands for at the end of all aliases; ``None`` where it is no alias."""
        local = local_part.lower()
        found = self._found.get((local, domain))
        if found is None and self.separator in local[1:]:
            found = self._found.get((self.without_tag(local), domain))
        return found

    def without_tag(self, local_part: str) -> str:
        """``user`` of ``user+tag``."""
        head, _, _ = local_part.partition(self.separator)
        return head or local_part

    @property
    def all_targets(self) -> list[tuple[str, str]]:
        """Each final address, with the place of the alias that names it."""
        return [
            (target, f"{self.where} line {self._line_of(local, domain)}")
            for (local, domain), targets in self._found.items()
            for target in targets
        ]

    @property
    def first_list(self) -> str | None:
        """The place of an alias that stands for several addresses; ``None`` where none does."""
        found = ((local, domain) for (local, domain), targets in self._found.items() if len(targets) > 1)
        return next((f"{self.where} line {self._line_of(*one)}" for one in found), None)

    def _line_of(self, local: str, domain: str) -> int:
        return self._lines.get(f"{local}@{domain}") or self._lines[local]

    def _joined(self) -> list[tuple[int, str]]:
        lines: list[tuple[int, str]] = []
        for number, line in enumerate(self.text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if line[0] in " \t" and lines:
                first, before = lines[-1]
                lines[-1] = (first, f"{before} {line.strip()}")
            else:
                lines.append((number, line.strip()))
        return lines

    def _read(self, number: int, line: str) -> None:
        where = f"{self.where} line {number}:"
        name, colon, rest = line.partition(":")
        targets = tuple(one.strip() for one in rest.split(",") if one.strip())
        if not colon or not name.strip() or not targets:
            raise UsageError(f"{where} a line is NAME: TARGET, TARGET")
        key = self._key(name.strip(), where)
        if key in self._targets:
            raise UsageError(f"{where} {name.strip()} occurs twice, first in line {self._lines[key]}")
        for target in targets:
            self._key(target, where)
        self._targets[key] = targets
        self._lines[key] = number
        local, at, domain = key.rpartition("@")
        self._lines.setdefault(f"{local_key(local)}@{domain}" if at else local_key(domain), number)

    def _key(self, name: str, where: str) -> str:
        local, at, domain = name.rpartition("@")
        try:
            ehlo.Address(name if at else f"{name}@localhost")
        except ehlo.EhloError:
            raise UsageError(f"{where} {name!r} is neither a local part nor an address") from None
        return f"{local.lower()}@{domain_key(domain)}" if at else name.lower()

    def _expand(self, local: str, domain: str, path: tuple[str, ...]) -> list[str]:
        address = f"{local}@{domain}"
        targets = self._targets.get(address)
        if targets is None and domain in self.domains:
            targets = self._targets.get(local)
        if targets is None:
            return [address]
        if address in path:
            chain = " -> ".join((*path[path.index(address) :], address))
            raise UsageError(f"{self.where} line {self._line_of(local, domain)}: these aliases form a circle: {chain}")
        found: list[str] = []
        for target in targets:
            to_local, at, to_domain = target.rpartition("@")
            next_local = (to_local if at else target).lower()
            next_domain = domain_key(to_domain) if at else domain
            if (next_local, next_domain) == (local, domain):
                found.append(address)  # itself: the mailbox
            elif self._names(next_local, next_domain):
                found += self._expand(next_local, next_domain, (*path, address))
            else:
                found.append(target if at else f"{target}@{domain}")
        return found

    def _names(self, local: str, domain: str) -> bool:
        return f"{local}@{domain}" in self._targets or (domain in self.domains and local in self._targets)
