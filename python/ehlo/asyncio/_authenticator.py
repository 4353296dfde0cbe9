"""Passwords are checked beside the loop, on asyncio: the backend of :mod:`ehlo._server.authenticator`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ehlo._server.authenticator import AuthenticatorBase

__all__ = ["Authenticator"]


class Authenticator(AuthenticatorBase):
    __doc__ = AuthenticatorBase.__doc__

    _make_event = asyncio.Event

    def _soon(self) -> Callable[[Callable[[], object]], object]:
        return asyncio.get_running_loop().call_soon_threadsafe
