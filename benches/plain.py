"""SMTP as one writes it in an afternoon: the least that a Python program does by itself.

Both sides know the commands of a plain transaction and the order of them. They keep no limit of size or time, offer one
extension or use none, and believe that the other side is honest. What they leave out is what a stand beside them costs.
"""

from __future__ import annotations

import re

__all__ = ["CLIENT_NAME", "GREETING", "OFFER", "RECIPIENT", "SENDER", "Server", "read_reply", "stuff", "unstuff"]

CLIENT_NAME = "client.example.org"
SENDER, RECIPIENT = "jane@example.org", "joe@example.org"
GREETING = b"220 mx.example.org ESMTP\r\n"
OFFER = b"250-mx.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n"

_END = b"\r\n.\r\n"
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])[ -]([^\r\n]*)\r\n")
_PATH = re.compile(rb"(?:MAIL FROM|RCPT TO):<([^<>\s]*)>(?: .*)?", re.IGNORECASE)


def stuff(content: bytes) -> bytes:
    """Content whose lines all end in CRLF, dot-stuffed and with the line of the dot (RFC 5321 4.5.2)."""
    first = b"." if content.startswith(b".") else b""
    return first + content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def unstuff(wire: bytes) -> bytes:
    """The content of dot-stuffed data (RFC 5321 4.5.2)."""
    if not wire.endswith(_END):
        raise ValueError("the end of the data is missing")
    content = wire[:-3].replace(b"\r\n.", b"\r\n")
    return content[1:] if content.startswith(b".") else content


def read_reply(octets: bytes) -> tuple[int, bytes]:
    """The code of a whole reply, and its lines joined by LF (RFC 5321 4.2)."""
    lines = _REPLY_LINE.findall(octets)
    return int(lines[0][0]), b"\n".join(text for _, text in lines)


class Server:
    """The server's side of a session. It keeps the content of the last message and drops the others."""

    def __init__(self) -> None:
        self.messages = 0
        self.content = b""
        self._octets = bytearray()
        self._searched = 0
        self._in_content = False
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        """The replies to these octets, in any split."""
        self._octets += data
        replies = b""
        while True:
            mark = _END if self._in_content else b"\r\n"
            at = self._octets.find(mark, self._searched)
            if at < 0:
                self._searched = max(0, len(self._octets) - len(mark) + 1)
                return replies
            part = bytes(self._octets[: at + len(mark)])
            self._searched = 0
            if self._in_content:
                replies += self._message(part)
                del self._octets[: len(part)]
            else:
                replies += self._command(part[:-2])
                # The CRLF of DATA stays: with it each dot at the start of a line is behind a CRLF.
                del self._octets[: len(part) - 2 * self._in_content]

    def _message(self, part: bytes) -> bytes:
        self.content = part[:-3].replace(b"\r\n.", b"\r\n")[2:]
        self.messages += 1
        self._in_content, self._sender, self._recipients = False, None, []
        return b"250 2.0.0 OK\r\n"

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb in (b"MAIL", b"RCPT"):
            path = _PATH.fullmatch(line)
            if path is None:
                return b"501 5.5.4 syntax error\r\n"
            if (verb == b"MAIL") != (self._sender is None):
                return b"503 5.5.1 bad sequence of commands\r\n"
            if verb == b"MAIL":
                self._sender = path[1]
            else:
                self._recipients.append(path[1])
            return b"250 2.1.0 OK\r\n"
        if verb == b"DATA":
            if not self._recipients:
                return b"503 5.5.1 bad sequence of commands\r\n"
            self._in_content = True
            return b"354 end data with <CR><LF>.<CR><LF>\r\n"
        if verb in (b"EHLO", b"HELO", b"RSET"):
            self._sender, self._recipients = None, []
            return OFFER if verb == b"EHLO" else b"250 mx.example.org\r\n"
        return b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"500 5.5.2 unknown command\r\n"
