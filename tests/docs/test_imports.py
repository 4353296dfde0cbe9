"""A program pays at its start only for what it uses: names are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import ehlo

# Each of these takes a millisecond or more, and a program that sends one mail in clear text needs none of them.
DEAR = (
    "asyncio",
    "dataclasses",
    "email",
    "hashlib",
    "inspect",
    "ipaddress",
    "json",
    "logging",
    "secrets",
    "ssl",
    "stringprep",
    "trio",
    "ehlo._sasl",
    "ehlo._server",
    "ehlo._tls",
    "ehlo._users",
)


def printed(program: str) -> str:
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("module", ["ehlo", "ehlo.sync"])
def test_dear_modules_are_not_loaded(module: str) -> None:
    program = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    assert not set(DEAR) & set(printed(program).split())


@pytest.mark.parametrize("module", ["ehlo", "ehlo.asyncio", "ehlo.trio", "ehlo.sync"])
def test_each_public_name_is_found(module: str) -> None:
    if module == "ehlo.trio":
        pytest.importorskip("trio")
    program = f"""
import {module} as package
assert not set(package.__all__) - set(dir(package)), set(package.__all__) - set(dir(package))
for name in reversed(package.__all__):
    getattr(package, name)
    assert name in vars(package)
from {module} import *
assert not set(package.__all__) - set(globals()), set(package.__all__) - set(globals())
print("well")
"""
    assert printed(program) == "well"


def test_a_module_that_is_not_imported_yet_is_named_by_the_error() -> None:
    program = "import ehlo\ntry: ehlo.sync\nexcept AttributeError as exc: print(exc)\nprint(hasattr(ehlo, 'sink'))"
    assert printed(program) == "module 'ehlo' has no attribute 'sync'; write: import ehlo.sync\nFalse"


def test_the_help_has_names_that_are_imported_late() -> None:
    text = printed("import pydoc, ehlo; print(pydoc.plain(pydoc.render_doc(ehlo)))")
    assert "class Handler(" in text
    assert "submission_fields(" in text


def test_a_value_of_a_class_that_is_imported_late_can_be_pickled() -> None:
    octets = pickle.dumps(ehlo.Login("jane", "secret"))
    program = f"import pickle; print(pickle.loads({octets!r}).username)"
    assert printed(program) == "jane"


def test_a_client_on_asyncio_leaves_the_server_out() -> None:
    loaded = printed("import sys, ehlo.asyncio; ehlo.asyncio.connect; print(*sys.modules)").split()
    assert "ehlo._client" in loaded
    assert not {"ehlo._server", "ehlo._sasl", "ehlo._users"} & set(loaded)
