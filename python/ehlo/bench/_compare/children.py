"""Programs that a comparison starts, and their folders: on processors of their own, as another user, and gone when we
are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["as_nobody", "bound", "own_folder"]

_NOBODY: Final = 65534
_KILL: Final = int(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
# It removes a folder when its own input ends: we close that, or are gone. Programs that end with us may still write
# there for a moment.
_CLEANER: Final = 'read -r line; n=0; until rm -rf -- "$0" || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done'


def bound(cpus: set[int] | None = None, last: int = _KILL) -> Any:
    """For ``preexec_fn`` of ``Popen``: keep the child on these processors, and bind its life to ours.

    When the thread that started the child is gone, even by SIGKILL, Linux sends the child a signal. The child must end
    its own children then. Other systems send nothing.

    Arguments:
        cpus: the processors; ``None``: all.
        last: the number of the signal: SIGKILL, or another one for a program that has children to end.

    Example::

        subprocess.run(command, preexec_fn=bound({0}))
    """
    parent = os.getpid()
    # Between fork and exec nothing may wait for a lock: so the C library is loaded before.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cpus)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, last, 0, 0, 0)
            if os.getppid() != parent:  # the parent ended before this call, and no signal will come
                os._exit(1)

    return prepare if hasattr(os, "fork") else None


def as_nobody() -> dict[str, Any]:
    """Arguments of ``Popen`` for a program that root must not run: it runs as the user nobody, if we are root.

    A program that becomes another user by itself loses the signal of :func:`bound`: Linux takes it away then.

    Example::

        subprocess.Popen(command, **as_nobody())
    """
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": [_NOBODY]}


@contextlib.contextmanager
def own_folder(prefix: str = "ehlo-bench-", where: str | None = None) -> Iterator[str]:
    """The path of a new folder. It is removed at the end, and also if this process is killed (not on Windows).

    Arguments:
        prefix: the name of the folder begins with it.
        where: the folder to make it in; by default that of the system.

    Example::

        with own_folder() as folder: subprocess.run(command, cwd=folder)
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=where))
        if hasattr(os, "fork"):
            command = ["/bin/sh", "-c", _CLEANER, os.path.abspath(folder)]
            cleaner = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
            )
            stack.enter_context(cleaner)
        yield folder
