"""The board of the workers' figures, and the sum of the parts on it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("prometheus_client")

import ehlo
from ehlo.cli._serve.board import Board
from ehlo.cli._serve.figures import Part


def test_each_worker_has_its_place_and_the_last_figures_count() -> None:
    board = Board(3)
    assert board.read(1) is None
    for turn in range(5):
        board.write(1, {"turn": turn})
        assert board.read(1) == {"turn": turn}
    board.write(2, {"turn": 9})
    assert (board.read(0), board.read(1), board.read(2)) == (None, {"turn": 4}, {"turn": 9})


def test_a_copy_that_is_not_whole_does_not_count() -> None:
    # A worker may die at each octet of its writing: the copy before is still there.
    board = Board(1)
    board.write(0, {"turn": "first"})
    board.write(0, {"turn": "second"})
    before = bytes(board._memory)
    board.write(0, {"turn": "third"})
    after = bytes(board._memory)
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    for count in range(len(changed)):
        board._memory[:] = before
        for at in changed[:count]:
            board._memory[at] = after[at]
        assert board.read(0) == {"turn": "second"}


def test_figures_that_are_too_long_are_left_out() -> None:
    board = Board(2)
    board.write(0, {"turn": 1})
    board.write(0, {"text": "x" * 70_000})
    assert (board.read(0), board.read(1)) == ({"turn": 1}, None)


def test_parts_are_added_and_come_back_from_their_words() -> None:
    one = Part(ehlo.Statistics(messages=1, octets=5), 2, {60: Counter({"accepted": 1}), 0: Counter({"refused": 9})}, 1)
    two = Part(ehlo.Statistics(messages=3), 4, {60: Counter({"accepted": 2, "refused": 1})}, 0)
    both = one + two
    assert (both.statistics.messages, both.statistics.octets, both.open, both.lines_dropped) == (4, 5, 6, 1)
    assert both.minutes == {60: {"accepted": 3, "refused": 1}, 0: {"refused": 9}}
    assert Part.of(json.loads(json.dumps(both.words()))) == both
    ended = both.ended(60 * 60.0)
    assert (ended.open, ended.minutes, ended.statistics) == (0, {60: both.minutes[60]}, both.statistics)
