"""The transport of a client: :class:`ClientTransport`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehlo._io.transport import SocketTransport

if TYPE_CHECKING:
    from ehlo._io.client_connection import ClientStream

__all__ = ["ClientTransport"]


class ClientTransport(SocketTransport):
    """A transport whose engine receives and sends by itself. Most often the watch does that, for many sockets in one
    call (:class:`ehlo.Exchange`). Then the client is told only that its engine has something to tell. Otherwise it is
    one call for this socket.
    """

    __slots__ = ()

    _protocol: ClientStream | None

    def _on_readable(self) -> None:
        protocol = self._protocol
        if protocol is None or not protocol.direct:
            super()._on_readable()
            return
        try:
            what = protocol.conn.exchange(self._sock.fileno())
        except (BlockingIOError, InterruptedError):
            return
        except EOFError:
            self._tell(self._end_of_input, protocol)
        except OSError as exc:
            self._break(exc)
        else:
            self._tell(protocol.received, what)
