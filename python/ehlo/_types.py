"""Names for types that are shared; the extension itself holds only classes."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ehlo._core import (
    Address,
    Auth,
    AuthResponse,
    Chunk,
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
    Reset,
    StartTls,
    Vrfy,
    Xclient,
)

__all__ = ["BareNewlines", "Decision", "ForwardPath", "ReversePath", "ServerEvent"]

ReversePath: TypeAlias = Address | NullPath
"""What MAIL names (RFC 5321 4.1.2)."""

ForwardPath: TypeAlias = Address | Postmaster
"""What RCPT names (RFC 5321 4.1.1.3)."""

Decision: TypeAlias = Literal["connect", "hello", "mail", "rcpt", "data", "message", "vrfy", "expn", "etrn", "reset"]
"""What a program may ask to decide."""

BareNewlines: TypeAlias = Literal["reject", "normalize", "allow"]
"""What to do with bare CR and bare LF in content (RFC 5321 2.3.8)."""

ServerEvent: TypeAlias = (
    Auth
    | AuthResponse
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
    | Reset
    | Disconnect
)
"""What :meth:`ehlo.ServerConnection.next_event` gives."""
