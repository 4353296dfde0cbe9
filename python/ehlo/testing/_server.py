"""A real server on loopback, in a thread of its own, that keeps what it receives."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from ehlo._core import Envelope, ServerConfig
from ehlo._errors import LocalProtocolError
from ehlo._server.handler import Handler, method_of
from ehlo._server.limits import Limits
from ehlo._server.session import Result, Session
from ehlo._types import path_text
from ehlo._words import counted

__all__ = ["Backend", "ReceivedMessage", "SMTPServer"]

Backend: TypeAlias = Literal["asyncio", "trio"]


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that :class:`SMTPServer` accepted.

    Attributes:
        sender: the reverse-path without ``<`` and ``>``; ``""`` for the null path (RFC 5321 4.5.5).
        recipients: the forward-paths that were accepted, in order.
        content: the octets, unstuffed.
        envelope: all of MAIL and RCPT, with parameters.
        hello: verb and name of the client's hello.
        protocol: ``ESMTP``, ``ESMTPS``, ``LMTP`` … (RFC 3848).

    Example::

        assert server.messages[0].recipients == ["c@d.example"]
    """

    sender: str
    recipients: list[str]
    content: bytes
    envelope: Envelope
    hello: tuple[str, str] | None
    protocol: str

    @property
    def message(self) -> EmailMessage:
        """The content, parsed.

        Example::

            assert server.messages[0].message["Subject"] == "hi"
        """
        return email.message_from_bytes(self.content, policy=email.policy.default)


class _Collector(Handler):
    """Keeps what comes, and asks the test's own handler first where there is one."""

    # A server for tests offers what a client may want to use.
    reports_delivery = True

    def __init__(self, arrived: Callable[[ReceivedMessage], None]) -> None:
        self._arrived = arrived

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        sender = path_text(envelope.sender.path)
        recipients = [path_text(recipient.path) for recipient in envelope.recipients]
        self._arrived(ReceivedMessage(sender, recipients, content, envelope, session.hello, session.protocol))
        return None


class SMTPServer:
    """A server that listens on loopback, on a port the system chose, and keeps what it receives.

    It runs in a thread of its own, so it serves tests of any kind: plain, asyncio, trio, other processes.

    Arguments:
        handler: decides, instead of accepting all; what it has (``on_rcpt`` …) is asked. Its ``on_message``, if it has
            one, is called in the place of collecting.
        config: as for :func:`ehlo.asyncio.serve`.
        limits: likewise.
        backend: ``"asyncio"`` or ``"trio"``.
        options: further arguments for ``serve``.

    Attributes:
        host, port: where it listens, once started.

    Example::

        with SMTPServer() as server:
            send(server.host, server.port); [message] = server.wait(1)
    """

    def __init__(
        self,
        handler: object | None = None,
        *,
        config: ServerConfig | None = None,
        limits: Limits | None = None,
        backend: Backend = "asyncio",
        **options: Any,
    ) -> None:
        if backend not in ("asyncio", "trio"):
            raise LocalProtocolError(f"backend is 'asyncio' or 'trio', not {backend!r}")
        self.host = "127.0.0.1"
        self.port = 0
        self._handler = handler
        self._options: dict[str, Any] = {"config": config, "limits": limits, **options}
        self._backend = backend
        self._messages: list[ReceivedMessage] = []
        self._changed = threading.Condition()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stop: Callable[[], object] = lambda: None
        self._thread: threading.Thread | None = None

    # ---- what a test looks at --------------------------------------------------------------------

    @property
    def messages(self) -> list[ReceivedMessage]:
        """What was accepted so far; a new list each time."""
        with self._changed:
            return list(self._messages)

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[ReceivedMessage]:
        """Wait until at least ``count`` messages are there.

        Arguments:
            timeout: seconds.

        Raises:
            TimeoutError: they did not come.

        Example::

            [message] = server.wait(1)
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._messages) >= count, timeout):
                raise TimeoutError(f"{len(self._messages)} of {counted(count, 'message')} came within {timeout:g} s")
            return list(self._messages)

    def clear(self) -> None:
        """Forget what came.

        Example::

            server.clear(); assert server.messages == []
        """
        with self._changed:
            self._messages.clear()

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen.

        Raises:
            LocalProtocolError: it runs already.
            OSError: it cannot listen.

        Example::

            server = SMTPServer().start()
        """
        if self._thread is not None:
            raise LocalProtocolError("this server runs already")
        run = self._run_asyncio if self._backend == "asyncio" else self._run_trio
        self._thread = threading.Thread(target=self._guard, args=(run,), name="ehlo.testing.SMTPServer", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """Close, whatever clients are doing. Safe to call again.

        Example::

            server.stop()
        """
        if self._thread is not None:
            self._stop()
            self._thread.join()
            self._thread = None
            self._started.clear()
            if self._failure is not None:
                raise self._failure

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ----

    def _arrived(self, message: ReceivedMessage) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def _plan(self) -> object:
        """The handler that serves: the collector, with what the test's own one decides."""
        collector = _Collector(self._arrived)
        own = self._handler
        if own is None:
            return collector
        names = [name for name in dir(Handler) if name.startswith("on_")]
        methods: dict[str, Any] = {name: method for name in names if (method := method_of(own, name)) is not None}
        if not {"on_message", "on_body"} & methods.keys():
            methods["on_message"] = collector.on_message
        methods["reports_delivery"] = getattr(own, "reports_delivery", True)
        methods["config"] = getattr(own, "config", None)
        return _Methods(methods)

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as exc:  # raised again in start() or stop()
            self._failure = exc
        finally:
            self._started.set()

    def _run_asyncio(self) -> None:
        from ehlo.asyncio import serve

        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            async with await serve(self._plan(), self.host, 0, **self._options) as server:
                self.port = server.port
                self._stop = lambda: loop.call_soon_threadsafe(stop.set)
                self._started.set()
                await stop.wait()
                await server.close(0)

        asyncio.run(main())

    def _run_trio(self) -> None:
        import trio

        from ehlo.trio import serve

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                server: Any = await nursery.start(self._serve_trio, serve)
                self.port = server.port
                token = trio.lowlevel.current_trio_token()
                self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)
                self._started.set()

        trio.run(main)

    async def _serve_trio(self, serve: Any, *, task_status: Any) -> None:
        await serve(self._plan(), self.host, 0, task_status=task_status, **self._options)


class _Methods:
    """An object with just these methods and attributes."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self.__dict__.update(methods)
