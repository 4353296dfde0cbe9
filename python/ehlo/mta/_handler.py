"""The way in: handlers that answer 250 when a message is durable, and not before (RFC 5321 4.2.5, 6.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import ehlo
from ehlo import Envelope, Handler, Session

if TYPE_CHECKING:
    from ehlo.mta._queue import Queue

__all__ = ["QueueHandler", "StreamingQueueHandler"]


class QueueHandler(Handler):
    """Takes mail into a queue. Override ``on_rcpt`` and others to refuse mail: without that it takes all mail.

    :func:`ehlo.asyncio.serve` and :func:`ehlo.trio.serve` use its ``config`` if they get none. It has the hostname of
    the queue, and offers the extensions that the queue supports (DSN, REQUIRETLS).

    A ``Result`` is ``None`` to accept, or a reply like ``"550 5.1.1 no such user"``. A ``Verdict`` answers AUTH.
    :class:`ehlo.Handler` explains both.

    Arguments:
        queue: the queue.

    Example::

        class Inbound(ehlo.mta.QueueHandler):
            def on_rcpt(self, session, recipient):
                return None if recipient.domain in LOCAL else "550 5.7.1 no relaying here"
    """

    reports_delivery = True
    """Says that DSN may be offered: the queue sends the notifications (RFC 3461)."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.config: ehlo.ServerConfig = queue.server_config()

    def on_data(self, session: Session, envelope: Envelope) -> ehlo.Result:
        """Refuses with 452 4.3.1 if there is no room (RFC 1870 6.1)."""
        return self.queue.refusal(envelope.sender.size or 0)

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> ehlo.Result:
        """Queues the message; the reply has its queue id."""
        return self.queue.receive(session, envelope, content)


class StreamingQueueHandler(QueueHandler):
    """The same for large messages: the content goes to the spool as it comes, and is never in memory as a whole.

    Example::

        server = await ehlo.asyncio.serve(ehlo.mta.StreamingQueueHandler(queue), "0.0.0.0", 25)
    """

    on_message: Any = Handler.on_message

    def on_body(self, session: Session, envelope: Envelope, body: AsyncIterator[bytes]) -> ehlo.Result:
        """Queues the message as it comes."""
        return self.queue.receive_body(session, envelope, body)
