"""The next hop of a domain: RFC 5321 5.1, RFC 7505."""

from __future__ import annotations

from typing import Any

import pytest
from dns.resolver import NoResolverConfiguration

import ehlo
from ehlo.mta import dns
from loops import run
from name_server import NameServer

RECORDS: dict[str, dict[str, list[str] | str]] = {
    "two.example": {"MX": ["20 mx2.two.example.", "10 mx1.two.example."]},
    "mx1.two.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.two.example": {"A": ["192.0.2.2", "192.0.2.3"]},
    "equal.example": {"MX": [f"10 mx{n}.two.example." for n in (1, 2)]},
    "null.example": {"MX": ["0 ."], "A": ["192.0.2.9"]},
    "mixed.example": {"MX": ["0 .", "10 mx2.two.example."]},
    "plain.example": {"A": ["192.0.2.4"]},
    "bare.example": {"TXT": ['"nothing"']},
    "alias.example": {"CNAME": ["two.example."]},
    "alias-plain.example": {"CNAME": ["plain.example."]},
    "dangling.example": {"CNAME": ["gone.example."]},
    "broken.example": {"*": "SERVFAIL"},
    "unusable.example": {"MX": ["10 gone.example.", "20 192.0.2.7."], "A": ["192.0.2.8"]},
    "half.example": {"MX": ["10 broken.example.", "20 mx2.two.example."]},
    "waiting.example": {"MX": ["10 broken.example."]},
    "v4.example": {"A": ["192.0.2.5"], "AAAA": "SERVFAIL"},
    "loop.example": {"MX": ["5 mx1.two.example.", "10 Me.example.", "10 mx2.two.example.", "20 plain.example."]},
    "mine.example": {"MX": ["10 me.example.", "20 mx2.two.example."]},
    "me.example": {"A": ["192.0.2.99"]},
    "renamed.example": {"MX": ["10 other-name.example."]},
    "other-name.example": {"A": ["192.0.2.99"]},
    "xn--bcher-kva.example": {"MX": ["10 mx1.two.example."]},
    "xn--strae-oqa.example": {"A": ["192.0.2.6"]},
}


def hop_of(loop: str, domain: str, **options: Any) -> dns.NextHop:
    with NameServer(RECORDS) as names:

        async def ask() -> Any:
            return await dns.next_hop(domain, resolver=names.resolver(), **options)

        result: dns.NextHop = run(loop, ask)
        return result


def refusal(domain: str, **options: Any) -> ehlo.Reply:
    with pytest.raises(dns.NoRoute) as caught:
        hop_of("asyncio", domain, **options)
    assert caught.value.is_temporary == caught.value.reply.is_temporary
    return caught.value.reply


def names(hop: dns.NextHop) -> list[str]:
    return [host.name for host in hop.hosts]


def test_c_oth_03_hosts_come_by_preference(loop: str) -> None:
    hop = hop_of(loop, "Two.Example")
    assert names(hop) == ["mx1.two.example", "mx2.two.example"]
    assert hop.hosts[0].addresses == ("2001:db8::1", "192.0.2.1")
    assert set(hop.hosts[1].addresses) == {"192.0.2.2", "192.0.2.3"}
    assert hop.seconds == 300
    assert not hop.is_implicit
    assert hop.key == ("mx1.two.example", "mx2.two.example")


def test_c_oth_03_equal_hosts_are_shuffled() -> None:
    seen: list[list[str]] = []

    def shuffle(hosts: list[dns.Host]) -> None:
        seen.append([host.name for host in hosts])
        hosts.reverse()

    hop = hop_of("asyncio", "equal.example", shuffle=shuffle)
    assert seen == [names(hop)[::-1]]


def test_c_oth_03_no_mx_is_the_domains_own_address() -> None:
    hop = hop_of("asyncio", "plain.example")
    assert hop.hosts == (dns.Host("plain.example", ("192.0.2.4",)),)
    assert hop.is_implicit


