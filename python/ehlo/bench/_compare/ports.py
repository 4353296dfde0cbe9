"""Ports for programs that cannot tell which ones they got."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator

__all__ = ["kept_ports"]


@contextlib.contextmanager
def kept_ports(count: int) -> Iterator[list[int]]:
    """Ports of 127.0.0.1 where nobody listens. On Linux nobody else gets them until the block ends.

    There our sockets stay bound to them, and do not listen. So the system gives the ports to nobody who asks for any
    port. A program that asks for one of them gets it if it sets SO_REUSEADDR, as servers do.

    Args:
        count: how many.

    Raises:
        OSError: the system has no port left.

    Example::

        with kept_ports(1) as [port]:
            subprocess.run(["smtp-sink", f"127.0.0.1:{port}", "100"])
    """
    with contextlib.ExitStack() as stack:
        keepers = [stack.enter_context(socket.socket()) for _ in range(count)]
        for keeper in keepers:
            if sys.platform == "linux":
                keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(("127.0.0.1", 0))
        ports = [int(keeper.getsockname()[1]) for keeper in keepers]
        if sys.platform != "linux":  # elsewhere nobody could listen beside them
            stack.close()
        yield ports
