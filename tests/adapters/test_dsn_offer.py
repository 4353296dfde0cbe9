"""DSN is offered by who reports the fate of a message, and by nobody else (FAULTS C2, RFC 3461 4.1)."""

from __future__ import annotations

import pydoc
from typing import Any

import pytest

import ehlo
from backends import Backend, Keep
from ehlo.mta import QueueHandler, StreamingQueueHandler

CLIENT = ehlo.ClientConfig("client.example")


class Reports(Keep):
    reports_delivery = True


class Says(Keep):
    reports_delivery = "yes"  # not True: a method or a word is no promise


CASES: list[tuple[type[Keep], bool | None, bool]] = [
    (Keep, None, False),
    (Keep, True, True),
    (Keep, False, False),
    (Says, None, False),
    (Reports, None, True),
    (Reports, True, True),
    (Reports, False, False),
]


@pytest.mark.parametrize("options", [{}, {"lmtp": True}], ids=["SMTP", "LMTP"])
def test_faults_c2_dsn_is_offered_by_who_reports(backend: Backend, options: dict[str, Any]) -> None:
    lmtp = options.get("lmtp", False)

    async def main() -> None:
        for kind, dsn, offered in CASES:
            settings = ehlo.ServerConfig("mx.example", dsn=dsn, **options)
            async with (
                await backend.serve(kind(), "127.0.0.1", 0, config=settings) as server,
                backend.adapter.connect("127.0.0.1", server.port, config=CLIENT.replace(lmtp=lmtp)) as client,
            ):
                assert ("DSN" in client.capabilities) is offered, (kind, dsn)
                assert server.config.dsn is offered
                if not offered:
                    to = ehlo.Recipient("c@d.example", notify=("SUCCESS",))
                    with pytest.raises(ehlo.SMTPNotSupportedError, match="DSN"):
                        await client.send(b"Subject: hi\r\n\r\n", "a@b.example", to)

    backend.run(main)


def test_faults_c2_without_serve() -> None:
    assert ehlo.ServerConfig().dsn is None
    assert "DSN" not in ehlo.ServerConfig().keywords
    assert "DSN" in ehlo.ServerConfig(dsn=True).keywords
    assert QueueHandler.reports_delivery
    assert StreamingQueueHandler.reports_delivery


def test_faults_d11_help_says_what_is_unusual() -> None:
    text = " ".join(pydoc.plain(pydoc.render_doc(ehlo.Handler)).replace("|", " ").split())
    assert "``None`` accepts. In ``on_auth`` and ``on_sasl`` it refuses" in text
    assert "In LMTP the answer may be a sequence: one answer for each recipient" in text
    assert "``reports_delivery = True``" in text
    assert "``None`` refuses" in str(ehlo.Handler.on_auth.__doc__)
    assert "sequence" in str(ehlo.Handler.on_message.__doc__)
    assert "sequence" in str(ehlo.Handler.on_body.__doc__)
