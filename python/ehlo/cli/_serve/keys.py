"""How a setting is declared, and how a table of the file becomes a dataclass.

A table is a frozen dataclass. Each of its keys is one line, made by :func:`key`: kind, default, help::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Metrics:
        listen: str | None = key(TEXT, None, "HOST:PORT of the page")

:func:`read_table` reads it, and :func:`help_of` writes the help. Every error names the file, the table and the key.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, TypeVar

from ehlo.cli._engine import nearest
from ehlo.cli._receive import UsageError

__all__ = [
    "COUNT",
    "FLAG",
    "MODE",
    "NUMBER",
    "PATH",
    "PORT",
    "SECONDS",
    "TABLE",
    "TEXT",
    "TEXTS",
    "WHOLE",
    "Kind",
    "Source",
    "full_name",
    "help_of",
    "key",
    "keys_of",
    "one_of",
    "read_table",
    "shown",
    "wrapped",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where values come from.

    Attributes:
        file: the name of the file, for errors; ``None``: the options of the command.
        base: the directory from which relative paths start.
    """

    file: str | None
    base: str

    def path(self, path: str) -> str:
        """A path of the file, made whole."""
        return os.path.join(self.base, path)

    def error(self, name: str, text: str) -> UsageError:
        """An error about one key or table."""
        is_option = self.file is None or name.startswith("--")
        return UsageError(f"{'' if is_option else f'{self.file}: '}{name} {text}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key may hold.

    Attributes:
        words: for the error: "KEY is WORDS, not …".
        read: gives the value from that of the TOML file; raises ValueError if it does not fit. A text in the ValueError
            is added to the error.
    """

    words: str
    read: Callable[[Any, Source], Any]


def key(kind: Kind, default: Any, help: str, *, name: str | None = None) -> Any:
    """Declare a key of a table.

    Arguments:
        kind: what it may hold.
        default: where it is not given.
        help: one line for ``ehlo serve --help``.
        name: in the file, where the name of the attribute cannot be it.
    """
    return field(default=default, metadata={"kind": kind, "help": help, "name": name})


def _of(
    test: Callable[[Any], bool], change: Callable[[Any], Any] = lambda value: value
) -> Callable[[Any, Source], Any]:
    def read(value: Any, source: Source) -> Any:
        if not test(value):
            raise ValueError
        return change(value)

    return read


def _path(value: Any, source: Source) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return source.path(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


TEXT: Final = Kind("a string", _of(lambda value: isinstance(value, str) and value != ""))
TEXTS: Final = Kind(
    'a list of strings, like ["a", "b"]',
    _of(lambda value: isinstance(value, list) and all(isinstance(one, str) and one for one in value), tuple),
)
FLAG: Final = Kind("true or false", _of(lambda value: isinstance(value, bool)))
WHOLE: Final = Kind("a whole number, 0 or more", _of(_is_whole))
COUNT: Final = Kind("a whole number, 1 or more", _of(lambda value: _is_whole(value) and value > 0))
NUMBER: Final = Kind("a number, 0 or more", _of(_is_number))
SECONDS: Final = Kind("a number of seconds, 0 or more", _of(_is_number))
PORT: Final = Kind("a whole number from 0 to 65535", _of(lambda value: _is_whole(value) and value <= 65535))
PATH: Final = Kind("a path", _path)
MODE: Final = Kind(
    'like "660"',
    _of(lambda value: isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value) is not None, lambda v: int(v, 8)),
)
TABLE: Final = Kind("a table", _of(lambda value: isinstance(value, dict)))


def one_of(*words: str) -> Kind:
    """One of some words."""
    return Kind(f"one of {', '.join(words)}", _of(lambda value: value in words))


def _name_of(one: Field[Any]) -> str:
    """What a key is called in the file."""
    return one.metadata["name"] or one.name


def keys_of(table: type) -> dict[str, Field[Any]]:
    """The keys of a table, by their names in the file."""
    return {_name_of(one): one for one in fields(table) if one.metadata}


def read_table(table: type[T], values: object, title: str, source: Source, **others: Any) -> T:
    """A table of the file.

    Arguments:
        table: its dataclass.
        values: as ``tomllib`` gives them.
        title: its name: "limits", or "[[route]] 2".
        others: attributes that are no keys.

    Raises:
        UsageError: a key is unknown, or a value does not fit.
    """
    if not isinstance(values, Mapping):
        raise source.error(title, f"is a table; write it as [{title}]")
    known = keys_of(table)
    found: dict[str, Any] = {}
    for name, value in values.items():
        full = full_name(title, name)
        if name not in known:
            raise source.error(full, f"is no setting: {nearest(name, known)}")
        kind: Kind = known[name].metadata["kind"]
        try:
            found[known[name].name] = kind.read(value, source)
        except ValueError as exc:
            more = f": {exc}" if str(exc) else ""
            raise source.error(full, f"is {kind.words}, not {value!r}{more}") from None
    return table(**found, **others)


def full_name(where: str, name: str) -> str:
    """A key with its table."""
    return name if not where else f"{where}: {name}" if where[0] in "[-" else f"{where}.{name}"


def help_of(table: type, name: str) -> list[str]:
    """The lines of the help for a table."""
    lines = [f"  {name}"] if name else []
    for name_in_file, one in keys_of(table).items():
        default = shown(one.default)
        lines.append(wrapped(f"{name_in_file}: {one.metadata['help']}{f' (default: {default})' if default else ''}"))
    return lines


def wrapped(text: str) -> str:
    """One entry of the help, in lines that a terminal shows."""
    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="      ")


def shown(default: Any) -> str:
    """A default as the file would have it; "" if there is none."""
    match default:
        case None | () | "":
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case tuple():
            return json.dumps(default)
        case _:
            return str(default)
