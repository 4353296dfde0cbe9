"""Large contents as files beside the database, each durable before its message is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ehlo.mta._events import log

__all__ = ["BodyFiles", "FileStage", "hide"]

_CHUNK: Final = 262144


def hide(path: Path) -> None:
    """Take the permissions of all other users away. The group keeps its own.

    A file of another user stays as it is, with a warning: mail goes on.

    Example::

        hide(Path("spool/queue.db"))
    """
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o007:
        try:
            os.chmod(path, mode & ~0o007)
        except PermissionError:
            log.warning("others may read %s, which belongs to another user: run chmod o= %s", path, path)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class BodyFiles:
    """A folder of contents.

    Arguments:
        folder: it is made by :meth:`open`.

    Attributes:
        mode: permissions of a content: the group of the folder reads and writes as it does there.

    Example::

        files = BodyFiles(Path("spool/bodies"))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mode = 0o600

    def open(self) -> None:
        """Make the folder, and that around it. Mail is for its owner only, whatever the umask."""
        self.folder.parent.mkdir(0o700, parents=True, exist_ok=True)
        self.folder.mkdir(0o700, exist_ok=True)
        hide(self.folder)  # earlier versions let everybody read
        self.mode = 0o600 | (os.stat(self.folder).st_mode & 0o060)

    def path(self, name: int) -> Path:
        """Where a content is."""
        return self.folder / f"{name:016x}"

    def names(self) -> Iterator[int]:
        """Names of all contents, whole or not, in no order."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                yield int(entry.name.partition(".")[0], 16)

    def remove(self, names: Sequence[int], *, with_unfinished: bool = False) -> None:
        """Remove contents, whether or not they are there.

        Arguments:
            with_unfinished: also what a process that was killed had begun to write.
        """
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))
            if with_unfinished:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.unfinished(name))

    def unfinished(self, name: int) -> Path:
        """Where a content is until it is whole."""
        return self.path(name).with_suffix(".tmp")

    async def chunks(self, name: int) -> AsyncIterator[bytes]:
        """A content, piece by piece."""
        async with await anyio.open_file(self.path(name), "rb") as file:
            while chunk := await file.read(_CHUNK):
                yield chunk

    def sync(self) -> None:
        """Make names durable. Blocks."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FileStage:
    """A content on its way: in memory up to a border, then in a file.

    Arguments:
        files: where the file will be.
        name: of the content.
        border: octets that stay in memory.
    """

    def __init__(self, files: BodyFiles, name: int, border: int) -> None:
        self._files = files
        self.name = name
        self._border = border
        self._pieces: list[bytes] = []
        self._octets = 0
        self._file: Any = None
        self._temporary = files.unfinished(name)

    @property
    def content(self) -> bytes | None:
        """The octets, if there is no file."""
        return None if self._file is not None else b"".join(self._pieces)

    async def write(self, octets: bytes) -> None:
        """See :meth:`ehlo.mta._model.Stage.write`."""
        self._pieces.append(octets)
        self._octets += len(octets)
        if self._octets > self._border:
            await anyio.to_thread.run_sync(self._flush)

    def _flush(self) -> None:
        if self._file is None:
            self._file = open(self._temporary, "xb", opener=_open_private)  # noqa: SIM115
            if self._files.mode != 0o600:
                os.fchmod(self._file.fileno(), self._files.mode)  # whatever the umask
        pieces, self._pieces, self._octets = self._pieces, [], 0
        self._file.writelines(pieces)

    async def keep(self) -> None:
        """Make the file durable under its name."""
        await anyio.to_thread.run_sync(self._keep)

    def _keep(self) -> None:
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._temporary, self._files.path(self.name))
        self._files.sync()

    async def discard(self) -> None:
        """See :meth:`ehlo.mta._model.Stage.discard`."""
        self._pieces = []
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take
                self._file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
