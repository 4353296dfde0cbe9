"""Passwords are checked beside the loop, on trio: the backend of :mod:`ehlo._server.authenticator`."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ehlo._server.authenticator import AuthenticatorBase

__all__ = ["Authenticator"]


class Authenticator(AuthenticatorBase):
    __doc__ = AuthenticatorBase.__doc__

    _make_event = trio.Event

    def _soon(self) -> Callable[[Callable[[], object]], object]:
        return trio.lowlevel.current_trio_token().run_sync_soon
