"""One route's turn, limits and suspension, without a loop and without a clock."""

from __future__ import annotations

from ehlo.mta._channel import LARGE, Channel, Job, Limits
from ehlo.mta._model import Message, Recipient


def channel(**limits: float) -> Channel:
    return Channel("key", "name", None, Limits(**limits))  # type: ignore[arg-type]


def job(number: int = 1, *, size: int = 100, priority: int = 0, retry: bool = False) -> Job:
    message = Message(number, "a@b.example", 0.0, size=size, priority=priority)
    return Job(message, [Recipient(number, "c@d.example")], b"", is_retry=retry)


def taken(one: Channel, count: int = 100, now: float = 0.0) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count and (found := one.take(now)) is not None:
        numbers.append(found.message.id)
    return numbers


def test_c_que_04_the_order_is_that_of_arrival_and_of_priority() -> None:
    one = channel()
    for number, priority in ((1, 0), (2, 0), (3, 4), (4, -3), (5, 4), (6, 0)):
        one.put(job(number, priority=priority))
    assert taken(one) == [3, 5, 1, 2, 6, 4]


def test_c_que_05_retries_leave_half_of_the_connections_to_new_mail() -> None:
    one = channel(first=4)
    for number in range(10):
        one.put(job(100 + number, retry=True))
        one.put(job(number))
    numbers = taken(one, 12)
    assert sum(number >= 100 for number in numbers) == 2
    assert numbers[:10].count(0) == 1


def test_c_que_05_retries_have_all_where_nothing_is_new() -> None:
    one = channel(first=4)
    for number in range(4):
        one.put(job(number, retry=True))
    assert len(taken(one)) == 4


def test_c_que_06_large_messages_hold_a_quarter() -> None:
    one = channel(first=8)
    for number in range(10):
        one.put(job(100 + number, size=LARGE))
    first = one.take(0.0)
    assert first is not None
    assert len(taken(one)) == 1
    one.put(job(1))
    assert taken(one) == [1]
    one.done(first)
    assert len(taken(one)) == 1


def test_c_que_07_connections_grow_by_success_and_shrink_by_failure() -> None:
    one = channel()
    for _ in range(1000):
        one.succeeded()
    assert one.limit == 20
    assert not one.failed(0.0, "refused")
    assert one.limit == 20 - 1 / 20
    one.workers = 19
    assert not one.may_open


def test_c_que_08_a_dead_route_is_suspended_and_probed_once() -> None:
    one = channel()
    for number in range(20):
        one.put(job(number))
    assert not any(one.failed(0.0, "refused") for _ in range(3))
    now, spans = 0.0, []
    while True:
        found = one.take(now) if one.suspended_until else None
        if one.suspended_until:
            assert found is not None
            assert one.take(now) is None  # one probe at a time
            assert not one.may_open or one.workers == 0
            one.done(found)
        assert one.failed(now, "refused")
        assert one.take(now) is None
        assert not one.failed(now, "refused")  # of an attempt that had begun before: it makes nothing longer
        spans.append(one.suspended_until - now)
        now = one.suspended_until
        if len(spans) == 8:
            break
    assert spans == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert one.take(now) is not None
    one.succeeded()
    assert not one.suspended_until
    assert len(taken(one, 3, now)) == 3


def test_what_waits_for_a_dead_route_goes_back() -> None:
    one = channel()
    for number in range(5):
        one.put(job(number, retry=number % 2 == 1))
    assert len(one.give_back(2)) == 3
    assert len(one) == 2


def test_rates_space_messages_and_connections() -> None:
    one = channel(message_rate=2, connection_rate=4)
    for number in range(3):
        one.put(job(number))
    assert taken(one, now=100.0) == [0]
    assert one.waits(100.0) == 0.5
    assert taken(one, now=100.4) == []
    assert taken(one, now=100.5) == [1]
    one.next_message = 0.0
    one.opened(101.0)
    assert one.waits(101.0) == 0.25
    one.idle.append(object())
    assert one.waits(101.0) <= 0
    assert taken(one, now=102.0) == [2]
    assert one.waits(102.0) == 0
