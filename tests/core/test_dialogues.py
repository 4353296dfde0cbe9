"""The dialogues of tests/data, line for line. rust/ehlo/tests/dialogues.rs plays the same files against the engine.

Rules seen there: S-PAR-10 (RFC 1870 5: the size counts unstuffed octets), S-DAT-03 (RFC 5321 4.5.2), S-BDT-01
(RFC 3030 2), S-LMT-03 (RFC 2033 4.2), S-RPL-17 (RFC 5321 4.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import ehlo

DIALOGUES = sorted((Path(__file__).parents[1] / "data/dialogues").glob("*.txt"))


@dataclass
class Dialogue:
    """One file. Format: tests/data/README.md."""

    config: ehlo.ServerConfig
    script: list[tuple[str, bytes]]
    """``C`` and ``S`` lines in their order."""
    answers: list[str]
    messages: bytes

    def all(self, kind: str) -> bytes:
        return b"".join(line for which, line in self.script if which == kind)


def read(path: Path) -> Dialogue:
    settings: dict[str, Any] = {"decisions": {"message"}}
    lines: dict[str, list[str]] = {kind: [] for kind in "XPM"}
    script: list[tuple[str, bytes]] = []
    for line in path.read_text(encoding="ascii").splitlines():
        if not line or line.startswith("#"):
            continue
        kind, _, text = line.partition(":")
        text = text.removeprefix(" ")
        if kind in "CS":
            script.append((kind, text.encode() + b"\r\n"))
        else:
            lines[kind].append(text)
    for text in lines["X"]:
        match text.split(" "):
            case ["lmtp"]:
                settings["lmtp"] = True
            case ["size", number]:
                settings["max_message_size"] = None if number == "none" else int(number)
            case ["decide", decision]:
                settings["decisions"].add(decision)
            case ["offer", *words]:
                keywords = {"chunking", "binarymime", "smtputf8", "dsn", "help"}
                settings |= {keyword: keyword.upper() in words for keyword in keywords}
                settings["limits_keyword"] = "LIMITS" in words
            case [("hostname" | "greeting") as word, *rest]:
                settings[word] = " ".join(rest)
            case _:
                raise ValueError(f"{path.name}: {text}")
    messages = "".join(f"{text}\r\n" for text in lines["M"]).encode()
    return Dialogue(ehlo.ServerConfig(**settings), script, lines["P"], messages)


@dataclass
class Play:
    """A session with the program of a dialogue."""

    dialogue: Dialogue
    output: bytes = b""
    messages: bytes = b""
    answers: Iterator[str] = field(init=False)
    connection: ehlo.ServerConnection = field(init=False)

    def __post_init__(self) -> None:
        self.answers = iter(self.dialogue.answers)
        self.connection = ehlo.ServerConnection(self.dialogue.config)
        self.output = self.connection.data_to_send()

    def feed(self, octets: bytes) -> None:
        self.connection.receive_data(octets)
        for event in self.connection:
            if isinstance(event, ehlo.Message):
                assert event.size == len(event.content)
                self.messages += event.content
                if self.dialogue.config.lmtp:
                    replies = [ehlo.Reply.parse(next(self.answers)) for _ in event.envelope.recipients]
                    self.connection.reply_recipients(replies)
                    continue
            if self.connection.decision_open:
                answer = next(self.answers, "ok")
                if answer == "ok":
                    self.connection.accept()
                else:
                    self.connection.send_reply(ehlo.Reply.parse(answer))
        self.output += self.connection.data_to_send()

    def check_end(self) -> None:
        assert self.output == self.dialogue.all("S")
        assert self.messages == self.dialogue.messages
        assert list(self.answers) == []
        assert self.connection.closed


@pytest.fixture(params=DIALOGUES, ids=lambda path: path.stem)
def dialogue(request: pytest.FixtureRequest) -> Dialogue:
    return read(request.param)


def test_lock_step_line_for_line(dialogue: Dialogue) -> None:
    play = Play(dialogue)
    expected = b""
    for kind, line in dialogue.script:
        if kind == "S":
            expected += line
        else:
            assert play.output == expected
            play.feed(line)
    play.check_end()


def test_in_one_piece_and_cut_at_every_octet(dialogue: Dialogue) -> None:
    octets = dialogue.all("C")
    for cut in range(len(octets)):
        play = Play(dialogue)
        play.feed(octets[:cut])
        play.feed(octets[cut:])
        play.check_end()


def test_octet_by_octet(dialogue: Dialogue) -> None:
    play = Play(dialogue)
    for octet in dialogue.all("C"):
        play.feed(bytes([octet]))
    play.check_end()


def test_all_files_are_there() -> None:
    assert {"rfc2033-4.2", "rfc3030-4.1", "rfc5321-d1", "size-57"} <= {path.stem for path in DIALOGUES}
