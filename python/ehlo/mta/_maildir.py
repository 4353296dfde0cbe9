"""Final delivery into a Maildir, durable when it returns: the file and its folder are synced before the message counts
as delivered (RFC 5321 6.1).
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterable
from typing import Final

__all__ = ["deliver"]

_counter: Final = itertools.count()


def deliver(folder: str, pieces: Iterable[bytes]) -> str:
    """Write one message; line ends become LF. Blocks: call it in a thread. Gives the file's path.

    Arguments:
        folder: the Maildir; made if it is not there.
        pieces: the octets with CRLF line ends, Return-Path on top.

    Raises:
        OSError: it cannot be written. Nothing is left behind then.

    Example::

        deliver("/var/mail/joe", [b"Return-Path: <>\\r\\n", content])
    """
    for part in ("tmp", "new", "cur"):
        os.makedirs(os.path.join(folder, part), mode=0o700, exist_ok=True)
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
    name = f"{time.time_ns() // 1000}.P{os.getpid()}Q{next(_counter)}.{host}"
    waiting, there = os.path.join(folder, "tmp", name), os.path.join(folder, "new", name)
    descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            rest = b""
            for piece in pieces:
                octets = rest + piece
                rest = octets[-1:] if octets.endswith(b"\r") else b""
                file.write((octets[:-1] if rest else octets).replace(b"\r\n", b"\n"))
            file.write(rest)
            file.flush()
            os.fsync(file.fileno())
        os.rename(waiting, there)
    except BaseException:
        os.unlink(waiting)
        raise
    directory = os.open(os.path.join(folder, "new"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return there
