"""The MTA's side of one conversation with a filter, without I/O: :class:`MilterClient`.

The rules are the two tables of :mod:`ehlo.milter._tables`; here is what they do.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ehlo._errors import LocalProtocolError
from ehlo.milter._events import Broken, Decision, Event, Negotiated, Progress, ReplaceBody
from ehlo.milter._frames import (
    FrameError,
    Frames,
    frame,
    macro_lists,
    modification,
    needed_action,
    reply_of,
    strings,
    two_strings,
)
from ehlo.milter._tables import IN_TRANSACTION, OVER, SINCE, STAGES, STEPS, Ends, State, ends
from ehlo.milter._words import (
    ALL_ACTIONS,
    ALL_STEPS,
    DEFAULT_MACROS,
    VERSION_2_ACTIONS,
    VERSION_2_STEPS,
    Actions,
    Command,
    Stage,
    Steps,
    Verdict,
)

__all__ = ["MilterClient", "MilterLimits"]

CHUNK: Final = 65535
"""Octets of the longest piece of a body (MILTER_CHUNK_SIZE)."""

_OPTIONS: Final = struct.Struct("!III")
_PORT: Final = struct.Struct("!H")
_VERDICTS: Final = {verdict.value: verdict for verdict in Verdict}
# Made once, since most answers are one of them.
_DECISIONS: Final = {(command, verdict): Decision(command, verdict) for command in Command for verdict in Verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class MilterLimits:
    """How much a filter may say. Above it the filter counts as broken.

    Arguments:
        frame: octets of one frame. Postfix takes as much.
        modifications: changes of one message, pieces of a body apart.
        modified: octets of these changes together.
        body: octets of a new body.

    Example::

        MilterLimits(body=16 << 20)
    """

    frame: int = 131072
    modifications: int = 10_000
    modified: int = 16 << 20
    body: int = 256 << 20


class MilterClient:
    """The MTA's side of one conversation with a filter. It has no I/O and no clock.

    Begin with :meth:`negotiate`. Then each method of a step queues octets and says whether an answer is awaited now;
    if it is, send :meth:`data_to_send`, give what comes to :meth:`receive_data`, and take :meth:`next_event` until
    the :class:`Decision` is there. A step that the filter left out, or that comes after its last word, queues nothing.

    Arguments:
        version: the protocol's version that is offered, 2 to 6.
        actions: what the filter may be allowed to do; the actions of the version if not given.
        steps: the bits that are offered; those of the version if not given.
        macros: the names of macros for each stage, for stages that the filter does not choose for.
        limits: how much the filter may say.

    Attributes:
        awaiting: the command whose answer is awaited; ``None`` if none is.
        negotiated: what was agreed on; ``None`` before.

    Raises:
        LocalProtocolError: out of a step that may not come now. Nothing that a filter sends raises.

    Example::

        client = MilterClient()
        client.negotiate(); sock.sendall(client.data_to_send()); client.receive_data(sock.recv(65536))
    """

    __slots__ = (
        "_events",
        "_frames",
        "_leading_space",
        "_left_out",
        "_limits",
        "_macros",
        "_modifications",
        "_modified",
        "_new_body",
        "_offered_actions",
        "_offered_steps",
        "_output",
        "_skipped",
        "_spellings",
        "_state",
        "_unanswered",
        "_version",
        "_went_on",
        "awaiting",
        "negotiated",
    )

    def __init__(
        self,
        *,
        version: int = 6,
        actions: Actions | None = None,
        steps: Steps | None = None,
        macros: Mapping[Stage, Sequence[str]] = DEFAULT_MACROS,
        limits: MilterLimits | None = None,
    ) -> None:
        if not 2 <= version <= 6:
            raise LocalProtocolError(f"the milter protocol has the versions 2 to 6, not {version}")
        old = version == 2
        self._version = version
        self._offered_actions = (VERSION_2_ACTIONS if old else ALL_ACTIONS) if actions is None else actions
        self._offered_steps = (VERSION_2_STEPS if old else ALL_STEPS) if steps is None else steps
        self._macros = {stage: tuple(names) for stage, names in macros.items()}
        self._limits = limits or MilterLimits()
        self._frames = Frames(self._limits.frame)
        self._events: deque[Event] = deque()
        self._output: list[bytes] = []
        self._state = State.NEW
        self._skipped: Command | None = None
        self._leading_space = False
        self._left_out: frozenset[Command] = frozenset()
        self._unanswered: frozenset[Command] = frozenset()
        self._spellings: dict[Stage, tuple[tuple[str, tuple[str, str, str]], ...]] = {}
        self._modifications = 0
        self._modified = 0
        self._new_body = 0
        self._went_on = False  # the last that was said is "continue", to the end of a message
        self.awaiting: Command | None = None
        self.negotiated: Negotiated | None = None

    def __repr__(self) -> str:
        return f"<MilterClient: {self._state.value}>"

    # ---- octets and events -----------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """All that is to be sent, once: the steps without answers and the one with it go out in one write."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    @property
    def pending(self) -> int:
        """Octets that wait to be sent. A long message without answers should go out in parts."""
        return sum(map(len, self._output))

    def receive_data(self, octets: bytes | bytearray | memoryview) -> None:
        """What the filter sent, in any split. Never raises."""
        if self._state is State.CLOSED:
            return
        try:
            for kind, payload in self._frames.feed(octets):
                self._receive(kind, payload)
        except FrameError as exc:
            self._break(f"the filter sent {exc}")

    def receive_eof(self) -> None:
        """The filter closed the connection."""
        if self._state is not State.CLOSED:
            self._break("the filter closed the connection")

    def next_event(self) -> Event | None:
        """The next thing the filter said; ``None`` if there is nothing more."""
        return self._events.popleft() if self._events else None

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next_event()) is not None:
            yield event

    @property
    def closed(self) -> bool:
        """Nothing more can be said: the filter is broken, or :meth:`quit` was called."""
        return self._state is State.CLOSED

    @property
    def reusable(self) -> bool:
        """Another session may follow on this connection: see :meth:`quit_new_connection`.

        This is so when the filter has answered the end of a message with "continue", and nothing was said since. A
        filter with libmilter ignores the command in every other state, and the next session with it. A filter that
        leaves out :meth:`connect` never learns that a session begins. It serves one: pymilter, for example, prepares
        itself at the negotiation, and forgets all at the end of the session.
        """
        version = 0 if self.negotiated is None else self.negotiated.version
        next_is_told = self._went_on and Command.CONNECT not in self._left_out
        return version >= 6 and (next_is_told or self._state is State.READY)

    def wants(self, command: Command) -> bool:
        """Whether a step would be sent now or later in this session, by what was negotiated and answered."""
        if self.negotiated is None or self._state in OVER or self._state is State.CLOSED:
            return False
        return command not in self._left_out

    # ---- steps -----------------------------------------------------------------------------------

    def negotiate(self) -> bool:
        """Offer the version, the actions and the steps. The answer is :class:`Negotiated`."""
        self._expect(State.NEW)
        self._write(Command.NEGOTIATE, _OPTIONS.pack(self._version, self._offered_actions, self._offered_steps))
        self._state = State.NEGOTIATING
        self.awaiting = Command.NEGOTIATE
        return True

    def connect(self, name: str, address: str | None, port: int = 0, macros: Mapping[str, str] | None = None) -> bool:
        """A client connected.

        Arguments:
            name: its name, or its address in brackets.
            address: IPv4 or IPv6, the path of a Unix socket, or ``None`` if it is not known.
            port: its port.
            macros: values of macros by name: ``{"j": "mx.example", "{daemon_name}": "smtp"}``. The filter gets those
                that it asked for at this stage.

        Example::

            client.connect("[192.0.2.1]", "192.0.2.1", 4711, {"j": "mx.example"})
        """
        if address is None:
            family = b"U"
        else:
            family = _family(address)
            family += _PORT.pack(port & 0xFFFF) + strings([address])
        return self._do(Command.CONNECT, strings([name]) + family, macros)

    def hello(self, name: str, macros: Mapping[str, str] | None = None) -> bool:
        """HELO, EHLO or LHLO came."""
        return self._do(Command.HELLO, strings([name]), macros)

    def mail(self, path: str, parameters: Sequence[str] = (), macros: Mapping[str, str] | None = None) -> bool:
        """MAIL came: the reverse-path without angle brackets, and its parameters as they were written."""
        return self._do(Command.MAIL, strings([f"<{path}>", *parameters]), macros)

    def rcpt(
        self,
        path: str,
        parameters: Sequence[str] = (),
        macros: Mapping[str, str] | None = None,
        *,
        rejected: bool = False,
    ) -> bool:
        """RCPT came. One that the MTA has ``rejected`` is told to filters that asked for it, and to no other."""
        if rejected and not (self.negotiated and self.negotiated.steps & Steps.REJECTED_RECIPIENTS):
            return False
        return self._do(Command.RCPT, strings([f"<{path}>", *parameters]), macros)

    def data(self, macros: Mapping[str, str] | None = None) -> bool:
        """DATA came, or a first BDAT."""
        return self._do(Command.DATA, b"", macros)

    def unknown(self, line: str) -> bool:
        """A command came that the MTA does not know."""
        return self._do(Command.UNKNOWN, strings([line]), None)

    def header(self, name: bytes, value: bytes) -> bool:
        """One header field. ``value`` is all that stands behind the colon, its lines end by CRLF or LF.

        The filter sees LF, and the leading space only if it asked for it.
        """
        if not self._leading_space:
            value = value.removeprefix(b" ")
        return self._do(Command.HEADER, two_strings(name, value.replace(b"\r\n", b"\n")), None)

    def end_of_headers(self, macros: Mapping[str, str] | None = None) -> bool:
        """The header section is over."""
        return self._do(Command.END_OF_HEADERS, b"", macros)

    def body(self, chunk: bytes) -> bool:
        """A piece of the body, at most 65535 octets.

        Raises:
            LocalProtocolError: it is longer.
        """
        if len(chunk) > CHUNK:
            raise LocalProtocolError(f"a piece of a body has at most {CHUNK} octets, not {len(chunk)}")
        return self._do(Command.BODY, chunk, None)

    def end(self, macros: Mapping[str, str] | None = None) -> bool:
        """The message is over. Modifications come in front of the answer."""
        self._modifications = self._modified = self._new_body = 0
        return self._do(Command.END, b"", macros)

    def abort(self) -> None:
        """The transaction is over, whether the message ended or not. It stands between any two transactions."""
        self._expect_no_answer()
        if self._state in IN_TRANSACTION:
            self._write(Command.ABORT)
            self._state = State.SESSION
        self._skipped = None

    def quit_new_connection(self) -> None:
        """The session is over, its transaction too, and :meth:`connect` for another one may follow.

        Raises:
            LocalProtocolError: the connection is not ``reusable``.
        """
        if not self.reusable:
            raise LocalProtocolError("this connection cannot serve another session")
        if self._state is not State.READY:
            self._write(Command.QUIT_NEW_CONNECTION)
            self._state = State.READY
        self._skipped = None

    def quit(self) -> None:
        """It is all over."""
        if self._state is not State.CLOSED:
            self._write(Command.QUIT)
        self._state = State.CLOSED
        self.awaiting = None

    # ---- the two tables at work ------------------------------------------------------------------

    def _do(self, command: Command, payload: bytes, macros: Mapping[str, str] | None) -> bool:
        if self.awaiting is not None:
            self._expect_no_answer()
        if self._state in OVER:
            return False
        step = STEPS[command]
        if self._state not in step.comes_in:
            self._expect(*step.comes_in)
        if step.leads_to is not None:
            self._state = step.leads_to
        if command in self._left_out or self._skipped is command:
            return False
        if macros and command in STAGES:
            self._write_macros(command, STAGES[command], macros)
        self._write(command, payload)
        if command in self._unanswered:
            return False
        self.awaiting = command
        return True

    def _write_macros(self, command: Command, stage: Stage, macros: Mapping[str, str]) -> None:
        pairs: list[str] = []
        for name, spellings in self._spellings[stage]:
            for spelling in spellings:
                if spelling in macros:
                    pairs += (name, macros[spelling])
                    break
        if pairs:
            self._write(Command.MACRO, command._value_ + strings(pairs))

    def _receive(self, kind: bytes, payload: bytes) -> None:
        command = self.awaiting
        if command is None:
            raise FrameError("an answer to nothing")
        if command is Command.NEGOTIATE:
            self._receive_options(kind, payload)
            return
        change = modification(kind, payload, self._leading_space)
        if change is not None:
            if command is not Command.END:
                raise FrameError("a modification before the end of the message")
            assert self.negotiated is not None
            if not needed_action(kind) & self.negotiated.actions:
                raise FrameError("a modification that was not negotiated")
            self._count(len(payload), isinstance(change, ReplaceBody))
            self._events.append(change)
            return
        verdict = _VERDICTS.get(kind)
        if verdict is None:
            raise FrameError(f"{kind!r}, which is no answer")
        if verdict is Verdict.PROGRESS:
            self._events.append(Progress())
        else:
            self._decide(command, verdict, payload)

    def _decide(self, command: Command, verdict: Verdict, payload: bytes) -> None:
        reply = reply_of(payload) if verdict is Verdict.REPLY else None
        if verdict is Verdict.SKIP:
            assert self.negotiated is not None
            if not self.negotiated.steps & Steps.SKIP:
                raise FrameError("an answer that was not negotiated")
            self._skipped = command
        match ends(command, verdict):
            case Ends.FORBIDDEN:
                raise FrameError(f"{verdict.name.lower()} as an answer to {command.name.lower()}")
            case Ends.SESSION:
                self._state = State.SESSION_OVER
            case Ends.MESSAGE:
                self._state = State.MESSAGE_OVER
            case Ends.NOTHING:
                pass
        self.awaiting = None
        self._went_on = command is Command.END and verdict is Verdict.CONTINUE
        self._events.append(_DECISIONS[command, verdict] if reply is None else Decision(command, verdict, reply))

    def _receive_options(self, kind: bytes, payload: bytes) -> None:
        if kind != Command.NEGOTIATE.value or len(payload) < _OPTIONS.size:
            raise FrameError("no answer to the negotiation")
        version, actions, steps = _OPTIONS.unpack_from(payload)
        steps &= 0x0FFFFFFF  # above are bits that libmilter keeps for itself
        if not 2 <= version <= self._version:
            raise FrameError(f"the version {version}, when {self._version} was offered")
        if actions & ~int(self._offered_actions) or steps & ~int(self._offered_steps):
            raise FrameError("a demand for what was not offered")
        macros = macro_lists(payload[_OPTIONS.size :])
        self.negotiated = Negotiated(version, Actions(actions), Steps(steps), macros)
        # Looked at for each step, where a flag of an enum would cost as much as all the rest.
        self._leading_space = bool(steps & int(Steps.LEADING_SPACE))
        self._left_out = frozenset(
            command
            for command, step in STEPS.items()
            if version < SINCE.get(command, 2) or steps & int(step.left_out_by)
        )
        self._unanswered = frozenset(command for command, step in STEPS.items() if steps & int(step.unanswered_by))
        chosen = {**self._macros, **macros}
        self._spellings = {stage: tuple(map(_spelt, chosen.get(stage, ()))) for stage in Stage}
        self.awaiting = None
        self._state = State.READY
        self._events.append(self.negotiated)

    def _count(self, octets: int, body: bool) -> None:
        limits = self._limits
        if body:
            self._new_body += octets
        else:
            self._modifications += 1
            self._modified += octets
        if (
            self._new_body > limits.body
            or self._modifications > limits.modifications
            or self._modified > limits.modified
        ):
            raise FrameError("more modifications than the limits allow")

    def _write(self, command: Command, payload: bytes = b"") -> None:
        self._output.append(frame(command._value_, payload))
        self._went_on = False

    def _break(self, reason: str) -> None:
        self._state = State.CLOSED
        self._went_on = False
        self.awaiting = None
        self._output.clear()
        self._events.append(Broken(reason))

    def _expect_no_answer(self) -> None:
        if self.awaiting is not None:
            raise LocalProtocolError(f"the filter's answer to {self.awaiting.name} is still awaited")

    def _expect(self, *states: State) -> None:
        if self._state not in states:
            raise LocalProtocolError(f"this step may not come now: {self._state.value}")


def _spelt(name: str) -> tuple[str, tuple[str, str, str]]:
    """The name of a macro, and how a program may have written it."""
    bare = name.strip("{}")
    return name, (name, bare, f"{{{bare}}}")


def _family(address: str) -> bytes:
    """How the protocol names the kind of an address: 4, 6, or L for the path of a Unix socket."""
    try:
        return b"4" if ipaddress.ip_address(address).version == 4 else b"6"
    except ValueError:
        return b"L"
