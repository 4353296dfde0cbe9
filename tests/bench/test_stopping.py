"""Signals that stop a tool of ``ehlo bench``."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ehlo.cli import _bench_arguments
from ehlo.cli._bench_arguments import stopping

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """The signals that would have ended the process."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: numbers.append(number)) for number in NUMBERS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_comes_twice_at_once_counts_once(
    number: signal.Signals, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # timeout(1) sends it to the process and to its group.
    now, stops = 100.0, list[float]()
    monkeypatch.setattr(_bench_arguments, "monotonic", lambda: now)
    with stopping(lambda: stops.append(now)):
        for _ in range(3):
            signal.raise_signal(number)
        assert (stops, ended) == ([100.0], [])
        now += 1
        signal.raise_signal(number)
        assert (stops, ended) == ([100.0], [number])
    signal.raise_signal(number)
    assert ended == [number, number]
