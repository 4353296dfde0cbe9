"""What ``ehlo serve --check`` looks at for filters and signatures: sockets, keys, and the records of keys in DNS."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import ehlo
from ehlo.cli._serve.check_machine import check_secret
from ehlo.cli._serve.findings import Finding
from ehlo.cli._serve.privileges import Account
from ehlo.cli._serve.settings import Dkim, Filter
from ehlo.cli._serve.signing import read_signer

if TYPE_CHECKING:
    from ehlo.dkim import Key
    from ehlo.milter.filters import Milter

__all__ = ["check_filters", "check_keys"]

_DNS_SECONDS: Final = 5.0
_GOOD_BITS: Final = 2048  # RFC 8301 3.2


def check_filters(milters: Sequence[tuple[Filter, Milter]]) -> list[Finding]:
    """Connect to each filter and negotiate, as for a session.

    Arguments:
        milters: the filters, each with its table.

    Example::

        check_filters(read_milters(settings))
    """

    async def all_of_them() -> list[Finding]:
        return list(await asyncio.gather(*(_negotiate(table, milter) for table, milter in milters)))

    return asyncio.run(all_of_them()) if milters else []


async def _negotiate(table: Filter, milter: Milter) -> Finding:
    from ehlo.milter._link import FilterDownError, Link

    try:
        link = await Link.open(milter)
    except FilterDownError as exc:
        if milter.when_down == "accept":
            return Finding("warning", table.where, f"{milter}: {exc}; mail goes on without it until it runs")
        return Finding("error", table.where, f"{milter}: {exc}; start it: until then all mail is answered 451")
    await link.close()
    return Finding("OK", table.where, f"{milter} answers")


def check_keys(tables: Sequence[Dkim], account: Account | None, resolver: Any = None) -> Iterator[Finding]:
    """Look at each key: who can read its file, its kind and length, and whether DNS has its public half.

    Arguments:
        tables: the [[dkim]] tables.
        account: the user that the server runs as.
        resolver: a :class:`dns.asyncresolver.Resolver`; ``None``: the system's.

    Example::

        list(check_keys(settings.dkim, None))
    """
    good = []
    for table in tables:
        about = f"{table.where}: key"
        if not table.domain or not table.key_file:
            continue  # the settings are wrong, and that was said
        secret = check_secret(about, table.key_file, account)
        yield secret
        if secret.level == "error":
            continue
        try:
            read_signer(table)
            bits: int | None = getattr(_key(table), "key_size", None)
        except (ehlo.LocalProtocolError, ImportError, OSError) as exc:
            yield Finding("error", about, f"{table.key_file}: {exc}")
            continue
        good.append(table)
        if bits is not None and bits < _GOOD_BITS:
            text = f"{table.key_file} has {bits} bits; make one of {_GOOD_BITS}: ehlo dkim keygen {table.domain}"
            yield Finding("warning", about, text)
        else:
            kind = "Ed25519" if bits is None else f"RSA with {bits} bits"
            yield Finding("OK", about, f"{table.key_file} is {kind}")
    if good and importlib.util.find_spec("dns") is not None:
        yield from asyncio.run(_look_up(good, resolver))


def _key(table: Dkim) -> Key:
    from ehlo.dkim import load_key

    with open(table.key_file, "rb") as file:
        return load_key(file.read())


async def _look_up(tables: Sequence[Dkim], resolver: Any) -> list[Finding]:
    import dns.asyncresolver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver() if resolver is None else resolver
    except dns.resolver.NoResolverConfiguration:
        return []  # the look at the hostname says so
    return list(await asyncio.gather(*(_record(table, resolver) for table in tables)))


async def _record(table: Dkim, resolver: Any) -> Finding:
    """A hint: the record may be on its way, or only the world outside may see it."""
    import dns.exception
    import dns.resolver

    from ehlo.dkim import dns_record, zone_lines

    about, key = f"{table.where}: selector", _key(table)
    name = f"{table.selector}._domainkey.{ehlo.domain_to_ascii(table.domain) or table.domain}"
    put = f"put it there: {' '.join(zone_lines(key, table.domain, table.selector).split())}"
    try:
        answer = await resolver.resolve(name, "TXT", lifetime=_DNS_SECONDS, search=False)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return Finding("warning", about, f"DNS has no record {name}; {put}")
    except dns.exception.DNSException as exc:
        return Finding("warning", about, f"DNS does not answer about {name}: {exc}")
    texts = [b"".join(record.strings).decode("ascii", "replace") for record in answer]
    if len(texts) > 1:
        return Finding("warning", about, f"DNS has {len(texts)} records {name}; leave one (RFC 6376 3.6.2.2)")
    if _public(texts[0]) != _public(dns_record(key)):
        return Finding("warning", about, f"DNS has another key at {name}; {put}")
    return Finding("OK", about, f"DNS has this key at {name}")


def _public(record: str) -> bytes | None:
    """The octets of ``p=`` (RFC 6376 3.6.1)."""
    found = re.search(r"(?:^|;)\s*p\s*=([^;]*)", record)
    try:
        return None if found is None else base64.b64decode("".join(found[1].split()), validate=True)
    except ValueError:
        return None
