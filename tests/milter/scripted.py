"""A filter that does as it is told: what it answers to each command, and where it dies. It keeps what it heard."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ANSWERED = b"CHMRTLNBEU"


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("!I", 1 + len(payload)) + kind + payload


class ScriptedFilter:
    """Arguments: what is sent for a command in place of "continue", with its length already; at which command it dies;
    the bits of its negotiation; whether it listens on TCP.
    """

    def __init__(
        self,
        answers: Mapping[bytes, bytes] | None = None,
        *,
        dies_at: bytes = b"",
        steps: int = 0,
        unanswered: bytes = b"",
        path: Path | None = None,
    ) -> None:
        self.answers = dict(answers or {})
        self.dies_at = dies_at
        self.steps = steps
        self.unanswered = unanswered
        self.heard: list[tuple[bytes, bytes]] = []
        self.sessions = 0
        self._peers: list[socket.socket] = []
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.address = f"inet:127.0.0.1:{self._socket.getsockname()[1]}"
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(path))
            self._socket.listen()
            self.address = f"unix:{path}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._socket, *self._peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(20)

    def note(self, kind: bytes, payload: bytes) -> None:
        """A command came."""
        self.heard.append((kind, payload))

    def kinds(self) -> bytes:
        return b"".join(kind for kind, _ in self.heard if kind != b"D")

    def macros(self, command: bytes) -> dict[str, str]:
        """Those that came in front of a command, the last time."""
        (payload,) = [one[1:] for kind, one in self.heard if kind == b"D" and one[:1] == command][-1:]
        words = payload.decode().split("\0")[:-1]
        return dict(zip(words[::2], words[1::2], strict=True))

    def payloads(self, command: bytes) -> list[bytes]:
        return [payload for kind, payload in self.heard if kind == command]

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.sessions += 1
            self._peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError), peer.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                frame_octets = stream.read(struct.unpack("!I", head)[0])
                kind, payload = frame_octets[:1], frame_octets[1:]
                self.note(kind, payload)
                if kind in self.dies_at:
                    return
                if kind == b"O":
                    peer.sendall(self.answers.get(b"O", frame(b"O", struct.pack("!III", 6, 0x1FF, self.steps))))
                elif kind in ANSWERED and kind not in self.unanswered:
                    peer.sendall(self.answers.get(kind, frame(b"c")))
