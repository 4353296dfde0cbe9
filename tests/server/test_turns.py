"""Turns at scarce work: by rounds, bounded, nothing lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ehlo._server.turns import Turn, Turns


def ask_all(turns: Turns, *keys: str) -> list[Turn]:
    return [turns.ask(key) for key in keys]


def test_networks_take_turns_by_rounds() -> None:
    turns = Turns(1, 10, asyncio.Event)
    asked = ask_all(turns, *"aaaabac")
    seen: list[str] = []
    old: set[int] = set()
    for _ in asked:
        seen += [turn.key for turn in asked if turn.granted and id(turn) not in old]
        old |= {id(turn) for turn in asked if turn.granted}
        turns.done()
    assert "".join(seen) == "aabcaaa"


def test_a_network_with_many_loses_a_place_to_others() -> None:
    turns = Turns(1, 3, asyncio.Event)
    asked = ask_all(turns, *"aaaa")
    honest = turns.ask("b")
    assert not honest.refused
    assert [turn.refused for turn in asked] == [False, False, False, True]
    assert asked[3].event.is_set()  # type: ignore[attr-defined]
    assert turns.ask("a").refused
    assert turns.waiting == 3
    assert not turns.ask("c").refused
    assert turns.ask("d").refused  # nobody has more than one
    turns.done()
    turns.done()
    assert honest.granted


def test_who_leaves_gives_the_turn_to_the_next() -> None:
    turns = Turns(1, 3, asyncio.Event)
    first, second, third = ask_all(turns, "a", "a", "b")
    turns.withdraw(second)
    turns.withdraw(first)
    assert third.granted
    assert turns.waiting == 0
    turns.done()
    assert turns.ask("c").granted


@given(
    st.lists(st.tuples(st.sampled_from("adw"), st.integers(0, 5)), max_size=80), st.integers(1, 3), st.integers(1, 5)
)
def test_no_turn_is_lost(steps: list[tuple[str, int]], slots: int, places: int) -> None:
    turns = Turns(slots, places, asyncio.Event)
    asked: list[Turn] = []
    over: set[int] = set()
    for step, number in steps:
        working = [turn for turn in asked if turn.granted and id(turn) not in over]
        waiting = [turn for turn in asked if not (turn.granted or turn.refused or id(turn) in over)]
        if step == "a":
            asked.append(turns.ask(str(number)))
        elif step == "d" and working:
            over.add(id(working[number % len(working)]))
            turns.done()
        elif step == "w" and waiting:
            over.add(id(waiting[number % len(waiting)]))
            turns.withdraw(waiting[number % len(waiting)])
        working = [turn for turn in asked if turn.granted and id(turn) not in over]
        waiting = [turn for turn in asked if not (turn.granted or turn.refused or id(turn) in over)]
        assert len(working) <= slots
        assert turns.waiting == len(waiting) <= places
        assert not waiting or len(working) == slots  # nobody waits without need
