"""Every option is documented where a user looks for it: those of the engine and of the adapters on the pages of limits
and of strictness, the settings of ``ehlo serve`` on its page, the options of the commands in their help.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pages import DOCS, tool

import ehlo
import ehlo.cli
import ehlo.mta
from ehlo._client.options import ConnectOptions

LIMITS = (DOCS / "limits-and-timeouts.md").read_text("utf-8")
STRICT = (DOCS / "strictness.md").read_text("utf-8")
ENGINE = inspect.signature(ehlo.ServerConfig).parameters
LIMITING = [name for name in ENGINE if name.startswith("max_") or name.endswith("_timeout")]
JUDGING = [
    *("bare_newlines", "bdat_bare_newlines", "bare_lf_commands", "reject_nul", "reject_8bit", "reject_long_lines"),
    *("injected_input", "unknown_parameters"),
]


def as_text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_each_limit_of_the_engine_is_on_the_page() -> None:
    section = LIMITS.partition("## Of the adapter")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE))
    assert shown == {name: as_text(ENGINE[name].default) for name in LIMITING}


def test_each_limit_of_the_adapters_is_on_the_page() -> None:
    section = LIMITS.partition("## Of the adapter")[2]
    shown = dict(re.findall(r"^\| `(\w+)` \| (?:[^|]+ \| )??([\w.]+) \|", section, re.MULTILINE))
    wanted = {one.name: one.default for one in dataclasses.fields(ehlo.Limits)}
    assert shown == {
        name: f"{default:g}" if type(default) is float else str(default) for name, default in wanted.items()
    }


def test_each_option_that_judges_is_on_the_page() -> None:
    shown = dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", STRICT.partition("## Leniencies")[0], re.MULTILINE))
    wanted = {name: ENGINE[name].default for name in JUDGING}
    assert shown == {name: "off" if value is False else f'`"{value}"`' for name, value in wanted.items()}


def test_each_leniency_is_on_the_page() -> None:
    with pytest.raises(ValueError, match="hello_any") as caught:
        ehlo.ServerConfig("mx.example.org", lenient=["no such leniency"])
    names = set(re.findall(r"[a-z0-9]+_[a-z0-9_]+", str(caught.value)))
    assert names == set(re.findall(r"^\| `(\w+)` \|", STRICT.partition("## Leniencies")[2], re.MULTILINE))


def test_each_setting_of_serve_is_on_its_page() -> None:
    lister = tool("list_settings")
    assert (DOCS / "serve.md").read_text("utf-8") == lister.page(), "python tools/list_settings.py renews it"


@pytest.mark.parametrize(
    "name",
    [
        *("ServerConfig", "ClientConfig", "Limits", "Login", "Users"),
        *("mta.open_queue", "mta.RetrySchedule", "mta.DeliveryLimits", "store.Maildir", "store.Mbox"),
        *("send", "asyncio.connect", "asyncio.Pool", "trio.connect", "trio.Pool", "sync.connect", "sync.Pool"),
        *("asyncio.serve", "trio.serve", "milter.MilterClient", "milter.filters.Filters", "testing.SMTPServer"),
    ],
)
def test_each_argument_is_in_the_docstring(name: str) -> None:
    """The pages of the reference are made from the docstrings."""
    module, _, last = f"ehlo.{name}".rpartition(".")
    one: Any = getattr(importlib.import_module(module), last)
    about = f"{inspect.getdoc(one)}\n{inspect.getdoc(getattr(one, '__init__', None))}"
    named = re.findall(r"^ {2,}\*{0,2}(\w+(?:, \w+)*):", about, re.MULTILINE)
    known = {one for names in named for one in names.split(", ")}
    asked = {given.name for given in inspect.signature(one).parameters.values() if given.kind is not given.VAR_KEYWORD}
    if name in {"ServerConfig", "ClientConfig"}:  # each setting has its text at its attribute, and the stub has both
        known |= {setting for setting in asked if vars(one)[setting].__doc__}
    if name == "asyncio.connect":  # the others refer to it
        asked |= set(ConnectOptions.__annotations__)
    assert asked - known == set()


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Each argument of a command and of the commands below it."""
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction):
            for below in one.choices.values():
                yield from options(below)
        else:
            yield f"{parser.prog} {'/'.join(one.option_strings) or one.dest}", one


@pytest.mark.parametrize(("name", "option"), list(options(ehlo.cli._parser())))
def test_each_option_of_a_command_has_its_help(name: str, option: argparse.Action) -> None:
    """The page of commands is made from the help."""
    assert option.help, name
    assert option.help is not argparse.SUPPRESS, name
