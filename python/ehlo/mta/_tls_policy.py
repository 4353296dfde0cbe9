"""How much TLS a destination needs: :class:`TlsPolicy`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from ehlo import unverified_context

__all__ = ["TlsLevel", "TlsPolicy"]

TlsLevel: TypeAlias = Literal["off", "opportunistic", "required", "verified", "implicit"]
"""``"off"``: in clear. ``"opportunistic"``: STARTTLS where it is offered, in clear where it is not or fails.
``"required"``: STARTTLS or no mail; the certificate is not verified. ``"verified"``: the same, and the certificate must
be that of the host. ``"implicit"``: TLS before the greeting, verified (RFC 8314 3.3)."""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How much TLS a destination needs. MTA-STS and DANE are programs that make such policies.

    Attributes:
        level: see :data:`TlsLevel`.
        context: the context of the handshake, in place of the usual one for the level.
        hosts: patterns of the mail servers' names that may be used, like ``"*.example.org"`` (RFC 8461 4.1). Empty:
            all. A host that matches none is not tried.
        source: where the policy comes from, for the log.

    Example::

        TlsPolicy("verified", hosts=("mx.example.org",), source="mta-sts")
    """

    level: TlsLevel = "opportunistic"
    context: ssl.SSLContext | None = None
    hosts: tuple[str, ...] = ()
    source: str = ""

    @property
    def falls_back(self) -> bool:
        """Whether mail may go in clear after a handshake that failed."""
        return self.level == "opportunistic"

    @property
    def is_verified(self) -> bool:
        """Whether the server must prove its name."""
        return self.level in ("verified", "implicit")

    def permits(self, host: str) -> bool:
        """Whether mail may go to a host of this name.

        Example::

            TlsPolicy(hosts=("*.example.org",)).permits("mx.example.org")  # True
        """
        return not self.hosts or any(fnmatchcase(host.lower(), pattern.lower()) for pattern in self.hosts)

    def with_requiretls(self) -> TlsPolicy:
        """The policy for a message with REQUIRETLS: TLS, and a server that proves its name (RFC 8689 4.2.1).

        Example::

            policy.with_requiretls().level  # "verified"
        """
        if self.is_verified:
            return self
        return TlsPolicy("verified", self.context, self.hosts, self.source)

    def options(self) -> dict[str, Any]:
        """The arguments of ``connect`` that the policy means.

        Example::

            await ehlo.asyncio.connect("mx.example.org", 25, **policy.options())
        """
        match self.level:
            case "off" | "opportunistic" | "implicit":
                return {"tls": self.level, "ssl_context": self.context}
            case "required":
                return {"tls": "required", "ssl_context": self.context or unverified_context()}
            case "verified":
                return {"tls": "required", "ssl_context": self.context}
