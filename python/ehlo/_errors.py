"""What this package raises. Names follow :mod:`smtplib` where it has one."""

from __future__ import annotations

__all__ = ["CommandSyntaxError", "EhloError", "LocalProtocolError", "RemoteProtocolError"]


class EhloError(Exception):
    """The root of every exception of this package."""


class LocalProtocolError(EhloError):
    """This program asked for something the protocol does not allow at this point.

    Never raised for what a peer sent. The message names what was expected.

        >>> import ehlo
        >>> ehlo.Reply(199)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ehlo.LocalProtocolError: ...
    """


class RemoteProtocolError(EhloError):
    """Octets handed to one of the stand-alone parsers are not what the RFC allows.

    :class:`ehlo.ServerConnection` never raises it: there a peer's error is a reply (RFC 5321 4.2).
    """


class CommandSyntaxError(RemoteProtocolError):
    """A command line that :func:`ehlo.parse_command` could not read.

    ``reply`` is the :class:`ehlo.Reply` that a server owes for it (RFC 5321 4.2.4, 4.3.2).
    """

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply
