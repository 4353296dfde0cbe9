"""Which event loop runs, and the adapter of ehlo that belongs to it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Literal

__all__ = ["adapter", "library"]


def library() -> Literal["asyncio", "trio"]:
    """The library of the running loop.

    Example::

        library()  # "trio"
    """
    trio = sys.modules.get("trio")
    return "trio" if trio is not None and trio.lowlevel.in_trio_run() else "asyncio"


def adapter() -> ModuleType:
    """:mod:`ehlo.asyncio` or :mod:`ehlo.trio`.

    Example::

        client = await adapter().connect("mx.example")
    """
    if library() == "trio":
        import ehlo.trio

        return ehlo.trio
    import ehlo.asyncio

    return ehlo.asyncio
