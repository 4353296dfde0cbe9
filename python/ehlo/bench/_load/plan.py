"""What a load run is to do. Plain data, so that it can be handed to worker processes and written into a report."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

__all__ = ["LoadPlan", "resolve"]

_TEST_DOMAIN: Final = "example.org"  # RFC 2606 3: nobody's


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All settings of a load run.

    Arguments:
        host: an address or a name. port: TCP port.
        connections: at once, over all workers.
        messages: how many to send after the warm-up; ``None`` for as many as ``duration`` lets through.
        duration: seconds of the measured part; ``None`` for as long as ``messages`` take.
        rate: messages a second of an open loop: each has an intended start, and latency counts from there. ``None`` is
            the closed loop, where a connection begins its next message when the last one is answered.
        arrivals: how the open loop spaces its starts, "constant" or "poisson".
        warmup: seconds in which messages are sent and not measured.
        messages_per_connection: after so many a connection says QUIT and is made anew; ``None`` for no limit.
        depth: messages that wait in one connection's engine. With pipelining, two make one round trip a message.
        recipients: of each message.
        sender, recipient: mailboxes; "{n}" in the recipient becomes the recipient's number.
        sizes: as :func:`ehlo.bench.contents` reads it: "1024", "1k-64k", "1k:9,1m:1", "lognormal:10k:1.5".
        corpus: a directory of .eml files, a Maildir or an mbox file, instead of ``sizes``.
        phases: whether each phase of a lock-step session is timed, which costs the tool a few microseconds a message.
        pipelining: whether to use it where it is offered (RFC 2920); without it every command waits for its reply, and
            each phase is timed.
        chunking: content by BDAT (RFC 3030) instead of DATA.
        lmtp: LMTP (RFC 2033).
        tls: "off", "starttls" (RFC 3207) or "implicit" (RFC 8314).
        verify: whether the server's certificate is checked.
        user, password: for AUTH (RFC 4954). mechanism: "PLAIN" or "LOGIN".
        sources: local addresses to connect from, in turns.
        workers: processes.
        timeout: seconds to wait for a connection and for each reply.
        hostname: our name for EHLO. seed: of everything random.

    Example::

        plan = LoadPlan("127.0.0.1", 2525, connections=20, messages=10_000, pipelining=False)
        result = ehlo.bench.run_load(plan)
    """

    host: str
    port: int
    connections: int = 10
    messages: int | None = None
    duration: float | None = None
    rate: float | None = None
    arrivals: Literal["constant", "poisson"] = "constant"
    warmup: float = 0.0
    messages_per_connection: int | None = None
    depth: int = 1
    recipients: int = 1
    sender: str = f"load@{_TEST_DOMAIN}"
    recipient: str = f"user{{n}}@{_TEST_DOMAIN}"
    sizes: str = "1024"
    corpus: str | None = None
    phases: bool = True
    pipelining: bool = True
    chunking: bool = False
    lmtp: bool = False
    tls: Literal["off", "starttls", "implicit"] = "off"
    verify: bool = False
    user: str | None = None
    password: str | None = None
    mechanism: Literal["PLAIN", "LOGIN"] = "PLAIN"
    sources: tuple[str, ...] = ()
    workers: int = 1
    timeout: float = 30.0
    hostname: str = "load.example.org"
    seed: int = 1

    def public(self) -> dict[str, Any]:
        """What a report may say of it: all but the password.

        Example::

            json.dumps(plan.public())
        """
        settings = asdict(self)
        settings["password"] = None if self.password is None else "(not shown)"
        return settings

    def shares(self) -> list[LoadPlan]:
        """One plan for each worker; connections, messages and rate are divided.

        Example::

            [share.connections for share in LoadPlan("h", 25, connections=5, workers=2).shares()]  # [3, 2]
        """
        count = min(self.workers, self.connections)
        shares = []
        for number in range(count):
            messages = None if self.messages is None else _share(self.messages, number, count)
            shares.append(
                replace(
                    self,
                    connections=_share(self.connections, number, count),
                    messages=messages,
                    rate=None if self.rate is None else self.rate / count,
                    workers=1,
                    seed=self.seed + number,
                )
            )
        return shares


def _share(whole: int, number: int, count: int) -> int:
    return whole // count + (number < whole % count)


def resolve(host: str, port: int) -> tuple[str, bool]:
    """The first address of a host, and whether it is a loopback, private or link-local one.

    Arguments:
        host: an address or a name. port: TCP port.

    Raises:
        OSError: if there is no such host.

    Example::

        resolve("localhost", 25)  # ("127.0.0.1", True)
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return address, parsed.is_loopback or parsed.is_link_local or parsed.is_private
