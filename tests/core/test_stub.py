"""The stub of ``ehlo._core`` is the one that ``tools/make_stub.py`` writes."""

import runpy
from pathlib import Path

import ehlo
from ehlo import _core

ROOT = Path(__file__).parents[2]


def test_the_stub_is_up_to_date() -> None:
    stub = runpy.run_path(str(ROOT / "tools/make_stub.py"))["stub"]()
    assert (ROOT / "python/ehlo/_core.pyi").read_text(encoding="utf-8") == stub, "run python tools/make_stub.py"


def test_the_package_has_every_name_of_the_extension() -> None:
    assert {name for name in vars(_core) if not name.startswith("_")} <= set(ehlo.__all__)
