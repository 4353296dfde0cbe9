"""``ehlo dkim keygen``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ehlo.cli
from ehlo.dkim import dns_record, load_key


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_keygen_writes_a_key_and_prints_its_record(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "key.pem"
    assert ehlo.cli.main(["dkim", "keygen", "example.org", "--type", kind, "--selector", "s1", "--out", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("s1._domainkey.example.org. IN TXT ")
    assert "".join(re.findall(r'"([^"]*)"', printed)) == dns_record(load_key(path.read_bytes()))


def test_keygen_tells_what_is_wrong_in_one_line(tmp_path: Path, usage: Callable[..., str]) -> None:
    path = str(tmp_path / "key.pem")
    assert "no domain" in usage("dkim", "keygen", "exa mple", "--out", path)
    assert "1024" in usage("dkim", "keygen", "example.org", "--bits", "512", "--out", path)
    assert not Path(path).exists()
    Path(path).write_text("mine")
    assert "File exists" in usage("dkim", "keygen", "example.org", "--type", "ed25519", "--out", path)
    assert Path(path).read_text() == "mine"
