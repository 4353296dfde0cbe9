"""The interface between the driver of a session and the adapter that moves its octets."""

from __future__ import annotations

from typing import Final, Protocol

from ehlo._errors import LocalProtocolError
from ehlo._types import Wakeup

__all__ = ["GONE", "Adapter", "Gone"]


class Adapter(Protocol):
    """What the driver asks of the adapter above it."""

    def peer(self) -> tuple[str, int] | None: ...

    def local(self) -> tuple[str, int] | str | None: ...

    def make_event(self) -> Wakeup: ...

    def wake(self) -> None:
        """The driver can go on though nothing was received: step soon, or now."""


class Gone:
    """It stands in the place of the adapter when the session is over, so that no reference cycle is left."""

    def peer(self) -> tuple[str, int] | None:
        return None

    def local(self) -> tuple[str, int] | str | None:
        return None

    def make_event(self) -> Wakeup:
        raise LocalProtocolError("this session is over")

    def wake(self) -> None:
        pass


GONE: Final = Gone()
