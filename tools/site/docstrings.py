"""An extension of griffe: the docstrings of the package are written for ``help()`` and for editors.

- A role such as ``:class:`Reply```, and a full name such as ````ehlo.Reply````, becomes a link, if the name is on the
  site, and else code.
- ``Example::`` and ``Example:`` become a heading with a block of Python.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|exc|data|obj|const):`~?([^`]+)`")
EXAMPLE = re.compile(r"^([^\n]*)::\n\n((?:[ \t]+[^\n]*\n?|\n)+)", re.MULTILINE)
SESSION = re.compile(r"^Examples?:\n((?:[ \t]+[^\n]*\n?|\n)+)", re.MULTILINE)
NAME = re.compile(r"``(ehlo(?:\.\w+)+)``")
LITERAL = re.compile(r"``([^`\n]+)``")


class Plain(griffe.Extension):
    """Turns the text of each docstring into Markdown, before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value, obj)


def to_markdown(text: str, owner: griffe.Object) -> str:
    """The text of a docstring as Markdown."""

    def block(found: re.Match[str]) -> str:
        title = found[1].strip()
        code = textwrap.dedent(found[2]).strip()
        return f"{'**Example**' if title == 'Example' else title + ':'}\n\n```python\n{code}\n```\n\n"

    def session(found: re.Match[str]) -> str:
        code = textwrap.dedent(found[1]).strip()
        return f"**Example**\n\n```{'pycon' if code.startswith('>>>') else 'python'}\n{code}\n```\n\n"

    def link(found: re.Match[str]) -> str:
        return f'<autoref identifier="{full_name(found[1], owner)}" optional><code>{found[1]}</code></autoref>'

    text = SESSION.sub(session, EXAMPLE.sub(block, text + "\n"))
    return LITERAL.sub(r"`\1`", NAME.sub(link, ROLE.sub(link, text))).rstrip()


def full_name(name: str, owner: griffe.Object) -> str:
    """The dotted name that a short one stands for, seen from an object: of its class, of its package, or of ehlo."""
    if name.startswith("ehlo"):
        return name
    parents = owner.path.split(".")
    place = parents[:-1] if owner.is_function or owner.is_attribute else parents
    package = [part for part in place if not part.startswith("_")]
    if package and package[-1][:1].isupper() and "." not in name and not name[:1].isupper():
        return ".".join([*package, name])
    package = [part for part in package if not part[:1].isupper()]
    return ".".join([*package, name])
