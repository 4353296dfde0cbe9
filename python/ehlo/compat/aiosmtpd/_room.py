"""What the connections of this shape share: the engine's config for a set of arguments, made once for each loop."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Any, Final

from ehlo._core import ServerConfig
from ehlo._server.handler import HandlerPlan
from ehlo._server.limits import Limits
from ehlo._server.listener import Setup
from ehlo._server.trust import Networks
from ehlo._types import Decision
from ehlo.asyncio import Server

__all__ = ["close_sessions", "room_for", "rooms_of"]

# Seconds for a TLS handshake, as asyncio has them.
_HANDSHAKE: Final = 60.0
# aiosmtpd has no limits of its own but the timeout. That is for a method, too.
_LIMITS: Final = Limits(
    max_connections=None,
    max_connections_per_network=None,
    session_seconds=None,
    handler_seconds=None,
    submission_handler_seconds=None,
    content_seconds=None,
    content_rate=None,
    auth_delay_seconds=0,
)

# aiosmtpd's words. A reply without a name here is asked about ("refusal").
_TEXTS: Final = {
    "ok": "OK",
    "sender_ok": "OK",
    "recipient_ok": "OK",
    "bye": "Bye",
    "start_content": "End data with <CR><LF>.<CR><LF>",
    "start_tls": "Ready to start TLS",
    "cancelled": "5.7.0 Auth aborted",
    "not_base64": "5.5.2 Can't decode base64",
    "tls_too_weak": "Command refused due to lack of security",
    "not_verified": "Cannot VRFY user, but will accept message and attempt delivery",
}

# What aiosmtpd's parser lets through.
_LENIENT: Final = (
    "hello_underscore",
    "hello_any",
    "hello_trailing_text",
    "space_after_colon",
    "bare_paths",
    "extra_space",
    "dots_in_local_part",
    "domain_underscore",
    "general_literals",
    "lowercase_xtext",
    "no_domain",
)

# The loop itself has its rooms, by this name: each holds the loop, so that a dictionary of ours would keep it for ever.
_NAME: Final = "_ehlo_aiosmtpd_rooms"


def rooms_of(loop: asyncio.AbstractEventLoop) -> dict[Any, Server]:
    """The servers of a loop, by their settings."""
    rooms: dict[Any, Server] | None = getattr(loop, _NAME, None)
    if rooms is None:
        rooms = {}
        setattr(loop, _NAME, rooms)
    return rooms


def room_for(
    loop: asyncio.AbstractEventLoop,
    *,
    hostname: str,
    ident: str,
    lmtp: bool,
    decisions: frozenset[Decision],
    size_limit: int | None,
    smtputf8: bool,
    tls: ssl.SSLContext | None,
    implicit_tls: bool,
    require_tls: bool,
    timeout: float,
    auth: tuple[str, ...],
    auth_in_clear: bool,
    local_part_limit: int,
    line_limit: int,
    command_limit: int,
    any_parameter: bool,
) -> Server:
    """The server without sockets that connections with these settings belong to."""
    settings = locals()
    rooms = rooms_of(loop)
    key = tuple(value for name, value in settings.items() if name != "loop")
    room = rooms.get(key)
    if room is not None:
        return room
    try:
        name = ServerConfig(hostname).hostname
    except ValueError:  # it stands in the greeting and in the reply to EHLO all the same: this shape writes those
        name = "localhost"
    config = ServerConfig(
        name,
        lmtp=lmtp,
        decisions=decisions,
        texts={**_TEXTS, "greeting": ident},
        pipelining=False,
        enhanced_status_codes=False,
        max_message_size=size_limit or None,
        chunking=False,
        binarymime=False,
        smtputf8=smtputf8,
        dsn=False,
        limits_keyword=False,
        tls="implicit" if implicit_tls else "off" if tls is None else "starttls",
        require_tls=require_tls,
        auth=auth if tls is not None or implicit_tls or auth_in_clear else (),
        auth_in_clear=auth if auth_in_clear else (),
        bare_newlines="allow",
        unknown_parameters="pass" if any_parameter else "reject",
        reject_long_lines=line_limit <= 1001,
        lenient=_LENIENT,
        max_local_part=max(64, local_part_limit or command_limit),
        max_command_line=max(512, command_limit + 64),
        max_recipients=1_000_000,
        max_messages=None,
        max_errors=None,
        max_junk=None,
        max_refusals=None,
        max_auth_failures=None,
        command_timeout=timeout,
        content_timeout=timeout,
        handshake_timeout=min(timeout, _HANDSHAKE),
    )
    # Each connection has a plan of its own, with the methods of its protocol.
    plan = HandlerPlan(
        decisions,
        "collect",
        on_connect=None,
        on_hello=None,
        on_auth=None,
        on_mail=None,
        on_rcpt=None,
        on_data=None,
        on_message=None,
        on_body=None,
        on_vrfy=None,
        on_expn=None,
        on_etrn=None,
        on_reset=None,
        on_refused=None,
        on_disconnect=None,
    )
    limits = replace(_LIMITS, handler_seconds=timeout)
    rooms[key] = room = Server(Setup(plan, config, limits, tls, Networks(())), loop)
    return room


def close_sessions(loop: asyncio.AbstractEventLoop) -> None:
    """Close all connections of this shape in a loop that is about to end."""
    for room in rooms_of(loop).values():
        for connection in tuple(room._live):
            connection._transport.abort()
