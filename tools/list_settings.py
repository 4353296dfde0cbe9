"""Write the last section of docs/serve.md: every table and key of the file of ``ehlo serve``.

Run ``python tools/list_settings.py`` after a change of a setting. tests/docs/test_options.py compares the page with the
tables of ``ehlo.cli._serve.settings``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from ehlo.cli._engine import engine_options
from ehlo.cli._serve import settings
from ehlo.cli._serve.keys import keys_of, shown

PAGE = Path(__file__).resolve().parents[1] / "docs/serve.md"
MORE = {
    "log": "[The log](log.md) says more.",
    "metrics": "[The log](log.md#figures) says more.",
    "rates": "[Users](users.md#how-much-a-user-may-send) says more.",
    "networks": "[Users](users.md#how-much-a-user-may-send) says more.",
}
HEADING = "## Every table and key\n"
SMTP = """\
The options of `ehlo.ServerConfig`. [Limits and timeouts](limits-and-timeouts.md), [Strictness](strictness.md)
and [the reference](reference/ehlo.md) explain them:"""


def section() -> str:
    """The section: a table for each table of the file."""
    lines = ["", "`ehlo serve --help` prints the same list. A key without a default can be left out.", ""]
    lines += ["### Above the first table", "", *table(settings.Top)]
    for name, one in settings.TABLES.items():
        lines += ["", f"### `[{name}]`", "", *([MORE[name], ""] if name in MORE else []), *table(one)]
    for name, one in settings.LISTS.items():
        lines += ["", f"### `[[{name}]]`", "", *table(one)]
    options = ", ".join(f"`{name}`" for name in engine_options())
    lines += ["", "### `[smtp]`", "", SMTP, "", *textwrap.wrap(f"{options}.", 100, break_on_hyphens=False), ""]
    return "\n".join(lines)


def table(one: type) -> Iterator[str]:
    """The rows for the keys of a table."""
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for name, key in keys_of(one).items():
        kind, text, default = key.metadata["kind"].words, key.metadata["help"], shown(key.default)
        if isinstance(key.default, str) and default:
            default = f'"{default}"'
        yield f"| `{name}` | {kind} | {f'`{default}`' if default else ''} | {text} |"


def page() -> str:
    """The whole page, with the section as the code has it now."""
    before = PAGE.read_text("utf-8").partition(HEADING)[0]
    return f"{before}{HEADING}{section()}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
