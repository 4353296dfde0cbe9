"""A kill at each system call of a delivery, and inside its writes: what was acknowledged is there once, and nothing is
torn. FAULTS A12, A13."""

from __future__ import annotations

import pathlib

import pytest

from killing import run_alone

PROGRAM = pathlib.Path(__file__).with_name("store_kills.py")
# Programs that take the record lock of fcntl alone: one of another sender, and one that delivers the same message.
STRANGERS = {
    "nobody": b"",
    "another": b"From x@y Tue Nov 24 03:00:00 2026\nSubject: other\n\nhi\n\n",
    "alike": b"From a@b Tue Nov 24 03:00:00 2026\nReturn-Path: <a@b>\nSubject: other\n\nhi\n\n",
}


@pytest.mark.parametrize("octets", [1, 300_000])
@pytest.mark.parametrize("kind", ["Maildir", "Mbox"])
def test_a_kill_at_each_call(tmp_path: pathlib.Path, kind: str, octets: int) -> None:
    calls, _ = run_alone(PROGRAM, "each_call", tmp_path, kind, octets, "once")
    assert calls > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["Maildir", "Mbox"])
def test_a_kill_at_each_call_of_the_repair(tmp_path: pathlib.Path, kind: str) -> None:
    _, pairs = run_alone(PROGRAM, "each_call", tmp_path, kind, 100, "twice")
    assert pairs > 400


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=[pytest.mark.slow])])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_kill_behind_each_octet_of_an_mbox(tmp_path: pathlib.Path, stranger: str, step: int) -> None:
    # What is torn is cut off, also where a line "From " of the message is quoted. Another program's mail stays.
    (octets,) = run_alone(PROGRAM, "each_octet", tmp_path, STRANGERS[stranger].hex(), step)
    assert octets > 150


def test_a_message_with_too_many_places_is_not_cut_off(tmp_path: pathlib.Path) -> None:
    # The journal would be too long for it: what is torn is ended, and the next message can be read.
    from ehlo.store._mbox_repair import LONGEST_JOURNAL, journal_for, journal_of, places_of, undo

    box = tmp_path / "box"
    for number, is_cut in ((200, True), (201, False)):
        line = b"From %d, and so many octets more that each place has all its checksums" + b" x" * 40 + b"\n"
        message = b"".join(line % i for i in range(number))
        box.write_bytes(b"before\n")
        with box.open("r+b") as file:
            journal = journal_for(file.fileno(), places_of([message]))
            assert len(journal.to_octets()) < LONGEST_JOURNAL
            assert journal_of(journal.to_octets()) == journal
            with box.open("ab") as other:
                other.write(b"\n" + message[: len(message) // 2])
            undo(journal, file.fileno())
        assert (box.stat().st_size == 7) is is_cut


@pytest.mark.parametrize("piece", [1, 3, 130, 10_000])
def test_places_do_not_depend_on_the_pieces(piece: int) -> None:
    from ehlo.store._mbox_repair import places_of

    message = b"From a\n" + b"FFrom FromFrom  From " * 7 + b"x" * 200 + b"From " + b"y" * 200 + b"From z\nFrom "
    places = places_of([message])
    assert len(places) == message.count(b"From ")
    assert places_of(message[at : at + piece] for at in range(0, len(message), piece)) == places
