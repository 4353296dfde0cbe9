"""The limits of an adapter: connections, seconds, rates. The limits of the engine are in :class:`ehlo.ServerConfig`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Final

from ehlo._errors import LocalProtocolError

__all__ = ["Connections", "Limits", "Statistics", "network_of"]

_ABOVE_ZERO: Final = ("content_seconds", "handler_seconds", "session_seconds", "submission_handler_seconds")
# A client that waits much longer takes the server for dead.
_MAX_AUTH_DELAY: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a listening adapter. ``None`` means no limit. The client gets a reply before a limit acts, and each
    case is counted.

    The limits of time are checked for each connection at least every 30 s. So such a limit may act up to 30 s late, but
    never early.

    Arguments:
        max_connections: open sessions in all; one more is greeted with ``421 4.3.2`` (RFC 5321 3.1, 3.8).
        max_connections_per_network: open sessions of one client network; one more gets ``421 4.7.0``. A client that its
            proxy cannot name (``PROXY UNKNOWN``) counts at the address of the proxy.
        ipv4_prefix: bits of an IPv4 address that make a network, 0 to 32.
        ipv6_prefix: bits of an IPv6 address that make a network, 0 to 128.
        limit_loopback: count 127.0.0.0/8 and ::1 as networks too. Unix sockets never count.
        session_seconds: a session that is older gets ``421 4.7.0`` at the end of its transaction.
        handler_seconds: the longest time of one call of a handler; then the call is cancelled and answered ``451
            4.3.0``. Clients wait 10 minutes at the end of DATA and 5 elsewhere (RFC 5321 4.5.3.2).
        submission_handler_seconds: the same in submission, where a reply must come within 2 minutes (RFC 6409 5.3). The
            smaller of the two counts.
        content_seconds: the longest time of one DATA, or of one BDAT chunk; then ``421 4.4.2``.
        content_rate: the lowest rate of one DATA in octets a second; below it ``421 4.4.2``.
        content_grace_seconds: seconds before ``content_rate`` is judged.
        auth_delay_seconds: seconds before the reply to the first failed AUTH of a session (RFC 4954 9). Each further
            failure adds as much, up to 30 s. 0: no delay.
        linger_seconds: seconds that the adapter reads on after a 421, and discards, so that the reply is not lost.

    Raises:
        LocalProtocolError: a value is out of its range.

    Example::

        limits = Limits(max_connections=200, content_rate=2000)
        server = await ehlo.asyncio.serve(handler, limits=limits)
    """

    max_connections: int | None = 10_000
    max_connections_per_network: int | None = 100
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    limit_loopback: bool = False
    session_seconds: float | None = 14_400.0
    handler_seconds: float | None = 240.0
    submission_handler_seconds: float | None = 110.0
    content_seconds: float | None = 3_600.0
    content_rate: float | None = 500.0
    content_grace_seconds: float = 60.0
    auth_delay_seconds: float = 1.0
    linger_seconds: float = 2.0

    def __post_init__(self) -> None:
        for bits, most in (("ipv4_prefix", 32), ("ipv6_prefix", 128)):
            if not 0 <= getattr(self, bits) <= most:
                raise LocalProtocolError(f"Limits: {bits} must be 0 to {most}, not {getattr(self, bits)}")
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("prefix") or isinstance(value, bool) or value is None:
                continue
            if value < 0 or (value == 0 and one.name in _ABOVE_ZERO):
                raise LocalProtocolError(f"Limits: {one.name} must be above 0 (None for no limit), not {value}")

    def auth_delay(self, failures: int) -> float:
        """Seconds that a client waits after ``failures`` AUTH commands that failed, the present one included.

        Example::

            >>> Limits(auth_delay_seconds=2).auth_delay(3)
            6
        """
        return min(self.auth_delay_seconds * failures, _MAX_AUTH_DELAY)

    def network_of(self, host: str) -> str | None:
        """The network that counts for a client at ``host`` (an IP address as text), or ``None`` when none does.

        IPv4 addresses mapped into IPv6 (``::ffff:192.0.2.1``) count as IPv4. Never raises. RFC 5321 7.8.

        Example::

            >>> Limits(ipv4_prefix=24).network_of("192.0.2.7")
            '192.0.2.0/24'
        """
        if self.max_connections_per_network is None:
            return None
        return _counted_network(host, self.ipv4_prefix, self.ipv6_prefix, self.limit_loopback)


