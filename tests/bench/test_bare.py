"""The bare peers of ``ehlo bench compare``: they must really serve and send."""

from __future__ import annotations

import pytest

from ehlo import dot_stuff
from ehlo.bench._compare.bare import BareSession
from ehlo.bench._compare.peers import Server, clients_here, run_client, servers_here

CONTENT = b".a\r\n.\r\n" + b"x" * 70 + b"\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"


@pytest.mark.parametrize("content", [CONTENT, b""], ids=["lines", "empty"])
def test_replies_are_the_same_in_any_split(content: bytes) -> None:
    wire = b"EHLO c.example\r\n" + 2 * (ENVELOPE + dot_stuff(content)) + b"QUIT\r\n"
    whole = BareSession()
    replies = whole.receive(wire)
    assert [line[:3] for line in replies.split(b"\r\n")[2:]] == [b"250", b"250", b"354", b"250"] * 2 + [b"221", b""]
    assert whole.over
    for size in range(1, len(wire)):
        session = BareSession()
        assert b"".join(session.receive(wire[at : at + size]) for at in range(0, len(wire), size)) == replies


@pytest.mark.parametrize("name", ["bare-asyncio", "bare-uvloop", "bare-trio"])
def test_a_bare_server_and_all_of_our_clients(name: str) -> None:
    if name not in servers_here():
        pytest.skip(f"what {name} needs is not installed")
    with Server(name) as server:
        for client in clients_here():
            if client == name or (name == "bare-asyncio" and client.startswith(("ehlo", "bare"))):
                cpu, _ = run_client(client, server.port, 6, 1024, 2)
                assert cpu > 0
