"""[handler]: a program's own rules, in front of those of this server."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import ehlo
from ehlo.cli._serve.settings import Settings

__all__ = ["in_front", "load_filter", "value_of", "with_methods"]

_METHODS = tuple(name for name in vars(ehlo.Handler) if name.startswith("on_"))
# Here both are always told, and nothing is answered.
_NOTICES = ("on_refused", "on_reset", "on_disconnect")


def load_filter(settings: Settings) -> object | None:
    """The object that [handler] names; ``None`` without. The folder of the file is searched first.

    Raises:
        UsageError: it cannot be made, or is no handler.
    """
    use = settings.handler.use
    if use is None:
        return None
    module_name, colon, name = use.partition(":")
    if not colon or not module_name or not name:
        raise settings.error("handler.use", f'is like "my.module:Filter", not {use!r}')
    folder = os.path.abspath(settings.source.base)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        made: object = getattr(importlib.import_module(module_name), name)(**(settings.handler.options or {}))
        ehlo.decisions_of(made)
    except (Exception, SystemExit) as exc:  # it is the program's own code: whatever it raises is the reason
        raise settings.error("handler.use", f"{use}: {type(exc).__name__}: {exc}") from exc
    if _method(made, "on_body") is not None:
        raise settings.error("handler.use", f"{use}: has on_body; a filter looks at the whole content in on_message")
    return made


def in_front(first: object | None, then: object) -> object:
    """A handler that asks ``first``, and ``then`` where the first has nothing against it. A positive answer of the
    first to a message ends it there: then the first has taken the message."""
    if first is None:
        return then
    found: dict[str, Callable[..., Any]] = {}
    for name in _METHODS:
        one, other = _method(first, name), _method(then, name)
        if one is not None and other is not None:
            found[name] = _both(one, other, name)
        elif one is not None or other is not None:
            found[name] = one or other  # type: ignore[assignment]
    return _Chain(found)


def with_methods(handler: object, **methods: Callable[..., Any]) -> object:
    """A handler with some methods in place of its own."""
    own = {name: method for name in _METHODS if (method := _method(handler, name)) is not None}
    return _Chain(own | methods)


class _Chain:
    """A handler with just these methods."""

    def __init__(self, methods: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(methods)


def _method(handler: object, name: str) -> Callable[..., Any] | None:
    method = getattr(handler, name, None)
    if method is None or getattr(method, "__func__", None) is getattr(ehlo.Handler, name):
        return None
    return method  # type: ignore[no-any-return]


def _both(one: Callable[..., Any], other: Callable[..., Any], name: str) -> Callable[..., Awaitable[Any]]:
    async def ask(session: ehlo.Session, *arguments: Any) -> Any:
        answer = await value_of(one(session, *arguments))
        if name in _NOTICES or answer is None:
            return await value_of(other(session, *arguments))
        if name in ("on_auth", "on_message") or not _is_positive(answer):
            return answer
        second = await value_of(other(session, *arguments))
        return answer if second is None else second

    return ask


async def value_of(result: Any) -> Any:
    """What a method of a handler gave, whether it had to wait or not."""
    return await result if inspect.isawaitable(result) else result


def _is_positive(answer: Any) -> bool:
    reply = answer if isinstance(answer, ehlo.Reply) else ehlo.Reply.parse(str(answer))
    return reply.is_positive
