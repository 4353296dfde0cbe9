"""A connection to a filter on asyncio and trio (by anyio), and the pool of those that wait for the next session."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import anyio
from anyio.abc import ByteStream, SocketAttribute

from ehlo._errors import LocalProtocolError
from ehlo.milter._client import MilterClient, MilterLimits
from ehlo.milter._events import Broken, Decision, Modification, Negotiated, Progress
from ehlo.milter._words import DEFAULT_MACROS, Command, Stage

__all__ = ["FilterDownError", "Link", "Milter", "Pool"]

log: Final = logging.getLogger("ehlo.milter")

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_FLUSH: Final = 1 << 18
"""Octets without an answer that are collected before they go out."""

_CONTENT: Final = frozenset({Command.HEADER, Command.END_OF_HEADERS, Command.BODY, Command.END})
_INET: Final = re.compile(r"inet6?:(?:(?P<port_first>\d+)@(?P<host_last>.+)|\[?(?P<host>[^\]@]+?)\]?:(?P<port>\d+))")


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
        idle: connections that wait for the next session.
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
    """One connection to a filter, with the protocol on it."""

    __slots__ = ("_client", "_milter", "_raw", "_stream", "used")

    def __init__(self, milter: Milter, stream: ByteStream, client: MilterClient) -> None:
        self._milter = milter
        self._stream = stream
        self._client = client
        raw = stream.extra(SocketAttribute.raw_socket, None)
        family = getattr(raw, "family", None)
        self._raw = raw if family in (socket.AF_INET, socket.AF_INET6) else None
        self.used = False

    @property
    def client(self) -> MilterClient:
        return self._client

    @classmethod
    async def open(cls, milter: Milter) -> Link:
        """Connect and negotiate.

        Raises:
            FilterDownError: that did not succeed in time.
        """
        client = MilterClient(version=milter.version, macros=milter.macros, limits=milter.limits)
        where = endpoint(milter.address)
        try:
            with anyio.fail_after(milter.connect_timeout):
                stream: ByteStream
                if isinstance(where, str):
                    stream = await anyio.connect_unix(where)
                else:
                    stream = await anyio.connect_tcp(*where)
        except (OSError, TimeoutError) as exc:
            raise FilterDownError(f"it cannot be reached: {_why(exc)}") from exc
        link = cls(milter, stream, client)
        try:
            client.negotiate()
            await link._exchange(milter.connect_timeout, None)
        except BaseException:
            await link.close()
            raise
        return link

    async def ask(self, awaited: bool, changes: Callable[[Modification], None] | None = None) -> Decision | None:
        """Send what waits, and wait for the answer if one is ``awaited``. ``None`` if none is.

        Raises:
            FilterDownError: there is no answer.
        """
        if awaited:
            command = self._client.awaiting
            timeout = self._milter.content_timeout if command in _CONTENT else self._milter.command_timeout
            decision = await self._exchange(timeout, changes)
            assert decision is not None
            return decision
        if self._client.pending >= _FLUSH:
            await self._send(self._milter.content_timeout)
        return None

    async def _send(self, seconds: float) -> None:
        octets = self._client.data_to_send()
        if not octets:
            return
        try:
            with anyio.fail_after(seconds):
                await self._stream.send(octets)
        except (OSError, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise FilterDownError(f"nothing can be sent to it: {_why(exc)}") from exc

    async def _exchange(self, seconds: float, changes: Callable[[Modification], None] | None) -> Decision | None:
        await self._send(seconds)
        end = anyio.current_time() + max(seconds, self._milter.longest)
        deadline = anyio.current_time() + seconds
        while True:
            for event in self._client:
                match event:
                    case Decision():
                        return event
                    case Negotiated():
                        return None
                    case Progress():
                        deadline = anyio.current_time() + seconds
                    case Broken(reason):
                        raise FilterDownError(reason)
                    case _:
                        assert changes is not None
                        changes(event)
            with anyio.move_on_after(min(deadline, end) - anyio.current_time()) as scope:
                await self._receive()
            if scope.cancelled_caught:
                raise FilterDownError("it does not answer in time")

    async def _receive(self) -> None:
        if self._raw is not None and _QUICKACK is not None:
            # A filter writes an answer in two parts. The second waits until the first is acknowledged, which the system
            # does 40 ms late, unless it is told each time not to wait.
            with contextlib.suppress(OSError, NotImplementedError):
                self._raw.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        try:
            self._client.receive_data(await self._stream.receive())
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._client.receive_eof()

    async def leave(self) -> bool:
        """The session is over; whether another one may use this connection."""
        if not self._client.reusable:
            return False
        self._client.quit_new_connection()
        await self._send(self._milter.command_timeout)
        self.used = True
        return True

    async def close(self) -> None:
        """Say goodbye if that is possible at once, and close. Never raises."""
        if self._client.awaiting is None and not self._client.closed:
            self._client.quit()
            with contextlib.suppress(FilterDownError), anyio.move_on_after(1, shield=True):
                await self._send(math.inf)
        with contextlib.suppress(OSError, anyio.BrokenResourceError):
            await anyio.aclose_forcefully(self._stream)


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
        if self._idle and not new:
            return self._idle.pop()
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
