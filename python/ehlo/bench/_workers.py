"""Worker processes that count: started together, told when to begin and to end, their counts added up."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["Workers", "alone_heeds_interrupts", "report_to"]


class Counts(Protocol):
    """What can be added up: a tally, the counts of a sink."""

    def add(self, other: Self) -> None: ...


CountsT = TypeVar("CountsT", bound=Counts)


class Workers(Generic[CountsT]):
    """Processes that do a share each. Each says "ready", then sends its counts, the last ones marked.

    Arguments:
        empty: makes counts to add to.
        target: what a process does with its share and the pipe to this one.
        shares: the arguments of each.
    """

    def __init__(
        self, empty: Callable[[], CountsT], target: Callable[..., None], shares: Iterable[tuple[Any, ...]]
    ) -> None:
        self._empty = empty
        self._running: list[tuple[SpawnProcess, Connection]] = []
        context = multiprocessing.get_context("spawn")
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(*share, theirs), daemon=True)
            process.start()
            theirs.close()
            self._running.append((process, ours))

    def wait_until_ready(self) -> None:
        """Wait until all are up.

        Raises:
            RuntimeError: one is not.
        """
        for _, pipe in self._running:
            try:
                pipe.recv()
            except (EOFError, OSError):
                raise RuntimeError("a worker process did not start") from None

    def tell(self, word: str) -> None:
        """Say "go" or "stop" to those that still listen."""
        for _, pipe in self._running:
            with contextlib.suppress(OSError):
                pipe.send(word)

    def gather(self, on_tick: Callable[[CountsT], None] | None) -> CountsT:
        """Wait for the end of all; what they counted. ``on_tick`` hears of it a few times a second.

        Raises:
            RuntimeError: one died.
        """
        latest: dict[Connection, CountsT] = {}
        waiting = [pipe for _, pipe in self._running]
        shown = monotonic()
        while waiting:
            for ready in wait(waiting):
                pipe = next(one for one in waiting if one is ready)
                try:
                    last, latest[pipe] = pipe.recv()
                except (EOFError, OSError):
                    raise RuntimeError("a worker process died") from None
                if last:
                    waiting.remove(pipe)
            if on_tick is not None and monotonic() - shown > 0.25:
                shown = monotonic()
                on_tick(self._sum(latest.values()))
        return self._sum(latest.values())

    def close(self) -> None:
        """Let them end, and end those that do not."""
        for process, pipe in self._running:
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.terminate()

    def _sum(self, all_counts: Iterable[CountsT]) -> CountsT:
        total = self._empty()
        for counts in all_counts:
            total.add(counts)
        return total


def alone_heeds_interrupts() -> None:
    """In a worker: a terminal's Ctrl-C reaches all processes, and the parent alone heeds it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def report_to(pipe: Connection, counts: Counts, stop: Callable[[], None]) -> None:
    """In a worker, a few times a second: tell what was counted so far, and heed a "stop".

    Raises:
        BrokenPipeError: nobody listens any more.
    """
    pipe.send((False, counts))
    if pipe.poll():
        with contextlib.suppress(EOFError):
            pipe.recv()
        stop()
