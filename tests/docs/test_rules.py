"""Every rule of docs/rules.md has a test that names it, or a stated reason in docs/rules-status.toml.

Only tests count: rust/ehlo/tests, the ``#[cfg(test)]`` modules of rust/ehlo/src, and tests/**/*.py. An id may stand in
a comment (``S-DAT-01``) or in a name (``fn s_dat_01_ends_with_the_dot``, ``def test_s_dat_01``).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = "ADR|AUT|BDT|CLI|DAT|DSN|LIN|LMT|OTH|PAR|PXY|QUE|RPL|SES|SUB|TLS|TRC"
NAMED = re.compile(rf"(?<![A-Za-z0-9])(?:([SCB])-({GROUPS})-(\d\d)|([scb])_({GROUPS.lower()})_(\d\d))(?![A-Za-z0-9])")
TEST_MODULE = re.compile(r"^( *)#\[cfg\(test\)\]\n(?:\1#\[.*\n)*\1mod (\w+)(;| \{)", re.MULTILINE)


@cache
def rules() -> list[str]:
    text = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    return re.findall(rf"^\| ([SCB]-(?:{GROUPS})-\d\d) \|", text, re.MULTILINE)


def modules_of_tests(source: Path) -> Iterator[str]:
    """The ``#[cfg(test)]`` modules of one Rust file; rustfmt puts their closing brace on a line of its own."""
    text = source.read_text(encoding="utf-8")
    for found in TEST_MODULE.finditer(text):
        indent, name, opening = found.groups()
        if opening == ";":
            beside = source.parent if source.name in ("lib.rs", "mod.rs") else source.with_suffix("")
            yield (beside / f"{name}.rs").read_text(encoding="utf-8")
        else:
            yield text[found.start() : text.index(f"\n{indent}}}\n", found.end())]


@cache
def named() -> dict[str, set[str]]:
    """Each id that a test names, with the files that do."""
    texts = [(source, part) for source in ROOT.glob("rust/ehlo/src/**/*.rs") for part in modules_of_tests(source)]
    texts += [(source, source.read_text(encoding="utf-8")) for source in ROOT.glob("rust/ehlo/tests/**/*.rs")]
    texts += [
        (source, source.read_text(encoding="utf-8"))
        for source in ROOT.glob("tests/**/*.py")
        if source != Path(__file__).resolve()
    ]
    ids: dict[str, set[str]] = {}
    for source, text in texts:
        for found in NAMED.finditer(text):
            rule = "-".join(filter(None, found.groups())).upper()
            ids.setdefault(rule, set()).add(str(source.relative_to(ROOT)))
    return ids


@cache
def reasons() -> dict[str, str]:
    """Each id that has a reason, spelt out from groups and ranges."""
    table = tomllib.loads((ROOT / "docs/rules-status.toml").read_text(encoding="utf-8"))
    spelt: dict[str, str] = {}
    for entry in table.get("reason", ()):
        for pattern in entry["rules"]:
            found = re.fullmatch(r"([SCB]-[A-Z]{3})(?:-(\d\d)(?:\.\.(\d\d))?)?", pattern)
            assert found is not None, f"{pattern} in docs/rules-status.toml is no id"
            prefix, first, last = found.groups()
            if first is None:
                ids = [rule for rule in rules() if rule.startswith(f"{prefix}-")]
            else:
                ids = [f"{prefix}-{n:02}" for n in range(int(first), int(last or first) + 1)]
            ids = [rule for rule in ids if rule in rules()] if last else ids
            assert ids, f"{pattern} in docs/rules-status.toml names no rule"
            for rule in ids:
                assert rule not in spelt, f"{rule} has two reasons in docs/rules-status.toml"
                spelt[rule] = entry["why"]
    return spelt


def test_the_list_is_read_whole() -> None:
    lines = re.findall(r"^\| [SCB]-.*$", (ROOT / "docs/rules.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rules()) == len(set(rules())) == len(lines)
    assert all(line.count(" | ") == 4 for line in lines), "a rule has five cells"


def test_every_rule_has_a_test_or_a_reason() -> None:
    missing = [rule for rule in rules() if rule not in named() and rule not in reasons()]
    assert not missing, f"no test names, and no reason excuses: {', '.join(missing)}"


def test_no_reason_is_given_for_a_rule_that_has_a_test() -> None:
    stale = [f"{rule} ({', '.join(sorted(named()[rule]))})" for rule in reasons() if rule in named()]
    assert not stale, f"these have a test: take them out of docs/rules-status.toml: {'; '.join(stale)}"


@pytest.mark.parametrize("where", ["tests", "reasons"])
def test_only_rules_of_the_list_are_named(where: str) -> None:
    ids: Mapping[str, object] = named() if where == "tests" else reasons()
    unknown = [f"{rule} ({ids[rule]})" for rule in sorted(set(ids) - set(rules()))]
    assert not unknown, f"not in docs/rules.md: {'; '.join(unknown)}"
