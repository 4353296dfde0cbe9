"""How fast the parser, the codec and both engines are on this machine, without a socket."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any, Final, Literal

from ehlo._core import (
    ClientConfig,
    ClientConnection,
    DotDecoder,
    Message,
    SendResult,
    ServerConfig,
    ServerConnection,
    build_info,
    dot_stuff,
    parse_command,
    parse_reply,
)
from ehlo.bench._machine import SCHEMA, machine

__all__ = ["CoreCase", "body", "client_session", "core_cases", "run_core", "server_session", "transaction"]

_COMMANDS: Final = (
    b"EHLO client.example.org",
    b"MAIL FROM:<jane.doe@example.org> SIZE=12345 BODY=8BITMIME",
    b"RCPT TO:<joe@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;joe@example.org",
    b"DATA",
    b"BDAT 86400 LAST",
    b"RSET",
    b'MAIL FROM:<"quoted local"@[192.0.2.1]>',
)
_ROUNDS: Final = 7
_MIB: Final = 1 << 20
_TEXT: Final = (b"The quick brown fox jumps over the lazy dog, as it has on most days.\r\n" * 15000)[:_MIB]
_DOTS: Final = b".\r\n" * (_MIB // 3)


@dataclass(frozen=True, slots=True)
class CoreCase:
    """One thing to time.

    Arguments:
        name: what it is. unit: what is counted: "command", "reply", "message", or "octet" (told in GB/s).
        count: how many of the unit one call does. call: does it.

    Example::

        case.call()
    """

    name: str
    unit: Literal["command", "reply", "message", "octet"]
    count: int
    call: Callable[[], object]


def core_cases() -> Iterator[CoreCase]:
    """All that ``ehlo bench core`` times, made when it is asked for.

    Example::

        for case in core_cases(): case.call()
    """
    for line in _COMMANDS:
        verb = line.decode("ascii").split()[0]
        name = f"parse_command {verb}{' (quoted, literal)' if b'quoted' in line else ''}"
        yield CoreCase(name, "command", 1000, _repeat(parse_command, line, 1000))
    one, many = b"250 2.1.0 OK\r\n", b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n"
    yield CoreCase("parse_reply, one line", "reply", 1000, _repeat(parse_reply, one, 1000))
    yield CoreCase("parse_reply, four lines", "reply", 1000, _repeat(parse_reply, many, 1000))
    for label, content in (("text of 70 columns", _TEXT), ("nothing but dots", _DOTS)):
        stuffed = dot_stuff(content)
        yield CoreCase(f"dot_stuff, {label}", "octet", len(content), partial(dot_stuff, content))
        yield CoreCase(f"DotDecoder, {label}", "octet", len(stuffed), partial(_unstuff, stuffed))
    target = memoryview(bytearray(_MIB))
    yield CoreCase("memcpy, 1 MiB to the same place", "octet", _MIB, lambda: target.__setitem__(slice(None), _TEXT))
    yield CoreCase("memcpy, 1 MiB to a new place", "octet", _MIB, lambda: bytearray(_TEXT))
    for kind, size in (("pipelined, 1 KiB", 1024), ("pipelined, 100 KiB", 102400)):
        yield CoreCase(f"server engine, discard, {kind}", "message", 100, server_session(size, 100, "discard"))
        yield CoreCase(f"server engine, collect, {kind}", "message", 100, server_session(size, 100, "collect"))
        yield CoreCase(f"client engine, {kind}", "message", 100, client_session(size, 100, True))
    yield CoreCase("client engine, lock-step, 1 KiB", "message", 100, client_session(1024, 100, False))


def _unstuff(stuffed: bytes) -> bytes:
    return DotDecoder().feed(stuffed)[0]


def _repeat(call: Callable[[bytes], object], argument: bytes, count: int) -> Callable[[], object]:
    def run() -> None:
        for _ in range(count):
            call(argument)

    return run


def body(size: int) -> bytes:
    """A content of ``size`` octets that ends with CRLF.

    Example::

        len(body(1024))  # 1024
    """
    return _TEXT[: size - 2] + b"\r\n"


def transaction(size: int) -> bytes:
    """All that a client sends for one message of ``size`` octets, from MAIL to the line of the dot.

    Example::

        transaction(1024).startswith(b"MAIL FROM:<")
    """
    return b"MAIL FROM:<jane@example.org>\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n" + dot_stuff(body(size))


def server_session(size: int, messages: int, content: Literal["discard", "collect"]) -> Callable[[], object]:
    """A session in which each message comes in one piece.

    Arguments:
        size: octets of a message. messages: how many the session has.
        content: what becomes of it, as ``ServerConfig`` says.

    Example::

        server_session(1024, 100, "discard")()
    """
    config = ServerConfig("mx.example.org", content=content, max_messages=None)
    hello = b"EHLO client.example.org\r\n"
    one = transaction(size)

    def run() -> None:
        conn = ServerConnection(config)
        receive, events, output, accept = conn.receive_data, conn.next_event, conn.data_to_send, conn.accept
        receive(hello)
        seen = 0
        for _ in range(messages):
            receive(one)
            while (event := events()) is not None:
                if type(event) is Message:
                    seen += 1
                    accept()
            output()
        if seen != messages:
            raise AssertionError(f"{seen} of {messages} messages came through the engine")

    return run


def client_session(size: int, messages: int, pipelining: bool) -> Callable[[], object]:
    """A session against replies that are there already: the cost of a server is not in it.

    Arguments:
        size: octets of a message. messages: how many are sent.
        pipelining: whether the server offers it (RFC 2920).

    Example::

        client_session(1024, 100, True)()
    """
    config = ClientConfig("client.example.org", pipelining=pipelining, chunking=False)
    content = body(size)
    to = ["joe@example.org"]
    ok, go = b"250 2.0.0 OK\r\n", b"354 go\r\n"

    def run() -> None:
        conn = ClientConnection(config)
        receive, events, output, send = conn.receive_data, conn.next_event, conn.data_to_send, conn.send_message
        receive(b"220 mx.example.org\r\n")
        while events() is not None:
            pass
        output()
        receive(b"250-mx.example.org\r\n250 PIPELINING\r\n")
        seen = 0
        for _ in range(messages):
            send("jane@example.org", to, content)
            steps = (b"", ok + ok + go, ok) if pipelining else (b"", ok, ok, go, ok)
            for reply in steps:
                if reply:
                    receive(reply)
                while (event := events()) is not None:
                    if type(event) is SendResult:
                        seen += event.all_accepted
                while output():
                    pass
        if seen != messages:
            raise AssertionError(f"{seen} of {messages} messages came through the engine")

    return run


def run_core(seconds: float = 0.2, on_case: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Time every case and tell the report. The least of the rounds counts: what disturbs only adds.

    Arguments:
        seconds: for each case. on_case: called with each result as it comes.

    Example::

        run_core(0.05)["results"][0]["ns"]  # nanoseconds for one unit
    """
    results = []
    for case in core_cases():
        case.call()  # warm
        begun = perf_counter_ns()
        case.call()
        once = max(1, perf_counter_ns() - begun)
        calls = max(1, int(seconds * 1e9 / _ROUNDS / once))
        rounds = []
        for _ in range(_ROUNDS):
            begun = perf_counter_ns()
            for _ in range(calls):
                case.call()
            rounds.append((perf_counter_ns() - begun) / calls / case.count)
        best = min(rounds)
        result: dict[str, Any] = {
            "name": case.name,
            "unit": case.unit,
            "ns": round(best, 4),
            "median_ns": round(statistics.median(rounds), 4),
            "per_second": round(1e9 / best, 1),
        }
        if case.unit == "octet":
            result["gb_per_second"] = round(1 / best, 3)
        results.append(result)
        if on_case is not None:
            on_case(result)
    warnings = []
    if build_info()["profile"] != "release":
        warnings.append("ehlo was built without optimisation: these figures say nothing about a release build")
    return {
        "tool": "ehlo bench core",
        "schema": SCHEMA,
        "machine": machine(),
        "results": results,
        "warnings": warnings,
    }
