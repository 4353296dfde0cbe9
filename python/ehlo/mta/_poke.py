"""How an administrator's process tells the one that delivers that the spool in a folder was changed: a named pipe."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["Listener", "poke"]


def poke(pipe: Path) -> None:
    """Wake the process that delivers, if there is one. Blocks for no time.

    Example::

        poke(folder / "changed")
    """
    with suppress(OSError):  # no pipe, nobody who reads it, or more than enough in it
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, b"x")
        finally:
            os.close(descriptor)


class Listener:
    """Waits in a thread for :func:`poke`.

    Arguments:
        pipe: it is made where it is missing.
        news: called in the thread.

    Example::

        listener = Listener(folder / "changed", news)
    """

    def __init__(self, pipe: Path, news: Callable[[], object]) -> None:
        with suppress(FileExistsError):
            os.mkfifo(pipe, 0o600)
        # Open for writing, too: so it never ends, and opening it does not block.
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._news = news
        self._end, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, name="ehlo-spool-news", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._end, self._pipe], [], [])
            if self._end in ready:
                return
            os.read(self._pipe, 4096)
            try:
                self._news()
            except RuntimeError:  # the loop is over
                return

    def close(self) -> None:
        """End the thread. Blocks for a moment."""
        os.write(self._stop, b"x")
        self._thread.join()
        for descriptor in (self._pipe, self._end, self._stop):
            os.close(descriptor)
