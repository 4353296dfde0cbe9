"""Content that comes in pieces, from an iterable or an async iterable of octets."""

from __future__ import annotations

import codecs
import re
import types
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["PIECE", "Source"]

# Octets that are taken from a source before they are sent; a bound of the memory a streamed message takes.
PIECE: Final = 262144

# What ends the header section (RFC 5322 2.1).
_EMPTY_LINE: Final = re.compile(rb"^\r?\n", re.MULTILINE)


class Source:
    """Content that comes in pieces, once.

    Arguments:
        pieces: where they come from.
        head: the first octets of them, where they are known.

    Attributes:
        is_not_utf8: the header section is seen in ``head``, and it is not UTF-8 (RFC 6532 3).
        begun: a piece was taken: it cannot be sent from the beginning any more.

    Example::

        while (piece := await source.next()) is not None: ...
    """

    __slots__ = ("_pieces", "begun", "is_not_utf8")

    def __init__(self, pieces: AsyncIterable[Buffer] | Iterable[Buffer], head: bytes = b"") -> None:
        self._pieces: AsyncIterator[Buffer] | Iterator[Buffer]
        self._pieces = aiter(pieces) if isinstance(pieces, AsyncIterable) else iter(pieces)
        self.begun: bool = False
        self.is_not_utf8: bool = False
        try:
            codecs.getincrementaldecoder("utf-8")().decode(_EMPTY_LINE.split(head, maxsplit=1)[0])
        except UnicodeDecodeError:
            self.is_not_utf8 = True

    async def next(self) -> Buffer | None:
        """The next octets, ``None`` at the end. Short pieces of a plain iterable are put together."""
        self.begun = True
        pieces = self._pieces
        if isinstance(pieces, AsyncIterator):
            return await anext(pieces, None)
        gathered: list[Buffer] = []
        octets = 0
        for piece in pieces:
            size = memoryview(piece).nbytes  # a str is told here
            if not gathered and size >= PIECE // 4:
                return piece
            gathered.append(piece)
            octets += size
            if octets >= PIECE // 4:
                break
        return b"".join(gathered) if gathered else None

    async def close(self) -> None:
        """No more of it is wanted: a generator may clean up. A file stays open, it is the program's."""
        pieces = self._pieces
        if isinstance(pieces, types.GeneratorType):
            pieces.close()
        elif isinstance(pieces, types.AsyncGeneratorType):
            await pieces.aclose()
