"""Names of a package that are imported when they are first asked for, so that its import stays quick (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

__all__ = ["lazy"]


def lazy(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Arguments:
        package: its ``__name__``.
        places: the module of each name.

    Example::

        __getattr__, __dir__ = lazy(__name__, {"Users": "ehlo._users"})
    """

    def get(name: str) -> object:
        if name not in places:
            from importlib.util import find_spec  # only for the words of an error

            hint = ""
            if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
                hint = f"; write: import {package}.{name}"
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)
        found = getattr(importlib.import_module(places[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get, names
