"""Two engines and the wire between them, in memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from itertools import islice
from typing import Protocol, Self, TypeAlias

from ehlo._core import ClientConnection, Message, ServerConnection
from ehlo._errors import LocalProtocolError
from ehlo._server.driver import ServerDriver
from ehlo._server.handler import Handler, plan_of
from ehlo._types import Wakeup
from ehlo.testing._script import ScriptedPeer
from ehlo.testing._transcript import Party, Transcript

__all__ = ["Wire"]

Cut: TypeAlias = int | Callable[[bytes], Iterable[bytes]] | None


class _End(Protocol):
    def receive_data(self, data: bytes) -> None: ...
    def receive_eof(self) -> None: ...
    def data_to_send(self) -> bytes: ...
    @property
    def closed(self) -> bool: ...


class Wire:
    """A client's engine, a server's engine, and a wire that can split, join, delay and cut.

    Arguments:
        client: a :class:`ehlo.ClientConnection`, or a :class:`ScriptedPeer` in its place.
        server: a :class:`ehlo.ServerConnection`, or a :class:`ScriptedPeer`.
        handler: answers the server's decisions, as under an adapter; its methods are plain, not ``async``. The
            server's config must ask for what it decides (:func:`ehlo.decisions_of`). Without one all is accepted.
        cut: how octets are split on their way: at most so many at a time, or a function that gives the pieces; ``None``
            delivers all that was sent at once.

    Attributes:
        client_events: the client's events so far.
        messages: the messages that the server accepted or refused, as events.
        transcript: what went over the wire.

    Example::

        wire = Wire(ehlo.ClientConnection(client_config), ehlo.ServerConnection(server_config), cut=1)
        wire.client.send_message("a@b.example", ["c@d.example"], b"hi"); wire.run()
    """

    def __init__(
        self,
        client: ClientConnection | ScriptedPeer,
        server: ServerConnection | ScriptedPeer,
        *,
        handler: object | None = None,
        cut: Cut = None,
    ) -> None:
        self.client = client
        self.server = server
        self.client_events: list[object] = []
        self.messages: list[Message] = []
        self.transcript: Transcript = Transcript()
        self._cut = cut
        self._held: set[Party] = set()
        self._wires: dict[Party, bytes] = {"C": b"", "S": b""}
        self._left: dict[Party, int | None] = {"C": None, "S": None}
        self._broken = False
        self._silent = 0.0
        self._driver: ServerDriver | None = None
        if isinstance(server, ServerConnection):
            self._driver = ServerDriver(server, plan_of(handler if handler is not None else Handler()), _Adapter())

    # ---- what the wire does ----------------------------------------------------------------------

    def hold(self, party: Party) -> None:
        """Deliver nothing of what ``party`` sends until :meth:`release`: it is delayed, and then joined.

        Example::

            wire.hold("S"); wire.run(); wire.release("S")
        """
        self._held.add(party)

    def release(self, party: Party) -> None:
        """Deliver again."""
        self._held.discard(party)

    def break_after(self, party: Party, octets: int) -> None:
        """Let ``octets`` more of what ``party`` sends pass, then break: both sides see the end of input.

        Example::

            wire.break_after("C", 10); wire.run()
        """
        self._left[party] = octets

    def advance(self, seconds: float) -> None:
        """Let time pass without anything moving: an engine whose ``timeout`` is over is told.

        Arguments:
            seconds: added to those that passed since anything moved.

        Example::

            wire.advance(301); wire.run()
        """
        self._silent += seconds
        for end in (self.client, self.server):
            if isinstance(end, ScriptedPeer):
                continue
            timeout = end.timeout
            if timeout is not None and self._silent >= timeout:
                end.receive_timeout()
        self._events()

    def step(self) -> bool:
        """Deliver what both have said once. Says whether anything moved.

        Example::

            while wire.step(): ...
        """
        self._events()
        moved = self._carry("C", self.client, self.server)
        self._events()
        return self._carry("S", self.server, self.client) or moved

    def run(self, steps: int = 100_000) -> Self:
        """Go on until nothing moves any more.

        Arguments:
            steps: after so many it is taken for a loop.

        Raises:
            LocalProtocolError: it does not come to rest.

        Example::

            assert wire.run().client_events[-1].all_accepted
        """
        for _ in range(steps):
            if not self.step():
                self._events()
                return self
        raise LocalProtocolError(f"the session does not come to rest:\n{self.transcript}")

    # ----

    def _carry(self, party: Party, sender: _End, receiver: _End) -> bool:
        out = sender.data_to_send()
        self.transcript.add(party, out)
        waiting = self._wires[party] + out
        if self._broken or party in self._held:
            self._wires[party] = waiting
            return bool(out)
        left = self._left[party]
        passing = waiting if left is None else waiting[:left]
        self._wires[party] = b""
        for piece in self._pieces(passing):
            receiver.receive_data(piece)
            self._events()
        if left is not None:
            self._left[party] = left - len(passing)
            if len(waiting) >= left:
                self._break()
        if sender.closed and not self._broken:
            # A party that closes has said all; the other one may still have to be told.
            receiver.receive_eof()
            self._broken = receiver.closed
        if passing:
            self._silent = 0.0
        return bool(passing)

    def _break(self) -> None:
        self._broken = True
        self.client.receive_eof()
        self.server.receive_eof()

    def _pieces(self, octets: bytes) -> Iterable[bytes]:
        if self._cut is None or not octets:
            return [octets] if octets else []
        if callable(self._cut):
            return self._cut(octets)
        source = iter(octets)
        size = self._cut
        return iter(lambda: bytes(islice(source, size)), b"")

    def _events(self) -> None:
        self.client_events.extend(self.client)
        driver = self._driver
        if driver is None:
            return
        while True:
            event = driver.conn.next_event()
            if isinstance(event, Message):
                self.messages.append(event)
            call = driver.step(event)
            if call is not None:
                if isinstance(call.awaitable, Coroutine):
                    call.awaitable.close()
                raise LocalProtocolError("the handler of a Wire has plain methods: one of them is async")
            if event is None:
                return


class _Adapter:
    """A backend without sockets."""

    def peer(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 1024)

    def local(self) -> tuple[str, int] | str | None:
        return ("192.0.2.2", 25)

    def make_event(self) -> Wakeup:
        raise LocalProtocolError("the handler of a Wire reads no body: use on_message")

    def wake(self) -> None:
        pass
