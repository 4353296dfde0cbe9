"""The small HTTP server of [metrics]: Prometheus at /metrics, /healthz, and a page for people at /. It only shows.

It runs in threads of its own, and asks the event loop for figures. A few requests are worked on at once, each has a
deadline, and nothing but GET and HEAD is answered.
"""

from __future__ import annotations

import base64
import hmac
import io
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
from anyio.from_thread import BlockingPortal
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ehlo.cli._receive import UsageError
from ehlo.cli._serve.figures import Figures, Snapshot, parse_ident
from ehlo.cli._serve.page import STYLE_HASH, page

__all__ = ["check_listen", "open_web"]

log: Final = logging.getLogger("ehlo.serve")
T = TypeVar("T")

# Requests at once; one more is closed.
_SLOTS: Final = 8
# Seconds for the head of a request as a whole, and for each write of the answer.
_HEAD_SECONDS: Final = 5.0
# Seconds that the loop has to give figures.
_LOOP_SECONDS: Final = 10.0
_HEAD_OCTETS: Final = 16384
_SHORTEST_TOKEN: Final = 16
_POLICY: Final = (
    f"default-src 'none'; style-src '{STYLE_HASH}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
_COUNTERS: Final = {
    "connections": "Sessions that were greeted.",
    "messages": "Messages that were accepted.",
    "octets": "Octets from clients.",
    "commands": "Commands.",
    "errors": "Replies that count as errors of the client.",
    "handler_failures": "Calls of the program that raised.",
    "handler_timeouts": "Calls of the program that took too long.",
    "idle_timeouts": "Sessions that ended in silence.",
    "session_timeouts": "Sessions that took too long.",
    "content_timeouts": "Contents that came too slowly.",
    "accept_failures": "Times when no connection could be accepted.",
}
_REFUSED: Final = {
    "greeting": "refused_greetings",
    "auth": "refused_auth",
    "mail": "refused_mail",
    "rcpt": "refused_rcpt",
    "content": "refused_content",
    "other": "refused_commands",
}
_TURNED_AWAY: Final = {"total": "refused", "network": "refused_network", "proxy": "refused_proxy"}


def check_listen(host: str, token: str | None) -> None:
    """Whether the figures may be shown there.

    Raises:
        UsageError: everybody could read them, or the token is easily guessed.
    """
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"metrics.token_file: the token needs at least {_SHORTEST_TOKEN} characters; make one by: "
            'python3 -c "import secrets; print(secrets.token_urlsafe())"'
        )
    if token is None and not _is_loopback(host):
        raise UsageError(
            f"metrics.listen {host}: everybody who reaches it could read addresses; listen on 127.0.0.1, or name a "
            "metrics.token_file"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# ---- Prometheus ----------------------------------------------------------------------------------


class _OfSnapshot(Collector):
    """The figures that are not of the queue alone."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        figures = self.snapshot
        if figures is None:
            return
        stats = figures.statistics
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"ehlo_server_{name}", text, value=getattr(stats, name))
        refused = CounterMetricFamily("ehlo_server_refusals", "Replies 4yz and 5yz.", labels=["command"])
        for label, name in _REFUSED.items():
            refused.add_metric([label], getattr(stats, name))
        yield refused
        away = CounterMetricFamily("ehlo_server_turned_away", "Connections without a session.", labels=["limit"])
        for label, name in _TURNED_AWAY.items():
            away.add_metric([label], getattr(stats, name))
        yield away
        yield GaugeMetricFamily("ehlo_server_open_connections", "Sessions at this moment.", value=figures.open)
        yield GaugeMetricFamily(
            "ehlo_server_start_time_seconds", "Start of the server, Unix time.", value=figures.since
        )
        yield CounterMetricFamily("ehlo_log_dropped_lines", "Lines that the log lost.", value=figures.lines_dropped)
        if figures.totals is not None:
            yield from _of_routes(figures)


def _of_routes(figures: Snapshot) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("ehlo_queue_route_recipients", "Recipients in the queue.", labels=["route"])
    away = GaugeMetricFamily("ehlo_queue_route_suspended_seconds", "Seconds until the next attempt.", labels=["route"])
    for row in figures.routes:
        waiting.add_metric([row.name], row.recipients)
        if row.suspended_until > figures.at:
            away.add_metric([row.name], row.suspended_until - figures.at)
    yield waiting
    yield away


# ---- HTTP ----------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, site: _Site) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.site = site
        self._slots = threading.BoundedSemaphore(_SLOTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the look-up of our own name, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, if one is free."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that left is none; all else is ours."""
        log.debug("a request of the page failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "ehlo"
    sys_version = ""
    timeout = _HEAD_SECONDS

    def setup(self) -> None:
        """Read the head of the request, as a whole and within its time: what drips is cut."""
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(_read_head(self.connection)))

    def do_GET(self) -> None:
        """Show something."""
        status, kind, body, more = self.server.site.answer(self.path, self.headers, self.client_address[0])
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS, *more):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Nothing of the request is repeated."""
        self.send_response(code)
        for name, value in (("Content-Length", "0"), ("Connection", "close"), *_HEADERS):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """A look at figures is no event."""


def _read_head(sock: socket.socket) -> bytes:
    head = bytearray()
    end = time.monotonic() + _HEAD_SECONDS
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < _HEAD_OCTETS:
        left = end - time.monotonic()
        if left <= 0:
            return b""
        sock.settimeout(left)
        try:
            octets = sock.recv(4096)
        except OSError:
            return b""
        if not octets:
            break
        head += octets
    sock.settimeout(_HEAD_SECONDS)
    return bytes(head)


class _Site:
    """What is answered to which request.

    Arguments:
        call: calls an async function in the loop, with arguments.
        names: for the field Host, beside addresses: a page of another site that points its name here shows nothing.
    """

    def __init__(self, figures: Figures, token: str | None, names: frozenset[str], call: Callable[..., Any]) -> None:
        self._figures = figures
        self._token = None if token is None else token.encode()
        self._names = names
        self._call = call
        self._own = _OfSnapshot()
        self._registry = CollectorRegistry()
        self._registry.register(self._own)
        if figures.collector is not None:
            self._registry.register(figures.collector)
        self._one = threading.Lock()

    def answer(self, target: str, headers: Any, client: str) -> tuple[int, str, bytes, tuple[tuple[str, str], ...]]:
        """Status, content type, body and more header fields."""
        plain = "text/plain; charset=utf-8"
        if not self._is_ours(headers.get("Host")):
            return 421, plain, b"Use the address of this server, or its name.\n", ()
        url = urlsplit(target)
        if url.path not in ("/", "/metrics", "/healthz"):
            return 404, plain, b"There are /, /metrics and /healthz.\n", ()
        if url.path != "/healthz" and not self._is_allowed(headers.get("Authorization")):
            log.warning("a reader of the metrics at %s has no good token", client)
            ask = (("WWW-Authenticate", 'Basic realm="ehlo", charset="UTF-8"'),)
            return 401, plain, b"A token is needed: as a bearer token, or as a password.\n", ask
        try:
            if url.path == "/healthz":
                self._call(_nothing)
                return 200, plain, b"ok\n", ()
            if url.path == "/metrics":
                return 200, CONTENT_TYPE_LATEST, self._metrics(), ()
            return 200, "text/html; charset=utf-8", self._page(url.query).encode("utf-8", "backslashreplace"), ()
        except (TimeoutError, RuntimeError, OSError) as exc:  # busy, or it is ending, or the queue cannot be read
            log.warning("no figures for %s: %s", url.path, str(exc) or type(exc).__name__)
            return 503, plain, b"The figures cannot be read now.\n", ()

    def _is_ours(self, host: str | None) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if host is None or not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._names
        return True

    def _is_allowed(self, given: str | None) -> bool:
        if self._token is None:
            return True
        kind, _, text = (given or "").partition(" ")
        octets = text.strip().encode("utf-8", "replace")
        if kind.lower() == "basic":
            try:
                octets = base64.b64decode(octets, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(octets, self._token)

    def _metrics(self) -> bytes:
        snapshot: Snapshot = self._call(self._figures.snapshot)
        with self._one:  # the figures of one answer are of one moment
            self._own.snapshot = snapshot
            return generate_latest(self._registry)

    def _page(self, query: str) -> str:
        asked = parse_qs(query, max_num_fields=10).get("why", [""])[0].strip()
        snapshot: Snapshot = self._call(self._figures.snapshot)
        number = parse_ident(asked)
        facts = [] if number is None else self._call(self._figures.why, number)
        return page(snapshot, asked or None, facts)


async def _nothing() -> None:
    """The loop lives."""


@asynccontextmanager
async def open_web(host: str, port: int, figures: Figures, token: str | None = None) -> AsyncIterator[tuple[str, int]]:
    """Serve the figures as long as it is open. Gives the address and the port.

    Arguments:
        host, port: where; port 0 is any free one.
        figures: to show.
        token: that a reader has to send; ``None``: none.

    Raises:
        UsageError: see :func:`check_listen`.
        OSError: it cannot listen there.

    Example::

        async with open_web("127.0.0.1", 9925, figures) as (host, port): ...
    """
    check_listen(host, token)
    portal = BlockingPortal()

    def call(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        future: Future[T] = portal.start_task_soon(function, *arguments)
        try:
            return future.result(_LOOP_SECONDS)
        except TimeoutError:
            future.cancel()
            raise

    names = frozenset({"localhost", host.lower(), figures.hostname.lower()})
    server = _Server(host, port, _Site(figures, token, names, call))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="ehlo metrics", daemon=True)
    # Left by hand: an exception that goes through its block would come out in a group.
    await portal.__aenter__()
    try:
        thread.start()
        yield server.server_address[0], server.server_address[1]  # type: ignore[misc]
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.shutdown)
        server.server_close()
        thread.join()
        await portal.__aexit__(None, None, None)