def test_c_oth_03_an_mx_that_cannot_be_used_is_an_error() -> None:
    reply = refusal("unusable.example")  # it has an address, too, which must not be used
    assert (reply.code, reply.enhanced) == (550, "5.4.4")


def test_c_oth_02_b_oth_01_null_mx(loop: str) -> None:
    with pytest.raises(dns.NoRoute) as caught:
        hop_of(loop, "null.example")
    assert caught.value.reply == dns.NULL_MX_RECIPIENT
    assert (dns.NULL_MX_RECIPIENT.code, dns.NULL_MX_RECIPIENT.enhanced) == (556, "5.1.10")
    assert (dns.NULL_MX_SENDER.code, dns.NULL_MX_SENDER.enhanced) == (550, "5.7.27")


def test_c_oth_02_a_root_among_others_is_passed_over() -> None:
    assert names(hop_of("asyncio", "mixed.example")) == ["mx2.two.example"]


@pytest.mark.parametrize("domain", ["alias.example", "alias-plain.example"])
def test_c_oth_10_a_cname_is_followed(domain: str) -> None:
    expected = {"alias.example": ["mx1.two.example", "mx2.two.example"], "alias-plain.example": ["alias-plain.example"]}
    assert names(hop_of("asyncio", domain)) == expected[domain]


@pytest.mark.parametrize("domain", ["gone.example", "dangling.example", f"{'x' * 64}.example", "a..example"])
def test_c_oth_11_a_domain_that_does_not_exist_is_permanent(domain: str) -> None:
    reply = refusal(domain)
    assert (reply.code, reply.enhanced) == (550, "5.1.2")


def test_c_oth_11_a_domain_without_any_address_is_permanent() -> None:
    assert refusal("bare.example").enhanced == "5.4.4"


@pytest.mark.parametrize("domain", ["broken.example", "waiting.example"])
def test_c_oth_12_no_answer_is_temporary(domain: str) -> None:
    reply = refusal(domain)
    assert (reply.code, reply.enhanced) == (451, "4.4.3")


def test_c_oth_12_one_host_is_enough() -> None:
    hop = hop_of("asyncio", "half.example")
    assert names(hop) == ["mx2.two.example"]
    assert hop_of("asyncio", "v4.example").hosts[0].addresses == ("192.0.2.5",)


def test_c_oth_09_this_server_in_the_list() -> None:
    assert names(hop_of("asyncio", "loop.example", hostname="me.example")) == ["mx1.two.example"]
    assert names(hop_of("asyncio", "loop.example"))[0] == "mx1.two.example"
    assert refusal("mine.example", hostname="ME.example.").enhanced == "5.4.6"
    assert refusal("me.example", hostname="me.example").enhanced == "5.4.6"
    assert refusal("renamed.example", own_addresses={"192.0.2.99"}).enhanced == "5.4.6"


@pytest.mark.parametrize(("literal", "address"), [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::2]", "2001:db8::2")])
def test_c_oth_13_an_address_literal_is_its_own_host(literal: str, address: str) -> None:
    assert hop_of("asyncio", literal).hosts == (dns.Host(literal, (address,)),)


@pytest.mark.parametrize("literal", ["[x-tag:what]", "[192.0.2.1", "[]"])
def test_c_oth_13_another_literal_cannot_be_reached(literal: str) -> None:
    assert refusal(literal).enhanced == "5.1.2"


def test_c_oth_14_idna_2008() -> None:
    assert names(hop_of("asyncio", "Bücher.example")) == ["mx1.two.example"]
    assert hop_of("asyncio", "straße.example").hosts[0].addresses == ("192.0.2.6",)  # IDNA 2003 would ask for strasse
    assert refusal("a‍b.example").enhanced == "5.1.2"


def test_c_oth_12_no_resolver_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise NoResolverConfiguration

    monkeypatch.setattr("dns.asyncresolver.Resolver", none)
    with pytest.raises(dns.NoRoute) as caught:
        run("asyncio", dns.next_hop, "two.example")
    assert caught.value.reply.enhanced == "4.4.3"
