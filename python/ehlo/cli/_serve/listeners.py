"""From [[listener]] to the configuration of the engine: what makes an MX, a submission server, a delivery agent."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

import ehlo
from ehlo.cli._serve.offers import Offers
from ehlo.cli._serve.settings import ENGINE_LIMITS, Listener, adapter_limits, engine_limits, smtp_options
from ehlo.cli._serve.site import Site

__all__ = ["Served", "new_config", "served"]

_XCLIENT: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
_XFORWARD: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


@dataclass(frozen=True, slots=True)
class Served:
    """One listener, ready for ``serve``.

    Attributes:
        listener: its table.
        config: for the engine.
        limits: for the adapter.
    """

    listener: Listener
    config: ehlo.ServerConfig
    limits: ehlo.Limits

    def options(self, site: Site, sockets: list[socket.socket]) -> dict[str, Any]:
        """What ``serve`` is called with."""
        return {
            "sockets": sockets,
            "config": self.config,
            "limits": self.limits,
            "tls": site.tls if self.config.tls != "off" else None,
            "trusted": self.listener.trusted,
        }

    @property
    def words(self) -> str:
        """What it is, for people."""
        protocol = self.listener.protocol
        words = [protocol if protocol.startswith("subm") else protocol.upper()]
        words += {"starttls": ["STARTTLS"], "implicit": ["TLS"], "off": []}[self.config.tls]
        words += ["PROXY"] if self.config.proxy else []
        return ", ".join(words)


def served(site: Site, offers: Offers) -> list[Served]:
    """All listeners.

    Arguments:
        offers: what the way out can do.

    Raises:
        UsageError: one makes no sense.
    """
    return [_served(listener, site, offers) for listener in site.settings.listener]


def new_config(present: ehlo.ServerConfig, fresh: ehlo.ServerConfig) -> ehlo.ServerConfig:
    """The config of a server with the limits of a config that was read later."""
    return present.replace(**{name: getattr(fresh, name) for name in ENGINE_LIMITS.values()})


def _served(listener: Listener, site: Site, offers: Offers) -> Served:
    settings = site.settings
    role = _role(listener, site)
    own = smtp_options(listener.smtp or {}, f"{listener.where}: smtp", settings.source)
    options: dict[str, Any] = offers.options(role["tls"] != "off") | role | engine_limits(settings)
    options |= settings.smtp | own
    if listener.require_tls is not None:
        options["require_tls"] = listener.require_tls
    if options.get("require_tls") and role["tls"] == "off":
        raise settings.error(f"{listener.where}: require_tls", "needs a certificate; give --cert, or [tls] in a file")
    options["proxy"] = listener.proxy
    options["xclient"] = _XCLIENT if listener.xclient else ()
    options["xforward"] = _XFORWARD if listener.xforward else ()
    try:
        config = ehlo.ServerConfig(settings.hostname, **options)
    except (ehlo.EhloError, ValueError, TypeError) as exc:
        raise settings.error(f"{listener.where}:", str(exc)) from None
    return Served(listener, config, adapter_limits(settings))


def _role(listener: Listener, site: Site) -> dict[str, Any]:
    """What makes a listener an MX, a submission server or a delivery agent (RFC 5321, 6409 and 8314, 2033)."""
    settings, protocol, where = site.settings, listener.protocol, listener.where
    has_tls = site.tls is not None
    if protocol in ("smtp", "lmtp"):
        is_local = listener.path is not None
        return {"lmtp": protocol == "lmtp", "tls": "starttls" if has_tls and not is_local else "off"}
    if site.users is None:
        raise settings.error(f"{where}:", f"{protocol} needs users; give --users FILE, or auth.users in a file")
    if not has_tls and (protocol == "submissions" or not settings.auth.in_clear):
        raise settings.error(
            f"{where}:", f"{protocol} needs a certificate; give --cert FILE, or tls.certificate in a file"
        )
    mechanisms = site.mechanisms
    if not has_tls:
        mechanisms = tuple(name for name in mechanisms if not name.endswith("-PLUS"))
    options: dict[str, Any] = {"submission": True, "auth": mechanisms, "max_messages": None}
    options["tls"] = "implicit" if protocol == "submissions" else "starttls" if has_tls else "off"
    if settings.auth.in_clear:
        options["auth_in_clear"] = tuple(name for name in mechanisms if not name.endswith("-PLUS"))
    elif protocol == "submission":
        options["require_tls"] = True  # 530 for what comes in clear says more than a list without AUTH
    return options
