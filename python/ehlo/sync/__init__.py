"""The client for programs without an event loop: :func:`connect`, :class:`Pool` and :func:`send` block.

Names, arguments and exceptions are those of :mod:`ehlo.asyncio` and :mod:`ehlo.trio`.

Example::

    with ehlo.sync.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
        client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehlo._lazy import lazy
from ehlo.sync._client import Client, SendMany, connect, send
from ehlo.sync._transaction import Transaction

if TYPE_CHECKING:
    from ehlo.sync._pool import Pool

__all__ = ["Client", "Pool", "SendMany", "Transaction", "connect", "send"]

if not TYPE_CHECKING:  # for a type checker any name would be there
    __getattr__, __dir__ = lazy(__name__, {"Pool": "ehlo.sync._pool"})