@lru_cache(maxsize=1024)  # a client comes again, and to read its address costs as much as to accept its connection
def _counted_network(host: str, ipv4_prefix: int, ipv6_prefix: int, limit_loopback: bool) -> str | None:
    address = _address(host)
    if address is None or (address.is_loopback and not limit_loopback):
        return None
    return _network(address, ipv4_prefix, ipv6_prefix)


def network_of(host: str, *, ipv4_prefix: int = 32, ipv6_prefix: int = 64) -> str | None:
    """The network of a client, as text; ``None`` for what is no IP address. An IPv4 address mapped into IPv6 counts as
    IPv4. Never raises.

    Arguments:
        host: the address as text.
        ipv4_prefix: bits of an IPv4 address that make a network.
        ipv6_prefix: the same for IPv6.

    Example::

        >>> network_of("2001:db8::1")
        '2001:db8::/64'
    """
    address = _address(host)
    return None if address is None else _network(address, ipv4_prefix, ipv6_prefix)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, ipv4_prefix: int, ipv6_prefix: int) -> str:
    bits = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(ipaddress.ip_network((address, bits), strict=False))


@dataclass(slots=True)
class Connections:
    """The connections that are open now, counted over several servers of one event loop. ``serve(connections=…)`` takes
    it, and then ``max_connections`` and ``max_connections_per_network`` are for all these servers together.

    Attributes:
        total: open sessions of all servers.
        networks: the same for each client network that is counted.

    Example::

        shared = ehlo.Connections()
        servers = [await ehlo.asyncio.serve(handler, port=port, connections=shared) for port in (2525, 2587)]
    """

    total: int = 0
    networks: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Statistics:
    """What a server has done since it started; open sessions are included. Plain counters.

    Attributes:
        connections: sessions that were greeted.
        refused: connections refused because of ``max_connections``.
        refused_network: connections refused because of ``max_connections_per_network``.
        refused_proxy: connections that were closed without a word because ``trusted`` does not have their address.
        messages: messages answered with a 2yz reply.
        octets: octets received from clients.
        commands: commands received.
        refused_greetings: replies 4yz and 5yz in place of the greeting.
        refused_auth: replies 4yz and 5yz to AUTH.
        refused_mail: replies 4yz and 5yz to MAIL.
        refused_rcpt: replies 4yz and 5yz to RCPT.
        refused_content: replies 4yz and 5yz to DATA, BDAT and what came with them.
        refused_commands: replies 4yz and 5yz to other commands.
        errors: replies 4yz and 5yz that the engine counts as the client's errors.
        handler_failures: handler calls that raised, and so were answered ``451 4.3.0``.
        handler_timeouts: handler calls cancelled because of ``handler_seconds`` (also among the failures).
        idle_timeouts: sessions ended because nothing came (RFC 5321 4.5.3.2.7).
        session_timeouts: sessions ended because of ``session_seconds``.
        content_timeouts: sessions ended because of ``content_seconds`` or ``content_rate``.
        accept_failures: times when no connection could be accepted, for lack of file descriptors or memory; then the
            server accepts none for a second.
        cut: sessions aborted by the deadline of ``close``.

    Example::

        stats = server.statistics
        print(stats.messages, stats.octets)
    """

    connections: int = 0
    refused: int = 0
    refused_network: int = 0
    refused_proxy: int = 0
    refused_greetings: int = 0
    refused_auth: int = 0
    refused_mail: int = 0
    refused_rcpt: int = 0
    refused_content: int = 0
    refused_commands: int = 0
    messages: int = 0
    octets: int = 0
    commands: int = 0
    errors: int = 0
    handler_failures: int = 0
    handler_timeouts: int = 0
    idle_timeouts: int = 0
    session_timeouts: int = 0
    content_timeouts: int = 0
    accept_failures: int = 0
    cut: int = 0

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))
