"""What every store offers, and the reply that tells a client of its failure."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from ehlo._core import Envelope, Reply

__all__ = ["Delivery", "RecipientField", "Store", "failure_reply"]

RecipientField: TypeAlias = Literal["Delivered-To", "X-Original-To"]
"""The header field that says who a message was for. It has no RFC; Postfix writes both."""


class Delivery(Protocol):
    """One message on its way into a store. Every method blocks.

    Leaving the ``with`` block without :meth:`commit` aborts.

    Example::

        with store.begin(envelope) as delivery:
            delivery.write(chunk); delivery.commit()
    """

    def write(self, chunk: bytes) -> None:
        """Take the next octets of the content, of any length. Lines end with CRLF.

        Raises:
            OSError: they cannot be kept. Call :meth:`abort` then.
        """

    def commit(self) -> str:
        """Make the message appear, and return when it is on the disk. Gives the path of the file that holds it.

        Raises:
            OSError: nothing of the message is kept.
        """

    def abort(self) -> None:
        """Throw away the message. Does nothing after :meth:`commit`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class Store(Protocol):
    """A place for messages that are delivered finally (RFC 5321 4.4). Several threads may use one store.

    Example::

        store: ehlo.store.Store = ehlo.store.Mbox("inbox.mbox")
        store.deliver(envelope, b"Subject: x\\r\\n\\r\\nhello\\r\\n")
    """

    def deliver(
        self,
        envelope: Envelope,
        content: bytes | Iterable[bytes],
        *,
        fields: bytes = b"",
        now: datetime | None = None,
    ) -> str:
        """Keep one message; return when it is on the disk.

        Arguments:
            envelope: the sender, for Return-Path (RFC 5321 4.4), and the recipients.
            content: the message with CRLF line ends, whole or in pieces.
            fields: header fields to put above the content, such as :func:`ehlo.received` makes. The store itself adds
                Return-Path.
            now: when it was received, with its offset from UTC; by default now.

        Returns:
            The path of the file that holds the message.

        Raises:
            OSError: nothing of the message is kept; :func:`failure_reply` gives the reply for the client. A lock that
                another program holds for too long is a ``TimeoutError``.
            LocalProtocolError: ``fields`` does not end with CRLF.
        """

    def begin(self, envelope: Envelope, *, fields: bytes = b"", now: datetime | None = None) -> Delivery:
        """Begin a message whose content comes in pieces. Arguments and exceptions are those of :meth:`deliver`."""

    def close(self) -> None:
        """Say that no more messages will come."""


def failure_reply(error: OSError) -> Reply:
    """Return the reply for a message that a store did not keep. It always lets the client try again.

    Arguments:
        error: the exception of the store.

    Returns:
        ``452 4.3.1`` for a full disk or a quota (RFC 5321 4.2.3, RFC 3463 3.4), ``452 4.2.2`` for a file that may not
        grow, ``451 4.2.0`` for a mailbox that another program holds locked, else ``451 4.3.0``.

    Example::

        except OSError as error:
            return ehlo.store.failure_reply(error)
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Reply(452, "4.3.1", "Insufficient system storage")
    if error.errno == errno.EFBIG:
        return Reply(452, "4.2.2", "Mailbox is full")
    if isinstance(error, TimeoutError):
        return Reply(451, "4.2.0", "Mailbox is locked by another program; try again later")
    return Reply(451, "4.3.0", "Local error in processing")
