"""What ``ehlo serve --check`` asks others: the names of this server in DNS, and the next hops."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ehlo
import ehlo.asyncio
from ehlo.cli._receive import where as where_text
from ehlo.cli._serve.findings import Finding

__all__ = ["check_hops", "check_name"]

# Seconds for one question to DNS, and for one whole dialogue with a next hop.
_DNS_SECONDS: Final = 5.0
_HOP_SECONDS: Final = 20.0


def check_name(hostname: str, resolver: Any = None) -> list[Finding]:
    """Whether the name of this server is in DNS, and the name of its address is its name.

    Other servers look at that: many refuse mail from a name that is not in DNS.

    Arguments:
        hostname: of this server.
        resolver: a :class:`dns.asyncresolver.Resolver`; ``None``: the system's.

    Example::

        check_name("mx.example.org")
    """
    if "." not in hostname:
        text = f"{hostname} is no name that other servers can look up; set hostname to the full name of this machine"
        return [Finding("warning", "hostname", text)]
    if importlib.util.find_spec("dns") is None:
        return [Finding("warning", "hostname", "DNS was not asked: pip install 'ehlo[mta]'")]
    return asyncio.run(_look_up(hostname, resolver))


async def _look_up(hostname: str, resolver: Any) -> list[Finding]:
    import dns.asyncresolver
    import dns.exception
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver() if resolver is None else resolver
    except dns.resolver.NoResolverConfiguration:
        return [Finding("warning", "hostname", "this system has no resolver; see resolv.conf(5)")]
    addresses: list[str] = []
    for kind in ("A", "AAAA"):
        try:
            answer = await resolver.resolve(hostname, kind, lifetime=_DNS_SECONDS, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            continue
        except dns.exception.DNSException as exc:
            return [Finding("warning", "hostname", f"DNS does not answer about {hostname}: {exc}; see resolv.conf(5)")]
        addresses += [record.to_text() for record in answer]
    if not addresses:
        text = f"{hostname} has no A or AAAA record in DNS; add one, or set hostname to a name that has one"
        return [Finding("warning", "hostname", text)]
    findings = [Finding("OK", "hostname", f"{hostname} is {', '.join(addresses)} in DNS")]
    for address in addresses:
        if not ipaddress.ip_address(address).is_loopback:
            findings.append(await _reverse(hostname, address, resolver))
    return findings


async def _reverse(hostname: str, address: str, resolver: Any) -> Finding:
    """The name of an address (forward-confirmed reverse DNS): receivers of our mail look at it."""
    import dns.exception
    import dns.reversename

    try:
        answer = await resolver.resolve(dns.reversename.from_address(address), "PTR", lifetime=_DNS_SECONDS)
        names = [record.to_text().rstrip(".").lower() for record in answer]
    except dns.exception.DNSException:
        names = []
    if hostname.lower() in names:
        return Finding("OK", "hostname", f"{address} is {hostname} in reverse DNS")
    text = f"{address} is {', '.join(names) or 'no name'} in reverse DNS, not {hostname}; ask the owner of the address"
    return Finding("warning", "hostname", f"{text} to set it: some servers refuse mail otherwise")


def check_hops(hops: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Finding]:
    """Talk to each next hop: connect, EHLO, TLS, AUTH, QUIT. No mail is sent.

    Arguments:
        hops: how the settings call each, and the arguments of :func:`ehlo.asyncio.connect`.

    Example::

        check_hops([("route 1", {"host": "127.0.0.1", "port": 25})])
    """

    async def all_of_them() -> list[Finding]:
        return list(await asyncio.gather(*(_talk(about, options) for about, options in hops)))

    return asyncio.run(all_of_them())


async def _talk(about: str, options: Mapping[str, Any]) -> Finding:
    where = options.get("path") or where_text((options["host"], options["port"]))
    try:
        async with asyncio.timeout(_HOP_SECONDS):
            client = await ehlo.asyncio.connect(**options)
            tls = client.is_tls
            with contextlib.suppress(ehlo.SMTPException, OSError):
                await client.quit()
    except TimeoutError:
        return Finding(
            "error", about, f"{where} does not answer within {_HOP_SECONDS:.0f} seconds; see if a server runs there"
        )
    except socket.gaierror as exc:
        return Finding("error", about, f"{where}: {exc.strerror}; correct the name")
    except (ehlo.EhloError, OSError) as exc:
        return Finding("error", about, f"{where}: {exc}; see that it runs and takes mail from here")
    return Finding("OK", about, f"{where} answers{', with TLS' if tls else ''}")
