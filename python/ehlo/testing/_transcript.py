"""What was said on a wire, line by line, and an assertion about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias, overload

__all__ = ["Party", "Transcript", "assert_dialogue", "without_initial_response"]

Party: TypeAlias = Literal["C", "S"]
"""Who speaks: the client or the server."""


_VERBS: Final = frozenset(
    b"EHLO HELO LHLO MAIL RCPT DATA BDAT RSET VRFY EXPN HELP NOOP QUIT ETRN STARTTLS XCLIENT XFORWARD".split()
)


class Transcript(Sequence[str]):
    """The lines of a session, ``C: …`` and ``S: …``, in the order in which they were sent.

    Octets that are no printable ASCII are escaped. A line that is not complete is the last of its party. The responses
    of AUTH are left out, since they hold secrets: ``C: AUTH PLAIN [initial response]``, ``C: [response]``.

    Example::

        assert "S: 250 2.0.0 OK" in wire.transcript
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open: dict[Party, tuple[int, bytes]] = {}
        # The next line of the client answers a challenge, or may be meant to.
        self._challenged = False
        self._in_auth = False

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
            self._lines[at] = f"{party}: {self._shown(party, line)}"
            if not line.endswith(b"\n"):
                self._open[party] = (at, line)

    def _shown(self, party: Party, line: bytes) -> str:
        """A line as it is shown: without the responses of AUTH (RFC 4954 4)."""
        complete = line.endswith(b"\n")
        words = line.split()
        if party == "S":
            if complete and self._in_auth and len(line) > 3 and line[3:4] != b"-":
                self._challenged = line.startswith(b"3")
                # A client that did not notice its mistake goes on with its password.
                self._in_auth = line[:1] in b"35"
            return _shown(line)
        if words and words[0].upper() == b"AUTH":
            self._in_auth, self._challenged = True, False
            return without_initial_response(line)
        hidden = self._challenged or (self._in_auth and not (words and words[0].upper() in _VERBS))
        if complete:
            self._challenged = False
        if hidden and words != [b"*"]:
            return "[response]"
        self._in_auth = self._in_auth and hidden
        return _shown(line)

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


def without_initial_response(line: bytes) -> str:
    """A line of a client as it may be shown: AUTH without its initial response, which holds a secret (RFC 4954 4).

    Example::

        without_initial_response(b"AUTH PLAIN AGphbmUAeA==")  # "AUTH PLAIN [initial response]"
    """
    words = line.split()
    if len(words) > 2 and words[0].upper() == b"AUTH":
        return _shown(b" ".join(words[:2])) + " [initial response]"
    return _shown(line)


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
            raise AssertionError(f"{pattern!r} was not said, or not in this order:\n" + "\n".join(lines))
