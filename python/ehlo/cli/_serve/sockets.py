"""Listening sockets, bound while the process still may: before it changes its user, and before it has workers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from ehlo._server.binding import bind_all, bind_path, inode_of
from ehlo.cli._receive import UsageError, cannot_listen
from ehlo.cli._serve.privileges import Account

__all__ = ["Place", "Sockets", "error_of", "open_sockets"]

# Connections that the system queues before they are accepted.
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener listens.

    Attributes:
        name: how systemd may call its sockets.
        where: how the settings call it, for an error: ``--smtp ADDRESS`` or ``[[listener]] NUMBER``.
        host, port: its address, or
        path: that of a Unix socket, with the mode of its file; ``None``: as the umask has it.

    Example::

        Place("smtp", "listener 1", "127.0.0.1", 25)
    """

    name: str
    where: str
    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None
    mode: int | None = None


@dataclass(slots=True)
class Sockets:
    """Listening sockets: a list for each listener.

    Example::

        opened = open_sockets(places)
        server = await ehlo.asyncio.serve(handler, sockets=opened.groups[0])
    """

    groups: list[list[socket.socket]]
    files: dict[str, tuple[int, int] | None] = field(default_factory=dict)

    def close(self) -> None:
        """Close them, and remove the files of Unix sockets that are still ours.

        Example::

            opened.close()
        """
        for group in self.groups:
            for sock in group:
                sock.close()
        for path, inode in self.files.items():
            if inode is not None and inode_of(path) == inode:  # else it is another server's
                with contextlib.suppress(OSError):  # the folder is root's: the next start removes the file
                    os.unlink(path)


def open_sockets(
    places: Sequence[Place], given: Sequence[tuple[str, socket.socket]] = (), account: Account | None = None
) -> Sockets:
    """Make the sockets of all listeners, and let them listen. Clients wait in the system's queue until they are served.

    Arguments:
        places: the listeners.
        given: sockets that systemd opened, with their names. Those with the name of a listener are used by it.
        account: who the files of Unix sockets will belong to.

    Raises:
        UsageError: an address cannot be had, or a socket has no listener.

    Example::

        opened = open_sockets([Place("smtp", "listener 1", "0.0.0.0", 25)])
    """
    opened = Sockets([])
    names = {place.name for place in places}
    for name, sock in given:
        if name not in names:
            raise UsageError(
                f"systemd gave a socket with the name {name!r}, but no listener has this name; write "
                f'FileDescriptorName={"|".join(sorted(names))} in the .socket file, or name = "{name}" in [[listener]]'
            )
        if sock.type != socket.SOCK_STREAM:
            raise UsageError(f"systemd gave a socket with the name {name!r} that takes no streams; use ListenStream=")
    left = list(given)
    try:
        for place in places:
            ours = [sock for name, sock in left if name == place.name]
            left = [one for one in left if one[0] != place.name]
            opened.groups.append(ours or _open(place, opened, account))
    except BaseException:
        opened.close()
        raise
    return opened


def _open(place: Place, opened: Sockets, account: Account | None) -> list[socket.socket]:
    socks: list[socket.socket] = []
    try:
        if place.path is not None:
            socks.append(bind_path(place.path))
            opened.files[place.path] = inode_of(place.path)
            if place.mode is not None:
                os.chmod(place.path, place.mode)
            if account is not None and os.geteuid() == 0:
                os.chown(place.path, account.uid, account.gid)
        else:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            infos = dict.fromkeys((family, proto, address) for family, _, proto, _, address in found)
            socks += bind_all(infos, reuse_port=False)
        for sock in socks:
            sock.listen(_BACKLOG)
    except OSError as exc:
        for sock in socks:
            sock.close()
        raise error_of(place, exc) from None
    return socks


def error_of(place: Place, exc: OSError) -> UsageError:
    """Why a listener cannot listen, and how to mend it.

    Example::

        raise error_of(place, exc)
    """
    port = place.where.partition(" ")[0] if place.where.startswith("--") else f"the port of {place.where}"
    return cannot_listen(exc, place.host, place.port, place.path, (place.where, port, place.where))
