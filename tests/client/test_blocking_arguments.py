"""The blocking client takes what the others take: utf8_header, refuse_invalid, XFORWARD, verify (FAULTS C10, C15)."""

from __future__ import annotations

import ehlo
import ehlo.sync
from ehlo.testing import SMTPServer

A, B = "a@b.example", "c@d.example"
CONTENT = "Subject: Grüße\r\n\r\nhi\r\n".encode()
CLIENT = ehlo.ClientConfig("client.example")
MIXED = ["no address", B]


def test_faults_c10_and_c15_blocking() -> None:
    with SMTPServer() as server:
        with ehlo.sync.connect(server.host, server.port, config=CLIENT) as client:
            one = client.send(CONTENT, A, MIXED, refuse_invalid=True, utf8_header=False)
            (many,) = client.send_many([(CONTENT, A, MIXED)], refuse_invalid=True, utf8_header=True)
        with ehlo.sync.Pool(server.host, server.port, config=CLIENT) as pool:
            pooled = pool.send(CONTENT, A, MIXED, refuse_invalid=True)
            assert pool.verify(B).is_positive
        for result in (one, many, pooled):
            assert [(str(each.path), each.accepted) for each in result.recipients] == [("no address", False), (B, True)]
        said = [message.envelope.sender.smtputf8 for message in server.messages]
        assert said == [False, True, False]
