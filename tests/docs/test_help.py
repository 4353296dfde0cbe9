"""``help()`` says first what one needs, and explains the aliases of types where they are used."""

from __future__ import annotations

import inspect
import pydoc
import re

import pytest

import ehlo

ALIASES = ("Answer", "Item", "LoginLike", "RecipientLike", "Recipients", "Result", "SendableMessage", "Verdict")
CLASSES = [("ehlo", "Handler"), ("ehlo.mta", "QueueHandler")]
CLASSES += [
    (f"ehlo.{room}", name) for room in ("asyncio", "trio", "sync") for name in ("Client", "Pool", "Transaction")
]


def test_the_help_of_the_package_begins_with_the_way_in() -> None:
    first = pydoc.plain(pydoc.render_doc(ehlo)).splitlines()[:16]
    for name in ("ehlo.Handler", "ehlo.asyncio.serve", "ehlo.send", "ehlo.sync.connect", "ehlo.SMTPException"):
        assert any(name in line for line in first), name


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_aliases_are_explained_where_they_are_used(module: str, name: str) -> None:
    thing = getattr(pytest.importorskip(module) if module != "ehlo" else ehlo, name)
    signatures = [
        str(inspect.signature(method))
        for one, method in inspect.getmembers(thing, inspect.isfunction)
        if not one.startswith("_")
    ]
    used = [alias for alias in ALIASES if any(re.search(rf"\b{alias}\b", one) for one in signatures)]
    assert used
    for alias in used:
        assert re.search(rf"\b{alias}\b", thing.__doc__), alias


def test_a_config_has_the_text_of_each_setting_once() -> None:
    for config in (ehlo.ServerConfig, ehlo.ClientConfig):
        text = pydoc.plain(pydoc.render_doc(config))
        assert text.count("a domain or an address literal (RFC 5321 4") == 1
