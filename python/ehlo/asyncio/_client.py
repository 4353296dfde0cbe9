"""Clients on asyncio: :func:`connect`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Unpack

from ehlo._client.client import BaseClient
from ehlo._client.connecting import Connecting
from ehlo._client.link import Link
from ehlo._client.options import NAME_SECONDS, ConnectOptions, Opening
from ehlo._io.client_transport import ClientTransport
from ehlo._sockets import duplicate, no_delay, no_signal
from ehlo.asyncio._client_protocol import ClientProtocol
from ehlo.asyncio._dial import connected
from ehlo.asyncio._loop import in_thread, shared_of

__all__ = ["Client", "connect", "dial"]


class Client(BaseClient):
    __doc__ = BaseClient.__doc__

    __slots__ = ("_tasks",)

    def __init__(self, open_link: Callable[[], Awaitable[Link]] | None, link: Link) -> None:
        super().__init__(open_link, link)
        self._tasks: set[asyncio.Task[None]] = set()

    _make_event = asyncio.Event

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Callable[[], object]:
        task = asyncio.get_running_loop().create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel


async def dial(opening: Opening) -> ClientProtocol:
    """A connection over which nothing but a PROXY header, and the beginning of implicit TLS, has gone.

    Example::

        link = await dial(Opening("127.0.0.1", 2525))
    """
    loop = asyncio.get_running_loop()
    seconds = opening.connect_timeout
    try:
        if opening.fqdn == "":
            began = loop.time()
            async with asyncio.timeout(seconds):
                await opening.learn_own_name(lambda function: asyncio.wait_for(in_thread(function), NAME_SECONDS))
            seconds = None if seconds is None else max(0.0, seconds - (loop.time() - began))
        if opening.path is not None:
            async with asyncio.timeout(seconds):
                _, link = await loop.create_unix_connection(partial(ClientProtocol, loop, opening), opening.path)
            return link
        sock = opening.sock
        if sock is None:
            assert opening.host is not None
            sock = await connected(opening.host, opening.port, opening.source_address, seconds)
        else:
            sock = duplicate(sock)
        if (watch := shared_of(loop).watch) is not None:
            no_delay(sock)  # the transports of a loop see to it themselves
            no_signal(sock)
            link = ClientProtocol(loop, opening)
            ClientTransport(loop, watch, sock, link).begin()
        else:
            _, link = await loop.create_connection(partial(ClientProtocol, loop, opening), sock=sock)
    except OSError as exc:
        opening.failed(exc)
    return link


def connect(host: str | None = None, port: int | None = None, **options: Unpack[ConnectOptions]) -> Connecting[Client]:
    """Connect to a server, and say EHLO. ``config`` chooses SMTP or LMTP. ``await`` it, or use ``async with``, which
    says QUIT at the end.

    Arguments:
        host: a name or an address. If the name has several addresses, the first that answers is used (RFC 8305).
        port: the TCP port; by default 25, for LMTP 24, with implicit TLS 465.
        config: the settings of the engine, with its timeouts (RFC 5321 4.5.3.2).
        hostname: the name for EHLO; by default that of ``config``. If that is "localhost", it is the domain name of
            this machine. Without such a name it is the literal of the connection's own address (RFC 5321 4.1.4).
        path: the path of a Unix socket, in place of ``host``.
        sock: a connected stream socket, in place of ``host``. The client closes it. If the program closes it, the
            connection ends within a moment.
        source_address: the address, or address and port, to connect from.
        tls: "off"; "opportunistic": STARTTLS if the server offers it; "required": STARTTLS before AUTH and MAIL, or an
            error (RFC 3207); "implicit": TLS before the greeting (RFC 8314 3.3). By default that of ``config``, which
            is "off". A handshake that fails is an error. The client never tries again in clear text by itself.
        ssl_context: the context of the handshake. By default the certificate and the host name are verified (RFC 8314
            5.3). With "opportunistic" and without ``auth`` they are not: see :func:`ehlo.unverified_context`.
        server_hostname: the name for SNI, and the name that the certificate must have; by default ``host``.
        handshake_timeout: seconds for the TLS handshake; by default 60.
        auth: a :class:`ehlo.Login`, or a user name and a password, for AUTH directly after EHLO (RFC 4954).
        proxy: the :class:`ehlo.ProxyHeader` to send first, before TLS too.
        proxy_version: the version of that header, 1 or 2; by default 2.
        connect_timeout: seconds to look up this machine's name and to connect by TCP, both together, by default 30;
            ``None``: as long as the system tries.
        trace: a function that gets each new part of the dialogue, without content and secrets.

    Raises:
        SMTPConnectError: the server cannot be reached, or refuses in its greeting (RFC 5321 3.1), or TLS fails. Then
            the text has the reason, and ``__cause__`` is an :class:`ssl.SSLError`.
        SMTPHeloError: the server refuses EHLO and HELO.
        SMTPNotSupportedError: the server does not offer the required STARTTLS, or no mechanism of AUTH that may be
            used.
        SMTPAuthenticationError: the server refuses AUTH.
        SMTPTimeoutError: the server does not answer in time.
        SMTPServerDisconnected, RemoteProtocolError: the server closes the connection, or does not speak SMTP.
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        async with ehlo.asyncio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
