"""The suites of aiosmtpd and of its users, against :mod:`ehlo.compat.aiosmtpd`. ``run.py`` calls them.

Each runs in a process of its own, in an environment with the packages that its tests need (``target/suites/venv``).
There ``aiosmtpd`` is a package that gives our modules, and aiosmtpd's own tests beside them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import ehlo

__all__ = ["run"]

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / "target/suites"

# What stands where aiosmtpd would be.
ALIAS = """\
import importlib, sys
from ehlo.compat.aiosmtpd import __version__, _get_or_new_eventloop
for name in ("smtp", "controller", "handlers", "lmtp", "proxy_protocol"):
    sys.modules[f"aiosmtpd.{name}"] = globals()[name] = importlib.import_module(f"ehlo.compat.aiosmtpd.{name}")
"""

# Counts the messages that the engine took, and writes how many when the tests are over.
COUNT = """\
import json, os
from ehlo.compat.aiosmtpd import smtp

ways = {"messages through the engine": 0}
real = smtp.SMTP._on_message

def on_message(self, *arguments):
    ways["messages through the engine"] += 1
    return real(self, *arguments)

smtp.SMTP._on_message = on_message

def pytest_sessionfinish():
    with open(os.environ["EHLO_WAYS"], "w") as file:
        json.dump(ways, file)
"""

# The suite: what pip fetches, what its tests need beside it, and where its tests are.
SUITES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "aiosmtpd": ("aiosmtpd==1.4.6", ("pytest", "pytest-mock", "pytest-timeout", "setuptools<80"), "aiosmtpd/tests"),
    "smtpdfix": ("smtpdfix", ("pytest", "pytest-asyncio", "pytest-timeout", "portpicker", "cryptography"), "tests"),
    "pytest-localserver": (
        "pytest-localserver",
        ("pytest", "pytest-timeout", "werkzeug", "requests"),
        "tests/test_smtp.py",
    ),
    "aiosmtplib-server": (
        "aiosmtplib==5.1.3",
        ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "trustme"),
        "tests",
    ),
    "mailrise": ("mailrise", ("pytest", "pytest-asyncio", "pytest-timeout", "apprise<1.9.4", "pyyaml"), "tests"),
}


def _pip(python: Path, *arguments: str) -> bool:
    return subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]).returncode == 0


def _fetched(python: Path, name: str, requirement: str) -> Path | None:
    """The folder of the source distribution; ``None`` if it cannot be fetched."""
    archives = FETCHED / f"{name}-archive"
    wanted = ("download", "--no-deps", "--no-binary", ":all:", "--dest", str(archives), requirement)
    if not any(archives.glob("*.tar.gz")) and not _pip(python, *wanted):
        return None
    folder = FETCHED / f"{name}-users"
    if not folder.exists():
        shutil.unpack_archive(next(archives.glob("*.tar.gz")), folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def run(name: str, exclusions: dict[str, str]) -> tuple[int, dict[str, int]] | None:
    """Run one suite.

    Returns:
        The exit code, and how many messages went which way; ``None`` if the tests cannot be had here.
    """
    requirement, packages, tests = SUITES[name]
    room = FETCHED / f"{name}-venv"
    python = room / "bin/python"
    if not room.exists():
        venv.create(room, with_pip=True)
    folder = _fetched(python, name, requirement) if _pip(python, "install", *packages) else None
    if folder is None:
        return None
    site = next((room / "lib").glob("python*/site-packages"))
    # Only ehlo itself is let in, from where it is installed: the packages beside it are not those of this suite.
    only = room / "only-ehlo"
    only.mkdir(exist_ok=True)
    (only / "ehlo").unlink(missing_ok=True)
    (only / "ehlo").symlink_to(Path(ehlo.__file__).parent)
    (site / "ehlo.pth").write_text(f"{only}\n")
    alias = site / "aiosmtpd"
    alias.mkdir(exist_ok=True)
    (alias / "__init__.py").write_text(ALIAS)
    (site / "ehlo_counts.py").write_text(COUNT)
    work = folder
    if name == "aiosmtpd":
        for part in ("tests", "testing"):
            shutil.copytree(folder / "aiosmtpd" / part, alias / part, dirs_exist_ok=True)
        (alias / "tests/test_main.py").unlink()  # the command line, which is not ours
        work = site
    if (folder / "src").exists():
        (site / "theirs.pth").write_text(f"{folder / 'src'}\n")
    report = FETCHED / f"{name}-ways.json"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "ehlo_counts", "-p", "no:cacheprovider", "-p", "no:ehlo"]
    command += ["-c", "/dev/null", "--rootdir", str(work), "--timeout", "30", "-W", "ignore", tests]
    command += [f"--deselect={test}" for test in exclusions]
    if name in ("aiosmtplib-server", "smtpdfix", "mailrise"):
        command += ["-o", "asyncio_mode=auto"]
    code = subprocess.run(command, cwd=work, env={"PATH": "/usr/bin:/bin", "EHLO_WAYS": str(report)}).returncode
    return code, json.loads(report.read_text()) if report.exists() else {}


if __name__ == "__main__":
    sys.exit("run it by: python tests/suites/run.py NAME")
