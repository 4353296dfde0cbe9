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
from ehlo._sockets import no_delay, no_signal
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
            sock.setblocking(False)
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
    """Connect to a server by SMTP, or LMTP by the config, and say hello. ``await`` it, or use ``async with``, which
    says QUIT in the end.

    Arguments:
        host: name or address. Of several addresses the first that answers is taken (RFC 8305).
        port: TCP port; by default 25, for LMTP 24, with implicit TLS 465.
        config: how the engine speaks; its timers too, each with the RFC's span (RFC 5321 4.5.3.2).
        hostname: what to say in EHLO; by default the config's, or where that is "localhost", this machine's domain name
            or else the literal of the connection's own address (RFC 5321 4.1.4).
        path: a Unix socket to connect to instead.
        sock: a connected stream socket to use instead.
        source_address: the address, or address and port, to connect from.
        tls: "off"; "opportunistic": STARTTLS where it is offered; "required": no MAIL, AUTH or content without it (RFC
            3207); "implicit": TLS before the greeting (RFC 8314 3.3). By default what ``config.tls`` says: "off".
            A handshake that fails is an error: whether to try again in clear is the program's to say.
        ssl_context: for the handshake. By default the certificate and the host name are verified (RFC 8314 5.3), but
            under "opportunistic" without ``auth`` they are not: see :func:`ehlo.unverified_context`.
        server_hostname: the name to send (SNI) and to verify the certificate by; by default ``host``.
        handshake_timeout: seconds until TLS must be established; by default 60.
        auth: a :class:`ehlo.Login`, or user name and password, to say AUTH with as soon as the hello is done (RFC
            4954).
        proxy: the :class:`ehlo.ProxyHeader` to send first, before TLS too.
        proxy_version: of that header: 2 by default, or 1.
        connect_timeout: seconds until TCP must be connected, by default 30; ``None``: as long as the system tries. The
            time that this machine's name takes is in it.
        trace: called with the new lines of the dialogue as they come, without content and secrets.

    Raises:
        SMTPConnectError: the server cannot be reached, or refuses in its greeting (RFC 5321 3.1), or TLS fails; then
            the reason is named, and ``__cause__`` is an :class:`ssl.SSLError`.
        SMTPHeloError: it refuses EHLO and HELO.
        SMTPNotSupportedError: it does not offer STARTTLS, which is required, or no AUTH that may be used.
        SMTPAuthenticationError: it refuses AUTH.
        SMTPTimeoutError: it does not answer in time.
        SMTPServerDisconnected, RemoteProtocolError: it closes, or speaks something else.
        LocalProtocolError: the combination of arguments makes no sense.

    Example::

        async with ehlo.asyncio.connect("mx.example", 587, tls="required", auth=("jane", password)) as client:
            await client.send(octets, sender="jane@mx.example", recipients=["c@d.example"])
    """
    return Connecting(Opening(host, port, **options), Client, dial)
