"""[[filter]]: the programs that look at mail by the milter protocol, in front of what a listener does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import ehlo
from ehlo.cli._engine import nearest
from ehlo.cli._serve.front import value_of, with_methods
from ehlo.cli._serve.settings import PROTOCOLS, Filter, Listener, Settings
from ehlo.cli._serve.trail import Trail
from ehlo.dkim import remove_claims

if TYPE_CHECKING:
    from ehlo.milter.filters import Milter

__all__ = ["HELD", "filtered", "read_milters"]

HELD: Final = "ehlo serve: held"
"""Under this name a session has the reason why a filter wants the message held, while it is handed over."""


def read_milters(settings: Settings) -> tuple[tuple[Filter, Milter], ...]:
    """The filters of the settings, in order.

    Raises:
        UsageError: one makes no sense, or what it needs is not installed.
    """
    if not settings.filter:
        return ()
    try:
        from ehlo.milter.filters import Milter  # an extra
    except ImportError as exc:
        raise settings.error("filter", f"needs more packages: pip install 'ehlo[milter]' ({exc})") from None
    names = {*PROTOCOLS, *(one.name for one in settings.listener if one.name is not None)}
    found = []
    for table in settings.filter:
        if not table.milter:
            raise settings.error(f"{table.where}: milter", "is missing; write unix:PATH or inet:HOST:PORT")
        for name in table.listeners or ():
            if name not in names:
                raise settings.error(f"{table.where}: listeners", f"has {name!r}: {nearest(name, names)}")
        given: dict[str, Any] = {
            "milter": table.milter,
            "when_down": table.when_down,
            "connect_timeout": table.connect_seconds,
            "command_timeout": table.command_seconds,
            "content_timeout": table.content_seconds,
            "longest": table.longest_seconds,
        }
        try:
            found.append((table, Milter.from_settings(given | ({"macros": table.macros} if table.macros else {}))))
        except ehlo.LocalProtocolError as exc:
            raise settings.error(f"{table.where}:", str(exc)) from None
    return tuple(found)


async def filtered(
    handler: Any,
    listener: Listener,
    settings: Settings,
    milters: tuple[tuple[Filter, Milter], ...],
    drop: Callable[[ehlo.Session], Any],
    trail: Trail,
    stack: AsyncExitStack,
) -> object:
    """The handler of one listener: the filters that are for it, and ``handler`` within.

    Authentication-Results fields that claim our name are removed on the way in (RFC 8601 5). Where LMTP is spoken they
    stay: there the mail comes from our own MTA, which has removed them, and has written its own.

    Arguments:
        handler: decides about the envelope, and takes mail.
        milters: all of them.
        drop: ends what a transaction has open, when no content comes to ``handler``.
        trail: is told of the mail that filters throw away.
        stack: closes the connections to the filters.
    """
    name = None if listener.protocol == "lmtp" else settings.authserv_id
    chosen = [milter for table, milter in milters if _is_for(table, listener)]
    if not chosen:
        return handler if name is None else _without_claims(handler, name)
    from ehlo.milter.filters import Filters

    hold = _holding(handler) if settings.queue is not None else None
    daemon_name = listener.name or listener.protocol
    filters = await stack.enter_async_context(
        Filters(chosen, handler, hold=hold, discarded=trail.discarded, authserv_id=name, daemon_name=daemon_name)
    )

    async def on_body(session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> Any:
        try:
            return await filters.on_body(session, envelope, body)
        finally:
            await value_of(drop(session))  # a filter may have refused what the way out was ready to take

    return with_methods(filters, on_body=on_body)


def _is_for(table: Filter, listener: Listener) -> bool:
    return table.listeners is None or not {listener.protocol, listener.name}.isdisjoint(table.listeners)


def _without_claims(handler: Any, name: str) -> object:
    def on_message(session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> Any:
        return handler.on_message(session, envelope, remove_claims(content, name))

    return with_methods(handler, on_message=on_message)


def _holding(handler: Any) -> Callable[..., Awaitable[Any]]:
    """What takes a message that a filter wants held: the same handler, and the queue finds the reason."""

    async def hold(session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes], reason: str) -> Any:
        content = b"".join([piece async for piece in body])
        session.state[HELD] = reason
        try:
            return await value_of(handler.on_message(session, envelope, content))
        finally:
            session.state.pop(HELD, None)

    return hold
