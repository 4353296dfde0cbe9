"""The shapes of other libraries' clients and servers, over the engine of this package.

:mod:`ehlo.compat.smtplib`, :mod:`ehlo.compat.aiosmtplib` and :mod:`ehlo.compat.aiosmtpd` are for programs that were
written for those. Each has the names, arguments, return values and exceptions of its library, and is written anew.
Where the import is in somebody else's code, :func:`stand_in` changes what it gets.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Final, Literal

__all__ = ["stand_in"]

# Where the names of a library's own modules are.
_PARTS: Final[dict[str, dict[str, str]]] = {
    "smtplib": {},
    "aiosmtpd": {part: f"aiosmtpd.{part}" for part in ("smtp", "controller", "handlers", "lmtp", "proxy_protocol")},
    "aiosmtplib": {
        "api": "aiosmtplib",
        "auth": "_aiosmtplib_commands",
        "email": "_aiosmtplib_mail",
        "errors": "_aiosmtplib_values",
        "esmtp": "_aiosmtplib_commands",
        "protocol": "_aiosmtplib_protocol",
        "response": "_aiosmtplib_values",
        "smtp": "aiosmtplib",
        "status": "_aiosmtplib_values",
        "typing": "_aiosmtplib_commands",
    },
}


def stand_in(name: Literal["smtplib", "aiosmtplib", "aiosmtpd"]) -> ModuleType:
    """From here on, ``import smtplib``, ``import aiosmtplib`` or ``import aiosmtpd`` gives our shape, in this whole
    process. Call it before the package that imports the library is imported.

    Arguments:
        name: of the library.

    Returns:
        The shape.

    Raises:
        KeyError: there is no shape of this name.

    Example::

        ehlo.compat.stand_in("smtplib")
        import flask_mail
    """
    parts = _PARTS[name]
    shape = importlib.import_module(f"ehlo.compat.{name}")
    for part, place in parts.items():
        module = importlib.import_module(f"ehlo.compat.{place}")
        sys.modules[f"{name}.{part}"] = module
        setattr(shape, part, module)
    sys.modules[name] = shape
    return shape
