"""Messages by the engine, over a session whose hello was said by hand.

The programs of smtplib and aiosmtplib say EHLO, STARTTLS and AUTH themselves, and may say anything else in between. So
the engine joins for the length of a message: it is told what the server offered, and then it says MAIL, RCPT and the
content in as few round trips as the server allows (RFC 2920, RFC 3030). No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ehlo._core import ClientConfig, ClientConnection, Recipient, Reply, Sender, SendResult

__all__ = ["Courier", "text_of"]


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
        if courier.queue(sender, recipients, octets): sock.sendall(courier.data_to_send())
    """

    def __init__(self, features: Mapping[str, str], *, lmtp: bool) -> None:
        self.features: dict[str, str] = dict(features)
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

    def data_to_send(self) -> bytes:
        """Octets to send now; empty if there are none."""
        return self._conn.data_to_send()

    def receive(self, octets: bytes) -> None:
        """The server said this; nothing at the end of the connection."""
        if octets:
            self._conn.receive_data(octets)
        else:
            self._conn.receive_eof()

    @property
    def is_done(self) -> bool:
        """Whether the message has its result, and the session can go on by hand, or is over."""
        return self._conn.idle or self._conn.closed

    def result(self) -> SendResult:
        """What became of the message, once it is done. Before that the connection counts as lost."""
        if not self.is_done:
            self._conn.receive_eof()
        (result,) = (event for event in self._conn if isinstance(event, SendResult))
        return result
