"""What the README shows, works."""

from __future__ import annotations

import asyncio
import re
import smtplib
import socket
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.asyncio

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
HANDLER, ON_TRIO, WITHOUT_IO = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    exec(HANDLER, names)
    handler = names["Mailroom"]()  # type: ignore[operator]

    def send(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=30) as client:
            recipients = ["b@Example.org", "x@example.net"]
            return client.sendmail("a@client.example", recipients, b"Subject: hi\r\n\r\nhello\r\n")

    async def main() -> dict[str, tuple[int, bytes]]:
        async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0) as server:
            return await asyncio.to_thread(send, server.port)

    assert asyncio.run(main()) == {"x@example.net": (550, b"5.7.1 we do not relay")}
    assert capsys.readouterr().out == "a@client.example sent 22 octets to 1\n"


def test_on_trio(capsys: pytest.CaptureFixture[str]) -> None:
    trio = pytest.importorskip("trio")
    names: dict[str, object] = {"__name__": "readme"}
    exec(HANDLER, names)
    exec(ON_TRIO.replace(", 2525", ", 0"), names)
    main: Any = names["main"]

    async def patient() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            while not (said := capsys.readouterr().out):
                await trio.lowlevel.checkpoint()
            assert said.startswith("listening on port ")
            with socket.create_connection(("127.0.0.1", int(said.split()[-1])), 30) as client:
                reply = await trio.to_thread.run_sync(client.recv, 100)
            assert reply.startswith(b"220 ")
            nursery.cancel_scope.cancel()

    trio.run(patient)


def test_without_io(capsys: pytest.CaptureFixture[str]) -> None:
    exec(WITHOUT_IO, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["220 mx.example.org ESMTP", "250-mx.example.org"]
    replies = ["354 End data with <CRLF>.<CRLF>", "250 2.0.0 OK", "221 2.0.0 Bye"]
    assert [line for line in lines if line][-3:] == replies


def test_its_commands_are_single_lines_that_make_their_own_environment() -> None:
    for name in ("sink", "tests"):
        (command,) = re.findall(rf"<!-- the {name} -->\n```sh\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
        assert command.startswith("python3 -m venv .venv && ")
        assert "\n" not in command


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (Path(__file__).resolve().parent.parent / link).exists(), link
