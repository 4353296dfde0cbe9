"""The programs of the pages about moving run. Where a program has two forms, both answer alike."""

from __future__ import annotations

import asyncio
import importlib
import smtplib
import sys
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import blocks, executed, world

import ehlo
import ehlo.asyncio

CATCHER, CATCHER_NATIVE, RULE, RULE_NATIVE, AUTH, AUTH_NATIVE = blocks("moving-from-aiosmtpd.md")


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
    assert executed(CATCHER)["controller"].port is not None
    assert executed(CATCHER_NATIVE)["server"] is not None


def test_recipients_by_a_rule() -> None:
    def talk(port: int) -> Any:
        with smtplib.SMTP("127.0.0.1", port) as client:
            return client.sendmail("a@b.example", ["c@example.org", "d@example.net"], b"hi")

    wanted = {"d@example.net": (550, b"5.7.1 not relaying to that domain")}
    assert asked(executed(RULE)["controller"], talk) == wanted
    assert asked_natively(executed(RULE_NATIVE)["Handler"](), talk) == wanted


def test_auth_and_a_command() -> None:
    def talk(port: int) -> Any:
        with smtplib.SMTP("127.0.0.1", port) as client:
            codes = [client.ehlo("c.example")[0], client.login("jane", "pencil")[0]]
            return [*codes, client.docmd("XVERSION")[1].rpartition(b" ")[2]]

    assert asked(executed(AUTH)["controller"], talk) == [250, 235, b"3.1"]
    assert asked_natively(executed(AUTH_NATIVE)["Handler"](), talk) == [250, 235, b"3.1"]


@pytest.mark.parametrize("name", ["smtplib", "aiosmtplib"])
def test_the_import_of_a_shape(name: str) -> None:
    if name == "aiosmtplib":
        pytest.importorskip("aiosmtplib")
    (line,) = blocks(f"moving-from-{name}.md")
    assert executed(line)[name] is importlib.import_module(f"ehlo.compat.{name}")


def test_from_django(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("django")
    pytest.importorskip("aiosmtplib")
    setting, for_all, for_one, for_all_too, one, pool = blocks("moving-from-django.md")
    module, _, name = executed(setting)["EMAIL_BACKEND"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    for library, code in (("smtplib", for_all), ("aiosmtplib", for_all_too)):
        monkeypatch.setitem(sys.modules, library, sys.modules.get(library, ModuleType(library)))
        executed(code)
        assert sys.modules[library] is importlib.import_module(f"ehlo.compat.{library}")
    monkeypatch.setitem(sys.modules, "flask_mail", ModuleType("flask_mail"))
    assert executed(for_one)["flask_mail"].smtplib is importlib.import_module("ehlo.compat.smtplib")

    message = EmailMessage()
    message["From"], message["To"] = "jane@example.org", "joe@example.net"
    message.set_content("hello")
    with world(tmp_path, monkeypatch) as here:
        used = executed(one, pool, message=message, password="secret")
        used["pool"].close()
        assert len(here.server.messages) == 2
