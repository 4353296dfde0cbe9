"""A DNS server on loopback for tests: it answers over UDP from a table, in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """Answers from ``records``: a name and a type give texts of records. ``"SERVFAIL"`` for a type, or for the type
    ``"*"``, gives that error; a name that has no type at all does not exist.

    Example::

        with NameServer({"d.example": {"MX": ["10 mx.d.example."]}, "mx.d.example": {"A": ["127.0.0.1"]}}) as names:
            await next_hop("d.example", resolver=names.resolver())
    """

    def __init__(self, records: dict[str, dict[str, list[str] | str]]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self.port
        resolver.lifetime = 5.0
        return resolver

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            octets, client = self._socket.recvfrom(4096)
            if not octets:
                return
            with contextlib.suppress(OSError):
                self._socket.sendto(self._answer(dns.message.from_wire(octets)).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        question = query.question[0]
        name, kind = question.name, dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name.to_text(omit_final_dot=True), kind))
        while True:
            node = self.records.get(name.to_text(omit_final_dot=True).lower())
            if node is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                return answer
            if node.get(kind, node.get("*")) == "SERVFAIL":
                answer.set_rcode(dns.rcode.SERVFAIL)
                return answer
            if "CNAME" not in node:
                break
            answer.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", *node["CNAME"]))
            name = dns.name.from_text(node["CNAME"][0])
        if texts := node.get(kind):
            answer.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *texts))
        return answer
