"""``Span``: one timer for all that wait equally long."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from time import monotonic
from typing import Any

import pytest

from ehlo._io.span import Span

OF: ContextVar[str] = ContextVar("of", default="nobody")


class Loop:
    """Keeps what it is to call."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any]] = []
        self.calls: list[Any] = []

    def call_later(self, seconds: float, call: Any, *args: Any) -> None:
        self.later.append((seconds, lambda: call(*args)))

    def call_soon(self, call: Any, *, context: Any) -> None:
        self.calls.append(lambda: context.run(call))


class One:
    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said

    def on_time(self) -> None:
        self.said.append(f"{self.name} of {OF.get()}")


def test_each_is_called_when_it_is_due() -> None:
    said: list[str] = []
    loop: Any = Loop()
    a, b, c = (One(name, said) for name in "abc")
    now = 0.0

    def clock() -> float:
        return now

    span = Span(10.0, clock)
    for moment, one in ((0.0, a), (1.0, b), (2.0, c)):
        now = moment
        token = OF.set(one.name)
        span.add(loop, one)
        OF.reset(token)
    span.discard(b)
    span.discard(b)
    now = 3.0
    span.add(loop, a)  # once more: its time begins anew
    assert [seconds for seconds, _ in loop.later] == [10.0], "one timer for all"
    for moment in (10.0, 12.0, 13.0):
        now = moment
        loop.later.pop(0)[1]()
    assert loop.later == []
    for call in loop.calls:
        call()
    assert said == ["c of c", "a of nobody"]


def test_one_that_fails_does_not_keep_the_others() -> None:
    said: list[str] = []

    class Broken(One):
        def on_time(self) -> None:
            raise ZeroDivisionError

    class Last(One):
        def on_time(self) -> None:
            last.set()

    last = asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        failures: list[Any] = []
        loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
        span = Span(0.001, monotonic)
        span.add(loop, Broken("a", said))
        span.add(loop, Last("b", said))
        await asyncio.wait_for(last.wait(), 20)
        assert [type(one) for one in failures] == [ZeroDivisionError]

    asyncio.run(main())


@pytest.mark.parametrize("again", [False, True])
def test_a_timer_that_finds_nobody_is_the_last(again: bool) -> None:
    said: list[str] = []
    loop: Any = Loop()
    span = Span(10.0, monotonic)
    one = One("a", said)
    span.add(loop, one)
    span.discard(one)
    if again:
        loop.later.pop()[1]()
        assert loop.later == []
        span.add(loop, one)
        assert len(loop.later) == 1


def test_a_span_that_nobody_waits_for_is_forgotten() -> None:
    """A program may give each connection a time of its own: what is left until a deadline."""
    loop: Any = Loop()
    spans: dict[float, Span] = {}
    for seconds in (10.0, 20.0, 30.0):
        spans[seconds] = span = Span(seconds, monotonic, spans)
        one = One("a", [])
        span.add(loop, one)
        if seconds != 20.0:
            span.discard(one)
    for _, fire in list(loop.later):
        fire()
    assert list(spans) == [20.0]
