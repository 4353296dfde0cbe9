"""Types that both wings of the package need, and the text of a path. The extension itself holds only classes."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from ehlo._core import (
    Address,
    Auth,
    AuthCancelled,
    AuthResponse,
    BadProxy,
    Chunk,
    CommandReceived,
    Connect,
    ContentAborted,
    ContentStart,
    Data,
    Disconnect,
    Etrn,
    Expn,
    Hello,
    Mail,
    Message,
    NullPath,
    Postmaster,
    Proxy,
    Rcpt,
    Refusal,
    Refused,
    Reset,
    StartTls,
    Vrfy,
    Xclient,
)

__all__ = ["BareNewlines", "Decision", "ForwardPath", "ReversePath", "ServerEvent", "Wakeup", "path_text"]

ReversePath: TypeAlias = Address | NullPath
"""What MAIL names (RFC 5321 4.1.2)."""

ForwardPath: TypeAlias = Address | Postmaster
"""What RCPT names (RFC 5321 4.1.1.3)."""

Decision: TypeAlias = Literal[
    "connect",
    "hello",
    "mail",
    "rcpt",
    "data",
    "message",
    "vrfy",
    "expn",
    "etrn",
    "reset",
    "command",
    "refusal",
    "refused",
]
"""What a program may ask to decide."""

BareNewlines: TypeAlias = Literal["reject", "normalize", "allow"]
"""What to do with bare CR and bare LF in content (RFC 5321 2.3.8)."""

ServerEvent: TypeAlias = (
    Auth
    | AuthResponse
    | AuthCancelled
    | BadProxy
    | CommandReceived
    | Refusal
    | StartTls
    | Proxy
    | Xclient
    | Connect
    | Hello
    | Mail
    | Rcpt
    | Data
    | ContentStart
    | Chunk
    | ContentAborted
    | Message
    | Vrfy
    | Expn
    | Etrn
    | Refused
    | Reset
    | Disconnect
)
"""What :meth:`ehlo.ServerConnection.next_event` gives."""


class Wakeup(Protocol):
    """One task waits for it until another task sets it. ``asyncio.Event`` and ``trio.Event`` are such objects.

    It is set at most once.
    """

    def set(self) -> None: ...

    async def wait(self) -> object: ...


def path_text(path: ForwardPath | ReversePath | str) -> str:
    """Return a path as it stands between ``<`` and ``>`` (RFC 5321 4.1.2).

    Arguments:
        path: the path of an envelope. The null reverse-path gives ``""``, the postmaster without a domain gives
            ``"Postmaster"`` as it was written. A text stays as it is.

    Example::

        >>> path_text(ehlo.Address("<a@b.example>"))
        'a@b.example'
    """
    if isinstance(path, str):
        return path
    mailbox = getattr(path, "mailbox", None)
    if mailbox is not None:
        return str(mailbox)
    return str(getattr(path, "as_written", "")).strip("<>")
