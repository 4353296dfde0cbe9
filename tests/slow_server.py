"""A server of a few lines that is as slow, as rude or as wrong as a test wants it. Each connection has a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

Answer = Callable[[str, int], bytes | None]


class SlowServer:
    """Answers ``answer(verb, how many of it came before)``; None closes. The greeting is "", content "."."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: Counter[str] = Counter()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _said(self, verb: str) -> bytes | None:
        with self.lock:
            before = self.seen[verb]
            self.seen[verb] += 1
        return self.answer(verb, before)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            reply = self._said("")
            while reply is not None:
                client.sendall(reply)
                if reply.startswith(b"354"):
                    for line in lines:
                        if line == b".\r\n":
                            break
                    verb = "."
                else:
                    verb = lines.readline()[:4].strip().upper().decode("ascii", "replace")
                    if not verb:
                        return
                reply = self._said(verb)
                if verb == "QUIT":
                    client.sendall(b"221 2.0.0 bye\r\n")
                    return

    def stop(self) -> None:
        # A thread that waits in accept() wakes up by a connection, not by close().
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.accepting.join(5)
        for client in self.open:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


USUAL = {"": b"220 slow.example ESMTP\r\n", "DATA": b"354 go\r\n"}


def usual(verb: str) -> bytes:
    """What a server that takes all would say."""
    return USUAL.get(verb, b"250 2.0.0 OK\r\n")


def delaying(seconds: float, *verbs: str) -> Answer:
    """Takes all, but waits before it answers these verbs, or all."""

    def answer(verb: str, before: int) -> bytes:
        if not verbs or verb in verbs:
            time.sleep(seconds)  # the delay is what is measured
        return usual(verb)

    return answer


@contextlib.contextmanager
def slow_server(answer: Answer) -> Iterator[SlowServer]:
    server = SlowServer(answer)
    try:
        yield server
    finally:
        server.stop()
