"""A hook of MkDocs: pages that are written elsewhere, and links that leave the site.

- The files of the root that people read become pages under project/.
- reference/commands.md gets the help of every command, by running it.
- A page that loads something from elsewhere fails the build.
- A link from a page to a file outside of the site becomes plain text, if the file exists. If not, the build fails.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from ehlo.cli import _parser

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "project/architecture.md": "ARCHITECTURE.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/changes.md": "CHANGELOG.md",
}
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```|<!--.*?-->)$", re.MULTILINE | re.DOTALL)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Fails if a page would load something from elsewhere."""
    if found := re.search(r'<(?:script|link rel="stylesheet"|img|iframe)\b[^>]*(?:src|href)="https?://[^"]*', output):
        raise PluginError(f"{page.file.src_uri} loads {found[0]}")
    return output


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the root, and the commands."""
    for place, name in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text("utf-8")))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Turns links that leave the site into text, and links to pages of the root into links of the site."""
    source = page.file.src_uri
    at_root = source in OUTSIDE
    here = posixpath.dirname(OUTSIDE[source] if at_root else f"docs/{source}")

    def replace(found: re.Match[str]) -> str:
        text, target = found.groups()
        parts = urlsplit(target)
        if parts.scheme:
            check_external(target, source)
            return found[0]
        if not parts.path:
            return found[0]
        path = posixpath.normpath(posixpath.join(here, parts.path))
        place = {name: place for place, name in OUTSIDE.items()}.get(path)
        if place is None and path.startswith("docs/"):
            file = files.get_file_from_path(path[5:])
            place = path[5:] if file and file.inclusion.is_included() else None
        if place is not None:
            fragment = f"#{parts.fragment}" if parts.fragment else ""
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(source) or '.')}{fragment})"
        if path.startswith("docs/") and not (ROOT / path).exists():
            return found[0]  # strict tells of it
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: the link to {target} leads nowhere")
        return text if text.strip("`") == path else f"{text} (`{path}` in the repository)"

    pieces = FENCE.split(markdown)
    return "".join(piece if at % 2 else LINK.sub(replace, piece) for at, piece in enumerate(pieces))


def check_external(target: str, source: str) -> None:
    """Checks the form of a link to elsewhere. Whether the place exists is not asked: the build needs no network."""
    parts = urlsplit(target)
    is_web = parts.scheme in {"http", "https"} and re.fullmatch(r"[A-Za-z0-9.-]+\.[a-z]{2,}", parts.hostname or "")
    if not is_web and parts.scheme != "mailto":
        raise PluginError(f"{source}: {target} is no link of the form https://host/path")


def commands() -> str:
    """The page of all commands: the text of each --help."""
    page = ["# Commands", "", "This page has the help of every command, as the command prints it.", ""]
    for name, verbs in commands_below(_parser()).items():
        page += [f"## ehlo {name}", "", "```text", run(name), "```", ""]
        for verb in commands_below(verbs):
            page += [f"### ehlo {name} {verb}", "", "```text", run(name, verb), "```", ""]
    return "\n".join(page)


def commands_below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a command, by their names."""
    found = [one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def run(*words: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "ehlo", *words, "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    )
    if done.returncode:
        raise PluginError(f"{' '.join(command)} failed: {done.stderr}")
    return done.stdout.rstrip()
