"""What our errors and pages say to install: extras that exist, and that bring what was missing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

from ehlo.cli import main

ROOT = Path(__file__).parents[2]
HINT = re.compile(r"pip install '?ehlo\[([a-z,]+)\]")
# The packages that an extra brings, by the names under which they are imported.
MODULES = {"dnspython": "dns", "psycopg": "psycopg", "prometheus-client": "prometheus_client"}
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from ehlo.cli import main
sys.exit(main({words!r}))
"""


def brings(extra: str) -> set[str]:
    """The names of the modules that an extra installs."""
    found = set()
    for one in requires("ehlo") or ():
        if f"extra == '{extra}'" in one.replace('"', "'"):
            name = re.split(r"[^A-Za-z0-9-]", one)[0]
            found.add(MODULES.get(name, name))
    return found


def test_psycopg_without_libpq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_library(name: str) -> None:
        raise ImportError("no pq wrapper available.")

    monkeypatch.setattr(importlib, "import_module", no_library)
    assert main(["queue", "list", "--queue", "postgresql:///x"]) == 1
    assert capsys.readouterr().err.endswith(": a spool in PostgreSQL needs libpq: pip install 'ehlo[postgres]'\n")


def test_each_hint_names_extras_that_exist() -> None:
    files = [*(ROOT / "python").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    hints = {name for file in files for found in HINT.findall(file.read_text("utf-8")) for name in found.split(",")}
    assert (
        {"mta", "postgres", "dkim", "milter", "metrics"}
        <= hints
        <= set(metadata("ehlo").get_all("Provides-Extra") or ())
    )


SETTINGS = """
hostname = "mx.example.org"
listener = [{ port = 0 }]
route = [{ domains = ["example.org"], to = "maildir:mail" }]
run = { as_root = true }
"""
KEY = "[[dkim]]\ndomain = 'example.org'\nselector = 's'\nkey = 'key'\n"
TABLES = {
    "dkim": KEY,
    "filter": "[[filter]]\nmilter = 'inet:127.0.0.1:9'\n",
    "metrics": "[metrics]\nlisten = '127.0.0.1:0'\n",
    "queue": "[queue]\npath = 'spool'\n",
}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("anyio", ["queue", "list", "--queue", "spool"]),
        ("dns", ["queue", "list", "--queue", "spool"]),
        ("psycopg", ["queue", "list", "--queue", "postgresql:///x"]),
        ("cryptography", ["dkim", "keygen", "example.org"]),
        ("cryptography", ["serve", "dkim"]),
        ("anyio", ["serve", "filter"]),
        ("anyio", ["serve", "queue"]),
        ("dns", ["serve", "queue"]),
        ("idna", ["serve", "queue"]),
        ("prometheus_client", ["serve", "metrics"]),
        ("anyio", ["serve", "metrics"]),
        ("dns", ["serve", "metrics"]),
    ],
)
def test_a_hint_brings_what_is_missing(module: str, words: list[str], tmp_path: Path) -> None:
    if words[0] == "serve":
        (tmp_path / "key").write_text("")
        (tmp_path / "key").chmod(0o600)
        (tmp_path / "serve.toml").write_text(SETTINGS + TABLES[words[1]])
        words = ["serve", "serve.toml"]
    program = BLOCKED.format(module=module, words=words)
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode != 0
    [extras] = HINT.findall(process.stderr)
    assert any(module in brings(extra) for extra in extras.split(",")), process.stderr
    assert module in process.stderr
