"""An AUTH whose mechanism the program speaks itself: :meth:`ehlo.Handler.on_sasl` with its ``challenge``."""

from __future__ import annotations

from collections.abc import Callable

from ehlo._errors import LocalProtocolError
from ehlo._server.answers import Call
from ehlo._server.session import SaslCancelledError
from ehlo._types import Wakeup

__all__ = ["OwnMechanism"]


class OwnMechanism:
    """One exchange of the program's own. The handler awaits :meth:`challenge`; the driver wakes it.

    Arguments:
        send: sends a challenge, and lets the session go on.
        make_event: makes an event of the adapter's loop.

    Attributes:
        call: the handler's call, while it runs.
        cancelled: the client ended the exchange, or is gone. What the handler returns is ignored.
    """

    __slots__ = ("_event", "_make_event", "_response", "_send", "call", "cancelled")

    def __init__(self, send: Callable[[bytes], None], make_event: Callable[[], Wakeup]) -> None:
        self._send = send
        self._make_event = make_event
        self._event: Wakeup | None = None
        self._response: bytes | None = None
        self.call: Call | None = None
        self.cancelled = False

    @property
    def waits(self) -> bool:
        """A challenge is out, and its response has not come."""
        return self._event is not None

    async def challenge(self, octets: bytes) -> bytes:
        """Send a challenge and give the response to it, both without base64 (RFC 4954 4).

        Raises:
            SaslCancelledError: the client ended the exchange, sent what is not base64, or left.
            LocalProtocolError: the exchange is over, or another challenge waits for its response.
        """
        if self.cancelled:
            raise SaslCancelledError("the client has ended the exchange")
        if self.call is None or self._event is not None:
            raise LocalProtocolError("challenge() is awaited inside on_sasl, one at a time")
        self._event = event = self._make_event()
        self._send(octets)
        try:
            await event.wait()
        finally:
            self._event = None
        response, self._response = self._response, None
        if response is None:
            raise SaslCancelledError("the client has ended the exchange")
        return response

    def respond(self, response: bytes | None) -> None:
        """The response came; ``None``: it will not come."""
        self._response = response
        self.cancelled |= response is None
        if self._event is not None:
            self._event.set()
