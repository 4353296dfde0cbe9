"""A peer that does what a script says, right or wrong: for testing what others make of it.

A script is text, a step a line:

==================  ============================================================================================
``S: 250 ok``       the server says this line; CRLF is added
``C: MAIL FROM:*``  the client says this line: of the other party a pattern with ``*`` and ``?``, in any case
``S> 25\\x30-a\\n``   the server says exactly these octets (escapes as in Python's bytes)
``S< 8``            the script's own party says what is buffered in pieces of 8 octets from here on
``C...``            the client sends content up to the dot, or the server all there is up to the end
``close``           the script's party closes
``wait``            the script's party does nothing until the other closes
==================  ============================================================================================

A line that begins with ``#`` and an empty line are passed over.
"""

from __future__ import annotations

import ast
import socket
import threading
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from ehlo._errors import EhloError
from ehlo.testing._transcript import Party, Transcript, without_initial_response

__all__ = ["ScriptError", "ScriptedClient", "ScriptedPeer", "ScriptedServer"]


class ScriptError(EhloError, AssertionError):
    """The other party did not say what the script expected; or the script itself cannot be read.

    Example::

        with pytest.raises(ehlo.testing.ScriptError): peer.check()
    """


class ScriptedPeer:
    """One party of a session, by a script, without I/O. It has the methods of an engine, so a
    :class:`ehlo.testing.Wire` takes it in an engine's place.

    Arguments:
        script: see :mod:`ehlo.testing._script`: ``S:`` and ``C:`` lines.
        party: which of them this peer is, ``"S"`` or ``"C"``.

    Raises:
        ScriptError: for a step that cannot be read.

    Example::

        peer = ScriptedPeer("S: 220 mx\\nC: EHLO *\\nS: 250 mx", "S")
        assert peer.data_to_send() == b"220 mx\\r\\n"
    """

    def __init__(self, script: str, party: Party) -> None:
        self.party: Party = party
        self.error: str | None = None
        self.closed: bool = False
        self.transcript: Transcript = Transcript()
        # The next line of the client answers a challenge of AUTH: it may hold a secret.
        self._challenged = False
        self._steps = [
            line.strip() for line in script.splitlines() if line.strip() and not line.strip().startswith("#")
        ]
        self._input = b""
        self._output = b""
        self._piece: int | None = None
        self._eof = False
        self._advance()

    # What a Wire asks of an engine.

    def receive_data(self, data: bytes) -> None:
        """Octets of the other party, in any pieces. Never raises: see :meth:`check`."""
        self.transcript.add("C" if self.party == "S" else "S", data)
        self._input += data
        self._advance()

    def receive_eof(self) -> None:
        """The other party closed."""
        self._eof = True
        self._advance()

    def data_to_send(self) -> bytes:
        """What is to be said next: all, or one piece where the script cuts it; ``b""`` when there is nothing."""
        out, self._output = self._output[: self._piece], self._output[len(self._output[: self._piece]) :]
        self.transcript.add(self.party, out)
        return out

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        raise StopIteration  # it has no events

    @property
    def done(self) -> bool:
        """Whether every step was done."""
        return not self._steps and self.error is None

    def check(self) -> None:
        """Say what went wrong.

        Raises:
            ScriptError: the other party said something else, or the script is not at its end.

        Example::

            peer.check()
        """
        if self.error is None and self._steps:
            self.error = f"the session ended before {self._steps[0]!r}"
        if self.error is not None:
            raise ScriptError(f"{self.error}\n{self.transcript}")

    # ----

    def _advance(self) -> None:
        while self._steps and self.error is None and not self.closed and self._step(self._steps[0]):
            self._steps.pop(0)

    def _step(self, step: str) -> bool:
        """Do one step. False: not yet."""
        who, mark, text = step[:1], step[1:2], step[2:].removeprefix(" ")
        if step == "close":
            self.closed = True
        elif step == "wait":
            return self._eof
        elif who not in ("C", "S"):
            self.error = f"no step of a script: {step!r}"
        elif who == self.party:
            return self._say(mark, text, step)
        elif step[1:] == "...":
            return self._skip_content()
        elif mark == ":":
            return self._hear(text)
        else:
            self.error = f"no step of a script: {step!r}"
        return True

    def _say(self, mark: str, text: str, step: str) -> bool:
        match mark:
            case ":":
                self._output += text.encode() + b"\r\n"
                self._challenged = text.startswith("334")
            case ">":
                self._output += ast.literal_eval(f"b'''{text}'''")
            case "<":
                self._piece = int(text)
            case _:
                self.error = f"no step of a script: {step!r}"
        return True

    def _hear(self, pattern: str) -> bool:
        line, end, rest = self._input.partition(b"\r\n")
        if not end:
            if self._eof:
                self.error = f"the other closed; expected {pattern!r}"
            return False
        self._input = rest
        heard = line.decode("ascii", "backslashreplace")
        if not fnmatchcase(heard.upper(), pattern.upper()):  # verbs have no case (RFC 5321 2.4)
            shown = "[response]" if self._challenged and line != b"*" else without_initial_response(line)
            self.error = f"expected {pattern!r}, heard {shown!r}"
        self._challenged = False
        return True

    def _skip_content(self) -> bool:
        if self.party == "C":
            self._input = b""
            return self._eof
        end = 0 if self._input.startswith(b".\r\n") else self._input.find(b"\r\n.\r\n") + 2
        if end == 1:
            return False
        self._input = self._input[end + 3 :]
        return True


