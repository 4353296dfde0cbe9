"""What ``ehlo serve --check`` says of filters and of keys for DKIM."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ehlo.cli._serve.check_mail import check_filters, check_keys
from ehlo.cli._serve.milters import read_milters
from ehlo.cli._serve.settings import Dkim, read_settings
from name_server import NameServer
from programs import wait_until

sys.path.insert(0, str(Path(__file__).parents[2] / "milter"))
from scripted import ScriptedFilter

pytest.importorskip("cryptography")

from ehlo.dkim import dns_record, generate_key, write_key


def test_filters_answer_or_not(tmp_path: Path) -> None:
    def find(**table: Any) -> list[str]:
        values = {"hostname": "mx.example", "listener": [{"port": 0}], "filter": [table]}
        milters = read_milters(read_settings(values, str(tmp_path)))
        return [f"{one.level} {one.text}" for one in check_filters(milters)]

    with ScriptedFilter() as good:
        assert find(milter=good.address) == [f"OK {good.address} answers"]
        wait_until(lambda: good.kinds() == b"OQ")  # the filter reads the goodbye beside us
    [down] = find(milter="unix:nobody")
    assert down.startswith(f"error unix:{tmp_path}/nobody: it cannot be reached: ")
    assert down.endswith("until then all mail is answered 451")
    assert find(milter="unix:nobody", when_down="accept")[0].startswith("warning ")
    with ScriptedFilter({b"O": b"\0\0\0\1c"}) as broken:
        assert find(milter=broken.address)[0].startswith("error ")
    assert check_filters([]) == []


def test_keys_their_files_and_their_records(tmp_path: Path) -> None:
    rsa, short, ed = generate_key(), generate_key("rsa", 1024), generate_key("ed25519")
    for name, key in (("rsa", rsa), ("short", short), ("ed", ed), ("open", ed)):
        write_key(key, tmp_path / name)
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "no").write_text("no key")
    (tmp_path / "no").chmod(0o600)
    text = dns_record(rsa)
    records: dict[str, dict[str, list[str] | str]] = {
        "rsa._domainkey.example.org": {"TXT": [f'"{text[:200]}" "{text[200:]}"']},
        "ed._domainkey.example.org": {"TXT": [f'"{dns_record(generate_key("ed25519"))}"']},
    }

    def find(name: str) -> list[tuple[str, str]]:
        table = Dkim(domain="example.org", selector=name, key_file=str(tmp_path / name), where="[[dkim]] 1")
        with NameServer(records) as names:
            return [(one.level, one.text) for one in check_keys([table], None, names.resolver())]

    assert find("rsa") == [
        ("OK", f"{tmp_path}/rsa can be read"),
        ("OK", f"{tmp_path}/rsa is RSA with 2048 bits"),
        ("OK", "DNS has this key at rsa._domainkey.example.org"),
    ]
    [_, (level, said), (dns_level, record)] = find("short")
    assert (level, dns_level) == ("warning", "warning")
    assert "has 1024 bits" in said
    assert record.startswith("DNS has no record short._domainkey.example.org; put it there: short._domainkey")
    [_, (level, said), (dns_level, record)] = find("ed")
    assert (level, dns_level) == ("OK", "warning")
    assert said.endswith("is Ed25519")
    assert record.startswith("DNS has another key at ")
    records["ed._domainkey.example.org"] = {"TXT": ["v=DKIM1", "x"]}
    assert find("ed")[2][1].startswith("DNS has 2 records")
    records["ed._domainkey.example.org"] = {"*": "SERVFAIL"}
    assert find("ed")[2][1].startswith("DNS does not answer about")
    [(level, said)] = find("open")
    assert level == "error"
    assert "every user of this machine can use" in said
    [_, (level, said)] = find("no")
    assert level == "error"
    assert "this is no private key" in said
    assert find("missing")[0][0] == "error"
    assert list(check_keys([Dkim(domain="example.org")], None)) == []
