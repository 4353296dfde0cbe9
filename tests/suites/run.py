"""Run another library's own tests against our shape of it: ``python tests/suites/run.py NAME``.

NAME is one of:

- ``smtplib``: CPython's ``test_smtplib``, of the Python that runs this. :mod:`ehlo.compat.smtplib` stands in for
  smtplib.
- ``django``: Django's ``tests/mail``, from the source distribution of the version that is installed. The backend is
  :class:`ehlo.contrib.django.EmailBackend`.
- ``django-server``: the same tests with Django's own backend. :mod:`ehlo.compat.aiosmtpd` stands in for aiosmtpd,
  which is their server. ``django-both``: our backend and our server.
- ``aiosmtplib``: aiosmtplib's tests, likewise. :mod:`ehlo.compat.aiosmtplib` stands in for it.
- ``aiosmtpd``, ``smtpdfix``, ``pytest-localserver``, ``mailrise``: aiosmtpd's tests, and those of three of its users.
  :mod:`ehlo.compat.aiosmtpd` stands in for aiosmtpd, in a process and an environment of its own.
- ``aiosmtplib-server``: aiosmtplib's tests with aiosmtplib itself, likewise: their server is aiosmtpd.

The source distributions are fetched by pip into ``target/suites``. Where that fails, the suite is skipped, and the
command ends with 0. At the end stands how many messages went through the engine, and why others did not.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import importlib.metadata
import importlib.util
import os
import runpy
import subprocess
import sys
import tarfile
import tomllib
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiosmtpd_users

from ehlo.compat import stand_in

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / "target/suites"
EXCLUSIONS: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "exclusions.toml").read_text())

ways: collections.Counter[str] = collections.Counter()
"""How many messages went which way."""


def fetched(name: str) -> Path | None:
    """The folder of the source distribution of the version that is installed; ``None`` if it cannot be fetched."""
    version = importlib.metadata.version(name)
    folder = FETCHED / f"{name}-{version}"
    if folder.exists():
        return folder
    FETCHED.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(FETCHED), f"{name}=={version}"], capture_output=True, text=True)
    archives = sorted(FETCHED.glob(f"{name}-{version}*.tar.gz"))
    if done.returncode or not archives:
        print(done.stderr)
        return None
    with tarfile.open(archives[0]) as archive:
        archive.extractall(FETCHED, filter="data")
    return folder


def count_smtplib() -> None:
    """Count the messages of :mod:`ehlo.compat.smtplib`, and the reasons of those that the engine did not send."""
    from ehlo.compat import smtplib as shape

    real_steps, real_carry = shape.SMTP._step_by_step, shape.SMTP._carry

    def step_by_step(self: Any, from_addr: str, recipients: list[str], *rest: Any) -> Any:
        without_domain = [one for one in (from_addr, *recipients) if "@" not in one and one.strip("<>")]
        why = f"no domain in {without_domain[0]!r}" if without_domain else "the program changes a step"
        ways[f"step by step: {why if self._ready_courier() is not None else 'the program changes a step'}"] += 1
        return real_steps(self, from_addr, recipients, *rest)

    def carry(self: Any, courier: Any) -> Any:
        ways["through the engine"] += 1
        return real_carry(self, courier)

    kind: Any = shape.SMTP
    kind._step_by_step, kind._carry = step_by_step, carry


def run_smtplib() -> int | None:
    stand_in("smtplib")
    count_smtplib()
    if importlib.util.find_spec("test.test_smtplib") is None:
        print("this Python comes without its tests (Debian: libpython3-testsuite)")
        return None
    tests = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module("test.test_smtplib"))
    suite = unittest.TestSuite(test for test in _flat(tests) if test.id() not in EXCLUSIONS["smtplib"])
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    return int(not result.wasSuccessful())


def _flat(tests: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


def count_server() -> None:
    """Count the messages that :mod:`ehlo.compat.aiosmtpd` took."""
    kind: Any = importlib.import_module("ehlo.compat.aiosmtpd.smtp").SMTP
    real = kind._on_message

    def on_message(self: Any, *arguments: Any) -> Any:
        ways["messages to our server"] += 1
        return real(self, *arguments)

    kind._on_message = on_message


def run_django(suite: str, *, backend: bool, server: bool) -> int | None:
    folder = fetched("django")
    if folder is None:
        return None
    if server:
        stand_in("aiosmtpd")
        count_server()
    if backend:
        stand_in("smtplib")
        count_smtplib()
        theirs: Any = importlib.import_module("django.core.mail.backends.smtp")
        theirs.EmailBackend = importlib.import_module("ehlo.contrib.django").EmailBackend
    os.chdir(folder / "tests")
    sys.path.insert(0, ".")
    sys.argv = ["runtests.py", "mail", "--parallel=1"]
    for name in EXCLUSIONS[suite]:
        sys.argv += ["-k", f"not {name}"]
    try:
        runpy.run_path("runtests.py", run_name="__main__")
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def run_aiosmtplib() -> int | None:
    folder = fetched("aiosmtplib")
    if folder is None:
        return None
    shape: Any = stand_in("aiosmtplib")
    # A class of asyncio's own, which aiosmtplib copied: its tests are left out, but need it to be read.
    protocol: Any = sys.modules["aiosmtplib.protocol"]
    protocol.FlowControlMixin = object
    real = shape.SMTP._carry

    async def carry(self: Any, *arguments: Any) -> Any:
        ways["through the engine"] += 1
        return await real(self, *arguments)

    real_steps = shape.SMTP._step_by_step

    async def step_by_step(self: Any, *arguments: Any) -> Any:
        ways["step by step"] += 1
        return await real_steps(self, *arguments)

    shape.SMTP._carry = carry
    shape.SMTP._step_by_step = step_by_step
    packages = FETCHED / "packages"
    if not (packages / "pytest_asyncio").exists():  # beside: it is not for our own tests
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
        if subprocess.run([*command, "pytest-asyncio"]).returncode:
            return None
    sys.path.append(str(packages))
    import pytest

    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(packages)
    deselected = [f"--deselect={name}" for name in EXCLUSIONS["aiosmtplib"]]
    return int(pytest.main(["-q", "-p", "no:ehlo", "-p", "no:cacheprovider", "-o", "pythonpath=", *deselected]))


def run_aiosmtpd_user(name: str) -> int | None:
    outcome = aiosmtpd_users.run(name, EXCLUSIONS[name])
    if outcome is None:
        return None
    ways.update(outcome[1])
    return outcome[0]


SUITES: dict[str, Callable[[], int | None]] = {
    "smtplib": run_smtplib,
    "django": partial(run_django, "django", backend=True, server=False),
    "django-server": partial(run_django, "django-server", backend=False, server=True),
    "django-both": partial(run_django, "django-both", backend=True, server=True),
    "aiosmtplib": run_aiosmtplib,
    **{name: partial(run_aiosmtpd_user, name) for name in aiosmtpd_users.SUITES},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SUITES)
    name = parser.parse_args().name
    for test, reason in EXCLUSIONS[name].items():
        print(f"not run: {test}: {reason}")
    code = SUITES[name]()
    if code is None:
        print(f"{name}: skipped, its tests cannot be had here")
        return 0
    for way, count in sorted(ways.items()):
        print(f"{count:5} {way}")
    return code


if __name__ == "__main__":
    sys.exit(main())
