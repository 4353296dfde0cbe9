"""Whole sessions through the binding, without a socket: a hundred messages, from the greeting on.

The cases of ehlo are those of ``ehlo bench core``, which anybody can run from an installed package; here they stand
beside what a program would use instead.

The server is given each transaction in one piece, as pipelining brings it. The plain one keeps each content, as
"ehlo, collect" does, and checks the order of the commands and the form of a path. The Python packages have no server
without a socket: aiosmtpd is in ``bench_adapters.py``.

The client is given its replies at once. smtpproto waits for the reply to each command, and writes an
``email.message.Message`` anew for each message: it takes no octets, and its content is an empty line longer.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches import plain
from ehlo.bench._core import body, client_session, server_session, transaction

MESSAGES = 100
SIZES = {"1 KiB": 1024, "100 KiB": 102400}
OK, GO = b"250 2.0.0 OK\r\n", b"354 go\r\n"

Session = Callable[[], object]


def plain_server(size: int) -> Session:
    hello, one = b"EHLO client.example.org\r\n", transaction(size)

    def run() -> None:
        server = plain.Server()
        server.receive(hello)
        for _ in range(MESSAGES):
            server.receive(one)
        assert (server.messages, len(server.content)) == (MESSAGES, size)

    return run


def plain_client(size: int) -> Session:
    content = body(size)

    def run() -> None:
        written: list[bytes] = []
        for _ in range(MESSAGES):
            for octets, reply in (
                (f"MAIL FROM:<{plain.SENDER}>\r\n".encode("ascii"), OK),
                (f"RCPT TO:<{plain.RECIPIENT}>\r\n".encode("ascii"), OK),
                (b"DATA\r\n", GO),
                (plain.stuff(content), OK),
            ):
                written[:] = [octets]
                code, _ = plain.read_reply(reply)
                assert code < 400

    return run


def smtpproto_client(size: int) -> Session:
    module = pytest.importorskip("smtpproto.protocol")
    message: Any = email.message_from_bytes(body(size), policy=email.policy.SMTP)

    def run() -> None:
        client = module.SMTPClientProtocol()
        client.feed_bytes(plain.GREETING)
        client.send_greeting(plain.CLIENT_NAME)
        client.get_outgoing_data()
        client.feed_bytes(plain.OFFER)
        for _ in range(MESSAGES):
            client.mail(plain.SENDER, smtputf8=False)
            client.get_outgoing_data()
            client.feed_bytes(OK)
            client.recipient(plain.RECIPIENT)
            client.get_outgoing_data()
            client.feed_bytes(OK)
            client.start_data()
            client.get_outgoing_data()
            client.feed_bytes(GO)
            client.data(message)
            client.get_outgoing_data()
            assert client.feed_bytes(OK).code == 250

    return run


SERVERS: dict[str, Callable[[int], Session]] = {
    "ehlo, discard": lambda size: server_session(size, MESSAGES, "discard"),
    "ehlo, collect": lambda size: server_session(size, MESSAGES, "collect"),
    "plain": plain_server,
}
CLIENTS: dict[str, Callable[[int], Session]] = {
    "ehlo, pipelined": lambda size: client_session(size, MESSAGES, True),
    "ehlo, lock-step": lambda size: client_session(size, MESSAGES, False),
    "smtpproto": smtpproto_client,
    "plain": plain_client,
}


@pytest.mark.parametrize("stand", SERVERS)
@pytest.mark.parametrize("size", SIZES)
def test_server(benchmark: BenchmarkFixture, size: str, stand: str) -> None:
    benchmark.group = f"server session of {MESSAGES} messages of {size}"
    benchmark(SERVERS[stand](SIZES[size]))


@pytest.mark.parametrize("stand", CLIENTS)
@pytest.mark.parametrize("size", SIZES)
def test_client(benchmark: BenchmarkFixture, size: str, stand: str) -> None:
    benchmark.group = f"client session of {MESSAGES} messages of {size}"
    benchmark(CLIENTS[stand](SIZES[size]))
