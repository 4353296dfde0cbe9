"""aiosmtpd's shape over the engine of this package: a program that was written for aiosmtpd changes its imports.

The modules have the names of aiosmtpd's: ``controller``, ``handlers``, ``lmtp``, ``proxy_protocol`` and ``smtp``. The
page "Moving from aiosmtpd" says what differs on purpose, and how a program goes on from here.

Example::

    from ehlo.compat.aiosmtpd.controller import Controller
    from ehlo.compat.aiosmtpd.handlers import Debugging
    controller = Controller(Debugging(), port=2525); controller.start()
"""

from __future__ import annotations

import asyncio
import warnings
from typing import Final

__all__ = ["__version__"]

__version__: Final = "1.4.6"
"""The version of aiosmtpd whose shape this is."""


def _get_or_new_eventloop() -> asyncio.AbstractEventLoop:
    """The loop of this thread; a new one if it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return asyncio.get_event_loop()
        except (DeprecationWarning, RuntimeError):
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            return loop
