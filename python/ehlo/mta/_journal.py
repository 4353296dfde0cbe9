"""The delivered journal: recipients that a next hop took, and whose commit is still to come.

An entry is written at the next hop's 250, without a flush: the kernel has it then, so that it outlives the process. It
is read at the next start. So a killed process repeats fewer deliveries.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from ehlo.mta._spool import SpoolError

__all__ = ["Journal"]

_ENTRY: Final = struct.Struct("<qq")
_LONG: Final = 1048576


class Journal:
    """One file of entries: the ids of message and recipient.

    Arguments:
        path: of the file. It is made where it is missing.

    Example::

        journal = Journal(Path("spool/delivered"))
        for message, recipient in journal.entries(): ...
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: set[tuple[int, int]] = set()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as exc:
            raise SpoolError(f"the delivered journal {path} cannot be written: {exc.strerror}") from exc
        self._octets = os.fstat(self._descriptor).st_size

    def entries(self) -> list[tuple[int, int]]:
        """What an earlier process wrote. Half an entry at the end is no entry."""
        octets = self._path.read_bytes()
        whole = len(octets) // _ENTRY.size * _ENTRY.size
        return [(message, recipient) for message, recipient in _ENTRY.iter_unpack(octets[:whole])]

    def clear(self) -> None:
        """Forget what is written: the spool knows it."""
        os.ftruncate(self._descriptor, 0)
        self._octets = 0

    def add(self, message: int, recipient: int) -> None:
        """A next hop took a message for a recipient. A disk that is full costs only this entry."""
        self._open.add((message, recipient))
        with suppress(OSError):
            written = os.write(self._descriptor, _ENTRY.pack(message, recipient))
            if written == _ENTRY.size:
                self._octets += written
            else:  # a part of an entry would shift all that follow
                os.ftruncate(self._descriptor, self._octets)

    def remove(self, message: int, recipient: int) -> None:
        """The spool knows it. A long file is begun anew, with the entries that are still open."""
        self._open.discard((message, recipient))
        if self._octets > _LONG:
            with suppress(OSError):
                self._begin_anew()

    def close(self) -> None:
        """Leave the file as it is."""
        os.close(self._descriptor)

    def _begin_anew(self) -> None:
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        octets = b"".join(_ENTRY.pack(*entry) for entry in self._open)
        try:
            self._octets = os.write(descriptor, octets)
            os.rename(new, self._path)
        except OSError:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor
