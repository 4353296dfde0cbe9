"""Who may say who the client is: the networks of trusted proxies and filters (PROXY, XCLIENT, XFORWARD). No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from ehlo._errors import LocalProtocolError

__all__ = ["Networks"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
# ::ffff:0:0/96: IPv4 as a socket of IPv6 shows it (RFC 4291 2.5.5.2).
_MAPPED_BITS: Final = 96


class Networks:
    """A set of networks, asked by address.

    Arguments:
        networks: addresses and networks as text, like ``"192.0.2.1"``, ``"10.0.0.0/8"`` or ``"2001:db8::/32"``.

    Raises:
        LocalProtocolError: one is neither, or has bits behind its prefix: ``10.0.0.1/8`` means one host or a network.

    Example::

        >>> "10.1.2.3" in Networks(["10.0.0.0/8"])
        True
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        if isinstance(networks, str):
            raise LocalProtocolError(f"trusted is a list of networks: write [{networks!r}]")
        self._networks: tuple[_Network, ...] = tuple(_network(one) for one in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: object) -> bool:
        """Whether the address, as text, is in one of them. What is no address is in none."""
        try:
            address: Any = ipaddress.ip_address(str(host).partition("%")[0])
        except ValueError:
            return False
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _network(text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        raise LocalProtocolError(f"trusted: {text!r} is no network, like 10.0.0.0/8 or 2001:db8::/32: {exc}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
