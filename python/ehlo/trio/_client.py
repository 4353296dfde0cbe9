"""Clients on trio: :func:`connect`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, Unpack

import trio

from ehlo._client.client import BaseClient
from ehlo._client.connecting import Connecting
from ehlo._client.link import Link
from ehlo._client.options import NAME_SECONDS, ConnectOptions, Opening
from ehlo._errors import LocalProtocolError
from ehlo._sockets import duplicate, no_delay, no_signal
from ehlo.trio._client_protocol import ClientProtocol
from ehlo.trio._dial import connected, plain
from ehlo.trio._loop import loop_of_run
from ehlo.trio._nursed import Nursed

__all__ = ["Client", "connect", "dial"]


class Client(Nursed, BaseClient):
    __doc__ = BaseClient.__doc__

    def __init__(self, open_link: Callable[[], Awaitable[Link]] | None, link: Link) -> None:
        super().__init__(open_link, link)
        self._nursery = None

    _make_event = trio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        if self._nursery is None:
            raise LocalProtocolError(
                "on trio, send_many takes from an async iterable in the nursery of the client, which is there inside "
                "`async with client`"
            )
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self._nursery.start_soon(run)
        return scope.cancel


async def _in_thread(function: Callable[[], str]) -> str:
    """Run it in a thread that nobody waits for when the time is up."""
    with trio.move_on_after(NAME_SECONDS):
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
    raise TimeoutError


async def dial(opening: Opening) -> ClientProtocol:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = await dial(Opening("127.0.0.1", 2525))
    """
    seconds = inf if opening.connect_timeout is None else opening.connect_timeout
    try:
        loop = loop_of_run()  # it needs a descriptor, too
        if opening.fqdn == "":
            began = trio.current_time()
            with trio.fail_after(seconds):
                await opening.learn_own_name(_in_thread)
            seconds = max(0.0, seconds - (trio.current_time() - began))
        if opening.path is not None:
            with trio.fail_after(seconds):
                sock = plain(await trio.open_unix_socket(opening.path))
            sock.setblocking(False)
        elif opening.sock is not None:
            sock = duplicate(opening.sock)
        else:
            assert opening.host is not None
            sock = await connected(opening.host, opening.port, opening.source_address, seconds)
    except (trio.TooSlowError, OSError) as exc:
        opening.failed(exc)
    no_delay(sock)
    no_signal(sock)
    return ClientProtocol(loop, sock, opening)


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Connecting[Client]:
    """Connect to a server, and say EHLO. ``config`` chooses SMTP or LMTP. ``await`` it, or use ``async with``, which
    says QUIT at the end.

    Arguments:
        host, port, options: the arguments of :func:`ehlo.asyncio.connect`.

    Raises:
        SMTPException, LocalProtocolError: as :func:`ehlo.asyncio.connect` (RFC 5321 3.1, 4.2).

    Example::

        async with ehlo.trio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
