"""So many events in a sliding period, by a clock of the test's own."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 8),
    st.floats(1, 10_000),
    st.lists(st.tuples(st.floats(0, 2_000), st.sampled_from("ab"), st.integers(1, 3)), max_size=60),
)
def test_no_period_has_more_than_the_limit(limit: int, seconds: float, steps: list[tuple[float, str, int]]) -> None:
    clock = Clock()
    rates = ehlo.RateLimit(limit, seconds, clock=clock)
    taken: list[tuple[float, str, int]] = []
    for pause, key, count in steps:
        clock.now += pause
        mine = [(when, n) for when, one, n in taken if one == key]
        if rates.take(key, count) == 0.0:
            taken.append((clock.now, key, count))
            recent = sum(n for when, n in mine if when > clock.now - seconds)
            assert recent + count <= limit
        else:  # by how much it is too strict: one step
            near = sum(n for when, n in mine if when >= clock.now - seconds * 61 / 60 - 0.001)
            assert near + count > limit
        assert rates.used(key) <= limit


@given(st.integers(1, 5), st.lists(st.floats(0, 30), max_size=30))
def test_after_the_wait_it_works_and_not_before(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    rates = ehlo.RateLimit(limit, 60, clock=clock)
    for pause in pauses:
        clock.now += pause
        rates.take("a")
    wait = rates.take("a")
    if wait:
        began = clock.now
        clock.now = began + wait - 0.01
        assert rates.take("a") > 0
        clock.now = began + wait + 0.01
        assert rates.take("a") == 0


def test_what_can_never_work() -> None:
    rates = ehlo.RateLimit(2, clock=Clock())
    assert rates.take("a", 3) == inf
    assert rates.take("a", 2) == 0
    assert ehlo.RateLimit(0, clock=Clock()).take("a") == inf
    for arguments in ((-1,), (1, 0)):
        with pytest.raises(ehlo.LocalProtocolError):
            ehlo.RateLimit(*arguments)
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.RateLimit(1, keys=0)


def test_memory_is_bounded() -> None:
    clock = Clock()
    rates = ehlo.RateLimit(1000, keys=10, clock=clock)
    for number in range(10_000):
        clock.now += 1
        rates.take(f"{number % 100}")
        rates.take("busy")
    assert len(rates) == 10
    assert rates.used("busy") > 0  # it was used
    assert all(len(steps) <= 62 for steps in rates._keys.values())


def test_a_clock_that_is_put_back_locks_nobody_out() -> None:
    clock = Clock()
    rates = ehlo.RateLimit(2, 60, clock=clock)
    clock.now += 1e6
    assert rates.take("a", 2) == 0
    clock.now -= 1e6
    assert 0 < rates.take("a") <= 62
    clock.now += 62
    assert rates.take("a") == 0


def test_restored_events_count() -> None:
    clock = Clock()
    rates = ehlo.RateLimit(5, clock=clock)
    rates.restore("a", [(clock.now - 4000, 5), (clock.now - 3000, 2), (clock.now - 10, 2), (clock.now - 10, 1)])
    assert rates.used("a") == 5
    assert rates.take("a") > 0
    rates.restore("a", [])
    assert rates.take("a", 5) == 0
