"""LMTP in this shape: :class:`LMTP`."""

from __future__ import annotations

from typing import ClassVar

from ehlo.compat.aiosmtpd._commands import syntax
from ehlo.compat.aiosmtpd.smtp import SMTP

__all__ = ["LMTP"]


class LMTP(SMTP):
    """A server that speaks LMTP (RFC 2033). Each recipient gets its reply after the content, as RFC 2033 4.2 asks.

    Example::

        class LMTPController(Controller):
            def factory(self): return LMTP(self.handler, **self.SMTP_kwargs)
    """

    show_smtp_greeting: bool = False
    _is_lmtp: ClassVar[bool] = True

    @syntax("LHLO hostname")
    async def smtp_LHLO(self, arg: str) -> None:  # noqa: N802
        """The greeting of LMTP, in place of EHLO (RFC 2033 4.1)."""
        await super().smtp_EHLO(arg)

    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802
        """LMTP does not have it."""
        await self.push('500 Error: command "HELO" not recognized')

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """LMTP does not have it."""
        await self.push('500 Error: command "EHLO" not recognized')
