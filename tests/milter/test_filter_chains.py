"""Filters that we did not write in a chain, behind us and behind Postfix: the same verdicts, the same fields."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from real import fields_of, opendkim, opendmarc, place, verdicts, verifying
from scripted import ScriptedFilter, frame
from served import Keep, serve

from backends import Asyncio, Backend
from ehlo.dkim import Key, Signer, generate_key
from ehlo.milter.filters import Filters, Milter
from ehlo.testing import SMTPServer
from messages import message, on_the_wire
from programs import postfix, program, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "dkim"))

pytestmark = pytest.mark.tcp
__all__ = ["place"]  # a fixture

REJECTED = (550, b"5.7.1 rejected by DMARC policy for example.org")
KEPT = (250, b"2.0.0 kept")
BODY = b"Subject: x\r\n\r\ntext\r\n"
CLAIM = b"Authentication-Results: mx.example; dkim=pass header.d=example.org\r\n"


def deliver(client: smtplib.SMTP, content: bytes, sender: str) -> tuple[int, bytes]:
    """The reply at the end."""
    client.ehlo("client.example")
    client.mail(sender, ["BODY=8BITMIME"])
    client.rcpt("c@d.example")
    try:
        return client.data(content)
    except smtplib.SMTPDataError as exc:
        said = exc.smtp_error
        return exc.smtp_code, said if isinstance(said, bytes) else said.encode()


def dmarc_of(content: bytes) -> str:
    """What OpenDMARC found."""
    found = re.search(rb"dmarc=(\w+)", content.partition(b"\r\n\r\n")[0])
    assert found is not None, content
    return found[1].decode()


def test_the_verdict_of_opendmarc_depends_on_from_and_on_dkim(backend: Backend, place: Path) -> None:
    key, other, keep = generate_key(), generate_key("ed25519"), Keep()
    ours, theirs = b"From: a@example.org\r\n" + BODY, b"From: a@other.example\r\n" + BODY
    good = Signer(key, "example.org", "mail").sign(ours) + ours
    cases = [
        (good, KEPT, "pass"),
        (good.replace(b"text", b"changed"), REJECTED, ""),
        (ours, REJECTED, ""),
        (Signer(key, "example.org", "mail").sign(theirs) + theirs, KEPT, "fail"),  # not aligned; the policy is "none"
        (Signer(other, "example.org", "mail").sign(ours) + ours, REJECTED, ""),  # not the key of the DNS
        (CLAIM + ours, REJECTED, ""),  # somebody says that he is us
    ]

    def talk(client: smtplib.SMTP) -> list[Any]:
        return [deliver(client, content, "a@b.example") for content, _, _ in cases]

    with opendkim(place, verifying(place, mail=key)) as verifier, opendmarc(place, **POLICIES) as dmarc:
        filters = Filters([verifier, dmarc], keep, authserv_id="mx.example")
        [replies] = serve(backend, filters, talk)
    assert replies == [reply for _, reply, _ in cases]
    assert [dmarc_of(content) for _, _, content in keep.kept] == [found for _, _, found in cases if found]


POLICIES = {"example_org": "reject", "other_example": "none"}


@pytest.mark.parametrize(
    ("spf", "sender", "reply"),
    [
        (b"pass", "a@example.org", KEPT),
        (b"fail", "a@example.org", REJECTED),
        (b"pass", "a@b.example", REJECTED),  # a pass for another domain than that of From
    ],
)
def test_the_verdict_of_opendmarc_depends_on_spf(spf: bytes, sender: str, reply: Any, place: Path) -> None:
    domain = sender.partition("@")[2].encode()
    field = b"Authentication-Results\0mx.example; spf=" + spf + b" smtp.mailfrom=" + domain + b"\0"
    answers = {b"E": frame(b"i", b"\0\0\0\0" + field) + frame(b"c")}
    with ScriptedFilter(answers) as checker, opendmarc(place, **POLICIES) as dmarc:
        filters = Filters([checker.address, dmarc], Keep(), authserv_id="mx.example")
        content = b"From: a@example.org\r\n" + BODY
        assert serve(Asyncio(), filters, lambda client: deliver(client, content, sender)) == [reply]


@contextmanager
def relay() -> Iterator[tuple[int, Keep]]:
    """Where Postfix sends what its filters let through: the port, and what came."""
    kept = Keep()
    with SMTPServer(kept) as server:
        yield server.port, kept


def use_filters(log: Path, *milters: Milter) -> None:
    """Tell Postfix of the filters."""
    etc = log.parent / "etc"
    addresses = " ".join(one.address.replace("local:", "unix:") for one in milters)
    with (etc / "main.cf").open("a") as file:
        file.write(f"smtpd_milters = {addresses}\nmilter_default_action = tempfail\n")
        file.write("local_header_rewrite_clients =\n")  # else it changes addresses, and breaks signatures
    subprocess.run([program("postfix"), "-c", etc, "reload"], check=True, capture_output=True)
    wait_until(lambda: " reload -- " in log.read_text(errors="replace"))  # till then it serves without them


def mixture(number: int, random: Random, keys: dict[str, Key]) -> bytes:
    """One of the messages: signed, not signed, signed by somebody else, changed on the way; some with a claim."""
    domain = [b"example.org", b"other.example", b"nowhere.example"][number % 3]
    content = on_the_wire(message(random)).replace(b"joe@example.org\r\n", b"joe@" + domain + b"\r\n", 1)
    head = b"Message-ID: <%d@example.org>\r\nTo: c@d.example\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700\r\n"
    content = head % number + content
    if number % 5:
        name = "wrong" if number % 5 == 1 else "mail"
        content = Signer(keys[name], "example.org", "mail").sign(content) + content
    if number % 5 == 2:
        content += b"one line more\r\n"
    return (CLAIM if number % 7 == 0 else b"") + content


def test_200_messages_behind_postfix_and_behind_us(place: Path) -> None:
    keys, keep, random = {"mail": generate_key(), "wrong": generate_key()}, Keep(), Random(16)
    contents = [mixture(number, random, keys) for number in range(200)]

    def talk(client: smtplib.SMTP) -> list[tuple[int, bytes]]:
        return [deliver(client, content, "a@b.example") for content in contents]

    settings = verifying(place, mail=keys["mail"]) + "\nRemoveARFrom mx.example"
    with opendkim(place, settings) as verifier, opendmarc(place, **POLICIES) as dmarc, relay() as (port, relayed):
        [ours] = serve(Asyncio(), Filters([verifier, dmarc], keep), talk)
        with postfix(port) as mta:
            use_filters(mta.log, verifier, dmarc)
            with smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as client:
                theirs = talk(client)
            wait_until(lambda: len(relayed.kept) == len(keep.kept))
    accepted = [code == 250 for code, _ in ours]
    assert [code == 250 for code, _ in theirs] == accepted
    refused = [(one, two) for one, two in zip(ours, theirs, strict=True) if one[0] != 250]
    assert all(one == two == REJECTED for one, two in refused)
    assert 20 < len(refused) < 180
    by_id = {re.search(rb"Message-ID: <(\d+)@", kept)[1]: kept for _, _, kept in relayed.kept}  # type: ignore[index]
    numbers = [number for number, taken in enumerate(accepted) if taken]
    found = set()
    for number, (_, _, kept) in zip(numbers, keep.kept, strict=True):
        assert fields_of(kept) == fields_of(by_id[b"%d" % number])
        found |= {*verdicts(kept), "dmarc " + dmarc_of(kept)}
    assert {"pass", "fail", "none", "dmarc pass", "dmarc fail", "dmarc none"} <= found
