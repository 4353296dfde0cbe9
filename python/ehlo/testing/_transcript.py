"""What was said on a wire, line by line, and an assertion about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, overload

__all__ = ["Party", "Transcript", "assert_dialogue"]

Party: TypeAlias = Literal["C", "S"]
"""Who speaks: the client or the server."""


class Transcript(Sequence[str]):
    """The lines of a session, ``C: …`` and ``S: …``, in the order in which they were sent.

    Octets that are no printable ASCII are escaped. A line that is not complete is the last of its party.

    Example::

        assert "S: 250 2.0.0 OK" in wire.transcript
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open: dict[Party, tuple[int, bytes]] = {}

    def add(self, party: Party, octets: bytes) -> None:
        """Note that ``party`` sent ``octets``, in any pieces.

        Example::

            transcript.add("C", b"NOOP\\r\\n")
        """
        for piece in octets.splitlines(keepends=True) if octets else ():
            at, before = self._open.pop(party, (len(self._lines), b""))
            line = before + piece
            if at == len(self._lines):
                self._lines.append("")
            self._lines[at] = f"{party}: {_shown(line)}"
            if not line.endswith(b"\n"):
                self._open[party] = (at, line)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def of(self, party: Party) -> list[str]:
        """The lines of one party, without the mark before them.

        Example::

            assert wire.transcript.of("C")[0] == "EHLO client.example"
        """
        return [line[3:] for line in self._lines if line.startswith(party)]


def _shown(line: bytes) -> str:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    return "".join(chr(octet) if 0x20 <= octet <= 0x7E else f"\\x{octet:02x}" for octet in line)


def assert_dialogue(transcript: Iterable[str], expected: str) -> None:
    """Assert that the lines of ``expected`` were said, in this order; others may stand between them.

    Arguments:
        transcript: a :class:`Transcript`, or any lines like ``C: NOOP``.
        expected: lines like them; ``*``, ``?`` and ``[…]`` are wildcards. Empty lines do not count.

    Raises:
        AssertionError: names the first line that is missing, and shows the transcript.

    Example::

        assert_dialogue(wire.transcript, "C: MAIL FROM:<*>\\nS: 250 *")
    """
    lines = list(transcript)
    rest = iter(lines)
    for pattern in filter(None, (line.strip() for line in expected.splitlines())):
        if not any(fnmatchcase(line, pattern) for line in rest):
            raise AssertionError(f"nobody said {pattern!r}, or not in this order:\n" + "\n".join(lines))
