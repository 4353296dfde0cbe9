"""What the contract suite needs of a backend, once for each: a clock, tasks, a raw client. No test sleeps.

The suite runs over loopback TCP, and over memory: there a connection is a pair of sockets that are connected from the
start (``socketpair``), of which the server is handed one and the client the other. There is no address, no handshake
and no reset, and an end is seen at once. What is about these has the mark ``tcp``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import os
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import pytest

import ehlo
import ehlo.asyncio
from ehlo._io.listener import SocketListener
from ehlo._sockets import no_delay

Result = TypeVar("Result")

PATIENCE = 120.0
"""Real seconds after which a test has failed: many, for a busy machine takes ten times as long as an idle one."""

MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
CONFIG = ehlo.ServerConfig("mx.example", content="discard")


class Client:
    """A raw client over a socket that does not block: sends octets, reads whole replies, misbehaves."""

    def __init__(self, backend: Backend, sock: socket.socket) -> None:
        self.backend = backend
        self.sock = sock
        self.buffer = b""

    async def send(self, octets: bytes) -> None:
        await self.backend.send(self.sock, octets)

    def send_now(self, octets: bytes) -> int:
        """What the kernel takes without waiting; 0 if it takes nothing."""
        try:
            return self.sock.send(octets)
        except BlockingIOError:
            return 0

    async def line(self) -> bytes:
        while b"\n" not in self.buffer:
            octets = await self.backend.receive(self.sock)
            if not octets:
                line, self.buffer = self.buffer, b""
                return line
            self.buffer += octets
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    async def reply(self) -> str:
        """All lines of the next reply, joined by LF; "" at the end of the connection."""
        lines = []
        while True:
            line = (await self.line()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def ask(self, octets: bytes) -> str:
        await self.send(octets)
        return await self.reply()

    async def codes(self, count: int) -> list[str]:
        return [(await self.reply())[:3] for _ in range(count)]

    async def rest(self) -> bytes:
        """All octets until the server closes, in whatever way."""
        octets, self.buffer = self.buffer, b""
        with contextlib.suppress(ConnectionError):
            while more := await self.backend.receive(self.sock):
                octets += more
        return octets

    def finish(self) -> None:
        """FIN: nothing more is sent, but replies are still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Peer(Client):
    """The server's end of one connection, played by hand."""

    def say(self, *replies: bytes) -> None:
        """Short enough for the kernel to take it at once."""
        for reply in replies:
            if reply:
                assert self.sock.send(reply) == len(reply)

    async def line(self) -> bytes:
        return (await super().line()).rstrip(b"\r\n")

    async def lines(self, count: int) -> list[bytes]:
        return [await self.line() for _ in range(count)]

    async def read_until(self, end: bytes) -> bytes:
        data, searched = bytearray(self.buffer), 0
        while (at := data.find(end, searched)) < 0:
            searched = max(0, len(data) - len(end) + 1)
            octets = await self.backend.receive(self.sock)
            if not octets:
                raise ConnectionAbortedError("the client closed")
            data += octets
        at += len(end)
        self.buffer = bytes(data[at:])
        return bytes(data[:at])

    async def content(self) -> bytes:
        return await self.read_until(b"\r\n.\r\n")

    async def hello(self, reply: bytes = b"250-mx.example\r\n250 PIPELINING\r\n") -> bytes:
        self.say(b"220 mx.example ESMTP\r\n")
        line = await self.line()
        self.say(reply)
        return line

    async def envelope(self, *replies: bytes, recipients: int = 1) -> None:
        """MAIL, RCPT and DATA in one group, answered at once."""
        await self.lines(2 + recipients)
        self.say(*(replies or (b"250 ok\r\n", *[b"250 ok\r\n"] * recipients, b"354 go\r\n")))

    async def farewell(self) -> bytes:
        """All until the client closes, or says QUIT."""
        rest = b""
        while line := await super().line():
            rest += line
            if line == b"QUIT\r\n":
                self.say(b"221 bye\r\n")
                break
        return rest


Script = Callable[[Peer], Awaitable[None]]


