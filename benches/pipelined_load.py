"""Sends mail with one round trip a message: the end of a content goes out with the next MAIL, RCPT and DATA.

python pipelined_load.py PORT MESSAGES SIZE CONNECTIONS
"""

from __future__ import annotations

import selectors
import socket
import sys

ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"


def content(size: int) -> bytes:
    line = b"X" * 78 + b"\r\n"
    return line * (size // 80) + b"X" * max(0, size % 80 - 2) + b"\r\n.\r\n"


class Connection:
    def __init__(self, port: int, messages: int, body: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")
        self.body = body
        self.left = messages
        self.next_reply()
        self.socket.sendall(b"EHLO load.example\r\n")
        self.next_reply()
        self.pending = 3
        self.socket.sendall(ENVELOPE)
        self.buffer = b""
        self.out = memoryview(b"")
        self.socket.setblocking(False)

    def next_reply(self) -> None:
        while (line := self.replies.readline())[3:4] == b"-":
            pass
        if line[:1] not in b"23":
            raise SystemExit(f"refused: {line!r}")

    def on_readable(self) -> bool:
        """False when all was sent and answered."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the server closed")
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\r\n")
        for line in lines:
            if line[:1] not in b"23":
                raise SystemExit(f"refused: {line!r}")
        self.pending -= len(lines)
        if self.pending:
            return True
        if not self.left:
            return False
        self.left -= 1
        self.pending = 4 if self.left else 1
        self.out = memoryview(self.body + (ENVELOPE if self.left else b""))
        return True

    def on_writable(self) -> None:
        try:
            self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            return


def main() -> None:
    port, messages, size, connections = map(int, sys.argv[1:])
    body = content(size)
    share, extra = divmod(messages, connections)
    selector = selectors.DefaultSelector()
    running = 0
    for number in range(min(connections, messages)):
        connection = Connection(port, share + (number < extra), body)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        running += 1
    while running:
        for key, events in selector.select(30):
            connection = key.data
            if events & selectors.EVENT_READ and not connection.on_readable():
                selector.unregister(connection.socket)
                connection.socket.close()
                running -= 1
                continue
            if connection.out:
                connection.on_writable()
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
                if wanted != key.events:
                    selector.modify(connection.socket, wanted, connection)
            elif key.events != selectors.EVENT_READ:
                selector.modify(connection.socket, selectors.EVENT_READ, connection)


if __name__ == "__main__":
    main()