class _Played:
    """A script on a socket, in a thread of its own, which ends by itself."""

    def __init__(self, script: str, party: Party, timeout: float) -> None:
        self.peer: ScriptedPeer = ScriptedPeer(script, party)
        self._timeout = timeout
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _connection(self) -> socket.socket:
        raise ScriptError("a script is played by ScriptedServer or ScriptedClient")

    def _run(self) -> None:
        try:
            with self._connection() as sock:
                sock.settimeout(self._timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._play(sock)
        except BaseException as exc:  # it is raised by whoever waits for the script
            self._failure = exc

    def _play(self, sock: socket.socket) -> None:
        peer = self.peer
        while True:
            while out := peer.data_to_send():
                sock.sendall(out)
            if peer.closed or peer.error is not None or not peer._steps:
                return
            data = sock.recv(65536)
            if data:
                peer.receive_data(data)
            elif peer._eof:
                return
            else:
                peer.receive_eof()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.join(self._timeout + 1)
        if exc is None:
            self.check()

    def check(self) -> None:
        """Say what went wrong, once the script is over.

        Raises:
            ScriptError: the other party said something else, or the script did not come to its end.
        """
        if isinstance(self._failure, OSError) and not self.peer.done:
            raise ScriptError(f"{self._failure!r} at {self.peer._steps[:1]}\n{self.peer.transcript}") from self._failure
        if self._failure is not None and not isinstance(self._failure, OSError):
            raise self._failure
        self.peer.check()

    @property
    def transcript(self) -> Transcript:
        """What was said."""
        return self.peer.transcript


class ScriptedServer(_Played):
    """A server for one connection that does what its script says, on loopback and a port the system chose.

    Arguments:
        script: see :mod:`ehlo.testing._script`.
        timeout: seconds after which it gives up on a silent client.

    Attributes:
        host, port: where it listens.

    Raises:
        ScriptError: on leaving the ``with`` block, if the client said something else.

    Example::

        with ScriptedServer("S: 554 no mail here\\nC: QUIT\\nclose") as server:
            ...connect to server.host, server.port
    """

    def __init__(self, script: str, *, timeout: float = 10.0) -> None:
        super().__init__(script, "S", timeout)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(timeout)
        self.host: str
        self.port: int
        self.host, self.port = self._listener.getsockname()

    def _connection(self) -> socket.socket:
        with self._listener:
            return self._listener.accept()[0]


class ScriptedClient(_Played):
    """A client that does what its script says.

    Arguments:
        script: see :mod:`ehlo.testing._script`.
        host, port: the server.
        timeout: seconds after which it gives up on a silent server.

    Raises:
        ScriptError: on leaving the ``with`` block, if the server said something else.

    Example::

        with ScriptedClient("S: 220 *\\nC: NOOP\\nS: 250 *\\nclose", "127.0.0.1", port):
            pass
    """

    def __init__(self, script: str, host: str, port: int, *, timeout: float = 10.0) -> None:
        super().__init__(script, "C", timeout)
        self._address = (host, port)

    def _connection(self) -> socket.socket:
        return socket.create_connection(self._address, self._timeout)
