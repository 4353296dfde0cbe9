"""Messages by the engine, over a session whose hello was said by hand.

smtplib's programs say EHLO, STARTTLS and AUTH themselves, and may say anything else in between. So the engine joins for
the length of a message: it is told what the server offered, and then it says MAIL, RCPT and the content in as few round
trips as the server allows (RFC 2920, RFC 3030).
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Final

from ehlo._core import ClientConfig, ClientConnection, Recipient, Reply, Sender, SendResult

__all__ = ["Courier", "text_of"]

# Octets that are read at once.
_READ: Final = 65536


def text_of(reply: Reply) -> bytes:
    """The text of a reply as smtplib has it: the lines joined by LF, each with the enhanced status code.

    Example::

        text_of(ehlo.Reply(550, "5.1.1", "no such user"))  # b"5.1.1 no such user"
    """
    if reply.enhanced is None:
        return b"\n".join(reply.lines)
    enhanced = reply.enhanced.encode()
    return b"\n".join(enhanced + b" " + line if line else enhanced for line in reply.lines)


class Courier:
    """The engine of one session.

    Arguments:
        features: keywords of the reply to EHLO with their parameters, as ``esmtp_features`` has them.
        lmtp: whether it is LMTP: the server answers for each recipient (RFC 2033 4.2).

    Attributes:
        features: a copy of those: where the program changes them, the engine is told anew.

    Example::

        courier = Courier(smtp.esmtp_features, lmtp=False)
        result = courier.carry(sock, b"", sender, recipients, octets)
    """

    def __init__(self, features: Mapping[str, str], *, lmtp: bool) -> None:
        self.features = dict(features)
        # As smtplib: octets above 127 go out, whatever the server says. Line ends are made right.
        self._conn = conn = ClientConnection(ClientConfig(lmtp=lmtp, force_8bit=True))
        conn.receive_data(b"220 -\r\n")
        conn.data_to_send()  # the hello that was said already
        lines = ["-", *(f"{keyword.upper()} {parameters}".rstrip() for keyword, parameters in self.features.items())]
        marks = ["-"] * (len(lines) - 1) + [" "]
        reply = "".join(f"250{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True))
        conn.receive_data(reply.encode("latin-1"))
        for _ in conn:
            pass

    @property
    def usable(self) -> bool:
        """Whether it can carry another message."""
        return not self._conn.closed

    def queue(self, sender: Sender, recipients: Sequence[Recipient], content: bytes) -> bool:
        """Hand it the next message. False: the server lacks what the envelope needs, and nothing was queued.

        Raises:
            LocalProtocolError: the engine does not write such a thing.
        """
        self._conn.send_message(sender, recipients, content)
        # A message that cannot go out has its result at once.
        return not any(isinstance(event, SendResult) for event in self._conn)

    def carry(self, sock: socket, came: bytes, tell: Callable[[str, bytes], object] | None) -> SendResult:
        """Send the message that was queued, and wait for its result.

        Arguments:
            sock: of the session; its timeout is the limit of each wait.
            came: octets that were read already.
            tell: called with ``"send"`` or ``"reply"`` and the octets.

        Raises:
            OSError: the connection failed, or the time is up. :meth:`end` has the result.
        """
        conn = self._conn
        conn.receive_data(came)
        much = False
        while not (conn.idle or conn.closed):
            if not (much and _is_readable(sock)) and (out := conn.data_to_send()):
                if tell is not None:
                    tell("send", out)
                sock.sendall(out)
                much = len(out) > _READ  # a refusal that comes before the end stops the content (C-CLI-33)
                continue
            octets = sock.recv(_READ)
            much = False
            if tell is not None:
                tell("reply", octets)
            if octets:
                conn.receive_data(octets)
            else:
                conn.receive_eof()
        return self._result()

    def end(self) -> SendResult:
        """The connection is lost: what became of the message."""
        self._conn.receive_eof()
        return self._result()

    def _result(self) -> SendResult:
        (result,) = (event for event in self._conn if isinstance(event, SendResult))
        return result


def _is_readable(sock: socket) -> bool:
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select((sock,), (), (), 0)[0])
