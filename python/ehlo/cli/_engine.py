"""Every named option of the engine's server, as commands and files may give it. There is no list of them here."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any, Final

from ehlo._core import ServerConfig
from ehlo._errors import EhloError

__all__ = ["engine_options", "engine_setting", "leniencies", "nearest"]

# Options that the commands decide by themselves.
_DECIDED: Final = frozenset(
    {"hostname", "lmtp", "decisions", "content", "tls", "auth", "auth_in_clear", "proxy", "xclient", "xforward"}
    | {"submission"}
)


def nearest(name: str, names: Iterable[str]) -> str:
    """The hint behind an unknown name: the nearest right one."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def engine_options() -> dict[str, Any]:
    """The options by name, with their defaults."""
    parameters = inspect.signature(ServerConfig).parameters
    return {name: one.default for name, one in parameters.items() if name not in _DECIDED}


def engine_setting(name: str, value: Any) -> Any:
    """The value of an option, as :class:`ehlo.ServerConfig` takes it. 0 is no limit where the engine's word for that is
    ``None``.

    Raises:
        ValueError: the option is unknown, or the value does not fit.
    """
    if name in _DECIDED:
        raise ValueError("is decided elsewhere: by the listener, its users and its certificate")
    known = engine_options()
    if name not in known:
        raise ValueError(f"is no option of the engine: {nearest(name, known)}")
    value = tuple(value) if isinstance(value, list) else value
    if value == 0 and value is not False and _problem(name, None) is None:
        value = None
    problem = _problem(name, value)
    if problem is not None:
        raise ValueError(f"does not fit: {problem}")
    return value


def _problem(name: str, value: Any) -> str | None:
    options: dict[str, Any] = {"submission": True, "tls": "starttls", "auth": ("PLAIN",), name: value}
    try:
        ServerConfig("localhost", **options)
    except (EhloError, ValueError, TypeError, OverflowError) as exc:
        return str(exc)
    return None


def leniencies() -> tuple[str, ...]:
    """All words of the option ``lenient``: the engine names them when it does not know one."""
    problem = _problem("lenient", ("",)) or ""
    return tuple(re.findall(r'"(\w+)"', problem))
