"""A connection to a filter on asyncio and trio (by anyio), and the pool of those that wait for the next session."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import anyio

from ehlo._errors import LocalProtocolError
from ehlo.milter._client import MilterClient, MilterLimits
from ehlo.milter._events import Broken, Decision, Modification, Negotiated, Progress
from ehlo.milter._wire import Wire, open_wire
from ehlo.milter._words import DEFAULT_MACROS, Command, Stage, Verdict

__all__ = ["Ask", "FilterDownError", "Link", "Milter", "Pool"]

log: Final = logging.getLogger("ehlo.milter")

_FLUSH: Final = 1 << 18
"""Octets without an answer that are collected before they go out."""

_CONTENT: Final = frozenset({Command.HEADER, Command.END_OF_HEADERS, Command.BODY, Command.END})
# After these the filter hears no more of the message.
_LAST: Final = frozenset(Verdict) - {Verdict.CONTINUE, Verdict.ACCEPT, Verdict.SKIP, Verdict.PROGRESS}
_INET: Final = re.compile(r"inet6?:(?:(?P<port_first>\d+)@(?P<host_last>.+)|\[?(?P<host>[^\]@]+?)\]?:(?P<port>\d+))")


Ask = Callable[[MilterClient], bool]
"""Begins a step of the client, and gives whether its answer is awaited."""


class FilterDownError(Exception):
    """The filter cannot be asked: nobody listens, it does not answer in time, or it broke the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milter:
    """Where a filter is, and how it is to be treated.

    Arguments:
        address: ``"unix:/run/opendkim/opendkim.sock"``, ``"inet:127.0.0.1:8891"`` as Postfix writes it, or
            ``"inet:8891@127.0.0.1"`` as Sendmail does.
        name: for the log; the address if not given.
        when_down: what becomes of mail while the filter cannot be asked: ``"accept"`` goes on without it,
            ``"tempfail"`` answers 451.
        connect_timeout: seconds for the connection and the negotiation.
        command_timeout: seconds for an answer up to DATA.
        content_timeout: seconds for an answer from the header section on. A filter that says it still works gets
            them anew.
        longest: seconds for one answer, however often the filter says that it still works.
        version: of the protocol, 2 to 6.
        macros: the names of macros for each stage; those that Postfix sends if not given.
        idle: connections that wait for the next session. Only a session that ends behind a message to whose end the
            filter said "continue" leaves one: elsewhere libmilter, with which most filters are built, takes none.
        limits: how much the filter may say.

    Raises:
        LocalProtocolError: for an address or a setting that is none.

    Example::

        Milter(address="unix:/run/opendkim/opendkim.sock", when_down="accept")
    """

    address: str
    name: str = ""
    when_down: Literal["accept", "tempfail"] = "tempfail"
    connect_timeout: float = 30.0
    command_timeout: float = 30.0
    content_timeout: float = 300.0
    longest: float = 900.0
    version: int = 6
    macros: Mapping[Stage, Sequence[str]] = field(default_factory=lambda: DEFAULT_MACROS)
    idle: int = 10
    limits: MilterLimits = field(default_factory=MilterLimits)

    def __post_init__(self) -> None:
        endpoint(self.address)
        if self.when_down not in ("accept", "tempfail"):
            raise LocalProtocolError(f"when a filter is down, mail is 'accept' or 'tempfail', not {self.when_down!r}")
        if not 2 <= self.version <= 6:
            raise LocalProtocolError(f"the milter protocol has the versions 2 to 6, not {self.version}")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Milter:
        """From plain settings: the arguments by name; ``milter`` stands for ``address``, the stages of ``macros`` are
        words.

        Raises:
            LocalProtocolError: a setting is missing, unknown or wrong.

        Example::

            Milter.from_settings({"milter": "inet:127.0.0.1:8891", "macros": {"mail": ["i", "{auth_authen}"]}})
        """
        given = dict(settings)
        if "milter" in given:
            given["address"] = given.pop("milter")
        try:
            if "macros" in given:
                chosen = {Stage[stage.upper()]: tuple(names) for stage, names in given["macros"].items()}
                given["macros"] = {**DEFAULT_MACROS, **chosen}
            if "limits" in given:
                given["limits"] = MilterLimits(**given["limits"])
            return cls(**given)
        except KeyError as exc:
            stages = ", ".join(stage.name.lower() for stage in Stage)
            raise LocalProtocolError(f"{exc.args[0].lower()!r} is no stage of a filter; there are {stages}") from exc
        except (TypeError, AttributeError) as exc:
            raise LocalProtocolError(f"a filter's settings: {exc}") from exc

    def __str__(self) -> str:
        return self.name or self.address


def endpoint(address: str) -> str | tuple[str, int]:
    """The path of a Unix socket, or host and port.

    Raises:
        LocalProtocolError: it is neither.
    """
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local") and rest:
        return rest
    found = _INET.fullmatch(address)
    if found is None:
        raise LocalProtocolError(f"{address!r} is no filter's address: write unix:PATH or inet:HOST:PORT")
    host = (found["host_last"] or found["host"]).strip("[]")
    return host, int(found["port_first"] or found["port"])


def _why(exc: BaseException) -> str:
    return str(exc) or ("it takes too long" if isinstance(exc, TimeoutError) else type(exc).__name__)


