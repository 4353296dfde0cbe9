"""The programs in docs/moving-from-aiosmtpd.md run, and their two forms answer alike."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ehlo
import ehlo.asyncio

PAGE = (Path(__file__).resolve().parents[2] / "docs/moving-from-aiosmtpd.md").read_text(encoding="utf-8")
CATCHER, CATCHER_NATIVE, RULE, RULE_NATIVE, AUTH, AUTH_NATIVE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def names_of(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(program, names)
    return names


def asked(controller: Any, talk: Callable[[int], Any]) -> Any:
    controller.start()
    try:
        return talk(controller.port)
    finally:
        controller.stop()


def asked_natively(handler: ehlo.Handler, talk: Callable[[int], Any]) -> Any:
    async def main() -> Any:
        async with await ehlo.asyncio.serve(handler) as server:
            return await asyncio.to_thread(talk, server.port)

    return asyncio.run(main())


def test_a_catcher() -> None:
    assert names_of(CATCHER)["controller"].port is not None
    assert names_of(CATCHER_NATIVE)["server"] is not None


def test_recipients_by_a_rule() -> None:
    def talk(port: int) -> Any:
        with smtplib.SMTP("127.0.0.1", port) as client:
            return client.sendmail("a@b.example", ["c@example.org", "d@example.net"], b"hi")

    wanted = {"d@example.net": (550, b"5.7.1 not relaying to that domain")}
    assert asked(names_of(RULE)["controller"], talk) == wanted
    assert asked_natively(names_of(RULE_NATIVE)["Handler"](), talk) == wanted


def test_auth_and_a_command() -> None:
    def talk(port: int) -> Any:
        with smtplib.SMTP("127.0.0.1", port) as client:
            codes = [client.ehlo("c.example")[0], client.login("jane", "pencil")[0]]
            return [*codes, client.docmd("XVERSION")[1].rpartition(b" ")[2]]

    assert asked(names_of(AUTH)["controller"], talk) == [250, 235, b"3.1"]
    assert asked_natively(names_of(AUTH_NATIVE)["Handler"](), talk) == [250, 235, b"3.1"]