class Beside:
    """A call that goes on beside the test: ``await`` it for what it gives, or raises."""

    def __init__(self, backend: Backend, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> None:
        self._backend = backend
        self._outcome: Any = None
        self._error: BaseException | None = None
        self.done = False

        async def run() -> None:
            try:
                self._outcome = await function(*args, **options)
            except BaseException as exc:
                self._error = exc
                if not isinstance(exc, Exception):
                    raise
            finally:
                self.done = True

        self.cancel = backend.start(run)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        await self._backend.until(lambda: self.done)
        if isinstance(self._error, Exception):
            raise self._error
        return self._outcome

    @property
    def cancelled(self) -> bool:
        return isinstance(self._error, self._backend.cancelled)


class Memory:
    """Who serves at which address, without a network: a listening socket lends its address, and says by being closed
    that nobody serves there any more.
    """

    def __init__(self) -> None:
        self.places: dict[Any, tuple[socket.socket, Callable[[socket.socket], object]]] = {}

    def open(self, listener: socket.socket, welcome: Callable[[socket.socket], object]) -> None:
        self.places[listener.getsockname()] = listener, welcome

    def connect(self, address: Any) -> socket.socket | None:
        """One end of a connection whose other end is with who serves there; ``None`` for addresses elsewhere."""
        listener, welcome = self.places.get(address, (None, None))
        if listener is None or welcome is None:
            return None
        if listener.fileno() < 0:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        welcome(theirs)
        return ours


class Counted:
    """Awaits ``awaitable``, counts its waits, and calls ``at`` before the ``number``-th, with what it waits for."""

    def __init__(self, awaitable: Awaitable[Any], number: int, at: Callable[[Any], object]) -> None:
        self._waiting = awaitable.__await__()
        self._number = number
        self._at = at
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        wait = self._waiting
        resume = partial(next, wait)
        while True:
            try:
                what = resume()
            except StopIteration as stop:
                return stop.value
            self.count += 1
            if self.count == self._number:
                self._at(what)
            try:
                resume = partial(wait.send, (yield what))
            except BaseException as exc:
                resume = partial(wait.throw, exc)


class Backend(ABC):
    """One of the event loops. ``run`` is given the whole test as a function without arguments."""

    name: str
    library: str
    """``"asyncio"`` or ``"trio"``."""
    cancelled: type[BaseException]
    adapter: Any
    """``ehlo.asyncio`` or ``ehlo.trio``."""
    dialling = "_client"
    """The module of it that connects."""
    span: float
    """Seconds for a limit that is to be reached: few of the real ones, or many of a clock that jumps."""

    never_late: float
    """Seconds for a limit that is reached in the end, and that the test itself must not reach before: many real ones.
    A clock that jumps does so only when all wait, so one span is enough there.
    """

    memory: Memory | None = None
    """In the place of a network."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    # ---- what each has in its own way ----

    def run(self, main: Callable[[], Awaitable[Any]], *, timed: bool = False) -> Any:
        """``timed``: the test waits for ``span`` to go by, and starts no thread."""
        with self.surroundings():
            return self.run_loop(main, timed)

    def surroundings(self) -> contextlib.AbstractContextManager[object]:
        """Entered while the loop runs."""
        return contextlib.nullcontext()

    @abstractmethod
    def run_loop(self, main: Callable[[], Awaitable[Any]], timed: bool) -> Any: ...

    @abstractmethod
    async def serve(self, handler: object, *args: Any, **options: Any) -> Any:
        """A server that listens. The test closes it."""

    @abstractmethod
    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> Callable[[], object]:
        """Run it beside the test; what is returned cancels it."""

    @abstractmethod
    def event(self) -> Any: ...

    @abstractmethod
    async def turn(self) -> None:
        """Let all others run once."""

    @abstractmethod
    async def forever(self) -> None: ...

    @abstractmethod
    async def thread(self, function: Callable[..., Result], *args: object) -> Result: ...

    @abstractmethod
    async def send(self, sock: socket.socket, octets: bytes) -> None: ...

    @abstractmethod
    async def receive(self, sock: socket.socket) -> bytes: ...

    @abstractmethod
    async def accept(self, sock: socket.socket) -> socket.socket: ...

    @abstractmethod
    async def dial(self, sock: socket.socket, address: Any) -> None: ...

    @abstractmethod
    def tasks(self) -> int:
        """Tasks alive, this one and the backend's own among them."""

    moments: tuple[str, ...]
    """When a wait can be cancelled: while it lasts; and, on asyncio, when what is waited for has just come."""

    @abstractmethod
    async def cancel_at(self, number: int, moment: str, function: Callable[[], Awaitable[object]]) -> bool:
        """Call ``function`` in its own scope, and cancel that at the ``number``-th wait. False: there are fewer."""

    @abstractmethod
    async def hold(self, opened: Callable[[Any], object], handler: object, **options: Any) -> None:
        """Serve until cancelled, in the way of the library's users; ``opened`` is told the server."""

    # ---- what is built on it ----

    def count_writes(self, connection: Any) -> list[bytes]:
        """From now on, what the server's side of ``connection`` writes."""
        sent: list[bytes] = []
        write = connection._write

        def count(octets: bytes) -> None:
            sent.append(octets)
            write(octets)

        connection._write = count
        return sent

    async def until(self, condition: Callable[[], object]) -> None:
        """Turn until ``condition`` holds."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, "what was waited for did not come"
            await self.turn()

    async def begun(self, condition: Callable[[], object]) -> None:
        """Turn until ``condition`` holds, which it does for a ``span`` only.

        A real clock does not wait for the test: on a busy machine the span may be over before the test looks.
        """
        over = monotonic() + min(self.span, PATIENCE)
        while not condition() and monotonic() < over:
            await self.turn()

    async def later(self, condition: Callable[[], object]) -> None:
        """``until``, for what holds when ``span`` went by; in a ``timed`` test."""
        await self.until(condition)

    async def connect(self, server: Any, *, receive_buffer: int | None = None) -> Client:
        address = server.addresses[0]
        sock = self.memory.connect(address) if self.memory is not None else None
        remote = sock is None
        if sock is None:
            sock = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        client = Client(self, sock)
        self.clients.append(client)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if remote:
            await self.dial(sock, address)
        return client

    def accepting(self, listener: socket.socket) -> Callable[[], Awaitable[socket.socket]]:
        """What waits for the next connection."""
        if self.memory is None:
            return partial(self.accept, listener)
        arrived: deque[socket.socket] = deque()
        news = [self.event()]

        def welcome(sock: socket.socket) -> None:
            arrived.append(sock)
            news[0].set()

        async def accept() -> socket.socket:
            while not arrived:
                await news[0].wait()
                news[0] = self.event()
            return arrived.popleft()

        self.memory.open(listener, welcome)
        return accept

    async def ready(self, server: Any, hello: bytes = b"EHLO client.example\r\n", **options: Any) -> Client:
        client = await self.connect(server, **options)
        assert (await client.reply()).startswith("220 mx.example")
        assert (await client.ask(hello)).startswith("250")
        return client

    def beside(self, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Beside:
        return Beside(self, function, *args, **options)

    @contextlib.asynccontextmanager
    async def scripted(self, *scripts: Script) -> AsyncIterator[int]:
        """A server that plays one script a connection, in order, and closes when a script is at its end. Gives its
        port; what a script raises is raised, and scripts that were not played are an error.
        """
        left = list(scripts)
        playing: list[Beside] = []

        async def play(script: Script, sock: socket.socket) -> None:
            no_delay(sock)
            peer = Peer(self, sock)
            with contextlib.suppress(ConnectionError), contextlib.closing(peer):
                await script(peer)

        async def serve(accept: Callable[[], Awaitable[socket.socket]]) -> None:
            while True:
                sock = await accept()
                assert left, "a connection too many"
                playing.append(self.beside(play, left.pop(0), sock))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            serving = self.beside(serve, self.accepting(listener))
            try:
                yield listener.getsockname()[1]
            finally:
                serving.cancel()
                await self.until(lambda: serving.done and all(one.done for one in playing))
        for one in (*playing, serving):
            await one
        assert not left, "fewer connections than scripts"

    def close_clients(self) -> None:
        while self.clients:
            self.clients.pop().close()


class Asyncio(Backend):
    name = library = "asyncio"
    adapter: Any = ehlo.asyncio
    cancelled = asyncio.CancelledError
    span = 0.02
    never_late = 0.4
    task_factory: Any = None
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def run_loop(self, main: Callable[[], Awaitable[Any]], timed: bool) -> Any:
        self.running: set[asyncio.Task[Any]] = set()

        problems: list[Any] = []

        async def guarded() -> Any:
            self.loop = asyncio.get_running_loop()
            self.loop.set_exception_handler(lambda _, context: problems.append(context))
            if self.task_factory is not None:
                self.loop.set_task_factory(self.task_factory)
            try:
                async with asyncio.timeout(PATIENCE):
                    return await main()
            finally:
                self.close_clients()
                for task in self.running:
                    task.cancel()
                for outcome in await asyncio.gather(*self.running, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        raise outcome

        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            result = runner.run(guarded())
        assert problems == [], "the loop had to handle an exception that nobody else did"
        return result

    async def serve(self, handler: object, *args: Any, **options: Any) -> ehlo.asyncio.Server:
        return await ehlo.asyncio.serve(handler, *args, **options)

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> Callable[[], object]:
        async def run() -> None:
            await function(*args)

        task = self.loop.create_task(run())
        self.running.add(task)
        return task.cancel

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def forever(self) -> None:
        await self.loop.create_future()

    async def thread(self, function: Callable[..., Result], *args: object) -> Result:
        return await asyncio.to_thread(function, *args)

    async def send(self, sock: socket.socket, octets: bytes) -> None:
        await self.loop.sock_sendall(sock, octets)

    async def receive(self, sock: socket.socket) -> bytes:
        return await self.loop.sock_recv(sock, 65536)

    async def accept(self, sock: socket.socket) -> socket.socket:
        return (await self.loop.sock_accept(sock))[0]

    async def dial(self, sock: socket.socket, address: Any) -> None:
        await self.loop.sock_connect(sock, address)

    def tasks(self) -> int:
        return len(asyncio.all_tasks())

    moments = ("while it lasts", "when it is over")

    async def cancel_at(self, number: int, moment: str, function: Callable[[], Awaitable[object]]) -> bool:
        def cancel(future: asyncio.Future[Any] | None) -> None:
            task = asyncio.current_task()
            assert task is not None
            if future is None or moment == "while it lasts":
                task.cancel()
            else:  # the task is told of it after this
                future.add_done_callback(lambda _: task.cancel())

        counted = Counted(function(), number, cancel)

        async def run() -> None:
            await counted

        task = self.loop.create_task(run())
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is not None or counted.count < number, "it went on"
        if not task.cancelled():
            task.result()
        return task.cancelled()

    async def hold(self, opened: Callable[[Any], object], handler: object, **options: Any) -> None:
        async with await ehlo.asyncio.serve(handler, **options) as server:
            opened(server)
            await server.serve_forever()


class EagerAsyncio(Asyncio):
    """Every task runs at once up to its first real wait."""

    name = "asyncio-eager"

    def __init__(self) -> None:
        super().__init__()
        if sys.version_info >= (3, 12):
            self.task_factory = asyncio.eager_task_factory
        else:
            pytest.skip("eager tasks need Python 3.12")


class Uvloop(Asyncio):
    name = "uvloop"

    def __init__(self) -> None:
        super().__init__()
        self.loop_factory = pytest.importorskip("uvloop").new_event_loop


class OverMemory(Backend):
    """The way to the network, by which an adapter connects, leads to memory."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: Memory = Memory()

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        module = importlib.import_module(f"ehlo.{self.library}._client")
        real, go_on = module.connected, SocketListener._go_on_accepting

        async def connected(host: str, port: int, source: Any, seconds: Any) -> socket.socket:
            await self.turn()
            return self.memory.connect((host, port)) or await real(host, port, source, seconds)

        def go_on_accepting(server: SocketListener[Any]) -> None:
            go_on(server)
            for listener in (one for one in server._sockets if one.family == socket.AF_INET):
                self.memory.open(listener, lambda sock: server._welcome(sock, sock.getpeername()))

        with (
            mock.patch.object(module, "connected", connected),
            mock.patch.object(SocketListener, "_go_on_accepting", go_on_accepting),
        ):
            yield


class MemoryAsyncio(OverMemory, Asyncio):
    name = "asyncio-memory"


class Trio(Backend):
    name = library = "trio"
    span = 100.0
    never_late = 100.0

    def __init__(self) -> None:
        super().__init__()
        self.trio = pytest.importorskip("trio")
        self.adapter = importlib.import_module("ehlo.trio")
        self.cancelled = self.trio.Cancelled

    def run_loop(self, main: Callable[[], Awaitable[Any]], timed: bool) -> Any:
        trio = self.trio

        async def guarded() -> Any:
            # A clock that jumps reaches any deadline when all wait for nothing, but not before another one.
            with trio.fail_after(1e6 if timed else PATIENCE):
                async with trio.open_nursery() as self.nursery:
                    try:
                        result = await main()
                    finally:
                        self.close_clients()
                    self.nursery.cancel_scope.cancel()
            return result

        # It jumps after so many real seconds in which nothing could run: loopback is not always immediate.
        self.clock = importlib.import_module("trio.testing").MockClock(autojump_threshold=0.02) if timed else None
        return trio.run(guarded, clock=self.clock)

    async def later(self, condition: Callable[[], object]) -> None:
        assert self.clock is not None, "a test that waits for a span is timed"
        self.clock.jump(self.span + 0.001)  # by itself it stands still while a task turns; sums of spans are rounded
        await self.until(condition)

    async def serve(self, handler: object, *args: Any, **options: Any) -> Any:
        return await self.nursery.start(partial(self.adapter.serve, handler, *args, **options))

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> Callable[[], object]:
        scope = self.trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self.nursery.start_soon(run)
        cancel: Callable[[], object] = scope.cancel
        return cancel

    def event(self) -> Any:
        return self.trio.Event()

    async def turn(self) -> None:
        await self.trio.lowlevel.checkpoint()

    async def forever(self) -> None:
        await self.trio.sleep_forever()

    async def thread(self, function: Callable[..., Result], *args: object) -> Result:
        result: Result = await self.trio.to_thread.run_sync(function, *args)
        return result

    async def send(self, sock: socket.socket, octets: bytes) -> None:
        left = memoryview(octets)
        while left:
            await self.trio.lowlevel.wait_writable(sock)
            with contextlib.suppress(BlockingIOError):
                left = left[sock.send(left) :]

    async def receive(self, sock: socket.socket) -> bytes:
        while True:
            await self.trio.lowlevel.wait_readable(sock)
            with contextlib.suppress(BlockingIOError):
                return sock.recv(65536)

    async def accept(self, sock: socket.socket) -> socket.socket:
        while True:
            await self.trio.lowlevel.wait_readable(sock)
            with contextlib.suppress(BlockingIOError):
                accepted = sock.accept()[0]
                accepted.setblocking(False)
                return accepted

    async def dial(self, sock: socket.socket, address: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        await self.trio.lowlevel.wait_writable(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))

    def tasks(self) -> int:
        # Without the system tasks of the adapter, which serve all connections of the run.
        found = [self.trio.lowlevel.current_root_task()]
        for task in found:
            found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        return sum(not task.name.startswith("ehlo: ") for task in found)

    moments = ("while it lasts",)

    async def cancel_at(self, number: int, moment: str, function: Callable[[], Awaitable[object]]) -> bool:
        with self.trio.CancelScope() as scope:
            counted = Counted(function(), number, lambda what: scope.cancel())
            await counted
        assert scope.cancelled_caught or counted.count <= number, "it went on"
        return bool(scope.cancelled_caught)

    async def hold(self, opened: Callable[[Any], object], handler: object, **options: Any) -> None:
        async with self.trio.open_nursery() as nursery:
            opened(await nursery.start(partial(self.adapter.serve, handler, **options)))


class TrioTasks(Trio):
    """As where the system has no epoll."""

    def surroundings(self) -> contextlib.AbstractContextManager[object]:
        return mock.patch("ehlo.trio._loop.select", SimpleNamespace())


class MemoryTrio(OverMemory, Trio):
    name = "trio-memory"


BACKENDS: dict[str, type[Backend]] = {
    kind.name: kind for kind in (Asyncio, EagerAsyncio, Uvloop, Trio, MemoryAsyncio, MemoryTrio)
}


def descriptors() -> int:
    """Open sockets of this process; -1 where the system does not say."""
    try:
        entries = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return -1
    found = 0
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile: by another thread, or the list itself
            found += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
    return found


class Keep(ehlo.Handler):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.kept: list[tuple[ehlo.Envelope, bytes]] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        self.kept.append((envelope, content))