class Link:
    """One connection to a filter, with the protocol on it.

    Attributes:
        client: the protocol.
        used: a session was over it before.
        done, deadline: see :class:`ehlo.milter._wire.Talk`.
    """

    __slots__ = (
        "_changes",
        "_decision",
        "_end",
        "_failure",
        "_left",
        "_milter",
        "_seconds",
        "_steps",
        "_wire",
        "client",
        "deadline",
        "done",
        "used",
    )

    _wire: Wire

    def __init__(self, milter: Milter) -> None:
        self._milter = milter
        self.client = MilterClient(version=milter.version, macros=milter.macros, limits=milter.limits)
        self.used = False
        self.done = True
        self.deadline = self._end = self._seconds = 0.0
        self._left = milter.connect_timeout
        self._steps: Iterator[Ask] = iter(())
        self._changes: Callable[[Modification], None] | None = None
        self._decision: Decision | None = None
        self._failure: BaseException | None = None

    @classmethod
    async def open(cls, milter: Milter) -> Link:
        """Connect and negotiate.

        Raises:
            FilterDownError: that did not succeed in time.
        """
        link = cls(milter)
        began = anyio.current_time()
        try:
            with anyio.fail_after(milter.connect_timeout):
                link._wire = await open_wire(endpoint(milter.address), link)
            link._left = max(0.0, milter.connect_timeout - (anyio.current_time() - began))
        except (OSError, TimeoutError) as exc:
            raise FilterDownError(f"it cannot be reached: {_why(exc)}") from exc
        try:
            await link.run([MilterClient.negotiate])
        except BaseException:
            await link.close()
            raise
        return link

    async def run(self, steps: Iterable[Ask], changes: Callable[[Modification], None] | None = None) -> Decision | None:
        """Say the steps one after another, each when the filter goes on after the one before.

        Arguments:
            steps: they begin a step of the client, and give whether its answer is awaited.
            changes: gets what the filter wants changed.

        Returns:
            The last answer; ``None`` if none was awaited. Behind a refusal and its like the further steps are left out.

        Raises:
            FilterDownError: there is no answer.
            LocalProtocolError: a step may not come now.
        """
        self._steps, self._changes = iter(steps), changes
        self._decision = self._failure = None
        self.done = False
        try:
            self._next()
            if not self.done:
                await self._wire.converse()
            elif self.client.pending >= _FLUSH:
                await self._send(self._milter.content_timeout)
        except TimeoutError:
            raise FilterDownError("it does not answer in time") from None
        except OSError as exc:
            raise FilterDownError(f"nothing can be sent to it: {_why(exc)}") from exc
        finally:
            self.done = True
        if self._failure is not None:
            raise self._failure
        return self._decision

    async def _send(self, seconds: float) -> None:
        try:
            await self._wire.send(self._wire.now() + seconds)
        except (OSError, TimeoutError) as exc:
            raise FilterDownError(f"nothing can be sent to it: {_why(exc)}") from exc

    # ---- the talk --------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """See :class:`ehlo.milter._wire.Talk`."""
        return self.client.data_to_send()

    def receive_data(self, octets: bytes | bytearray | memoryview) -> None:
        """See :class:`ehlo.milter._wire.Talk`."""
        self.client.receive_data(octets)
        self._hear()

    def receive_eof(self) -> None:
        """See :class:`ehlo.milter._wire.Talk`."""
        self.client.receive_eof()
        self._hear()

    def _hear(self) -> None:
        """What the filter said. Between two runs it waits for the next one."""
        try:
            while not self.done and (event := self.client.next_event()) is not None:
                match event:
                    case Decision():
                        self._decision = event
                        self.done = event.verdict in _LAST
                        if not self.done:
                            self._next()
                    case Negotiated():
                        self.done = True
                    case Progress():
                        self.deadline = min(self._wire.now() + self._seconds, self._end)
                    case Broken(reason):
                        raise FilterDownError(reason)
                    case _:
                        assert self._changes is not None
                        self._changes(event)
        except BaseException as exc:  # raised again in the task that waits
            self._failure = exc
            self.done = True

    def _next(self) -> None:
        """The next steps, up to one that the filter answers."""
        client, milter = self.client, self._milter
        for step in self._steps:
            if step(client):
                command = client.awaiting
                if command is Command.NEGOTIATE:
                    seconds = self._left
                else:
                    seconds = milter.content_timeout if command in _CONTENT else milter.command_timeout
                now = self._wire.now()
                self._seconds, self.deadline, self._end = seconds, now + seconds, now + max(seconds, milter.longest)
                return
        self.done = True

    # ---- its end ---------------------------------------------------------------------------------

    async def leave(self) -> bool:
        """The session is over; whether another one may use this connection."""
        if not self.client.reusable:
            return False
        self.client.quit_new_connection()
        await self._send(self._milter.command_timeout)
        self.used = True
        return True

    async def close(self) -> None:
        """Say goodbye if that is possible at once, and close. Never raises."""
        if self.client.awaiting is None and not self.client.closed:
            self.client.quit()
            with contextlib.suppress(FilterDownError), anyio.CancelScope(shield=True):
                await self._send(1)
        self._wire.close()


class Pool:
    """The connections to one filter that wait for the next session; of one event loop."""

    __slots__ = ("_idle", "milter")

    def __init__(self, milter: Milter) -> None:
        self.milter = milter
        self._idle: list[Link] = []

    async def take(self, *, new: bool = False) -> Link:
        """One that waits, or a ``new`` one.

        Raises:
            FilterDownError: the filter cannot be reached.
        """
        while self._idle and not new:
            link = self._idle.pop()
            if not link.client.closed:
                return link
            await link.close()
        return await Link.open(self.milter)

    async def give(self, link: Link) -> None:
        """A session is over. The connection waits for the next one, or is closed. Never raises."""
        try:
            if len(self._idle) < self.milter.idle and await link.leave():
                self._idle.append(link)
                return
        except FilterDownError as exc:
            log.debug("filter %s: %s", self.milter, exc)
        except BaseException:  # the server ends while this waits
            await link.close()
            raise
        await link.close()

    async def close(self) -> None:
        """Close those that wait."""
        while self._idle:
            await self._idle.pop().close()
